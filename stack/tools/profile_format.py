"""Write a profile for other tools: collapsed stacks, speedscope, JSON, an SVG flame graph."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from html import escape
from typing import Any

from stack.tools.layers import SHARED
from stack.tools.profile import Function, Profile, Stack
from stack.tools.trace_format import colours


def _label(function: Function) -> str:
    """Return a name for one line of text: semicolons separate functions there."""
    return function.name.replace(";", ",").replace("\n", " ")


def render_collapsed(profile: Profile, title: str = "") -> str:
    """Return Brendan Gregg's form: `outer;inner microseconds`, a line for each path."""
    lines: dict[str, int] = {}
    for stack in profile.stacks:
        key = ";".join(_label(f) for f in stack.path) or "[unattributed]"
        lines[key] = lines.get(key, 0) + stack.ns
    return "\n".join(f"{key} {round(ns / 1000)}" for key, ns in sorted(lines.items()))


def render_speedscope(profile: Profile, title: str = "") -> str:
    """Return a file for https://www.speedscope.app (also opens in Firefox's profiler)."""
    numbers: dict[Function, int] = {}
    for stack in profile.stacks:
        for function in stack.path:
            numbers.setdefault(function, len(numbers))
    frames = []
    for f in numbers:
        frame: dict[str, object] = {"name": f.name, "file": f.file}
        if f.line:
            frame["line"] = f.line
        frames.append(frame)
    return json.dumps(
        {
            "$schema": "https://www.speedscope.app/file-format-schema.json",
            "exporter": "e1000emu",
            "name": title,
            "activeProfileIndex": 0,
            "shared": {"frames": frames},
            "profiles": [
                {
                    "type": "sampled",
                    "name": title or "CPU time",
                    "unit": "nanoseconds",
                    "startValue": 0,
                    "endValue": sum(s.ns for s in profile.stacks),
                    "samples": [[numbers[f] for f in s.path] for s in profile.stacks],
                    "weights": [s.ns for s in profile.stacks],
                }
            ],
        }
    )


def as_dict(profile: Profile, title: str = "") -> dict[str, Any]:
    """Return everything the tables show, times in ns and shares of the sampled time."""
    return {
        "title": title,
        "cpu_ns": profile.cpu_ns,
        "sampled_ns": profile.sampled_ns,
        "samples": profile.samples,
        "interval_ns": int(profile.interval_s * 1e9),
        "overhead_ns": profile.overhead_ns,
        "interrupts_ns": profile.interrupts_ns,
        "unattributed_ns": profile.unattributed_ns,
        "layers": [asdict(row) for row in profile.layers()],
        "functions": [asdict(row) for row in profile.functions()],
    }


def render_json(profile: Profile, title: str = "") -> str:
    """Return `as_dict` as JSON."""
    return json.dumps(as_dict(profile, title), indent=1)


class _Cell:
    """A rectangle of the flame graph: a function under its callers."""

    __slots__ = ("children", "function", "ns")

    def __init__(self, function: Function) -> None:
        self.function = function
        self.ns = 0
        self.children: dict[Function, _Cell] = {}


ALL = Function("all", "", "application")
NOBODY = Function("[unattributed]", "", SHARED)


def _tree(stacks: Iterable[Stack]) -> _Cell:
    root = _Cell(ALL)
    for stack in stacks:
        root.ns += stack.ns
        cell = root
        for function in stack.path or (NOBODY,):
            if function not in cell.children:
                cell.children[function] = _Cell(function)
            cell = cell.children[function]
            cell.ns += stack.ns
    return root


WIDTH, ROW, MARGIN_PX, TOP, LETTER = 1200, 17, 10, 62, 6.3
MIN_PX = 0.4


def render_svg(profile: Profile, title: str = "") -> str:
    """Return a self-contained SVG flame graph: callers below, width is CPU time, colour the layer.

    Pointing at a rectangle shows its function, file, time and share. Rectangles narrower than half
    a pixel are left out.
    """
    root = _tree(profile.stacks)
    whole = root.ns or 1
    scale = (WIDTH - 2 * MARGIN_PX) / whole
    cells: list[tuple[int, float, _Cell, str]] = []

    def place(cell: _Cell, depth: int, x: float, outer: str) -> None:
        layer = cell.function.layer or outer
        cells.append((depth, x, cell, layer))
        for child in sorted(cell.children.values(), key=lambda c: c.function.name):
            if child.ns * scale >= MIN_PX:
                place(child, depth + 1, x, layer)
            x += child.ns * scale

    place(root, 0, MARGIN_PX, "")
    deepest = max(depth for depth, *_ in cells)
    colour = colours(sorted({layer for *_, layer in cells if layer}))
    legend, x, top = [], float(MARGIN_PX), TOP
    for layer, fill in colour.items():
        if x + 30 + 7 * len(layer) > WIDTH:
            x, top = float(MARGIN_PX), top + ROW
        legend.append(
            f'<rect x="{x:.0f}" y="{top - 30}" width="11" height="11" fill="{fill}"/>'
            f'<text x="{x + 15:.0f}" y="{top - 20}" fill="#444444">{escape(layer)}</text>'
        )
        x += 30 + 7 * len(layer)
    height = top + (deepest + 1) * ROW + MARGIN_PX
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{MARGIN_PX}" y="20" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    out += legend
    for depth, x, cell, layer in cells:
        function, wide = cell.function, cell.ns * scale
        y = top + (deepest - depth) * ROW
        about = f"{function.name} ({cell.ns / 1e6:,.2f} ms, {cell.ns / whole:.1%})"
        if function.file:
            about += f"\n{function.file}" + (f":{function.line}" if function.line else "")
        if layer:
            about += f"\n{layer}"
        out.append(
            f"<g><title>{escape(about)}</title>"
            f'<rect x="{x:.1f}" y="{y}" width="{max(wide - 0.3, 0.3):.1f}" height="{ROW - 1}" '
            f'rx="1" fill="{colour.get(layer, "#bbbbbb")}"/>'
        )
        letters = int((wide - 6) / LETTER)
        if letters >= 3:
            name = function.name
            text = name if len(name) <= letters else name[: letters - 1] + "…"
            out.append(f'<text x="{x + 3:.1f}" y="{y + 12}" fill="#111111">{escape(text)}</text>')
        out.append("</g>")
    out.append("</svg>")
    return "\n".join(out)


FORMATS = {
    "collapsed": render_collapsed,
    "json": render_json,
    "speedscope": render_speedscope,
    "svg": render_svg,
}


def render(profile: Profile, form: str, title: str = "") -> str:
    """Render `profile` as one of `FORMATS`."""
    return FORMATS[form](profile, title)
