"""Options and arguments that several commands share, each declared once."""

from pathlib import Path
from typing import Annotated

import typer

ModelOption = Annotated[str, typer.Option("--model", help="A name of `refeval models`, e.g. videos:FOLDER.")]
SuiteOption = Annotated[str, typer.Option("--suite", help="A suite by name, or a JSON file of the same schema.")]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Folder with the suite's JSON files and Images/ (or REFEVAL_DATA)."),
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Run folder; by default runs/SUITE/MODEL-seedN.")]
MetricsOption = Annotated[str | None, typer.Option("--metrics", help="Metric ids, separated by commas.")]
CasesOption = Annotated[str | None, typer.Option("--cases", help="Only these case ids, separated by commas.")]
CategoryOption = Annotated[str | None, typer.Option("--category", help="Only this category, e.g. singleface.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Only so many cases, from the start.")]
ShardOption = Annotated[str | None, typer.Option("--shard", help="i/n: every n-th case from the i-th.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of the run.")]
SizeOption = Annotated[
    str | None, typer.Option("--size", help="WIDTHxHEIGHT instead of the suite's; ready clips must have it.")
]
FramesOption = Annotated[int | None, typer.Option("--frames", help="Number of frames instead of the suite's.")]
FpsOption = Annotated[str | None, typer.Option("--fps", help="Frames per second instead of the suite's.")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes that share the work; by default 1.")
]
WeightsOption = Annotated[
    Path | None,
    typer.Option("--weights", envvar="REFEVAL_WEIGHTS", help="Folder that `refeval fetch model` fills."),
]
DeviceOption = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda", help="Where the model works.")]
MemoryOption = Annotated[
    str, typer.Option("--memory", metavar="PRESET", help="auto, or a preset of the model: see docs/models.md.")
]
GpusOption = Annotated[int | None, typer.Option("--gpus", min=1, help="One process per GPU, on so many.")]
GpuMemoryOption = Annotated[
    float | None,
    typer.Option("--gpu-memory", metavar="GB", help="Plan the metrics for GPUs of so many GB; by default as found."),
]
GpusPerClipOption = Annotated[int, typer.Option("--gpus-per-clip", min=1, help="Spread one model over so many GPUs.")]
DecoderOption = Annotated[str, typer.Option("--decoder", help="pyav or decord; both give the same frames.")]
LifelessOption = Annotated[
    bool, typer.Option("--accept-lifeless", help="Score black and frozen clips, as the official scripts do.")
]
RetryOption = Annotated[bool, typer.Option("--retry-failed", help="Try again what is recorded as failed.")]
TinyOption = Annotated[
    bool, typer.Option("--tiny", help="Score with small random weights: tries the procedure, the numbers mean nothing.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would run, how long, how much disk.")]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Open no connection.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
ProtocolOption = Annotated[
    str | None, typer.Option("--protocol", help="opens2v-v1.1 (default), opens2v-v1.0 or strict.")
]
DomainOption = Annotated[str | None, typer.Option("--domain", help="open, human or single; by default the run's.")]
StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY", help="A study folder.")]
KeyOption = Annotated[Path | None, typer.Option("--key", help="Key folder; by default STUDY-key.")]
MissingOption = Annotated[
    bool,
    typer.Option("--allow-missing", help="strict: count missing cases as the lowest value instead of refusing."),
]
