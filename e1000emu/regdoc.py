"""The register reference as Markdown, made from the table: ``python -m e1000emu.regdoc > FILE``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from e1000emu.regs import TABLE, Access, Field, Reg

__all__ = ["main", "markdown"]

GROUPS = (
    ("general", "General, EEPROM, PHY, LEDs"),
    ("interrupts", "Interrupts"),
    ("flow control", "Flow control"),
    ("receive", "Receive"),
    ("filters", "Address and VLAN filters"),
    ("transmit", "Transmit"),
    ("wake-up", "Wake-up"),
    ("management", "Management"),
    ("statistics", "Statistics"),
    ("diagnostics", "Diagnostics"),
)

HEAD = """\
# Registers of the 82540EM

Generated from `e1000emu/regs.py` by `python -m e1000emu.regdoc`; do not edit. Offsets are bytes in
BAR 0 and all registers are 32 bits wide. Section numbers are of Intel's Software Developer's
Manual 317453, revision 4.0.

Access: **RW** reads what was written; **RO** read only; **RC** a read clears; **W1C** writing 1
clears; **RC/W1C** both; **RW1S** writing 1 sets; **WO** acts when written, reads 0; **SC** acts
when 1 is written and clears itself; **rsv** reserved. *Not modelled* says what a bit does on real
hardware but not here; it still stores.
"""


def _bits(f: Field) -> str:
    return str(f.lo) if f.lo == f.hi else f"{f.hi}:{f.lo}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _what(f: Field) -> str:
    text = f.doc
    if f.todo:
        text += f"{'; ' if text else ''}*not modelled: {f.todo}*"
    return _cell(text)


def _where(r: Reg) -> str:
    if r.count == 1:
        return f"`{r.offset:05X}`"
    return f"`{r.offset:05X}` + {r.step}·n, n = 0 … {r.count - 1}"


def _register(r: Reg) -> Iterator[str]:
    yield f"### {r.name}: {r.title}"
    yield ""
    notes = [_where(r), f"SDM {r.sdm}", f"reset `{r.reset:08X}`"]
    if r.survives:
        notes.append("keeps its value over CTRL.RST")
    if r.alias_of:
        notes.append(f"another address of {r.alias_of}")
    yield ", ".join(notes)
    yield ""
    if r.alias_of:
        return
    yield "| bits | name | access | reset | |"
    yield "|---|---|---|---|---|"
    for f in sorted(r.fields, key=lambda f: -f.lo):
        if f.access is Access.RSV:
            yield f"| {_bits(f)} | | rsv | {f.reset:X} | |"
        else:
            yield f"| {_bits(f)} | {f.name} | {f.access.value} | {f.reset:X} | {_what(f)} |"
    yield ""


def _statistics(registers: Iterable[Reg]) -> Iterator[str]:
    yield "Each is 32 bits, RC: a read clears it, and it sticks at FFFFFFFF. Octets come in pairs;"
    yield "read the low half first, the high half clears both. Sizes count the FCS."
    yield ""
    yield "| offset | name | counts | SDM |"
    yield "|---|---|---|---|"
    for r in registers:
        todo = f" (*{r.fields[0].todo}*)" if r.fields[0].todo else ""
        yield f"| `{r.offset:05X}` | {r.name} | {_cell(r.title)}{todo} | {r.sdm} |"
    yield ""


def markdown() -> str:
    """Return the whole reference."""
    lines = [HEAD]
    for group, title in GROUPS:
        members = [r for r in TABLE if r.group == group]
        lines += [f"## {title}", ""]
        if group == "statistics":
            lines += _statistics(members)
        else:
            for r in members:
                lines += _register(r)
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the reference to standard output."""
    sys.stdout.write(markdown())


if __name__ == "__main__":
    main()
