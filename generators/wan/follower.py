"""A process that computes its part of every forward of a :class:`~refeval.generators.wan.team.Team`.

Started as ``python -m refeval.generators.wan.follower``. The order comes as the first line of standard input,
commands as further lines; when standard input closes, the worker is gone and this process ends at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from queue import SimpleQueue
from typing import BinaryIO

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import Store

from refeval.errors import ExitCode, RefevalError
from refeval.generators.wan.catalogue import MODELS
from refeval.generators.wan.engine import make_ready, velocity_of
from refeval.generators.wan.parallel import dtype_named, find_store, join_group, receive, spread
from refeval.generators.wan.parts import parts_of
from refeval.generators.wan.team import Command, FollowerOrder
from refeval.weights import WeightsStore


@torch.no_grad()
def follow(order: FollowerOrder, commands: SimpleQueue[Command]) -> None:
    """Build the transformer, join the team, and take part in every forward until the end is commanded."""
    device = torch.device("cpu") if order.device == "cpu" else torch.device(order.device, order.rank)
    store = find_store(order.port, order.size)
    store.set(f"started-{order.rank}", "")
    velocity = _spread_transformer(order, device, store)
    while (inputs := commands.get().inputs) is not None:
        velocity(**receive(inputs, device))
    dist.destroy_process_group()


def _spread_transformer(order: FollowerOrder, device: torch.device, store: Store) -> Callable[..., Tensor]:
    parts = parts_of(MODELS[order.model], WeightsStore(order.weights))
    transformer = parts.transformer(dtype_named(order.dtype))
    make_ready(transformer, order.attention, device, compiled=order.compiled, split=True)
    store.set(f"loaded-{order.rank}", "")
    join_group(device, store, order.rank, order.size)
    spread(transformer, device)
    return velocity_of(transformer)


def _hear(lines: BinaryIO, commands: SimpleQueue[Command]) -> None:
    for line in lines:
        commands.put(Command.model_validate_json(line))
    os._exit(ExitCode.TERMINATED)


def main() -> int:
    """Run the follower process; returns its exit code."""
    # A terminal and a scheduler signal every process; it is the worker that decides when its followers end.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    lines = sys.stdin.buffer
    first = lines.readline()
    if not first:
        return ExitCode.TERMINATED
    commands: SimpleQueue[Command] = SimpleQueue()
    threading.Thread(target=_hear, args=(lines, commands), daemon=True).start()
    try:
        follow(FollowerOrder.model_validate_json(first), commands)
    except RefevalError as error:
        sys.stderr.write(f"refeval: {error}\n")
        return error.exit_code
    except Exception:  # noqa: BLE001 - the worker shows the end of it, and ends too
        traceback.print_exc()
        return ExitCode.BUG
    return ExitCode.OK


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Not in order: threads of a group whose other end is gone would be waited for.
    os._exit(code)
