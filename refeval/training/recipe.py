"""A recipe: everything that decides what a training makes, and nothing about where it runs.

A recipe is a TOML file with one table per class below; ``refeval train --config NAME`` takes one of those that come
with the program (``refeval/data/recipes``), or the path of another. Every field has the value of the paper where the
file does not say otherwise, so a file is the list of its differences.

Source: RefAlign (arXiv 2603.25743) sections 3.3 to 4.1 and A.1 (``paper``); the code @6f91526, examples/wanvideo/
model_training and diffsynth/trainers (``released``).
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import TypeAdapter, ValidationError

from refeval.errors import BadInput
from refeval.suggestions import did_you_mean
from refeval.training.objective import Objective

_MANY = float("inf")
# The least and the most of fields whose type allows more.
_RANGES: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "network": {"width": (1, _MANY), "blocks": (1, _MANY), "heads": (1, _MANY)},
    "objective": {"depth": (0, _MANY), "eta": (0, _MANY), "negative_weight": (0, _MANY), "gate_power": (0, _MANY)},
    "teacher": {"layer": (0, _MANY)},
    "data": {
        "width": (1, _MANY),
        "height": (1, _MANY),
        "frames": (1, _MANY),
        "fps": (1e-3, _MANY),
        "cross_share": (0, 1),
        "references": (1, 8),
        "drop_text": (0, 1),
        "drop_references": (0, 1),
        "drop_both": (0, 1),
        "broken_limit": (0, 1),
    },
    "optimizer": {
        "learning_rate": (0, _MANY),
        "muon_learning_rate": (0, _MANY),
        "weight_decay": (0, _MANY),
        "warmup": (0, _MANY),
        "warmup_from": (0, 1),
        "cooldown": (0, 1),
        "clip_norm": (0, _MANY),
        "ema": (0, 1),
    },
    "run": {
        "iterations": (1, _MANY),
        "global_batch": (1, _MANY),
        "micro_batch": (1, _MANY),
        "save_every": (1, _MANY),
        "keep": (1, _MANY),
        "sample_every": (0, _MANY),
        "explode": (1, _MANY),
    },
    "testbed": {
        "freedom": (0, 1),
        "foreground": (0, _MANY),
        "teacher_steps": (0, _MANY),
        "steps": (1, _MANY),
        "assessed_clips": (1, _MANY),
    },
}


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """What is trained.

    Attributes:
        base: ``wan2.1-t2v-1.3b`` or ``wan2.1-t2v-14b``: the published weights that training starts from; ``wan-tiny``:
            a few random weights of the same architecture, for a trial on a CPU; ``sprites``: a small network for the
            sprites world, from random weights.
        width: of the network; ``sprites`` only, like all below.
        blocks: transformer blocks.
        heads: attention heads.
    """

    base: Literal["wan2.1-t2v-1.3b", "wan2.1-t2v-14b", "wan-tiny", "sprites"] = "wan2.1-t2v-1.3b"
    width: int = 128
    blocks: int = 4
    heads: int = 4


@dataclass(frozen=True, kw_only=True)
class TeacherSettings:
    """What the reference features are aligned to.

    Attributes:
        names: of teachers; several: their features, each scaled to length 1, side by side.
        layer: after how many blocks the features are taken; 0: after the last.
        final_norm: whether the teacher's last norm is applied to them.
        precision: ``bf16`` (the released code) or ``fp32``.
    """

    names: tuple[str, ...] = ("dinov3-l",)
    layer: int = 0
    final_norm: bool = True
    precision: Literal["bf16", "fp32"] = "bf16"


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings:
    """How references of regular pairs are changed, in this order, on white, before they are letterboxed.

    The numbers are those of the released code; the paper names the operations. Angles in degrees; shares are of the
    picture's side; factors are drawn evenly from 1 - x to 1 + x.

    Attributes:
        flip: probability of a horizontal flip.
        perspective: probability of a perspective change.
        perspective_strength: of the shift of a corner, in half sides.
        rotate: largest angle.
        shear: largest angle, along each axis.
        scale: largest change of the size.
        translate: largest shift, as a share of each side.
        crop: probability of a crop.
        blur: probability of a Gaussian blur.
        colour: largest value added to each channel, values being 0 to 1.
        brightness: largest change of the brightness.
    """

    flip: float = 0.5
    perspective: float = 0.5
    perspective_strength: float = 0.3
    rotate: float = 45.0
    shear: float = 10.0
    scale: float = 0.1
    translate: float = 0.05
    crop: float = 0.0
    blur: float = 1.0
    colour: float = 0.05
    brightness: float = 0.1


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Size of clips, which pairs, and what is left out at random.

    Attributes:
        width: pixels.
        height: pixels.
        frames: of a clip, 4 k + 1.
        fps: at which a clip is sampled from its video.
        cross_share: share of samples with cross pairs, 0 to 1, where both kinds are given.
        references: most references of a sample; more are cut off at random.
        drop_text: share of samples whose prompt is replaced by the empty one.
        drop_references: share of samples whose references are replaced by zeros.
        drop_both: share of samples that lose both.
        dropped_references: ``each``: as many zero latents as there were references, as at inference; ``one``: a single
            one, as the released code does.
        broken_limit: largest share of samples that may be broken, counted from the 100th on.
        augment: whether the references of regular pairs are augmented.
        augmentation: how.
    """

    width: int = 832
    height: int = 480
    frames: int = 81
    fps: float = 25.0
    cross_share: float = 0.5
    references: int = 3
    drop_text: float = 0.1
    drop_references: float = 0.1
    drop_both: float = 0.1
    dropped_references: Literal["each", "one"] = "each"
    broken_limit: float = 0.05
    augment: bool = True
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """How parameters move.

    Attributes:
        name: ``adamw``; ``muon``: Muon for the matrices of the blocks and AdamW for the rest.
        learning_rate: of AdamW.
        muon_learning_rate: of Muon.
        betas: of AdamW.
        weight_decay: of AdamW.
        warmup: iterations before the rate is the full one, from which on it stays; it rises evenly.
        warmup_from: share of the rate at the first of them.
        cooldown: share of the iterations, at the end, over which the rate falls evenly to zero.
        clip_norm: largest norm of the gradient; 0: it is not clipped.
        ema: decay of the averaged weights; 0: none are kept.
    """

    name: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 5e-5
    muon_learning_rate: float = 0.02
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    warmup: int = 0
    warmup_from: float = 0.0
    cooldown: float = 0.0
    clip_norm: float = 0.0
    ema: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How long, how much at once, and how often something is kept.

    Attributes:
        iterations: steps of the optimizer.
        global_batch: samples of a step, over all processes.
        micro_batch: samples of one forward pass of a process.
        precision: of the forward pass, ``bf16`` or ``fp32``; parameters, optimizer and losses are float32.
        checkpointing: recompute activations in the backward pass, which saves memory.
        save_every: iterations between checkpoints.
        keep: how many of the last checkpoints are kept.
        sample_every: iterations between sample clips; 0: none.
        explode: a loss that is this many times its running mean stops the training, as one that is not finite does.
    """

    iterations: int = 3000
    global_batch: int = 128
    micro_batch: int = 1
    precision: Literal["bf16", "fp32"] = "bf16"
    checkpointing: bool = True
    save_every: int = 500
    keep: int = 3
    sample_every: int = 500
    explode: float = 20.0


@dataclass(frozen=True, kw_only=True)
class TestbedSettings:
    """The sprites world, where ``network.base`` is ``sprites``; size and length of clips are those of ``data``.

    Attributes:
        subjects: how many a clip may have; each number is equally likely.
        kinds: of subjects: ``object``, ``face``, ``human``.
        backgrounds: of clips.
        freedom: how freely subjects are placed, 0 to 1; see :func:`refeval.sprites.sample_scene`.
        foreground: weight of the error where a subject is.
        teacher_steps: iterations that the teacher of identity is trained for.
        guidance: scale of the references when clips are drawn.
        guidance_text: scale of the prompt.
        steps: of the solver.
        assessed_clips: how many clips of each number of subjects the measures at the end are taken of.
    """

    subjects: tuple[int, ...] = (1,)
    kinds: tuple[Literal["object", "face", "human"], ...] = ("object",)
    backgrounds: tuple[str, ...] = ("sky", "grass", "sand", "night")
    freedom: float = 0.15
    foreground: float = 6.0
    teacher_steps: int = 300
    guidance: float = 2.0
    guidance_text: float = 2.0
    steps: int = 12
    assessed_clips: int = 128


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what is trained; a table of the file for each.

    Attributes:
        name: of the recipe; the file's.
        network: what is trained.
        objective: what is minimised; its table ``flow`` holds the noise levels.
        teacher: what references are aligned to.
        references: ``tokens``: references enter as tokens only; ``dual``: the teacher's features enter beside them,
            at inference too (the paper's configuration D).
        data: clips, pairs, dropping.
        optimizer: how parameters move.
        run: how long and how much at once.
        testbed: the sprites world.
    """

    name: str
    network: NetworkSettings = field(default_factory=NetworkSettings)
    objective: Objective = field(default_factory=Objective)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    references: Literal["tokens", "dual"] = "tokens"
    data: DataSettings = field(default_factory=DataSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    run: RunSettings = field(default_factory=RunSettings)
    testbed: TestbedSettings = field(default_factory=TestbedSettings)

    @property
    def needs_teacher(self) -> bool:
        """Whether anything is done with the teacher's features."""
        return self.objective.depth > 0 or self.references == "dual"

    def described(self) -> dict[str, Any]:
        """As JSON types, with every default: what is hashed and kept."""
        content: dict[str, Any] = TypeAdapter(Recipe).dump_python(self, mode="json")
        return content


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with the program."""
    folder = importlib.resources.files("refeval") / "data" / "recipes"
    return tuple(sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".toml")))


def read_recipe(config: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        config: the name of one that comes with the program, or the path of a ``.toml`` file.
        changes: values for single fields by their dotted names, e.g. ``{"objective.depth": 3}``.

    Raises:
        BadInput: no such recipe, not TOML, an unknown field, a value of the wrong kind.
    """
    path = Path(config)
    if path.suffix == ".toml":
        name, text = path.stem, _read_text(path)
    elif config in recipe_names():
        name, text = config, (importlib.resources.files("refeval") / f"data/recipes/{config}.toml").read_text()
    else:
        raise BadInput(
            f"unknown recipe '{config}'{did_you_mean(config, recipe_names())}",
            details=(("known", ", ".join(recipe_names())),),
            cure="name one of these, or the path of a .toml file",
        )
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"recipe {config} is not TOML: {error}") from error
    for dotted, value in (changes or {}).items():
        _put(content, dotted, value)
    return parse_recipe({"name": name, **content}, config)


def parse_recipe(content: Mapping[str, Any], origin: str) -> Recipe:
    """Check and type the fields of a recipe.

    Args:
        content: nested tables.
        origin: where they come from, for messages.

    Raises:
        BadInput: an unknown field, a value of the wrong kind, values that contradict each other.
    """
    _refuse_unknown(Recipe, content, origin)
    try:
        recipe = TypeAdapter(Recipe).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(
            f"recipe {origin}: '{where}' is {first['input']!r}", details=(("wanted", first["msg"]),)
        ) from None
    for wrong in _contradictions(recipe):
        raise BadInput(f"recipe {origin}: {wrong}")
    return recipe


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise BadInput(f"recipe {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"recipe {path} is not TOML: {error}") from error


def _put(content: dict[str, Any], dotted: str, value: Any) -> None:
    *tables, last = dotted.split(".")
    for name in tables:
        content = content.setdefault(name, {})
        if not isinstance(content, dict):
            raise BadInput(f"'{dotted}': '{name}' has no fields")
    content[last] = value


def _refuse_unknown(kind: Any, content: Mapping[str, Any], origin: str, place: str = "") -> None:
    known = {entry.name for entry in dataclasses.fields(kind)}
    hints = get_type_hints(kind)
    for name, value in content.items():
        if name not in known:
            raise BadInput(
                f"recipe {origin}: unknown field '{place}{name}'{did_you_mean(name, known)}",
                details=(("known", ", ".join(sorted(known))),),
            )
        if dataclasses.is_dataclass(hints[name]):
            if not isinstance(value, Mapping):
                raise BadInput(f"recipe {origin}: '{place}{name}' is a table, not {value!r}")
            _refuse_unknown(hints[name], value, origin, f"{place}{name}.")


def _contradictions(recipe: Recipe) -> list[str]:
    """Numbers out of their range, and what no single field shows."""
    outside = [
        f"'{table}.{name}' is {value:g}, not {least:g} to {most:g}"
        for table, ranges in _RANGES.items()
        for name, (least, most) in ranges.items()
        if not least <= (value := getattr(getattr(recipe, table), name)) <= most
    ]
    if outside:
        return outside
    data, run, network = recipe.data, recipe.run, recipe.network
    dropped = data.drop_text + data.drop_references + data.drop_both
    depth = recipe.objective.depth
    drawn = network.base == "sprites"
    checks = (
        (run.global_batch % run.micro_batch == 0, "run.global_batch is not a multiple of run.micro_batch"),
        (dropped <= 1, f"the shares of dropped samples add up to {dropped:g}"),
        (bool(recipe.teacher.names), "teacher.names is empty"),
        (recipe.objective.flow.shift > 0, f"objective.flow.shift is {recipe.objective.flow.shift:g}, not above 0"),
        (all(0 <= beta < 1 for beta in recipe.optimizer.betas), "optimizer.betas are 0 or more, and below 1"),
        (
            max(data.references, *recipe.testbed.subjects) == data.references or not drawn,
            "data.references is below the largest of testbed.subjects",
        ),
        (not drawn or depth <= network.blocks, f"objective.depth is {depth}, of {network.blocks} blocks"),
        (network.width % (2 * network.heads) == 0, "network.width is not a multiple of twice network.heads"),
        (
            not drawn or all(side % 4 == 0 for side in (data.width, data.height, data.frames)),
            "data: width, height and frames of sprites are multiples of 4",
        ),
    )
    return [text for holds, text in checks if not holds]
