"""All seven metrics in one run of the command, on the real architectures with small random weights."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from refeval.catalogue import METRIC_BY_ID
from tests.guarantees.command import kill_group, refeval, results, start
from tests.metrics.scripted_judge import ScriptedJudge, answering

CASES = ("singleface_1", "singleobj_1", "multihuman_1", "humanobj_1")
SMALL = ("--model", "copy-paste", "--suite", "sprites", "--frames", "6", "--cases", ",".join(CASES), "--tiny")
NETWORKS = ("aesthetics", "facesim", "gme", "motion_smoothness", "nexus")


def judge_environment(judge: ScriptedJudge) -> dict[str, str]:
    return {
        "REFEVAL_JUDGE_URL": judge.url,
        "REFEVAL_JUDGE_MODEL": "scripted",
        "REFEVAL_JUDGE_KEY_ENV": "SCRIPTED_JUDGE_KEY",
        "SCRIPTED_JUDGE_KEY": "sk-planted-secret",
        "REFEVAL_WEIGHTS": "",
    }


def test_every_metric_scores_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    with answering("4") as judge:
        env = judge_environment(judge)
        whole = tmp_path / "whole"
        done = refeval("run", *SMALL, "--out", whole, env=env)
        assert done.returncode == 0, done.stderr
        # Four cases with six votes, and eighteen for the calibration.
        assert "at most 42 calls with 672 pictures, tokens unknown before the first reply, price unknown" in done.stderr
        assert {path.name for path in (whole / "scores").iterdir()} == set(METRIC_BY_ID)
        cut = tmp_path / "cut"
        process = start("run", *SMALL, "--out", cut, env=env)
        _wait_for_a_score(cut)
        kill_group(process)
        resumed = refeval("run", *SMALL, "--out", cut, env=env)
        assert resumed.returncode == 0, resumed.stderr
    assert results(cut) == results(whole)
    for path in whole.rglob("*"):
        if path.is_file():
            assert b"sk-planted-secret" not in path.read_bytes(), path
    total = json.loads(refeval("total", whole, "--json").stdout)
    assert total["complete"] is False
    assert any("random weights" in problem for problem in total["problems"])
    assert "which mean nothing" in refeval("total", whole).stdout


@pytest.mark.parametrize("metric", NETWORKS)
def test_without_weights_a_metric_says_what_gets_them(metric: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = refeval("run", *SMALL[:-1], "--metrics", metric, "--out", run, env={"REFEVAL_WEIGHTS": ""})
    assert done.returncode == 2
    assert "refeval fetch metrics" in done.stderr and "Traceback" not in done.stderr
    assert not run.exists()


def test_a_judge_that_talks_gives_an_unparseable_case(tmp_path: Path) -> None:
    with answering("4/5 because it flows") as judge:
        run = tmp_path / "run"
        done = refeval("run", *SMALL, "--metrics", "natural", "--out", run, env=judge_environment(judge))
    assert done.returncode == 3
    records = [json.loads(path.read_text()) for path in (run / "scores/natural").glob("*.json")]
    assert [record["status"] for record in records] == ["unparseable"] * len(CASES)
    assert all("4/5 because" in record["reason"] for record in records)


def _wait_for_a_score(run: Path) -> None:
    for _ in range(1200):
        if list((run / "scores").glob("*/*.json")):
            return
        time.sleep(0.05)
    raise AssertionError("no score within a minute")
