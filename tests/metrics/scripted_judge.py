"""A judge's server on the loopback interface that answers by a script, for the real client."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SERVED = "judge-2030-01-01"
USAGE = {"prompt_tokens": 1000, "completion_tokens": 1, "total_tokens": 1001}


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        text: of the vote, or the whole body where ``status`` is not 200 or ``raw`` is set.
        status: of HTTP.
        headers: further ones.
        raw: send the text as it is.
        hang: answer only when the server stops.
        usage: of the completion.
    """

    text: str = "4"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bool = False
    hang: bool = False
    usage: Mapping[str, int] | None = field(default_factory=lambda: USAGE)

    def body(self) -> bytes:
        if self.raw:
            return self.text.encode()
        if self.status != 200:
            return json.dumps({"error": {"message": self.text, "code": self.text}}).encode()
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        content: dict[str, Any] = {"id": "1", "object": "chat.completion", "created": 1, "model": SERVED}
        return json.dumps({**content, "choices": [choice], "usage": self.usage}).encode()


class ScriptedJudge(ThreadingHTTPServer):
    """The answers in order; the last one for ever.

    Attributes:
        requests: bodies that came, in order.
        keys: their Authorization headers.
        most_at_once: how many were open at one time.
        together: answer only when so many are open at one time.
    """

    daemon_threads = True

    def __init__(self, answers: Sequence[Answer]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = list(answers)
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.most_at_once = 0
        self.together = 1
        self.stopped = threading.Event()
        self._open = 0
        self._change = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what these tests are about."""

    def next_answer(self, body: dict[str, Any], key: str) -> Answer:
        with self._change:
            self.requests.append(body)
            self.keys.append(key)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        with self._change:
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)
            self._change.notify_all()
            self._change.wait_for(lambda: self.most_at_once >= self.together, 30)
        try:
            yield
        finally:
            with self._change:
                self._open -= 1


@contextlib.contextmanager
def answering(*answers: Answer | str) -> Iterator[ScriptedJudge]:
    """A server that runs; a text stands for a vote."""
    script = [Answer(text=answer) if isinstance(answer, str) else answer for answer in answers]
    with ScriptedJudge(script) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield server
        finally:
            server.stopped.set()
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedJudge

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.server.next_answer(content, self.headers.get("Authorization", ""))
        with self.server.counted():
            if answer.hang:
                self.server.stopped.wait(60)
                self.close_connection = True
                return
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        body = answer.body()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **answer.headers}
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
