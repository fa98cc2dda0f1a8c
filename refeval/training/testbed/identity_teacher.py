"""A small teacher of the sprites world: a vision transformer that was taught which pictures show the same subject.

It stands for the vision foundation model: two views of a subject, turned, mirrored or tinted, get features near to each
other, views of other subjects get features apart (InfoNCE over the mean of the patches' features).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from refeval.errors import BadInput
from refeval.sprites import Pose, Subject, draw_reference
from refeval.stored_weights import open_checkpoint, write_safetensors
from refeval.training.recipe import Recipe
from refeval.training.teacher_catalogue import CELL, TeacherSpec, dinov3
from refeval.training.teachers import VisionTeacher
from refeval.training.testbed.scenes import REFERENCE_SCALE, draw_scene

TRAINED, UNTRAINED = "sprites-identity", "sprites-untrained"
"""The teachers of the sprites world: one that was taught identity, and the same network from random weights."""

WIDTH = 64
_BLOCKS, _HEADS, _REGISTERS = 2, 4, 4
_SUBJECTS = 48
_TEMPERATURE = 0.1
_RATE = 1e-3
_TURN, _TINT, _RADII = 0.5, 0.08, (0.38, 0.48)
# A stream of its own: the subjects that the teacher sees are the training's, in another order.
_STREAM = 1 << 40


def identity_teacher(recipe: Recipe, file: Path, seed: int) -> VisionTeacher:
    """Load the teacher that the recipe names, or make it and write it.

    Args:
        recipe: what the world has in it, and how long the teacher is trained.
        file: its weights.
        seed: of its start and its pictures; the global random numbers are left as they are.

    Raises:
        BadInput: the recipe names another teacher.
        DiskFull: its weights cannot be written.
        CorruptFile: they cannot be read.
    """
    check_teacher(recipe)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = DINOv3ViTModel(
            DINOv3ViTConfig(
                hidden_size=WIDTH,
                intermediate_size=2 * WIDTH,
                num_hidden_layers=_BLOCKS,
                num_attention_heads=_HEADS,
                patch_size=CELL,
                num_register_tokens=_REGISTERS,
                attn_implementation="sdpa",
            )
        )
        if not file.is_file():
            if recipe.teacher.names == (TRAINED,):
                _train(model, recipe, seed)
            write_safetensors(file, model.state_dict())
    stored = open_checkpoint(file, "").tensors
    model.load_state_dict({name: tensor.read() for name, tensor in stored.items()})
    return VisionTeacher(_spec(), model)


def check_teacher(recipe: Recipe) -> None:
    """Look whether the sprites world has the recipe's teacher.

    Raises:
        BadInput: it has not.
    """
    if recipe.teacher.names not in ((TRAINED,), (UNTRAINED,)):
        raise BadInput(
            f"recipe {recipe.name}: the sprites world has no teacher '{', '.join(recipe.teacher.names)}'",
            cure=f'teacher.names = ["{TRAINED}"] or ["{UNTRAINED}"]',
        )


def _spec() -> TeacherSpec:
    return replace(dinov3(TRAINED, "", WIDTH, _BLOCKS), special_tokens=1 + _REGISTERS)


def _train(model: DINOv3ViTModel, recipe: Recipe, seed: int) -> None:
    steps = recipe.testbed.teacher_steps
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.01)
    spec = _spec()
    mean, std = (torch.tensor(triple).view(3, 1, 1) for triple in (spec.mean, spec.std))
    model.train()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = _RATE * min(1.0, 2 * (steps - step) / steps)
        pictures = torch.from_numpy(_two_views(recipe, seed, step)).permute(0, 3, 1, 2)
        states = model((pictures.float() / 255 - mean) / std).last_hidden_state[:, spec.special_tokens :]
        loss = _contrast(normalize(states.mean(dim=1), dim=-1))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()


def _contrast(features: Tensor) -> Tensor:
    """InfoNCE of 2 n features of length 1: row i and row i + n show one subject."""
    count = len(features) // 2
    similar = features @ features.T / _TEMPERATURE
    similar.fill_diagonal_(-torch.inf)
    return cross_entropy(similar, torch.arange(2 * count).roll(count))


def _two_views(recipe: Recipe, seed: int, step: int) -> NDArray[np.uint8]:
    """The first views of some subjects, then the second ones."""
    subjects: list[Subject] = []
    position = _STREAM + step * _SUBJECTS
    while len(subjects) < _SUBJECTS:
        # Every actor of every scene, but none twice: the other view of a subject is its only positive.
        scene = draw_scene(recipe, "training", seed, position, subjects=1)
        subjects += [actor.subject for actor in scene.actors if actor.subject not in subjects]
        position += 1
    rng = np.random.default_rng([seed, step, _STREAM])
    return np.stack([_view(subject, recipe, rng) for _ in range(2) for subject in subjects])


def _view(subject: Subject, recipe: Recipe, rng: np.random.Generator) -> NDArray[np.uint8]:
    pose = Pose(
        x=0.5 + 0.03 * float(rng.uniform(-1, 1)),
        y=0.5 + 0.03 * float(rng.uniform(-1, 1)),
        radius=float(rng.uniform(*_RADII)),
        angle=_TURN * float(rng.uniform(-1, 1)),
        mirror=bool(rng.random() < 0.5),
    )
    side = (recipe.data.height * REFERENCE_SCALE, recipe.data.width * REFERENCE_SCALE)
    picture = draw_reference(subject, *side, pose).astype(np.float32)
    tinted = picture + 255 * _TINT * rng.uniform(-1, 1, 3).astype(np.float32)
    return np.clip(tinted, 0, 255).astype(np.uint8)
