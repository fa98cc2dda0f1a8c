"""The benchmark of the metrics on a GPU: that it runs to its end (small, on the CPU), and that its sizes are right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from benchmarks.full_size_metrics import FULL, METRICS, Setup, make_gme
from refeval.metrics.networks.curricularface import CurricularFace
from refeval.metrics.networks.qalign import QAlign
from refeval.metrics.networks.yolo_world import YoloWorld

_ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The script, where no GPU is seen."""
    command = [sys.executable, "benchmarks/gpu_metrics.py", *arguments]
    unseen = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=_ROOT, env=unseen, capture_output=True, text=True, check=False)


def test_it_runs_to_its_end() -> None:
    done = run("--tiny", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = found["rows"]
    assert list(rows) == list(METRICS)
    assert all(row["clip_s"] > 0 for row in rows.values())
    assert found["decoding_s"] > 0
    assert found["clip_s"] == pytest.approx(found["decoding_s"] + sum(row["clip_s"] for row in rows.values()))
    assert found["suite_h"] == pytest.approx(found["clip_s"] * 180 / 3600)
    assert rows["gme"]["images_of_gme"] == 32
    # Two references, and about one box of each on each of the nine frames.
    assert 2 < rows["nexus"]["images_of_gme"] <= 2 + 4 * 2 * 9


def test_without_a_gpu_it_says_so() -> None:
    done = run()
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "gpu_metrics: torch sees no GPU; --tiny runs small sizes on the CPU instead\n"


def test_sizes_are_the_published_ones() -> None:
    meta = torch.device("meta")
    with meta:
        made = {
            "qalign": QAlign(FULL.qalign),
            "yolo": YoloWorld(FULL.yolo),
            "face": CurricularFace(**FULL.face),
            "clip_l": CLIPVisionModelWithProjection(CLIPVisionConfig(**FULL.aesthetic_clip)),
            "clip_base": CLIPVisionModelWithProjection(CLIPVisionConfig(**FULL.prompt_clip)),
        }
    made["gme"] = make_gme(Setup(sizes=FULL, device=meta, frames=[], references=[])).model
    assert {name: count(module) for name, module in made.items()} == {
        # As the checkpoint counts it: with the tables of positions.
        "qalign": 8_204_550_144 - tables(made["qalign"]),
        "yolo": 47_882_146,
        "face": 65_150_912,
        "clip_l": 303_966_208,
        "clip_base": 87_849_216,
        # Qwen2-VL-7B has 8,291,375,616 with its head, which GME does not need.
        "gme": 8_291_375_616 - 152_064 * 3_584,
    }
    assert made["gme"].dtype is torch.float16


def count(module: nn.Module) -> int:
    """Parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def tables(module: nn.Module) -> int:
    """Numbers of a checkpoint that are no parameters."""
    names = {name for name, _ in module.named_parameters()}
    return sum(tensor.numel() for name, tensor in module.state_dict().items() if name not in names)
