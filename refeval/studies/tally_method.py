"""How a study was made and how its votes are counted, in words: enough to judge it, or to do it again."""

from __future__ import annotations

from refeval.studies.analysis import Analysis
from refeval.studies.comparisons import Answer, PairKind
from refeval.studies.sheets import QUESTIONS
from refeval.studies.study import StudyDocument

_ANSWERS = {
    Answer.LEFT: "the left one",
    Answer.RIGHT: "the right one",
    Answer.TIE: "no difference",
    Answer.BOTH_BAD: "both bad",
}


def method(study: StudyDocument, analysis: Analysis, kinds: dict[PairKind, int]) -> list[tuple[str, str]]:
    """Headings and paragraphs.

    Args:
        study: what was asked.
        analysis: what was found.
        kinds: votes of each kind of pair.
    """
    return [
        ("What was asked", _asked(study)),
        ("Of whom", _whom(study, analysis, kinds)),
        ("Who is left out", _left_out(study, analysis)),
        ("Win rates", _rates(analysis)),
        ("Test", _test(analysis)),
        ("Ranks", _ranks()),
        ("Agreement", _agreement()),
    ]


def _asked(study: StudyDocument) -> str:
    questions = " ".join(f"{QUESTIONS[question][0]}: “{text}”" for question, text in study.questions.items())
    answers = ", ".join(_ANSWERS[answer] for answer in study.answers)
    profile = study.profile
    return (
        f"{study.arms} arms were compared in pairs on {len(study.cases)} cases of {study.suite}, one question per "
        f"screen. {questions} Answers: {answers}. Prompt and reference pictures were in sight. The two clips played in "
        f"step, without names, all encoded alike ({profile.width}x{profile.height}, {profile.fps} fps, crf "
        f"{profile.crf}); voting opened when both had been seen to the end."
    )


def _whom(study: StudyDocument, analysis: Analysis, kinds: dict[PairKind, int]) -> str:
    fewest, most = study.screens_per_rater
    screens = str(fewest) if fewest == most else f"{fewest} to {most}"
    checks = kinds.get(PairKind.IDENTICAL, 0) + kinds.get(PairKind.DECOY, 0)
    return (
        f"{len(study.raters)} sheets of {screens} screens were made, in an order of their own; {len(analysis.raters)} "
        f"raters voted. Over the raters, each arm of a pair stands left as often as right. There are "
        f"{kinds.get(PairKind.REAL, 0)} votes on pairs of arms, {kinds.get(PairKind.REPEAT, 0)} on repeats with "
        f"changed sides and {checks} on attention checks (two identical clips; a clip against a spoilt one). Repeats "
        "and checks enter no win rate. Where a rater changed an answer, the last one counts."
    )


def _left_out(study: StudyDocument, analysis: Analysis) -> str:
    out = ", ".join(rater.id for rater in analysis.excluded) or "nobody"
    both = ""
    if analysis.kept is None:
        both = (
            " No vote is left without them: the results are those of everyone, and show nothing that can be relied on."
        )
    elif analysis.excluded:
        both = " Results follow without them and, for comparison, with everyone."
    return (
        f"Fixed before the first vote: a rater with fewer than {study.exclusion.least} of the attention checks right "
        f"is left out; guessing passes with a chance of {study.passed_by_guessing:.0%} at most. Left out: {out}.{both}"
    )


def _rates(analysis: Analysis) -> str:
    resampling = analysis.resampling
    return (
        f"Intervals are of {resampling.level:.0%}. Votes on one case are alike, and so are votes of one rater: the "
        f"standard error is that of a two-way cluster bootstrap ({resampling.resamples} draws, seed {resampling.seed}; "
        "variance over cases plus variance over raters minus variance over both), at least that of independent votes. "
        "The interval of a rate is Wilson's with the number of independent votes that would be as exact, and Student's "
        "t with one degree of freedom less than the cases or raters, whichever are fewer. “Both bad” counts as a tie; "
        "its rate is given apart."
    )


def _test(analysis: Analysis) -> str:
    return (
        "That two arms are liked alike is tested on the cases: each case's mean preference keeps or changes its sign "
        f"(all ways if they are no more than {analysis.resampling.resamples}, else so many by lot). p-values are "
        "two-sided, and corrected by Holm's method over all pairs and questions. The test allows for other cases; a "
        "taste that raters share over all cases is taken as given."
    )


def _ranks() -> str:
    return (
        "Strengths are the maximum of the likelihood of Davidson's model, that is Bradley and Terry's with ties, with "
        "a term for the side: odds of left : tie : right are exp(d/2) : exp(tie) : exp(-d/2), d = strength(left) - "
        "strength(right) + pull of the left side. Intervals as above, each draw moving the estimate by one Newton "
        "step. An arm's rank runs from one more than the arms that are surely better to the number of arms that are "
        "not surely worse (Bonferroni over its comparisons). Votes that do not connect all arms, in both directions, "
        "give no ranks."
    )


def _agreement() -> str:
    return (
        "Krippendorff's alpha for nominal data, over the three verdicts first arm, second arm, tie: 1 is full "
        "agreement, 0 that of lots. Its interval draws cases again."
    )
