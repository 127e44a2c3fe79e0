"""Lines over time as SVG, with the standard library alone; legible on light pages and on dark ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

import attrs

WIDTH, HEIGHT = 760, 150
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 26, 24
"""Pixels of a panel, and of the room around its lines."""

LEGEND = 20
"""Pixels below all panels."""

GREY = "#808890"
"""As far from white as from black."""


@attrs.frozen
class Curve:
    """One line.

    Attributes:
        name: shown in the legend.
        colour: of a middling brightness, for the same reason as `GREY`.
        points: moments and values, in order.
        filled: shade what is below it.
        dashed: draw it as a bound rather than as something that happened.
    """

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    filled: bool = False
    dashed: bool = False


@attrs.frozen
class Panel:
    """One picture of several that share their axes."""

    title: str
    curves: Sequence[Curve]


def picture(panels: Sequence[Panel], *, seconds: float, highest: float, label: str) -> str:
    """Return panels, one below the other, as one SVG document.

    Arguments:
        panels: what to draw.
        seconds: where the time axis ends.
        highest: where the value axis ends; what is above is cut off.
        label: of the values.
    """
    height = len(panels) * (HEIGHT + BOTTOM) + LEGEND
    style = f'font-family="sans-serif" font-size="11" fill="{GREY}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {style}>']
    parts += _legend(panels[0].curves, height)
    for number, panel in enumerate(panels):
        axes = _Axes(number * (HEIGHT + BOTTOM), seconds, highest)
        parts += [f'<text x="{LEFT}" y="{axes.offset + 16}" font-size="12">{escape(panel.title)}</text>']
        parts += _grid(axes, label)
        parts += [_drawn(curve, axes) for curve in panel.curves]
    return "\n".join([*parts, "</svg>", ""])


@attrs.frozen
class _Axes:
    """Where a moment and a value are on the page."""

    offset: float
    seconds: float
    highest: float

    def x(self, moment: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(moment, self.seconds) / self.seconds

    def y(self, value: float) -> float:
        return self.offset + HEIGHT - (HEIGHT - TOP) * min(value, self.highest) / self.highest


def _grid(axes: _Axes, label: str) -> Iterator[str]:
    for value in _ticks(axes.highest, 3):
        y = axes.y(value)
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{GREY}" stroke-opacity="0.3"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    for moment in _ticks(axes.seconds, 8):
        yield f'<text x="{axes.x(moment):.1f}" y="{axes.y(0) + 14:.1f}" text-anchor="middle">{moment:g} s</text>'
    middle = axes.offset + (HEIGHT + TOP) / 2
    yield f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">{escape(label)}</text>'


def _ticks(highest: float, about: int) -> list[float]:
    """Return round numbers from 0 up to the highest, about so many."""
    rough = highest / about
    size = 10 ** math.floor(math.log10(rough))
    step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= rough)
    return [step * number for number in range(int(highest / step + 1e-9) + 1)]


def _drawn(curve: Curve, axes: _Axes) -> str:
    points = [f"{axes.x(moment):.1f} {axes.y(value):.1f}" for moment, value in curve.points if moment <= axes.seconds]
    if not points:
        return ""
    line = f"M{'L'.join(points)}"
    if curve.filled:
        first, last = points[0].split()[0], points[-1].split()[0]
        area = f"{line}L{last} {axes.y(0):.1f}L{first} {axes.y(0):.1f}Z"
        return f'<path d="{area}" fill="{curve.colour}" fill-opacity="0.45"/>'
    dashes = ' stroke-dasharray="4 3"' if curve.dashed else ""
    return f'<path d="{line}" fill="none" stroke="{curve.colour}" stroke-width="1.3"{dashes}/>'


def _legend(curves: Sequence[Curve], height: float) -> Iterator[str]:
    for number, curve in enumerate(curves):
        x, y = LEFT + 110 * number, height - 8
        dashes = ' stroke-dasharray="4 3"' if curve.dashed else ""
        yield f'<path d="M{x} {y - 4}h18" stroke="{curve.colour}" stroke-width="3"{dashes}/>'
        yield f'<text x="{x + 24}" y="{y}">{escape(curve.name)}</text>'
