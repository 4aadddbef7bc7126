"""Programs for an 82540EM: what one does to a card, and what it sees of it.

A program is a function of a `Card` that returns what it saw, a value for each place. It knows
nothing of who made the card, so QEMU's and ours run the same ones (test_differential.py).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Protocol

from e1000emu.registers.regs import TABLE
from e1000emu.testing import GuestRings, Int, Popts, Rctl, Reg, RxStatus, Tucmd, TxCmd
from e1000emu.testing.guest import Ctrl
from tests.e1000emu.common import off
from tests.fastpath import rings

MAC = bytes.fromhex("525400c0ffee")
OTHER = bytes.fromhex("525400000001")
BROADCAST = b"\xff" * 6
GROUPS = [
    bytes.fromhex(text) for text in ("01005e000001", "01005e0000fb", "333300000001", "0180c2000000")
]
ONES = 0xFFFF_FFFF
LINKED = int(Ctrl.SLU | Ctrl.ASDE | Ctrl.FD) | 2 << 8
VME = int(Ctrl.VME)
SENT = {
    name: off(name)
    for name in (
        *("GPTC", "TPT", "GOTCL", "GOTCH", "TOTL", "TOTH", "BPTC", "MPTC", "TSCTC"),
        *("PTC64", "PTC127", "PTC1522"),
    )
}
"""Statistics of a program that sends; reading a high half clears both."""
RECEIVED = {
    name: off(name)
    for name in ("GPRC", "BPRC", "MPRC", "TPR", "GORCL", "GORCH", "TORL", "TORH", "ROC", "RUC")
}
"""And of one that receives."""
END = MAC + OTHER + b"\x88\xb5" + b"the last frame of a program".ljust(46, b"\0")

Seen = dict[str, int | bytes | tuple[bytes, ...]]
Program = Callable[["Card"], Seen]


class Card(Protocol):
    """A card with its driver's rings, and the other end of its cable."""

    rings: GuestRings

    def fresh(self) -> None:
        """Reset; the link is up, nothing is enabled, nothing is in the statistics."""

    def sent(self) -> tuple[bytes, ...]:
        """Return what came out of the card up to `END`, without that."""

    def receive(self, *frames: bytes) -> None:
        """Give frames to the card, and `END`; return when that lies in the ring."""

    def level(self) -> bool:
        """Return the level of the interrupt line."""


# --- registers ------------------------------------------------------------------------------------

PATTERNS = (0, ONES, 0x5555_5555, 0xAAAA_AAAA, 0x1234_5678)
# What acts when it is written, or changes by itself: programs of their own, or none.
ACTS = {"CTRL", "EECD", "EERD", "MDIC", "ICR", "ICS", "IMS", "IMC", "TDT", "RDT", "PBM"}


def _register(offset: int, name: str) -> Program:
    def program(card: Card) -> Seen:
        card.rings.read(offset)  # QEMU's reset leaves counters
        card.fresh()
        seen: Seen = {f"{name} at reset": card.rings.read(offset)}
        for value in PATTERNS:
            card.rings.write(offset, value)
            seen[f"{name} := {value:#010x}"] = card.rings.read(offset)
        card.rings.write(offset, 0)
        return seen

    return program


def registers() -> Iterator[tuple[str, Program]]:
    """Every register that stores or counts: reset value, then what is read after each pattern."""
    for entry in TABLE:
        if entry.name in ACTS or entry.alias_of:
            continue
        for index in sorted({0, entry.count - 1}):
            name = entry.name if entry.count == 1 else f"{entry.name}[{index}]"
            yield f"register {name}", _register(entry.offset + index * entry.step, name)


# --- interrupts -----------------------------------------------------------------------------------


def _interrupt(cause: int, mask: int, clear: str) -> Program:
    def program(card: Card) -> Seen:
        card.fresh()
        r = card.rings
        r.write(Reg.IMS, mask)
        seen: Seen = {"IMS": r.read(Reg.IMS), "level before": card.level()}
        r.write(Reg.ICS, cause)
        seen["level after ICS"] = card.level()
        if clear == "read":
            seen["ICR"] = r.read(Reg.ICR)
        elif clear == "write":
            r.write(Reg.ICR, cause)
        else:
            r.write(Reg.IMC, mask)
            seen["IMS after IMC"] = r.read(Reg.IMS)
        seen["level in the end"] = card.level()
        seen["ICR again"] = r.read(Reg.ICR)
        r.write(Reg.IMC, ONES)
        return seen

    return program


def interrupts() -> Iterator[tuple[str, Program]]:
    """Each cause alone, masked and not, acknowledged in each way."""
    for cause in Int:
        for mask, way in ((cause, "unmasked"), (0, "masked"), (ONES & ~cause, "others")):
            for clear in ("read", "write", "mask"):
                yield (
                    f"interrupt {cause.name} {way} {clear}",
                    _interrupt(cause.value, int(mask), clear),
                )


# --- PHY and EEPROM -------------------------------------------------------------------------------


def _phy(number: int) -> Program:
    def program(card: Card) -> Seen:
        card.fresh()
        card.rings.write(Reg.MDIC, 2 << 26 | 1 << 21 | number << 16)
        return {f"PHY {number}": card.rings.read(Reg.MDIC)}

    return program


def _eeprom(word: int) -> Program:
    def program(card: Card) -> Seen:
        card.fresh()
        card.rings.write(Reg.EERD, word << 8 | 1)
        return {f"EERD {word:#x}": card.rings.read(Reg.EERD)}

    return program


def identity() -> Iterator[tuple[str, Program]]:
    """PHY registers and EEPROM words."""
    for number in range(32):
        yield f"PHY register {number}", _phy(number)
    for word in range(64):
        yield f"EEPROM word {word:#x}", _eeprom(word)


# --- frames ---------------------------------------------------------------------------------------


def frame(size: int, to: bytes = BROADCAST, kind: bytes = b"\x88\xb6", seed: int = 1) -> bytes:
    """An Ethernet frame of `size` bytes without FCS."""
    return (to + MAC + kind + random.Random(seed).randbytes(size))[:size]


def _packet(segment: bytes, proto: int, to: bytes, bad: str) -> bytes:
    packet = bytearray(rings.eth(rings.ipv4(segment, proto), dst=to, src=OTHER))
    if bad:
        packet[{"ip": 25, "l4": 41 if proto == 17 else 51}[bad]] ^= 0x55
    return bytes(packet)


def udp(size: int, to: bytes = BROADCAST, bad: str = "") -> bytes:
    """A UDP datagram in a frame; `bad`: "ip" or "l4", the checksum that is wrong."""
    return _packet(rings.udp(bytes(size)), 17, to, bad)


def tcp(size: int, to: bytes = BROADCAST, bad: str = "") -> bytes:
    """A TCP segment in a frame; `bad` as above."""
    return _packet(rings.tcp(random.Random(size).randbytes(size)), 6, to, bad)


# --- transmit -------------------------------------------------------------------------------------

Send = Callable[[GuestRings], object]
DONE = TxCmd.EOP | TxCmd.IFCS | TxCmd.RS


def transmit_program(send: Send, setup: dict[int, int] | None = None) -> Program:
    """Write `setup`, let `send` post descriptors, ring once; see frames, descriptors, counters."""

    def program(card: Card) -> Seen:
        card.fresh()
        r = card.rings
        for register, value in (setup or {}).items():
            r.write(register, value)
        r.setup_tx()
        send(r)
        used = r.tx.next_to_use
        r.send(END)
        seen: Seen = {"frames": card.sent(), "TDH": r.read(Reg.TDH)}
        for index in range(used):
            seen[f"descriptor {index}"] = r.memory.read(r.tx.address(index), 16)[8:]
        return seen | {name: r.read(offset) for name, offset in SENT.items()}

    return program


def _legacy(data: bytes, **fields: int) -> Send:
    return lambda r: r.post_legacy(data, **fields)


def _pieces(whole: bytes, cuts: tuple[int, ...]) -> Send:
    parts = [whole[a:b] for a, b in itertools.pairwise((0, *cuts, len(whole)))]
    return lambda r: r.post_pieces(parts)


def _offload(packet: bytes, cso: int, popts: int) -> Send:
    def send(r: GuestRings) -> None:
        r.post_context(ipcss=14, ipcso=24, ipcse=33, tucss=34, tucso=cso)
        r.post_data(packet, popts=popts)

    return send


def _segments(size: int, mss: int) -> Send:
    def send(r: GuestRings) -> None:
        r.post_context(
            ipcss=14,
            ipcso=24,
            ipcse=33,
            tucss=34,
            tucso=50,
            paylen=size,
            hdrlen=54,
            mss=mss,
            tucmd=Tucmd.DEXT | Tucmd.TCP | Tucmd.IP | Tucmd.TSE,
        )
        command = TxCmd.DEXT | DONE | TxCmd.TSE
        r.post_data(tcp(size), dcmd=command, popts=Popts.IXSM | Popts.TXSM)

    return send


def transmits() -> Iterator[tuple[str, Program]]:
    """Legacy and extended descriptors, checksums, segmentation, tags, frames in pieces."""
    for size in (14, 20, 59, 60, 61, 64, 127, 128, 255, 594, 1023, 1024, 1513, 1514):
        yield f"transmit legacy {size}", transmit_program(_legacy(frame(size)))
    for to in (MAC, OTHER, GROUPS[0], BROADCAST):
        yield f"transmit to {to.hex()}", transmit_program(_legacy(frame(80, to)))
    for command in (TxCmd.EOP, TxCmd.EOP | TxCmd.IFCS, DONE, TxCmd.EOP | TxCmd.RS):
        yield f"transmit cmd {command:#x}", transmit_program(_legacy(frame(70), cmd=command))
    for css, cso in ((14, 24), (34, 40), (0, 12), (50, 60), (34, 34)):
        send = _legacy(udp(60), css=css, cso=cso, cmd=DONE | TxCmd.IC)
        yield f"transmit legacy checksum {css} {cso}", transmit_program(send)
    for cuts in ((1,), (14,), (1, 2, 3), (30, 60, 61), tuple(range(1, 100, 7))):
        yield f"transmit pieces {cuts}", transmit_program(_pieces(frame(200), cuts))
    for tag in (0, 1, 0x123, 0xE123, 0xFFFF):
        for vme in (0, VME):
            send = _legacy(frame(90), special=tag, cmd=DONE | TxCmd.VLE)
            setup = {Reg.CTRL: LINKED | vme, Reg.VET: 0x8100}
            yield f"transmit tag {tag:#x} {bool(vme)}", transmit_program(send, setup)
    for proto, packet, cso in (("udp", udp(100, bad="l4"), 40), ("tcp", tcp(100, bad="l4"), 50)):
        for popts in (0, Popts.IXSM, Popts.TXSM, Popts.IXSM | Popts.TXSM):
            send = _offload(packet, cso, popts)
            yield f"transmit {proto} popts {popts:#x}", transmit_program(send)
    for mss in (100, 536, 1460):
        for size in (1, 99, 100, 1000, 1460, 4000):
            yield f"transmit tso {mss} {size}", transmit_program(_segments(size, mss))


# --- receive --------------------------------------------------------------------------------------

ON = int(Rctl.EN | Rctl.BAM | Rctl.SECRC)


def receive_program(
    frames: tuple[bytes, ...], setup: dict[int, int] | None = None, rctl: int = ON
) -> Program:
    """Write `setup`, enable with `rctl`, take `frames`; see descriptors, buffers, counters."""

    def program(card: Card) -> Seen:
        card.fresh()
        r = card.rings
        r.set_mac(MAC)
        for register, value in (setup or {}).items():
            r.write(register, value)
        r.setup_rx(rctl)
        card.receive(*frames)
        seen: Seen = {"RDH": r.read(Reg.RDH)}
        for index in range(r.read(Reg.RDH)):
            entry = r.rx_descriptor(index)
            where = f"descriptor {index}"
            seen[f"{where} status"] = int(entry.status)
            seen[f"{where} errors"] = int(entry.errors)
            seen[f"{where} length"] = entry.length
            if not entry.status & RxStatus.IXSM:
                seen[f"{where} checksum"] = entry.checksum
            if entry.status & RxStatus.VP:
                seen[f"{where} special"] = entry.special
            seen[f"{where} data"] = r.memory.read(entry.addr, entry.length) if entry.length else b""
        seen |= {name: r.read(offset) for name, offset in RECEIVED.items()}
        r.write(Reg.RCTL, 0)
        for register in setup or {}:
            if register != Reg.CTRL:
                r.write(register, 0)  # QEMU's reset leaves it
        return seen

    return program


def receives() -> Iterator[tuple[str, Program]]:
    """Filters, sizes, buffers, checksums and tags of received frames."""
    modes = (ON, ON & ~Rctl.BAM, ON | Rctl.UPE, ON | Rctl.MPE, ON | Rctl.UPE | Rctl.MPE)
    for to in (MAC, OTHER, BROADCAST, *GROUPS):
        for mode in modes:
            program = receive_program((frame(80, to),), rctl=mode)
            yield f"receive {to.hex()} rctl {int(mode):#x}", program
    for mo, shift in enumerate((4, 3, 2, 0)):
        for group in GROUPS:
            value = int.from_bytes(group[4:6], "little") >> shift & 0xFFF
            setup = {Reg.MTA + 4 * (value >> 5): 1 << (value & 31)}
            program = receive_program((frame(80, group),), setup, ON | mo << 12)
            yield f"receive hash {mo} {group.hex()}", program
    for size in (60, 61, 64, 128, 255, 256, 257, 1000, 1514):
        whole = (frame(size, MAC),)
        yield f"receive size {size}", receive_program(whole)
        yield f"receive size {size} with FCS", receive_program(whole, rctl=ON & ~Rctl.SECRC)
        yield f"receive size {size} in 256", receive_program(whole, rctl=ON | Rctl.BSIZE_256)
    for size in (1518, 1519, 3000, 9000):
        whole = (frame(size, MAC),)
        yield f"receive long {size}", receive_program(whole)
        yield f"receive long {size} LPE", receive_program(whole, rctl=ON | Rctl.LPE)
    packets = {
        "udp": udp(80, MAC),
        "tcp": tcp(80, MAC),
        "bad ip": udp(80, MAC, "ip"),
        "bad udp": udp(80, MAC, "l4"),
        "bad tcp": tcp(80, MAC, "l4"),
        "other": frame(80, MAC),
    }
    for rxcsum in (0, 14, 0x100 | 14, 0x200 | 34, 0x300 | 14):
        for name, packet in packets.items():
            program = receive_program((packet,), {Reg.RXCSUM: rxcsum})
            yield f"receive checksum {rxcsum:#x} {name}", program
    tagged = (frame(12, MAC) + b"\x81\x00\x01\x23" + frame(100)[12:],)
    for vme in (0, VME):
        for vfe, table in ((0, 0), (Rctl.VFE, 0), (Rctl.VFE, 1 << (0x123 & 31))):
            setup = {Reg.CTRL: LINKED | vme, Reg.VET: 0x8100, Reg.VFTA + 4 * (0x123 >> 5): table}
            program = receive_program(tagged, setup, ON | int(vfe))
            yield f"receive tag {bool(vme)} {bool(vfe)} {table:#x}", program


def _all() -> dict[str, Program]:
    parts = (registers(), interrupts(), identity(), transmits(), receives())
    return {name: program for part in parts for name, program in part}


PROGRAMS = _all()
"""Every program by its name, whose first word is its kind."""
