"""One transformer over several processes: each holds a part of the weights and computes a part of the tokens.

The tokens are split by diffusers (Ulysses: every process attends for its share of the heads), the weights by
torch (FSDP2: a block's weights are brought together only while it runs). Nothing of this changes what is computed.

Letters of shapes: B batch, N tokens, D width.
"""

from __future__ import annotations

import os
import socket
import sys
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from diffusers import WanTransformer3DModel
from diffusers.hooks.context_parallel import apply_context_parallel
from diffusers.models._modeling_parallel import ContextParallelConfig, ContextParallelInput, ParallelConfig
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from pydantic import BaseModel
from torch import Tensor
from torch._C._distributed_c10d import Store, TCPStore
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from refeval.cases import ClipSpec
from refeval.errors import BadInput, MissingPrerequisite
from refeval.generators.wan.catalogue import ModelSpec
from refeval.generators.wan.shares import check_shares

# How long a process may take to start.
START_S = 300.0
_START = timedelta(seconds=START_S)
_LOOPBACK = "127.0.0.1"
_TOKENS_BND = ContextParallelInput(split_dim=1, expected_dims=3)
_VACE_BLOCK = {"hidden_states": _TOKENS_BND, "control_hidden_states": _TOKENS_BND}


class Outline(BaseModel):
    """What a process must know of a tensor before it can receive it."""

    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, tensor: Tensor) -> Outline:
        return cls(shape=tuple(tensor.shape), dtype=dtype_name(tensor.dtype))


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a dtype in ``torch``: ``bfloat16``."""
    return str(dtype).removeprefix("torch.")


def dtype_named(name: str) -> torch.dtype:
    """The reverse of :func:`dtype_name`."""
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def check_team(spec: ModelSpec, clip: ClipSpec, attention: str, device: torch.device, size: int) -> None:
    """Look whether a model can be spread over that many processes, before anything is loaded.

    Args:
        spec: the model.
        clip: size of the clips to come.
        attention: the backend asked for.
        device: of the first process.
        size: number of processes.

    Raises:
        BadInput: heads or tokens cannot be shared equally, or the attention cannot be split.
        MissingPrerequisite: there are fewer GPUs.
    """
    check_shares(spec, clip, size)
    if attention != "auto" and not can_be_split(attention):
        cure = "attention=auto, native, _native_cudnn, flash or sage"
        raise BadInput(f"setting 'attention' is '{attention}', which cannot be split over GPUs", cure=cure)
    if device.type == "cuda" and torch.cuda.device_count() < size:
        raise MissingPrerequisite(
            f"--gpus-per-clip {size} needs {size} GPUs and this process sees {torch.cuda.device_count()}",
            cure="a smaller --gpus-per-clip, or fewer workers",
        )


def can_be_split(attention: str) -> bool:
    """Whether diffusers can spread an attention backend over processes."""
    return attention in _AttentionBackendRegistry._supports_context_parallel


def open_store(size: int) -> TCPStore:
    """Open the store that processes find each other by, at a free port; nobody outside this machine can reach it."""
    # gloo would look for a network interface by the machine's name.
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    server = socket.create_server((_LOOPBACK, 0))
    port = server.getsockname()[1]
    return TCPStore(_LOOPBACK, port, size, True, _START, wait_for_workers=False, master_listen_fd=server.detach())


def find_store(port: int, size: int) -> TCPStore:
    """Find the store that the first process has opened."""
    return TCPStore(_LOOPBACK, port, size, False, _START, wait_for_workers=False)


def join_group(device: torch.device, store: Store, rank: int, size: int) -> None:
    """Meet the other processes: gloo on CPU, NCCL on GPUs. Returns when all are there."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)


def spread(transformer: Any, device: torch.device) -> None:
    """Split a transformer's tokens over the processes of the group, and its weights.

    Args:
        transformer: one of the three, on the CPU, the same in every process; its forward then is for all of them to
            call together, with the same inputs, and gives each of them the whole result.
        device: of this process; where its part of the weights goes.
    """
    rank, size = dist.get_rank(), dist.get_world_size()
    tokens = ContextParallelConfig(ulysses_degree=size)
    config = ParallelConfig(context_parallel_config=tokens)
    mesh = init_device_mesh(device.type, tokens.mesh_shape, mesh_dim_names=tokens.mesh_dim_names)
    # As transformer.enable_parallelism does; that one fails without an accelerator.
    config.setup(rank, size, device, mesh=mesh)
    for module in transformer.modules():
        if hasattr(module, "processor"):
            module.processor._parallel_config = config
    apply_context_parallel(transformer, tokens, _plan(transformer))
    # What is trained must be of one dtype in every block; norms and modulation stay float32.
    transformer.requires_grad_(False)
    for block in (*transformer.blocks, *getattr(transformer, "vace_blocks", ())):
        fully_shard(block, mesh=mesh["ulysses"])
    fully_shard(transformer, mesh=mesh["ulysses"], reshard_after_forward=True)


def _plan(transformer: Any) -> dict[str, Any]:
    # The entry of the whole model is about timesteps of each token, which these models do not have.
    plan = {name: part for name, part in WanTransformer3DModel._cp_plan.items() if name}
    if hasattr(transformer, "vace_blocks"):
        plan["vace_blocks.0"] = _VACE_BLOCK
    return plan


def send(tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Send tensors from the first process to the others, which :meth:`receive` them by their outlines, in order.

    Returns:
        The tensors on the device, dense.
    """
    sent = {name: tensor.to(device).contiguous() for name, tensor in tensors.items()}
    for tensor in sent.values():
        dist.broadcast(tensor, src=0)
    return sent


def receive(outlines: dict[str, Outline], device: torch.device) -> dict[str, Tensor]:
    """Receive what the first process sends."""
    received = {}
    for name, outline in outlines.items():
        tensor = torch.empty(outline.shape, dtype=dtype_named(outline.dtype), device=device)
        dist.broadcast(tensor, src=0)
        received[name] = tensor
    return received
