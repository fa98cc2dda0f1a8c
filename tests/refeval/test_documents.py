"""Documents: whole or absent, the same bytes for the same content, damage is found."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refeval.documents import encode, read_document, write_bytes, write_document, write_file
from refeval.errors import CorruptFile, DiskFull

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
_CONTENTS = st.dictionaries(st.text().filter(lambda key: key != "digest"), _VALUES)


@given(content=_CONTENTS)
def test_what_is_written_is_read(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("d") / "a.json"
    write_document(path, content)
    assert read_document(path) == content
    first = path.read_bytes()
    write_document(path, dict(reversed(content.items())))
    assert path.read_bytes() == first


@given(data=st.data())
def test_any_changed_byte_is_found(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("d") / "a.json"
    content = {"case": "faceobj_14", "value": 0.35025984048843384}
    write_document(path, content)
    raw = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw)
    # White space between tokens carries nothing: it may change, the content may not.
    with contextlib.suppress(CorruptFile):
        assert read_document(path) == content


def test_not_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_document(tmp_path / "a.json", {"value": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half of the ne")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_file(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_and_folder_are_synced_around_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (order.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"), sync(fd))
    )
    monkeypatch.setattr(Path, "replace", lambda *paths: (order.append("rename"), replace(*paths)))
    write_bytes(tmp_path / "a", b"x")
    assert order == ["file", "rename", "folder"]


def test_an_exclusive_write_never_replaces(tmp_path: Path) -> None:
    write_document(tmp_path / "a", {"first": 1}, exclusive=True)
    with pytest.raises(FileExistsError):
        write_document(tmp_path / "a", {"second": 2}, exclusive=True)
    assert read_document(tmp_path / "a") == {"first": 1}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named(number: int, tmp_path: Path) -> None:
    def fail(_: BinaryIO) -> None:
        raise OSError(number, "no")

    with pytest.raises(DiskFull, match="no space to write a") as caught:
        write_file(tmp_path / "a", fail)
    assert "free" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_too_full_for_a_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no")

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(DiskFull, match="no space to write a") as caught:
        write_bytes(tmp_path / "new/newer/a", b"x")
    assert "free" in str(caught.value)


def test_encoding_is_plain() -> None:
    assert json.loads(encode({"b": 1, "a": "ü"})) == {"a": "ü", "b": 1}
    assert encode({"b": 1, "a": "ü"}) == '{\n "a": "ü",\n "b": 1\n}\n'.encode()
