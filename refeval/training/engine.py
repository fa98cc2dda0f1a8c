"""One training on one process or many: who has which samples, how gradients meet, where parameters lie.

Processes are started by ``accelerate launch`` (docs/training.md). Without sharding every process holds everything and
gradients are averaged (DDP); sharded, parameters, gradients and the state of the optimizer are spread over the
processes block by block (FSDP2). accelerate itself shards on GPUs only, so ``fully_shard`` of torch is used as it is,
and tests hold it against one process on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from refeval.training.flow import Drawn
from refeval.training.objective import Batch, Losses
from refeval.training.parameters import Trained

Sharding = Literal["auto", "yes", "no"]


class Engine:
    """The processes of a training, seen from one of them.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: of the forward pass, ``bf16`` or ``fp32``.
        sharding: ``auto``: on several GPUs.
    """

    def __init__(self, *, device: str, precision: str, sharding: Sharding = "auto") -> None:
        cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
        self._precision = precision
        # Sharded modules cast their parameters themselves.
        self._accelerator = Accelerator(cpu=cpu, mixed_precision="bf16" if precision == "bf16" else "no")
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
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if self._precision == "bf16" else None, reduce_dtype=torch.float32
        )
        mesh = init_device_mesh(self.device.type, (self.processes,))
        # Shards are cut from what every process has made alike, so nothing has to be sent around.
        for block in trained.network.blocks:
            fully_shard(block, mesh=mesh, mp_policy=policy)
        self._module = fully_shard(trained.to(self.device), mesh=mesh, mp_policy=policy)

    @property
    def trained(self) -> Trained:
        """The module, without the wrapper of many processes."""
        plain: Trained = self._accelerator.unwrap_model(self._module, keep_fp32_wrapper=False)
        return plain

    def parameters(self) -> dict[str, Tensor]:
        """The parameters by name, as they lie here: whole, or this process's shards."""
        return dict(self.trained.named_parameters())

    def losses(self, batch: Batch, drawn: Drawn, noise: Tensor) -> Losses:
        """One forward pass of this process's samples."""
        found: Losses = self._module(batch, drawn, noise)
        return found

    @contextmanager
    def accumulating(self, *, last: bool) -> Iterator[None]:
        """A backward pass; gradients of the processes meet in the last one of an iteration only."""
        if isinstance(self._module, FSDPModule):
            self._module.set_requires_gradient_sync(last)
            yield
        elif last or self.processes == 1:
            yield
        else:
            with self._module.no_sync():
                yield

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss."""
        self._accelerator.backward(loss)

    def clip(self, most: float) -> Tensor:
        """The norm of the gradient over all processes; it is scaled down to ``most`` where that is above 0."""
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters().values()), most or float("inf"), foreach=False)
        return whole(norm)

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

    def wait(self) -> None:
        """For all processes to come here."""
        self._accelerator.wait_for_everyone()

    def close(self) -> None:
        """Leave the group of processes."""
        if self.processes > 1:
            self._accelerator.end_training()


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be spread over the processes, in full; all of them have to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """A full tensor, spread and placed as ``like`` is; a scalar state stays as it is."""
    if isinstance(like, DTensor) and tensor.shape == like.shape:
        placed: Tensor = distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
        return placed
    return tensor.to(like.device) if tensor.shape == like.shape else tensor


@torch.no_grad()
def load_parameters(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fill parameters from full tensors by name.

    Raises:
        KeyError: one is missing.
    """
    for name, parameter in module.named_parameters():
        parameter.copy_(laid_out(tensors[name], parameter))
