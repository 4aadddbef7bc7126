"""A server and two clients at a switch, and what came of the programs that they run."""

from __future__ import annotations

from collections.abc import Iterable

from e1000emu.topology import Flat, Running, RunResult, Topology, build

LAB = """
[nodes.server]
addresses = {eth0 = ["10.0.0.1/24", "2001:db8::1/64"]}
run = [%s]
[nodes.client]
count = 2
addresses = {eth0 = ["10.0.0.2/24", "2001:db8::2/64"]}
run = [%s]
[nodes.s]
kind = "switch"
[[links]]
endpoints = ["client*", "s"]
delay = "%s"
[[links]]
endpoints = ["s", "server"]
delay = "1ms"
"""


def lab_text(server: Iterable[str], client: Iterable[str], delay: str = "1ms") -> str:
    """The file, with the programs of the server and of each client."""
    lines = (", ".join(f"'''{line}'''" for line in lines) for lines in (server, client))
    return LAB % (*lines, delay)


def flat(server: Iterable[str], client: Iterable[str], delay: str = "1ms") -> Flat:
    return Topology.from_text(lab_text(server, client, delay), file="f").flat()


def results(
    *client: str, server: tuple[str, ...] = (), for_ns: int | None = None, delay: str = "1ms"
) -> list[RunResult]:
    """Run and return what came of the server's programs and of the clients'."""
    with build(flat(server, client, delay)) as lab, Running(lab) as running:
        running.run(for_ns)
        running.close()
        return running.results
