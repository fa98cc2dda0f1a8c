"""What is seen of a training: read back from where it was written."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from refeval.clips import open_clip
from refeval.documents import read_document
from refeval.errors import BadInput, CorruptFile, DiskFull, MissingPrerequisite
from refeval.training.examples import Sample
from refeval.training.observation import Observer, Observers, StepReport
from refeval.training.observers.clips import strip, write_clips
from refeval.training.observers.everyone import open_observers
from refeval.training.observers.progress import ProgressDisplay
from refeval.training.observers.step_log import Note, StepLog, read_notes, read_steps
from refeval.training.observers.tensorboard import TensorBoard
from refeval.training.observers.weights_and_biases import WeightsAndBiases
from refeval.training.worlds import DrawnClip


def report(step: int, **changes: Any) -> StepReport:
    made = StepReport(
        step=step,
        total=2.0 / step,
        error=1.0 / step,
        positive=(0.5, 0.25),
        negative=(0.125, 1 / 3),
        gate=0.75,
        gradient_norm=0.1 + step,
        learning_rate=5e-5,
        samples_per_second=8.0,
        seconds=2.0,
        memory_bytes=3 << 29,
        skipped=2,
    )
    return replace(made, **changes)


def drawn(key: str = "a/b") -> DrawnClip:
    ramp = np.linspace(0, 250, 9 * 16 * 24 * 3, dtype=np.uint8).reshape(9, 16, 24, 3)
    references = (np.full((16, 24, 3), 200, np.uint8), np.full((32, 32, 3), 10, np.uint8))
    sample = Sample(key=key, prompt="a red dog [runs]", frames=ramp[:0], references=references, pair="regular")
    return DrawnClip(sample=sample, frames=ramp)


# --- steps.jsonl


def test_the_log_gives_back_what_it_was_told(tmp_path: Path) -> None:
    exploded = report(3, gradient_norm=float("inf"), total=float("-inf"))
    log = StepLog(tmp_path)
    for one in (report(1), report(2), exploded):
        log.step(one)
        assert read_steps(tmp_path)[-1] == one, "it is there before the next step"
    log.note(2, "evaluation/colours", 0.5)
    log.close()
    assert read_steps(tmp_path) == [report(1), report(2), exploded]
    assert read_notes(tmp_path) == [Note(step=2, name="evaluation/colours", value=0.5)]


def test_what_differs_between_runs_stands_apart(tmp_path: Path) -> None:
    rows = []
    for name, changes in (
        ("a", {}),
        ("b", {"seconds": 9.0, "samples_per_second": 1.0, "memory_bytes": 7, "skipped": 0}),
    ):
        StepLog(tmp_path / name).step(report(1, **changes))
        rows.append(json.loads((tmp_path / name / "steps.jsonl").read_text()))
    machines = [row.pop("machine") for row in rows]
    assert rows[0] == rows[1]
    assert rows[0]["negative"] == [0.125, 1 / 3]
    assert all(machines[0][name] != machines[1][name] for name in machines[0])


def test_a_resumed_training_has_every_step_once(tmp_path: Path) -> None:
    log = StepLog(tmp_path)
    for step in range(1, 8):
        log.step(report(step))
        log.note(step, "evaluation/colours", float(step))
    log.close()
    with (tmp_path / "steps.jsonl").open("ab") as file:
        file.write(b'{"step": 8, "err')
    assert [one.step for one in read_steps(tmp_path)] == list(range(1, 8))
    again = StepLog(tmp_path)
    with pytest.raises(ValueError, match="step 7 after step 7"):
        again.step(report(7))
    again.begin(5)
    again.step(report(6))
    again.note(6, "evaluation/colours", 60.0)
    again.close()
    assert read_steps(tmp_path) == [report(step) for step in range(1, 7)]
    assert [note.value for note in read_notes(tmp_path)] == [1, 2, 3, 4, 5, 60]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.jsonl", "steps.jsonl"]


def test_half_a_line_is_cut_off_before_the_next_one(tmp_path: Path) -> None:
    StepLog(tmp_path).step(report(1))
    with (tmp_path / "steps.jsonl").open("ab") as file:
        # Whole but for its end: it was never finished either.
        file.write((tmp_path / "steps.jsonl").read_bytes().replace(b'"step": 1', b'"step": 2').rstrip(b"\n"))
    StepLog(tmp_path).step(report(2))
    assert read_steps(tmp_path) == [report(1), report(2)]


@pytest.mark.parametrize("damage", [b"\x00\xff\n", b"{}\n", b"[1]\n", b'{"step": 2}\n'])
def test_a_damaged_line_is_named(tmp_path: Path, damage: bytes) -> None:
    StepLog(tmp_path).step(report(1))
    with (tmp_path / "steps.jsonl").open("ab") as file:
        file.write(damage)
    with pytest.raises(CorruptFile, match=r"steps\.jsonl:2"):
        read_steps(tmp_path)


_FILL = """
import resource, sys
from pathlib import Path
from refeval.errors import DiskFull
from refeval.training.observers.step_log import StepLog
log = StepLog(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    for step in range(1, 100):
        log.note(step, "evaluation/colours", step / 3)
except DiskFull:
    sys.exit(step)
"""


def test_a_full_disk_is_said_and_what_is_whole_stays(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _FILL, str(tmp_path)], check=False)
    assert (tmp_path / "notes.jsonl").stat().st_size == 1000
    found = read_notes(tmp_path)
    assert 10 < len(found) == done.returncode - 1
    StepLog(tmp_path).note(100, "evaluation/colours", 0.5)
    expected = [Note(step=s, name="evaluation/colours", value=s / 3) for s in range(1, len(found) + 1)]
    assert read_notes(tmp_path) == [*expected, Note(step=100, name="evaluation/colours", value=0.5)]


# --- TensorBoard


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    read.Reload()
    return {name: [(point.step, point.value) for point in read.Scalars(name)] for name in read.Tags()["scalars"]}


def pictures(folder: Path) -> dict[str, list[tuple[int, Image.Image]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0})
    read.Reload()
    return {
        name: [(one.step, Image.open(io.BytesIO(one.encoded_image_string))) for one in read.Images(name)]
        for name in read.Tags()["images"]
    }


def test_every_number_has_its_curve(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.begin(0)
    for step in range(1, 31):
        board.step(report(step))
    all_points = curves(tmp_path)
    assert {len(points) for points in all_points.values()} == {30}, "they are there before the next step"
    found = {name: points[:1] for name, points in all_points.items()}
    assert found == {
        "loss/total": [(1, 2.0)],
        "loss/error": [(1, 1.0)],
        "alignment/positive/block_1": [(1, 0.5)],
        "alignment/positive/block_2": [(1, 0.25)],
        "alignment/negative/block_1": [(1, 0.125)],
        "alignment/negative/block_2": [(1, pytest.approx(1 / 3))],
        "alignment/gate": [(1, 0.75)],
        "optimizer/gradient_norm": [(1, pytest.approx(1.1))],
        "optimizer/learning_rate": [(1, pytest.approx(5e-5))],
        "speed/samples_per_second": [(1, 8.0)],
        "memory/peak_gib": [(1, 1.5)],
        "data/skipped": [(1, 2.0)],
    }
    board.close()
    plain = report(1, positive=(), negative=())
    assert not [name for name in plain.scalars() if name.startswith("alignment")]


def test_curves_of_a_resumed_training_do_not_overlap(tmp_path: Path) -> None:
    for done, last in ((0, 6), (4, 8)):
        board = TensorBoard(tmp_path)
        board.begin(done)
        for step in range(done + 1, last + 1):
            board.step(report(step, gradient_norm=float(done)))
        board.note(last, "evaluation/colours", 0.5)
        board.close()
    assert curves(tmp_path)["optimizer/gradient_norm"] == [(s, 0.0 if s <= 4 else 4.0) for s in range(1, 9)]
    assert curves(tmp_path)["evaluation/colours"] == [(8, 0.5)]


def test_clips_are_strips_of_references_and_frames(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.begin(0)
    board.clips(500, [drawn(), drawn("c")])
    found = pictures(tmp_path)
    board.close()
    assert sorted(found) == ["clips/1", "clips/2"]
    [(step, picture)] = found["clips/1"]
    shown = np.asarray(picture)
    assert step == 500
    # Two references, the second brought to the height of the clip, a white gap, frames 0 to 8 of 24 pixels each.
    assert shown.shape == (16, 24 + 16 + 4 + 6 * 24, 3)
    assert (shown[:, :24] == 200).all() and (shown[:, 24:40] == 10).all() and (shown[:, 40:44] == 255).all()
    assert np.array_equal(shown[:, 44:68], drawn().frames[0]) and np.array_equal(shown[:, -24:], drawn().frames[8])
    assert np.array_equal(shown, strip(drawn()))


# --- clips as files


def test_clips_are_written_with_their_references(tmp_path: Path) -> None:
    folder = write_clips(tmp_path, 500, [drawn(), drawn("../c")], fps=8)
    assert folder == tmp_path / "clips" / "step-000500"
    described = read_document(folder / "clips.json")
    assert described["step"] == 500
    assert [clip["key"] for clip in described["clips"]] == ["a/b", "../c"]
    for clip in described["clips"]:
        assert clip["prompt"] == "a red dog [runs]"
        video = open_clip(folder / clip["video"])
        assert (len(video), video.width, video.height, float(video.fps)) == (9, 24, 16, 8)
        shown = [np.asarray(Image.open(folder / name)) for name in clip["references"]]
        assert all(np.array_equal(a, b) for a, b in zip(shown, drawn().sample.references, strict=True))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(before) == 2 * 3 + 1
    write_clips(tmp_path, 500, [drawn(), drawn("../c")], fps=8)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_clip_of_odd_size_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    odd = replace(drawn(), frames=drawn().frames[:, :15])
    with pytest.raises(BadInput):
        write_clips(tmp_path, 1, [drawn(), odd], fps=8)
    assert not (tmp_path / "clips/step-000001/clips.json").exists()


# --- the terminal


def shown(terminal: bool, *, iterations: int, done: int, reports: list[StepReport]) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=140, color_system=None)
    display = ProgressDisplay(console, iterations=iterations, every=30)
    display.begin(done)
    for one in reports:
        display.step(one)
    display.close()
    return text.getvalue()


def test_without_a_terminal_a_line_comes_now_and_then() -> None:
    text = shown(False, iterations=40, done=0, reports=[report(step, skipped=0) for step in range(1, 41)])
    # Two seconds each: after the first line one every fifteen steps, and the last.
    lines = text.splitlines()
    assert [line.split("  ")[0] for line in lines] == [f"step {step}/40" for step in (1, 16, 31, 40)]
    assert lines[1] == "step 16/40  loss 0.1250  gradient 16.1  8 samples/s  0:00:48 left"


def test_one_slow_step_does_not_move_the_time_that_is_left() -> None:
    slow = [report(1, seconds=600.0), *(report(step) for step in range(2, 11)), report(11, seconds=900.0)]
    [*_, last] = shown(False, iterations=1011, done=0, reports=slow).splitlines()
    assert "0:33:20 left" in last and "2 broken samples" in last


def test_on_a_terminal_there_is_a_bar_that_goes_on_where_it_was() -> None:
    text = shown(True, iterations=40, done=20, reports=[report(21)])
    assert "21/40" in text and "loss 0.0952" in text and "0:00:38 left" in text
    assert "step 21/40" not in text
    assert "20/40" in shown(True, iterations=40, done=20, reports=[])


# --- what is not installed, and all of them together


def test_without_tensorboard_it_is_said_once_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    text = io.StringIO()
    seen = open_observers(tmp_path, iterations=3, fps=8, console=Console(file=text, width=140), config={})
    seen.begin(0)
    seen.step(report(1))
    seen.step(report(2))
    seen.clips(2, [drawn()])
    seen.note(2, "evaluation/colours", 0.5)
    seen.close()
    assert text.getvalue().count("tensorboard, which is not installed") == 1
    assert "pip install 'refeval[train]'" in text.getvalue()
    assert "step 2/3  evaluation/colours 0.5" in text.getvalue()
    assert len(read_steps(tmp_path)) == 2 and len(read_notes(tmp_path)) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "notes.jsonl", "steps.jsonl"]


def test_all_of_them_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    for done, last in ((0, 6), (4, 8)):
        seen = open_observers(tmp_path, iterations=8, fps=8, console=Console(file=io.StringIO()), config={})
        seen.begin(done)
        for step in range(done + 1, last + 1):
            seen.step(report(step))
        seen.note(last, "evaluation/colours", 0.5)
        seen.clips(last, [drawn()])
        seen.close()
    assert [one.step for one in read_steps(tmp_path)] == list(range(1, 9))
    assert [step for step, _ in curves(tmp_path)["loss/total"]] == list(range(1, 9))
    assert [note.step for note in read_notes(tmp_path)] == [8]
    assert curves(tmp_path)["evaluation/colours"] == [(8, 0.5)]
    assert [step for step, _ in pictures(tmp_path)["clips/1"]] == [8]
    assert sorted(path.name for path in (tmp_path / "clips").iterdir()) == ["step-000006", "step-000008"]


def test_what_never_began_can_be_closed(tmp_path: Path) -> None:
    open_observers(tmp_path, iterations=1, fps=8, console=Console(file=io.StringIO()), config={}).close()
    assert not (tmp_path / "tensorboard").exists()


class Failing(Observer):
    def step(self, report: StepReport) -> None:
        raise AssertionError

    def close(self) -> None:
        raise DiskFull("no space")


def test_all_are_closed_even_if_one_cannot_be(tmp_path: Path) -> None:
    logs = [StepLog(tmp_path / name) for name in "ab"]
    with pytest.raises(DiskFull):
        Observers([logs[0], Failing(), logs[1]]).close()
    for log in logs:
        with pytest.raises(ValueError, match="closed file"):
            log.step(report(1))


def test_weights_and_biases_is_asked_for_and_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingPrerequisite, match="wandb is not installed") as caught:
        open_observers(tmp_path, iterations=1, fps=8, console=Console(), config={}, wandb_project="p")
    assert caught.value.cure == "pip install 'wandb>=0.31'"


def test_weights_and_biases_without_a_login_keeps_everything_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    # Whoever runs this may be logged in.
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "training"
    for step in (1, 2):
        run = WeightsAndBiases(folder, project="p", name="n", config={"name": "recipe-of-this-test"})
        run.step(report(step))
        run.clips(step, [drawn()])
        run.note(step, "evaluation/colours", 0.625)
        run.close()
    identity = read_document(folder / "wandb/run.json")["id"]
    stored = sorted(folder.glob(f"wandb/offline-run-*/run-{identity}.wandb"))
    assert len(stored) == 2
    for content in (path.read_bytes() for path in stored):
        for text in (*report(1).scalars(), "evaluation/colours", "0.625", "recipe-of-this-test", "a red dog [runs]"):
            assert text.encode() in content, text
    [picture, _] = sorted(folder.glob("wandb/offline-run-*/files/media/images/clips/*.png"))
    assert np.array_equal(np.asarray(Image.open(picture)), strip(drawn()))
