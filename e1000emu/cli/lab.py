"""`e1000emu lab`: runs the network that a topology file describes."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import msgspec

from e1000emu.cli.common import emit_json, report_options
from e1000emu.cli.errors import ArgumentError, CommandError, did_you_mean
from e1000emu.cli.output import console, plain_table
from e1000emu.cli.params import OUT_FILE, Duration, OutFile
from e1000emu.parallel import Simulation, partition, simulate
from e1000emu.topology import Flat, Running, RunResult, Topology, build
from e1000emu.topology.draw import draw
from e1000emu.topology.programs import parse

LISTED = 20
CHECK_NS = 100_000_000
"""With --processes the run ends at a multiple of this virtual time."""
LONGEST_NS = 3600 * 10**9
"""With --processes a program that does not end is stopped after so much virtual time."""
MIB = 1 << 20


class Capture(OutFile):
    """A link and the file of its frames."""

    name = "LINK=FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return both."""
        link, equals, file = str(value).partition("=")
        if not equals or not link:
            self.fail(f"{value!r} names no link; write client1:eth0={value}", param, ctx)
        return link, super().convert(file, param, ctx)


def find_link(flat: Flat, text: str) -> int:
    """Return the number of the link called `7`, `client1`, `client1:eth0` or `client1-s1`.

    Raises: ArgumentError.
    """
    if text.isdecimal() and text.isascii():
        if int(text) < len(flat.links):
            return int(text)
        raise ArgumentError(f"--capture {text}: links are 0 to {len(flat.links) - 1}")
    name, colon, interface = text.partition(":")
    if name in flat.nodes:
        found = flat.nodes[name].interfaces
        if colon and interface in found:
            return found[interface]
        if not colon and len(found) == 1:
            return next(iter(found.values()))
        known = ", ".join(f"{name}:{i}" for i in found) or "none"
        raise ArgumentError(f"--capture {text}: which link of {name}? there are: {known}")
    for link in flat.links:
        (a, _), (b, _) = link.ends
        if text in (f"{a}-{b}", f"{b}-{a}"):
            return link.number
    raise ArgumentError(
        f"--capture {text}: no such link{did_you_mean(text, flat.nodes)}; "
        "give NODE:INTERFACE, NODE-NODE or a number"
    )


def memory_bytes() -> int:
    """Return the memory of this process that is in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _nodes(flat: Flat) -> str:
    kinds = Counter(node.kind for node in flat.nodes.values())
    plural = {"host": "hosts", "router": "routers", "switch": "switches"}
    words = [f"{n:,} {kind if n == 1 else plural[kind]}" for kind, n in kinds.items()]
    return f"{', '.join(words) or 'no nodes'}, {len(flat.links):,} links"


def _figures(figures: dict[str, Any]) -> str:
    """Return figures in one line."""
    words = []
    for key, value in figures.items():
        if isinstance(value, dict):
            value = ", ".join(f"{number:,} {word}" for word, number in value.items() if number)
            words.append(f"{key} {value or 'nobody came'}")
        elif isinstance(value, str):
            words += [value] if value else []
        elif value is not None:
            words.append(f"{key} {value:,.6g}" if isinstance(value, float) else f"{key} {value:,}")
    return "; ".join(words)


def _programs(results: list[RunResult]) -> Any:
    """Return a table of what failed first, and of the others as far as they fit."""
    table = plain_table("node", "program", "state", "result", folded="result")
    ordered = sorted(results, key=lambda result: result.state != "failed")
    for result in ordered[:LISTED]:
        told = result.error or _figures(result.figures)
        table.add_row(result.node, result.program, result.state, told)
    return table


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--for",
    "for_ns",
    type=Duration(above=True),
    help="Virtual time from the start to the end. [default: until the programs of run end]",
)
@click.option("--check", is_flag=True, help="Only check the file.")
@click.option(
    "--capture",
    "captures",
    type=Capture(),
    multiple=True,
    help="Write the frames on a link (NODE, NODE:INTERFACE, NODE-NODE or its number) to a pcapng "
    "file; may be repeated.",
)
@click.option(
    "--draw", "drawing", type=OUT_FILE, help="Draw the network: FILE.dot, .svg, .png or .pdf."
)
@click.option("--seed", help="Seed to use instead of the file's.")
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    help="Divide the network at links with delay among this many processes; the digest is the "
    "same for any number. [default: undivided, with one clock]",
)
@report_options
def command(
    file: Path,
    for_ns: int | None,
    check: bool,
    captures: tuple[tuple[str, Path], ...],
    drawing: Path | None,
    seed: str | None,
    processes: int | None,
    as_json: bool,
) -> None:
    """Run the network of hosts, routers, switches and links that FILE (TOML) describes.

    docs/large-labs.md says how it is written. Time is virtual: the same file gives the same run.
    """
    topology = Topology.read(file)
    if seed is not None:
        topology.seed = int(seed) if seed.isdecimal() and seed.isascii() else seed
    flat = topology.flat()
    wanted = {find_link(flat, link): str(path) for link, path in captures}
    if drawing is not None:
        draw(flat, drawing)
    name = flat.name or file.stem
    report: dict[str, Any] = {"name": name, "nodes": len(flat.nodes), "links": len(flat.links)}
    if check:
        emit_json(report) if as_json else click.echo(f"{name}: {_nodes(flat)}; the file is right")
        return
    if processes is not None:
        results = _divided(topology, processes, for_ns, wanted, report)
    else:
        results = _undivided(flat, for_ns, wanted, report)
    if as_json:
        emit_json(report)
    else:
        _show(name, flat, report, results)
    failures = [result for result in results if result.state == "failed"]
    if failures:
        first = failures[0]
        raise CommandError(
            f"{len(failures):,} of {len(results):,} programs failed; "
            f"{first.node}: {first.program}: {first.error}",
            1,
        )


def divided(topology: Topology) -> Simulation:
    """Return what each process of `--processes` runs."""
    return Simulation(topology.flat())


def _divided(
    topology: Topology,
    processes: int,
    for_ns: int | None,
    captures: dict[int, str],
    report: dict[str, Any],
) -> list[RunResult]:
    """Run it in processes, put the results into `report`."""
    began = time.perf_counter()
    flat = topology.flat()
    if for_ns is None and not any(
        not parse(line).lasting for node in flat.nodes.values() for line in node.run
    ):
        raise ArgumentError("lab: no program ends by itself; give --for")
    if advice := partition(flat, processes).advice():
        click.echo(f"lab: {advice}", err=True)
    outcome = simulate(
        divided,
        topology,
        processes=processes,
        until_ns=flat.start_ns + (LONGEST_NS if for_ns is None else for_ns),
        check_ns=CHECK_NS,
        capture=captures or None,
    )
    wall = time.perf_counter() - began
    report |= {
        "windows": outcome.windows,
        "processes": [
            {"cpu_seconds": one.cpu_s, "waited_seconds": one.waited_s, "events": one.events}
            for one in outcome.done
        ],
        "cpu_seconds": sum(one.cpu_s for one in outcome.done),
        "virtual_seconds": outcome.end_ns / 1e9,
        "wall_seconds": wall,
        "events": outcome.events,
        "events_per_second": outcome.events / wall,
        "digest": outcome.fingerprint,
        "drops": outcome.drops,
        "run": [msgspec.to_builtins(result) for result in outcome.programs],
    }
    return outcome.programs


def _undivided(
    flat: Flat, for_ns: int | None, captures: dict[int, str], report: dict[str, Any]
) -> list[RunResult]:
    """Run it on one clock, put the results into `report`."""
    memory, began = memory_bytes(), time.perf_counter()
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(build(flat, captures=captures, wait=False))
        report["build_seconds"] = time.perf_counter() - began
        running = stack.enter_context(Running(lab))
        began, cpu = time.perf_counter(), time.process_time()
        running.run(for_ns)
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        running.close()  # services report their counters
        clock = running.clock
        report |= {
            "virtual_seconds": clock.now_ns() / 1e9,
            "wall_seconds": wall,
            "cpu_seconds": cpu,
            "events": clock.events,
            "events_per_second": clock.events / wall,
            "memory_bytes": memory_bytes() - memory,
            "digest": lab.fingerprint(),
            "drops": lab.drops(),
            "run": [msgspec.to_builtins(result) for result in running.results],
        }
    return running.results


def _show(name: str, flat: Flat, report: dict[str, Any], results: list[RunResult]) -> None:
    out = console()
    if "build_seconds" in report:
        click.echo(f"{name}: {_nodes(flat)}; built in {report['build_seconds']:.2f} s")
    else:
        ranks = report["processes"]
        click.echo(
            f"{name}: {_nodes(flat)}; {len(ranks)} processes, {report['windows']:,} windows; "
            f"the busiest took {max(one['cpu_seconds'] for one in ranks):.2f} s of processor time"
        )
    if results:
        out.print(_programs(results))
        if len(results) > LISTED:
            states = Counter(result.state for result in results)
            told = ", ".join(f"{n:,} {state}" for state, n in states.items())
            click.echo(f"of {len(results):,} programs: {told}; --json has them all")
    if drops := report["drops"]:
        table = plain_table("not delivered", "count", right=("count",))
        for where, count in drops.items():
            table.add_row(where, f"{count:,}")
        out.print(table)
    memory = ""
    if "memory_bytes" in report:
        hosts = sum(not node.is_switch for node in flat.nodes.values())
        used = report["memory_bytes"] / MIB
        memory = f"; {used:,.0f} MiB" + (f", {used / hosts:.2f} a host" if hosts else "")
    click.echo(
        f"{report['virtual_seconds']:.6g} s of virtual time in {report['wall_seconds']:.2f} s "
        f"({report['cpu_seconds']:.2f} s of processor time); "
        f"{report['events']:,} events, "
        f"{report['events_per_second']:,.0f} a second{memory}"
    )
    click.echo(f"digest {report['digest']}")
