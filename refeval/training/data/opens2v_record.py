"""A record of OpenS2V-5M's annotations, and what rows say of it.

The fields were seen in the demonstration of the dataset's own processing (step 5), the files of 32 to 66 GB were not.
Not known, and therefore options or told from the record itself:

- whether videos are stored whole or cut, and what the numbers of annotated frames count: see :data:`FrameNumbers`. A
  number outside of the cut leaves a record out and is counted, so a wrong choice shows itself;
- whether the last frame of a cut belongs to it: it is left out;
- whether boxes are measured in the whole frame or in its ``crop``: the size that stands beside them tells.

Source: dataset BestWishYsh/OpenS2V-5M, data_process/demo_result/step5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from refeval.training.data.importing import JsonRow, Unusable, Videos, prompts_of
from refeval.training.data.masks import decode_mask
from refeval.training.data.rows import Box, Mask

FrameNumbers = Literal["video", "cut", "file"]
"""What numbers of annotated frames count: the frames of a whole video; those of its cut, from its beginning; or those
of files that hold nothing but the cut."""

_Number = Annotated[float, Field(allow_inf_nan=False)]
_Side = Annotated[int, Field(gt=0)]


class _Resolution(BaseModel):
    height: _Side
    width: _Side


class _Metadata(BaseModel):
    path: str
    cut: tuple[int, int] | None = None
    crop: tuple[int, int, int, int] | None = None
    resolution: _Resolution | None = None
    face_cap_qwen: Any = None


class _Subject(BaseModel):
    class_name: str = ""
    bbox: tuple[_Number, _Number, _Number, _Number]
    gme_score: _Number | None = None
    aes_score: _Number | None = None


class _FrameData(BaseModel):
    ann_frame_idx: int
    annotations: list[_Subject]
    box_format: Literal["xyxy"] = "xyxy"
    img_width: _Side
    img_height: _Side


class _Named(BaseModel):
    class_name: str = ""


class _Annotation(BaseModel):
    ann_frame_data: _FrameData
    mask_map: dict[str, _Named] = {}
    mask_annotation: dict[str, Any] = {}


class _Content(BaseModel):
    metadata: _Metadata
    annotation: _Annotation


class _Lengths(BaseModel):
    size: tuple[_Side, _Side]
    counts: str | tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An annotated subject.

    Attributes:
        mask: key of its masks; None: it has none that is surely its own.
        box: left, upper, right and lower edge in the annotated frame, in its pixels.
        area: of the box, as a share of the frame, 0 to 1.
        aesthetics: ``aes_score``, -inf if there is none.
        match: ``gme_score``, likewise.
    """

    mask: str | None
    box: Box
    area: float
    aesthetics: float
    match: float


class Record:
    """One annotated clip.

    Args:
        key: that the file gives it, if it has keys. Else it is named by ``video_id`` or ``id``, or by its video.
        content: the JSON of the record.
        part: name of the file without its ending; folders of videos are named alike.

    Raises:
        Unusable: it is not laid out as published, or contradicts itself.
    """

    def __init__(self, key: str | None, content: Any, *, part: str) -> None:
        try:
            read = _Content.model_validate(content)
        except ValidationError as error:
            raise Unusable(f"the record is laid out differently: {_place(error)}") from None
        self._metadata, self._annotation, self._part = read.metadata, read.annotation, part
        named = (key, content.get("video_id"), content.get("id"), PurePosixPath(read.metadata.path).stem)
        self.id: str = next(name for name in named if isinstance(name, str))
        self.frame = str(self._data.ann_frame_idx)
        self._left, self._upper, self._whole = self._geometry()
        self.subjects = [self._subject(place) for place in range(len(self._data.annotations))]

    def clip(self, videos: Videos, numbers: FrameNumbers) -> JsonRow:
        """What a row says of the clip itself: id, video, cut, crop and prompt.

        Raises:
            Unusable: no prompt, or the video is missing.
        """
        prompts = prompts_of(self._metadata.face_cap_qwen)
        row: JsonRow = {"id": self.id, "video": videos.named(self.video(videos))}
        if self._metadata.cut is not None and numbers != "file":
            row["frames"] = list(self._metadata.cut)
        crop = self._crop()
        if crop is not None:
            row["crop"] = list(crop)
        return {**row, "prompt": prompts}

    def video(self, videos: Videos) -> Path:
        """Its video on the disk.

        Raises:
            Unusable: it is missing.
        """
        return videos.find(self._metadata.path, part=self._part)

    def reference(self, mask: str, frame: str, numbers: FrameNumbers) -> JsonRow:
        """A picture of a subject, white around it; of its own clip, as the row of another one has to name the video.

        Args:
            mask: key of the subject's masks.
            frame: key of the frame.
            numbers: what keys of frames count.

        Raises:
            Unusable: there is no mask in this frame, or the frame is outside of the cut.
        """
        lengths = self._lengths(mask, frame)
        boxes = [subject.box for subject in self.subjects if subject.mask == mask and frame == self.frame]
        pixels = None
        if not boxes or self._whole is not None:
            pixels = _pixels(lengths)
        box = boxes[0] if boxes or pixels is None else _bounds(pixels)
        described: JsonRow = {"size": list(lengths.size), "counts": lengths.counts}
        if pixels is not None and self._whole is not None:
            described = _described(self._placed(pixels, self._whole))
        left, upper, right, lower = box
        if not (left < right and upper < lower):
            raise Unusable("the box is empty")
        row: JsonRow = {"frame": self._numbered(frame, numbers)}
        row["box"] = [left + self._left, upper + self._upper, right + self._left, lower + self._upper]
        named = self._annotation.mask_map.get(mask, _Named())
        return {**row, "mask": described, **({"name": named.class_name} if named.class_name else {})}

    @property
    def _data(self) -> _FrameData:
        return self._annotation.ann_frame_data

    def _geometry(self) -> tuple[int, int, tuple[int, int] | None]:
        """Left and upper edge of the annotated picture in the frame; height and width of the frame, if it is larger."""
        size, resolution, crop = (self._data.img_width, self._data.img_height), self._metadata.resolution, self._crop()
        if resolution is None or size == (resolution.width, resolution.height):
            return 0, 0, None
        if crop is not None and size == (crop[2] - crop[0], crop[3] - crop[1]):
            return crop[0], crop[1], (resolution.height, resolution.width)
        raise Unusable("the annotated frame has neither the size of the video nor that of the crop")

    def _crop(self) -> tuple[int, int, int, int] | None:
        """Left, upper, right and lower edge; None: everything."""
        if self._metadata.crop is None:
            return None
        left, right, upper, lower = self._metadata.crop
        whole, crop = self._metadata.resolution, (left, upper, right, lower)
        return None if whole is not None and crop == (0, 0, whole.width, whole.height) else crop

    def _subject(self, place: int) -> Subject:
        """The subject at a place in the annotations."""
        width, height, read = self._data.img_width, self._data.img_height, self._data.annotations[place]
        left, right = (min(max(edge, 0.0), float(width)) for edge in read.bbox[::2])
        upper, lower = (min(max(edge, 0.0), float(height)) for edge in read.bbox[1::2])
        return Subject(
            mask=self._mask_key(place),
            box=(left, upper, right, lower),
            area=max(right - left, 0.0) * max(lower - upper, 0.0) / (width * height),
            aesthetics=-np.inf if read.aes_score is None else read.aes_score,
            match=-np.inf if read.gme_score is None else read.gme_score,
        )

    def _mask_key(self, place: int) -> str | None:
        """Masks are numbered from 1 on; the names decide where numbers and names disagree."""
        names, masks = [read.class_name for read in self._data.annotations], self._annotation.mask_map
        name, numbered = names[place], str(place + 1)
        if numbered in masks and masks[numbered].class_name == name:
            return numbered
        alike = [key for key, named in masks.items() if named.class_name == name]
        return alike[0] if len(alike) == 1 and names.count(name) == 1 else None

    def _lengths(self, mask: str, frame: str) -> _Lengths:
        masks = self._annotation.mask_annotation.get(frame)
        if not isinstance(masks, Mapping) or mask not in masks:
            raise Unusable("there is no mask in the frame")
        try:
            lengths = _Lengths.model_validate(masks[mask])
        except ValidationError as error:
            raise Unusable(f"the mask is laid out differently: {_place(error)}") from None
        if lengths.size != (self._data.img_height, self._data.img_width):
            raise Unusable("the mask has another size than the annotated frame")
        return lengths

    def _placed(self, pixels: NDArray[np.bool_], whole: tuple[int, int]) -> NDArray[np.bool_]:
        """A mask of a crop, as one of the whole frame."""
        frame = np.zeros(whole, np.bool_)
        region = frame[self._upper : self._upper + pixels.shape[0], self._left : self._left + pixels.shape[1]]
        if region.shape != pixels.shape:
            raise Unusable("the crop reaches beyond the frame")
        region[:] = pixels
        return frame

    def _numbered(self, frame: str, numbers: FrameNumbers) -> int:
        """The number of a frame in the file of the video."""
        try:
            number = int(frame)
        except ValueError:
            raise Unusable("the key of a frame is no number") from None
        first, end = self._metadata.cut or (0, number + 1)
        counted_from = {"video": 0, "cut": first, "file": first}[numbers]
        if not first <= number + counted_from < end:
            raise Unusable("the annotated frame is outside of the cut")
        return number if numbers == "file" else number + counted_from


def _pixels(lengths: _Lengths) -> NDArray[np.bool_]:
    try:
        pixels = decode_mask(Mask(size=lengths.size, counts=lengths.counts))
    except ValueError:
        raise Unusable("the mask cannot be decoded") from None
    if not pixels.any():
        raise Unusable("the mask is empty")
    return pixels


def _bounds(pixels: NDArray[np.bool_]) -> Box:
    """Edges of what is inside a mask."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _described(pixels: NDArray[np.bool_]) -> JsonRow:
    """A mask as lengths of runs, outside first."""
    flat = pixels.T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate(([0], changes, [len(flat)]))).tolist()
    return {"size": list(pixels.shape), "counts": [0, *runs] if flat[0] else runs}


def _place(error: ValidationError) -> str:
    """The field at fault; without its place in a list or among ids, so that equal faults are counted together."""
    return ".".join(step for step in map(str, error.errors()[0]["loc"]) if not step.isdigit()) or "no object"
