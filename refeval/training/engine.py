"""One training on one process or many: who has which samples, how gradients meet, where parameters lie.

Processes are started by ``accelerate launch`` or ``torchrun`` (docs/training.md). Without sharding every process holds
everything and gradients are averaged (DDP); sharded, parameters, gradients and the state of the optimizer are spread
over the processes block by block (FSDP2). accelerate itself shards on GPUs only, so ``fully_shard`` of torch is used as
it is, and tests hold it against one process on a CPU.

Parameters are float32 wherever they lie; with ``bf16`` the forward pass runs under autocast, sharded or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs, broadcast
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from refeval.errors import BadInput, ExitCode, RefevalError
from refeval.signals import Stopped
from refeval.training.flow import Drawn
from refeval.training.objective import Batch, Losses
from refeval.training.parameters import Trained

Sharding = Literal["auto", "yes", "no"]

_KNOWN = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)

# The main process may write a large checkpoint, or draw clips, for an hour or two while the others wait for it. One
# that is gone is not waited for: the launcher ends the others.
_PATIENCE = timedelta(hours=6)

# Whoever drops a group last waits for its threads. The wrapper of a module would do so with the interpreter's lock in
# hand, and a thread of gloo that still has to give a tensor back would wait for that lock: the process would never end
# (seen with torch 2.13). So groups are kept until the interpreter goes.
_LEFT: list[Any] = []


class Abandoned(RefevalError):
    """Another process of the training has failed, and said why, or is gone."""

    exit_code = ExitCode.INCOMPLETE


class OutOfMemory(RefevalError):
    """The GPU cannot hold what a training needs."""

    exit_code = ExitCode.INCOMPLETE


class Engine:
    """The processes of a training, seen from one of them.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``; one that is there.
        precision: of the forward pass, ``bf16`` or ``fp32``.
        sharding: ``auto``: on several GPUs.

    Raises:
        BadInput: accelerate is configured to shard by itself.
    """

    def __init__(self, *, device: str, precision: str, sharding: Sharding = "auto") -> None:
        cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
        # Autocast is this class's own: accelerate's would keep a copy of every weight until the pass has ended.
        patience = InitProcessGroupKwargs(timeout=_PATIENCE)
        self._accelerator = Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[patience])
        self._half = precision == "bf16"
        if self._accelerator.distributed_type not in _KNOWN:
            raise BadInput(
                f"accelerate is configured for {self._accelerator.distributed_type.value}",
                details=(("known", "one process, or several that hold everything; --sharding spreads parameters"),),
                cure="accelerate launch --multi_gpu -m refeval.cli train ..., without DeepSpeed or FSDP",
            )
        self.device: torch.device = self._accelerator.device
        self.processes: int = self._accelerator.num_processes
        self.rank: int = self._accelerator.process_index
        self.sharded = self.processes > 1 and (sharding == "yes" or (sharding == "auto" and not cpu))
        self._module: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def take_over(self, trained: Trained) -> None:
        """Move the module to the device and get it ready; to be called once, before the optimizers are made."""
        if not self.sharded:
            self._module = self._accelerator.prepare_model(trained.to(self.device))
            return
        mesh = init_device_mesh(self.device.type, (self.processes,))
        # Shards are cut from what every process has made alike, so nothing has to be sent around; block by block, so
        # that no GPU ever holds everything.
        for block in trained.network.blocks:
            fully_shard(block, mesh=mesh)
        self._module = fully_shard(trained.to(self.device), mesh=mesh)

    @property
    def trained(self) -> Trained:
        """The module, without the wrapper of many processes."""
        plain: Trained = self._accelerator.unwrap_model(self._module)
        return plain

    def parameters(self) -> dict[str, Tensor]:
        """The parameters by name, as they lie here: whole, or this process's shards."""
        return dict(self.trained.named_parameters())

    def losses(self, batch: Batch, drawn: Drawn, noise: Tensor) -> Losses:
        """One forward pass of this process's samples."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half, cache_enabled=False):
            error, positive, negative, total = self._module(batch, drawn, noise)
        return Losses(error=error, positive=positive, negative=negative, total=total)

    @contextmanager
    def accumulating(self, *, last: bool) -> Iterator[None]:
        """A forward and a backward pass of an iteration.

        Without sharding the gradients of the processes meet in the last one only. Sharded they meet in each: until then
        every process would hold the gradient of all parameters.
        """
        if last or self.sharded or self.processes == 1:
            yield
        else:
            with self._module.no_sync():
                yield

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss."""
        # Not accelerate's: it divides by a number of its own environment.
        torch.autograd.backward(loss)

    def gathered(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors on the CPU, in the main process; the others help, and get none. All of them have to ask."""
        found = {}
        for name, tensor in tensors.items():
            full = whole(tensor.detach())
            if self.is_main:
                found[name] = full.cpu()
        return found

    def gathering(self, tensors: Iterable[Tensor]) -> Iterator[Tensor]:
        """Whole tensors on the CPU, one after the other, so that no process ever holds more than one.

        All processes have to go through it within :meth:`together`, and only the main one may fail between two tensors.

        Raises:
            Abandoned: the main process has failed.
        """
        for tensor in tensors:
            if self.any(False):
                raise self._abandoned()
            full = whole(tensor.detach())
            yield full.cpu() if self.is_main else full

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes."""
        if self.processes == 1:
            return values
        found: Tensor = self._accelerator.reduce(values, reduction="mean")
        return found

    def any(self, flag: bool) -> bool:
        """Whether it holds in any of the processes; all of them have to ask."""
        if self.processes == 1:
            return flag
        return bool(self._accelerator.reduce(torch.tensor(float(flag), device=self.device), reduction="sum") > 0)

    def told(self, number: int) -> int:
        """The main process's number; all of them have to ask."""
        if self.processes == 1:
            return number
        return int(broadcast(torch.tensor(number, device=self.device)))

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block that may fail in one process: it then fails in all, and none waits for one that is gone.

        Raises:
            Abandoned: it has failed in another process only.
        """
        failed: Exception | None = None
        try:
            yield
        except (Abandoned, torch.distributed.DistError):
            # The other has asked already, or is gone.
            raise
        except Exception as error:  # noqa: BLE001 - the others would wait for whatever fails here
            failed = error
        if self.any(failed is not None):
            raise failed or self._abandoned()

    @contextmanager
    def connected(self) -> Iterator[None]:
        """The life of a training, which ends with :meth:`close`.

        Where another process is suddenly gone, that is said, and no defect is blamed. A process that fails alone does
        not close: NCCL would have it wait for the others, which wait for it until they see that it has ended.

        Raises:
            Abandoned: the connection to another process is broken.
            OutOfMemory: of the GPU.
        """
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(
                "the GPU has not enough memory",
                details=(("asked for", str(error).split(". ")[0]),),
                cure="--set run.checkpointing=true, a smaller run.micro_batch, or --sharding yes on more GPUs; "
                "docs/training.md#memory tells what is needed",
            ) from error
        except RuntimeError as error:
            # gloo has no error of its own.
            if self.processes > 1 and (
                isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error)
            ):
                self.close()
                raise self._abandoned() from error
            raise
        except (RefevalError, Stopped):
            self.close()
            raise
        self.close()

    def _abandoned(self) -> Abandoned:
        return Abandoned(
            f"process {self.rank} of the training ends because another has failed or is gone",
            cure="see what that one says: it may stand above or below this",
        )

    def close(self) -> None:
        """Leave the group of processes."""
        if self.processes > 1:
            _LEFT.append(torch.distributed.group.WORLD)
            self._accelerator.end_training()


def clip_gradient(parameters: Iterable[Tensor], most: float) -> Tensor:
    """The norm of the gradient over all processes; it is scaled down to ``most`` where that is above 0."""
    moved = [parameter for parameter in parameters if parameter.grad is not None]
    norm = get_total_norm([parameter.grad for parameter in moved if parameter.grad is not None])
    if most:
        clip_grads_with_norm_(moved, most, norm)
    return whole(norm)


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be spread over the processes, in full; all of them have to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_parts(tensors: Iterable[Tensor]) -> list[Tensor]:
    """What of each tensor lies in this process, detached; it shares its memory."""
    return [
        tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in (one.detach() for one in tensors)
    ]


def laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """A copy of a full tensor, spread and placed as ``like`` is; a scalar state stays as it is.

    Args:
        tensor: on the CPU; the same in all processes.
        like: a parameter.
    """
    if tensor.shape != like.shape:
        return tensor.clone()
    if isinstance(like, DTensor):
        on_device = tensor.to(like.device)
        placed: Tensor = distribute_tensor(on_device, like.device_mesh, like.placements, src_data_rank=None)
        return placed.clone()
    return tensor.to(like.device, copy=True)


@torch.no_grad()
def load_parameters(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fill parameters from full tensors by name.

    Raises:
        KeyError: one is missing.
    """
    for name, parameter in module.named_parameters():
        parameter.copy_(laid_out(tensors[name], parameter))
