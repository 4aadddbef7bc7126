"""ECN with Linux 6.18 at the other end: each end in the other's place.

Both connect to each other with the same sysctls and the same path between them. What the client
sends and knows must not depend on who it is, and so for the server: the kernel is our judge.

Linux 6.18 has the code of Accurate ECN (RFC 9768), but no sysctl turns it on: tcp_ecn ends at 2. So
it judges how an end that asks for Accurate ECN falls back, and how marks are counted.
"""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from fastpath.base.csum import ip_compute_csum
from tests.linux.peer import IPV4, IPV6, Family, Wire, pattern
from tests.linux.test_ecn import EachFrameOnce
from tests.support import eventually

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("need_linux")]

NOT_ECT, ECT_1, ECT_0, CE = range(4)
FIN, SYN, ACK, ECE, CWR, AE = 1, 2, 16, 0x40, 0x80, 0x100
ACE = AE | CWR | ECE
ACCECN0, ACCECN1 = 172, 174
TCP_INFO_BYTES = 280


@dataclass
class Frame:
    """A TCP segment on the wire, which a test may change before it goes on."""

    view: Any
    outward: bool
    """From our host."""

    @property
    def ipv6(self) -> bool:
        return bool(self.view[14] >> 4 == 6)

    @property
    def tcp(self) -> int:
        """Where the TCP header is."""
        return 54 if self.ipv6 else 34

    @property
    def flags(self) -> int:
        return int(self.view[self.tcp + 12] & 1) << 8 | int(self.view[self.tcp + 13])

    @property
    def ports(self) -> frozenset[int]:
        at = self.tcp
        return frozenset(int.from_bytes(self.view[i : i + 2], "big") for i in (at, at + 2))

    @property
    def ecn(self) -> int:
        return int(self.view[15] >> 4 & 3 if self.ipv6 else self.view[15] & 3)

    @property
    def payload(self) -> int:
        """Bytes of payload."""
        doff = (self.view[self.tcp + 12] >> 4) * 4
        if self.ipv6:
            return int.from_bytes(self.view[18:20], "big") - doff
        return int.from_bytes(self.view[16:18], "big") - 20 - doff

    @property
    def options(self) -> list[tuple[int, bytes]]:
        """(kind, value) of each option but NOP."""
        end = self.tcp + (self.view[self.tcp + 12] >> 4) * 4
        data, found = bytes(self.view[self.tcp + 20 : end]), []
        while data and data[0]:
            size = 1 if data[0] == 1 else data[1]
            if data[0] != 1:
                found.append((data[0], data[2:size]))
            data = data[size:]
        return found

    @property
    def shape(self) -> tuple[int, int, list[tuple[int, bytes]], list[int]]:
        """All of it that Accurate ECN says, and the order of the options."""
        accecn = [o for o in self.options if o[0] in (ACCECN0, ACCECN1)]
        return self.flags, self.ecn, accecn, [kind for kind, _ in self.options]

    def mark(self, ecn: int) -> None:
        """Change the codepoint."""
        if self.ipv6:
            self.view[15] = self.view[15] & 0xCF | ecn << 4
            return
        self.view[15] = self.view[15] & 0xFC | ecn
        self.view[24:26] = bytes(2)
        self.view[24:26] = ip_compute_csum(bytes(self.view[14:34])).to_bytes(2, "big")


Touch = Callable[[bool, Frame], None]
"""What a path does: (whether the client sends, the frame)."""


class Path(EachFrameOnce):
    """Shows each TCP segment to `touch` once, as a router sees it, and keeps their shapes."""

    def __init__(self, link: Any) -> None:
        super().__init__(link)
        self.touch: Callable[[Frame], None] = lambda frame: None
        self.seen: list[tuple[bool, frozenset[int], tuple[Any, ...]]] = []

    def look(self, view: memoryview, outward: bool) -> None:
        frame = Frame(view, outward)
        kind = bytes(view[12:14])
        tcp = (kind == b"\x08\x00" and view[23] == 6) or (kind == b"\x86\xdd" and view[20] == 6)
        if tcp and len(view) >= 54:
            self.seen.append((outward, frame.ports, frame.shape))
            self.touch(frame)


@dataclass
class Info:
    """What TCP_INFO says of ECN; `of` reads it from either end."""

    options: int = 0
    delivered_ce: int = 0
    received_ce: int = 0
    delivered: tuple[int, ...] = field(default=())
    received: tuple[int, ...] = field(default=())
    fail_mode: int = 0
    opt_seen: int = 0

    @classmethod
    def of(cls, sock: Any) -> Info:
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
        ce, *counts, fail_mode, opt_seen = struct.unpack("=7I2H", raw[248:280])
        (delivered_ce,) = struct.unpack("=I", raw[196:200])
        delivered, received = tuple(counts[:3]), tuple(counts[3:])
        return cls(raw[5] & 24, delivered_ce, ce, delivered, received, fail_mode, opt_seen)


class Rig:
    """The wire, its path, and one knob for both ends."""

    def __init__(self, wire: Wire, path: Path) -> None:
        self.wire, self.path = wire, path

    def set(self, name: str, ours: object, theirs: object) -> None:
        """Write a sysctl of net.ipv4 at both ends."""
        self.wire.host.sysctl[f"net.ipv4.{name}"] = str(ours)
        self.wire.peer.write(f"/proc/sys/net/ipv4/{name}", theirs)

    def play(
        self,
        from_us: bool,
        touch: Touch,
        family: Family,
        up: int,
        down: int,
    ) -> tuple[list[Any], list[Info]]:
        """Connect, send `up` bytes to the server and `down` back, read TCP_INFO, and close.

        `touch` gets (whether the client sends, the frame). Returns the shapes of all segments, with
        who sent them, and what client and server know.
        """
        self.path.touch = lambda frame: touch(frame.outward == from_us, frame)
        self.path.seen = []
        mine, linux = self.wire.connected(family, from_us=from_us)
        client, server = (mine, linux) if from_us else (linux, mine)
        for source, sink, size in ((client, server, up), (server, client, down)):
            if size:
                worker = self.wire.spawn(source.sendall, pattern(size))
                got = 0
                while got < size:
                    got += len(sink.recv(65536))
                worker.result()
                acknowledged(source)
        infos = [Info.of(client), Info.of(server)]
        ports = {mine.getsockname()[1], linux.getsockname()[1]}
        seen = [
            (outward == from_us, *shape)
            for outward, its_ports, shape in self.path.seen
            if its_ports == ports  # not the end of an earlier connection
        ]
        self.path.touch = lambda frame: None
        client.close()
        server.close()
        return seen, infos


def acknowledged(sock: Any) -> None:
    """Wait until all that was sent is acknowledged (tcpi_unacked, tcpi_notsent_bytes)."""

    def all_of_it() -> bool:
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
        return bool(raw[24:28] == raw[144:148] == bytes(4))

    eventually(all_of_it, "the last ACK")


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with made() as rig:
        yield rig


@contextmanager
def made() -> Iterator[Rig]:
    paths: list[Path] = []

    def around(link: Any) -> Path:
        paths.append(Path(link))
        return paths[0]

    with Wire(around=around, ipv6=True) as wire:
        yield Rig(wire, paths[0])


def nothing(from_client: bool, frame: Frame) -> None:
    """A path that changes nothing."""


ASKS = {0: 0, 1: CWR | ECE, 2: 0, 3: ACE, 4: CWR | ECE, 5: 0}
"""What a SYN asks for, by the client's tcp_ecn."""
CLASSIC = {3: 1, 4: 1, 5: 2}
"""The value of tcp_ecn that does the same towards an end without Accurate ECN."""
KERNEL = range(3)
FAMILIES = pytest.mark.parametrize("family", [IPV4, IPV6], ids=str)


def handshake(rig: Rig, family: Family, from_us: bool, client: int, server: int) -> Any:
    """The three segments and what both ends know after a byte each way."""
    rig.set("tcp_ecn", *((client, server) if from_us else (server, client)))
    seen, infos = rig.play(from_us, nothing, family, 1, 1)
    return seen[:3], infos


@FAMILIES
@pytest.mark.parametrize("client", KERNEL)
def test_the_handshake_is_the_kernels_in_both_roles(rig: Rig, family: Family, client: int) -> None:
    """The flags, marks and options of the three segments, and TCP_INFO."""
    for server in KERNEL:
        ours = handshake(rig, family, True, client, server)
        assert ours == handshake(rig, family, False, client, server)
        (syn, synack, _), infos = ours
        agreed = bool(ASKS[client] and server)
        assert syn[1] & ACE == ASKS[client]
        assert synack[1] & ACE == (ECE if agreed else 0)
        assert [info.options & 8 != 0 for info in infos] == [agreed] * 2


@FAMILIES
@pytest.mark.parametrize("client", CLASSIC)
def test_a_client_with_accurate_ecn_falls_back_to_what_the_kernel_has(
    rig: Rig, family: Family, client: int
) -> None:
    """But for the flags of its SYN all is as if it had not asked for it."""
    for server in KERNEL:
        (syn, *rest), infos = handshake(rig, family, True, client, server)
        (_, *expected), expected_infos = handshake(rig, family, True, CLASSIC[client], server)
        assert syn[1] & ACE == ASKS[client]
        assert (rest, infos) == (expected, expected_infos)


@FAMILIES
@pytest.mark.parametrize("server", CLASSIC)
def test_a_server_with_accurate_ecn_grants_the_kernel_what_it_asks_for(
    rig: Rig, family: Family, server: int
) -> None:
    for client in KERNEL:
        found = handshake(rig, family, False, client, server)
        assert found == handshake(rig, family, True, client, 1), "the kernel as the server"


def on_syn(ecn: int) -> Touch:
    def touch(from_client: bool, frame: Frame) -> None:
        if frame.flags & (SYN | ACK) == SYN:
            frame.mark(ecn)

    return touch


def on_data(ecn: int) -> Touch:
    def touch(from_client: bool, frame: Frame) -> None:
        if frame.payload:
            frame.mark(ecn)

    return touch


def everything(ecn: int) -> Touch:
    return lambda from_client, frame: frame.mark(ecn)


PATHS = {
    **{f"the SYN comes as {ecn}": on_syn(ecn) for ecn in range(4)},
    **{f"data comes as {ecn}": on_data(ecn) for ecn in range(4)},
    **{f"all comes as {ecn}": everything(ecn) for ecn in range(4)},
}


@FAMILIES
@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_changes_codepoints_is_met_as_by_the_kernel(
    rig: Rig, family: Family, path: str
) -> None:
    """What both ends count, and agree on; an end that asks for Accurate ECN as one that does not.

    Linux counts what comes whatever ECN was agreed.
    """
    touch = PATHS[path]
    for client in KERNEL:
        rig.set("tcp_ecn", client, 1)
        ours = rig.play(True, touch, family, 1000, 1000)
        rig.set("tcp_ecn", 1, client)
        theirs = rig.play(False, touch, family, 1000, 1000)
        assert ours[0][:3] == theirs[0][:3]
        assert ours[1] == theirs[1]


@pytest.mark.parametrize("asks", [1, 3])
@pytest.mark.parametrize("upwards", [True, False], ids=["we send", "linux sends"])
def test_the_receiver_counts_the_marks(rig: Rig, upwards: bool, asks: int) -> None:
    """2 MB with every 40th packet marked CE; TCP_INFO has as many packets and bytes."""
    rig.set("tcp_ecn", asks if upwards else 1, 1)
    counts = itertools.count(1)
    marked: list[int] = []

    def touch(from_client: bool, frame: Frame) -> None:
        if from_client and frame.payload and next(counts) % 40 == 0:
            marked.append(frame.payload)
            frame.mark(CE)

    _, (sender, receiver) = rig.play(upwards, touch, IPV4, 2_000_000, 0)
    assert len(marked) > 10
    assert receiver.received_ce == len(marked)
    assert receiver.received == (0, 2_000_000 - sum(marked), sum(marked))
    assert sender.delivered_ce > 0
    assert sender.delivered == receiver.delivered == (0, 0, 0)
