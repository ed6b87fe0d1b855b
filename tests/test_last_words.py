"""How fairseq's commands end: with one sentence, and the stack trace in the log file."""

import logging
import sys
from pathlib import Path

import fairseq_cli.train
import pytest
import torch

from tsa_mt import last_words


@pytest.fixture
def end(monkeypatch, capsys):
    """Ends a command with what a function raises; what stands on the screen."""

    def function(raiser, place=fairseq_cli.train.__file__):
        monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
        monkeypatch.setattr(sys, "argv", ["/bin/fairseq-train"])
        last_words.install()
        scope = {"raiser": raiser}
        # the frame of a command of fairseq, which calls what fails
        exec(compile("def main():\n    raiser()", place, "exec"), scope)
        try:
            scope["main"]()
        except BaseException:
            sys.excepthook(*sys.exc_info())
        return capsys.readouterr().err

    return function


def ours(text, error=ValueError):
    """A function that raises as if it stood in this package."""
    scope = {"error": error, "text": text}
    place = str(Path(last_words.__file__).with_name("somewhere.py"))
    exec(compile("def check():\n    raise error(text)", place, "exec"), scope)
    return scope["check"]


def fail(error):
    def function():
        raise error

    return function


def test_our_own_sentence_stands_alone(end):
    assert end(ours("--tree is odd; give another")) == (
        "fairseq-train: error: --tree is odd; give another\n"
    )


def test_its_stack_trace_is_in_the_log_file(end, tmp_path):
    handler = logging.FileHandler(tmp_path / "log")
    logging.getLogger("fairseq_cli.train").addHandler(handler)
    try:
        assert end(ours("odd")) == "fairseq-train: error: odd\n"
        assert end(fail(KeyError("what"))) == "fairseq-train: error: KeyError: 'what'\n"
    finally:
        logging.getLogger("fairseq_cli.train").removeHandler(handler)
    text = (tmp_path / "log").read_text()
    assert "somewhere.py" in text and "ValueError: odd" in text and "KeyError: 'what'" in text


def test_an_error_that_nobody_foresaw_keeps_its_trace_before_the_sentence(end):
    said = end(fail(ZeroDivisionError("division by zero")))
    assert said.startswith("Traceback")
    assert said.endswith("\nfairseq-train: error: ZeroDivisionError: division by zero\n")


def test_programs_of_other_people_and_interrupts_are_left_alone(end):
    said = end(fail(ValueError("x")), place="/somebody/elses/program.py")
    assert said.startswith("Traceback") and said.endswith("ValueError: x\n")
    assert end(fail(KeyboardInterrupt())).endswith("KeyboardInterrupt\n")


def test_a_checkpoint_of_another_size_is_told_with_the_first_difference(end):
    def load():
        try:
            torch.nn.Linear(2, 3).load_state_dict(torch.nn.Linear(2, 4).state_dict())
        except Exception:
            raise Exception(  # noqa: B904  as fairseq does
                "Cannot load model parameters from checkpoint a/b.pt; please ensure that the "
                "architectures match."
            )

    assert end(load).splitlines()[-1] == (
        "fairseq-train: error: checkpoint a/b.pt is of another model (weight is [4, 2] there and "
        "[3, 2] here); give the --arch and sizes that it was trained with, or another --save-dir "
        "to begin anew"
    )


def test_a_checkpoint_of_another_scheduler_is_told(end):
    from fairseq.optim.lr_scheduler.fairseq_lr_scheduler import FairseqLRScheduler

    def load():
        FairseqLRScheduler.load_state_dict(object(), {})

    assert "another --lr-scheduler; go on with that one, or add --reset" in end(load)


def test_a_piece_beyond_the_dictionary_is_told_with_its_sentence(end):
    def step():
        sample = {
            "id": torch.tensor([7, 5]),
            "net_input": {
                "src_tokens": torch.tensor([[1, 2], [1, 9]]),
                "prev_output_tokens": torch.tensor([[1, 2], [3, 3]]),
            },
        }
        torch.nn.functional.embedding(sample["net_input"]["src_tokens"], torch.zeros(4, 2))

    assert end(step).splitlines()[-1] == (
        "fairseq-train: error: sentence 5 (src_tokens) of the data holds a piece that is not in "
        "the dictionary of 4 entries; binarise the data again with the dictionaries beside it"
    )


@pytest.mark.parametrize(
    "text",
    [
        "Caught BrokenImageError in DataLoader worker process 0.\nOriginal Traceback:\n  x\n"
        "tsa_mt.vision.decode.BrokenImageError: a.png is odd",
        "Caught ValueError in DataLoader worker process 3.\n  x\nValueError: a.png is odd\n",
    ],
)
def test_of_an_error_in_another_process_the_last_line_is_told(text, end):
    assert end(fail(ValueError(text))).splitlines()[-1] == "fairseq-train: error: a.png is odd"


def test_the_hook_is_installed_once():
    last_words.install()
    hook = sys.excepthook
    last_words.install()
    assert sys.excepthook is hook
