"""A page for each part, from its row in e1000emu/registers/models.py and the register tables."""

from __future__ import annotations

from collections.abc import Iterator

from e1000emu.registers.eeprommap import EEPROM_MAP
from e1000emu.registers.models import MODELS, Model, eeprom_image
from e1000emu.registers.pciregs import config_rows
from e1000emu.registers.regs import TABLE, reg

MAC = bytes.fromhex("525400123456")

INTRO = """# {name}

Written by `docs/generate.py` from the part's row in `e1000emu/registers/models.py` and the
device's register tables. [Registers](registers.md) describes what all parts have in common, [Where
we differ](hardware.md) deviations from the manual.

`Nic(model="{name}", …)` creates one; `--model {name}` selects it for `e1000emu vfio-user`,
`guest` and `record`.

## Identity

| what | value |
|---|---|
"""


def page_name(part: Model) -> str:
    """Return the page's file name."""
    return f"{part.name}.md"


def _identity(part: Model) -> Iterator[tuple[str, str]]:
    yield "PCI device", f"`8086:{part.device_id:04X}`, revision `{part.revision:02X}`"
    yield "subsystem on a fresh board", f"`8086:{part.subsystem_id:04X}`"
    yield "capabilities", ", ".join(part.capabilities)
    if part.fiber:
        yield "medium", "fibre: a ten-bit interface (TXCW, RXCW), and no PHY"
    else:
        yield "PHY id (registers 2 and 3)", " ".join(f"`{word:04X}`" for word in part.phy_id)
    kind = "93C46" if part.eeprom_words == 64 else "93C66"
    yield "EEPROM", f"{kind}, {part.eeprom_words} words of 16 bits"
    yield "exact receive addresses (RAL, RAH)", str(part.n_rar)


def _behaviour(part: Model) -> Iterator[tuple[str, str]]:
    word, bit = part.apm_enable
    name = next(r.name for r in EEPROM_MAP if word in r.offsets)
    grant = "requested with EECD.EE_REQ" if part.eeprom_granted else "driven without a request"
    yield "the EEPROM's pins are", grant
    yield "APM wake-up is enabled by", f"bit {bit.bit_length() - 1} of EEPROM word {name}"
    report = "reports status, as RS does" if part.rps else "is reserved"
    yield "RPS of a transmit descriptor", report
    if part.fiber:
        level = "high" if part.signal_high else "low"
        yield "SDP1", f"driven by the optics: {level} while there is light"
    low = "raises ICR.TXD_LOW" if part.txd_low else "has no meaning"
    yield "TXDCTL.LWTHRESH", low
    yield "registers it lacks", ", ".join(sorted(part.lacks)) or "none"


def _rows(rows: Iterator[tuple[str, str]]) -> str:
    return "".join(f"| {name} | {value} |\n" for name, value in rows)


def _power_on(part: Model) -> Iterator[str]:
    """Yield how many rows of the table the part has, and registers with another reset value."""
    rows = [r for r in TABLE if not r.alias_of]
    yield f"Of the register table's {len(rows)} rows, this part has {len(rows) - len(part.lacks)}."
    for name, value in sorted(part.reset_overrides.items()):
        yield f"{name} is reset to `{value:08X}`, on the other parts to `{reg(name).reset:08X}`."


def _configuration(part: Model) -> Iterator[str]:
    yield "| offset | bytes | name | what | reset |"
    yield "|---|---|---|---|---|"
    own = {
        "DEVICE_ID": part.device_id,
        "REVISION": part.revision,
        "SUBSYSTEM_ID": part.subsystem_id,
    }
    for row in config_rows(part.capabilities):
        value = own.get(row.name, row.reset)
        shown = f"`{value:0{2 * row.step}X}`"
        yield f"| `{row.offset:02X}` | {row.step} | {row.name} | {row.title} | {shown} |"


def _eeprom(part: Model) -> Iterator[str]:
    words = eeprom_image(part, MAC)
    yield "| word | " + " | ".join(f"+{n:X}" for n in range(8)) + " |"
    yield "|---" * 9 + "|"
    for at in range(0, 64, 8):
        cells = " | ".join(f"`{word:04X}`" for word in words[at : at + 8])
        yield f"| `{at:02X}` | {cells} |"


def markdown(part: Model) -> str:
    """Return the page of a part."""
    lines = [
        INTRO.format(name=part.name) + _rows(_identity(part)),
        "## Differences from the other parts\n",
        "| what | on this part |\n|---|---|\n" + _rows(_behaviour(part)),
        *_power_on(part),
        "\n## Configuration space\n",
        *_configuration(part),
        "\n[What each bit means](registers.md#pci-configuration-space).",
        "\n## EEPROM of a fresh board\n",
        f"With the address {MAC.hex(':')}; [what the words mean](registers.md#eeprom).\n",
        *_eeprom(part),
    ]
    if part.eeprom_words > 64:
        lines.append(f"\nThe words from 40h to {part.eeprom_words - 1:02X}h are FFFF.")
    return "\n".join(lines) + "\n"


PAGES = {page_name(part): part for part in MODELS.values()}
"""Each page and the part that it is about."""
