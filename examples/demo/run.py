"""The whole way in ten minutes on two cores: text -> tree -> leader -> a model that ships.

    python examples/demo/run.py [--out demo-out]

makes a corpus, prepares it, trains `tree_transformer_multi30k` with TSA, translates the test set
with the leader, with every other leaf and with all leaves together, exports the leader as a plain
fairseq Transformer, checks that stock fairseq translates the same with it, converts it to
CTranslate2, and prints one summary. Every run starts afresh in its folder.
"""

import argparse
import json
import re
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

from commands import (
    ROOT,
    TSA_MT,
    USER_DIR,
    CommandError,
    clock,
    run,
    run_all,
    run_training,
    script,
    threads,
)
from corpus import SIZES, make_corpus, overlap, write

sys.path.insert(0, str(ROOT))

MARKER = ".tsa-mt-demo"  # what tells a demo's folder from any other
ARCH = "tree_transformer_multi30k"
DECODER_LAYERS = 4
LANGUAGES = ("en", "de")
SPLITS = ("train", "valid", "test")


@dataclass
class Demo:
    """Folder, settings and results of one run.

    Attributes:
        out: The folder that everything is written to.
        updates: Number of training updates.
        vocabulary: Number of subword pieces.
        max_tokens: Target tokens in a batch.
        sizes: Sentence pairs of each split.
        seconds: Time that each step took, in the order of the steps.
        bleu: BLEU of each model on the test set.
        signature: sacreBLEU's description of that BLEU.
        translations: Source, translation and reference of what CTranslate2 translated.
        equal: How many of them are what the exported leader says in fairseq.
    """

    out: Path
    updates: int
    vocabulary: int
    max_tokens: int
    sizes: Dict[str, int]
    seconds: Dict[str, float] = field(default_factory=dict)
    bleu: Dict[str, float] = field(default_factory=dict)
    signature: str = ""
    translations: List[Tuple[str, str, str]] = field(default_factory=list)
    equal: int = 0

    @property
    def data(self) -> Path:
        """The binarised data."""
        return self.out / "data-bin"

    @property
    def checkpoint(self) -> Path:
        """The best checkpoint of the training, a whole tree."""
        return self.out / "checkpoints" / "checkpoint_best.pt"

    @property
    def export(self) -> Path:
        """The exported leader."""
        return self.out / "export"

    def log(self, name: str) -> Path:
        """Where a command's output goes."""
        return self.out / "logs" / f"{name}.log"

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Announce a step and time it."""
        print(f"[{len(self.seconds) + 1}/{len(STEPS)}] {name}", flush=True)
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start


def prepare_folder(out: Path) -> None:
    """Empty the folder of an earlier demo, or make a new one.

    Raises:
        ValueError: The folder holds something else.
    """
    if out.exists() and not (out / MARKER).is_file():
        if not out.is_dir() or any(out.iterdir()):
            raise ValueError(
                f"{out} exists and was not made by this demo; move it away or choose another --out"
            )
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / MARKER).write_text("Made by examples/demo/run.py, which deletes this folder again.\n")


def make_text(demo: Demo) -> None:
    """Draw the corpus and print how much its splits share."""
    splits = make_corpus(demo.sizes)
    write(splits, demo.out / "corpus")
    print("  " + ", ".join(f"{name} {len(split.pairs):,}" for name, split in splits.items()))
    print("  " + overlap(splits).replace("\n", "\n  "), flush=True)


def binarise(demo: Demo) -> None:
    """Learn subword pieces, encode the corpus with them, and run fairseq-preprocess."""
    import sentencepiece

    pieces = demo.out / "pieces"
    pieces.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        input=[str(demo.out / "corpus" / f"train.{language}") for language in LANGUAGES],
        model_prefix=str(pieces / "spm"),
        vocab_size=demo.vocabulary,
        character_coverage=1.0,
        split_digits=True,  # 1,234.50 becomes 1.234,50 digit by digit
        num_threads=1,  # the same pieces every time
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(pieces / "spm.model"))
    for name in [f"{split}.{language}" for split in SPLITS for language in LANGUAGES]:
        lines = read_lines(demo.out / "corpus" / name)
        encoded = (" ".join(model.encode(line, out_type=str)) + "\n" for line in lines)
        (pieces / name).write_text("".join(encoded), encoding="utf-8")
    source, target = LANGUAGES
    command = [script("fairseq-preprocess"), "--source-lang", source, "--target-lang", target]
    command += ["--joined-dictionary", "--destdir", demo.data]
    prefixes = ("--trainpref", "--validpref", "--testpref")
    for option, split in zip(prefixes, SPLITS, strict=True):
        command += [option, pieces / split]
    run(command, demo.log("preprocess"))
    shutil.copyfile(pieces / "spm.model", demo.data / "sentencepiece.bpe.model")


def train(demo: Demo) -> None:
    """Train the tree with the ordinary fairseq-train."""
    source, target = LANGUAGES
    command = [script("fairseq-train"), demo.data, "--user-dir", USER_DIR]
    command += ["--source-lang", source, "--target-lang", target]
    command += ["--arch", ARCH, "--share-all-embeddings", "--dropout", 0.1]
    command += ["--criterion", "online_kd", "--kd-objective", "tsa", "--label-smoothing", 0.1]
    command += ["--optimizer", "adam", "--adam-betas", "(0.9, 0.98)"]
    command += ["--lr", 0.0025, "--lr-scheduler", "inverse_sqrt"]
    command += ["--warmup-updates", 200, "--warmup-init-lr", 1e-7]
    command += ["--max-tokens", demo.max_tokens, "--max-update", demo.updates]
    command += ["--distributed-world-size", 1]
    command += ["--required-batch-size-multiple", 1, "--num-workers", 0, "--seed", 1]
    command += ["--save-dir", demo.checkpoint.parent, "--no-epoch-checkpoints"]
    command += ["--no-last-checkpoints", "--no-save-optimizer-state"]
    command += ["--log-format", "json", "--log-interval", 10]
    print(f"  threads: {threads()}; the first line takes some seconds", flush=True)
    run_training(command, demo.log("train"), threads(), demo.updates)


def generate(demo: Demo, model: Path, *options: object) -> list:
    """The fairseq-generate command for the test set."""
    source, target = LANGUAGES
    command = [script("fairseq-generate"), demo.data, "--path", model, *options]
    command += ["--source-lang", source, "--target-lang", target, "--beam", 4]
    command += ["--remove-bpe", "sentencepiece", "--max-tokens", 4000]
    command += ["--max-len-a", 1.5, "--max-len-b", 20]
    return [*command, "--required-batch-size-multiple", 1]


def translate(demo: Demo) -> None:
    """Translate the test set with every leaf and with all of them together, and score."""
    leaves = len(tree().leaves)
    branches = {name_of(branch): branch for branch in (*range(leaves), -1)}
    jobs = []
    for name, branch in branches.items():
        overrides = f"{{'decode_branch': {branch}}}"
        options = ("--user-dir", USER_DIR, "--model-overrides", overrides)
        jobs.append((generate(demo, demo.checkpoint, *options), demo.log(name)))
    print(f"  {len(jobs)} times {demo.sizes['test']:,} sentences", flush=True)
    for log in run_all(jobs, threads=1, at_once=threads()):
        score_log(demo, log.stem)


def name_of(branch: int) -> str:
    """What a branch is called in logs and in the summary."""
    return {0: "leader", -1: "ensemble"}.get(branch, f"leaf{branch}")


def score_log(demo: Demo, name: str) -> None:
    """Score one translation of the test set and show the score."""
    from tsa_mt.evaluate.score import score

    references = read_lines(demo.out / "corpus" / "test.de")
    result = score(hypotheses(demo, name), [references], ["bleu"])[0]
    demo.bleu[name], demo.signature = result.score, result.signature
    print(f"  {name:9} BLEU {result.score:5.2f}", flush=True)


def hypotheses(demo: Demo, name: str) -> List[str]:
    """The translations of the test set that a model made."""
    from tsa_mt.evaluate.score import read_generate_log

    return read_generate_log([demo.log(name)]).hypotheses


def export(demo: Demo) -> None:
    """Export the leader and translate with it in stock fairseq, without the plugin.

    Raises:
        CommandError: The exported model does not translate as the leader does.
    """
    command = [*TSA_MT, "export", demo.checkpoint, demo.export, "--to", "fairseq"]
    run([*command, "--data", demo.data], demo.log("export"), threads())
    print("  translating with it in stock fairseq", flush=True)
    run(generate(demo, demo.export / "model.pt"), demo.log("exported"), threads())
    score_log(demo, "exported")
    if output(demo.log("exported")) != output(demo.log("leader")):
        raise CommandError(
            f"the exported model does not translate as the leader does: compare "
            f"{demo.log('exported')} with {demo.log('leader')}"
        )
    print("  every line and every score equals the leader's")


def output(log: Path) -> List[str]:
    """What fairseq-generate printed about the sentences: sources, hypotheses, scores."""
    return [line for line in read_lines(log) if re.match(r"[STHDP]-\d+\t", line)]


def deploy(demo: Demo) -> None:
    """Convert the exported model to CTranslate2 and translate three test sentences with both."""
    from tsa_mt import plugin

    plugin.register()
    from tsa_mt.export.ctranslate2 import convert
    from tsa_mt.translate import load_translator

    folder = convert(demo.export, demo.out / "ctranslate2")
    sources, references = (read_lines(demo.out / "corpus" / f"test.{lang}") for lang in LANGUAGES)
    chosen = sorted(range(len(sources)), key=lambda n: (abs(len(sources[n]) - 80), n))[:3]
    texts = [sources[n] for n in chosen]
    # the same search in both libraries, whose own limits to the length of a translation differ
    found, expected = (
        load_translator(model, beam=4, threads=threads()).translate(texts)
        for model in (folder, demo.export)
    )
    for n, ours, theirs in zip(chosen, found, expected, strict=True):
        demo.translations.append((sources[n], ours[0].text, references[n]))
        demo.equal += ours[0].tokens == theirs[0].tokens


STEPS = {
    "make the corpus": make_text,
    "prepare it": binarise,
    "train the tree": train,
    "translate the test set": translate,
    "export the leader": export,
    "convert to CTranslate2": deploy,
}


def read_lines(path: Path) -> List[str]:
    """The lines of a text file."""
    return path.read_text(encoding="utf-8").rstrip("\n").split("\n")


def tree():
    """The tree that is trained."""
    from tsa_mt.tree import Tree

    return Tree.resolve("tsa", DECODER_LAYERS)


def parameters(weights: Path) -> Tuple[int, int]:
    """Number of parameters, of all and of the leader, each shared one counted once."""
    from tsa_mt.export.checkpoint import load_checkpoint

    model = load_checkpoint(weights)["model"]
    sizes = {
        tensor.data_ptr(): (tensor.numel(), ".branches." in name)
        for name, tensor in model.items()
        if not name.endswith((".version", "_float_tensor"))
    }
    total = sum(size for size, _ in sizes.values())
    return total, sum(size for size, in_branch in sizes.values() if not in_branch)


def megabytes(path: Path) -> str:
    """Size of a file or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB"


def summary(demo: Demo) -> str:
    """Everything that the run found out, as text."""
    leaves = [demo.bleu[name_of(branch)] for branch in range(len(tree().leaves))]
    trained, leader = parameters(demo.checkpoint)
    lines = [
        tree().draw(),
        "",
        f"BLEU on {demo.sizes['test']:,} test sentences ({demo.signature})",
        f"  leader                   {leaves[0]:6.2f}",
        f"  mean of the {len(leaves)} leaves     {sum(leaves) / len(leaves):6.2f}",
        f"  ensemble of the leaves   {demo.bleu['ensemble']:6.2f}",
        f"  exported leader          {demo.bleu['exported']:6.2f}   in stock fairseq, no plugin",
        "",
        "sizes",
        f"  tree, for training       {trained:10,} parameters  {megabytes(demo.checkpoint)}",
        f"  leader, exported         {leader:10,} parameters  "
        f"{megabytes(demo.export / 'model.pt')}",
        f"  the same in CTranslate2  {'':10}             "
        f"{megabytes(demo.out / 'ctranslate2' / 'model.bin')}",
        "",
        f"times (threads: {threads()})",
        *(f"  {name:24} {clock(seconds):>6}" for name, seconds in demo.seconds.items()),
        f"  {'all':24} {clock(sum(demo.seconds.values())):>6}",
        "",
        f"translated by the exported leader through CTranslate2 ({demo.equal} of "
        f"{len(demo.translations)} as in fairseq; == is the reference)",
    ]
    for source, translation, reference in demo.translations:
        lines += [f"  {source}", f"  -> {translation}", f"  == {reference}"]
    return "\n".join(lines)


def write_summary(demo: Demo) -> None:
    """Print the summary and keep it beside the results, as text and as JSON."""
    text = summary(demo)
    (demo.out / "summary.txt").write_text(text + "\n", encoding="utf-8")
    figures = {"bleu": demo.bleu, "signature": demo.signature, "seconds": demo.seconds}
    (demo.out / "summary.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"\n{text}\n\n{demo.out}/summary.txt has this again; {demo.export} is the model")


def parse_arguments() -> Demo:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="folder (demo-out)")
    parser.add_argument("--updates", type=int, default=700, metavar="N", help="updates (700)")
    parser.add_argument(
        "--vocabulary", type=int, default=2000, metavar="N", help="subword pieces (2000)"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=1200, metavar="N", help="target tokens a batch (1200)"
    )
    for name, size in SIZES.items():
        text = f"sentence pairs in {name} ({size})"
        parser.add_argument(f"--{name}", type=int, default=size, metavar="N", help=text)
    args = parser.parse_args()
    sizes = {name: getattr(args, name) for name in SIZES}
    return Demo(args.out, args.updates, args.vocabulary, args.max_tokens, sizes)


def main() -> int:
    """Run all steps; the exit status is 1 after an error, which is one sentence."""
    demo = parse_arguments()
    try:
        prepare_folder(demo.out)
        for name, action in STEPS.items():
            with demo.step(name):
                action(demo)
        write_summary(demo)
    except (CommandError, ValueError, OSError, RuntimeError) as error:
        print(f"run.py: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("run.py: stopped; the next run starts afresh", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
