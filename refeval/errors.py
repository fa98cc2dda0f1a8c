"""Errors a user can cause: each says what is wrong, where, and what mends it."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process returns to the shell (docs/cli.md lists them for users)."""

    OK = 0
    BUG = 1
    USAGE = 2
    INCOMPLETE = 3
    CORRUPT = 4
    DISK_FULL = 5
    DIFFERS = 6
    BREACH = 7
    INTERRUPTED = 130
    TERMINATED = 143


class RefevalError(Exception):
    """An error shown without a traceback.

    Args:
        what: one line that names the thing, e.g. ``case 'faceobj_14': reference 2 of 3 is missing``.
        details: (label, text) rows such as ``("looked for", "/data/Images/...")``.
        cure: what the user can do, best a command.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, what: str, *, details: tuple[tuple[str, str], ...] = (), cure: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.details = details
        self.cure = cure

    def __str__(self) -> str:
        rows = [*self.details, *([("cure", self.cure)] if self.cure else [])]
        width = max((len(label) for label, _ in rows), default=0)
        return "\n".join([self.what, *(f"  {label:<{width}}  {text}" for label, text in rows)])


class BadInput(RefevalError):
    """Input of the user that cannot be used: a file, a field, an option."""


class MissingPrerequisite(RefevalError):
    """Something that must be fetched or installed first; ``cure`` is the command that does it."""


class UnusableClip(RefevalError):
    """A clip that cannot be scored; ``what`` becomes the reason of a ``failed`` record."""


class Unparseable(RefevalError):
    """A judge's answer that is no score; ``what`` becomes the reason of an ``unparseable`` record."""


class Unavailable(MissingPrerequisite):
    """A metric that could score and no longer can: its key is refused, its budget is used up.

    Attributes:
        metric: its id; filled in where the metric is known.
    """

    metric: str = ""


class MissingClip(RefevalError):
    """There is nothing to make a clip from; ``what`` becomes the reason of a ``missing`` record."""


class CorruptFile(RefevalError):
    """A file of a run folder that does not match its own digest or schema."""

    exit_code = ExitCode.CORRUPT


class DiskFull(RefevalError):
    """No space (or quota) left for a file that has to be written."""

    exit_code = ExitCode.DISK_FULL
