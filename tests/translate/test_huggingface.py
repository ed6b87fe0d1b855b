"""What a person is told where transformers cannot translate."""

import importlib.machinery
import sys
import types

import pytest

from tsa_mt.translate import huggingface


@pytest.mark.parametrize(
    "found, words",
    [
        (None, "transformers is not installed; install it with"),
        (
            importlib.machinery.ModuleSpec("transformers", None),
            "is installed, but its Marian model cannot be imported .*reinstall or remove",
        ),
    ],
)
def test_a_transformers_that_does_not_load_is_told_from_one_that_is_not_there(
    found, words, monkeypatch
):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr(huggingface, "find_spec", lambda name: found)
    with pytest.raises(ValueError, match=words):
        huggingface._marian()


def test_a_library_of_transformers_that_does_not_load_is_told_from_none(monkeypatch):
    class Broken(types.ModuleType):
        def __getattr__(self, name):
            raise OSError("Could not load this library: _torchaudio.so")

    monkeypatch.setitem(sys.modules, "transformers", Broken("transformers"))
    monkeypatch.setattr(huggingface, "find_spec", lambda name: object())
    with pytest.raises(ValueError, match="imported .*_torchaudio.so.*built for another torch"):
        huggingface._marian()
