"""The loop: samples in, parameters moved, checkpoints kept, and nothing lost however it ends."""

from __future__ import annotations

import contextlib
import math
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from refeval.errors import ExitCode, RefevalError, UnusableClip
from refeval.faults import fault_point
from refeval.signals import no_interruption, stop_received
from refeval.training.batches import collate, draw_noise, drop, placed
from refeval.training.checkpoints import (
    State,
    checkpoint_folder,
    checkpoints,
    last_good,
    read_checkpoint,
    remove_leftovers,
    write_checkpoint,
)
from refeval.training.engine import Engine, clip_gradient, laid_out, load_parameters
from refeval.training.examples import Sample, Source
from refeval.training.feeding import feed, own_positions
from refeval.training.flow import Drawn
from refeval.training.objective import Batch, Losses
from refeval.training.observation import Observer, Observers, StepReport
from refeval.training.optimizers import Average, make_optimizers, rate, set_rate
from refeval.training.parameters import make_trained, network_of
from refeval.training.recipe import Recipe
from refeval.training.worlds import World

# The running mean of the loss forgets half in about 35 iterations; before it has seen as many it says little.
_MEAN_DECAY = 0.98
_MEAN_YOUNG = 35
_SHOWN_CLIPS = 4


class Diverged(RefevalError):
    """The loss is no longer finite, or many times what it was."""

    exit_code = ExitCode.INCOMPLETE


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How samples are read; it changes nothing but the speed.

    Attributes:
        threads: that read.
        ahead: micro-batches that are read ahead.
    """

    threads: int = 2
    ahead: int = 2


class Trainer:
    """One training.

    Args:
        recipe: what is trained, and how.
        world: of the recipe.
        folder: of the training; checkpoints that are there are gone on from.
        seed: of everything random.
        engine: the processes.
        reading: how samples are read.
    """

    def __init__(
        self,
        *,
        recipe: Recipe,
        world: World,
        folder: Path,
        seed: int,
        engine: Engine,
        reading: Reading | None = None,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self._world = world
        self._seed = seed
        self._engine = engine
        self._observer: Observer = Observers()
        self._reading = reading or Reading()
        with engine.together():
            trained = make_trained(recipe, world, seed)
            self._source: Source = world.source()
        engine.take_over(trained)
        self._parameters = engine.parameters()
        self._optimizers = make_optimizers(engine.trained, recipe.optimizer)
        self._average = Average(self._parameters, recipe.optimizer.ema) if recipe.optimizer.ema else None
        self._step = 0
        self._loss_mean = 0.0

    @property
    def step(self) -> int:
        """Iterations done."""
        return self._step

    @property
    def skipped(self) -> dict[str, str]:
        """Key and reason of the rows of this process that were broken."""
        return self._source.skipped()

    def resume(self) -> list[str]:
        """Go on from the last whole checkpoint, if there is one.

        Returns:
            what is wrong with later checkpoints, which are passed over.
        """
        engine, complaints = self._engine, list[str]()
        state: State | None = None
        with engine.together():
            if engine.is_main:
                remove_leftovers(self.folder)
                state, complaints = last_good(self.folder)
        # Who reads a folder over a network may not see yet, or see no longer, what another does.
        step = engine.told(state.step if state else 0)
        with engine.together():
            if step and state is None:
                state = read_checkpoint(checkpoint_folder(self.folder, step))
        if state is not None:
            self._load(state)
        return complaints

    def run(self, observer: Observer | None = None) -> None:
        """Train to the end.

        A signal that stops waits for the end of an iteration, whose checkpoint is kept.

        Args:
            observer: of the main process.

        Raises:
            Diverged: the loss is not finite or explodes; the last checkpoint is good.
            BadInput: more samples are broken than the recipe allows.
            DiskFull: a checkpoint could not be written; those before it are good.
            Stopped: a signal came.
        """
        run, engine = self.recipe.run, self._engine
        self._observer = observer or Observers()
        with engine.together():
            self._encoder = self._world.encoder()
            self._empty_text = self._encoder.text("")
            self._observer.begin(self._step)
        samples = feed(self._source, self._groups(), ahead=self._reading.ahead, threads=self._reading.threads)
        with no_interruption(), contextlib.closing(samples):
            # A stop or a crash may have come between a checkpoint and its clips.
            if self._is_shown() and engine.any(self._observer.lacks_clips(self._step)):
                self._show_clips()
            while self._step < run.iterations:
                self._iterate(samples)
                stopping = engine.any(stop_received() is not None)
                if stopping or self._step % run.save_every == 0 or self._step == run.iterations:
                    self.keep()
                if stopping:
                    break
                if self._is_shown():
                    self._show_clips()

    def keep(self) -> None:
        """Write a checkpoint of now; all processes have to come here."""
        engine = self._engine
        state = State(
            step=self._step,
            loss_mean=self._loss_mean,
            parameters=self._parameters,
            optimizers=self._optimizer_tensors(),
            average=self._average.tensors if self._average else {},
        )
        with engine.together():
            if engine.is_main:
                write_checkpoint(self.folder, state, self.recipe.run.keep, engine.gathering)
            else:
                for tensors in state.parts().values():
                    for _ in engine.gathering(tensors.values()):
                        pass

    def _groups(self) -> Iterator[Sequence[int]]:
        """The positions of every micro-batch still to come."""
        run, engine = self.recipe.run, self._engine
        for step in range(self._step, run.iterations):
            own = own_positions(step, run.global_batch, engine.rank, engine.processes)
            for start in range(0, len(own), run.micro_batch):
                yield own[start : start + run.micro_batch]

    def _iterate(self, samples: Iterator[tuple[Sequence[int], list[Sample]]]) -> None:
        run, engine = self.recipe.run, self._engine
        began = time.perf_counter()
        count = run.global_batch // engine.processes // run.micro_batch
        parts = []
        for index in range(count):
            with engine.together():
                batch, drawn, noise = self._batch(*next(samples))
            with engine.accumulating(last=index == count - 1):
                losses = engine.losses(batch, drawn, noise)
                engine.backward(losses.total / count)
            parts.append(_packed(losses, drawn.gate(self.recipe.objective.gate_power).mean()))
        values = engine.mean(torch.stack(parts).mean(dim=0)).tolist()
        norm = float(clip_gradient(self._parameters.values(), self.recipe.optimizer.clip_norm))
        self._refuse_divergence(values[0], norm)
        share = rate(self.recipe.optimizer, run.iterations, self._step)
        self._move(share)
        self._loss_mean = _MEAN_DECAY * self._loss_mean + (1 - _MEAN_DECAY) * values[0]
        self._step += 1
        fault_point("trained")
        with engine.together():
            if engine.is_main:
                seconds = time.perf_counter() - began
                self._observer.step(self._report(values, norm, share, seconds))

    @torch.no_grad()
    def _batch(self, positions: Sequence[int], samples: list[Sample]) -> tuple[Batch, Drawn, Tensor]:
        """A micro-batch, its noise levels and its noise, on the device."""
        data, flow, device = self.recipe.data, self.recipe.objective.flow, self._engine.device
        examples = self._encoder.examples(samples, with_teacher=self.recipe.needs_teacher)
        dropped = [
            drop(example, self._empty_text, data, self._seed, position)
            for example, position in zip(examples, positions, strict=True)
        ]
        batch = placed(collate(dropped, self._world.text_tokens, self._world.reference_slots), device)
        drawn, noise = draw_noise(flow, batch.latents.shape[1:], self._seed, positions)
        return batch, drawn, noise.to(device)

    def _refuse_divergence(self, loss: float, norm: float) -> None:
        """Parameters have not moved yet: what the last checkpoint holds is untouched by the bad iteration."""
        mean = self._loss_mean / (1 - _MEAN_DECAY**self._step) if self._step else 0.0
        exploded = self._step >= _MEAN_YOUNG and loss > self.recipe.run.explode * mean
        if math.isfinite(loss) and math.isfinite(norm) and not exploded:
            return
        folder = next((folder for _, folder in reversed(checkpoints(self.folder))), None)
        raise Diverged(
            f"the loss of iteration {self._step + 1} is {loss:g}, the norm of its gradient {norm:g}",
            details=(
                ("mean before", f"{mean:g}"),
                ("allowed", f"finite, and at most {self.recipe.run.explode:g} times the mean"),
                ("last good", str(folder) if folder else "none was kept yet"),
            ),
            cure="train in a new folder with a lower optimizer.learning_rate or with optimizer.clip_norm, "
            "or raise run.explode if the loss is meant to jump",
        )

    def _move(self, share: float) -> None:
        set_rate(self._optimizers, share)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update(self._step)

    def _report(self, values: list[float], norm: float, share: float, seconds: float) -> StepReport:
        depth = self.recipe.objective.depth
        total, error, gate, *terms = values
        return StepReport(
            step=self._step,
            total=total,
            error=error,
            positive=tuple(terms[:depth]),
            negative=tuple(terms[depth:]),
            gate=gate,
            gradient_norm=norm,
            learning_rate=share * self.recipe.optimizer.learning_rate,
            samples_per_second=self.recipe.run.global_batch / seconds,
            seconds=seconds,
            memory_bytes=_peak_memory(self._engine.device),
            skipped=len(self.skipped),
        )

    def _is_shown(self) -> bool:
        """Whether clips belong to the iteration that was done last."""
        run, step = self.recipe.run, self._step
        return step > 0 and run.sample_every > 0 and (step % run.sample_every == 0 or step == run.iterations)

    def _show_clips(self) -> None:
        """Clips of the averaged weights where they are kept, else of the weights; by the main process."""
        engine = self._engine
        tensors = engine.gathered(self._average.tensors if self._average else self._parameters)
        with engine.together():
            if engine.is_main:
                network = network_of(self._world, tensors)
                try:
                    drawn = self._world.draw(network, self._world.shown(_SHOWN_CLIPS), seed=self._seed)
                except (UnusableClip, torch.OutOfMemoryError):
                    # A network that cannot draw yet may still learn to, and clips are only looked at.
                    self._observer.note(self._step, "clips/failed", 1.0)
                else:
                    self._observer.clips(self._step, drawn)

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        names = {parameter: name for name, parameter in self._parameters.items()}
        return {
            f"{number}.{names[parameter]}.{key}": value
            for number, optimizer in enumerate(self._optimizers)
            for parameter, values in optimizer.state.items()
            for key, value in values.items()
        }

    def _load(self, state: State) -> None:
        self._step, self._loss_mean = state.step, state.loss_mean
        load_parameters(self._engine.trained, state.parameters)
        if self._average is not None:
            for name, tensor in self._average.tensors.items():
                tensor.copy_(laid_out(state.average[name], tensor))
        for key, value in state.optimizers.items():
            number, rest = key.split(".", 1)
            name, kind = rest.rsplit(".", 1)
            parameter = self._parameters[name]
            self._optimizers[int(number)].state[parameter][kind] = laid_out(value, parameter)


def _packed(losses: Losses, gate: Tensor) -> Tensor:
    first = torch.stack([losses.total.detach(), losses.error.detach(), gate.to(losses.total.device)])
    return torch.cat([first, losses.positive.detach(), losses.negative.detach()])


def _peak_memory(device: torch.device) -> int:
    """Bytes: of the GPU, or of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
