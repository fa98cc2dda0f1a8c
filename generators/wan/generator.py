"""What RefAlign, Phantom and VACE have in common as generators. No torch is imported before a clip is rendered."""

from __future__ import annotations

import dataclasses
import importlib.util
from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from refeval.cases import Case, ClipSpec, Reference
from refeval.clips import Clip
from refeval.errors import BadInput, MissingPrerequisite
from refeval.generators.base import Generator, RenderJob
from refeval.generators.wan.catalogue import MODELS, ModelSpec
from refeval.generators.wan.memory import SPARING, check_place
from refeval.generators.wan.negative_prompt import NegativePrompt, find_negative_prompt
from refeval.generators.wan.settings import OFFICIAL, WanSettings
from refeval.reference_images import open_reference
from refeval.seeds import case_seed
from refeval.weights import Source, WeightsStore

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from refeval.generators.wan.engine import Engine, Parts
    from refeval.generators.wan.sampling import Conditions
    from refeval.generators.wan.schedules import Schedule

# The VAE's factor of 8 and the patches of 2 in space; its factor of 4 in time, after a first frame of its own.
_GRID = 16
_TEMPORAL = 4
_PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "ftfy")
_TINY_DEFAULTS = {"precision": "fp32", "latents": "fp32", "vae": "fp32"}


def check_packages(wanted_by: str) -> None:
    """Look whether the packages are there that Wan models need.

    Args:
        wanted_by: who needs them, for the message.

    Raises:
        MissingPrerequisite: they are not all there.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        what = f"{wanted_by} needs {', '.join(missing)}"
        raise MissingPrerequisite(what, cure="pip install 'refeval[render]' (docs/install.md: torch comes first)")


class WanGenerator(Generator):
    """A family of models; one subclass per published model names it.

    Attributes:
        model: key of :data:`~refeval.generators.wan.catalogue.MODELS`.
        settings_class: the family's settings.
        tiny_defaults: settings of the tiny model that differ from the published ones.
    """

    version = "1"
    model: ClassVar[str]
    settings_class: ClassVar[type[WanSettings]]
    tiny_defaults: ClassVar[dict[str, Any]] = {}

    def __init__(self, options: WanSettings) -> None:
        self.options: Any = options
        self._clip: ClipSpec | None = None
        self._engine: Engine | None = None
        self._began_loading = False
        self._ahead: list[Case] = []
        self._background = ThreadPoolExecutor(1)
        self._next: tuple[str, Future[list[Tensor]]] | None = None

    @classmethod
    def from_argument(cls, argument: str | None) -> Self:
        """Make it from settings: ``key=value,key=value``, or a TOML file.

        Raises:
            BadInput: as :meth:`WanSettings.parse`.
        """
        defaults = {**_TINY_DEFAULTS, **cls.tiny_defaults} if MODELS[cls.model].tiny else {}
        return cls(cls.settings_class.parse(argument, defaults))

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        return MODELS[self.model]

    @abstractmethod
    def picture(self, image: Image, reference: Reference, clip: ClipSpec) -> Tensor:
        """A reference as the family prepares it: pixels (3, 1, H, W) in -1 to 1, of the clip's size."""

    @abstractmethod
    def conditions(
        self, engine: Engine, prompt: Tensor, negative: Tensor, references: Sequence[Tensor], clip: ClipSpec
    ) -> Conditions:
        """What steers the clip.

        Args:
            engine: loaded.
            prompt: text embedding.
            negative: that of the negative prompt.
            references: of :meth:`picture`, at least one, each (1, 3, 1, H, W).
            clip: to render.
        """

    @abstractmethod
    def schedule(self) -> Schedule:
        """A fresh solver."""

    @property
    def extended_negative_prompt(self) -> bool:
        """Whether the longer official negative prompt is wanted, where it is found."""
        return False

    @property
    def round_timesteps(self) -> bool:
        """Whether the transformer is told timesteps rounded to bfloat16."""
        return False

    def prompt(self, case: Case) -> str:
        """The text that a case is rendered from."""
        return case.prompt

    def settings(self) -> dict[str, Any]:
        """Every setting, with the negative prompt that was found and how many references are taken."""
        return {
            **dataclasses.asdict(self.options),
            "negative_prompt": self.negative_prompt.as_settings(),
            "references": self.spec.references,
            **({"weights": "random"} if self.spec.tiny else {}),
        }

    def sources(self) -> list[tuple[Source, str]]:
        """The repositories that files are loaded from, and who wants them, for the message where one is missing."""
        return [(source, self.model) for source in (self.spec.transformer, self.spec.base) if source]

    def parts(self) -> Parts:
        """Where the parts of the model come from."""
        from refeval.generators.wan.parts import parts_of

        return parts_of(self.spec, self.store)

    def files(self) -> list[Path]:
        """Every file that is loaded.

        Raises:
            MissingPrerequisite: files are missing.
        """
        return [path for source, wanted_by in self.sources() for path in self.store.find(source, wanted_by)]

    def weights(self) -> dict[str, str]:
        """sha256 of every file that is loaded.

        Raises:
            MissingPrerequisite: files are missing.
        """
        return self.store.sha256(self.files())

    def own_clip(self, suite: ClipSpec) -> ClipSpec:
        """What the model renders as published; a tiny one what the suite says, in sizes that the VAE can make."""
        if self.spec.clip is not None:
            return self.spec.clip
        frames = round((suite.frames - 1) / _TEMPORAL) * _TEMPORAL + 1
        width, height = (max(round(side / _GRID), 1) * _GRID for side in (suite.width, suite.height))
        return ClipSpec(width=width, height=height, frames=max(frames, _TEMPORAL + 1), fps=suite.fps)

    def expected(self, wanted: ClipSpec) -> ClipSpec:
        """The same, if the VAE can make it.

        Raises:
            BadInput: it cannot.
        """
        if wanted.width % _GRID or wanted.height % _GRID:
            raise BadInput(
                f"model '{self.model}' cannot render {wanted.width}x{wanted.height}",
                cure=f"give sides that are multiples of {_GRID}",
            )
        if (wanted.frames - 1) % _TEMPORAL:
            near = (wanted.frames - 1) // _TEMPORAL * _TEMPORAL + 1
            raise BadInput(
                f"model '{self.model}' cannot render {wanted.frames} frames",
                cure=f"give 4 k + 1 frames, e.g. --frames {near} or {near + _TEMPORAL}",
            )
        self._clip = wanted
        return wanted

    def check(self) -> None:
        """Look whether packages, weights, a GPU and enough memory are there.

        Raises:
            BadInput: the place names no device or memory preset.
            MissingPrerequisite: something is missing.
        """
        check_packages(f"model '{self.model}'")
        self.files()
        check_place(self.spec, self._clip, self.place)

    def foresee(self, cases: Sequence[Case]) -> None:
        """Keep the prompts in mind; prepare the references of the case after the next one in the background."""
        self._ahead = list(cases)

    def prepare(self, clip: ClipSpec) -> None:
        """Load the model.

        Raises:
            MissingPrerequisite: files, GPU or memory are missing.
        """
        from refeval.generators.wan.engine import Engine

        self._began_loading = True
        engine = Engine(self.spec, self.options, self.place, self.parts())
        prompts = [self.prompt(case) for case in self._ahead]
        engine.load([self.negative_prompt.text, *prompts], clip)
        self._engine = engine

    def render(self, job: RenderJob) -> Clip:
        """Sample one clip.

        Raises:
            BadInput: a reference cannot be read.
            UnusableClip: the sampling diverged.
        """
        if self._engine is None:
            raise AssertionError("prepare() comes first")
        engine = self._engine
        references = self._references(job.case, job.clip)
        self._prepare_next(job)
        left_out = [reference.path for reference in job.case.references[self.spec.references :]]
        if left_out:
            job.notes["references_left_out"] = left_out
        job.notes.update(device=engine.device.type, attention=engine.attention, together=engine.together)
        job.notes.setdefault("memory", engine.preset.name)
        conditions = self.conditions(
            engine,
            engine.text(self.prompt(job.case)),
            engine.text(self.negative_prompt.text),
            references,
            job.clip,
        )
        frames = engine.sample(
            conditions,
            self.schedule(),
            seed=case_seed(job.seed, job.case.id),
            clip=job.clip,
            round_timesteps=self.round_timesteps,
        )
        return Clip.from_frames(frames, job.clip.fps)

    def save_memory(self) -> str | None:
        """Go over to the most sparing preset.

        Nothing is spared on a CPU, by a team, or where the memory of the machine and not of its GPU ran out, which is
        what killed a worker that had not begun to load.
        """
        if self._engine is not None:
            return self._engine.spare()
        if not self._began_loading or self.place.device == "cpu" or self.place.gpus_per_clip > 1 or self.spec.tiny:
            return None
        from refeval.generators.wan.engine import release_cached_memory

        release_cached_memory()
        self.place = dataclasses.replace(self.place, memory=SPARING.name)
        return SPARING.name

    def close(self) -> None:
        """Free the model."""
        self._background.shutdown(cancel_futures=True)
        if self._engine:
            self._engine.close()
            self._engine = None

    @cached_property
    def store(self) -> WeightsStore:
        """The weights folder."""
        return WeightsStore(self.place.weights)

    @cached_property
    def negative_prompt(self) -> NegativePrompt:
        """The model's own, one that was given, or the fallback."""
        given = self.options.negative_prompt
        text = None if given == OFFICIAL else given
        return find_negative_prompt(self._configuration_folders(), text, extended=self.extended_negative_prompt)

    def _configuration_folders(self) -> list[Path]:
        folder = self.place.weights
        if folder is None or self.spec.tiny:
            return []
        return [folder, *(self.store.folder_of(source) for source, _ in self.sources())]

    def _references(self, case: Case, clip: ClipSpec) -> list[Tensor]:
        prepared, self._next = self._next, None
        if prepared is not None and prepared[0] == case.id and prepared[1].exception() is None:
            return prepared[1].result()
        # Also where the background failed: what it ran out of may be there now, and an error belongs to this case.
        return self._pictures(case, clip)

    def _pictures(self, case: Case, clip: ClipSpec) -> list[Tensor]:
        taken = case.references[: self.spec.references]
        return [
            self.picture(open_reference(file, case.id), reference, clip)[None]
            for file, reference in zip(case.reference_files(), taken, strict=False)
        ]

    def _prepare_next(self, job: RenderJob) -> None:
        later = [case for case in self._ahead if case.id != job.case.id]
        if later:
            self._next = (later[0].id, self._background.submit(self._pictures, later[0], job.clip))
