"""Pictures of cost curves, as SVG: axes, ticks, lines with points, and a legend; nothing else is needed here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from benchmarks.finding import Curve

__all__ = ["as_svg", "ticks"]

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 40, 44, 56
#: Told apart by the colour-blind too (Okabe and Ito), and by their points.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_FONT = "font-family='sans-serif' font-size='12'"


def ticks(least: float, most: float, log: bool) -> list[float]:
    """Round numbers from below `least` to above `most`: some six steps of 1, 2 or 5, or powers of ten.

    Where there are no more than three of these, twice and five times as much are marked too.
    """
    if log:
        low, high = math.floor(math.log10(least)), math.ceil(math.log10(most))
        if high - low > 2:
            return [10.0**power for power in range(low, high + 1)]
        fine = [10.0**power * factor for power in range(low, high + 1) for factor in (1, 2, 5)]
        first = max(place for place, mark in enumerate(fine) if mark <= least * (1 + 1e-9))
        last = min(place for place, mark in enumerate(fine) if mark >= most * (1 - 1e-9))
        return fine[first : max(last, first + 1) + 1]
    rough = (most - least) / 5 or 1.0
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first = math.floor(least / step)
    return [step * number for number in range(first, max(math.ceil(most / step), first + 1) + 1)]


def _label(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"


def _scale(marks: Sequence[float], log: bool, start: float, end: float) -> Callable[[float], float]:
    """From a value to a place between `start` and `end`."""
    low, high = marks[0], marks[-1]
    if log:
        return lambda value: start + (end - start) * (math.log(value / low) / math.log(high / low))
    return lambda value: start + (end - start) * (value - low) / (high - low)


def _axes(curve: Curve, across: Sequence[float], up: Sequence[float]) -> list[str]:
    """The frame: title, what the axes are, ticks with their numbers, and faint lines across."""
    x = _scale(across, curve.log_across, _LEFT, _WIDTH - _RIGHT)
    y = _scale(up, curve.log_up, _HEIGHT - _BOTTOM, _TOP)
    middle, floor = (_TOP + _HEIGHT - _BOTTOM) / 2, _HEIGHT - _BOTTOM
    out = [
        f"<text x='{_LEFT}' y='20' font-family='sans-serif' font-size='15'>{escape(curve.title)}</text>",
        f"<text x='{(_LEFT + _WIDTH - _RIGHT) / 2}' y='{_HEIGHT - 12}' text-anchor='middle' {_FONT}>"
        f"{escape(curve.across)}</text>",
        f"<text x='16' y='{middle}' text-anchor='middle' transform='rotate(-90 16 {middle})' {_FONT}>"
        f"{escape(curve.up)}</text>",
    ]
    for mark in across:
        out.append(f"<line x1='{x(mark):.1f}' x2='{x(mark):.1f}' y1='{_TOP}' y2='{floor}' stroke='#ddd'/>")
        out.append(f"<text x='{x(mark):.1f}' y='{floor + 18}' text-anchor='middle' {_FONT}>{_label(mark)}</text>")
    for mark in up:
        out.append(f"<line x1='{_LEFT}' x2='{_WIDTH - _RIGHT}' y1='{y(mark):.1f}' y2='{y(mark):.1f}' stroke='#ddd'/>")
        out.append(f"<text x='{_LEFT - 8}' y='{y(mark) + 4:.1f}' text-anchor='end' {_FONT}>{_label(mark)}</text>")
    out.append(f"<path d='M{_LEFT} {_TOP}V{floor}H{_WIDTH - _RIGHT}' fill='none' stroke='#333'/>")
    return out


def _point(shape: int, x: float, y: float, colour: str) -> str:
    """A circle, a square, a diamond or a triangle."""
    paths = ("", "M-4 -4H4V4H-4Z", "M0 -5L5 0L0 5L-5 0Z", "M0 -5L5 4H-5Z")
    if shape % 4 == 0:
        return f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' fill='{colour}'/>"
    return f"<path d='{paths[shape % 4]}' transform='translate({x:.1f} {y:.1f})' fill='{colour}'/>"


def as_svg(curve: Curve) -> str:
    """The picture, whole; ValueError when there is no point in it."""
    points = [point for line in curve.lines.values() for point in line]
    if not points:
        raise ValueError(f"there is nothing to draw for {curve.title}")
    xs, ys = [x for x, _ in points], [y for _, y in points]
    across = ticks(min(xs), max(xs), curve.log_across)
    up = ticks(min(ys) if curve.log_up else 0.0, max(ys), curve.log_up)
    x = _scale(across, curve.log_across, _LEFT, _WIDTH - _RIGHT)
    y = _scale(up, curve.log_up, _HEIGHT - _BOTTOM, _TOP)
    out = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}' width='{_WIDTH}' "
        f"height='{_HEIGHT}' role='img' aria-label='{escape(curve.title, quote=True)}'>",
        f"<rect width='{_WIDTH}' height='{_HEIGHT}' fill='white'/>",
        *_axes(curve, across, up),
    ]
    for number, (name, line) in enumerate(curve.lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        way = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line)
        out.append(f"<polyline points='{way}' fill='none' stroke='{colour}' stroke-width='2'/>")
        out += [_point(number, x(a), y(b), colour) for a, b in line]
        left = _LEFT + 12 + (_WIDTH - _LEFT - _RIGHT) // max(2, len(curve.lines)) * number
        out.append(_point(number, left, _TOP - 10, colour))
        out.append(f"<text x='{left + 10}' y='{_TOP - 6}' {_FONT}>{escape(name)}</text>")
    return "\n".join([*out, "</svg>"]) + "\n"
