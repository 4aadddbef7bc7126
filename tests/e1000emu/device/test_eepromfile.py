"""An EEPROM given by the user: what a file may hold, what the device and drivers make of it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.device.eepromfile import eeprom_bytes, eeprom_doubts, words_of
from e1000emu.device.nic import Nic
from e1000emu.errors import E1000Error
from e1000emu.record.recorder import Recorder
from e1000emu.record.replay import replay
from e1000emu.registers.eeprommap import eeprom_word
from e1000emu.registers.fields import Access
from e1000emu.registers.models import MODELS, eeprom_image
from e1000emu.testing.bench import make_bench
from e1000emu.testing.guest import Reg
from e1000emu.testing.recorders import RecordingLine, RecordingLink

COPPER = [name for name, part in MODELS.items() if not part.fiber]
MAC = bytes.fromhex("525400abcdef")
# What `ethtool -e` printed of VirtualBox's 82540EM, in a public exercise in networking.
PRINTED = b"""\
Offset\t\tValues
------\t\t------
0x0000:\t\t08 00 27 73 3b 2f 00 00 ff ff 00 00 00 00 00 00\x20
0x0010:\t\t00 00 00 00 08 44 1e 00 86 80 0e 10 86 80 40 30\x20
0x0020:\t\t00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\x20
0x0030:\t\t00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\x20
0x0040:\t\t00 00 61 70 0c 28 c8 00 c8 00 00 00 00 00 00 00\x20
0x0050:\t\t00 00 00 00 00 00 00 00 00 00 00 00 00 00 02 06\x20
0x0060:\t\t00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\x20
0x0070:\t\t00 00 00 00 00 00 00 00 00 00 00 00 00 00 d2 f2\x20
"""


def raw(words: list[int]) -> bytes:
    return struct.pack(f"<{len(words)}H", *words)


def made(**options: Any) -> Nic:
    bench = make_bench()
    nic = Nic(
        memory=bench.dma, irq=RecordingLine(), link=RecordingLink(), clock=bench.clock, **options
    )
    nic.slot.config_write(4, 7, 2)
    return nic


@given(st.binary(min_size=128, max_size=128), st.booleans())
def test_a_printed_image_is_the_raw_one(image: bytes, capital: bool) -> None:
    rows = [f"0x{at:04x}:\t\t{image[at : at + 16].hex(' ')} \n" for at in range(0, 128, 16)]
    text = "Offset\t\tValues\n------\t\t------\n" + "".join(rows)
    assert eeprom_bytes((text.upper() if capital else text).encode().replace(b"0X", b"0x")) == image
    assert eeprom_bytes(image) == image


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 127, b"\0" * 256, b"hello", PRINTED.replace(b"0x0030", b"0x0040"), b"0:"]
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(E1000Error, match=r"eeprom: .* `ethtool -e eth0 raw on`"):
        eeprom_bytes(data)
    with pytest.raises(E1000Error, match="128 of a 93C46"):
        made(eeprom=b"\0" * 127)


def test_a_strangers_image_makes_the_board() -> None:
    nic = made(eeprom=eeprom_bytes(PRINTED))
    assert nic.mac == bytes.fromhex("080027733b2f")
    assert nic.mmio_read(Reg.CTRL) & 0x41 == 1  # FD, and no SLU: this board does not wake by APM
    assert nic.slot.config_read(0x2C, 4) == 0x8086  # no id is loaded
    assert nic.slot.config_read(0x10, 4) == 4  # nor BAR32 set
    assert not any("EEPROM" in line for line in nic.explain())
    assert list(eeprom_doubts(nic.eeprom.words, nic.model)) == []


@pytest.mark.parametrize("words", [64, 256])
def test_address_and_windows_change_an_image_whose_sum_stays_right(words: int) -> None:
    image = eeprom_bytes(PRINTED).ljust(2 * words, b"\xff")
    nic = made(eeprom=image, mac=MAC, flash=bytes(200_000), wide_bars=True)
    assert nic.mac == MAC
    assert sum(nic.eeprom.words[:64]) & 0xFFFF == 0xBABA
    assert nic.slot.config_read(0x10, 4) == 4
    assert nic.slot.bar_size(2) == 256 << 10
    assert bool(nic.mmio_read(Reg.EECD) & 1 << 9) is (words == 256)
    wrong = image[:-2] + b"\0\0" if words == 64 else image[:126] + b"\0\0" + image[128:]
    assert made(eeprom=wrong, mac=MAC).eeprom.words[63] == 0


def test_the_example_is_qemus_board() -> None:
    text = (Path(__file__).parents[3] / "examples/ethtool-e.txt").read_bytes()
    nic = made(eeprom=eeprom_bytes(text))
    assert list(eeprom_doubts(nic.eeprom.words, nic.model)) == []
    assert nic.mmio_read(Reg.CTRL) & 0x41 == 0x41
    ours = eeprom_image(nic.model)
    for name in ("ICW1", "ICW2", "ICW3"):
        row = eeprom_word(name)
        bits = sum(f.mask for f in row.fields if f.access is not Access.SW)
        differs = (ours[row.offset] ^ nic.eeprom.words[row.offset]) & bits
        assert differs == (row.mask("POWER_MANAGEMENT") if name == "ICW1" else 0)


def test_a_driver_hears_of_a_wrong_sum_from_explain() -> None:
    image = bytearray(raw(eeprom_image(MODELS["82540EM"])))
    image[126] ^= 1
    nic = made(eeprom=bytes(image))
    assert nic.mac == bytes.fromhex("525400123456")  # the device itself does not look at the sum
    assert any("words 0 to 3F sum to" in line for line in nic.explain())
    assert ["refuse" in doubt for doubt in eeprom_doubts(nic.eeprom.words, nic.model)] == [True]


def test_doubts_name_the_part_that_an_image_is_of() -> None:
    words = eeprom_image(MODELS["82545EM"])
    (doubt,) = eeprom_doubts(words, MODELS["82540EM"])
    assert "100F (82545EM)" in doubt
    assert "--model" in doubt
    blank = words_of(b"\xff" * 128)
    assert "signature" in "".join(eeprom_doubts(blank, MODELS["82540EM"]))
    assert made(eeprom=b"\xff" * 128).mmio_read(Reg.CTRL) & 0x40 == 0


@pytest.mark.parametrize("model", MODELS)
def test_a_new_board_of_copper_has_its_link_before_any_driver(model: str) -> None:
    part = MODELS[model]
    nic = make_bench(model=model).nic
    assert bool(nic.mmio_read(Reg.CTRL) & 0x40) is not part.fiber  # SLU, by APM (SDM 13.4.1)
    nic.mmio_write(Reg.CTRL, 1 << 26)
    assert bool(nic.mmio_read(Reg.CTRL) & 0x40) is not part.fiber


@pytest.mark.parametrize("model", COPPER)
def test_a_driver_that_never_writes_ctrl_moves_frames(model: str) -> None:
    """The accesses of LittleKernel's driver (dev/net/e1000), which neither resets nor sets SLU."""
    bench = make_bench(model=model)
    guest, memory, count = bench.guest, bench.memory, 16
    write, read = guest.write, guest.read
    mac = b""
    for word in range(3):
        write(Reg.EERD, word << 8 | 1)
        while not (value := read(Reg.EERD)) & 1 << 4:
            pass
        mac += (value >> 16).to_bytes(2, "little")
    assert mac == bench.nic.mac
    rx, tx, buffers = memory.alloc(count * 16), memory.alloc(count * 16), memory.alloc(count * 2048)
    memory.write(rx, bytes(count * 16))
    memory.write(tx, bytes(count * 16))
    write(Reg.IMC, 0xFFFF)
    for register, value in ((0xC4, 400), (Reg.RCTL, 0), (Reg.TCTL, 0)):
        bench.nic.mmio_write(register, value)
    for register, value in ((Reg.RDBAL, rx), (Reg.RDBAH, 0), (Reg.RDLEN, count * 16)):
        write(register, value)
    for register in (Reg.RDH, Reg.RDT, 0x2820, 0x282C, 0x2C00, 0x2160, 0x2168):
        bench.nic.mmio_write(register, 0)
    for index in range(count - 1):
        memory.write(rx + 16 * index, struct.pack("<QQ", buffers + 2048 * index, 0))
        write(Reg.RDT, index + 1)
    write(Reg.RCTL, 1 << 1 | 1 << 3 | 1 << 4 | 1 << 15)
    write(Reg.IMS, read(Reg.IMS) | 1 << 7 | 1 << 6)
    for register, value in ((Reg.TDH, 0), (Reg.TDT, 0), (Reg.TDBAL, tx), (Reg.TDBAH, 0)):
        write(register, value)
    write(Reg.TDLEN, count * 16)
    write(Reg.TIPG, 6 << 20 | 8 << 10 | 8)
    write(Reg.TCTL, 1 << 3 | 1 << 1 | 0x0F << 4 | 0x40 << 12)
    write(Reg.IMS, read(Reg.IMS) | 3)
    bench.clock.run_for(5_000_000_000)  # autonegotiation
    frame = b"\xff" * 6 + mac + b"\x08\x06" + bytes(46)
    memory.write(buffers + 2048 * (count - 1), frame)
    at = buffers + 2048 * (count - 1)
    memory.write(tx, struct.pack("<QHBBBBH", at, len(frame), 0, 1 << 3 | 1 << 1 | 1, 0, 0, 0))
    write(Reg.TDT, 1)
    bench.link.inject(frame)
    bench.clock.run_for(1_000_000)
    assert [bytes(sent) for sent in bench.link.frames] == [frame]
    _, length, _, status = struct.unpack("<QHHB3x", memory.read(rx, 16))
    assert (status & 3, length) == (3, len(frame) + 4)


def test_magic_packets_are_looked_for_without_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that leaves WUC.APME set pays for no look of Python's at its ordinary frames."""
    bench = make_bench()
    bench.guest.up()
    bench.clock.run_for(5_000_000_000)  # autonegotiation
    assert bench.nic.regs["WUC"] & 1
    seen: list[int] = []
    whole = bench.nic.wakeup.frames
    monkeypatch.setattr(
        bench.nic.wakeup, "frames", lambda batch, start: (seen.append(start), whole(batch, start))
    )
    mac = bench.nic.mac
    bench.link.inject(*[mac + MAC + b"\x08\x00" + b"\xff" * 1000] * 3)
    assert (len(bench.guest.receive()), seen) == (3, [])
    bench.link.inject(mac + MAC + b"\x08\x42" + b"\xff" * 6 + 16 * mac)
    assert (len(bench.guest.receive()), seen) == (1, [0])
    assert bench.nic.regs["WUS"] == 2


def test_a_recording_replays_with_its_image(tmp_path: Path) -> None:
    path = tmp_path / "r"
    with Recorder(path) as recorder:
        nic = made(eeprom=b"\xff" * 512, record=recorder)
        nic.mmio_read(Reg.EECD)
        nic.halt()
    done = replay(path)
    assert done.divergence is None
    assert done.complete
