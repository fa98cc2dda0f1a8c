"""The tables of docs/statistics.md: how often intervals contain the true value, and tests raise false alarms.

Run it from the root of the repository: ``python -m tests.statistics.coverage_table`` (some minutes).
"""

from __future__ import annotations

import math
import sys

import numpy as np

from refeval.protocols import ProtocolName
from refeval.statistics.aggregation import Aggregation
from refeval.statistics.intervals import bca_interval, percentile_interval
from refeval.statistics.scores import FloatArray
from refeval.statistics.strata import Strata
from tests.statistics.benchmarks_at_random import population
from tests.statistics.simulation import (
    BENCHMARKS,
    RESAMPLES,
    coverage_of_deltas,
    coverage_of_values,
    false_alarms,
    found_at_detectable_size,
)

DESIGNS = ((12, 15), (2, 30), (8, 4))
PROTOCOLS = (ProtocolName.V1_1, ProtocolName.STRICT)


def plain_draws(categories: int, per_category: int, rng: np.random.Generator) -> FloatArray:
    """The textbook bootstrap: as many draws from a category as it has cases."""
    share = np.full(per_category, 1 / per_category)
    counts = rng.multinomial(per_category, share, size=(RESAMPLES, categories))
    return counts.reshape(RESAMPLES, -1).astype(np.float64)


def intervals(run: Aggregation, strata: Strata, plain: FloatArray, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Intervals of one run by every method, each float64 (2, Q)."""
    centred, values = strata.centred(run.influence()), run.values()
    found = {}
    for draws, weights in (("n", plain), ("n - 1", strata.draw(RESAMPLES, rng))):
        drawn = run.totals(weights)
        for reach, degrees in (("normal", math.inf), ("t", strata.degrees)):
            found[f"percentile | {draws} | {reach}"] = percentile_interval(drawn, level=0.95, degrees=degrees)
            found[f"BCa | {draws} | {reach}"] = bca_interval(drawn, values, centred, level=0.95, degrees=degrees)
    return found


def coverage(protocol: ProtocolName, categories: int, per_category: int) -> dict[str, FloatArray]:
    """Share of benchmarks whose interval has the true value, per method and quantity."""
    drawn_from = population(protocol, categories=categories, per_category=per_category)
    truth, strata, rng = drawn_from.runs[0].values(), Strata(drawn_from.labels), np.random.default_rng(1)
    hits: dict[str, FloatArray] = {}
    for _ in range(BENCHMARKS):
        (run,) = drawn_from.draw(rng)
        plain = plain_draws(categories, per_category, rng)
        for method, (low, high) in intervals(run, strata, plain, rng).items():
            hits[method] = hits.get(method, 0) + ((low <= truth) & (truth <= high))
    return {method: count / BENCHMARKS for method, count in hits.items()}


def method_lines() -> list[str]:
    """How often the interval of one run covers, by method: the lowest of the quantities, and the total."""
    columns = [(protocol, *design) for design in DESIGNS for protocol in PROTOCOLS]
    found = [coverage(*column) for column in columns]
    heads = [f"{protocol}, {categories} x {per}" for protocol, categories, per in columns]
    lines = ["| interval | draws | reach | " + " | ".join(heads) + " |", "|---" * (3 + len(heads)) + "|"]
    for method in found[0]:
        cells = [f"{100 * shares[method].min():.1f} / {100 * shares[method][-1]:.1f}" for shares in found]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def quantity_lines(protocol: ProtocolName) -> list[str]:
    """The method in use, by quantity: coverage of values and deltas, and false alarms of the test."""
    size = {"categories": 12, "per_category": 15}
    even = population(protocol, **size, systems=2).without_difference()
    alarms, families = false_alarms(even)
    rows = {
        "interval of a run": coverage_of_values(population(protocol, **size)),
        "interval of a delta": coverage_of_deltas(population(protocol, **size, systems=2, better=0.4)),
        "false alarms": alarms,
    }
    quantities = even.runs[0].quantities
    lines = [f"| {protocol} | " + " | ".join(quantities) + " |", "|---" * (1 + len(quantities)) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{100 * x:.1f}" for x in shares) + " |" for name, shares in rows.items()]
    return [*lines, f"any metric after Holm: {100 * families:.1f}", ""]


def main() -> None:
    """Write the tables."""
    for protocol in PROTOCOLS:
        sys.stdout.write("\n".join(quantity_lines(protocol)) + "\n")
    even = population(ProtocolName.V1_1, categories=12, per_category=15, systems=2).without_difference()
    sys.stdout.write(f"GmeScore of the detectable size found: {100 * found_at_detectable_size(even, 'gme'):.1f}\n\n")
    sys.stdout.write("\n".join(method_lines()) + "\n")


if __name__ == "__main__":
    main()
