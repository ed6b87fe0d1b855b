"""What a method costs in training, relative to the plain network: parameters, operations, memory.

    python benchmarks/cost.py

It is ``tsa-mt plan`` for every objective with its own tree, and for network-based peers, on
`tree_transformer_iwslt_de_en` (6 + 6 layers, 512 wide, 10,000 shared subwords):

* parameters that are trained, and those that are only kept (averages, a frozen teacher apart),
* floating-point operations of all matrix products and attentions, forward and backward,
* what autograd holds between forward and backward,
* the most that is live at one time of an update with Adam.

All four are counts, not timings: they are the same on every machine. The deployed network is the
leader, whatever the method: its cost is the plain one's.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tsa_mt import plugin  # noqa: E402

plugin.register()

from tsa_mt.objectives import OBJECTIVES  # noqa: E402
from tsa_mt.plan.pretence import pretending  # noqa: E402
from tsa_mt.plan.translation import TranslationSubject  # noqa: E402
from tsa_mt.plan.update import UpdateCost, update_cost  # noqa: E402

ARCH = "tree_transformer_iwslt_de_en"
WORDS, SENTENCES, LENGTH = 10_000, 8, 25
RUNS = {
    **{name: {"kd_objective": name} for name in OBJECTIVES},
    "dml, own encoders": {"kd_objective": "dml", "peer_encoders": True},
    "okddip, own encoders": {"kd_objective": "okddip", "peer_encoders": True},
}


def subject(options):
    """The model of a run, and a batch without padding."""
    return TranslationSubject(
        ARCH,
        {"share_all_embeddings": True, **options},
        vocabulary=(WORDS, WORDS),
        lengths=(LENGTH, LENGTH),
        max_tokens=SENTENCES * LENGTH,
    )


def measure(planned) -> UpdateCost:
    """What an update costs on a CPU."""
    with pretending("cpu") as meter:
        return update_cost(planned, meter, "adam")


def line(name: str, tree: str, found: UpdateCost, plain: UpdateCost) -> str:
    """A row of the table."""
    extra = f" (+ {found.kept / plain.parameters:.2f} kept)" if found.kept else ""
    ratios = [
        f"{getattr(found, figure) / getattr(plain, figure):.2f}"
        for figure in ("flops", "activation_bytes", "peak_bytes")
    ]
    parameters = f"{found.parameters / plain.parameters:.2f}{extra}"
    return f"| {' | '.join([f'`{name}`', f'`{tree}`', parameters, *ratios])} |"


def main() -> int:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=RUNS, default=list(RUNS))
    args = parser.parse_args()
    plain = measure(subject(RUNS["independent"]))
    print("| method | tree | parameters | operations | held for backward | peak memory |")
    print("|---|---|---|---|---|---|")
    for name in args.only:
        planned = subject(RUNS[name])
        print(line(name, str(planned.tree), measure(planned), plain), flush=True)
    print(
        f"\nThe plain network: {plain.parameters / 1e6:.1f} M parameters, "
        f"{plain.flops / 1e9:.1f} G operations, {plain.activation_bytes / 2**20:.0f} MiB held for "
        f"backward and {plain.peak_bytes / 2**20:.0f} MiB at most for {SENTENCES} x {LENGTH} "
        f"target tokens."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
