"""One forward and backward pass of the alignment loss: ``python -m benchmarks.alignment_child official|ours|compiled``.

Writes a JSON object: value, wall and CPU seconds, and the memory that the pass needed beyond its inputs.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import normalize, relu

from refeval.training.alignment import align

SUBJECTS, TOKENS, WIDTH = 3, 1560, 1024

Loss = Callable[[Tensor, Tensor], Tensor]


def official(student_nc: Tensor, teacher_nc: Tensor) -> Tensor:
    """As the released code has it: the cosines of all pairs of tokens, and masks that choose among them."""
    student, teacher = normalize(student_nc, dim=-1), normalize(teacher_nc, dim=-1)
    positive = relu(1 - (student * teacher).sum(dim=-1)).mean()
    subject = torch.arange(len(student)) // TOKENS
    apart = subject[:, None] != subject[None]
    negative = relu(1 - (1 - student @ teacher.T))[apart].mean()
    return positive + negative


def ours(student_nc: Tensor, teacher_nc: Tensor) -> Tensor:
    """The project's loss."""
    shape = (1, SUBJECTS, TOKENS, WIDTH)
    terms = align(student_nc.view(shape), teacher_nc.view(shape))
    return (terms.positive + terms.negative).sum()


class Resident:
    """The highest resident memory in a block, above that at its start, looked at every 2 ms."""

    def __enter__(self) -> Self:
        self.base = self.peak = _resident()
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._watcher.join()

    @property
    def megabytes(self) -> float:
        return (self.peak - self.base) / 2**20

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self.peak = max(self.peak, _resident())


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main(which: str) -> None:
    """Measure and write the result."""
    loss: Loss = {"official": official, "ours": ours, "compiled": torch.compile(ours)}[which]
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(SUBJECTS * TOKENS, WIDTH, generator=generator).requires_grad_()
    teacher = torch.randn(SUBJECTS * TOKENS, WIDTH, generator=generator)
    # A small pass first: libraries make their threads and buffers, and a compiler its code, before the clock runs.
    loss(student, teacher).backward() if which == "compiled" else (student[:64] @ teacher[:64].T).sum().backward()
    student.grad = None
    with Resident() as memory:
        wall, cpu = time.perf_counter(), time.process_time()
        value = loss(student, teacher)
        value.backward()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert student.grad is not None
    found = {"value": value.item(), "gradient": student.grad.norm().item()}
    json.dump({**found, "wall": wall, "cpu": cpu, "rss": memory.megabytes}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
