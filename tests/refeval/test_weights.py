"""The weights folder: what is found there, what a loader gets, and sha256 that are computed once."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from refeval.errors import BadInput, CorruptFile, MissingPrerequisite
from refeval.generators.wan.catalogue import BASES, MATTING, MODELS
from refeval.keys import file_sha256
from refeval.sources import fetchable_names, sources_of
from refeval.training.teacher_catalogue import TEACHERS
from refeval.weights import Source, WeightsStore

SOURCE = Source(repository="owner/name", patterns=("*.safetensors", "*.safetensors.index.json", "config*.json"))
PHANTOM = MODELS["phantom-1.3b"].transformer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("REFEVAL_CACHE", str(folder))
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose bytes were read for their sha256."""
    read: list[Path] = []
    original = file_sha256

    def spy(path: Path) -> str:
        read.append(path)
        return original(path)

    monkeypatch.setattr("refeval.receipts.file_sha256", spy)
    return read


def _put(folder: Path, *names: str, content: bytes = b"weights") -> list[Path]:
    paths = [folder / SOURCE.repository / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (1_700_000_000,) * 2)
    return paths


def test_files_put_there_by_hand_are_found(tmp_path: Path) -> None:
    _put(tmp_path, "model.safetensors", "config.json", "notes.txt", ".cache/x.safetensors", "fetched.json")
    store = WeightsStore(tmp_path)
    assert store.folder_of(SOURCE) == tmp_path / "owner/name"
    assert [path.name for path in store.find(SOURCE, "m")] == ["config.json", "model.safetensors"]
    assert store.checkpoint(SOURCE, "m") == tmp_path / "owner/name/model.safetensors"


def test_linked_folders_are_looked_into(tmp_path: Path) -> None:
    base = sources_of("refalign-1.3b")[1]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "spiece.model").write_bytes(b"t")
    folder = tmp_path / base.repository
    (folder / "google").mkdir(parents=True)
    (folder / "google/umt5-xxl").symlink_to(elsewhere)
    for name in ("models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth"):
        (folder / name).write_bytes(b"w")
    assert len(WeightsStore(tmp_path).find(base, "refalign-1.3b")) == 3


def test_what_is_missing_says_what_where_and_how_to_get_it(tmp_path: Path) -> None:
    assert PHANTOM is not None
    with pytest.raises(MissingPrerequisite, match="weights of bytedance-research/Phantom are missing") as caught:
        WeightsStore(tmp_path).find(PHANTOM, "phantom-1.3b")
    text = str(caught.value)
    assert f"Phantom-Wan-1.3B.pth  in  {tmp_path}/bytedance-research/Phantom" in text
    assert caught.value.cure == f"refeval fetch model phantom-1.3b --weights {tmp_path}"
    with pytest.raises(MissingPrerequisite, match="no weights folder is given") as caught:
        WeightsStore(None).find(PHANTOM, "phantom-1.3b")
    assert "--weights DIR or REFEVAL_WEIGHTS=DIR" in str(caught.value)
    with pytest.raises(MissingPrerequisite, match="no weights folder"):
        WeightsStore(None).folder_of(PHANTOM)


def test_a_set_of_shards_must_be_whole(tmp_path: Path) -> None:
    folder = tmp_path / SOURCE.repository
    store = WeightsStore(tmp_path)
    _put(tmp_path, "model-00000-of-00002.safetensors")
    with pytest.raises(MissingPrerequisite, match="are missing"):
        store.find(SOURCE, "m")
    _put(tmp_path, "model-00001-of-00002.safetensors")
    assert store.checkpoint(SOURCE, "m") == folder, "shards without an index"
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00000-of-00002.safetensors"}}))
    assert store.checkpoint(SOURCE, "m") == index
    index.write_text(json.dumps({"weight_map": {"a": "other.safetensors"}}))
    with pytest.raises(MissingPrerequisite, match=r"are missing") as caught:
        store.find(SOURCE, "m")
    assert "other.safetensors" in str(caught.value)
    index.write_text("[]")
    with pytest.raises(CorruptFile, match="not an index"):
        store.find(SOURCE, "m")


def test_several_sets_of_weights_are_refused(tmp_path: Path) -> None:
    _put(tmp_path, "model.safetensors", "ema.safetensors")
    with pytest.raises(BadInput, match="several sets of weights") as caught:
        WeightsStore(tmp_path).checkpoint(SOURCE, "m")
    assert "ema.safetensors, model.safetensors" in str(caught.value)


def test_of_two_formats_of_the_same_weights_the_safer_is_read(tmp_path: Path) -> None:
    for ending in ("bin", "safetensors"):
        (shard,) = _put(tmp_path, f"model-00001-of-00001.{ending}")
        index = shard.with_name(f"model.{ending}.index.json")
        index.write_text(json.dumps({"weight_map": {"w": shard.name}}))
    source = replace(SOURCE, patterns=("model*",))
    assert WeightsStore(tmp_path).checkpoint(source, "m").name == "model.safetensors.index.json"


def test_a_file_is_read_once_per_machine(tmp_path: Path, reads: list[Path]) -> None:
    (path,) = _put(tmp_path, "model.safetensors")
    expected = {"owner/name/model.safetensors": hashlib.sha256(b"weights").hexdigest()}
    store = WeightsStore(tmp_path)
    assert store.sha256([path]) == store.sha256([path]) == expected
    assert WeightsStore(tmp_path).sha256([path]) == expected
    assert reads == [path]
    path.write_bytes(b"WEIGHTS")
    assert store.sha256([path]) == {"owner/name/model.safetensors": hashlib.sha256(b"WEIGHTS").hexdigest()}
    assert len(reads) == 2


def test_a_file_that_was_just_written_is_not_trusted_to_the_cache(tmp_path: Path) -> None:
    (path,) = _put(tmp_path, "model.safetensors")
    for content in (b"first", b"other"):
        path.write_bytes(content)
        digests = WeightsStore(tmp_path).sha256([path])
        assert list(digests.values()) == [hashlib.sha256(content).hexdigest()]


def test_a_damaged_or_unwritable_cache_costs_only_time(tmp_path: Path, cache: Path, reads: list[Path]) -> None:
    (path,) = _put(tmp_path, "model.safetensors")
    first = WeightsStore(tmp_path).sha256([path])
    (document,) = (cache / "digests").iterdir()
    document.write_text("{")
    assert WeightsStore(tmp_path).sha256([path]) == first
    document.unlink()
    (cache / "digests").rmdir()
    (cache / "digests").write_text("in the way")
    assert WeightsStore(tmp_path).sha256([path]) == first
    assert len(reads) == 3


def test_any_number_may_compute_at_once(tmp_path: Path) -> None:
    paths = _put(tmp_path, *(f"model-{n}.safetensors" for n in range(8)))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: WeightsStore(tmp_path).sha256(paths), range(12)))
    assert all(digests == found[0] for digests in found)


def test_long_computations_are_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = _put(tmp_path, "model.safetensors")
    monkeypatch.setattr("refeval.weights._WORTH_TELLING", 1)
    said: list[str] = []
    WeightsStore(tmp_path).sha256([path], tell=said.append)
    WeightsStore(tmp_path).sha256([path], tell=said.append)
    assert len(said) == 1
    assert said[0].startswith("computing the sha256 of 1 files")


def test_matting_needs_code_and_weights(tmp_path: Path) -> None:
    folder = tmp_path / MATTING.repository
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"w")
    with pytest.raises(MissingPrerequisite) as caught:
        WeightsStore(tmp_path).find(MATTING, "birefnet")
    assert "*.py  in" in str(caught.value)
    assert sources_of("birefnet") == [MATTING]


def test_names_without_weights_and_unknown_names() -> None:
    with pytest.raises(BadInput, match="refalign-tiny has random weights: there is nothing to fetch"):
        sources_of("refalign-tiny")
    with pytest.raises(BadInput, match="Did you mean 'refalign-14b'"):
        sources_of("refalign-14")
    published = [name for name, spec in (MODELS | BASES).items() if not spec.tiny]
    assert fetchable_names() == [*published, "birefnet", *TEACHERS]
    for name, spec in TEACHERS.items():
        assert [source.repository for source in sources_of(name)] == [spec.repository]


def test_no_torch_is_imported() -> None:
    program = "import sys, refeval.sources, refeval.fetching, refeval.doctor; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
