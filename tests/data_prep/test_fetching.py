"""A server on this machine plays the public hosts, with all their bad habits."""

import hashlib
import io
import json
import re
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from dataprep.errors import DataError
from dataprep.fetch import fetch
from dataprep.recipe import Download

BODY = bytes(range(256)) * 1024
SHA256 = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """One behaviour per path."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        getattr(self, f"answer_{self.path.strip('/').split('.')[0]}")()

    def send(self, status, body=b"", declared=None, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if declared is None else declared))
        self.end_headers()
        self.wfile.write(body)

    def answer_good(self):
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if wanted and self.headers.get("If-Range") in (None, '"one"'):
            start = int(wanted[1])
            span = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
            self.send(206, BODY[start:], Content_Range=span, ETag='"one"')
        else:
            self.send(200, BODY, ETag='"one"')

    def answer_archive(self):
        self.send(200, self.server.archive)

    def answer_moved(self):
        self.send(302, Location="/again")

    def answer_again(self):
        self.send(307, Location="/good")

    def answer_dead(self):
        self.send(404, b"gone")

    def answer_busy(self):
        self.server.busy += 1
        if self.server.busy < 3:
            self.send(503)
        else:
            self.answer_good()

    def answer_page(self):
        self.send(200, b"<html>sorry</html>", Content_Type="text/html; charset=utf-8")

    def answer_disguised(self):
        self.send(200, b"<!DOCTYPE html><html>sorry</html>", Content_Type="application/gzip")

    def answer_wrong(self):
        self.send(200, BODY[::-1])

    def answer_cut(self):
        if self.headers.get("Range"):
            self.answer_good()
        else:
            self.send(200, BODY[:5000], declared=len(BODY), ETag='"one"')

    def answer_silent(self):
        time.sleep(3)

    def answer_drip(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        for byte in BODY[:40]:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(0.05)

    def answer_slow(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        for start in range(0, len(BODY), 16384):
            self.wfile.write(BODY[start : start + 16384])
            self.wfile.flush()
            time.sleep(0.03)


@pytest.fixture()
def server():
    """A running server; `url(name)` gives an address, `requests` lists what was asked."""
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads, running.requests, running.busy = True, [], 0
    running.url = lambda name: f"http://127.0.0.1:{running.server_port}/{name}"
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()


def get(server, path, *names, sha256=SHA256, timeout=5.0):
    download = Download(urls=[server.url(name) for name in names], sha256=sha256)
    return fetch("corpus.tgz", download, path / "corpus.tgz", timeout)


@pytest.mark.parametrize("name", ["good", "moved", "slow"])
def test_a_file_arrives_directly_over_redirects_and_slowly(server, tmp_path, name):
    assert get(server, tmp_path, name) == server.url(name)
    assert (tmp_path / "corpus.tgz").read_bytes() == BODY
    assert [p.name for p in tmp_path.iterdir()] == ["corpus.tgz"]


def own_recipe(tmp_path, server, archive, *names):
    """A recipe whose only archive, with another one inside, comes from the server."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        for code in ("en", "de"):
            text = "".join(f"{code} sentence number {i} of {i * i % 97}\n" for i in range(200))
            member = tarfile.TarInfo(f"in/train.{code}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    with tarfile.open(archive, "w") as tar:
        member = tarfile.TarInfo("out/inner.tgz")
        member.size = inner.tell()
        inner.seek(0)
        tar.addfile(member, inner)
    server.archive = archive.read_bytes()
    path = tmp_path / "own.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "title": "t",
                "source": "en",
                "target": "de",
                "licence": "l",
                "tested": "t",
                "default": "modern",
                "splits": {
                    "train": {
                        "pieces": [{"name": "p", "files": "a.tar//out/inner.tgz//in/train.{lang}"}]
                    },
                    "valid": {"hold_out": {"every": 10}},
                },
                "downloads": {"a.tar": {"urls": [server.url(name) for name in names]}},
                "preparations": {
                    "modern": {"reproduces": "r", "subword": {"sentencepiece": {"vocab_size": 300}}}
                },
            }
        )
    )
    return path


def test_a_corpus_is_fetched_from_the_second_mirror_unpacked_twice_and_prepared(
    server, tmp_path, prepare
):
    path = own_recipe(tmp_path, server, tmp_path / "a.tar", "dead", "archive")
    arguments = [path, "--out", tmp_path / "out", "--workers", "1"]
    status, _, error = prepare(*arguments)
    assert (status, error) == (0, "")
    found = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert found["files"]["a.tar"] == {
        "bytes": len(server.archive),
        "checked": "no",
        "origin": "download",
        "sha256": hashlib.sha256(server.archive).hexdigest(),
    }
    assert found["splits"]["train"]["pairs"] == 180
    server.requests.clear()
    assert "nothing to do" in prepare(*arguments)[1]
    assert server.requests == []


def test_nothing_is_prepared_when_no_mirror_delivers(server, tmp_path, prepare):
    path = own_recipe(tmp_path, server, tmp_path / "a.tar", "dead", "page")
    status, _, error = prepare(path, "--out", tmp_path / "out", "--workers", "1")
    assert status == 1 and "a.tar could not be fetched from any of 2 mirrors" in error
    assert not (tmp_path / "out" / "text").exists()


def test_a_cut_connection_is_continued_where_it_broke(server, tmp_path):
    get(server, tmp_path, "cut")
    assert (tmp_path / "corpus.tgz").read_bytes() == BODY
    assert server.requests == [("/cut", None), ("/cut", "bytes=5000-")]


def test_a_download_of_an_earlier_run_is_continued(server, tmp_path):
    (tmp_path / "corpus.tgz.part").write_bytes(BODY[:100_000])
    note = {"url": server.url("good"), "validator": '"one"'}
    (tmp_path / "corpus.tgz.part.json").write_text(json.dumps(note))
    get(server, tmp_path, "good")
    assert (tmp_path / "corpus.tgz").read_bytes() == BODY
    assert server.requests == [("/good", "bytes=100000-")]


def test_a_file_that_changed_on_the_server_is_fetched_anew(server, tmp_path):
    (tmp_path / "corpus.tgz.part").write_bytes(b"old" * 100)
    note = {"url": server.url("good"), "validator": '"zero"'}
    (tmp_path / "corpus.tgz.part.json").write_text(json.dumps(note))
    get(server, tmp_path, "good")
    assert (tmp_path / "corpus.tgz").read_bytes() == BODY


def test_a_partial_file_of_another_mirror_is_not_continued(server, tmp_path):
    (tmp_path / "corpus.tgz.part").write_bytes(b"other" * 100)
    get(server, tmp_path, "good")
    assert server.requests == [("/good", None)]


@pytest.mark.parametrize("bad", ["dead", "page", "disguised", "wrong"])
def test_the_next_mirror_is_tried_when_one_does_not_deliver(server, tmp_path, bad):
    assert get(server, tmp_path, bad, "good") == server.url("good")
    assert (tmp_path / "corpus.tgz").read_bytes() == BODY


@pytest.mark.parametrize("bad", ["silent", "drip"])
def test_a_silent_or_dripping_mirror_is_given_up(server, tmp_path, bad):
    started = time.monotonic()
    assert get(server, tmp_path, bad, "good", timeout=0.4) == server.url("good")
    assert time.monotonic() - started < 4


def test_a_busy_mirror_is_tried_again(server, tmp_path):
    get(server, tmp_path, "busy", timeout=0.5)
    assert len(server.requests) == 3


def test_a_host_that_refuses_connections_is_skipped(server, tmp_path):
    download = Download(urls=["http://127.0.0.1:9/x", server.url("good")], sha256=SHA256)
    assert fetch("c", download, tmp_path / "c", 5.0) == server.url("good")


def test_one_sentence_tells_what_every_mirror_said(server, tmp_path):
    message = (
        r"corpus\.tgz could not be fetched from any of 3 mirrors: \S+/dead \(HTTP 404 .*"
        r"/page \(it sent a web page .*/wrong \(corpus\.tgz has the sha256 \w+, expected "
        rf"{SHA256}.*pass its folder as --from-local"
    )
    with pytest.raises(DataError, match=message):
        get(server, tmp_path, "dead", "page", "wrong")
    assert not (tmp_path / "corpus.tgz").exists()


def test_a_file_without_an_address_asks_for_a_local_copy(tmp_path):
    with pytest.raises(DataError, match=r"corpus\.tgz has no public address.*--from-local"):
        fetch("corpus.tgz", Download(), tmp_path / "corpus.tgz", 5.0)
