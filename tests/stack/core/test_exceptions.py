"""A program's own function raises within a packet: who called gets it, and the host goes on.

Hooks, callbacks and the handlers of signals are such functions; a signal's may come anywhere.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from e1000emu.clock import RealClock, VirtualClock
from e1000emu.lab import two_hosts
from fastpath.base.skbuff import kfree_skb
from stack import COMPILED
from stack.core.dev import dev_get_stats
from stack.core.dev_receive import dev_add_pack, netdev_rx_handler_register
from stack.core.ethtool import ethtool_set_features
from stack.core.netdevice import ETH_P_ALL, RX_HANDLER_PASS, packet_type
from stack.core.netfilter import (
    NF_ACCEPT,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
    nf_register_net_hook,
)
from stack.core.sock import sk_sleep
from stack.host import Host
from stack.socket import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM, Socket

HOOKS = (NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING)


class Wrong(Exception):
    """What the functions here raise."""


class Hook:
    """Raises once for each time that it is armed."""

    armed = False

    def __call__(self, skb: Any, state: Any) -> int:
        if self.armed:
            self.armed = False
            raise Wrong
        return NF_ACCEPT


@pytest.mark.parametrize("hooknum", HOOKS)
def test_a_hook_that_raises_stops_nothing(host: Host, hooknum: int) -> None:
    address = ("127.0.0.1", 9)
    with host.socket(AF_INET, SOCK_DGRAM) as receiver, host.socket(AF_INET, SOCK_DGRAM) as sender:
        receiver.bind(address)
        hook = Hook()
        nf_register_net_hook(host, hooknum, hook)
        receiver.setblocking(False)
        for number in range(3):
            hook.armed = True
            with pytest.raises(Wrong):
                sender.sendto(b"lost", address)
            wanted = b"%d" % number
            sender.sendto(wanted, address)
            host.clock.run_for(1_000_000)
            assert receiver.recv(100) == wanted
    assert host.machine.softirq_count == 0


def test_the_next_send_of_a_stream_sends_what_a_hook_broke_off(host: Host) -> None:
    with host.socket(AF_INET, SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 9))
        listener.listen()
        with host.socket(AF_INET, SOCK_STREAM) as client:
            client.connect(("127.0.0.1", 9))
            server, _ = listener.accept()
            hook = Hook()
            nf_register_net_hook(host, NF_INET_LOCAL_IN, hook)
            hook.armed = True
            with pytest.raises(Wrong):
                client.send(bytes(range(250)) * 40)
            client.send(b"more")
            got = b""
            while len(got) < 10_004:
                got += server.recv(20_000)
            server.close()
    assert got == bytes(range(250)) * 40 + b"more"
    assert not hook.armed


@pytest.mark.skipif(not COMPILED, reason="uncompiled the handler may raise between any two lines")
def test_a_signals_handler_that_raises_in_a_send_stops_nothing() -> None:
    """What CPython's Interrupted*Test do once, many times: over lo the sender receives, too."""

    def handler(*args: object) -> None:
        raise Wrong

    def send_until_interrupted(sender: Socket, seconds: float) -> None:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)  # once, and it may be at once
            while True:
                sender.send(bytes(100))
        except Wrong:
            return

    clock = RealClock().start()
    before = signal.signal(signal.SIGALRM, handler)
    try:
        with Host("signals", clock=clock) as host, host.socket(AF_INET, SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            receiver.settimeout(30)
            with host.socket(AF_INET, SOCK_DGRAM) as sender:
                sender.connect(receiver.getsockname())
                for number in range(100):
                    send_until_interrupted(sender, (1 + number % 40) * 5e-5)
                    receiver.setblocking(False)
                    with suppress(BlockingIOError):
                        while True:
                            receiver.recv(200)
                    receiver.settimeout(30)
                    wanted = b"check %d" % number
                    sender.send(wanted)
                    while receiver.recv(200) != wanted:
                        pass
    finally:
        signal.signal(signal.SIGALRM, before)
        clock.stop()


# -- from the NIC --------------------------------------------------------------------------------

PORTS = (5000, 5001, 5002, 5003)
ADDRESS6 = ("fd00::1/64", "fd00::2/64")


class Nth:
    """Raises at the calls whose numbers it was given, from 0; `at` is the next number."""

    def __init__(self) -> None:
        self.at = 0
        self.wrong: set[int] = set()

    def __call__(self) -> None:
        number, self.at = self.at, self.at + 1
        if number in self.wrong:
            raise Wrong(number)

    def raise_at(self, *numbers: int) -> None:
        self.at = 0
        self.wrong = set(numbers)


def hook_at(hooknum: int) -> Callable[[Host, list[Socket], Nth], None]:
    def put(host: Host, socks: list[Socket], nth: Nth) -> None:
        def hook(skb: Any, state: Any) -> int:
            if skb.len >= TOLD:
                nth()
            return NF_ACCEPT

        for family in (NFPROTO_IPV4, NFPROTO_IPV6):
            nf_register_net_hook(host, hooknum, hook, family)

    return put


def tap(host: Host, socks: list[Socket], nth: Nth) -> None:
    def func(skb: Any, dev: Any, pt: Any, orig_dev: Any) -> int:
        long = skb.len >= TOLD and skb.pkt_type != 4
        kfree_skb(skb)
        if long:
            nth()
        return 0

    dev_add_pack(host, packet_type(ETH_P_ALL, func))


def rx_handler(host: Host, socks: list[Socket], nth: Nth) -> None:
    def handler(skb: Any) -> int:
        if skb.len >= TOLD:
            nth()
        return RX_HANDLER_PASS

    assert netdev_rx_handler_register(host.dev("eth0"), handler, None) == 0


def callback(host: Host, socks: list[Socket], nth: Nth) -> None:
    for sock in socks:
        sk_sleep(sock.sk).add(nth)


TOLD = 300
"""Bytes of a packet that functions look at: data, not neighbours, ACKs and the like."""

WAYS = {
    "pre_routing": hook_at(NF_INET_PRE_ROUTING),
    "local_in": hook_at(NF_INET_LOCAL_IN),
    "tap": tap,
    "rx_handler": rx_handler,
    "callback": callback,
}
CABLES: dict[str, dict[str, Any]] = {
    "direct": {},
    "slow": {"rate_bps": 10_000_000, "latency_ns": 50_000, "queue_frames": 4},
}


def run_through(clock: VirtualClock, ns: int) -> list[int]:
    """Let time pass; the numbers of the calls that raised."""
    told = []
    end = clock.now_ns() + ns
    while clock.now_ns() < end:
        try:
            clock.run_until(end)
        except Wrong as wrong:
            told.append(wrong.args[0])
    return told


@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
@pytest.mark.parametrize("cable", CABLES)
@pytest.mark.parametrize("gro", [True, False])
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("flows", [1, 4])
@pytest.mark.parametrize("way", WAYS)
def test_what_raises_behind_a_nic_costs_one_frame(
    way: str, flows: int, batch: int, gro: bool, cable: str, family: int
) -> None:
    """Of a batch some raise: those are lost (a callback's are queued already), the rest arrives
    once, and so does what comes later; every counter knows of every frame."""
    sysctl = {"net.core.gro_normal_batch": batch}
    a, b = two_hosts(sysctl=sysctl, **CABLES[cable])
    with a, b:
        for host, address in zip((a, b), ADDRESS6, strict=True):
            host.ifconfig("eth0", address)
        if not gro:
            ethtool_set_features(b.dev("eth0"), {"gro": False})
        a.clock.run_for(5 * 10**9)  # duplicate addresses
        to = "10.0.0.2" if family == AF_INET else "fd00::2"
        socks = [b.socket(family, SOCK_DGRAM) for _ in PORTS]
        for sock, port in zip(socks, PORTS, strict=True):
            sock.bind(("", port))
            sock.setblocking(False)
        sender = a.socket(family, SOCK_DGRAM)
        sender.sendto(b"who has", (to, PORTS[0]))
        a.clock.run_for(10**8)
        assert socks[0].recv(100) == b"who has"
        nth = Nth()
        WAYS[way](b, socks, nth)
        for turn in range(3):
            before = dev_get_stats(b.dev("eth0")).rx_packets
            ipv4 = b.mib.ip.InReceives
            nth.raise_at(2, 3, 9)
            sent = [(b"%d.%02d" % (turn, n)).ljust(TOLD, b"x") for n in range(12)]
            rows = [(data, (to, PORTS[n % flows])) for n, data in enumerate(sent)]
            assert sender.sendmmsg(rows) == len(rows)
            told = run_through(a.clock, 10**8)
            if way == "callback":  # one for a merged packet
                assert sorted(told) == [n for n in (2, 3, 9) if n < nth.at]
            else:
                assert sorted(told) == [2, 3, 9]
            nth.raise_at()
            got: list[bytes] = []
            for sock in socks:
                with suppress(BlockingIOError):
                    while True:
                        got.append(sock.recv(2000))
            assert len(set(got)) == len(got) == len(sent) - (0 if way == "callback" else 3)
            assert set(got) <= set(sent)
            assert dev_get_stats(b.dev("eth0")).rx_packets - before == len(sent)
            if family == AF_INET:
                unseen = 3 if way in ("tap", "rx_handler") else 0
                assert b.mib.ip.InReceives - ipv4 == len(sent) - unseen
        machine = b.machine
        assert not machine.raised
        assert not machine.softirq_count
        assert not machine.hardirq_count
        assert not machine.softnet_data.poll_list


@pytest.mark.parametrize("cable", CABLES)
@pytest.mark.parametrize("way", WAYS)
def test_a_stream_survives_what_raises_behind_the_nic(way: str, cable: str) -> None:
    a, b = two_hosts(**CABLES[cable])
    with a, b:
        listener = b.socket(AF_INET, SOCK_STREAM)
        listener.bind(("", 80))
        listener.listen()
        client = a.socket(AF_INET, SOCK_STREAM)
        client.connect(("10.0.0.2", 80))
        server, _ = listener.accept()
        nth = Nth()
        WAYS[way](b, [server], nth)
        nth.raise_at(*range(1, 40, 3))
        data = bytes(range(256)) * 1000
        rest = memoryview(data)
        client.setblocking(False)
        server.setblocking(False)
        got = bytearray()
        told: list[int] = []
        while len(got) < len(data):
            with suppress(BlockingIOError):
                rest = rest[client.send(rest) :]
            told += run_through(a.clock, 10**6)
            with suppress(BlockingIOError):
                got += server.recv(1 << 20)
        assert got == data
        assert told
        assert not Counter(told) - Counter(nth.wrong)
        nth.raise_at()  # nothing when the sockets are closed
