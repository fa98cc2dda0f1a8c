"""Pictures and clips beside the web page: posters and crops cut out of clips, thumbnails, copied clips.

Files are named by what they are made from. What lies there already is not made again, and the same runs give the same
files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from refeval.clips import Frame, open_clip
from refeval.documents import write_bytes
from refeval.errors import UnusableClip
from refeval.records import RenderRecord, RenderStatus, ScoreStatus
from refeval.reports.evidence import Sight
from refeval.reports.views import RunView
from refeval.thumbnails import jpeg, thumbnail_path

MEDIA, CLIPS = "media", "clips"
POSTER_SIDE, CROP_SIDE = 320, 128
_QUALITY = 82
# Part of every name: other pictures of the same place in the same clip get other names.
_VERSION = 1
_OURS = re.compile(r"[0-9a-f]{32}\.(?:jpg|mp4)")
_THREADS = 4


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """What is wanted of one clip.

    Attributes:
        file: the clip.
        sha256: of its bytes.
        poster: index of the frame that stands for it.
        sights: what is cut out.
    """

    file: Path
    sha256: str
    poster: int
    sights: tuple[Sight, ...]

    @property
    def poster_name(self) -> str:
        """File name of the poster."""
        return _name("jpg", self.sha256, self.poster, None, POSTER_SIDE)

    def crop_name(self, sight: Sight) -> str:
        """File name of a crop."""
        return _name("jpg", self.sha256, sight.frame, sight.box, CROP_SIDE)

    @property
    def wanted(self) -> dict[str, tuple[int, tuple[int, int, int, int] | None, int]]:
        """Frame, box (None: all of it) and longest side of every picture, by file name."""
        crops = {self.crop_name(sight): (sight.frame, sight.box, CROP_SIDE) for sight in self.sights}
        return {self.poster_name: (self.poster, None, POSTER_SIDE), **crops}


class MediaFolder:
    """The folders ``media/`` and ``clips/`` of a report.

    Args:
        report: folder of the page.
    """

    def __init__(self, report: Path) -> None:
        self.report = report
        self._kept: set[str] = set()

    def cut(self, cuttings: Sequence[Cutting]) -> set[str]:
        """Cut what is not there yet, decoding every clip at most once.

        Returns:
            Names of the pictures that lie there now. A clip that cannot be decoded, a frame behind its end and a box
            outside of the picture give none.

        Raises:
            DiskFull: no space left.
        """
        with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
            found = {name for names in pool.map(self._cut_one, cuttings) for name in names}
        self._kept |= found
        return found

    def keep_picture(self, content: bytes) -> str:
        """Store a JPEG file; returns its name."""
        name = f"{hashlib.sha256(content).hexdigest()[:32]}.jpg"
        self._store(MEDIA, name, content)
        return name

    def copy_clip(self, file: Path, sha256: str) -> str:
        """Copy a clip; returns its name."""
        name = f"{sha256[:32]}.mp4"
        target = self.report / CLIPS / name
        if not target.is_file() or target.stat().st_size != file.stat().st_size:
            write_bytes(target, file.read_bytes())
        self._kept.add(name)
        return name

    def remove_others(self) -> None:
        """Remove what earlier reports left behind and this one does not show; other files stay."""
        for folder in (MEDIA, CLIPS):
            for path in sorted((self.report / folder).glob("*")):
                if _OURS.fullmatch(path.name) and path.name not in self._kept:
                    path.unlink()
            if (self.report / folder).is_dir() and not any((self.report / folder).iterdir()):
                (self.report / folder).rmdir()

    def _store(self, folder: str, name: str, content: bytes) -> None:
        path = self.report / folder / name
        if not path.is_file():
            write_bytes(path, content)
        self._kept.add(name)

    def _cut_one(self, cutting: Cutting) -> list[str]:
        folder, wanted = self.report / MEDIA, cutting.wanted
        missing = {name: cut for name, cut in wanted.items() if not (folder / name).is_file()}
        if missing:
            frames = _frames(cutting.file, {frame for frame, _, _ in missing.values()})
            for name, (frame, box, side) in missing.items():
                if frame in frames and (content := _picture(frames[frame], box, side)):
                    write_bytes(folder / name, content)
        return [name for name in wanted if (folder / name).is_file()]


def clip_files(view: RunView) -> dict[str, Path]:
    """The clips that can be shown, by case id: rendered, and bit for bit the ones that were recorded."""
    return {
        case.id: view.run.clip_path(case.id)
        for case in view.suite.cases
        if (render := view.renders.get(case.id))
        and render.status is RenderStatus.RENDERED
        and view.run.has_clip(render)
    }


def cutting_of(render: RenderRecord, file: Path, sights: Iterable[Sight]) -> Cutting:
    """What the page wants of a clip: the frame in the middle (the first one where none were counted), and crops."""
    count = (render.clip or {}).get("frames")
    return Cutting(
        file=file,
        sha256=str(render.sha256),
        poster=count // 2 if isinstance(count, int) else 0,
        sights=tuple(dict.fromkeys(sights)),
    )


def unsafe_to_open(view: RunView) -> set[str]:
    """Cases whose clip no metric could decode: it may have killed the decoder and is not opened again."""
    by_status = {
        status: {case for (_, case), record in view.scores.items() if record.status is status}
        for status in (ScoreStatus.FAILED, ScoreStatus.SCORED)
    }
    return by_status[ScoreStatus.FAILED] - by_status[ScoreStatus.SCORED]


def reference_thumbnail(views: Sequence[RunView], case_id: str, number: int) -> bytes | None:
    """The thumbnail of a reference from the first run that keeps it; None if no run does."""
    paths = (thumbnail_path(view.run, case_id, number) for view in views)
    return next((path.read_bytes() for path in paths if path.is_file()), None)


def relative_link(file: Path, page_folder: Path) -> str:
    """URL of a file as the page links to it."""
    return quote(Path(os.path.relpath(file.resolve(), page_folder.resolve())).as_posix())


def _name(suffix: str, *parts: object) -> str:
    return f"{hashlib.sha256(json.dumps([_VERSION, *parts]).encode()).hexdigest()[:32]}.{suffix}"


def _frames(file: Path, wanted: set[int]) -> dict[int, Frame]:
    """The wanted frames that can be decoded; decoding stops behind the last of them."""
    found: dict[int, Frame] = {}
    try:
        for index, frame in enumerate(open_clip(file)):
            if index in wanted:
                found[index] = frame
            if index >= max(wanted):
                break
    except UnusableClip:
        # What was decoded before the damage is shown; the status of the clip says the rest.
        return found
    return found


def _picture(frame: Frame, box: tuple[int, int, int, int] | None, side: int) -> bytes | None:
    height, width = frame.shape[:2]
    left, top, right, bottom = box or (0, 0, width, height)
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if left >= right or top >= bottom:
        return None
    return jpeg(Image.fromarray(frame[top:bottom, left:right]), side=side, quality=_QUALITY)
