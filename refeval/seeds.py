"""Seeds: one number per case, so that neither the order of the cases nor sharding changes a clip."""

from __future__ import annotations

import hashlib


def case_seed(seed: int, case_id: str) -> int:
    """The seed of one case of a run.

    The first four bytes (big-endian) of ``sha256("<seed>/<case id>")`` without the top bit: 0 to 2**31 - 1,
    which every random number generator takes.

    Args:
        seed: of the run; any integer.
        case_id: id of the case.
    """
    digest = hashlib.sha256(f"{seed}/{case_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFF_FFFF
