"""The public format of rows to train on, and files with millions of them.

A row is a clip, what it shows in words, and pictures of its subjects: one JSON object on a line of a ``.jsonl`` file,
or a row of a ``.parquet`` file. Paths are relative to the folder of that file::

    {"id": "a", "video": "videos/a.mp4", "frames": [30, 150], "crop": [0, 10, 1280, 710],
     "prompt": "A dog runs.", "pair": "regular",
     "references": [{"image": "references/a.png", "name": "dog"},
                    {"frame": 12, "box": [5, 40, 300, 420], "mask": {"size": [720, 1280], "counts": "..."}}]}

What a field means stands at :class:`Row`, :class:`ReferenceRow` and :class:`Mask`. Unknown fields are errors. The types
are checked here; whether a box lies in its frame is seen when the pictures are read, and is no error of the format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self, get_args, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from refeval.digests import compute_sha256, known_sha256
from refeval.errors import BadInput
from refeval.suggestions import did_you_mean
from refeval.training.data.row_files import JsonLines, Parquet, RowFile
from refeval.training.examples import PairKind

PAIRS: tuple[PairKind, ...] = get_args(PairKind)
Box = tuple[float, float, float, float]
_SHOWN = 80


def _placed(path: Path, info: ValidationInfo) -> Path:
    return Path(info.context or ".") / path


def _as_several(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    # What a validator has touched is no longer JSON, and a list no tuple.
    return tuple(value) if isinstance(value, list) else value


_Placed = Annotated[Path, AfterValidator(_placed)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Mask(_Part):
    """Which pixels of a frame a subject covers: COCO's run lengths, column by column.

    Attributes:
        size: height and width of the frame, or of the frame at the ``long_side`` of the reference.
        counts: lengths of the runs, those outside and inside by turns, outside first; or COCO's text for them.
    """

    size: tuple[int, int]
    counts: tuple[int, ...] | str


class ReferenceRow(_Part):
    """A picture of a subject: an image file, or a part of a frame of a video.

    Attributes:
        image: a file that Pillow can read; what is transparent becomes white.
        video: of the frame; None: that of the row.
        frame: its number in the video, from 0.
        box: left, upper, right and lower edge of the part, in pixels of the frame.
        long_side: of the frame that the box was measured in; None: it was measured in the video's own pixels.
        mask: what lies outside of it becomes white; None: everything in the box is kept.
        name: what the subject is; for people.
    """

    image: _Placed | None = None
    video: _Placed | None = None
    frame: int | None = None
    box: Box | None = None
    long_side: int | None = None
    mask: Mask | None = None
    name: str = ""

    @model_validator(mode="after")
    def _either_image_or_frame(self) -> Self:
        of_a_video = (self.video, self.frame, self.box, self.long_side, self.mask)
        if self.image is not None and any(value is not None for value in of_a_video):
            raise ValueError("an 'image' has no 'video', 'frame', 'box', 'long_side' or 'mask'")
        if self.image is None and (self.frame is None or self.box is None):
            raise ValueError("an 'image', or a 'frame' and a 'box'")
        return self


class Row(_Part):
    """A clip to train on.

    Attributes:
        id: names the row in messages; by default ``FILE:LINE``.
        video: a file that FFmpeg can read.
        frames: the cut: first frame and the one after the last, numbers in the video's own frames; None: all.
        crop: left, upper, right and lower edge of what is to be seen, in the video's own pixels; None: everything.
        prompt: descriptions of the clip, one or more; one is taken at random each time.
        pair: ``regular``: the references were cut from this clip; ``cross``: they show its subjects elsewhere.
        references: of the subjects, at least one.
    """

    id: str = ""
    video: _Placed
    frames: tuple[int, int] | None = None
    crop: Box | None = None
    prompt: Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(_as_several)]
    pair: PairKind
    references: Annotated[tuple[ReferenceRow, ...], Field(min_length=1)]


def parse_row(text: bytes | str, *, file: Path, line: int) -> Row:
    """Read a row.

    Args:
        text: JSON.
        file: where it stands; paths are relative to its folder.
        line: number of the line (or of the row of Parquet), from 1.

    Returns:
        With paths below the folder of the file, and an id.

    Raises:
        BadInput: not JSON, an unknown or missing field, a value of another type; names file, line and field.
    """
    try:
        row = Row.model_validate_json(text, context=file.parent)
    except ValidationError as error:
        raise _bad_row(error, f"{file}:{line}") from None
    return row if row.id else row.model_copy(update={"id": f"{file.name}:{line}"})


def _bad_row(error: ValidationError, where: str) -> BadInput:
    errors = error.errors(include_url=False)
    # A field that is misspelt is also missing; its name helps more.
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    location = [str(step) for step in first["loc"]]
    if first["type"] == "extra_forbidden":
        models: dict[int, type[BaseModel]] = {1: Row, 3: ReferenceRow, 4: Mask}
        known = tuple(models[len(location)].model_fields)
        what = f"{where}: unknown field '{'.'.join(location)}'{did_you_mean(location[-1], known)}"
        return BadInput(what, details=(("known", ", ".join(known)),))
    wanted = first["msg"].removeprefix("Value error, ")
    if "counts" in location:
        # Where a text and a list are possible, the message names one of them.
        location, wanted = location[: location.index("counts") + 1], "a text, or a list of whole numbers"
    if first["type"] == "missing":
        return BadInput(f"{where}: field '{'.'.join(location)}' is missing")
    what = f"{where}: field '{'.'.join(location)}'" if location else f"{where}: not a row"
    return BadInput(what, details=(("wanted", wanted), ("found", _shortened(first["input"]))))


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


class Rows(Sequence[Row]):
    """Rows of files, in their order; a row is read when it is asked for. Made for several threads.

    Args:
        files: opened.
        chosen: numbers of the rows of all files that belong to it; None: all.
    """

    def __init__(self, files: Sequence[RowFile], chosen: NDArray[np.int64] | None = None) -> None:
        self._files = tuple(files)
        self._starts = np.cumsum([0, *(len(file) for file in files)])
        self._chosen = chosen

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files."""
        return tuple(file.path for file in self._files)

    def __len__(self) -> int:
        return int(self._starts[-1]) if self._chosen is None else len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> Rows: ...

    def __getitem__(self, index: int | slice) -> Row | Rows:
        numbers: Any = range(len(self)) if self._chosen is None else self._chosen
        if isinstance(index, slice):
            return Rows(self._files, np.array(numbers[index], np.int64))
        number = int(numbers[index])
        place = int(np.searchsorted(self._starts, number, side="right")) - 1
        file = self._files[place]
        text, line = file.text(number - int(self._starts[place]))
        return parse_row(text, file=file.path, line=line)

    def by_pair(self) -> dict[PairKind, Rows]:
        """The rows of each kind; a kind without rows is left out.

        Every row of JSON lines is checked on the way. Of Parquet only the column is read: its other columns have one
        type each.

        Raises:
            BadInput: as :func:`parse_row`.
        """
        kinds = np.concatenate([_kinds(file) for file in self._files])
        numbers = np.arange(len(kinds)) if self._chosen is None else self._chosen
        found = {pair: numbers[kinds[numbers] == place] for place, pair in enumerate(PAIRS)}
        return {pair: Rows(self._files, chosen) for pair, chosen in found.items() if len(chosen)}

    def digest(self) -> str:
        """sha256 (hex) of the file; of several files: of their sha256, one a line, in order."""
        found = [known_sha256(path) or compute_sha256(path) for path in self.paths]
        return found[0] if len(found) == 1 else hashlib.sha256("\n".join(found).encode()).hexdigest()


def _kinds(file: RowFile) -> NDArray[np.int8]:
    """The kind of every row, as its place in ``PAIRS``."""
    if isinstance(file, Parquet) and "pair" in file.columns:
        values = file.column("pair")
        wrong = next((line for line, pair in enumerate(values, 1) if pair not in PAIRS), None)
        if wrong is not None:
            # For the message that any other reader would get.
            parse_row(file.text(wrong - 1)[0], file=file.path, line=wrong)
        return np.fromiter(map(PAIRS.index, values), np.int8, len(values))
    texts = (file.text(index) for index in range(len(file)))
    rows = (parse_row(text, file=file.path, line=line) for text, line in texts)
    return np.fromiter((PAIRS.index(row.pair) for row in rows), np.int8, len(file))


def open_rows(files: Path | Sequence[Path]) -> Rows:
    """Open files of rows: ``.jsonl`` or ``.parquet``.

    JSON lines are scanned once for the ends of their lines. Nothing is parsed yet.

    Args:
        files: one or more.

    Raises:
        BadInput: no such file, another kind of file, one without rows, or with unknown columns.
        MissingPrerequisite: what reads Parquet is not installed.
    """
    return Rows([_open_file(path) for path in ([files] if isinstance(files, Path) else files)])


def _open_file(path: Path) -> RowFile:
    if not path.is_file():
        raise BadInput(f"{path}: no such file", cure="give a .jsonl or .parquet file of rows")
    if path.suffix not in {".jsonl", ".parquet"}:
        cure = "a file of rows ends in .jsonl (one JSON object a line) or .parquet"
        raise BadInput(f"{path}: neither .jsonl nor .parquet", cure=cure)
    file: RowFile = Parquet(path) if path.suffix == ".parquet" else JsonLines(path)
    if not len(file):
        raise BadInput(f"{path}: no rows")
    if isinstance(file, Parquet):
        _refuse_unknown_columns(file)
    return file


def _refuse_unknown_columns(file: Parquet) -> None:
    """Of a column whose values are all missing no row would tell."""
    known = tuple(Row.model_fields)
    for name in file.columns:
        if name not in known:
            what = f"{file.path}: unknown field '{name}'{did_you_mean(name, known)}"
            raise BadInput(what, details=(("known", ", ".join(known)),))
