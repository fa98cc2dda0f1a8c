"""Masks as COCO writes them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from refeval.training.data.masks import decode_mask
from refeval.training.data.rows import Mask
from tests.training.data.made import run_lengths

#: By hand: three pixels in the second column, and so on downwards.
DRAWN = """
.#...
.#.##
.#.#.
"""


def _letters(runs: list[int]) -> str:
    """Run lengths as text, the other way round than the reader: differences, five bits a letter, the lowest first."""
    text = ""
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        while True:
            bits, value = value & 0x1F, value >> 5
            # The last letter's highest bit is the sign.
            more = value != (-1 if bits & 0x10 else 0)
            text += chr(48 + bits + (0x20 if more else 0))
            if not more:
                break
    return text


def test_a_mask_that_was_drawn_by_hand() -> None:
    expected = np.array([[letter == "#" for letter in line] for line in DRAWN.split()])
    # 3 outside; 3 inside; 3 and 1 outside; 2 inside; 1 outside; 1 inside; 1 outside
    found = decode_mask(Mask(size=(3, 5), counts=(3, 3, 4, 2, 1, 1, 1)))
    assert found.dtype == np.bool_
    assert np.array_equal(found, expected)


def test_the_text_that_pycocotools_writes() -> None:
    """From its documentation: both forms of one mask of 9 rows and 10 columns."""
    text = decode_mask(Mask(size=(9, 10), counts="61X13mN000`0"))
    assert np.array_equal(text, decode_mask(Mask(size=(9, 10), counts=(6, 1, 40, 4, 5, 4, 5, 4, 21))))
    assert text.sum() == 13 and text[6, 0]


@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 70))))
def test_both_forms_give_the_mask_back(inside: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> None:
    runs = run_lengths(inside)
    assert np.array_equal(decode_mask(Mask(size=inside.shape, counts=tuple(runs))), inside)
    assert np.array_equal(decode_mask(Mask(size=inside.shape, counts=_letters(runs))), inside)


@pytest.mark.parametrize("counts", [(7,), (3, 4, -1), (10**15,), (), "7", "a", " ", "é"])
def test_runs_that_do_not_fill_the_picture_are_refused(counts: tuple[int, ...] | str) -> None:
    with pytest.raises(ValueError, match="mask"):
        decode_mask(Mask(size=(2, 3), counts=counts))
    with pytest.raises(ValueError, match="mask"):
        decode_mask(Mask(size=(0, 3), counts=()))
