"""What the whole suite shares: one thread, fresh globals of fairseq, commands, and the data."""

import logging
import os
import shutil

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two threads per test are slower

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tsa_mt import plugin

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"

torch.set_num_threads(1)
plugin.register()  # as --user-dir does


@pytest.fixture(autouse=True)
def fresh_fairseq_globals():
    """Forgets what a training in this process leaves on functions of fairseq."""
    yield
    checkpoints = sys.modules.get("fairseq.checkpoint_utils")
    train = sys.modules.get("fairseq_cli.train")
    saving = getattr(checkpoints, "save_checkpoint", None)
    stopping = getattr(train, "should_stop_early", None)
    for function in (saving, stopping):
        if hasattr(function, "best"):
            del function.best
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False  # hydra's logging configuration disables those that exist


@pytest.fixture(scope="session")
def root():
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def python():
    """Runs this Python with arguments, outside the checkout's import path unless asked; checked.

    ``python("-m", "tsa_mt.cli", "tree", "6", cwd=..., path=[...])`` gives the finished process.
    """

    def run(*arguments, path=(ROOT,), check=True, **options):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
        command = [sys.executable, *map(str, arguments)]
        settings = {"env": environment, "capture_output": True, "text": True, "timeout": 300}
        done = subprocess.run(command, **{**settings, **options})
        assert not check or done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    return run


@pytest.fixture(scope="session")
def copy_sources(root):
    """Copies what a build needs, so that builds leave nothing in the checkout."""

    def copy(target):
        target.mkdir()
        for name in ("setup.py", "pyproject.toml", "LICENSE"):
            shutil.copy(root / name, target)
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / "tsa_mt", target / "tsa_mt", ignore=skip)
        return target

    return copy


@pytest.fixture(scope="session")
def wheel(tmp_path_factory, copy_sources, python):
    """The project's wheel, built offline from a copy of the sources."""
    base = tmp_path_factory.mktemp("wheel")
    pip = ("-m", "pip", "--disable-pip-version-check", "wheel", "-q", "--no-deps", "--no-index")
    sources = copy_sources(base / "sources")
    python(*pip, "--no-build-isolation", "-w", base / "dist", sources, path=[])
    (found,) = (base / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real corpora beside the checkout; tests that need it are skipped without."""
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA}")
    return DATA
