"""The benchmark of sampling on a GPU: that it runs to its end (small, on the CPU), and that it counts rightly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.flops import token_counts, transformer_flops
from benchmarks.sampling_models import MIDDLE, TINY, RandomModels, Size

_ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The script, where no GPU is seen."""
    command = [sys.executable, "benchmarks/gpu_sampling.py", *arguments]
    unseen = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=_ROOT, env=unseen, capture_output=True, text=True, check=False)


def test_it_runs_to_its_end() -> None:
    done = run("--tiny", "--steps", "2", "--rounds", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["same_numbers"]
    assert found["differences"]["check"] == 0.0, "in turn, ours are the official bits"
    assert 0 < found["differences"]["ours"] < found["tolerance"]
    assert list(found["rows"]) == ["official", "ours"]
    for row in found["rows"].values():
        assert row["clip_s"] > row["sampling_s"] > row["step_s"] > 0
        assert 0 < row["of_peak"] == pytest.approx(row["tflops"] / found["matmul_peak_tflops"], rel=1e-6)


def test_without_a_gpu_it_says_so() -> None:
    done = run()
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "gpu_sampling: torch sees no GPU; --tiny runs small sizes on the CPU instead\n"


@pytest.mark.parametrize("size", [TINY, MIDDLE], ids=lambda size: size.spec.name)
def test_operations_are_those_that_torch_counts(size: Size) -> None:
    place, width = (size.clip.height // 8, size.clip.width // 8), size.architecture.text_dim
    inputs = (
        torch.randn(1, 16, (size.clip.frames - 1) // 4 + 1, *place),
        torch.tensor([500.0]),
        torch.randn(1, size.architecture.text_tokens, width),
        torch.randn(1, 16, size.references, *place),
    )
    transformer = RandomModels(size, torch.device("cpu")).transformer
    # The counter knows matrix products; the fused attention of the CPU is none of those it counts.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        transformer(*inputs)
    assert counter.get_total_flops() == transformer_flops(size.architecture, *token_counts(size.clip, size.references))
