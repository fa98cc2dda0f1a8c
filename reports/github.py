"""A comparison in GitHub Actions: a summary in Markdown and annotations.

Source: https://docs.github.com/actions/reference/workflow-commands-for-github-actions for the commands; their values
are escaped as the toolkit of Actions does it: ``%``, CR and LF in a message, and ``:`` and ``,`` in a property too.
"""

from __future__ import annotations

from refeval.errors import ExitCode, RefevalError
from refeval.gates import Judged
from refeval.reports.comparison import comparison_tables

_TITLE = "refeval compare"


def summary_text(judged: Judged, worst: int) -> str:
    """The summary in Markdown: the result, then every table; it begins and ends with an empty line."""
    tables = [table.markdown() for table in comparison_tables(judged, worst)]
    # What decides comes first.
    gates, others = (tables[-1:], tables[:-1]) if judged.verdicts else ([], tables)
    return "\n".join(["", f"## {_TITLE}: {judged.summary()}", "", *gates, *others, ""])


def annotation_lines(judged: Judged) -> list[str]:
    """One error for every breach, or one where nothing is gated and values are missing."""
    lines = [_command("error", f"refeval gate {verdict.name}", verdict.reason) for verdict in judged.breaches]
    if judged.exit_code is ExitCode.INCOMPLETE:
        lines.append(_command("error", _TITLE, judged.summary()))
    return lines


def refusal(error: RefevalError) -> tuple[str, list[str]]:
    """Summary and annotation of a comparison that was refused."""
    fenced = "\n".join(f"    {line}" for line in str(error).splitlines())
    return f"\n## {_TITLE}: refused\n\n{fenced}\n", [_command("error", f"{_TITLE}: refused", str(error))]


def _command(kind: str, title: str, message: str) -> str:
    properties = _escape(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{kind} title={properties}::{_escape(message)}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
