"""A learning curve as a picture: one line over epochs with its axes, as SVG that needs nothing else."""

import math
import re
from collections.abc import Sequence
from html import escape

LARGEST = 1e300
"""Beyond it, a range is not finite."""
_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 32, 40


def svg(points: Sequence[tuple[int, float]], title: str) -> str:
    """Draw the points, which are in order; where a value is not finite, the line has a gap.

    Args:
        points: epoch and value.
        title: of the picture, any text.
    """
    title = _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", title)
    finite = [max(-LARGEST, min(LARGEST, value)) for _, value in points if math.isfinite(value)]
    ticks = nice_ticks(min(finite, default=0.0), max(finite, default=1.0))
    low, high = ticks[0], ticks[-1]
    first, last = points[0][0], points[-1][0]

    def x(epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (epoch - first) / max(1, last - first)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
            f'height="{HEIGHT}" font-family="sans-serif" font-size="12" fill="#444" role="img">',
            f'<title>{escape(title)}</title><rect width="100%" height="100%" fill="#fff"/>',
            f'<text x="{LEFT}" y="20" font-size="13" fill="#111">{escape(title)}</text>',
            *(
                f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
                f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
                for tick in ticks
            ),
            *(
                f'<text x="{x(epoch):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{epoch}</text>'
                for epoch in sorted({first, (first + last) // 2, last})
            ),
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">epoch</text>',
            f'<path d="{_line([(x(epoch), y(v) if math.isfinite(v) else None) for epoch, v in points])}" '
            'fill="none" stroke="#0969da" stroke-width="2" stroke-linejoin="round" stroke-linecap="round"/>',
            "</svg>",
        ]
    )


def _line(places: Sequence[tuple[float, float | None]]) -> str:
    """The path through the places; a gap where there is none, and a dot where one stands alone."""
    steps, is_drawing = [], False
    for x, y in places:
        if y is not None:
            steps.append(f"{'L' if is_drawing else 'M'}{x:.1f} {y:.1f}" + ("" if is_drawing else "h0"))
        is_drawing = y is not None
    return "".join(steps)


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers, two at least, of which the first is not above ``low`` and the last not below ``high``."""
    least = max(abs(low), abs(high)) * 1e-9  # a finer difference is rounding
    if high - low <= max(least, 1e-300):
        pad = max(0.5, 1000 * least)
        low, high = low - pad, high + pad
    raw = (high - low) / (most - 2)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    begin = math.floor(low / step)
    count = math.ceil(high / step) - begin
    return [(begin + number) * step for number in range(max(count, 1) + 1)]
