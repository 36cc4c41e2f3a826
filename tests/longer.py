"""How long the long campaigns are: what CI has time for, or more of the same seeds: QUORATE_LONGER=2 make test-slow."""

from __future__ import annotations

import os
from typing import Final

LONGER: Final = float(os.environ.get("QUORATE_LONGER", "1"))


def many(count: int) -> int:
    """So many, or as many times more as is asked for."""
    return max(1, round(count * LONGER))
