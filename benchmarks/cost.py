"""What a method costs in training, relative to the plain network: parameters, operations, memory.

    python benchmarks/cost.py

For every objective with its own tree (and for network-based peers) it builds
`tree_transformer_iwslt_de_en` (6 + 6 layers, 512 wide, 10,000 shared subwords), runs forward and
backward of one batch through the criterion, and counts

* parameters that are trained, and those that are only kept (averages, a frozen teacher apart),
* floating-point operations of all matrix products and attentions, forward and backward,
* bytes of all distinct tensors that autograd keeps for backward, parameters left out.

All three are counts, not timings: they are the same on every machine. The deployed network is the
leader, whatever the method: its cost is the plain one's.
"""

import argparse
import os
import sys
import weakref
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from fairseq.data import Dictionary  # noqa: E402
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

import tsa_mt  # noqa: E402, F401 - registers the architectures
from tsa_mt.criterion import OnlineKDCriterion  # noqa: E402
from tsa_mt.objectives import OBJECTIVES  # noqa: E402
from tsa_mt.teacher import Teacher  # noqa: E402
from tsa_mt.translation.bridge import build_bridge  # noqa: E402

ARCH = "tree_transformer_iwslt_de_en"
WORDS, SENTENCES, LENGTH = 10_000, 8, 25
PLAIN = ("independent", {"tree": "chain"})
RUNS = {
    **{name: (name, {}) for name in OBJECTIVES},
    "dml, own encoders": ("dml", {"peer_encoders": True}),
    "okddip, own encoders": ("okddip", {"peer_encoders": True}),
}


def make_task():
    """What a model and the criterion ask of a translation task."""
    dictionary = Dictionary()
    for number in range(WORDS - len(dictionary)):
        dictionary.add_symbol(f"w{number}")
    return SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)


def build(task, objective, **options):
    """A model in training mode."""
    args = Namespace(
        arch=ARCH, kd_objective=objective, share_all_embeddings=True, **options
    )
    ARCH_CONFIG_REGISTRY[ARCH](args)
    return ARCH_MODEL_REGISTRY[ARCH].build_model(args, task).train()


def make_sample(task):
    """A batch without padding."""
    torch.manual_seed(1)
    tokens = torch.randint(4, WORDS, (3, SENTENCES, LENGTH))
    lengths = torch.full((SENTENCES,), LENGTH)
    names = ("src_tokens", "prev_output_tokens")
    return {
        "net_input": {"src_lengths": lengths, **dict(zip(names, tokens[:2], strict=True))},
        "target": tokens[2],
        "ntokens": SENTENCES * LENGTH,
    }


def make_criterion(task, model):
    """The criterion, with a frozen copy of the plain network where a teacher is asked for."""
    criterion = OnlineKDCriterion(task, False, 1, label_smoothing=0.1, kd_objective="independent")
    if model.objective.needs_teacher:
        teacher = Teacher(build(task, *PLAIN[:1], **PLAIN[1]), "a plain network")
        criterion.teachers = [teacher]
        if model.objective.needs_bridge:
            model.decoder.branches.bridge = build_bridge(teacher, model.objective.config)
    return criterion.train()


def measure(task, objective, options):
    """Trained parameters, kept numbers, operations of a step and bytes kept for backward."""
    model = build(task, objective, **options)
    criterion = make_criterion(task, model)
    saved = []

    def pack(tensor):
        saved.append(weakref.ref(tensor))  # a chunk's own are gone by the end of forward
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss, _, _ = criterion(model, make_sample(task))
        kept = _bytes([tensor for tensor in (ref() for ref in saved) if tensor is not None], model)
        loss.backward()
    averaged = model.averaged
    return {
        "tree": str(model.tree),
        "parameters": sum(p.numel() for p in model.parameters()),
        "kept": sum(b.numel() for b in averaged.buffers()) if averaged is not None else 0,
        "operations": counter.get_total_flops(),
        "bytes": kept,
    }


def _bytes(tensors, model) -> int:
    """Size of all distinct storages but those of the model's own state."""
    own = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(size for pointer, size in storages.items() if pointer not in own)


def main() -> int:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=RUNS, default=list(RUNS))
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    task = make_task()
    plain = measure(task, PLAIN[0], PLAIN[1])
    print("| method | tree | parameters | operations | kept for backward |")
    print("|---|---|---|---|---|")
    for name in args.only:
        found = measure(task, *RUNS[name])
        extra = f" (+ {found['kept'] / plain['parameters']:.2f} kept)" if found["kept"] else ""
        print(
            f"| `{name}` | `{found['tree']}` "
            f"| {found['parameters'] / plain['parameters']:.2f}{extra} "
            f"| {found['operations'] / plain['operations']:.2f} "
            f"| {found['bytes'] / plain['bytes']:.2f} |"
        )
    print(
        f"\nThe plain network: {plain['parameters'] / 1e6:.1f} M parameters, "
        f"{plain['operations'] / 1e9:.1f} G operations and {plain['bytes'] / 2**20:.0f} MiB for "
        f"{SENTENCES} x {LENGTH} target tokens."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
