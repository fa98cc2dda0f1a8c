"""How a judge is chosen: environment variables, read once and checked."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from refeval.errors import BadInput, MissingPrerequisite
from refeval.metrics.judges.limits import Limit, Price
from refeval.redaction import Redactor

OFFICIAL_MODEL = "gpt-4o-2024-11-20"
_PREFIX = "REFEVAL_JUDGE_"
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """A judge and its limits. What is measured goes into the settings of the metric; where and how does not.

    Attributes:
        url: REFEVAL_JUDGE_URL: base URL of an OpenAI-compatible server, up to and with ``/v1``.
        local: REFEVAL_JUDGE_LOCAL: folder of a Qwen2.5-VL that runs in this process.
        replay: REFEVAL_JUDGE_REPLAY: folder of recorded replies (``RUN/judge``) to take instead of asking anybody.
        model: REFEVAL_JUDGE_MODEL: by default the official judge; a local one is named by its folder and weights.
        key_variable: REFEVAL_JUDGE_KEY_ENV: name of the variable that holds the key.
        rubric: REFEVAL_JUDGE_RUBRIC: the user's copy of the official script, or a rubric of the user's own (.txt).
        budget: REFEVAL_JUDGE_BUDGET: ``5 USD``, ``2000000 tokens`` or ``540 calls``.
        price: REFEVAL_JUDGE_PRICE: ``INPUT/OUTPUT`` in dollars per million tokens.
        per_minute: REFEVAL_JUDGE_RPM: calls per minute of a command, over all its processes.
        calibration: REFEVAL_JUDGE_CALIBRATION: ``RUN/judge/calibration.json`` of an earlier run, to see the drift.
        offline: nobody is asked over a network: what HF_HUB_OFFLINE, and so ``--offline``, says.
    """

    url: str | None = None
    local: Path | None = None
    replay: Path | None = None
    model: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    rubric: Path | None = None
    budget: Limit | None = None
    price: Price | None = None
    per_minute: float | None = None
    calibration: Path | None = None
    offline: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the variables; an empty one is as good as none.

        Args:
            environment: by default that of this process.

        Raises:
            MissingPrerequisite: no judge is chosen.
            BadInput: an unknown variable ``REFEVAL_JUDGE_...``, or a value that cannot be used; secrets are not shown.
        """
        variables = os.environ if environment is None else environment
        given = {name.removeprefix(_PREFIX): v for name, v in variables.items() if name.startswith(_PREFIX) and v}
        _refuse_unknown(given)
        budget, price, rate = given.get("BUDGET"), given.get("PRICE"), given.get("RPM")
        config = cls(
            url=_url(given.get("URL")),
            local=_path(given.get("LOCAL")),
            replay=_path(given.get("REPLAY")),
            model=given.get("MODEL"),
            key_variable=_key_variable(given.get("KEY_ENV", "OPENAI_API_KEY")),
            rubric=_path(given.get("RUBRIC")),
            budget=Limit.parse(budget) if budget else None,
            price=Price.parse(price) if price else None,
            per_minute=_rate(rate) if rate else None,
            calibration=_path(given.get("CALIBRATION")),
            offline=variables.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"},
        )
        config._check()
        return config

    def key(self, environment: Mapping[str, str] | None = None) -> str | None:
        """The key, or None where the variable is not set: a server of one's own may want none."""
        variables = os.environ if environment is None else environment
        return variables.get(self.key_variable, "").strip() or None

    def _check(self) -> None:
        if not (self.url or self.local or self.replay):
            raise MissingPrerequisite(
                "NaturalScore needs a judge",
                cure="REFEVAL_JUDGE_URL=https://HOST/v1 (any OpenAI-compatible server), or "
                "REFEVAL_JUDGE_LOCAL=FOLDER of a Qwen2.5-VL, or REFEVAL_JUDGE_REPLAY=RUN/judge",
            )
        if self.url and self.local:
            raise BadInput("REFEVAL_JUDGE_URL and REFEVAL_JUDGE_LOCAL exclude each other", cure="set one of them")
        if self.budget and self.budget.unit == "USD" and not self.price:
            cure = "REFEVAL_JUDGE_PRICE=INPUT/OUTPUT in dollars per million tokens, as your contract says"
            raise BadInput("a REFEVAL_JUDGE_BUDGET in USD needs prices", cure=cure)


_KNOWN = ("URL", "LOCAL", "REPLAY", "MODEL", "KEY_ENV", "RUBRIC", "BUDGET", "PRICE", "RPM", "CALIBRATION")


def _refuse_unknown(given: Mapping[str, str]) -> None:
    strange = sorted(set(given) - set(_KNOWN))
    if strange:
        known = ", ".join(_PREFIX + name for name in _KNOWN)
        raise BadInput(f"unknown variable {_PREFIX}{strange[0]}", details=(("known", known),))


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser() if text else None


def _url(text: str | None) -> str | None:
    if text is None:
        return None
    cure = "REFEVAL_JUDGE_URL=https://HOST/v1"
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
        secret = parts.username is not None or parts.password is not None
    except ValueError:
        usable = secret = False
    if secret:
        raise BadInput("REFEVAL_JUDGE_URL holds a user name or a password", cure=f"{cure}, and the key in a variable")
    if not usable:
        raise BadInput("REFEVAL_JUDGE_URL is not the address of a server", cure=cure)
    return text


def _key_variable(name: str) -> str:
    cure = "REFEVAL_JUDGE_KEY_ENV=NAME, not the key itself; by default OPENAI_API_KEY"
    # The value is not shown: somebody may have put the key there.
    if not _VARIABLE.fullmatch(name):
        raise BadInput("REFEVAL_JUDGE_KEY_ENV is not the name of a variable in capitals", cure=cure)
    if not Redactor.from_environment({name: "hidden"}).names_in("hidden"):
        raise BadInput(
            "REFEVAL_JUDGE_KEY_ENV names a variable that refeval would not keep out of logs",
            cure="use a name that holds KEY, TOKEN or SECRET",
        )
    return name


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not (math.isfinite(rate) and rate > 0):
        raise BadInput(f"REFEVAL_JUDGE_RPM: {text!r} is not a number of calls per minute", cure="REFEVAL_JUDGE_RPM=60")
    return rate
