"""Which row stands at which position, and what is drawn of it."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from refeval.errors import BadInput
from refeval.generators.wan.references import letterbox_training
from refeval.training.data.media import read_references
from refeval.training.data.row_source import EncodedRow, RowSource
from refeval.training.data.rows import Row, Rows, open_rows
from refeval.training.examples import Encoded, PairKind, Sample
from refeval.training.recipe import DataSettings
from tests.guarantees.broken_clips import write_video
from tests.training.data.made import (
    SMALL,
    numbers,
    row_content,
    write_image,
    write_numbered,
    write_rows,
)

LENGTH = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A numbered video and some pictures."""
    write_numbered(tmp_path / "a.mp4", LENGTH)
    write_image(tmp_path / "a.png")
    for i in range(5):
        write_image(tmp_path / f"{i}.png", (20 + i, 10), (40 * i, 0, 0))
    return tmp_path


def _rows(folder: Path, count: int, *, name: str = "rows", **changes: Any) -> Rows:
    contents = [row_content(id=f"{name}{i}", **changes) for i in range(count)]
    return open_rows(write_rows(folder / f"{name}.jsonl", contents))


def _source(
    rows: Rows | dict[PairKind, Rows], *, seed: int = 0, encoded: EncodedRow | None = None, **data: Any
) -> RowSource:
    parts = rows.by_pair() if isinstance(rows, Rows) else rows
    if len(parts) == 1:
        data = {"cross_share": float("cross" in parts), **data}
    return RowSource(parts, replace(SMALL, **data), seed=seed, encoded=encoded)


def _not_decoded(_: Row, __: str) -> Encoded:
    """For tests of the order alone: clips need not be read."""
    return Encoded(latents=torch.zeros(1), text=torch.zeros(1))


def _keys(source: RowSource, positions: range) -> list[str]:
    return [source.sample(position).key for position in positions]


def _content(sample: Sample) -> tuple[object, ...]:
    pictures = (sample.frames, *sample.references)
    return (sample.key, sample.prompt, sample.pair, *((picture.shape, picture.tobytes()) for picture in pictures))


def _both(folder: Path, regular: int, cross: int) -> dict[PairKind, Rows]:
    return {
        "regular": _rows(folder, regular, name="regular"),
        "cross": _rows(folder, cross, name="cross", pair="cross"),
    }


def test_an_epoch_has_every_row_once_in_an_order_of_its_own(folder: Path) -> None:
    source = _source(_rows(folder, 30), encoded=_not_decoded)
    epochs = [_keys(source, range(30 * epoch, 30 * (epoch + 1))) for epoch in range(4)]
    for keys in epochs:
        assert sorted(keys) == sorted(epochs[0])
        assert len(set(keys)) == 30
    assert len({tuple(keys) for keys in epochs}) == 4
    assert epochs[0] != [f"rows{i}" for i in range(30)]
    assert _keys(_source(_rows(folder, 30), seed=1, encoded=_not_decoded), range(30)) not in epochs


def test_both_kinds_come_in_their_share_and_have_epochs_of_their_own(folder: Path) -> None:
    source = _source(_both(folder, 12, 17), cross_share=0.3, encoded=_not_decoded)
    samples = [source.sample(position) for position in range(768)]
    kinds = np.array([sample.pair == "cross" for sample in samples])
    for end in (256, 512, 768):
        assert abs(kinds[:end].sum() - 0.3 * end) <= 0.5
    assert abs(kinds[:128].mean() - 0.3) < 0.15, "they are mixed"
    assert not np.array_equal(kinds[:256], kinds[256:512])
    for kind, count in (("regular", 12), ("cross", 17)):
        keys = [sample.key for sample in samples if sample.pair == kind]
        assert all(key.startswith(kind) for key in keys)
        whole = len(keys) // count * count
        for first in range(0, whole, count):
            assert len(set(keys[first : first + count])) == count


@pytest.mark.parametrize(("share", "kind"), [(0.0, "regular"), (1.0, "cross")])
def test_a_share_of_nothing_is_nothing(folder: Path, share: float, kind: str) -> None:
    source = _source(_both(folder, 3, 3), cross_share=share, encoded=_not_decoded)
    assert {source.sample(position).pair for position in range(300)} == {kind}


@pytest.mark.parametrize(("kind", "share", "missing"), [("cross", 0.0, "regular"), ("regular", 0.2, "cross")])
def test_a_share_of_pairs_that_are_not_there_is_refused(folder: Path, kind: str, share: float, missing: str) -> None:
    rows = _rows(folder, 5, pair=kind)
    with pytest.raises(BadInput, match=f"none of the rows is a {missing} pair") as raised:
        _source(rows, cross_share=share)
    assert f"--set data.cross_share={float(kind == 'cross')}" in str(raised.value.cure)
    assert sorted(_keys(_source(rows, encoded=_not_decoded), range(5))) == [f"rows{i}" for i in range(5)]
    with pytest.raises(BadInput, match="no rows"):
        RowSource({}, SMALL, seed=0)


def test_whoever_asks_and_whenever_gets_the_same_sample(folder: Path) -> None:
    """Also where rows are broken, and whatever was asked for before."""
    (folder / "broken.mp4").write_bytes(b"no video")
    contents = [
        row_content(
            id=f"r{i}",
            video="broken.mp4" if i % 4 == 1 else "a.mp4",
            pair="cross" if i % 3 == 0 else "regular",
            prompt=["One.", "Two.", "Three."],
            references=[{"image": f"{k}.png"} for k in range(5)],
        )
        for i in range(12)
    ]
    path = write_rows(folder / "rows.jsonl", contents)
    source = _source(open_rows(path), broken_limit=0.9)
    expected = [_content(source.sample(position)) for position in range(40)]
    assert len(set(expected)) > 35, "positions differ"
    resumed = _source(open_rows(path), broken_limit=0.9)
    assert [_content(resumed.sample(position)) for position in range(39, 24, -1)] == expected[39:24:-1]
    shared = _source(open_rows(path), broken_limit=0.9)
    order = np.random.default_rng(3).permutation(np.tile(np.arange(40), 2))
    with ThreadPoolExecutor(8) as pool:
        for position, sample in zip(order, pool.map(shared.sample, order), strict=True):
            assert _content(sample) == expected[position]
    assert shared.skipped() == source.skipped()
    assert set(source.skipped()) <= {"r1", "r5", "r9"} and source.skipped()


def test_a_broken_row_is_replaced_and_named(folder: Path) -> None:
    contents = [row_content(id=f"r{i}", video="gone.mp4" if i == 3 else "a.mp4", frames=[0, 8]) for i in range(10)]
    contents += [row_content(id="cross", pair="cross")]
    source = _source(open_rows(write_rows(folder / "rows.jsonl", contents)), cross_share=0.0, broken_limit=0.2)
    keys = [_keys(source, range(10 * epoch, 10 * (epoch + 1))) for epoch in range(20)]
    assert source.skipped() == {"r3": f"{folder}/gone.mp4: no such file"}
    replaced = Counter[str]()
    for epoch in keys:
        others = Counter(epoch) - Counter(f"r{i}" for i in range(10) if i != 3)
        assert others.total() == 1
        replaced += others
    assert len(replaced) > 3, "not always by the same one"
    assert "cross" not in replaced and "r3" not in replaced


def test_too_many_broken_rows_end_the_training(folder: Path) -> None:
    videos = ["a.mp4" if i % 10 else "gone.mp4" for i in range(40)]
    contents = [row_content(id=f"r{i}", video=video, frames=[0, 8]) for i, video in enumerate(videos)]
    path = write_rows(folder / "my rows.jsonl", contents)
    source = _source(open_rows(path), broken_limit=0.05)
    with pytest.raises(BadInput) as caught:
        for position in range(200):
            source.sample(position)
    assert 85 <= position <= 105, "judged from the hundredth row on"
    message = str(caught.value)
    for part in ("at most 5.0% may be", "gone.mp4: no such file", "r10", f"refeval data check '{path}' --all"):
        assert part in message
    allowed = _source(open_rows(path), broken_limit=0.2)
    for position in range(200):
        allowed.sample(position)


def test_rows_that_are_all_broken_end_the_training_whatever_is_allowed(folder: Path) -> None:
    with pytest.raises(BadInput, match="100 of 100 rows"):
        _source(_rows(folder, 3, video="gone.mp4"), broken_limit=1.0).sample(0)


def test_a_row_of_another_format_ends_the_training(folder: Path) -> None:
    path = write_rows(folder / "rows.jsonl", [row_content(), row_content(prompt=3)])
    rows: dict[PairKind, Rows] = {"regular": open_rows(path)}
    with pytest.raises(BadInput, match=r"rows\.jsonl:2: field 'prompt'"):
        _keys(_source(rows), range(2))


def test_starts_and_prompts_are_drawn_for_each_position(folder: Path) -> None:
    rows = _rows(folder, 1, frames=[10, 50], prompt=["One.", "Two.", ""])
    samples = [_source(rows).sample(position) for position in range(60)]
    starts = [numbers(sample.frames)[0] for sample in samples]
    assert 10 <= min(starts) < 14 and 41 < max(starts) <= 45
    assert Counter(sample.prompt for sample in samples)["One."] == pytest.approx(30, abs=12)
    assert {sample.prompt for sample in samples} == {"One.", "Two."}
    assert all(sample.frames.shape == (5, SMALL.height, SMALL.width, 3) for sample in samples)


def test_of_many_references_some_are_drawn_in_their_order(folder: Path) -> None:
    rows = _rows(folder, 1, references=[{"image": f"{k}.png"} for k in range(5)])
    source = _source(rows, references=3, augment=False, encoded=_not_decoded)
    drawn = Counter[int]()
    for position in range(80):
        pictures = source.sample(position).references
        reds = [int(picture[16, 40, 0]) // 40 for picture in pictures]
        assert reds == sorted(set(reds)) and len(reds) == 3
        drawn.update(reds)
    assert all(abs(drawn[red] - 48) < 20 for red in range(5))
    every = _source(rows, references=5, augment=False, encoded=_not_decoded).sample(0).references
    assert [int(picture[16, 40, 0]) // 40 for picture in every] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("size", [(20, 10), (10, 20), (300, 7)])
def test_references_are_letterboxed_as_in_training(folder: Path, size: tuple[int, int]) -> None:
    picture = np.random.default_rng(5).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(picture).save(folder / "noise.png")
    rows = _rows(folder, 1, pair="cross", references=[{"image": "noise.png"}])
    data = DataSettings(width=96, height=64, frames=5, cross_share=1.0)
    (found,) = RowSource(rows.by_pair(), data, seed=0, encoded=_not_decoded).sample(0).references
    assert (found.shape, found.dtype) == ((64, 96, 3), np.uint8)
    assert np.array_equal(found, letterbox_training(Image.fromarray(picture), 96, 64))


def test_only_references_of_regular_pairs_are_augmented(folder: Path) -> None:
    references = [{"image": "a.png"}, {"image": "a.png"}]
    parts = {"regular": _rows(folder, 1, name="r", references=references)}
    parts["cross"] = _rows(folder, 1, name="c", references=references, pair="cross")
    source = _source(parts, encoded=_not_decoded)
    plain = letterbox_training(Image.open(folder / "a.png"), SMALL.width, SMALL.height)
    seen = Counter[tuple[str, bool]]()
    changed = set()
    for position in range(40):
        sample = source.sample(position)
        for picture in sample.references:
            seen[sample.pair, np.array_equal(picture, plain)] += 1
            if sample.pair == "regular":
                changed.add(picture.tobytes())
    assert set(seen) == {("regular", False), ("cross", True)}
    assert len(changed) == seen["regular", False], "each in its own way"
    without = _source(parts, augment=False, cross_share=0.0, encoded=_not_decoded).sample(0)
    assert all(np.array_equal(picture, plain) for picture in without.references)


def test_what_is_encoded_stands_for_the_clip(folder: Path) -> None:
    """One row is encoded, the other is not; the one that is encoded is not decoded."""
    contents = [row_content(id="encoded", video="gone.mp4", prompt=["One.", "Two."]), row_content(id="clip")]
    kept = {prompt: Encoded(latents=torch.ones(1), text=torch.zeros(1)) for prompt in ("One.", "Two.")}

    def encoded(row: Row, prompt: str) -> Encoded | None:
        return kept[prompt] if row.id == "encoded" else None

    rows = open_rows(write_rows(folder / "rows.jsonl", contents))
    source = _source(rows, encoded=encoded)
    samples = [source.sample(position) for position in range(20)]
    for sample in samples:
        if sample.key == "encoded":
            assert sample.encoded is kept[sample.prompt]
            assert sample.frames.shape == (0, SMALL.height, SMALL.width, 3)
        else:
            assert sample.encoded is None and len(sample.frames) == 5
    assert Counter(sample.key for sample in samples) == {"encoded": 10, "clip": 10}
    assert not source.skipped()


def test_parts_of_frames_reach_the_sample(folder: Path) -> None:
    """The whole way of a regular pair as annotated: a box and a mask in a frame of its own video."""
    picture = np.full((32, 80, 3), 60, np.uint8)
    picture[8:24, 20:60] = (250, 30, 30)
    write_video(folder / "b.mp4", [picture] * 6, fps=Fraction(25), quality=5)
    mask = {"size": [32, 80], "counts": [32 * 20 + 8, *[16, 16] * 39, 16, 32 * 20 + 8]}
    rows = _rows(folder, 1, video="b.mp4", references=[{"frame": 5, "box": [10, 4, 70, 28], "mask": mask}])
    sample = _source(rows, augment=False).sample(0)
    (reference,) = sample.references
    (part,) = read_references(rows[0], rows[0].references)
    assert np.array_equal(reference, letterbox_training(Image.fromarray(part), SMALL.width, SMALL.height))
    white = (reference == 255).all(2)
    assert white[:, :10].all() and white[:4].all() and not white[12:20, 20:60].any()
