"""LinkCaps: what a link can do is one object, handed on by middleware and read at plug-in."""

from __future__ import annotations

import gc
import re
from pathlib import Path
from typing import Any

import pytest

from e1000emu.clock import RealClock, VirtualClock
from e1000emu.device.nic import Nic
from e1000emu.errors import ArgumentError, ArgumentTypeError
from e1000emu.links import Capture, FarEnd, Hub, Impair, LinkCaps, NullLink, Pace, Switch, pair
from e1000emu.links.caps import link_caps
from e1000emu.links.handover import Handover
from e1000emu.links.station import Station
from e1000emu.testing.bench import enable_bus_master
from e1000emu.testing.guest import GuestRings
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from fastpath.base.dma import DmaTable, HostMemory
from tests.e1000emu.common import frame, wr
from tests.e1000emu.links.ports import RecordingPort

ROOT = Path(__file__).parents[3]


class Plain:
    """A stranger's link: the methods of the protocol, no `caps`, no base class."""

    carrier, speed_mbps = True, 1000

    def __init__(self, clock: VirtualClock | None = None, **attributes: Any) -> None:
        self.port: Any = None
        self.frames: list[bytes] = []
        if clock is not None:
            self.clock = clock
        for name, value in attributes.items():
            setattr(self, name, value)

    def attach(self, port: Any) -> None:
        self.port = port

    def detach(self) -> None:
        self.port = None

    def tx_room(self) -> int:
        return 1000

    def transmit(self, batch: Any) -> None:
        self.frames += [bytes(batch[i]) for i in range(len(batch))]

    def rx_ready(self) -> None: ...


def card(clock: VirtualClock, link: Any) -> tuple[Nic, GuestRings]:
    memory, dma = HostMemory(1 << 20), DmaTable()
    dma.add(memory.base, memory.buffer)
    nic = Nic(memory=dma, irq=RecordingLine(clock), link=link, clock=clock)
    enable_bus_master(nic)
    guest = GuestRings(nic.slot, memory)
    guest.up()
    clock.run_for(5_000_000_000)
    return nic, guest


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_link_without_caps_carries_frames(wrapped: bool, tmp_path: Path) -> None:
    clock = VirtualClock()
    link = Plain(clock)
    nic, guest = card(clock, Capture(link, tmp_path / "a.pcapng") if wrapped else link)  # type: ignore[arg-type]
    guest.post_legacy(frame(60))
    wr(nic, "TDT", guest.tx.next_to_use)
    assert link.frames == [frame(60)]
    assert nic.caps.shared is None
    nic.halt()


def test_a_link_without_caps_has_the_default_of_each() -> None:
    clock = VirtualClock()
    assert link_caps("x", Plain()) == LinkCaps()
    assert link_caps("x", Plain(clock)) == LinkCaps(clock=clock)
    assert (LinkCaps().full_duplex, LinkCaps().far_end) == (True, None)


@pytest.mark.parametrize("caps", [{"gso_max_bytes": 9000}, 9000, LinkCaps])
def test_caps_of_a_wrong_type_are_refused(caps: object) -> None:
    clock = VirtualClock()
    wrong = r"caps=.*is of type \w+; give a LinkCaps, or leave it out"
    for use in (lambda: card(clock, Plain(caps=caps)), lambda: Impair(Plain(caps=caps))):  # type: ignore[arg-type]
        with pytest.raises(ArgumentTypeError, match=wrong):
            use()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"gso_max_bytes": -1}, "gso_max_bytes=-1 is out of range; give 0 to 65535 bytes"),
        ({"gso_max_bytes": 1.5}, "gso_max_bytes=1.5 is a float, not an int"),
        ({"gso_udp": 1}, "gso_udp=1 is of type int; give True or False"),
        ({"timed": True}, "timed=True is of type bool without gap_bytes"),
        ({"shared": Station}, "shared=<class .*Station'> is of type type without station"),
        ({"fibre": 3}, "fibre=3 is of type int without tx_config"),
        ({"negotiation": FarEnd()}, "negotiation=.* is of type FarEnd without full_duplex"),
        ({"station": None}, "no argument station=None; there are: clock, fibre, "),
    ],
)
def test_what_is_no_capability(given: dict[str, Any], error: str) -> None:
    with pytest.raises(ArgumentError, match=error):
        LinkCaps(**given)


def test_each_part_of_a_link_comes_through_middleware() -> None:
    clock = VirtualClock()
    a, _ = pair(clock, rate_bps=1_000_000_000)
    hub = Hub(clock).ports[0]
    a.far_end = FarEnd(pause=False)
    for wrap in (
        lambda link: Impair(link, loss=0.5),
        lambda link: Impair(Impair(link, loss=0.5), delay_ns=1),
    ):
        over, shared = wrap(a).caps, wrap(hub).caps
        assert (over.timed, over.fibre, over.shared) == (a, a, None)
        assert (over.full_duplex, over.far_end) == (True, a.far_end)
        assert (shared.timed, shared.fibre, shared.shared) == (hub, None, hub)
        assert not shared.full_duplex


def test_a_wire_that_nobody_shares_stays_so_through_middleware(tmp_path: Path) -> None:
    clock = VirtualClock()
    link = Capture(Impair(NullLink(clock), loss=0.1), tmp_path / "a.pcapng")
    nic, _ = card(clock, link)
    assert nic.caps.shared is None
    assert (link.caps.shared, link.caps.timed, link.caps.fibre) == (None, None, None)
    nic.halt()


def test_only_a_queue_passes_super_frames_on() -> None:
    link = RecordingLink(gso_max_bytes=9000)
    real = RealClock()
    for wrap, want in ((Handover, 9000), (Impair, 0), (Pace, 0)):
        made: Any = wrap(link, clock=real)  # type: ignore[arg-type]
        assert made.caps.gso_max_bytes == want
    real.close()


def test_two_wires_are_busy_until_both_are_free() -> None:
    clock = VirtualClock()
    near, _ = pair(clock, rate_bps=1_000_000_000)
    link = Impair(near, rate_bps=10_000_000)
    timed = link.caps.timed
    assert timed is not None
    assert timed is not near
    timed.gap_bytes = 20
    assert (near.gap_bytes, timed.gap_bytes, timed.busy_ns) == (20, 20, 0)


def test_a_port_of_another_thread_hears_of_wire_and_fibre_with_the_guard_held() -> None:
    clock = VirtualClock()
    end, far = pair(clock)
    far.attach(RecordingPort(NullLink(clock)))
    held: list[str] = []

    class Guard:
        def __enter__(self) -> None:
            held.append("in")

        def __exit__(self, *exc: object) -> None:
            held.append("out")

    link = Handover(end, clock=clock)
    link.guard = Guard()  # type: ignore[assignment]
    end.attach(RecordingPort(NullLink(clock)))
    fibre = link.caps.fibre
    assert fibre is not None
    fibre.on_rx_config = lambda: held.append("told")
    far.tx_config = 0x4020
    clock.run_for(1)
    assert (held, fibre.rx_config) == (["in", "told", "out"], 0x4020)
    fibre.tx_config, fibre.on_rx_config = 7, None
    assert (end.tx_config, end.on_rx_config) == (7, None)


def test_a_device_asks_for_caps_once() -> None:
    asked = []

    class Counted(Plain):
        @property
        def caps(self) -> LinkCaps:
            asked.append(1)
            return LinkCaps()

    clock = VirtualClock()
    nic, guest = card(clock, Counted())
    for _ in range(3):
        guest.post_legacy(frame(60))
        wr(nic, "TDT", guest.tx.next_to_use)
    assert asked == [1]
    nic.halt()


def test_no_other_file_guesses_what_a_link_has() -> None:
    names = (
        "gso_max_bytes|gso_udp|gap_bytes|busy_ns|station|far_end|tx_config|rx_config|full_duplex"
    )
    guess = re.compile(rf'(?:getattr|hasattr)\([^)]*"(?:{names})"')
    found = [p for p in (ROOT / "e1000emu").rglob("*.py") if guess.search(p.read_text())]
    assert found == []


def test_asking_for_caps_leaves_attributes_inline() -> None:
    """An object whose `__dict__` was asked for has its attributes read through that dictionary."""
    port = Switch(VirtualClock()).port()
    assert port.caps.negotiation is port
    assert not any(isinstance(held, dict) for held in gc.get_referents(port))
