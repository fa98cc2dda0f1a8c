"""Sessions of onnxruntime on the device that was asked for, and on no other.

onnxruntime goes on with the CPU, with no more than a warning, where CUDA cannot be used; a run would then take
hours instead of minutes, and nobody would know why. Here that is an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from refeval.errors import BadInput, MissingPrerequisite

INSTALL_CURE = "pip install 'refeval[face]'"
_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
# TF32 would move landmarks; the search of cuDNN would take other kernels, with other last bits, in another run.
_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
_GPU_CURE = (
    "pip uninstall onnxruntime, then pip install onnxruntime-gpu of the CUDA version that torch has; or --device cpu"
)


def import_onnxruntime() -> Any:
    """The package.

    Raises:
        MissingPrerequisite: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPrerequisite(f"onnxruntime cannot be imported: {error}", cure=INSTALL_CURE) from error
    return onnxruntime


def open_session(model: Path | bytes, device: str) -> Any:
    """Load a network.

    Args:
        model: an ``.onnx`` file, or its content.
        device: ``cpu`` or ``cuda``.

    Raises:
        MissingPrerequisite: onnxruntime is not installed, or works on another device than the one asked for.
        BadInput: not an ONNX network.
    """
    runtime = import_onnxruntime()
    wanted = _CUDA if device == "cuda" else _CPU
    if wanted not in runtime.get_available_providers():
        raise _wrong_provider(wanted, runtime.get_available_providers())
    if wanted == _CUDA:
        # Finds the CUDA libraries that came with torch.
        runtime.preload_dlls()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    providers: list[Any] = [_CPU] if wanted == _CPU else [(_CUDA, _CUDA_OPTIONS), _CPU]
    state = runtime.capi.onnxruntime_pybind11_state
    try:
        content = model if isinstance(model, bytes) else str(model)
        session = runtime.InferenceSession(content, sess_options=options, providers=providers)
    except (state.InvalidProtobuf, state.InvalidGraph, state.Fail, state.NoSuchFile) as error:
        name = "the network" if isinstance(model, bytes) else str(model)
        raise BadInput(f"{name}: not an ONNX network that can be loaded", details=(("reason", str(error)),)) from error
    if session.get_providers()[0] != wanted:
        raise _wrong_provider(wanted, session.get_providers())
    # A failure on the GPU in the middle of a run must not be repeated on the CPU either.
    session.disable_fallback()
    return session


def _wrong_provider(wanted: str, there: list[str]) -> MissingPrerequisite:
    return MissingPrerequisite(
        f"onnxruntime does not offer {wanted}",
        details=(("active", ", ".join(there)),),
        cure=_GPU_CURE if wanted == _CUDA else INSTALL_CURE,
    )
