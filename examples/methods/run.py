"""Every method on the demo corpus: same leader, same data, same updates, same seed.

    python examples/methods/run.py --data demo-out --out methods-out [--csv results.csv]
    python examples/methods/run.py --data demo-out --out methods-out 'rdrop --kd-rdrop-weight 1'

takes the data that examples/demo/run.py prepared, trains `tree_transformer_tiny` once for each
objective with the published defaults, translates the test set with the leader of each, and prints
a table of BLEU with its distance from the chain (the plain network) and from its control (the same
tree with the task loss alone, which is trained as well). It shows that every objective
trains through `fairseq-train`; a corpus of templates and minutes of training say nothing about
which method is better. The teachers of `kd`, `kd_hinton` and `sokd` are the chain's checkpoint.
An objective may be followed by flags that change it, as in the second line. Rows whose CSV line is
there already are not run again.
"""

import argparse
import csv
import os
import re
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, List, Tuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "examples" / "demo")]

from commands import USER_DIR, CommandError, cores, run_all, script  # noqa: E402

ARCH = "tree_transformer_tiny"
CHAIN = "independent"
COLUMNS = ("objective", "tree", "seed", "updates", "seconds", "bleu", "minus_chain")
COLUMNS += ("minus_control", "signature")


@dataclass
class Study:
    """Folders and settings of one comparison."""

    data: Path
    out: Path
    updates: int
    max_tokens: int
    seed: int

    def checkpoint(self, objective: str) -> Path:
        """The last checkpoint of a method."""
        return self.folder(objective) / "checkpoint_last.pt"

    def folder(self, objective: str) -> Path:
        """Where a method's training is saved."""
        return self.out / file_name(objective)

    def training(self, objective: str) -> List[object]:
        """The fairseq-train command of a method; all differ in the objective alone."""
        name, *flags = shlex.split(objective)
        command = [script("fairseq-train"), self.data / "data-bin", "--user-dir", USER_DIR]
        command += ["--source-lang", "en", "--target-lang", "de", "--arch", ARCH]
        command += ["--share-all-embeddings", "--dropout", 0.1, "--label-smoothing", 0.1]
        command += ["--criterion", "online_kd", "--kd-objective", name, *flags]
        command += ["--optimizer", "adam", "--adam-betas", "(0.9, 0.98)", "--lr", 0.005]
        # Down to zero: a run this short otherwise ends where its last steps happen to leave it.
        command += ["--lr-scheduler", "polynomial_decay", "--total-num-update", self.updates]
        command += ["--warmup-updates", 200]
        command += ["--max-tokens", self.max_tokens, "--max-update", self.updates]
        command += ["--required-batch-size-multiple", 1, "--num-workers", 0, "--seed", self.seed]
        command += ["--save-dir", self.folder(objective), "--no-epoch-checkpoints"]
        command += ["--disable-validation", "--no-save-optimizer-state", "--no-progress-bar"]
        if find(objective).needs_teacher:
            command += ["--kd-teacher", self.checkpoint(CHAIN)]
        return command

    def translation(self, objective: str) -> List[object]:
        """The fairseq-generate command for the test set, decoded with the leader."""
        command = [script("fairseq-generate"), self.data / "data-bin", "--user-dir", USER_DIR]
        command += ["--path", self.checkpoint(objective), "--beam", 4, "--max-tokens", 4000]
        command += ["--remove-bpe", "sentencepiece", "--max-len-a", 1.5, "--max-len-b", 20]
        return [*command, "--source-lang", "en", "--target-lang", "de"]

    def log(self, objective: str, step: str) -> Path:
        """Where a command's output goes."""
        return self.out / "logs" / f"{file_name(objective)}.{step}.log"


def file_name(objective: str) -> str:
    """An objective and its flags as a name of files."""
    return re.sub(r"[^\w.]+", "-", objective)


def find(objective: str) -> type:
    """The class of an objective that flags may follow.

    Raises:
        ValueError: No objective has this name.
    """
    from tsa_mt.objectives import find_objective

    return find_objective(next(iter(shlex.split(objective)), ""))


def tree_of(objective: str) -> str:
    """The tree of an objective that flags may follow: theirs, or else the published one."""
    from tsa_mt.tree import Tree

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--tree", default=find(objective).default_tree)
    return str(Tree.resolve(parser.parse_known_args(shlex.split(objective))[0].tree, 2))


def with_controls(objectives: Iterable[str]) -> List[str]:
    """The chain, then every objective behind the control on its tree."""
    names = [CHAIN]
    for objective in objectives:
        if "(" in tree_of(objective):
            names.append(control_on(tree_of(objective)))
        names.append(objective)
    return list(dict.fromkeys(names))


def control_on(tree: str) -> str:
    """The control of the methods on a tree, as an objective with its flags."""
    return f"{CHAIN} --tree {shlex.quote(tree)}"


def measure(study: Study, objective: str) -> Dict[str, object]:
    """Trains one method, translates with its leader and scores."""
    from tsa_mt.evaluate.score import read_generate_log, score

    start = time.monotonic()
    list(run_all([(study.training(objective), study.log(objective, "train"))], 1, 1))
    seconds = time.monotonic() - start
    log = study.log(objective, "generate")
    list(run_all([(study.translation(objective), log)], 1, 1))
    references = (study.data / "corpus" / "test.de").read_text(encoding="utf-8").splitlines()
    result = score(read_generate_log([log]).hypotheses, [references], ["bleu"])[0]
    return {
        "objective": objective,
        "tree": tree_of(objective),
        "seed": study.seed,
        "updates": study.updates,
        "seconds": round(seconds),
        "bleu": round(result.score, 2),
        "signature": result.signature,
    }


def conditions(row: Dict[str, object]) -> Tuple[str, str]:
    """What rows must share to be compared."""
    return str(row["seed"]), str(row["updates"])


def known_rows(path: Path) -> List[Dict[str, object]]:
    """The rows of an earlier run."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: List[Dict[str, object]]) -> None:
    """Writes the table with every row's distance from the chain and the control of its conditions.

    The distance from the control stays empty where that was not trained, and for the chain's kind.
    """
    known = {(row["objective"], *conditions(row)): float(row["bleu"]) for row in rows}
    for row in rows:
        bleu, own = float(row["bleu"]), conditions(row)
        row["minus_chain"] = round(bleu - known[(CHAIN, *own)], 2)
        control = known.get((control_on(str(row["tree"])), *own))
        taught = control is not None and not str(row["objective"]).startswith(CHAIN)
        row["minus_control"] = round(bleu - control, 2) if taught else ""
    beside = path.with_suffix(".partial")
    with open(beside, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(beside, path)


def _distances(row: Dict[str, object]) -> str:
    """A row's distances in words."""
    words = f"{row['minus_chain']:+.2f} to the chain"
    own = row["minus_control"]
    return words if own == "" else f"{words}, {own:+.2f} to its control"


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("demo-out"), help="the demo's folder")
    parser.add_argument("--out", type=Path, default=Path("methods-out"), help="checkpoints, logs")
    parser.add_argument("--csv", type=Path, help="the table (OUT/results.csv)")
    parser.add_argument("--updates", type=int, default=2000, help="updates of every method (2000)")
    parser.add_argument("--max-tokens", type=int, default=1200, help="target tokens (1200)")
    parser.add_argument("--seed", type=int, default=1, help="seed of every method (1)")
    parser.add_argument("names", nargs="*", help="objectives, each with its flags (all)")
    return parser.parse_args()


def main() -> int:
    """Runs what is missing, the chain first; the exit status is 1 after an error."""
    args = parse_arguments()
    from tsa_mt.objectives import OBJECTIVES

    study = Study(args.data, args.out, args.updates, args.max_tokens, args.seed)
    path = args.csv or args.out / "results.csv"
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        names = with_controls(args.names or OBJECTIVES)  # a typing error ends here
        for objective in names:
            rows = known_rows(path)
            wanted = (objective, *conditions(vars(args)))
            if any((row["objective"], *conditions(row)) == wanted for row in rows):
                continue
            print(f"{objective} ...", flush=True)
            rows.append(measure(study, objective))
            write_rows(path, rows)
            last = rows[-1]
            print(f"  BLEU {last['bleu']:.2f}  ({_distances(last)})  {last['seconds']} s")
    except (CommandError, ValueError, OSError) as error:
        print(f"run.py: error: {error}", file=sys.stderr)
        return 1
    print(f"{path} has the table; cores: {cores()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
