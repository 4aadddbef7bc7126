"""A guest's Linux against our own stack: two NICs of ours on a cable, in this process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e1000emu.clock import RealClock
from e1000emu.guest import GuestImage, GuestLinux
from e1000emu.lab import add_nic
from e1000emu.links import Capture, pair
from stack.core.ethtool import ethtool_set_features
from stack.host import Host
from tests.guest.setup import (
    AUTONEG_NS,
    DATA_PORT,
    GUEST,
    WAIT_S,
    content,
    fields,
    ping,
    serve_and_boot,
    sha256,
    trouble,
    wait_carrier,
    wire_is_right,
)
from tests.linux.peer import Worker, receive_all, wait_for_addresses
from tests.support import Rig, kept, require

pytestmark = pytest.mark.slow

COPIES = 6
OURS, OURS6, GUEST6 = "10.9.0.1", "2001:db8:9::1", "2001:db8:9::2"


@dataclass(frozen=True)
class Ends:
    """Both ends' addresses in one family."""

    af: int
    ours: str
    guest: str
    header_bytes: int


BOTH = pytest.mark.parametrize(
    "ends",
    [Ends(socket.AF_INET, OURS, GUEST, 20), Ends(socket.AF_INET6, OURS6, GUEST6, 40)],
    ids=["IPv4", "IPv6"],
)


class Beside(Rig):
    """A guest and a host of ours."""

    host: Host
    guest: GuestLinux

    def socket(self, kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET) -> Any:
        sock = self.host.socket(family, kind)
        sock.settimeout(WAIT_S)
        return sock


class OnStack(Beside):
    """The guest at 10.9.0.2 and 2001:db8:9::2, a host of ours at 10.9.0.1 and 2001:db8:9::1."""

    def __init__(self, image: GuestImage, directory: Path) -> None:
        with ExitStack() as stack:
            self.clock = kept(stack, RealClock())
            self.cable, end = pair(self.clock)
            self.host = kept(stack, Host("ours", clock=self.clock))
            add_nic(self.host, end, addr=f"{OURS}/24", wait=False, autoneg_ns=AUTONEG_NS)
            self.capture = directory / "wire.pcapng"
            link = Capture(self.cable, self.capture)
            self.writer = link.writer
            stack.callback(link.writer.close)
            self.server, self.guest = serve_and_boot(
                stack, image, "82540EM", directory, link, self.clock
            )
            self.host.ifconfig("eth0", f"{OURS6}/64")
            # as it comes: duplicate address detection, MLD and all
            self.guest.run("echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6").check()
            self.guest.run(f"ip -6 addr add {GUEST6}/64 dev eth0").check()
            self.guest.run(
                "while ip -6 addr show dev eth0 | grep -q tentative; do sleep 0.1; done"
            ).check()
            wait_for_addresses(self.host)
            self._stack = stack.pop_all()


@pytest.fixture(scope="module")
def lan(image: GuestImage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnStack]:
    require.tool("tshark")
    with OnStack(image, tmp_path_factory.mktemp("stack")) as made:
        yield made
    wire_is_right(made.capture)


@pytest.fixture(autouse=True)
def no_trouble(lan: OnStack):
    """After each test the guest's log is clean."""
    yield
    # With frames in its ring when the link goes, the driver resets the card to be rid of them.
    wrong = [line for line in trouble(lan.guest) if "Reset adapter" not in line]
    assert wrong == []


def listen(lan: Beside, family: int = socket.AF_INET, to: str = "") -> Any:
    sock = lan.socket(family=family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((to or (OURS if family == socket.AF_INET else OURS6), DATA_PORT))
    sock.listen(1)
    return sock


def upload(lan: Beside, family: int, ours: str) -> None:
    """The content goes from the guest to us."""
    listener = listen(lan, family, ours)
    worker = Worker(lambda: receive_all(listener.accept()[0]), ())
    lan.guest.run(f"cat /tmp/data >/dev/tcp/{ours}/{DATA_PORT}", timeout_s=WAIT_S).check()
    assert worker.result(WAIT_S) == content()
    listener.close()


def download(lan: Beside, family: int, ours: str) -> None:
    """The content goes from us to the guest."""
    listener = listen(lan, family, ours)

    def serve() -> None:
        sock, _ = listener.accept()
        sock.sendall(content())
        sock.close()

    worker = Worker(serve, ())
    made = lan.guest.run(f"sha256sum </dev/tcp/{ours}/{DATA_PORT}", timeout_s=WAIT_S).check()
    worker.result(WAIT_S)
    assert made.stdout.split()[0] == sha256(content())
    listener.close()


def streams(lan: Beside, family: int, ours: str) -> None:
    """The content goes from the guest to us over a connection, and back over another."""
    upload(lan, family, ours)
    download(lan, family, ours)


@BOTH
def test_guest_pings_our_stack(lan, ends):
    for size in (0, 56, 1500 - ends.header_bytes - 8):
        ping(lan.guest, ends.ours, size=size)
    ping(lan.guest, ends.ours, size=20000, count=2, whole=False)


@BOTH
def test_guest_sends_to_our_stack(lan, ends):
    upload(lan, ends.af, ends.ours)


@BOTH
def test_our_stack_sends_to_the_guest(lan, ends):
    download(lan, ends.af, ends.ours)


@BOTH
def test_our_stack_connects_to_the_guest(lan, ends):
    """The guest listens, and content goes both ways at once."""
    job = lan.guest.spawn(f"busybox nc -l -p {DATA_PORT} </tmp/data | sha256sum")
    lan.guest.run(f"until ss -ltn | grep -q :{DATA_PORT}; do sleep 0.1; done").check()
    sock = lan.socket(family=ends.af)
    sock.connect((ends.guest, DATA_PORT))
    worker = Worker(receive_all, (sock, len(content())))
    sock.sendall(content())
    sock.shutdown(socket.SHUT_WR)
    assert worker.result(WAIT_S) == content()
    sock.close()
    assert job.wait(WAIT_S).check().stdout.split()[0] == sha256(content())


@BOTH
def test_datagrams_both_ways(lan, ends):
    sock = lan.socket(socket.SOCK_DGRAM, ends.af)
    sock.bind((ends.ours, DATA_PORT))
    job = lan.guest.spawn(
        f"exec 5<>/dev/udp/{ends.ours}/{DATA_PORT}; for i in $(seq 50); do echo $i >&5; "
        "echo got $(dd bs=2048 count=1 <&5 2>/dev/null); done"
    )
    for i in range(1, 51):
        data, sender = sock.recvfrom(2048)
        assert data == b"%d\n" % i
        sock.sendto(b"%d\n" % (i * i), sender)
    want = "".join(f"got {i * i}\n" for i in range(1, 51))
    assert job.wait(WAIT_S).check().stdout == want
    sock.close()


def test_cable_is_pulled_and_plugged_in_again(lan):
    def plug(connected: bool) -> None:
        with lan.clock.lock:
            lan.cable.plug(connected)

    ping(lan.guest, OURS)
    for _ in range(3):
        plug(False)
        wait_carrier(lan.guest, up=False)
        assert "Link detected: no" in lan.guest.run("ethtool eth0").stdout
        assert lan.guest.run(f"ping -c 1 -W 1 {OURS}").returncode != 0
        plug(True)
        wait_carrier(lan.guest)
        assert lan.host.wait_carrier("eth0", int(WAIT_S * 1e9))
        lan.guest.run("ip neigh flush dev eth0").check()  # it was asked for in vain
        ping(lan.guest, OURS)
    log = lan.guest.dmesg()
    assert log.count("NIC Link is Down") >= 3
    assert log.count("NIC Link is Up 1000 Mbps Full Duplex") >= 4


def test_cable_is_pulled_in_mid_transfer(lan):
    listener = listen(lan)

    def drain() -> bytes:
        sock, _ = listener.accept()
        data = bytearray(receive_all(sock, 1 << 20))
        with lan.clock.lock:
            lan.cable.plug(False)
        wait_carrier(lan.guest, up=False)
        with lan.clock.lock:
            lan.cable.plug(True)
        data += receive_all(sock)
        sock.close()
        return bytes(data)

    worker = Worker(drain, ())
    # More than the receiver's buffer may grow to: not all of it is here before the cable goes.
    sending = f"(for i in $(seq {COPIES}); do cat /tmp/data; done) >/dev/tcp/{OURS}/{DATA_PORT}"
    lan.guest.run(sending, timeout_s=WAIT_S).check()
    assert worker.result(WAIT_S) == content() * COPIES
    listener.close()


@pytest.fixture
def vlan(lan: OnStack) -> Iterator[None]:
    """VLAN 10 on both ends, the guest's made by its kernel."""
    lan.host.add_vlan("eth0.10", "eth0", 10, up=True)
    lan.host.ifconfig("eth0.10", f"{VLAN_OURS}/24")
    commands = f"""
        modprobe 8021q
        ip link add link eth0 name eth0.10 type vlan id 10 egress-qos-map 0:5
        ip addr add {VLAN_GUEST}/24 dev eth0.10; ip link set eth0.10 up
    """
    lan.guest.run(commands).check()
    yield
    lan.host.del_link("eth0.10")
    lan.guest.run("ip link del eth0.10").check()


VLAN_OURS, VLAN_GUEST = "10.10.0.1", "10.10.0.2"


@pytest.mark.usefixtures("vlan")
@pytest.mark.parametrize("offload", [True, False], ids=["tags by the NIC", "tags in the frame"])
def test_a_vlan_of_linux_and_one_of_ours(lan, offload):
    ethtool_set_features(lan.host.dev("eth0"), {"rxvlan": offload})
    lan.guest.run(f"ethtool -K eth0 rxvlan {'on' if offload else 'off'}").check()
    for size in (0, 56, 1472):
        ping(lan.guest, VLAN_OURS, size=size)
    streams(lan, socket.AF_INET, VLAN_OURS)
    lan.writer.flush()
    # The guest's tags say priority 5, and nothing of the VLAN went without one.
    rows = fields(lan.capture, f"ip.addr == {VLAN_GUEST}", "vlan.id", "vlan.priority", "ip.src")
    assert {row[0] for row in rows} == {"10"}
    assert {row[1] for row in rows if row[2] == VLAN_GUEST} == {"5"}
    assert fields(lan.capture, f"ip.addr == {VLAN_GUEST} && !vlan", "frame.number") == []
