"""Ablations: what an option changes in a recipe, which row of which table that makes, and where everything lies.

::

    runs/ablations/CONFIG/
        trainings/loss-A-seed0/      as refeval train makes it
        runs/SUITE/loss-A-seed0/     as refeval run makes it
        reports/SUITE/loss/          of a whole study
        logs/SUITE/loss-A-seed0.log  of the members of a study

Source: RefAlign (arXiv 2603.25743) tables 2 to 4 and figure 7; 1800 iterations for each member.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refeval.errors import BadInput
from refeval.generators.wan.catalogue import BASES
from refeval.reports.ablations import Study
from refeval.suggestions import did_you_mean
from refeval.training.recipe import Recipe
from refeval.training.teacher_catalogue import TEACHERS
from refeval.training.testbed.identity_teacher import TRAINED, UNTRAINED

ITERATIONS = 1800
"""Of every member in the paper."""

LOSSES: Mapping[str, str] = {"full": "A", "no-negative": "B", "none": "C", "dual-encoder-input": "D"}
"""The values of ``--loss``, and the paper's names for them."""

TABLES: Mapping[Study, str] = {
    Study.LOSS: "table 2",
    Study.ENCODER: "table 3",
    Study.DEPTH: "table 4 and figure 7",
}
"""Of the paper."""

# The paper shows eight depths with the peak at 9 and a fall from 11 on; which eight is not known to us.
_DEPTHS = (0, 1, 3, 5, 7, 9, 11, 13, 15)
_LOSS_CHANGES: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "no-negative": {"objective.negative_weight": 0.0},
    "none": {"objective.depth": 0},
    "dual-encoder-input": {"objective.depth": 0, "references": "dual"},
}


@dataclass(frozen=True, kw_only=True)
class Varied:
    """What is varied: the options of ``refeval train-ablation``; None: as the recipe has it.

    Attributes:
        loss: a key of :data:`LOSSES`.
        depth: how many blocks are aligned.
        encoder: name of the teacher.
        negative_weight: lambda.
        margin: of the negative term.
        eta: weight of the alignment.
    """

    loss: str | None = None
    depth: int | None = None
    encoder: str | None = None
    negative_weight: float | None = None
    margin: float | None = None
    eta: float | None = None

    @property
    def given(self) -> dict[str, str]:
        """The options that are given, by name, in a fixed order."""
        values = {
            "loss": self.loss,
            "depth": self.depth,
            "encoder": self.encoder,
            "lambda": self.negative_weight,
            "margin": self.margin,
            "eta": self.eta,
        }
        return {name: _text(value) for name, value in values.items() if value is not None}

    def options(self) -> dict[str, Any]:
        """What is given, by the names of this class: enough to make it again."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    @property
    def study(self) -> Study | None:
        """The study that it is a member of: where one choice is made and it is a study's; else none."""
        names = list(self.given)
        return Study(names[0]) if len(names) == 1 and names[0] in set(Study) else None

    @property
    def member(self) -> str:
        """Its name in the tables: the paper's for the losses; of no study: all that is given."""
        if self.study is Study.LOSS:
            return LOSSES[self.given["loss"]]
        return self.given[self.study] if self.study else ",".join(f"{name}={text}" for name, text in self.given.items())

    @property
    def place(self) -> dict[str, str] | None:
        """As ``training.json`` and manifests hold it."""
        return {"study": self.study.value, "member": self.member} if self.study else None

    def folder(self, seed: int) -> str:
        """The name of its folders: ``loss-A-seed0``, ``lambda-0.5-margin-0.3-seed0``."""
        name = f"{self.study}-{self.member}" if self.study else self.member
        return f"{re.sub(r'[^A-Za-z0-9._+-]+', '-', name)}-seed{seed}"

    def changes(self, base: Recipe) -> dict[str, Any]:
        """The fields of a recipe that it changes, by their dotted names.

        Args:
            base: the recipe without them.

        Raises:
            BadInput: nothing is varied, an unknown loss or encoder, choices that contradict each other or the recipe.
        """
        if not self.given:
            raise BadInput("nothing is varied", cure="give --loss, --depth or --encoder (or --lambda, --margin, --eta)")
        self._check(base)
        changes: dict[str, Any] = {**_LOSS_CHANGES[self.loss or "full"]}
        fields = {
            "objective.depth": self.depth,
            "teacher.names": [self.encoder] if self.encoder else None,
            "objective.negative_weight": self.negative_weight,
            "objective.margin": self.margin,
            "objective.eta": self.eta,
        }
        return changes | {name: value for name, value in fields.items() if value is not None}

    def notes(self, recipe: Recipe) -> list[str]:
        """What makes a member say less than its name, of the recipe that it is trained with."""
        alone = max(recipe.testbed.subjects) if recipe.network.base == "sprites" else recipe.data.references
        if recipe.objective.depth and alone == 1 and (self.loss == "no-negative" or self.negative_weight is not None):
            return ["samples have one reference, so the negative term is 0 with any weight"]
        return []

    def _check(self, base: Recipe) -> None:
        known = encoders_of(base)
        if self.loss is not None and self.loss not in LOSSES:
            raise BadInput(f"unknown loss '{self.loss}'{did_you_mean(self.loss, LOSSES)}", cure=_one_of(LOSSES))
        if self.encoder is not None and self.encoder not in known:
            raise BadInput(
                f"unknown encoder '{self.encoder}'{did_you_mean(self.encoder, known)}",
                cure=_one_of(known) if known else "wan-tiny has one teacher, of random weights, whatever its name",
            )
        blocks = blocks_of(base)
        if self.depth is not None and not 0 <= self.depth <= blocks:
            raise BadInput(f"--depth {self.depth}: the network of {base.name} has {blocks} blocks")
        if base.references != "tokens" or (not base.objective.depth and self.depth is None):
            cure = "give --config with a recipe that aligns references, such as refalign-1.3b"
            raise BadInput(f"recipe {base.name} does not align references: nothing to vary", cure=cure)
        if self.loss == "full" and self.negative_weight is None and not base.objective.negative_weight:
            raise BadInput(f"recipe {base.name} has no negative term: its loss is not the full one")
        clash = self._clash()
        if clash:
            raise BadInput(f"{clash[0]} and {clash[1]} contradict each other", cure="leave one of them out")

    def _clash(self) -> tuple[str, str] | None:
        """Two options of which one makes the other mean nothing."""
        given = self.given
        without = self.loss in ("none", "dual-encoder-input")
        weights = [name for name in ("lambda", "margin", "eta") if name in given]
        if without and "depth" in given:
            return f"--loss {self.loss}", "--depth"
        if without and weights:
            return f"--loss {self.loss}", f"--{weights[0]}"
        if self.loss == "none" and "encoder" in given:
            return "--loss none", "--encoder"
        if self.loss == "no-negative" and {"lambda", "margin"} & given.keys():
            return "--loss no-negative", f"--{weights[0]}"
        if self.depth == 0 and (weights or self.encoder):
            return "--depth 0", f"--{weights[0] if weights else 'encoder'}"
        return None


def study_members(
    study: Study, base: Recipe, *, depths: Sequence[int] = (), encoders: Sequence[str] = ()
) -> list[Varied]:
    """The members of a study, in order.

    Args:
        study: what is varied.
        base: the recipe.
        depths: of the study of depths; none: all of a small network's, of the published ones 0 and the odd ones to 15.
        encoders: of the study of encoders; none: all that are known.

    Raises:
        BadInput: depths or encoders for another study, or none to compare.
    """
    if (depths and study is not Study.DEPTH) or (encoders and study is not Study.ENCODER):
        raise BadInput(f"study {study} has no {'depths' if depths else 'encoders'} to choose")
    if study is Study.LOSS:
        members = [Varied(loss=loss) for loss in LOSSES]
    elif study is Study.DEPTH:
        members = [Varied(depth=depth) for depth in depths or _depths_of(base)]
    else:
        members = [Varied(encoder=encoder) for encoder in encoders or encoders_of(base)]
    if len(set(members)) < len(members):
        raise BadInput(f"study {study}: a member is named twice")
    for member in members:
        member.changes(base)
    if not members:
        raise BadInput(f"recipe {base.name} has no encoders to compare", cure="--study loss or --study depth")
    return members


def is_published(recipe: Recipe) -> bool:
    """Whether it trains from published weights: such members are trained as long as the paper's."""
    base = BASES.get(recipe.network.base)
    return base is not None and not base.tiny


def blocks_of(recipe: Recipe) -> int:
    """How many blocks the network has."""
    base = BASES.get(recipe.network.base)
    return recipe.network.blocks if base is None else base.architecture.layers


def encoders_of(recipe: Recipe) -> tuple[str, ...]:
    """The teachers that a recipe may have; none where it has one of random weights, whatever its name."""
    if recipe.network.base == "sprites":
        return TRAINED, UNTRAINED
    return tuple(TEACHERS) if is_published(recipe) else ()


def suite_of(recipe: Recipe) -> str:
    """The suite that its networks render by default."""
    return "opens2v-open" if is_published(recipe) else "sprites"


@dataclass(frozen=True)
class Layout:
    """Where the members of a recipe lie.

    Args:
        root: of all of them.
    """

    root: Path

    @classmethod
    def of(cls, recipe: Recipe, out: Path | None) -> Layout:
        """Below the folder that was given, or ``runs/ablations/CONFIG``."""
        return cls(out or Path("runs") / "ablations" / recipe.name)

    def training(self, name: str) -> Path:
        """The folder of a training."""
        return self.root / "trainings" / name

    def run(self, suite: str, name: str) -> Path:
        """The folder of a run."""
        return self.root / "runs" / suite / name

    def report(self, suite: str, study: Study) -> Path:
        """The folder of a study's report."""
        return self.root / "reports" / suite / study.value

    def log(self, suite: str, name: str) -> Path:
        """What a member of a study has printed."""
        return self.root / "logs" / suite / f"{name}.log"


def _depths_of(recipe: Recipe) -> tuple[int, ...]:
    return _DEPTHS if is_published(recipe) else tuple(range(blocks_of(recipe) + 1))


def _text(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _one_of(names: Mapping[str, str] | Sequence[str]) -> str:
    return f"one of {', '.join(names)}"
