"""docs/packets.md: a packet's way through the stack, for every chain that can be traced.

Tracing needs the uncompiled stack. So the page runs this module as a program, in a process of its
own, which prints the chains as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from e1000emu.cli.trace import KINDS, STAGED, measure
from stack import COMPILED
from stack.tools.trace import Call

GROUPS: dict[str, tuple[str, ...]] = {
    "UDP": ("udp-connect", "udp-send", "udp-recv", "udp6-send", "udp6-recv"),
    "TCP": (
        "tcp-server",
        "tcp-connect",
        "tcp-send",
        "tcp-recv",
        "message",
        "backlog",
        "tcp-error",
        "tcp-close",
        "tcp6-server",
        "tcp6-connect",
        "tcp6-send",
        "tcp6-recv",
        "tcp6-error",
    ),
    "ICMP and ping sockets": ("icmp", "ping-recv", "icmp-error", "icmp6", "ping6-recv",
                              "icmp6-error"),
    "Raw sockets": ("raw-send", "raw6-send", "raw"),
    "Neighbours": ("arp", "nd"),
    "Routers": ("forward", "forward6", "igmp"),
    "Bridges, VLANs, veth": (
        "bridge",
        "bridge-send",
        "bridge-recv",
        "vlan-send",
        "vlan-recv",
        "veth",
    ),
    "Packet sockets": ("packet-send", "packet-recv"),
    "Within one host": ("loopback", "loopback6", "unix-send", "unix-recv", "unix-dgram"),
    "XTP": ("xtp",),
    "Sockets, queues, descriptors": ("socket", "socket6", "calls", "calls6", "blocked-qdisc",
                                     "completion"),
}  # fmt: skip
"""Kinds of `e1000emu trace`, by subject."""

INTRO = """# A packet's way

Written by `docs/generate.py` from traces of the running stack, one for each kind of
`e1000emu trace`. That command also shows times. Each function is indented below its caller, under
its name in Linux. Functions without a counterpart in Linux are helpers of this stack. Compiled
functions (`fastpath`) and the timer heap are not shown.

Before you start: `make build`, then `. .venv/bin/activate` ([Install](index.md#install)).

```console
$ e1000emu trace udp-recv
```

If a function makes the same calls as in an earlier chain, and these are six lines or more, they are
replaced by `... as in udp-send`. That chain shows them below the first line with the function's
name, and is linked below. The command shows every line.

"""

FOLDED = 6
"""Calls with at least so many lines are shown once only."""


def chains() -> dict[str, list[Call]]:
    """The calls of each kind."""
    if not COMPILED:
        return {kind: measure(kind).calls for kind in KINDS}
    environment = os.environ | {"E1000EMU_UNCOMPILED": "1"}
    said = subprocess.run(
        [sys.executable, __file__], env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return {kind: [Call.of(row) for row in rows] for kind, rows in json.loads(said).items()}


class Chains:
    """Chains as text, in the page's order. A call whose subtree an earlier chain shows is replaced
    by one line with that chain's name, if it is the first call of that function there."""

    def __init__(self) -> None:
        self.whole: dict[tuple[tuple[int, str, str], ...], str] = {}

    def markdown(self, kind: str, calls: list[Call]) -> str:
        """The indented calls, with the file where it changes, and links to the calls left out."""
        lines, file, names, links, shown = [], "", set[str](), dict[str, None](), {}
        at = 0
        while at < len(calls):
            call = calls[at]
            line = " " * call.depth + call.name
            if call.file != file:
                line += f"  ({call.file})"
            file = call.file
            end = at + 1
            while end < len(calls) and calls[end].depth > call.depth:
                end += 1
            below = tuple((c.depth - call.depth, c.name, c.file) for c in calls[at:end])
            if len(below) >= FOLDED and (earlier := self.whole.get(below)):
                line += f"  ... as in {earlier}"
                links[f"[{earlier}](#{earlier})"] = None
                at = end
            else:
                if call.name not in names:
                    shown[below] = kind
                at += 1
            names.add(call.name)
            lines.append(line)
        self.whole = shown | self.whole
        text = "\n".join(["```text", *lines, "```"])
        return f"{text}\n\nShown in full in {', '.join(links)}." if links else text


def words(kind: str) -> str:
    """The text above a chain: first, how it was staged, and the command for the ordinary case."""
    said = f"{KINDS[kind][0]}."
    if kind in STAGED:
        offer = f"the ordinary case is `e1000emu trace {kind} --ordinary`."
        said = f"Staged: {STAGED[kind]}; {offer}\n\n{said}"
    return said


def markdown() -> str:
    """The page."""
    grouped = [kind for kinds in GROUPS.values() for kind in kinds]
    if sorted(grouped) != sorted(KINDS):
        raise ValueError(f"GROUPS is not KINDS: {sorted(set(grouped) ^ set(KINDS))}")
    found = chains()
    parts, text = [INTRO.rstrip()], Chains()
    for title, kinds in GROUPS.items():
        parts.append(f"## {title}")
        for kind in kinds:
            parts.append(f"### {kind}\n\n{words(kind)}\n\n{text.markdown(kind, found[kind])}")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    json.dump({kind: [call.as_dict() for call in calls] for kind, calls in chains().items()},
              sys.stdout)  # fmt: skip
