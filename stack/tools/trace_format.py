"""Print a recorded trace: indented text, JSON, Mermaid flow chart, SVG, Perfetto (Chrome trace
events)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from stack.tools.trace import Call

WIDE_COLUMNS = 160


def render_text(calls: Sequence[Call], title: str = "", columns: int = WIDE_COLUMNS) -> str:
    """Return one line per call: self and total time in microseconds, layer, indented name, file.

    To fit `columns`, deep chains are indented less, and then files are left out.
    """
    layer = max((len(c.layer) for c in calls), default=0)
    best: list[str] = []
    room = columns - 17 - layer
    for indent, files in ((2, True), (1, True), (2, False), (1, False)):
        # Indentation stops where names would no longer fit.
        names = [" " * min(indent * c.depth, room - len(c.name)) + c.name for c in calls]
        width = max(map(len, names), default=0)
        best = [
            f"{c.self_ns / 1000:7.2f} {c.ns / 1000:7.2f} {c.layer:<{layer}} "
            + (f"{name:<{width}}  {c.file}" if files else name)
            for c, name in zip(calls, names, strict=True)
        ]
        if max(map(len, best), default=0) <= columns:
            break
    head = f"self us   total {'layer':<{layer}} call"
    return "\n".join([*([title] if title else []), head, *best])


def render_json(calls: Sequence[Call], title: str = "") -> str:
    """Return a JSON list of ``{name, depth, file, layer, ns, self_ns}`` in call order."""
    return json.dumps([c.as_dict() for c in calls], indent=1)


def _edges(calls: Sequence[Call]) -> list[tuple[int, int]]:
    """Return (parent, child) index pairs."""
    stack: list[int] = []
    edges = []
    for index, call in enumerate(calls):
        del stack[call.depth :]
        if stack:
            edges.append((stack[-1], index))
        stack.append(index)
    return edges


def render_mermaid(calls: Sequence[Call], title: str = "") -> str:
    """Return a Mermaid flow chart with one subgraph per layer and the calls as numbered edges."""
    lines = ["---", f"title: {title}", "---", "flowchart TD"] if title else ["flowchart TD"]
    layers: dict[str, list[int]] = {}
    for index, call in enumerate(calls):
        layers.setdefault(call.layer, []).append(index)
    for layer, members in layers.items():
        lines.append(f"  subgraph {layer}")
        lines += [f'    n{i}["{calls[i].name}"]' for i in members]
        lines.append("  end")
    lines += [f"  n{a} -->|{number}| n{b}" for number, (a, b) in enumerate(_edges(calls), 1)]
    return "\n".join(lines)


PALETTE = (
    "#7ba3d0", "#f28e2b", "#59a14f", "#e57373", "#76b7b2",
    "#edc948", "#c39bb9", "#b08968", "#ff9da7", "#8cd17d",
    "#a0cbe8", "#ffbe7d", "#bab0ac", "#d4a6c8", "#b6992d",
    "#86bcb6", "#d7b5a6", "#f1ce63", "#9d9da1", "#fabfd2",
)  # fmt: skip


def colours(layers: Sequence[str]) -> dict[str, str]:
    """Return a colour of the palette for each layer."""
    return {layer: PALETTE[i % len(PALETTE)] for i, layer in enumerate(layers)}


def render_svg(calls: Sequence[Call], title: str = "", *, times: bool = True) -> str:
    """Return a self-contained SVG: the chain from top to bottom, indented by depth, one colour per
    layer.

    Without `times` the same chain always gives the same picture.
    """
    row, indent, box = 26, 22, 250
    depth = max((c.depth for c in calls), default=0)
    width = max(640, depth * indent + box + 330)
    height = row * len(calls) + 56
    layers = list(dict.fromkeys(c.layer for c in calls))
    colour = colours(layers)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="monospace" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="22" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    position = {}
    for i, call in enumerate(calls):
        x, y = 12 + call.depth * indent, 38 + i * row
        position[i] = (x, y)
        spent = f"{call.self_ns / 1000:.2f} of {call.ns / 1000:.2f} us · " if times else ""
        out.append(
            f'<rect x="{x}" y="{y}" width="{box}" height="{row - 6}" rx="4" '
            f'fill="{colour[call.layer]}"/>'
            f'<text x="{x + 8}" y="{y + 14}" fill="#111111">{escape(call.name)}</text>'
            f'<text x="{x + box + 8}" y="{y + 14}" fill="#444444">'
            f"{call.layer} · {spent}{escape(call.file)}</text>"
        )
    for a, b in _edges(calls):
        (xa, ya), (xb, yb) = position[a], position[b]
        out.append(
            f'<path d="M{xa + 6} {ya + row - 6} V{yb + 10} H{xb}" fill="none" stroke="#999999"/>'
        )
    out.append("</svg>")
    return "\n".join(out)


def render_perfetto(calls: Sequence[Call], title: str = "") -> str:
    """Return Chrome trace-event JSON that ui.perfetto.dev opens: one track per layer plus the
    whole chain."""
    base = calls[0].start_ns if calls else 0
    tracks = {"call chain": 1}
    for call in calls:
        tracks.setdefault(call.layer, len(tracks) + 1)
    events: list[dict[str, object]] = [
        {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": title or "e1000emu"}}
    ]
    events += [
        {"ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": {"name": name}}
        for name, tid in tracks.items()
    ]
    for call in calls:
        for tid in (1, tracks[call.layer]):
            events.append(
                {
                    "ph": "X",
                    "pid": 1,
                    "tid": tid,
                    "name": call.name,
                    "cat": call.layer,
                    "ts": (call.start_ns - base) / 1000,
                    "dur": call.ns / 1000,
                    "args": {"file": call.file, "self_ns": call.self_ns},
                }
            )
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ns"})


FORMATS = {
    "text": render_text,
    "json": render_json,
    "mermaid": render_mermaid,
    "svg": render_svg,
    "perfetto": render_perfetto,
}


def render(calls: Sequence[Call], form: str, title: str = "") -> str:
    """Render `calls` as one of `FORMATS`."""
    return FORMATS[form](calls, title)
