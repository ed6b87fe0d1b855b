"""``online_kd`` against fairseq's own criterion, and what it reports."""

import math
from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.data import Dictionary
from fairseq.logging import metrics
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

from tsa_mt import head
from tsa_mt.criterion import OnlineKDCriterion
from tsa_mt.objectives import OBJECTIVES, Consistency, Objective
from tsa_mt.objectives.consistency import CONSISTENCIES
from tsa_mt.objectives.mutual import mutual_function

TREE = "1(1(1,1),1)"
SIZE = {
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 24,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_layers": 3,
    "decoder_attention_heads": 2,
    "dropout": 0.0,
}
FREE = [name for name, cls in OBJECTIVES.items() if not cls.needs_teacher]


@pytest.fixture(scope="module")
def task():
    dictionary = Dictionary()
    for number in range(20):
        dictionary.add_symbol(f"w{number}")
    return SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)


@pytest.fixture
def build(task):
    def function(tree=TREE, **options):
        args = Namespace(arch="tree_transformer_tiny", tree=tree, **{**SIZE, **options})
        ARCH_CONFIG_REGISTRY[args.arch](args)
        torch.manual_seed(1)
        return ARCH_MODEL_REGISTRY[args.arch].build_model(args, task)

    return function


@pytest.fixture
def criterion(task):
    def function(objective="tsa", sentence_avg=False, smoothing=0.1, **options):
        return OnlineKDCriterion(
            task,
            sentence_avg,
            max_update=100,
            label_smoothing=smoothing,
            kd_objective=objective,
            **options,
        )

    return function


def make_sample(targets=(4, 6, 2), extra=0, blank_sentences=0, seed=0):
    """A batch with ``extra`` columns of padding and sentences of nothing but padding."""
    generator = torch.Generator().manual_seed(seed)
    sentences, width = len(targets) + blank_sentences, max(targets) + extra
    source = torch.randint(4, 24, (len(targets), 5), generator=generator)
    words = torch.randint(4, 24, (len(targets), max(targets)), generator=generator)
    target, previous = torch.full((2, sentences, width), 1)
    for row, length in enumerate(targets):
        target[row, :length] = words[row, :length]
        target[row, length - 1] = 2
        previous[row, :length] = target[row, :length].roll(1)
    sources = torch.cat([source, source[:1].expand(blank_sentences, -1)])
    return {
        "nsentences": sentences,
        "ntokens": sum(targets),
        "net_input": {
            "src_tokens": sources,
            "src_lengths": torch.full((sentences,), 5),
            "prev_output_tokens": previous,
        },
        "target": target,
    }


def run(criterion, model, sample):
    """Loss, sample size, logging output and the gradients of all parameters."""
    model.zero_grad()
    loss, sample_size, logging = criterion(model, sample)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return loss.detach(), sample_size, logging, gradients


def reported(criterion, logging):
    """What fairseq prints for these logging outputs."""
    with metrics.aggregate(new_root=True) as meters:
        type(criterion).reduce_metrics(logging)
    return meters.get_smoothed_values()


def assert_same_gradients(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-5, msg=name)


# --- a chain is ordinary training ---------------------------------------------------------------


@pytest.mark.parametrize("sentence_avg", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("prefix", [0, 2])
@pytest.mark.parametrize("chunk_rows", [0, 3, None])
def test_a_chain_with_independent_is_label_smoothed_cross_entropy(
    build, criterion, task, sentence_avg, smoothing, prefix, chunk_rows
):
    model = build("chain", kd_objective="independent")
    ours = criterion(
        "independent", sentence_avg, smoothing, ignore_prefix_size=prefix, kd_chunk_rows=chunk_rows
    )
    theirs = LabelSmoothedCrossEntropyCriterion(task, sentence_avg, smoothing, prefix, True)
    sample = make_sample(extra=1)
    loss, sample_size, logging, gradients = run(ours, model, sample)
    expected, other_size, other_logging, other_gradients = run(theirs, model, sample)
    torch.testing.assert_close(loss, expected)
    assert sample_size == other_size
    assert_same_gradients(gradients, other_gradients)
    for key in ("loss", "nll_loss", "ntokens", "nsentences", "sample_size", "n_correct"):
        pair = (torch.as_tensor(log[key]).float() for log in (logging, other_logging))
        torch.testing.assert_close(*pair)
    figures = [
        reported(which, [log, run(which, model, make_sample(seed=1))[2]])
        for which, log in ((ours, logging), (theirs, other_logging))
    ]
    for key in ("loss", "nll_loss", "ppl", "accuracy"):
        assert float(figures[0][key]) == pytest.approx(float(figures[1][key]), abs=2e-3), key


@pytest.mark.parametrize("objective", FREE)
def test_a_tree_reports_its_leader_as_a_plain_model_would_be(build, criterion, task, objective):
    model = build(kd_objective=objective).eval()
    ours = criterion(objective).eval()
    theirs = LabelSmoothedCrossEntropyCriterion(task, False, 0.1, report_accuracy=True)
    samples = [make_sample(seed=seed, extra=seed) for seed in range(3)]
    with torch.no_grad():
        figures = [
            reported(which, [which(model, sample)[2] for sample in samples])
            for which in (ours, theirs)
        ]
    for key in ("loss", "nll_loss", "ppl", "accuracy"):
        assert float(figures[0][key]) == pytest.approx(float(figures[1][key]), abs=2e-3), key
    assert float(figures[0]["total_loss"]) > float(figures[0]["loss"])


# --- padding and empty batches ------------------------------------------------------------------


@pytest.mark.parametrize("objective", [name for name in FREE if name != "simcut"])  # draws cuts
def test_padding_changes_neither_loss_nor_gradients(build, criterion, objective):
    model, okd = build(kd_objective=objective), criterion(objective)
    loss, _, logging, gradients = run(okd, model, make_sample())
    for padded in (make_sample(extra=3), make_sample(extra=2, blank_sentences=2)):
        same, _, other, others = run(okd, model, padded)
        torch.testing.assert_close(same, loss)
        assert_same_gradients(others, gradients)
        for key in logging.keys() - {"nsentences"}:
            torch.testing.assert_close(
                torch.as_tensor(other[key]).float(), torch.as_tensor(logging[key]).float()
            )


@pytest.mark.parametrize("objective", FREE)
@pytest.mark.parametrize("chunk_rows", [0, None])
def test_a_batch_of_nothing_but_padding_gives_finite_zeros_with_the_same_keys(
    build, criterion, objective, chunk_rows
):
    model, okd = build(kd_objective=objective), criterion(objective, kd_chunk_rows=chunk_rows)
    full = run(okd, model, make_sample())[2]
    sample = make_sample()
    sample["target"].fill_(1)
    loss, _, logging, gradients = run(okd, model, {**sample, "ntokens": 0})
    assert loss.item() == 0.0
    assert list(logging) == list(full)
    assert all(float(logging[key]) == 0.0 for key in logging.keys() - {"nsentences"})
    assert all(gradient is None or not gradient.any() for gradient in gradients.values())
    figures = reported(okd, [logging])
    assert (float(figures["loss"]), float(figures["nll_loss"])) == (0.0, 0.0)


@pytest.mark.parametrize("objective", FREE)
def test_a_dummy_batch_whose_loss_is_multiplied_by_zero_gives_zero_gradients(
    build, criterion, objective
):
    model = build(kd_objective=objective)
    loss = criterion(objective)(model, make_sample())[0]
    (loss * 0).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and not parameter.grad.any(), name


# --- gradients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", FREE)
@pytest.mark.parametrize("projection", ["shared", "separate"])
@pytest.mark.parametrize("norm", [False, True], ids=["post-norm", "pre-norm"])
def test_every_parameter_gets_a_gradient_on_the_first_update(
    build, criterion, objective, projection, norm
):
    model = build(
        kd_objective=objective, branch_projection=projection, decoder_normalize_before=norm
    )
    gradients = run(criterion(objective), model.train(), make_sample())[3]
    missing = [name for name, gradient in gradients.items() if gradient is None]
    assert missing == []
    # a key's bias shifts all scores of a softmax alike and has no gradient in any Transformer
    idle = [n for n, g in gradients.items() if not g.any() and not n.endswith("k_proj.bias")]
    assert idle == []


def test_two_micro_batches_add_up_to_their_joint_gradient(build, criterion):
    model, okd = build(), criterion()
    joint = make_sample(targets=(4, 6, 2, 5))
    whole = {name: g.clone() for name, g in run(okd, model, joint)[3].items()}
    model.zero_grad()
    for rows in (slice(0, 2), slice(2, 4)):
        part = {
            "net_input": {key: value[rows] for key, value in joint["net_input"].items()},
            "target": joint["target"][rows],
            "ntokens": 0,
        }
        okd(model, part)[0].backward()
    assert_same_gradients({n: p.grad for n, p in model.named_parameters()}, whole)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_get_finite_gradients_of_their_type(build, criterion, dtype):
    model = build().to(dtype)
    exact = run(criterion(), build(), make_sample())
    loss, _, _, gradients = run(criterion(), model, make_sample())
    assert loss.item() == pytest.approx(exact[0].item(), rel=2e-2)
    for name, gradient in gradients.items():
        assert gradient.dtype == dtype
        distance = (gradient.float() - exact[3][name]).norm()
        assert distance <= 0.1 * exact[3][name].norm() + 0.02, name


def test_validation_computes_no_gradients(build, criterion, monkeypatch):
    model, okd = build().eval(), criterion().eval()
    for name in ("_gradient_in_forward", "_recompute"):
        monkeypatch.setattr(head, name, None)  # calling it would raise
    with torch.no_grad():
        assert not okd(model, make_sample())[0].requires_grad


# --- what is logged -----------------------------------------------------------------------------


def test_keys_are_the_same_in_training_and_validation(build, criterion):
    model, okd = build(), criterion()
    trained = run(okd.train(), model.train(), make_sample())[2]
    valid = run(okd.eval(), model.eval(), make_sample())[2]
    assert list(trained) == list(valid)
    assert {"nll_b0", "nll_b1", "nll_b2", "agreement", "kl_leaves", "total_loss"} <= set(trained)
    assert {"loss_task", "loss_distillation"} <= set(trained)
    assert OnlineKDCriterion.logging_outputs_can_be_summed()


def test_terms_add_up_to_the_total_that_is_optimised(build, criterion):
    loss, _, logging, _ = run(criterion(), build(), make_sample())
    terms = [value for key, value in logging.items() if key.startswith("loss_")]
    torch.testing.assert_close(sum(terms), loss)
    assert not any(torch.is_tensor(v) and v.requires_grad for v in logging.values())


def test_similarity_is_measured_on_every_row_in_validation_and_sampled_in_training(
    build, criterion
):
    model, okd = build(), criterion(kd_chunk_rows=3)
    assert run(okd.train(), model, make_sample())[2]["rows_compared"] == 3
    assert run(okd.eval(), model, make_sample())[2]["rows_compared"] == 12


def test_figures_are_averages_in_bits_and_percent(build, criterion):
    model, okd = build().eval(), criterion().eval()
    sample = make_sample()
    keep = sample["target"].ne(1)
    with torch.no_grad():
        features = model(**sample["net_input"], branches=True).features
        log_probs = torch.stack(
            [torch.log_softmax(model.decoder.output_layer(f[keep]), -1) for f in features]
        )
        figures = reported(okd, [okd(model, sample)[2]])
    target = sample["target"][keep]
    nll = [-leaf.gather(-1, target[:, None]).mean().item() / math.log(2) for leaf in log_probs]
    assert [figures[f"nll_b{leaf}"] for leaf in range(3)] == pytest.approx(nll, abs=1e-3)
    assert figures["ppl"] == pytest.approx(2 ** nll[0], rel=1e-2)
    best = log_probs.argmax(-1)
    pairs = [(0, 1), (0, 2), (1, 2)]
    agree = sum((best[j] == best[k]).float().mean().item() for j, k in pairs) / 3
    assert figures["agreement"] == pytest.approx(100 * agree, abs=0.01)
    ordered = [*pairs, *((k, j) for j, k in pairs)]
    divergence = sum(
        (log_probs[j].exp() * (log_probs[j] - log_probs[k])).sum(-1).mean().item()
        for j, k in ordered
    )
    assert figures["kl_leaves"] == pytest.approx(divergence / 6 / math.log(2), abs=1e-4)
    assert not [key for key in figures if key.startswith("_")]


def test_nothing_is_reported_of_nothing():
    assert not reported(OnlineKDCriterion.__new__(OnlineKDCriterion), [])


# --- complaints ---------------------------------------------------------------------------------


def test_a_stock_architecture_is_explained(criterion):
    with pytest.raises(ValueError, match="needs a model with branches, and the chosen --arch is n"):
        criterion(objective=None)


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_label_smoothing_out_of_range_is_refused(criterion, value):
    with pytest.raises(ValueError, match=rf"--label-smoothing is {value}; it must be in \[0, 1\)"):
        criterion(smoothing=value)


def test_negative_chunks_are_refused(criterion):
    with pytest.raises(ValueError, match="--kd-chunk-rows is -1; it must be 0 or more"):
        criterion(kd_chunk_rows=-1)


# --- methods of one's own -----------------------------------------------------------------------


class Blanked(Consistency):
    """A test's own wrapper: the second pass reads the target's first position blanked."""

    alters = True

    def altered(self, inputs, number, fixed=None):
        seen.append((number, tuple(inputs.shape)))
        return inputs if number == 0 else torch.cat([0 * inputs[:, :1], inputs[:, 1:]], dim=1)

    def terms(self, rows):
        first, second = (super(Blanked, self).terms(self.passed(rows, n)) for n in (0, 1))
        rows.log("passes", torch.tensor(float(len(rows.targets))))
        return {"task": first["task"], "second": second["task"]}


seen = []


def test_a_pass_may_read_altered_embeddings(build, criterion, monkeypatch):
    plain = run(criterion("independent"), build(kd_objective="independent"), make_sample())
    monkeypatch.setitem(CONSISTENCIES, "rdrop_weight", Blanked)
    model = build(kd_objective="independent", kd_rdrop_weight=1.0)
    seen.clear()
    _, _, logging, gradients = run(criterion("independent"), model.train(), make_sample())
    sides = [make_sample()["net_input"][key] for key in ("src_tokens", "prev_output_tokens")]
    assert seen == [(number, (*side.shape, 16)) for side in sides for number in (0, 1)]
    torch.testing.assert_close(logging["loss_task"], plain[2]["loss_task"])
    assert not torch.isclose(logging["loss_second"], logging["loss_task"])
    assert logging["per_row:passes"] == logging["rows"]
    assert gradients.keys() == plain[3].keys()  # and no module of its own
    seen.clear()
    quiet = run(criterion("independent").eval(), model.eval(), make_sample())[2]
    assert seen == [] and torch.equal(quiet["loss_second"], quiet["loss_task"])
    assert not model.encoder.embed_tokens._forward_hooks


class MeanTeacher(Objective):
    """A test's own objective: every leaf imitates its own average."""

    average_decay = 0.9

    def terms(self, rows):
        averaged = rows.teacher.log_probs()
        assert averaged.shape == rows.logits().shape and not averaged.requires_grad
        gap = (averaged.exp() * (averaged - rows.log_probs())).sum()
        return {"task": rows.task_losses().sum(), "distillation": gap}


@pytest.mark.parametrize("tree", ["chain", TREE])
def test_a_single_leaf_may_learn_from_its_average(build, criterion, monkeypatch, tree):
    monkeypatch.setitem(OBJECTIVES, "mean", MeanTeacher)
    model = build(tree=tree, kd_objective="mean").train()
    model.set_num_updates(0)
    with torch.no_grad():
        model.encoder.embed_tokens.weight.mul_(1.5)
    logging = run(criterion("independent"), model, make_sample())[2]
    assert logging["loss_distillation"] > 0


# --- a share of the rows ------------------------------------------------------------------------


def numbered(sample):
    """The same batch as a task gives it: with the numbers of its sentences."""
    return {**sample, "id": torch.arange(sample["nsentences"])}


@pytest.mark.parametrize("objective", ["tsa", "rdrop", "one"])
def test_the_rows_that_are_drawn_do_not_depend_on_chunks(build, criterion, objective):
    sample, found = numbered(make_sample((9, 12, 7))), []
    for chunk_rows in (0, 3, None):
        chosen = criterion(objective, kd_chunk_rows=chunk_rows, kd_row_share=0.5).train()
        model = build(kd_objective=objective).train()
        loss, _, logging, gradients = run(chosen, model, sample)
        found.append((loss, gradients))
    for loss, gradients in found[1:]:
        torch.testing.assert_close(loss, found[0][0])
        assert_same_gradients(gradients, found[0][1])
    loss, *_ = run(criterion(objective).train(), build(kd_objective=objective).train(), sample)
    assert not torch.isclose(loss, found[0][0])


def test_another_update_draws_other_rows(build, criterion):
    sample, model = numbered(make_sample((9, 12, 7))), build().train()
    chosen = criterion(kd_row_share=0.5).train()
    losses = []
    for update in (0, 0, 1):
        model.set_num_updates(update)
        losses.append(run(chosen, model, sample)[0])
    assert losses[0] == losses[1] != losses[2]


def test_with_a_share_of_the_rows_the_leader_s_figures_are_of_all_rows(build, criterion):
    sample, model = numbered(make_sample((9, 12, 7))), build().train()
    figures = [
        reported(chosen, [run(chosen.train(), model, sample)[2]])
        for chosen in (criterion(), criterion(kd_row_share=0.5))
    ]
    assert figures[0].keys() == figures[1].keys()
    for name in ("loss", "nll_loss", "nll_b0", "accuracy", "ppl"):
        assert figures[0][name] == pytest.approx(figures[1][name], abs=2e-3), name
    assert figures[1]["nll_b1"] == pytest.approx(figures[0]["nll_b1"], rel=0.2)


def test_validation_takes_all_rows(build, criterion):
    sample, model = numbered(make_sample()), build().eval()
    losses = [
        chosen.eval()(model, sample)[0] for chosen in (criterion(), criterion(kd_row_share=0.2))
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, float("nan")])
def test_a_share_of_rows_that_is_none_is_refused(criterion, share):
    with pytest.raises(ValueError, match="--kd-row-share is .*; it must be above 0 and at most 1"):
        criterion(kd_row_share=share)


# --- arithmetic ---------------------------------------------------------------------------------


def test_two_choices_of_an_arithmetic_are_refused(criterion):
    with pytest.raises(ValueError, match="--kd-precision bfloat16 and --fp16 both set the arith"):
        criterion(kd_precision="bfloat16", fp16=True)


def test_the_closed_form_gives_what_autograd_gives(build, criterion, monkeypatch):
    """Where a vocabulary is large enough; uncompiled here, which costs no compiler."""
    monkeypatch.setattr(head, "LEAST_CLASSES", 1)
    monkeypatch.setattr(
        head, "compiled_mutual", lambda loss, smoothing, *_: mutual_function(loss, smoothing)
    )
    runs = [
        run(criterion("tsa", kd_eager=eager).train(), build(kd_objective="tsa"), make_sample())
        for eager in (True, False)
    ]
    (loss, _, logging, gradients), (other, _, others, other_gradients) = runs
    torch.testing.assert_close(other, loss)
    assert_same_gradients(other_gradients, gradients)
    assert others.keys() == logging.keys()
    for key, value in logging.items():
        torch.testing.assert_close(
            torch.as_tensor(others[key]).float(), torch.as_tensor(value).float()
        )
