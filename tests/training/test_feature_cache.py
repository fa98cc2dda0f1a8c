"""Features on disk: the same whether they were read or made, whole or made anew, and shared by any number."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from refeval.errors import BadInput
from refeval.training.feature_cache import CachedTeacher
from refeval.training.teachers import Teacher, VisionTeacher, combine, load_teacher, tiny_teacher
from tests.training.small_teachers import DINO, pictures, write_dinov3


class Counted(Teacher):
    """A teacher that notes how many pictures it was shown; ``scale`` changes its features, not what it says it is."""

    def __init__(self, teacher: Teacher, scale: float = 1.0) -> None:
        self.teacher, self.scale = teacher, scale
        self.width, self.side = teacher.width, teacher.side
        self.shown: list[int] = []

    @property
    def device(self) -> torch.device:
        return self.teacher.device

    @property
    def identity(self) -> dict[str, Any]:
        return self.teacher.identity

    def _features(self, pictures_n3hw: Tensor) -> Tensor:
        self.shown.append(len(pictures_n3hw))
        return self.scale * self.teacher.features(pictures_n3hw)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_read_features_are_those_that_were_made(dtype: torch.dtype, tmp_path: Path) -> None:
    teacher = Counted(tiny_teacher())
    cached = CachedTeacher(teacher, tmp_path, dtype=dtype)
    made = cached.features(pictures(3))
    assert torch.equal(made, tiny_teacher().features(pictures(3)).to(dtype).float())
    read = CachedTeacher(teacher, tmp_path, dtype=dtype).features(pictures(3))
    assert torch.equal(read, made)
    assert read.dtype == torch.float32
    assert teacher.shown == [3]
    assert not read.is_inference()
    assert all(path.parent.name == path.name[:2] and path.parent.parent == tmp_path for path in files(tmp_path))
    assert len(files(tmp_path)) == 3


def test_only_what_is_not_there_is_computed_and_all_stands_at_its_place(tmp_path: Path) -> None:
    teacher = Counted(tiny_teacher())
    cached = CachedTeacher(teacher, tmp_path, dtype=torch.float32)
    given = pictures(4)
    with torch.inference_mode():
        cached.features(given[[1, 3]])
    assert (cached.hits, cached.misses) == (0, 2)
    found = cached.features(given[[3, 0, 1, 0, 2]])
    assert teacher.shown == [2, 2], "a picture that is there twice is computed once"
    assert (cached.hits, cached.misses, cached.damaged) == (2, 4, 0)
    torch.testing.assert_close(found, teacher.teacher.features(given)[[3, 0, 1, 0, 2]])


def test_another_teacher_picture_or_dtype_is_another_entry(tmp_path: Path) -> None:
    """One folder for all of them: none ever reads what belongs to another."""
    write_dinov3(tmp_path / "model")
    folder = tmp_path / "cache"
    named = replace(DINO, name="another")

    def loaded(spec: Any = DINO, dtype: torch.dtype = torch.float32) -> VisionTeacher:
        return load_teacher(spec, tmp_path / "model", dtype=dtype)

    two = [tiny_teacher(), tiny_teacher(seed=1)]
    variants = [
        loaded(),
        loaded(dtype=torch.bfloat16),
        loaded(named),
        loaded(replace(DINO, layer=2)),
        loaded(replace(DINO, final_norm=False)),
        *two,
        tiny_teacher(family="siglip2"),
        combine(two),
        combine(two[::-1]),
    ]
    caches = [CachedTeacher(teacher, folder, dtype=torch.float32) for teacher in variants]
    caches += [CachedTeacher(loaded(), folder, dtype=dtype) for dtype in (torch.float16, torch.bfloat16)]
    square = pictures(1, 32, 32)
    given = [square, 255 - square, square.reshape(1, 3, 16, 64), square.reshape(1, 3, 64, 16)]
    for cached in caches:
        for picture in given:
            cached.features(picture)
        assert (cached.hits, cached.misses) == (0, 4)
    assert len(files(folder)) == 4 * len(caches)
    again = CachedTeacher(loaded(), folder, dtype=torch.float32)
    assert torch.equal(again.features(square), caches[0].features(square))
    assert (again.hits, again.misses) == (1, 0), "the same weights, loaded again"


def test_a_damaged_file_is_made_anew_and_counted(tmp_path: Path) -> None:
    """Cut short anywhere, or with one bit turned anywhere in header or numbers."""
    fresh = CachedTeacher(tiny_teacher(8), tmp_path, dtype=torch.float16)
    expected = fresh.features(pictures(1, 16, 16))
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    cached = CachedTeacher(Counted(tiny_teacher(8), scale=2), tmp_path, dtype=torch.float16)
    broken = [whole[:length] for length in (0, 5, 60, len(whole) - 1)]
    broken += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    remade = 0
    for content in broken:
        path.write_bytes(content)
        found = cached.features(pictures(1, 16, 16))
        if torch.equal(found, expected):
            # The header says which library the file is for; that is all that nothing depends on.
            assert path.read_bytes() == content
        else:
            remade += 1
            assert torch.equal(found, 2 * expected)
            assert path.read_bytes() != content
    assert cached.damaged == cached.misses == remade
    assert cached.hits == len(broken) - remade == len("format") + len("pt")


def test_features_that_do_not_fit_are_not_kept(tmp_path: Path) -> None:
    """Residual streams hold numbers beyond 65504, the largest of float16."""
    loud = Counted(tiny_teacher(), scale=1e6)
    with pytest.raises(BadInput, match=r"infinite as torch\.float16") as caught:
        CachedTeacher(loud, tmp_path, dtype=torch.float16).features(pictures())
    assert "bfloat16" in str(caught.value.cure)
    assert not files(tmp_path)
    kept = CachedTeacher(loud, tmp_path, dtype=torch.bfloat16).features(pictures())
    assert kept.isfinite().all()
    with pytest.raises(ValueError, match="float16, bfloat16 or float32"):
        CachedTeacher(loud, tmp_path, dtype=torch.float64)
    with pytest.raises(ValueError, match="uint8"):
        CachedTeacher(loud, tmp_path, dtype=torch.bfloat16).features(pictures().to(torch.int8))


_CHILD = """
import resource, sys
from pathlib import Path
import torch
from refeval.training.feature_cache import CachedTeacher
from refeval.training.teachers import tiny_teacher
from tests.training.small_teachers import pictures

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
cached = CachedTeacher(tiny_teacher(), folder, dtype=torch.float16)
print("ready", flush=True)
sys.stdin.readline()
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    # The second is larger than the limit.
    for height, width in ((16, 16), (160, 160), (32, 32)):
        for picture in pictures(8, height, width):
            cached.features(picture[None])
except Exception as error:
    print(type(error).__name__, str(error).replace("\\n", " "))
print(cached.hits, cached.misses, cached.damaged)
"""


def children(folder: Path, count: int, limit: int = 0) -> list[list[str]]:
    """Lines of child processes that use one cache at the same time."""
    command = [sys.executable, "-c", _CHILD, str(folder), str(limit)]
    started = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        for _ in range(count)
    ]
    for child in started:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    # Loading torch takes far longer than the work: they begin it together.
    for child in started:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    return [child.communicate(timeout=300)[0].splitlines() for child in started]


def test_processes_share_a_folder(tmp_path: Path) -> None:
    ends = [list(map(int, lines[-1].split())) for lines in children(tmp_path, 3)]
    assert all(hits + misses == 24 and damaged == 0 for hits, misses, damaged in ends)
    assert len(files(tmp_path)) == 24, "no second copy, nothing left of a temporary file"
    late = CachedTeacher(tiny_teacher(), tmp_path, dtype=torch.float16)
    for picture in pictures(8, 32, 32):
        late.features(picture[None])
    assert (late.hits, late.misses, late.damaged) == (8, 0, 0)


def test_a_full_disk_is_named_and_what_was_written_stays(tmp_path: Path) -> None:
    ((error, counts),) = children(tmp_path, 1, limit=4096)
    assert error.startswith("DiskFull no space to write")
    assert counts == "0 8 0"
    assert len(files(tmp_path)) == 8
    ((counts,),) = children(tmp_path, 1)
    assert counts == "8 16 0"
