"""A handful of rows with small videos, and a recipe that trains on them from small random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import torch

from refeval.commands.data_encode import EncodingRequest, encode
from refeval.errors import ExitCode
from refeval.place import Place
from refeval.training.recipe import Recipe, read_recipe
from refeval.training.wan_world import WanWorld
from tests.guarantees.broken_clips import moving_frames, write_video
from tests.training.data.made import row_content, write_image, write_rows

WIDTH, HEIGHT, FRAMES = 48, 32, 5
RECIPE = f"""
[network]
base = "wan-tiny"
[objective]
depth = 2
[data]
width = {WIDTH}
height = {HEIGHT}
frames = {FRAMES}
[run]
precision = "fp32"
"""


def make_data(folder: Path) -> Path:
    """Write ``rows.jsonl`` and ``tiny.toml``: seven rows, of which one has a broken video, and one none.

    Cuts are as long as clips, so that a clip is the same wherever it begins.
    """
    for number, name in enumerate("abcd"):
        moving = moving_frames(width=64 + 16 * number, height=48, count=FRAMES + 3, step=number + 1)
        write_video(folder / f"{name}.mp4", moving, fps=Fraction(25))
    (folder / "broken.mp4").write_bytes(b"no video")
    for number in range(2):
        write_image(folder / f"{number}.png", (20, 30 + number), (200, 30 * number, 90))
    box = {"frame": 2, "box": [0, 0, 40, 30]}
    both = [{"image": "0.png"}, {"image": "1.png"}]
    content = [
        {"id": "a", "video": "a.mp4", "references": [box]},
        {"id": "b", "video": "b.mp4", "references": both, "pair": "cross", "prompt": ["B runs.", "A thing b runs."]},
        {"id": "broken", "video": "broken.mp4"},
        {"id": "c", "video": "c.mp4", "references": [box], "prompt": "C runs.", "crop": [8, 0, 64, 48]},
        # The clip of a, with other references and its prompt in other blanks.
        {"id": "a again", "video": "a.mp4", "references": both, "pair": "cross", "prompt": "A  thing."},
        {"id": "absent", "video": "absent.mp4"},
        {"id": "d", "video": "d.mp4", "references": [box], "prompt": ["D runs.", "B runs."]},
    ]
    rows = [row_content(**{"references": both, "frames": [1, 1 + FRAMES], **one}) for one in content]
    (folder / "tiny.toml").write_text(RECIPE)
    return write_rows(folder / "rows.jsonl", rows)


def recipe_of(rows: Path) -> Recipe:
    """The recipe beside a file of rows."""
    return read_recipe(str(rows.with_name("tiny.toml")))


def world_of(rows: Path, *, recipe: Recipe | None = None, seed: int = 3, **how: object) -> WanWorld:
    """A world on the CPU, without a weights folder."""
    arguments: dict[str, object] = {"seed": seed, "weights": None, "device": "cpu", **how}
    make: Callable[..., WanWorld] = WanWorld
    return make(recipe or recipe_of(rows), [rows], **arguments)


def encode_here(rows: Path, out: Path, **changes: object) -> ExitCode:
    """``refeval data encode`` in this process, two rows to a file."""
    fields: dict[str, object] = {
        "files": [rows],
        "config": str(rows.with_name("tiny.toml")),
        "out": out,
        "shard": None,
        "place": Place(device="cpu"),
        "rows_per_file": 2,
        "retry": False,
        "dry_run": False,
        **changes,
    }
    request: Callable[..., EncodingRequest] = EncodingRequest
    torch.manual_seed(0)
    return encode(request(**fields), as_json=True)


def command(rows: Path, out: Path) -> tuple[str, ...]:
    """The same as a command."""
    config = rows.with_name("tiny.toml")
    size = ("--rows-per-file", "2")
    return ("data", "encode", str(rows), "--config", str(config), "--out", str(out), *size, "--json")


def files_in(folder: Path) -> dict[str, bytes]:
    """What is in a folder, without temporary files."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def documents(folder: Path) -> list[dict[str, dict[str, str]]]:
    """The documents of the files."""
    return [json.loads(path.read_text()) for path in sorted((folder / "files").glob("*.json"))]
