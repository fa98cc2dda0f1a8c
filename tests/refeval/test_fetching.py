"""Fetching: the real hub client against a small hub on the loopback interface."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from refeval.errors import BadInput, CorruptFile, MissingPrerequisite, RefevalError
from refeval.fetching import fetch_suite
from refeval.sprites.suite import write_suite
from refeval.suites import load_suite
from tests.refeval.small_hub import COMMIT, Hub, running

REPOSITORY = "datasets/BestWishYsh/OpenS2V-Eval"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    source = tmp_path / "source"
    write_suite(source)
    files = {str(p.relative_to(source)): p.read_bytes() for p in sorted(source.rglob("*")) if p.is_file()}
    files["Human-Domain_Eval.json"] = files.pop("Sprites_Eval.json")
    files["Results/never.mp4"] = b"not asked for"
    with running({REPOSITORY: files}, monkeypatch) as server:
        yield server


def _fetch(folder: Path, *, offline: bool = False, revision: str | None = None) -> list[str]:
    said: list[str] = []
    fetched = fetch_suite("opens2v-human", folder, revision=revision, offline=offline, tell=said.append)
    assert fetched.revision == COMMIT
    return said


def test_a_suite_is_fetched_recorded_and_verified(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    line, room = _fetch(folder)
    assert "are free in" in room
    files = hub.repositories[REPOSITORY]
    wanted = [name for name in files if not name.startswith("Results/")]
    assert f"{len(wanted)} files" in line
    assert COMMIT in line
    assert sorted(hub.fetched) == sorted(wanted), "the results of other models are not fetched"
    suite = load_suite("opens2v-human", data=folder)
    for case in suite.cases:
        assert case.reference_files()
    receipt = json.loads((folder / "fetched.json").read_text())
    for name in wanted:
        assert receipt["sha256"][name] == hashlib.sha256(files[name]).hexdigest()
    assert _fetch(folder, offline=True) == []
    image = folder / suite.cases[0].references[0].path
    image.write_bytes(image.read_bytes() + b" ")
    with pytest.raises(CorruptFile, match="is not the file that was fetched"):
        _fetch(folder, offline=True)
    image.unlink()
    with pytest.raises(MissingPrerequisite, match="is missing"):
        _fetch(folder, offline=True)


def test_an_interrupted_download_goes_on_where_it_was(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    last = sorted(name for name in hub.repositories[REPOSITORY] if name.startswith("Images/"))[-1]
    hub.refused = {last}
    with pytest.raises(RefevalError, match=r"the download of .* stopped") as caught:
        _fetch(folder)
    assert "run the same command again" in str(caught.value)
    before = list(hub.fetched)
    hub.refused, hub.fetched = set(), []
    _fetch(folder)
    assert last in hub.fetched
    assert not set(before) & set(hub.fetched), "what was there is not downloaded again"


def test_the_built_in_suite_can_be_written_anywhere(tmp_path: Path) -> None:
    fetched = fetch_suite("sprites", tmp_path, revision=None, offline=True, tell=print)
    assert fetched.revision is None
    assert (tmp_path / "Sprites_Eval.json").is_file()


def test_unknown_suites(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Did you mean 'opens2v-open'"):
        fetch_suite("opens2v-opn", tmp_path, revision=None, offline=False, tell=print)
