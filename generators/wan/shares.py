"""Whether heads and tokens of a model can be shared equally by several GPUs. No torch here."""

from __future__ import annotations

from refeval.cases import ClipSpec
from refeval.errors import BadInput
from refeval.generators.wan.catalogue import ModelSpec

# Pixels per side of a token: the VAE's 8 times the patch's 2.
_GRID = 16


def check_shares(spec: ModelSpec, clip: ClipSpec, gpus: int) -> None:
    """Look whether each GPU gets as much of every clip as the others.

    Args:
        spec: the model.
        clip: size of the clips to come.
        gpus: how many work on one clip.

    Raises:
        BadInput: the numbers do not divide; the cure names those that do.
    """
    heads = spec.architecture.heads
    wide, tall = clip.width // _GRID, clip.height // _GRID
    # Each reference adds as many tokens as a frame, and cases differ in how many they have: only what divides a
    # frame divides them all.
    frame = wide * tall
    fitting = [str(count) for count in range(1, heads + 1) if heads % count == 0 and frame % count == 0]
    cure = f"--gpus-per-clip {' or '.join(fitting)}"
    if heads % gpus:
        what = f"model '{spec.name}' has {heads} attention heads, which cannot be shared by {gpus} GPUs"
        raise BadInput(what, cure=cure)
    if frame % gpus:
        what = f"a latent frame of {clip.width}x{clip.height} has {wide} x {tall} = {frame} tokens"
        raise BadInput(f"{what}, which cannot be shared by {gpus} GPUs", cure=f"{cure}, or another size")
