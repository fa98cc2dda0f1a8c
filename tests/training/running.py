"""Training commands as a user runs them: the whole of ``refeval``, in processes of their own.

Importing torch takes longer than most trainings here, so the processes are forked from one that has imported
everything and computed nothing yet.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from refeval.errors import RefevalError
from refeval.signals import Stopped, stop_in_order
from refeval.training.checkpoints import checkpoints, read_checkpoint

PATIENCE_S = 600

SMALL_RECIPE = """
[network]
base = "sprites"
width = 32
blocks = 2
heads = 2

[objective]
depth = 1
eta = 0.2

[teacher]
names = ["sprites-identity"]
precision = "fp32"

[data]
width = 16
height = 16
frames = 8
fps = 8.0
references = 1
drop_text = 0.1
drop_references = 0.2
drop_both = 0.1

[optimizer]
name = "muon"
learning_rate = 1e-3
warmup = 3
cooldown = 0.3
clip_norm = 1.0
ema = 0.9

[run]
iterations = 20
global_batch = 4
micro_batch = 2
precision = "fp32"
checkpointing = false
save_every = 5
sample_every = 10

[testbed]
teacher_steps = 2
steps = 2
assessed_clips = 2
"""
"""A second of work; everything that a training can have is in it."""

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    [
        "refeval.cli",
        "refeval.commands.train",
        "refeval.training.session",
        "refeval.training.conclusion",
        "refeval.training.exporting",
        "refeval.training.observers.everyone",
        "refeval.training.testbed.world",
        "refeval.training.wan_world",
        "torch.utils.tensorboard",
        "matplotlib.pyplot",
        "sklearn.manifold",
        "tests.training.running",
    ]
)


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: its exit code; below 0: the signal that killed it.
        out: what it printed.
        err: what it complained of.
    """

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Running:
    """A process, and where what it says goes."""

    process: BaseProcess
    out: Path
    err: Path

    def ended(self) -> Ended:
        """Wait for its end; one that never ends is killed, and fails the test."""
        self.process.join(PATIENCE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            raise AssertionError(f"it did not end in {PATIENCE_S} s: {self.err.read_text()}")
        assert self.process.exitcode is not None
        return Ended(self.process.exitcode, self.out.read_text(), self.err.read_text())

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


def start(
    says: Path,
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    limit_bytes: int | None = None,
    work: Callable[..., None] | None = None,
) -> Running:
    """Start ``refeval ARGUMENTS`` in a process group of its own.

    Args:
        says: beginning of the names of files for what it prints.
        arguments: of the command.
        env: more variables.
        limit_bytes: no file can become larger, as on a disk that is full.
        work: done in place of the command.
    """
    out, err = says.with_suffix(".out"), says.with_suffix(".err")
    settings = {"OMP_NUM_THREADS": "1", "COLUMNS": "200", **(env or {})}
    process = _forks.Process(
        target=_be, args=([str(one) for one in arguments], settings, str(out), str(err), limit_bytes, work)
    )
    process.start()
    return Running(process, out, err)


def refeval_again_and_again(says: Path, commands: Sequence[Sequence[str | Path]]) -> list[Ended]:
    """Run commands, each to its end, one after the other in one process."""
    texts = json.dumps([[str(one) for one in command] for command in commands])
    ended = start(says, texts, work=_again_and_again).ended()
    assert ended.code == 0, ended.err
    return [Ended(**found) for found in json.loads(ended.out)]


def refeval(
    says: Path, *arguments: str | Path, env: Mapping[str, str] | None = None, limit_bytes: int | None = None
) -> Ended:
    """Run ``refeval ARGUMENTS`` to its end."""
    return start(says, *arguments, env=env, limit_bytes=limit_bytes).ended()


def ranks(
    says: Path,
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    work: Callable[..., None] | None = None,
) -> list[Running]:
    """Start a command as two processes of one training, with what a launcher tells them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return [
        start(
            says.with_name(f"{says.name}-{rank}"),
            *arguments,
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank), **(env or {})},
            work=work,
        )
        for rank in range(2)
    ]


def only_train(config: str, folder: str, sharding: str, *changes: str) -> None:
    """Work of a process: ``refeval train`` without what is measured at the end.

    Args:
        config: path of a recipe.
        folder: of the training.
        sharding: as the option.
        changes: of the recipe, FIELD=VALUE.
    """
    from refeval.commands.console import last_word
    from refeval.commands.train import parse_change
    from refeval.training.observers.step_log import StepLog
    from refeval.training.recipe import read_recipe
    from refeval.training.session import TrainingRequest, train

    recipe = read_recipe(config, dict(map(parse_change, changes)))
    request = TrainingRequest(recipe=recipe, folder=Path(folder), sharding=cast("Any", sharding))
    stop_in_order()
    try:
        train(request, lambda: StepLog(request.folder), lambda complaint: sys.stderr.write(f"{complaint}\n"))
    except (Stopped, RefevalError) as error:
        sys.exit(last_word(error))


def tensors_of(training: Path, step: int | None = None) -> dict[str, Tensor]:
    """Every tensor of a checkpoint: parameters, optimizers and average; by default of the last one."""
    folders = dict(checkpoints(training))
    state = read_checkpoint(folders[step or max(folders)])
    parts = {"parameters": state.parameters, "optimizers": state.optimizers, "average": state.average}
    return {f"{part} {name}": tensor.clone() for part, tensors in parts.items() for name, tensor in tensors.items()}


def lines_of(training: Path) -> list[dict[str, Any]]:
    """The lines of steps.jsonl, without what differs between two runs of one training."""
    rows = [json.loads(line) for line in (training / "steps.jsonl").read_text().splitlines()]
    for row in rows:
        del row["machine"]
    return rows


def _again_and_again(commands: str) -> None:
    from refeval.cli import main

    found = []
    for command in json.loads(commands):
        sys.argv = ["refeval", *command]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as end:
                found.append({"code": int(end.code or 0), "out": out.getvalue(), "err": err.getvalue()})
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def _be(
    arguments: list[str],
    env: dict[str, str],
    out: str,
    err: str,
    limit_bytes: int | None,
    work: Callable[..., None] | None,
) -> None:
    os.setsid()
    os.environ.update(env)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if limit_bytes is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    if work is not None:
        work(*arguments)
        return
    from refeval.cli import main

    sys.argv = ["refeval", *arguments]
    main()
