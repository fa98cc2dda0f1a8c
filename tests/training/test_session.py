"""What a command is asked for is looked at before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refeval.errors import BadInput
from refeval.training.folder import alone, digests, read_training
from tests.training.running import only_train, ranks, refeval, refeval_again_and_again


def test_a_wrong_request_is_named_and_nothing_is_written(tmp_path: Path, small_config: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("")
    refused = {
        ("--set", "run.iteration=3"): "unknown field 'run.iteration'. Did you mean 'iterations'?",
        ("--set", "run.iterations=many"): "'run.iterations' is 'many'",
        ("--set", "run.keep=0"): "'run.keep' is 0, not 1 to inf",
        ("--set", "run.micro_batch=3"): "run.global_batch is not a multiple of run.micro_batch",
        ("--set", "objective.depth=3"): "objective.depth is 3, of 2 blocks",
        ("--set", "run=3"): "'run' is a table, not 3",
        ("--set", "run.iterations.much=3"): "'iterations' has no fields",
        ("--set", "nothing"): "not of the form FIELD=VALUE",
        ("--set", "teacher.names=['dinov3-l']"): "the sprites world has no teacher 'dinov3-l'",
        ("--set", "testbed.backgrounds=['moon']"): "there is no background 'moon'",
        ("--set", "testbed.subjects=[1, 2]"): "data.references is below the largest of testbed.subjects",
        ("--set", "testbed.subjects=[0, 1]"): "testbed.subjects has 0 to 1",
        ("--data", str(rows)): "the sprites world draws its own data",
        ("--sharding", "perhaps"): "--sharding is 'perhaps'",
        ("--device", "cuda"): "torch sees none",
        ("--config", "spritse"): "unknown recipe 'spritse'. Did you mean 'sprites'?",
        ("--config", str(tmp_path / "none.toml")): "No such file",
        ("--config", "wan-tiny"): "recipe wan-tiny needs data",
        ("--config", "wan-tiny", "--data", str(tmp_path / "none.jsonl")): "none.jsonl",
        ("--config", "refalign-1.3b", "--data", str(rows)): "needs a GPU",
    }
    commands: list[tuple[str | Path, ...]] = []
    for number, options in enumerate(refused):
        config = () if options[0] == "--config" else ("--config", small_config)
        commands.append(("train", *config, "--out", tmp_path / f"training-{number}", *options))
    found = refeval_again_and_again(tmp_path / "said", commands)
    for (options, complaint), ended in zip(refused.items(), found, strict=True):
        assert ended.code == 2, (options, ended)
        assert complaint in ended.err and "Traceback" not in ended.err and "defect" not in ended.err, ended.err
    assert not list(tmp_path.glob("training-*"))


def test_a_batch_that_cannot_be_shared_out_is_refused(tmp_path: Path, small_config: Path) -> None:
    started = ranks(tmp_path / "said", small_config, tmp_path / "training", "no", "run.micro_batch=4", work=only_train)
    for ended in (one.ended() for one in started):
        assert ended.code == 2 and "4 samples cannot be shared out" in ended.err, ended
        assert "processes" in ended.err
    assert not (tmp_path / "training").exists()


def test_another_training_in_the_folder_is_named_field_by_field(
    tmp_path: Path, small_config: Path, undisturbed: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    command = ("train", "--config", small_config, "--out", undisturbed)
    changes = ("--set", "optimizer.learning_rate=0.01", "--set", "objective.flow.shift=2.0", "--seed", "3")
    other = refeval(tmp_path / "said", *command, *changes)
    assert other.code == 2 and "another training is here" in other.err
    for line in (
        "recipe.optimizer.learning_rate",
        "0.001 there, 0.01 asked for",
        "recipe.objective.flow.shift",
        "seed",
    ):
        assert line in other.err
    assert "run." not in other.err, "what agrees is not listed"
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "thesis.tex").write_text("")
    refused = refeval(tmp_path / "said", "train", "--config", small_config, "--out", strange)
    assert refused.code == 2 and "holds other files" in refused.err
    assert [path.name for path in strange.iterdir()] == ["thesis.tex"]
    with alone(undisturbed):
        second = refeval(tmp_path / "said", *command)
    assert second.code == 2 and "another command is training here" in second.err
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.parent != undisturbed} == {
        path: time for path, time in before.items() if path.parent != undisturbed
    }


def test_the_document_tells_what_was_trained(undisturbed: Path) -> None:
    content = json.loads((undisturbed / "training.json").read_text())
    assert content["recipe"]["optimizer"]["name"] == "muon" and content["recipe"]["name"] == "small"
    assert content["seed"] == 0 and content["data"] == {} and content["start"] == {}
    assert content["environment"] and content["refeval_version"]
    assert read_training(undisturbed).recipe.described() == content["recipe"]


def test_files_of_one_name_are_told_apart_and_their_order_counts(tmp_path: Path) -> None:
    files = [tmp_path / place / "rows.jsonl" for place in "ab"]
    for file in files:
        file.parent.mkdir()
        file.write_text(file.parent.name)
    there = digests(files)
    assert list(there) == ["1:rows.jsonl", "2:rows.jsonl"] and len(set(there.values())) == 2
    assert digests(reversed(files)) != there
    with pytest.raises(BadInput, match="no such file"):
        digests([tmp_path / "c"])
