"""Encoded clips and prompts: the numbers of encoding on the fly; nothing lost by kills, full disks, many processes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from refeval.errors import BadInput, CorruptFile, ExitCode, MissingPrerequisite
from refeval.training.data.encoding import clip_key, portions, text_key
from refeval.training.data.rows import open_rows
from tests.guarantees.broken_clips import moving_frames, write_video
from tests.guarantees.command import refeval, start
from tests.training.data.made import row_content, write_rows
from tests.training.data.small_world import (
    FRAMES,
    HEIGHT,
    WIDTH,
    command,
    documents,
    encode_here,
    files_in,
    make_data,
    recipe_of,
    world_of,
)

POSITIONS = range(12)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def whole(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows, encoded without an interruption."""
    out = tmp_path_factory.mktemp("whole") / "encoded"
    assert encode_here(rows, out) is ExitCode.INCOMPLETE, "two of the rows have no clip"
    return out


def own(rows: Path, folder: Path) -> Path:
    """A copy of the data, to be changed."""
    shutil.copytree(rows.parent, folder)
    return folder / rows.name


def test_encoded_samples_are_those_encoded_on_the_fly(rows: Path, whole: Path) -> None:
    plain, encoded = world_of(rows), world_of(rows, encoded=whole)
    keys = set()
    for position in POSITIONS:
        samples = [world.source().sample(position) for world in (plain, encoded)]
        assert samples[0].encoded is None and samples[1].encoded is not None
        assert (samples[0].frames.shape, len(samples[1].frames)) == ((FRAMES, HEIGHT, WIDTH, 3), 0)
        fresh, stored = (
            world.encoder().examples([sample], with_teacher=True)[0]
            for world, sample in zip((plain, encoded), samples, strict=True)
        )
        for name in ("latents", "text", "references", "teacher"):
            assert torch.equal(getattr(fresh, name), getattr(stored, name)), name
        keys.add(samples[1].key)
    assert keys == {"a", "b", "c", "a again", "d"}


def test_neither_videos_are_decoded_nor_prompts_embedded_again(
    rows: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = world_of(rows, encoded=whole)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked for again")

    monkeypatch.setattr("refeval.training.wan_encoder.encode_prompt", refuse)
    samples = [world.source().sample(position) for position in POSITIONS]
    world.encoder().examples(samples, with_teacher=False)
    assert world.encoder().text("").shape == (1, 64), "what a dropped prompt becomes"
    with pytest.raises(AssertionError, match="asked for again"):
        world.encoder().text("Another prompt.")


def test_what_rows_share_is_encoded_once_and_the_broken_are_named(rows: Path, whole: Path) -> None:
    found = documents(whole)
    clips = [key for one in found for key in one["clips"]]
    texts = [key for one in found for key in one["texts"]]
    opened = open_rows(rows)
    good = {clip_key(row) for row in opened if row.id not in ("broken", "absent")}
    assert sorted(clips) == sorted(good) and len(good) == 4
    prompts = {"", "A thing.", "B runs.", "A thing b runs.", "C runs.", "D runs."}
    assert sorted(texts) == sorted(map(text_key, prompts))
    broken = {one["row"]: one["reason"] for document in found for one in document["broken"].values()}
    assert set(broken) == {"broken", "absent"}
    assert "broken.mp4: not a readable video" in broken["broken"]
    assert "absent.mp4: no such file" in broken["absent"]


def test_the_summary_counts_and_a_second_run_has_nothing_to_do(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "encoded"
    assert encode_here(rows, out, dry_run=True) is ExitCode.OK
    expected = json.loads(capsys.readouterr().out)
    assert expected["clips"] == {"encoded": 6, "before": 0} and expected["prompts"] == {"encoded": 6, "before": 0}
    assert not out.exists()
    assert encode_here(rows, out) is ExitCode.INCOMPLETE
    first = json.loads(capsys.readouterr().out)
    assert (first["rows"], first["clips"], first["prompts"]) == (
        7,
        {"encoded": 4, "before": 0},
        {"encoded": 6, "before": 0},
    )
    assert first["bytes"] == sum(path.stat().st_size for path in out.glob("files/*.safetensors"))
    before = files_in(out)
    assert encode_here(rows, out) is ExitCode.INCOMPLETE
    second = json.loads(capsys.readouterr().out)
    assert second["clips"] == {"encoded": 0, "before": 4} and second["prompts"] == {"encoded": 0, "before": 6}
    assert (second["broken"], second["bytes"]) == (first["broken"], 0)
    assert files_in(out) == before


def test_a_video_that_was_mended_and_rows_that_were_added_are_all_that_is_encoded(
    rows: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, out = own(rows, tmp_path / "rows"), tmp_path / "encoded"
    shutil.copytree(whole, out)
    write_video(mine.with_name("absent.mp4"), moving_frames(width=64, height=48, count=FRAMES + 2), fps=Fraction(25))
    new = json.dumps(
        row_content(id="new", video="b.mp4", frames=[0, FRAMES], prompt="New.", references=[{"image": "0.png"}])
    )
    mine.write_text(f"{new}\n{mine.read_text()}")
    encode_here(mine, out)
    summary = json.loads(capsys.readouterr().out)
    assert summary["clips"] == {"encoded": 2, "before": 4}
    assert summary["prompts"] == {"encoded": 1, "before": 6}
    assert set(summary["broken"]) == {"broken"}
    fresh = tmp_path / "fresh"
    encode_here(mine, fresh)
    folders = [world_of(mine, encoded=folder) for folder in (out, fresh)]
    for position in POSITIONS:
        grown, anew = (world.source().sample(position).encoded for world in folders)
        assert grown is not None and anew is not None
        assert torch.equal(grown.latents, anew.latents) and torch.equal(grown.text, anew.text)


def test_what_failed_is_tried_again_on_request(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from refeval.training.data import encoding
    from refeval.training.examples import BrokenSample

    def lost(*_: object, **__: object) -> None:
        raise BrokenSample("the disk is away")

    out = tmp_path / "encoded"
    with monkeypatch.context() as patched:
        patched.setattr(encoding, "read_clip", lost)
        encode_here(rows, out)
    assert len(json.loads(capsys.readouterr().out)["broken"]) == 6
    encode_here(rows, out)
    assert json.loads(capsys.readouterr().out)["clips"] == {"encoded": 0, "before": 0}
    encode_here(rows, out, retry=True)
    retried = json.loads(capsys.readouterr().out)
    assert retried["clips"] == {"encoded": 4, "before": 0} and set(retried["broken"]) == {"broken", "absent"}
    encode_here(rows, out)
    assert set(json.loads(capsys.readouterr().out)["broken"]) == {"broken", "absent"}


def test_killed_anywhere_it_goes_on_to_the_same_bytes(rows: Path, whole: Path, tmp_path: Path) -> None:
    out, expected = tmp_path / "encoded", files_in(whole)
    # In the middle of the first portion's tensors; behind its document; between tensors and document of the second.
    for point in ("before-replace:2", "after-replace:2", "before-replace:2"):
        kept = {name: (out / name).stat().st_mtime_ns for name in files_in(out)} if out.exists() else {}
        killed = refeval(*command(rows, out), env={"REFEVAL_FAULT": point})
        assert killed.returncode == -9, f"the fault point was not reached: {killed.stderr}"
        assert files_in(out).items() <= expected.items(), "whole or absent"
        documents_kept = [name for name in kept if name.endswith(".json")]
        assert all((out / name).stat().st_mtime_ns == kept[name] for name in documents_kept)
        assert world_of(rows, encoded=out).source().sample(0).key, "half a folder can be read"
    assert (len(documents(out)), len(list(out.glob("files/*.safetensors")))) == (1, 2)
    done = refeval(*command(rows, out))
    assert done.returncode == ExitCode.INCOMPLETE, done.stderr
    assert json.loads(done.stdout)["clips"] == {"encoded": 2, "before": 2}
    assert files_in(out) == expected
    assert not list(out.rglob(".*.tmp"))


def test_two_processes_that_share_the_rows_make_what_one_makes(rows: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "encoded"
    both = [start(*command(rows, out), "--shard", shard) for shard in ("1/2", "2/2")]
    summaries = []
    for process in both:
        printed, complaints = process.communicate(timeout=300)
        assert process.returncode == ExitCode.INCOMPLETE, complaints
        summaries.append(json.loads(printed))
    assert files_in(out) == files_in(whole)
    assert [one["rows"] for one in summaries] == [4, 3]
    assert sum(one["clips"]["encoded"] for one in summaries) == 4
    assert sum(one["prompts"]["encoded"] for one in summaries) == 6


def test_a_full_disk_ends_it_and_loses_nothing(rows: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "encoded"
    sizes = sorted(path.stat().st_size for path in whole.rglob("*.safetensors"))
    process = start(*command(rows, out), limit_bytes=sizes[-1] - 1)
    _, complaints = process.communicate(timeout=300)
    assert process.returncode == ExitCode.DISK_FULL, complaints
    assert "no space to write" in complaints and "Traceback" not in complaints
    assert files_in(out).items() <= files_in(whole).items()
    assert not list(out.rglob(".*.tmp"))
    encode_here(rows, out)
    assert files_in(out) == files_in(whole)


def test_encodings_of_other_settings_are_refused(rows: Path, whole: Path, tmp_path: Path) -> None:
    recipe = recipe_of(rows)
    other = replace(recipe, data=replace(recipe.data, fps=12.5))
    with pytest.raises(BadInput, match="other settings") as caught:
        world_of(rows, recipe=other, encoded=whole)
    assert caught.value.details == (("clip.fps", "25.0 there, 12.5 asked for"),)
    with pytest.raises(MissingPrerequisite, match="holds no encoded clips"):
        world_of(rows, encoded=tmp_path / "nowhere")


def test_damage_is_found_and_mended(rows: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "encoded"
    shutil.copytree(whole, out)
    victim = max(out.glob("files/*.safetensors"), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[-20] ^= 1
    victim.write_bytes(content)
    with pytest.raises(CorruptFile, match="not what") as caught:
        for position in POSITIONS:
            world_of(rows, encoded=out).source().sample(position)
    assert str(caught.value.cure).startswith(f"rm -f {victim}")
    victim.write_bytes(content[:-1])
    with pytest.raises(CorruptFile, match="not what"):
        world_of(rows, encoded=out)
    encode_here(rows, out)
    assert files_in(out) == files_in(whole)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_portions_hold_everything_once_in_order(rows: Path, size: int) -> None:
    opened = open_rows(rows)
    found = list(portions(opened, ("", "C runs."), size))
    assert sum(portion.rows for portion in found) == len(opened)
    numbers = [number for portion in found for number in portion.clips]
    assert [opened[number].id for number in numbers] == ["a", "b", "broken", "c", "absent", "d"]
    texts = [text for portion in found for text in portion.texts]
    assert texts[:2] == ["", "C runs."] and found[0].texts[:2] == ("", "C runs.")
    assert texts[2:] == ["A thing.", "B runs.", "A thing b runs.", "D runs."]


def test_a_key_follows_from_the_video_its_cut_and_its_crop(rows: Path, tmp_path: Path) -> None:
    mine = own(rows, tmp_path / "rows")
    row = open_rows(mine)[0]
    key = clip_key(row)
    assert key == clip_key(open_rows(rows)[0]), "another folder is no other video"
    changes = (
        {"frames": (0, FRAMES)},
        {"frames": None},
        {"crop": (0.0, 0.0, 32.0, 32.0)},
        {"video": mine.with_name("b.mp4")},
    )
    assert len({key, *(clip_key(row.model_copy(update=change)) for change in changes)}) == 5
    kept = {"prompt": ("Other words.",), "references": row.references * 2, "id": "other"}
    assert clip_key(row.model_copy(update=kept)) == key
    row.video.write_bytes(row.video.read_bytes() + b"\0")
    assert clip_key(row) != key


def test_a_recipe_without_rows_and_a_wrong_row_stop_before_anything_is_written(rows: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="drawn, not on rows"):
        encode_here(rows, tmp_path / "encoded", config="sprites")
    with pytest.raises(BadInput, match="not i/n"):
        encode_here(rows, tmp_path / "encoded", shard="3/2")
    wrong = write_rows(tmp_path / "rows.jsonl", [row_content(), row_content(prompt=7)])
    shutil.copy(rows.with_name("tiny.toml"), tmp_path)
    with pytest.raises(BadInput, match=r"rows\.jsonl:2"):
        encode_here(wrong, tmp_path / "encoded")
    assert not (tmp_path / "encoded").exists()
