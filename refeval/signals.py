"""Ctrl-C, SIGTERM and Slurm's SIGUSR1 end a command in order: the write at hand is finished, leases are freed."""

from __future__ import annotations

import os
import signal
import threading
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
    received: int | None = None


def _handle(signal_number: int, _frame: FrameType | None) -> None:
    # The first signal stops; one that follows must not break into the cleaning up that it set off.
    if _State.received is None:
        _State.received = signal_number
        if not _State.shielded:
            raise Stopped(signal_number)


def stop_in_order() -> None:
    """Turn the stopping signals of this process into :class:`Stopped` in its main thread."""
    for number in _STOPPING:
        signal.signal(number, _handle)


@contextmanager
def no_interruption() -> Iterator[None]:
    """Hold a stopping signal back until the block has ended.

    Signals come to the main thread alone: elsewhere there is nothing to hold back, and nobody to stop.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.shielded += 1
    try:
        yield
    finally:
        _State.shielded -= 1
    # Not where the block has failed: a stop would hide why.
    if not _State.shielded:
        raise_if_stopped()


def end_with_parent() -> None:
    """Have this process stop in order when its standard input closes: whoever has started it is gone."""
    threading.Thread(target=_stop_at_end_of_input, daemon=True).start()


def _stop_at_end_of_input() -> None:
    # Read below Python's buffers: they are locked while the main thread may still use them at exit.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def stop_received() -> Stopped | None:
    """The stop that a signal has asked for, if one has."""
    return None if _State.received is None else Stopped(_State.received)


def raise_if_stopped() -> None:
    """Raise :class:`Stopped` once a signal has come.

    To be called between tasks and before an error is taken for a failure of its case: compiled code that was
    calling back into Python turns the exception of the signal into one of its own, or drops it.
    """
    stop = stop_received()
    if stop:
        raise stop from None
