"""What CometBFT's RPC needs beside the rest of Quorate, which only those install who want it."""

from __future__ import annotations

import importlib.util
from typing import Final

NEEDS: Final = "aiohttp"


def why_unavailable() -> str:
    """What to install; empty: it is there."""
    if importlib.util.find_spec(NEEDS) is None:
        return f"CometBFT's RPC needs {NEEDS}: pip install 'quorate[comet]'"
    return ""
