"""Figures: what a load of one kind of operation came to."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Operations a second; how long they took, in milliseconds; CPU of all nodes, and of the load generator, in
    microseconds for each."""

    per_s: float
    ms_p50: float
    ms_p99: float
    ms_max: float
    nodes_us: float
    client_us: float


def per_operation(cpu_s: float, count: int) -> float:
    """In microseconds."""
    return cpu_s / count * 1e6


def medians(runs: Sequence[Figures]) -> Figures:
    """Of each figure."""
    return Figures(**{name: median(getattr(run, name) for run in runs) for name in Figures.__struct_fields__})
