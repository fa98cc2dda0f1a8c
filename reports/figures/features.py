"""Reference features of several subjects: how far apart they are, as a number and as a t-SNE map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refeval.errors import BadInput, MissingPrerequisite
from refeval.reports.figures.canvas import SERIES, WIDTH, empty_figure, filled, series
from refeval.reports.figures.style import SOFT, figure_style, write_figure
from refeval.statistics.scores import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIDE, _PERPLEXITY, _LEGEND_COLUMNS = WIDTH / 2, 30.0, 3


@dataclass(frozen=True, kw_only=True)
class Separation:
    """Mean cosine distances (1 - cosine, 0..2) of pairs of features.

    Attributes:
        within: pairs of one subject.
        between: pairs of two subjects.
    """

    within: float
    between: float

    @property
    def ratio(self) -> float:
        """``between / within``: higher is better separated, 1 is not separated at all; inf without spread."""
        return self.between / self.within if self.within else float("inf")


def separation(features: FloatArray, subjects: Sequence[str]) -> Separation:
    """How far apart subjects are, over all pairs of features.

    Args:
        features: float (N, D), one row per picture; length does not matter, a row of zeros has none.
        subjects: N names.

    Raises:
        BadInput: lengths that differ, a row of zeros or without a finite value, fewer than two subjects, or no subject
            with two pictures.
    """
    x = _checked(features, subjects)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    distances = 1 - np.clip(unit @ unit.T, -1, 1)
    _, codes = np.unique(np.array(subjects, dtype=np.str_), return_inverse=True)
    first, second = np.triu_indices(len(x), k=1)
    same = codes[first] == codes[second]
    if same.all() or not same.any():
        raise BadInput("a separation needs two subjects, one of them with two pictures")
    pairs = distances[first, second]
    return Separation(within=float(pairs[same].mean()), between=float(pairs[~same].mean()))


def embed(features: FloatArray, *, seed: int = 0) -> FloatArray:
    """A map of features in the plane, float64 (N, 2): t-SNE on cosine distances.

    Near neighbours stay near; distances between groups, and their sizes, say nothing.

    Source: van der Maaten and Hinton, Visualizing Data using t-SNE, JMLR 9 (2008); scikit-learn's implementation.

    Args:
        features: float (N, D), four rows or more.
        seed: of the start.

    Raises:
        BadInput: fewer than four rows.
        MissingPrerequisite: scikit-learn is not installed.
    """
    if len(features) < 4:
        raise BadInput(f"a map of {len(features)} features shows nothing", cure="give four or more")
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        what = "the map of features is made with scikit-learn, which is not installed"
        raise MissingPrerequisite(what, cure="pip install 'refeval[figures]'") from error
    perplexity = min(_PERPLEXITY, (len(features) - 1) / 3)
    model = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=seed, n_jobs=1)
    return np.asarray(model.fit_transform(np.asarray(features, dtype=np.float64)), dtype=np.float64)


def draw_features(
    features: FloatArray, subjects: Sequence[str], folder: Path, name: str, *, seed: int = 0
) -> list[Path]:
    """Write the map with the number of :func:`separation` below it, as SVG and PNG.

    Args:
        features: float (N, D), one row per picture.
        subjects: N names.
        folder: for the files.
        name: of the files.
        seed: of the map.

    Raises:
        BadInput: as :func:`separation` and :func:`embed`.
        MissingPrerequisite: matplotlib or scikit-learn is not installed.
    """
    found, places = separation(features, subjects), embed(features, seed=seed)
    with figure_style():
        return write_figure(features_figure(places, subjects, found), folder, name)


def draw_maps(
    features: Mapping[str, FloatArray], subjects: Sequence[str], folder: Path, name: str, *, seed: int = 0
) -> list[Path]:
    """As :func:`draw_features`, for several features of the same pictures side by side, with one legend.

    Args:
        features: title -> float (N, D), one row per picture.
        subjects: N names.
        folder: for the files.
        name: of the files.
        seed: of the maps.

    Raises:
        BadInput: as :func:`separation` and :func:`embed`.
        MissingPrerequisite: matplotlib or scikit-learn is not installed.
    """
    found = [(title, embed(one, seed=seed), separation(one, subjects)) for title, one in features.items()]
    lines = -(-len(set(subjects)) // _LEGEND_COLUMNS)
    with figure_style():
        figure = empty_figure(_SIDE * len(found), _SIDE + 0.5 + 0.2 * lines)
        panels = figure.subplots(1, len(found), squeeze=False)[0]
        for panel, (title, places, apart) in zip(panels, found, strict=True):
            _draw_map(panel, places, subjects, apart)
            panel.set_title(title)
        # Names beside the pictures would cover those of others, where they lie close.
        looks, names = panels[0].get_legend_handles_labels()
        figure.legend(looks, names, loc="outside lower center", ncols=_LEGEND_COLUMNS, fontsize=8, frameon=False)
        return write_figure(figure, folder, name)


def features_figure(places: FloatArray, subjects: Sequence[str], found: Separation) -> Figure:
    """The map: one look per subject, its name beside its pictures; within :func:`figure_style`."""
    figure = empty_figure(_SIDE, _SIDE + 0.3)
    panel = figure.subplots()
    _draw_map(panel, places, subjects, found)
    for subject in sorted(set(subjects)):
        rows = _rows(subjects, subject)
        top = rows[np.argmax(places[rows, 1])]
        at, box = (
            (float(places[top, 0]), float(places[top, 1])),
            {"facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        )
        settings: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 8, "bbox": {**box, "pad": 0.8}}
        panel.annotate(subject, at, (0, 5), textcoords="offset points", **settings)
    return figure


def _draw_map(panel: Axes, places: FloatArray, subjects: Sequence[str], found: Separation) -> None:
    for place, subject in enumerate(sorted(set(subjects))):
        rows = _rows(subjects, subject)
        # Looks come again after eight; the second eight are open.
        look = filled(series(place), whole=place // len(SERIES) % 2 == 0)
        panel.plot(places[rows, 0], places[rows, 1], markersize=5, label=subject, **look)
    panel.set(xticks=[], yticks=[])
    panel.margins(0.12)
    text = f"between / within: {found.between:.3f} / {found.within:.3f} = {found.ratio:.2f}"
    panel.set_xlabel(f"{text}\n(mean cosine distances; t-SNE keeps neighbours only)", fontsize=8, color=SOFT)


def _rows(subjects: Sequence[str], subject: str) -> NDArray[np.intp]:
    return np.flatnonzero(np.array(subjects, dtype=np.str_) == subject)


def _checked(features: FloatArray, subjects: Sequence[str]) -> FloatArray:
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or len(x) != len(subjects):
        raise BadInput(f"{len(subjects)} subjects for features of shape {x.shape}", cure="give one row per name")
    if not np.isfinite(x).all() or not np.linalg.norm(x, axis=1).all():
        raise BadInput("a feature without a direction: zeros, NaN or infinity in its row")
    return x
