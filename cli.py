"""Command line: wiring only. What a command does and prints stands in ``refeval/commands/``."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from refeval import __version__
from refeval.commands import conformance as conforming
from refeval.commands import console, fetch, listing, options, results, work
from refeval.commands.ablation_app import add_ablation_commands
from refeval.commands.data_app import data_app
from refeval.commands.parameters import (
    CasesOption,
    CategoryOption,
    DataOption,
    DecoderOption,
    DeviceOption,
    DomainOption,
    DryRunOption,
    FpsOption,
    FramesOption,
    GpuMemoryOption,
    GpusOption,
    GpusPerClipOption,
    JsonOption,
    KeyOption,
    LifelessOption,
    LimitOption,
    MemoryOption,
    MetricsOption,
    MissingOption,
    ModelOption,
    OfflineOption,
    OutOption,
    ProtocolOption,
    RetryOption,
    RunArgument,
    SeedOption,
    ShardOption,
    SizeOption,
    StudyArgument,
    SuiteOption,
    TinyOption,
    WeightsOption,
    WorkersOption,
)
from refeval.commands.training_app import add_training_commands
from refeval.errors import ExitCode
from refeval.evaluation import Target
from refeval.signals import Stopped, stop_in_order

app = typer.Typer(
    name="refeval",
    help="The evaluation harness for reference-to-video generation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 1 a defect of refeval, 2 wrong input or something to install first, 3 done but "
    "cases are missing or failed, 4 damaged files, 5 disk full, 6 not the official value, 7 a gate is breached, "
    "130 and 143 stopped by a signal.",
)
fetch_app = typer.Typer(help="Download what runs need; the only command that opens a connection.", no_args_is_help=True)
app.add_typer(fetch_app, name="fetch")
study_app = typer.Typer(help="Let people compare clips in pairs: sheets, votes, win rates.", no_args_is_help=True)
app.add_typer(study_app, name="study")
app.add_typer(data_app, name="data")
add_training_commands(app)
add_ablation_commands(app)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    del debug  # main() reads it: errors before this point obey it too
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def run(
    model: ModelOption,
    suite: SuiteOption = "opens2v-open",
    data: DataOption = None,
    out: OutOption = None,
    metrics: MetricsOption = None,
    cases: CasesOption = None,
    category: CategoryOption = None,
    limit: LimitOption = None,
    shard: ShardOption = None,
    seed: SeedOption = 0,
    size: SizeOption = None,
    frames: FramesOption = None,
    fps: FpsOption = None,
    workers: WorkersOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    memory: MemoryOption = "auto",
    gpus: GpusOption = None,
    gpus_per_clip: GpusPerClipOption = 1,
    gpu_memory: GpuMemoryOption = None,
    decoder: DecoderOption = "pyav",
    accept_lifeless: LifelessOption = False,
    retry_failed: RetryOption = False,
    tiny: TinyOption = False,
    dry_run: DryRunOption = False,
    offline: OfflineOption = False,
    json: JsonOption = False,
) -> None:
    """Render a suite with a model, score the clips, print the totals and write the report.

    Run the same command again to go on after a stop: what is recorded is kept.
    """
    target = Target(model=model, suite=suite, data=data, seed=seed, size=size, frames=frames, fps=fps, out=out)
    selection = options.selection(cases, category, limit, shard)
    place = options.place(weights, device, memory, gpus_per_clip)
    manner = options.manner(
        metrics, workers, decoder, accept_lifeless, retry_failed, place, gpus, tiny=tiny, gpu_memory=gpu_memory
    )
    _leave(work.run(target, selection, manner, score=True, dry_run=dry_run, offline=offline, as_json=json))


@app.command()
def render(
    model: ModelOption,
    suite: SuiteOption = "opens2v-open",
    data: DataOption = None,
    out: OutOption = None,
    cases: CasesOption = None,
    category: CategoryOption = None,
    limit: LimitOption = None,
    shard: ShardOption = None,
    seed: SeedOption = 0,
    size: SizeOption = None,
    frames: FramesOption = None,
    fps: FpsOption = None,
    workers: WorkersOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    memory: MemoryOption = "auto",
    gpus: GpusOption = None,
    gpus_per_clip: GpusPerClipOption = 1,
    retry_failed: RetryOption = False,
    dry_run: DryRunOption = False,
    offline: OfflineOption = False,
    json: JsonOption = False,
) -> None:
    """Render the clips of a suite without scoring them; `refeval score RUN` goes on from there."""
    target = Target(model=model, suite=suite, data=data, seed=seed, size=size, frames=frames, fps=fps, out=out)
    selection = options.selection(cases, category, limit, shard)
    place = options.place(weights, device, memory, gpus_per_clip)
    manner = options.manner(None, workers, "pyav", False, retry_failed, place, gpus)
    _leave(work.run(target, selection, manner, score=False, dry_run=dry_run, offline=offline, as_json=json))


@app.command()
def score(
    run_folder: RunArgument,
    data: DataOption = None,
    metrics: MetricsOption = None,
    cases: CasesOption = None,
    category: CategoryOption = None,
    limit: LimitOption = None,
    shard: ShardOption = None,
    workers: WorkersOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    gpus: GpusOption = None,
    gpu_memory: GpuMemoryOption = None,
    tiny: TinyOption = False,
    decoder: DecoderOption = "pyav",
    accept_lifeless: LifelessOption = False,
    retry_failed: RetryOption = False,
    dry_run: DryRunOption = False,
    offline: OfflineOption = False,
    json: JsonOption = False,
) -> None:
    """Score the clips of a run folder."""
    selection = options.selection(cases, category, limit, shard)
    place = options.place(weights, device, "auto", 1)
    manner = options.manner(
        metrics, workers, decoder, accept_lifeless, retry_failed, place, gpus, tiny=tiny, gpu_memory=gpu_memory
    )
    done = work.score(run_folder, selection, manner, data=data, dry_run=dry_run, offline=offline, as_json=json)
    _leave(done)


@app.command()
def total(
    path: Annotated[Path, typer.Argument(help="A run folder, or a folder of the official scripts' JSON files.")],
    domain: DomainOption = None,
    protocol: ProtocolOption = None,
    allow_missing: MissingOption = False,
    json: JsonOption = False,
) -> None:
    """Print the TotalScore and its metrics."""
    _leave(results.total(path, domain=domain, protocol=protocol, allow_missing=allow_missing, as_json=json))


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="One or more run folders.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder; by default RUN/reports.")] = None,
    copy_clips: Annotated[
        bool, typer.Option("--copy-clips", help="Copy the clips into the folder, so that it can be moved or published.")
    ] = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Write Markdown, CSV and a web page from run folders; needs neither weights nor a GPU."""
    _leave(results.report(runs, out=out, copy_clips=copy_clips, data=data, as_json=json))


@app.command()
def check(run_folder: RunArgument, json: JsonOption = False) -> None:
    """Verify every file of a run against its sha256 and say what is missing."""
    _leave(results.check(run_folder, as_json=json))


@app.command()
def explain(
    run_folder: RunArgument,
    case: Annotated[str | None, typer.Argument(metavar="[CASE]", help="A case id.")] = None,
    json: JsonOption = False,
) -> None:
    """Show how a total came about, or what one case adds to it."""
    _leave(results.explain(run_folder, case, as_json=json))


@app.command()
def export(
    run_folder: RunArgument,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; by default RUN/reports/official.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Model name of the submission file.")] = None,
    json: JsonOption = False,
) -> None:
    """Write the official score files and the leaderboard submission file."""
    _leave(results.export(run_folder, out=out, name=name, as_json=json))


@app.command()
def compare(
    base: Annotated[str, typer.Argument(metavar="BASE", help="A run folder or a baseline file; see docs/ci.md.")],
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE", help="Likewise: the run in question.")],
    gate: Annotated[
        list[str] | None,
        typer.Option("--gate", metavar="EXPR", help="E.g. TotalScore:-0.5 or NaturalScore:significant; repeatable."),
    ] = None,
    protocol: ProtocolOption = None,
    domain: DomainOption = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Compare what is there where cases have no value.")
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="NAME,NAME", help="What may differ, e.g. suite-version,judge,decoder."),
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML to this file.")] = None,
    github: Annotated[
        bool, typer.Option("--github", help="Write the summary of the GitHub Actions step, and annotations.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write all of it to this JSON file too.")] = None,
    worst: Annotated[int, typer.Option("--worst", min=0, help="How many of the largest losses to show.")] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the resamples.")] = 0,
    resamples: Annotated[int, typer.Option("--resamples", min=100, help="For intervals and p-values.")] = 10_000,
    json: JsonOption = False,
) -> None:
    """Compare two runs, or two sets of seeds, and fail where a gate is breached.

    BASE and CANDIDATE are run folders or files of `refeval baseline`.
    Several seeds: a folder of run folders, or names with commas between.
    """
    from refeval.commands import compare as comparing

    done = comparing.compare(
        base,
        candidate,
        gate or (),
        protocol=protocol,
        domain=domain,
        allow_missing=allow_missing,
        allow=allow or (),
        seed=seed,
        resamples=resamples,
        wanted=comparing.Wanted(junit=junit, out=out, github=github, as_json=json, worst=worst),
    )
    _leave(done)


@app.command()
def baseline(
    run_folder: RunArgument,
    out: Annotated[Path | None, typer.Option("--out", help="File; by default standard output.")] = None,
    json: JsonOption = False,
) -> None:
    """Write what `refeval compare` needs of a run as one small file, to be committed."""
    from refeval.commands import compare as comparing

    _leave(comparing.baseline(run_folder, out=out, as_json=json))


@app.command()
def conformance(
    demo: Annotated[
        Path, typer.Argument(metavar="DEMO", help="Folder with the official demo clips and their result files.")
    ],
    expected: Annotated[
        Path | None, typer.Option("--expected", help="Folder of the result files, where DEMO holds several.")
    ] = None,
    suite: SuiteOption = "opens2v-open",
    data: DataOption = None,
    metrics: MetricsOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    tiny: TinyOption = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write all of it to this JSON file too.")] = None,
    json: JsonOption = False,
) -> None:
    """Score the official demo clips and hold every value against the official one.

    Exit code 0 says that every value that can be compared is equal or within its tolerance (docs/metrics.md).
    """
    place = options.place(weights, device, "auto", 1)
    manner = options.manner(metrics, None, "pyav", False, False, place, tiny=tiny)
    done = conforming.conformance(demo, manner, expected=expected, suite=suite, data=data, out=out, as_json=json)
    _leave(done)


@fetch_app.command("suite")
def fetch_suite(
    name: Annotated[str, typer.Argument(help="A suite, e.g. opens2v-open.")],
    data: Annotated[Path, typer.Option("--data", envvar="REFEVAL_DATA", help="Folder to fill.")],
    revision: Annotated[
        str | None,
        typer.Option("--revision", help="Branch, tag or commit; by default the commit fetched before."),
    ] = None,
    offline: OfflineOption = False,
    json: JsonOption = False,
) -> None:
    """Download the data of a suite; run it again to go on after a stop. With --offline: verify what is there."""
    _leave(fetch.fetch_suite(name, data, revision=revision, offline=offline, as_json=json))


@fetch_app.command("model")
def fetch_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model, e.g. refalign-1.3b, or birefnet for matting.")],
    weights: Annotated[
        Path,
        typer.Option("--weights", envvar="REFEVAL_WEIGHTS", help="Folder of all weights; fills DIR/OWNER/NAME."),
    ],
    revision: Annotated[
        str | None,
        typer.Option(
            "--revision",
            help="Branch, tag or commit of the model's own repository; by default the commit fetched before.",
        ),
    ] = None,
    offline: OfflineOption = False,
    json: JsonOption = False,
) -> None:
    """Download the weights of a model, with text encoder and VAE; run it again to go on after a stop.

    The commits, the sizes and the free space are shown first.
    Too little space is an error before anything is downloaded.
    What several models share is fetched once.
    Every file is checked against the hub's sha256, and recorded.
    With --offline: verify what is there.
    """
    _leave(fetch.fetch_model(name, weights, revision=revision, offline=offline, as_json=json))


@fetch_app.command("metrics")
def fetch_metrics(
    weights: Annotated[
        Path,
        typer.Option("--weights", envvar="REFEVAL_WEIGHTS", help="Folder of all weights; fills DIR/OWNER/NAME."),
    ],
    metrics: MetricsOption = None,
    offline: OfflineOption = False,
    json: JsonOption = False,
) -> None:
    """Download the weights of the metrics, or of some of them; as `refeval fetch model` does."""
    _leave(fetch.fetch_metrics(metrics, weights, offline=offline, as_json=json))


@app.command()
def cases(
    suite: SuiteOption = "sprites",
    data: DataOption = None,
    category: CategoryOption = None,
    list_suites: Annotated[bool, typer.Option("--list", help="List the suites instead.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Open every reference image.")] = False,
    json: JsonOption = False,
) -> None:
    """List the cases of a suite, or the suites, or verify all images."""
    _leave(listing.cases(suite, data=data, category=category, list_suites=list_suites, check=check, as_json=json))


@app.command()
def models(json: JsonOption = False) -> None:
    """List the generators."""
    _leave(listing.models(as_json=json))


@app.command()
def metrics(json: JsonOption = False) -> None:
    """List the metrics, and which of them can run."""
    _leave(listing.metrics(as_json=json))


@app.command()
def doctor(json: JsonOption = False) -> None:
    """Say what is installed, what is missing, and the command that mends it."""
    _leave(listing.doctor(as_json=json))


@study_app.command("make")
def study_make(
    arms: Annotated[str, typer.Option("--arms", metavar="RUN,RUN[,RUN]", help="Run folders of one suite.")],
    cases: Annotated[int, typer.Option("--cases", min=1, help="How many, even over the categories.")] = 30,
    raters: Annotated[int, typer.Option("--raters", min=1, help="How many sheets.")] = 30,
    out: Annotated[Path | None, typer.Option("--out", help="Study folder; the key goes to OUT-key.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Cases, sides and order come from it.")] = 0,
    questions: Annotated[str, typer.Option("--questions", help="Any of these.")] = "quality,reference,text",
    both_bad: Annotated[bool, typer.Option("--both-bad", help="Allow the answer that both clips are bad.")] = False,
    repeats: Annotated[
        float, typer.Option("--repeats", help="Part of the pairs that come back with sides changed.")
    ] = 0.05,
    checks: Annotated[float, typer.Option("--checks", help="Attention checks, as a part of the pairs.")] = 0.10,
    per_rater: Annotated[
        int | None, typer.Option("--per-rater", min=1, help="Pairs on a sheet; by default all, up to 90.")
    ] = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Make a blind study from two or more runs: a sheet for each rater, and a key that stays with you."""
    from refeval.commands import study as studies
    from refeval.studies.making import StudyRequest

    request = StudyRequest(
        arms=studies.arms(arms),
        cases=cases,
        raters=raters,
        seed=seed,
        questions=studies.questions(questions),
        both_bad=both_bad,
        per_rater=per_rater,
        repeats=repeats,
        checks=checks,
        data=data,
    )
    _leave(studies.make(request, out=out, as_json=json))


@study_app.command("serve")
def study_serve(
    study: StudyArgument,
    host: Annotated[str, typer.Option("--host", help="0.0.0.0 to be reached from other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 for a free one.")] = 8765,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Hand each rater their sheet under a secret link, and take in the votes; Ctrl-C ends it."""
    from refeval.commands import study as studies

    _leave(studies.serve(study, key=key, host=host, port=port, as_json=json))


@study_app.command("tally")
def study_tally(
    study: StudyArgument,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[VOTES...]", help="Files that sheets have saved, or a folder of them."),
    ] = None,
    key: KeyOption = None,
    runs: Annotated[
        str | None,
        typer.Option("--runs", metavar="RUN,RUN", help="Scored runs, to hold the metrics against the votes."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; by default STUDY-report.")] = None,
    json: JsonOption = False,
) -> None:
    """Count the votes: win rates, ranks, agreement; the files of raters are taken into the study first."""
    from refeval.commands import study as studies

    _leave(studies.tally(study, files or (), key=key, runs=studies.arms(runs or ""), out=out, as_json=json))


def _leave(code: ExitCode) -> None:
    raise typer.Exit(code)


def main() -> NoReturn:
    """Entry point: every error of a user ends in a message and an exit code, never in a traceback."""
    stop_in_order()
    try:
        app()
    except (Stopped, Exception) as error:  # noqa: BLE001 - the last resort: a defect is named as one
        if "--debug" in sys.argv:
            traceback.print_exc()
        sys.exit(console.last_word(error))
    sys.exit(ExitCode.OK)


if __name__ == "__main__":
    main()
