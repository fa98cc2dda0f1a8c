"""A file of tensors comes back as it was written; a broken or dangerous one gets one error, with the asker's cure."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="weights need torch")
pytest.importorskip("safetensors", reason="weights need safetensors")

from safetensors.torch import load_file, save_file  # noqa: E402

from refeval.errors import BadInput, CorruptFile, MissingPrerequisite, RefevalError  # noqa: E402
from refeval.stored_weights import open_checkpoint, write_safetensors  # noqa: E402
from tests.refeval.weight_files import (  # noqa: E402
    Make,
    State,
    as_folder_with_index,
    as_folder_without_index,
    as_index,
    as_nested_pickle,
    as_old_pickle,
    as_one_shard_of_three,
    as_pickle,
    as_single,
    same,
)

_CURES = {
    "refalign-1.3b": "refeval fetch model refalign-1.3b --weights DIR",
    "nexus": "refeval fetch metrics --weights DIR",
}
_FORMATS = [
    as_single,
    as_index,
    as_folder_with_index,
    as_folder_without_index,
    as_one_shard_of_three,
    as_pickle,
    as_old_pickle,
    as_nested_pickle,
]


def tensors() -> State:
    generator = torch.Generator().manual_seed(0)
    state = {f"layers.{index}.weight": torch.randn(64, 48, generator=generator) for index in range(9)}
    return state | {"out.bias": torch.randn(64, generator=generator).half()}


def read(path: Path) -> State:
    return {key: tensor.read() for key, tensor in open_checkpoint(path, "nexus").tensors.items()}


def refusal(kind: type[RefevalError] | tuple[type[RefevalError], ...], path: Path) -> str:
    """The message, which ends with the cure of whoever asked."""
    texts = set()
    for wanted_by, cure in _CURES.items():
        with pytest.raises(kind) as caught:
            open_checkpoint(path, wanted_by)
        assert cure in (caught.value.cure or "")
        texts.add(str(caught.value).replace(cure, "CURE"))
    (text,) = texts
    return text


@pytest.mark.parametrize("write", _FORMATS)
def test_every_format_gives_the_same_bits(write: Make, tmp_path: Path) -> None:
    path = write(tensors(), tmp_path)
    opened = open_checkpoint(path, "nexus")
    assert opened.path == path
    assert opened.shapes == {key: tuple(tensor.shape) for key, tensor in tensors().items()}
    assert {key: tensor.dtype for key, tensor in opened.tensors.items()} == {k: t.dtype for k, t in tensors().items()}
    assert same(read(path), tensors())


def test_written_files_hold_every_dtype_and_shape(tmp_path: Path) -> None:
    tensors = {
        "flag": torch.tensor([True, False, True]),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "small": torch.tensor([0.5, -2.0]).to(torch.float8_e4m3fn).view(torch.float8_e4m3fn),
    }
    write_safetensors(tmp_path / "all.safetensors", tensors)
    back = load_file(tmp_path / "all.safetensors")
    assert back.keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert back[key].dtype == tensor.dtype
        assert torch.equal(back[key].float(), tensor.float()), key


@pytest.mark.parametrize("write", [as_single, as_pickle, as_old_pickle, as_nested_pickle])
@pytest.mark.parametrize("share", [0.0, 0.00001, 0.001, 0.5, 0.97, 0.9999])
def test_a_file_that_is_cut_short_is_named(write: Make, share: float, tmp_path: Path) -> None:
    path = write(tensors(), tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert refusal(CorruptFile, path).startswith(f"{path}: cut short or not a file of weights")


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html>Not found</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00",
        b"\x80\x02.",
    ],
)
def test_a_file_of_something_else_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    text = refusal((CorruptFile, BadInput), path)
    assert str(path) in text
    assert ("git-lfs pointer" in text) == (b"git-lfs" in content)


def test_missing_shards_are_named(tmp_path: Path) -> None:
    index = as_index(tensors(), tmp_path)
    lost = tmp_path / "Phantom_Wan_14B-00002-of-00003.safetensors"
    lost.unlink()
    assert "1 of 3 files" in refusal(MissingPrerequisite, index)
    index.unlink()
    for path in (tmp_path, tmp_path / "Phantom_Wan_14B-00003-of-00003.safetensors"):
        assert lost.name in refusal(MissingPrerequisite, path)


def test_a_broken_shard_and_a_broken_index_are_named(tmp_path: Path) -> None:
    index = as_index(tensors(), tmp_path)
    shard = tmp_path / "Phantom_Wan_14B-00002-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert refusal(CorruptFile, index).startswith(str(shard))
    for text in ("{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'):
        index.write_text(text)
        assert refusal(CorruptFile, index).startswith(str(index))


def test_an_index_decides_between_two_copies_and_without_one_they_are_refused(tmp_path: Path) -> None:
    index = as_index(tensors(), tmp_path)
    key = "out.bias"
    owner = json.loads(index.read_text())["weight_map"][key]
    other = next(file for file in sorted(tmp_path.glob("*.safetensors")) if file.name != owner)
    save_file(load_file(other) | {key: torch.zeros(64)}, other)
    assert same(read(index), tensors())
    index.unlink()
    with pytest.raises(BadInput, match=r"two files hold a tensor named 'out\.bias'"):
        open_checkpoint(tmp_path, "nexus")


class Payload:
    """Unpickled by an ordinary reader, it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.target, "it ran")


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_with_a_payload_is_refused_and_does_not_run(new_format: bool, tmp_path: Path) -> None:
    target, path = tmp_path / "ran.txt", tmp_path / "model.pth"
    content = {"weight": torch.zeros(2), "extra": Payload(target)}
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    assert "could run code" in refusal(BadInput, path)
    path.write_bytes(pickle.dumps(content["extra"]))
    refusal(BadInput, path)
    assert not target.exists()
    torch.save({"extra": Payload(target)}, path)
    torch.load(path, weights_only=False)
    assert target.exists(), "the payload must be live, or this test proves nothing"


def test_paths_without_weights_say_what_to_do(tmp_path: Path) -> None:
    assert "no weights at" in refusal(MissingPrerequisite, tmp_path / "absent")
    assert "no weights in this folder" in refusal(MissingPrerequisite, tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    assert ".safetensors, .index.json" in refusal(BadInput, tmp_path / "notes.txt")
    (tmp_path / "pipeline" / "transformer").mkdir(parents=True)
    as_single(tensors(), tmp_path / "pipeline" / "transformer")
    with pytest.raises(BadInput, match="transformer"):
        open_checkpoint(tmp_path / "pipeline", "nexus")
    torch.save({"step": 3}, tmp_path / "nothing.pth")
    assert "no tensors" in refusal(BadInput, tmp_path / "nothing.pth")


def test_the_log_of_a_training_beside_the_weights_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "mmengine.logging.history_buffer"
    for parent in ("mmengine", "mmengine.logging", name):
        monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    history = type("HistoryBuffer", (), {"__module__": name})
    monkeypatch.setattr(sys.modules[name], "HistoryBuffer", history, raising=False)
    log = history()
    log.values, log.last = np.arange(3.0), np.float64(2.5)
    path = tmp_path / "detector.pth"
    torch.save({"state_dict": {"w": torch.ones(3)}, "message_hub": {"loss": log}, "meta": {"seed": np.int64(1)}}, path)
    monkeypatch.undo()
    (stored,) = open_checkpoint(path, "nexus").tensors.values()
    assert torch.equal(stored.read(), torch.ones(3))
