"""The ``tsa-mt`` command: its table, its errors and the commands that live in it."""

import argparse
import importlib
import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import tsa_mt
from tsa_mt import cli


def failing_with(error):
    def run(args):
        raise error

    return cli.Command(SimpleNamespace(add_arguments=lambda parser: None, run=run), "fails")


def test_an_unknown_command_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["trea"])
    assert left.value.code == 2
    printed = capsys.readouterr().err
    assert "no command 'trea'; the commands are" in printed
    assert all(f"  {name} " in printed for name in cli.COMMANDS)


def test_no_command_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main([])
    assert left.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_help_lists_every_command_with_a_line_about_it(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["--help"])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    for name, command in cli.COMMANDS.items():
        assert f"  {name} " in printed
        assert command.text in printed


def test_the_version_is_the_package_s(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"tsa-mt {tsa_mt.__version__}\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_command_describes_its_arguments(name, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main([name, "--help"])
    assert left.value.code == 0
    assert f"usage: tsa-mt {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_command_has_arguments_and_a_run(name):
    source = cli.COMMANDS[name].source
    command = importlib.import_module(source) if isinstance(source, str) else source
    command.add_arguments(argparse.ArgumentParser())
    assert callable(command.run)


@pytest.mark.parametrize(
    "error", [ValueError, FileNotFoundError, FileExistsError, IsADirectoryError]
)
def test_an_error_in_the_input_is_one_sentence_and_status_1(error, monkeypatch, capsys):
    monkeypatch.setitem(cli.COMMANDS, "fail", failing_with(error("x is 3, give 1 or 2")))
    assert cli.main(["fail"]) == 1
    assert capsys.readouterr().err == "tsa-mt fail: error: x is 3, give 1 or 2\n"


def test_an_error_of_ours_keeps_its_stack_trace(monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "fail", failing_with(KeyError("bug")))
    with pytest.raises(KeyError, match="bug"):
        cli.main(["fail"])


def test_a_file_name_that_is_not_utf_8_is_printed_as_it_is(monkeypatch, capsysbinary):
    def run(args):
        print(os.fsdecode(b"caf\xe9"))
        return 0

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8"))
    command = cli.Command(SimpleNamespace(add_arguments=lambda parser: None, run=run), "prints")
    monkeypatch.setitem(cli.COMMANDS, "print", command)
    assert cli.main(["print"]) == 0
    sys.stdout.flush()
    assert capsysbinary.readouterr().out == b"caf\xe9\n"


def test_user_dir_prints_the_folder_of_the_package(capsys):
    assert cli.main(["user-dir"]) == 0
    assert Path(capsys.readouterr().out.strip()) == Path(tsa_mt.__file__).resolve().parent


def test_tree_draws_and_counts(capsys):
    assert cli.main(["tree", "2(2(2,2),2(2,2))"]) == 0
    printed = capsys.readouterr().out
    assert "the leader" in printed
    assert "notation  2(2(2,2),2(2,2))\n" in printed
    assert "nodes     7\nlayers    14\nleaves    4\n" in printed
    assert "leader    2 -> 2 -> 2, 6 layers deep\n" in printed


def test_tree_adapts_a_preset_to_a_depth(capsys):
    assert cli.main(["tree", "chain", "--depth", "9"]) == 0
    assert "notation  9\n" in capsys.readouterr().out


def test_tree_points_at_the_column_of_a_mistake(capsys):
    assert cli.main(["tree", "4(2,2"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("tsa-mt tree: error: ")
    assert printed.splitlines()[-1].strip() == "^"
    assert "Traceback" not in printed
