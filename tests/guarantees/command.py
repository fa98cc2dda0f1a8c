"""Runs refeval as a user does: as a process, on small suites."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

CASES = ("singleobj_1", "singleface_1", "faceobj_1", "multiobject_1", "humanobj_1", "multiface_1")
SMALL = ("--model", "copy-paste", "--suite", "sprites", "--size", "64x48", "--frames", "6", "--cases", ",".join(CASES))


def start(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    limit_bytes: int | None = None,
) -> subprocess.Popen[str]:
    """Start ``refeval ARGUMENTS`` in a process group of its own."""

    def limit() -> None:
        import resource

        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return subprocess.Popen(
        [sys.executable, "-m", "refeval.cli", *map(str, arguments)],
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=limit,
    )


def refeval(*arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``refeval ARGUMENTS`` to its end."""
    process = start(*arguments, env=env)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def kill_group(process: subprocess.Popen[str]) -> None:
    """SIGKILL to the command and all its workers, as when the machine loses its power."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)


def results(run: Path) -> dict[str, bytes]:
    """The bytes of everything that must not depend on interruptions: manifest, clips, scores, reports."""
    patterns = ("manifest.json", "suite.json", "videos/*.mp4", "scores/**/*.json", "references/*", "reports/**/*")
    files = [path for pattern in patterns for path in run.glob(pattern) if path.is_file()]
    return {str(path.relative_to(run)): path.read_bytes() for path in files if not path.name.startswith(".")}


def executed_tasks(run: Path) -> int:
    """How many tasks were executed, by all processes together."""
    return len((run / "logs" / "timings.jsonl").read_text().splitlines())


def write_suite(path: Path, ids: Sequence[str], prompt: str = "A thing moves to the right.") -> Path:
    """A suite file of the real schema; the images it names need not exist."""
    entry = {"img_paths": ["Images/singleobject/cup/1.jpg"], "prompt": prompt, "class_label": ["Cup"]}
    path.write_text(json.dumps(dict.fromkeys(ids, entry)))
    return path
