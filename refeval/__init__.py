"""refeval: the evaluation harness for reference-to-video generation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__version__ = "0.1.0"


def results(run: str | Path) -> pd.DataFrame:
    """The scores of a run folder, for notebooks.

    Args:
        run: the folder.

    Returns:
        One row per record: case, category, metric, status, value, strict_value, reason, frames_used.

    Raises:
        BadInput: not a run folder.
    """
    import pandas as pd

    from refeval.runs import Run

    opened = Run(Path(run))
    categories = {case.id: case.category.value for case in opened.suite().cases}
    columns = ["case", "category", "metric", "status", "value", "strict_value", "reason", "frames_used"]
    rows = [
        {**record.model_dump(mode="json"), "category": categories[record.case]} for record in opened.score_records()
    ]
    return pd.DataFrame(rows, columns=columns)
