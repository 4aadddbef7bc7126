"""The cores of DHCPv4, DHCPv6 and DNS against dnsmasq, over the kernel's own sockets.

Time is the tests': a lease of an hour is renewed by telling the core that half an hour has passed.
"""

from __future__ import annotations

import ipaddress
import select
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from stack.clients.action import NEVER, SetTimer
from stack.clients.dhcp4 import Configure, Deconfigure, Dhcp4Client, Send, SendArp
from stack.clients.dhcp4_request import Dhcp4Config
from stack.clients.dhcp4_state import State as State4
from stack.clients.dhcp4_wire import Dhcp4Message, MessageType
from stack.clients.dhcp6 import Configure6, Deconfigure6, Dhcp6Client, Send6
from stack.clients.dhcp6_state import State as State6
from stack.clients.dhcp6_wire import duid_ll
from stack.clients.dns_answer import Outcome
from stack.clients.dns_wire import RRType
from stack.clients.dnsname import name_from_text, name_to_text, reverse_name
from stack.clients.resolvconf import ResolvConf
from stack.clients.resolver import CloseSocket, Finished, Lookup, OpenStream, SendDatagram
from stack.core.uapi import AF_INET
from tests.linux.dnsmasq import SERVER4, SERVER6, Dnsmasq, VethPair
from tests.support import PATIENCE_S, eventually, require

pytestmark = pytest.mark.netns

SECOND = 1_000_000_000
MAC = bytes.fromhex("52540012ab01")
# A UDP socket of the kernel takes no unicast answer before the interface has the address.
CONFIG = Dhcp4Config(probes=0, hostname="emu", broadcast=True)
DEAD4 = "10.9.0.97"
"""An address that nobody has."""


@pytest.fixture(scope="module")
def cable() -> Iterator[VethPair]:
    require.netns()
    pair = VethPair()
    yield pair
    pair.close()


@pytest.fixture(scope="module")
def server(cable: VethPair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dnsmasq]:
    with Dnsmasq(cable.server, cable.inner, tmp_path_factory.mktemp("dnsmasq")) as running:
        yield running


def _silent(data: bytes) -> bool:
    """Whether a message of DHCPv4 is one that no server answers."""
    return Dhcp4Message.parse(data).type in (MessageType.DECLINE, MessageType.RELEASE)


class Driver:
    """One core over one kernel socket.

    dnsmasq answers each message but DECLINE and RELEASE of DHCPv4: an answer that is owed is waited
    for, and the core's timer goes off at once where none is. So a slow machine sees what a fast one
    does.
    """

    def __init__(self, core: Any, sock: socket.socket, send: Callable[[Any], None]) -> None:
        self.core, self.sock, self.send = core, sock, send
        self.now_ns = 0
        self.timer_ns = NEVER
        self.owed = False
        self.configured: list[Any] = []
        self.removed: list[Any] = []
        self.sent: list[bytes] = []

    def do(self, actions: list[Any]) -> None:
        for action in actions:
            match action:
                case SetTimer():
                    self.timer_ns = action.at_ns
                case Send() | Send6():
                    self.sent.append(action.data)
                    self.send(action)
                    self.owed = isinstance(action, Send6) or not _silent(action.data)
                case SendArp():
                    pass
                case Configure() | Configure6():
                    self.configured.append(action.lease)
                case Deconfigure() | Deconfigure6():
                    self.removed.append(action)

    def until(self, done: Callable[[], bool]) -> None:
        """Answers first, then the timer, until `done()`."""
        for _ in range(200):
            if done():
                return
            if select.select([self.sock], [], [], PATIENCE_S if self.owed else 0)[0]:
                self.owed = False
                self.do(self.core.received(self.sock.recv(4096), self.now_ns))
            else:
                assert self.timer_ns != NEVER, "nothing left to wait for"
                self.now_ns = max(self.now_ns, self.timer_ns)
                self.do(self.core.timer(self.now_ns))
        raise AssertionError("the core does not come to it")

    def skip(self, to_ns: int) -> None:
        """Let time pass without an answer."""
        self.now_ns = to_ns
        self.do(self.core.timer(self.now_ns))


# --- DHCPv4 ---------------------------------------------------------------------------------------


@pytest.fixture
def dhcp4(cable: VethPair, server: Dnsmasq) -> Iterator[Driver]:
    sock = cable.client.socket(socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, cable.outer.encode())
    sock.bind(("", 68))

    def send(action: Send) -> None:
        sock.sendto(action.data, (str(ipaddress.IPv4Address(action.daddr)), 67))

    core = Dhcp4Client(mac=MAC, random=Random(1), config=CONFIG)
    yield Driver(core, sock, send)
    cable.client.ip("-4", "addr", "flush", "dev", cable.outer)
    sock.close()


def configure4(cable: VethPair, driver: Driver) -> None:
    """Give the kernel the lease's address, as a runner would."""
    lease = driver.core.lease
    address = f"{ipaddress.IPv4Address(lease.address)}/{lease.prefixlen}"
    cable.client.ip("addr", "replace", address, "dev", cable.outer)


def test_dhcp4_lease_of_dnsmasq(cable: VethPair, server: Dnsmasq, dhcp4: Driver) -> None:
    dhcp4.do(dhcp4.core.start(0))
    dhcp4.until(lambda: dhcp4.core.in_use)
    lease = dhcp4.configured[0]
    assert ipaddress.IPv4Address(lease.address) in ipaddress.IPv4Network("10.9.0.48/28")
    assert lease.prefixlen == 24
    assert str(ipaddress.IPv4Address(lease.server)) == SERVER4
    assert lease.dns == (int(ipaddress.IPv4Address(SERVER4)),)
    assert lease.domain == "lan"
    assert lease.search == ("lan", "example.lan")
    assert lease.routes == ((0x0A4D0000, 16, 0x0A090009), (0, 0, 0x0A090001))
    assert (lease.t1_ns, lease.t2_ns, lease.expires_ns) == (
        1800 * SECOND, 3150 * SECOND, 3600 * SECOND,
    )  # fmt: skip
    line = f"{MAC.hex(':')} {ipaddress.IPv4Address(lease.address)} emu"
    eventually(lambda: line in server.leases.read_text(), "the lease in the file")

    # T1: a unicast renewal from the address itself
    configure4(cable, dhcp4)
    dhcp4.until(lambda: len(dhcp4.configured) == 2)
    assert dhcp4.now_ns == 1800 * SECOND
    assert dhcp4.configured[1].expires_ns == 5400 * SECOND
    # T2 without an answer at T1: a broadcast one
    dhcp4.core.timer(3600 * SECOND)
    dhcp4.skip(dhcp4.configured[1].t2_ns)
    assert dhcp4.core.state is State4.REBINDING
    dhcp4.until(lambda: dhcp4.core.state is State4.BOUND)
    assert dhcp4.removed == []
    # the end: it is given back
    dhcp4.do(dhcp4.core.stop(dhcp4.now_ns))
    eventually(lambda: "DHCPRELEASE" in server.log(), "the release")
    eventually(lambda: line not in server.leases.read_text(), "the end of the lease in the file")


def test_dhcp4_address_in_use_is_declined(server: Dnsmasq, dhcp4: Driver) -> None:
    dhcp4.core.config = replace(CONFIG, probes=3)
    dhcp4.core.mac = MAC[:5] + b"\x02"
    dhcp4.do(dhcp4.core.start(0))
    dhcp4.until(lambda: dhcp4.core.state is State4.CHECKING)
    taken = dhcp4.core.lease.address
    dhcp4.do(dhcp4.core.arp_received(b"\2\0\0\0\0\7", taken, 0, dhcp4.now_ns))
    assert dhcp4.core.state is State4.HELD_OFF
    eventually(lambda: "DHCPDECLINE" in server.log(), "what dnsmasq says of the decline")
    dhcp4.until(lambda: dhcp4.core.in_use)
    assert dhcp4.core.lease.address != taken
    assert dhcp4.now_ns > 10 * SECOND


def test_dhcp4_address_of_another_network_is_refused(dhcp4: Driver) -> None:
    dhcp4.core.mac = MAC[:5] + b"\x03"
    dhcp4.do(dhcp4.core.start(0, 0xC0A80105))
    assert dhcp4.core.state is State4.REBOOTING
    dhcp4.until(lambda: dhcp4.core.in_use)
    assert dhcp4.core.lease.address >> 8 == 0x0A0900


def test_dhcp4_reboot_gets_the_same_address(cable: VethPair, dhcp4: Driver) -> None:
    dhcp4.core.mac = MAC[:5] + b"\x04"
    dhcp4.do(dhcp4.core.start(0))
    dhcp4.until(lambda: dhcp4.core.in_use)
    address = dhcp4.core.lease.address
    dhcp4.do(dhcp4.core.stop(dhcp4.now_ns, release=False))
    before = len(dhcp4.sent)
    dhcp4.do(dhcp4.core.start(dhcp4.now_ns, address))
    dhcp4.until(lambda: dhcp4.core.in_use)
    assert dhcp4.core.lease.address == address
    assert len(dhcp4.sent) == before + 1


def test_dhcp4_inform(cable: VethPair, dhcp4: Driver) -> None:
    cable.client.ip("addr", "replace", "10.9.0.99/24", "dev", cable.outer)
    dhcp4.do(dhcp4.core.inform(0x0A090063, 0))
    dhcp4.until(lambda: bool(dhcp4.configured))
    assert dhcp4.configured[0].domain == "lan"


# --- DHCPv6 ---------------------------------------------------------------------------------------


@pytest.fixture
def dhcp6(cable: VethPair, server: Dnsmasq) -> Iterator[Driver]:
    sock = cable.client.socket(socket.SOCK_DGRAM, family=socket.AF_INET6)
    index = int(cable.client.run("cat", f"/sys/class/net/{cable.outer}/ifindex").stdout)
    sock.bind(("::", 546))

    def send(action: Send6) -> None:
        sock.sendto(action.data, ("ff02::1:2", 547, 0, index))

    core = Dhcp6Client(duid=duid_ll(MAC), iaid=1, random=Random(1))
    yield Driver(core, sock, send)
    sock.close()


def test_dhcp6_lease_of_dnsmasq(server: Dnsmasq, dhcp6: Driver) -> None:
    dhcp6.do(dhcp6.core.start(0))
    dhcp6.until(lambda: bool(dhcp6.configured))
    lease = dhcp6.configured[0]
    (leased,) = lease.addresses
    assert leased.address >> 64 == 0xFD09 << 48
    assert lease.dns == (int(ipaddress.IPv6Address(SERVER6)),)
    assert lease.search == ("lan",)
    assert leased.valid_ns == dhcp6.now_ns + 3600 * SECOND
    assert lease.t1_ns is not None
    text = str(ipaddress.IPv6Address(leased.address))
    eventually(lambda: text in server.leases.read_text(), "the lease in the file")

    dhcp6.until(lambda: len(dhcp6.configured) == 2)  # RENEW
    assert dhcp6.now_ns >= lease.t1_ns
    dhcp6.skip(dhcp6.configured[1].t2_ns)
    assert dhcp6.core.state is State6.REBIND
    dhcp6.until(lambda: dhcp6.core.state is State6.BOUND)
    dhcp6.do(dhcp6.core.link_changed(dhcp6.now_ns))
    assert dhcp6.core.state is State6.CONFIRM
    dhcp6.until(lambda: dhcp6.core.state is State6.BOUND)
    assert dhcp6.removed == []
    for words in ("DHCPRENEW", "DHCPREBIND", "DHCPCONFIRM"):
        eventually(lambda words=words: words in server.log(), words)
    dhcp6.do(dhcp6.core.stop(dhcp6.now_ns))
    dhcp6.until(lambda: dhcp6.core.state is State6.STOPPED)
    eventually(lambda: text not in server.leases.read_text(), "the end of the lease in the file")


def test_dhcp6_rapid_commit(dhcp6: Driver) -> None:
    dhcp6.core.rapid_commit = True
    dhcp6.core.duid = duid_ll(MAC[:5] + b"\x12")
    dhcp6.do(dhcp6.core.start(0))
    dhcp6.until(lambda: bool(dhcp6.configured))
    assert len(dhcp6.sent) == 1


def test_dhcp6_duplicate_is_declined(server: Dnsmasq, dhcp6: Driver) -> None:
    dhcp6.core.duid = duid_ll(MAC[:5] + b"\x13")
    dhcp6.do(dhcp6.core.start(0))
    dhcp6.until(lambda: bool(dhcp6.configured))
    taken = dhcp6.core.lease.addresses[0].address
    dhcp6.do(dhcp6.core.declined((taken,), dhcp6.now_ns))
    dhcp6.until(lambda: len(dhcp6.configured) == 2)
    assert dhcp6.core.lease.addresses[0].address != taken
    eventually(lambda: "DHCPDECLINE" in server.log(), "what dnsmasq says of the decline")


def test_dhcp6_information_only(dhcp6: Driver) -> None:
    dhcp6.do(dhcp6.core.start(0, stateless=True))
    dhcp6.until(lambda: bool(dhcp6.configured))
    assert dhcp6.configured[0].addresses == ()
    assert dhcp6.configured[0].search == ("lan",)


# --- DNS ------------------------------------------------------------------------------------------


def resolve(
    cable: VethPair, name: Any, types: tuple[int, ...], servers: str
) -> tuple[Finished, int]:
    """Drive a Lookup over kernel sockets; its result and how many streams it took.

    Its timer goes off when only a server that is not there has been asked.
    """
    made = ResolvConf.parse("search lan\n" + servers)
    core = Lookup(name, types, conf=made, random=Random(1))
    sockets: dict[int, socket.socket] = {}
    now = 0
    timer = NEVER
    streams = 0
    waits = 0.0
    result: list[Finished] = []

    def do(actions: list[Any]) -> None:
        nonlocal timer, streams, waits
        for action in actions:
            match action:
                case SetTimer():
                    timer = action.at_ns
                case SendDatagram() | OpenStream():
                    server = action.server
                    family = socket.AF_INET if server.family == AF_INET else socket.AF_INET6
                    size = 4 if server.family == AF_INET else 16
                    text = socket.inet_ntop(family, server.addr.to_bytes(size, "big"))
                    if action.number not in sockets:
                        stream = isinstance(action, OpenStream)
                        kind = socket.SOCK_STREAM if stream else socket.SOCK_DGRAM
                        streams += stream
                        sockets[action.number] = cable.client.socket(kind, family=family)
                        sockets[action.number].connect((text, 53))
                    sockets[action.number].sendall(action.data)
                    waits = 0 if text == DEAD4 else PATIENCE_S
                case CloseSocket():
                    sockets.pop(action.number).close()
                case Finished():
                    result.append(action)

    do(core.start(now))
    while not result:
        ready = select.select(list(sockets.values()), [], [], waits)[0]
        if not ready:
            now = timer
            do(core.timer(now))
        for sock in ready:
            number = next((n for n, s in sockets.items() if s is sock), -1)
            if number < 0:
                continue
            try:
                data = sock.recv(65535)
            except OSError:
                do(core.failed(number, now))
                continue
            take = core.stream if sock.type == socket.SOCK_STREAM else core.datagram
            do(take(number, data, now))
    return result[0], streams


@pytest.fixture
def routed(cable: VethPair, server: Dnsmasq) -> VethPair:
    cable.client.ip("addr", "replace", "10.9.0.98/24", "dev", cable.outer)
    cable.client.ip("addr", "replace", "fd09::98/64", "dev", cable.outer, "nodad")
    return cable


BOTH = (RRType.A, RRType.AAAA)


@pytest.mark.parametrize("servers", [f"nameserver {SERVER4}\n", f"nameserver {SERVER6}\n"])
def test_names_of_dnsmasq(routed: VethPair, servers: str) -> None:
    result, _ = resolve(routed, "seven", BOTH, servers)
    assert [r.data for r in result.records] == [0x0A090007, 0xFD09 << 112 | 7]
    result, _ = resolve(routed, "alias.lan", (RRType.A,), servers)
    assert name_to_text(result.canonical) == "seven.lan"
    assert [name_to_text(n) for n in result.aliases] == ["alias.lan"]
    result, _ = resolve(routed, "six.lan", (RRType.A,), servers)
    assert result.outcome is Outcome.NO_DATA
    result, _ = resolve(routed, "nowhere.lan", BOTH, servers)
    assert result.outcome is Outcome.NO_NAME
    result, _ = resolve(routed, reverse_name(0x0A090007, 32), (RRType.PTR,), servers)
    assert result.records[0].data == name_from_text("seven.lan")


@pytest.mark.parametrize("options", ["", "options no-edns0\n", "options use-vc\n"])
def test_long_answer_comes_by_tcp(routed: VethPair, options: str) -> None:
    servers = f"nameserver {SERVER4}\n" + options
    result, streams = resolve(routed, "many.lan", (RRType.A,), servers)
    assert len(result.records) == 119
    assert streams == 1


def test_dead_server_is_passed_over(routed: VethPair) -> None:
    servers = f"nameserver {DEAD4}\nnameserver {SERVER4}\noptions timeout:1\n"
    result, _ = resolve(routed, "seven", (RRType.A,), servers)
    assert [r.data for r in result.records] == [0x0A090007]


def test_foreign_name_is_refused_and_tried_again(routed: VethPair) -> None:
    result, _ = resolve(routed, "www.example.org.", (RRType.A,), f"nameserver {SERVER4}\n")
    assert result.outcome is Outcome.TRY_AGAIN
