"""What a number looks like in a cell, and which one is the best."""

from __future__ import annotations

from refeval.reports.cells import DAGGER, Cell, Number, mark_best


def best(
    *rows: tuple[str, ...], starts: tuple[int, ...] = (0,), lower: frozenset[int] = frozenset()
) -> list[list[int]]:
    """Columns in bold, by row."""
    marked = mark_best(rows, starts, lower_is_better=lower)
    assert [[str(cell) for cell in row] for row in marked] == [[str(cell) for cell in row] for row in rows]
    return [[i for i, cell in enumerate(row) if isinstance(cell, Cell) and cell.number.best] for row in marked]


def number(value: float | None, **fields: object) -> Cell:
    return Cell(Number(value=value, **fields))  # type: ignore[arg-type]


def test_a_cell_reads_as_its_number() -> None:
    full = Number(value=56.304, low=55.392, high=57.2149, spread=0.6, scored=179, applicable=180, mark=DAGGER)
    assert Cell(full) == "56.30†\n[55.4, 57.2]\nsd 0.60\n179/180"
    assert Cell(full).number is full
    assert Cell(Number(value=None, word="absent", scored=0, applicable=180)) == "absent\n0/180"
    assert Cell(Number(value=float("nan"))) == "nan"


def test_what_rounds_to_nothing_has_no_sign() -> None:
    values = (-0.001, 0.0, -0.0, 0.02, -8.384)
    assert [Number(value=v, signed=True).shown for v in values] == ["+0.00", "+0.00", "+0.00", "+0.02", "-8.38"]
    assert Number(value=-0.004).shown == "0.00"


def test_the_best_of_each_group_and_column_is_bold() -> None:
    rows = [
        ("a", number(1), number(9)),
        ("b", number(2), number(8)),
        ("c", number(5), number(1)),
        ("d", number(4), number(3)),
    ]
    assert best(*rows, starts=(0, 2)) == [[2], [1], [1], [2]]
    assert best(*rows, starts=(0, 2), lower=frozenset({2})) == [[], [1, 2], [1, 2], []]


def test_ties_as_printed_are_all_bold() -> None:
    assert best(("a", number(56.301)), ("b", number(56.299)), ("c", number(56.29))) == [[1], [1], []]


def test_what_is_undefined_marked_or_not_a_number_is_never_bold() -> None:
    rows = [
        ("a", number(None), number(99, comparable=False, mark=DAGGER), "99"),
        ("b", number(2), number(float("nan")), number(1)),
        ("c", number(1), number(3), number(2)),
        ("d", number(0), number(2), number(2)),
    ]
    assert best(*rows) == [[], [1], [2, 3], [3]]


def test_nothing_is_best_of_one() -> None:
    assert best(("a", number(1)), ("b", number(2, comparable=False))) == [[], []]
