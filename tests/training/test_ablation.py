"""Ablations: what each option changes, trained, rendered and scored by the real commands; studies that are killed."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from refeval.cli import app
from refeval.commands import train_ablation
from refeval.commands.ablate import StudyOptions, slots_of
from refeval.commands.train import Asked
from refeval.commands.train_ablation import MemberOptions
from refeval.errors import BadInput, ExitCode, MissingPrerequisite
from refeval.gpus import VISIBLE
from refeval.reports.ablations import Study
from refeval.runs import Run
from refeval.training.ablation import Varied, study_members
from refeval.training.checkpoints import checkpoints, read_checkpoint
from refeval.training.folder import read_training
from refeval.training.recipe import Recipe, read_recipe
from tests.training.running import Ended, lines_of, refeval, start

# One clip, and the one metric that needs no weights.
SCORED = ("--limit", "1", "--metrics", "motion_amplitude")
# Two subjects in some clips, or there would be nothing to push apart.
TWO = {"testbed.subjects": [1, 2], "data.references": 2}
SET_TWO = [part for name, value in TWO.items() for part in ("--set", f"{name}={value}")]

FLAGS: list[tuple[tuple[str, ...], str, dict[str, Any], dict[str, str] | None]] = [
    (("--loss", "full"), "loss-A-seed0", {}, {"study": "loss", "member": "A"}),
    (
        ("--loss", "no-negative"),
        "loss-B-seed0",
        {"objective.negative_weight": 0.0},
        {"study": "loss", "member": "B"},
    ),
    (("--loss", "none"), "loss-C-seed0", {"objective.depth": 0}, {"study": "loss", "member": "C"}),
    (
        ("--loss", "dual-encoder-input"),
        "loss-D-seed0",
        {"objective.depth": 0, "references": "dual"},
        {"study": "loss", "member": "D"},
    ),
    (
        ("--encoder", "sprites-untrained", "--seed", "3"),
        "encoder-sprites-untrained-seed3",
        {"teacher.names": ["sprites-untrained"]},
        {"study": "encoder", "member": "sprites-untrained"},
    ),
    (("--depth", "2"), "depth-2-seed0", {"objective.depth": 2}, {"study": "depth", "member": "2"}),
    (("--lambda", "3"), "lambda-3-seed0", {"objective.negative_weight": 3.0}, None),
    (("--margin", "1.2"), "margin-1.2-seed0", {"objective.margin": 1.2}, None),
    (("--eta", "2"), "eta-2-seed0", {"objective.eta": 2.0}, None),
    (
        ("--depth", "2", "--lambda", "0.5", "--margin", "0.25", "--eta", "2", "--iterations", "10"),
        "depth-2-lambda-0.5-margin-0.25-eta-2-seed0",
        {
            "objective.depth": 2,
            "objective.negative_weight": 0.5,
            "objective.margin": 0.25,
            "objective.eta": 2.0,
            "run.iterations": 10,
        },
        None,
    ),
]


@pytest.fixture(scope="module")
def member(small_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Ended]]:
    """Runs ``refeval train-ablation`` with some options, once; gives the folder of all members, and how it ended."""
    root = tmp_path_factory.mktemp("ablations")
    done: dict[tuple[str, ...], Ended] = {}

    def run(*flags: str) -> tuple[Path, Ended]:
        if flags not in done:
            options = (*SET_TWO, *flags, *SCORED, "--out", root / "all", "--json")
            command = ("train-ablation", "--config", small_config, *options)
            done[flags] = refeval(root / f"said-{len(done)}", *command)
        return root / "all", done[flags]

    return run


@pytest.mark.parametrize(("flags", "name", "changes", "place"), FLAGS, ids=[" ".join(row[0]) for row in FLAGS])
def test_every_flag_trains_its_member_renders_and_scores_it(
    member: Callable[..., tuple[Path, Ended]],
    small_config: Path,
    flags: tuple[str, ...],
    name: str,
    changes: Mapping[str, Any],
    place: dict[str, str] | None,
) -> None:
    root, ended = member(*flags)
    assert ended.code == ExitCode.OK, ended.err
    told = json.loads(ended.out)
    training, run = root / "trainings" / name, Run(root / "runs/sprites" / name)
    assert (Path(told["training"]), Path(told["run"])) == (training, run.folder)
    document = read_training(training)
    assert document.recipe == read_recipe(str(small_config), TWO | dict(changes))
    assert document.recipe.run.iterations == changes.get("run.iterations", 20)
    assert document.ablation == place == run.manifest.settings.get("ablation")
    assert [step for step, _ in checkpoints(training)][-1] == document.recipe.run.iterations
    assert [line["step"] for line in lines_of(training)] == list(range(1, document.recipe.run.iterations + 1))
    assert run.manifest.seed == document.seed == run.manifest.settings["training"]["seed"]
    assert run.manifest.model == f"trained:{name}"
    assert told["statuses"] == {"render": {"rendered": 1}, "motion_amplitude": {"scored": 1}}
    assert len(told["measures"]) == 18 and {one["asked"] for one in told["measures"]} == {2, 4}
    if place is None:
        given = zip(flags[::2], flags[1::2], strict=True)
        member_of = ",".join(f"{flag[2:]}={value}" for flag, value in given if flag != "--iterations")
        assert (told["study"], told["member"]) == (None, member_of)
        assert "a member of no study" in told["row"]
    else:
        assert (told["study"], told["member"]) == (place["study"], place["member"])
        tables = {"loss": "table 2", "encoder": "table 3", "depth": "table 4 and figure 7"}
        assert (
            told["row"]
            == f"{place['member']} of the ablation of {place['study']}, {tables[place['study']]} of the paper"
        )


def test_every_flag_changes_what_is_learned(member: Callable[..., tuple[Path, Ended]]) -> None:
    losses = {}
    for flags, name, *_ in FLAGS:
        root, _ = member(*flags)
        losses[name] = [(line["total"], line["gradient_norm"]) for line in lines_of(root / "trainings" / name)][:10]
    assert len({tuple(found) for found in losses.values()}) == len(FLAGS)


def test_a_second_input_is_learned_and_the_weight_of_the_alignment_matters(
    member: Callable[..., tuple[Path, Ended]],
) -> None:
    """What the recipe says is what was computed: the losses and the parameters tell."""

    def parameters(*flags: str, name: str) -> Mapping[str, Any]:
        root, _ = member(*flags)
        return read_checkpoint(checkpoints(root / "trainings" / name)[-1][1]).parameters

    dual = parameters("--loss", "dual-encoder-input", name="loss-D-seed0")
    assert dual["network.feature_embedding.weight"].abs().sum() > 0
    none = parameters("--loss", "none", name="loss-C-seed0")
    assert not any(name.startswith("projectors.") for name in [*none, *dual])
    flags, name, *_ = FLAGS[-1]
    two = parameters(*flags, name=name)
    assert {name.split(".")[1] for name in two if name.startswith("projectors.")} == {"0", "1"}


def test_the_report_and_the_last_member_set_all_members_beside_each_other(
    member: Callable[..., tuple[Path, Ended]], small_config: Path, tmp_path: Path
) -> None:
    losses = [member("--loss", loss) for loss in ("full", "no-negative", "none", "dual-encoder-input")]
    root, _ = losses[0]
    runs = [Path(json.loads(ended.out)["run"]) for _, ended in losses]
    ended = refeval(tmp_path / "said", "report", *runs, "--out", tmp_path / "report")
    assert ended.code == ExitCode.OK, ended.err
    with (tmp_path / "report/tables/ablation-loss.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["loss"] for row in rows if row["section"] == "runs"] == ["A", "B", "C", "D"]
    assert all(row["MotionAmplitude"] for row in rows)
    assert "belong to OpenS2V-Eval" in (tmp_path / "report/tables/ablation-loss.md").read_text()

    # Everything is done: the command only shows it.
    options = (*SET_TWO, "--loss", "none", *SCORED, "--out", root)
    again = refeval(tmp_path / "said", "train-ablation", "--config", small_config, *options)
    assert again.code == ExitCode.OK, again.err
    shown = [
        again.out.split(f"Ablation of loss, {rest}")[1] for rest in ("sprites,", "sprites world", "references apart")
    ]
    for table in shown:
        members = [line.split()[0] for line in table.splitlines() if line.strip()[:2] in ("A ", "B ", "C ", "D ")]
        assert members[:4] == ["A", "B", "C", "D"], table
    assert all(str(run) in again.out for run in runs)


def test_a_study_that_is_killed_goes_on_and_outlives_a_member_that_fails(small_config: Path, tmp_path: Path) -> None:
    root = tmp_path / "all"
    command = ("ablate", "--study", "depth", "--config", small_config, *SCORED, "--out", root, "--set", "run.keep=9")
    two, three = ((*command, "--depths", depths, "--json") for depths in ("0,1", "0,1,2"))
    first, report = root / "trainings/depth-0-seed0", root / "reports/sprites/depth"

    killed = study(tmp_path / "killed", *two, env={"REFEVAL_FAULT": "trained:7"})
    assert killed.code == -9, killed.err
    assert [step for step, _ in checkpoints(first)] == [5]
    kept = first / "checkpoints/step-000005/parameters.safetensors"
    written = kept.stat().st_mtime_ns

    done = study(tmp_path / "done", *two)
    assert done.code == ExitCode.OK, done.err
    assert kept.stat().st_mtime_ns == written, "it went on from there"
    assert [line["step"] for line in lines_of(first)] == list(range(1, 21))
    assert [read_training(root / f"trainings/depth-{k}-seed0").recipe.objective.depth for k in (0, 1)] == [0, 1]
    told = json.loads(done.out)
    assert [(one["member"], one["seed"], one["exit_code"]) for one in told["members"]] == [("0", 0, 0), ("1", 0, 0)]
    assert {str(report / "measures.md"), str(report / "index.html")} <= set(told["written"])
    assert any(path.endswith(".svg") and "depth" in path for path in told["written"])
    with (report / "tables/ablation-depth.csv").open() as file:
        assert [row["depth"] for row in csv.DictReader(file)] == ["0", "1"]
    with (report / "measures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["depth"] for row in rows] == ["0", "1", "chance", "real clips"]
    assert [rows[2][f"{whose} references identity"] for whose in ("own", "swapped")] == ["10.000"] * 2

    (root / "trainings/depth-2-seed0").mkdir()
    (root / "trainings/depth-2-seed0/letter.txt").write_text("not a training")
    before = _times(root / "trainings") | _times(root / "runs")
    failed = study(tmp_path / "failed", *three)
    assert failed.code == ExitCode.INCOMPLETE, failed.err
    *others, blocked = json.loads(failed.out)["members"]
    assert [(one["exit_code"], one["reason"]) for one in others] == [(0, "")] * 2
    assert blocked["exit_code"] == ExitCode.USAGE
    assert "holds other files and no training.json" in blocked["reason"]
    lines = [line.split(",")[0].split(":")[0] for line in failed.err.splitlines()]
    assert lines[:3] == ["there       depth-0-seed0", "there       depth-1-seed0", "started     depth-2-seed0"]
    assert "failed      depth-2-seed0" in lines
    assert before == _times(root / "trainings") | _times(root / "runs"), "nothing is done twice"
    assert [row.split("|")[1].strip() for row in _body(report / "measures.md")] == ["0", "1", "chance", "real clips"]


def study(says: Path, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Ended:
    """Run ``refeval ablate`` to its end: every member imports torch twice, which a busy machine takes minutes for."""
    running = start(says, *arguments, env=env)
    running.process.join(1200)
    return running.ended()


def _body(table: Path) -> list[str]:
    """The rows of a Markdown table below its heading and its section."""
    return [line for line in table.read_text().splitlines() if line.startswith("| ")][3:]


def _times(folder: Path) -> dict[Path, int]:
    files = [path for path in folder.rglob("*") if path.is_file() and "leases" not in path.parts]
    return {path: path.stat().st_mtime_ns for path in files}


def recipe(name: str = "refalign-1.3b", **changes: Any) -> Recipe:
    return read_recipe(name, {key.replace("__", "."): value for key, value in changes.items()})


@pytest.mark.parametrize(
    ("varied", "base", "message"),
    [
        (Varied(), {}, "nothing is varied"),
        (Varied(loss="fulll"), {}, "Did you mean 'full'"),
        (Varied(encoder="dinov3-x"), {}, "Did you mean 'dinov3-"),
        (Varied(encoder="dinov3-b"), {"name": "sprites"}, "unknown encoder"),
        (Varied(encoder="dinov3-b"), {"name": "wan-tiny"}, "unknown encoder"),
        (Varied(depth=31), {}, "has 30 blocks"),
        (Varied(depth=5), {"name": "sprites"}, "has 4 blocks"),
        (Varied(loss="none", depth=3), {}, "--loss none and --depth contradict"),
        (Varied(loss="none", encoder="dinov3-b"), {}, "--loss none and --encoder contradict"),
        (Varied(loss="none", eta=0.5), {}, "--loss none and --eta contradict"),
        (Varied(loss="dual-encoder-input", depth=0), {}, "--loss dual-encoder-input and --depth contradict"),
        (Varied(loss="no-negative", negative_weight=2.0), {}, "--loss no-negative and --lambda contradict"),
        (Varied(depth=0, margin=0.5), {}, "--depth 0 and --margin contradict"),
        (Varied(depth=0, encoder="dinov3-b"), {}, "--depth 0 and --encoder contradict"),
        (Varied(loss="full"), {"objective__depth": 0}, "does not align references"),
        (Varied(loss="full"), {"objective__negative_weight": 0.0}, "no negative term"),
        (Varied(depth=3), {"references": "dual"}, "does not align references"),
    ],
)
def test_what_contradicts_itself_is_refused(varied: Varied, base: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        varied.changes(recipe(**base))


def test_several_choices_are_of_no_study_and_named_in_full() -> None:
    both = Varied(loss="no-negative", depth=3, eta=0.5)
    assert (both.study, both.place) == (None, None)
    assert both.member == "loss=no-negative,depth=3,eta=0.5"
    assert both.folder(2) == "loss-no-negative-depth-3-eta-0.5-seed2"
    assert both.changes(recipe()) == {"objective.negative_weight": 0.0, "objective.depth": 3, "objective.eta": 0.5}
    assert Varied(negative_weight=0.5).study is None
    other = Varied(loss="dual-encoder-input", encoder="dinov3-h+")
    assert (other.study, other.folder(0)) == (None, "loss-dual-encoder-input-encoder-dinov3-h+-seed0")


def test_one_reference_leaves_nothing_to_push_apart() -> None:
    alone, several = recipe("sprites"), recipe("sprites", testbed__subjects=[1, 2], data__references=2)
    for varied in (Varied(loss="no-negative"), Varied(negative_weight=2.0)):
        assert "the negative term is 0" in varied.notes(alone)[0]
        assert varied.notes(several) == varied.notes(recipe()) == []
    assert Varied(loss="none").notes(alone) == []


def test_the_members_of_the_studies() -> None:
    def names(study: Study, name: str = "refalign-1.3b", **chosen: Any) -> list[str]:
        return [member.member for member in study_members(study, recipe(name), **chosen)]

    assert names(Study.LOSS) == names(Study.LOSS, "sprites") == ["A", "B", "C", "D"]
    depths = list(map(int, names(Study.DEPTH)))
    assert len(depths) == 9 and depths[0] == 0 and {9, 11} <= {*depths} and depths == sorted(depths)
    assert names(Study.DEPTH, "sprites") == ["0", "1", "2", "3", "4"]
    assert names(Study.DEPTH, depths=(12, 30)) == ["12", "30"]
    assert names(Study.ENCODER) == ["dinov3-b", "dinov3-l", "dinov3-h+", "siglip2-so", "qwen2.5-vl"]
    assert names(Study.ENCODER, "sprites") == ["sprites-identity", "sprites-untrained"]
    for study, chosen in ((Study.LOSS, {"depths": (1,)}), (Study.DEPTH, {"encoders": ("dinov3-b",)})):
        with pytest.raises(BadInput, match="to choose"):
            names(study, **chosen)
    with pytest.raises(BadInput, match="has 30 blocks"):
        names(Study.DEPTH, depths=(31,))
    with pytest.raises(BadInput, match="no encoders to compare"):
        names(Study.ENCODER, "wan-tiny")


def _options(**changes: Any) -> MemberOptions:
    asked = Asked(
        config="sprites",
        out=None,
        rows=(Path("a.jsonl"), Path("b.jsonl")),
        encoded=Path("encoded"),
        start=Path("start.safetensors"),
        seed=4,
        iterations=7,
        changes=("run.keep=2", 'teacher.names=["a"]'),
        weights=Path("weights"),
        device="cpu",
        sharding="no",
        threads=3,
        wandb="project",
    )
    fields: dict[str, Any] = {
        "asked": asked,
        "varied": {"loss": "full", "negative_weight": 0.5},
        "suite": "opens2v-human",
        "suite_data": Path("data"),
        "limit": 5,
        "metrics": "gme,facesim",
        "tiny": True,
        "gpus": 2,
        "out": Path("out"),
    }
    return MemberOptions(**{**fields, **changes})


def test_the_command_line_of_a_member_gives_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[MemberOptions] = []

    def take(given: MemberOptions, *, as_json: bool) -> ExitCode:
        assert not as_json
        seen.append(given)
        return ExitCode.OK

    monkeypatch.setattr(train_ablation, "train_ablation", take)
    full = _options()
    plain = _options(
        asked=dataclasses.replace(full.asked, encoded=None, start=None, iterations=None, wandb=None, changes=()),
        varied={"depth": 0},
        suite=None,
        suite_data=None,
        limit=None,
        metrics=None,
        tiny=False,
        gpus=None,
        out=None,
    )
    for options in (full, plain):
        result = CliRunner().invoke(app, options.arguments())
        assert result.exit_code == 0, result.output
        given = {name: value for name, value in seen.pop().varied.items() if value is not None}
        assert given == options.varied
        assert CliRunner().invoke(app, options.arguments()).exit_code == 0
        assert dataclasses.replace(seen.pop(), varied=options.varied) == options


def test_members_from_published_weights_are_trained_as_long_as_the_papers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REFEVAL_DATA", raising=False)
    plain = {"rows": (), "encoded": None, "start": None, "weights": None, "changes": ()}
    given = _options(suite="sprites", suite_data=None, gpus=None, out=tmp_path, metrics=None, varied={"depth": 9})

    def planned(**changes: Any) -> train_ablation.Plan:
        asked = dataclasses.replace(given.asked, **{**plain, "iterations": None, **changes})
        return train_ablation.plan_member(dataclasses.replace(given, asked=asked))

    published = planned(config="refalign-1.3b")
    assert published.request.recipe.run.iterations == 1800
    assert published.request.ablation == {"study": "depth", "member": "9"}
    assert (published.request.seed, published.target.seed) == (4, 4)
    assert published.target.model == f"trained:{tmp_path / 'trainings/depth-9-seed4'}"
    assert published.target.out == tmp_path / "runs/sprites/depth-9-seed4"
    assert planned(config="refalign-1.3b", iterations=5).request.recipe.run.iterations == 5
    longer = planned(config="refalign-14b", changes=("run.iterations=70",))
    assert longer.request.recipe.run.iterations == 70
    given = dataclasses.replace(given, suite=None)
    with pytest.raises(MissingPrerequisite, match="suite 'opens2v-open' is missing") as caught:
        planned(config="refalign-1.3b")
    assert "--suite-data DIR" in str(caught.value.cure)
    given = dataclasses.replace(given, suite="sprites")
    # What is varied counts more than what is set.
    assert planned(config="refalign-14b", changes=("objective.depth=2",)).request.recipe.objective.depth == 9


def test_members_share_out_gpus_or_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    def slots(gpus: int | None, workers: int | None) -> list[dict[str, str]]:
        each = _options()
        return slots_of(
            StudyOptions(study="loss", each=each, seeds=(0,), depths=(), encoders=(), gpus=gpus, workers=workers)
        )

    monkeypatch.setenv(VISIBLE, "4,7,9")
    assert slots(2, None) == [{VISIBLE: "4"}, {VISIBLE: "7"}]
    with pytest.raises(BadInput, match="asked for 4 GPUs"):
        slots(4, None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert slots(None, 3) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert slots(None, None) == [{}]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert slots(None, 3) == [{}] * 3
    with pytest.raises(BadInput, match="exclude each other"):
        slots(1, 1)
