"""SO_TXTIME in virtual time: a packet leaves at the nanosecond that its sender said.

tests/linux/calls/txtime.py holds the option and the message against the kernel's.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket as stdlib
import struct
from collections.abc import Iterator

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from stack.core import uapi as u
from stack.host import Host
from stack.socket import AF_INET, AF_INET6, AF_PACKET, SOCK_DGRAM, SOCK_RAW, SOL_SOCKET, Socket
from tests.stack.sched.test_disciplines import MSEC

SEC = 1_000_000_000
PORT = 7
MONOTONIC, TAI = u.CLOCK_MONOTONIC, u.CLOCK_TAI
DEADLINE, REPORT = u.SOF_TXTIME_DEADLINE_MODE, u.SOF_TXTIME_REPORT_ERRORS
FAMILIES = pytest.mark.parametrize("family", [AF_INET, AF_INET6], ids=["v4", "v6"])


class Net:
    """Two hosts, and when each datagram of the first came to the second."""

    def __init__(self) -> None:
        self.a, self.b = two_hosts(VirtualClock())
        self.a.ifconfig("eth0", "fd00::1/64")
        self.b.ifconfig("eth0", "fd00::2/64")
        self.clock = self.a.clock
        self.clock.run_for(3 * SEC)
        self.listener = self.b.socket(AF_INET6, SOCK_DGRAM)
        self.listener.bind(("::", PORT))
        for family in (AF_INET, AF_INET6):
            self.udp(family).send(b"resolves the address")
        self.clock.run_for(SEC)
        self.arrivals()
        self.listener.setsockopt(SOL_SOCKET, u.SO_TIMESTAMPNS, 1)

    def udp(self, family: int, clock: int | None = None, flags: int = 0) -> Socket:
        sock = self.a.socket(family, SOCK_DGRAM)
        sock.connect(there(family))
        if clock is not None:
            sock.setsockopt(SOL_SOCKET, u.SO_TXTIME, struct.pack("=iI", clock, flags))
        return sock

    def arrivals(self) -> list[tuple[bytes, int]]:
        """Data, and when the network card of the second host had it: ns since 1970."""
        found = []
        while True:
            try:
                data, control, _, _ = self.listener.recvmsg(4096, 512, u.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            when = [struct.unpack("=qq", at) for _, kind, at in control if kind == u.SO_TIMESTAMPNS]
            found.append((data, when[0][0] * SEC + when[0][1] if when else 0))

    def told(self, since: int = 0) -> list[tuple[bytes, int]]:
        """The same, and each time since the packet sent at once would have come."""
        return [(data, when - since) for data, when in self.arrivals()]


def there(family: int) -> tuple[str, int]:
    return ("fd00::2" if family == AF_INET6 else "10.0.0.2"), PORT


@pytest.fixture
def net() -> Iterator[Net]:
    net = Net()
    with net.a, net.b:
        yield net


def send_at(sock: Socket, data: bytes, when: int | bytes, flags: int = 0) -> None:
    raw = when if isinstance(when, bytes) else struct.pack("=Q", when & 0xFFFFFFFFFFFFFFFF)
    assert sock.sendmsg([data], [(SOL_SOCKET, u.SCM_TXTIME, raw)], flags) == len(data)


ALL = b"\xff" * 6
HEADER4 = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 99, 0) + bytes((10, 0, 0, 1, 10, 0, 0, 2))
HEADER6 = struct.pack("!IHBB", 6 << 28, 20, 99, 64) + b"".join(
    stdlib.inet_pton(AF_INET6, address) for address in ("fd00::1", "fd00::2")
)


def passage(net: Net, family: int, size: int) -> int:
    """What a datagram takes to the other host, ns."""
    start = net.a.machine.realtime_ns()
    net.udp(family).send(bytes(size))
    net.clock.run_for(SEC)
    ((_, when),) = net.arrivals()
    return when - start


@FAMILIES
def test_fq_sends_at_the_times_and_in_their_order(net: Net, family: int) -> None:
    net.a.qdisc_add("eth0", "fq")
    took = passage(net, family, 1)
    sock = net.udp(family, MONOTONIC)
    now, real = net.clock.now_ns(), net.a.machine.realtime_ns()
    send_at(sock, b"-", now - 5)
    send_at(sock, b"0", now)
    for name, ahead in ((b"a", 100), (b"c", 300), (b"b", 200), (b"d", 400)):
        send_at(sock, name, now + ahead * MSEC)
    other = net.udp(family, MONOTONIC)
    send_at(other, b"x", now + 50 * MSEC + 1)
    sock.send(b"l")  # no time of its own: it waits for its flow, as on Linux
    net.clock.run_for(SEC)
    told = dict(net.told(real + took))
    assert list(told) == [b"-", b"0", b"x", b"l", b"a", b"b", b"c", b"d"]
    assert told[b"-"] == 0
    assert told[b"0"] < 5000  # the wire was busy
    assert told[b"x"] == 50 * MSEC + 1
    assert told[b"l"] == 100 * MSEC
    assert told[b"a"] - told[b"l"] < 5000
    assert [told[name] for name in (b"b", b"c", b"d")] == [200 * MSEC, 300 * MSEC, 400 * MSEC]


def test_a_time_beyond_the_horizon_is_dropped_or_cut(net: Net) -> None:
    net.a.qdisc_add("eth0", "fq", horizon=1_000_000)
    took = passage(net, AF_INET, 1)
    now, real = net.clock.now_ns(), net.a.machine.realtime_ns()
    for when in (now + SEC, now + SEC + 1, net.a.machine.realtime_ns(), (1 << 63) - 1):
        sock = net.udp(AF_INET, MONOTONIC)
        if when == now + SEC:
            send_at(sock, b"just", when)
        else:  # IP drops its packets without a word, as on Linux without IP_RECVERR
            sock.sendmsg([b"far"], [(SOL_SOCKET, u.SCM_TXTIME, struct.pack("=Q", when))])
    send_at(net.udp(AF_INET, MONOTONIC), b"above 2^63", 1 << 63)
    net.clock.run_for(2 * SEC)
    told = net.told(real + took)
    assert [data for data, _ in told] == [b"above 2^63", b"just"]
    assert told[1][1] == SEC
    assert net.a.qdisc_show("eth0")[0]["horizon_drops"] == 3
    net.a.qdisc_del("eth0")
    net.a.qdisc_add("eth0", "fq", horizon=1_000_000, horizon_drop=0)
    real = net.a.machine.realtime_ns()
    send_at(net.udp(AF_INET, MONOTONIC), b"x", net.clock.now_ns() + 2 * SEC)
    net.clock.run_for(3 * SEC)
    assert net.told(real + took) == [(b"x", SEC)]
    assert net.a.qdisc_show("eth0")[0]["horizon_caps"] == 1


@FAMILIES
def test_all_fragments_and_both_pieces_leave_at_the_time(net: Net, family: int) -> None:
    net.a.qdisc_add("eth0", "fq")
    sock = net.udp(family, MONOTONIC)
    took = passage(net, family, 4000)
    now, real = net.clock.now_ns(), net.a.machine.realtime_ns()
    send_at(sock, bytes(4000), now + 20 * MSEC)
    send_at(sock, b"begins", now + 40 * MSEC, u.MSG_MORE)
    sock.send(b" and ends")
    net.clock.run_for(SEC)
    first, second = net.told(real + took)
    assert first == (bytes(4000), 20 * MSEC)
    assert second[0] == b"begins and ends"
    assert 39 * MSEC < second[1] <= 40 * MSEC  # it is shorter


def test_raw_and_packet_sockets_have_times(net: Net) -> None:
    net.a.qdisc_add("eth0", "fq")
    seen = net.b.socket(AF_PACKET, SOCK_RAW, stdlib.htons(3))
    seen.setsockopt(SOL_SOCKET, u.SO_TIMESTAMPNS, 1)
    senders = [
        (AF_INET, SOCK_RAW, 99, ("10.0.0.2", 0), bytes(20)),
        (AF_INET, SOCK_RAW, u.IPPROTO_RAW, ("10.0.0.2", 0), HEADER4 + bytes(20)),
        (AF_INET6, SOCK_RAW, 99, ("fd00::2", 0), bytes(20)),
        (AF_INET6, SOCK_RAW, u.IPPROTO_RAW, ("fd00::2", 0), HEADER6 + bytes(20)),
        (AF_PACKET, SOCK_DGRAM, 0, ("eth0", 0x88B5, 0, 0, ALL), bytes(60)),
        (AF_PACKET, SOCK_RAW, 0, ("eth0", 0), ALL * 2 + b"\x88\xb5" + bytes(46)),
    ]
    now, real = net.clock.now_ns(), net.a.machine.realtime_ns()
    for at, (family, kind, protocol, to, data) in enumerate(senders):
        sock = net.a.socket(family, kind, protocol)
        sock.setsockopt(SOL_SOCKET, u.SO_TXTIME, struct.pack("=iI", MONOTONIC, 0))
        when = struct.pack("=Q", now + (at + 1) * 10 * MSEC)
        sock.sendmsg([data], [(SOL_SOCKET, u.SCM_TXTIME, when)], 0, to)
    net.clock.run_for(SEC)
    times = []
    with contextlib.suppress(BlockingIOError):
        while True:
            _, control, _, name = seen.recvmsg(4096, 512, u.MSG_DONTWAIT)
            sec, nsec = struct.unpack("=qq", control[0][2])
            if name[2] != 4:  # PACKET_OUTGOING: errors that the second host sends
                times.append((sec * SEC + nsec - real) // MSEC)
    assert times == [10, 20, 30, 40, 50, 60]


ERROR = struct.Struct("=IBBBBII")


def errors(sock: Socket) -> list[tuple[int, int, int, int]]:
    """The error queue: errno, origin, code, time."""
    found = []
    while True:
        try:
            _, control, _, _ = sock.recvmsg(4096, 512, u.MSG_ERRQUEUE | u.MSG_DONTWAIT)
        except BlockingIOError:
            return found
        ((_, _, data),) = control
        err, origin, _, code, _, low, high = ERROR.unpack(data[: ERROR.size])
        found.append((err, origin, code, high << 32 | low))


INVALID = errno.EINVAL, u.SO_EE_ORIGIN_TXTIME, u.SO_EE_CODE_TXTIME_INVALID_PARAM
MISSED = errno.ECANCELED, u.SO_EE_ORIGIN_TXTIME, u.SO_EE_CODE_TXTIME_MISSED


@FAMILIES
def test_etf_sends_delta_before_the_time(net: Net, family: int) -> None:
    took = passage(net, family, 1)
    net.a.qdisc_add("eth0", "etf", delta=200_000, clockid=TAI)
    sock = net.udp(family, TAI, REPORT)
    real = net.a.machine.realtime_ns()
    for name, ahead in ((b"c", 300), (b"a", 100), (b"b", 200)):
        send_at(sock, name, real + ahead * MSEC)
    net.clock.run_for(SEC)
    early = [(name, at * 100 * MSEC - 200_000) for at, name in enumerate((b"a", b"b", b"c"), 1)]
    assert net.told(real + took) == early
    assert errors(sock) == []
    shown = net.a.qdisc_show("eth0")[0]
    assert shown["options"] == {"delta": 200_000, "clockid": TAI, "flags": 0}


@FAMILIES
@pytest.mark.parametrize(
    ("clock", "flags", "ahead", "told"),
    [
        (TAI, REPORT, -1, True),
        (TAI, REPORT | DEADLINE, 1000, True),
        (MONOTONIC, REPORT, 1000, True),
        (u.CLOCK_REALTIME, REPORT, 1000, True),
        (TAI, 0, -1, False),
        (TAI, REPORT, 0, None),
    ],
)
def test_etf_takes_what_has_its_clock_and_mode(
    net: Net, family: int, clock: int, flags: int, ahead: int, told: bool | None
) -> None:
    net.a.qdisc_add("eth0", "etf", delta=0, clockid=TAI)
    sock = net.udp(family, clock, flags)
    when = net.a.machine.realtime_ns() + ahead
    with contextlib.suppress(OSError):
        send_at(sock, b"x", when)
    net.clock.run_for(SEC)
    assert errors(sock) == ([(*INVALID, when)] if told else [])
    assert len(net.arrivals()) == (told is None)
    assert not sock.sk.sk_rmem_alloc
    assert not sock.sk.sk_wmem_alloc


def test_etf_drops_what_it_could_not_send_in_time(net: Net) -> None:
    """The first packet keeps the wire busy until the others' times have passed."""
    net.a.qdisc_add("eth0", "etf", delta=0, clockid=TAI)
    sock = net.udp(AF_INET, TAI, REPORT)
    real = net.a.machine.realtime_ns() + MSEC
    qdisc = net.a.dev_by_name["eth0"].qdisc
    send_at(sock, b"1", real)
    send_at(sock, b"2", real + 1)
    send_at(sock, b"3", real + MSEC)
    qdisc.watchdog.cancel()
    net.clock.run_for(MSEC + 10)
    assert qdisc.dequeue() is None
    assert errors(sock) == [(*MISSED, real), (*MISSED, real + 1)]
    net.clock.run_for(SEC)
    assert [data for data, _ in net.arrivals()] == [b"3"]
    assert net.a.qdisc_show("eth0")[0]["overlimits"] == 2
    assert net.a.qdisc_show("eth0")[0]["drops"] == 2


def test_etf_in_deadline_mode_sends_at_once(net: Net) -> None:
    took = passage(net, AF_INET, 1)
    net.a.qdisc_add("eth0", "etf", delta=0, clockid=TAI, flags=1)
    sock = net.udp(AF_INET, TAI, DEADLINE)
    real = net.a.machine.realtime_ns()
    send_at(sock, b"x", real + 100 * MSEC)
    net.clock.run_for(SEC)
    assert net.told(real + took) == [(b"x", 0)]


@pytest.mark.parametrize(
    ("opt", "err", "text"),
    [
        ({"delta": 0, "clockid": MONOTONIC}, errno.EINVAL, "Invalid clockid. CLOCK_TAI must be"),
        ({"delta": 0, "clockid": -3}, 524, "Dynamic clockids are not supported"),
        ({"delta": -1, "clockid": TAI}, errno.EINVAL, "Delta must be positive"),
        ({"clockid": TAI, "flags": 2}, errno.EOPNOTSUPP, "does not support ETF offload"),
        ({"flags": 0}, errno.EINVAL, "Missing mandatory ETF parameters"),
        ({}, errno.EINVAL, "Missing"),
    ],
)
def test_etf_refuses_other_parameters(net: Net, opt: dict[str, int], err: int, text: str) -> None:
    with pytest.raises(OSError, match=text) as raised:
        net.a.qdisc_add("eth0", "etf", **opt)
    assert raised.value.errno == err


def test_another_clock_is_for_root() -> None:
    with (
        contextlib.closing(VirtualClock()) as clock,
        Host("h", clock=clock, uid=1000) as host,
        host.socket(AF_INET, SOCK_DGRAM) as sock,
    ):
        for clockid, err in ((MONOTONIC, None), (TAI, errno.EPERM), (99, errno.EPERM)):
            option = struct.pack("=iI", clockid, DEADLINE)
            if err is None:
                sock.setsockopt(SOL_SOCKET, u.SO_TXTIME, option)
                continue
            with pytest.raises(PermissionError):
                sock.setsockopt(SOL_SOCKET, u.SO_TXTIME, option)
        kept = sock.getsockopt(SOL_SOCKET, u.SO_TXTIME, 8)
        assert kept == struct.pack("=iI", MONOTONIC, DEADLINE)


def test_a_rate_holds_datagrams_in_fq(net: Net) -> None:
    net.a.qdisc_add("eth0", "fq")
    sock = net.udp(AF_INET)
    sock.setsockopt(SOL_SOCKET, u.SO_MAX_PACING_RATE, 100_000)
    for _ in range(4):
        sock.send(bytes(1000 - 42))
    net.clock.run_for(SEC)
    times = [when for _, when in net.arrivals()]
    assert [b - a for a, b in itertools.pairwise(times)] == [10 * MSEC] * 3
