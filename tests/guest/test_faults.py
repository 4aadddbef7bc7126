"""A guest's stock driver while the hardware fails, each way in turn, in one boot.

It goes on; or it stands still for a reason that `explain` gives, and goes on when that is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from e1000emu.guest import GuestImage
from e1000emu.insight.faults import Faults
from tests.guest.setup import (
    GUEST,
    WAIT_S,
    OnTap,
    configure,
    ping,
    tcp_from_peer,
    tcp_to_peer,
    wait_carrier,
)
from tests.linux.peer import LINUX
from tests.support import eventually, require

pytestmark = [pytest.mark.netns, pytest.mark.slow]

MS = 1_000_000
OUTSIDE = "outside the memory the device may reach"


@pytest.fixture(scope="module", params=[False, True], ids=["clock", "threads"])
def failing(request: pytest.FixtureRequest, image: GuestImage) -> Iterator[OnTap]:
    """A guest whose card fails when a test says so."""
    require.taps()
    with OnTap(image, "82540EM", faults=Faults(), threads=request.param) as made:
        yield made


@contextmanager
def injected(failing: OnTap, **what: Any) -> Iterator[Callable[[], dict[str, int]]]:
    """Let the hardware fail while inside; what is yielded tells what was injected."""
    faults = failing.nic.faults

    def counts() -> dict[str, int]:
        with failing.clock.lock, failing.server.guard:
            return dict(faults.counts)

    with failing.clock.lock, failing.server.guard:
        faults.counts.clear()
        faults.change(Faults(**what))
    try:
        yield counts
    finally:
        with failing.clock.lock, failing.server.guard:
            faults.change(Faults())


def answers(failing: OnTap) -> bool:
    """Tell whether the guest gets through to its peer."""
    return failing.guest.run(f"ping -c 1 -W 1 {LINUX}").returncode == 0


def explained(failing: OnTap) -> str:
    """Return why nothing moves, and forget what was noted."""
    with failing.clock.lock:
        said = "\n".join(failing.nic.explain())
        failing.nic.misuse.clear()
    return said


@pytest.mark.parametrize(
    "what",
    [
        {"flap_ns": 1000 * MS, "down_ns": 50 * MS},
        {"irq_late": 0.5, "irq_late_ns": 3 * MS},
        {"overrun": 0.2},
        {"writeback_ns": 2 * MS},
    ],
    ids=lambda what: next(iter(what)),
)
def test_traffic_goes_on(failing: OnTap, what: dict[str, Any]) -> None:
    with injected(failing, **what) as counts:
        deadline = time.monotonic() + WAIT_S
        while not sum(counts().values()):
            assert time.monotonic() < deadline
            tcp_to_peer(failing.guest, failing.peer)
            tcp_from_peer(failing.guest, failing.peer)
    wait_carrier(failing.guest)
    ping(failing.guest)


def test_a_phy_that_is_late_gets_its_time(failing: OnTap) -> None:
    with injected(failing, phy_busy=0.5, phy_busy_ns=MS // 10) as counts:
        failing.guest.run("ip link set eth0 down; ip link set eth0 up; ethtool -r eth0").check()
        wait_carrier(failing.guest)
        ping(failing.guest)
    assert counts()["phy_busy"] > 0


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ({"irq_lost": 1.0}, "nobody has read ICR"),
        ({"reset_ns": 100 * MS}, "EN"),
        ({"abort": (("tx-descriptor", 1),)}, OUTSIDE),
        ({"abort": (("rx-descriptor", 1),)}, OUTSIDE),
    ],
    ids=["irq_lost", "reset", "tx-descriptor", "rx-descriptor"],
)
def test_what_stands_still_says_why_and_goes_on_later(
    failing: OnTap, what: dict[str, Any], reason: str
) -> None:
    explained(failing)
    with injected(failing, **what) as counts:
        for _ in range(20):
            if not answers(failing):
                break
        assert sum(counts().values()) > 0
        assert reason in explained(failing)
    if not answers(failing):  # the kernel's watchdog has nothing to see in a ring that has room
        failing.guest.run("ip link set eth0 down; ip link set eth0 up").check()
        wait_carrier(failing.guest)
    ping(failing.guest)
    tcp_to_peer(failing.guest, failing.peer)
    tcp_from_peer(failing.guest, failing.peer)


@pytest.mark.parametrize("kind", ["tx-data", "rx-data"])
def test_a_buffer_that_nobody_answers_for_costs_its_frame(failing: OnTap, kind: str) -> None:
    explained(failing)
    with injected(failing, abort=((kind, 1),)) as counts:
        tcp_to_peer(failing.guest, failing.peer)
        tcp_from_peer(failing.guest, failing.peer)
        assert counts() == {f"abort {kind}": 1}
        assert OUTSIDE in explained(failing)


def test_wrong_bits_in_the_eeprom_are_seen_by_both(failing: OnTap) -> None:
    guest, eeprom = failing.guest, failing.nic.eeprom
    words = list(eeprom.words)
    with injected(failing, eeprom_bits=1, seed=2):
        guest.run(f"rmmod {failing.driver}; modprobe {failing.driver}").check()
        assert "EEPROM Checksum Is Not Valid" in guest.dmesg()
        assert "EEPROM" in explained(failing)
    with failing.clock.lock:
        eeprom.words[:] = words
    guest.run(f"rmmod {failing.driver}; modprobe {failing.driver}").check()
    configure(guest)
    ping(guest)


def test_a_card_that_is_pulled_out_leaves_a_guest_that_works(failing: OnTap) -> None:
    guest = failing.guest
    with injected(failing, remove_ns=MS) as counts:
        eventually(lambda: counts().get("remove"), seconds=WAIT_S)
    assert failing.peer.run("ping", "-c1", "-W1", GUEST, check=False).returncode != 0
    guest.run("ethtool -S eth0")
    guest.run("ip link set eth0 down").check()
    guest.run(f"rmmod {failing.driver}").check()
    assert guest.run("echo alive").check().stdout == "alive\n"
