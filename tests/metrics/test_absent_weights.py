"""Whichever network finds no weights, the cure is the command that fetches those of the metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="networks need torch")
pytest.importorskip("transformers", reason="networks need transformers")

from refeval.errors import MissingPrerequisite  # noqa: E402
from refeval.metrics.networks.aesthetic_clip import load_clip  # noqa: E402
from refeval.metrics.networks.aesthetic_head import load_head  # noqa: E402
from refeval.metrics.networks.curricularface import load_curricularface  # noqa: E402
from refeval.metrics.networks.qalign import load_qalign  # noqa: E402
from refeval.metrics.networks.yolo_world_detector import load_network  # noqa: E402

_LOADERS: dict[str, Callable[[Path], object]] = {
    "clip": lambda file: load_clip(file, torch.device("cpu")),
    "head": load_head,
    "curricularface": load_curricularface,
    "q-align": lambda file: load_qalign(file, dtype=torch.float32),
    "yolo-world": load_network,
}


@pytest.mark.parametrize("network", _LOADERS)
def test_the_cure_fetches_the_metrics(network: str, tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match="no weights at") as caught:
        _LOADERS[network](tmp_path / "absent.safetensors")
    assert caught.value.cure == "refeval fetch metrics --weights DIR"
