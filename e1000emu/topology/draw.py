"""A topology as a picture: in Graphviz's DOT, or drawn by networkx and matplotlib.

Nodes of a group with equal links to the same nodes share one box, so that a thousand clients
fit on a page.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import msgspec

from e1000emu.errors import E1000Error
from e1000emu.quantities import show_duration, show_rate
from e1000emu.topology.flat import Flat, FlatLink, FlatNode

SHAPES = {"host": "box", "router": "diamond", "switch": "ellipse"}
COLOURS = {"host": "#dbe9f6", "router": "#fde2c5", "switch": "#e3e3e3"}


class Picture(msgspec.Struct, frozen=True):
    """Boxes and lines, each with its text."""

    name: str
    boxes: dict[str, tuple[str, str]]
    """First node of a box -> kind and text."""
    lines: dict[tuple[str, str], str]
    """Two boxes -> text."""


def quality(link: FlatLink) -> str:
    """Return a link's properties as text: `2ms 1 Gbit/s loss 0.1%`."""
    words = [show_duration(link.delay_ns)] if link.delay_ns else []
    if link.jitter_ns:
        words.append(f"±{show_duration(link.jitter_ns)}")
    if link.rate_bps is not None:
        words.append(show_rate(link.rate_bps))
    for key in ("loss", "reorder", "duplicate", "corrupt"):
        if part := getattr(link, key):
            words.append(f"{key} {100 * part:g}%")
    return " ".join(words)


def picture(flat: Flat) -> Picture:
    """Return the boxes and lines of a topology."""
    alike: dict[tuple[str, frozenset[tuple[str, str]]], list[FlatNode]] = defaultdict(list)
    for node in flat.nodes.values():
        far = []
        for interface, number in node.interfaces.items():
            link = flat.links[number]
            other = link.ends[0] if link.ends[1] == (node.name, interface) else link.ends[1]
            far.append((other[0], quality(link)))
        single = len(far) == 1 and not node.is_switch
        alike[node.group if single else node.name, frozenset(far)].append(node)
    boxes: dict[str, tuple[str, str]] = {}
    box_of: dict[str, str] = {}
    for nodes in alike.values():
        first, last = nodes[0], nodes[-1]
        text = first.name
        if len(nodes) > 1:
            text = f"{first.name} … {last.name}\n{len(nodes):,} of {first.group}"
        elif networks := [a for given in first.addresses.values() for a in given[:1]]:
            text += "\n" + "\n".join(networks[:4]) + ("\n…" if len(networks) > 4 else "")
        boxes[first.name] = (first.kind, text)
        box_of |= {node.name: first.name for node in nodes}
    lines: dict[tuple[str, str], str] = {}
    for link in flat.links:
        a, b = (box_of[name] for name, _ in link.ends)
        lines.setdefault((a, b), quality(link))
    return Picture(flat.name, boxes, lines)


def dot(flat: Flat) -> str:
    """Return a graph in Graphviz's DOT language."""

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'

    drawn = picture(flat)
    rows = [
        f"  {quoted(name)} [label={quoted(text)}, shape={SHAPES[kind]}, "
        f"fillcolor={quoted(COLOURS[kind])}];"
        for name, (kind, text) in drawn.boxes.items()
    ]
    rows += [
        f"  {quoted(a)} -- {quoted(b)}" + (f" [label={quoted(text)}];" if text else ";")
        for (a, b), text in drawn.lines.items()
    ]
    head = [f"graph {quoted(drawn.name)} {{", "  node [style=filled];", "  rankdir=LR;"]
    return "\n".join([*head, *rows, "}"]) + "\n"


def draw(flat: Flat, path: str | Path) -> None:
    """Write a picture: `.dot` text, else what matplotlib writes (`.svg`, `.png`, `.pdf`).

    Raises:
        E1000Error: networkx or matplotlib is missing, or the suffix is unknown.
    """
    path = Path(path)
    if path.suffix in (".dot", ".gv"):
        path.write_text(dot(flat), encoding="utf-8")
        return
    from e1000emu.lab.figures import new_figure, save

    try:
        import networkx
    except ImportError as error:
        raise E1000Error(
            "drawings need networkx, which is not installed; run: pip install 'e1000emu[plot]', "
            "or name a .dot file"
        ) from error
    drawn = picture(flat)
    graph = networkx.Graph()
    graph.add_nodes_from(drawn.boxes)
    graph.add_edges_from(drawn.lines)
    at: dict[str, tuple[float, float]] = {}
    tallest, right = 1, 0.0
    for part in networkx.connected_components(graph):  # side by side
        middle = min(networkx.center(graph.subgraph(part)))
        layers = list(networkx.bfs_layers(graph, [middle]))
        for x, layer in enumerate(layers):
            tallest = max(tallest, len(layer))
            for row, name in enumerate(layer):
                at[name] = (right + x, (len(layer) - 1) / 2 - row)
        right += len(layers) + 0.5
    figure, (axes,) = new_figure(1, height=max(3.0, 0.7 * tallest))
    axes.set_axis_off()
    axes.margins(0.15)
    networkx.draw_networkx_edges(graph, at, ax=axes, edge_color="#888888")
    networkx.draw_networkx_edge_labels(
        graph, at, {pair: text for pair, text in drawn.lines.items() if text}, ax=axes, font_size=7
    )
    for name, (kind, text) in drawn.boxes.items():
        axes.text(
            *at[name],
            text,
            ha="center",
            va="center",
            fontsize=8,
            bbox={"boxstyle": "round", "facecolor": COLOURS[kind], "edgecolor": "#666666"},
        )
    axes.set_title(drawn.name)
    save(figure, str(path))
