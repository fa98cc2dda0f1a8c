"""Make a study: run folders go in, a folder that can be handed out and a key that must not be come out."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from refeval import __version__
from refeval.cases import Case, Suite
from refeval.documents import write_bytes, write_document
from refeval.errors import BadInput
from refeval.keys import file_sha256
from refeval.reports.table import csv_text
from refeval.reports.views import RunView, run_labels
from refeval.runs import Run
from refeval.signals import no_interruption
from refeval.studies.arms import (
    arm_sha256,
    common_cases,
    draw_secret,
    foreign_cases,
    open_arms,
    refuse_copies,
    shown_case,
)
from refeval.studies.comparisons import Answer, PairKind, Question
from refeval.studies.design import Plan, PlannedSheet, Shown, choose_cases, make_sheets
from refeval.studies.exclusion import DECOY, ExclusionRule
from refeval.studies.footage import EncodedClip, Footage
from refeval.studies.key import write_key
from refeval.studies.power import TABLE_RATES, detectable_win_rate, votes_needed
from refeval.studies.sheets import QUESTIONS, ShownCase, print_page, reference_name, sheet_page, sheet_policy
from refeval.studies.study import Assignment, PowerNote, RaterSheet, Screen, StudyDocument, StudyFolder
from refeval.suites import data_folder


@dataclass(frozen=True, kw_only=True)
class StudyRequest:
    """What the user asks for.

    Attributes:
        arms: run folders, two or more, of one suite.
        cases: how many.
        raters: how many.
        both_bad: whether a rater may call both clips bad.
        per_rater: real pairs on a sheet; None: all, up to :data:`refeval.studies.design.LARGEST_SHEET`.
        repeats: part of the real pairs of a sheet that come back with their sides changed.
        checks: attention checks, as a part of the real pairs of a sheet.
        data: folder of the reference images; else the pictures kept in the run folders are shown.
    """

    arms: tuple[Path, ...]
    cases: int
    raters: int
    seed: int = 0
    questions: tuple[Question, ...] = tuple(Question)
    both_bad: bool = False
    per_rater: int | None = None
    repeats: float = 0.05
    checks: float = 0.10
    data: Path | None = None


@dataclass(frozen=True, kw_only=True)
class MadeStudy:
    """A new study.

    Attributes:
        differing: in what the arms differ, so that clips were changed (:attr:`Footage.differing`).
        largest_sheet: bytes.
    """

    study: StudyFolder
    key: Path
    differing: tuple[str, ...]
    largest_sheet: int


def make_study(request: StudyRequest, out: Path) -> MadeStudy:
    """Write the study to ``out`` and its key to ``<out>-key``; both appear whole or not at all.

    The same request on the same clips gives the same bytes, but for ``tokens.csv``, which is drawn anew.

    Raises:
        BadInput: arms of differing suites, the same run twice, too few common cases, a clip that cannot be decoded, a
            folder that is taken, or numbers that make no study.
        MissingPrerequisite: a reference of which neither the image nor a picture in a run is there.
    """
    out = out.resolve()
    key = out.with_name(f"{out.name}-key")
    for folder in (out, key):
        if folder.exists():
            raise BadInput(f"{folder} is there already", cure="choose another folder with --out")
    draft = _Draft.of(request)
    out.parent.mkdir(parents=True, exist_ok=True)
    with _whole(out, key) as (study_folder, key_folder):
        sizes = draft.write(study_folder, key_folder)
    return MadeStudy(
        study=StudyFolder(out), key=key, differing=tuple(draft.footage.differing), largest_sheet=max(sizes)
    )


@contextmanager
def _whole(out: Path, key: Path) -> Iterator[tuple[Path, Path]]:
    workplace = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    try:
        study_folder, key_folder = workplace / "study", workplace / "key"
        study_folder.mkdir()
        key_folder.mkdir(mode=0o700)
        yield study_folder, key_folder
        # The key first: a study without a key would be votes that nobody can read.
        with no_interruption():
            key_folder.replace(key)
            study_folder.replace(out)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """Everything that is known before a file is written."""

    request: StudyRequest
    runs: tuple[Run, ...]
    labels: tuple[str, ...]
    suite: Suite
    cases: tuple[Case, ...]
    sheets: dict[str, PlannedSheet]
    footage: Footage
    shown: dict[str, ShownCase]

    @classmethod
    def of(cls, request: StudyRequest) -> _Draft:
        runs = open_arms(request.arms)
        views = [RunView(run) for run in runs]
        suite = runs[0].suite(data_folder(str(runs[0].manifest.suite["name"]), request.data))
        cases = choose_cases(common_cases(runs, suite), request.cases, request.seed)
        refuse_copies(runs, cases)
        plan = Plan(
            cases=tuple(case.id for case in cases),
            arms=len(runs),
            questions=request.questions,
            raters=request.raters,
            per_rater=request.per_rater,
            repeats=request.repeats,
            checks=request.checks,
            foreign=foreign_cases(cases),
        )
        # Numbers of arms are as secret as the draws: the order in which runs were named tells nothing.
        secret = draw_secret(request.seed, suite, runs, cases)
        order = sorted(
            range(len(runs)), key=lambda i: hashlib.sha256(f"{secret}/{arm_sha256(runs[i], cases)}".encode()).digest()
        )
        arms = tuple(runs[i] for i in order)
        labels = run_labels(views)
        if DECOY in labels:
            raise BadInput(
                f"a model named '{DECOY}' would be taken for an attention check", cure="render it by another name"
            )
        sheets = make_sheets(plan, secret)
        width = max(2, len(str(request.raters)))
        return cls(
            request=request,
            runs=arms,
            labels=tuple(labels[i] for i in order),
            suite=suite,
            cases=tuple(cases),
            sheets={f"r{number:0{width}}": sheet for number, sheet in enumerate(sheets, 1)},
            footage=Footage(arms, plan.cases),
            shown={case.id: shown_case(case, arms) for case in cases},
        )

    def write(self, folder: Path, key: Path) -> list[int]:
        """Write both folders; returns the sizes of the sheets in bytes."""
        names, contents = self._write_clips(folder)
        sheets = {rater: _rater_sheet(sheet, names) for rater, sheet in self.sheets.items()}
        assignment = Assignment(seed=self.request.seed, raters=sheets)
        write_document(folder / "assignment.json", assignment.model_dump(mode="json"))
        write_bytes(folder / "pairs.csv", _pairs_csv(sheets.values()).encode())
        write_document(folder / "study.json", self._document(folder, sheets).model_dump(mode="json"))
        study = StudyFolder(folder)
        answers = study.document.answers
        sizes = []
        for rater, sheet in sheets.items():
            page = sheet_page(
                study.digest,
                rater,
                sheet,
                cases=self.shown,
                questions=self.request.questions,
                answers=answers,
                clips=contents,
            ).encode()
            write_bytes(folder / "sheets" / f"{rater}.html", page)
            sizes.append(len(page))
        page_for_print = print_page(sheets, cases=self.shown, questions=self.request.questions, answers=answers)
        write_bytes(folder / "print.html", page_for_print.encode())
        write_key(key, study, self.sheets, self.labels, self.runs)
        return sizes

    def _write_clips(self, folder: Path) -> tuple[dict[Shown, str], dict[str, bytes]]:
        wanted = {
            shown: None
            for sheet in self.sheets.values()
            for screen in sheet.screens
            for shown in (screen.left, screen.right)
        }
        encoded: dict[Shown, EncodedClip] = {
            shown: self.footage.encode(shown)
            for shown in sorted(wanted, key=lambda one: (one.case, one.arm, one.frozen))
        }
        files = {f"{clip.name}.mp4": clip.content for clip in encoded.values()}
        files |= {f"{clip.name}.jpg": clip.stills for clip in encoded.values()}
        files |= {reference_name(picture): picture for case in self.shown.values() for _, picture in case.references}
        # By name: the times of the files would else tell which clips of different cases are of one arm.
        for name, content in sorted(files.items()):
            write_bytes(folder / "clips" / name, content)
        return {shown: clip.name for shown, clip in encoded.items()}, {c.name: c.content for c in encoded.values()}

    def _document(self, folder: Path, sheets: Mapping[str, RaterSheet]) -> StudyDocument:
        request = self.request
        real = [sum(screen.kind is PairKind.REAL for screen in sheet.screens) for sheet in self.sheets.values()]
        checks = [sum(screen.kind in _CHECKS for screen in sheet.screens) for sheet in self.sheets.values()]
        pairs = len(self.runs) * (len(self.runs) - 1) // 2 * len(request.questions)
        votes = sum(real) // pairs
        lengths = [len(sheet.screens) for sheet in sheets.values()]
        rule = ExclusionRule()
        files = [*sorted((folder / "clips").iterdir()), folder / "assignment.json", folder / "pairs.csv"]
        return StudyDocument(
            refeval_version=__version__,
            suite=self.suite.name,
            seed=request.seed,
            arms=len(self.runs),
            cases=[case.id for case in self.cases],
            questions={question: QUESTIONS[question][1] for question in request.questions},
            answers=[Answer.LEFT, Answer.RIGHT, Answer.TIE, *([Answer.BOTH_BAD] if request.both_bad else [])],
            raters=list(sheets),
            repeats=request.repeats,
            checks=request.checks,
            exclusion=rule,
            passed_by_guessing=rule.passed_by_guessing(min(checks)),
            profile=self.footage.profile,
            screens_per_rater=(min(lengths), max(lengths)),
            votes_needed={f"{rate:.2f}": votes_needed(rate) for rate in TABLE_RATES},
            power=PowerNote(
                votes=votes,
                cases=len(self.cases),
                detectable=detectable_win_rate(votes),
                detectable_by_case=detectable_win_rate(min(votes, len(self.cases))),
            ),
            policy=sheet_policy(),
            files={path.relative_to(folder).as_posix(): file_sha256(path) for path in files},
        )


_CHECKS = (PairKind.IDENTICAL, PairKind.DECOY)


def _rater_sheet(sheet: PlannedSheet, names: Mapping[Shown, str]) -> RaterSheet:
    screens = [
        Screen(
            item=f"s{place + 1:03}",
            case=screen.case,
            question=screen.question,
            left=names[screen.left],
            right=names[screen.right],
        )
        for place, screen in enumerate(sheet.screens)
    ]
    return RaterSheet(seed=sheet.seed, screens=screens)


def _pairs_csv(sheets: Iterable[RaterSheet]) -> str:
    """Every pair that somebody sees, its clips sorted by name; checks are not told from other pairs."""
    pairs = {
        (screen.case, screen.question.value, *sorted((screen.left, screen.right)))
        for sheet in sheets
        for screen in sheet.screens
    }
    rows = [(f"p{number:04}", *pair) for number, pair in enumerate(sorted(pairs), 1)]
    return csv_text(("pair", "case", "question", "clip_1", "clip_2"), rows)
