"""Ready clips: kept byte for byte, and never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from refeval.errors import BadInput, MissingClip
from refeval.generators.videos import Videos
from tests.generators.cases import CLIP, make_case, make_job


def test_the_clip_is_handed_on_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "closed-model"
    folder.mkdir()
    clip = folder / "singleobj_1.mp4"
    clip.write_bytes(b"any bytes")
    generator = Videos.from_argument(str(folder))
    case = make_case(tmp_path, ("a/1.png", "Cup"))
    generator.prepare(CLIP)
    assert generator.render(make_job(tmp_path, case)) == clip
    assert clip.read_bytes() == b"any bytes"
    assert generator.inputs(case) == [clip]
    assert generator.expected(CLIP) is None


def test_settings_name_the_folder_and_no_path_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "closed-model"
    folder.mkdir()
    assert Videos.from_argument(f"{folder}/").settings() == {"folder": "closed-model"}
    monkeypatch.chdir(folder)
    assert Videos.from_argument(".").settings() == {"folder": "closed-model"}


def test_a_missing_clip_is_missing_and_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    generator = Videos.from_argument("clips")
    case = make_case(tmp_path, ("a/1.png", "Cup"), case_id="faceobj_15")
    assert generator.inputs(case) == []
    with pytest.raises(MissingClip, match=r"^no clip faceobj_15\.mp4 in folder clips$"):
        generator.render(make_job(tmp_path, case))


def test_a_folder_named_like_a_clip_is_no_clip(tmp_path: Path) -> None:
    (tmp_path / "singleobj_1.mp4").mkdir()
    generator = Videos.from_argument(str(tmp_path))
    with pytest.raises(MissingClip):
        generator.render(make_job(tmp_path, make_case(tmp_path, ("a/1.png", "Cup"))))


@pytest.mark.parametrize(
    ("argument", "message"),
    [(None, "needs a folder"), ("", "needs a folder"), ("absent", "does not exist"), ("file", "is not a folder")],
)
def test_what_is_not_a_folder_is_refused_with_a_cure(
    argument: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    with pytest.raises(BadInput, match=message) as caught:
        Videos.from_argument(argument)
    assert "videos:FOLDER" in str(caught.value)
