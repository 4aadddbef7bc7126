"""Hosts on a device thread: the same results, a thread that ends."""

from __future__ import annotations

import random
import tempfile
import threading
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.lab import pump, two_hosts
from e1000emu.testing.guest import Reg
from fastpath.secondcore import SecondCore
from stack.ethtool import ethtool, show_register_dump
from stack.host import Host
from stack.ipv6.addr import parse_addr6
from stack.ipv6.addrconf import inet6_addr_add
from stack.ipv6.if_inet6 import IFA_F_NODAD
from stack.socket import (
    AF_INET,
    AF_INET6,
    SOCK_DGRAM,
    SOCK_STREAM,
    Socket,
)
from tests.e1000emu.test_devicethread import EVER
from tests.support import examples

ADDRESS = {AF_INET: "10.0.0.2", AF_INET6: "2001:db8::2"}


def own_address(host: Host, addr: str) -> None:
    """An address of IPv6, at once."""
    inet6_addr_add(host.dev("eth0"), parse_addr6(addr), 64, flags=IFA_F_NODAD)


def traffic(todo: list[tuple[Any, ...]], *, device_thread: bool, **wire: Any) -> list[Any]:
    """Two hosts do what is asked; everything that either could tell of it."""
    seen: list[Any] = []
    with tempfile.TemporaryDirectory() as directory:
        capture = Path(directory, "wire.pcapng")
        if wire.pop("capture"):
            wire["capture"] = capture
        a, b = two_hosts(device_thread=device_thread, ram_bytes=16 << 20, **wire)
        with a, b:
            for host in (a, b) if device_thread else ():
                host.nics["eth0"].tx.second.patience = EVER
            for host, addr in ((a, "2001:db8::1"), (b, ADDRESS[AF_INET6])):
                own_address(host, addr)
            for step in todo:
                seen += [did(a, b, step), a.clock.now_ns()]
            for host in (a, b):
                dev_nic = host.nics["eth0"]
                seen += [dev_nic.counters(), [dev_nic.mmio_read(reg) for reg in Reg]]
                seen += [dict(host.mib.tcp.items()), dict(host.mib.udp.items())]
                seen.append(show_register_dump(host.dev("eth0")))
        if capture.exists():
            seen.append(capture.read_bytes())
    return seen


def stream(a: Host, b: Host, family: int, total: int, write: int) -> tuple[int, int]:
    """A TCP connection's bytes: how many, and their CRC."""
    with Socket(b, family, SOCK_STREAM) as listener, Socket(a, family, SOCK_STREAM) as client:
        listener.bind((ADDRESS[family], 0))
        listener.listen(1)
        client.connect(listener.getsockname()[:2])
        server = listener.accept()[0]
        data = memoryview(random.Random(total).randbytes(total))
        pieces = iter([data[at : at + write] for at in range(0, total, write)])
        crc = 0

        def take(piece: memoryview) -> None:
            nonlocal crc
            crc = zlib.crc32(piece, crc)

        with server:
            return pump(client, server, lambda: next(pieces, None), take), crc


def did(a: Host, b: Host, step: tuple[Any, ...]) -> Any:
    """One step; what its receiver has got."""
    what, *rest = step
    if what == "tcp":
        family, total, write = rest
        return stream(a, b, family, total, write)
    if what == "udp":
        family, sizes = rest
        with Socket(b, family, SOCK_DGRAM) as server, Socket(a, family, SOCK_DGRAM) as client:
            server.bind((ADDRESS[family], 9))
            server.setblocking(False)
            got = []
            for size in sizes:
                client.sendto(bytes(size), (ADDRESS[family], 9))
            a.clock.run_for(10**9)
            with suppress(BlockingIOError):
                while True:
                    got.append(len(server.recv(1 << 16)))
            return got
    if what == "tso":
        return ethtool(a, ["-K", "eth0", "tso", rest[0]])
    if what == "flap":
        link = b.nics["eth0"].link
        link.plug(False)
        a.clock.run_for(10**9)
        link.plug(True)
        a.clock.run_for(5 * 10**9)
        return None
    a.ifconfig("eth0", up=False)
    a.ifconfig("eth0", up=True)
    a.wait_carrier("eth0")
    own_address(a, "2001:db8::1")  # those of IPv6 went with the interface
    return None


family = st.sampled_from([AF_INET, AF_INET6])
deeds = st.one_of(
    st.tuples(
        st.just("tcp"), family, st.integers(1, 1 << 20), st.sampled_from([999, 70_000, 1 << 20])
    ),
    st.tuples(st.just("tcp"), family, st.just(1 << 20), st.just(1 << 20)),
    st.tuples(st.just("udp"), family, st.lists(st.sampled_from([1, 1472, 30_000]), max_size=20)),
    st.tuples(st.just("tso"), st.sampled_from(["on", "off"])),
    st.tuples(st.just("flap")),
    st.tuples(st.just("reset")),
)


@settings(max_examples=examples(5), deadline=None)
@given(
    st.lists(deeds, min_size=1, max_size=4),
    st.sampled_from([
        {}, {}, {"latency_ns": 50_000}, {"rate_bps": 10**9},
        {"impair": {"loss": 0.02, "reorder": 0.02}},
    ]),
    st.booleans(),
)  # fmt: skip
def test_two_hosts_are_the_same_with_and_without(
    todo: list[tuple[Any, ...]], wire: dict[str, Any], capture: bool
) -> None:
    options = {**wire, "capture": capture}
    alone = traffic(todo, device_thread=False, **options)
    assert traffic(todo, device_thread=True, **options) == alone


def test_a_stream_is_shared_and_the_thread_ends_with_the_last_host() -> None:
    before = set(threading.enumerate())
    a, b = two_hosts(device_thread=True)
    with a, b:
        core = a.nics["eth0"].tx.second
        assert isinstance(core, SecondCore)
        assert core is b.nics["eth0"].tx.second
        core.patience = EVER
        assert stream(a, b, AF_INET, 1 << 20, 1 << 20)[0] == 1 << 20
        assert core.runs > 4
    assert set(threading.enumerate()) == before
    assert a.nics["eth0"].tx.second is None


def test_datagrams_are_sent_alone() -> None:
    a, b = two_hosts(device_thread=True)
    with a, b:
        core = a.nics["eth0"].tx.second
        assert isinstance(core, SecondCore)
        assert did(a, b, ("udp", AF_INET, [1472] * 20)) == [1472] * 20
        assert core.counters()["runs"] == core.counters()["skipped"] == 0


def test_a_thread_that_is_no_help_is_left_alone_more_and_more() -> None:
    core = SecondCore()
    thread = threading.Thread(target=core.run)
    core.spin_ns = 0
    thread.start()
    a, b = two_hosts()
    try:
        with a, b:
            a.nics["eth0"].tx._share(core)
            core.patience = 0
            for _ in range(8):
                stream(a, b, AF_INET, 1 << 20, 1 << 20)
            found = core.counters()
            assert found["runs"] > 0
            assert found["skipped"] > 0 or not found["alone"]
    finally:
        core.stop()
        thread.join()
