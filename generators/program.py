"""One run of an external program: its own process group, a time limit, and a log without secrets."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from refeval.redaction import Redactor

LOG_LIMIT = 10 * 2**20
_LINE_LIMIT = 64 * 2**10
_SHOWN = 300
_GRACE_S = 5.0
# Death by SIGKILL is quick but not instant.
_KILL_S = 1.0
_POLL_S = 0.02
_DRAIN_S = 1.0
_DRAIN_READS = 64
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


class ProgramLog:
    """Appends a program's output to a file, redacted, up to a limit.

    Memory stays bounded however long a line is. Use it as a context manager.

    Args:
        path: the file; its folder is made.
        redactor: takes the secrets out before anything is written.
        limit: bytes of output that are kept; a note says where the rest was cut.
    """

    def __init__(self, path: Path, redactor: Redactor, *, limit: int = LOG_LIMIT) -> None:
        self._path = path
        self._redactor = redactor
        self._limit = limit
        self._left = limit
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self._tail = ""

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = self._path.open("ab")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def header(self, text: str) -> None:
        """Start an attempt."""
        self._tail = ""
        self.note(text)

    def note(self, text: str) -> None:
        """A line of our own, redacted and written whatever the limit says."""
        self._file.write(f"== {self._redactor.text(text)}\n".encode(errors="replace"))
        self._file.flush()

    def feed(self, output: bytes) -> None:
        """Take more output."""
        self._pending += self._decoder.decode(output)
        lines, newline, self._pending = self._pending.rpartition("\n")
        self._write(self._redactor.text(lines + newline))
        if len(self._pending) > _LINE_LIMIT:
            done, self._pending = self._redactor.split(self._pending)
            self._write(done)

    def end(self) -> None:
        """The program has ended: write what is left, as a whole line."""
        self._pending += self._decoder.decode(b"", final=True)
        if self._pending:
            self._write(self._redactor.text(self._pending) + "\n")
        self._pending = ""

    @property
    def last_line(self) -> str:
        """The last line of the present attempt that is not blank, redacted, at most 300 characters."""
        lines = [line.strip() for line in re.split(r"[\r\n]+", self._tail)]
        line = next((line for line in reversed(lines) if line), "")
        return _CONTROL.sub("", line)[-_SHOWN:]

    def _write(self, text: str) -> None:
        self._tail = (self._tail + text)[-4 * _SHOWN :]
        content = text.encode(errors="replace")
        if self._left <= 0 or not content:
            return
        self._file.write(content[: self._left])
        self._left -= len(content)
        if self._left <= 0:
            self._file.write(f"\n== cut here: {self._limit:,} bytes of output are kept\n".encode())
        self._file.flush()


def run_program(
    arguments: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    timeout_s: float,
    log: ProgramLog,
) -> int | None:
    """Run a program to its end; nothing that it started outlives it.

    Args:
        arguments: program and arguments, passed on as they are.
        folder: working directory.
        environment: all of it.
        timeout_s: seconds until its process group is ended (SIGTERM, 5 seconds later SIGKILL).
        log: takes stdout and stderr.

    Returns:
        The exit code, negative for a signal; None when the time was up.

    Raises:
        OSError: it cannot be started.
        ValueError: an argument cannot be passed on (it holds a NUL character, say).
    """
    process = subprocess.Popen(
        list(arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=dict(environment),
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout as output:
        os.set_blocking(output.fileno(), False)
        try:
            return _follow(process, output.fileno(), time.monotonic() + timeout_s, log)
        finally:
            # Also when this process is interrupted, and for children that a program leaves behind.
            _end_group(process)
            _drain(output.fileno(), log)


def _follow(process: subprocess.Popen[bytes], output: int, deadline: float, log: ProgramLog) -> int | None:
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        is_open, ended = True, False
        while time.monotonic() < deadline:
            if not ended and process.poll() is not None:
                ended = True
                # Children that write on and on do not keep a program that has ended.
                deadline = min(deadline, time.monotonic() + _DRAIN_S)
            if is_open and selector.select(0 if ended else _POLL_S):
                is_open = _copy(output, log)
            elif ended:
                break
            elif not is_open:
                time.sleep(_POLL_S)
    return process.poll()


def _copy(output: int, log: ProgramLog) -> bool:
    """Pass on what there is to read; False at the end of the output."""
    data = os.read(output, _LINE_LIMIT)
    log.feed(data)
    return bool(data)


def _drain(output: int, log: ProgramLog) -> None:
    """What a program said on its way out; its group is gone, so a pipe's content is all there can be."""
    with contextlib.suppress(BlockingIOError):
        for _ in range(_DRAIN_READS):
            if not _copy(output, log):
                break
    log.end()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    # A group is numbered by the process id of its first member and keeps the number while any member lives.
    try:
        _signal_until_gone(process, signal.SIGTERM, _GRACE_S)
    finally:
        # A second Ctrl-C lands here at once.
        _signal_until_gone(process, signal.SIGKILL, _KILL_S)
        process.wait()


def _signal_until_gone(process: subprocess.Popen[bytes], number: int, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    alive = _signal_group(process, number)
    while alive and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        alive = _signal_group(process, 0)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    """Send a signal (0: none) to the group; False when nobody is left in it."""
    process.poll()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
        return True
    return False
