"""Samples for a process, read ahead by threads: pictures and videos are decoded while the network works."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from refeval.training.examples import Sample, Source


def own_positions(step: int, global_batch: int, rank: int, processes: int) -> range:
    """The positions of one process in an iteration (from 0).

    Raises:
        ValueError: the batch cannot be shared out evenly.
    """
    share, rest = divmod(global_batch, processes)
    if rest:
        raise ValueError(f"{global_batch} samples for {processes} processes")
    first = step * global_batch + rank * share
    return range(first, first + share)


def feed(
    source: Source, groups: Iterator[Sequence[int]], *, ahead: int, threads: int
) -> Generator[tuple[Sequence[int], list[Sample]]]:
    """Positions and their samples, in order.

    Args:
        source: of the samples.
        groups: positions that are wanted together.
        ahead: how many groups are being read at once.
        threads: that read.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="samples") as pool:
        waiting: deque[tuple[Sequence[int], list[Future[Sample]]]] = deque()
        try:
            for group in groups:
                waiting.append((group, [pool.submit(source.sample, position) for position in group]))
                if len(waiting) > ahead:
                    yield _read(*waiting.popleft())
            while waiting:
                yield _read(*waiting.popleft())
        finally:
            for _, futures in waiting:
                for future in futures:
                    future.cancel()


def _read(group: Sequence[int], futures: list[Future[Sample]]) -> tuple[Sequence[int], list[Sample]]:
    return group, [future.result() for future in futures]
