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
    """Return what the kernel says: {"kernel": its release, "sysctl": …, "rows": {table: …}}."""
    command = [sys.executable, "-m", "tests.linux.calls.kernel", *tables]
    done = subprocess.run(command, capture_output=True, check=False, env=plain_environment())
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    result: dict[str, Any] = pickle.loads(done.stdout)
    return result


def ours(table: str, sysctl: dict[str, Any]) -> dict[str, Any]:
    """Return what our host says."""
    calls = Ours(sysctl)
    try:
        world = World(calls)
        with world.case(table):
            TABLES[table](world)
        return world.rows
    finally:
        calls.end()


def differing(theirs: dict[str, Any], mine: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the rows that are not the same: {name: (Linux, ours)}."""
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
