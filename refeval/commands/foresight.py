"""What ``--dry-run`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from refeval import evaluation
from refeval.cases import Case
from refeval.commands.console import print_json, say
from refeval.errors import ExitCode
from refeval.evaluation import Manner, Prepared
from refeval.forecast import ScoreForecast, forecast, forecast_scores
from refeval.runs import Run


def show_forecast(prepared: Prepared, manner: Manner, *, score: bool, as_json: bool) -> ExitCode:
    expected = forecast(prepared, manner)
    lacking = evaluation.lacking_for_rendering(prepared, manner)
    seconds = expected.render_seconds
    if score and seconds is not None:
        seconds = None if expected.scores.seconds is None else seconds + expected.scores.seconds
    if as_json:
        print_json(
            {
                "run": str(expected.folder),
                "cases": expected.cases,
                "render": expected.render,
                "nothing_to_render_from": expected.nothing,
                **(_scores_json(expected.scores) if score else {}),
                "lacking": str(lacking) if lacking else None,
                "seconds": seconds,
                "clip_bytes": expected.clip_bytes,
            }
        )
        return ExitCode.OK
    say(f"run folder  {expected.folder}")
    if lacking:
        say(f"not yet     {lacking}")
    verb = "take" if prepared.ready else "render"
    say(f"{verb:<10}  {expected.render} of {expected.cases} clips")
    if expected.nothing:
        say(f"missing     {expected.nothing} cases have no clip")
    if score:
        _say_scores(expected.scores, expected.cases)
    _say_time(seconds)
    say(f"disk        {expected.clip_bytes / 1e6:.1f} MB of clips ({expected.basis})")
    return ExitCode.OK


def show_score_forecast(run: Run, cases: Sequence[Case], manner: Manner, *, as_json: bool) -> ExitCode:
    expected = forecast_scores(run, cases, manner)
    costs = evaluation.costs(run, cases, manner)
    if as_json:
        content = {"run": str(run.folder), "cases": len(cases), **_scores_json(expected)}
        print_json({**content, "costs": costs, "seconds": expected.seconds})
        return ExitCode.OK
    say(f"run folder  {run.folder}")
    _say_scores(expected, len(cases))
    for metric_id, cost in costs.items():
        say(f"cost        {metric_id}: {cost}")
    _say_time(expected.seconds)
    return ExitCode.OK


def _scores_json(expected: ScoreForecast) -> dict[str, Any]:
    return {
        "score": expected.open,
        "unavailable": list(expected.unavailable),
        "passes": [
            {"metrics": list(one.metrics), "gigabytes": round(one.gigabytes, 1), "fits": one.fits}
            for one in expected.passes
        ],
    }


def _say_scores(expected: ScoreForecast, cases: int) -> None:
    for metric_id, number in expected.open.items():
        say(f"score       {number} of {cases} cases with {metric_id}")
    for metric_id in expected.unavailable:
        say(f"not here    {metric_id}")
    for number, one in enumerate(expected.passes, 1):
        size = f"{one.gigabytes:.1f} GB" if one.gigabytes else "no GPU memory"
        warning = "" if one.fits else ": more than there is"
        say(f"pass {number}      {', '.join(one.metrics)} ({size}{warning})")


def _say_time(seconds: float | None) -> None:
    say(f"time        {'not known: nothing like it was timed here yet' if seconds is None else duration(seconds)}")


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"about {hours} h {minutes} min" if hours else f"about {minutes} min {rest} s"
