"""The processes that compute one clip together: the worker, and its followers on the other GPUs.

A follower takes commands as JSON lines from its standard input, tensors through ``torch.distributed``. It lives no
longer than the worker: when its standard input closes, it ends at once. A follower that dies takes the worker with
it, whose supervisor starts all of them again: after a forward that failed in one process no collective fits another.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
import torch.distributed as dist
from pydantic import BaseModel
from torch import Tensor

from refeval.errors import ExitCode, RefevalError
from refeval.generators.wan.parallel import START_S, Outline, join_group, open_store, send, spread

_POLL_S = 0.05
_GRACE_S = 10.0
_LAST_LINES = 12
# How long after an error of the computation it may show that a follower's death was behind it.
_DEATH_SHOWS_S = 3.0
_MODULE = "refeval.generators.wan.follower"


class FollowerOrder(BaseModel):
    """What a follower is to build: the first line of its standard input.

    Attributes:
        model: name in the catalogue.
        weights: the weights folder.
        dtype: of the transformer.
        attention: the backend asked for.
        compiled: compile the blocks.
        device: ``cpu`` or ``cuda``; its rank is then the number of its GPU.
        size: of the team.
        rank: 1 to size - 1.
        port: of the store on the loopback interface.
    """

    model: str
    weights: Path | None
    dtype: str
    attention: str
    compiled: bool
    device: str
    size: int
    rank: int = 0
    port: int = 0


class Command(BaseModel):
    """One forward with tensors to receive, or, without any, the end."""

    inputs: dict[str, Outline] | None = None


class _Follower:
    """A follower process, as the worker sees it.

    Args:
        order: for it.
        on_end: called in a thread of its own when it has ended.
    """

    def __init__(self, order: FollowerOrder, on_end: Callable[[_Follower], None]) -> None:
        self.rank = order.rank
        self.last: deque[str] = deque(maxlen=_LAST_LINES)
        self.process = subprocess.Popen(
            [sys.executable, "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._passing = threading.Thread(target=self._pass_on, daemon=True)
        self._passing.start()
        threading.Thread(target=self._watch, args=(on_end,), daemon=True).start()
        self.tell(order)

    def tell(self, message: BaseModel) -> None:
        """Send a line."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(message.model_dump_json() + "\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise self.failure() from error

    def end(self, *, told: bool) -> None:
        """See it gone: in order if it was told to end, else by the end of its standard input."""
        assert self.process.stdin is not None
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE_S if told else 0)
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def failure(self) -> RefevalError:
        """Why the worker cannot go on without it."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        # Its children may hold its output open.
        self._passing.join(1.0)
        code = self.process.returncode
        how = "is gone" if code is None else f"died of signal {-code}" if code < 0 else f"ended with exit code {code}"
        what = f"process {self.rank} of those that render a clip together {how}"
        return RefevalError(what, details=tuple(("it said", line) for line in self.last))

    def _pass_on(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.last.append(line.rstrip())
            sys.stderr.write(line)
            sys.stderr.flush()

    def _watch(self, on_end: Callable[[_Follower], None]) -> None:
        self.process.wait()
        on_end(self)


class Team:
    """A transformer spread over this process and its followers.

    The followers start, and load, as soon as it is made; :meth:`join` brings this process's transformer in.

    Args:
        order: for the followers; rank and port are filled in.
        device: of this process.

    Raises:
        RefevalError: the process has a team already.
    """

    def __init__(self, order: FollowerOrder, device: torch.device) -> None:
        self._device = device
        self._size = order.size
        # Busy also means: it once was, and failed.
        self._closing = self._joined = self._busy = False
        if dist.is_initialized():
            raise RefevalError(
                "this process is part of a group of torch.distributed already", cure="close the other model first"
            )
        self._store = open_store(order.size)
        self.followers: list[_Follower] = []
        atexit.register(self.close)
        for rank in range(1, order.size):
            mine = order.model_copy(update={"rank": rank, "port": self._store.port})
            self.followers.append(_Follower(mine, self._note_end))

    def join(self, transformer: object, velocity: Callable[..., Tensor]) -> None:
        """Wait until the followers have loaded, then spread the transformer over all.

        Args:
            transformer: on the CPU, as the followers have it.
            velocity: its forward.

        Raises:
            RefevalError: a follower failed, or did not start in time.
        """
        self._velocity = velocity
        self._await("started", START_S)
        self._await("loaded", float("inf"))
        self._joined = self._busy = True
        for follower in self.followers:
            # From here on a death ends this process; it may have come just before.
            if follower.process.poll() is not None:
                raise follower.failure()
        join_group(self._device, self._store, 0, self._size)
        spread(transformer, self._device)
        self._busy = False

    @torch.no_grad()
    def forward(self, **inputs: Tensor | None) -> Tensor:
        """The velocity, computed by all: keyword tensors as the transformer's forward takes them.

        Raises:
            RefevalError: the forward before this one failed.
        """
        if self._busy:
            self._end_process("a forward failed, after which the processes that render together are out of step")
        self._busy = True
        given = {name: tensor for name, tensor in inputs.items() if tensor is not None}
        command = Command(inputs={name: Outline.of(tensor) for name, tensor in given.items()})
        try:
            for follower in self.followers:
                follower.tell(command)
            velocity = self._velocity(**send(given, self._device))
        except Exception:
            # The other end of a connection may be missed sooner than its process; then _note_end ends this one.
            time.sleep(_DEATH_SHOWS_S)
            raise
        self._busy = False
        return velocity

    def close(self) -> None:
        """End the followers: in order where they wait for a command, by force where they do not."""
        if self._closing:
            return
        self._closing = True
        atexit.unregister(self.close)
        in_step = self._joined and not self._busy
        if in_step:
            for follower in self.followers:
                with suppress(RefevalError):
                    follower.tell(Command())
            dist.destroy_process_group()
        for follower in self.followers:
            follower.end(told=in_step)

    def _await(self, stage: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for follower in self.followers:
            while not self._store.check([f"{stage}-{follower.rank}"]):
                if follower.process.poll() is not None:
                    raise follower.failure()
                if time.monotonic() > deadline:
                    what = f"process {follower.rank} of those that render a clip together has not {stage}"
                    raise RefevalError(f"{what} within {seconds:.0f} s", cure="look at the worker's log")
                time.sleep(_POLL_S)

    def _note_end(self, follower: _Follower) -> None:
        if self._joined and not self._closing:
            self._end_process(str(follower.failure()))

    def _end_process(self, reason: str) -> None:
        # The main thread may wait in a collective for ever: nothing but the end of the process gets it out.
        sys.stderr.write(f"refeval: {reason}\n")
        sys.stderr.flush()
        os._exit(ExitCode.BUG)
