"""Which device a network works on, with and without a GPU."""

from __future__ import annotations

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from refeval.devices import pick_device  # noqa: E402
from refeval.errors import BadInput, MissingPrerequisite  # noqa: E402

_CPU, _GPU = torch.device("cpu"), torch.device("cuda", 0)


def _machine(monkeypatch: pytest.MonkeyPatch, *, gpu: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)


@pytest.mark.parametrize("on_cpu", [None, "hours for one clip"])
def test_with_a_gpu_only_who_asks_for_the_cpu_gets_it(monkeypatch: pytest.MonkeyPatch, on_cpu: str | None) -> None:
    _machine(monkeypatch, gpu=True)
    picked = {asked: pick_device(asked, "gme", on_cpu=on_cpu) for asked in ("auto", "cuda", "cpu")}
    assert picked == {"auto": _GPU, "cuda": _GPU, "cpu": _CPU}


def test_without_a_gpu_auto_is_the_cpu_unless_a_gpu_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, gpu=False)
    assert pick_device("auto", "gme") == pick_device("cpu", "gme") == _CPU
    assert pick_device("cpu", "motion_smoothness", on_cpu="hours for one clip") == _CPU
    with pytest.raises(
        MissingPrerequisite, match=r"^metric 'motion_smoothness' needs a GPU and torch sees none"
    ) as caught:
        pick_device("auto", "motion_smoothness", on_cpu="hours for one clip")
    assert str(caught.value.cure).endswith("--device cpu, which takes hours for one clip")


@pytest.mark.parametrize("on_cpu", [None, "days for one clip"])
def test_a_gpu_that_is_asked_for_and_not_there_is_missed(monkeypatch: pytest.MonkeyPatch, on_cpu: str | None) -> None:
    _machine(monkeypatch, gpu=False)
    with pytest.raises(MissingPrerequisite, match=r"^model 'vace-14b' .*GPU and torch sees none") as caught:
        pick_device("cuda", "vace-14b", on_cpu=on_cpu)
    assert "--device cpu" in str(caught.value.cure)


def test_an_unknown_device_is_refused() -> None:
    for on_cpu in (None, "hours for one clip"):
        with pytest.raises(BadInput, match="unknown device 'tpu'") as caught:
            pick_device("tpu", "gme", on_cpu=on_cpu)
        assert caught.value.cure == "--device auto, cpu or cuda"


def test_the_module_imports_no_torch() -> None:
    code = "import sys, refeval.devices; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
