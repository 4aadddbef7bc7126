"""A program's own function raises within a packet: who called gets it, and the host goes on.

Hooks, callbacks and the handlers of signals are such functions; a signal's may come anywhere.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from e1000emu.clock import RealClock, VirtualClock
from stack import COMPILED
from stack.core.netfilter import (
    NF_ACCEPT,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    nf_register_net_hook,
)
from stack.host import Host
from stack.socket import AF_INET, SOCK_DGRAM, SOCK_STREAM, Socket

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


@pytest.fixture
def host() -> Iterator[Host]:
    with Host("solo", clock=VirtualClock()) as host:
        yield host


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
