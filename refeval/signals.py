"""Ctrl-C, SIGTERM and Slurm's SIGUSR1 end a command in order: the write at hand is finished, leases are freed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from refeval.errors import ExitCode

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stopped(BaseException):
    """The user or the scheduler wants the command to end."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.INTERRUPTED if self.signal_number == signal.SIGINT else ExitCode.TERMINATED


class _State:
    shielded = 0
    pending: int | None = None


def _handle(signal_number: int, _frame: FrameType | None) -> None:
    if _State.shielded:
        _State.pending = signal_number
        return
    raise Stopped(signal_number)


def stop_in_order() -> None:
    """Turn the stopping signals of this process into :class:`Stopped` in its main thread."""
    for number in _STOPPING:
        signal.signal(number, _handle)


@contextmanager
def no_interruption() -> Iterator[None]:
    """Hold a stopping signal back until the block has ended."""
    _State.shielded += 1
    try:
        yield
    finally:
        _State.shielded -= 1
        if not _State.shielded and _State.pending is not None:
            number, _State.pending = _State.pending, None
            raise Stopped(number)
