"""How far apart the reference features of subjects lie before and after a training."""

from __future__ import annotations

from dataclasses import replace
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
from refeval.training.alignment import Projector
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


def features(network: Any, *, block: int = 2, sigma: float = 0.6, **options: Any) -> ReferenceFeatures:
    return reference_features(network, VIEWS, block=block, sigma=sigma, text_tokens=TOKENS, **options)


def by_hand(network: Any, position: int, block: int, sigma: float, projector: Any) -> list[Any]:
    """What a training step sees of the view at a position."""
    one = VIEWS[position].example
    noise = generator(0, position, Stream.NOISE).standard_normal(one.latents.shape, dtype=np.float32)
    noisy = (1 - sigma) * one.latents + sigma * torch.from_numpy(noise)
    text = torch.cat([one.text, torch.zeros(TOKENS - len(one.text), TEXT)])[None]
    with torch.no_grad():
        found = network(noisy[None], torch.tensor([1000 * sigma]), text, one.references[None], range(3))
        tokens = projector(found.reference_states[block - 1][0])
    return [tokens[6 * i : 6 * i + 6].mean(dim=0).numpy() for i in range(one.references.shape[1])]


@pytest.mark.parametrize(("block", "sigma"), [(1, 0.0), (3, 0.0), (2, 0.75)])
def test_a_row_is_the_mean_over_the_tokens_of_a_reference(network: Any, block: int, sigma: float) -> None:
    for used in (None, Projector(WIDTH, 10)):
        found = features(network, block=block, sigma=sigma, projector=used)
        expected = [
            row for p in range(len(VIEWS)) for row in by_hand(network, p, block, sigma, used or torch.nn.Identity())
        ]
        np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-5)
        assert (found.block, found.sigma, found.projected) == (block, sigma, used is not None)
    assert found.subjects == ("dog", "cat", "dog", "cat", "dog")
    assert found.values.dtype == np.float64


def test_references_stand_beside_the_clip_at_its_noise(network: Any) -> None:
    found = features(network)
    assert np.array_equal(features(network).values, found.values)
    assert not np.allclose(features(network, seed=1).values, found.values, atol=1e-5)
    assert not np.allclose(features(network, sigma=0.9).values, found.values, atol=1e-5)
    blank = [replace(v, example=replace(v.example, latents=torch.zeros_like(v.example.latents))) for v in VIEWS]
    settings: dict[str, Any] = {"block": 2, "text_tokens": TOKENS}
    assert not np.allclose(reference_features(network, blank, sigma=0.6, **settings).values, found.values, atol=1e-5)
    # Nothing is left of the clip in pure noise.
    noise = reference_features(network, blank, sigma=1.0, **settings)
    assert np.array_equal(noise.values, features(network, sigma=1.0).values)


def test_a_network_that_reads_features_gets_them(network: Any) -> None:
    dual = DualReferenceTransformer.from_plain(network, 10)
    assert np.array_equal(features(dual).values, features(network).values)
    randomise(dual.feature_embedding, 3)
    assert not np.allclose(features(dual).values, features(network).values, atol=1e-5)


def test_what_cannot_be_is_refused(network: Any) -> None:
    for block in (0, 4):
        with pytest.raises(BadInput, match="blocks 1 to 3"):
            features(network, block=block)
    wrong = [View(example=example(1, 2), subjects=("dog",))]
    with pytest.raises(ValueError, match="1 subjects for 2 references"):
        reference_features(network, wrong, block=1, sigma=0.5, text_tokens=TOKENS)


def at(*degrees: float) -> ReferenceFeatures:
    """Two views of a dog, then two of a cat, in these directions."""
    angles = np.radians(degrees)
    values = np.column_stack([np.cos(angles), np.sin(angles)]) * [[1.0], [2.0], [3.0], [4.0]]
    return ReferenceFeatures(values=values, subjects=("dog", "dog", "cat", "cat"), block=2, sigma=0.5, projected=False)


def test_before_and_after_are_written_down(tmp_path: Path) -> None:
    # Within: 90 degrees, distance 1. Between: 180, 270, 90 and 180 degrees: 2, 1, 1, 2. After, within: 60 degrees,
    # distance 1/2; between: 180, 240, 120, 180 degrees: 2, 3/2, 3/2, 2.
    found = write_separability(tmp_path, at(0, 90, 180, 270), at(0, 60, 180, 240))
    assert (found.before.ratio, found.after.ratio) == (pytest.approx(1.5), pytest.approx(3.5))
    content = read_document(tmp_path / "separability.json")
    assert content.pop("before") == {
        name: pytest.approx(v) for name, v in (("within", 1), ("between", 1.5), ("ratio", 1.5))
    }
    assert content.pop("after") == {
        name: pytest.approx(v) for name, v in (("within", 0.5), ("between", 1.75), ("ratio", 3.5))
    }
    assert content == {"block": 2, "sigma": 0.5, "projected": False, "subjects": 2, "views": 4}


def test_views_that_coincide_have_no_ratio(tmp_path: Path) -> None:
    write_separability(tmp_path, at(0, 90, 180, 270), at(0, 0, 90, 90))
    assert read_document(tmp_path / "separability.json")["after"] == {
        "within": 0.0,
        "between": pytest.approx(1),
        "ratio": None,
    }


def test_only_what_belongs_together_is_compared(tmp_path: Path) -> None:
    before = at(0, 90, 180, 270)
    others = ({"block": 1}, {"sigma": 0.1}, {"projected": True}, {"subjects": ("dog", "cat", "dog", "cat")})
    for change in others:
        for use in (write_separability, draw_separability):
            with pytest.raises(ValueError, match="of other views, or of another place"):
                use(tmp_path, before, replace(before, **change))
    assert not list(tmp_path.iterdir())


def test_the_map_shows_before_and_after_side_by_side(tmp_path: Path) -> None:
    before, after = at(0, 90, 180, 270), at(0, 60, 180, 240)
    files = draw_separability(tmp_path, before, after)
    assert [path.name for path in files] == ["separability.svg", "separability.png"]
    # matplotlib names every text of an SVG in a comment.
    text = files[0].read_text()
    order = [text.index(f"<!-- {words}") for words in ("before", "after")]
    ratios = [text.index(f"within: {words}") for words in ("1.500 / 1.000 = 1.50", "1.750 / 0.500 = 3.50")]
    assert order == sorted(order) and ratios == sorted(ratios)
    assert text.count("<!-- dog -->") == text.count("<!-- cat -->") == 1
    with pytest.raises(BadInput):
        few = replace(before, values=before.values[:3], subjects=before.subjects[:3])
        draw_separability(tmp_path, few, few)
