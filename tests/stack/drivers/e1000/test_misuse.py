"""Our driver does nothing that the device's rules of misuse know: not with a strict device."""

from __future__ import annotations

from contextlib import suppress
from socket import AF_INET, SOCK_STREAM

import pytest

from e1000emu.lab import two_hosts
from stack.core.dev import dev_close, dev_mc_add, dev_open, dev_set_mtu, dev_set_promiscuity
from stack.drivers.e1000.main import e1000_netdev_ops
from tests.stack.drivers.e1000.machine import MAC_B, SECOND, Machine, cabled


def strict(*machines: Machine) -> None:
    for machine in machines:
        machine.nic.misuse.strict = True


def clean(machine: Machine) -> None:
    assert machine.nic.misuse.events() == []
    assert machine.nic.misuse.cases() == []
    assert machine.nic.explain() == []


def test_probe_open_close_and_remove(down: Machine) -> None:
    strict(down)
    for _ in range(2):
        assert dev_open(down.dev) == 0
        assert down.host.wait_carrier("eth0")
        down.run(5 * SECOND)
        assert down.nic.misuse.events() == []
        dev_close(down.dev)
    assert down.nic.misuse.cases() == []


def test_traffic_both_ways_through_rings_that_wrap() -> None:
    a, b = cabled()
    strict(a, b)
    for n in range(700):
        assert a.send(bytes([n & 0xFF]) * (n % 1400), dst=MAC_B) == 0
        b.send(b"back" * 20)
        a.run()
    a.run(SECOND)
    assert len(b.received) == 700
    assert len(a.received) == 700
    clean(a)
    clean(b)


def test_every_setting_an_administrator_has() -> None:
    a, b = cabled()
    strict(a, b)
    for mtu in (9000, 1500, 576):
        assert dev_set_mtu(a.dev, mtu) == 0
        a.run(5 * SECOND)
    dev_set_promiscuity(a.dev, 1)
    dev_set_promiscuity(a.dev, -1)
    for i in range(40):
        dev_mc_add(a.dev, bytes([1, 0, 0x5E, 0, 0, i]))
    assert e1000_netdev_ops.ndo_set_mac_address(a.dev, b"\x52\x54\x00\x77\x00\x01") == 0
    a.send(b"hello")
    b.send(b"hello")
    a.run(5 * SECOND)
    assert b.received
    clean(a)
    clean(b)


@pytest.mark.parametrize("model", ["82540EM", "82545EM", "82544GC"])
def test_tcp_between_two_hosts(model: str) -> None:
    a, b = two_hosts(models=(model, model), strict=True)
    with a, b:
        server = b.socket(AF_INET, SOCK_STREAM)
        server.bind(("10.0.0.2", 9))
        server.listen(1)
        client = a.socket(AF_INET, SOCK_STREAM)
        client.setblocking(False)
        with suppress(BlockingIOError):
            client.connect(("10.0.0.2", 9))
        far, _ = server.accept()
        sent = got = 0
        while got < 300_000:
            with suppress(BlockingIOError):
                sent += client.send(bytes(min(65536, 300_000 - sent)))
            got += len(far.recv(65536))
        for host in (a, b):
            nic = host.nics["eth0"]
            assert nic.misuse.cases() == []
            assert nic.misuse.events() == []
            nic.misuse.strict = False  # the first host to close takes the other's link away
