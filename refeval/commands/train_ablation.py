"""``refeval train-ablation``: one member of an ablation, from its recipe to the scores of its clips."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refeval import evaluation
from refeval.cases import Suite
from refeval.commands import options
from refeval.commands.console import ERR, OUT, print_json, say
from refeval.commands.train import Asked, need_packages, parse_change, request_of, say_stopped, train_and_measure
from refeval.commands.work import say_statuses, work_off
from refeval.documents import read_document
from refeval.errors import ExitCode, MissingPrerequisite, RefevalError
from refeval.evaluation import Manner, Target
from refeval.forecast import forecast
from refeval.records import FINE_STATUSES
from refeval.runs import Run
from refeval.selection import Selection
from refeval.suites import load_suite
from refeval.supervisor import Outcome
from refeval.work import Phase

if TYPE_CHECKING:
    from refeval.training.ablation import Layout, Varied
    from refeval.training.recipe import Recipe
    from refeval.training.session import TrainingRequest

_ITERATIONS = "run.iterations"
# Options that are not called as the field.
_OPTIONS = {"rows": "data", "changes": "set", "negative_weight": "lambda"}


@dataclass(frozen=True, kw_only=True)
class MemberOptions:
    """The options of ``refeval train-ablation``, as they were given.

    Attributes:
        asked: those of the training; its folder follows from ``out``.
        varied: of :class:`refeval.training.ablation.Varied`, by name.
        suite: to render; None: the recipe's own.
        suite_data: folder of the suite's images.
        limit: only so many cases.
        metrics: ids; None: all that can run.
        tiny: score with small random weights.
        gpus: that share the clips.
        out: folder of all members; None: ``runs/ablations/CONFIG``.
    """

    asked: Asked
    varied: Mapping[str, Any]
    suite: str | None
    suite_data: Path | None
    limit: int | None
    metrics: str | None
    tiny: bool
    gpus: int | None
    out: Path | None

    def arguments(self) -> list[str]:
        """The command line that gives these options."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        asked, varied = fields.pop("asked"), fields.pop("varied")
        values = {field.name: getattr(asked, field.name) for field in dataclasses.fields(asked)} | varied | fields
        found = ["train-ablation"]
        for name, value in values.items():
            option = "--" + _OPTIONS.get(name, name).replace("_", "-")
            for one in value if isinstance(value, tuple) else (value,):
                if one is True:
                    found.append(option)
                elif one is not None and one is not False:
                    found += [option, str(one)]
        return found


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a member needs, before anything is written.

    Attributes:
        varied: what is varied.
        layout: where members lie.
        name: of its folders.
        request: the training.
        target: the run.
        selection: of its cases.
        manner: how the run is worked off.
    """

    varied: Varied
    layout: Layout
    name: str
    request: TrainingRequest
    target: Target
    selection: Selection
    manner: Manner

    def suite(self) -> Suite:
        """The suite that is rendered, loaded."""
        return _open_suite(self.target.suite, self.target.data)


def train_ablation(given: MemberOptions, *, as_json: bool) -> ExitCode:
    """``refeval train-ablation``."""
    need_packages()
    from refeval.training.session import is_complete

    plan = plan_member(given)
    look_ahead(plan)
    if not _is_helper():
        tell_unscored(plan)
    if not is_complete(plan.request):
        finished, found = train_and_measure(plan.request, wandb=given.asked.wandb)
        if finished.main and found is None:
            return say_stopped(finished.step)
    if _is_helper():
        return ExitCode.OK
    _release_memory()
    run, outcome = _render_and_score(plan)
    code = evaluation.exit_code(outcome)
    if as_json:
        print_json(_described(plan, run, outcome, code))
    else:
        _show(plan, run, outcome)
    return code


def base_recipe(asked: Asked) -> Recipe:
    """The recipe that members are made from: the one that is named, with the fields that were set.

    Raises:
        BadInput: as :func:`refeval.training.recipe.read_recipe`.
    """
    from refeval.training.recipe import read_recipe

    return read_recipe(asked.config, dict(map(parse_change, asked.changes)))


def plan_member(given: MemberOptions) -> Plan:
    """What the options ask for.

    Raises:
        BadInput: options that contradict each other or the recipe, or that nobody knows.
    """
    from refeval.training.ablation import ITERATIONS, Layout, Varied, is_published, suite_of

    varied, base = Varied(**given.varied), base_recipe(given.asked)
    changes = varied.changes(base)
    seed, iterations = given.asked.seed, given.asked.iterations
    own_length = any(parse_change(one)[0] == _ITERATIONS for one in given.asked.changes)
    if iterations is None and is_published(base) and not own_length:
        iterations = ITERATIONS
    layout, name = Layout.of(base, given.out), varied.folder(seed)
    asked = replace(given.asked, iterations=iterations, out=layout.training(name))
    suite = given.suite or suite_of(base)
    suite_name = _open_suite(suite, given.suite_data).name
    return Plan(
        varied=varied,
        layout=layout,
        name=name,
        request=request_of(asked, ablation=varied.place, changes=changes),
        target=Target(
            model=f"trained:{layout.training(name)}",
            suite=suite,
            data=given.suite_data,
            # The seed of a run is what tables tell the seeds of a member by.
            seed=seed,
            out=layout.run(suite_name, name),
        ),
        selection=options.selection(None, None, given.limit, None),
        manner=options.manner(
            given.metrics,
            None,
            "pyav",
            False,
            False,
            options.place(asked.weights, asked.device, "auto", 1),
            given.gpus,
            tiny=given.tiny,
        ),
    )


def look_ahead(plan: Plan) -> None:
    """Look, before days of training, at what it, rendering and scoring will need.

    Raises:
        BadInput: rows, metrics, cases or a clip that cannot be.
        MissingPrerequisite: weights, images, packages or GPUs are missing.
    """
    from refeval.generators.trained import generator_of
    from refeval.training.session import document_of, open_world
    from refeval.training.trained_network import TrainedNetwork

    evaluation.check_scoring(plan.manner)
    suite, request = plan.suite(), plan.request
    open_world(request, "cpu").source()
    for case in plan.selection.of(suite):
        case.reference_files()
    if request.recipe.network.base == "sprites":
        # What it needs is made in training.
        return
    planned = TrainedNetwork(
        folder=request.folder,
        document=document_of(request),
        step=request.recipe.run.iterations,
        averaged=bool(request.recipe.optimizer.ema),
        sha256="",
    )
    generator = generator_of(planned)
    generator.place = plan.manner.place
    generator.expected(generator.own_clip(suite.clip))
    generator.check()


def tell_unscored(plan: Plan) -> None:
    """Name the metrics that will be absent from the table, while there is time to fetch what they lack."""
    if plan.request.recipe.network.base == "sprites" and not plan.manner.metrics:
        # Its clips are too small for them, so nobody misses them.
        return
    for metric_id, error in evaluation.lacking_for_scoring(plan.manner).items():
        ERR.print(f"not scored  {metric_id}: {error.what}; {error.cure}", soft_wrap=True)


def is_done(plan: Plan) -> bool:
    """Whether a member is trained, and every clip that is asked for is rendered and scored without a failure.

    Where something is wrong with what is there, it is not: whoever does the member says what.
    """
    from refeval.training.session import is_complete

    try:
        if not is_complete(plan.request):
            return False
        prepared = evaluation.prepare(plan.target, plan.selection, plan.manner)
        left = forecast(prepared, plan.manner)
    except RefevalError:
        return False
    if left.render or left.nothing or any(left.scores.open.values()) or left.scores.unavailable:
        return False
    run = Run(prepared.folder)
    records = [run.render_record(case.id) for case in prepared.cases]
    scores = [run.score_record(metric, case.id) for metric in left.scores.open for case in prepared.cases]
    return all(record is not None and record.status.value in FINE_STATUSES for record in (*records, *scores))


def _open_suite(name: str, data: Path | None) -> Suite:
    """As :func:`load_suite`, which does not know what the option is called here."""
    try:
        return load_suite(name, data=data)
    except MissingPrerequisite as error:
        cure = f"refeval fetch suite {name} --data DIR, then --suite-data DIR or REFEVAL_DATA=DIR"
        raise MissingPrerequisite(error.what, details=error.details, cure=cure) from error


def _render_and_score(plan: Plan) -> tuple[Run, Outcome]:
    prepared = evaluation.prepare(plan.target, plan.selection, plan.manner)
    evaluation.check_rendering(prepared, plan.manner)
    run = prepared.start()
    phases = [Phase.RENDER, Phase.SCORE]
    return run, work_off(run, prepared.cases, phases, plan.manner, plan.target.model, prepared.suite.root)


def _is_helper() -> bool:
    """Whether this is another process than the main one of ``accelerate launch``, which has done its part."""
    return os.environ.get("RANK", "0") != "0"


def _release_memory() -> None:
    from refeval.generators.wan.engine import release_cached_memory

    release_cached_memory()


def _row(plan: Plan) -> str:
    """Which row of which table it is."""
    from refeval.training.ablation import TABLES

    study = plan.varied.study
    if study is None:
        return f"{plan.varied.member} is a member of no study: it stands among the plain runs"
    return f"{plan.varied.member} of the ablation of {study}, {TABLES[study]} of the paper"


def _show(plan: Plan, run: Run, outcome: Outcome) -> None:
    from refeval.commands.ablation_tables import measured_tables, members_there
    from refeval.reports.ablations import ablation_table
    from refeval.reports.readings import read_runs
    from refeval.reports.totals import totals_table

    study = plan.varied.study
    names = members_there(run.folder.parent, study) if study else [plan.name]
    runs = [Run(run.folder.with_name(name)) for name in names]
    table = ablation_table(read_runs(runs), study) if study else totals_table([run], published=False).transposed()
    if table is not None:
        OUT.print(table.terminal())
    for measured in measured_tables([plan.layout.training(name) for name in names], study or "recipe").values():
        OUT.print(measured.terminal())
    for note in plan.varied.notes(plan.request.recipe):
        say(f"note        {note}")
    say(f"row         {_row(plan)}")
    say(f"training    {plan.request.folder}")
    say_statuses(run, outcome)
    say(f"tables      refeval report {shlex.join(str(one.folder) for one in runs)}")


def _described(plan: Plan, run: Run, outcome: Outcome, code: ExitCode) -> dict[str, Any]:
    from refeval.training.conclusion import ASSESSMENT

    assessment = plan.request.folder / ASSESSMENT
    return {
        "study": plan.varied.study,
        "member": plan.varied.member,
        "row": _row(plan),
        "notes": plan.varied.notes(plan.request.recipe),
        "training": str(plan.request.folder),
        "run": str(run.folder),
        "measures": read_document(assessment)["measures"] if assessment.is_file() else [],
        "statuses": evaluation.count_statuses(outcome),
        "unavailable": {metric: str(error) for metric, error in sorted(outcome.unavailable.items())},
        "exit_code": int(code),
    }
