"""Gates: what a candidate may lose against a base before it is refused.

::

    GATE       NAME:CONDITION[:CONDITION]
    NAME       TotalScore, or a metric by name or id, in any case; all: every metric that the suite has cases for
    CONDITION  -0.5         a breach where the delta is below -0.5 points: per cent of the metric's range
               -1%          ... below -1 % of the base's value
               0            ... below 0: any loss
               +1  +1%      ... below a gain that is asked for
               significant  a breach where it is worse and p < .05, corrected by Holm over the metrics
    Two conditions: a breach only where both hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from refeval.cases import Domain
from refeval.catalogue import METRIC_BY_ID
from refeval.comparing import TOTAL_LABEL, Comparison, Row
from refeval.errors import BadInput, ExitCode
from refeval.protocols import ProtocolName, slots
from refeval.statistics import TOTAL
from refeval.suggestions import did_you_mean

ALPHA = 0.05
_ALL = "all"
_SIGNIFICANT = "significant"
_LIMIT = re.compile(r"([+-]?)(\d+(?:\.\d*)?|\.\d+)(%?)")
_EXAMPLES = "TotalScore:-0.5, FaceSim:-1%, NaturalScore:significant, TotalScore:-0.5:significant, all:significant"
# Points; a delta that is a limit to the last digit but one is not below it.
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How low a delta may be.

    Attributes:
        value: in points of the metric, or in per cent of the base's value; below 0 a loss.
        relative: per cent of the base's value.
    """

    value: float
    relative: bool

    def points(self, base: float) -> float:
        """The limit in points; ``base`` in points too. Of a base below 0 its size counts."""
        return abs(base) * self.value / 100 if self.relative else self.value

    def __str__(self) -> str:
        return f"{self.value:{'+' if self.value else ''}g}{'%' if self.relative else ''}"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One gate.

    Attributes:
        text: as it was given.
        of: metric id, ``total`` or ``all``.
        limit: None: any loss that is significant.
        significant: a breach has to be significant.
    """

    text: str
    of: str
    limit: Limit | None
    significant: bool


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a gate says of one metric.

    Attributes:
        gate: as it was given.
        of: metric id, or ``total``; ``all`` of a gate on all metrics that finds none.
        label: as published.
        breach: the candidate is refused.
        reason: with the numbers.
    """

    gate: str
    of: str
    label: str
    breach: bool
    reason: str

    @property
    def name(self) -> str:
        """The gate, and the metric where the gate does not name it."""
        return f"{self.gate} ({self.label})" if self.gate.lower().startswith(f"{_ALL}:") else self.gate


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A comparison and what the gates say of it."""

    comparison: Comparison
    verdicts: tuple[Verdict, ...]

    @property
    def breaches(self) -> tuple[Verdict, ...]:
        return tuple(verdict for verdict in self.verdicts if verdict.breach)

    @property
    def exit_code(self) -> ExitCode:
        """BREACH; without gates INCOMPLETE, where a value is missing and that is not allowed; else OK."""
        if self.breaches:
            return ExitCode.BREACH
        lacking = not self.comparison.complete and not self.comparison.allow_missing
        return ExitCode.INCOMPLETE if lacking and not self.verdicts else ExitCode.OK

    def summary(self) -> str:
        """One line."""
        if self.breaches:
            return f"{len(self.breaches)} of {len(self.verdicts)} gates breached"
        if self.verdicts:
            return f"{len(self.verdicts)} gate{'s' if len(self.verdicts) > 1 else ''} held"
        if self.exit_code is ExitCode.INCOMPLETE:
            return "incomplete: applicable cases have no value; --allow-missing compares what is there"
        return "compared; no gate was given"

    def as_json(self, worst: int) -> dict[str, Any]:
        """The comparison with the verdicts; ``worst``: how many of the losses."""
        return {
            **self.comparison.as_json(worst),
            "gates": [asdict(verdict) for verdict in self.verdicts],
            "summary": self.summary(),
            "exit_code": int(self.exit_code),
        }


def parse_gates(texts: Iterable[str], protocol: ProtocolName, domain: Domain) -> tuple[Gate, ...]:
    """Gates from expressions: see the module.

    Args:
        texts: one expression each.
        protocol: its metrics can be named.
        domain: likewise.

    Raises:
        BadInput: not a gate, or a metric that is unknown or no part of this total.
    """
    return tuple(_parse(text, protocol, domain) for text in texts)


def judge(comparison: Comparison, gates: Sequence[Gate]) -> Judged:
    """Hold a comparison against gates."""
    verdicts = [verdict for gate in gates for verdict in _verdicts(gate, comparison)]
    return Judged(comparison=comparison, verdicts=tuple(verdicts))


def _parse(text: str, protocol: ProtocolName, domain: Domain) -> Gate:
    name, *conditions = (part.strip() for part in text.split(":"))
    limits = [_limit(text, condition) for condition in conditions if condition.lower() != _SIGNIFICANT]
    significant = len(conditions) - len(limits)
    if not conditions or len(limits) > 1 or significant > 1:
        what = f"--gate {text}: not NAME:CONDITION, or NAME:LIMIT:{_SIGNIFICANT}"
        raise BadInput(what, details=(("examples", _EXAMPLES),))
    limit = limits[0] if limits else None
    if limit and limit.value > 0 and significant:
        cure = f"--gate {name}:{limit}"
        raise BadInput(f"--gate {text}: a gain that is asked for is not a loss that is significant", cure=cure)
    return Gate(text=text, of=_named(text, name, protocol, domain), limit=limit, significant=bool(significant))


def _limit(gate: str, text: str) -> Limit:
    found = _LIMIT.fullmatch(text)
    if not found:
        known = (_SIGNIFICANT,)
        what = f"--gate {gate}: '{text}' is no condition{did_you_mean(text.lower(), known)}"
        raise BadInput(what, details=(("examples", _EXAMPLES),))
    sign, number, per_cent = found.groups()
    value = float(number)
    if value and not sign:
        cure = f"-{number}{per_cent} allows a loss of so much, +{number}{per_cent} asks for a gain"
        raise BadInput(f"--gate {gate}: {text} has no sign", cure=cure)
    return Limit(value=-value if sign == "-" and value else value, relative=bool(per_cent))


def _named(gate: str, name: str, protocol: ProtocolName, domain: Domain) -> str:
    known = {_ALL: _ALL, TOTAL: TOTAL, TOTAL_LABEL.lower(): TOTAL}
    labels = {_ALL: _ALL, TOTAL_LABEL.lower(): TOTAL_LABEL}
    for slot in slots(protocol, domain):
        known |= {slot.metric: slot.metric, slot.label.lower(): slot.metric}
        labels[slot.label.lower()] = slot.label
    if name.lower() in known:
        return known[name.lower()]
    details = (("known", ", ".join(labels.values())),)
    published = {text.lower(): info.label for info in METRIC_BY_ID.values() for text in (info.id, info.label)}
    if name.lower() in published:
        what = f"--gate {gate}: {published[name.lower()]} is no part of {protocol} in the {domain} domain"
        raise BadInput(what, details=details)
    close = did_you_mean(name.lower(), [*labels, *known])
    for lower, label in labels.items():
        close = close.replace(f"'{lower}'", f"'{label}'")
    raise BadInput(f"--gate {gate}: unknown metric '{name}'{close}", details=details)


def _rows(gate: Gate, comparison: Comparison) -> list[Row]:
    if gate.of != _ALL:
        return [row for row in comparison.rows if row.delta.of == gate.of]
    found = [row for row in comparison.rows if row.delta.of != TOTAL and row.measured]
    if comparison.allow_missing:
        # A metric that neither side was scored with is none of "what is there".
        found = [row for row in found if row.base.scored or row.candidate.scored]
    return found


def _verdicts(gate: Gate, comparison: Comparison) -> list[Verdict]:
    """One per metric that the gate is about; a gate that looks at nothing has not been passed."""
    found = []
    for row in _rows(gate, comparison):
        breach, reason = _judge_row(gate, row, comparison.allow_missing)
        reason = f"{row.label}: {reason}"
        found.append(Verdict(gate=gate.text, of=row.delta.of, label=row.label, breach=breach, reason=reason))
    if found:
        return found
    reason = "there is no metric to look at: no case has a value"
    return [Verdict(gate=gate.text, of=gate.of, label=gate.of, breach=True, reason=reason)]


def _judge_row(gate: Gate, row: Row, allow_missing: bool) -> tuple[bool, str]:
    coverage = f"{row.base} scored in the base, {row.candidate} in the candidate"
    if not row.measured:
        return True, "no case of the suite counts for it"
    if not row.complete and not allow_missing:
        return True, f"not every case has a value: {coverage}"
    if not min(row.base.scored, row.candidate.scored):
        return True, f"there is nothing to compare: {coverage}"
    delta = row.delta
    if delta.delta is None or delta.base is None or delta.candidate is None:
        return True, "undefined"
    base, candidate, change = (100 * value for value in (delta.base, delta.candidate, delta.delta))
    told = f"{change:+.2f} points ({base:.2f} to {candidate:.2f})"
    below = change < 0
    if gate.limit:
        limit = gate.limit.points(base)
        below = change < limit - _ROUNDING
        shown = f"{gate.limit}, {limit:+.2f} points" if gate.limit.relative else str(gate.limit)
        told += f", {'below' if below else 'not below'} the limit of {shown}"
    if gate.significant:
        if delta.p_holm is None:
            # Undecided is not held: a gate may pass by what was measured only.
            return below and change < 0, f"{told}, and there is no p-value: nothing shows how far luck moves it"
        significant = change < 0 and delta.p_holm < ALPHA
        below = below and significant
        which = "p" if delta.of == TOTAL else "corrected p"
        told += f", {'significantly worse' if significant else 'not significantly worse'} ({which} {delta.p_holm:.2g})"
    return below, told
