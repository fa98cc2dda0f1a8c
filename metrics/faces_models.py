"""The networks that look at faces: where their files are published, and how they are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refeval.devices import pick_device
from refeval.errors import MissingPrerequisite
from refeval.metrics.faces import FaceDetector, FoundFace, network_input
from refeval.weights import Source

if TYPE_CHECKING:
    from refeval.metrics.networks.arcface import ArcFace
    from refeval.metrics.networks.curricularface import CurricularFace
    from refeval.weights import WeightsStore

_REPOSITORY = "BestWishYsh/OpenS2V-Weight"
NETWORK = Source(repository=_REPOSITORY, patterns=("*glint360k_curricular_face_r101_backbone.bin",))
DETECTOR = Source(repository=_REPOSITORY, patterns=("*buffalo_l/det_10g.onnx",))
RECOGNITION = Source(repository=_REPOSITORY, patterns=("*buffalo_l/w600k_r50.onnx",))
SOURCES = (NETWORK, DETECTOR, RECOGNITION)


@dataclass(frozen=True, kw_only=True)
class FaceFiles:
    """The files of the networks; ``recognition`` is not needed for FaceSim."""

    network: Path
    detector: Path
    recognition: Path | None


@dataclass(frozen=True, kw_only=True)
class FaceModels:
    """Networks ready to look.

    Attributes:
        detector: finds faces.
        network: CurricularFace.
        recognition: ArcFace, where its file is there.
    """

    detector: FaceDetector
    network: CurricularFace
    recognition: ArcFace | None

    def embed(self, faces: Sequence[FoundFace]) -> NDArray[np.float32]:
        """CurricularFace embeddings, float32, shape (N, D), each of length 1."""
        from refeval.metrics.networks.curricularface import INPUT_SIZE

        crops = [network_input(face.crop(), INPUT_SIZE) for face in faces]
        return self.network.embed(np.stack(crops) if crops else np.empty((0, INPUT_SIZE, INPUT_SIZE, 3), np.uint8))


def find_files(store: WeightsStore) -> FaceFiles:
    """The files in a weights folder.

    Raises:
        MissingPrerequisite: one that FaceSim needs is not there.
    """
    try:
        recognition = store.find(RECOGNITION, "facesim")[0]
    except MissingPrerequisite:
        recognition = None
    return FaceFiles(
        network=store.find(NETWORK, "facesim")[0], detector=store.find(DETECTOR, "facesim")[0], recognition=recognition
    )


def load_models(files: FaceFiles, device: str) -> FaceModels:
    """Load the published networks.

    Args:
        files: of them.
        device: ``auto`` (the GPU that torch sees, else the CPU), ``cpu`` or ``cuda``; the detector works on the
            same one, or this fails.

    Raises:
        MissingPrerequisite: torch, onnx or onnxruntime are missing, or cannot use the device.
    """
    _require_torch()
    from refeval.metrics.faces_detection import ScrfdDetector
    from refeval.metrics.networks.arcface import ArcFace
    from refeval.metrics.networks.curricularface import load_curricularface

    place = pick_device(device, "facesim").type
    return FaceModels(
        detector=ScrfdDetector(files.detector, device=place),
        network=load_curricularface(files.network, device=place),
        recognition=ArcFace(files.recognition, device=place) if files.recognition else None,
    )


def tiny_models() -> FaceModels:
    """A random network and a detector of drawn faces: no files, no onnxruntime."""
    _require_torch()
    from refeval.metrics.faces_sprites import SpriteFaceDetector
    from refeval.metrics.networks.curricularface import random_curricularface

    return FaceModels(detector=SpriteFaceDetector(), network=random_curricularface(), recognition=None)


def _require_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingPrerequisite(f"torch cannot be imported: {error}", cure="pip install 'refeval[score]'") from error
