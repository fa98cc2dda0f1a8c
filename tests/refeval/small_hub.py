"""A small model hub on the loopback interface, for the real hub client."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

COMMIT = "a" * 40
_LARGE = (".safetensors", ".pth")
_API = re.compile(
    r"/api/(?:models/|(?P<kind>datasets/))(?P<name>[^/]+/[^/]+)(?:/(?P<what>revision|tree)/(?P<rev>[^/]+))?"
)
_FILE = re.compile(r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<file>.+)")


class Hub(ThreadingHTTPServer):
    """Repositories, what was asked for, and what goes wrong for now.

    Attributes:
        repositories: files by ``owner/name`` of a model, or ``datasets/owner/name``.
        commits: those that are known, the newest last.
        fetched: names of the files that were sent, in order.
        ranges: the ``Range`` headers of requests for files.
        requests: how many there were of any kind.
        refused: names of files that are answered with 403.
        cut: names of files whose next transfer ends after half of the bytes.
        stalled: names of files whose transfer stops after half of the bytes until ``go_on`` is set.
        wrong: names of files that the hub gives a false sha256 for.
    """

    daemon_threads = True

    def __init__(self, repositories: Mapping[str, Mapping[str, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = {name: dict(files) for name, files in repositories.items()}
        self.commits = [COMMIT]
        self.fetched: list[str] = []
        self.ranges: list[str] = []
        self.requests = 0
        self.refused: set[str] = set()
        self.cut: set[str] = set()
        self.stalled: set[str] = set()
        self.wrong: set[str] = set()
        self.reached = threading.Event()
        self.go_on = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what these tests are about."""

    def sha256(self, name: str, content: bytes) -> str:
        return hashlib.sha256(content + (b"?" if name in self.wrong else b"")).hexdigest()


@contextlib.contextmanager
def running(repositories: Mapping[str, Mapping[str, bytes]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that the client is told of."""
    with Hub(repositories) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield server
        server.go_on.set()
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.server.requests += 1
        path = unquote(urlparse(self.path).path)
        for pattern, answer in ((_API, self._describe), (_FILE, self._send_file)):
            match = pattern.fullmatch(path)
            if match:
                self._check(match, answer)
                return
        self._send(404, b"")

    def _check(self, match: re.Match[str], answer: Any) -> None:
        files = self.server.repositories.get((match["kind"] or "") + match["name"])
        commit = match["rev"] or self.server.commits[-1]
        commit = self.server.commits[-1] if commit == "main" else commit
        if files is None:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif commit not in self.server.commits:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            answer(match, files, commit)

    def _describe(self, match: re.Match[str], files: dict[str, bytes], commit: str) -> None:
        if match["what"] == "tree":
            content: Any = [
                {"type": "file", "path": name, **self._facts(name, data, "oid")} for name, data in files.items()
            ]
        else:
            siblings = [{"rfilename": name, **self._facts(name, data, "sha256")} for name, data in files.items()]
            content = {"id": match["name"], "sha": commit, "siblings": siblings}
        self._send(200, json.dumps(content).encode())

    def _facts(self, name: str, data: bytes, key: str) -> dict[str, Any]:
        facts: dict[str, Any] = {"size": len(data), "oid": _sha1(data)}
        if name.endswith(_LARGE):
            facts["lfs"] = {key: self.server.sha256(name, data), "size": len(data), "pointerSize": 130}
        return facts

    def _send_file(self, match: re.Match[str], files: dict[str, bytes], commit: str) -> None:
        name = match["file"]
        if name not in files or name in self.server.refused:
            self._send(403 if name in files else 404, b"")
            return
        content = files[name]
        tag = self.server.sha256(name, content) if name.endswith(_LARGE) else _sha1(content)
        headers = {"ETag": f'"{tag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        status, start = 200, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked:
            status, start = 206, int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.server.ranges.append(asked[0])
        if self.command == "GET":
            self.server.fetched.append(name)
        self._send(status, content[start:], headers, name)

    def _send(self, status: int, content: bytes, headers: Mapping[str, str] | None = None, name: str = "") -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "GET":
            return
        half = len(content) // 2 if name in self.server.cut | self.server.stalled else len(content)
        self.wfile.write(content[:half])
        if name in self.server.stalled:
            self.server.reached.set()
            self.server.go_on.wait(60)
        if name in self.server.cut:
            self.server.cut.discard(name)
            self.close_connection = True
            return
        self.wfile.write(content[half:])

    def log_message(self, format: str, *args: object) -> None:
        pass


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
