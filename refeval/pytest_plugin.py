"""The regression gate as a pytest fixture; found by pytest through the entry-point group ``pytest11``.

::

    def test_the_candidate_has_lost_nothing(refeval_gate):
        refeval_gate("runs/candidate", gates=["TotalScore:-0.5"])

``pytest --refeval-baseline tests/baseline.json``, or ``refeval_baseline = tests/baseline.json`` in the configuration.
Nothing else of refeval is imported before a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--refeval-baseline`` and its twin in the configuration file."""
    about = "Baseline file or run folder that the fixture refeval_gate holds candidates against."
    parser.getgroup("refeval").addoption("--refeval-baseline", metavar="BASE", help=about)
    parser.addini("refeval_baseline", about)


@pytest.fixture
def refeval_gate(pytestconfig: pytest.Config) -> Callable[..., Any]:
    """:func:`refeval.testing.assert_no_regression` with the baseline of the command line or of the configuration."""
    from refeval.testing import assert_no_regression

    given = pytestconfig.getoption("--refeval-baseline")
    baseline = Path(given) if given else _configured(pytestconfig)

    def gate(candidate: Any, **settings: Any) -> Any:
        __tracebackhide__ = True
        return assert_no_regression(candidate, baseline, **settings)

    return gate


def _configured(config: pytest.Config) -> Path:
    name = config.getini("refeval_baseline")
    if not name:
        pytest.fail("refeval_gate needs --refeval-baseline BASE, or refeval_baseline in the configuration", False)
    return config.rootpath / str(name)
