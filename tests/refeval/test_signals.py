"""Signals: a stop is never lost, not even where compiled code swallows its exception."""

from __future__ import annotations

import subprocess
import sys

_SWALLOWED = """
import os, signal
from pydantic import BaseModel, model_serializer
from refeval.signals import Stopped, no_interruption, raise_if_stopped, stop_in_order

class Kills(BaseModel):
    @model_serializer
    def serialize(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

stop_in_order()
try:
    with no_interruption():
        os.kill(os.getpid(), signal.SIGTERM)
        print("shielded")
except Stopped as stop:
    print("then", stop, int(stop.exit_code))
try:
    Kills().model_dump_json()
except Exception as error:
    print(type(error).__name__)
try:
    raise_if_stopped()
except Stopped as stop:
    print("not lost")
"""


def test_a_stop_is_shielded_and_never_lost() -> None:
    done = subprocess.run([sys.executable, "-c", _SWALLOWED], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:4] == ["shielded", "then SIGTERM 143", "PydanticSerializationError", "not lost"]
