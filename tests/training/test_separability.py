"""How far apart the reference features of subjects lie before and after a training."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from refeval.documents import read_document
from refeval.errors import BadInput
from refeval.generators.wan.catalogue import Architecture
from refeval.generators.wan.tiny import randomise, tiny_transformer
from refeval.generators.wan.transformer import ReferenceTransformer
from refeval.training.dual import DualReferenceTransformer
from refeval.training.examples import Example, Stream, generator
from refeval.training.separability import (
    ReferenceFeatures,
    draw_separability,
    reference_features,
    write_separability,
)
from refeval.training.worlds import View

WIDTH, TEXT, TOKENS = 24, 12, 8
SIZE = Architecture(layers=3, heads=2, head_dim=12, ffn_dim=32, text_dim=TEXT, freq_dim=16)


@pytest.fixture
def network() -> Any:
    return tiny_transformer(ReferenceTransformer, SIZE)


def example(seed: int, references: int) -> Example:
    rng = torch.Generator().manual_seed(seed)
    return Example(
        latents=torch.randn(16, 2, 4, 4, generator=rng),
        text=torch.randn(5, TEXT, generator=rng),
        references=torch.randn(16, references, 4, 6, generator=rng),
        teacher=torch.randn(references, 6, 10, generator=rng),
    )


VIEWS = (
    View(example=example(1, 2), subjects=("dog", "cat")),
    View(example=example(2, 1), subjects=("dog",)),
    View(example=example(3, 2), subjects=("cat", "dog")),
)


def features(network: Any, *, sigma: float = 0.6, **options: Any) -> Any:
    """After the second block."""
    return reference_features(network, VIEWS, sigma=sigma, text_tokens=TOKENS, **options).values[2]


def by_hand(network: Any, position: int, block: int, sigma: float) -> list[Any]:
    """What a training step sees of the view at a position."""
    one = VIEWS[position].example
    noise = generator(0, position, Stream.NOISE).standard_normal(one.latents.shape, dtype=np.float32)
    noisy = (1 - sigma) * one.latents + sigma * torch.from_numpy(noise)
    text = torch.cat([one.text, torch.zeros(TOKENS - len(one.text), TEXT)])[None]
    with torch.no_grad():
        found = network(noisy[None], torch.tensor([1000 * sigma]), text, one.references[None], range(3))
    tokens = found.reference_states[block - 1][0]
    return [tokens[6 * i : 6 * i + 6].mean(dim=0).numpy() for i in range(one.references.shape[1])]


@pytest.mark.parametrize("sigma", [0.0, 0.75])
def test_a_row_is_the_mean_over_the_tokens_of_a_reference(network: Any, sigma: float) -> None:
    found = reference_features(network, VIEWS, sigma=sigma, text_tokens=TOKENS)
    assert [*found.values] == [1, 2, 3]
    for block, values in found.values.items():
        expected = [row for position in range(len(VIEWS)) for row in by_hand(network, position, block, sigma)]
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)
        assert values.dtype == np.float64
    assert (found.subjects, found.sigma) == (("dog", "cat", "dog", "cat", "dog"), sigma)


def test_references_stand_beside_the_clip_at_its_noise(network: Any) -> None:
    found = features(network)
    assert np.array_equal(features(network), found)
    assert not np.allclose(features(network, seed=1), found, atol=1e-5)
    assert not np.allclose(features(network, sigma=0.9), found, atol=1e-5)
    blank = [replace(v, example=replace(v.example, latents=torch.zeros_like(v.example.latents))) for v in VIEWS]
    other = reference_features(network, blank, sigma=0.6, text_tokens=TOKENS).values[2]
    assert not np.allclose(other, found, atol=1e-5)
    # Nothing is left of the clip in pure noise.
    noise = reference_features(network, blank, sigma=1.0, text_tokens=TOKENS).values[2]
    assert np.array_equal(noise, features(network, sigma=1.0))


def test_a_network_that_reads_features_gets_them(network: Any) -> None:
    dual = DualReferenceTransformer.from_plain(network, 10)
    assert np.array_equal(features(dual), features(network))
    randomise(dual.feature_embedding, 3)
    assert not np.allclose(features(dual), features(network), atol=1e-5)


def test_as_many_subjects_as_references_are_wanted(network: Any) -> None:
    wrong = [View(example=example(1, 2), subjects=("dog",))]
    with pytest.raises(ValueError, match="1 subjects for 2 references"):
        reference_features(network, wrong, sigma=0.5, text_tokens=TOKENS)


def at(*degrees: float) -> ReferenceFeatures:
    """Two views of a dog, then two of a cat, in these directions; after the first block, all a right angle further."""
    angles = np.radians(degrees)
    values = np.column_stack([np.cos(angles), np.sin(angles)]) * [[1.0], [2.0], [3.0], [4.0]]
    turned = values[:, ::-1] * [-1, 1]
    return ReferenceFeatures(values={1: turned, 2: values}, subjects=("dog", "dog", "cat", "cat"), sigma=0.5)


def test_before_and_after_are_written_down(tmp_path: Path) -> None:
    # Within: 90 degrees, distance 1. Between: 180, 270, 90 and 180 degrees: 2, 1, 1, 2. After, within: 60 degrees,
    # distance 1/2; between: 180, 240, 120, 180 degrees: 2, 3/2, 3/2, 2.
    found = write_separability(tmp_path, at(0, 90, 180, 270), at(0, 60, 180, 240))
    content = read_document(tmp_path / "separability.json")
    for block, row in enumerate(content.pop("blocks"), start=1):
        assert (found.before[block].ratio, found.after[block].ratio) == (pytest.approx(1.5), pytest.approx(3.5))
        assert row.pop("block") == block
        assert row.pop("before") == {
            name: pytest.approx(v) for name, v in (("within", 1), ("between", 1.5), ("ratio", 1.5))
        }
        assert row == {
            "after": {name: pytest.approx(v) for name, v in (("within", 0.5), ("between", 1.75), ("ratio", 3.5))}
        }
    assert content == {"sigma": 0.5, "subjects": 2, "views": 4}


def test_views_that_coincide_have_no_ratio(tmp_path: Path) -> None:
    write_separability(tmp_path, at(0, 90, 180, 270), at(0, 0, 90, 90))
    assert read_document(tmp_path / "separability.json")["blocks"][1]["after"] == {
        "within": 0.0,
        "between": pytest.approx(1),
        "ratio": None,
    }


def test_only_what_belongs_together_is_compared(tmp_path: Path) -> None:
    before = at(0, 90, 180, 270)
    others = ({"values": {2: before.values[2]}}, {"sigma": 0.1}, {"subjects": ("dog", "cat", "dog", "cat")})
    for change in others:
        for use in (write_separability, partial(draw_separability, block=2)):
            with pytest.raises(ValueError, match="of other views, or of another place"):
                use(tmp_path, before, replace(before, **change))
    assert not list(tmp_path.iterdir())


def test_the_map_shows_before_and_after_side_by_side(tmp_path: Path) -> None:
    before, after = at(0, 90, 180, 270), at(0, 60, 180, 240)
    files = draw_separability(tmp_path, before, after, 2)
    assert [path.name for path in files] == ["separability.svg", "separability.png"]
    # matplotlib names every text of an SVG in a comment.
    text = files[0].read_text()
    order = [text.index(f"<!-- {words}") for words in ("before", "after")]
    ratios = [text.index(f"within: {words}") for words in ("1.500 / 1.000 = 1.50", "1.750 / 0.500 = 3.50")]
    assert order == sorted(order) and ratios == sorted(ratios)
    assert text.count("<!-- dog -->") == text.count("<!-- cat -->") == 1
    with pytest.raises(BadInput):
        few = replace(before, values={2: before.values[2][:3]}, subjects=before.subjects[:3])
        draw_separability(tmp_path, few, few, 2)
