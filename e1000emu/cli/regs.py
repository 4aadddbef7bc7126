"""`e1000emu regs`: the register reference in the terminal, from the tables of the code."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click
from click.shell_completion import CompletionItem
from rich.markup import escape

from e1000emu.cli.common import emit_json, report_options
from e1000emu.cli.errors import ArgumentError, did_you_mean
from e1000emu.cli.output import console, plain_table
from e1000emu.cli.params import Parsed
from e1000emu.registers.reference import look_up, titles

Row = dict[str, Any]


def parse_number(text: str) -> int:
    """Return an integer in C notation; `0x…`, `0b…` and decimal are taken."""
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f"{text!r} is not a number; write 0x1234 or 4660") from None


def _place(row: Row) -> str:
    """Return where a register is, as its space counts."""
    match row["space"]:
        case "bar0":
            return f"0x{row['offset']:05x}"
        case "phy":
            return str(row["offset"])
        case "eeprom" | "pci":
            return f"0x{row['offset']:02x}"
    return ""


def _hex(row: Row, key: str) -> str:
    return f"0x{row[key]:0{row['bits'] // 4}x}"


def _list(rows: list[Row]) -> None:
    place = {"bar0": "offset", "phy": "number", "eeprom": "word", "pci": "offset"}[rows[0]["space"]]
    table = plain_table(place, "name", "title", "SDM", folded="title")
    for row in rows:
        last = row["count"] - 1
        name = f"{row['name'].removesuffix('[0]')}[0..{last}]" if last else row["name"]
        table.add_row(_place(row), escape(name), escape(row["title"]), row["sdm"])
    console().print(table)


def _facts(row: Row) -> str:
    """Return the line between name and table."""
    if row["space"] == "descriptor":
        return "16 bytes, little endian: bit n is bit n % 8 of byte n // 8; RO: the device writes"
    last = f", {row['count']} elements every {row['step']}" if row["count"] > 1 else ""
    unit = " bytes" if last and row["space"] == "bar0" else ""
    if row["space"] == "eeprom":
        fresh = "each board's own" if row["reset"] is None else f"0x{row['reset']:04x} at first"
        return f"{fresh}{last}"
    kept = ", survives CTRL.RST" if row["survives_ctrl_rst"] else ""
    masks = f"readable {_hex(row, 'readable')}, writable {_hex(row, 'writable')}"
    return f"reset {_hex(row, 'reset')}, {masks}{last}{unit}{kept}"


def _show(row: Row, value: int | None) -> None:
    screen = console()
    place = f"  {_place(row)}" if _place(row) else ""
    screen.print(
        f"[bold]{escape(row['name'])}[/]{place}  {escape(row['title'])}  (SDM {row['sdm']})"
    )
    screen.print(_facts(row), highlight=False)
    # a descriptor has no reset value, and every word of the EEPROM stores
    columns = [] if row["space"] == "descriptor" else ["reset"]
    columns = columns if row["space"] == "eeprom" else ["access", *columns]
    shown_value = [] if value is None else ["value"]
    table = plain_table("bits", "field", *columns, *shown_value, "", folded="")
    for f in row["fields"]:
        bits = str(f["lo"]) if f["lo"] == f["hi"] else f"{f['hi']}:{f['lo']}"
        todo = f["todo"] if row["space"] == "eeprom" else f"not modelled: {f['todo']}"
        note = "; ".join([*f["notes"], *([f"[{todo}]"] if f["todo"] else [])])
        cells = {"access": f["access"], "reset": hex(f["reset"])}
        width = f["hi"] - f["lo"] + 1
        shown = [hex((value >> f["lo"]) & ((1 << width) - 1))] if value is not None else []
        table.add_row(bits, f["name"], *(cells[c] for c in columns), *shown, escape(note))
    screen.print(table)


def _coverage(as_json: bool) -> None:
    """Show the share of named bits that act, and every gap."""
    from e1000emu.registers.coverage import gaps, shares

    found, each = gaps(), shares()
    if as_json:
        rows = [asdict(share) | {"percent": round(share.percent, 1)} for share in each]
        emit_json({"spaces": rows, "gaps": [asdict(gap) for gap in found]})
        return
    screen = console()
    table = plain_table(
        "space", "named bits", "modelled", "%", right=("named bits", "modelled", "%")
    )
    for share in each:
        table.add_row(share.space, str(share.named), str(share.modelled), f"{share.percent:.1f}")
    screen.print(table)
    screen.print("\n[bold]Declared gaps[/]: they store, and do no more")
    table = plain_table("space", "register", "field", "bits", "why", folded="why")
    for gap in found:
        bits = str(gap.lo) if gap.lo == gap.hi else f"{gap.hi}:{gap.lo}"
        table.add_row(gap.space, gap.register, gap.name, bits, escape(gap.why))
    screen.print(table)


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    wanted = incomplete.lower()
    found = {name: title for name, title in titles().items() if name.lower().startswith(wanted)}
    return [CompletionItem(name, help=title) for name, title in found.items()]


@click.command()
@click.argument("register", required=False, default="", shell_complete=_complete)
@click.option(
    "--value", type=Parsed("VALUE", parse_number), help="Decode this value of the register."
)
@click.option(
    "--coverage", is_flag=True, help="Show what is modelled, and each gap with its reason."
)
@report_options
def command(register: str, value: int | None, coverage: bool, as_json: bool) -> None:
    """Show REGISTER, or list all registers of BAR 0.

    A register is a name such as RCTL or RAL[3], or an offset such as 0x100. `phy`, `eeprom` and
    `pci` list the PHY's registers, the EEPROM's words and the configuration space; phy.17,
    phy.PSSR, eeprom.0x0A and pci.COMMAND show one. rxdesc, txdesc.legacy, txdesc.context and
    txdesc.data are the descriptors; txdesc is all three.
    """
    if coverage:
        if register or value is not None:
            raise ArgumentError("--coverage: is of all registers; name none")
        _coverage(as_json)
        return
    try:
        found = look_up(register)
    except KeyError as error:
        guess = did_you_mean(register.upper(), [name.upper() for name in titles()])
        raise ArgumentError(f"{error.args[0]}{guess}") from None
    if isinstance(found, list):
        if value is not None:
            raise ArgumentError("--value: name the register that it belongs to")
    elif value is not None:
        if value < 0 or value >> found["bits"]:
            raise ArgumentError(f"--value {value:#x}: {register} has {found['bits']} bits")
        found["value"] = value
    if as_json:
        emit_json(found)
    elif isinstance(found, dict):
        _show(found, value)
    elif found[0]["space"] == "descriptor":
        for row in found:
            _show(row, None)
            console().print()
    else:
        _list(found)
