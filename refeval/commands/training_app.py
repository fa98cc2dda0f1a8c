"""The commands that train: wiring only, as in ``cli.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refeval.commands.parameters import DeviceOption, JsonOption, SeedOption, WeightsOption

ConfigOption = Annotated[str, typer.Option("--config", help="A recipe by name, or a .toml file.")]
TrainingOutOption = Annotated[
    Path | None, typer.Option("--out", help="Folder of the training; by default trainings/RECIPE-seedN.")
]
RowsOption = Annotated[
    list[Path] | None, typer.Option("--data", help="Rows to train on, .jsonl or .parquet; may be given several times.")
]
EncodedOption = Annotated[
    Path | None,
    typer.Option("--encoded", help="What `refeval data encode` made of the rows, to save the encoders' time."),
]
FeaturesOption = Annotated[
    Path | None,
    typer.Option("--features", help="Keep the teacher's features here, for recipes that do not augment references."),
]
StartOption = Annotated[
    Path | None,
    typer.Option("--start", help="Weights to start from in place of the base's own, e.g. of a first stage."),
]
IterationsOption = Annotated[int | None, typer.Option("--iterations", min=1, help="Instead of the recipe's.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Another value for a field, e.g. optimizer.clip_norm=1.0."),
]
ShardingOption = Annotated[
    str, typer.Option("--sharding", metavar="auto|yes|no", help="Spread parameters over the processes; auto: on GPUs.")
]
ThreadsOption = Annotated[int, typer.Option("--threads", min=1, help="That read samples, in each process.")]
WandbOption = Annotated[
    str | None, typer.Option("--wandb", metavar="PROJECT", help="Also report to Weights and Biases, where installed.")
]


def train(
    config: ConfigOption,
    out: TrainingOutOption = None,
    data: RowsOption = None,
    encoded: EncodedOption = None,
    features: FeaturesOption = None,
    start: StartOption = None,
    seed: SeedOption = 0,
    iterations: IterationsOption = None,
    set_: SetOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    sharding: ShardingOption = "auto",
    threads: ThreadsOption = 2,
    wandb: WandbOption = None,
    json: JsonOption = False,
) -> None:
    """Train with a recipe; `accelerate launch -m refeval.cli train ...` for several GPUs or machines.

    Run the same command again to go on after a stop: the last checkpoint and all that was logged are kept.
    """
    from refeval.commands import train as commands

    asked = commands.Asked(
        config=config,
        out=out,
        rows=tuple(data or ()),
        encoded=encoded,
        features=features,
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
    raise typer.Exit(commands.train(asked, as_json=json))


def export_weights(
    training: Annotated[Path, typer.Argument(metavar="TRAINING", help="A folder that `refeval train` made.")],
    out: Annotated[Path, typer.Option("--out", help="A .safetensors file; for diffusers a folder.")],
    keys: Annotated[
        str, typer.Option("--keys", metavar="refalign|original|diffusers", help="How tensors are named.")
    ] = "refalign",
    step: Annotated[int | None, typer.Option("--step", min=1, help="Of this iteration; by default the last.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Not the averaged weights, where those are kept.")] = False,
    projectors: Annotated[
        bool, typer.Option("--projectors", help="With the projectors, to train on; inference needs none.")
    ] = False,
) -> None:
    """Write the weights of a training so that RefAlign's, Wan's or diffusers' programs read them."""
    from refeval.commands import train as commands

    raise typer.Exit(
        commands.export_weights(training, out=out, keys=keys, step=step, average=not raw, projectors=projectors)
    )


def add_training_commands(app: typer.Typer) -> None:
    """Give an application the commands of this file."""
    app.command()(train)
    app.command("export-weights")(export_weights)
