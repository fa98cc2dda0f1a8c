"""``refeval train`` without the printing: a training from its request to its end, and what is measured of it then."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from refeval.devices import pick_device
from refeval.errors import BadInput
from refeval.place import Place
from refeval.receipts import Mark
from refeval.stored_weights import open_checkpoint
from refeval.training.checkpoints import checkpoints
from refeval.training.conclusion import ASSESSMENT
from refeval.training.data.encoded import SETTINGS
from refeval.training.engine import Engine, Sharding
from refeval.training.folder import TrainingDocument, alone, begin_training, check_folder, digests
from refeval.training.observation import Observer
from refeval.training.recipe import Recipe
from refeval.training.separability import SEPARABILITY
from refeval.training.trainer import Reading, Trainer
from refeval.training.worlds import World

# Networks that learn something, or at least run, on a CPU.
_SMALL = ("sprites", "wan-tiny")


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """A training that is asked for.

    Attributes:
        recipe: what is trained, and how.
        folder: of the training; one that is there is gone on with.
        seed: of everything random.
        rows: files of rows to train on; none for the sprites world.
        encoded: folder of latents and texts that ``refeval data encode`` made.
        features: folder of the teacher's features, kept and read again.
        start: weights to start from in place of the base's own, e.g. those of a first stage.
        ablation: its place in a study, or None.
        place: weights and device.
        sharding: whether parameters are spread over the processes.
        reading: how samples are read.
    """

    recipe: Recipe
    folder: Path
    seed: int = 0
    rows: tuple[Path, ...] = ()
    encoded: Path | None = None
    features: Path | None = None
    start: Path | None = None
    ablation: Mapping[str, str] | None = None
    place: Place = field(default_factory=Place)
    sharding: Sharding = "auto"
    reading: Reading = field(default_factory=Reading)


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a training ended.

    Attributes:
        step: iterations done; fewer than asked for where another process was stopped.
        world: of the recipe.
        skipped: key and reason of rows that were broken.
        main: whether this process is the one that reports.
    """

    step: int
    world: World
    skipped: Mapping[str, str]
    main: bool


Observe = Callable[[], Observer]


def train(request: TrainingRequest, observe: Observe, complain: Callable[[str], None]) -> Finished:
    """Train, or go on.

    Args:
        request: what is asked for.
        observe: opens the observer; called in the main process only, once the folder is this training's.
        complain: told of checkpoints that are damaged and passed over; in the main process only, too.

    Raises:
        RefevalError: as :meth:`Trainer.run`, :func:`begin_training` and :func:`open_world`.
    """
    recipe, folder = request.recipe, request.folder
    _check_device(recipe, request.place.device)
    engine = Engine(device=request.place.device, precision=recipe.run.precision, sharding=request.sharding)
    with contextlib.ExitStack() as stack:
        stack.enter_context(engine.connected())
        # Nothing is written before it is certain that there is something to train.
        with engine.together():
            _check_shares(recipe, engine.processes)
            world = open_world(request, str(engine.device))
            document = document_of(request) if engine.is_main else None
            if document is not None:
                check_folder(folder, document)
        trainer = Trainer(
            recipe=recipe,
            world=world,
            folder=folder,
            seed=request.seed,
            engine=engine,
            reading=request.reading,
        )
        with engine.together():
            if document is not None:
                stack.enter_context(alone(folder))
                begin_training(folder, document)
                # What a world makes once, such as a small teacher, is made by one process and read by the others.
                world.encoder()
        for complaint in trainer.resume():
            complain(complaint)
        observer = None
        with engine.together():
            if engine.is_main:
                observer = observe()
                stack.callback(observer.close)
        trainer.run(observer)
        return Finished(step=trainer.step, world=world, skipped=trainer.skipped, main=engine.is_main)


def is_complete(request: TrainingRequest) -> bool:
    """Whether the training in a folder came to its end and was measured; nothing is written.

    Raises:
        BadInput: the folder holds another training, or something else, or a file of the request is missing.
        CorruptFile: its document is damaged.
    """
    recipe, folder = request.recipe, request.folder
    check_folder(folder, document_of(request))
    last = max((step for step, _ in checkpoints(folder)), default=0)
    # The last document of what is measured, which is written after the last checkpoint.
    measured = folder / (ASSESSMENT if recipe.network.base == "sprites" else SEPARABILITY)
    return last == recipe.run.iterations and measured.is_file()


def open_world(request: TrainingRequest, device: str) -> World:
    """The world of a recipe.

    Raises:
        BadInput: rows for the sprites world, or none for another.
        MissingPrerequisite: weights are missing.
    """
    if request.recipe.network.base == "sprites":
        if request.rows or request.encoded or request.start:
            raise BadInput("the sprites world draws its own data and starts from nothing", cure="leave out --data")
        from refeval.training.testbed.world import SpritesWorld

        return SpritesWorld(request.recipe, request.folder, request.seed)
    if not request.rows:
        raise BadInput(
            f"recipe {request.recipe.name} needs data",
            cure="--data ROWS.jsonl; docs/training.md#rows tells what a row is, refeval data import makes them",
        )
    from refeval.training.wan_world import WanWorld

    return WanWorld(
        request.recipe,
        rows=request.rows,
        seed=request.seed,
        weights=request.place.weights,
        encoded=request.encoded,
        features=request.features,
        start=request.start,
        device=device,
    )


def document_of(request: TrainingRequest) -> TrainingDocument:
    """What the folder will hold of the request.

    Raises:
        BadInput, MissingPrerequisite: a file is missing.
        CorruptFile: the weights to start from are damaged.
    """
    start = open_checkpoint(request.start, request.recipe.network.base).files if request.start else ()
    return TrainingDocument(
        recipe=request.recipe,
        seed=request.seed,
        data=digests(request.rows) | _encoded_digest(request.encoded),
        start=digests(start),
        ablation=request.ablation,
    )


def _encoded_digest(folder: Path | None) -> dict[str, str]:
    """Clips that were encoded before begin in the middle of their cuts, so it matters whether they are used."""
    if folder is None or not (folder / SETTINGS).is_file():
        return {}
    return {"encoded": Mark.of(folder / SETTINGS).sha256}


def _check_device(recipe: Recipe, asked: str) -> None:
    base = recipe.network.base
    pick_device(asked, base, on_cpu=None if base in _SMALL else "hours for one iteration")


def _check_shares(recipe: Recipe, processes: int) -> None:
    micro, whole = recipe.run.micro_batch, recipe.run.global_batch
    if whole % (processes * micro):
        raise BadInput(
            f"recipe {recipe.name}: {whole} samples cannot be shared out",
            details=(("processes", str(processes)), ("run.micro_batch", str(micro)), ("run.global_batch", str(whole))),
            cure="run.global_batch is a multiple of processes times run.micro_batch",
        )
