"""Reference images as generators and metrics see them.

Source: RefAlign @6f91526 examples/wanvideo/model_inference/Wan2.1-T2V-1.3B_subject.py; Phantom-Wan
(sbalani/Phantom-cog @9a9be62) generate.py; VACE @48eb44f vace/models/wan/wan_vace.py. Differs: images of more than
8 bits are scaled instead of clipped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from refeval.errors import BadInput

_FULL_8_BITS = 255
_FULL_16_BITS = 65535


def open_reference(file: Path, case_id: str) -> Image.Image:
    """Read an image as the official scripts do: ``Image.open(file).convert("RGB")``.

    That is: an EXIF orientation is not applied, transparency is dropped (the colours behind it show), palettes and
    CMYK are converted, greyscale becomes three equal channels, of an animation the first frame is taken.

    Args:
        file: an image of any kind and mode that Pillow knows.
        case_id: for the message.

    Returns:
        Mode RGB at the file's own size. Greyscale of more than 8 bits is scaled to 8; ``convert`` would clip it.

    Raises:
        BadInput: not a readable image.
    """
    try:
        with Image.open(file) as image:
            return eight_bits(image).convert("RGB")
    # SyntaxError is what Pillow raises for a damaged PNG.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        details = (("file", str(file)), ("reason", str(error)))
        cure = "give an image that Pillow can read (PNG, JPEG, WebP)"
        raise BadInput(f"case '{case_id}': a reference is not a readable image", details=details, cure=cure) from error


def eight_bits(image: Image.Image) -> Image.Image:
    """Greyscale of more than 8 bits on the scale of 8; every other image as it is."""
    if not image.mode.startswith("I"):
        return image
    levels = np.asarray(image)
    # A 16-bit file stays on its own scale, however dark it is; 32-bit integers do not tell theirs.
    if image.mode == "I" and levels.max() <= _FULL_8_BITS:
        return image
    return Image.fromarray((levels.clip(0, _FULL_16_BITS) * (_FULL_8_BITS / _FULL_16_BITS)).round().astype(np.uint8))
