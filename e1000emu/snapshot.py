"""Snapshots of a Nic: one versioned structure, apart from the engines that it restores.

It leaves out what belongs to others: host memory, the link and the frames on it, the clock.  Timers
are absolute times, so load a snapshot under a clock that shows the same time, or with `rebase`,
which moves the timers: then no time has passed for the device.

A file has one line of text (what it is, version, SHA-256 of all that follows), one line of JSON for
people and for checks (model, address, PCI configuration), and the snapshot.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from e1000emu import oldstates
from e1000emu.errors import SnapshotError
from e1000emu.management import MIN_FRAME, RECEIVE_BYTES, SEND_BYTES
from e1000emu.models import mac_of
from e1000emu.tbi import DARK, AutoNeg
from fastpath.errors import check_type
from fastpath.microwire import PHASES

if TYPE_CHECKING:
    from e1000emu.nic import Nic

__all__ = ["VERSION", "NicState", "load", "load_file", "read_file", "save", "save_file"]

VERSION = 3
"""The current version. Version 2 has the ring registers a second time, with the engines; version 1
has the engines' structures and the statistics as bytes. Both can be read (`e1000emu.oldstates`)."""
FILE_KIND = "e1000emu-nic-state"
FILE_VERSION = 1
MAX_FILE_BYTES = 64 << 20
PCI_BYTES = 256
PHY_REGISTERS = 32
IO_ADDRESS_MAX = 0xFFFFF
NEVER_NS = -(1 << 40)
"""Times before this mean that there was no assertion (`interrupts.NEVER_NS`)."""


class NicState(msgspec.Struct, kw_only=True):
    """Everything that a Nic knows.  A field that is added later gets a default."""

    version: int
    model: str
    regs: bytes
    stats: bytes | dict[str, int]
    tx: dict[str, Any]
    rx: dict[str, Any]
    interrupts: dict[str, Any]
    eeprom: dict[str, Any]
    phy: dict[str, Any]
    pci: bytes
    io_address: int
    now_ns: int = 0
    xoff_sent: bool = False
    xoff_put_off: bool = False
    """SWXOFF was written while the device was paused."""
    buffer: bytes = b""
    power_word: int = 0
    """The EEPROM's power word, of which PM_DATA shows two bytes."""
    pins: int = 0
    """Bit n: the board drives SDPn high."""
    misuse: dict[str, list[int]] = {}
    flash: dict[str, Any] = {}
    """The boot flash; empty when there is none."""
    management: dict[str, Any] = {}
    """Frames of the management controller; empty when there is none."""


def save(nic: Nic) -> bytes:
    """Return the state of `nic` as bytes."""
    return msgspec.msgpack.encode(
        NicState(
            version=VERSION,
            model=nic.model.name,
            regs=nic.regs.file.state(),
            stats=nic.stats.as_dict(),
            tx=nic.tx.state(),
            rx=nic.rx.state(),
            interrupts=nic.interrupts.state(),
            eeprom=nic.eeprom.state(),
            phy=nic.phy.state(),
            pci=nic.pci.state(),
            power_word=nic.pci.power_word,
            io_address=nic.io_address,
            now_ns=nic.clock.now_ns(),
            xoff_sent=nic.flow.xoff_sent,
            xoff_put_off=nic.flow.put_off,
            buffer=nic.buffer.state(),
            pins=nic.pins.driven,
            misuse=nic.misuse.state(),
            flash=nic.flash.state(),
            management=nic.management.state(),
        )
    )


def load(nic: Nic, data: bytes, *, rebase: bool = False) -> None:
    """Put `nic` into the state that `save` returned.

    With `rebase` events that were due in a while are due in the same while from the clock's present
    time.  Raises: SnapshotError when the bytes are no snapshot, of a newer version or another
    model.
    """
    try:
        state = msgspec.msgpack.decode(data, type=NicState)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise SnapshotError(f"these {len(data)} bytes are no snapshot of a Nic: {error}") from None
    if state.version > VERSION:
        raise SnapshotError(
            f"snapshot version {state.version}: this e1000emu reads up to {VERSION}; update it"
        )
    if state.model != nic.model.name:
        raise SnapshotError(
            f"snapshot of a {state.model}, this is a {nic.model.name}; make a Nic of that model"
        )
    if nic.bus is None and state.tx.get("bus") is not None:
        raise SnapshotError("snapshot of a Nic with a bus, this one has none; give it the same bus")
    if state.management and not nic.management.attached:
        raise SnapshotError(
            "snapshot of a Nic with a management controller, this one has none; "
            "give it one (management=…)"
        )
    try:
        if state.version < VERSION:
            oldstates.upgrade(state)
        _check(nic, state)
        if rebase:
            _shift(state, nic.clock.now_ns() - state.now_ns)
        nic.restore(state)
    except (
        AssertionError,
        AttributeError,
        IndexError,
        KeyError,
        OverflowError,
        TypeError,
        ValueError,
    ) as error:
        nic.power_on_reset()
        raise SnapshotError(
            f"snapshot is damaged ({type(error).__name__}: {error}); the Nic was powered on anew"
        ) from None


def _check(nic: Nic, state: NicState) -> None:
    """Check the fields that the blocks take unchecked.  Raises: ValueError, KeyError, TypeError."""

    def need(good: bool, what: str) -> None:
        if not good:
            raise ValueError(what)

    def number(value: Any, low: int, high: int) -> bool:
        return isinstance(value, int) and low <= value <= high

    eternity = 1 << 62
    need(number(state.now_ns, -eternity, eternity), "now_ns")
    need(number(state.io_address, 0, IO_ADDRESS_MAX), "io_address")
    need(len(state.pci) == PCI_BYTES, "pci")
    need(number(state.power_word, 0, 0xFFFF), "power_word")
    need(number(state.tx["paused_until_ns"], 0, eternity), "tx.paused_until_ns")
    if nic.model.fiber:
        _check_tbi(state.phy, need, number)
    else:
        _check_phy(state.phy, need, number)
    _check_blocks(nic, state, need, number)


Need = Callable[[bool, str], None]
Number = Callable[[Any, int, int], bool]


def _check_tbi(tbi: dict[str, Any], need: Need, number: Number) -> None:
    ones = 0xFFFFFFFF
    need(all(number(tbi[name], 0, ones) for name in ("ctrl", "txcw", "latched")), "tbi")
    need(number(tbi["config"], 0, 0xFFFF) and number(tbi["heard"], DARK, 0xFFFF), "tbi.config")
    for end in ("ours", "theirs"):
        need(len(tbi[end]) == 3, f"tbi.{end}")
        state, partner, due_ns = tbi[end]
        need(number(state, 0, len(AutoNeg) - 1) and number(partner, 0, 0xFFFF), f"tbi.{end}")
        need(number(due_ns, -1, 1 << 62), f"tbi.{end}")


def _check_phy(phy: dict[str, Any], need: Need, number: Number) -> None:
    eternity = 1 << 62
    need(len(phy["regs"]) == PHY_REGISTERS, "phy.regs")
    need(all(number(value, 0, 0xFFFF) for value in phy["regs"]), "phy.regs")
    need(number(phy["due_ns"], -1, eternity), "phy.due_ns")
    need(number(phy["applied"], 0, 0xFFFF), "phy.applied")
    need(len(phy["pages"]) <= 1 << 16, "phy.pages")
    for page, register, value in phy["pages"]:
        need(all(number(n, 0, 0xFFFF) for n in (page, register, value)), "phy.pages")
    up, speed, full, *pauses = phy["link"]
    need(len(pauses) == 2 and speed in (10, 100, 1000), "phy.link")
    need(all(isinstance(flag, bool) for flag in (up, full, *pauses)), "phy.link")


def _check_blocks(nic: Nic, state: NicState, need: Need, number: Number) -> None:
    eternity = 1 << 62
    words = state.eeprom["words"]
    need(len(words) == len(nic.eeprom.words), "eeprom.words")
    need(all(number(word, 0, 0xFFFF) for word in words), "eeprom.words")
    for name in ("busy_until_ns", "writes"):
        need(number(state.eeprom[name], 0, eternity), f"eeprom.{name}")
    need(number(state.eeprom["address"], 0, len(words) - 1), "eeprom.address")
    need(number(state.eeprom["shift"], 0, 0xFFFF), "eeprom.shift")
    pending, phase = state.eeprom["pending"], state.eeprom["phase"]
    need(phase in PHASES, "eeprom.phase")
    if pending is not None:
        operation, address, data = pending
        need(operation in ("one", "all"), "eeprom.pending")
        need(number(address, 0, len(words) - 1) and number(data, 0, 0xFFFF), "eeprom.pending")
    shifts_in = phase == "DATA_IN" and state.eeprom["cs"]
    need(pending is not None or not shifts_in, "eeprom.pending")
    bits = {"COMMAND": 1 + nic.eeprom.chip.address_bits, "ARMED": 16}.get(phase, 15)
    need(number(state.eeprom["bits"], 0, bits), "eeprom.bits")
    if state.flash:
        need(number(state.flash["busy_until_ns"], 0, eternity), "flash.busy_until_ns")
        need(isinstance(state.flash["data"], bytes), "flash.data")
    if state.management:
        waiting, sending = state.management["waiting"], state.management["sending"]
        frames = [*waiting, *([] if sending is None else [sending])]
        sizes = [len(frame) for frame in frames if isinstance(frame, bytes)]
        need(len(sizes) == len(frames), "management")
        need(all(MIN_FRAME <= size <= SEND_BYTES for size in sizes), "management")
        need(sum(sizes[: len(waiting)]) <= RECEIVE_BYTES, "management.waiting")
    irq = state.interrupts
    need(number(irq["last_ns"], -eternity, eternity), "interrupts.last_ns")
    need(number(irq["assertions"], 0, eternity), "interrupts.assertions")
    for name in ("rx", "tx"):
        need(len(irq[name]) == 2, f"interrupts.{name}")
        need(all(number(at, -1, eternity) for at in irq[name]), f"interrupts.{name}")


def _shift(state: NicState, ns: int) -> None:
    """Move every time by `ns`."""
    if state.phy.get("due_ns", -1) >= 0:
        state.phy["due_ns"] += ns
    for end in ("ours", "theirs"):  # of a fibre
        if end in state.phy and state.phy[end][2] >= 0:
            state.phy[end][2] += ns
    if state.tx["paused_until_ns"] > 0:
        state.tx["paused_until_ns"] += ns
    if (on_bus := state.tx.get("bus")) is not None:
        if (on_bus["leaves_ns"] or 0) > 0:
            on_bus["leaves_ns"] += ns
        for name in ("free_ps", "until_ps", "data_ps"):
            if on_bus[name]:
                on_bus[name] = max(0, on_bus[name] + ns * 1000)
    if state.eeprom["busy_until_ns"] > 0:
        state.eeprom["busy_until_ns"] += ns
    if state.flash and state.flash["busy_until_ns"] > 0:
        state.flash["busy_until_ns"] += ns
    irq = state.interrupts
    if irq["last_ns"] > NEVER_NS:
        irq["last_ns"] += ns
    for name in ("rx", "tx"):
        irq[name] = [at + ns if at >= 0 else at for at in irq[name]]
    state.now_ns += ns


def _address(nic: Nic) -> str:
    """Return the address in the EEPROM: what the part is, whatever a driver has written since."""
    return mac_of(nic.eeprom.words).hex(":")


def save_file(nic: Nic, path: str | os.PathLike[str]) -> None:
    """Write the state of `nic` to `path`: all of it or nothing, for its owner's eyes only.

    Raises: SnapshotError.
    """
    path = _path("save_file", path)
    facts = {"model": nic.model.name, "mac": _address(nic), "pci": nic.pci.state().hex()}
    body = json.dumps(facts, separators=(",", ":")).encode() + b"\n" + nic.state()
    head = f"{FILE_KIND} {FILE_VERSION} {hashlib.sha256(body).hexdigest()}\n".encode()
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(fd, "wb") as file:
            file.write(head + body)
            file.flush()
            os.fsync(fd)
        os.replace(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise SnapshotError(f"state {path}: cannot be written: {error.strerror}") from None


def load_file(nic: Nic, path: str | os.PathLike[str]) -> None:
    """Put `nic` into the state that `save_file` wrote; for it no time has passed.

    Raises: SnapshotError, and then the Nic is as at power-on: damage, a newer version, another
    model or address.
    """
    facts, state = read_file(path)
    if facts["model"] != nic.model.name or facts["mac"] != _address(nic):
        raise SnapshotError(
            f"state {path}: of a {facts['model']} with address {facts['mac']}, this is a "
            f"{nic.model.name} with {_address(nic)}; start with the same --model and --mac"
        )
    try:
        load(nic, state, rebase=True)
    except SnapshotError as error:
        raise SnapshotError(f"state {path}: {error}") from None


def _path(where: str, path: str | os.PathLike[str]) -> Path:
    check_type(where, "path", path, (str, os.PathLike), "the path of a file")
    return Path(path)


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, Any], bytes]:
    """Return a file's facts and snapshot, its checksum being right.  Raises: SnapshotError."""
    path = _path("read_file", path)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SnapshotError(f"state {path}: cannot be read: {error.strerror}") from None
    head, _, body = data.partition(b"\n")
    kind, _, rest = head.decode("ascii", "replace").partition(" ")
    version, _, digest = rest.partition(" ")
    if kind != FILE_KIND or not version.isascii() or not version.isdigit():
        raise SnapshotError(f"state {path}: is no state of a NIC; name another file")
    if int(version[:9]) != FILE_VERSION:
        raise SnapshotError(
            f"state {path}: version {version[:9]}, this e1000emu reads {FILE_VERSION}"
        )
    if len(data) > MAX_FILE_BYTES or hashlib.sha256(body).hexdigest() != digest:
        raise SnapshotError(f"state {path}: is damaged (checksum); remove it to start anew")
    line, _, state = body.partition(b"\n")
    return json.loads(line), state
