"""``refeval ablate``: all members of a study, several at once, and the report of what they have become."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refeval.commands.ablation_tables import measured_tables
from refeval.commands.console import ERR, OUT, print_json, say, say_written
from refeval.commands.results import make_report
from refeval.commands.train import need_packages
from refeval.commands.train_ablation import (
    MemberOptions,
    Plan,
    base_recipe,
    is_done,
    look_ahead,
    plan_member,
    tell_unscored,
)
from refeval.documents import write_bytes
from refeval.errors import BadInput, ExitCode
from refeval.gpus import VISIBLE, require_gpus, share_gpus
from refeval.runs import Run
from refeval.side_by_side import Ended, Job, run_jobs
from refeval.suggestions import did_you_mean

if TYPE_CHECKING:
    from refeval.reports.ablations import Study
    from refeval.reports.table import Table

_THREADS = "OMP_NUM_THREADS"
# A run whose cases are not all scored is still a run of its member.
_SHOWN = (ExitCode.OK, ExitCode.INCOMPLETE)


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """The options of ``refeval ablate``, as they were given.

    Attributes:
        study: its name.
        each: of every member; what is varied and the seed are filled in.
        seeds: of every member.
        depths: members of the study of depths; none: all.
        encoders: members of the study of encoders; none: all.
        gpus: members at once, each on its own GPU; None: on the CPU.
        workers: members at once without GPUs.
    """

    study: str
    each: MemberOptions
    seeds: tuple[int, ...]
    depths: tuple[int, ...]
    encoders: tuple[str, ...]
    gpus: int | None
    workers: int | None


@dataclass(frozen=True, kw_only=True)
class _Reported:
    """What was written of a study.

    Attributes:
        tables: to be shown.
        written: the files.
        left_out: a sentence for everything that could not be written.
    """

    tables: Sequence[Table]
    written: Sequence[Path]
    left_out: Sequence[str]


def ablate(given: StudyOptions, *, as_json: bool) -> ExitCode:
    """``refeval ablate``."""
    need_packages()
    study = _study(given.study)
    slots = slots_of(given)
    members = _members(given, study)
    plans = [plan_member(member) for member in members]
    suite = plans[0].suite().name
    jobs = [
        Job(name=plan.name, arguments=tuple(member.arguments()), log=plan.layout.log(suite, plan.name))
        for member, plan in zip(members, plans, strict=True)
    ]
    ended = _carry_out(jobs, plans, slots)
    shown = [plan for plan, end in zip(plans, ended, strict=True) if end.code in _SHOWN]
    report = _report(study, shown, plans[0].layout.report(suite, study), given.each.suite_data) if shown else None
    code = ExitCode.OK if all(end.code == ExitCode.OK for end in ended) else ExitCode.INCOMPLETE
    if as_json:
        print_json(_described(study, plans, ended, report, code))
    else:
        _show(plans, ended, report)
    return code


def numbers(option: str, text: str | None) -> tuple[int, ...]:
    """Whole numbers, separated by commas.

    Raises:
        BadInput: something else, or one of them twice.
    """
    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise BadInput(f"{option} {text}", cure=f"give numbers, each once: {option} 0,1,2")
    return tuple(map(int, parts))


def _study(name: str) -> Study:
    from refeval.reports.ablations import Study

    known = [study.value for study in Study]
    if name not in known:
        raise BadInput(f"unknown study '{name}'{did_you_mean(name, known)}", cure=f"--study one of {', '.join(known)}")
    return Study(name)


def slots_of(given: StudyOptions) -> list[dict[str, str]]:
    """The environment of every member that works at the same time as others."""
    if given.gpus is not None and given.workers is not None:
        raise BadInput("--gpus and --workers exclude each other", cure="--gpus N on GPUs, --workers N on a CPU")
    if given.gpus is not None:
        require_gpus(given.gpus)
        return [{VISIBLE: gpu} for gpu in share_gpus(given.gpus, 1)]
    count = given.workers or 1
    if count == 1 or _THREADS in os.environ:
        return [{} for _ in range(count)]
    threads = max(1, (os.cpu_count() or 1) // count)
    return [{_THREADS: str(threads)} for _ in range(count)]


def _members(given: StudyOptions, study: Study) -> list[MemberOptions]:
    """All members with the first seed, then with the next: what is there early can be compared early."""
    from refeval.training.ablation import study_members

    if not given.seeds:
        raise BadInput("no seed is given", cure="--seeds 0,1,2")
    each = given.each
    chosen = study_members(study, base_recipe(each.asked), depths=given.depths, encoders=given.encoders)
    return [
        replace(each, asked=replace(each.asked, seed=seed), varied=member.options())
        for seed in given.seeds
        for member in chosen
    ]


def _carry_out(jobs: Sequence[Job], plans: Sequence[Plan], slots: Sequence[dict[str, str]]) -> list[Ended]:
    """Do what is not done yet; how every member ended, in order."""
    done = {
        job: Ended(job=job, code=ExitCode.OK, reason="", seconds=0.0)
        for job, plan in zip(jobs, plans, strict=True)
        if is_done(plan)
    }
    for job in done:
        _tell(f"there       {job.name}")
    left = [(job, plan) for job, plan in zip(jobs, plans, strict=True) if job not in done]
    for _, plan in left:
        look_ahead(plan)
    if left:
        tell_unscored(left[0][1])
    ended = run_jobs(
        [job for job, _ in left], slots, on_start=lambda job: _tell(f"started     {job.name}"), on_end=_tell_end
    )
    found = done | {end.job: end for end in ended}
    return [found[job] for job in jobs]


def _report(study: Study, plans: Sequence[Plan], folder: Path, suite_data: Path | None) -> _Reported:
    """Write the report of the runs, and the measures where there are any."""
    from refeval.reports.ablations import ablation_table
    from refeval.reports.readings import read_runs

    runs = [Run(plan.target.out) for plan in plans if plan.target.out is not None]
    trainings = [plan.request.folder for plan in plans]
    written, left_out = make_report(runs, folder, own=True, data=suite_data)
    scores, measured = ablation_table(read_runs(runs), study), measured_tables(trainings, study.value)
    for name, table in measured.items():
        for suffix, text in (("md", table.markdown()), ("csv", table.csv())):
            path = folder / f"{name}.{suffix}"
            write_bytes(path, text.encode())
            written.append(path)
    tables = [*([scores] if scores else []), *measured.values()]
    return _Reported(tables=tables, written=written, left_out=left_out)


def _show(plans: Sequence[Plan], ended: Sequence[Ended], report: _Reported | None) -> None:
    if report is not None:
        for table in report.tables:
            OUT.print(table.terminal())
        say_written(report.written)
        for sentence in report.left_out:
            say(f"left out    {sentence}")
    for note in dict.fromkeys(note for plan in plans for note in plan.varied.notes(plan.request.recipe)):
        say(f"note        {note}")
    for end in ended:
        if end.code != ExitCode.OK:
            say(f"{_word(end):<11} {end.job.name}: {end.reason}")
            say(f"log         {end.job.log}")


def _described(
    study: Study, plans: Sequence[Plan], ended: Sequence[Ended], report: _Reported | None, code: ExitCode
) -> dict[str, Any]:
    return {
        "study": study.value,
        "members": [
            {
                "member": plan.varied.member,
                "seed": plan.request.seed,
                "exit_code": end.code,
                "reason": end.reason,
                "notes": plan.varied.notes(plan.request.recipe),
                "training": str(plan.request.folder),
                "run": str(plan.target.out),
                "log": str(end.job.log),
            }
            for plan, end in zip(plans, ended, strict=True)
        ],
        "written": [str(path) for path in report.written] if report else [],
        "left_out": list(report.left_out) if report else [],
        "exit_code": int(code),
    }


def _tell_end(end: Ended) -> None:
    took = timedelta(seconds=round(end.seconds))
    _tell(f"{_word(end):<11} {end.job.name}, {took}" + (f": {end.reason}" if end.reason else ""))


def _word(end: Ended) -> str:
    words = {int(ExitCode.OK): "done", int(ExitCode.INCOMPLETE): "incomplete"}
    return words.get(end.code, "failed")


def _tell(line: str) -> None:
    ERR.print(line, soft_wrap=True)
