"""What Q-Align is given: the pixels of a frame and the tokens of the question.

Source: OpenS2V-Nexus eval/get_motion_smoothness.py at 210eb08 with the image processor of transformers 4.51.3.
Differs: a frame is prepared once, not once per window; sentencepiece is asked directly, as the official slow Llama
tokenizer does, so that no release of transformers can move a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refeval.errors import CorruptFile

IMAGE_TOKEN = -200
LEVELS = ("excellent", "good", "fair", "poor", "bad")
_BEFORE = "USER: How would you rate the quality of this video?\n"
_AFTER = "\nASSISTANT: The quality of the video is"
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_FILL = (122, 116, 104)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked about the frames, as token ids.

    Attributes:
        before: of the text in front of the frames, with the token that begins every text.
        after: of the text behind them.
        levels: of the possible answers, the best first.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    levels: tuple[int, ...]


def read_question(tokenizer: Path) -> Question:
    """The official question, in tokens.

    Args:
        tokenizer: the sentencepiece model of Llama, ``tokenizer.model``.

    Raises:
        CorruptFile: it cannot be read.
    """
    from sentencepiece import SentencePieceProcessor

    try:
        pieces = SentencePieceProcessor(model_file=str(tokenizer))
    except (OSError, RuntimeError) as error:
        raise CorruptFile(f"{tokenizer}: not a sentencepiece model", cure="delete it and fetch it again") from error
    return Question(
        before=(pieces.bos_id(), *pieces.encode(_BEFORE)),
        after=tuple(pieces.encode(_AFTER)),
        # A level of several pieces stands for its first: the official code reads one token.
        levels=tuple(pieces.encode(level)[0] for level in LEVELS),
    )


def expand_to_square(image: Image.Image) -> Image.Image:
    """The picture in the middle of a square of its longer side, on the mean colour (half pixels go to the far side)."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), _FILL)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def pixels_of(frame: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """A frame as the vision tower takes it: squared, resized (bicubic), normalised.

    Args:
        frame: uint8 RGB, shape (H, W, 3).
        side: of the result in pixels.

    Returns:
        float32, shape (3, side, side), about -1.8 to 2.2; the bits of the official processor.
    """
    square = expand_to_square(Image.fromarray(frame)).resize((side, side), Image.Resampling.BICUBIC)
    channels = np.asarray(square).transpose(2, 0, 1)
    return np.stack([table[channel] for table, channel in zip(_NORMALISED, channels, strict=True)])


def _normalised() -> NDArray[np.float32]:
    """The normalised value of each of the 256 levels of a channel, shape (3, 256)."""
    # Products in float64, then all in float32: the order on which the last bits depend.
    scaled = (np.arange(256, dtype=np.float64) * (1 / 255)).astype(np.float32)
    mean, std = (np.asarray(values, np.float32)[:, None] for values in (_MEAN, _STD))
    table: NDArray[np.float32] = (scaled - mean) / std
    return table


_NORMALISED = _normalised()
