"""Hosts on one switch: time and memory to build each, ours beside Linux's network namespaces.

    python benchmarks/lab_hosts.py 200          # as root for the namespaces

A namespace has a veth into a bridge and an address, as Mininet's hosts have; `ip -batch` makes all
in one process. Each kind is measured in a process of its own. Time is the processor's, user and
system, of the process and its children, without what the kernel does later. Memory is what the
resident set grows by, and for namespaces the kernel's own memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from e1000emu.topology import Link, Node, Topology, build

MIB = 1 << 20
BRIDGE = "e1k-lab"


@contextmanager
def ours(count: int, nic: str) -> Iterator[None]:
    """`count` hosts of ours with such a NIC on one switch."""
    topology = Topology(
        nodes={
            "h": Node(count=count, nic=nic, addresses={"eth0": "10.0.0.1/16"}),
            "s": Node(kind="switch"),
        },
        links=[Link(endpoints=["h*", "s"])],
    )
    with build(topology.flat()):
        yield


@contextmanager
def namespaces(count: int) -> Iterator[None]:
    """`count` network namespaces with a veth each into one bridge."""

    def ip(lines: list[str], *options: str) -> None:
        text = "\n".join(lines) + "\n"
        subprocess.run(["ip", *options, "-batch", "-"], input=text, text=True, check=True)

    names = [f"{BRIDGE}-{i}" for i in range(1, count + 1)]
    try:
        ip([f"link add {BRIDGE} type bridge", f"link set {BRIDGE} up"])
        lines = []
        for i, name in enumerate(names, 1):
            lines += [
                f"netns add {name}",
                f"link add e1kv{i} type veth peer name eth0 netns {name}",
                f"link set e1kv{i} master {BRIDGE} up",
            ]
        ip(lines)
        for i, name in enumerate(names, 1):
            addr = f"10.0.{i >> 8}.{i & 255}/16"
            ip([f"addr add {addr} dev eth0", "link set lo up", "link set eth0 up"], "-n", name)
        yield
    finally:
        ip([f"netns del {name}" for name in names] + [f"link del {BRIDGE}"], "-force")


def processor_seconds() -> float:
    """Return the time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def resident_bytes() -> int:
    """Return the memory of this process that is in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def kernel_bytes() -> int:
    """Return the memory that the kernel uses itself."""
    kinds = ("Slab:", "KernelStack:", "Percpu:", "VmallocUsed:")
    lines = Path("/proc/meminfo").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(kinds))


KINDS: dict[str, Callable[[int], object]] = {
    "82540EM": lambda count: ours(count, "82540EM"),
    "light (TAP)": lambda count: ours(count, "none"),
    "Linux namespaces": namespaces,
}


def measure(kind: str, count: int) -> dict[str, float]:
    """Build `count` hosts of a kind; return milliseconds and MiB for each."""
    with ours(1, "82540EM"):  # what is loaded once
        pass
    in_use = kernel_bytes if KINDS[kind] is namespaces else resident_bytes
    memory, began = in_use(), processor_seconds()
    with KINDS[kind](count):  # type: ignore[attr-defined]
        seconds = processor_seconds() - began
        used = in_use() - memory
    return {"ms_a_host": 1000 * seconds / count, "mib_a_host": used / MIB / count}


def main() -> None:
    """Measure each kind in a process of its own, and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, help="hosts")
    parser.add_argument("--kind", choices=KINDS, help="only this one, as JSON")
    given = parser.parse_args()
    if not 1 <= given.count <= 1000:
        parser.error(f"count {given.count}: give 1 to 1000, as many ports as a bridge has")
    if given.kind:
        print(json.dumps(measure(given.kind, given.count)))
        return
    for kind in KINDS:
        if KINDS[kind] is namespaces and os.geteuid():
            print(f"{kind:18} not measured: only root makes them")
            continue
        command = [sys.executable, __file__, str(given.count), "--kind", kind]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        print(f"{kind:18} {found['ms_a_host']:6.2f} ms {found['mib_a_host']:6.2f} MiB a host")


if __name__ == "__main__":
    main()
