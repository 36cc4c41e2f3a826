"""Crashes of nodes that share this process: what a power cut would leave of their files."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from quorate.runtime.files import ASIDE


async def power_cut(folder: Path, stop: Callable[[], Awaitable[object]]) -> None:
    """What is in a running node's folder at this moment is what it comes back with, however well it stops after.

    Files that are not finished stay behind: a start removes them, and they may get their names while this copies.
    """
    kept = folder.with_name(f"{folder.name}-at-the-cut")
    shutil.copytree(folder, kept, ignore=shutil.ignore_patterns(f"*{ASIDE}"))
    await stop()
    shutil.rmtree(folder)
    kept.rename(folder)
