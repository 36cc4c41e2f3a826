"""The report of a torture: operations, faults by kind, and the longest time in which no client was served."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from typing import Any

from tests.torture.every_fault import EveryFault, Struck
from tests.torture.history import Recorder


def report(seed: int, planted: str, recorder: Recorder, nemesis: EveryFault) -> dict[str, Any]:
    """All of it. ``unavailable_s_max`` is the longest time between two answers, whichever clients they went to;
    ``during`` is the fault in which most of it was.
    """
    counts, events = recorder.counts, recorder.events
    answered = [
        recorder.began_at + event.time / 1e9 for event in events if event.type == "ok" and event.time is not None
    ]
    gaps = [(after - before, (before + after) / 2) for before, after in pairwise(answered)]
    longest_s, middle = max(gaps, default=(0.0, 0.0))
    return {
        "seed": seed,
        "planted": planted,
        "links": type(nemesis.network).__name__,
        "seconds": round(events[-1].time / 1e9, 1) if events and events[-1].time else 0.0,
        "operations": {"ok": counts["ok"], "failed": counts["fail"], "unknown": counts["info"]},
        "faults": dict(sorted(nemesis.done.items())),
        "last": nemesis.last,
        "seconds_by_kind": _seconds(nemesis.struck),
        "left_out": nemesis.left_out,
        "nodes_at_the_end": list(nemesis.cluster.ids),
        "unavailable_s_max": round(longest_s, 3),
        "during": _during(nemesis.struck, middle),
        "unavailable_s_max_by_kind": _by_kind(nemesis.struck, gaps),
    }


def text(found: dict[str, Any]) -> str:
    """As a line of JSON."""
    return json.dumps(found)


def _seconds(struck: list[Struck]) -> dict[str, float]:
    """From the beginning of a fault until all was well again: in all, by kind."""
    spent: Counter[str] = Counter()
    for one in struck:
        spent[one.kind] += one.ended_at - one.began_at
    return {kind: round(seconds, 1) for kind, seconds in sorted(spent.items())}


def _during(struck: list[Struck], at: float) -> str:
    return next((one.kind for one in struck if one.began_at <= at <= one.ended_at), "none")


def _by_kind(struck: list[Struck], gaps: list[tuple[float, float]]) -> dict[str, float]:
    """The longest in each kind; ``gaps``: how long, and their middles."""
    longest: dict[str, float] = {}
    for one in struck:
        within = [gap_s for gap_s, middle in gaps if one.began_at <= middle <= one.ended_at]
        longest[one.kind] = round(max([*within, longest.get(one.kind, 0.0)]), 3)
    return dict(sorted(longest.items()))
