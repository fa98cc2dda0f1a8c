"""The commands ``refeval data ...``: wiring only, as in ``cli.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from refeval.commands.parameters import DeviceOption, DryRunOption, JsonOption, RetryOption, WeightsOption

data_app = typer.Typer(help="Rows to train on.", no_args_is_help=True)


@data_app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help=".jsonl or .parquet.")],
    decode: Annotated[
        int, typer.Option("--decode", min=0, help="Decode clip and references of so many random rows of each file.")
    ] = 20,
    decode_all: Annotated[bool, typer.Option("--all", help="Decode every row.")] = False,
    config: Annotated[
        str | None,
        typer.Option("--config", help="The recipe that says how long clips are; by default 81 frames at 25 a second."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Read every row, say what there is, and try whether videos and pictures can be decoded.

    Ends with exit code 3 where rows are broken: a training replaces them by others, up to a limit.
    """
    from refeval.commands import data

    raise typer.Exit(data.check(files, config=config, decode=None if decode_all else decode, as_json=json))


@data_app.command()
def encode(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help=".jsonl or .parquet.")],
    config: Annotated[str, typer.Option("--config", help="The recipe that will be trained with the clips.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the encodings; one that is there is gone on with.")],
    shard: Annotated[
        str | None, typer.Option("--shard", help="i/n: the i-th of n parts, for n processes, e.g. one for each GPU.")
    ] = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    rows_per_file: Annotated[int, typer.Option("--rows-per-file", min=1, help="Of a file of encodings.")] = 64,
    retry_failed: RetryOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Encode clips and prompts before a training, so that it neither decodes the clips nor holds umT5.

    Run it again to go on after a stop, or to add rows. Ends with exit code 3 where clips are broken.
    """
    from refeval.commands import data_encode, options

    request = data_encode.EncodingRequest(
        files=files,
        config=config,
        out=out,
        shard=shard,
        place=options.place(weights, device, "auto", 1),
        rows_per_file=rows_per_file,
        retry=retry_failed,
        dry_run=dry_run,
    )
    raise typer.Exit(data_encode.encode(request, as_json=json))


import_app = typer.Typer(help="Turn published annotations into rows.", no_args_is_help=True)
data_app.add_typer(import_app, name="import")

_SourcesArgument = Annotated[list[Path], typer.Argument(metavar="SOURCE", help="Annotation files, as published.")]
_VideosOption = Annotated[Path, typer.Option("--videos", help="Folder of the videos.")]
_RowsOption = Annotated[Path, typer.Option("--out", help="File of rows to write, .jsonl.")]
_KeepMissingOption = Annotated[
    bool, typer.Option("--keep-missing", help="Also write rows of videos that are not in the folder (yet).")
]
_RowLimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Stop after so many rows.")]
_PerClipOption = Annotated[
    int, typer.Option("--per-clip", min=1, help="Cross pairs: most rows of a clip, with other partners in each.")
]


@import_app.command("opens2v-5m")
def import_opens2v_5m(
    sources: _SourcesArgument,
    videos: _VideosOption,
    out: _RowsOption,
    cross: Annotated[
        list[Path] | None,
        typer.Option("--cross", help="File of cross_video_pairs: write rows of cross pairs instead; repeatable."),
    ] = None,
    frame_numbers: Annotated[
        Literal["video", "cut", "file"],
        typer.Option(
            "--frame-numbers",
            help="What numbers of annotated frames count: frames of the whole video, of its cut, "
            "or of files that hold only the cut.",
        ),
    ] = "video",
    aesthetics: Annotated[float, typer.Option("--aesthetics", help="Keep a subject with this aes_score,")] = 4.5,
    match: Annotated[float, typer.Option("--match", help="or with this gme_score,")] = 0.6,
    area: Annotated[
        float, typer.Option("--area", min=0, max=1, help="if its box has this share of the frame's area.")
    ] = 0.1,
    subjects: Annotated[int, typer.Option("--subjects", min=1, help="Most subjects of a clip: the largest.")] = 3,
    per_clip: _PerClipOption = 1,
    keep_missing: _KeepMissingOption = False,
    limit: _RowLimitOption = None,
    json: JsonOption = False,
) -> None:
    """OpenS2V-5M: SOURCE are its files total_partN.json.

    Regular pairs: subjects are cut out of the annotated frame, white around them.
    With --cross: a clip, with pictures of its subjects from other clips; every pair is taken as it stands.
    """
    from refeval.commands import data_import

    what = data_import.Import(
        sources=sources, videos=videos, out=out, keep_missing=keep_missing, limit=limit, as_json=json
    )
    chosen = data_import.Subjects(aesthetics=aesthetics, match=match, area=area, most=subjects)
    done = data_import.opens2v_5m(what, subjects=chosen, numbers=frame_numbers, cross=cross or (), per_clip=per_clip)
    raise typer.Exit(done)


@import_app.command("phantom-data")
def import_phantom_data(
    sources: _SourcesArgument,
    videos: _VideosOption,
    out: _RowsOption,
    per_clip: _PerClipOption = 1,
    keep_missing: _KeepMissingOption = False,
    limit: _RowLimitOption = None,
    json: JsonOption = False,
) -> None:
    """Phantom-Data: SOURCE is its file koala36M_multi_ref_merged_filtered.parquet.

    Cross pairs: a clip, with all its subjects cut from other videos together with what is around them.
    The folder holds VID.mp4. Those of references must be there: how long they are says which frame is meant.
    """
    from refeval.commands import data_import

    what = data_import.Import(
        sources=sources, videos=videos, out=out, keep_missing=keep_missing, limit=limit, as_json=json
    )
    raise typer.Exit(data_import.phantom_data(what, per_clip=per_clip))
