"""A small server: each rater's sheet under a secret address, and a place to post votes to.

It knows two addresses, ``/r/<token>`` and ``/vote``; nothing in a request ever becomes a path on disk. Tokens are
kept out of every line that it writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from refeval.documents import encode
from refeval.errors import BadInput, CorruptFile, DiskFull
from refeval.studies.study import StudyFolder
from refeval.studies.vote_log import VoteLog
from refeval.studies.votes import Vote, check_vote

LARGEST_VOTE = 16 * 1024
SECONDS_TO_ASK = 20.0
"""A request must have arrived whole within this time; one that trickles is cut off."""

MOST_CONNECTIONS = 128
"""Open at once; one more is dropped, and the sheets try again."""

_SECONDS_OF_SILENCE = 30.0
_SECONDS_TO_LINGER = 1.0


class StudyServer(ThreadingHTTPServer):
    """Serves one study; every request in a thread of its own.

    Args:
        study: with its sheets.
        tokens: token -> rater.
        address: host and port; port 0 takes a free one.
        seconds_to_ask: see :data:`SECONDS_TO_ASK`.

    Raises:
        BadInput: tokens of unknown raters, a missing sheet, an address that cannot be had, or another server has the
            study open.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = MOST_CONNECTIONS

    def __init__(
        self,
        study: StudyFolder,
        tokens: Mapping[str, str],
        address: tuple[str, int],
        *,
        seconds_to_ask: float = SECONDS_TO_ASK,
    ) -> None:
        self.study = study
        self.seconds_to_ask = seconds_to_ask
        self.sheets: dict[str, Path] = {}
        for rater in study.assignment.raters:
            self.sheets[rater] = study.folder / "sheets" / f"{rater}.html"
            if not self.sheets[rater].is_file():
                raise CorruptFile(f"{self.sheets[rater]} is gone", cure="copy the study folder once more")
        if set(tokens.values()) != set(self.sheets):
            raise BadInput("the tokens are not those of this study", cure="--key FOLDER")
        # Looked up by digest: how long a comparison takes tells nothing of a token.
        self._raters = {_digest(token): rater for token, rater in tokens.items()}
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self.log = VoteLog(study)
        try:
            super().__init__(address, _Handler)
        except OSError as error:
            self.log.close()
            what = f"cannot listen at {address[0]}:{address[1]}: {error.strerror}"
            raise BadInput(what, cure="another --port, or --host 127.0.0.1") from error

    def rater_of(self, token: str) -> str | None:
        """The rater that a token belongs to."""
        return self._raters.get(_digest(token))

    @contextlib.contextmanager
    def running(self) -> Iterator[StudyServer]:
        """Serve in the background until the block ends; the vote at hand is finished first."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()
            self.log.close()
            thread.join()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection, or drop it where too many are open; the sheets try again."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            # No thread could be started, so none will give the place back.
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection from begin to end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that break off are everyday, and a traceback could quote an address with its token."""


class _Handler(BaseHTTPRequestHandler):
    """One request per connection."""

    server: StudyServer
    server_version = "refeval"
    sys_version = ""
    timeout = _SECONDS_OF_SILENCE

    def setup(self) -> None:
        super().setup()
        self._deadline = threading.Timer(self.server.seconds_to_ask, self._cut_off)
        self._deadline.daemon = True
        self._deadline.start()

    def finish(self) -> None:
        self._deadline.cancel()
        with contextlib.suppress(OSError):
            super().finish()
            self._linger()

    def _linger(self) -> None:
        """Read what a refused client still sends: closed over unread bytes, a connection may lose its answer."""
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(_SECONDS_TO_LINGER)
        for _ in range(4):
            if not self.connection.recv(LARGEST_VOTE):
                break

    def do_GET(self) -> None:
        self._deadline.cancel()
        rater = self.server.rater_of(self.path.removeprefix("/r/")) if self.path.startswith("/r/") else None
        if rater is None:
            self._answer(HTTPStatus.NOT_FOUND, "there is nothing here: use the whole link that you were given")
            return
        with self.server.sheets[rater].open("rb") as page:
            self._head(HTTPStatus.OK, "text/html; charset=utf-8", page.seek(0, 2))
            page.seek(0)
            shutil.copyfileobj(page, self.wfile)

    def do_POST(self) -> None:
        if self.path != "/vote":
            self._answer(HTTPStatus.NOT_FOUND, "there is nothing here")
            return
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        rater = self.server.rater_of(token) if scheme == "Bearer" else None
        if rater is None:
            self._answer(HTTPStatus.UNAUTHORIZED, "unknown token")
            return
        if self.headers.get_content_type() != "application/json":
            self._answer(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a vote is application/json")
            return
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in self.headers:
            self._answer(HTTPStatus.LENGTH_REQUIRED, "a vote comes with its length")
            return
        if len(length) > 9 or int(length) > LARGEST_VOTE:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a vote has at most {LARGEST_VOTE} bytes")
            return
        body = self.rfile.read(int(length))
        self._deadline.cancel()
        if len(body) == int(length):
            self._take(rater, body)

    def __getattr__(self, name: str) -> Any:
        # http.server looks for do_<METHOD>: every other method gets one answer.
        if name.startswith("do_"):
            return self._refuse_method
        raise AttributeError(name)

    def log_message(self, format: str, *arguments: object) -> None:
        """Write nothing: a line of the usual log would hold the token."""

    def _take(self, rater: str, body: bytes) -> None:
        try:
            vote = Vote.model_validate_json(body)
        except ValidationError:
            self._answer(HTTPStatus.BAD_REQUEST, "not a vote")
            return
        problem = check_vote(self.server.study, vote)
        if problem is None and vote.rater != rater:
            problem = "of another rater than the token"
        if problem:
            self._answer(HTTPStatus.BAD_REQUEST, f"the vote is {problem}")
            return
        try:
            new = self.server.log.add(vote)
        except (DiskFull, OSError, ValueError):
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "the vote could not be stored: it will be sent again")
            return
        self._answer(HTTPStatus.CREATED if new else HTTPStatus.OK, "stored" if new else "stored before")

    def _refuse_method(self) -> None:
        self._answer(HTTPStatus.METHOD_NOT_ALLOWED, "GET and POST only", ("Allow", "GET, POST"))

    def _answer(self, status: HTTPStatus, text: str, *headers: tuple[str, str]) -> None:
        self._deadline.cancel()
        body = encode({"status": status.value, "text": text})
        self._head(status, "application/json", len(body), *headers)
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """A request that is no HTTP: the same short answer, and nothing of it is repeated."""
        self.close_connection = True
        self._answer(HTTPStatus(code), "not understood")

    def _head(self, status: HTTPStatus, content_type: str, length: int, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", f"{self.server.study.document.policy}; frame-ancestors 'none'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def _cut_off(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


_PEPPER = secrets.token_bytes(16)


def _digest(token: str) -> bytes:
    return hashlib.blake2b(token.encode(errors="replace"), key=_PEPPER).digest()
