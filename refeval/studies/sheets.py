"""The sheets: one page per rater that needs nothing else, and one page for the printer."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from refeval.studies.comparisons import Answer, Question
from refeval.studies.study import RaterSheet

QUESTIONS: Mapping[Question, tuple[str, str, str]] = {
    Question.QUALITY: (
        "Visual quality",
        "Which video looks better?",
        "Look at sharpness, natural motion and faults such as flicker or bodies that melt. The text and the pictures "
        "do not matter here.",
    ),
    Question.REFERENCE: (
        "Reference fidelity",
        "In which video do people and things look more like those in the pictures?",
        "Compare faces, clothes, shapes and colours with the reference pictures. How good the video looks otherwise "
        "does not matter here.",
    ),
    Question.TEXT: (
        "Video and text",
        "Which video follows the text better?",
        "Compare what happens, who is there and where with the text. How good the video looks otherwise does not "
        "matter here.",
    ),
}
"""Name, question and hint as the rater reads them."""

_BOXES = {Answer.LEFT: "A is better", Answer.TIE: "no difference", Answer.BOTH_BAD: "both are bad"}
_BOXES[Answer.RIGHT] = "B is better"


@dataclass(frozen=True, kw_only=True)
class ShownCase:
    """What a screen shows of a case beside the clips.

    Attributes:
        references: label and JPEG of each.
    """

    prompt: str
    references: tuple[tuple[str, bytes], ...]


def sheet_policy() -> str:
    """The Content-Security-Policy of a sheet: its own style and script, clips from memory, votes to its own server."""
    rules = {
        "default-src": "'none'",
        "style-src": _source_hash(_asset("sheet.css")),
        "script-src": _source_hash(_asset("sheet.js")),
        "img-src": "data:",
        "media-src": "blob:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return _policy(rules)


def sheet_page(
    study: str,
    rater: str,
    sheet: RaterSheet,
    *,
    cases: Mapping[str, ShownCase],
    questions: Sequence[Question],
    answers: Sequence[Answer],
    clips: Mapping[str, bytes],
) -> str:
    """The page of one rater.

    Args:
        study: sha256 of ``study.json``.
        rater: id.
        sheet: the screens.
        cases: every case on them.
        questions: of the study.
        answers: that may be given.
        clips: MP4 by name, every one on the screens.
    """
    shown = {screen.case for screen in sheet.screens}
    content: dict[str, Any] = {
        "study": study,
        "rater": rater,
        "seed": sheet.seed,
        "screens": [screen.model_dump(mode="json") for screen in sheet.screens],
        "questions": {question.value: _question(question) for question in questions},
        "cases": {case: _case(shown_case) for case, shown_case in cases.items() if case in shown},
    }
    return _render(
        "sheet.html",
        policy=sheet_policy(),
        style=Markup(_asset("sheet.css")),
        script=Markup(_asset("sheet.js")),
        rater=rater,
        screens=len(sheet.screens),
        both_bad=Answer.BOTH_BAD in answers,
        several_questions=len(questions) > 1,
        sheet=content,
        clips=[(name, base64.b64encode(clips[name]).decode()) for name in _clip_names(sheet)],
    )


def print_page(
    sheets: Mapping[str, RaterSheet],
    *,
    cases: Mapping[str, ShownCase],
    questions: Sequence[Question],
    answers: Sequence[Answer],
) -> str:
    """All sheets with stills and check boxes; the pictures lie beside the clips (:func:`reference_name`)."""
    style = _asset("print.css")
    rules = {"default-src": "'none'", "style-src": _source_hash(style), "img-src": "data: 'self' file:"}
    order = [answer for answer in (Answer.LEFT, Answer.TIE, Answer.BOTH_BAD, Answer.RIGHT) if answer in answers]
    return _render(
        "print.html",
        policy=_policy({**rules, "base-uri": "'none'", "form-action": "'none'"}),
        style=Markup(style),
        sheets=[{"rater": rater, "screens": sheet.screens} for rater, sheet in sheets.items()],
        questions={question: _question(question) for question in questions},
        cases={
            case: {"prompt": one.prompt, "references": [reference_name(jpeg) for _, jpeg in one.references]}
            for case, one in cases.items()
        },
        answers=[answer.value for answer in order],
        boxes=[_BOXES[answer] for answer in order],
    )


def reference_name(jpeg: bytes) -> str:
    """File name of a reference picture in ``clips/``."""
    return f"{hashlib.sha256(jpeg).hexdigest()[:32]}.ref.jpg"


def _clip_names(sheet: RaterSheet) -> Iterator[str]:
    return iter(sorted({name for screen in sheet.screens for name in (screen.left, screen.right)}))


def _question(question: Question) -> dict[str, str]:
    name, title, hint = QUESTIONS[question]
    return {"name": name, "title": title, "hint": hint}


def _case(case: ShownCase) -> dict[str, Any]:
    pictures = [
        {"label": label, "picture": f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"}
        for label, jpeg in case.references
    ]
    return {"prompt": case.prompt, "references": pictures}


def _render(name: str, **values: object) -> str:
    environment = Environment(
        loader=DictLoader({name: _asset(name)}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(**values)


def _asset(name: str) -> str:
    return (importlib.resources.files("refeval.studies") / "assets" / name).read_bytes().decode()


def _policy(rules: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
