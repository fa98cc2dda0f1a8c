"""The server over real HTTP: happy path, replay, limits, path tricks, many raters, an end in order."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from socketserver import ThreadingMixIn
from typing import Any

import pytest

from refeval.errors import BadInput
from refeval.studies.key import read_tokens
from refeval.studies.making import MadeStudy
from refeval.studies.server import LARGEST_VOTE, MOST_CONNECTIONS, StudyServer
from refeval.studies.vote_log import VoteLog
from refeval.studies.votes import read_votes
from tests.guarantees.command import kill_group, refeval, start
from tests.studies.sheet import vote

LOOPBACK = "127.0.0.1"


@pytest.fixture
def tokens(small: MadeStudy) -> dict[str, str]:
    """Rater -> token."""
    return {rater: token for token, rater in read_tokens(small.key).items()}


@pytest.fixture
def server(small: MadeStudy) -> Iterator[StudyServer]:
    with StudyServer(small.study, read_tokens(small.key), (LOOPBACK, 0), seconds_to_ask=2).running() as running:
        yield running


class Reply:
    """Status, headers and body of an answer."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, response.headers, response.read()


def ask(server: StudyServer, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
    connection = http.client.HTTPConnection(LOOPBACK, server.server_address[1], timeout=20)
    try:
        connection.putrequest(method, path, skip_host=False)
        if body is not None and "Content_Length" not in headers:
            connection.putheader("Content-Length", str(len(body)))
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        return Reply(connection.getresponse())
    finally:
        connection.close()


def post(server: StudyServer, token: str, content: object, **headers: str) -> Reply:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    given = {"Content_Type": "application/json", "Authorization": f"Bearer {token}", **headers}
    return ask(server, "POST", "/vote", body, **given)


def lines(study: MadeStudy) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (study.study.folder / "votes.jsonl").read_text().splitlines()]


def test_a_rater_gets_the_sheet_and_votes_and_a_replay_is_stored_once(
    small: MadeStudy, server: StudyServer, tokens: dict[str, str]
) -> None:
    page = ask(server, "GET", f"/r/{tokens['r02']}")
    assert page.status == 200
    assert page.body == (small.study.folder / "sheets" / "r02.html").read_bytes()
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff" and page.headers["Cache-Control"] == "no-store"
    one = vote(small.study, "r02", "s001")
    assert [post(server, tokens["r02"], one).status for _ in range(3)] == [201, 200, 200]
    (line,) = lines(small)
    assert line.pop("received") > 1_700_000_000_000 and line == one
    changed = {**one, "answer": "right"}
    assert post(server, tokens["r02"], changed).status == 200, "an id is stored once, whatever comes with it"
    assert [line["answer"] for line in lines(small)] == ["left"]


def test_what_is_stored_is_known_after_a_restart(small: MadeStudy, tokens: dict[str, str]) -> None:
    one = vote(small.study, "r01", "s001")
    for status in (201, 200):
        with StudyServer(small.study, read_tokens(small.key), (LOOPBACK, 0)).running() as running:
            assert post(running, tokens["r01"], one).status == status
    assert len(lines(small)) == 1


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"item": "s999"}, "unknown item"),
        ({"rater": "r99"}, "unknown rater"),
        ({"rater": "r01"}, "another rater"),
        ({"study": "f" * 64}, "another study"),
        ({"answer": "maybe"}, "not a vote"),
        ({"number": 0}, "not a vote"),
        ({"id": "x"}, "not a vote"),
        ({"extra": "field"}, "not a vote"),
    ],
)
def test_votes_that_do_not_belong_are_refused(
    small: MadeStudy, server: StudyServer, tokens: dict[str, str], change: dict[str, Any], problem: str
) -> None:
    reply = post(server, tokens["r02"], {**vote(small.study, "r02", "s001"), **change})
    assert reply.status == 400
    assert problem in json.loads(reply.body)["text"]
    assert lines(small) == []


def test_wrong_requests_get_their_status_and_leave_no_trace(
    small: MadeStudy, server: StudyServer, tokens: dict[str, str]
) -> None:
    one, token = vote(small.study, "r01", "s001"), tokens["r01"]
    assert post(server, token, b"not json").status == 400
    assert post(server, token, b"[" * 5000).status == 400
    assert post(server, token, b"\xff\xfe").status == 400
    assert post(server, token, [one]).status == 400
    assert post(server, "wrong", one).status == 401
    assert post(server, "", one).status == 401
    assert post(server, token, one, Authorization=f"Basic {token}").status == 401
    assert post(server, token, one, Content_Type="text/plain").status == 415
    assert post(server, token, one, Content_Length=str(LARGEST_VOTE + 1)).status == 413
    assert post(server, token, one, Content_Length="9" * 5000).status == 413
    assert post(server, token, one, Content_Length="-1").status == 411
    assert post(server, token, one, Transfer_Encoding="chunked").status == 411
    assert ask(server, "POST", "/votes", b"{}").status == 404
    for method in ("PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"):
        reply = ask(server, method, f"/r/{token}")
        assert reply.status == 405 and reply.headers["Allow"] == "GET, POST"
    assert lines(small) == []
    assert post(server, token, one).status == 201, "and the server goes on"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/r/",
        "/r/r01",
        "/r/../study.json",
        "/r/%2e%2e/study.json",
        "/r/..%2f..%2fstudy-key%2fkey.csv",
        "/sheets/r01.html",
        "/study.json",
        "/votes.jsonl",
        "//etc/passwd",
        "/r/TOKEN/../r02",
        "/r/TOKEN/",
        "/r/TOKEN?x=1",
        "/r/TOKEN%00",
        "/x/../r/TOKEN",
        "http://elsewhere/r/TOKEN",
    ],
)
def test_no_path_leads_to_a_file(server: StudyServer, tokens: dict[str, str], path: str) -> None:
    reply = ask(server, "GET", path.replace("TOKEN", tokens["r01"]))
    assert reply.status == 404
    assert re.fullmatch(r'\{\n "status": 404,\n "text": "[^"]+"\n\}\n', reply.body.decode())


def test_many_raters_at_once_leave_whole_lines(small: MadeStudy, server: StudyServer, tokens: dict[str, str]) -> None:
    votes = [
        vote(small.study, rater, item, answer, number=number)
        for rater, screens in small.study.screens.items()
        for number, (item, answer) in enumerate(((i, a) for i in screens for a in ("left", "right", "tie")), 1)
    ]
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda one: post(server, tokens[one["rater"]], one).status, votes * 2))
    assert sorted(replies) == [200] * len(votes) + [201] * len(votes)
    assert {line["id"] for line in lines(small)} == {one["id"] for one in votes}
    assert len(lines(small)) == len(read_votes(small.study)) == len(votes)


@pytest.mark.parametrize(
    "sent", [b"", b"GET /r/x HTTP/1.1\r\nA: b\r\n", b"POST /vote HTTP/1.1\r\nContent-Length: 99\r\n"]
)
def test_a_request_that_trickles_is_cut_off_while_others_are_served(
    server: StudyServer, tokens: dict[str, str], sent: bytes
) -> None:
    started = time.monotonic()
    with socket.create_connection((LOOPBACK, server.server_address[1]), timeout=20) as slow:
        slow.sendall(sent)
        assert ask(server, "GET", f"/r/{tokens['r01']}").status == 200
        with pytest.raises(OSError):
            for _ in range(100):
                slow.sendall(b"x")
                time.sleep(0.1)
    assert time.monotonic() - started < 8
    assert ask(server, "GET", f"/r/{tokens['r01']}").status == 200


def test_a_body_that_stops_short_is_no_vote(small: MadeStudy, server: StudyServer, tokens: dict[str, str]) -> None:
    body = json.dumps(vote(small.study, "r01", "s001")).encode()
    head = f"POST /vote HTTP/1.1\r\nAuthorization: Bearer {tokens['r01']}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((LOOPBACK, server.server_address[1]), timeout=20) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert lines(small) == []


def test_places_are_bounded_and_given_back(
    server: StudyServer, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = (LOOPBACK, server.server_address[1])
    for _ in range(MOST_CONNECTIONS + 2):
        assert ask(server, "GET", "/").status == 404
    with monkeypatch.context() as broken:

        def refuse(*_: object) -> None:
            raise RuntimeError("can't start new thread")

        broken.setattr(ThreadingMixIn, "process_request", refuse)
        for _ in range(MOST_CONNECTIONS + 2):
            with socket.create_connection(address, timeout=20) as connection:
                assert connection.recv(1) == b""
    assert ask(server, "GET", f"/r/{tokens['r01']}").status == 200
    idle = [socket.create_connection(address, timeout=20) for _ in range(MOST_CONNECTIONS)]
    with socket.create_connection(address, timeout=1) as one_more:
        assert one_more.recv(1) == b"", "closed at once, not after the two seconds that the others have"
    for connection in idle:
        connection.recv(1)
        connection.close()
    wait_for(lambda: ask(server, "GET", f"/r/{tokens['r01']}").status == 200)


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError, http.client.HTTPException):
            if condition():
                return
        time.sleep(0.1)
    raise AssertionError("it never came true")


@pytest.mark.parametrize("acknowledged", [1, 7, 23])
def test_sigkill_loses_no_acknowledged_vote(small: MadeStudy, tokens: dict[str, str], acknowledged: int) -> None:
    study, stored = small.study, set()
    process = start("study", "serve", study.folder, "--port", "0", "--json")
    port = int(json.loads(read_json(process))["address"].rsplit(":", 1)[1])

    def cast(number: int) -> None:
        one = vote(study, "r01", "s001", number=number)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {tokens['r01']}"}
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(LOOPBACK, port, timeout=20)
            connection.request("POST", "/vote", json.dumps(one), headers)
            if connection.getresponse().status == 201:
                stored.add(one["id"])
        if len(stored) >= acknowledged:
            process.kill()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(cast, range(1, acknowledged + 20)))
    kill_group(process)
    assert len(stored) >= acknowledged and process.returncode == -signal.SIGKILL
    # What stood half written is cut off when the study is opened again, and nothing else.
    with (study.folder / "votes.jsonl").open("ab") as file:
        file.write(b'{"answer": "le')
    VoteLog(study).close()
    assert stored <= {one.id for one in read_votes(study)}


def test_what_cannot_be_stored_is_not_acknowledged(
    small: MadeStudy, server: StudyServer, tokens: dict[str, str]
) -> None:
    server.log.close()
    assert post(server, tokens["r01"], vote(small.study, "r01", "s001")).status == 503
    assert lines(small) == []


def test_a_full_disk_leaves_no_half_line(small: MadeStudy, tokens: dict[str, str]) -> None:
    process = start("study", "serve", small.study.folder, "--port", "0", "--json", limit_bytes=600)
    try:
        port = int(json.loads(read_json(process))["address"].rsplit(":", 1)[1])
        statuses = []
        for number in range(1, 5):
            connection = http.client.HTTPConnection(LOOPBACK, port, timeout=20)
            body = json.dumps(vote(small.study, "r01", "s001", number=number))
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {tokens['r01']}"}
            connection.request("POST", "/vote", body, headers)
            statuses.append(connection.getresponse().status)
        assert statuses == [201, 201, 503, 503]
        assert [line["number"] for line in lines(small)] == [1, 2]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def read_json(process: Any) -> str:
    text = ""
    while not text.endswith("}\n"):
        text += process.stdout.readline()
    return text


def test_ctrl_c_ends_in_order_and_no_token_is_printed(small: MadeStudy, tokens: dict[str, str]) -> None:
    process = start("study", "serve", small.study.folder, "--port", "0", "--json")
    said = read_json(process)
    address = json.loads(said)["address"]
    assert address.startswith(f"http://{LOOPBACK}:")
    second = refeval("study", "serve", small.study.folder, "--port", "0")
    assert second.returncode == 2 and "open in another process" in second.stderr
    stuck = socket.create_connection((LOOPBACK, int(address.rsplit(":", 1)[1])))
    connection = http.client.HTTPConnection(LOOPBACK, int(address.rsplit(":", 1)[1]), timeout=20)
    connection.request("GET", f"/r/{tokens['r01']}")
    assert connection.getresponse().status == 200
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    stuck.close()
    assert process.returncode == 130
    assert "nothing recorded is lost" in err and "refeval study serve" in err
    for token in tokens.values():
        assert token not in said + out + err
    VoteLog(small.study).close()


def test_a_port_that_is_taken_and_tokens_of_another_study(small: MadeStudy, server: StudyServer) -> None:
    done = refeval("study", "serve", small.study.folder, "--key", small.key.parent)
    assert done.returncode == 2 and "not the key of a study" in done.stderr
    with pytest.raises(BadInput, match="not those of this study"):
        StudyServer(small.study, {"token": "r01"}, (LOOPBACK, 0))
    server.log.close()
    before = threading.active_count()
    with pytest.raises(BadInput, match="cannot listen"):
        StudyServer(small.study, read_tokens(small.key), (LOOPBACK, server.server_address[1]))
    # Threads of other servers may end meanwhile; a server that could not listen leaves none of its own.
    assert threading.active_count() <= before
