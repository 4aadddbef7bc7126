"""`e1000emu replay`: the same device between the same events, and where it first differs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click
import msgspec

from e1000emu.cli.common import emit_json, report_options
from e1000emu.record.recording import INPUTS, Reader, describe


def show(path: Path, *, partial: bool, as_json: bool) -> None:
    """Print the events of a recording, one a line."""
    with Reader(path, partial=partial) as reader:
        depth = now = 0
        rows = []
        for event in reader:
            if event.kind in INPUTS:
                now = event.args[0]
            words = describe(event.kind, event.args)
            if as_json:
                row = {"event": event.number, "offset": event.offset, "time_ns": now}
                rows.append(row | {"kind": event.kind.name, "text": words})
            else:
                depth -= event.kind.closes
                indent = "  " * depth
                click.echo(f"{event.number:>8} {now / 1e9:15.9f} {indent}{words}")
                depth += event.kind.opens
        if as_json:
            emit_json({"header": msgspec.to_builtins(reader.header), "events": rows})


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--partial", is_flag=True, help="Take a file that was cut off, as far as it goes.")
@click.option("--list", "listed", is_flag=True, help="Show the events; replay nothing.")
@report_options
def command(file: Path, partial: bool, listed: bool, as_json: bool) -> None:
    """Replay the recording FILE; all that the device does must match the recording.

    Values read, memory written, frames, interrupt edges, timers: each is compared, to the byte and
    in order, so the first event that differs is where the device's behaviour does. It is shown with
    number, time, what was expected and what came.
    """
    if listed:
        show(file, partial=partial, as_json=as_json)
        return
    from e1000emu.record.replay import replay

    done = replay(file, partial=partial)
    if as_json:
        emit_json(
            {
                "events": done.events,
                "time_ns": done.time_ns,
                "complete": done.complete,
                "ends": done.why,
                "header": msgspec.to_builtins(done.header),
                "divergence": None if done.divergence is None else asdict(done.divergence),
            }
        )
    elif done.divergence is not None:
        click.echo(f"{file}: the first {done.events:,} events are the same, then:")
        click.echo(str(done.divergence))
    else:
        seconds = done.time_ns / 1e9
        click.echo(
            f"{file}: {done.header.model}, {done.events:,} events up to {seconds:.6f} s, all the "
            f"same; the recording ends: {done.why}"
        )
    if done.divergence is not None:
        sys.exit(1)
