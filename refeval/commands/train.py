"""What ``refeval train`` and ``refeval export-weights`` do and print."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from refeval.commands.console import ERR, OUT, print_json, say, say_written
from refeval.errors import BadInput, ExitCode, MissingPrerequisite
from refeval.place import Place
from refeval.suggestions import did_you_mean

if TYPE_CHECKING:
    from refeval.training.conclusion import Conclusion
    from refeval.training.session import Finished, TrainingRequest

_SHARDINGS = ("auto", "yes", "no")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options of ``refeval train``, as they were given."""

    config: str
    out: Path | None
    rows: tuple[Path, ...]
    encoded: Path | None
    features: Path | None = None
    start: Path | None
    seed: int
    iterations: int | None
    changes: tuple[str, ...]
    weights: Path | None
    device: str
    sharding: str
    threads: int
    wandb: str | None


def train(asked: Asked, *, as_json: bool) -> ExitCode:
    """``refeval train``."""
    need_packages()
    request = request_of(asked)
    finished, found = train_and_measure(request, wandb=asked.wandb)
    if not finished.main:
        return ExitCode.OK
    if found is None:
        return say_stopped(finished.step)
    if as_json:
        print_json(_described(request.folder, finished.step, found))
        return ExitCode.OK
    say(f"trained     {finished.step} iterations, {len(finished.skipped)} broken rows replaced")
    show(found)
    say_written([request.folder])
    return ExitCode.OK


def train_and_measure(request: TrainingRequest, *, wandb: str | None) -> tuple[Finished, Conclusion | None]:
    """Train, or go on, with live progress, and measure what was trained.

    Returns:
        How the training ended, and what was measured; None in other processes than the main one, and where the
        training was stopped.
    """
    from refeval.training.conclusion import conclude
    from refeval.training.observers.everyone import open_observers
    from refeval.training.session import train as carry_out

    finished = carry_out(
        request,
        lambda: open_observers(
            request.folder,
            iterations=request.recipe.run.iterations,
            fps=request.recipe.data.fps,
            console=ERR,
            config=request.recipe.described(),
            wandb_project=wandb,
        ),
        lambda complaint: ERR.print(f"passed over  {complaint}", soft_wrap=True),
    )
    if not finished.main or finished.step < request.recipe.run.iterations:
        return finished, None
    return finished, conclude(request.folder, request.recipe, finished.world, seed=request.seed)


def say_stopped(step: int) -> ExitCode:
    """Say that another process of the training was stopped."""
    say(f"stopped after iteration {step}; the same command goes on")
    return ExitCode.INCOMPLETE


def request_of(
    asked: Asked, *, ablation: Mapping[str, str] | None = None, changes: Mapping[str, Any] | None = None
) -> TrainingRequest:
    """The training that options ask for.

    Args:
        asked: the options.
        ablation: its place in a study.
        changes: of the recipe; they count more than those of the options.

    Raises:
        BadInput: an option that cannot be followed.
    """
    from refeval.training.recipe import read_recipe
    from refeval.training.session import TrainingRequest
    from refeval.training.trainer import Reading

    if asked.sharding not in _SHARDINGS:
        raise BadInput(f"--sharding is '{asked.sharding}'", cure=f"one of {', '.join(_SHARDINGS)}")
    wanted = dict(map(parse_change, asked.changes))
    if asked.iterations is not None:
        wanted["run.iterations"] = asked.iterations
    recipe = read_recipe(asked.config, {**wanted, **(changes or {})})
    return TrainingRequest(
        recipe=recipe,
        folder=asked.out or Path("trainings") / f"{recipe.name}-seed{asked.seed}",
        seed=asked.seed,
        rows=asked.rows,
        encoded=asked.encoded,
        features=asked.features,
        start=asked.start,
        ablation=ablation,
        place=Place(weights=asked.weights, device=asked.device),
        sharding=asked.sharding,  # type: ignore[arg-type]
        reading=Reading(threads=asked.threads),
    )


def parse_change(text: str) -> tuple[str, Any]:
    """``field=value``; the value as in TOML, or a text without its quotes.

    Raises:
        BadInput: no equals sign.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise BadInput(f"--set {text}: not of the form FIELD=VALUE", cure="e.g. --set optimizer.clip_norm=1.0")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value


def show(found: Conclusion) -> None:
    """Print what was measured of a training."""
    for note in found.notes:
        say(note)
    if found.separability is not None:
        before, after = _ratios(found)
        say(f"references  between over within distance, block {found.block}: {before:.2f} before, {after:.2f} after")
    if found.measures:
        OUT.print(_table(found.measures).terminal())


def _ratios(found: Conclusion) -> tuple[float, float]:
    """Between over within distance after the block that is shown, before and after the training."""
    assert found.separability is not None
    return found.separability.before[found.block].ratio, found.separability.after[found.block].ratio


def _table(measures: Sequence[Any]) -> Any:
    from refeval.reports.table import Table

    rows = []
    for one in measures:
        low, high = one.interval
        rows.append(
            (
                one.name,
                str(one.subjects),
                one.references,
                f"{100 * one.share:.1f}",
                f"{100 * low:.1f} to {100 * high:.1f}",
                f"{100 * one.chance:.0f}",
                f"{100 * one.real:.1f}",
                f"{one.right}/{one.asked}",
            )
        )
    columns = ("measure", "subjects", "references", "%", "95 % interval", "chance", "real clips", "right")
    return Table(title="Held-out subjects", columns=columns, rows=tuple(rows), left=3)


def export_weights(
    training: Path, *, out: Path, keys: str, step: int | None, average: bool, projectors: bool
) -> ExitCode:
    """``refeval export-weights``."""
    need_packages()
    from refeval.generators.wan.checkpoints import KeyFormat
    from refeval.training.exporting import export

    known = get_args(KeyFormat)
    if keys not in known:
        raise BadInput(f"unknown keys '{keys}'{did_you_mean(keys, known)}", cure=f"one of {', '.join(known)}")
    done = export(training, out, keys=cast("KeyFormat", keys), step=step, average=average, projectors=projectors)
    say(f"exported    iteration {done}, keys {keys}")
    say_written([out])
    return ExitCode.OK


def _described(folder: Path, step: int, found: Conclusion) -> dict[str, Any]:
    apart = dict(zip(("before", "after"), _ratios(found), strict=True)) if found.separability else None
    return {
        "training": str(folder),
        "step": step,
        "separability": {"block": found.block, **apart} if apart else None,
        "measures": [measure.described() for measure in found.measures],
        "notes": list(found.notes),
    }


def need_packages() -> None:
    """Name what to install before a traceback does.

    Raises:
        MissingPrerequisite: a package of the extra is missing.
    """
    from importlib.util import find_spec

    missing = [name for name in ("torch", "diffusers", "transformers", "accelerate") if find_spec(name) is None]
    if missing:
        raise MissingPrerequisite(
            f"training needs packages that are not installed: {', '.join(missing)}", cure='pip install "refeval[train]"'
        )
