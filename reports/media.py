"""Pictures and clips of a run folder as the web page embeds them: inline, or by a relative link."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from refeval.clips import Frame, open_clip
from refeval.errors import UnusableClip
from refeval.records import RenderRecord, RenderStatus, ScoreStatus
from refeval.reports.views import RunView
from refeval.thumbnails import jpeg, thumbnail_path

INLINE_LIMIT = 24 * 2**20
POSTER_SIDE = 320
_POSTER_QUALITY = 82


@dataclass(frozen=True, kw_only=True)
class ClipMedia:
    """One clip on the page.

    Attributes:
        source: data URI, or URL relative to the page.
        poster: data URI of the middle frame, or None.
        width: pixels.
        height: pixels.
    """

    source: str
    poster: str | None
    width: int
    height: int


def clip_files(view: RunView) -> dict[str, Path]:
    """The clips that can be shown, by case id: rendered, and bit for bit the ones that were recorded."""
    return {
        case.id: view.run.clip_path(case.id)
        for case in view.suite.cases
        if (render := view.renders.get(case.id))
        and render.status is RenderStatus.RENDERED
        and view.run.has_clip(render)
    }


def inline_everything(files: Sequence[Mapping[str, Path]]) -> bool:
    """Whether all clips of all runs together are small enough to lie inside the page."""
    return sum(path.stat().st_size for by_case in files for path in by_case.values()) < INLINE_LIMIT


def clip_media(view: RunView, case_id: str, file: Path, page_folder: Path, *, inline: bool) -> ClipMedia:
    """A clip with its poster frame.

    Args:
        view: its run.
        case_id: its case.
        file: where it lies.
        page_folder: folder of the page, which a link starts from.
        inline: embed the clip instead of linking it.
    """
    render = view.renders[case_id]
    poster = None if _nothing_but_failures(view, case_id) else _poster(file, render)
    source = data_uri(file.read_bytes(), "video/mp4") if inline else _link(file, page_folder)
    clip = render.clip or {}
    width, height = (int(clip.get(side) or 0) for side in ("width", "height"))
    return ClipMedia(source=source, poster=poster, width=width or 16, height=height or 9)


def reference_picture(views: Sequence[RunView], case_id: str, number: int) -> str | None:
    """The thumbnail of a reference from the first run that keeps it, as data URI; None if no run does."""
    for view in views:
        path = thumbnail_path(view.run, case_id, number)
        if path.is_file():
            return data_uri(path.read_bytes(), "image/jpeg")
    return None


def data_uri(content: bytes, media_type: str) -> str:
    """``data:`` URI in base64."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _link(file: Path, page_folder: Path) -> str:
    return quote(Path(os.path.relpath(file.resolve(), page_folder.resolve())).as_posix())


def _nothing_but_failures(view: RunView, case_id: str) -> bool:
    # A clip that no metric could decode may have killed the decoder: it is not opened a second time.
    statuses = {record.status for (_, case), record in view.scores.items() if case == case_id}
    return ScoreStatus.FAILED in statuses and ScoreStatus.SCORED not in statuses


def _poster(file: Path, render: RenderRecord) -> str | None:
    count = (render.clip or {}).get("frames")
    try:
        frame = _middle_frame(file, count if isinstance(count, int) else None)
    except UnusableClip:
        return None
    image = Image.fromarray(frame)
    return data_uri(jpeg(image, side=POSTER_SIDE, quality=_POSTER_QUALITY), "image/jpeg")


def _middle_frame(file: Path, count: int | None) -> Frame:
    clip = open_clip(file)
    if count is None:
        count = sum(1 for _ in clip)
    frame = next(islice(iter(clip), count // 2, None), None)
    if frame is None:
        raise UnusableClip("the clip is shorter than its record says")
    return frame
