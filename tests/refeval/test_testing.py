"""The gate in tests: as a function, and as a fixture in a pytest of its own."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from refeval.baselines import baseline_of
from refeval.errors import BadInput
from refeval.statistics import Resampling
from refeval.testing import assert_no_regression
from tests.refeval.small_sides import even, folder_of, suite_of

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[2]
FEW = Resampling(resamples=200)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("testing")
    run = folder_of(folder / "base", even(suite_of(), 0.6))
    (folder / "baseline.json").write_text(baseline_of(run).text())
    folder_of(folder / "worse", even(suite_of(), 0.5, 0.03), seed=1)
    return folder


def test_a_regression_fails_with_the_tables(sides: Path) -> None:
    held = assert_no_regression(sides / "base", str(sides / "baseline.json"), gates=["TotalScore:0"], resampling=FEW)
    assert [verdict.breach for verdict in held.verdicts] == [False]
    with pytest.raises(AssertionError) as error:
        assert_no_regression(sides / "worse", sides / "baseline.json", gates=["total:-0.5", "gme:-90"], resampling=FEW)
    text = str(error.value)
    assert text.startswith("1 of 2 gates breached\nGates\n")
    assert "TotalScore: -10.00 points (60.00 to 50.00)" in " ".join(text.split())
    assert "Largest losses, 10 of" in text
    assert "\x1b" not in text
    with pytest.raises(AssertionError, match="1 of 1 gates breached"):
        assert_no_regression(sides / "worse", sides / "baseline.json", resampling=FEW)
    with pytest.raises(BadInput, match="2 of the candidate"):
        assert_no_regression([sides / "base", sides / "worse"], sides / "baseline.json", resampling=FEW)


def test_without_gates_missing_values_fail(tmp_path: Path) -> None:
    run = folder_of(tmp_path / "run", even(suite_of()))
    run.score_path("gme", "singleobj_1").unlink()
    with pytest.raises(AssertionError, match=r"^incomplete"):
        assert_no_regression(run.folder, run.folder, gates=[], resampling=FEW)
    assert_no_regression(run.folder, run.folder, gates=[], allow_missing=True, resampling=FEW)


TEST = """
def test_the_candidate_has_lost_nothing(refeval_gate):
    refeval_gate({candidate!r}, gates=["TotalScore:-0.5"])
"""


@pytest.mark.parametrize(("candidate", "passed"), [("base", 1), ("worse", 0)])
@pytest.mark.parametrize("configured", [False, True])
def test_the_fixture(pytester: pytest.Pytester, sides: Path, candidate: str, passed: int, configured: bool) -> None:
    pytester.makepyfile(TEST.format(candidate=str(sides / candidate)))
    options = ["-p", "refeval.pytest_plugin"]
    if configured:
        (pytester.path / "baseline.json").write_text((sides / "baseline.json").read_text())
        pytester.makeini("[pytest]\nrefeval_baseline = baseline.json\n")
    else:
        options.append(f"--refeval-baseline={sides / 'baseline.json'}")
    done = _pytest(pytester, *options)
    done.assert_outcomes(passed=passed, failed=1 - passed)
    if not passed:
        done.stdout.fnmatch_lines(["*1 of 1 gates breached", "*BREACH*TotalScore:-0.5*"])


def test_without_a_baseline_the_test_does_not_pass(pytester: pytest.Pytester, sides: Path) -> None:
    pytester.makepyfile(TEST.format(candidate=str(sides / "base")))
    done = _pytest(pytester, "-p", "refeval.pytest_plugin")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*refeval_gate needs --refeval-baseline BASE*"])


def test_the_entry_point_names_the_plugin() -> None:
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]["refeval"]
    assert callable(importlib.import_module(entry).pytest_addoption)


def test_neither_needs_what_it_must_not() -> None:
    for module, heavy in (("refeval.testing", "pytest"), ("refeval.pytest_plugin", "numpy")):
        code = f"import sys, {module}; print({heavy!r} in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "False\n", module


def _pytest(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    # Whether refeval is installed with its entry point or not: the plug-in is loaded once, by name.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        patch.setenv("PYTHONPATH", str(ROOT))
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)
