"""Where the files of a recipe are: in a person's own folder, on the network, or in sacreBLEU."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from dataprep.errors import DataError
from dataprep.fetch import checked, fetch
from dataprep.files import read_json, whole, write_json
from dataprep.recipe import Download, Piece, Recipe
from dataprep.unpack import archive_stem, unpack
from tsa_mt.textfile import BLOCK, SGML, TMX, open_text

COMPRESSED = (".gz", ".xz", ".bz2", ".zst")


@dataclass(frozen=True)
class Source:
    """A text file that a piece is read from.

    Attributes:
        path: Where it lies.
        name: What errors and the manifest call it.
        sha256: Checksum of the file or of the archive it came in.
    """

    path: Path
    name: str
    sha256: str


@dataclass(frozen=True)
class Located:
    """A piece whose files were found.

    Attributes:
        piece: The piece.
        form: Its format: as the recipe says, or as the files' content does; ``text`` where a plain
            file stands in for the published one.
        files: Sources by language, or under ``both``.
    """

    piece: Piece
    form: Optional[str]
    files: Dict[str, Source]


def told_by_content(located: Located) -> Located:
    """The same piece with the format that its files have, where the recipe names none.

    Raises:
        DataError: Two files are of different formats, or one file holds a single side.
    """
    if located.form is not None:
        return located
    kinds = {}
    for code, source in located.files.items():
        with open_text(source.path, source.name) as text:
            kinds[code] = text.kind
    names = " and ".join(source.name for source in located.files.values())
    if len(set(kinds.values())) > 1:
        raise DataError(f"{names} are of different kinds: {', '.join(kinds.values())}")
    kind = next(iter(kinds.values()))
    together = "both" in kinds
    if together and kind == SGML or not together and kind == TMX:
        raise DataError(
            f"{names} holds one side in SGML; give the file of the other side, too"
            if together
            else f"{names} are translation memories (TMX), which hold both sides; give one of them"
        )
    form = {SGML: "sgm", TMX: "tmx"}.get(kind, "tsv" if together else "text")
    return replace(located, form=form)


def _bare(name: str) -> str:
    """A file name without the ending that only tells how it is packed."""
    stem = archive_stem(name)
    if stem is not None:
        return f"{stem} (archive)"
    return name[: name.rindex(".")] if name.endswith(COMPRESSED) else name


class Locator:
    """Finds, fetches and unpacks what a recipe needs.

    Args:
        recipe: The recipe.
        work: Folder for downloads and unpacked members.
        local: A person's own folder; with it nothing is downloaded.
        any_checksum: Whether files with another checksum are accepted (and recorded as such).
        timeout: Seconds before a silent mirror is given up.
    """

    def __init__(
        self, recipe: Recipe, work: Path, local: Optional[Path], any_checksum: bool, timeout: float
    ) -> None:
        """See the class."""
        self.recipe, self.work, self.local = recipe, work, local
        self.any_checksum, self.timeout = any_checksum, timeout
        self.records: Dict[str, Dict[str, Any]] = {}
        self._wanted: Dict[Path, Dict[str, Path]] = {}
        self._seen = read_json(work / "fetch" / "seen.json") or {}
        self._index = {} if local is None else _index(local)

    def locate(self, splits: List[str]) -> Dict[str, List[Located]]:
        """Find the files of some splits; archives are unpacked.

        Raises:
            DataError: Something is missing (all of it is listed), damaged or unsafe.
        """
        (self.work / "fetch").mkdir(parents=True, exist_ok=True)
        found: Dict[str, List[Located]] = {}
        missing: Dict[str, List[str]] = {}
        for name in splits:
            pieces = [(p, self._piece(p)) for p in self.recipe.splits[name].pieces]
            absent = [" and ".join(p.files.values()) for p, source in pieces if source is None]
            if absent:
                missing[name] = absent
            else:
                found[name] = [located for _, located in pieces if located]
        if missing:
            raise self._missing(missing, found)
        self._unpack()
        write_json(self.work / "fetch" / "seen.json", self._seen)
        return {name: [told_by_content(x) for x in pieces] for name, pieces in found.items()}

    def _missing(self, missing: Dict[str, List[str]], found: Dict[str, Any]) -> DataError:
        what = "; ".join(f"for {name}: {', '.join(files)}" for name, files in missing.items())
        there = [name for name in found if self.recipe.splits[name].pieces]
        advice = (
            f"Complete splits are there: add --splits {','.join(there)} to prepare only them"
            if there
            else "Archives, plain or compressed files with those names are accepted"
        )
        return DataError(f"{self.local} lacks what {self.recipe.name} needs {what}. {advice}")

    def _piece(self, piece: Piece) -> Optional[Located]:
        if all(Path(spec).is_absolute() for spec in piece.files.values()):
            given = {code: self._given(piece, code) for code in piece.files}
            return Located(piece, piece.format, given)
        if self.local is None:
            if piece.sacrebleu:
                return Located(piece, "text", self._sacrebleu(piece))
            fetched = {code: self._fetched(spec) for code, spec in piece.files.items()}
            return Located(piece, piece.format, fetched)
        files = {code: self._own(spec) for code, spec in piece.files.items()}
        if all(files.values()):
            return Located(piece, piece.format, files)
        for pattern in piece.plain:
            plain = {c: self._own(pattern.replace("{lang}", c)) for c in self.recipe.languages}
            if all(plain.values()):
                return Located(piece, "text", plain)
        return None

    def _given(self, piece: Piece, code: str) -> Source:
        """A file named by its path; a pipe is kept, for it can be read only once."""
        path = Path(piece.files[code])
        # of /dev/stdin and /dev/fd/63 each process has its own
        if path.is_file() and path.parts[1] not in ("dev", "proc"):
            return self._source(path, "/".join(path.parts[-2:]), [])
        if not path.exists():
            raise FileNotFoundError(f"there is no file {path}")
        if path.is_dir():
            raise DataError(f"{path} is a folder; name a file")
        kept = self.work / "fetch" / f"{piece.name}.{code}.pipe"
        with open(path, "rb") as stream, whole(kept) as temporary, open(temporary, "wb") as out:
            shutil.copyfileobj(stream, out, BLOCK)
        return self._source(kept, f"{piece.name}.{code} (pipe)", [])

    def _own(self, spec: str) -> Optional[Source]:
        """A file of the person's: the archive, or the member itself, compressed or not."""
        archive, *members = spec.split("//")
        path = self._pick(archive)
        if path is not None:
            return self._source(path, archive, members)
        path = self._pick(members[-1].rpartition("/")[2]) if members else None
        return None if path is None else self._source(path, path.name, [])

    def _pick(self, name: str) -> Optional[Path]:
        candidates = self._index.get(_bare(name), [])
        exact = [path for path in candidates if path.name == name]
        chosen = exact or candidates
        if len({path.stat().st_size for path in chosen}) > 1:
            places = ", ".join(str(path.relative_to(self.local)) for path in chosen)
            raise DataError(f"{self.local} holds different files called {name}: {places}; keep one")
        return chosen[0] if chosen else None

    def _fetched(self, spec: str) -> Source:
        name, *members = spec.split("//")
        path = self.work / "fetch" / name
        download = self.recipe.downloads.get(name, Download())
        if not path.exists():
            fetch(name, download, path, self.timeout)
        return self._source(path, name, members)

    def _source(self, path: Path, name: str, members: List[str]) -> Source:
        """Identify a file, and plan where its member will be unpacked to."""
        record = self._identified(path, name)
        self.records[name] = record
        for member in members:
            target = self.work / "unpack" / record["sha256"][:16] / member
            self._wanted.setdefault(path, {})[member] = target
            path, name = target, f"{name}//{member}"
        return Source(path, name, record["sha256"])

    def _identified(self, path: Path, name: str) -> Dict[str, Any]:
        stamp = _stamp(path)
        if stamp not in self._seen:
            published = self.recipe.downloads.get(name) if path.name == name else None
            record = checked(path, name, published or Download(), not self.any_checksum)
            fetched = path.parent == self.work / "fetch"
            self._seen[stamp] = {**record, "origin": "download" if fetched else "local file"}
        record = dict(self._seen[stamp])
        if "differs" in record["checked"] and not self.any_checksum:
            checked(path, name, self.recipe.downloads[name])
        return record

    def _unpack(self) -> None:
        """Unpack what is missing; archives inside of archives come after the outer ones."""
        limit = int(self.recipe.unpack_limit_gb * 1e9)
        for archive, members in self._wanted.items():
            missing = {name: path for name, path in members.items() if not path.exists()}
            if missing:
                unpack(archive, missing, limit)

    def _sacrebleu(self, piece: Piece) -> Dict[str, Source]:
        pair = f"{self.recipe.source}-{self.recipe.target}"
        files = {}
        paths = _sacrebleu_files(piece.sacrebleu, pair)
        for code, path in zip(self.recipe.languages, paths, strict=True):
            name = f"sacrebleu:{piece.sacrebleu}:{pair}.{code}"
            record = self._identified(path, name)
            self.records[name] = {**record, "origin": "sacrebleu"}
            files[code] = Source(path, name, record["sha256"])
        return files


def _sacrebleu_files(test_set: str, pair: str) -> Tuple[Path, Path]:
    """Source and first reference of a test set, downloaded by sacreBLEU if need be."""
    from sacrebleu import DATASETS

    if test_set not in DATASETS or pair not in DATASETS[test_set].langpairs:
        raise DataError(f"this sacreBLEU has no test set {test_set} for {pair}; update sacrebleu")
    data = DATASETS[test_set]
    try:
        return Path(data.get_source_file(pair)), Path(data.get_reference_files(pair)[0])
    except (OSError, SystemExit) as fault:
        raise DataError(
            f"sacreBLEU could not fetch its test set {test_set} for {pair} ({fault}); pass the "
            "folder of your copy as --from-local"
        ) from None


def _stamp(path: Path) -> str:
    """What changes when a file does: its time can be set back, that of its last change cannot."""
    status = path.stat()
    times = f"{status.st_mtime_ns} {status.st_ctime_ns}"
    return f"{path.resolve()} {status.st_ino} {status.st_size} {times}"


def _index(folder: Path) -> Dict[str, List[Path]]:
    """Files below a folder, by their name without the ending of a compression."""
    if not folder.is_dir():
        raise FileNotFoundError(f"--from-local {folder} is not a folder")
    index: Dict[str, List[Path]] = {}
    for path in sorted(folder.rglob("*"), key=lambda p: (len(p.parts), str(p))):
        if path.is_file():
            index.setdefault(_bare(path.name), []).append(path)
    return index
