"""`e1000emu regs`: the register reference in the terminal, from the one register table."""

from __future__ import annotations

from typing import Any, cast

import click
from click.shell_completion import CompletionItem
from rich.markup import escape

from e1000emu.cli.common import emit_json, report_options
from e1000emu.cli.errors import ArgumentError, did_you_mean
from e1000emu.cli.output import console, plain_table

__all__ = ["command"]


class Number(click.ParamType):
    """An integer in C notation."""

    name = "VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the integer; `0x…`, `0b…` and decimal are taken."""
        try:
            return int(str(value), 0)
        except ValueError:
            self.fail(f"{value!r} is not a number; write 0x1234 or 4660", param, ctx)


def _list() -> None:
    from e1000emu.regs import TABLE

    table = plain_table("offset", "name", "title", "SDM", folded="title")
    for r in TABLE:
        name = r.name if r.count == 1 else f"{r.name}[0..{r.count - 1}]"
        table.add_row(f"0x{r.offset:05x}", escape(name), escape(r.title), r.sdm)
    console().print(table)


def _show(row: dict[str, Any], value: int | None) -> None:
    screen = console()
    screen.print(
        f"[bold]{escape(row['name'])}[/]  0x{row['offset']:05x}  "
        f"{escape(row['title'])}  (SDM {row['sdm']})"
    )
    array = f", {row['count']} elements every {row['step']} bytes" if row["count"] > 1 else ""
    kept = ", survives CTRL.RST" if row["survives_ctrl_rst"] else ""
    screen.print(
        f"reset 0x{row['reset']:08x}, readable 0x{row['readable']:08x}, "
        f"writable 0x{row['writable']:08x}{array}{kept}"
    )
    shown_value = [] if value is None else ["value"]
    table = plain_table("bits", "field", "access", "reset", *shown_value, "", folded="")
    for f in row["fields"]:
        bits = str(f["lo"]) if f["lo"] == f["hi"] else f"{f['hi']}:{f['lo']}"
        note = f["doc"] + (f" [not modelled: {f['todo']}]" if f["todo"] else "")
        width = f["hi"] - f["lo"] + 1
        shown = [hex((value >> f["lo"]) & ((1 << width) - 1))] if value is not None else []
        table.add_row(bits, f["name"], f["access"], hex(f["reset"]), *shown, escape(note))
    console().print(table)


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from e1000emu.regs import TABLE

    wanted = incomplete.upper()
    return [CompletionItem(r.name, help=r.title) for r in TABLE if r.name.startswith(wanted)]


@click.command()
@click.argument("register", required=False, shell_complete=_complete)
@click.option("--value", type=Number(), help="Decode this value of the register.")
@report_options
def command(register: str | None, value: int | None, as_json: bool) -> None:
    """Show REGISTER (a name such as RCTL or RAL[3], or an offset such as 0x100), or list them
    all."""
    from e1000emu.regs import TABLE, describe

    if register is None:
        if value is not None:
            raise ArgumentError("--value: name the register that it belongs to")
        if as_json:
            emit_json([describe(r.name) for r in TABLE])
        else:
            _list()
        return
    try:
        row = cast("dict[str, Any]", describe(register))
    except KeyError as error:
        guess = did_you_mean(register.upper(), [r.name for r in TABLE])
        raise ArgumentError(f"{error.args[0]}{guess}") from None
    if value is not None and not 0 <= value <= 0xFFFFFFFF:
        raise ArgumentError(f"--value {value:#x}: a register has 32 bits")
    if as_json:
        if value is not None:
            row["value"] = value
        emit_json(row)
    else:
        _show(row, value)
