"""Prompt text as all three families clean it before the tokenizer."""

from __future__ import annotations

import html

import ftfy


def clean_prompt(text: str) -> str:
    """Mend broken encodings, resolve HTML entities (twice, for those escaped twice), make every blank one space.

    Source: Wan2.1 @9737cba wan/modules/tokenizers.py, which RefAlign, Phantom and VACE share.

    Args:
        text: a prompt or a negative prompt.

    Returns:
        The text without leading, trailing or repeated white space; no line breaks.
    """
    mended = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(mended.split())
