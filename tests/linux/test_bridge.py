"""Linux bridged to Linux by our host; and Linux's own bridge, which does what ours does."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from e1000emu.clock import RealClock
from e1000emu.lab import add_nic
from e1000emu.links import Capture, Tap
from stack.api.links import bridge_fdb
from stack.host import Host
from tests.linux.peer import DATA_PORT, Peer, connection, judged, pattern, stream
from tests.stack.links.switch import BROADCAST, Switch, frame, port_address, station
from tests.support import Rig, kept, quiet_ipv6, require

pytestmark = pytest.mark.netns

AF_PACKET, ETH_P_ALL, ETH_P_TEST, PACKET_OUTGOING = 17, 3, 0x88B5, 4
SOL_PACKET, PACKET_AUXDATA = 263, 8
ADDRESSES = {
    socket.AF_INET: ("10.9.0.11", "10.9.0.12", "10.9.0.13"),
    socket.AF_INET6: ("2001:db8:9::11", "2001:db8:9::12", "2001:db8:9::13"),
}
"""Near, far, and the bridge's own."""


class Bridged(Rig):
    """`near` and `far` are namespaces; between them `host`, a bridge of two NICs on TAPs."""

    def __init__(self, directory: Path) -> None:
        with contextlib.ExitStack() as stack:
            self.clock = kept(stack, RealClock())
            self.peers: list[Peer] = []
            self.captures = [directory / "near.pcapng", directory / "far.pcapng"]
            links = []
            for number in range(2):
                peer = kept(stack, Peer())
                tap = kept(stack, Tap(peer.tap_name, self.clock))
                peer.take(tap.name)
                quiet_ipv6(tap.name, peer.name)
                peer.ip("link", "set", "lo", "up")
                peer.ip("link", "set", tap.name, "up")
                peer.write(f"/proc/sys/net/ipv6/conf/{tap.name}/accept_dad", 0)
                peer.write(f"/proc/sys/net/ipv6/conf/{tap.name}/disable_ipv6", 0)
                peer.ip("addr", "add", f"{ADDRESSES[socket.AF_INET][number]}/24", "dev", tap.name)
                addr6 = f"{ADDRESSES[socket.AF_INET6][number]}/64"
                peer.ip("addr", "add", addr6, "dev", tap.name, "nodad")
                link = Capture(tap, self.captures[number])
                stack.callback(link.writer.close)
                self.peers.append(peer)
                links.append(link)
            self.near, self.far = self.peers
            self.clock.start()
            stack.callback(self.clock.stop)
            knobs = {"net.ipv6.conf.default.accept_dad": 0}
            self.host = kept(stack, Host(name="switch", clock=self.clock, seed=2, sysctl=knobs))
            for number, link in enumerate(links):
                add_nic(self.host, link, mac=port_address(number))
            self.host.add_bridge("br0", ["eth0", "eth1"], up=True)
            self.host.ifconfig("br0", f"{ADDRESSES[socket.AF_INET][2]}/24")
            self.host.ifconfig("br0", f"{ADDRESSES[socket.AF_INET6][2]}/64")
            self._stack = stack.pop_all()

    def mac(self, peer: Peer) -> bytes:
        """The address of a peer's TAP."""
        text = peer.run("cat", f"/sys/class/net/{peer.tap_name}/address").stdout.decode()
        return bytes.fromhex(text.strip().replace(":", ""))


@pytest.fixture(scope="module")
def bridged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridged]:
    """One bridge for all; in the end tshark judges every frame of both links."""
    require.taps()
    require.tool("tshark")
    with Bridged(tmp_path_factory.mktemp("bridged")) as made:
        yield made
    for path in made.captures:
        assert list(judged(path)) == []


FAMILY = pytest.mark.parametrize("af", list(ADDRESSES), ids=["IPv4", "IPv6"])


@FAMILY
def test_pings_pass_and_both_are_learned(bridged: Bridged, af: int) -> None:
    """With ARP, or IPv6's neighbour discovery to multicast addresses, before them."""
    near, far, own = ADDRESSES[af]
    for peer, targets in ((bridged.near, (far, own)), (bridged.far, (near, own))):
        for to in targets:
            for size in (56, 1452, 8000):
                assert peer.ping(to, size=size) >= 3
    with bridged.host.lock:
        lines = bridge_fdb(bridged.host).splitlines()
    for number, peer in enumerate(bridged.peers):
        assert f"{bridged.mac(peer).hex(':')} dev eth{number} master br0" in lines


@FAMILY
def test_streams_pass_both_ways(bridged: Bridged, af: int) -> None:
    data = pattern(2_000_000)
    near, far, _own = ADDRESSES[af]
    ends = ((bridged.near, bridged.far, far), (bridged.far, bridged.near, near))
    for sender, receiver, to in ends:
        with connection(sender, receiver, to, af) as (client, server):
            stream(client, server, data)


@FAMILY
def test_the_bridge_itself_serves_both(bridged: Bridged, af: int) -> None:
    data = pattern(500_000, seed=3)
    own = ADDRESSES[af][2]
    for number, peer in enumerate(bridged.peers):
        listener = bridged.host.socket(af, socket.SOCK_STREAM)
        listener.settimeout(60)
        listener.bind((own, DATA_PORT + 1 + number))
        listener.listen(1)
        with peer.socket(family=af) as client:
            client.connect((own, DATA_PORT + 1 + number))
            server, _ = listener.accept()
            server.settimeout(60)
            stream(server, client, data)
            server.close()
        listener.close()


@contextlib.contextmanager
def packet_socket(peer: Peer, device: str) -> Iterator[socket.socket]:
    """A socket of the kernel that sends and receives whole frames."""
    with peer.socket(socket.SOCK_RAW, 0, family=AF_PACKET) as made:
        made.bind((device, ETH_P_ALL))
        made.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        yield made


def test_tagged_frames_pass_with_their_tags(bridged: Bridged) -> None:
    near, far = bridged.peers
    to, frm = bridged.mac(far), bridged.mac(near)
    with (
        packet_socket(near, near.tap_name) as sender,
        packet_socket(far, far.tap_name) as receiver,
    ):
        for number, tci in enumerate((0x0005, 0x6FFE, 0x2000)):
            payload = b"tagged %d" % number + bytes(60)
            tag = b"\x81\x00" + tci.to_bytes(2, "big")
            sender.send(to + frm + tag + ETH_P_TEST.to_bytes(2, "big") + payload)
            data = b""
            while data[12:14] != ETH_P_TEST.to_bytes(2, "big"):
                data, control, _flags, _addr = receiver.recvmsg(2000, 200)
            assert data == to + frm + ETH_P_TEST.to_bytes(2, "big") + payload
            ((level, kind, aux),) = control
            assert (level, kind) == (SOL_PACKET, PACKET_AUXDATA)
            status, _len, _snap, _mac, _net, got, tpid = struct.unpack("=IIIHHHH", aux)
            assert (got, tpid) == (tci, 0x8100)
            assert status & 0x50 == 0x50  # TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID


# --- the kernel's bridge beside ours --------------------------------------------------------------


class KernelBridge:
    """A bridge of the kernel with `ports` ports, each a veth whose other end we hold."""

    def __init__(self, ports: int) -> None:
        self.peer = Peer()
        run = self.peer.ip
        self.peer.write("/proc/sys/net/ipv6/conf/default/disable_ipv6", 1)
        self.peer.write("/proc/sys/net/ipv6/conf/all/disable_ipv6", 1)
        run("link", "add", "br0", "type", "bridge", "mcast_snooping", "0", "stp_state", "0")
        for number in range(ports):
            mac = port_address(number).hex(":")
            port, end = f"p{number}", f"e{number}"
            run("link", "add", port, "address", mac, "type", "veth", "peer", "name", end)
            run("link", "set", port, "master", "br0", "up")
            run("link", "set", end, "up")
        run("link", "set", "br0", "up")
        self.stack = contextlib.ExitStack()
        self.sockets = []
        for number in range(ports):
            made = self.peer.socket(socket.SOCK_RAW, 0, family=AF_PACKET)
            made.bind((f"e{number}", ETH_P_ALL))
            self.sockets.append(self.stack.enter_context(made))

    def wait_forwarding(self) -> None:
        """Wait until every port forwards."""
        script = "until ! cat /sys/class/net/p*/brport/state | grep -qv 3; do sleep 0.02; done"
        self.peer.run("sh", "-c", script, timeout=30)

    def received(self, number: int, last: bytes) -> list[bytes]:
        """What came out at a port, up to the frame that ends with `last`."""
        got: list[bytes] = []
        while not got or not got[-1].endswith(last):
            data, address = self.sockets[number].recvfrom(2000)
            if address[2] != PACKET_OUTGOING:
                got.append(data)
        return got

    def close(self) -> None:
        """Take it down."""
        self.stack.close()
        self.peer.close()


@pytest.mark.parametrize("seed", range(5))
def test_the_kernels_bridge_does_the_same_with_the_same_frames(seed: int) -> None:
    require.netns()
    chance = random.Random(seed)
    ports = 4
    stations = [station(i) for i in range(6)]
    groups = [b"\x01\x80\xc2\x00\x00" + bytes([i]) for i in range(18)]
    others = [BROADCAST, b"\x33\x33\0\0\0\1", b"\x01\0\x5e\0\0\1", port_address(0), port_address(2)]
    to = [*stations * 5, *groups, *others * 2]
    script = [
        (chance.randrange(ports), chance.choice(to), chance.choice([*stations * 4, *others]))
        for _ in range(300)
    ]
    kernel = KernelBridge(ports)
    ours = Switch(ports)
    try:
        kernel.wait_forwarding()
        went: list[list[int]] = []
        for number, (port, dst, src) in enumerate(script):
            data = frame(dst, src, b"%04d" % number + bytes(50))
            kernel.sockets[port].send(data)
            went.append(ours.send(port, data))
        end = b"the end"
        for port in range(ports):  # a sender's own frames do not come back to it
            last = frame(BROADCAST, station(20 + port), bytes(50) + end)
            kernel.sockets[port].send(last)
        theirs: list[list[int]] = [[] for _ in script]
        for port in range(ports):
            for data in kernel.received(port, end):
                if not data.endswith(end):
                    theirs[int(data[14:18])].append(port)
        assert theirs == went
    finally:
        kernel.close()
        ours.host.close()
