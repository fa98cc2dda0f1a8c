"""Small pictures of the references, kept in the run folder so that reports need no data folder."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageOps

from refeval.cases import Case, Reference
from refeval.documents import write_bytes
from refeval.runs import Run

THUMBNAIL_SIDE = 256
_QUALITY = 88
# What Pillow raises for files that are cut short, not images, or too large to be one.
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)


def keep_references(run: Run, cases: Iterable[Case]) -> None:
    """Write ``references/<case id>_<k>.jpg`` for every reference that lies there and has no thumbnail yet.

    Args:
        run: the run folder.
        cases: with a data folder; a reference that is absent or not an image is passed over (``refeval cases
            --check`` reports it).

    Raises:
        DiskFull: no space for a thumbnail.
    """
    for case in cases:
        for number, reference in enumerate(case.references, 1):
            target = thumbnail_path(run, case.id, number)
            source = _source(reference)
            if source is None or target.exists():
                continue
            try:
                content = _thumbnail(source)
            except _UNREADABLE:
                continue
            write_bytes(target, content)


def thumbnail_path(run: Run, case_id: str, number: int) -> Path:
    """Where the thumbnail of the ``number``-th reference of a case lies, counted from 1."""
    return run.folder / "references" / f"{case_id}_{number}.jpg"


def jpeg(image: Image.Image, *, side: int, quality: int) -> bytes:
    """A picture as JPEG, its longest side at most ``side`` pixels, transparent parts white."""
    small = _on_white(image)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _source(reference: Reference) -> Path | None:
    if reference.root is None:
        return None
    file = reference.root / reference.path
    return file if file.is_file() else None


def _thumbnail(source: Path) -> bytes:
    with Image.open(source) as image:
        upright = ImageOps.exif_transpose(image)
        return jpeg(upright, side=THUMBNAIL_SIDE, quality=_QUALITY)


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    opaque = image.convert("RGBA")
    page = Image.new("RGBA", opaque.size, "white")
    page.alpha_composite(opaque)
    return page.convert("RGB")
