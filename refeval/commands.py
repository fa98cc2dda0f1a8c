"""What the commands of the command line print: text for people, one JSON object for programs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from refeval import checking, evaluation, fetching
from refeval import doctor as doctor_module
from refeval.cases import Case, Domain
from refeval.catalogue import METRIC_BY_ID, PUBLISHED_METRICS
from refeval.errors import BadInput, ExitCode, MissingPrerequisite
from refeval.evaluation import Manner, Prepared, Target
from refeval.forecast import forecast
from refeval.official import folder_total, write_folder
from refeval.place import DEVICES, Place
from refeval.progress import ProgressView
from refeval.protocols import ProtocolName, Total, run_total
from refeval.registry import generator_targets, load_metric, metric_targets
from refeval.runs import Run
from refeval.selection import Selection
from refeval.suggestions import did_you_mean
from refeval.suites import SUITES, data_folder, load_suite
from refeval.supervisor import Outcome
from refeval.thumbnails import keep_references
from refeval.work import Phase


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Keep the command's own exit code when ``| head`` has seen enough."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


# No text is markup: paths and prompts may hold brackets.
_OUT = _Console(markup=False, highlight=False)
_ERR = _Console(markup=False, highlight=False, stderr=True)
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def say_error(text: str) -> None:
    """Print an error as the program's last word."""
    _ERR.print(f"refeval: {text}", soft_wrap=True)


def selection(cases: str | None, category: str | None, limit: int | None, shard: str | None) -> Selection:
    """A selection from command-line options."""
    return Selection(ids=_names(cases), category=category, limit=limit, shard=shard)


def place(weights: Path | None, device: str, memory: str, gpus_per_clip: int) -> Place:
    """A place from command-line options."""
    if device not in DEVICES:
        known = ", ".join(DEVICES)
        raise BadInput(f"unknown device '{device}'{did_you_mean(device, DEVICES)}", details=(("known", known),))
    return Place(weights=weights, device=device, memory=memory, gpus_per_clip=gpus_per_clip)


def manner(
    metrics: str | None,
    workers: int | None,
    decoder: str,
    accept_lifeless: bool,
    retry_failed: bool,
    place: Place | None = None,
    gpus: int | None = None,
    *,
    tiny: bool = False,
) -> Manner:
    """A manner from command-line options."""
    place = place or Place()
    if gpus is not None and workers is not None:
        cure = "leave --workers out: with --gpus there is one process for each GPU, or for --gpus-per-clip of them"
        raise BadInput("--gpus and --workers exclude each other", cure=cure)
    if gpus is not None and gpus % place.gpus_per_clip:
        whole = max(gpus - gpus % place.gpus_per_clip, place.gpus_per_clip)
        what = f"--gpus {gpus} is not a multiple of --gpus-per-clip {place.gpus_per_clip}"
        raise BadInput(what, cure=f"--gpus {whole}")
    return Manner(
        metrics=_names(metrics),
        workers=workers or 1,
        decoder=decoder,
        accept_lifeless=accept_lifeless,
        retry_failed=retry_failed,
        place=place,
        tiny=tiny,
        gpus=gpus or 0,
    )


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
        _go_offline()
    if score:
        evaluation.check_scoring(manner)
    prepared = evaluation.prepare(target, selection, manner)
    if dry_run:
        return _show_forecast(prepared, manner, score=score, as_json=as_json)
    evaluation.check_rendering(prepared, manner)
    phases = [Phase.RENDER, Phase.SCORE] if score else [Phase.RENDER]
    started = prepared.start()
    outcome = _work(started, prepared.cases, phases, manner, target.model, prepared.suite.root)
    return _finish(started, outcome, report=score, as_json=as_json)


def score(
    folder: Path, selection: Selection, manner: Manner, *, data: Path | None, offline: bool, as_json: bool
) -> ExitCode:
    """``refeval score``."""
    if offline:
        _go_offline()
    evaluation.check_scoring(manner)
    scored = Run(folder)
    root = data_folder(str(scored.manifest.suite["name"]), data)
    cases = selection.of(scored.suite(root))
    outcome = _work(scored, cases, [Phase.SCORE], manner, None, root)
    return _finish(scored, outcome, report=True, as_json=as_json)


def total(path: Path, *, domain: str | None, protocol: str | None, allow_missing: bool, as_json: bool) -> ExitCode:
    """``refeval total``."""
    from refeval.reports.explain import total_table

    chosen = _protocol(protocol)
    if (path / "manifest.json").is_file():
        opened = Run(path)
        wanted = _domain(domain) or opened.manifest.domain
        result = run_total(
            opened.suite(),
            opened.score_records(),
            protocol=chosen,
            domain=wanted,
            allow_missing=allow_missing,
        )
    elif path.is_dir():
        result = folder_total(path, protocol=chosen, domain=_domain(domain) or Domain.OPEN)
    else:
        raise BadInput(f"{path} is not a folder", cure="give a run folder, or a folder of official score files")
    if as_json:
        # The official result may hold NaN, and then so does ours; every other command writes strict JSON.
        _OUT.out(json.dumps(result.as_json(), indent=1), highlight=False)
    else:
        _OUT.print(total_table(result, title=str(path)).terminal())
    return ExitCode.OK if result.total is not None else ExitCode.INCOMPLETE


def report(runs: Sequence[Path], *, out: Path | None, data: Path | None, as_json: bool) -> ExitCode:
    """``refeval report``."""
    from refeval.reports.totals import totals_table
    from refeval.reports.web import write_report

    opened = [Run(folder) for folder in runs]
    for one in opened:
        rendered = {record.case for record in one.render_records()}
        keep_references(one, [case for case in one.suite(data).cases if case.id in rendered])
    written = write_report(opened, out or opened[0].folder / "reports")
    if as_json:
        _print_json({"written": [str(path) for path in written]})
    else:
        _OUT.print(totals_table(opened, published=False).transposed().terminal())
        _say_written(written)
    return ExitCode.OK


def check(folder: Path, *, as_json: bool) -> ExitCode:
    """``refeval check``."""
    return _show_findings(checking.check_run(Run(folder)), "every file is there and as recorded", as_json)


def explain(folder: Path, case_id: str | None, *, as_json: bool) -> ExitCode:
    """``refeval explain``."""
    from refeval.reports.explain import explain_case, explain_run

    opened = Run(folder)
    tables = explain_case(opened, case_id) if case_id else explain_run(opened)
    if as_json:
        _print_json(
            {table.title: [dict(zip(table.columns, row, strict=True)) for row in table.rows] for table in tables}
        )
    else:
        for table in tables:
            _OUT.print(table.terminal())
    return ExitCode.OK


def export(folder: Path, *, out: Path | None, name: str | None, as_json: bool) -> ExitCode:
    """``refeval export``."""
    opened = Run(folder)
    model = name or re.sub(r"[^A-Za-z0-9._-]+", "-", opened.manifest.model)
    suite, records = opened.suite(), opened.score_records()
    place = out or folder / "reports" / "official"
    if out is None:
        # This folder is the program's own: what an earlier export left there goes.
        for path in place.glob("*.json"):
            path.unlink()
    written = write_folder(place, suite, records, model=model)
    total = run_total(suite, records, protocol=ProtocolName.V1_1)
    if as_json:
        _print_json({"written": [str(path) for path in written], "problems": list(total.problems)})
    else:
        _say_written(written)
        for problem in total.problems:
            _say(f"incomplete  {problem}")
    return ExitCode.OK if total.complete else ExitCode.INCOMPLETE


def fetch_suite(name: str, folder: Path, *, revision: str | None, offline: bool, as_json: bool) -> ExitCode:
    """``refeval fetch suite``."""
    fetched = fetching.fetch_suite(
        name, folder, revision=revision, offline=offline, tell=lambda line: _ERR.print(line, soft_wrap=True)
    )
    if as_json:
        _print_json({"folder": str(fetched.folder), "revision": fetched.revision, "files": fetched.files})
    else:
        at = f" at {fetched.revision}" if fetched.revision else ""
        _say(f"{fetched.files} files{at} in {fetched.folder}")
    return ExitCode.OK


def fetch_model(name: str, folder: Path, *, revision: str | None, offline: bool, as_json: bool) -> ExitCode:
    """``refeval fetch model``."""
    fetched = fetching.fetch_model(
        name, folder, revision=revision, offline=offline, tell=lambda line: _ERR.print(line, soft_wrap=True)
    )
    return _show_fetched({"model": name}, fetched, folder, as_json)


def fetch_metrics(metrics: str | None, folder: Path, *, offline: bool, as_json: bool) -> ExitCode:
    """``refeval fetch metrics``."""
    ids = _names(metrics)
    fetched = fetching.fetch_metrics(ids, folder, offline=offline, tell=lambda line: _ERR.print(line, soft_wrap=True))
    return _show_fetched({"metrics": list(ids) or "all"}, fetched, folder, as_json)


def cases(
    suite: str, *, data: Path | None, category: str | None, list_suites: bool, check: bool, as_json: bool
) -> ExitCode:
    """``refeval cases``."""
    if list_suites:
        rows = [
            {"suite": s.name, "cases": s.cases, "domain": s.domain.value, "what": s.summary} for s in SUITES.values()
        ]
        return _show_rows("suites", rows, as_json)
    loaded = load_suite(suite, data=data)
    if check:
        findings = checking.check_references(loaded)
        fine = f"{len(loaded.cases)} cases: every reference image opens"
        return _show_findings(findings, fine, as_json)
    chosen = Selection(category=category).of(loaded)
    return _show_rows(f"cases of {loaded.name}", [_case_row(case) for case in chosen], as_json)


def models(*, as_json: bool) -> ExitCode:
    """``refeval models``."""
    from refeval.registry import describe_generator

    rows = [{"model": name, "what": describe_generator(name)} for name in sorted(generator_targets())]
    return _show_rows("models", rows, as_json)


def metrics(*, as_json: bool) -> ExitCode:
    """``refeval metrics``."""
    there = metric_targets()
    ids = [*(metric.id for metric in PUBLISHED_METRICS), *sorted(set(there) - set(METRIC_BY_ID))]
    rows = []
    for metric_id in ids:
        label = METRIC_BY_ID[metric_id].label if metric_id in METRIC_BY_ID else metric_id
        try:
            label, status = load_metric(metric_id, _place_of_environment()).label, "available"
        except MissingPrerequisite as error:
            status = error.what if metric_id in there else "not available in this version"
        rows.append({"id": metric_id, "metric": label, "status": status})
    return _show_rows("metrics", rows, as_json)


def doctor(*, as_json: bool) -> ExitCode:
    """``refeval doctor``."""
    rows = [
        {"area": d.area, "name": d.name, "status": "ok" if d.present else "missing", "note": d.note, "cure": d.cure}
        for d in doctor_module.diagnose()
    ]
    return _show_rows("doctor", rows, as_json)


def _show_fetched(
    what: Mapping[str, Any], fetched: Sequence[fetching.Fetched], folder: Path, as_json: bool
) -> ExitCode:
    if as_json:
        rows = [
            {
                "repository": one.repository,
                "revision": one.revision,
                "folder": str(one.folder),
                "files": one.files,
                "bytes": one.size,
            }
            for one in fetched
        ]
        _print_json({**what, "folder": str(folder), "repositories": rows})
        return ExitCode.OK
    for one in fetched:
        _say(f"{one.files} files, {one.size / 1e9:.2f} GB, of {one.repository} at {one.revision} in {one.folder}")
    return ExitCode.OK


def _place_of_environment() -> Place:
    weights = os.environ.get("REFEVAL_WEIGHTS")
    return Place(weights=Path(weights) if weights else None)


def _work(
    run: Run, cases: Sequence[Case], phases: list[Phase], manner: Manner, model: str | None, data: Path | None
) -> Outcome:
    for metric_id, cost in evaluation.costs(run, cases, manner).items() if Phase.SCORE in phases else ():
        _ERR.print(f"{metric_id:<10}  {cost}", soft_wrap=True)
    with ProgressView(phases, len(cases), _ERR) as view:
        return evaluation.carry_out(run, cases, phases, manner, model=model, data=data, on_event=view.see)


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
        _print_json(summary)
        return code
    if report:
        from refeval.reports.totals import totals_table

        _OUT.print(totals_table([run], published=False).transposed().terminal())
    _say_statuses(run, outcome)
    _say_written(written)
    return code


def _write_report(run: Run) -> list[Path]:
    from refeval.reports.web import write_report

    return write_report([run], run.folder / "reports")


def _totals(run: Run) -> list[Total]:
    suite, records = run.suite(), run.score_records()
    return [run_total(suite, records, protocol=name) for name in (ProtocolName.V1_1, ProtocolName.STRICT)]


def _say_statuses(run: Run, outcome: Outcome) -> None:
    _say(f"run folder  {run.folder}")
    for part, counts in evaluation.count_statuses(outcome).items():
        line = ", ".join(f"{number} {status}" for status, number in counts.items())
        _say(f"{part:<18}  {line}")
    for metric_id, error in sorted(outcome.unavailable.items()):
        _say(f"{metric_id:<18}  {error}")
    if evaluation.exit_code(outcome) is ExitCode.INCOMPLETE:
        _say(f"why         refeval check {run.folder}")


def _show_forecast(prepared: Prepared, manner: Manner, *, score: bool, as_json: bool) -> ExitCode:
    expected = forecast(prepared, manner)
    lacking = evaluation.lacking_for_rendering(prepared, manner)
    seconds = expected.render_seconds
    if score and seconds is not None:
        seconds = None if expected.score_seconds is None else seconds + expected.score_seconds
    if as_json:
        _print_json(
            {
                "run": str(expected.folder),
                "cases": expected.cases,
                "render": expected.render,
                "nothing_to_render_from": expected.nothing,
                "score": expected.score if score else {},
                "unavailable": list(expected.unavailable),
                "lacking": str(lacking) if lacking else None,
                "seconds": seconds,
                "clip_bytes": expected.clip_bytes,
            }
        )
        return ExitCode.OK
    _say(f"run folder  {expected.folder}")
    if lacking:
        _say(f"not yet     {lacking}")
    verb = "take" if prepared.ready else "render"
    _say(f"{verb:<10}  {expected.render} of {expected.cases} clips")
    if expected.nothing:
        _say(f"missing     {expected.nothing} cases have no clip")
    for metric_id, number in expected.score.items() if score else ():
        _say(f"score       {number} of {expected.cases} cases with {metric_id}")
    for metric_id in expected.unavailable if score else ():
        _say(f"not here    {metric_id}")
    _say(f"time        {'not known: nothing like it was timed here yet' if seconds is None else _duration(seconds)}")
    _say(f"disk        {expected.clip_bytes / 1e6:.1f} MB of clips ({expected.basis})")
    return ExitCode.OK


def _show_findings(findings: Sequence[checking.Finding], fine: str, as_json: bool) -> ExitCode:
    code = checking.exit_code(list(findings))
    if as_json:
        rows = [{"severity": finding.severity.value, "text": finding.text} for finding in findings]
        _print_json({"findings": rows, "exit_code": int(code)})
        return code
    for finding in findings:
        _say(f"{finding.severity.value:<10}  {finding.text}")
    if code is ExitCode.OK:
        _OUT.print(fine)
    return code


def _show_rows(title: str, rows: Sequence[Mapping[str, Any]], as_json: bool) -> ExitCode:
    if as_json:
        _print_json({title: [dict(row) for row in rows]})
        return ExitCode.OK
    from refeval.reports.table import Table

    columns = tuple(rows[0])
    texts = tuple(tuple(str(row[column]) for column in columns) for row in rows)
    _OUT.print(Table(title=title, columns=columns, rows=texts, left=len(columns)).terminal())
    return ExitCode.OK


def _case_row(case: Case) -> dict[str, str]:
    references = ", ".join(f"{reference.label} ({reference.kind.value})" for reference in case.references)
    return {"case": case.id, "category": case.category.value, "references": references, "prompt": case.prompt}


def _say(line: str) -> None:
    _OUT.print(line, soft_wrap=True)


def _say_written(written: Sequence[Path]) -> None:
    for path in written:
        _say(f"written     {path}")


def _print_json(content: Mapping[str, Any]) -> None:
    _OUT.out(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False), highlight=False)


def _finite(content: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and value != value else value for key, value in content.items()}


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"about {hours} h {minutes} min" if hours else f"about {minutes} min {rest} s"


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _protocol(name: str | None) -> ProtocolName:
    try:
        return ProtocolName(name) if name else ProtocolName.V1_1
    except ValueError:
        known = [protocol.value for protocol in ProtocolName]
        details = (("known", ", ".join(known)),)
        raise BadInput(f"unknown protocol '{name}'{did_you_mean(str(name), known)}", details=details) from None


def _domain(name: str | None) -> Domain | None:
    try:
        return Domain(name) if name else None
    except ValueError:
        raise BadInput(f"unknown domain '{name}'", details=(("known", "open, human, single"),)) from None


def _go_offline() -> None:
    # Workers inherit it: no library that a generator or a metric loads may ask a hub.
    for variable in _OFFLINE:
        os.environ[variable] = "1"
