"""``refeval data encode``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from refeval.commands.console import ERR, print_json, say, show_rows
from refeval.errors import ExitCode
from refeval.generators.wan.generator import check_packages
from refeval.place import Place
from refeval.selection import parse_shard

if TYPE_CHECKING:
    from refeval.training.data.encoding import EncodingSummary

_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class EncodingRequest:
    """What ``refeval data encode`` is asked for.

    Attributes:
        files: of rows.
        config: a recipe.
        out: folder of the encodings.
        shard: ``i/n``, or None for everything.
        place: weights and device.
        rows_per_file: of a file of encodings.
        retry: try again what was found broken.
        dry_run: only count.
    """

    files: Sequence[Path]
    config: str
    out: Path
    shard: str | None
    place: Place
    rows_per_file: int
    retry: bool
    dry_run: bool


def encode(request: EncodingRequest, *, as_json: bool) -> ExitCode:
    """``refeval data encode``."""
    check_packages("refeval data encode")
    summary = _encode(request)
    if as_json:
        print_json(
            {
                "folder": str(request.out),
                "dry_run": request.dry_run,
                "rows": summary.rows,
                "clips": {"encoded": summary.clips, "before": summary.clips_before},
                "prompts": {"encoded": summary.texts, "before": summary.texts_before},
                "bytes": summary.bytes,
                "broken": {one.row: one.reason for one in summary.broken.values()},
            }
        )
    else:
        _show(summary, request)
    return ExitCode.INCOMPLETE if summary.broken else ExitCode.OK


def _encode(request: EncodingRequest) -> EncodingSummary:
    from refeval.devices import pick_device
    from refeval.training.data.encoded import EncodedFolder
    from refeval.training.data.encoding import RowsEncoding, encoding_settings, portions
    from refeval.training.data.rows import open_rows
    from refeval.training.recipe import read_recipe
    from refeval.training.wan_encoder import WanParts
    from refeval.training.wan_world import base_of, inference_of, negative_prompt_of
    from refeval.weights import WeightsStore

    recipe = read_recipe(request.config)
    base = base_of(recipe)
    number, count = parse_shard(request.shard) if request.shard else (1, 1)
    rows = open_rows(request.files)
    store = WeightsStore(request.place.weights)
    asked = "cpu" if base.tiny and request.place.device == "auto" else request.place.device
    parts = WanParts(base, store, pick_device(asked, base.name, on_cpu="minutes for each clip"))
    settings = encoding_settings(recipe.data, parts.identity())
    always = ("", negative_prompt_of(inference_of(recipe, store)))
    # All of them, so that a row of the wrong format is told before anything is encoded.
    todo = list(portions(rows, always, request.rows_per_file))[number - 1 :: count]
    folder = EncodedFolder(request.out)
    if folder.is_begun or not request.dry_run:
        folder.begin(settings)
    encoding = RowsEncoding(rows, recipe.data, folder, retry=request.retry)
    with _progress() as progress:
        task = progress.add_task("rows", total=sum(portion.rows for portion in todo))
        encoding.run(todo, None if request.dry_run else parts, lambda more: progress.advance(task, more))
    if request.dry_run:
        encoding.summary.bytes = encoding.summary.clips * parts.latent_bytes(recipe.data)
    return encoding.summary


def _progress() -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn())
    return Progress(
        TextColumn("{task.description}"), *columns, console=ERR, transient=True, disable=not ERR.is_terminal
    )


def _show(summary: EncodingSummary, request: EncodingRequest) -> None:
    now = "to encode" if request.dry_run else "encoded"
    rows = [
        {"what": "clips", now: str(summary.clips), "encoded before": str(summary.clips_before)},
        {"what": "prompts", now: str(summary.texts), "encoded before": str(summary.texts_before)},
    ]
    show_rows(f"{summary.rows} rows", rows, as_json=False)
    broken = list(summary.broken.values())
    for one in itertools.islice(broken, _NAMED):
        say(f"broken  {one.row}: {one.reason}")
    if len(broken) > _NAMED:
        say(f"broken  and {len(broken) - _NAMED} more, in the documents of {request.out}")
    if request.dry_run:
        say(f"about {summary.bytes / 1e6:,.1f} MB for the clips; nothing was written")
    else:
        say(f"{summary.bytes / 1e6:,.1f} MB written to {request.out}")
