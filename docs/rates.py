"""The figures in README.md and rates.md, made of benchmarks/recorded.json.

`make bench-record` measures and writes that file, with the machine and the commit;
`docs/generate.py` fills the blocks between `<!-- begin NAME -->` and `<!-- end NAME -->` from it,
so no figure is copied by hand.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import blocks
from blocks import grid

from e1000emu.cli.bench import benchmarks

__all__ = ["filled"]

ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT / "benchmarks" / "recorded.json"

WHAT = {
    "two_nics": "frames of two NICs, ring to ring: fetch, checksums, filters, write-back",
    "csum": "Internet checksum, each vector level and with a copy",
    "udp": "one `sendto` and one `recvfrom` for each datagram, by size; also with filter rules "
    "that match nothing, and with connection tracking",
    "udp_mmsg": "64 datagrams for each `sendmmsg` and `recvmmsg`, by size",
    "udp_batch": "64-byte datagrams, by the messages of a call",
    "udp_gso": "`UDP_SEGMENT` and `UDP_GRO`, 64 datagrams a send (or what fits), by size",
    "udp_trip": "request and answer, each timed",
    "tcp": "one stream, MSS 1460, by the size of a write",
    "tcp_trip": "request and answer over one connection, each timed, by size",
    "tcp_connect": "`connect`, `accept` and both `close`s",
    "unix_stream": "AF_UNIX within one host: a `socketpair`, by the size of a write",
    "unix_stream_trip": "the same: request and answer",
    "unix_dgram": "the same with datagrams: request and answer, by size",
    "unix_dgram_bulk": "the same with datagrams one way, two at a time, by size",
    "packet": "whole frames through packet sockets (`SOCK_RAW`), one by one, by size",
    "udp_flows": "64 bytes of each flow in turn",
    "udp_fan": "64 bytes to each of 64 flows in one `sendmmsg`, each received by its own socket",
    "tcp_flows": "a round trip of 64 bytes over each connection in turn; memory of an end",
    "tcp_idle": "round trips over one connection beside open ones; memory of an end",
    "hosts_build": "a host of a lan, until its link is up; memory of one, time to close one",
    "hosts_idle": "request and answer between two hosts beside idle ones",
    "udp_routes": "64 bytes to each of 10,000 destinations in turn, over so many routes",
    "udp_neighs": "the same over so many neighbours",
    "dump_routes": "routes of a netlink dump of so many, as for `ip route`",
    "dump_neighs": "the same of neighbours",
    "dump_socks": "the same of UDP sockets, as for `ss -u`",
    "tcp_loss": "a stream over 1 Gbit/s and 10 ms that loses frames, in virtual time; goodput",
    "tcp_rtt": "a stream over 1 Gbit/s by round-trip time, in virtual time; goodput",
    "skb_alloc": "`alloc_skb` and `kfree_skb`",
    "skb_push": "TCP, IP and Ethernet headers in front of a packet",
    "skb_copy": "a user's bytes into a packet's pages and out",
    "segmentation": "software segmentation of 64 KiB",
    "tx_ring": "a packet mapped to a descriptor and cleaned",
    "gro": "frames off the ring, merged to one packet",
    "rx_refill": "buffers from the pool to descriptors",
    "mmio_read": "register reads of a driver in Python",
    "mmio_write": "register writes",
}
README = {
    "device__pair__offload[60B]": "two NICs, 60-byte frames, rings to rings",
    "device__pair__offload[1514B]": "two NICs, 1514-byte frames",
    "csum__partial__best[1500B]": "Internet checksum of 1500 bytes",
    "stack__udp__single[64B]": "UDP, 64 bytes, one `sendto` and one `recvfrom` each",
    "stack__udp__mmsg[32msgs]": "UDP, 64 bytes, `sendmmsg` and `recvmmsg` of 32",
    "stack__udp__gso[64B]": "UDP, 64 datagrams of 64 bytes a send (`UDP_SEGMENT`, `UDP_GRO`)",
    "stack__tcp__bulk[1MiB]": "TCP, one stream, MSS 1460, real copies and checksums",
    "stack__tcp__trip[64B]": "TCP, round trips of 64 bytes",
    "stack__tcp__connect[1conns]": "TCP, connect, accept and close",
}
RATES = {"Mpps": "M packets", "k/s": "k", "Gbit/s": "Gbit", "GB/s": "GB"}
SIDE = (
    "Linux veth, C",
    "Linux veth without offloads, C",
    "lwIP",
)
"""Peers of `--peers` that have a column."""


def cell(value: float) -> str:
    """Return three significant digits, with separators for thousands."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def of_rounds(row: dict[str, Any], key: str = "rounds") -> str:
    """Return the lowest and the highest round."""
    return f"{cell(min(row[key]))} … {cell(max(row[key]))}"


def measured_on(document: dict[str, Any]) -> str:
    """Return a sentence that says when and where the figures were measured."""
    machine = document["machine"]
    return (
        f"Measured on {machine['when']}, {machine['processor']}, {machine['system']}, "
        f"{machine['python']}, at commit `{document['commit']}`."
    )


def readme(document: dict[str, Any]) -> str:
    """Return the table of the headline."""
    rows = {row["name"]: row for row in document["rows"]}
    lines = []
    for name, text in README.items():
        row = rows.get(name)
        if row is None:
            continue
        beside = ["", "", ""]
        if row["ratio"] is not None:
            beside = [f"{row['ratio']:.2f}", of_rounds(row, "ratio_rounds"), row["peer"]]
        lines.append([text, f"{cell(row['value'])} {RATES[row['unit']]}", *beside])
    table = grid(["", "a CPU second", "ratio", "of rounds", "to"], lines)
    return f"{table}\n\n{measured_on(document)}"


def catalogue(document: dict[str, Any]) -> str:
    """Return the table of what is measured, from the rows themselves."""
    groups: dict[str, list[Any]] = {}
    for row in benchmarks("rows").every_row():
        groups.setdefault(row.group, []).append(row)
    lines = []
    for group, members in groups.items():
        ours = [row for row in members if row.peer is None]
        sizes = list(dict.fromkeys(size for row in ours for size in row.sizes))
        peers = dict.fromkeys(f"{r.peer}{' *' if r.extra else ''}" for r in members if r.peer)
        names = ", ".join(f"`{row.name}`" for row in ours)
        beside = "; ".join(peers) or ours[0].alone
        lines.append([names, WHAT[group], ours[0].unit, ", ".join(sizes), beside])
    return grid(["rows", "what", "unit", "points", "peers (* with `--peers`)"], lines)


def figures(document: dict[str, Any]) -> str:
    """Return median, lowest and highest of every row of the stack, and its ratios."""
    lines = []
    for row in document["rows"]:
        if row["is_peer"] or not row["name"].startswith("stack__"):
            continue
        main = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        side = [f"{row['ratios'][peer]:.2f}" if peer in row["ratios"] else "" for peer in SIDE]
        value = f"{cell(row['value'])} {row['unit']}"
        lines.append([f"`{row['name']}`", value, of_rounds(row), main, row["peer"] or "", *side])
    heads = ["row", "median", "lowest … highest", "ratio", "to"]
    table = grid([*heads, *(f"ratio to {peer}" for peer in SIDE)], lines)
    return f"{measured_on(document)}\n\n{table}"


def growths(document: dict[str, Any]) -> str:
    """Return how costs grow with the number of objects, and the memory of a connection."""
    lines = [
        [
            f"`{found['name']}`",
            found["first"],
            found["last"],
            f"{found['slope']:.2f}",
            "{:.2f} … {:.2f}".format(*found["slope_rounds"]),
            f"{found['peer_slope']:.2f}" if found["peer_slope"] else "",
            "peer" if found["is_peer"] else "**grows**" if found["grows"] else "flat",
        ]
        for found in benchmarks("rows.interleave").growth(document["rows"])
    ]
    table = grid(
        ["row", "from", "to", "cost at the last / first", "of rounds", "peer's", ""], lines
    )
    memory = [
        f"`{row['name']}`: {cell(row['facts']['bytes_an_end'])} bytes for an end of a connection."
        for row in document["rows"]
        if "bytes_an_end" in row["facts"] and row["name"].startswith("stack__tcp__idle")
    ]
    return "\n\n".join([table, *memory[-1:]])


def latencies(document: dict[str, Any]) -> str:
    """Return the percentiles of single round trips."""
    marks = ("p1", "p50", "p90", "p99", "p99_9")
    lines = [
        [f"`{row['name']}`", *(cell(row["latency_ns"][mark]) for mark in marks)]
        for row in document["rows"]
        if row["latency_ns"]
    ]
    return grid(["CPU ns of a round trip", *(m.replace("_", ".") for m in marks)], lines)


def goodputs(document: dict[str, Any]) -> str:
    """Return the goodput over lossy or long links."""
    lines = [
        [
            f"`{row['name']}`",
            f"{cell(row['facts']['goodput_mbit_s'])} Mbit/s",
            f"{cell(row['value'])} {row['unit']}",
        ]
        for row in document["rows"]
        if "goodput_mbit_s" in row["facts"]
    ]
    return grid(["row", "goodput, virtual time", "a CPU second"], lines)


BLOCKS: dict[str, Callable[[dict[str, Any]], str]] = {
    "catalogue": catalogue,
    "figures": figures,
    "goodputs": goodputs,
    "growths": growths,
    "latencies": latencies,
    "readme": readme,
}


def filled(path: Path) -> str:
    """Return the file's text with each block made anew. Raises KeyError for an unknown block."""
    document = json.loads(RECORDED.read_text())
    return blocks.filled(path, {name: partial(make, document) for name, make in BLOCKS.items()})
