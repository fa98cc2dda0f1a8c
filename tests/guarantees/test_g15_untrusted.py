"""G11, G15: no socket when offline; hostile input stays data; no secret in any file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.guarantees.broken_clips import write_good_clip
from tests.guarantees.command import SMALL, refeval, write_suite
from tests.guarantees.test_g3_pipeline import install_plugin

_NO_SOCKETS = """
import socket

def refuse(*arguments, **options):
    raise AssertionError("a socket was opened")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""


@pytest.mark.parametrize("case_id", ["../singleobj_1", "singleobj_1/../../x", "singleobj_\0", ".singleobj_1", ""])
def test_an_id_that_leaves_the_folder_is_refused(case_id: str, tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite.json", [case_id])
    refused = refeval("run", "--model", f"videos:{tmp_path}", "--suite", suite, "--out", tmp_path / "run")
    assert refused.returncode == 2
    assert "cannot be a file name" in refused.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("path", ["/etc/passwd", "Images/../../secret.jpg", "C:/x.jpg", "Images\\..\\x.jpg"])
def test_an_image_path_that_leaves_the_data_is_refused(path: str, tmp_path: Path) -> None:
    entry = {"img_paths": [path], "prompt": "p", "class_label": ["Cup"]}
    (tmp_path / "suite.json").write_text(json.dumps({"singleobj_1": entry}))
    refused = refeval("cases", "--suite", tmp_path / "suite.json")
    assert refused.returncode == 2
    assert "leaves the data folder" in refused.stderr


def test_a_hostile_prompt_stays_text(tmp_path: Path) -> None:
    write_good_clip(tmp_path / "singleobj_1.mp4")
    prompt = "<script>alert(1)</script> [red]{{7*7}} {prompt}"
    suite = write_suite(tmp_path / "suite.json", ["singleobj_1"], prompt=prompt)
    done = refeval("run", "--model", f"videos:{tmp_path}", "--suite", suite, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "run/reports/index.html").read_text()
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "{{7*7}}" in page
    assert prompt in refeval("explain", tmp_path / "run", "singleobj_1", "--json").stdout.replace('\\"', '"')


def test_no_secret_reaches_a_file(tmp_path: Path) -> None:
    secret = "sk-planted-0123456789"
    env = {"OPENAI_API_KEY": secret, "HF_TOKEN": secret, "AWS_SECRET_ACCESS_KEY": secret}
    program = tmp_path / "model.toml"
    program.write_text('command = ["env"]\npass_environment = ["OPENAI_API_KEY"]\n')
    refeval("run", "--model", f"command:{program}", *SMALL[2:], "--limit", "1", "--out", tmp_path / "a", env=env)
    refeval("run", *SMALL, "--limit", "1", "--out", tmp_path / "b", env=env)
    files = [path for folder in ("a", "b") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert any("[redacted " in path.read_text(errors="replace") for path in files)
    assert not [path for path in files if secret.encode() in path.read_bytes()]


_TALKATIVE_PLUGIN = """
import os
from refeval.metrics.base import Metric

class Talks(Metric):
    id, label, version, range = "talks", "Talks", "1", (0.0, 1.0)

    def score(self, case, clip):
        raise RuntimeError("401 for Bearer " + os.environ["OPENAI_API_KEY"])
"""


def test_a_secret_in_an_error_reaches_neither_record_nor_log(tmp_path: Path) -> None:
    secret = "sk-planted-0123456789"
    write_good_clip(tmp_path / "singleobj_1.mp4")
    suite = write_suite(tmp_path / "suite.json", ["singleobj_1"])
    env = install_plugin(tmp_path, _TALKATIVE_PLUGIN, "[refeval.metrics]\ntalks = plugin:Talks\n")
    run = tmp_path / "run"
    command = ("run", "--model", f"videos:{tmp_path}", "--suite", suite, "--out", run, "--metrics", "talks")
    assert refeval(*command, env={**env, "OPENAI_API_KEY": secret}).returncode == 3
    record = json.loads((run / "scores/talks/singleobj_1.json").read_text())
    assert record["reason"] == "RuntimeError: 401 for Bearer [redacted OPENAI_API_KEY]"
    assert "Traceback" in (run / "logs/worker-0.log").read_text()
    assert not [path for path in run.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_offline_opens_no_socket(tmp_path: Path) -> None:
    env = install_plugin(tmp_path, "", "")
    # Python runs this at the start of the command and of every worker.
    (tmp_path / "sitecustomize.py").write_text(_NO_SOCKETS)
    done = refeval("run", *SMALL, "--limit", "1", "--out", tmp_path / "run", "--offline", env=env)
    assert done.returncode == 0, done.stderr
    fetched = refeval("fetch", "suite", "opens2v-open", "--data", tmp_path / "data", "--offline", env=env)
    assert fetched.returncode == 2
    assert "nothing that was fetched" in fetched.stderr
    online = refeval("fetch", "suite", "opens2v-open", "--data", tmp_path / "data", env=env)
    assert online.returncode != 0, "the block itself must work"
    assert "a socket was opened" in online.stderr
