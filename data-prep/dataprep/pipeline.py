"""All steps in order, for one recipe and one folder.

Every step knows from its key whether it has anything to do; the work inside of a step is cut into
parts for the workers of the pool. The order of the steps is the order of the methods here.
"""

import dataclasses
import fcntl
import re
import shutil
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from dataprep import binarise, manifest, subword
from dataprep.clean import clean_part, normalise, normalisers
from dataprep.duplicates import mark
from dataprep.errors import DataError
from dataprep.extract import extract_piece
from dataprep.files import key_of, read_json, read_lines, whole, write_json
from dataprep.pool import Pool, peak_memory, progress
from dataprep.recipe import HoldOut, Recipe
from dataprep.sources import Located, Locator
from dataprep.step import Step
from dataprep.text import HeldOut, fitted, read_held_out, write_text
from dataprep.tokenise import tokenise_part
from tsa_mt.characters import scoring_tokeniser

Parts = List[Tuple[str, int]]

FEWEST = 500
"""Lines of a validation or test set below which there is a warning."""


@dataclass(frozen=True)
class Options:
    """What a person asks for beside the recipe.

    Attributes:
        out: Folder of the result.
        local: Folder with files that the person has, or None to download.
        splits: Splits to prepare, or None for all.
        preparation: Name of the preparation, or None for the recipe's default.
        portion: Number of the slice of the training text to prepare and number of slices, or None.
        vocab_from: Prepared folder whose subword model and dictionaries are used.
        shards: Number of data-bin folders the training data is dealt out to.
        workers: Number of worker processes.
        any_checksum: Whether files with another checksum are accepted.
        timeout: Seconds before a silent mirror is given up.
        say: Where messages go.
    """

    out: Path
    local: Optional[Path] = None
    splits: Optional[List[str]] = None
    preparation: Optional[str] = None
    portion: Optional[Tuple[int, int]] = None
    vocab_from: Optional[Path] = None
    shards: int = 1
    workers: int = 1
    any_checksum: bool = False
    timeout: float = 30.0
    say: Callable[[str], None] = print


@dataclass
class Track:
    """A split on its way through the steps.

    Attributes:
        step: The last step.
        parts: Names of its parts and their numbers of lines.
        masks: Folder of the duplicates' masks, until they are applied.
        counts: One entry per step for the manifest.
    """

    step: Step
    parts: Parts
    masks: Optional[Path] = None
    counts: List[Dict[str, Any]] = field(default_factory=list)


def prepare(recipe: Recipe, options: Options) -> Dict[str, Any]:
    """Prepare a corpus and return its manifest.

    Raises:
        DataError: Something about the inputs, the recipe or the options is wrong.
        FileExistsError: The folder holds something else.
    """
    with (
        _locked(recipe, options),
        Pool(options.workers) as pool,
        Pool(options.workers, binarise.PRELOAD) as fairseq_pool,
    ):
        return Preparer(recipe, options, pool, fairseq_pool).run()


@contextmanager
def _locked(recipe: Recipe, options: Options) -> Iterator[None]:
    """Make sure that the folder is this recipe's and that nobody else works in it."""
    out = options.out
    mark_file = out / "work" / "recipe.json"
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file, not a folder; choose another --out")
    if out.exists() and any(out.iterdir()) and not mark_file.exists():
        raise FileExistsError(f"{out} is not empty and not a prepared corpus; choose another --out")
    (out / "work").mkdir(parents=True, exist_ok=True)
    owner = (read_json(mark_file) or {}).get("recipe", recipe.name)
    if owner != recipe.name:
        raise FileExistsError(
            f"{out} holds the recipe {owner}; choose another --out (or, for a changed copy of that "
            f"recipe, say name: {owner} in it)"
        )
    write_json(mark_file, {"recipe": recipe.name})
    with open(out / "work" / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileExistsError(f"another process is preparing {out}; wait for it") from None
        for leftover in out.rglob(".*.part*"):
            leftover.unlink()
        yield


class Preparer:
    """The steps of one run.

    Args:
        recipe: The recipe.
        options: What was asked for.
        pool: Worker processes.
        fairseq_pool: Worker processes that have imported fairseq, which takes seconds.
    """

    def __init__(self, recipe: Recipe, options: Options, pool: Pool, fairseq_pool: Pool) -> None:
        """See the class."""
        self.recipe, self.options = recipe, options
        self.pool, self.fairseq_pool = pool, fairseq_pool
        self.out, self.work = options.out, options.out / "work"
        self.languages = recipe.languages
        name = options.preparation or recipe.default
        if name not in recipe.preparations:
            known = ", ".join(recipe.preparations)
            raise DataError(f"{recipe.name} has no preparation {name!r}; choose one of {known}")
        self.name, self.settings = name, recipe.preparations[name]
        self.holders = {n: s.hold_out for n, s in recipe.splits.items() if s.hold_out}
        self.splits = self._chosen_splits()
        self.worked: Dict[str, float] = {}
        self.notes: List[str] = []

    def _chosen_splits(self) -> List[str]:
        """The splits with files of their own; held-out ones come with train."""
        known = list(self.recipe.splits)
        wanted = self.options.splits or known
        for name in wanted:
            if name not in known:
                raise DataError(
                    f"{self.recipe.name} has no split {name!r}; choose from {', '.join(known)}"
                )
            if name in self.holders and "train" not in wanted:
                raise DataError(
                    f"{name} is held out of the training text of {self.recipe.name}; "
                    f"ask for both: --splits train,{name}"
                )
        return [name for name in known if name in wanted and name not in self.holders]

    def run(self) -> Dict[str, Any]:
        """Take all steps and return the manifest."""
        started = time.monotonic()
        locator = Locator(
            self.recipe,
            self.work,
            self.options.local,
            self.options.any_checksum,
            self.options.timeout,
        )
        located = locator.locate(self.splits)
        self.worked["fetch and unpack"] = time.monotonic() - started
        self.files = {name: dict(locator.records[name]) for name in sorted(locator.records)}
        tracks = {name: self._prepared(name, located[name]) for name in self.splits}
        texts = self._text(tracks)
        complete = "train" in self.splits or self.options.vocab_from is not None
        encoded, model, dictionary, data = {}, None, None, None
        if complete:
            model = self._model(texts)
            encoded = self._encode(texts, model)
            dictionary = self._dictionary(encoded, model)
            data = self._binarise(encoded, dictionary)
        result = self._manifest(texts, model, encoded, dictionary, data)
        if len(self.worked) > 1:
            self.worked["total"] = time.monotonic() - started
            write_json(self.work / "timings.json", self.worked)
            self._say_costs()
        else:
            self.options.say(f"nothing to do: {self.out} is up to date")
        return result

    def _say_costs(self) -> None:
        workers = max(self.pool.peak, self.fairseq_pool.peak)
        self.options.say(
            f"done in {self.worked['total']:.1f} s; peak memory {peak_memory()} MiB in the main "
            f"process, {workers} MiB in the largest of {self.options.workers} workers"
        )

    # -- one split after another: extract, clean, duplicates, tokenise

    def _prepared(self, split: str, located: List[Located]) -> Track:
        track = self._extract(split, located)
        self._clean(split, track)
        if self.settings.clean.duplicates and split == "train":
            self._duplicates(split, track)
        if self.settings.tokenise is not None:
            self._tokenise(split, track)
        return track

    @contextmanager
    def _working(self, step: Step, message: Callable[[], str]) -> Iterator[None]:
        """Time a step that has something to do, and tell what came of it."""
        started = time.monotonic()
        for name in ("manifest.json", "report.md"):
            (self.out / name).unlink(missing_ok=True)
        step.start()
        yield
        self.worked[step.name] = time.monotonic() - started
        self.options.say(f"{step.name}: {message()}")

    @staticmethod
    def _made_by(*packages: str) -> Dict[str, str]:
        """Versions that are part of a step's key: another version may give another result."""
        return manifest.versions(*packages)

    def _extract(self, split: str, located: List[Located]) -> Track:
        settings = [
            [
                x.form,
                x.piece.drop,
                x.piece.replace,
                x.piece.columns,
                x.piece.tags,
                x.piece.carriage_returns,
                self.settings.clean.unescape and x.form == "sgm",
                {code: [s.sha256, s.name.partition("//")[2]] for code, s in x.files.items()},
            ]
            for x in located
        ]
        portion = self.options.portion if split == "train" else None
        step = Step.after(
            f"extract/{split}", self.work, [settings, self.recipe.part_lines, portion]
        )
        record = step.record()
        if record is None:
            with self._working(step, lambda: f"{record['out']:,} pairs"):
                record = step.finish(self._extracted(step, located, portion))
        for x, (_, lines) in zip(located, record["pieces"], strict=True):
            if x.piece.lines not in (None, lines) and not portion:
                self._note(f"{x.piece.name} has {lines:,} pairs, published are {x.piece.lines:,}")
        for note in record["notes"]:
            self._note(note)
        parts = [(name, lines) for name, lines in record["parts"]]
        entry = {"step": "extract", "in": record["out"], "out": record["out"]}
        return Track(step, parts, counts=[{**entry, "pieces": record["pieces"]}])

    def _extracted(
        self, step: Step, located: List[Located], portion: Optional[Tuple[int, int]]
    ) -> Dict[str, Any]:
        tasks = []
        for number, x in enumerate(located):
            reading = {
                "form": x.form,
                "files": {c: (s.path, s.name) for c, s in x.files.items()},
                "languages": self.languages,
                "columns": x.piece.columns,
                "variants": x.piece.tags,
                "drop": x.piece.drop,
                "carriage_returns": x.piece.carriage_returns,
                "references": self.settings.clean.unescape,
            }
            tasks.append(
                (
                    step.folder,
                    f"{number:02d}",
                    self.recipe.part_lines,
                    x.piece.replace,
                    portion,
                    reading,
                )
            )
        sizes = [sum(s.path.stat().st_size for s in x.files.values()) for x in located]
        found = self.pool.run(step.name, _extract_task, tasks, sizes, "B")
        pieces = [[x.piece.name, record["pairs"]] for x, record in zip(located, found, strict=True)]
        parts = [part for record in found for part in record["parts"]]
        return {
            "pieces": pieces,
            "parts": parts,
            "out": sum(lines for _, lines in pieces),
            "notes": [note for record in found for note in record["notes"]],
        }

    def _mapped(
        self, track: Track, step: Step, function: Callable, tasks: List[Tuple]
    ) -> Dict[str, Any]:
        """Run a step that turns each part into one part."""
        record = step.record()
        if record is None:
            with self._working(step, lambda: _summary(record["total"])):
                sizes = [lines for _, lines in track.parts]
                found = self.pool.run(step.name, function, tasks, sizes)
                record = step.finish(
                    {"total": manifest.add_up(found), "parts": [r["out"] for r in found]}
                )
        track.step = step
        track.parts = [(name, n) for (name, _), n in zip(track.parts, record["parts"], strict=True)]
        track.counts.append({"step": step.name.split("/")[0], **record["total"]})
        return record

    def _clean(self, split: str, track: Track) -> None:
        settings, training = self.settings.clean, split == "train"
        cleaning = dataclasses.asdict(settings)
        del cleaning["held_out"]
        raw_targets = not training and self.settings.tokenise is None
        step = Step.after(
            f"clean/{split}",
            self.work,
            [cleaning, self.languages, raw_targets, self._made_by("sacremoses")],
            [track.step],
        )
        tasks = [
            (track.step.folder, step.folder, name, settings, self.languages, training, raw_targets)
            for name, _ in track.parts
        ]
        self._mapped(track, step, clean_part, tasks)

    def _duplicates(self, split: str, track: Track) -> None:
        step = Step.after(f"duplicates/{split}", self.work, [], [track.step])
        record = step.record()
        total = sum(lines for _, lines in track.parts)
        if record is None:
            with self._working(step, lambda: f"{total:,} in, {total - record['lost']:,} out"):
                names = [name for name, _ in track.parts]
                lost = mark(track.step.folder, step.folder, names)
                record = step.finish({"lost": sum(lost), "parts": lost})
        entry = {"step": "duplicates", "in": total, "out": total - record["lost"]}
        track.counts.append({**entry, "dropped": {"duplicate": record["lost"]}})
        track.parts = [
            (name, lines - lost)
            for (name, lines), lost in zip(track.parts, record["parts"], strict=True)
        ]
        track.masks = step.folder
        # the next step reads the cleaned parts through the masks
        track.step = Step(step.name, track.step.folder, step.key)

    def _tokenise(self, split: str, track: Track) -> None:
        settings, training = self.settings.tokenise, split == "train"
        step = Step.after(
            f"tokenise/{split}",
            self.work,
            [dataclasses.asdict(settings), self.languages, self._made_by("sacremoses")],
            [track.step],
        )
        tasks = [
            (track.step.folder, track.masks, step.folder, name, settings, self.languages, training)
            for name, _ in track.parts
        ]
        self._mapped(track, step, tokenise_part, tasks)
        track.masks = None

    # -- text/

    def _text(self, tracks: Dict[str, Track]) -> Dict[str, Any]:
        """Write `text/`; returns for each split its step, lines, ranges and counts.

        The training text comes last, for it is compared with the others.
        """
        texts: Dict[str, Any] = {}
        for split, track in sorted(tracks.items(), key=lambda item: item[0] == "train"):
            total = sum(lines for _, lines in track.parts)
            holders = {n: fitted(h, total) for n, h in self.holders.items() if split == "train"}
            held = {name: dataclasses.asdict(hold) for name, hold in holders.items()}
            others = texts if split == "train" else {}
            step = Step.after(
                f"text/{split}",
                self.work,
                [held, self.languages, self.recipe.part_lines, self.settings.clean.held_out],
                [track.step, *(entry["step"] for entry in others.values())],
            )
            record = step.record(self.out)
            if record is None:
                record = self._written(step, split, track, holders, others)
            self._note_held_out(record)
            for name in (split, *holders):
                entry = self._text_entry(name, split, step, track, record["splits"])
                entry["counts"] += self._held_out_counts(name, record)
                texts[name] = entry
        for name, entry in texts.items():
            if name != "train" and entry["lines"] < FEWEST:
                self._note(
                    f"{name} has only {entry['lines']:,} lines; scores of fewer than {FEWEST} "
                    "sentences tell systems apart only where they differ much"
                )
        self._note_scripts(texts)
        return {name: texts[name] for name in self.recipe.splits if name in texts}

    def _note_scripts(self, texts: Dict[str, Any]) -> None:
        """Say for each language which tokenisers its script needs."""
        entry = next(iter(texts.values()))
        first = entry["ranges"][0][1:]
        for side, path in enumerate(entry["paths"]):
            needed = scoring_tokeniser(read_lines(path, *first[side]))
            if needed and self.settings.tokenise is not None:
                self._note(
                    f"Moses' tokeniser, which this preparation uses, does not find the words of "
                    f"{self.languages[side]}; --preparation modern leaves raw text"
                )
            if needed and side == 1:
                self._note(
                    f"score translations into {self.languages[side]} with tsa-mt score --tokenize "
                    f"{needed}; 13a does not suit its script"
                )

    def _written(
        self,
        step: Step,
        split: str,
        track: Track,
        holders: Dict[str, HoldOut],
        others: Dict[str, Any],
    ) -> Dict[str, Any]:
        folder = self.out / "text"
        folder.mkdir(exist_ok=True)
        total = sum(lines for _, lines in track.parts)
        known = HeldOut()
        with (
            self._working(step, lambda: _lines_of(record)),
            progress(step.name, total, " lines") as bar,
        ):
            for name, entry in others.items():
                read_held_out(known, name, entry["paths"], self._spelling())
            written = write_text(
                track.step.folder,
                track.masks,
                track.parts,
                split,
                holders,
                folder,
                self.languages,
                self.recipe.part_lines,
                bar,
                known,
                not self.settings.clean.held_out,
            )
            names = [f"text/{name}.{code}" for name in written["splits"] for code in self.languages]
            record = step.finish({**written, "outputs": self._sizes(names)})
        return record

    def _spelling(self) -> List[Callable[[List[str]], List[str]]]:
        """For each side, how training text spells the lines of a finished set."""
        if self.settings.tokenise is not None:
            return [list, list]
        chains = [normalisers(self.settings.clean, code, True) for code in self.languages]
        return [partial(normalise, chain=chain) for chain in chains]

    @staticmethod
    def _held_out_counts(split: str, record: Dict[str, Any]) -> List[Dict[str, Any]]:
        """The line of the report about training pairs with a sentence of another set."""
        found = record["found"]
        if split != "train" or not found:
            return []
        left_out = {} if record["kept"] else found
        lines = record["splits"][split]["lines"]
        before = lines + sum(left_out.values())
        return [{"step": "held out elsewhere", "in": before, "out": lines, "dropped": left_out}]

    def _note_held_out(self, record: Dict[str, Any]) -> None:
        found = record["found"]
        if not found:
            return
        sides = ", ".join(f"{which} {n:,}" for which, n in sorted(found.items()))
        fate = "are left out (clean.held_out: false keeps them)"
        if record["kept"]:
            fate = "stay, as the recipe says (clean.held_out)"
            if self.settings.clean.held_out:
                fate = "stay, for nothing else would: scores on that set will mean nothing"
        self._note(f"training pairs with a sentence of a validation or test set ({sides}) {fate}")

    def _note(self, sentence: str) -> None:
        """Say something that a person should know, and keep it for the report."""
        self.notes.append(sentence)
        self.options.say(f"note: {sentence}")

    def _sizes(self, names: List[str]) -> Dict[str, int]:
        return {name: (self.out / name).stat().st_size for name in names}

    def _text_entry(
        self, name: str, split: str, step: Step, track: Track, splits: Dict[str, Any]
    ) -> Dict[str, Any]:
        total = sum(lines for _, lines in track.parts)
        held = sum(splits[other]["lines"] for other in splits if other != split)
        record = splits[name]
        counts = list(track.counts) if name == split else []
        if len(splits) > 1:
            out = total - held if name == split else record["lines"]
            counts = [*counts, {"step": "hold out", "in": total, "out": out}]
        return {
            # later steps depend on the text, not on what it was made from
            "step": Step(step.name, step.folder, key_of(name, self.languages, record["sha256"])),
            "counts": counts,
            "training": split == "train",
            "lines": record["lines"],
            "ranges": record["ranges"],
            "paths": [self.out / "text" / f"{name}.{code}" for code in self.languages],
        }

    # -- subwords

    def _model(self, texts: Dict[str, Any]) -> Tuple[Step, Path, Dict[str, Any]]:
        """Learn the subword model, or take that of another prepared folder."""
        name = subword.model_name(self.settings.subword)
        model = self.out / "subword" / name
        settings = dataclasses.asdict(self.settings.subword)
        del settings["filters"], settings["joined_dictionary"]
        settings["made_by"] = self._made_by("sentencepiece", "subword-nmt")
        if self.options.vocab_from is not None:
            foreign = self._foreign(f"subword/{name}")
            step = Step.after("subword", self.work, [settings, manifest.digest(foreign)])
            learn = lambda: {**_copied(foreign, model), **self._foreign_rule()}  # noqa: E731
        else:
            train = texts["train"]
            step = Step.after("subword", self.work, settings, [train["step"]])
            learn = lambda: self._learned(train, model)  # noqa: E731
        record = step.record(self.out)
        if record is None:
            with self._working(step, lambda: _facts(record["facts"])):
                self.fairseq_pool.warm_up()
                shutil.rmtree(model.parent, ignore_errors=True)
                model.parent.mkdir()
                record = step.finish(
                    {"facts": learn(), "outputs": self._sizes([f"subword/{name}"])}
                )
        return step, model, record["facts"]

    def _foreign(self, name: str) -> Path:
        """A file of the folder given as --vocab-from."""
        folder = self.options.vocab_from
        other = read_json(folder / "manifest.json")
        if other is None or not other["complete"]:
            raise DataError(f"--vocab-from {folder} holds no completely prepared corpus")
        if {other["source"], other["target"]} != set(self.languages):
            raise DataError(
                f"--vocab-from {folder} is for {other['source']} and {other['target']}, this "
                f"recipe for {self.recipe.source} and {self.recipe.target}"
            )
        if not (folder / name).is_file():
            raise DataError(
                f"--vocab-from {folder} has no {name}; it was prepared another way "
                f"({other['preparation']}), choose the same --preparation"
            )
        return folder / name

    def _foreign_rule(self) -> Dict[str, str]:
        """How the model of --vocab-from normalises, as its manifest says."""
        other = read_json(self.options.vocab_from / "manifest.json") or {}
        rule = other.get("subword", {}).get("normalisation")
        return {"normalisation": rule} if rule else {}

    def _learned(self, train: Dict[str, Any], model: Path) -> Dict[str, Any]:
        settings = self.settings.subword
        if settings.sentencepiece:
            return subword.learn_sentencepiece(
                settings.sentencepiece, train["paths"], 2 * train["lines"], model
            )
        tasks, sizes = [], []
        for side, path in enumerate(train["paths"]):
            tasks += [(path, *span[1 + side]) for span in train["ranges"]]
            sizes += [span[0] for span in train["ranges"]]
        words: Counter = Counter()
        for counted in self.pool.run("count words", subword.count_words, tasks, sizes):
            words.update(counted)
        return subword.learn_bpe(settings.bpe, words, model)

    def _encode(self, texts: Dict[str, Any], model: Tuple) -> Dict[str, Track]:
        """Turn the text of every split into numbers."""
        step_before, path, _ = model
        filters = dataclasses.asdict(self.settings.subword.filters)
        tracks = {}
        for split, text in texts.items():
            training = text["training"]
            step = Step.after(
                f"encode/{split}",
                self.work,
                [filters if training else {}, split],
                [text["step"], step_before],
            )
            parts = [(f"{i:05d}", span[0]) for i, span in enumerate(text["ranges"])]
            track = Track(text["step"], parts, counts=text["counts"])
            tasks = [
                (
                    text["paths"],
                    span[1:],
                    path,
                    step.folder,
                    name,
                    self.settings.subword,
                    self.languages,
                    training,
                )
                for (name, _), span in zip(parts, text["ranges"], strict=True)
            ]
            self._mapped(track, step, subword.encode_part, tasks)
            tracks[split] = track
        return tracks

    # -- data-bin/

    @property
    def _folders(self) -> List[str]:
        """Names of the data-bin folders."""
        if self.options.shards == 1:
            return ["data-bin"]
        return [f"data-bin{shard}" for shard in range(self.options.shards)]

    def _dictionary(self, encoded: Dict[str, Track], model: Tuple) -> Tuple[Step, Dict, Path]:
        """Write `dict.{language}.txt` into every data-bin folder."""
        names = [f"dict.{code}.txt" for code in self.languages]
        foreign = self._foreign_dictionaries(names)
        upstream = [model[0]] if foreign else [encoded["train"].step]
        settings = [
            self.settings.subword.joined_dictionary,
            self._folders,
            [manifest.digest(path) for path in foreign],
        ]
        step = Step.after("dictionary", self.work, settings, upstream)
        record = step.record(self.out)
        if record is None:
            with self._working(step, lambda: _facts(record["facts"])):
                self._remove_stale_data()
                for folder in self._folders:
                    (self.out / folder).mkdir(exist_ok=True)
                first = [self.out / self._folders[0] / name for name in names]
                facts = (
                    _copied_all(foreign, first)
                    if foreign
                    else self._counted(encoded, model[1], first)
                )
                for folder in self._folders[1:]:
                    _copied_all(first, [self.out / folder / name for name in names])
                files = [f"{folder}/{name}" for folder in self._folders for name in names]
                record = step.finish({"facts": facts, "outputs": self._sizes(files)})
        return step, record["facts"], model[1]

    def _foreign_dictionaries(self, names: List[str]) -> List[Path]:
        """The dictionaries of the folder given as --vocab-from, if one is."""
        if self.options.vocab_from is None:
            return []
        other = read_json(self.options.vocab_from / "manifest.json") or {}
        return [self._foreign(f"{other['folders'][0]}/{name}") for name in names]

    def _remove_stale_data(self) -> None:
        """Remove what an earlier recipe left in data-bin folders, and nothing else."""
        ours = re.compile(r"dict\..+\.txt|(train|valid|test)\d*\..+\.(bin|idx)")
        for path in self.out.glob("data-bin*/*"):
            if ours.fullmatch(path.name):
                path.unlink()

    def _counted(self, encoded: Dict[str, Track], model: Path, paths: List[Path]) -> Dict:
        track = encoded["train"]
        names = [name for name, _ in track.parts]
        if self.settings.subword.joined_dictionary:
            groups = [(self.languages, paths)]
        else:
            groups = [([code], [path]) for code, path in zip(self.languages, paths, strict=True)]
        tasks = [(track.step.folder, names, codes, model, files) for codes, files in groups]
        found = self.fairseq_pool.run("dictionary", binarise.write_dictionary, tasks)
        return {
            path.name: record["types"]
            for (_, files), record in zip(groups, found, strict=True)
            for path in files
        }

    def _binarise_step(self, split: str, track: Track, dictionary: Step) -> Step:
        return Step.after(
            f"binarise/{split}",
            self.work,
            [self._folders, self.languages],
            [track.step, dictionary],
        )

    def _binarise(
        self, encoded: Dict[str, Track], dictionary: Tuple[Step, Dict, Path]
    ) -> Dict[str, Any]:
        """Write fairseq's data sets; only the training data is dealt out to shards."""
        before, _, model = dictionary
        done = {}
        for split, track in encoded.items():
            step = self._binarise_step(split, track, before)
            record = step.record(self.out)
            if record is None:
                pairs = sum(lines for _, lines in track.parts)
                with self._working(step, lambda pairs=pairs: f"{pairs:,} pairs"):
                    record = step.finish(self._binarised(step, split, track, model))
            done[split] = record
        return done

    def _binarised(self, step: Step, split: str, track: Track, model: Path) -> Dict[str, Any]:
        shards = len(self._folders) if split == "train" else 1
        dicts = [self.out / self._folders[0] / f"dict.{code}.txt" for code in self.languages]
        tasks, sizes, start = [], [], 0
        for name, lines in track.parts:
            for code, path in zip(self.languages, dicts, strict=True):
                tasks.append(
                    (track.step.folder, step.folder, name, code, path, model, start, shards)
                )
                sizes.append(lines)
            start += lines
        found = self.fairseq_pool.run(step.name, binarise.binarise_part, tasks, sizes)
        outputs = self._merged(step, split, track, shards)
        counts = {
            code: {k: sum(r[k] for r in found[side::2]) for k in ("tokens", "unknown")}
            for side, code in enumerate(self.languages)
        }
        return {"lines": start, "counts": counts, "outputs": self._sizes(outputs)}

    def _merged(self, step: Step, split: str, track: Track, shards: int) -> List[str]:
        pair = f"{self.recipe.source}-{self.recipe.target}"
        tasks, outputs = [], []
        for shard in range(shards):
            for code in self.languages:
                target = f"{self._folders[shard]}/{split}.{pair}.{code}"
                prefixes = [step.folder / f"{name}.{code}.{shard}" for name, _ in track.parts]
                tasks.append((prefixes, self.out / target))
                outputs += [f"{target}.bin", f"{target}.idx"]
        self.fairseq_pool.run(f"merge/{split}", binarise.merge, tasks)
        return outputs

    # -- manifest

    def _manifest(
        self, texts: Dict, model: Any, encoded: Dict, dictionary: Any, data: Any
    ) -> Dict[str, Any]:
        """Write `manifest.json` and `report.md`, unless they are up to date."""
        steps = [t["step"] for t in texts.values()]
        if data is not None:
            steps += [self._binarise_step(s, track, dictionary[0]) for s, track in encoded.items()]
        facts = self._facts()
        counts = [text["counts"] for text in texts.values()]
        step = Step.after("manifest", self.work, [facts, self.files, counts, self.notes], steps)
        record = step.record(self.out)
        if record is not None:
            return read_json(self.out / "manifest.json")
        with self._working(step, lambda: "manifest.json, report.md"):
            result = {
                **facts,
                "files": self.files,
                "complete": data is not None,
                "folders": self._folders if data is not None else [],
                "splits": self._split_entries(texts, encoded, data),
                "subword": model[2] if model else {},
                "dictionaries": dictionary[1] if dictionary else {},
                "notes": self.notes,
                "samples": self._samples(texts, model),
                "outputs": manifest.outputs(self.out, self._output_names(texts, model, data)),
            }
            write_json(self.out / "manifest.json", result)
            with whole(self.out / "report.md") as path:
                path.write_text(manifest.report(result), encoding="utf-8")
            step.finish({"outputs": self._sizes(["manifest.json", "report.md"])})
        return result

    def _facts(self) -> Dict[str, Any]:
        """What the manifest says about the recipe and the way it was used."""
        recipe = self.recipe
        data = ":".join(self._folders)
        return {
            "recipe": recipe.name,
            "title": recipe.title,
            "source": recipe.source,
            "target": recipe.target,
            "licence": recipe.licence,
            "preparation": self.name,
            "reproduces": self.settings.reproduces,
            "settings": dataclasses.asdict(self.settings),
            "slice": self.options.portion,
            "versions": manifest.versions(),
            "train": f'fairseq-train {data} --user-dir "$(tsa-mt user-dir)" '
            f"--source-lang {recipe.source} --target-lang {recipe.target} "
            f"{' '.join(recipe.train.split())}".rstrip(),
        }

    def _split_entries(self, texts: Dict, encoded: Dict, data: Any) -> Dict[str, Any]:
        entries = {}
        for name, text in texts.items():
            counts = encoded[name].counts if encoded else text["counts"]
            entry = {"lines": text["lines"], "steps": counts}
            expected = self.settings.expect.get(name)
            if expected is not None and not self.options.portion:
                entry["expected_lines"] = expected
                entry["as_expected"] = expected == text["lines"]
                if expected != text["lines"]:
                    self._note(f"{name} has {text['lines']:,} lines, published are {expected:,}")
            if data is not None:
                entry["pairs"] = data[name]["lines"]
                entry["statistics"] = self._statistics(encoded[name], data[name])
            entries[name] = entry
        return entries

    def _statistics(self, track: Track, data: Dict[str, Any]) -> Dict[str, Any]:
        records = [read_json(track.step.folder / f"{name}.json") for name, _ in track.parts]
        return {
            code: {
                **data["counts"][code],
                **manifest.length_statistics(r["lengths"][code] for r in records),
            }
            for code in self.languages
        }

    def _samples(self, texts: Dict, model: Any) -> List[Dict[str, str]]:
        name = "train" if "train" in texts else next(iter(texts))
        pairs = manifest.samples(texts[name]["paths"], texts[name]["ranges"])
        found = [{"source": source, "target": target} for source, target in pairs]
        if model is not None:
            coder = subword.encoder(model[1])
            for sample in found:
                sample["source_subwords"] = coder.pieces(sample["source"])
                sample["target_subwords"] = coder.pieces(sample["target"])
        return found

    def _output_names(self, texts: Dict, model: Any, data: Any) -> List[str]:
        names = [f"text/{path.name}" for text in texts.values() for path in text["paths"]]
        if data is not None:
            names.append(f"subword/{model[1].name}")
            names += [f"{f}/dict.{code}.txt" for f in self._folders for code in self.languages]
            names += [name for record in data.values() for name in record["outputs"]]
        return names


def _extract_task(
    folder: Path,
    prefix: str,
    part_lines: int,
    replace: Dict[str, str],
    portion: Optional[Tuple[int, int]],
    reading: Dict[str, Any],
) -> Dict[str, Any]:
    return extract_piece(folder, prefix, part_lines, replace, portion, **reading)


def _copied(source: Path, target: Path) -> Dict[str, Any]:
    binarise.copy(source, target)
    return {"taken_from_sha256": manifest.digest(source)}


def _copied_all(sources: List[Path], targets: List[Path]) -> Dict[str, int]:
    """Copy dictionaries; returns their sizes by name."""
    for source, target in zip(sources, targets, strict=True):
        binarise.copy(source, target)
    return {target.name: binarise.dictionary_size(target) for target in targets}


def _summary(total: Dict[str, Any]) -> str:
    dropped = ", ".join(f"{rule} {n:,}" for rule, n in total["dropped"].items())
    return f"{total['in']:,} in, {total['out']:,} out" + (f" ({dropped})" if dropped else "")


def _facts(facts: Dict[str, Any]) -> str:
    return ", ".join(f"{k} {v:,}" if isinstance(v, int) else f"{k} {v}" for k, v in facts.items())


def _lines_of(record: Dict[str, Any]) -> str:
    return ", ".join(f"{name} {entry['lines']:,}" for name, entry in record["splits"].items())
