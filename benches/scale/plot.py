#!/usr/bin/env python3
"""Draws what `measure.py` has measured: four panels over the number of formulas, as SVG.

    python3 benches/scale/plot.py docs/scale.json docs/scale.svg
"""

import json
import math
import sys
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 860, 670
PANEL_WIDTH, PANEL_HEIGHT = 330, 200
# Left upper corners of the panels' axes.
CORNERS = [(70, 70), (500, 70), (70, 385), (500, 385)]
LEGEND_LINE = 15
COLOURS = ["#1f77b4", "#d62728", "#2ca02c"]
GOAL_COLOUR = "#888"


def draw(result):
    """The whole picture as text."""
    steps = result["steps"]
    machine = result["machine"]
    title = f"Sillage from {short(steps[0]['size'])} to {short(steps[-1]['formulas'])} formulas"
    below = (
        f"{result['program']}, {result['date']}; {machine['processors']} processors, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB; messages {result['messages']}; "
        f"{'compacted' if result['compacted'] else 'NOT compacted: no such call'}"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="11" role="img" aria-label="{escape(title)}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(WIDTH / 2, 24, title, size=16),
        text(WIDTH / 2, 42, below, colour="#555"),
    ]
    for corner, panel in zip(CORNERS, panels(steps)):
        parts.append(draw_panel(corner, steps, panel))
    return "\n".join([*parts, "</svg>"]) + "\n"


def panels(steps):
    """Title, curves by name, and the goal of each panel."""
    def above(name):
        return [(s["resident"][name] - s["resident"]["empty"]) / 1e6 for s in steps]

    def ready(name):
        return [s["ready_s"][name] for s in steps]

    def ratio(name):
        return [100 * s["rates"][name]["ratio"] for s in steps]

    def each(name):
        return [s["disk"].get(name, 0) / s["formulas"] for s in steps]

    return [
        ("memory above an empty server, MB",
         {"just started": above("started"), "loaded, then compacted": above("compacted")}, 160),
        ("start of the process to ready, s",
         {"cached": ready("cached"), "after a kill": ready("cached_after_kill"),
          "from the disk": ready("from_disk")}, 1),
        ("POST against an empty store, %",
         {"new": ratio("new"), "duplicate": ratio("duplicate")}, 80),
        ("bytes on disk per formula",
         {"all files": each("all"), "snapshots": each("snapshots"), "log": each("log")}, None),
    ]


def draw_panel(corner, steps, panel):
    left, top = corner
    title, curves, goal = panel
    values = [value for curve in curves.values() for value in curve]
    highest = nice(max([*values, goal or 0, 1e-9]))
    bottom = top + PANEL_HEIGHT
    parts = [
        text(left + PANEL_WIDTH / 2, top - 10, title, size=12),
        f'<rect x="{left}" y="{top}" width="{PANEL_WIDTH}" height="{PANEL_HEIGHT}" fill="none" '
        'stroke="#ccc"/>',
    ]

    def y_of(value):
        return bottom - PANEL_HEIGHT * max(0, value) / highest

    x_of = scale_of(steps, left)
    for part in range(5):
        value = highest * part / 4
        parts.append(line((left, y_of(value)), (left + PANEL_WIDTH, y_of(value)), "#eee"))
        parts.append(text(left - 6, y_of(value) + 4, figure(value), anchor="end", colour="#555"))
    for step in steps:
        parts.append(text(x_of(step), bottom + 15, short(step["size"]), colour="#555"))
    if goal is not None:
        ends = (left, y_of(goal)), (left + PANEL_WIDTH, y_of(goal))
        parts.append(line(*ends, GOAL_COLOUR, dash="5 4"))
        parts.append(text(left + PANEL_WIDTH - 4, y_of(goal) - 4, "goal", anchor="end",
                          colour=GOAL_COLOUR))
    for index, ((name, curve), colour) in enumerate(zip(curves.items(), COLOURS)):
        points = [(x_of(step), y_of(value)) for step, value in zip(steps, curve)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (x, y), value in zip(points, curve):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}">'
                         f"<title>{escape(name)}: {figure(value)}</title></circle>")
        y = bottom + 24 + LEGEND_LINE * index
        parts.append(f'<rect x="{left}" y="{y}" width="10" height="10" fill="{colour}"/>')
        words = f"{name}: {figure(curve[-1])} at the end"
        parts.append(text(left + 14, y + 9, words, anchor="start"))
    return "\n".join(parts)


def scale_of(steps, left):
    """Where a size is on the horizontal axis, which is logarithmic."""
    first, last = (math.log10(steps[at]["size"]) for at in (0, -1))
    inset = 25

    def x_of(step):
        share = (math.log10(step["size"]) - first) / ((last - first) or 1)
        return left + inset + share * (PANEL_WIDTH - 2 * inset)

    return x_of


def nice(value):
    """The next of 1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8 times a power of ten above a value."""
    power = 10 ** math.floor(math.log10(value))
    steps = (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10)
    return next(step * power for step in steps if step * power >= value)


def short(count):
    if count >= 1_000_000:
        return f"{count / 1e6:.3g} M"
    return f"{count / 1e3:.3g} k" if count >= 1000 else str(count)


def figure(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def text(x, y, words, anchor="middle", colour="#111", size=11):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
            f'font-size="{size}">{escape(words)}</text>')


def line(start, end, colour, dash=""):
    (x1, y1), (x2, y2) = start, end
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1}" y1="{y1:.1f}" x2="{x2}" y2="{y2:.1f}" stroke="{colour}"{dashes}/>'


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    measured = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(draw(measured))
