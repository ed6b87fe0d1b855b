"""Run-time fixes that let fairseq work on today's PyTorch and NumPy.

fairseq is a finished project; the stack under it is not. Each :class:`Fix` in :data:`FIXES` mends
one defect by replacing attributes of fairseq's modules. A fix applies only where its defect is
there, applying it twice changes nothing, and none of them edits a file. `tsa_mt.plugin` applies
them all before anything else of ours, so also under ``--user-dir tsa_mt``, which fairseq imports
before it parses its options. ``tsa-mt doctor`` prints the table; docs/compatibility.md
explains it.

Loading checkpoints stays safe: the few classes that a fairseq checkpoint holds are allow-listed
for ``torch.load(weights_only=True)``, the safety itself is never switched off.
"""

import argparse
import collections
import contextlib
import functools
import importlib.util
import inspect
import logging
import os
import sys
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

logger = logging.getLogger(__name__)

ACTIVE = "active"
NOT_NEEDED = "not needed"
SKIPPED = "skipped"

_status: dict[str, str] = {}


@dataclass(frozen=True)
class Fix:
    """One defect of fairseq and its mend.

    Attributes:
        name: the name that ``tsa-mt doctor`` prints.
        why: what goes wrong without it, in one sentence.
        versions: where the defect is found, in words.
        present: tells whether the defect is there; runs nothing slow.
        mend: puts it right by replacing an attribute.
        issue: number of fairseq's own issue or pull request; 0 where none is known.
    """

    name: str
    why: str
    versions: str
    present: Callable[[], bool]
    mend: Callable[[], None]
    issue: int = 0


FIXES: list[Fix] = []
"""In the order in which they are applied, which is that of this file."""


def _always() -> bool:
    return True


def fix(
    name: str, why: str, *, versions: str, when: Callable[[], bool] = _always, issue: int = 0
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Declare the function below as the mend of a :class:`Fix`, which has these attributes."""

    def declare(mend: Callable[[], None]) -> Callable[[], None]:
        FIXES.append(Fix(name, why, versions, when, mend, issue))
        return mend

    return declare


class Overlay:
    """A module as one other module shall see it: with a few attributes replaced."""

    def __init__(self, module, **replaced):
        self._module = module
        self.__dict__.update(replaced)

    def __getattr__(self, name):
        return getattr(self._module, name)


class BrokenFairseqError(ValueError):
    """fairseq is missing, or its import fails. The cause says why."""


def _not_imported() -> bool:
    return "fairseq" not in sys.modules


@fix(
    "root-logger",
    "importing fairseq gives the root logger a handler and the level DEBUG (0.12.2: INFO)",
    versions="every fairseq, where it is not imported yet",
    when=_not_imported,
)
def _import_quietly() -> None:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        import fairseq  # noqa: F401
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise BrokenFairseqError(
            f"fairseq cannot be imported ({reason}); tsa-mt doctor says what to install"
        ) from error
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


# --- checkpoints --------------------------------------------------------------------------------


def checkpoint_classes() -> list:
    """What a fairseq checkpoint holds beside tensors and plain containers.

    Its arguments are a Namespace, its running averages are NumPy scalars and arrays. NumPy 1 and 2
    call the same functions by two names; both occur in checkpoints.
    """
    core = importlib.import_module("numpy._core" if hasattr(np, "_core") else "numpy.core")
    functions = [
        (function, f"{package}.multiarray.{function.__name__}")
        for package in ("numpy.core", "numpy._core")
        for function in (core.multiarray._reconstruct, core.multiarray.scalar)
    ]
    codes = np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"
    dtypes = sorted({type(np.dtype(code)) for code in codes}, key=str)
    return [argparse.Namespace, np.ndarray, np.dtype, *dtypes, *functions]


@fix(
    "checkpoint-classes",
    "torch.load refuses the Namespace and the NumPy scalars in a fairseq checkpoint, so "
    "resuming and translating fail",
    versions="every fairseq, torch 2.6 and later",
    issue=5603,
)
def _allow_checkpoint_classes() -> None:
    torch.serialization.add_safe_globals(checkpoint_classes())


def _loads_unsafely() -> bool:
    from fairseq import checkpoint_utils

    return "weights_only=False" in inspect.getsource(checkpoint_utils)


@fix(
    "safe-loading",
    "checkpoints are loaded as programs (weights_only=False)",
    versions="fairseq on GitHub since 2025-09",
    when=_loads_unsafely,
)
def _load_safely() -> None:
    from fairseq import checkpoint_utils

    def load(*args, **kwargs):
        return torch.load(*args, **{**kwargs, "weights_only": True})

    checkpoint_utils.torch = Overlay(torch, load=load)


@contextlib.contextmanager
def allowing(classes: list) -> Iterator[None]:
    """Allows classes in ``torch.load(weights_only=True)`` for a while.

    ``torch.serialization.safe_globals`` also forbids on leaving what was allowed before entering;
    this does not.

    Args:
        classes: classes, functions or ``(function, name)`` pairs.
    """
    known = set(torch.serialization.get_safe_globals())
    with torch.serialization.safe_globals([item for item in classes if item not in known]):
        yield


def _config_classes() -> list:
    """The classes of an OmegaConf tree, as rank 0 sends it to the others."""
    from omegaconf import DictConfig, ListConfig, base, nodes

    containers = [DictConfig, ListConfig, base.ContainerMetadata, base.Metadata, nodes.AnyNode]
    return [*containers, Any, collections.defaultdict, dict, list, int]


@fix(
    "config-broadcast",
    "resuming in several processes fails: torch.load refuses the OmegaConf classes that rank 0 "
    "broadcasts",
    versions="every fairseq, torch 2.6 and later",
)
def _allow_config_in_broadcast() -> None:
    from fairseq.distributed import utils

    original = utils._broadcast_object_slow

    @functools.wraps(original)
    def broadcast(*args, **kwargs):
        with allowing([*_config_classes(), utils._TensorPlaceholder]):
            return original(*args, **kwargs)

    utils._broadcast_object_slow = broadcast


# --- several processes --------------------------------------------------------------------------

TORCHRUN = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "LOCAL_RANK")


@fix(
    "torchrun",
    "torchrun on CPU divides by zero GPUs, or is ignored so that two jobs write one save-dir; "
    "in 0.12.2 all its processes take GPU 0",
    versions="every fairseq",
)
def _take_torchrun_environment() -> None:
    from fairseq.distributed import utils

    original = utils.infer_init_method

    @functools.wraps(original)
    def infer(cfg, force_distributed=False):
        if cfg.distributed_world_size == 1 and all(key in os.environ for key in TORCHRUN):
            cfg.distributed_world_size = int(os.environ["WORLD_SIZE"])
        return original(cfg, force_distributed)

    def launch(cfg):
        cfg.distributed_init_method = "env://"
        cfg.distributed_world_size = int(os.environ["WORLD_SIZE"])
        cfg.distributed_rank = int(os.environ["RANK"])
        local = int(os.environ.get("LOCAL_RANK", cfg.distributed_rank))
        cfg.device_id = local % max(1, torch.cuda.device_count())
        cfg.distributed_no_spawn = True

    utils.infer_init_method = infer
    utils._infer_torch_distributed_launch_init = launch


@fix(
    "gloo-on-cpu",
    "several processes on CPU need --distributed-backend gloo, the default nccl fails",
    versions="every fairseq",
)
def _use_gloo_on_cpu() -> None:
    from fairseq.distributed import utils

    original = utils.distributed_init

    @functools.wraps(original)
    def distributed_init(cfg):
        on_cpu = cfg.common.cpu or not torch.cuda.is_available()
        if on_cpu and cfg.distributed_training.distributed_backend == "nccl":
            logger.info("distributed backend nccl needs GPUs: using gloo")
            cfg.distributed_training.distributed_backend = "gloo"
        return original(cfg)

    utils.distributed_init = distributed_init


@fix(
    "ddp-on-cpu",
    "--ddp-backend pytorch_ddp gives device ids to PyTorch, which refuses them on CPU",
    versions="every fairseq",
)
def _no_device_ids_on_cpu() -> None:
    from fairseq.models import distributed_fairseq_model as module

    class DistributedDataParallel(module.DistributedDataParallel):
        """PyTorch's, which refuses device ids for a module on the CPU."""

        def __init__(self, module, device_ids=None, output_device=None, **kwargs):
            if all(p.device.type == "cpu" for p in module.parameters()):
                device_ids = output_device = None
            super().__init__(module, device_ids, output_device, **kwargs)

    module.DistributedDataParallel = DistributedDataParallel


# --- precision ----------------------------------------------------------------------------------


def _bf16_means_tpu() -> bool:
    return importlib.util.find_spec("torch_xla") is None


@fix(
    "bf16-flag",
    "--bf16 on the command line means a TPU and crashes without one; with the fix --tpu asks "
    "for one",
    versions="every fairseq, where torch_xla is not installed",
    when=_bf16_means_tpu,
    issue=4696,
)
def _bf16_without_tpu() -> None:
    from fairseq import options

    original = options.parse_args_and_arch
    asked = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    asked.add_argument("--tpu", action="store_true")

    @functools.wraps(original)
    def parse(parser, input_args=None, *args, **kwargs):
        result = original(parser, input_args, *args, **kwargs)
        parsed = result[0] if isinstance(result, tuple) else result
        if getattr(parsed, "tpu", False):
            parsed.tpu = asked.parse_known_args(input_args)[0].tpu
        return result

    options.parse_args_and_arch = parse


@fix(
    "fp16-on-cpu",
    "--fp16 asks CUDA for the current device, also on CPU",
    versions="every fairseq, where there is no GPU",
    when=lambda: not torch.cuda.is_available(),
)
def _flat_parameters_on_cpu() -> None:
    from fairseq.optim import fp16_optimizer

    # None is the index of a CPU tensor's device, by which gradients find their flat copy
    cuda = Overlay(torch.cuda, current_device=lambda: None)
    fp16_optimizer.torch = Overlay(torch, cuda=cuda)


@fix(
    "amp-unscale",
    "--amp divides gradients by the loss scale twice",
    versions="every fairseq",
)
def _unscale_once() -> None:
    from fairseq.optim.amp_optimizer import AMPOptimizer

    def step(self):
        # The scaler remembers what it has unscaled by object; clip_grad_norm gave it this one.
        self.scaler.step(self.optimizer)
        self.scaler.update()

    AMPOptimizer.step = step


def _has_fast_path() -> bool:
    from fairseq.modules.transformer_layer import TransformerEncoderLayerBase

    return "can_use_fastpath" in TransformerEncoderLayerBase.__init__.__code__.co_names


# Copies of the layer's weights for the fast path: trainable, but without gradients, so that they
# stop DistributedDataParallel, and unknown to every other fairseq.
FAST_PATH_PARAMETERS = tuple(
    f"{part}_{kind}"
    for part in ("in_proj", "out_proj", "fc1", "fc2")
    for kind in ("weight", "bias")
)


@fix(
    "encoder-fast-path",
    "translating fails in PyTorch's encoder fast path ('Mask Type should be defined'), and its "
    "parameters without gradients stop --ddp-backend pytorch_ddp",
    versions="fairseq 0.12.2",
    when=_has_fast_path,
    issue=4858,
)
def _no_fast_path() -> None:
    from fairseq.modules.transformer_layer import TransformerEncoderLayerBase as Layer

    original = Layer.__init__

    @functools.wraps(original)
    def __init__(self, *args, **kwargs):
        original(self, *args, **kwargs)
        self.can_use_fastpath = False
        for name in FAST_PATH_PARAMETERS:
            delattr(self, name)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        for name in FAST_PATH_PARAMETERS:
            state_dict.pop(prefix + name, None)
        torch.nn.Module._load_from_state_dict(self, state_dict, prefix, *args)

    Layer.__init__ = __init__
    Layer._load_from_state_dict = _load_from_state_dict


# --- logs ---------------------------------------------------------------------------------------


@fix(
    "log-file",
    "--log-file gets every line once more with every epoch and every validation",
    versions="every fairseq",
)
def _log_every_line_once() -> None:
    from fairseq.logging import progress_bar

    # A logger takes the same handler only once.
    handler = functools.cache(logging.FileHandler)
    progress_bar.logging = Overlay(logging, FileHandler=handler)


# --- data ---------------------------------------------------------------------------------------


def _drops_last_batch() -> bool:
    from fairseq.data import data_utils

    batches = data_utils.batch_by_size(
        np.arange(3),
        lambda index: 1,
        num_tokens_vec=np.ones(3, dtype=np.int64),
        max_sentences=2,
        required_batch_size_multiple=2,
    )
    return sum(map(len, batches)) < 3


@fix(
    "last-batch",
    "the last batch is dropped in train, valid, test and generate when its size is not a "
    "multiple of 8",
    versions="fairseq-fixed and fairseq on GitHub since 2022-12",
    when=_drops_last_batch,
    issue=5036,
)
def _keep_last_batch() -> None:
    from fairseq.data import data_utils

    original = data_utils.batch_by_size

    @functools.wraps(original)
    def batch_by_size(indices, *args, **kwargs):
        if not isinstance(indices, np.ndarray):
            indices = np.fromiter(indices, dtype=np.int64, count=-1)
        batches = original(indices, *args, **kwargs)
        rest = indices[sum(map(len, batches)) :]  # batches are consecutive slices of indices
        return [*batches, rest] if len(rest) else batches

    data_utils.batch_by_size = batch_by_size


def _percentile_fails() -> bool:
    percentile: Any = np.percentile
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            percentile([1, 2], [50], interpolation="lower")
    except (TypeError, DeprecationWarning):
        return True
    return False


@fix(
    "length-buckets",
    "--num-batch-buckets calls np.percentile(interpolation=...), which is gone",
    versions="every fairseq, NumPy 1.22 (warns) and later (fails)",
    when=_percentile_fails,
)
def _translate_percentile() -> None:
    from fairseq.data import data_utils

    def percentile(values, shares, interpolation):
        return np.percentile(values, shares, method=interpolation)

    # Not get_buckets itself: other modules have imported it by name.
    data_utils.np = Overlay(np, percentile=percentile)


def _compat_gone() -> bool:
    return not hasattr(np, "compat")


@fix(
    "numpy-compat",
    "--num-batch-buckets and token blocks use np.compat.long, which is gone",
    versions="every fairseq, NumPy 2",
    when=_compat_gone,
)
def _give_compat() -> None:
    from fairseq.data import language_pair_dataset, token_block_dataset

    numpy = Overlay(np, compat=Overlay(np, long=int))
    language_pair_dataset.np = numpy
    token_block_dataset.np = numpy


# --- --user-dir ---------------------------------------------------------------------------------


def _same_place(path: str, other: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def _find_user_dir(user_dir: str, package: str) -> str:
    """The directory that fairseq means by ``user_dir``: as given, or beside or in fairseq."""
    import fairseq

    base = os.path.dirname(fairseq.__file__)
    for path in (user_dir, os.path.join(base, user_dir), os.path.join(base, "..", user_dir)):
        if os.path.exists(path):
            return path
    return package if user_dir == os.path.basename(package) else user_dir


@fix(
    "user-dir",
    "--user-dir is compared as a string, so a package that is imported already is refused under "
    "another spelling or through a link",
    versions="every fairseq",
    issue=2815,
)
def _accept_ourselves() -> None:
    from fairseq import utils

    original = utils.import_user_module
    package = os.path.dirname(os.path.abspath(__file__))
    name = os.path.basename(package)

    @functools.wraps(original)
    def import_user_module(args):
        user_dir = getattr(args, "user_dir", None)
        if user_dir is None:
            return original(args)
        path = _find_user_dir(user_dir, package)
        if _same_place(path, package):
            return None
        if os.path.exists(path) and os.path.basename(os.path.abspath(path)) == name:
            raise ImportError(
                f"--user-dir {user_dir} is another copy of {name} than the one that is imported "
                f"already, from {package}: give --user-dir {package}, or install only one of them"
            )
        return original(args)

    # fairseq keeps its memo on the function object it finds under this name.
    utils.import_user_module = import_user_module


# --- moving averages ----------------------------------------------------------------------------


@fix(
    "ema-counters",
    "--store-ema crashes on models with BatchNorm: it multiplies their update counters by a "
    "fraction",
    versions="every fairseq that has --store-ema",
)
def _copy_integers_into_average() -> None:
    from fairseq.models.ema.ema import EMA

    original = EMA.__init__

    @functools.wraps(original)
    def __init__(self, model, config, device=None, skip_keys=None):
        values = model.state_dict().items()
        counters = {
            name
            for name, value in values
            if torch.is_tensor(value) and not value.is_floating_point()
        }
        original(self, model, config, device, {*(skip_keys or ()), *counters})

    EMA.__init__ = __init__


# --- looking for NaN ----------------------------------------------------------------------------


@fix(
    "nan-detector",
    "the search for the module that made a gradient NaN ends in StopIteration itself: it hooks "
    "the encoder, whose output holds no tensor but lists of them",
    versions="every fairseq",
)
def _hook_modules_with_tensors() -> None:
    from fairseq.nan_detector import NanDetector

    def add_hooks(self, module):
        if self.forward:
            self.fhooks.append(module.register_forward_hook(self.fhook_fn))
        if self.backward and not list(module.children()):
            self.bhooks.append(module.register_backward_hook(self.bhook_fn))

    NanDetector.add_hooks = add_hooks


def apply(skip: Collection[str] = ()) -> None:
    """Applies every fix whose defect is there and that is not applied yet.

    Args:
        skip: names of fixes to leave out, for the tests that show what each of them is for.

    Raises:
        ValueError: if ``skip`` names a fix that does not exist.
        BrokenFairseqError: if fairseq is there but cannot be imported.
    """
    unknown = set(skip) - {fix.name for fix in FIXES}
    if unknown:
        known = ", ".join(fix.name for fix in FIXES)
        raise ValueError(f"no such fix: {', '.join(sorted(unknown))}; there are {known}")
    for fix in FIXES:
        if _status.get(fix.name) == ACTIVE:
            continue
        if fix.name in skip:
            _status[fix.name] = SKIPPED
        elif fix.present():
            fix.mend()
            _status[fix.name] = ACTIVE
        else:
            _status[fix.name] = NOT_NEEDED


def status() -> dict[str, str]:
    """What became of each fix: ``active``, ``not needed`` or ``skipped``, by name."""
    return dict(_status)
