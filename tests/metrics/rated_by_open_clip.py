"""A child process: what Aesthetics says with open_clip's tower, for test_aesthetics.py.

Usage: rated_by_open_clip FOLDER. In FOLDER: tiny-quickgelu.json (open_clip's architecture), clip.safetensors, head.pth
and pictures ``*.png``. Left there: result.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

_NAME = "tiny-quickgelu"
# What it defines is there as long as the object.
_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")


def main(folder: Path) -> None:
    _import_torchvision()
    import open_clip

    from refeval.cases import Case, Category
    from refeval.clips import Clip
    from refeval.metrics.aesthetics import Aesthetics, OtherHead
    from refeval.metrics.networks.aesthetic_raters import open_clip_rater

    open_clip.add_model_config(folder / f"{_NAME}.json")
    clip, head = folder / "clip.safetensors", folder / "head.pth"
    rater = open_clip_rater(_NAME, clip, head, "cpu")
    images = [Image.open(file) for file in sorted(folder.glob("*.png"))]
    metric = Aesthetics(other=OtherHead(model=_NAME, clip=clip, head=head))
    metric.prepare()
    case = Case(id="faceobj_1", category=Category.FACEOBJ, prompt="", references=())
    result = {
        "embeddings": rater.embed(images).tolist(),
        "ratings": rater.rate(images).tolist(),
        "score": metric.score(case, Clip.from_frames(np.asarray(images[0])[None], 8)).value,
        "weights": metric.weights(),
        "settings": metric.settings(),
    }
    (folder / "result.json").write_text(json.dumps(result))


def _import_torchvision() -> None:
    """Also where it was built for CUDA and torch for the CPU: the operators that it then lacks are not called here."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            _OPERATORS.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
