"""A device that is saved and restored after every event behaves as one that never was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from e1000emu.device.nic import Nic
from e1000emu.links import LinkCaps
from e1000emu.registers.regs import TABLE, reg
from e1000emu.testing.bench import BENCH_MAC, POISON, enable_bus_master
from e1000emu.testing.guest import GuestRings
from e1000emu.testing.recorders import RecordingLink
from fastpath.base.batch import FrameBatch
from fastpath.base.dma import DmaTable, HostMemory
from tests.e1000emu.common import frame
from tests.e1000emu.device.test_flow import pause
from tests.support import examples

DESCRIPTORS = 16


class Life:
    """The ports of one device as long as it is the one that works; then they lead nowhere."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.alive = True
        self.starting = True
        """Being made and loaded: what it tells the world meanwhile, it tells nobody."""
        self.level = False
        self.port: Any = None

    # clock
    def __getattr__(self, name: str) -> Any:
        return getattr(self.world.clock, name)

    def call_at(self, when_ns: int, fn: Callable[[], Any]) -> Any:
        return self.world.clock.call_at(when_ns, lambda: fn() if self.alive else None)

    def call_soon(self, fn: Callable[[], Any]) -> None:
        self.world.clock.call_soon(lambda: fn() if self.alive else None)

    # line
    def set_level(self, level: bool) -> None:
        self.level = level
        if self.alive and not self.starting:
            self.world.line(level)

    # link
    @property
    def carrier(self) -> bool:
        return self.world.link.carrier

    @property
    def speed_mbps(self) -> int:
        return self.world.link.speed_mbps

    def attach(self, port: Any) -> None:
        self.port = port

    def detach(self) -> None:
        self.port = None

    gap_bytes = 0

    @property
    def busy_ns(self) -> int:
        return self.world.busy_ns

    @property
    def caps(self) -> LinkCaps:
        return LinkCaps(timed=self)

    def tx_room(self) -> int:
        return self.world.link.tx_room() if self.alive else 0

    def transmit(self, batch: FrameBatch) -> None:
        assert not self.starting
        self.world.sent(batch)
        self.world.link.transmit(batch)

    def rx_ready(self) -> None:
        if not self.starting:
            self.world.link.rx_ready()

    # pins
    def pin(self, number: int, level: bool) -> None:
        if not self.starting:
            self.world.log.append((number, level))

    # PME#
    def pme(self, level: bool) -> None:
        if not self.starting:
            self.world.log.append(("pme", level))


class World:
    """Memory, clock, wire and a driver around a device, which `reborn` exchanges for its image."""

    def __init__(self, model: str, bus: str | None = None) -> None:
        self.model, self.bus = model, bus
        self.clock = VirtualClock()
        self.busy_ns = 0
        self.memory = HostMemory(4 << 20, base=0x10_0000, poison=POISON)
        self.dma = DmaTable()
        self.dma.add(self.memory.base, self.memory.buffer)
        self.link = RecordingLink()
        self.log: list[Any] = []
        self.births = 0
        self.born(None)
        enable_bus_master(self.nic)
        self.guest = GuestRings(self, self.memory, tx_count=DESCRIPTORS, rx_count=DESCRIPTORS)
        self.scratch = self.memory.alloc(2048 * DESCRIPTORS)
        self.guest.up(mac=BENCH_MAC, ims=0)

    def born(self, state: bytes | None) -> None:
        self.life = life = Life(self)
        ports: Any = life
        self.nic = Nic(
            memory=self.dma, irq=ports, link=ports, clock=ports, model=self.model, mac=BENCH_MAC,
            on_pme=life.pme, on_pin=life.pin, bus=self.bus,
        )  # fmt: skip
        if state is not None:
            self.nic.load_state(state)
        life.starting = False
        self.link.port = life.port

    def reborn(self) -> None:
        """Save, throw the device away, make another one, restore."""
        old, state = self.life, self.nic.state()
        old.alive = False
        self.born(state)
        assert self.life.level == old.level
        got = self.nic.state()
        a, b = msgspec.msgpack.decode(state), msgspec.msgpack.decode(got)
        assert got == state, [key for key in a if a[key] != b[key]]
        self.births += 1

    def sent(self, batch: FrameBatch) -> None:
        """Of a device with a bus: its wire has 1 Gbit/s."""
        if self.bus is not None:
            for n in range(len(batch)):
                self.busy_ns = max(self.busy_ns, self.clock.now_ns()) + 8 * (len(batch[n]) + 24)
                self.log.append(("sent", self.clock.now_ns(), self.busy_ns))

    def line(self, level: bool) -> None:
        self.log.append(("line", self.clock.now_ns(), level))

    # the slot that the driver has
    def __getattr__(self, name: str) -> Any:
        return getattr(self.nic.slot, name)

    # --- events ----------------------------------------------------------------------------------

    def do(self, what: str, *args: Any) -> Any:
        """Let one event happen; return what can be seen of it."""
        match what:
            case "write":
                return self.nic.slot.bar_write(0, args[0], args[1], 4)
            case "read":
                return self.nic.slot.bar_read(0, args[0], 4)
            case "config":
                return self.nic.slot.config_write(args[0], args[1], 2)
            case "config_read":
                return self.nic.slot.config_read(args[0], 4)
            case "send":
                return self.send(*args)
            case "frames":
                return self.link.inject(*[frame(n) for n in args[0]], hold=args[1])
            case "pause":
                return self.link.inject(pause(args[0]))
            case "cable":
                return self.link.set_carrier(args[0])
            case "pin":
                return self.nic.drive_pin(*args)
            case "room":
                return self.link.open_room(args[0])
            case "give":
                tail = (self.nic.slot.bar_read(0, reg("RDT").offset, 4) + args[0]) % DESCRIPTORS
                return self.nic.slot.bar_write(0, reg("RDT").offset, tail, 4)
            case "eeprom":
                return [self.pins(bits) for bits in args[0]]
            case "mdic":
                self.nic.slot.bar_write(0, reg("MDIC").offset, args[0] | 1 << 21, 4)
                return self.nic.slot.bar_read(0, reg("MDIC").offset, 4)
        assert what == "wait"
        return self.clock.run_for(args[0])

    def pins(self, bits: int) -> int:
        self.nic.slot.bar_write(0, reg("EECD").offset, 0x40 | bits, 4)
        return int(self.nic.slot.bar_read(0, reg("EECD").offset, 4))

    def send(self, sizes: list[int], command: int, last: bool) -> None:
        tail = self.nic.slot.bar_read(0, reg("TDT").offset, 4) % DESCRIPTORS
        base = self.guest.tx.base
        for i, size in enumerate(sizes):
            at = self.scratch + 2048 * ((tail + i) % DESCRIPTORS)
            self.memory.write(at, frame(size))
            eop = int(last and i == len(sizes) - 1)
            where = base + 16 * ((tail + i) % DESCRIPTORS)
            self.memory.write64(where, at)
            self.memory.write64(where + 8, size | (command & ~1 | eop) << 24)
        self.nic.slot.bar_write(0, reg("TDT").offset, (tail + len(sizes)) % DESCRIPTORS, 4)

    def seen(self) -> dict[str, Any]:
        """All that the world has of the device by now."""
        return {
            "time": self.clock.now_ns(),
            "memory": bytes(self.memory.buffer),
            "frames": list(self.link.frames),
            "ready": self.link.rx_ready_calls,
            "level": self.life.level,
            "log": list(self.log),
        }


SETTLED = [
    "CTRL", "CTRL_EXT", "EECD", "EERD", "RCTL", "TCTL", "ICS", "IMS", "IMC", "ITR", "RDTR", "RADV",
    "TIDV", "TADV", "FCRTL", "FCRTH", "PBA", "RXCSUM", "RSRPD", "WUC", "WUFC", "VET", "FCT",
    "LEDCTL", "TDH", "RDH", "TXDCTL", "MANC", "ICR", "WUS",
]  # fmt: skip
OFFSETS = sorted({r.offset for r in TABLE if r.count == 1} | {0x5400, 0x5404, 0x5200, 0x5600})
VALUES = st.one_of(
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 31).map(lambda n: 1 << n),
    st.sampled_from([0, 0xFFFF, 0x9F, 0x8002, 0x04008002, 0x0003F0FA, 0x08000041, 0x10000041]),
)
EVENTS = st.one_of(
    st.tuples(
        st.just("write"), st.sampled_from(SETTLED).map(lambda name: reg(name).offset), VALUES
    ),
    st.tuples(st.just("write"), st.sampled_from(OFFSETS), VALUES),
    st.tuples(st.just("read"), st.sampled_from(OFFSETS)),
    st.tuples(
        st.just("config"),
        st.sampled_from([4, 0xE0, 0x10]),
        st.sampled_from([7, 3, 0x103, 0x407, 0]),
    ),
    st.tuples(st.just("config_read"), st.sampled_from([0, 4, 0xE0])),
    st.tuples(
        st.just("send"),
        st.lists(st.integers(1, 1514), min_size=1, max_size=4),
        st.sampled_from([0x8, 0x88, 0xA, 0x0]),
        st.booleans(),
    ),
    st.tuples(
        st.just("frames"), st.lists(st.integers(60, 1514), min_size=1, max_size=20), st.booleans()
    ),
    st.tuples(st.just("pause"), st.sampled_from([0, 1, 200, 0xFFFF])),
    st.tuples(st.just("cable"), st.booleans()),
    st.tuples(st.just("room"), st.sampled_from([None, 0, 1, 5])),
    st.tuples(st.just("pin"), st.sampled_from([0, 1, 6, 7]), st.booleans()),
    st.tuples(st.just("give"), st.integers(1, 8)),
    st.tuples(st.just("eeprom"), st.lists(st.integers(0, 7), min_size=1, max_size=12)),
    st.tuples(
        st.just("mdic"), st.builds(lambda op, n, v: op << 26 | n << 16 | v,
                                   st.integers(1, 2), st.integers(0, 31), st.integers(0, 0xFFFF))
    ),
    st.tuples(st.just("wait"), st.sampled_from([1, 256, 1024, 50_000, 3_000_000, 2_000_000_000])),
)  # fmt: skip


def compare(model: str, events: list[tuple[Any, ...]], bus: str | None = None) -> World:
    """Run the events twice, once with a device that is exchanged after each."""
    plain, renewed = World(model, bus), World(model, bus)
    for world in (plain, renewed):
        world.do("wait", 3_000_000_000)
    renewed.reborn()
    for n, event in enumerate(events):
        expected, got = plain.do(*event), renewed.do(*event)
        assert got == expected, (n, event)
        assert renewed.nic.state() == plain.nic.state(), (n, event, _differences(plain, renewed))
        renewed.reborn()
        if n % 8 == 7:
            assert renewed.seen() == plain.seen(), (n, event)
    for world in (plain, renewed):
        world.do("wait", 10_000_000_000)
    assert renewed.nic.state() == plain.nic.state(), _differences(plain, renewed)
    assert renewed.seen() == plain.seen()
    return renewed


def _differences(a: World, b: World) -> dict[str, Any]:
    """Name what differs in two states."""
    one, two = (msgspec.msgpack.decode(world.nic.state()) for world in (a, b))
    return {
        key: (one[key], two[key]) if not isinstance(one[key], bytes) else "bytes differ"
        for key in one
        if one[key] != two[key]
    }


def clocked(bits: str) -> list[tuple[Any, ...]]:
    """Return a command to the EEPROM, each level of its pins an event; CS falls in the end."""
    levels = [4 * int(bit) | sk for bit in bits for sk in (0, 1)]
    return [("eeprom", [2 | level]) for level in (0, *levels)] + [("eeprom", [0])]


@settings(max_examples=examples(100))
@given(
    st.sampled_from(["82540EM", "82545EM", "82544GC"]),
    st.lists(EVENTS, min_size=1, max_size=40),
)
@example("82540EM", [("frames", [60] * 20, True), ("frames", [1514] * 20, True), ("give", 5)])
@example("82540EM", [("room", 0), ("send", [60, 60], 0x8, True), ("room", None)])
@example("82540EM", [("send", [700], 0x8, False), ("send", [100], 0x9, True)])
@example("82540EM", [("write", 0x2800, 0)])  # RDBAL: no memory answers there
@example(
    "82540EM",
    clocked("100110000")
    + clocked("101" + "000101" + "1100101001011010")
    + [("wait", 3_000_000)]
    + clocked("110" + "000101" + "0" * 17),
)
def test_restored_after_every_event(model: str, events: list[tuple[Any, ...]]) -> None:
    world = compare(model, events)
    assert world.births == len(events) + 1


FETCHED = [
    ("send", [1500] * 4, 0x9, True),
    ("wait", 1024),
    ("send", [60, 300], 0x8, False),
    ("wait", 8000),
    ("pause", 200),
    ("send", [1000] * 3, 0x9, True),
    ("wait", 50_000),
    ("pause", 0),
]


@settings(max_examples=examples(60))
@given(
    st.sampled_from(["pci", "pci-66", "pci-66,latency=5us"]),
    st.lists(
        st.one_of(
            EVENTS,
            st.tuples(st.just("wait"), st.integers(1, 30_000)),
            st.tuples(
                st.just("write"),
                st.sampled_from([reg(name).offset for name in ("TXDMAC", "TDT", "TCTL", "PBA")]),
                VALUES,
            ),
        ),
        min_size=1,
        max_size=30,
    ),
)
@example("pci", FETCHED)
@example("pci", [("write", reg("TDFH").offset, 1)])
@example("pci", [("write", reg("TXDMAC").offset, 1), *FETCHED])
@example("pci-66", [*FETCHED, ("write", reg("TCTL").offset, 8), ("wait", 1000), *FETCHED])
def test_restored_in_the_middle_of_a_transfer(bus: str, events: list[tuple[Any, ...]]) -> None:
    compare("82540EM", events, bus)
