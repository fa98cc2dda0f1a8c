"""The official negative prompt is found by its digest and never shipped; prompts are cleaned as officially."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from hypothesis import given
from hypothesis import strategies as st

from refeval.generators.wan.negative_prompt import (
    OFFICIAL_CHARACTERS,
    OFFICIAL_SHA256,
    OWN_TEXT,
    NegativePrompt,
    Wording,
    find_negative_prompt,
)
from refeval.generators.wan.prompts import clean_prompt

_REPOSITORY = Path(__file__).resolve().parents[2]
# Stands in for the official text: as long, and with characters beyond ASCII.
_TEXT = "".join(chr(0x4E00 + 7 * i) for i in range(OFFICIAL_CHARACTERS))
_LONGER = _TEXT + ", more of it"
_DIGEST = hashlib.sha256(_TEXT.encode()).hexdigest()


def _find(*folders: Path, given: str | None = None, extended: bool = False) -> NegativePrompt:
    return find_negative_prompt(folders, given, extended=extended, expected=_DIGEST)


def _halves(text: str) -> tuple[str, str]:
    return text[:60], text[60:]


_FIRST, _SECOND = _halves(_TEXT)
_FILES = {
    "constant.py": f"config = {{}}\nconfig['sample_neg_prompt'] = {_TEXT!r}\n",
    "implicit.py": f"X = ({_FIRST!r}\n  {_SECOND!r})\n",
    "sum.py": f"def f(a={_FIRST!r} + {_SECOND[:9]!r} + {_SECOND[9:]!r}): pass\n",
    "in_a_sum.py": f"x = prompt + g({_TEXT!r}) + 'tail'\n",
    "gbk.py": f"# -*- coding: gbk -*-\nX = {_TEXT!r}\n",
    "deep.json": json.dumps({"a": [1, None, {"b": ["x", _TEXT]}]}),
    "plain.txt": _TEXT + "\n",
    "windows.txt": "\ufeff" + _TEXT + "\r\n",
}


@pytest.mark.parametrize("name", _FILES)
def test_found_in_each_kind_of_file(tmp_path: Path, name: str) -> None:
    encoding = "gbk" if name.startswith("gbk") else "utf-8"
    (tmp_path / name).write_text(_FILES[name], encoding=encoding, errors="strict", newline="")
    found = _find(tmp_path)
    assert (found.text, found.wording, found.sha256) == (_TEXT, Wording.OFFICIAL, _DIGEST)


def test_python_files_are_never_run(tmp_path: Path) -> None:
    planted = tmp_path / "ran"
    (tmp_path / "config.py").write_text(f"open({str(planted)!r}, 'w').close()\nX = {_TEXT!r}\n")
    assert _find(tmp_path).wording is Wording.OFFICIAL
    assert not planted.exists()


def test_one_level_below_is_searched_and_no_deeper(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "text.txt"
    deep.parent.mkdir(parents=True)
    deep.write_text(_TEXT)
    assert _find(tmp_path).wording is Wording.OWN
    assert _find(tmp_path / "a").wording is Wording.OFFICIAL


def test_broken_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(f"X = {_TEXT!r}\n)")
    (tmp_path / "b.json").write_text("[" * 100_000)
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "d.py").write_bytes(b"x = '\0'")
    (tmp_path / "e.py").write_text("(" * 5000)
    (tmp_path / "f.json").write_text('["\\ud800", 1]')
    (tmp_path / "g.py").write_text("x = '\\ud800' + " + " + ".join(["'a'"] * 3000) + " + '\\d'")
    (tmp_path / "h.txt").mkdir()
    os.mkfifo(tmp_path / "i.txt")
    assert _find(tmp_path).wording is Wording.OWN
    (tmp_path / "z.txt").write_text(_TEXT)
    assert _find(tmp_path).wording is Wording.OFFICIAL


def test_large_files_other_suffixes_and_links_to_elsewhere_are_left_out(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "text.txt").write_text(_TEXT)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link.txt").symlink_to(elsewhere / "text.txt")
    (folder / "below").symlink_to(elsewhere)
    (folder / "text.md").write_text(_TEXT)
    (folder / "large.json").write_text(json.dumps([_TEXT, "x" * 1_000_000]))
    assert _find(folder, tmp_path / "not there").wording is Wording.OWN


def test_extended_is_taken_only_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(_TEXT)
    (tmp_path / "b.txt").write_text(_LONGER)
    assert _find(tmp_path).text == _TEXT
    found = _find(tmp_path, extended=True)
    assert (found.text, found.wording) == (_LONGER, Wording.OFFICIAL_EXTENDED)


def test_one_stands_in_for_the_other(tmp_path: Path) -> None:
    short, long = tmp_path / "short", tmp_path / "long"
    for folder, text in ((short, _TEXT), (long, _LONGER)):
        folder.mkdir()
        (folder / "text.txt").write_text(text)
    assert _find(short, extended=True) == NegativePrompt(text=_TEXT, wording=Wording.OFFICIAL)
    assert _find(long) == NegativePrompt(text=_TEXT, wording=Wording.OFFICIAL)


@pytest.mark.parametrize(
    ("text", "wording"),
    [
        (_TEXT, Wording.OFFICIAL),
        (_LONGER, Wording.OFFICIAL_EXTENDED),
        ("no blur", Wording.GIVEN),
        ("", Wording.GIVEN),
        (_TEXT[:-1], Wording.GIVEN),
    ],
)
def test_the_given_text_wins_and_is_recognised(tmp_path: Path, text: str, wording: Wording) -> None:
    (tmp_path / "a.txt").write_text(_TEXT)
    assert _find(tmp_path, given=text) == NegativePrompt(text=text, wording=wording)


def test_settings_say_what_it_is() -> None:
    settings = find_negative_prompt([], None).as_settings()
    digest = hashlib.sha256(OWN_TEXT.encode()).hexdigest()
    assert json.loads(json.dumps(settings)) == {"wording": "own", "sha256": digest, "text": OWN_TEXT}


def test_the_repository_does_not_hold_the_official_text() -> None:
    folders = [_REPOSITORY / name for name in ("generators", "metrics", "reports", "refeval", "tests", "docs")]
    below = [sub for folder in folders for sub in folder.rglob("*") if sub.is_dir()]
    assert len(OFFICIAL_SHA256) == 64
    assert find_negative_prompt([*folders, *below], None).wording is Wording.OWN


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("  a\t man \n walks ", "a man walks"),
        ("cat &amp;amp; dog &lt;3", "cat & dog <3"),
        ("it\u2019s a \u201ctest\u201d", 'it\'s a "test"'),
        ("cafÃ©", "café"),
        ("a\u3000b\u00a0c", "a b c"),
        ("", ""),
    ],
)
def test_prompts_are_cleaned(text: str, clean: str) -> None:
    assert clean_prompt(text) == clean


@given(st.text() | st.text(st.sampled_from("a &amp;lt;#x20\t\n\u2019\u00a0")))
def test_clean_prompt_parity_with_diffusers(text: str) -> None:
    assert clean_prompt(text) == prompt_clean(text)
