"""Every run-time fix mends its defect, and the defect is there without it."""

import argparse
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tsa_mt import compat

ROOT = Path(__file__).resolve().parent.parent

# fix: what its probe in fix_probes.py says without it and with it
EXPECTED = {
    "root-logger": ("DEBUG", "WARNING"),
    "checkpoint-classes": ("UnpicklingError: .*argparse.Namespace", "resumed"),
    "safe-loading": ("program ran: True", "program ran: False, UnpicklingError: .*mkfifo"),
    "config-broadcast": ("UnpicklingError: .*omegaconf", "world of 2"),
    "torchrun": ("process group has not been initialized", "world of 2"),
    "gloo-on-cpu": ("(?i)nccl", "world of 2"),
    "ddp-on-cpu": ("ValueError: .*device_ids", "world of 2"),
    "bf16-flag": ("xla", "trained"),
    "fp16-on-cpu": ("(?i)cuda|nvidia driver", "trained"),
    "amp-unscale": ("step of 0.0016", "step of 0.2000"),
    "ema-counters": ("RuntimeError: .*can't be cast", "mean 0.50 after 1 batch"),
    "nan-detector": ("StopIteration", "searched"),
    "encoder-fast-path": ("True, of its parameters: 8", "False, of its parameters: 0, <All keys"),
    "length-buckets": ("TypeError: percentile", "trained"),
    "numpy-compat": ("AttributeError: .*compat", "trained"),
    "log-file": ("^[2-9] times", "^1 times"),
    "user-dir": ("ImportError: .*not globally unique", "accepted"),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    program = [sys.executable, str(ROOT / "tests" / "fix_probes.py")]
    work = str(tmp_path_factory.mktemp("probes"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*program, work], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("fix", EXPECTED)
def test_the_defect_is_there_without_the_fix_and_gone_with_it(fix, outcomes):
    without, mended = EXPECTED[fix]
    assert re.search(without, outcomes[fix]["without"], re.DOTALL)
    assert re.search(mended, outcomes[fix]["with"], re.DOTALL)


def test_every_sentence_of_a_last_small_batch_is_trained_validated_and_translated(outcomes):
    tools = ("train", "valid", "eval-bleu", "generate", "validate")
    corpus = {"train": 11, "valid": 9, "eval-bleu": 9, "generate": 9, "validate": 9}
    assert outcomes["last-batch"] == {"without": dict.fromkeys(tools, 8), "with": corpus}


def test_every_fix_is_probed(outcomes):
    assert set(outcomes) == {fix.name for fix in compat.FIXES}


def test_registering_the_plugin_applies_the_fixes():
    status = compat.status()
    assert set(status) == {fix.name for fix in compat.FIXES}
    assert set(status.values()) <= {compat.ACTIVE, compat.NOT_NEEDED}
    assert status["checkpoint-classes"] == compat.ACTIVE


def test_applying_the_fixes_twice_replaces_nothing_twice():
    from fairseq import options
    from fairseq.data import data_utils

    before = options.parse_args_and_arch, data_utils.batch_by_size
    compat.apply()
    assert (options.parse_args_and_arch, data_utils.batch_by_size) == before


def test_an_unknown_fix_cannot_be_skipped():
    with pytest.raises(ValueError, match="no such fix: typo; there are root-logger, checkpoint-"):
        compat.apply(skip=["typo"])


def test_a_fairseq_that_fails_to_import_is_named_as_the_cause(monkeypatch):
    broken = compat.Fix("root-logger", "", "", lambda: True, compat._import_quietly)
    monkeypatch.setattr(compat, "FIXES", [broken])
    monkeypatch.setattr(compat, "_status", {})
    monkeypatch.setitem(sys.modules, "fairseq", None)
    with pytest.raises(compat.BrokenFairseqError, match="fairseq cannot be imported .*fairseq"):
        compat.apply()


# --- checkpoints --------------------------------------------------------------------------------


def saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    return file


def test_a_checkpoint_s_classes_load_safely():
    content = {
        "args": argparse.Namespace(arch="transformer"),
        "scalars": [np.float32(0.5), np.int64(3), np.bool_(True)],
        "array": np.arange(3),
    }
    loaded = torch.load(saved(content), weights_only=True)
    assert loaded["args"] == content["args"]
    assert loaded["scalars"] == content["scalars"]
    assert loaded["array"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("package", [b"numpy.core", b"numpy._core"])
def test_a_checkpoint_written_under_any_numpy_loads_safely(package):
    file = io.BytesIO()
    torch.save(np.float64(0.5), file, _use_new_zipfile_serialization=False)
    content = re.sub(rb"numpy\._?core(?=\.multiarray)", package, file.getvalue())
    assert package in content
    assert torch.load(io.BytesIO(content), weights_only=True) == 0.5


def test_a_class_outside_the_list_is_refused():
    with pytest.raises(Exception, match="Path"):
        torch.load(saved({"model": Path(".")}), weights_only=True)


def test_allowing_for_a_while_leaves_what_was_allowed_before():
    before = set(torch.serialization.get_safe_globals())
    with compat.allowing([argparse.Namespace, Path]):
        assert Path in torch.serialization.get_safe_globals()
    assert set(torch.serialization.get_safe_globals()) == before


# --- several processes --------------------------------------------------------------------------


@pytest.fixture
def torchrun(monkeypatch):
    values = {"MASTER_ADDR": "localhost", "MASTER_PORT": "1", "WORLD_SIZE": "4", "RANK": "3"}
    for key, value in {**values, "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(key, value)


def training_config(world_size):
    from fairseq.dataclass.configs import DistributedTrainingConfig

    return DistributedTrainingConfig(distributed_world_size=world_size, tpu=False)


@pytest.mark.parametrize("world_size", [1, 4])
def test_torchrun_s_environment_decides_rank_and_world_size(world_size, torchrun):
    from fairseq.distributed import utils

    config = training_config(world_size)
    utils.infer_init_method(config)
    assert config.distributed_init_method == "env://"
    assert (config.distributed_rank, config.distributed_world_size) == (3, 4)
    assert config.device_id == 1 % max(1, torch.cuda.device_count())


def test_a_cluster_s_world_size_alone_does_not_make_a_single_process_wait(torchrun, monkeypatch):
    from fairseq.distributed import utils

    monkeypatch.delenv("LOCAL_RANK")
    config = training_config(1)
    utils.infer_init_method(config)
    assert config.distributed_world_size == 1


# --- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "tpu"), [(["--bf16"], False), (["--bf16", "--tpu"], True), ([], False)]
)
def test_a_tpu_is_used_only_when_asked_for(flags, tpu):
    from fairseq import options

    parser = options.get_training_parser()
    args = options.parse_args_and_arch(parser, ["data", "--arch", "transformer", *flags])
    assert (args.bf16, args.tpu) == ("--bf16" in flags, tpu)


# --- data ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sentences", [1, 7, 8, 9, 16, 23])
@pytest.mark.parametrize("limits", [{"max_sentences": 8}, {"max_tokens": 40}])
def test_batches_hold_every_sentence_once_and_in_order(sentences, limits):
    from fairseq.data import data_utils

    sizes = np.full(sentences, 4)
    batches = data_utils.batch_by_size(
        iter(range(sentences)),
        sizes.__getitem__,
        num_tokens_vec=sizes,
        required_batch_size_multiple=8,
        **limits,
    )
    assert np.concatenate(batches).tolist() == list(range(sentences))
