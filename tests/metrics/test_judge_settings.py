"""The choice of a judge and of its rubric."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from refeval.errors import BadInput, MissingPrerequisite
from refeval.metrics.judges.limits import Limit, Price
from refeval.metrics.judges.rubric import OWN_RUBRIC, Wording, read_rubric
from refeval.metrics.judges.settings import JudgeConfig

_TEXT = "Stands in for the official text.\nGive a number.\n "
_KNOWN = {hashlib.sha256(_TEXT.encode()).hexdigest(): Wording.OFFICIAL}
_URL = {"REFEVAL_JUDGE_URL": "http://127.0.0.1:8000/v1"}


def test_every_variable() -> None:
    config = JudgeConfig.from_environment(
        {
            **_URL,
            "REFEVAL_JUDGE_MODEL": "judge",
            "REFEVAL_JUDGE_KEY_ENV": "MY_KEY",
            "REFEVAL_JUDGE_RUBRIC": "/rubric.py",
            "REFEVAL_JUDGE_BUDGET": "5 USD",
            "REFEVAL_JUDGE_PRICE": "2.5/10",
            "REFEVAL_JUDGE_RPM": "30",
            "REFEVAL_JUDGE_REPLAY": "/run/judge",
            "REFEVAL_JUDGE_CALIBRATION": "/run/judge/calibration.json",
            "MY_KEY": "secret",
            "HF_HUB_OFFLINE": "1",
        }
    )
    assert config == JudgeConfig(
        url="http://127.0.0.1:8000/v1",
        model="judge",
        key_variable="MY_KEY",
        rubric=Path("/rubric.py"),
        budget=Limit(amount=5.0, unit="USD"),
        price=Price(input=2.5, output=10.0),
        per_minute=30.0,
        replay=Path("/run/judge"),
        calibration=Path("/run/judge/calibration.json"),
        offline=True,
    )
    assert config.key({"MY_KEY": " secret\n"}) == "secret"
    assert config.key({}) is None
    assert "secret" not in repr(config)


def test_no_judge_is_a_missing_prerequisite() -> None:
    with pytest.raises(MissingPrerequisite, match="needs a judge"):
        JudgeConfig.from_environment({"REFEVAL_JUDGE_URL": ""})


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"REFEVAL_JUDGE_URL": "ftp://h/v1"}, "not the address"),
        ({"REFEVAL_JUDGE_URL": "http://[::1/v1"}, "not the address"),
        ({"REFEVAL_JUDGE_URL": "https://me:planted@h/v1"}, "password"),
        ({"REFEVAL_JUDGE_KEY_ENV": "sk-planted"}, "name of a variable"),
        ({"REFEVAL_JUDGE_KEY_ENV": "MY_JUDGE"}, "out of logs"),
        ({"REFEVAL_JUDGE_RPM": "0"}, "calls per minute"),
        ({"REFEVAL_JUDGE_RPM": "many"}, "calls per minute"),
        ({"REFEVAL_JUDGE_BUDGET": "5 USD"}, "needs prices"),
        ({"REFEVAL_JUDGE_LOCAL": "/model"}, "exclude each other"),
        ({"REFEVAL_JUDGE_MODLE": "m"}, "unknown variable REFEVAL_JUDGE_MODLE"),
    ],
)
def test_settings_that_cannot_be_used(variables: dict[str, str], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        JudgeConfig.from_environment({**_URL, **variables})
    assert "planted" not in str(caught.value)


def test_the_official_rubric_is_found_in_a_script_that_is_never_run(tmp_path: Path) -> None:
    planted = tmp_path / "ran"
    script = tmp_path / "eval" / "get_naturalscore.py"
    script.parent.mkdir()
    body = "".join(f"    {line!r}\n" for line in _TEXT.splitlines(keepends=True))
    script.write_text(f"open({str(planted)!r}, 'w')\ndef f():\n    return (\n{body}    )\n")
    for path in (script, script.parent, tmp_path):
        rubric = read_rubric(path, known=_KNOWN)
        assert (rubric.text, rubric.wording) == (_TEXT, Wording.OFFICIAL)
        assert list(rubric.as_settings()) == ["wording", "sha256"]
    assert not planted.exists()


def test_a_script_without_the_official_rubric_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "get_naturalscore.py"
    script.write_text(f"PROMPT = {_TEXT + 'changed'!r}\n")
    with pytest.raises(BadInput, match="the official rubric is not in it"):
        read_rubric(script, known=_KNOWN)


def test_a_text_of_the_users_own_is_given(tmp_path: Path) -> None:
    file = tmp_path / "rubric.txt"
    file.write_text("Give a number from 1 to 5.\n")
    rubric = read_rubric(file)
    assert (rubric.text, rubric.wording) == ("Give a number from 1 to 5.", Wording.GIVEN)
    file.write_text("\n")
    with pytest.raises(BadInput):
        read_rubric(file)


def test_without_a_path_it_is_our_own() -> None:
    assert read_rubric(None) is OWN_RUBRIC
    assert OWN_RUBRIC.wording is Wording.OWN


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match="rubric is missing"):
        read_rubric(tmp_path / "no.py")
