"""The page about what an EEPROM decides: each field and what it changes in the device at reset."""

from __future__ import annotations

from collections.abc import Iterator

from e1000emu.clock import VirtualClock
from e1000emu.device.nic import Nic
from e1000emu.device.pci import FLASH_BAR
from e1000emu.registers.eeprommap import EEPROM_MAP
from e1000emu.registers.fields import Access, Field, Reg
from e1000emu.registers.models import MODELS, eeprom_image
from e1000emu.registers.pciregs import config_rows
from e1000emu.registers.regs import TABLE
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from fastpath.base.dma import DmaTable

INTRO = """# What the EEPROM decides

Written by `docs/generate.py` from the words in `e1000emu/registers/eeprommap.py`. To find the
effect of a field, the generator inverts it and compares a device after power-on.

Before you start: `make build`, then `. .venv/bin/activate` ([Install](index.md#install)).

After each reset, before a driver accesses it, the device reads the EEPROM: the MAC address, the ids
of PCI configuration, and initial values of some registers. By default a NIC has the image of a new
board. `--eeprom FILE` gives it another one, here the output of ethtool for QEMU's e1000:

```console
$ timeout --preserve-status -s INT 3 e1000emu vfio-user --socket nic.sock --link null \
--eeprom examples/ethtool-e.txt
```

The file has the output of `ethtool -e eth0` on a machine with the card, or of `ethtool -e eth0 raw
on`. That is 128 bytes of a 93C46 or 512 of a 93C66, the low byte of each word first. In Python the
arguments are `Nic(eeprom=image)` and `VfioUserServer(eeprom=image)`, in C `options.eeprom`; they
take the raw bytes. `--mac`, `--flash` and `--wide-bars`, and the arguments of these names, change
their words in the image, and its checksum. A loaded state (`--state`) includes its EEPROM.

The device does not check the checksum: with a wrong one it loads every word, but drivers refuse the
board ("The EEPROM Checksum Is Not Valid" on Linux). So the device accepts any image. The command
warns at the start if a checksum is wrong, and `explain()` reports it. Such a checksum stays wrong
when `--mac` changes a word. Without the signature in ICW1 nothing is loaded.

## APM, and a link without a driver

Copper boards have APM enabled, which sets CTRL.SLU at each reset (SDM 13.4.1). The link comes up
before any driver runs, so that a magic packet can wake the machine. So a driver that never sets
SLU, for instance LittleKernel's, works on them. With an image without APM it gets no link, and
`explain()` says that CTRL.SLU is 0. The fibre boards have no APM: Linux offers no wake-up on them,
and their drivers set the link up themselves.

QEMU's image of an 82540EM has the bit set, and the same FD, BAR32, LOAD_VENDOR, LOAD_SUBSYSTEM,
PHY_POWER and PAUSE as ours. We assume that it is set on the other copper boards, because no image
of one is public. POWER_MANAGEMENT is clear in QEMU's image and set in VirtualBox's and in ours,
because without it a guest cannot sleep.

"""

FIELDS = """## Fields

*Affects at reset* names what changes on an 82540EM with a boot flash when the field is inverted. A
field without an entry has an effect later, as its description says.

| word | field | bits | new board | what it does | affects at reset |
|---|---|---|---|---|---|
"""

BY_MODEL = """
## By model

These words differ between the boards; all others are the same, except the address.

"""


def _device(row: Reg | None = None, f: Field | None = None) -> dict[str, int]:
    """Return what a device begins with, by name, with the field inverted."""
    part = MODELS["82540EM"]
    nic = Nic(
        memory=DmaTable(),
        irq=RecordingLine(),
        link=RecordingLink(),
        clock=VirtualClock(),
        flash=b"x",
    )
    if row is not None and f is not None:
        for at in row.offsets:
            nic.eeprom.words[at] ^= f.mask
    nic.power_on_reset()
    found = {f"size of BAR {FLASH_BAR}": nic.slot.bar_size(FLASH_BAR)}
    for r in (r for r in TABLE if not r.alias_of and r.name not in ("EECD", "EERD")):
        for i, at in enumerate(r.offsets):
            name = f"{r.name}[{i}]" if r.count > 1 else r.name
            found |= {f"{name}.{g.name}": nic.regs.peek(at) & g.mask for g in r.fields}
    for r in config_rows(part.capabilities, 0x10000):
        value = nic.slot.config_read(r.offset, r.step)
        found |= {f"PCI {r.name}.{g.name}": value & g.mask for g in r.fields}
    return found


def _fields() -> Iterator[str]:
    usual = _device()
    for row in EEPROM_MAP:
        for f in row.fields:
            if f.access is Access.SW or f.todo:
                continue
            other = _device(row, f)
            changed = ", ".join(name for name in usual if usual[name] != other[name])
            word = f"{row.offset:02X}" + (f" to {row.offsets[-1]:02X}" if row.count > 1 else "")
            bits = str(f.lo) if f.lo == f.hi else f"{f.hi}:{f.lo}"
            fresh = (eeprom_image(MODELS["82540EM"])[row.offset] & f.mask) >> f.lo
            shown = "its own" if row.name == "IA" else f"{fresh:X}"
            name = f"{row.name}.{f.name}"
            yield f"| {word} | {name} | {bits} | {shown} | {f.doc} | {changed} |"


def _models() -> Iterator[str]:
    images = [eeprom_image(part) for part in MODELS.values()]
    yield "| word | " + " | ".join(MODELS) + " |"
    yield "|---" * (len(MODELS) + 1) + "|"
    for row in EEPROM_MAP:
        for at in row.offsets:
            values = [image[at] for image in images]
            if row.name != "CHECKSUM" and len({*values}) > 1:
                yield f"| {at:02X} {row.name} | " + " | ".join(f"{v:04X}" for v in values) + " |"


def markdown() -> str:
    """Return docs/eeprom.md."""
    return INTRO + FIELDS + "\n".join([*_fields(), BY_MODEL, *_models()]) + "\n"
