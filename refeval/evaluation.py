"""The main job: a model and a suite become a run folder with clips, scores, totals and a report."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path

from refeval.cases import Case, ClipSpec, Suite
from refeval.clips import decoder_version
from refeval.errors import BadInput, ExitCode, MissingPrerequisite
from refeval.generators.base import Generator
from refeval.gpus import require_gpus, share_gpus
from refeval.metrics.base import MemoryNeed
from refeval.passes import Pass, device_memory, plan_passes
from refeval.place import Place
from refeval.records import FINE_STATUSES
from refeval.registry import load_generator, load_metric, metric_targets
from refeval.runs import Manifest, Run, look_at_folder, make_manifest, refuse_another, start_run
from refeval.selection import Selection
from refeval.suites import load_suite
from refeval.supervisor import Outcome, Supervisor
from refeval.thumbnails import keep_references
from refeval.work import Event, Order, Phase

_LONGEST_NAME = 60


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is evaluated: hashed into the manifest.

    Attributes:
        model: ``name`` or ``name:argument``.
        suite: name or JSON file.
        data: folder of the reference images, if known.
        seed: of the run.
        size: ``WIDTHxHEIGHT`` instead of the suite's.
        frames: number of frames instead of the suite's.
        fps: frames per second instead of the suite's.
        out: the run folder; by default made from model, suite and seed, so that a repeated command resumes.
    """

    model: str
    suite: str
    data: Path | None = None
    seed: int = 0
    size: str | None = None
    frames: int | None = None
    fps: str | None = None
    out: Path | None = None

    @property
    def gives_clip(self) -> bool:
        """Whether size, length or rate is the user's own."""
        return any(value is not None for value in (self.size, self.frames, self.fps))


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How the work is done.

    Attributes:
        metrics: ids asked for; empty: every metric that can run.
        workers: processes that share the work.
        decoder: ``pyav`` or ``decord``.
        accept_lifeless: score black and frozen clips, as the official scripts do.
        retry_failed: try again what is recorded as failed.
        tiny: score with small random weights, to try the procedure.
        place: where and by what means models and metrics work.
        gpus: how many GPUs are shared out, so many per process as a clip is spread over; 0: none is, and
            ``workers`` counts.
        gpu_memory: gigabytes that each GPU has for metrics; by default what its driver says.
    """

    metrics: tuple[str, ...] = ()
    workers: int = 1
    decoder: str = "pyav"
    accept_lifeless: bool = False
    retry_failed: bool = False
    tiny: bool = False
    place: Place = field(default_factory=Place)
    gpus: int = 0
    gpu_memory: float | None = None


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A target that is known to be right, before anything is written.

    Attributes:
        target: as given.
        suite: loaded.
        generator: made, not loaded.
        clip: what will be rendered.
        cases: those selected.
        folder: of the run.
    """

    target: Target
    suite: Suite
    generator: Generator
    clip: ClipSpec
    cases: list[Case]
    folder: Path

    @property
    def ready(self) -> bool:
        """Whether the clips are there already and are only taken."""
        return self.generator.expected(self.clip) is None

    def exists(self) -> bool:
        """Whether the run was begun before.

        Raises:
            BadInput: the folder holds another run, or something else.
        """
        # The manifest needs the weights; where no run was begun, nobody needs to have them yet.
        if not look_at_folder(self.folder):
            return False
        refuse_another(Run(self.folder), self.manifest)
        return True

    def start(self) -> Run:
        """Make or take up the run folder.

        Raises:
            BadInput: the folder holds another run, or something else.
        """
        return start_run(self.folder, self.manifest, self.suite)

    @property
    def model(self) -> str:
        """As it stands in manifests."""
        return public_name(self.target.model)

    @cached_property
    def manifest(self) -> Manifest:
        """What the run is."""
        return make_manifest(
            self.suite,
            model=self.model,
            generator_version=self.generator.version,
            settings=self.generator.settings(),
            weights=self.generator.weights(),
            seed=self.target.seed,
            clip=self.clip,
            # Ready clips may be of any size, unless the user says what they must have.
            expected=self.clip if not self.ready or self.target.gives_clip else None,
        )


def prepare(target: Target, selection: Selection, manner: Manner) -> Prepared:
    """Look at everything that can be wrong before the first clip is made; nothing is written.

    Raises:
        BadInput: model, suite, selection or settings.
        MissingPrerequisite: data or packages are missing.
    """
    generator = load_generator(target.model, manner.place)
    suite = load_suite(target.suite, data=target.data)
    cases = selection.of(suite)
    for case in cases:
        generator.inputs(case)
    wanted = clip_spec(target, generator.own_clip(suite.clip))
    clip = generator.expected(wanted) or wanted
    if clip != wanted and target.gives_clip:
        what = f"model '{target.model}' renders {clip} by its own settings, not {wanted}"
        raise BadInput(what, cure="leave --size, --frames and --fps out, or change its settings")
    return Prepared(
        target=target,
        suite=suite,
        generator=generator,
        clip=clip,
        cases=cases,
        folder=target.out or default_folder(target, suite),
    )


def lacking_for_scoring(manner: Manner) -> dict[str, MissingPrerequisite]:
    """What is missing for metrics that cannot run here, by id: of those asked for, else of all.

    Raises:
        BadInput: an unknown id.
    """
    problems = {}
    for metric_id in manner.metrics or sorted(metric_targets()):
        try:
            load_metric(metric_id, manner.place, tiny=manner.tiny)
        except MissingPrerequisite as error:
            problems[metric_id] = error
    return problems


def wanted_metrics(manner: Manner) -> list[str]:
    """The metrics to score: those asked for, else all that can run here.

    Raises:
        BadInput: an unknown id.
        MissingPrerequisite: none of those asked for can run here.
    """
    problems = lacking_for_scoring(manner)
    if not manner.metrics:
        return [metric_id for metric_id in sorted(metric_targets()) if metric_id not in problems]
    if len(problems) == len(set(manner.metrics)):
        raise next(iter(problems.values()))
    return list(dict.fromkeys(manner.metrics))


def check_rendering(prepared: Prepared, manner: Manner) -> None:
    """Look at what rendering needs before anything is written.

    Raises:
        BadInput: the GPUs or the place cannot be used.
        MissingPrerequisite: GPUs, weights or packages are missing.
    """
    if manner.gpus:
        require_gpus(manner.gpus)
    prepared.generator.check()


def lacking_for_rendering(prepared: Prepared, manner: Manner) -> MissingPrerequisite | None:
    """What must be fetched, installed or found before the first clip; None where all is there."""
    try:
        check_rendering(prepared, manner)
    except MissingPrerequisite as error:
        return error
    return None


def check_scoring(manner: Manner) -> None:
    """Look at what scoring needs before the first clip is rendered.

    Raises:
        BadInput: an unknown metric or decoder.
        MissingPrerequisite: the decoder, or every metric asked for, cannot run here.
    """
    wanted_metrics(manner)
    decoder_version(manner.decoder)


def costs(run: Run, cases: Sequence[Case], manner: Manner) -> dict[str, str]:
    """What the metrics of a run will ask of others (a judge's calls), by metric id, before anything is scored."""
    said = {}
    for metric_id in wanted_metrics(manner):
        try:
            metric = load_metric(metric_id, manner.place, tiny=manner.tiny)
        except MissingPrerequisite:
            continue
        metric.keep_in(run.folder)
        cost = metric.cost(cases)
        if cost:
            said[metric_id] = cost
    return said


def plan_scoring(manner: Manner) -> list[Pass]:
    """Which metrics score together on the device of this manner.

    Raises:
        BadInput: as :func:`wanted_metrics`, or an impossible amount of memory.
        MissingPrerequisite: as :func:`wanted_metrics`.
    """
    needs = {}
    for metric_id in wanted_metrics(manner):
        try:
            needs[metric_id] = load_metric(metric_id, manner.place, tiny=manner.tiny).memory()
        except MissingPrerequisite:
            # Its worker will say so; the others go on.
            needs[metric_id] = MemoryNeed()
    sharing = 1 if manner.gpus else manner.workers
    return plan_passes(needs, device_memory(manner.place, given=manner.gpu_memory, sharing=sharing))


def plan_orders(
    run: Run, cases: Sequence[Case], phases: Sequence[Phase], manner: Manner, *, model: str | None, data: Path | None
) -> list[Order]:
    """What is to be done, in order: the clips, then the scores, one order for each pass over the clips.

    Every order has worker processes of its own, so that their end frees the memory for the next.

    Raises:
        BadInput: as :func:`plan_scoring`.
        MissingPrerequisite: likewise.
    """
    steps: list[tuple[Phase, list[str]]] = [(Phase.RENDER, [])] if Phase.RENDER in phases else []
    if Phase.SCORE in phases:
        steps += [(Phase.SCORE, list(together.metrics)) for together in plan_scoring(manner)]
    return [
        Order(
            run=run.folder,
            model=model,
            data=data,
            phase=phase,
            cases=[case.id for case in cases],
            metrics=metrics,
            decoder=manner.decoder,
            accept_lifeless=manner.accept_lifeless,
            place=manner.place,
            tiny=manner.tiny,
        )
        for phase, metrics in steps
    ]


def carry_out(
    run: Run,
    cases: Sequence[Case],
    orders: Sequence[Order],
    manner: Manner,
    *,
    on_event: Callable[[int, Event], None],
) -> Outcome:
    """Render and score cases of a run with worker processes.

    Args:
        run: the run folder.
        cases: of the orders.
        orders: of :func:`plan_orders`.
        manner: likewise.
        on_event: takes the number of the order, from 0, and what its workers tell.

    Raises:
        RefevalError: the work cannot go on; what is recorded stays.
        Stopped: by a signal.
    """
    keep_references(run, cases)
    if manner.retry_failed:
        _set_failures_aside(run, orders)
    outcome = Outcome()
    for number, order in enumerate(orders):
        gpus = share_gpus(manner.gpus, manner.place.gpus_per_clip if order.phase is Phase.RENDER else 1)
        workers = len(gpus) or manner.workers
        placed = order.model_copy(update={"place": replace(order.place, processes=workers)})
        outcome.add(Supervisor(placed, workers=workers, gpus=gpus, on_event=partial(on_event, number)).run())
        run.leases.sweep()
    metrics = [metric_id for order in orders for metric_id in order.metrics]
    if metrics and len(outcome.unavailable) == len(metrics):
        raise next(iter(outcome.unavailable.values()))
    return outcome


def _set_failures_aside(run: Run, orders: Sequence[Order]) -> None:
    # Once, before the workers start: a task that fails again must not be tried again by the next worker.
    for order in orders:
        for case_id in order.cases:
            if order.phase is Phase.RENDER:
                run.set_failure_aside(run.render_path(case_id))
            for metric_id in order.metrics:
                run.set_failure_aside(run.score_path(metric_id, case_id))


def exit_code(outcome: Outcome) -> ExitCode:
    """OK when every selected task ended well; INCOMPLETE when one is failed, missing or could not be tried."""
    statuses = [status for phase in outcome.statuses.values() for case in phase.values() for status in case.values()]
    if outcome.unavailable or any(status not in FINE_STATUSES for status in statuses):
        return ExitCode.INCOMPLETE
    return ExitCode.OK


def count_statuses(outcome: Outcome) -> dict[str, dict[str, int]]:
    """How often each status occurs, by ``render`` and metric id."""
    counts: dict[str, Counter[str]] = {}
    for phase in outcome.statuses.values():
        for case in phase.values():
            for part, status in case.items():
                counts.setdefault(part, Counter())[status] += 1
    return {part: dict(sorted(count.items())) for part, count in sorted(counts.items())}


def public_name(model: str) -> str:
    """A model as it stands in manifests and reports: the argument without the folders of this machine."""
    name, _, argument = model.partition(":")
    if not argument:
        return name
    path, settings = _split_path(argument)
    return f"{name}:{path.resolve().name if path else ''}{settings}"


def _split_path(argument: str) -> tuple[Path | None, str]:
    """What an argument begins with, if that is there, and what follows; settings may stand behind a path."""
    parts = argument.split(",")
    for count in range(len(parts), 0, -1):
        begin = ",".join(parts[:count])
        if _is_path(begin):
            return Path(begin), argument[len(begin) :]
    return None, argument


def _is_path(argument: str) -> bool:
    try:
        return Path(argument).exists()
    except OSError:
        # A text that is too long for a name.
        return False


def default_folder(target: Target, suite: Suite) -> Path:
    """``runs/<suite>/<model>-seed<n>``; two folders of one name get two runs."""
    name, _, argument = target.model.partition(":")
    if argument:
        path, settings = _split_path(argument)
        whole = f"{path.resolve() if path else ''}{settings}"
        place = hashlib.sha256(whole.encode()).hexdigest()[:6]
        name = f"{name}-{Path(whole).stem[:_LONGEST_NAME]}-{place}"
    model = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
    return Path("runs") / suite.name / f"{model}-seed{target.seed}"


def clip_spec(target: Target, base: ClipSpec) -> ClipSpec:
    """The clip size of a target, with the suite's values where it gives none.

    Raises:
        BadInput: not a size, or odd, or nothing to see.
    """
    width, height = base.width, base.height
    if target.size is not None:
        match = re.fullmatch(r"(\d+)x(\d+)", target.size)
        if not match:
            raise BadInput(f"--size {target.size} is not WIDTHxHEIGHT", cure="give e.g. --size 832x480")
        width, height = int(match[1]), int(match[2])
    if width < 16 or height < 16 or width % 2 or height % 2:
        raise BadInput(f"--size {width}x{height}: H.264 needs even sides, and at least 16 pixels are needed")
    try:
        rate = Fraction(target.fps) if target.fps is not None else base.fps
    except (ValueError, ZeroDivisionError):
        raise BadInput(f"--fps {target.fps} is not a number", cure="give e.g. --fps 16 or --fps 24000/1001") from None
    count = base.frames if target.frames is None else target.frames
    if rate <= 0 or count < 2:
        raise BadInput("a clip needs a positive rate and at least 2 frames")
    return ClipSpec(width=width, height=height, frames=count, fps=rate)
