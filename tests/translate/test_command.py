"""The command: every line that goes in comes out, in its place, whatever is in it."""

import gzip
import importlib.util
import io
import lzma
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tsa_mt.cli import main as tsa_mt_cli
from tsa_mt.translate import command

HERE = Path(__file__).resolve().parent


def load_echo():
    spec = importlib.util.spec_from_file_location("echo", HERE / "echo.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Echo


Echo = load_echo()


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A path that passes for a model, and the translator behind it."""
    path = tmp_path / "model.pt"
    path.touch()

    def load(path, **options):
        options = {name: options[name] for name in ("beam", "lenpen", "batch_tokens", "max_length")}
        return Echo(**options)

    monkeypatch.setattr(command, "load_translator", load)
    return str(path)


class Pipe(io.BytesIO):
    """Bytes that have no size, as those of a pipe."""

    def seekable(self):
        return False


@pytest.fixture
def translate(model, monkeypatch, tmp_path):
    """Runs the command with bytes as its input; its exit status, output and messages."""

    def run(text: bytes, *options: str):
        out = SimpleNamespace(buffer=io.BytesIO())
        error = io.StringIO()
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Pipe(text)))
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", error)
        status = tsa_mt_cli(["translate", model, *options])
        return SimpleNamespace(status=status, out=out.buffer.getvalue(), error=error.getvalue())

    return run


def test_lines_come_out_in_their_order(translate):
    done = translate(b"ab cd\nef\n\ngh ij kl\n", "--batch-tokens", "4", "--window", "3")
    assert done.out == b"ba dc\nfe\n\nhg ji lk\n"
    assert done.status == 0
    assert re.search(r"tsa-mt translate: 4 lines \[.* lines/s\]\n$", done.error)


def test_a_missing_final_newline_is_a_line_like_any_other(translate):
    assert translate(b"ab\ncd").out == b"ba\ndc\n"


def test_no_input_is_no_output(translate):
    done = translate(b"")
    assert (done.status, done.out) == (0, b"")


def test_only_a_line_feed_ends_a_line(translate):
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\rh\r\n"
    assert translate(text.encode()).out == b"a b c d e f g h\n"


def test_bad_utf_8_and_nul_survive_and_are_spoken_of(translate):
    done = translate(b"a\xff b\nc\x00d\n\xe2\x82\nok\n")
    assert done.out == "\ufffda b\nc d\n\ufffd\nko\n".encode()
    assert "2 lines had bytes that are no UTF-8; each such byte is read as U+FFFD" in done.error


@pytest.mark.parametrize(
    "pack",
    [
        lambda text: gzip.compress(text.encode()),
        lambda text: lzma.compress(text.encode()),
        lambda text: text.encode("utf-16"),
        lambda text: b"<srcset><seg id='1'>ab\ncd</seg><seg>&amp;e</seg></srcset>",
    ],
    ids=["gzip", "xz", "utf-16", "sgml"],
)
def test_input_is_unpacked_whatever_it_is_packed_in(pack, translate, model, tmp_path, capsys):
    assert translate(pack("ab cd\n&e\n")).out == b"ba dc\ne&\n"
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_bytes(pack("ab cd\n&e\n"))
    assert tsa_mt_cli(["translate", model, "--input", str(source), "--output", str(target)]) == 0
    assert target.read_bytes() == b"ba dc\ne&\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<?xml version='1.0'?>\n<tmx version='1.4'>", "is a translation memory (TMX)"),
        ("ab cd ef gh\n".encode("utf-16-le"), "is UTF-16 or UTF-32 without a byte-order mark"),
        (b"PK\x03\x04rest", "is a zip archive or an office document"),
    ],
)
def test_input_that_is_no_text_is_refused(data, message, translate):
    done = translate(data)
    assert (done.status, done.out) == (1, b"") and f"standard input {message}" in done.error


def test_a_byte_order_mark_is_no_part_of_the_text(translate):
    assert translate(b"\xef\xbb\xbfab\n").out == b"ba\n"


def test_a_line_too_long_is_translated_in_parts_and_spoken_of_by_its_number(translate):
    long = " ".join(f"w{number}" for number in range(2000))
    done = translate(f"ab\ncd\n{long}\nef\n".encode(), "--window", "2", "--quiet")
    lines = done.out.decode().split("\n")
    assert lines[2].split() == [word[::-1] for word in long.split()]
    assert (lines[0], lines[1], lines[3], lines[4]) == ("ba", "dc", "fe", "")
    assert done.error == (
        "tsa-mt translate: warning: line 3 has 2,000 pieces, more than the 50 that the model "
        "reads; it is translated in 40 parts\n"
    )


def test_the_n_best_are_lines_of_number_score_and_text(translate):
    done = translate(b"ab\n\ncd\n", "--n-best", "2", "--window", "2")
    assert done.out.decode().split("\n") == [
        "1\t-1.0000\tba",
        "1\t-2.0000\tba !",
        "2\t0.0000\t",
        "2\t0.0000\t",
        "3\t-1.0000\tdc",
        "3\t-2.0000\tdc !",
        "",
    ]


def test_translations_that_were_not_found_leave_lines_without_text(translate, monkeypatch):
    monkeypatch.setattr(Echo, "decode_batch", lambda self, parts: [[(p, -1.0)] for p in parts])
    assert translate(b"ab\n", "--n-best", "3").out == b"1\t-1.0000\tab\n1\t-inf\t\n1\t-inf\t\n"


def encoded(text):
    return text.encode("utf-8", "surrogatepass")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    text=st.binary(max_size=200)
    | st.text(max_size=100).map(lambda t: t.encode("utf-8", "surrogatepass"))
)
def test_whatever_goes_in_as_many_lines_come_out(translate, text):
    expected = text.count(b"\n") + (not text.endswith(b"\n") and text != b"")
    done = translate(text, "--quiet")
    assert done.status == 0
    assert done.out.count(b"\n") == expected == len(done.out.split(b"\n")) - 1
    assert len(done.out.decode("utf-8").splitlines()) == expected


def test_files_are_read_and_written(model, tmp_path, capsys):
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"ab\n\ncd\n")
    arguments = ["translate", model, "--input", str(source), "--output", str(target)]
    assert tsa_mt_cli(arguments) == 0
    assert target.read_bytes() == b"ba\n\ndc\n"
    assert re.search(r"tsa-mt translate: 100%.* 3/3 \[.* lines/s\]\n$", capsys.readouterr().err)


def test_a_file_is_only_replaced_with_force(model, tmp_path, capsys):
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"ab\n")
    target.write_bytes(b"precious\n")
    arguments = ["translate", model, "--input", str(source), "--output", str(target)]
    assert tsa_mt_cli(arguments) == 1
    assert f"output {target} exists; pass --force to replace it" in capsys.readouterr().err
    assert target.read_bytes() == b"precious\n"
    assert tsa_mt_cli([*arguments, "--force"]) == 0
    assert target.read_bytes() == b"ba\n"


def test_an_error_in_the_middle_leaves_no_file(model, tmp_path, monkeypatch):
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"ab\n")

    def fail(self, sentences):
        raise KeyboardInterrupt

    monkeypatch.setattr(Echo, "decode_batch", fail)
    arguments = ["translate", model, "--input", str(source), "--output", str(target)]
    assert tsa_mt_cli(arguments) == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "model.pt"]


def test_a_disk_that_is_full_is_told_in_a_sentence(model, tmp_path, capsys):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    source = tmp_path / "in"
    source.write_bytes(b"ab\n")
    assert tsa_mt_cli(["translate", model, "--input", str(source), "--output", "/dev/full"]) == 1
    assert "/dev/full cannot be written: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input", "{}/none"], "input .*/none does not exist"),
        (["--input", "{}"], "input .* is a folder; name a file"),
        (["--output", "{}"], "output .* is a folder; name a file"),
        (["--output", "{}/no/out"], "the folder of output .*/no/out does not exist"),
        (["--n-best", "6"], "--n-best is 6, more than --beam, 5"),
        (["--n-best", "0"], r"--n-best is 0; it must be 1 or more"),
        (["--window", "0"], r"--window is 0; it must be 1 or more"),
        (["--beam", "0", "--n-best", "1"], "--beam is 0; it must be 1 or more"),
        (["--max-length", "0"], "max_length is 0; it must be 1 or more"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(options, message, model, tmp_path, capsys):
    arguments = [option.format(tmp_path) for option in options]
    assert tsa_mt_cli(["translate", model, *arguments]) == 1
    assert re.match(f"tsa-mt translate: error: {message}", capsys.readouterr().err)


def test_a_model_that_is_not_there_is_named(tmp_path, capsys):
    assert tsa_mt_cli(["translate", str(tmp_path / "none.pt")]) == 1
    assert capsys.readouterr().err == (
        f"tsa-mt translate: error: model {tmp_path / 'none.pt'} does not exist\n"
    )


def test_a_folder_that_is_no_model_names_the_checkpoint_in_it(tmp_path, capsys):
    (tmp_path / "checkpoint_best.pt").touch()
    assert tsa_mt_cli(["translate", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "is no model that can translate: a fairseq checkpoint (a .pt file)" in message
    assert f"did you mean {tmp_path / 'checkpoint_best.pt'}?" in message


SCRIPT = """
import sys, time
sys.path.insert(0, {here!r})
from echo import Echo
from tsa_mt.translate import command
class Slow(Echo):
    def decode_batch(self, sentences):
        time.sleep({pause})
        return super().decode_batch(sentences)
command.load_translator = lambda path, **options: Slow()
print("ready", file=sys.stderr, flush=True)
from tsa_mt.cli import main
sys.exit(main(["translate", {model!r}, "--quiet", "--window", "1", *{more!r}]))
"""


def heed_interrupts():
    """Undoes what a shell that runs the tests in the background (``make test &``) passes on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def process(tmp_path, root):
    """Starts the command in a process of its own."""
    model = tmp_path / "model.pt"
    model.touch()
    started = []

    def start(pause: float, *more: str) -> subprocess.Popen:
        code = SCRIPT.format(here=str(HERE), model=str(model), pause=pause, more=more)
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        environment = {**os.environ, "PYTHONPATH": str(root)}
        child = subprocess.Popen(
            [sys.executable, "-c", code], **pipes, env=environment, preexec_fn=heed_interrupts
        )
        started.append(child)
        assert child.stderr.readline() == b"ready\n"
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            pipe.close()


def test_an_interrupt_is_quiet_and_what_was_done_is_kept(process):
    child = process(0.2)
    child.stdin.write(b"ab\n" * 200)
    child.stdin.flush()
    assert child.stdout.readline() == b"ba\n"
    child.send_signal(signal.SIGINT)
    out, error = child.communicate(timeout=60)
    assert child.returncode == 130
    assert error == b""
    assert out.replace(b"ba\n", b"") == b""


def test_a_file_that_was_not_finished_is_gone_after_sigterm(process, tmp_path):
    child = process(0.2, "--output", str(tmp_path / "out"))
    child.stdin.write(b"ab\n" * 200)
    child.stdin.flush()
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.terminate()
    _, error = child.communicate(timeout=60)
    assert (child.returncode, error) == (143, b"")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_a_reader_that_leaves_is_no_error(process):
    child = process(0.01)
    child.stdin.write(b"ab\n")
    child.stdin.flush()
    assert child.stdout.readline() == b"ba\n"
    child.stdout.close()
    child.stdin.write(b"cd\n" * 50)
    child.stdin.close()
    assert child.wait(timeout=60) == 141
    assert child.stderr.read() == b""


def test_a_file_s_progress_is_a_share_and_a_pipe_s_a_count(tmp_path, monkeypatch, capsys):
    path = tmp_path / "in"
    path.write_bytes(b"ab\n" * 40 + b"cd")
    with open(path, "rb") as stream:
        stream.readline()
        with command._bar(stream, quiet=False) as bar:
            bar.update(20)
        assert stream.readline() == b"ab\n"
    assert "tsa-mt translate:  50%" in capsys.readouterr().err
    with command._bar(Pipe(b"ab\n"), quiet=False) as bar:
        bar.update(7)
    assert "tsa-mt translate: 7 lines" in capsys.readouterr().err
    with command._bar(Pipe(b""), quiet=True) as bar:
        bar.update(7)
    assert capsys.readouterr().err == ""
