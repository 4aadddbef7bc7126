"""Show where tables differ: python -m tests.linux.calls.run TABLE ..."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

from tests.linux.calls.ours import Ours
from tests.linux.calls.tables import TABLES
from tests.linux.calls.world import World
from tests.support import plain_environment


def linux(tables: list[str]) -> dict[str, Any]:
    """Return the kernel's results: {"kernel": its release, "sysctl": …, "rows": {table: …}}."""
    result: dict[str, Any] = {"rows": {}}
    # All at once: they wait for the kernel (packet sockets that close, most of all), not compute.
    command = [sys.executable, "-m", "tests.linux.calls.kernel"]
    for table, done in zip(tables, [start([*command, name]) for name in tables], strict=True):
        out, err = done.communicate()
        if done.returncode:
            raise RuntimeError(f"{table}: {err.decode()}")
        said = pickle.loads(out)
        result |= {"kernel": said["kernel"], "sysctl": said["sysctl"]}
        result["rows"] |= said["rows"]
    return result


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """Start a program whose output is wanted."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, env=plain_environment())


def ours(table: str, sysctl: dict[str, Any]) -> dict[str, Any]:
    """Return our host's results."""
    calls = Ours(sysctl)
    try:
        world = World(calls)
        with world.case(table):
            TABLES[table](world)
        return world.rows
    finally:
        calls.end()


def differing(theirs: dict[str, Any], mine: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the rows that differ: {name: (Linux, ours)}."""
    missing = "(not called)"
    names = dict.fromkeys([*theirs, *mine])
    found = {name: (theirs.get(name, missing), mine.get(name, missing)) for name in names}
    return {name: (a, b) for name, (a, b) in found.items() if a != b}


def main() -> None:
    """Show the differences of some tables."""
    tables = sys.argv[1:] or list(TABLES)
    kernel = linux(tables)
    print(kernel["kernel"], kernel["sysctl"])
    for table in tables:
        mine = ours(table, kernel["sysctl"])
        found = differing(kernel["rows"][table], mine)
        for name, (a, b) in found.items():
            print(f"{name}\t{a!r:.100}\t{b!r:.100}")
        print(f"# {table}: {len(mine)} calls, {len(found)} differ")


if __name__ == "__main__":
    main()
