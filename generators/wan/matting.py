"""Matting: how much of every pixel belongs to the subject of a reference.

Letters of shapes: H and W are height and width in pixels.

Source: RefAlign @6f91526 examples/wanvideo/model_inference/Wan2.1-T2V-1.3B_subject.py:18-76 (BiRefNet on the
letterboxed image); the published model is ZhengPeng7/BiRefNet.
"""

from __future__ import annotations

import importlib.util
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from refeval.errors import BadInput, MissingPrerequisite
from refeval.suggestions import did_you_mean

MATTINGS = ("birefnet", "plain", "none")
_AUTO_CLASS = "AutoModelForImageSegmentation"
_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_MULTIPLE = 32
# CIE Lab distances from the backdrop: JPEG noise stays below the first, clothes and objects lie above the second.
_BACKDROP = 4.0
_SUBJECT = 12.0
_PLAIN_SHARE = 0.6
_SMALLEST_SHARE = 0.005
_PACKAGES = {"cv2": "opencv-python-headless", "PIL": "pillow", "skimage": "scikit-image", "sklearn": "scikit-learn"}

# Code that is not ours, and its files, have many ways to fail.
_BROKEN = (LookupError, TypeError, ValueError, AttributeError, SyntaxError, OSError, RuntimeError, SafetensorError)


class Matting(Protocol):
    """Finds the subject of a picture."""

    def soft_mask(self, image: Image.Image) -> Image.Image:
        """How much of every pixel is subject.

        Args:
            image: mode RGB.

        Returns:
            Mode L, same size: 0 background, 255 subject.
        """
        ...


def check_matting(name: str, folder: Path | None) -> None:
    """Look at what :func:`make_matting` will need, without loading anything or running the folder's code.

    Args:
        name: one of ``MATTINGS``.
        folder: of the BiRefNet repository, if known.

    Raises:
        BadInput: unknown name.
        MissingPrerequisite: BiRefNet's files are not there.
    """
    if name not in MATTINGS:
        details = (("known", ", ".join(MATTINGS)),)
        raise BadInput(f"unknown matting '{name}'{did_you_mean(name, MATTINGS)}", details=details)
    if name == "birefnet":
        _refuse_missing_packages(_complete(folder))


def make_matting(name: str, folder: Path | None, device: torch.device | str) -> Matting | None:
    """Load a matting.

    Args:
        name: ``birefnet``, ``plain`` (:class:`PlainBackground`) or ``none``.
        folder: of the BiRefNet repository, as ``refeval fetch model birefnet`` leaves it; only ``birefnet`` needs it.
        device: where BiRefNet runs.

    Returns:
        None for ``none``: references are used as they are.

    Raises:
        BadInput: unknown name, or files that do not belong together.
        MissingPrerequisite: files, or packages that they need, are missing.
    """
    check_matting(name, folder)
    if name == "none":
        return None
    return PlainBackground() if name == "plain" else BiRefNet(_complete(folder), device)


class PlainBackground:
    """A subject on a background of one colour, usually white; no model.

    The background is what lies close to the colour of the border in CIE Lab and is connected with the border; the
    mask rises linearly between two distances. White bars of a letterbox are looked past. A picture whose border
    has many colours, or that would lose everything, stays whole.
    """

    def soft_mask(self, image: Image.Image) -> Image.Image:
        """As :meth:`Matting.soft_mask`; 255 wherever there is no plain background, 0 on the bars."""
        pixels = np.asarray(image.convert("RGB"))
        rows, columns = _inside_bars(pixels)
        inside = _apart_from_border(pixels[rows, columns])
        if np.mean(inside > 128) < _SMALLEST_SHARE:
            inside = np.full_like(inside, 255)
        mask = np.zeros(pixels.shape[:2], np.uint8)
        mask[rows, columns] = inside
        return Image.fromarray(mask)


def _inside_bars(pixels: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Rows and columns without the pure white bars at two opposite sides; all of them if there are no such bars."""
    coloured = np.any(pixels < 255, axis=2)
    rows, columns = np.asarray(np.any(coloured, axis=1)), np.asarray(np.any(coloured, axis=0))
    if rows.all():
        return slice(None), _span(columns)
    return (_span(rows), slice(None)) if columns.all() else (slice(None), slice(None))


def _span(used: NDArray[np.bool_]) -> slice:
    places = np.flatnonzero(used)
    return slice(int(places[0]), int(places[-1]) + 1)


def _apart_from_border(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Soft mask (H, W), 0 to 255, of what the border's colour does not reach from the border."""
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    border = np.ones(lab.shape[:2], bool)
    border[1:-1, 1:-1] = False
    distance = np.linalg.norm(lab - np.median(lab[border], axis=0), axis=2)
    if np.mean(distance[border] < _SUBJECT) < _PLAIN_SHARE:
        return np.full(border.shape, 255, np.uint8)
    near = distance < _SUBJECT
    _, parts = cv2.connectedComponents(near.astype(np.uint8), connectivity=4)
    reached = near & np.isin(parts, np.unique(parts[border & near]))
    rise = ((distance - _BACKDROP) / (_SUBJECT - _BACKDROP)).clip(0, 1) * 255
    return np.where(reached, rise.round(), 255).astype(np.uint8)


class BiRefNet:
    """The published segmentation model that RefAlign's demo mats with.

    **This runs code from the folder.** The published repository brings its own modelling code (what transformers
    calls ``trust_remote_code``), and loading executes it with the rights of this process. refeval does so only
    where the user chose ``matting=birefnet`` and had fetched that folder before; nothing is downloaded here.
    transformers copies the code to ``HF_HOME/modules`` and imports it from there.

    Differs: the class is built directly and its weights are loaded strictly, because transformers 5's
    ``from_pretrained`` needs a hook that modelling code of this age does not call. Computes in float32.

    Args:
        folder: the repository: ``config.json``, modelling code, ``model.safetensors``.
        device: where it runs.

    Raises:
        MissingPrerequisite: files are missing, or packages that the folder's code imports.
        BadInput: config, code and weights do not fit together.
    """

    def __init__(self, folder: Path, device: torch.device | str) -> None:
        complete = _complete(folder)
        self.device = torch.device(device)
        self.model = _load(complete).to(self.device).eval()

    @torch.inference_mode()
    def soft_mask(self, image: Image.Image) -> Image.Image:
        """As :meth:`Matting.soft_mask`: the sigmoid of the model's last output, truncated to 8 bits.

        A size that is no multiple of 32 is padded at the right and the lower edge by repeating the last pixels, and
        the mask is cropped back. Which edges the demo pads is not known; 832x480, which it renders, needs no padding.
        """
        height, width = image.height, image.width
        values = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (_IMAGENET_MEAN, _IMAGENET_STD))
        padding = (0, -width % _MULTIPLE, 0, -height % _MULTIPLE)
        padded = functional.pad(((values - mean) / std)[None], padding, mode="replicate")
        logits: Tensor = self.model(padded.to(self.device))[-1]
        share = logits.float().sigmoid()[0, 0, :height, :width]
        return Image.fromarray((share * 255).byte().cpu().numpy())


def _complete(folder: Path | None) -> Path:
    """The folder, if it has what loading needs."""
    missing = [] if folder is None else [name for name in (_CONFIG, _WEIGHTS) if not (folder / name).is_file()]
    if folder is None or missing:
        where = "no weights folder is set" if folder is None else f"{missing[0]}  in  {folder}"
        cure = "refeval fetch model birefnet --weights DIR, or the setting matting=plain"
        raise MissingPrerequisite(
            "matting 'birefnet': weights are missing", details=(("looked for", where),), cure=cure
        )
    return folder


def _load(folder: Path) -> nn.Module:
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        # What may stand before the dashes names another repository; code comes from this folder only.
        reference = config["auto_map"][_AUTO_CLASS].rpartition("--")[2]
        # Building it draws first weights, which must not move the random numbers of the renderer.
        with torch.random.fork_rng(devices=[]):
            model = _build(reference, folder)
        model.load_state_dict(load_file(folder / _WEIGHTS))
    except _BROKEN as error:
        details = (("folder", str(folder)), ("reason", f"{type(error).__name__}: {error}"))
        cure = "refeval fetch model birefnet --weights DIR fetches it again; or the setting matting=plain"
        raise BadInput("matting 'birefnet': the folder cannot be loaded", details=details, cure=cure) from error
    return model


def _build(reference: str, folder: Path) -> nn.Module:
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    try:
        cls: Any = get_class_from_dynamic_module(reference, str(folder), local_files_only=True)
        model: nn.Module = cls(cls.config_class.from_pretrained(str(folder), local_files_only=True))
    except ImportError as error:
        missing = _missing_packages(folder / f"{reference.partition('.')[0]}.py")
        cure = f"pip install {' '.join(missing)}" if missing else "mend the package that the reason names"
        what = "matting 'birefnet': its code needs packages that are not installed"
        raise MissingPrerequisite(
            what, details=(("reason", str(error)),), cure=f"{cure}; or the setting matting=plain"
        ) from error
    return model


def _refuse_missing_packages(folder: Path) -> None:
    missing: set[str] = set()
    for module in folder.glob("*.py"):
        # A module that is no Python is told when it is loaded.
        with suppress(SyntaxError, ValueError):
            missing.update(_missing_packages(module))
    if missing:
        what = "matting 'birefnet': its code needs packages that are not installed"
        cure = f"pip install {' '.join(sorted(missing))}; or the setting matting=plain"
        raise MissingPrerequisite(what, details=(("missing", ", ".join(sorted(missing))),), cure=cure)


def _missing_packages(module: Path) -> list[str]:
    from transformers.dynamic_module_utils import get_imports

    absent = [name for name in get_imports(module) if importlib.util.find_spec(name) is None]
    return sorted(_PACKAGES.get(name, name) for name in absent)
