"""``tsa-mt plan``: what it promises is what real updates under fairseq's trainer cost."""

import gc
import json

import pytest
import torch
from fairseq import options as fairseq_options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer
from torch.utils.flop_counter import FlopCounterMode

from tsa_mt import cli
from tsa_mt.evaluate.operations import OperationCounter
from tsa_mt.head import CHUNK_BYTES
from tsa_mt.plan.images import ImageSubject
from tsa_mt.plan.leader import leader_cost
from tsa_mt.plan.pretence import pretending
from tsa_mt.plan.report import Setting, costs, count, size
from tsa_mt.plan.translation import TranslationSubject
from tsa_mt.plan.update import update_cost

TOLERANCE = 0.05  # the promise is 0.15; operations and parameters are held to be exact
SMALL = {
    "encoder_embed_dim": 32,
    "encoder_ffn_embed_dim": 64,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "decoder_embed_dim": 32,
    "decoder_ffn_embed_dim": 64,
}
aten = torch.ops.aten


def attention_flops(query, key, value, *rest, out_shape=None, **options):
    batch, heads, length, dim = query
    return 4 * batch * heads * length * key[2] * dim


MISSING_IN_TORCH = {
    aten.addmm_: lambda own, left, right, **rest: 2 * left[0] * left[1] * right[1],
    aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, *rest, **options: 5 * attention_flops(*rest) // 2
    ),
}


class PlainTask(FairseqTask):
    """fairseq's own training step, over the dictionaries of a subject."""

    def __init__(self, subject):
        super().__init__(None)
        self.subject = subject.task()

    @property
    def target_dictionary(self):
        return getattr(self.subject, "target_dictionary", None)


def real_trainer(subject, optimizer, *flags):
    """fairseq's trainer around the model of a subject."""
    flags = [*flags, "--disable-validation"]
    arguments = ["DATA", "--arch", subject.arch, "--optimizer", optimizer, "--lr", "0.001"]
    parsed = fairseq_options.parse_args_and_arch(
        fairseq_options.get_training_parser(), [*arguments, *flags]
    )
    model = subject.model()
    criterion = subject.criterion(model)
    config = convert_namespace_to_omegaconf(parsed)
    return Trainer(config, PlainTask(subject), model, criterion)


def real_peak(subject, optimizer, *flags, batches=1):
    """Most bytes that tensors and kernels held on a CPU, from an empty start to two updates."""
    gc.collect()  # what dies meanwhile would count as freed without having counted as allocated
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        trainer = real_trainer(subject, optimizer, "--cpu", *flags)
        samples = [subject.batch(trainer.model) for _ in range(batches)]
        for _ in range(2):
            trainer.train_step(samples)
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return trainer, samples, peak


def real_flops(trainer, samples):
    with FlopCounterMode(display=False, custom_mapping=MISSING_IN_TORCH) as counter:
        trainer.train_step(samples)
    return counter.get_total_flops()


def text(arch="tree_transformer_tiny", max_tokens=400, vocabulary=(300, 300), **options):
    return TranslationSubject(arch, options, vocabulary=vocabulary, max_tokens=max_tokens)


def image(objective, batch_size=8, arch="tree_resnet20", **options):
    return ImageSubject(arch, {"kd_objective": objective, **options}, batch_size=batch_size)


CASES = {
    "tsa": (text(kd_objective="tsa"), "adam", 1),
    "okddip, tied, two batches": (
        text("tree_transformer_multi30k", 200, kd_objective="okddip", share_all_embeddings=True),
        "adam",
        2,
    ),
    "pcl on an own tree": (
        text("tree_transformer_iwslt_de_en", kd_objective="pcl", tree="3(3,1(2,4))", **SMALL),
        "adam",
        1,
    ),
    "rdrop": (text(kd_objective="rdrop"), "sgd", 1),
    "dml, own encoders, wide vocabulary": (
        text(vocabulary=(90, 4000), kd_objective="dml", peer_encoders=True),
        "adam",
        1,
    ),
    "sokd": (text(kd_objective="sokd"), "adam", 1),
    "images, tsa": (image("tsa"), "momentum_sgd", 1),
    "images, ahbf": (image("ahbf", batch_size=4), "momentum_sgd", 1),
    "images, sokd": (image("sokd", batch_size=16), "momentum_sgd", 1),
}


def planned_update(subject, optimizer, dtype="fp32", update_freq=1, device="cpu"):
    with pretending(device) as meter:
        return update_cost(subject, meter, optimizer, dtype, update_freq)


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_planned_update_is_a_real_one(case):
    subject, optimizer, batches = case
    planned = planned_update(subject, optimizer, update_freq=batches)
    trainer, samples, peak = real_peak(subject, optimizer, batches=batches)
    parameters = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    assert planned.parameters == parameters
    assert planned.flops == pytest.approx(real_flops(trainer, samples), rel=1e-3)
    assert planned.peak_bytes == pytest.approx(peak, rel=TOLERANCE)


def test_a_planned_update_in_bfloat16_is_a_real_one():
    subject = text(kd_objective="tsa", dropout=0.1)
    planned = planned_update(subject, "adam", "bf16")
    trainer, samples, peak = real_peak(subject, "adam", "--bf16")
    assert planned.flops == pytest.approx(real_flops(trainer, samples), rel=1e-3)
    assert planned.peak_bytes == pytest.approx(peak, rel=TOLERANCE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("flag", ["", "--bf16", "--fp16"])
def test_a_planned_update_is_a_real_one_on_a_gpu(flag):
    subject = text("tree_transformer_iwslt_de_en", 4096, (10_000, 10_000), kd_objective="tsa")
    planned = planned_update(subject, "adam", flag.strip("-") or "fp32", device="cuda")
    before = torch.cuda.memory_allocated()
    trainer = real_trainer(subject, "adam", *filter(None, [flag]))
    samples = [subject.batch(trainer.model)]
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        trainer.train_step(samples)
    peak = torch.cuda.max_memory_allocated() - before
    assert planned.peak_bytes == pytest.approx(peak, rel=0.15)  # cuBLAS has a workspace of its own


def test_a_big_model_is_planned_without_its_memory():
    words = 32_768
    subject = text(
        "tree_transformer_wmt_en_de_big", 4096, (words, words), share_all_embeddings=True
    )
    attention, inner, norms = 4 * (1024 * 1024 + 1024), 2 * 1024 * 4096 + 4096 + 1024, 2 * 1024
    encoder, decoder = attention + inner + 2 * norms, 2 * attention + inner + 3 * norms
    with torch.profiler.profile(profile_memory=True) as profile, pretending("cuda") as meter:
        found = leader_cost(subject, meter)
    allocated = [e.nbytes() for e in profile.profiler.kineto_results.events()]
    assert found.parameters == words * 1024 + 6 * (encoder + decoder)
    assert found.bytes["fp32"] == 4 * found.parameters > 800e6
    assert sum(n for n in allocated if n > 0) < 4e6


# trained parameters and operations of an update in terms of the plain network's
RATIOS = {
    ("resnet32", "tsa"): (3.47, 2.31),
    ("resnet32", "okddip"): (3.29, 1.98),
    ("resnet32", "ahbf"): (7.10, 3.65),
    ("resnet20", "dml"): (4.0, 4.0),
}


@pytest.mark.parametrize(("backbone", "objective"), RATIOS)
def test_training_costs_what_the_methods_cost_in_the_literature(backbone, objective):
    subject = image(objective, batch_size=2, arch=f"tree_{backbone}")
    setting = Setting("cpu", "momentum_sgd")
    own, plain = costs(subject, setting), costs(subject.plain(), setting)
    parameters = own.training.parameters / plain.training.parameters
    flops = own.training.flops / plain.training.flops
    assert (round(parameters, 2), round(flops, 2)) == RATIOS[backbone, objective]


def test_the_plain_resnet_32_takes_69_million_multiply_accumulates():
    with pretending("cpu") as meter:
        found = leader_cost(image("independent", arch="tree_resnet32"), meter)
    assert found.flops_per_input == pytest.approx(2 * 69.1e6, rel=0.01)


@pytest.mark.parametrize("subject", [text(kd_objective="okddip"), image("okddip")])
def test_the_leader_s_cost_is_the_plain_network_s_and_what_it_really_costs(subject):
    with pretending("cpu") as meter:
        planned, plain = leader_cost(subject, meter), leader_cost(subject.plain(), meter)
    assert planned == plain
    model = subject.plain().model().eval()
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=MISSING_IN_TORCH) as real:
        model(**subject.single())
    assert planned.flops_per_input == pytest.approx(real.get_total_flops(), rel=1e-3)
    assert planned.flops_per_target == planned.flops_per_input / subject.targets
    state = {name: t for name, t in model.state_dict().items() if "branches." not in name}
    assert planned.parameters == sum(p.numel() for p in model.parameters())
    assert planned.bytes["fp32"] <= sum(t.numel() * t.element_size() for t in state.values())


def test_int8_has_a_byte_a_weight_a_scale_a_row_and_positions_in_float():
    with pretending("cpu") as meter:
        found = leader_cost(text(share_all_embeddings=True), meter)
        model = text(share_all_embeddings=True).plain().model()
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = sum(p.numel() for p in model.parameters() if p.ndim == 1)
    positions = (1024 + 2) * 64  # alike on both sides: fairseq's table, with pad and what precedes
    scales = sum(len(p) for p in matrices)
    weights = sum(p.numel() for p in matrices)
    assert found.bytes["int8"] == weights + 4 * (scales + vectors + positions)


def test_the_recorder_of_runs_counts_the_same_operations():
    subject = text(kd_objective="tsa", max_tokens=50)
    model = subject.model()
    criterion, sample = subject.criterion(model), subject.batch(model)
    with OperationCounter() as counter:
        criterion(model.train(), sample)[0].backward()
    assert counter.total == planned_update(subject, "adam").flops


def test_a_gpu_keeps_less_for_backward_and_has_larger_chunks():
    subject = text("tree_transformer_iwslt_de_en", 100, kd_objective="tsa", dropout=0.1, **SMALL)
    on_cpu, on_gpu = (planned_update(subject, "adam", device=d) for d in ("cpu", "cuda"))
    assert on_gpu.flops == on_cpu.flops
    assert on_gpu.activation_bytes < on_cpu.activation_bytes
    own = dict(CHUNK_BYTES)
    with pretending("cuda"):
        assert CHUNK_BYTES["cpu"] == own["cuda"]
    assert own == CHUNK_BYTES


HALVES = ("fp32", "fp16")


def test_half_precision_keeps_copies_in_float32_beside_the_model():
    full, half = (planned_update(text(), "adam", dtype, device="cuda") for dtype in HALVES)
    assert full.optimizer_bytes == 8 * full.parameters
    assert half.optimizer_bytes == 16 * half.parameters  # values, gradients, two moments
    assert half.model_bytes < full.model_bytes


def test_a_teacher_may_be_larger_than_the_student():
    student = text(kd_objective="kd", max_tokens=50)
    larger = TranslationSubject(
        student.arch,
        student.options,
        teacher_arch="tree_transformer_multi30k",
        vocabulary=(300, 300),
        max_tokens=50,
    )
    own, other = (planned_update(subject, "sgd") for subject in (student, larger))
    assert own.frozen == own.parameters == other.parameters < other.frozen
    assert own.flops < other.flops


TEXT = ["--arch", "tree_transformer_tiny", "--vocab", "100", "--max-tokens", "50"]
IMAGES = ["--arch", "tree_resnet20", "--batch-size", "2"]


def test_the_table_is_aligned_and_says_what_was_planned(capsys):
    assert cli.main(["plan", *TEXT, "--tree", "1(1,1)", "--device", "cpu"]) == 0
    first, second, _, *rows = capsys.readouterr().out.splitlines()
    assert first == "tree_transformer_tiny: tsa on 1(1,1), leaves: 2"
    assert second == (
        "an update: 50 target tokens (2 sentences of 25 and 25 pieces), fp32, adam, cpu"
    )
    assert len({len(row) for row in rows}) == 1
    assert [row.split("  ")[0].strip() or row.split()[0] for row in rows if row[0] != " "] == [
        "training",
        "leader",
    ]
    (leader,) = [row for row in rows if row.startswith("  FLOPs a sentence")]
    assert leader.endswith(" 1.00")


def test_json_has_every_figure_in_plain_numbers(capsys):
    assert cli.main(["plan", *IMAGES, "--kd-objective", "okddip", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["options"] == {"kd_objective": "okddip"}
    assert record["tree"] == "6(3,3,3,3)"
    assert record["setting"]["optimizer"] == "momentum_sgd"
    assert record["training"]["parameters"] > record["leader"]["parameters"]
    assert record["plain"]["training"]["parameters"] == record["leader"]["parameters"] == 278_324
    assert record["relative"]["training"]["parameters"] == 3.2909  # OKDDip's table
    assert record["relative"]["leader"]["flops_per_input"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "transformer"], "unknown architecture 'transformer'; choose one of tree_tra"),
        ([*TEXT, "--tree", "1(1,1"], r"column 6: expected .*\n  1\(1,1\n       \^"),
        ([*TEXT, "--tree", "1(2,1)"], "the network is 2 layers deep; make the first path add up"),
        ([*TEXT, "--kd-objective", "tsaa"], "unknown objective 'tsaa'; choose one of ahbf, "),
        ([*TEXT, "--kd-strength", "2"], "objective 'tsa' has no option 'strength'; only "),
        ([*TEXT, "--kd-teacher", "x.pt"], "--kd-teacher is not read here; say with --teacher-arch"),
        ([*TEXT, "--teacher-arch", "tree_resnet20"], "tree_resnet20 cannot teach --arch tree_tr"),
        ([*TEXT, "--batch-size", "8"], "--batch-size does not go with --arch tree_transformer_"),
        ([*TEXT, "--backbone", "vgg16"], "--backbone is no option of --arch tree_transformer_tiny"),
        ([*TEXT, "--vocab", "3"], "--vocab 3: a dictionary has 4 specials and at least one word"),
        ([*TEXT, "--source-length", "60"], "--max-tokens 50 leaves no room for a sentence of 60"),
        ([*TEXT, "--update-freq", "0"], "--update-freq is 0; it must be 1 or more"),
        (TEXT[:4], "--arch tree_transformer_tiny needs --max-tokens"),
        ([*IMAGES, "--vocab", "9"], "--vocab does not go with --arch tree_resnet20"),
        ([*IMAGES, "--encoder-layers", "9"], "--encoder-layers is no option of --arch tree_resnet"),
        (IMAGES[:2], "--arch tree_resnet20 needs --batch-size"),
        ([*IMAGES, "--dtype", "fp16"], "images are trained in fp32; add --bf16-autocast"),
        ([*IMAGES, "--tree", "3(3"], r"column 4: expected .*\n  3\(3\n     \^"),
    ],
)
def test_what_cannot_be_planned_is_said_in_a_sentence(arguments, message, capsys):
    assert cli.main(["plan", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("tsa-mt plan: error: ")
    with pytest.raises(ValueError, match=message):
        raise ValueError(error)


def test_numbers_are_shown_with_three_digits_and_their_thousands():
    assert [count(n) for n in (7, 999.6, 36_739_000, 4.2e10)] == ["7", "1.00 k", "36.7 M", "42.0 G"]
    assert [size(n) for n in (512, 2048, 300 * 2**20, 1.5 * 2**30)] == [
        "512 B",
        "2.00 KiB",
        "300 MiB",
        "1.50 GiB",
    ]
