"""Signals: a stop is never lost, not even where compiled code swallows its exception."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_SHIELDED = """
import os, signal
from refeval.signals import Stopped, no_interruption, stop_in_order
stop_in_order()
try:
    with no_interruption():
        os.kill(os.getpid(), signal.SIGTERM)
        print("shielded")
except Stopped as stop:
    print("then", stop, int(stop.exit_code))
    os.kill(os.getpid(), signal.SIGINT)
    print("cleaning up undisturbed")
"""

_SWALLOWED = """
import os, signal
from pydantic import BaseModel, model_serializer
from refeval.signals import Stopped, raise_if_stopped, stop_in_order

class Kills(BaseModel):
    @model_serializer
    def serialize(self):
        os.kill(os.getpid(), signal.SIGUSR1)
        return {}

stop_in_order()
raise_if_stopped()
try:
    Kills().model_dump_json()
except Exception as error:
    print(type(error).__name__)
try:
    raise_if_stopped()
except Stopped as stop:
    print("not lost", int(stop.exit_code))
"""

_FAILED = """
import os, signal
from refeval.commands.console import last_word
from refeval.errors import DiskFull
from refeval.signals import no_interruption, stop_in_order
stop_in_order()
try:
    with no_interruption():
        os.kill(os.getpid(), signal.SIGTERM)
        raise DiskFull("no space to write it")
except DiskFull as error:
    print(int(last_word(error)), int(last_word(ValueError())))
"""

_IN_A_CLAIM = """
import os, signal, sys
from pathlib import Path
from refeval.leases import LeaseBook
from refeval.signals import Stopped, stop_in_order

class Book(LeaseBook):
    def _make(self, path):
        made = super()._make(path)
        os.kill(os.getpid(), signal.SIGTERM)
        return made

stop_in_order()
try:
    with Book(Path(sys.argv[1])).hold("a"):
        print("not reached")
except Stopped:
    print(os.listdir(sys.argv[1]))
"""

_IN_A_THREAD = """
import os, signal, threading, time
from refeval.signals import Stopped, no_interruption, stop_in_order

inside, go = threading.Event(), threading.Event()

def write():
    with no_interruption():
        inside.set()
        go.wait(20)
    print("written")

stop_in_order()
thread = threading.Thread(target=write)
thread.start()
inside.wait()
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(2)
    print("not reached")
except Stopped:
    print("stopped at once")
go.set()
thread.join()
"""


def _run(code: str, *arguments: str | Path) -> list[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_stop_waits_for_a_shielded_block_and_comes_once() -> None:
    assert _run(_SHIELDED) == ["shielded", "then SIGTERM 143", "cleaning up undisturbed"]


def test_a_stop_does_not_hide_that_a_disk_is_full() -> None:
    assert _run(_FAILED) == ["5 143"]


def test_a_stop_that_compiled_code_swallows_is_not_lost() -> None:
    assert _run(_SWALLOWED) == ["PydanticSerializationError", "not lost 143"]


def test_a_stop_in_the_making_of_a_lease_frees_it(tmp_path: Path) -> None:
    assert _run(_IN_A_CLAIM, tmp_path) == ["[]"]


def test_a_thread_neither_holds_a_stop_back_nor_is_stopped() -> None:
    assert _run(_IN_A_THREAD) == ["stopped at once", "written"]
