"""Wrong arguments of public constructors and functions: an error under E1000Error that names where,
the argument, the value and what to give. Nothing is rounded, cut or taken for something else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.errors import E1000Error
from e1000emu.lab import add_nic, lan, two_hosts
from e1000emu.links import (
    Capture,
    Generator,
    Impair,
    NullLink,
    Passt,
    PcapReplay,
    QemuStream,
    Switch,
    pair,
)
from e1000emu.nic import Nic
from stack.host import Host
from stack.ipv4.arp import arp_req_set

CLOCK = VirtualClock()
NAN = float("nan")


def host(**options: Any) -> Host:
    return Host(name="h", clock=VirtualClock(), drivers=False, **options)


def nic(**options: Any) -> Nic:
    h = Host(name="h", clock=VirtualClock())
    return Nic(
        memory=h.dma_table(),
        irq=h.irq_line(1),
        link=NullLink(h.clock),
        clock=h.clock,
        **options,
    )


def impair(**options: Any) -> Impair:
    return Impair(NullLink(VirtualClock()), **options)


def arp(**given: Any) -> None:
    h = host()
    arp_req_set(h.dev("lo"), **{"ip": 0x0A000001, "ha": bytes(6), **given})


WRONG: list[tuple[Callable[[], Any], str, str]] = [
    # what is called, the argument that the message names, what it says to give
    (lambda: VirtualClock(1.5), "start_ns=1.5", "give an int, 2"),
    (lambda: VirtualClock(-1), "start_ns=-1", "give 0 to "),
    (lambda: VirtualClock().run_for(1e9), "duration_ns=1000000000.0", "an int, 1000000000"),
    (lambda: VirtualClock().run_for(-5), "duration_ns=-5", "0 or more"),
    (lambda: VirtualClock().run_for(NAN), "duration_ns=nan", "0 or more"),
    (lambda: VirtualClock().run_for(True), "duration_ns=True", "bool"),
    (lambda: VirtualClock().run_until(2.0), "when_ns=2.0", "an int, 2"),
    (lambda: VirtualClock().run_until_idle(-1), "limit_ns=-1", "0 or more"),
    (lambda: VirtualClock().call_at(1.5, print), "when_ns=1.5", "an int"),
    (lambda: pair(CLOCK, latency_ns=-1), "latency_ns=-1", "0 or more ns"),
    (lambda: pair(CLOCK, latency_ns=1e6), "latency_ns=1000000.0", "an int, 1000000"),
    (lambda: pair(CLOCK, rate_bps=-1), "rate_bps=-1", "1 or more"),
    (lambda: pair(CLOCK, rate_bps=0), "rate_bps=0", "1 or more"),
    (lambda: pair(CLOCK, rate_bps=1e9), "rate_bps=1000000000.0", "an int"),
    (lambda: pair(CLOCK, rate_bps="1G"), "rate_bps='1G'", "1 or more"),
    (lambda: pair(CLOCK, queue_frames=0), "queue_frames=0", "1 or more"),
    (lambda: impair(loss=1.5), "loss=1.5", "0 to 1"),
    (lambda: impair(loss=-0.1), "loss=-0.1", "0 to 1"),
    (lambda: impair(loss=NAN), "loss=nan", "0 to 1"),
    (lambda: impair(loss="5%"), "loss='5%'", "0 to 1"),
    (lambda: impair(delay_ns=1.5), "delay_ns=1.5", "an int"),
    (lambda: impair(jitter_ns=-1), "jitter_ns=-1", "0 or more ns"),
    (lambda: impair(rate_bps=-5), "rate_bps=-5", "1 or more"),
    (lambda: impair(reorder_span=0), "reorder_span=0", "1 or more"),
    (lambda: impair(queue_frames=1.0), "queue_frames=1.0", "an int"),
    (lambda: impair(direction="up"), "direction='up'", "'tx', 'rx' or 'both'"),
    (lambda: NullLink(CLOCK, speed_mbps=2500), "speed_mbps=2500", "10, 100 and 1000"),
    (lambda: Generator(CLOCK, [bytes(60)], count=-1), "count=-1", "0 or more"),
    (lambda: Generator(CLOCK, [bytes(60)], rate_pps=-1), "rate_pps=-1", "above 0"),
    (lambda: Generator(CLOCK, [bytes(60)], batch_frames=0), "batch_frames=0", "1 or more"),
    (lambda: Generator(CLOCK, []), "frames is empty", "one frame"),
    (lambda: PcapReplay("x", CLOCK, speed=-1), "speed=-1", "above 0"),
    (lambda: PcapReplay("x", CLOCK, speed="2x"), "speed='2x'", "above 0"),
    (lambda: Switch(CLOCK, aging_ns=-1), "aging_ns=-1", "0 or more ns"),
    (lambda: Switch(CLOCK, queue_frames=0), "queue_frames=0", "1 or more"),
    (lambda: Switch(CLOCK, table_entries=0.5), "table_entries=0.5", "an int"),
    (lambda: Capture(NullLink(CLOCK), "x", snap_bytes=0), "snap_bytes=0", "1 or more"),
    (lambda: QemuStream(None, CLOCK, poll_ns=-1), "poll_ns=-1", "1 or more"),
    (lambda: Passt(CLOCK, mac=b"12"), "mac=b'12'", "6"),
    (lambda: nic(autoneg_ns=-1), "autoneg_ns=-1", "0 or more ns"),
    (lambda: nic(autoneg_ns=1e9), "autoneg_ns=1000000000.0", "an int"),
    (lambda: nic(mac=b"123"), "3 bytes", "six"),
    (lambda: nic(mac=b"\x01" + bytes(5)), "01:00", "group address"),
    (lambda: nic(model="82599"), "82599", "82540EM"),
    (lambda: host(ram_bytes=1000), "ram_bytes=1000", "1048576 or more bytes"),
    (lambda: host(ram_bytes=1e9), "ram_bytes=1000000000.0", "an int"),
    (lambda: host(uid=-1), "uid=-1", "0 to 4294967294"),
    (lambda: host(sysctl={"tcp_sac": 1}), "tcp_sac", "tcp_sack"),
    (lambda: host().ifconfig("lo", "10.0.0.1"), "'10.0.0.1'", "10.0.0.1/24"),
    (lambda: host().ifconfig("lo", "10.0.0.1/99"), "10.0.0.1/99", "10.0.0.1/24"),
    (lambda: host().ifconfig("lo", "10.0.0/24"), "10.0.0/24", "10.0.0.1/24"),
    (lambda: host().ifconfig("lo", mtu=1500.0), "mtu=1500.0", "an int, 1500"),
    (lambda: host().addr_del("lo", "127.0.0.1"), "'127.0.0.1'", "127.0.0.1/24"),
    (lambda: host().wait_carrier("lo", 1.5), "timeout_ns=1.5", "an int"),
    (lambda: host().route_add("10.0.0.0", dev="lo"), "'10.0.0.0'", "10.0.0.0/24"),
    (lambda: host().route_add("10.0.0.0/x", dev="lo"), "'x'", "0 and 32"),
    (lambda: host().route_add("default", via="10.0.0"), "'10.0.0'", "10.0.0.1"),
    (lambda: host().route_del("10.0.0.0", dev="lo"), "'10.0.0.0'", "10.0.0.0/24"),
    (lambda: arp(ip=0), "ip=0", "1 to"),
    (lambda: two_hosts(addrs=("10.0.0.1", "10.0.0.2")), "'10.0.0.1'", "10.0.0.1/24"),
    (lambda: two_hosts(addrs=("10.0.0.1/24",)), "addrs=", "each of two hosts"),
    (lambda: two_hosts(names="ab"), "names='ab'", "each of two hosts"),
    (lambda: two_hosts(latency_ns=0.5), "latency_ns=0.5", "an int"),
    (lambda: two_hosts(rate_bps=-1), "rate_bps=-1", "1 or more"),
    (lambda: two_hosts(impair={"loss": 7}), "loss=7", "0 to 1"),
    (lambda: two_hosts(sysctl={"tcp_ecn": 9}), "tcp_ecn=9", "0 to 2"),
    (lambda: two_hosts(autoneg_ns=-1), "autoneg_ns=-1", "0 or more"),
    (lambda: lan(0), "count=0", "1 to 254"),
    (lambda: lan(300), "count=300", "1 to 254"),
    (lambda: lan(2, network="10.0"), "10.0.1/24", "10.0.0.1/24"),
    (lambda: add_nic(host(), NullLink(CLOCK), addr="10.0.0.1"), "'10.0.0.1'", "10.0.0.1/24"),
]


@pytest.mark.parametrize(("call", "names", "remedy"), WRONG, ids=[n for _, n, _ in WRONG])
def test_the_error_names_the_argument_the_value_and_the_remedy(
    call: Callable[[], Any],
    names: str,
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(E1000Error) as info:
        call()
    assert names in str(info.value)
    assert remedy in str(info.value)
    assert list(tmp_path.iterdir()) == []


def test_integers_of_other_libraries_are_integers() -> None:
    numpy = pytest.importorskip("numpy")
    clock = VirtualClock()
    clock.run_for(numpy.int64(5))
    pair(clock, latency_ns=numpy.int32(5), rate_bps=numpy.int64(10**9))
    assert clock.now_ns() == 5
    assert type(clock.now_ns()) is int
