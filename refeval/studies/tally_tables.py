"""The tables of a study's report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from refeval.reports.table import Section, Table, csv_text
from refeval.studies.analysis import Analysis, QuestionResult, Results
from refeval.studies.analysis_clusters import Rate
from refeval.studies.analysis_metrics import Agreement
from refeval.studies.comparisons import Question
from refeval.studies.davidson import Parameter
from refeval.studies.raters import Rater
from refeval.studies.sheets import QUESTIONS

NONE = "–"


def study_tables(results: Results, whose: str) -> list[Table]:
    """Every table of one set of results.

    Args:
        results: of the raters in question.
        whose: who they are, for the titles, e.g. ``30 raters``.
    """
    tables = [_pairs(results, whose), _ranks(results, whose), _agreement(results, whose), _sides(results, whose)]
    return [*tables, *([_metrics(results.metrics, whose)] if results.metrics else [])]


def raters_table(raters: Sequence[Rater]) -> Table:
    """What is known of each rater, and who is left out."""
    rows = tuple(
        (
            rater.id,
            rater.excluded or "",
            str(rater.votes),
            f"{rater.right}/{rater.checks}",
            f"{rater.alike}/{rater.repeats}",
            NONE if not rater.seconds else f"{rater.seconds:.1f}",
        )
        for rater in raters
    )
    return Table(
        title="Raters",
        columns=("rater", "left out", "votes", "checks right", "repeats alike", "seconds"),
        rows=rows,
        notes=("seconds: median time from the end of the first showing to the vote; none for votes from paper.",),
        left=2,
    )


def pairs_csv(analysis: Analysis) -> str:
    """One line per set of raters, question and pair, with every digit."""
    columns = ("raters", "question", "first", "second", "votes", "wins", "ties", "both_bad", "losses", "cases")
    rates = ("win_rate", "half_rate", "win_share", "tie_share", "loss_share")
    ends = tuple(f"{name}{end}" for name in rates for end in ("", "_low", "_high", "_wilson_low", "_wilson_high"))
    rows: list[tuple[object, ...]] = []
    for whose, results in (("kept", analysis.kept), ("everyone", analysis.everyone)):
        for pair in results.pairs if results else ():
            counts = (pair.votes, pair.wins, pair.ties, pair.both_bad, pair.losses, pair.cases)
            numbers = [number for name in rates for number in _digits(getattr(pair, name))]
            tests = (pair.preference, pair.p, pair.p_holm)
            rows.append((whose, pair.question.value, pair.first, pair.second, *counts, *numbers, *tests))
    return csv_text((*columns, *ends, "preference", "p", "p_holm"), rows)


def _pairs(results: Results, whose: str) -> Table:
    rows, sections = _by_question(
        (
            pair.question,
            (
                f"{pair.first} : {pair.second}",
                f"{pair.wins} : {pair.ties} : {pair.losses}",
                _rate(pair.win_rate),
                _wilson(pair.win_rate),
                _rate(pair.half_rate),
                f"{pair.preference:+.2f}",
                _p(pair.p),
                _p(pair.p_holm),
            ),
        )
        for pair in results.pairs
    )
    return Table(
        title=f"Win rates, {whose}",
        columns=(
            "arms",
            "wins : ties : losses",
            "win rate, %",
            "Wilson, %",
            "ties half, %",
            "preference",
            "p",
            "p Holm",
        ),
        rows=rows,
        notes=(
            "Wins are those of the arm that is named first. Win rate: of decisive votes; ties half: of all votes, a "
            "tie being half a win; both with intervals clustered by case and rater.",
            "Wilson: interval of the win rate as if votes were independent, which they are not: for comparison only.",
            "Preference: mean over cases of (wins - losses) / votes; p: sign-flip test of it; p Holm: corrected for "
            "all pairs and questions.",
        ),
        sections=sections,
    )


def _ranks(results: Results, whose: str) -> Table:
    rows, sections = _by_question(
        (
            found.question,
            (arm.arm, str(arm.group), _ends(arm.ranks), _parameter(arm.strength)),
        )
        for found in results.questions
        if found.ranking
        for arm in found.ranking.arms
    )
    return Table(
        title=f"Ranks, {whose}",
        columns=("arm", "group", "rank", "strength, log odds"),
        rows=rows,
        notes=(
            "Rank: from the best to the worst that the votes allow. Arms of one group are not told apart.",
            *(note for found in results.questions for note in _ranking_notes(found)),
        ),
        sections=sections,
    )


def _ranking_notes(found: QuestionResult) -> Iterable[str]:
    name = QUESTIONS[found.question][0]
    if found.refused:
        yield f"{name}: {found.refused}."
    elif found.ranking:
        tie, position = found.ranking.tie, found.ranking.position
        parts = [
            f"tie {_parameter(tie)}" if tie else "no tie was given",
            f"pull of the left side {_parameter(position)}" if position else "the pull of the side cannot be told",
        ]
        yield f"{name}, log odds: {'; '.join(parts)}."


def _agreement(results: Results, whose: str) -> Table:
    rows = tuple(
        (
            QUESTIONS[found.question][0],
            str(found.votes),
            _rate(found.tie_rate),
            _rate(found.both_bad_rate),
            _number(found.alpha.value, _pair_of_ends(found.alpha.low, found.alpha.high)),
            str(found.alpha.units),
        )
        for found in results.questions
    )
    return Table(
        title=f"Ties and agreement, {whose}",
        columns=("question", "votes", "ties, %", "both bad, %", "Krippendorff's alpha", "units"),
        rows=rows,
        notes=("Ties include both bad. Units: pairs of clips with two votes or more, which alpha rests on.",),
    )


def _sides(results: Results, whose: str) -> Table:
    sides = results.sides
    rows = (
        ("left, of decisive votes on pairs of arms", sides.left),
        ("left, of decisive votes on identical clips", sides.left_identical),
        ("repeats with changed sides answered alike", sides.alike),
        ("left, of repeats that say the same side twice", sides.same_left),
    )
    return Table(
        title=f"Sides and self-consistency, {whose}",
        columns=("part of", "rate, %", "votes"),
        rows=tuple((name, _rate(rate), str(rate.n if rate else 0)) for name, rate in rows),
        notes=("Left would be 50 % if the side did not matter.",),
    )


def _metrics(metrics: Sequence[Agreement], whose: str) -> Table:
    rows, sections = _by_question(
        (
            one.question,
            (
                one.metric,
                _number(100 * one.accuracy, one.accuracy_ends and tuple(100 * e for e in one.accuracy_ends), "{:.1f}"),
                _number(one.tau, one.tau_ends),
                str(one.votes),
                str(one.units),
            ),
        )
        for one in metrics
    )
    return Table(
        title=f"Metrics against votes, {whose}",
        columns=("metric", "accuracy, %", "Kendall's tau", "decisive votes", "pairs of clips"),
        rows=rows,
        notes=(
            "Accuracy: decisive votes for the arm that the metric puts higher on that case, equal scores as half; 50 % "
            "is a coin. tau: between the metric's difference and the mean vote of a pair of clips. Intervals: cases "
            "drawn again.",
            "weighted mean: the metrics that all arms have for a case, with the weights of the TotalScore; another "
            "rater: how often a second vote on the same pair of clips says the same, the yardstick for all others.",
        ),
        sections=sections,
    )


def _by_question(
    rows: Iterable[tuple[Question, tuple[str, ...]]],
) -> tuple[tuple[tuple[str, ...], ...], tuple[Section, ...]]:
    found: list[tuple[str, ...]] = []
    sections = []
    for question, group in groupby(rows, key=lambda row: row[0]):
        sections.append(Section(first=len(found), heading=QUESTIONS[question][0]))
        found += [row for _, row in group]
    return tuple(found), tuple(sections)


def _rate(rate: Rate | None) -> str:
    if rate is None:
        return NONE
    return _number(100 * rate.value, (100 * rate.clustered[0], 100 * rate.clustered[1]), "{:.1f}")


def _wilson(rate: Rate | None) -> str:
    return f"{100 * rate.wilson[0]:.1f} to {100 * rate.wilson[1]:.1f}" if rate else NONE


def _parameter(parameter: Parameter) -> str:
    return _number(parameter.value, (parameter.low, parameter.high), "{:+.2f}")


def _number(value: float | None, ends: tuple[float, ...] | None, form: str = "{:.2f}") -> str:
    if value is None:
        return NONE
    return form.format(value) + (f" ({form.format(ends[0])} to {form.format(ends[1])})" if ends else "")


def _pair_of_ends(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)


def _ends(ranks: tuple[int, int]) -> str:
    return str(ranks[0]) if ranks[0] == ranks[1] else f"{ranks[0]} to {ranks[1]}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _digits(rate: Rate | None) -> tuple[float | None, ...]:
    return (rate.value, *rate.clustered, *rate.wilson) if rate else (None,) * 5
