"""Shows what each run-time fix is for: runs its probe with all fixes and with all but this one.

Called by test_compat.py as a program of its own. fairseq is imported once and every run happens in
a forked child, so that fixes cannot leak from one run into another. Prints one JSON object
``{fix: {"with": outcome, "without": outcome}}``; an exception's outcome is its type and text.
"""

import importlib.util
import json
import logging
import multiprocessing
import os
import shutil
import socket
import sys
import traceback
import types
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
FORK = multiprocessing.get_context("fork")
PROBES = {}

# Eleven sentences with batches of eight leave three over, nine leave one.
SIZES = {"train": 11, "valid": 9, "test": 9}


def probe(*fixes):
    """Registers the probe of some fixes: a function of the folder with data-bin and checkpoint."""

    def register(function):
        PROBES.update(dict.fromkeys(fixes, function))
        return function

    return register


def load_compat():
    """The module under test, without the rest of the package, which would apply all fixes."""
    spec = importlib.util.spec_from_file_location("compat", ROOT / "tsa_mt" / "compat.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["compat"] = module
    spec.loader.exec_module(module)
    return module


# --- fairseq's commands, in this process --------------------------------------------------------


def run(module, *arguments):
    """What a console script of fairseq does, with data loaded in its own process."""
    if module != "preprocess":
        arguments = (*arguments, "--num-workers", 0)
    command = importlib.import_module(f"fairseq_cli.{module}")
    sys.argv = [f"fairseq-{module}", *map(str, arguments)]
    command.cli_main()


def train(work, name, *arguments, updates=2):
    """Trains a stock Transformer of the smallest size into ``work/name``."""
    size = "--encoder-layers 1 --decoder-layers 1 --encoder-embed-dim 8 --decoder-embed-dim 8"
    heads = "--encoder-attention-heads 1 --decoder-attention-heads 1"
    ffn = "--encoder-ffn-embed-dim 8 --decoder-ffn-embed-dim 8"
    run(
        *("train", work / "data-bin", "--arch", "transformer", "--optimizer", "adam", "--lr", 0.01),
        *f"{size} {heads} {ffn} --cpu --batch-size 8 --log-format simple".split(),
        *("--save-dir", work / name, "--max-update", updates, *arguments),
    )


def prepare(work):
    """Writes the corpus, binarises it and trains the checkpoint that the probes use."""
    for split, size in SIZES.items():
        for side in "xy":
            lines = (" ".join("abcdefgh"[: 2 + i % 6]) for i in range(size))
            (work / f"{split}.{side}").write_text("\n".join(lines) + "\n")
    prefixes = [x for split in SIZES for x in (f"--{split}pref", work / split)]
    languages = ("-s", "x", "-t", "y", "--joined-dictionary")
    run("preprocess", *languages, *prefixes, "--destdir", work / "data-bin")
    train(work, "trained")


def in_two_processes(work, name, *arguments):
    """The outcome of a training in two processes, started as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def rank(number, outcomes):
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE="2")
        os.environ.update(RANK=str(number), LOCAL_RANK=str(number))

        def body(work):
            train(work, name, *arguments, updates=4)
            return f"world of {torch.distributed.get_world_size()}"

        outcomes.put(outcome(body, work))

    outcomes = FORK.SimpleQueue()
    ranks = [FORK.Process(target=rank, args=(number, outcomes)) for number in range(2)]
    for process in ranks:
        process.start()
    found = {outcomes.get()}  # the other one may wait for ever for a rank that failed
    if found == {"world of 2"}:
        found.add(outcomes.get())
    for process in ranks:
        process.join(timeout=None if found == {"world of 2"} else 1)
        process.kill()
    return ", ".join(sorted(found))


# --- the probes ---------------------------------------------------------------------------------


@probe("checkpoint-classes")
def resume(work):
    train(work, "trained", updates=3)
    return "resumed"


@probe("log-file")
def write_a_line_after_two_epochs(work):
    from fairseq.logging import progress_bar

    log = work / "train.log"
    train(work, "logged", "--log-file", log, "--disable-validation", "--no-save", updates=4)
    progress_bar.logger.critical("a line")
    return f"{log.read_text().count('a line')} times"


@probe("safe-loading")
def load_a_program(work):
    from fairseq import checkpoint_utils

    torch.save({"model": Program(work / "ran")}, work / "program.pt")
    error = outcome(checkpoint_utils.load_checkpoint_to_cpu, str(work / "program.pt"))
    return f"program ran: {(work / 'ran').exists()}, {error}"


class Program:
    """Something that makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkfifo, (str(self.path),))


@probe("config-broadcast")
def resume_in_two_processes(work):
    return in_two_processes(work, "trained", "--ddp-backend", "legacy_ddp", "--reset-dataloader")


@probe("torchrun", "gloo-on-cpu", "ddp-on-cpu")
def train_in_two_processes(work):
    # Without torchrun's environment they are two jobs that would write the same files at once.
    return in_two_processes(work, "parallel", "--ddp-backend", "pytorch_ddp", "--no-save")


@probe("bf16-flag")
def train_bf16(work):
    train(work, "bf16", "--bf16")
    return "trained"


@probe("fp16-on-cpu")
def train_fp16(work):
    train(work, "fp16", "--fp16", "--fp16-init-scale", 4)
    return "trained"


@probe("amp-unscale")
def step_of_sgd(work):
    from fairseq.optim.amp_optimizer import AMPOptimizer
    from omegaconf import OmegaConf

    weight = torch.nn.Parameter(torch.ones(1))
    sgd = {"_name": "sgd", "lr": [0.1], "momentum": 0.0, "weight_decay": 0.0}
    common = {"fp16_init_scale": 128, "min_loss_scale": 1e-4}
    cfg = OmegaConf.create({"optimizer": sgd, "common": common})
    optimizer = AMPOptimizer.build_optimizer(cfg, [weight])
    optimizer._grad_scaler = torch.amp.GradScaler("cpu", init_scale=128)
    optimizer.backward((2 * weight).sum())
    optimizer.clip_grad_norm(0)
    optimizer.step()
    return f"step of {1 - weight.item():.4f}"


@probe("ema-counters")
def average_batch_norm(work):
    from fairseq.models.ema import EMA

    config = Namespace(ema_decay=0.5, ema_seed_model=None, ema_fp32=False, ema_start_update=0)
    config.ema_update_freq = 1
    model = torch.nn.BatchNorm1d(1)
    average = EMA(model, config)
    model.train()(torch.full((2, 1), 10.0))
    average.step(model, 1)
    found = average.get_model()
    return f"mean {found.running_mean.item():.2f} after {found.num_batches_tracked.item()} batch"


@probe("nan-detector")
def search_an_encoder(work):
    from fairseq.nan_detector import NanDetector

    class Encoder(torch.nn.Linear):
        def forward(self, values):
            return {"out": [super().forward(values)], "none": []}

    model = torch.nn.Sequential(torch.nn.ModuleList([Encoder(2, 2)])[0])
    model[0].inner = torch.nn.Identity()
    with NanDetector(model):
        model(torch.ones(1, 2))["out"][0].sum().backward()
    return "searched"


@probe("encoder-fast-path")
def build_and_load_an_encoder_layer(work):
    from fairseq.models.transformer import TransformerConfig
    from fairseq.modules.transformer_layer import TransformerEncoderLayerBase

    layer = TransformerEncoderLayerBase(TransformerConfig.from_namespace(Namespace()))
    names = [f"{part}_{kind}" for part in FAST_PATH for kind in ("weight", "bias")]
    of_0_12_2 = {name: torch.zeros(1) for name in names}
    own = {key: value for key, value in layer.state_dict().items() if key not in names}
    loaded = outcome(layer.load_state_dict, {**own, **of_0_12_2})
    left = [name for name in names if hasattr(layer, name)]
    return f"fast path: {bool(layer.can_use_fastpath)}, of its parameters: {len(left)}, {loaded}"


@probe("last-batch")
def count_sentences(work):
    from fairseq.tasks.translation import TranslationTask

    seen = {"train": 0, "valid": 0, "eval-bleu": 0}

    def count(name, attribute):
        original = getattr(TranslationTask, attribute)

        def method(self, *args, **kwargs):
            sample = kwargs["sample"] if "sample" in kwargs else args[name == "eval-bleu"]
            seen[name] += sample["nsentences"]
            return original(self, *args, **kwargs)

        setattr(TranslationTask, attribute, method)

    count("train", "train_step")
    count("valid", "valid_step")
    count("eval-bleu", "_inference_with_bleu")
    short = ("--eval-bleu-args", '{"beam": 1, "max_len_b": 3}')
    train(work, "counted", "--max-epoch", 1, "--eval-bleu", *short, updates=0)
    return {**seen, "generate": count_translations(work), "validate": count_validated(work, seen)}


def count_translations(work):
    options = ("--path", work / "counted" / "checkpoint_last.pt", "--cpu", "--batch-size", 8)
    short = ("--beam", 1, "--max-len-b", 3)
    run("generate", work / "data-bin", *options, *short, "--results-path", work / "results")
    lines = (work / "results" / "generate-test.txt").read_text().splitlines()
    return sum(line.startswith("H-") for line in lines)


def count_validated(work, seen):
    before = seen["valid"]
    options = ("--path", work / "counted" / "checkpoint_last.pt", "--cpu", "--batch-size", 8)
    run("validate", work / "data-bin", *options, "--task", "translation")
    return seen["valid"] - before


@probe("length-buckets", "numpy-compat")
def train_with_buckets(work):
    train(work, "buckets", "--num-batch-buckets", 2, "--max-tokens", 64)
    return "trained"


@probe("user-dir")
def name_an_imported_package_by_a_link(work):
    from fairseq import utils

    package = types.ModuleType("tsa_mt")
    package.__path__ = [str(ROOT / "tsa_mt")]
    sys.modules["tsa_mt"] = package
    link = work / "link" / "tsa_mt"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(ROOT / "tsa_mt")
    utils.import_user_module(Namespace(user_dir=str(link)))
    return "accepted"


# --- defects that this installation may not have ------------------------------------------------


def as_on_github(work):
    """Gives the child the loader of fairseq on GitHub, which passes weights_only=False."""
    import fairseq
    from fairseq import checkpoint_utils

    source = Path(checkpoint_utils.__file__).read_text()
    if "weights_only=False" in source:
        return
    call = 'torch.load(f, map_location=torch.device("cpu"))'
    assert call in source
    path = work / "checkpoint_utils.py"
    path.write_text(source.replace(call, call[:-1] + ", weights_only=False)"))
    spec = importlib.util.spec_from_file_location("fairseq.checkpoint_utils", path)
    fairseq.checkpoint_utils = importlib.util.module_from_spec(spec)
    sys.modules["fairseq.checkpoint_utils"] = fairseq.checkpoint_utils
    spec.loader.exec_module(fairseq.checkpoint_utils)


FAST_PATH = ("in_proj", "out_proj", "fc1", "fc2")


def as_in_0_12_2(work):
    """Gives the child an encoder layer that may take the fast path, as in fairseq 0.12.2."""
    from fairseq.modules.transformer_layer import TransformerEncoderLayerBase as Layer

    original = Layer.__init__

    def __init__(self, *args, **kwargs):
        original(self, *args, **kwargs)
        self.can_use_fastpath = True
        for part in FAST_PATH:
            setattr(self, f"{part}_weight", torch.nn.Parameter(torch.zeros(2)))
            setattr(self, f"{part}_bias", torch.nn.Parameter(torch.zeros(2)))

    if "can_use_fastpath" not in original.__code__.co_names:
        Layer.__init__ = __init__


DEFECTS = {"safe-loading": as_on_github, "encoder-fast-path": as_in_0_12_2}


# --- running them -------------------------------------------------------------------------------


def outcome(function, *arguments):
    """What a function returns, or the exception that it raises, as text."""
    try:
        return function(*arguments)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"


def in_child(function, *arguments):
    """The outcome of a function in a forked child, whose output goes to stderr."""

    def child():
        os.dup2(2, 1)
        answer.put(outcome(function, *arguments))

    answer = FORK.SimpleQueue()
    process = FORK.Process(target=child)
    process.start()
    result = answer.get()
    process.join()
    return result


def run_probe(function, defect, skip, work):
    """One probe in its own copy of the folder, after the fixes that are asked for."""
    case = work / f"{function.__name__} without {skip}"
    shutil.copytree(work / "base", case)
    defect(case)
    load_compat().apply(skip=skip)
    return function(case)


def run_probes(fix, fixed, work):
    """A fix's probe without it and with it; ``fixed`` keeps the latter, which others may share."""
    function, defect = PROBES[fix], DEFECTS.get(fix, lambda case: None)
    if function not in fixed:
        fixed[function] = in_child(run_probe, function, defect, (), work)
    return {"without": in_child(run_probe, function, defect, (fix,), work), "with": fixed[function]}


def prepare_with_fixes(work):
    load_compat().apply()
    prepare(work)


def level_after_import(skip):
    """The root logger's level once the fixes, among them fairseq's first import, are done."""
    load_compat().apply(skip=skip)
    return logging.getLevelName(logging.getLogger().level)


def main(work):
    """Runs the probes."""
    found = {
        "root-logger": {
            "without": in_child(level_after_import, ("root-logger",)),
            "with": in_child(level_after_import, ()),
        }
    }
    import fairseq  # noqa: F401
    import fairseq_cli.generate  # noqa: F401
    import fairseq_cli.preprocess  # noqa: F401
    import fairseq_cli.train  # noqa: F401
    import fairseq_cli.validate  # noqa: F401
    import torch._dynamo  # optimizers import it: here once, not in every child

    logging.getLogger().setLevel(logging.WARNING)
    torch.set_num_threads(1)
    np.random.seed(0)
    (work / "base").mkdir()
    print(in_child(prepare_with_fixes, work / "base"), file=sys.stderr)
    fixed = {}
    found.update({fix: run_probes(fix, fixed, work) for fix in PROBES})
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
