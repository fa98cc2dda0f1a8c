"""Redaction: values of secret environment variables never reach a log, a record or a report."""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Mapping
from urllib.parse import quote

_SECRET_NAME = re.compile("KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
# Holds the name of a variable, not a secret.
_NO_SECRETS = frozenset({"REFEVAL_JUDGE_KEY_ENV"})
_SHORTEST = 4
# Switches such as TOKENIZERS_PARALLELISM=false carry a secret's name and hide nothing.
_SWITCHES = frozenset({"true", "false", "none", "null"})


def describe_failure(error: Exception) -> str:
    """What a record says of an unexpected error, ``ValueError: no``; its traceback goes to standard error, the log.

    Messages of other people's code may quote a request with its key: both are redacted.
    """
    redactor = Redactor.from_environment()
    sys.stderr.write(redactor.text("".join(traceback.format_exception(error))))
    return redactor.text(f"{type(error).__name__}: {error}")


def _is_secret(name: str) -> bool:
    return bool(_SECRET_NAME.search(name)) and name not in _NO_SECRETS


class Redactor:
    """Replaces secret values by ``[redacted NAME]``.

    A value is found as it is, percent-encoded, and inside a JSON string; so is each line of a value of
    several lines.

    Args:
        secrets: values by variable name; values of fewer than 4 characters are passed over.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._names = _names_by_form(secrets)
        # Longest first: a secret that starts like another one is replaced whole.
        forms = sorted(self._names, key=lambda form: (-len(form), form))
        self._longest = len(forms[0]) if forms else 0
        self._pattern = re.compile("|".join(map(re.escape, forms)) if forms else r"(?!)")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Redactor:
        """For the variables whose name holds KEY, TOKEN, SECRET, PASSWORD, PASSWD or CREDENTIAL.

        Args:
            environment: by default that of this process.
        """
        variables = os.environ if environment is None else environment
        return cls({name: value for name, value in variables.items() if _is_secret(name)})

    def text(self, text: str) -> str:
        """The text without secret values."""
        return self._pattern.sub(lambda match: f"[redacted {self._names[match[0]]}]", text)

    def split(self, text: str) -> tuple[str, str]:
        """Redact the start of a text that goes on.

        Returns:
            The redacted part that no later text can change, and the raw rest, shorter than the longest
            secret.
        """
        end = max(len(text) - max(self._longest - 1, 0), 0)
        for match in self._pattern.finditer(text):
            if match.start() >= end:
                break
            end = max(end, match.end())
        return self.text(text[:end]), text[end:]

    def names_in(self, text: str, *, at_least: int = _SHORTEST) -> list[str]:
        """Names of the variables whose value, of ``at_least`` characters, stands in the text; sorted."""
        found = {self._names[match[0]] for match in self._pattern.finditer(text) if len(match[0]) >= at_least}
        return sorted(found)


def _names_by_form(secrets: Mapping[str, str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for name, value in sorted(secrets.items()):
        for plain in (value, value.strip(), *map(str.strip, value.splitlines())):
            if len(plain) < _SHORTEST or plain.lower() in _SWITCHES:
                continue
            escaped = (quote(plain, safe="", errors="surrogateescape"), json.dumps(plain)[1:-1])
            for form in (plain, *escaped):
                names.setdefault(form, name)
    return names
