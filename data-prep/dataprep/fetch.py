"""Downloads that survive dead mirrors, cut connections and error pages.

A file arrives under a temporary name, is continued where an interrupted run left off, is compared
with its checksum and only then gets its name. Mirrors are tried in turn; if all fail, one sentence
tells what each of them said.
"""

import http.client
import os
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Dict, List, Optional

from dataprep.errors import DataError
from dataprep.files import digest, read_json, write_json
from dataprep.pool import progress
from dataprep.recipe import Download
from tsa_mt.textfile import looks_like_html

AGENT = "tsa-mt-data-prep"
BLOCK = 1 << 16
# A mirror that stays below this for a whole time-out is as good as dead.
SLOWEST = 1024
ATTEMPTS = 3


class _MirrorFault(Exception):
    """Why one mirror did not deliver; `final` where trying it again is pointless."""

    def __init__(self, reason: str, final: bool = True) -> None:
        super().__init__(reason)
        self.final = final


def fetch(name: str, download: Download, path: Path, timeout: float) -> str:
    """Download one file.

    Args:
        name: The file's name in the recipe.
        download: Mirrors and checksums.
        path: Where it goes.
        timeout: Seconds without data (or at a crawl) after which a mirror is given up.

    Returns:
        The address that delivered it.

    Raises:
        DataError: No mirror delivered the right file.
    """
    said: List[str] = []
    for url in download.urls:
        for attempt in range(ATTEMPTS):
            try:
                part = _transfer(url, name, path, timeout)
                checked(part, name, download)
            except _MirrorFault as fault:
                reason, final = str(fault), fault.final
            except DataError as fault:
                part.unlink()
                reason, final = str(fault), True
            else:
                os.replace(part, path)
                _note(path).unlink()
                return url
            if final or attempt == ATTEMPTS - 1:
                break
            time.sleep(min(2**attempt, timeout / 10))
        said.append(f"{url} ({reason})")
    raise DataError(
        f"{name} could not be fetched from any of {len(said)} mirrors: {'; '.join(said)}. Get it "
        "by other means and pass its folder as --from-local"
        if said
        else f"{name} has no public address; get it from its publisher (see the recipe) and pass "
        "its folder as --from-local"
    )


def checked(path: Path, name: str, download: Download, strict: bool = True) -> Dict[str, Any]:
    """Compare a file with what the recipe knows about it.

    Args:
        path: The file.
        name: What errors call it.
        download: Checksums.
        strict: Whether another checksum is an error; if not, the record says that it differs.

    Returns:
        ``sha256``, ``bytes`` and ``checked``, which says by what, or that it was not checked.

    Raises:
        DataError: It is a web page, or its checksum is not the expected one.
    """
    if looks_like_html(path):
        raise DataError(f"{name} is a web page instead of data, probably an error page of its host")
    found = {"sha256": digest(path)}
    record = {"sha256": found["sha256"], "bytes": path.stat().st_size, "checked": "no"}
    for kind in ("sha256", "md5"):
        expected = getattr(download, kind)
        if expected is None:
            continue
        actual = found.get(kind) or digest(path, kind)
        if actual == expected:
            return {**record, "checked": kind}
        if strict:
            raise DataError(
                f"{name} has the {kind} {actual}, expected {expected}: it is damaged or another "
                "release; get it again, or accept it with --any-checksum"
            )
        return {**record, "checked": f"{kind} differs"}
    return record


def _note(path: Path) -> Path:
    """Where the address of a partial file is kept."""
    return path.with_name(path.name + ".part.json")


def _transfer(url: str, name: str, path: Path, timeout: float) -> Path:
    """Bring `url` to a file beside `path`, continuing a partial one of the same URL."""
    part, note = path.with_name(path.name + ".part"), _note(path)
    known = read_json(note) or {}
    if known.get("url") != url:
        part.unlink(missing_ok=True)
        known = {}
    start = part.stat().st_size if part.exists() else 0
    try:
        _request(url, name, part, note, start, known.get("validator"), timeout)
    except urllib.error.HTTPError as fault:
        if fault.code == 416 and start:
            part.unlink()
            raise _MirrorFault("the partial file did not fit, starting over", False) from None
        raise _MirrorFault(f"HTTP {fault.code} {fault.reason}", fault.code < 500) from None
    except (urllib.error.URLError, http.client.HTTPException, ValueError) as fault:
        raise _MirrorFault(str(getattr(fault, "reason", "") or fault)) from None
    except (TimeoutError, ConnectionError, ssl.SSLError) as fault:
        raise _MirrorFault(str(fault) or type(fault).__name__, False) from None
    return part


def _request(
    url: str,
    name: str,
    part: Path,
    note: Path,
    start: int,
    validator: Optional[str],
    timeout: float,
) -> None:
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        if answer.headers.get_content_type() == "text/html" and not name.endswith(".html"):
            raise _MirrorFault("it sent a web page instead of the file")
        if start and answer.status != 206:
            start = 0
        validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        write_json(note, {"url": url, "validator": validator})
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        _receive(answer, name, part, start, total, timeout)


def _receive(
    answer: Any, name: str, part: Path, start: int, total: Optional[int], timeout: float
) -> None:
    """Append the answer's body to the partial file, watching its length and speed."""
    size, mark, since = start, start, time.monotonic()
    with open(part, "ab" if start else "wb") as out, progress(f"fetch {name}", total, "B") as bar:
        bar.update(start)
        while data := answer.read1(BLOCK):
            out.write(data)
            size += len(data)
            bar.update(len(data))
            elapsed = time.monotonic() - since
            if elapsed > timeout:
                if (size - mark) / elapsed < SLOWEST:
                    raise _MirrorFault(f"less than {SLOWEST} bytes per second")
                mark, since = size, time.monotonic()
    if total is not None and size < total:
        raise _MirrorFault(f"the connection ended after {size:,} of {total:,} bytes", False)
