"""The votes on one case: asked for in parallel, recorded one by one, and never asked for twice."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

from refeval.errors import RefevalError
from refeval.metrics.judges.base import Judge, Reply, Request
from refeval.metrics.judges.limits import Budget
from refeval.metrics.judges.replies import ReplyFolder


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A judge with its recorded replies and its budget.

    Attributes:
        judge: who is asked.
        replies: what is recorded; a reply that lies there is not asked for.
        budget: None: without a limit.
        at_once: requests in flight.
    """

    judge: Judge
    replies: ReplyFolder
    budget: Budget | None = None
    at_once: int = 6

    def ask(self, requests: Sequence[Request]) -> list[Reply]:
        """The reply to every request, in order.

        Every reply is recorded at once. When one request fails, those in flight are still waited for and recorded,
        and no other is sent.

        Raises:
            RefevalError: a request failed.
        """
        return in_parallel([partial(self._ask_one, request) for request in requests], self.at_once)

    def _ask_one(self, request: Request) -> Reply:
        reply = self.replies.find(request)
        if reply is not None:
            return reply
        with self.budget.call() if self.budget else nullcontext():
            reply = self.judge.ask(request)
            self.replies.write(request, reply)
        return reply


def in_parallel(tasks: Sequence[Callable[[], Reply]], at_once: int) -> list[Reply]:
    """Run tasks in threads that never hold the program up: a signal ends it with calls in flight.

    Raises:
        BaseException: what a task raised, once the tasks in flight have ended.
    """
    done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    results: dict[int, Reply] = {}
    waiting = iter(enumerate(tasks))
    lock = threading.Lock()
    failed = threading.Event()

    def work() -> None:
        try:
            while not failed.is_set():
                with lock:
                    number, task = next(waiting, (None, None))
                if number is None or task is None:
                    break
                results[number] = task()
        except BaseException as error:  # noqa: BLE001 - it is raised again where the thread was started
            failed.set()
            done.put(error)
        else:
            done.put(None)

    threads = min(at_once, len(tasks))
    for _ in range(threads):
        threading.Thread(target=work, daemon=True).start()
    errors = [error for error in _outcomes(done, threads) if error]
    if errors:
        # That the judge is gone, or the disk full, matters more than one vote that failed at the same time.
        raise min(errors, key=lambda error: type(error) is RefevalError)
    return [results[number] for number in range(len(tasks))]


def _outcomes(done: queue.SimpleQueue[BaseException | None], count: int) -> Iterator[BaseException | None]:
    for _ in range(count):
        yield done.get()
