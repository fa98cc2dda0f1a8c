"""The IR-101 network has the keys of the published checkpoint and the numbers of the official one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="torch is not installed")

from refeval.errors import BadInput  # noqa: E402
from refeval.metrics.networks.curricularface import (  # noqa: E402
    INPUT_SIZE,
    CurricularFace,
    load_curricularface,
    random_curricularface,
)
from tests.metrics.seeded_weights import checksum, seeded_state  # noqa: E402

# float64 runs of the official module move its embedding by 7e-7.
_EMBEDDING = 5e-6
_RELATIVE = 1e-5


@pytest.fixture(scope="module")
def network(facesim_facts: dict[str, Any]) -> CurricularFace:
    """The full network with the weights of the golden."""
    network = CurricularFace().eval()
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    integers = [key for key in shapes if key.endswith("num_batches_tracked")]
    state = seeded_state(shapes, weight_seed=facesim_facts["weight_seed"], integers=integers)
    assert checksum(state) == facesim_facts["weights_sha256"]
    network.load_state_dict(state)
    return network


def _input(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, (INPUT_SIZE, INPUT_SIZE)), np.uint8)[None]


def test_parity_of_keys_and_shapes(goldens: Path) -> None:
    published = json.loads((goldens / "metrics/curricularface_ir101_keys.json").read_text())
    with torch.device("meta"):
        state = CurricularFace().state_dict()
    ours = {
        key: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        for key, tensor in state.items()
    }
    assert ours == published


def test_parity_of_the_number_of_parameters(facesim_facts: dict[str, Any]) -> None:
    with torch.device("meta"):
        network = CurricularFace()
    assert sum(parameter.numel() for parameter in network.parameters()) == facesim_facts["n_params"]


@pytest.mark.parametrize("index", [0, 1, 2])
def test_parity_of_every_stage(index: int, network: CurricularFace, facesim_arrays: Mapping[str, NDArray[Any]]) -> None:
    seen: dict[str, Any] = {}
    layers = {"input_layer": network.input_layer, "output_layer_raw": network.output_layer}
    layers |= {f"body.{i}": network.body[i] for i in (0, 2, 15, 45, 48)}
    hooks = [
        layer.register_forward_hook(lambda _m, _i, output, name=name: seen.update({name: output.numpy().copy()}))
        for name, layer in layers.items()
    ]
    embedding = network.embed(_input(facesim_arrays[f"ir/{index}/input_uint8"]))
    for hook in hooks:
        hook.remove()
    assert np.abs(embedding[0] - facesim_arrays[f"ir/{index}/embedding_normed"]).max() <= _EMBEDDING
    raw = facesim_arrays[f"ir/{index}/output_layer_raw"]
    assert np.abs(seen.pop("output_layer_raw") - raw).max() <= _RELATIVE * np.abs(raw).max()
    for name, output in seen.items():
        part, (mean, deviation, largest) = (
            facesim_arrays[f"ir/{index}/{name}_slice"],
            facesim_arrays[f"ir/{index}/{name}_stats"],
        )
        assert np.abs(output[0, :4, :3, :3] - part).max() <= _RELATIVE * largest, name
        found = [output.mean(dtype=np.float64), output.std(dtype=np.float64), np.abs(output).max()]
        assert found == pytest.approx([mean, deviation, largest], rel=_RELATIVE, abs=_RELATIVE * largest), name


def test_parity_of_cosines_between_faces(
    network: CurricularFace, facesim_facts: dict[str, Any], facesim_arrays: Mapping[str, NDArray[Any]]
) -> None:
    batch = np.concatenate([_input(facesim_arrays[f"ir/{index}/input_uint8"]) for index in range(3)])
    embeddings = network.embed(batch)
    for pair, cosine in facesim_facts["pair_cosines"].items():
        first, second = (embeddings[int(digit)] for digit in pair)
        assert float(first @ second) == pytest.approx(float(cosine), abs=_EMBEDDING)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_checkpoint_is_read_and_another_one_is_refused(tmp_path: Path, network: CurricularFace) -> None:
    torch.save(network.state_dict(), tmp_path / "network.bin")
    loaded = load_curricularface(tmp_path / "network.bin").state_dict()
    assert all(torch.equal(tensor, loaded[key]) for key, tensor in network.state_dict().items())
    torch.save(random_curricularface().state_dict(), tmp_path / "other.bin")
    with pytest.raises(BadInput, match="not the weights of CurricularFace"):
        load_curricularface(tmp_path / "other.bin")
