"""Training on rows of videos from Wan2.1: its published weights, or small random ones to try it on a CPU.

Source: RefAlign @6f91526 examples/wanvideo/model_training/train.py (the second stage starts from the transformer and
the projectors of the first).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from refeval.errors import BadInput
from refeval.generators.refalign import RefAlign, RefAlign1B, RefAlign14B, RefAlignTiny
from refeval.generators.wan.catalogue import BASES, ModelSpec
from refeval.generators.wan.checkpoints import load_transformer
from refeval.generators.wan.conditions import Forward, RefAlignConditions
from refeval.generators.wan.engine import DTYPES, velocity_of
from refeval.generators.wan.negative_prompt import Wording
from refeval.generators.wan.parts import parts_of
from refeval.generators.wan.sampling import denoise
from refeval.generators.wan.transformer import ReferenceTransformer
from refeval.place import Place
from refeval.seeds import case_seed
from refeval.training.data.augmentation import augment
from refeval.training.data.encoded import EncodedFolder
from refeval.training.data.encoding import EncodedRows, encoding_settings
from refeval.training.data.row_source import RowSource
from refeval.training.data.rows import Rows, open_rows
from refeval.training.dual import DualReferenceTransformer, FeatureForward
from refeval.training.examples import PairKind, Sample, Source
from refeval.training.feature_cache import CachedTeacher
from refeval.training.recipe import DataSettings, Recipe
from refeval.training.teacher_catalogue import find_teacher
from refeval.training.teachers import Teacher, specs_for, teachers_for, tiny_teacher
from refeval.training.wan_encoder import CHANNELS, SPATIAL, TEMPORAL, WanEncoder, WanParts
from refeval.training.worlds import DrawnClip, View, World
from refeval.weights import WeightsStore

# Inference with what was trained; the settings of the published models are those of the paper.
_INFERENCE: dict[str, type[RefAlign]] = {
    "wan2.1-t2v-1.3b": RefAlign1B,
    "wan2.1-t2v-14b": RefAlign14B,
    "wan-tiny": RefAlignTiny,
}
_GRID = 16
_TINY_WIDTH = 32
# For the separability of references: samples, and augmented views of each.
_VIEWED_SAMPLES, _VIEWS = 8, 4


def base_of(recipe: Recipe) -> ModelSpec:
    """What a recipe trains from.

    Raises:
        BadInput: it trains on no rows, or on clips that the VAE cannot encode.
    """
    base, data = recipe.network.base, recipe.data
    if base not in BASES:
        cure = f"give a recipe with network.base one of {', '.join(BASES)}"
        raise BadInput(f"recipe {recipe.name}: '{base}' trains on clips that are drawn, not on rows", cure=cure)
    if data.width % _GRID or data.height % _GRID or (data.frames - 1) % TEMPORAL:
        raise BadInput(
            f"recipe {recipe.name}: Wan2.1 cannot encode {data.frames} frames of {data.width}x{data.height}",
            cure=f"give sides that are multiples of {_GRID}, and {TEMPORAL} k + 1 frames",
        )
    return BASES[base]


def inference_of(recipe: Recipe, store: WeightsStore, steps: int | None = None) -> RefAlign:
    """RefAlign with the published settings of a recipe's base, and the shift of its noise levels.

    Args:
        recipe: of a training on rows.
        store: the weights folder.
        steps: of the solver; None: the published number.
    """
    settings = {"shift": recipe.objective.flow.shift, **({} if steps is None else {"steps": steps})}
    inference = _INFERENCE[recipe.network.base].from_argument(",".join(f"{k}={v}" for k, v in settings.items()))
    inference.place = Place(weights=store.folder)
    return inference


def negative_prompt_of(inference: RefAlign) -> str:
    """The official negative prompt where it is found, else the empty one, which training drops prompts to."""
    found = inference.negative_prompt
    return "" if found.wording is Wording.OWN else found.text


def teacher_of(recipe: Recipe, base: ModelSpec, store: WeightsStore, device: torch.device) -> Teacher:
    """The teacher of a recipe; a small random one, whatever its name, for the tiny base.

    Raises:
        BadInput, MissingPrerequisite, CorruptFile: as :func:`teachers_for`.
    """
    if base.tiny:
        return tiny_teacher(_TINY_WIDTH)
    return teachers_for(recipe.teacher, partial(find_teacher, store), device)


class WanWorld(World):
    """Rows of videos, and a transformer of Wan2.1.

    Args:
        recipe: of the training; its ``network.base`` is one of :data:`refeval.generators.wan.catalogue.BASES`.
        rows: files of rows, of regular and of cross pairs.
        seed: of the training.
        weights: the weights folder, if any.
        device: of the process.
        encoded: folder of ``refeval data encode``; None: clips and prompts are encoded as they come.
        features: folder of the teacher's features; pictures that are there are not looked at again. It helps where
            references are not augmented.
        start: weights to start from instead of the base's: original, diffusers or RefAlign files, the last with the
            projectors of an earlier stage.
        steps: of the solver when clips are drawn; None: the published number.

    Raises:
        BadInput: a recipe that does not train on rows, an unknown teacher, rows of the wrong format, a folder that was
            encoded with other settings.
        MissingPrerequisite: weights, or the folder, are not there.
    """

    def __init__(
        self,
        recipe: Recipe,
        rows: Sequence[Path],
        *,
        seed: int,
        weights: Path | None,
        device: str | torch.device,
        encoded: Path | None = None,
        features: Path | None = None,
        start: Path | None = None,
        steps: int | None = None,
    ) -> None:
        self._spec = base_of(recipe)
        self._recipe = recipe
        self._rows = open_rows(rows)
        self._seed = seed
        self._store = store = WeightsStore(weights)
        self._start = start
        self._features = features
        self._inference = inference_of(recipe, store, steps)
        self.device = torch.device(device)
        self.dtype = DTYPES[recipe.run.precision]
        self._parts = WanParts(self._spec, store, self.device, self._stored_text)
        self._require()
        if features is not None and recipe.data.augment and recipe.data.cross_share < 1:
            raise BadInput(
                f"recipe {recipe.name} augments references: each is another picture every time, and its features would "
                "be kept for nothing",
                cure="leave --features out",
            )
        self._encoded = self._open(encoded) if encoded else None
        self.text_tokens = self._spec.architecture.text_tokens
        self.teacher_width = _TINY_WIDTH if self._spec.tiny else sum(one.width for one in specs_for(recipe.teacher))

    def config(self) -> dict[str, Any]:
        """As published."""
        return self._spec.architecture.config()

    def network(self) -> tuple[ReferenceTransformer, dict[str, Tensor]]:
        """As :meth:`World.network`.

        Raises:
            BadInput, MissingPrerequisite, CorruptFile: as :func:`load_transformer`.
        """
        if self._start is None:
            return parts_of(self._spec, self._store).transformer(torch.float32), {}
        return load_transformer(
            self._start,
            ReferenceTransformer,
            self._spec.architecture,
            dtype=torch.float32,
            model=self._spec.name,
        )

    def source(self) -> Source:
        """As :meth:`World.source`."""
        return self._source(self._recipe.data, self._seed)

    def encoder(self) -> WanEncoder:
        """As :meth:`World.encoder`; always the same one."""
        return self._encoder

    def shown(self, count: int) -> Sequence[Sample]:
        """As :meth:`World.shown`: from an order of their own, without augmentation."""
        plain = self._source(replace(self._recipe.data, augment=False), case_seed(self._seed, "shown"))
        return [plain.sample(position) for position in range(count)]

    def views(self) -> Sequence[View]:
        """References of a few samples, each augmented several times."""
        settings, dual = self._recipe.data.augmentation, self._recipe.references == "dual"
        found = []
        for number, sample in enumerate(self.shown(_VIEWED_SAMPLES)):
            names = tuple(f"{sample.key}: {index + 1}" for index in range(len(sample.references)))
            for view in range(_VIEWS):
                rng = np.random.default_rng([self._seed, number, view])
                pictures = tuple(augment(picture, settings, rng) for picture in sample.references)
                changed = replace(sample, references=pictures)
                found.append(View(example=self._encoder.examples([changed], with_teacher=dual)[0], subjects=names))
        return found

    @torch.no_grad()
    def draw(self, network: ReferenceTransformer, samples: Sequence[Sample], *, seed: int) -> list[DrawnClip]:
        """As :meth:`World.draw`, with RefAlign's settings for inference.

        The noise of a clip follows from the seed and the sample's key. The forward pass has the precision of the
        recipe; the network is left as it is, on its device, which must be that of the encoder.

        Raises:
            UnusableClip: the sampling diverged.
        """
        return [DrawnClip(sample=sample, frames=self._draw(network, sample, seed)) for sample in samples]

    def _draw(self, network: ReferenceTransformer, sample: Sample, seed: int) -> NDArray[np.uint8]:
        data, options, encoder = self._recipe.data, self._inference.options, self._encoder
        conditions = RefAlignConditions(
            self._forward(network, sample),
            prompt=self._padded(encoder.prompt_of(sample)),
            negative=self._padded(encoder.text(negative_prompt_of(self._inference))),
            references=encoder.references(sample.references)[None],
            image=options.guidance,
            text=options.guidance_text,
        )
        shape = (1, CHANNELS, (data.frames - 1) // TEMPORAL + 1, data.height // SPATIAL, data.width // SPATIAL)
        # On the CPU, as at inference: the same for every device and precision.
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(case_seed(seed, sample.key)))
        device = self._parts.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self._recipe.run.precision == "bf16"):
            latents = denoise(
                noise.to(device, DTYPES[options.latents]),
                self._inference.schedule(),
                conditions,
                together=False,
                round_timesteps=self._inference.round_timesteps,
            )
        return self._parts.codec.decode(conditions.video(latents))

    def _require(self) -> None:
        """Miss now the files that are read only when the first sample is encoded."""
        if self._spec.base is not None:
            self._store.find(self._spec.base, self._spec.name)
            for name in self._recipe.teacher.names if self._recipe.needs_teacher else ():
                find_teacher(self._store, name)

    def _forward(self, network: ReferenceTransformer, sample: Sample) -> Forward:
        if not isinstance(network, DualReferenceTransformer):
            return velocity_of(network)
        predict = FeatureForward(network, self._encoder.features(sample.references)[None])
        return lambda **inputs: predict(**inputs).velocity

    def _padded(self, text: Tensor) -> Tensor:
        return functional.pad(text, (0, 0, 0, self.text_tokens - len(text)))[None]

    def _source(self, data: DataSettings, seed: int) -> Source:
        return RowSource(self._by_pair, data, seed=seed, encoded=self._encoded)

    def _stored_text(self, prompt: str) -> Tensor | None:
        return self._encoded.text(prompt) if self._encoded else None

    def _open(self, path: Path) -> EncodedRows:
        folder = EncodedFolder(path)
        folder.open(encoding_settings(self._recipe.data, self._parts.identity()))
        return EncodedRows(folder)

    def _teacher(self) -> Teacher:
        teacher = teacher_of(self._recipe, self._spec, self._store, self._parts.device)
        if self._features is None:
            return teacher
        # Exact for one teacher; several are scaled in float32.
        single = len(self._recipe.teacher.names) == 1 and not self._spec.tiny
        dtype = DTYPES[self._recipe.teacher.precision] if single else torch.float32
        return CachedTeacher(teacher, self._features, dtype=dtype)

    @cached_property
    def _encoder(self) -> WanEncoder:
        return WanEncoder(self._parts, self._teacher, self.teacher_width)

    @cached_property
    def _by_pair(self) -> dict[PairKind, Rows]:
        return self._rows.by_pair()
