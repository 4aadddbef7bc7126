"""Folding and merging are not seen: random programs of calls with both on, and with both off.

Two hosts and their NICs on a wire run a program twice. The first run is as they come up. The second
is after ``ethtool -K eth0 tx-udp-segmentation off gro off``, with sendto for each message of
sendmmsg. What crosses the wire and when, what each call returns or raises, all counters and what
sockets hold must be the same.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from e1000emu.capture import PcapngWriter
from e1000emu.lab import two_hosts
from fastpath.base.batch import FrameBatch
from fastpath.base.skbuff import PACKET_OUTGOING, kfree_skb, skb_copy_bits
from stack.core.dev_receive import dev_add_pack
from stack.core.ethtool import ethtool_set_features
from stack.core.ioctl import sys_ioctl
from stack.core.netdevice import packet_type
from stack.core.netfilter import (
    NF_ACCEPT,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    nf_register_net_hook,
)
from stack.core.uapi import (
    IP_MTU_DISCOVER,
    IP_PKTINFO,
    IP_RECVERR,
    IP_RECVTTL,
    IP_TOS,
    IP_TTL,
    MSG_DONTWAIT,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITFORONE,
    SIOCINQ,
    SIOCOUTQ,
    SO_NO_CHECK,
    SO_PEEK_OFF,
    SO_RCVBUF,
    SO_RXQ_OVFL,
    SO_SNDBUF,
    SOCK_RAW,
    SOL_IP,
    SOL_SOCKET,
    SOL_UDP,
    UDP_CORK,
    UDP_SEGMENT,
)
from stack.host import Host
from stack.ipv6.addr import parse_addr6
from stack.ipv6.addrconf import inet6_addr_add
from stack.ipv6.if_inet6 import IFA_F_NODAD
from stack.socket import AF_INET, AF_INET6, IPPROTO_UDP, SOCK_DGRAM, Socket
from tests.support import examples

A, B, A6, B6 = "10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"
OFF = {"tx-udp-segmentation": False, "gro": False}


class Frames(PcapngWriter):
    """What crosses the wire, in memory: (time, direction, bytes)."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, bytes]] = []

    def add_interface(self, name: str, **_: Any) -> int:
        return 0

    def write(self, batch: FrameBatch, start: int, stop: int, **how: Any) -> None:
        for i in range(start, stop):
            self.seen.append((how["now_ns"], how["direction"], bytes(batch[i])))

    def of(self, way: int) -> list[tuple[int, int, bytes]]:
        """The frames of one direction."""
        return [frame for frame in self.seen if frame[1] == way]

    def flush(self) -> None: ...

    def close(self) -> None: ...


class World:
    """Two hosts and their sockets; `call` does one step of a program and says what came of it."""

    def __init__(self, stack: ExitStack, on: bool, loss: float) -> None:
        self.on = on
        self.frames = Frames()
        self.a, self.b = hosts = two_hosts(
            capture=self.frames, impair={"loss": loss} if loss else None, ram_bytes=32 << 20
        )
        for host, addr in zip(hosts, (A6, B6), strict=True):
            stack.enter_context(host)
            dev = host.dev_by_name["eth0"]
            inet6_addr_add(dev, parse_addr6(addr), 64, flags=IFA_F_NODAD)
            if not on:
                ethtool_set_features(dev, OFF)
        self.number = itertools.count()
        self.tx = [self.socket(self.a, AF_INET), self.socket(self.a, AF_INET)]
        self.tx += [self.socket(self.a, AF_INET6), self.socket(self.b, AF_INET)]
        self.rx = [
            self.socket(self.b, AF_INET, (B, 9000)),
            self.socket(self.b, AF_INET, ("", 9001)),
            self.socket(self.b, AF_INET6, ("::", 9002)),
            self.socket(self.a, AF_INET, (A, 9000)),
        ]
        self.log: list[Any] = []
        self.taps: defaultdict[tuple[int, bool], list[Any]] = defaultdict(list)
        """What taps of a host have seen, of one direction, and during which call."""

    def socket(self, host: Host, family: int, address: Any = None) -> Socket:
        sock = Socket(host, family, SOCK_DGRAM)
        if address is not None:
            sock.bind(address)
        sock.setblocking(False)
        return sock

    def where(self, tx: int, rx: int) -> tuple[str, int] | None:
        """An address of receiver `rx` as sender `tx` says it; 9: nobody has the port."""
        if rx < 0:
            return None
        host = A if tx == 3 else B6 if tx == 2 else B
        if tx == 2 and rx % 4 in (0, 1):
            host = f"::ffff:{B}"  # those of IPv4
        return host, 9000 + rx % 4

    def data(self, size: int) -> bytes:
        return (next(self.number).to_bytes(4, "big") * (size // 4 + 1))[:size]

    def call(self, name: str, *args: Any) -> None:
        try:
            result = getattr(self, name)(*args)
        except OSError as error:
            result = type(error).__name__, error.errno
        self.log.append((name, args, result, self.state()))

    # -- the steps

    def send(self, tx: int, rx: int, size: int, flags: int) -> Any:
        to = self.where(tx, rx)
        if to is None:
            return self.tx[tx].send(self.data(size), flags)
        return self.tx[tx].sendto(self.data(size), flags, to)

    def sendmmsg(self, tx: int, runs: list[tuple[int, int, int]], flags: int) -> Any:
        rows = [
            (self.data(size), self.where(tx, rx)) for rx, size, count in runs for _ in range(count)
        ]
        if self.on:
            return self.tx[tx].sendmmsg(rows, flags)
        for done, (data, to) in enumerate(rows):
            try:
                self.tx[tx].send(data, flags) if to is None else self.tx[tx].sendto(data, flags, to)
            except OSError:
                if not done:
                    raise
                return done
        return len(rows)

    def recv(self, rx: int, size: int, flags: int) -> Any:
        return self.rx[rx].recvfrom(size, flags)

    def recvmsg(self, rx: int, size: int, flags: int) -> Any:
        return self.rx[rx].recvmsg(size, 200, flags)

    def recvmmsg(self, rx: int, count: int, size: int, form: int) -> Any:
        sock = self.rx[rx]
        if form == 0:
            buffers = [bytearray(size) for _ in range(count)]
            got = sock.recvmmsg(buffers, MSG_WAITFORONE)
            return got, [bytes(b) for b in buffers]
        if form == 1:
            return sock.recvmfrom(count, size, MSG_DONTWAIT)
        buffer = bytearray(size * count)
        return sock.recvmfrom_into(buffer, max(size, 1), 0), bytes(buffer)

    def option(self, end: str, number: int, level: int, name: int, value: int) -> Any:
        getattr(self, end)[number].setsockopt(level, name, value)

    def connect(self, tx: int, rx: int) -> Any:
        self.tx[tx].connect(self.where(tx, rx))

    def run(self, ns: int) -> None:
        self.a.clock.run_for(ns)

    def close(self, rx: int) -> None:
        self.rx[rx].close()
        host, family = (self.a if rx == 3 else self.b), self.rx[rx].family
        self.rx[rx] = self.socket(host, family)

    def watch(self, how: int, end: int) -> None:
        """Somebody looks at packets: a tap, hooks or a raw socket."""
        host = (self.a, self.b)[end]
        if how == 0:
            dev_add_pack(host, packet_type(type=3, func=lambda skb, *_: self.seen(end, skb)))
        elif how == 1:
            for hook in (NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT):
                nf_register_net_hook(host, hook, lambda *_: NF_ACCEPT)
        else:
            raw = Socket(host, AF_INET, SOCK_RAW, IPPROTO_UDP)
            raw.setblocking(False)
            self.rx.append(raw)

    def seen(self, end: int, skb: Any) -> int:
        data = skb_copy_bits(skb, 0, min(len(skb), 60))
        outgoing = skb.pkt_type == PACKET_OUTGOING
        self.taps[end, outgoing].append((len(self.log), len(skb), data, skb.gso_size))
        kfree_skb(skb)
        return 0

    # -- what must be the same

    def state(self) -> Any:
        socks = []
        for sock in (*self.tx, *self.rx):
            sk = sock.sk
            inq = sys_ioctl(sock.net, sock.host_fd, SIOCINQ)
            outq = sys_ioctl(sock.net, sock.host_fd, SIOCOUTQ)
            held = sk.sk_rmem_alloc, sk.sk_wmem_alloc, sk.sk_drops, sk.sk_err
            socks.append((sock.poll(), inq, outq, held))
        return self.a.clock.now_ns(), socks, [self.counters(host) for host in (self.a, self.b)]

    def counters(self, host: Host) -> dict[str, Any]:
        """What nstat and ip -s link show, and the memory that sockets use of what they reserved."""
        groups = ("ip", "ipext", "icmp", "udp", "ip6", "icmp6", "udp6")
        socks = [sock.sk for sock in (*self.tx, *self.rx) if sock.net is host]
        reserved = sum(sk.sk_forward_alloc for sk in socks if sk.sk_prot.name.startswith("UDP"))
        return {
            **{name: getattr(host.mib, name).nonzero() for name in groups},
            "eth0": host.dev_by_name["eth0"].stats.nonzero(),
            "memory": host.prot_mem["UDP"].memory_allocated - reserved,
        }


@contextmanager
def world(on: bool, loss: float = 0.0) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack, on, loss)


def run(program: list[tuple[Any, ...]], on: bool, loss: float) -> World:
    with world(on, loss) as w:
        for step in program:
            w.call(*step)
        for _ in range(3):
            w.call("run", 3_000_000_000)
            for rx in range(len(w.rx)):
                w.call("recvmmsg", rx, 300, 2000, 1)
        return w


senders, receivers = st.integers(0, 3), st.sampled_from([0, 0, 0, 1, 2, 3, 9, -1])
sizes = st.sampled_from(
    [0, 1, 4, 63, 64, 64, 64, 200, 256, 300, 1000, 1400, 1452, 1472, 1473, 4000]
)
send_flags = st.sampled_from([0, 0, 0, MSG_DONTWAIT])
runs = st.lists(st.tuples(receivers, sizes, st.sampled_from([1, 2, 3, 8, 33, 130])), max_size=5)
steps = st.one_of(
    st.tuples(st.just("send"), senders, receivers, sizes, send_flags),
    st.tuples(st.just("sendmmsg"), senders, runs, send_flags),
    st.tuples(st.just("sendmmsg"), senders, runs, send_flags),
    st.tuples(
        st.just("recv"), st.integers(0, 3), st.sampled_from([0, 10, 64, 2000]),
        st.sampled_from([0, 0, MSG_PEEK, MSG_TRUNC, MSG_PEEK | MSG_TRUNC]),
    ),
    st.tuples(
        st.just("recvmsg"), st.integers(0, 3), st.sampled_from([10, 2000]),
        st.sampled_from([0, MSG_PEEK]),
    ),
    st.tuples(
        st.just("recvmmsg"), st.integers(0, 3), st.sampled_from([1, 7, 40, 200]),
        st.sampled_from([1, 64, 2000]), st.integers(0, 2),
    ),
    st.tuples(st.just("run"), st.sampled_from([0, 1000, 200_000, 50_000_000, 2_000_000_000])),
    st.tuples(st.just("run"), st.sampled_from([200_000, 50_000_000])),
    st.tuples(st.just("connect"), senders, st.sampled_from([0, 1, 2, 9])),
    st.tuples(st.just("close"), st.integers(0, 3)),
    st.tuples(
        st.just("option"), st.just("rx"), st.integers(0, 3), st.just(SOL_SOCKET),
        st.sampled_from([SO_RCVBUF]), st.sampled_from([2300, 20_000, 200_000]),
    ),
    st.tuples(
        st.just("option"), st.just("rx"), st.integers(0, 3), st.just(SOL_SOCKET),
        st.sampled_from([SO_PEEK_OFF, SO_RXQ_OVFL]), st.sampled_from([-1, 0, 1]),
    ),
    st.tuples(
        st.just("option"), st.just("rx"), st.sampled_from([0, 1, 3]), st.just(SOL_IP),
        st.sampled_from([IP_PKTINFO, IP_RECVTTL]), st.integers(0, 1),
    ),
    st.tuples(
        st.just("option"), st.just("tx"), senders, st.just(SOL_SOCKET),
        st.sampled_from([SO_SNDBUF, SO_NO_CHECK]), st.sampled_from([0, 5000, 100_000]),
    ),
    st.tuples(
        st.just("option"), st.just("tx"), st.sampled_from([0, 1, 3]), st.just(SOL_IP),
        st.sampled_from([IP_TTL, IP_TOS, IP_RECVERR, IP_MTU_DISCOVER]), st.integers(1, 4),
    ),
    st.tuples(
        st.just("option"), st.just("tx"), senders, st.just(SOL_UDP),
        st.sampled_from([UDP_CORK, UDP_SEGMENT]), st.sampled_from([0, 0, 0, 1]),
    ),
    st.tuples(st.just("watch"), st.integers(0, 2), st.integers(0, 1)),
)  # fmt: skip


ELSEWHERE = [("connect", 2, 0), ("send", 0, 0, 0, 0), ("sendmmsg", 2, [(2, 0, 1), (-1, 0, 1)], 0)]
"""Connected to an IPv4 address, a socket of IPv6 sends to one of IPv6, then to its peer."""
ANSWERED = [("watch", 0, 0), ("sendmmsg", 3, [(1, 0, 3)], 0)]
"""A tap sees a list of datagrams, and the errors that are the answer to each."""


@settings(max_examples=examples(40), deadline=None)
@example(program=ELSEWHERE, loss=0.0)
@example(program=[*[("send", 0, 0, 0, 0)] * 2, ("run", 0), *ANSWERED], loss=0.0)
@given(program=st.lists(steps, min_size=3, max_size=25), loss=st.sampled_from([0.0, 0.0, 0.1]))
def test_nobody_can_tell(program: list[tuple[Any, ...]], loss: float) -> None:
    on, off = run(program, True, loss), run(program, False, loss)
    assert on.log == off.log
    # At one moment, frames of both ways have no order: those of a list are all taken before the
    # first is answered (kernel: __netif_receive_skb_list_core).
    assert on.taps == off.taps
    for way in (1, 2):
        assert on.frames.of(way) == off.frames.of(way)
