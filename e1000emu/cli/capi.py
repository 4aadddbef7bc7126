"""`e1000emu capi`: the NIC as a shared object with a C header."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from e1000emu.cli.common import emit_json, report_options


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Directory for the library and its header.",
)
@click.option("--stack", is_flag=True, help="Build libe1000stack.so: hosts instead of the NIC.")
@click.option("--cflags", is_flag=True, help="Print only the compiler's options.")
@click.option("--libs", is_flag=True, help="Print only the linker's options.")
@report_options
def command(out: Path, stack: bool, cflags: bool, libs: bool, as_json: bool) -> None:
    """Build the NIC as libe1000emu.so with its header e1000emu.h, for programs in C and C++.

    With --stack it is hosts with sockets, links and virtual time: libe1000stack.so, e1000stack.h.

    A library that is up to date is not built again. CC, CFLAGS and LDFLAGS are used. The library
    finds this Python and its packages by itself; E1000EMU_PYTHONPATH and E1000EMU_PYTHONHOME name
    others at run time.
    """
    from e1000emu.embed.capi.build import NIC, build
    from e1000emu.lab.cstack import STACK

    built = build(out, library=STACK if stack else NIC)
    if as_json:
        emit_json(
            {
                "library": str(built.library),
                "header": str(built.header),
                "cflags": built.cflags,
                "libs": built.libs,
            }
        )
    elif cflags or libs:
        click.echo(shlex.join([*(built.cflags if cflags else []), *(built.libs if libs else [])]))
    else:
        click.echo(f"{built.library}\n{built.header}\n")
        click.echo(f"cc program.c {shlex.join([*built.cflags, *built.libs])} -o program")
