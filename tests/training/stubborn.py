"""A sprites world that can be told to misbehave, and processes of a training that meet it."""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from refeval.commands.console import last_word
from refeval.errors import BadInput, RefevalError
from refeval.training.engine import Engine, own_parts
from refeval.training.examples import Sample, Source
from refeval.training.parameters import make_trained
from refeval.training.recipe import Recipe, read_recipe
from refeval.training.testbed.world import SpritesWorld
from refeval.training.trainer import Reading, Trainer


class PlantedWorld(SpritesWorld):
    """The sprites world, with samples that are changed as they are read.

    Args:
        recipe: of the training.
        folder: of the training.
        plant: gets a position and its sample.
    """

    def __init__(self, recipe: Recipe, folder: Path, plant: Callable[[int, Sample], Sample]) -> None:
        super().__init__(recipe, folder, seed=0)
        self._plant = plant

    def source(self) -> Source:
        """The world's own, changed."""
        return _PlantedSource(super().source(), self._plant)


class _PlantedSource(Source):
    def __init__(self, source: Source, plant: Callable[[int, Sample], Sample]) -> None:
        self._source = source
        self._plant = plant

    def sample(self, position: int) -> Sample:
        return self._plant(position, self._source.sample(position))


def heavier(sample: Sample, factor: float) -> Sample:
    """A sample whose error counts ``factor`` times."""
    assert sample.emphasis is not None
    return replace(sample, emphasis=sample.emphasis * factor)


def trainer_of(
    recipe: Recipe,
    folder: Path,
    plant: Callable[[int, Sample], Sample] = lambda _, sample: sample,
    *,
    engine: Engine | None = None,
    threads: int = 1,
) -> Trainer:
    """A trainer in a folder, on what is there."""
    engine = engine or Engine(device="cpu", precision=recipe.run.precision)
    world = PlantedWorld(recipe, folder, plant)
    reading = Reading(threads=threads)
    trainer = Trainer(recipe=recipe, world=world, folder=folder, seed=0, engine=engine, reading=reading)
    trainer.resume()
    return trainer


def fail_in_one_process(config: str, folder: str, how: str) -> None:
    """Work of one of two processes: from iteration 3 on, one of them cannot go on.

    Args:
        config: path of a recipe.
        folder: of the training.
        how: ``input``: its samples cannot be read; ``gone``: it ends without a word; ``disk``: it is the first one, and
            what it writes finds no space; parameters are spread. ``defect``: a defect of the program, which it then
            lives with until a file ``go`` lies beside the folder.
    """
    recipe = read_recipe(config, {"run.micro_batch": 1})
    engine = Engine(device="cpu", precision="fp32", sharding="yes" if how == "disk" else "no")

    def plant(position: int, sample: Sample) -> Sample:
        late = position >= 2 * recipe.run.global_batch
        if how == "disk" and engine.rank == 0 and late:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        if how == "input" and engine.rank == 1 and late:
            raise BadInput("too many rows are broken")
        if how == "defect" and engine.rank == 1 and late:
            raise ValueError("a defect")
        if how == "gone" and engine.rank == 1 and late:
            os._exit(99)
        return sample

    try:
        with engine.connected():
            trainer_of(recipe, Path(folder), plant, engine=engine).run()
    except RefevalError as error:
        sys.exit(last_word(error))
    except ValueError:
        while not Path(folder).with_name("go").exists():
            time.sleep(0.01)
        raise


def leave_the_group(config: str) -> None:
    """Work of a process: train nothing, drop everything, and print how many threads of the group are left, as JSON."""
    recipe = read_recipe(config)
    engine = Engine(device="cpu", precision="fp32")
    engine.take_over(make_trained(recipe, SpritesWorld(recipe, Path(), 0), 0))
    engine.close()
    del engine
    gc.collect()
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    sys.stdout.write(json.dumps(names.count("pt_gloo_runloop")) + "\n")
    sys.stdout.flush()


def tell_shards(config: str) -> None:
    """Work of a process: print the shape of every parameter, and how many of its numbers lie here, as JSON."""
    recipe = read_recipe(config)
    engine = Engine(device="cpu", precision="fp32", sharding="yes")
    engine.take_over(make_trained(recipe, SpritesWorld(recipe, Path(), 0), 0))
    parameters = engine.parameters()
    held = own_parts(parameters.values())
    shapes = {name: (list(parameters[name].shape), part.numel()) for name, part in zip(parameters, held, strict=True)}
    sys.stdout.write(json.dumps(shapes) + "\n")
    sys.stdout.flush()
    engine.close()
