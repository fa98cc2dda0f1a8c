"""Dropping, padding and noise: each sample's own, whoever stands beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from refeval.training.batches import collate, draw_noise, drop, placed
from refeval.training.examples import Example
from refeval.training.feeding import own_positions
from refeval.training.flow import Flow
from refeval.training.recipe import DataSettings

EMPTY = torch.full((1, 6), 9.0)


def example(seed: int, *, references: int = 2, words: int = 3) -> Example:
    generator = torch.Generator().manual_seed(seed)
    return Example(
        latents=torch.randn(4, 2, 6, 6, generator=generator),
        text=torch.randn(words, 6, generator=generator),
        references=torch.randn(4, references, 6, 6, generator=generator),
        teacher=torch.randn(references, 9, 5, generator=generator),
    )


def test_as_many_are_dropped_as_the_recipe_says() -> None:
    data = DataSettings(drop_text=0.1, drop_references=0.2, drop_both=0.05)
    whole = example(0)
    lost = []
    for position in range(4000):
        found = drop(whole, EMPTY, data, seed=1, position=position)
        without_references = not found.references.any()
        assert without_references == (len(found.teacher) == 0)
        assert found.references.shape == whole.references.shape, "as many zeros as there were references"
        lost.append((found.text is EMPTY, without_references))
    shares = {kind: lost.count(kind) / len(lost) for kind in ((True, False), (False, True), (True, True))}
    # Three standard errors of a share of 4000 are at most 0.019.
    assert shares[True, False] == pytest.approx(0.1, abs=0.015)
    assert shares[False, True] == pytest.approx(0.2, abs=0.019)
    assert shares[True, True] == pytest.approx(0.05, abs=0.011)
    again = [drop(whole, EMPTY, data, seed=1, position=position).text is EMPTY for position in range(50)]
    assert again == [text for text, _ in lost[:50]], "the position decides, and nothing else"
    assert again != [drop(whole, EMPTY, data, seed=2, position=position).text is EMPTY for position in range(50)]


def test_the_released_code_leaves_one_zero_reference() -> None:
    always = DataSettings(drop_text=0.0, drop_references=0.0, drop_both=1.0)
    each, one = (replace(always, dropped_references=kind) for kind in ("each", "one"))
    assert drop(example(0, references=3), EMPTY, each, 0, 0).references.shape[1] == 3
    found = drop(example(0, references=3), EMPTY, one, 0, 0)
    assert found.references.shape[1] == 1 and found.teacher.shape == (0, 9, 5) and found.text is EMPTY


def test_nothing_is_dropped_where_nothing_is_to_be() -> None:
    never = DataSettings(drop_text=0.0, drop_references=0.0, drop_both=0.0)
    whole = example(0)
    assert all(drop(whole, EMPTY, never, 0, position) is whole for position in range(200))


def test_a_batch_holds_its_samples_and_zeros() -> None:
    first, second = example(1, references=1, words=7), example(2, references=3, words=2)
    bare = replace(example(3, references=2), teacher=torch.zeros(0, 9, 5))
    batch = collate([first, second, bare], 5)
    assert batch.text.shape == (3, 5, 6) and batch.references.shape == (3, 4, 3, 6, 6)
    assert torch.equal(batch.text[0], first.text[:5]) and torch.equal(batch.text[1, :2], second.text)
    assert not batch.text[1, 2:].any()
    assert torch.equal(batch.references[0, :, :1], first.references) and not batch.references[0, :, 1:].any()
    assert torch.equal(batch.references[1], second.references)
    assert torch.equal(batch.teacher[1], second.teacher) and not batch.teacher[2].any()
    assert batch.present.tolist() == [[True, False, False], [True] * 3, [False] * 3]
    assert batch.emphasis is None and torch.equal(batch.latents[2], bare.latents)
    weighed = [replace(one, emphasis=torch.full((2, 6, 6), float(place))) for place, one in enumerate((first, second))]
    emphasis = collate(weighed, 5).emphasis
    assert emphasis is not None and emphasis.flatten(1).mean(dim=1).tolist() == [0.0, 1.0]
    there = placed(batch, torch.device("meta"))
    assert {tensor.device.type for tensor in (there.latents, there.text, there.teacher, there.present)} == {"meta"}
    assert there.emphasis is None


def test_noise_belongs_to_the_position() -> None:
    flow = Flow()
    drawn, noise = draw_noise(flow, (4, 2, 3), 5, [7, 1, 2])
    alone, own = draw_noise(flow, (4, 2, 3), 5, [1])
    assert torch.equal(noise[1], own[0]) and drawn.timesteps[1] == alone.timesteps[0]
    assert not torch.equal(draw_noise(flow, (4, 2, 3), 6, [1])[1], own)
    assert noise.dtype == torch.float32 and noise.shape == (3, 4, 2, 3)
    many, long = draw_noise(flow, (50,), 0, range(2000))
    # The standard error of the mean of 100 000 numbers is 0.003; that of 2000 even ones over 1000 levels is 6.5.
    assert abs(float(long.mean())) < 0.013 and abs(float(long.std()) - 1) < 0.01
    levels = torch.searchsorted(flow.timesteps.flip(0), many.timesteps)
    assert abs(float(levels.float().mean()) - 499.5) < 26


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_every_position_belongs_to_one_process(processes: int) -> None:
    steps = [[own_positions(step, 8, rank, processes) for rank in range(processes)] for step in range(3)]
    flat = [position for step in steps for own in step for position in own]
    assert flat == list(range(24))


def test_an_uneven_share_is_refused() -> None:
    with pytest.raises(ValueError, match="8 samples for 3 processes"):
        own_positions(0, 8, 0, 3)
