"""ESP between two hosts: both modes and families, as scapy reads and writes it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scapy.all import ICMP, IP, TCP, UDP, Ether, IPv6, Raw
from scapy.layers import ipsec

from fastpath.base.skbuff import skb_from_bytes
from stack import proc
from stack.core.dev_receive import netif_receive_skb
from stack.core.softirq import local_bh_disable, local_bh_enable
from stack.ethernet.eth import eth_type_trans
from stack.inet.xfrm_policy import (
    XFRM_POLICY_ALLOW,
    XFRM_POLICY_IN,
    XFRM_POLICY_OUT,
    selector,
    xfrm_policy,
    xfrm_policy_insert,
    xfrm_selector,
    xfrm_tmpl,
)
from stack.socket import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM
from stack.xfrm.xfrm_input import xfrm_init
from stack.xfrm.xfrm_replay import xfrm_replay
from stack.xfrm.xfrm_state import (
    IPPROTO_ESP,
    XFRM_STATE_ESN,
    start_timer,
    xfrm_algo,
    xfrm_init_state,
    xfrm_state,
    xfrm_state_add,
)
from tests.stack.core.wire import assert_no_leak
from tests.stack.links.test_tunnels import MAC_A, MAC_B, OUTSIDE4, OUTSIDE6, Pair

KEY = bytes(range(1, 37))
AUTH_KEY = bytes(range(100, 132))
INSIDE4, INSIDE6 = ("192.168.0.1", "192.168.0.2"), ("fd01::1", "fd01::2")
ANY = {AF_INET: "0.0.0.0/0", AF_INET6: "::/0"}


@dataclass(frozen=True)
class Suite:
    """Algorithms of a state, and what scapy calls them."""

    name: str
    aead: tuple[bytes, int] | None = None
    auth: tuple[str, int] | None = None
    scapy: tuple[tuple[str, Any], ...] = ()


SUITES = (
    Suite("gcm128", (KEY[:20], 128), scapy=(("crypt_algo", "AES-GCM"), ("crypt_key", KEY[:20]))),
    Suite("gcm192", (KEY[:28], 128), scapy=(("crypt_algo", "AES-GCM"), ("crypt_key", KEY[:28]))),
    Suite("gcm256", (KEY, 128), scapy=(("crypt_algo", "AES-GCM"), ("crypt_key", KEY))),
    Suite(
        "null-sha256",
        auth=("hmac(sha256)", 128),
        scapy=(("auth_algo", "SHA2-256-128"), ("auth_key", AUTH_KEY)),
    ),
    Suite("null", auth=("digest_null", 0)),
)
BY_NAME = {suite.name: suite for suite in SUITES}


def number(addr: str) -> int:
    """An address as an int."""
    return int(selector(dst=addr).daddr)


def state(host: Any, suite: Suite, src: str, dst: str, spi: int, mode: int, **words: Any) -> Any:
    """Add a state to a host."""
    xfrm_init(host.machine)
    six = ":" in dst
    sel = xfrm_selector(0)
    ends = (AF_INET6 if six else AF_INET, number(dst), number(src))
    x = xfrm_state(host, *ends, spi, IPPROTO_ESP, mode, sel, words.pop("reqid", 1))
    if suite.aead is not None:
        key, icv = suite.aead
        x.aead = xfrm_algo("rfc4106(gcm(aes))", key, len(key) * 8, icv)
    else:
        assert suite.auth is not None
        name, icv = suite.auth
        x.ealg = xfrm_algo("ecb(cipher_null)")
        x.aalg = xfrm_algo(name, AUTH_KEY, len(AUTH_KEY) * 8, icv)
    if words.pop("esn", False):
        x.flags |= XFRM_STATE_ESN
        x.replay = xfrm_replay(words.get("replay_window", 64), True)
    for word, value in words.items():
        setattr(x, word, value)
    xfrm_init_state(x)
    xfrm_state_add(x)
    return x


def policy(host: Any, direction: int, src: str, dst: str, mode: int, ends: tuple[str, str]) -> None:
    """Add policies of one template to a host, for TCP and UDP."""
    xfrm_init(host.machine)
    tmpl = xfrm_tmpl(AF_INET6 if ":" in ends[0] else AF_INET, proto=IPPROTO_ESP, reqid=1, mode=mode)
    if mode:
        tmpl.saddr, tmpl.daddr = number(ends[0]), number(ends[1])
    for proto in (6, 17):  # neighbours are found in the clear
        chosen = selector(src, dst, proto)
        xfrm_policy_insert(host, xfrm_policy(chosen, direction, XFRM_POLICY_ALLOW, 0, (tmpl,)))


class Ipsec(Pair):
    """Two hosts, one of them perhaps protected alone."""

    def protect(
        self, suite: Suite, six: bool, mode: int, outside6: bool = False, **words: Any
    ) -> list[Any]:
        """States 0x100 (a to b) and 0x200 on both, with policies; those of a, then those of b."""
        outside = OUTSIDE6 if (outside6 if mode else six) else OUTSIDE4
        inside = (INSIDE6 if six else INSIDE4) if mode else outside
        made = []
        for at, host in enumerate(self.hosts):
            if mode:
                host.ifconfig("lo", f"{inside[at]}/{128 if six else 32}")
                way = {"via": outside[1 - at]} if six == outside6 else {"dev": "eth0"}
                host.route_add(f"{inside[1 - at]}/{128 if six else 32}", **way)
            for spi, src, dst in ((0x100, 0, 1), (0x200, 1, 0)):
                ends = outside[src], outside[dst]
                made.append(state(host, suite, *ends, spi, mode, **words))
                way = XFRM_POLICY_OUT if src == at else XFRM_POLICY_IN
                policy(host, way, inside[src], inside[dst], mode, ends)
        self.inside = inside
        self.family = AF_INET6 if six else AF_INET
        self.clock.run_for(3 * 10**9)
        return made

    def send(self, payload: bytes = b"x" * 32) -> bytes:
        """A datagram from a to b and back; what came back."""
        with (
            self.a.socket(self.family, SOCK_DGRAM) as tx,
            self.b.socket(self.family, SOCK_DGRAM) as rx,
        ):
            tx.bind((self.inside[0], 0))
            rx.bind((self.inside[1], 9))
            for one in (tx, rx):
                one.settimeout(2)
            tx.sendto(payload, (self.inside[1], 9))
            data, frm = rx.recvfrom(65536)
            rx.sendto(data, frm)
            return bytes(tx.recv(65536))

    def stream(self, size: int) -> None:
        """A connection from a to b, over which `size` bytes go, all of which arrive."""
        with contextlib.ExitStack() as opened:
            listener = opened.enter_context(self.b.socket(self.family, SOCK_STREAM))
            client = opened.enter_context(self.a.socket(self.family, SOCK_STREAM))
            listener.bind((self.inside[1], 80))
            listener.listen()
            client.bind((self.inside[0], 0))
            client.connect((self.inside[1], 80))
            server = opened.enter_context(listener.accept()[0])
            client.setblocking(False)
            data = bytes(range(250)) * (size // 250)
            got, sent = bytearray(), 0
            while len(got) < len(data):
                with contextlib.suppress(BlockingIOError):
                    sent += client.send(data[sent:]) if sent < len(data) else 0
                got += server.recv(1 << 20)
            assert got == data


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Ipsec]:
    made = Ipsec(tmp_path / "wire.pcapng")
    yield made
    assert_no_leak(*made.hosts)


def association(suite: Suite, spi: int, outer: Any = None) -> ipsec.SecurityAssociation:
    """The same state in scapy."""
    words = dict(suite.scapy)
    return ipsec.SecurityAssociation(ipsec.ESP, spi=spi, tunnel_header=outer, **words)


MODES = tuple(itertools.product((False, True), (0, 1)))
IDS = [f"IPv{6 if six else 4}-{('transport', 'tunnel')[mode]}" for six, mode in MODES]


@pytest.mark.parametrize(("six", "mode"), MODES, ids=IDS)
@pytest.mark.parametrize("name", BY_NAME)
def test_scapy_decrypts_what_a_host_sends(wire: Ipsec, name: str, six: bool, mode: int) -> None:
    suite = BY_NAME[name]
    wire.protect(suite, six, mode, six)
    assert wire.send(b"hello" * 10) == b"hello" * 10
    spis = set()
    for frame in wire.frames():
        ip = IPv6 if six else IP
        if ip in frame and ipsec.ESP in frame:
            sa = association(
                suite, frame[ipsec.ESP].spi, (IPv6() if six else IP()) if mode else None
            )
            plain = sa.decrypt(frame[ip])
            assert bytes(plain[UDP].payload) == b"hello" * 10
            assert plain[ip].dst in wire.inside
            spis.add(sa.spi)
        else:
            assert UDP not in frame
    assert spis == {0x100, 0x200}


@pytest.mark.parametrize(("six", "mode"), MODES, ids=IDS)
def test_tcp_runs_through_esp(wire: Ipsec, six: bool, mode: int) -> None:
    states = wire.protect(BY_NAME["gcm128"], six, mode, six, replay_window=32)
    wire.stream(100_000)
    sizes = [len(frame) for frame in wire.frames()]
    assert max(sizes) <= 1514
    assert max(sizes) > 1480
    assert not any(TCP in frame for frame in wire.frames())
    assert not counted(wire.a)
    assert not counted(wire.b)
    assert states[0].curlft.packets > 60


def inject(wire: Ipsec, packet: Any) -> None:
    """Give b a frame, as the wire would."""
    kind = 0x86DD if IPv6 in packet else 0x800
    frame = bytes(Ether(dst=MAC_B, src=MAC_A, type=kind) / packet)
    skb = skb_from_bytes(wire.b.skb_small, frame, 64)
    assert skb is not None
    skb.dev = wire.b.dev_by_name["eth0"]
    local_bh_disable(wire.b.machine)
    try:
        skb.protocol = eth_type_trans(skb, skb.dev)
        netif_receive_skb(skb)
    finally:
        local_bh_enable(wire.b.machine)


def datagram(wire: Ipsec, payload: bytes) -> Any:
    """A packet from a to b, in the clear."""
    src, dst = wire.inside
    ip = IPv6(src=src, dst=dst) if ":" in src else IP(src=src, dst=dst)
    return ip.__class__(bytes(ip / UDP(sport=5, dport=9) / payload))


def counted(host: Any) -> dict[str, int]:
    """The counters of /proc/net/xfrm_stat that moved."""
    rows = (line.split() for line in proc.read(host, "xfrm_stat").splitlines())
    return {name: int(value) for name, value in rows if value != "0"}


@pytest.mark.parametrize(("six", "mode"), MODES, ids=IDS)
@pytest.mark.parametrize("name", ["gcm256", "null-sha256"])
def test_a_host_takes_what_scapy_encrypts(wire: Ipsec, name: str, six: bool, mode: int) -> None:
    suite = BY_NAME[name]
    states = wire.protect(suite, six, mode, six, replay_window=32)
    outer = None
    if mode:
        outer = (
            IPv6(src=OUTSIDE6[0], dst=OUTSIDE6[1]) if six else IP(src="10.0.0.1", dst="10.0.0.2")
        )
    sa = association(suite, 0x100, outer)
    x = states[2]
    with wire.b.socket(wire.family, SOCK_DGRAM) as rx:
        rx.bind((wire.inside[1], 9))
        rx.setblocking(False)
        good = sa.encrypt(datagram(wire, b"first"), seq_num=40)
        inject(wire, good)
        assert rx.recv(100) == b"first"
        assert (x.curlft.packets, x.replay.seq) == (1, 40)
        inject(wire, good)  # again
        inject(wire, sa.encrypt(datagram(wire, b"old"), seq_num=8))
        assert counted(wire.b) == {"XfrmInStateSeqError": 2}
        assert (x.stats_replay, x.stats_replay_window) == (1, 1)
        inject(wire, sa.encrypt(datagram(wire, b"late"), seq_num=9))
        assert rx.recv(100) == b"late"
        wrong = bytearray(bytes(sa.encrypt(datagram(wire, b"forged"), seq_num=41)))
        wrong[-1] ^= 1
        inject(wire, good.__class__(bytes(wrong)))
        assert (x.stats_integrity_failed, x.replay.seq) == (1, 40)
        other = association(suite, 0x999, outer)
        inject(wire, other.encrypt(datagram(wire, b"nobody's"), seq_num=1))
        inject(wire, datagram(wire, b"clear"))
        assert counted(wire.b) == {
            "XfrmInStateSeqError": 2,
            "XfrmInStateProtoError": 1,
            "XfrmInNoStates": 1,
            "XfrmInTmplMismatch": 1,
        }
        with pytest.raises(BlockingIOError):
            rx.recv(100)


def test_truncated_and_foreign_packets_are_counted(wire: Ipsec) -> None:
    wire.protect(BY_NAME["gcm128"], False, 1, False)
    ip = IP(src="10.0.0.1", dst="10.0.0.2", proto=50)
    inject(wire, ip / Raw(b"\0\0\1"))
    inject(wire, ip / Raw(b"\0\0\1\0" + bytes(8)))
    sa = association(BY_NAME["gcm128"], 0x100)
    transport = sa.encrypt(IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(), seq_num=3)
    inject(wire, transport)  # what is inside is no IP packet
    assert counted(wire.b) == {
        "XfrmInHdrError": 1,
        "XfrmInStateProtoError": 1,
        "XfrmInStateModeError": 1,
    }


def test_esn_goes_beyond_32_bits(wire: Ipsec) -> None:
    states = wire.protect(BY_NAME["gcm128"], False, 0, esn=True)
    for x in states:
        x.replay.oseq = x.replay.seq = 0xFFFFFFFE
    for at in range(4):
        assert wire.send(b"%d" % at) == b"%d" % at
    assert states[0].replay.oseq == 0x1_0000_0002
    assert states[2].replay.seq == 0x1_0000_0002
    seqs = [frame[ipsec.ESP].seq for frame in wire.frames() if ipsec.ESP in frame]
    assert seqs[::2] == [0xFFFFFFFF, 0, 1, 2]
    assert not counted(wire.a)
    assert not counted(wire.b)


def test_limits_of_packets_and_time(wire: Ipsec) -> None:
    states = wire.protect(BY_NAME["null"], False, 0)
    told: list[tuple[int, bool]] = []
    table = wire.a.xfrm.state
    assert table is not None
    table.km = lambda x, hard: told.append((x.spi, hard))
    states[0].lft.soft_packet_limit, states[0].lft.hard_packet_limit = 1, 2
    wire.send()
    wire.send()
    assert told == [(0x100, False)]
    with pytest.raises(OSError, match="Invalid argument"):
        wire.send()
    assert counted(wire.a) == {"XfrmOutStateExpired": 1}
    wire.clock.run_for(10**9)
    assert told == [(0x100, False), (0x100, True)]
    assert 0x100 not in [x.spi for x in table.by_id.values()]
    with pytest.raises(TimeoutError):
        wire.send()
    assert counted(wire.a)["XfrmOutNoStates"] >= 1
    late = state(wire.a, BY_NAME["null"], *OUTSIDE4, 0x300, 0)
    late.lft.hard_add_expires_seconds = 60
    start_timer(late)
    wire.clock.run_for(58 * 10**9)
    assert late.spi in [x.spi for x in table.by_id.values()]
    wire.clock.run_for(4 * 10**9)
    assert late.spi not in [x.spi for x in table.by_id.values()]
    assert told[-1] == (0x300, True)


@pytest.mark.parametrize(("six", "outside6"), [*itertools.product((False, True), repeat=2)])
def test_families_inside_and_outside_and_large_datagrams(
    wire: Ipsec, six: bool, outside6: bool
) -> None:
    wire.protect(BY_NAME["gcm128"], six, 1, outside6)
    for size in (0, 1, 1400, 5000):
        assert wire.send(bytes(size)) == bytes(size)
    assert not counted(wire.a)
    assert max(len(frame) for frame in wire.frames()) <= 1514


def test_a_missing_package_is_named(wire: Ipsec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers", None)
    with pytest.raises(OSError, match=r"e1000emu\[ipsec\]") as caught:
        state(wire.a, BY_NAME["gcm128"], *OUTSIDE4, 1, 0)
    assert caught.value.errno == errno.ENOSYS
