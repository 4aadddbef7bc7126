"""`e1000emu profile`: where the CPU time of a script or of a ready-made workload goes."""

from __future__ import annotations

import contextlib
import math
import runpy
import sys
import traceback
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from e1000emu.cli.output import console, plain_table
from e1000emu.cli.params import OUT_FILE, Duration
from e1000emu.cli.workloads import WORKLOADS, run
from e1000emu.errors import E1000Error
from stack.tools.layers import ROOT
from stack.tools.profile import Profile, Share
from stack.tools.profile_format import FORMATS, render

# The format by a file's suffix, for when --format is not given.
ENDINGS = {
    ".speedscope.json": "speedscope",
    ".json": "json",
    ".svg": "svg",
    ".folded": "collapsed",
    ".collapsed": "collapsed",
}

IMPORTING = "<frozen importlib"
"""Functions of Python's import: work of a first run, not of the program."""


def with_margin(value: float, margin: float) -> str:
    """Return `value ±margin` with the digits that the margin leaves: 1234, 87 is `1,230 ±90`."""
    if margin <= 0:
        return f"{value:,.0f}" if value else ""
    place = -math.floor(math.log10(margin))
    digits = max(0, place)
    upper = math.ceil(margin * 10**place) / 10**place
    return f"{round(value, place):,.{digits}f} ±{upper:,.{digits}f}"


def _percent(row: Share) -> tuple[str, str]:
    digits = 0 if row.margin >= 0.01 else 1
    return f"{row.share * 100:.{digits}f} %", f"±{row.margin * 100:.{digits}f}"


def shares_table(profile: Profile, rows: list[Share], heading: str, *, layers: bool) -> Table:
    """Return a table of at most 80 columns: self time, its share and margin, time with callees."""
    figures = ("self ms", "share", "margin", "with callees")
    table = plain_table(*figures, *(() if layers else ("layer",)), right=figures)
    table.add_column(heading, overflow="fold")
    for row in rows:
        share, margin = _percent(row)
        total = row.total_ns / profile.sampled_ns if profile.sampled_ns else 0
        cells = [f"{row.ns / 1e6:,.1f}", share, margin, f"{total:.0%}"]
        table.add_row(*cells, *([] if layers else [row.layer or "caller's"]), row.name)
    return table


def _show(screen: Console, profile: Profile, title: str, top: int, imports_ns: int) -> None:
    """Print what was sampled, then the two tables."""
    cpu = profile.cpu_ns or 1
    screen.print(
        f"[bold]{title}[/]: {profile.cpu_ns / 1e9:.2f} s of CPU time, {profile.samples:,} samples, "
        f"{profile.unattributed_ns / cpu:.1%} unattributed"
    )
    screen.print(
        f"The sampler took {profile.overhead_ns / cpu:.1%} more, left out; its interrupts about "
        f"{profile.interrupts_ns / cpu:.0%}, in all rows."
    )
    if imports_ns:
        screen.print(f"Imports took {imports_ns / 1e9:.2f} s, left out.")
    screen.print()
    screen.print(shares_table(profile, profile.layers(), "layer", layers=True))
    screen.print()
    rows = [row for row in profile.functions() if row.ns][:top]
    screen.print(shares_table(profile, rows, "function", layers=False))


def _run_script(script: Path, arguments: tuple[str, ...], profile: Profile) -> int:
    """Run a script as `python script` would, sampled; return its exit status."""
    before = sys.argv, sys.path[0]
    path = script.resolve()
    sys.argv, sys.path[0] = [str(script), *arguments], str(path.parent)
    status = 0
    try:
        with profile:
            runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            click.echo(end.code, err=True)
    except Exception as error:
        # without the frames that are ours and runpy's
        while error.__traceback__ and error.__traceback__.tb_frame.f_code.co_name != "<module>":
            error.__traceback__ = error.__traceback__.tb_next
        traceback.print_exception(error)
        status = 1
    finally:
        sys.argv, sys.path[0] = before
    profile.start_at(lambda function: function.name == "run_path")  # what Python does before it
    profile.start_at(lambda function: ROOT / function.file == path)
    profile.leave_out(lambda function: function.name in (_run_script.__name__, "run_path"))
    return status


def _format_of(form: str | None, output: Path | None) -> str:
    if form is not None:
        return form
    if output is not None:
        for ending, found in ENDINGS.items():
            if output.name.endswith(ending):
                return found
    return "table"


class _Profile(click.Command):
    """Refuses an unknown option before the SCRIPT, which would be parsed as the SCRIPT."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            options = ", ".join(
                name for param in self.params for name in param.opts if name.startswith("--")
            )
            text = f"no option {error.option_name} of ours; a SCRIPT's own stand behind it"
            text = f"{text}; there are: {options}"
            raise click.UsageError(text, ctx) from None


@click.command(cls=_Profile, context_settings={"allow_interspersed_args": False})
@click.option(
    "--workload", type=click.Choice(list(WORKLOADS)), help="Traffic to run instead of a SCRIPT."
)
@click.option(
    "--duration",
    "duration_ns",
    type=Duration(above=True),
    default="2s",
    help="CPU time a workload runs for.",
)
@click.option(
    "--interval",
    "interval_ns",
    type=Duration(50_000),
    default="1ms",
    help="Running time between two samples.",
)
@click.option("--top", type=click.IntRange(1), default=25, help="How many functions to show.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", *FORMATS]),
    help="Format of the output  [default: by the ending of FILE: .svg, .speedscope.json, .json, "
    ".folded; else a table].",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "-o", "--output", type=OUT_FILE, help="Write to this file; the table is shown all the same."
)
@click.argument("script", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(
    workload: str | None,
    duration_ns: int,
    interval_ns: int,
    top: int,
    form: str | None,
    as_json: bool,
    output: Path | None,
    script: Path | None,
    arguments: tuple[str, ...],
) -> None:
    """Show where the CPU time of a SCRIPT goes: by layer and by function, with the compiled
    kernels, the emulated NIC's among them.

    The script runs as `python SCRIPT ARGUMENTS` would; options of this command come before it.

    \b
    e1000emu profile examples/two_hosts.py
    e1000emu profile --workload tcp-bulk -o flame.svg
    e1000emu profile -o mine.speedscope.json mine.py --its-own-option
    """
    if (script is None) == (workload is None):
        raise click.UsageError("give a SCRIPT or --workload, one of them")
    if script is not None and not script.is_file():
        raise click.UsageError(f"{script}: no such file; give a Python script or --workload")
    if not Profile.available():
        raise E1000Error("profile: needs Linux and CPython 3.11 to 3.13")
    form = "json" if as_json else _format_of(form, output)
    profile = Profile(interval_ns / 1e9)
    status = 0
    if script is not None:
        title = script.name
        # The script's output would be mixed with the report.
        mixed = form != "table" and output is None
        with contextlib.redirect_stdout(sys.stderr) if mixed else contextlib.nullcontext():
            status = _run_script(script, arguments, profile)
    else:
        assert workload is not None
        title = workload
        _run_workload(workload, duration_ns / 1e9, profile)
    imports_ns = profile.cpu_ns
    profile.leave_out(lambda function: function.file.startswith(IMPORTING))
    imports_ns -= profile.cpu_ns
    text = render(profile, form, title) if form != "table" else ""
    if output is None and text:
        click.echo(text)
    else:
        _show(console(), profile, title, top, imports_ns)
    if output is not None:
        with output.open("w", encoding="utf-8") as file:
            if text:
                file.write(text + "\n")
            else:
                _show(Console(file=file, width=80), profile, title, top, imports_ns)
        click.echo(f"\n{output}: {form}")
    sys.exit(status)


def _run_workload(workload: str, seconds: float, profile: Profile) -> None:
    run(workload, seconds, profile.__enter__, lambda: profile.__exit__(None, None, None))
    profile.start_at(lambda function: function.name == workload.replace("-", "_"))
