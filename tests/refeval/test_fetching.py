"""Fetching: the real hub client against a small hub on the loopback interface."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from refeval.errors import BadInput, CorruptFile, MissingPrerequisite, RefevalError
from refeval.fetching import fetch_suite
from refeval.sprites.suite import write_suite
from refeval.suites import load_suite

COMMIT = "a" * 40
REPOSITORY = "BestWishYsh/OpenS2V-Eval"


class Hub(ThreadingHTTPServer):
    """A dataset repository: its files by name, what was asked for, and what is refused for now."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.fetched: list[str] = []
        self.refused: set[str] = set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(*self._find())

    def do_GET(self) -> None:
        status, content = self._find()
        name = self._name()
        if status == 200 and name in self.server.files:
            self.server.fetched.append(name)
        self._answer(status, content)

    def _name(self) -> str:
        return unquote(urlparse(self.path).path).removeprefix(f"/datasets/{REPOSITORY}/resolve/{COMMIT}/")

    def _find(self) -> tuple[int, bytes]:
        files, name = self.server.files, self._name()
        if "/tree/" in name:
            tree = [{"type": "file", "path": n, "size": len(d), "oid": _sha1(d)} for n, d in files.items()]
            return 200, json.dumps(tree).encode()
        if name.startswith(f"/api/datasets/{REPOSITORY}"):
            siblings = [{"rfilename": n, "size": len(d)} for n, d in files.items()]
            return 200, json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}).encode()
        if name in self.server.refused:
            return 403, b""
        return (200, files[name]) if name in files else (404, b"")

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{_sha1(content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    source = tmp_path / "source"
    write_suite(source)
    files = {str(p.relative_to(source)): p.read_bytes() for p in sorted(source.rglob("*")) if p.is_file()}
    files["Human-Domain_Eval.json"] = files.pop("Sprites_Eval.json")
    files["Results/never.mp4"] = b"not asked for"
    with Hub(files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield server
        server.shutdown()


def _fetch(folder: Path, *, offline: bool = False, revision: str | None = None) -> list[str]:
    said: list[str] = []
    fetched = fetch_suite("opens2v-human", folder, revision=revision, offline=offline, tell=said.append)
    assert fetched.revision == COMMIT
    return said


def test_a_suite_is_fetched_recorded_and_verified(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (line,) = _fetch(folder)
    wanted = [name for name in hub.files if not name.startswith("Results/")]
    assert f"{len(wanted)} files" in line
    assert COMMIT in line
    assert sorted(hub.fetched) == sorted(wanted), "the results of other models are not fetched"
    suite = load_suite("opens2v-human", data=folder)
    for case in suite.cases:
        assert case.reference_files()
    receipt = json.loads((folder / "fetched.json").read_text())
    for name in wanted:
        assert receipt["sha256"][name] == hashlib.sha256(hub.files[name]).hexdigest()
    assert _fetch(folder, offline=True) == []
    image = folder / suite.cases[0].references[0].path
    image.write_bytes(image.read_bytes() + b" ")
    with pytest.raises(CorruptFile, match="is not the file that was fetched"):
        _fetch(folder, offline=True)
    image.unlink()
    with pytest.raises(MissingPrerequisite, match="is missing"):
        _fetch(folder, offline=True)


def test_an_interrupted_download_goes_on_where_it_was(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    last = sorted(name for name in hub.files if name.startswith("Images/"))[-1]
    hub.refused = {last}
    with pytest.raises(RefevalError, match=r"the download of .* stopped") as caught:
        _fetch(folder)
    assert "run the same command again" in str(caught.value)
    before = list(hub.fetched)
    hub.refused, hub.fetched = set(), []
    _fetch(folder)
    assert last in hub.fetched
    assert not set(before) & set(hub.fetched), "what was there is not downloaded again"


def test_the_built_in_suite_can_be_written_anywhere(tmp_path: Path) -> None:
    fetched = fetch_suite("sprites", tmp_path, revision=None, offline=True, tell=print)
    assert fetched.revision is None
    assert (tmp_path / "Sprites_Eval.json").is_file()


def test_unknown_suites(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Did you mean 'opens2v-open'"):
        fetch_suite("opens2v-opn", tmp_path, revision=None, offline=False, tell=print)
