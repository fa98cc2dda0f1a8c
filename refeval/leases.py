"""Leases: several processes, on one machine or many, share the tasks of one run folder.

A lease is a file ``leases/<task>.<generation>``, made by an exclusive link; the highest generation owns the task.
Who finds the owner dead makes the next generation, and of several who try only one can. After making its file a
process looks again and gives up if it sees another living claim; two claims made at once may both give up, never
both win. Plain files, because run folders live on NFS and Lustre, where file locks may be local to a node.

An owner on this machine is dead when its process is gone. An owner elsewhere is dead when its file's time has
not moved for ``_SILENCE_S`` seconds of the observer's own clock, so clocks need not agree.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from refeval.documents import naming_a_full_disk
from refeval.faults import fault_point
from refeval.signals import no_interruption

_HEARTBEAT_S = 15.0
_SILENCE_S = 90.0


@dataclass
class LeaseBook:
    """The leases of one run folder, as one process sees and takes them.

    Args:
        folder: ``RUN/leases``.
    """

    folder: Path
    _token: str = field(default_factory=lambda: secrets.token_hex(8))
    _held: dict[str, list[Path]] = field(default_factory=dict)
    _observed: dict[Path, tuple[int, float]] = field(default_factory=dict)
    _heart: threading.Thread | None = None

    @contextmanager
    def hold(self, task: str) -> Iterator[bool]:
        """Try to take a task; the block runs either way and is told whether the task is ours.

        Args:
            task: a file name.
        """
        try:
            ours = self._take(task)
            if ours:
                fault_point("lease-taken")
            yield ours
        finally:
            # A signal may have come between the making of the claim and here.
            if task in self._held:
                fault_point("before-release")
                self._release(task)

    def sweep(self) -> None:
        """Remove what dead owners have left behind; their tasks are free with or without it."""
        for claim in sorted(self.folder.glob("*.*")):
            if not claim.name.startswith("."):
                self._remove_if_dead(claim)

    def _take(self, task: str) -> bool:
        with naming_a_full_disk(self.folder / task):
            self.folder.mkdir(parents=True, exist_ok=True)
        claims = self._claims(task)
        if any(self._is_alive(claim) for claim in claims):
            return False
        generation = max((int(claim.suffix[1:]) for claim in claims), default=-1) + 1
        mine = self.folder / f"{task}.{generation}"
        with no_interruption():
            if not self._make(mine):
                return False
            self._held[task] = [*claims, mine]
        rivals = [claim for claim in self._claims(task) if claim != mine and self._is_alive(claim)]
        if rivals:
            self._release(task)
            return False
        self._beat()
        return True

    def _release(self, task: str) -> None:
        with no_interruption():
            *dead, mine = self._held.pop(task)
            for claim in dead:
                self._remove_if_dead(claim)
            mine.unlink(missing_ok=True)

    def _remove_if_dead(self, claim: Path) -> None:
        # Looked at now, not earlier: the name may have been freed and taken by a living owner since.
        if not self._is_alive(claim):
            claim.unlink(missing_ok=True)

    def _claims(self, task: str) -> list[Path]:
        # Task names hold dots, so the generation is what follows the last one.
        paths = self.folder.glob(f"{glob.escape(task)}.*")
        return sorted(p for p in paths if p.stem == task and p.suffix[1:].isdigit())

    def _make(self, path: Path) -> bool:
        owner = {**_identity(), "token": self._token}
        # The owner must be readable the moment the name exists: link is atomic, and exclusive on NFS too.
        temporary = self.folder / f".{path.name}.{self._token}.tmp"
        try:
            with naming_a_full_disk(path):
                temporary.write_text(json.dumps(owner))
                os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _is_alive(self, claim: Path) -> bool:
        try:
            owner = json.loads(claim.read_text())
            changed = claim.stat().st_mtime_ns
        except (FileNotFoundError, ValueError):
            return False
        except OSError:
            # A network file system that stumbles says nothing about the owner.
            return True
        if owner.get("token") == self._token:
            return True
        here = _identity()
        if all(owner.get(key) == here[key] for key in ("host", "boot", "namespace")):
            return bool(owner.get("started") == _start_of(int(owner["pid"])))
        before, since = self._observed.get(claim, (-1, 0.0))
        if changed != before:
            self._observed[claim] = (changed, time.monotonic())
            return True
        return time.monotonic() - since < _SILENCE_S

    def _beat(self) -> None:
        if self._heart is None:
            self._heart = threading.Thread(target=self._keep_beating, daemon=True)
            self._heart.start()

    def _keep_beating(self) -> None:
        while True:
            time.sleep(_HEARTBEAT_S)
            for claims in list(self._held.values()):
                with contextlib.suppress(OSError):
                    os.utime(claims[-1])


def _identity() -> dict[str, str | int]:
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "boot": _read("/proc/sys/kernel/random/boot_id"),
        "namespace": _namespace(),
        "pid": pid,
        "started": _start_of(pid),
    }


def _start_of(pid: int) -> str:
    """When a process of this machine began, in the kernel's ticks; empty if there is none.

    Without /proc the existence of the pid has to do.
    """
    if Path("/proc/self/stat").exists():
        # The name of the program may hold blanks and brackets; the fields behind its last bracket do not.
        fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        return fields[19] if len(fields) > 19 and fields[0] != "Z" else ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "running"
    return "running"


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
