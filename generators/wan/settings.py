"""Settings of a model: what may follow ``--model NAME:``, as ``key=value`` pairs or a TOML file."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from refeval.errors import BadInput
from refeval.suggestions import did_you_mean

# A word instead of a text: the model's own, looked for in its configuration files.
OFFICIAL = "official"
_TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, kw_only=True)
class WanSettings:
    """What every family has. The defaults are the published ones; all are hashed and kept in the manifest.

    Attributes:
        preset: named set of defaults.
        steps: of the solver.
        shift: of the noise schedule, towards high noise.
        guidance: scale of the guidance; that of the references where there are two.
        negative_prompt: ``official``, or the text itself.
        precision: of the transformer, ``bf16`` or ``fp32``.
        latents: precision of the latents between the steps.
        vae: precision of the VAE.
        together: ``yes``: all branches of the guidance in one batch; ``no``: one after the other, which takes less
            memory; ``auto``: as the memory preset says.
        compile: compile the transformer's blocks with ``torch.compile``.
        attention: a backend of diffusers (``native``, ``_native_cudnn``, ``flash``, ``_flash_3``, ``sage``), or
            ``auto``: the fastest exact one of the device.
        tiling: decode in tiles, which takes less memory and changes the pixels along the seams.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}}
    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "precision": ("bf16", "fp32"),
        "latents": ("bf16", "fp32"),
        "vae": ("bf16", "fp32"),
        "together": ("auto", "yes", "no"),
    }

    preset: str = "paper"
    steps: int = 50
    shift: float = 5.0
    guidance: float = 5.0
    negative_prompt: str = OFFICIAL
    precision: str = "bf16"
    latents: str = "fp32"
    vae: str = "fp32"
    together: str = "auto"
    compile: bool = False
    attention: str = "auto"
    tiling: bool = False

    def __post_init__(self) -> None:
        for name, choices in self.CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise BadInput(f"setting '{name}' is '{value}'{did_you_mean(value, choices)}", cure=_one_of(choices))
        if self.steps < 1:
            raise BadInput(f"setting 'steps' is {self.steps}", cure="give 1 or more")
        if self.shift <= 0:
            raise BadInput(f"setting 'shift' is {self.shift}", cure="give a number above 0")

    @classmethod
    def parse(cls, argument: str | None, defaults: Mapping[str, Any]) -> Self:
        """Read what follows the colon of ``--model``.

        Args:
            argument: ``key=value,key=value``, the path of a TOML file, or None.
            defaults: of the model, where they differ from the family's.

        Raises:
            BadInput: unknown key, a value of the wrong kind, an unreadable file.
        """
        given = _read(argument)
        preset = str(given.get("preset", defaults.get("preset", cls.preset)))
        if preset not in cls.PRESETS:
            raise BadInput(f"unknown preset '{preset}'{did_you_mean(preset, cls.PRESETS)}", cure=_one_of(cls.PRESETS))
        fields = {field.name: field for field in dataclasses.fields(cls)}
        unknown = [name for name in given if name not in fields]
        if unknown:
            hint = did_you_mean(unknown[0], fields)
            raise BadInput(f"unknown setting '{unknown[0]}'{hint}", cure=_one_of(fields))
        values = {name: _typed(name, value, str(fields[name].type)) for name, value in given.items()}
        return cls(**{**defaults, **cls.PRESETS[preset], **values})


def _one_of(names: Any) -> str:
    return f"one of {', '.join(names)}"


def _read(argument: str | None) -> dict[str, Any]:
    if not argument:
        return {}
    if argument.endswith(".toml"):
        return _read_file(Path(argument))
    pairs = [pair.partition("=") for pair in argument.split(",")]
    for name, equals, _ in pairs:
        if not equals:
            raise BadInput(
                f"'{name}' is not a setting",
                cure="give key=value pairs separated by commas, or a file.toml for texts with commas",
            )
    names = [name.strip() for name, _, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise BadInput(f"setting '{twice}' is given twice")
    return {name: value.strip() for name, (_, _, value) in zip(names, pairs, strict=True)}


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise BadInput(f"settings file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"settings file {path} is not TOML: {error}") from error


def _typed(name: str, value: Any, kind: str) -> Any:
    try:
        return _CONVERTERS[kind](value)
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"setting '{name}' is '{value}'", cure=f"give a value of type {kind}") from None


def _truth(value: Any) -> bool:
    return value if isinstance(value, bool) else _TRUTHS[str(value).lower()]


def _whole(value: Any) -> int:
    if isinstance(value, bool | float):
        raise TypeError
    return int(value)


def _number(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or number != number or abs(number) == float("inf"):
        raise ValueError
    return number


def _text(value: Any) -> str:
    # In TOML yes and no are written true and false.
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, str):
        raise TypeError
    return value


_CONVERTERS = {"bool": _truth, "int": _whole, "float": _number, "str": _text}
