"""The commands of ablations: wiring only, as in ``cli.py``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refeval.commands.parameters import (
    DeviceOption,
    JsonOption,
    LimitOption,
    MetricsOption,
    SeedOption,
    TinyOption,
    WeightsOption,
)
from refeval.commands.training_app import (
    EncodedOption,
    RowsOption,
    ShardingOption,
    StartOption,
    ThreadsOption,
    WandbOption,
)

if TYPE_CHECKING:
    from refeval.commands.train import Asked

MemberConfigOption = Annotated[
    str, typer.Option("--config", help="The recipe that members are made from: by name, or a .toml file.")
]
MemberIterationsOption = Annotated[
    int | None,
    typer.Option(
        "--iterations", min=1, help="By default 1800 from published weights, as in the paper; else the recipe's."
    ),
]
MemberSetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Another value for a field; what is varied counts more."),
]
MemberSuiteOption = Annotated[
    str | None, typer.Option("--suite", help="To render; by default opens2v-open, or sprites for small networks.")
]
SuiteDataOption = Annotated[
    Path | None, typer.Option("--suite-data", help="Folder with the suite's JSON files and Images/ (or REFEVAL_DATA).")
]
AblationsOutOption = Annotated[
    Path | None, typer.Option("--out", help="Folder of trainings, runs and reports; by default runs/ablations/CONFIG.")
]


def train_ablation(
    config: MemberConfigOption = "refalign-1.3b",
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss",
            metavar="full|no-negative|none|dual-encoder-input",
            help="The paper's A, B, C, D: all of the alignment; without its negative term; none of it; none of it, "
            "with the teacher's features as a second input.",
        ),
    ] = None,
    depth: Annotated[
        int | None, typer.Option("--depth", min=0, help="Align so many blocks, from the first; 0 to all of them.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", metavar="NAME", help="Align to this teacher, e.g. siglip2-so.")
    ] = None,
    lambda_: Annotated[
        float | None, typer.Option("--lambda", min=0, help="Weight of the negative term of the alignment.")
    ] = None,
    margin: Annotated[float | None, typer.Option("--margin", min=0, help="Margin of the negative term.")] = None,
    eta: Annotated[float | None, typer.Option("--eta", min=0, help="Weight of the alignment.")] = None,
    seed: SeedOption = 0,
    iterations: MemberIterationsOption = None,
    data: RowsOption = None,
    encoded: EncodedOption = None,
    start: StartOption = None,
    set_: MemberSetOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    sharding: ShardingOption = "auto",
    threads: ThreadsOption = 2,
    wandb: WandbOption = None,
    suite: MemberSuiteOption = None,
    suite_data: SuiteDataOption = None,
    limit: LimitOption = None,
    metrics: MetricsOption = None,
    tiny: TinyOption = False,
    gpus: Annotated[int | None, typer.Option("--gpus", min=1, help="Share the clips over so many GPUs.")] = None,
    out: AblationsOutOption = None,
    json: JsonOption = False,
) -> None:
    """Train one member of an ablation, render a suite with it, and score the clips.

    Run the same command again to go on after a stop, at whatever step it was. docs/ablations.md tells what each option
    changes, and which row of which table of the paper it makes.
    """
    from refeval.commands import train_ablation as commands

    varied = {
        "loss": loss,
        "depth": depth,
        "encoder": encoder,
        "negative_weight": lambda_,
        "margin": margin,
        "eta": eta,
    }
    given = commands.MemberOptions(
        asked=_member_asked(
            config, data, encoded, start, seed, iterations, set_, weights, device, sharding, threads, wandb
        ),
        varied=varied,
        suite=suite,
        suite_data=suite_data,
        limit=limit,
        metrics=metrics,
        tiny=tiny,
        gpus=gpus,
        out=out,
    )
    raise typer.Exit(commands.train_ablation(given, as_json=json))


def ablate(
    study: Annotated[str, typer.Option("--study", metavar="loss|encoder|depth", help="What is varied.")],
    config: MemberConfigOption = "refalign-1.3b",
    seeds: Annotated[str, typer.Option("--seeds", metavar="N,N", help="Every member is trained with each.")] = "0",
    depths: Annotated[
        str | None, typer.Option("--depths", metavar="N,N", help="Of the study of depths; see docs/ablations.md.")
    ] = None,
    encoders: Annotated[
        str | None, typer.Option("--encoders", metavar="NAME,NAME", help="Of the study of encoders; by default all.")
    ] = None,
    iterations: MemberIterationsOption = None,
    data: RowsOption = None,
    encoded: EncodedOption = None,
    start: StartOption = None,
    set_: MemberSetOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 2,
    wandb: WandbOption = None,
    suite: MemberSuiteOption = None,
    suite_data: SuiteDataOption = None,
    limit: LimitOption = None,
    metrics: MetricsOption = None,
    tiny: TinyOption = False,
    gpus: Annotated[int | None, typer.Option("--gpus", min=1, help="So many members at once, each on its GPU.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="So many members at once, on a CPU.")] = None,
    out: AblationsOutOption = None,
    json: JsonOption = False,
) -> None:
    """Train, render and score all members of a study, and write its tables and figures.

    A member that fails is named with its reason, and the others go on. Run the same command again to go on after a
    stop; what is done is not done again.
    """
    from refeval.commands import ablate as commands
    from refeval.commands import options
    from refeval.commands import train_ablation as members

    each = members.MemberOptions(
        asked=_member_asked(config, data, encoded, start, 0, iterations, set_, weights, device, "auto", threads, wandb),
        varied={},
        suite=suite,
        suite_data=suite_data,
        limit=limit,
        metrics=metrics,
        tiny=tiny,
        gpus=None,
        out=out,
    )
    given = commands.StudyOptions(
        study=study,
        each=each,
        seeds=commands.numbers("--seeds", seeds),
        depths=commands.numbers("--depths", depths),
        encoders=options.names(encoders),
        gpus=gpus,
        workers=workers,
    )
    raise typer.Exit(commands.ablate(given, as_json=json))


def _member_asked(
    config: str,
    data: list[Path] | None,
    encoded: Path | None,
    start: Path | None,
    seed: int,
    iterations: int | None,
    set_: list[str] | None,
    weights: Path | None,
    device: str,
    sharding: str,
    threads: int,
    wandb: str | None,
) -> Asked:
    """The training of a member; its folder follows from what is varied."""
    from refeval.commands.train import Asked

    return Asked(
        config=config,
        out=None,
        rows=tuple(data or ()),
        encoded=encoded,
        start=start,
        seed=seed,
        iterations=iterations,
        changes=tuple(set_ or ()),
        weights=weights,
        device=device,
        sharding=sharding,
        threads=threads,
        wandb=wandb,
    )


def add_ablation_commands(app: typer.Typer) -> None:
    """Give an application the commands of this file."""
    app.command("train-ablation")(train_ablation)
    app.command()(ablate)
