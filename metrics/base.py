"""What a metric is: frames of a clip in, a number out. One file per metric; the whole API fits on this screen.

A metric of another package is found through the entry-point group ``refeval.metrics`` (docs/plugins.md).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from refeval.cases import Case
from refeval.clips import AllFrames, Clip, FrameRule
from refeval.place import Place
from refeval.weights import Source, WeightsStore


@dataclass(frozen=True, kw_only=True)
class Score:
    """The score of one clip.

    Attributes:
        value: what the official script gives, in its own unit.
        strict_value: what the ``strict`` protocol reads; the same number where the protocols agree.
        frames_used: how many frames the value rests on.
        details: further numbers and texts for the reports (JSON types).
    """

    value: float
    strict_value: float
    frames_used: int
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MemoryNeed:
    """What a metric needs of a GPU's memory with its published weights, in gigabytes (1e9 bytes).

    Attributes:
        models: by name of the model; metrics that name the same one share it.
        work: what it needs besides while it works.
    """

    models: Mapping[str, float] = field(default_factory=dict)
    work: float = 0.0


class Metric(ABC):
    """Base class of every metric.

    Attributes:
        id: snake_case id, as on the command line.
        label: name in listings; reports name a metric that is not a published one by its id.
        version: raised whenever the same clip may get another number; part of the task key.
        range: lowest and highest value that it means.
        higher_is_better: direction.
        frames: the frames that it looks at.
        libraries: distributions whose version may move the number; part of the task key.
        sources: repositories that ``refeval fetch metrics`` brings for it.
        needs: of a GPU's memory, with published weights.
        place: where it works; set right after it is made.
        tiny: small networks with random weights, to try a procedure: the number means nothing. A metric that can
            work so takes ``tiny`` as a keyword argument.
    """

    id: ClassVar[str]
    label: ClassVar[str]
    version: ClassVar[str]
    range: ClassVar[tuple[float, float]]
    higher_is_better: ClassVar[bool] = True
    frames: ClassVar[FrameRule] = AllFrames()
    libraries: ClassVar[tuple[str, ...]] = ()
    sources: ClassVar[tuple[Source, ...]] = ()
    needs: ClassVar[MemoryNeed] = MemoryNeed()
    place: Place = Place()
    tiny: bool = False
    _store: WeightsStore | None = None

    @property
    def store(self) -> WeightsStore:
        """The weights folder; one for all cases, because it remembers what it computed."""
        if self._store is None or self._store.folder != self.place.weights:
            self._store = WeightsStore(self.place.weights)
        return self._store

    def settings(self) -> dict[str, Any]:
        """What is measured and how (JSON types): part of the task key, and kept in records; no path and no secret."""
        return {}

    def weights(self) -> dict[str, str]:
        """sha256 of every weights file, by name."""
        return {}

    def memory(self) -> MemoryNeed:
        """What it needs of a GPU's memory as it is set up."""
        return MemoryNeed() if self.tiny else self.needs

    def inputs(self, case: Case) -> list[Path]:
        """Files that are read besides the clip (references, say); their bytes are part of the task key."""
        del case
        return []

    def check(self) -> None:
        """Look at what :meth:`prepare` will need, before anything is loaded or written: that the files are there.

        They are looked at, not read: listings ask this of every metric.

        Raises:
            MissingPrerequisite: something is missing; the cure is the command that gets it.
        """
        for source in () if self.tiny else self.sources:
            self.store.find(source, self.id)

    def keep_in(self, folder: Path) -> None:
        """Learn the run folder, for what is kept there beside the scores: a judge's replies."""

    def cost(self, cases: Sequence[Case]) -> str | None:
        """What scoring these cases will ask of others, in words for the user before it begins; None: nothing."""
        return None

    def prepare(self) -> None:
        """Load what scoring needs, once per process.

        Raises:
            MissingPrerequisite: weights or packages are missing; the cure is the command that gets them.
        """

    def begin(self) -> None:
        """Do what is done once per run, before its first case: under a lease, by one process at a time.

        Every process of every command calls it, right after :meth:`prepare`: what is done is not done again.

        Raises:
            Unavailable: no clip can be scored; nothing is recorded.
        """

    @abstractmethod
    def score(self, case: Case, clip: Clip) -> Score:
        """Score one clip.

        Raises:
            UnusableClip: this clip cannot be scored; the reason is recorded.
            Unparseable: a judge gave an answer that is no score; the reason is recorded.
            Unavailable: no other clip can be scored either; nothing is recorded.
        """
