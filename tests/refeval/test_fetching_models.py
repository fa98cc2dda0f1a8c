"""Fetching weights: the real hub client against a small hub with the published file names."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from refeval.documents import read_document
from refeval.errors import BadInput, CorruptFile, DiskFull, ExitCode, MissingPrerequisite, RefevalError
from refeval.fetching import Fetched, fetch_model
from refeval.generators.wan.catalogue import MATTING
from refeval.sources import fetchable_names, is_there, sources_of
from refeval.weights import Source, WeightsStore
from tests.guarantees.command import refeval
from tests.guarantees.test_g15_untrusted import _NO_SOCKETS
from tests.refeval.small_hub import COMMIT, Hub, running
from tests.refeval.small_weights import (
    BASE,
    PHANTOM,
    PHANTOM_INDEX,
    REFALIGN,
    SHARDS,
    TEXT,
    VACE,
    VAE,
    published_weights,
    weights_of,
)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("REFEVAL_CACHE", str(tmp_path / "cache"))
    with running(published_weights(), monkeypatch) as server:
        yield server


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return tmp_path / "weights"


def _fetch(
    name: str, folder: Path, *, revision: str | None = None, offline: bool = False
) -> tuple[list[Fetched], list[str]]:
    said: list[str] = []
    return fetch_model(name, folder, revision=revision, offline=offline, tell=said.append), said


def test_a_model_and_its_base_are_fetched_and_recorded(hub: Hub, weights: Path) -> None:
    fetched, (own, base, room) = _fetch("refalign-1.3b", weights)
    assert [(one.repository, one.revision, one.files) for one in fetched] == [(REFALIGN, COMMIT, 2), (BASE, COMMIT, 4)]
    assert f"{REFALIGN} at {COMMIT}: 2 files, 0.1 MB" in own
    assert f"{BASE} at {COMMIT}: 4 files" in base
    assert "0.4 MB to download" in room
    assert f"are free in {weights}" in room
    receipt = read_document(weights / REFALIGN / "fetched.json")
    assert receipt["repository"] == REFALIGN
    assert receipt["revision"] == COMMIT
    for name in ("model.safetensors", "config.json"):
        content = hub.repositories[REFALIGN][name]
        assert (weights / REFALIGN / name).read_bytes() == content
        assert receipt["sha256"][name] == hashlib.sha256(content).hexdigest()
        assert receipt["stat"][name][0] == len(content)
    assert not (weights / BASE / "diffusion_pytorch_model.safetensors").exists(), "another model's transformer"


def test_what_models_share_is_fetched_once(hub: Hub, weights: Path) -> None:
    _fetch("refalign-1.3b", weights)
    hub.fetched.clear()
    _, said = _fetch("phantom-1.3b", weights)
    assert hub.fetched == ["Phantom-Wan-1.3B.pth"]
    assert any(line.startswith(BASE) and "are there" in line for line in said)


@pytest.mark.usefixtures("hub")
def test_models_of_one_repository_share_a_receipt(weights: Path) -> None:
    _fetch("phantom-1.3b", weights)
    with pytest.raises(MissingPrerequisite, match=r"Phantom_Wan_14B\*\.safetensors was not fetched"):
        _fetch("phantom-14b", weights, offline=True)
    _fetch("phantom-14b", weights)
    for name in ("phantom-1.3b", "phantom-14b"):
        fetched, _ = _fetch(name, weights, offline=True)
        assert fetched[0].files == (1 if name == "phantom-1.3b" else 3)


def test_a_repository_that_is_its_own_base_is_asked_once(hub: Hub, weights: Path) -> None:
    (fetched,), _ = _fetch("vace-14b", weights)
    assert fetched.repository == VACE
    assert sorted(hub.fetched) == sorted(hub.repositories[VACE])


def test_later_fetches_stay_at_the_commit_of_the_first(hub: Hub, weights: Path) -> None:
    _fetch("birefnet", weights)
    newer = "b" * 40
    hub.commits.append(newer)
    assert _fetch("birefnet", weights)[0][0].revision == COMMIT
    hub.repositories[MATTING.repository]["birefnet.py"] = b"# newer\n"
    fetched, _ = _fetch("birefnet", weights, revision="main")
    assert fetched[0].revision == newer
    assert (weights / MATTING.repository / "birefnet.py").read_bytes() == b"# newer\n"
    assert _fetch("birefnet", weights, offline=True)[0][0].revision == newer


def test_a_revision_is_that_of_the_models_own_repository(hub: Hub, weights: Path) -> None:
    hub.commits.append("b" * 40)
    fetched, _ = _fetch("refalign-1.3b", weights, revision=COMMIT)
    assert [one.revision for one in fetched] == [COMMIT, "b" * 40]
    with pytest.raises(BadInput, match=f"{REFALIGN} has no revision 'no-such-tag'"):
        _fetch("refalign-1.3b", weights, revision="no-such-tag")


def test_a_connection_that_breaks_goes_on_in_the_middle_of_the_file(
    hub: Hub, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client counts what has come in pieces of 10 MB; this file is smaller.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    hub.cut = {TEXT}
    _fetch("refalign-1.3b", weights)
    assert hub.ranges == [f"bytes={len(weights_of(TEXT)) // 2}-"]
    assert (weights / BASE / TEXT).read_bytes() == weights_of(TEXT)


def test_a_killed_download_keeps_whole_files(hub: Hub, weights: Path) -> None:
    hub.stalled = {VAE}
    command = [sys.executable, "-m", "refeval.cli", "fetch", "model", "refalign-1.3b", "--weights", str(weights)]
    names = (TEXT, "google/umt5-xxl/spiece.model", "google/umt5-xxl/tokenizer.json")
    # A file is whole to the hub's client once its note beside it is written too.
    notes = weights / BASE / ".cache/huggingface/download"
    whole = [weights / BASE / name for name in names] + [notes / f"{name}.metadata" for name in names]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        assert hub.reached.wait(60)
        deadline = time.monotonic() + 60
        while not all(path.is_file() and path.stat().st_size for path in whole) and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
    hub.go_on.set()
    assert not (weights / BASE / VAE).exists()
    assert not (weights / BASE / "fetched.json").exists()
    leftovers = list((weights / BASE).rglob("*.incomplete"))
    assert leftovers
    for path in leftovers:
        os.utime(path, (0, 0))
    hub.stalled, hub.fetched = set(), []
    _fetch("refalign-1.3b", weights)
    assert hub.fetched == [VAE]
    assert not list((weights / BASE).rglob("*.incomplete")), "what a killed download left takes no space"
    _fetch("refalign-1.3b", weights, offline=True)


def test_a_file_that_is_not_what_the_hub_says_is_named(hub: Hub, weights: Path) -> None:
    hub.wrong = {"model.safetensors"}
    with pytest.raises(CorruptFile, match=r"model\.safetensors is not what the hub says it is") as caught:
        _fetch("refalign-1.3b", weights)
    assert "delete it" in str(caught.value)
    assert not (weights / REFALIGN / "fetched.json").exists()
    hub.wrong = set()
    (weights / REFALIGN / "model.safetensors").unlink()
    _fetch("refalign-1.3b", weights)


def test_too_little_space_is_seen_before_anything_is_downloaded(
    hub: Hub, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(weights_of("")) * 6
    asked: list[Path] = []

    def usage(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(free=size + 10**9 - 1)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with pytest.raises(DiskFull, match="too little space") as caught:
        _fetch("refalign-1.3b", weights)
    assert f"{size + 10**9:,} bytes" in str(caught.value)
    assert asked == [weights.parent], "the folder itself is not there yet"
    assert hub.fetched == []
    assert not weights.exists()
    monkeypatch.undo()
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    _fetch("refalign-1.3b", weights)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    _fetch("refalign-1.3b", weights)


def test_offline_verifies_without_a_socket(hub: Hub, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(_NO_SOCKETS)
    env = {"PYTHONPATH": str(tmp_path)}
    command = ("fetch", "model", "refalign-1.3b", "--weights", weights)
    nothing = refeval(*command, "--offline", env=env)
    assert nothing.returncode == ExitCode.USAGE
    assert "holds nothing that was fetched" in nothing.stderr
    assert f"refeval fetch model refalign-1.3b --weights {weights} (without --offline)" in nothing.stderr
    online = refeval(*command, env=env)
    assert "a socket was opened" in online.stderr, "the block itself must work"
    _fetch("refalign-1.3b", weights)
    before = hub.requests
    done = refeval(*command, "--offline", "--json", env=env)
    assert done.returncode == 0, done.stderr
    assert [row["files"] for row in json.loads(done.stdout)["repositories"]] == [2, 4]
    assert hub.requests == before
    (weights / BASE / VAE).write_bytes(b"x" * len(weights_of(VAE)))
    damaged = refeval(*command, "--offline", env=env)
    assert damaged.returncode == ExitCode.CORRUPT
    assert f"{VAE} is not the file that was fetched" in damaged.stderr
    (weights / BASE / VAE).unlink()
    with pytest.raises(MissingPrerequisite, match=f"{VAE} is missing"):
        _fetch("refalign-1.3b", weights, offline=True)


def test_the_command_prints_one_json_object(hub: Hub, weights: Path) -> None:
    done = refeval("fetch", "model", "birefnet", "--json", env={"REFEVAL_WEIGHTS": str(weights)})
    assert done.returncode == 0, done.stderr
    assert COMMIT in done.stderr
    printed = json.loads(done.stdout)
    assert printed["model"] == "birefnet"
    (row,) = printed["repositories"]
    assert row["repository"] == MATTING.repository
    assert row["bytes"] == sum(map(len, hub.repositories[MATTING.repository].values()))
    assert row["folder"] == str(weights / MATTING.repository)


@pytest.mark.usefixtures("hub")
def test_a_damaged_file_is_brought_again(weights: Path) -> None:
    _fetch("birefnet", weights)
    file = weights / MATTING.repository / "model.safetensors"
    file.write_bytes(b"short")
    os.utime(file, (time.time() + 60,) * 2)
    _fetch("birefnet", weights)
    assert file.read_bytes() == weights_of("model.safetensors")


@pytest.mark.usefixtures("hub")
def test_a_damaged_receipt_is_made_anew(weights: Path) -> None:
    _fetch("birefnet", weights)
    receipt = weights / MATTING.repository / "fetched.json"
    whole = receipt.read_bytes()
    receipt.write_bytes(whole[:-30])
    with pytest.raises(CorruptFile, match=r"fetched\.json"):
        _fetch("birefnet", weights, offline=True)
    _fetch("birefnet", weights)
    assert receipt.read_bytes() == whole


def test_a_repository_without_the_wanted_files_is_named(hub: Hub, weights: Path) -> None:
    del hub.repositories[REFALIGN]["model.safetensors"]
    with pytest.raises(BadInput, match=r"has no \*\.safetensors") as caught:
        _fetch("refalign-1.3b", weights)
    assert "demo.mp4" in str(caught.value)
    assert not weights.exists()


def test_a_name_that_leaves_the_folder_is_refused(hub: Hub, weights: Path) -> None:
    hub.repositories[MATTING.repository]["../../x.json"] = b"{}"
    with pytest.raises(BadInput, match="leaves the folder"):
        _fetch("birefnet", weights)
    assert not weights.exists()


def test_an_unreachable_or_refusing_hub_is_no_defect(hub: Hub, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del hub.repositories[REFALIGN]
    with pytest.raises(RefevalError, match=f"the hub does not show {REFALIGN}"):
        _fetch("refalign-1.3b", weights)
    secret = "hf_planted0123456789"
    monkeypatch.setenv("HF_TOKEN", secret)
    monkeypatch.setenv("HF_ENDPOINT", f"http://user:{secret}@127.0.0.1:9")
    with pytest.raises(RefevalError, match=r"the download of .* stopped") as caught:
        _fetch("refalign-1.3b", weights)
    assert secret not in str(caught.value)


@pytest.mark.usefixtures("hub")
def test_what_was_fetched_is_found_and_its_sha256_known(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fetch("phantom-14b", weights)
    store = WeightsStore(weights)
    assert [name for name in fetchable_names() if is_there(store, sources_of(name), name)] == ["phantom-14b"]
    source: Source = sources_of("phantom-14b")[0]
    files = store.find(source, "phantom-14b")
    assert [path.name for path in files] == [*SHARDS, PHANTOM_INDEX]
    assert store.checkpoint(source, "phantom-14b") == weights / PHANTOM / PHANTOM_INDEX
    with monkeypatch.context() as patch:
        patch.setattr("refeval.receipts.file_sha256", lambda _: pytest.fail("a recorded file is not read"))
        digests = store.sha256(files)
    assert digests[f"{PHANTOM}/{SHARDS[0]}"] == hashlib.sha256(weights_of(SHARDS[0])).hexdigest()
    files[0].write_bytes(b"y" * len(weights_of(SHARDS[0])))
    changed = store.sha256(files)
    assert changed[f"{PHANTOM}/{SHARDS[0]}"] == hashlib.sha256(files[0].read_bytes()).hexdigest()
    files[0].unlink()
    with pytest.raises(MissingPrerequisite, match="weights of bytedance-research/Phantom are missing") as caught:
        store.find(source, "phantom-14b")
    assert SHARDS[0] in str(caught.value)
