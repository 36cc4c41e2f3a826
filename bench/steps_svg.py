"""Steps: distributions as curves in an SVG, of which a reader asks how many were done by when. No library.

One panel below the other, each with a logarithmic axis of times and a curve for each list of values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10
from typing import NamedTuple

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 110, 34, 44
COLOURS = ("#332288", "#117733", "#88ccee", "#ddcc77", "#cc6677", "#aa4499")
"""Six that colour-blind readers tell apart (Paul Tol's)."""
FONT = 'font-family="sans-serif" font-size="12"'
POINTS_MAX = 200
"""Of one curve: more cannot be seen."""


class Panel(NamedTuple):
    """One plot. ``curves``: by name, values in ascending order, all above 0."""

    title: str
    axis: str
    curves: Mapping[str, Sequence[float]]


def draw(panels: Sequence[Panel]) -> str:
    """The file's text."""
    height = HEIGHT * len(panels)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {FONT}>'
    white = f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
    bodies = [f'<g transform="translate(0 {at * HEIGHT})">{_panel(panel)}</g>' for at, panel in enumerate(panels)]
    return "\n".join([head, white, *bodies, "</svg>"]) + "\n"


def _panel(panel: Panel) -> str:
    values = [value for curve in panel.curves.values() for value in curve]
    low, high = log10(min(values)), log10(max(values))
    inner, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(value: float) -> float:
        return LEFT + inner * (log10(value) - low) / max(high - low, 1e-9)

    def y(share: float) -> float:
        return TOP + tall * (1 - share)

    lines = [f'<text x="{LEFT}" y="{TOP - 14}" font-weight="bold">{escape(panel.title)}</text>']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        lines.append(f'<path d="M{LEFT} {y(share):.1f}h{inner}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    for tick in _ticks(low, high):
        lines.append(f'<path d="M{x(tick):.1f} {TOP}v{tall}" stroke="#ddd"/>')
        lines.append(f'<text x="{x(tick):.1f}" y="{TOP + tall + 16}" text-anchor="middle">{tick:,}</text>')
    lines.append(f'<text x="{LEFT + inner / 2}" y="{TOP + tall + 36}" text-anchor="middle">{escape(panel.axis)}</text>')
    for at, (name, curve) in enumerate(panel.curves.items()):
        colour = COLOURS[at % len(COLOURS)]
        path = "".join(f"L{x(value):.1f} {y(share):.1f}" for value, share in _points(curve))
        lines.append(
            f'<path d="M{x(curve[0]):.1f} {y(0):.1f}{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
        )
        top = TOP + 8 + 18 * at
        lines.append(f'<path d="M{WIDTH - RIGHT + 12} {top}h18" stroke="{colour}" stroke-width="3"/>')
        lines.append(f'<text x="{WIDTH - RIGHT + 36}" y="{top + 4}">{escape(name)}</text>')
    return "\n".join(lines)


def _points(curve: Sequence[float]) -> list[tuple[float, float]]:
    """Value and share of those up to it."""
    count = len(curve)
    step = max(1, count // POINTS_MAX)
    return [(curve[at], (at + 1) / count) for at in sorted({*range(0, count, step), count - 1})]


def _ticks(low: float, high: float) -> list[int]:
    """1, 2 and 5 times the powers of ten between two logarithms."""
    found = [factor * 10**power for power in range(max(0, floor(low)), ceil(high) + 1) for factor in (1, 2, 5)]
    return [tick for tick in found if low <= log10(tick) <= high]
