"""SimCut against loops written from its equation; which words are cut; word dropout."""

import pytest
import torch
from naive_losses import cases, compare, evaluate, kl, softmax, task_loss

from tsa_mt.objectives import build_objective
from tsa_mt.objectives.consistency import check_noise, inputs_of
from tsa_mt.objectives.simcut import cut_words


def reference(inputs, target, parameters, case):
    weight = case.options.get("simcut_weight", 3.0)
    terms = {"task": 0.0, "simcut": 0.0}
    for row, true in enumerate(target):
        for leaf in range(case.leaves):
            uncut, cut = (list(inputs["logits"][leaf + case.leaves * n][row]) for n in (0, 1))
            terms["task"] += task_loss(uncut, true, case.smoothing)
            terms["simcut"] += weight * kl(softmax(uncut), softmax(cut))
    return terms


@pytest.mark.parametrize("case", cases({}, {"simcut_weight": 0.7}), ids=str)
def test_value_and_gradients_are_those_of_the_loops(case):
    compare("simcut", reference, case)


@pytest.mark.parametrize("case", cases({"simcut_weight": 2.0}), ids=str)
def test_on_top_of_another_objective_its_terms_are_those_of_the_uncut_pass(case):
    okd, alone = case.objective("tsa"), build_objective("tsa", case.tree, 8, case.classes)
    inputs = case.inputs(okd)
    alone.label_smoothing = case.smoothing
    terms = evaluate(okd, inputs, case.target)
    expected = alone(list(inputs["logits"][: case.leaves]), case.target)
    for term, value in expected.items():
        torch.testing.assert_close(terms[term], value)
    cut = reference({"logits": inputs["logits"]}, case.target.tolist(), {}, case)
    torch.testing.assert_close(terms["simcut"], torch.as_tensor(cut["simcut"]))


def test_words_are_cut_at_the_rate_that_was_asked_for_and_end_marks_stay():
    torch.manual_seed(1)
    embeddings = torch.ones(400, 50, 3)
    fixed = torch.zeros(400, 50, dtype=torch.bool)
    fixed[:, -1] = True
    cut = cut_words(embeddings, 0.25, fixed)
    assert cut[:, -1].eq(1).all()
    whole = cut[:, :-1].eq(1).all(-1)
    assert (cut[:, :-1].eq(0).all(-1) | whole).all()
    assert whole.float().mean() == pytest.approx(0.75, abs=0.01)
    assert cut_words(embeddings.half(), 0.25).dtype == torch.half


def test_the_first_pass_reads_every_word_and_the_second_fewer():
    torch.manual_seed(1)
    okd = build_objective("simcut", "2", 8, 5, simcut_p=0.5).train()
    inputs = inputs_of(okd, {"tokens": torch.arange(6).view(2, 3)})
    assert inputs["tokens"].tolist() == [[0, 1, 2], [3, 4, 5]] * 2
    embeddings, fixed = torch.ones(4, 3, 7), torch.tensor([[False, False, True]] * 4)
    altered = inputs["alter"](embeddings, fixed)
    assert torch.equal(altered[:2], embeddings[:2])
    assert altered[2:, -1].eq(1).all() and altered[2:, :-1].eq(0).any()
    assert inputs_of(okd.eval(), {"tokens": embeddings}) == {"tokens": embeddings}


def test_word_dropout_reads_half_the_sentences_whole_and_keeps_the_terms():
    torch.manual_seed(1)
    okd = build_objective("tsa", "0(1,1)", 8, 5, word_dropout=0.4).train()
    altered = inputs_of(okd, {})["alter"](torch.ones(500, 40, 2), torch.zeros(500, 40).bool())
    whole = altered.eq(1).all(-1).all(-1)
    assert whole.float().mean() == pytest.approx(0.5, abs=0.06)
    assert altered[~whole].eq(0).float().mean() == pytest.approx(0.4, abs=0.02)
    plain = build_objective("tsa", "0(1,1)", 8, 5)
    logits, target = list(torch.randn(2, 3, 5)), torch.tensor([1, 2, 3])
    assert okd(logits, target) == plain(logits, target)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_cutting_nothing_or_everything_is_refused(share):
    with pytest.raises(ValueError, match="'simcut_p' is .*; it must be greater than 0 and less"):
        build_objective("simcut", "2", 8, 5, simcut_p=share)


def test_passes_that_nothing_tells_apart_are_refused():
    quiet, noisy = torch.nn.Dropout(0.0), torch.nn.Dropout(0.1)
    rdrop = build_objective("tsa", "0(1,1)", 8, 5, rdrop_weight=1.0)
    message = "'rdrop_weight' of objective 'tsa' lets passes agree that nothing tells apart"
    with pytest.raises(ValueError, match=message):
        check_noise(rdrop, quiet)
    check_noise(rdrop, noisy)
    check_noise(build_objective("tsa", "0(1,1)", 8, 5), quiet)


def test_words_are_cut_without_dropout_and_never_out_of_images():
    cutting, reader = build_objective("simcut", "2", 8, 5), torch.nn.Module()
    with pytest.raises(ValueError, match="'simcut_weight' cuts words, and images have none"):
        check_noise(cutting, reader)
    reader.decoder = torch.nn.Module()
    check_noise(cutting, reader)
