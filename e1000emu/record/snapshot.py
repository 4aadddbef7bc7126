"""Snapshots of a Nic: one versioned structure, separate from the engines that it restores.

It excludes external state: host memory, the link and the frames on it, the clock.  Timers
are absolute times, so load a snapshot under a clock that shows the same time, or with `rebase`.
That moves the timers: no time passes for the device.

A file has one line of text (type, version, SHA-256 of the rest), one line of JSON and
the snapshot. The JSON has model, address and PCI configuration, for readers and checks.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec

from e1000emu.device.bars import ADDRESS_MASK
from e1000emu.device.bus import Bus
from e1000emu.device.eeprom import EepromPort, EepromState
from e1000emu.device.flash import FlashState
from e1000emu.device.flow import FlowState
from e1000emu.device.interrupts import InterruptsState
from e1000emu.device.management import Management, ManagementState
from e1000emu.device.pci import PciFunction, PciState
from e1000emu.device.phy import PhyState
from e1000emu.device.rx import RxState
from e1000emu.device.state import FOREVER, BlockState, Count
from e1000emu.device.tbi import TbiState
from e1000emu.device.tx import TxState
from e1000emu.errors import SnapshotError
from e1000emu.ports import Clock
from e1000emu.registers.models import Model, mac_of
from fastpath.errors import check_type

__all__ = ["VERSION", "NicState", "load", "load_file", "read_file", "save", "save_file"]

VERSION = 1
"""A new field does not change it; a changed meaning does."""
FILE_KIND = "e1000emu-nic-state"
FILE_VERSION = 1
MAX_FILE_BYTES = 64 << 20


class NicState(msgspec.Struct, kw_only=True):
    """The state of a Nic: a struct of each block.  A field that is added later gets a
    default."""

    version: int
    model: str
    now_ns: Annotated[int, msgspec.Meta(ge=-FOREVER, le=FOREVER)] = 0
    regs: bytes
    stats: dict[str, int]
    tx: TxState
    rx: RxState
    flow: FlowState
    buffer: bytes
    interrupts: InterruptsState
    eeprom: EepromState
    flash: FlashState | None = None
    phy: PhyState | TbiState
    pci: PciState
    io_address: Annotated[int, msgspec.Meta(ge=0, le=ADDRESS_MASK)]
    pins: int = 0
    management: ManagementState | None = None
    misuse: dict[str, list[int]] = {}
    unmodelled: dict[str, tuple[Count, Count]] = {}

    def move(self, ns: int) -> None:
        """Move every time by `ns`."""
        self.now_ns += ns
        for name in self.__struct_fields__:
            block = getattr(self, name)
            if isinstance(block, BlockState):
                block.move(ns)


class _Head(msgspec.Struct):
    """The part that is checked first."""

    version: int
    model: str


class Device(Protocol):
    """The interface of a Nic for snapshots."""

    model: Model
    bus: Bus | None
    clock: Clock
    eeprom: EepromPort
    pci: PciFunction
    management: Management

    def state(self) -> bytes:
        """Return a snapshot."""

    def save(self) -> NicState:
        """Return the state of every block."""

    def restore(self, state: NicState) -> None:
        """Put every block into `state`."""

    def power_on_reset(self) -> None:
        """Reset everything."""


def save(nic: Device) -> bytes:
    """Return the state of `nic` as bytes."""
    return msgspec.msgpack.encode(nic.save())


def load(nic: Device, data: bytes, *, rebase: bool = False) -> None:
    """Put `nic` into the state that `save` returned.

    With `rebase`, pending events keep their remaining time from the clock's current
    time.  Raises: SnapshotError if the bytes are not a snapshot, of a newer version or another
    model.
    """
    try:
        head = msgspec.msgpack.decode(data, type=_Head)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise SnapshotError(f"these {len(data)} bytes are no snapshot of a Nic: {error}") from None
    if head.version != VERSION:
        raise SnapshotError(
            f"snapshot version {head.version}: this e1000emu reads {VERSION}; use the one that "
            "saved it"
        )
    if head.model != nic.model.name:
        raise SnapshotError(
            f"snapshot of a {head.model}, this is a {nic.model.name}; make a Nic of that model"
        )
    try:
        state = msgspec.msgpack.decode(data, type=NicState)
        _fits(nic, state)
        if rebase:
            state.move(nic.clock.now_ns() - state.now_ns)
        nic.restore(state)
    except SnapshotError:
        raise
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


def _fits(nic: Device, state: NicState) -> None:
    """Raises: SnapshotError if `nic` does not match the state."""
    if nic.bus is None and state.tx.bus is not None:
        raise SnapshotError("snapshot of a Nic with a bus, this one has none; give it the same bus")
    if state.management is not None and not nic.management.attached:
        raise SnapshotError(
            "snapshot of a Nic with a management controller, this one has none; "
            "give it one (management=…)"
        )


def _address(nic: Device) -> str:
    """Return the address in the EEPROM: the part's identity, whatever a driver has set."""
    return mac_of(nic.eeprom.words).hex(":")


def save_file(nic: Device, path: str | os.PathLike[str]) -> None:
    """Write the state of `nic` to `path`: all of it or nothing, readable by its owner only.

    Raises: SnapshotError.
    """
    path = _path("save_file", path)
    facts = {"model": nic.model.name, "mac": _address(nic), "pci": nic.pci.state().config.hex()}
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


def load_file(nic: Device, path: str | os.PathLike[str]) -> None:
    """Put `nic` into the state that `save_file` wrote; no time passes for it.

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
    """Return a file's header and snapshot after checking its checksum.  Raises: SnapshotError."""
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
