"""How much of the long campaigns is run: all, or the share in QUORATE_CAMPAIGNS: 0.5 in CI, 2 for twice the seeds."""

from __future__ import annotations

import os
from typing import Final

SHARE: Final = float(os.environ.get("QUORATE_CAMPAIGNS", "1"))


def many(count: int) -> int:
    """That share of so many, one at least."""
    return max(1, round(count * SHARE))
