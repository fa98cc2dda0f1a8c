"""The regression gate in a test of any kind; with pytest, :mod:`refeval.pytest_plugin` adds a fixture."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from refeval.comparability import parse_allowances
from refeval.comparing import Terms
from refeval.errors import ExitCode
from refeval.gates import Judged
from refeval.protocols import ProtocolName
from refeval.regression import hold_against
from refeval.reports.comparison import comparison_tables
from refeval.statistics import Resampling

_WIDTH = 100
_DEFAULT = Resampling()

RunOrBaseline = str | os.PathLike[str]


def assert_no_regression(
    candidate: RunOrBaseline | Sequence[RunOrBaseline],
    baseline: RunOrBaseline | Sequence[RunOrBaseline],
    gates: Sequence[str] = ("TotalScore:significant",),
    *,
    protocol: str = ProtocolName.V1_1.value,
    allow_missing: bool = False,
    allow: Iterable[str] = (),
    worst: int = 10,
    resampling: Resampling = _DEFAULT,
) -> Judged:
    """Fail where a gate is breached; the message holds the tables of ``refeval compare``.

    Example:
        ``assert_no_regression("runs/candidate", "tests/baseline.json", gates=["TotalScore:-0.5"])``

    Args:
        candidate: a run folder or a baseline file; several for several seeds.
        baseline: likewise.
        gates: expressions of :mod:`refeval.gates`; by default a loss of the total that is significant.
        protocol: how scores become a total.
        allow_missing: compare what is there where cases have no value.
        allow: what may differ, by name of :data:`refeval.comparability.ALLOWANCES`.
        worst: how many of the largest losses the message shows.
        resampling: of intervals and p-values.

    Returns:
        The comparison and what the gates say.

    Raises:
        AssertionError: a gate is breached; without gates: applicable cases have no value.
        BadInput: the two are not comparable, or a gate is none.
    """
    terms = Terms(
        protocol=ProtocolName(protocol),
        allow_missing=allow_missing,
        allowed=parse_allowances(allow),
        resampling=resampling,
    )
    judged = hold_against(_named(baseline), _named(candidate), gates, terms)
    if judged.exit_code is not ExitCode.OK:
        raise AssertionError(_message(judged, worst))
    return judged


def _named(runs: RunOrBaseline | Sequence[RunOrBaseline]) -> list[Path]:
    return [Path(runs)] if isinstance(runs, str | os.PathLike) else [Path(run) for run in runs]


def _message(judged: Judged, worst: int) -> str:
    console = Console(width=_WIDTH, color_system=None, force_terminal=False, markup=False, highlight=False, emoji=False)
    tables = comparison_tables(judged, worst)
    # A test report is read from its top, and what decides is the gates.
    with console.capture() as capture:
        for table in (*tables[-1:], *tables[:-1]) if judged.verdicts else tables:
            console.print(table.terminal())
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return "\n".join([judged.summary(), *lines])
