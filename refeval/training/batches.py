"""From examples to batches: prompts and references dropped at random, tensors padded, noise drawn.

Every random number follows from (seed, position of the sample); see :mod:`refeval.training.examples`.

Source: RefAlign (arXiv 2603.25743) A.1; @6f91526 diffsynth/trainers (dropping; what is dropped becomes the embedding of
the empty prompt, and latents of zeros).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import torch
from torch import Tensor

from refeval.training.examples import Example, Stream, generator
from refeval.training.flow import STEPS, Drawn, Flow
from refeval.training.objective import Batch
from refeval.training.recipe import DataSettings


def drop(example: Example, empty_text: Tensor, data: DataSettings, seed: int, position: int) -> Example:
    """Leave out the prompt, the references or both, with the recipe's probabilities.

    Returns:
        the example; dropped references have latents of zeros and no features.
    """
    drawn = generator(seed, position, Stream.DROPPING).random()
    text_below = data.drop_text
    references_below = text_below + data.drop_references
    both_below = references_below + data.drop_both
    if drawn < text_below or references_below <= drawn < both_below:
        example = replace(example, text=empty_text)
    if text_below <= drawn < both_below:
        kept = 1 if data.dropped_references == "one" else example.references.shape[1]
        zeros = torch.zeros_like(example.references[:, :kept])
        example = replace(example, references=zeros, teacher=example.teacher[:0])
    return example


def collate(examples: Sequence[Example], text_tokens: int, slots: int = 0) -> Batch:
    """Put examples together.

    Shorter prompts are padded with zeros, as at inference. Fewer references are padded with latents of zeros, which are
    tokens that others see: where samples differ, only a micro-batch of one, or fixed slots, leaves them as they are.

    Args:
        examples: one or more, latents of one shape.
        text_tokens: L of the batch; longer prompts are cut off.
        slots: M of the batch, at least; 0: as many as the example with the most references has.
    """
    most = max(slots, *(example.references.shape[1] for example in examples))
    references = examples[0].references.new_zeros(
        len(examples), examples[0].references.shape[0], most, *examples[0].references.shape[2:]
    )
    tokens, width = examples[0].teacher.shape[1:]
    teacher = examples[0].teacher.new_zeros(len(examples), most, tokens, width)
    present = torch.zeros(len(examples), most, dtype=torch.bool, device=references.device)
    text = examples[0].text.new_zeros(len(examples), text_tokens, examples[0].text.shape[1])
    for index, example in enumerate(examples):
        references[index, :, : example.references.shape[1]] = example.references
        teacher[index, : len(example.teacher)] = example.teacher
        present[index, : len(example.teacher)] = True
        length = min(len(example.text), text_tokens)
        text[index, :length] = example.text[:length]
    emphases = [example.emphasis for example in examples if example.emphasis is not None]
    return Batch(
        latents=torch.stack([example.latents for example in examples]),
        text=text,
        references=references,
        teacher=teacher,
        present=present,
        emphasis=torch.stack(emphases) if len(emphases) == len(examples) else None,
    )


def placed(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device."""
    there = {
        entry.name: tensor.to(device) for entry in fields(batch) if (tensor := getattr(batch, entry.name)) is not None
    }
    return replace(batch, **there)


def draw_noise(flow: Flow, shape: Sequence[int], seed: int, positions: Sequence[int]) -> tuple[Drawn, Tensor]:
    """Noise levels and noise.

    Args:
        flow: the levels to draw from.
        shape: of one sample's latents.
        seed: of the training.
        positions: of the samples.

    Returns:
        The levels, and float32 noise (B, *shape), on the CPU.
    """
    indices, noises = [], []
    for position in positions:
        rng = generator(seed, position, Stream.NOISE)
        indices.append(int(rng.integers(STEPS)))
        noises.append(rng.standard_normal(tuple(shape), dtype=np.float32))
    return flow.at(torch.tensor(indices)), torch.from_numpy(np.stack(noises))
