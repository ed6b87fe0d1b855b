"""Frozen teachers: loading, running, and what they must never do."""

import shutil

import pytest
import torch
from fairseq.checkpoint_utils import load_checkpoint_to_cpu, load_model_ensemble
from fairseq.models import build_model

from tsa_mt.branches import BranchOutputs, Projection, TeacherOutputs
from tsa_mt.head import branch_head
from tsa_mt.objectives import Context, build_objective
from tsa_mt.teacher import load_teacher, load_teachers

STUDENT = [
    *("--arch", "tree_transformer", "--encoder-embed-dim", "16", "--decoder-embed-dim", "16"),
    *("--encoder-ffn-embed-dim", "32", "--decoder-ffn-embed-dim", "32", "--dropout", "0.1"),
    *("--encoder-layers", "1", "--decoder-layers", "2"),
    *("--encoder-attention-heads", "2", "--decoder-attention-heads", "2"),
    *("--criterion", "online_kd", "--label-smoothing", "0.1"),
]


def logits_of(teacher, batch):
    """Log-probabilities by way of `Teacher.run` and its projection."""
    like = torch.zeros(1, dtype=torch.float32)
    features = teacher.run(batch["net_input"], like).features
    return torch.nn.functional.linear(features, teacher.projection.weight, teacher.projection.bias)


def plain_logits(path, toy, batch):
    """What fairseq's own loading and forward give."""
    (model,), _ = load_model_ensemble([str(path)], task=toy.task())
    model.eval()
    with torch.no_grad():
        return model(**batch["net_input"])[0]


def test_a_stock_transformer_teaches_what_it_predicts(toy, teacher_file):
    task = toy.task()
    batch = toy.batch(task)
    ours = logits_of(load_teacher(str(teacher_file), task), batch)
    torch.testing.assert_close(ours, plain_logits(teacher_file, toy, batch))


@pytest.fixture(scope="module")
def tree_file(toy, tmp_path_factory):
    """A tree of three leaves, trained with TSA."""
    flags = [*STUDENT, "--kd-objective", "tsa", "--tree", "1(1(0,1),1)"]
    return toy.train(tmp_path_factory.mktemp("tree"), *flags, updates=8)


def test_of_a_tree_the_leader_teaches_and_the_rest_is_dropped(toy, tree_file):
    task = toy.task()
    batch = toy.batch(task)
    teacher = load_teacher(str(tree_file), task)
    torch.testing.assert_close(logits_of(teacher, batch), plain_logits(tree_file, toy, batch))
    assert not [name for name, _ in teacher.model.named_parameters() if ".branches." in name]


def test_an_exported_leader_teaches_the_same(toy, tree_file, tmp_path):
    from tsa_mt.cli import main

    assert main(["export", str(tree_file), str(tmp_path / "out"), "--to", "fairseq"]) == 0
    task = toy.task()
    batch = toy.batch(task)
    exported = load_teacher(str(tmp_path / "out" / "model.pt"), task)
    ours = logits_of(exported, batch)
    torch.testing.assert_close(ours, logits_of(load_teacher(str(tree_file), task), batch))


def test_a_file_is_loaded_once_and_again_after_it_changed(toy, teacher_file, tmp_path):
    task = toy.task()
    copy = shutil.copy(teacher_file, tmp_path / "copy.pt")
    first, again = load_teachers(f"{copy}:{copy}", task)
    assert first is again
    state = torch.load(copy, weights_only=False)
    state["model"]["decoder.layers.0.fc1.bias"] += 1
    torch.save(state, copy)
    assert load_teacher(str(copy), task) is not first


def test_a_teacher_is_frozen_in_eval_mode_and_gives_no_graph(toy, teacher_file):
    task = toy.task()
    batch = toy.batch(task)
    teacher = load_teacher(str(teacher_file), task)
    result = teacher.run(batch["net_input"], torch.zeros(1))
    assert not any(p.requires_grad for p in teacher.model.parameters())
    assert not any(module.training for module in teacher.model.modules())
    assert not any(state.requires_grad for state in (result.features, *result.hidden))
    assert len(result.hidden) == 4  # the embedding and three layers


def test_a_teacher_follows_the_students_type(toy, teacher_file):
    task = toy.task()
    batch = toy.batch(task)
    teacher = load_teacher(str(teacher_file), task)
    features = teacher.run(batch["net_input"], torch.zeros(1, dtype=torch.bfloat16)).features
    assert features.dtype == teacher.projection.weight.dtype == torch.bfloat16


def test_loading_a_teacher_leaves_the_eval_bleu_generator_to_the_student(toy, teacher_file):
    task = toy.task("--eval-bleu", "--eval-bleu-args", '{"beam": 1}')
    config = load_checkpoint_to_cpu(str(teacher_file))["cfg"].model
    student = task.build_model(config)
    load_teachers(str(teacher_file), task)
    assert task.sequence_generator.model.single_model is student


def test_a_missing_teacher_is_a_sentence(toy):
    with pytest.raises(FileNotFoundError, match=r"no/such\.pt does not exist; --kd-teacher"):
        load_teachers("no/such.pt", toy.task())


def test_no_path_asks_for_one(toy):
    with pytest.raises(ValueError, match="give its checkpoint as --kd-teacher PATH"):
        load_teachers("", toy.task())


def test_a_file_that_is_no_checkpoint_is_named(toy, tmp_path):
    broken = tmp_path / "broken.pt"
    broken.write_text("not a checkpoint")
    with pytest.raises(ValueError, match=r"broken\.pt is (no readable fairseq checkpoint|damaged)"):
        load_teacher(str(broken), toy.task())


@pytest.mark.parametrize(("side", "rows"), [("source", 24), ("target", 24)])
def test_dictionaries_of_another_size_are_refused(toy, teacher_file, side, rows):
    task = toy.task()
    getattr(task, f"{side}_dictionary").add_symbol("one-more")
    expected = f"has {rows} symbols in its {side} vocabulary, but the {side} dictionary has 25"
    with pytest.raises(ValueError, match=expected):
        load_teacher(str(teacher_file), task)


def reordered(folder, language):
    """A dictionary with the same symbols in another order."""
    lines = (folder / f"dict.{language}.txt").read_text().splitlines()
    return "\n".join([*reversed(lines[:3]), *lines[3:]]) + "\n"


@pytest.mark.parametrize(("language", "side"), [("xx", "source"), ("yy", "target")])
def test_symbols_in_another_order_are_refused(toy, teacher_file, tmp_path, language, side):
    teacher = shutil.copy(teacher_file, tmp_path / "teacher.pt")
    (tmp_path / f"dict.{language}.txt").write_text(reordered(toy.data, language))
    expected = f"symbols than the {side} dictionary: number 4 is 'w?\\d+w?' in .*dict.{language}"
    with pytest.raises(ValueError, match=expected):
        load_teacher(str(teacher), toy.task())


def test_a_teacher_whose_dictionaries_are_lost_is_used_with_a_warning(
    toy, teacher_file, tmp_path, caplog
):
    state = torch.load(teacher_file, weights_only=False)
    state["cfg"]["task"]["data"] = "lost"
    torch.save(state, tmp_path / "teacher.pt")
    load_teacher(str(tmp_path / "teacher.pt"), toy.task())
    assert "its source dictionary is not at hand; whether the order" in caplog.text


def test_a_decoder_without_a_plain_projection_cannot_teach(toy, teacher_file, tmp_path):
    task = toy.task()
    state = load_checkpoint_to_cpu(str(teacher_file))
    state["cfg"].model.adaptive_softmax_cutoff = "6,12"
    state["cfg"].model.share_decoder_input_output_embed = False
    state["model"] = build_model(state["cfg"].model, task).state_dict()
    torch.save({**state, "args": state["cfg"].model, "cfg": None}, tmp_path / "adaptive.pt")
    with pytest.raises(ValueError, match="TransformerModel, which cannot teach: its decoder"):
        load_teacher(str(tmp_path / "adaptive.pt"), task)


def head_case(name, teachers, seed=0):
    """Student and teachers of different widths over 23 rows and 40 classes."""
    torch.manual_seed(seed)
    leaves = {"kd": 3, "kd_hinton": 1, "sokd": 1}[name]
    tree = "1(1,1,1)" if leaves == 3 else "1"
    objective = build_objective(name, tree, 8, 40, temperature=2.0)
    weight = torch.randn(40, 8, dtype=torch.float64).requires_grad_()
    features = [torch.randn(23, 8, dtype=torch.float64).requires_grad_() for _ in range(leaves)]
    projections = [Projection(weight)] * leaves
    frozen = [Projection(torch.randn(40, 12, dtype=torch.float64)) for _ in range(teachers)]
    if name == "sokd":
        features.append(torch.randn(23, 12, dtype=torch.float64).requires_grad_())
        projections.append(frozen[0])
    said = TeacherOutputs([torch.randn(23, 12, dtype=torch.float64) for _ in frozen], frozen)
    return objective, features, projections, said, torch.randint(40, (23,)), weight


@pytest.mark.parametrize("chunk_rows", [None, 1, 7, 23])
@pytest.mark.parametrize("name,teachers", [("kd", 1), ("kd", 2), ("kd_hinton", 1), ("sokd", 1)])
def test_the_chunked_head_equals_the_reference_with_teachers(name, teachers, chunk_rows):
    objective, features, projections, said, target, weight = head_case(name, teachers)
    inputs = [*features, weight]

    def run(rows):
        context = Context(label_smoothing=0.1)
        outputs = BranchOutputs(features)
        result = branch_head(objective, outputs, projections, target, context, rows, None, said)
        return result, torch.autograd.grad(result.total, inputs)

    (expected, theirs), (result, ours) = run(0), run(chunk_rows)
    torch.testing.assert_close(result.total, expected.total)
    for term, value in expected.terms.items():
        torch.testing.assert_close(result.terms[term], value)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_the_recomputing_head_agrees_in_half_precision():
    objective, features, projections, said, target, weight = head_case("kd", 2)
    gradients = []
    for rows in (0, 7):
        half = [feature.detach().half().requires_grad_() for feature in features]
        narrow = Projection(weight.detach().half().requires_grad_())
        frozen = [Projection(projection.weight.half()) for projection in said.projections]
        taught = TeacherOutputs([feature.half() for feature in said.features], frozen)
        result = branch_head(
            objective, BranchOutputs(half), [narrow] * 3, target, Context(), rows, None, taught
        )
        gradients.append(torch.autograd.grad(result.total, [*half, narrow.weight]))
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=2e-2, atol=2e-2)


def test_teachers_get_no_gradient_from_the_head():
    objective, features, projections, said, target, weight = head_case("sokd", 1)
    for tensor in (said.features[0], said.projections[0].weight):
        tensor.requires_grad_()
    result = branch_head(
        objective, BranchOutputs(features), projections, target, Context(), 7, None, said
    )
    (gradient,) = torch.autograd.grad(result.total, said.features, allow_unused=True)
    assert gradient is None


@pytest.fixture(scope="module")
def student_file(toy, teacher_file, tmp_path_factory):
    """Trained for four updates in one go."""
    folder = tmp_path_factory.mktemp("student")
    teacher = shutil.copy(teacher_file, folder / "teacher.pt")
    flags = [*STUDENT, "--kd-objective", "kd", "--kd-teacher", f"{teacher}:{teacher_file}"]
    return toy.train(folder, *flags)


def test_a_students_checkpoint_holds_no_teacher(toy, student_file, teacher_file, weights):
    task = toy.task()
    config = load_checkpoint_to_cpu(str(student_file))["cfg"].model
    assert set(weights(student_file)) == set(task.build_model(config).state_dict())
    assert torch.load(student_file, weights_only=False)["criterion"] is None


def test_a_student_resumes_exactly(toy, student_file, teacher_file, tmp_path, weights):
    teachers = f"{teacher_file}:{teacher_file}"
    flags = [*STUDENT, "--kd-objective", "kd", "--kd-teacher", teachers]
    toy.train(tmp_path, *flags, updates=2)
    resumed = weights(toy.train(tmp_path, *flags, updates=4))
    for name, value in weights(student_file).items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0, msg=name)


def test_a_student_decodes_without_its_teacher_but_does_not_train(toy, student_file, tmp_path):
    alone = shutil.copy(student_file, tmp_path / "alone.pt")
    gone = student_file.parent / "teacher.pt"
    gone.unlink()
    assert len(toy.generate(alone, tmp_path)) == 11
    flags = [*STUDENT, "--kd-objective", "kd", "--kd-teacher", gone]
    with pytest.raises(FileNotFoundError, match=r"teacher\.pt does not exist"):
        toy.train(tmp_path, *flags)


def test_training_without_a_teacher_asks_for_one(toy, tmp_path):
    with pytest.raises(ValueError, match="give its checkpoint as --kd-teacher PATH"):
        toy.train(tmp_path, *STUDENT, "--kd-objective", "kd_hinton")


def test_a_teacher_for_an_objective_without_one_names_those_that_have(toy, teacher_file, tmp_path):
    flags = [*STUDENT, "--kd-objective", "independent", "--kd-teacher", teacher_file]
    with pytest.raises(ValueError, match=r"'independent' has no teacher; .*kd, kd_hinton.*sokd"):
        toy.train(tmp_path, *flags)
