"""``refeval run``, ``render`` and ``score``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refeval import evaluation
from refeval.cases import Case
from refeval.commands.console import ERR, OUT, print_json, say, say_written
from refeval.commands.foresight import show_forecast, show_score_forecast
from refeval.commands.options import go_offline
from refeval.errors import ExitCode
from refeval.evaluation import Manner, Target
from refeval.progress import ProgressView
from refeval.protocols import ProtocolName, Total, run_total
from refeval.runs import Run
from refeval.selection import Selection
from refeval.suites import data_folder
from refeval.supervisor import Outcome
from refeval.work import Phase


def run(
    target: Target,
    selection: Selection,
    manner: Manner,
    *,
    score: bool,
    dry_run: bool,
    offline: bool,
    as_json: bool,
) -> ExitCode:
    """``refeval run`` and ``refeval render``."""
    if offline:
        go_offline()
    if score:
        evaluation.check_scoring(manner)
    prepared = evaluation.prepare(target, selection, manner)
    if dry_run:
        return show_forecast(prepared, manner, score=score, as_json=as_json)
    evaluation.check_rendering(prepared, manner)
    phases = [Phase.RENDER, Phase.SCORE] if score else [Phase.RENDER]
    started = prepared.start()
    outcome = work_off(started, prepared.cases, phases, manner, target.model, prepared.suite.root)
    return _finish(started, outcome, report=score, as_json=as_json)


def score(
    folder: Path,
    selection: Selection,
    manner: Manner,
    *,
    data: Path | None,
    dry_run: bool,
    offline: bool,
    as_json: bool,
) -> ExitCode:
    """``refeval score``."""
    if offline:
        go_offline()
    evaluation.check_scoring(manner)
    scored = Run(folder)
    root = data_folder(str(scored.manifest.suite["name"]), data)
    cases = selection.of(scored.suite(root))
    if dry_run:
        return show_score_forecast(scored, cases, manner, as_json=as_json)
    outcome = work_off(scored, cases, [Phase.SCORE], manner, None, root)
    return _finish(scored, outcome, report=True, as_json=as_json)


def work_off(
    run: Run, cases: Sequence[Case], phases: list[Phase], manner: Manner, model: str | None, data: Path | None
) -> Outcome:
    """Do what a command asks of a run folder, with live progress; first say what it will ask of others.

    Raises:
        RefevalError: the work cannot go on; what is recorded stays.
    """
    for metric_id, cost in evaluation.costs(run, cases, manner).items() if Phase.SCORE in phases else ():
        ERR.print(f"{metric_id:<10}  {cost}", soft_wrap=True)
    orders = evaluation.plan_orders(run, cases, phases, manner, model=model, data=data)
    with ProgressView(orders, ERR) as view:
        return evaluation.carry_out(run, cases, orders, manner, on_event=view.see)


def _finish(run: Run, outcome: Outcome, *, report: bool, as_json: bool) -> ExitCode:
    code = evaluation.exit_code(outcome)
    written = _write_report(run) if report else []
    if as_json:
        summary: dict[str, Any] = {
            "run": str(run.folder),
            "statuses": evaluation.count_statuses(outcome),
            "unavailable": {metric: str(error) for metric, error in sorted(outcome.unavailable.items())},
            "exit_code": int(code),
        }
        if report:
            summary["totals"] = [_finite(total.as_json()) for total in _totals(run)]
        print_json(summary)
        return code
    if report:
        from refeval.reports.totals import totals_table

        OUT.print(totals_table([run], published=False).transposed().terminal())
    say_statuses(run, outcome)
    say_written(written)
    return code


def _write_report(run: Run) -> list[Path]:
    from refeval.reports.web import write_report

    return write_report([run], run.folder / "reports")


def _totals(run: Run) -> list[Total]:
    suite, records = run.suite(), run.score_records()
    return [run_total(suite, records, protocol=name) for name in (ProtocolName.V1_1, ProtocolName.STRICT)]


def say_statuses(run: Run, outcome: Outcome) -> None:
    """Say where a run is, how many of its tasks ended how, and how to learn why."""
    say(f"run folder  {run.folder}")
    for part, counts in evaluation.count_statuses(outcome).items():
        line = ", ".join(f"{number} {status}" for status, number in counts.items())
        say(f"{part:<18}  {line}")
    for metric_id, error in sorted(outcome.unavailable.items()):
        say(f"{metric_id:<18}  {error}")
    if evaluation.exit_code(outcome) is ExitCode.INCOMPLETE:
        say(f"why         refeval check {run.folder}")


def _finite(content: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and value != value else value for key, value in content.items()}
