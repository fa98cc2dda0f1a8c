"""Which GPUs a command may use, and which of them each worker sees. No torch here."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from pathlib import Path

from refeval.errors import BadInput, MissingPrerequisite

VISIBLE = "CUDA_VISIBLE_DEVICES"
_LISTED = re.compile(r"GPU \d+: (.+?)(?: \(UUID: .*\))?$")
_DRIVER = Path("/proc/driver/nvidia/gpus")


def visible_gpus() -> list[str]:
    """The GPUs of this process, as ``CUDA_VISIBLE_DEVICES`` names them: its entries, else every GPU there is."""
    named = _named_gpus()
    return [str(index) for index in range(_count_installed())] if named is None else named


def require_gpus(count: int) -> None:
    """Look whether there are so many GPUs.

    Raises:
        BadInput: ``CUDA_VISIBLE_DEVICES`` names fewer.
        MissingPrerequisite: the machine has fewer.
    """
    there = len(visible_gpus())
    if there >= count:
        return
    if _named_gpus() is not None:
        what = f"asked for {count} GPUs, {VISIBLE} names {there}"
        raise BadInput(what, cure=f"--gpus {there}, or another {VISIBLE}" if there else f"unset {VISIBLE}")
    cure = f"--gpus {there}" if there else "leave --gpus out, or run where nvidia-smi -L lists GPUs"
    raise MissingPrerequisite(f"asked for {count} GPUs, this machine shows {there}", cure=cure)


def share_gpus(count: int, per_worker: int) -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` is to be for each of ``count / per_worker`` workers.

    The machine is not looked at: that is :func:`require_gpus`.
    """
    named = _named_gpus()
    gpus = [str(index) for index in range(count)] if named is None else named[:count]
    return [",".join(gpus[start : start + per_worker]) for start in range(0, count, per_worker)]


def _named_gpus() -> list[str] | None:
    value = os.environ.get(VISIBLE)
    if value is None:
        return None
    # As CUDA reads it: what stands behind an entry that is none does not count.
    return list(itertools.takewhile(lambda entry: entry not in ("", "-1"), map(str.strip, value.split(","))))


def gpu_names() -> list[str]:
    """The GPUs of this machine by name, as far as its driver tells."""
    return [match[1] for line in _ask_driver("-L") if (match := _LISTED.match(line))]


def gpu_memory() -> list[int]:
    """Bytes of memory of every GPU of this machine, as far as its driver tells."""
    lines = _ask_driver("--query-gpu=memory.total", "--format=csv,noheader,nounits")
    return [int(line) << 20 for line in lines if line.strip().isdigit()]


def _count_installed() -> int:
    if shutil.which("nvidia-smi"):
        return sum(line.startswith("GPU ") for line in _ask_driver("-L"))
    return len(list(_DRIVER.glob("*")))


def _ask_driver(*arguments: str) -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        answer = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        # A driver that does not answer leaves no GPU to render on.
        return []
    return answer.stdout.splitlines()
