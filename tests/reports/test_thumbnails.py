"""Thumbnails of the references in the run folder."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from refeval.thumbnails import THUMBNAIL_SIDE, keep_references, thumbnail_path
from tests.reports.small_run import small_run, small_suite


def test_every_reference_becomes_a_small_picture_on_white(tmp_path: Path) -> None:
    suite = small_suite(tmp_path / "data")
    run = small_run(tmp_path / "run", suite, rendered=[])
    for case in suite.cases:
        for number in range(1, len(case.references) + 1):
            with Image.open(thumbnail_path(run, case.id, number)) as image:
                assert (image.format, image.mode, max(image.size)) == ("JPEG", "RGB", THUMBNAIL_SIDE)
                pixel = image.getpixel((10, 10))
                assert isinstance(pixel, tuple) and min(pixel) > 245, "the transparent corner is white"


def test_the_camera_orientation_is_applied(tmp_path: Path) -> None:
    suite = small_suite(tmp_path / "data", {"singleobj_1": ("dog",)})
    file = suite.cases[0].reference_files()[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (400, 200)).save(file, "JPEG", exif=exif)
    run = small_run(tmp_path / "run", suite, rendered=[])
    with Image.open(thumbnail_path(run, "singleobj_1", 1)) as image:
        assert image.size == (128, 256)


def test_absent_and_unreadable_references_are_passed_over(tmp_path: Path) -> None:
    cases = {"singleobj_1": ("dog",), "singleobj_2": ("cat",), "singleobj_3": ("hat",)}
    suite = small_suite(tmp_path / "data", cases)
    suite["singleobj_1"].reference_files()[0].unlink()
    suite["singleobj_2"].reference_files()[0].write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    run = small_run(tmp_path / "run", suite, rendered=[])
    assert [path.name for path in (run.folder / "references").iterdir()] == ["singleobj_3_1.jpg"]
    keep_references(run, small_suite(None, cases).cases)


def test_a_thumbnail_that_is_there_stays(tmp_path: Path) -> None:
    suite = small_suite(tmp_path / "data", {"singleobj_1": ("dog",)})
    run = small_run(tmp_path / "run", suite, rendered=[])
    thumbnail_path(run, "singleobj_1", 1).write_bytes(b"kept")
    keep_references(run, suite.cases)
    assert thumbnail_path(run, "singleobj_1", 1).read_bytes() == b"kept"
