"""The recipes that come with the program: what they say, and where they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refeval.errors import BadInput
from refeval.training.objective import Objective
from refeval.training.recipe import Recipe, parse_recipe, read_recipe, recipe_names

# Every difference between the paper's recipe and those of the released code: docs/training.md has the same table.
STAGES = {
    "objective.gate_power": (0.0, 3.0, 3.0),
    "objective.flow.rounded": (False, True, True),
    "data.cross_share": (0.5, 0.0, 1.0),
    "data.dropped_references": ("each", "one", "one"),
    "data.augment": (True, True, False),
    "data.references": (3, 3, 8),
    "optimizer.learning_rate": (5e-5, 5e-5, 1e-5),
    "optimizer.warmup": (0, 1, 1),
    "optimizer.warmup_from": (0.0, 0.33333333, 0.33333333),
}
RUN = {
    "1.3b": {"run.iterations": (3000, 375, 375), "run.global_batch": (128, 8, 8)},
    "14b": {"run.iterations": (3000, 27, 27), "run.global_batch": (128, 112, 112)},
}


def flat(content: dict[str, Any], place: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in content.items():
        found |= flat(value, f"{place}{name}.") if isinstance(value, dict) else {f"{place}{name}": value}
    return found


@pytest.mark.parametrize("size", ["1.3b", "14b"])
def test_the_released_recipes_differ_from_the_papers_where_it_is_documented(size: str) -> None:
    names = (f"refalign-{size}", f"refalign-{size}-released-1", f"refalign-{size}-released-2")
    recipes = [flat(read_recipe(name).described()) for name in names]
    differing = {
        field: tuple(recipe[field] for recipe in recipes)
        for field in recipes[0]
        if field != "name" and len({str(recipe[field]) for recipe in recipes}) > 1
    }
    assert differing == STAGES | RUN[size]


def test_the_table_of_the_documents_has_every_difference() -> None:
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    for field in (*STAGES, *RUN["14b"]):
        assert f"`{field}`" in text, field


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_read_and_read_again_from_what_is_kept_of_it(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.name == name
    assert parse_recipe(recipe.described(), "training.json") == recipe


def test_fields_are_the_papers_where_a_file_says_nothing() -> None:
    recipe = Recipe(name="paper")
    assert recipe.objective == Objective.paper()
    assert (recipe.run.iterations, recipe.run.global_batch, recipe.optimizer.learning_rate) == (3000, 128, 5e-5)
    assert (recipe.data.drop_text, recipe.data.drop_references, recipe.data.drop_both) == (0.1, 0.1, 0.1)
    released = read_recipe("refalign-14b-released-1").objective
    assert released == Objective.released()


def test_the_two_sizes_of_a_kind_differ_in_base_teacher_and_batch_only() -> None:
    for kind in ("", "-released-1", "-released-2"):
        small, large = (flat(read_recipe(f"refalign-{size}{kind}").described()) for size in ("1.3b", "14b"))
        differing = {field for field in small if small[field] != large[field]}
        assert differing <= {"name", "network.base", "teacher.names", "run.iterations", "run.global_batch"}
        assert (small["teacher.names"], large["teacher.names"]) == (["dinov3-b"], ["dinov3-l"])


def test_changes_are_put_where_they_belong() -> None:
    recipe = read_recipe("sprites", {"objective.flow.shift": 2.0, "data.augmentation.rotate": 1, "run.keep": 9})
    assert (recipe.objective.flow.shift, recipe.data.augmentation.rotate, recipe.run.keep) == (2.0, 1.0, 9)
    assert recipe.objective.depth == read_recipe("sprites").objective.depth


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"data.drop_text": 0.5, "data.drop_both": 0.6}, "add up to 1.15"),
        ({"data.references": 9}, "'data.references' is 9, not 1 to 8"),
        ({"optimizer.ema": float("nan")}, "'optimizer.ema' is nan"),
        ({"optimizer.name": "sgd"}, "'optimizer.name' is 'sgd'"),
        ({"teacher.names": []}, "teacher.names is empty"),
        ({"network.width": 100, "network.heads": 8}, "network.width is not a multiple of twice network.heads"),
        ({"data.frames": 6}, "multiples of 4"),
        ({"objective.depth": 5}, "objective.depth is 5, of 4 blocks"),
        ({"objectives.depth": 1}, "unknown field 'objectives'. Did you mean 'objective'"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadInput) as raised:
        read_recipe("sprites", changes)
    assert complaint in raised.value.what


def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path) -> None:
    for name, content, complaint in (
        ("a.toml", b"[run\n", "is not TOML"),
        ("b.toml", b"\xff\xfe", "is not TOML"),
        ("c.toml", b"run = 3", "'run' is a table, not 3"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(BadInput, match=complaint):
            read_recipe(str(path))
    with pytest.raises(BadInput, match="No such file"):
        read_recipe(str(tmp_path / "none.toml"))
