"""ESP between two hosts: both modes and families, as scapy reads and writes it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from sys import byteorder
from typing import Any

import pytest
from scapy.all import ICMP, IP, TCP, UDP, Ether, ICMPv6PacketTooBig, IPv6, Raw, wrpcap
from scapy.layers import ipsec

from fastpath.base.skbuff import skb_from_bytes
from stack import proc
from stack.core.bsd_socket import sockfd_lookup
from stack.core.dev_receive import netif_receive_skb
from stack.core.softirq import local_bh_disable, local_bh_enable
from stack.core.uapi import IP_XFRM_POLICY, SOL_IP
from stack.ethernet.eth import eth_type_trans
from stack.inet.xfrm_policy import (
    XFRM_POLICY_ALLOW,
    XFRM_POLICY_BLOCK,
    XFRM_POLICY_IN,
    XFRM_POLICY_OUT,
    selector,
    xfrm_changed,
    xfrm_policy,
    xfrm_policy_insert,
    xfrm_selector,
    xfrm_tmpl,
    xfrm_user_policy,
)
from stack.netlink.xfrm_attrs import XFRMA, put_policy_info, put_usersa_info
from stack.netlink.xfrm_user import copy_to_user_state_extra
from stack.socket import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM
from stack.xfrm.xfrm_input import xfrm_init
from stack.xfrm.xfrm_replay import xfrm_replay
from stack.xfrm.xfrm_state import (
    IPPROTO_ESP,
    XFRM_STATE_ACQ,
    XFRM_STATE_DEAD,
    XFRM_STATE_ESN,
    XFRM_STATE_VALID,
    start_timer,
    xfrm_algo,
    xfrm_encap_tmpl,
    xfrm_find_acq,
    xfrm_init_state,
    xfrm_state,
    xfrm_state_add,
    xfrm_state_delete,
    xfrm_state_update,
)
from tests.stack.core.wire import assert_no_leak
from tests.stack.links.test_tunnels import MAC_A, MAC_B, OUTSIDE4, OUTSIDE6, Pair
from tests.support import require

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
    """Two hosts, one of them perhaps protected alone. `managers`: sockets of key managers."""

    def __init__(self, capture: Path) -> None:
        super().__init__(capture)
        self.managers: list[Any] = []

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
    for sock in made.managers:
        sock.close()
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
    told = put_usersa_info(states[0])
    attrs = XFRMA.parse(copy_to_user_state_extra(states[0]), len(told))
    assert attrs["XFRMA_LASTUSED"] == states[0].lastused.to_bytes(8, byteorder)


def inject(wire: Ipsec, packet: Any, to_a: bool = False) -> None:
    """Give b (or a) a frame, as the wire would."""
    kind = 0x86DD if packet.version == 6 else 0x800
    host, dst, src = (wire.a, MAC_A, MAC_B) if to_a else (wire.b, MAC_B, MAC_A)
    frame = bytes(Ether(dst=dst, src=src, type=kind) / packet)
    skb = skb_from_bytes(host.skb_small, frame, 64)
    assert skb is not None
    skb.dev = host.dev_by_name["eth0"]
    local_bh_disable(host.machine)
    try:
        skb.protocol = eth_type_trans(skb, skb.dev)
        netif_receive_skb(skb)
    finally:
        local_bh_enable(host.machine)


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


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_a_stream_waits_for_the_states_of_its_policy(wire: Ipsec, six: bool) -> None:
    """Without one SYNs are dropped, and a key manager is asked, once for all packets."""
    states = wire.protect(BY_NAME["null"], six, 0)
    wire.send()  # whose neighbours are known then
    asked: list[tuple[int, int, int]] = []
    table = wire.a.xfrm.state
    assert table is not None
    table.km_acquire = lambda x, tmpl, pol: asked.append((x.seq, x.sel.dport, tmpl.proto)) or True
    for x in states:
        xfrm_state_delete(x)
    with (
        wire.a.socket(wire.family, SOCK_STREAM) as client,
        wire.b.socket(wire.family, SOCK_STREAM) as listener,
    ):
        listener.bind((wire.inside[1], 80))
        listener.listen()
        client.settimeout(1.5)
        with pytest.raises(TimeoutError):
            client.connect((wire.inside[1], 80))
        assert asked == [(1, 80, 50)]
        assert counted(wire.a)["XfrmOutNoStates"] >= 2
        (larval,) = table.by_id.values()
        assert (larval.spi, larval.km_state) == (0, XFRM_STATE_ACQ)
        for x in states:
            x.km_state = XFRM_STATE_VALID
            xfrm_state_add(x)
        assert larval.km_state == XFRM_STATE_DEAD
        listener.settimeout(5)
        server, _ = listener.accept()
        server.close()


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


def spi_for(host: Any, low: int, high: int) -> xfrm_state:
    """A state without keys: what a daemon asks for before it negotiates."""
    xfrm_init(host.machine)
    ends = AF_INET, number(OUTSIDE4[0]), number(OUTSIDE4[1])
    x = xfrm_state(host, *ends, 0, IPPROTO_ESP, 0, xfrm_selector(0), 1)
    xfrm_find_acq(x, low, high)
    return x


def test_an_spi_is_kept_for_who_negotiates(wire: Ipsec) -> None:
    kept = [spi_for(wire.a, 0x100, 0x103).spi for _ in range(2)]
    assert len({*kept, 0x100, 0x101, 0x102, 0x103}) == 4
    spi_for(wire.a, 0x200, 0x200)
    with pytest.raises(OSError, match="No SPI available in the requested range"):
        spi_for(wire.a, 0x200, 0x200)
    table = wire.a.xfrm.state
    assert table is not None
    told: list[tuple[int, bool]] = []
    table.km = lambda x, hard: told.append((x.spi, hard))
    # the peer is faster than the daemon here: nothing can decrypt it yet
    state(wire.b, BY_NAME["null"], OUTSIDE4[1], OUTSIDE4[0], 0x200, 0)
    policy(wire.b, XFRM_POLICY_OUT, OUTSIDE4[1], OUTSIDE4[0], 0, OUTSIDE4)
    with wire.b.socket(AF_INET, SOCK_DGRAM) as tx:
        tx.sendto(b"early", (OUTSIDE4[0], 9))
    wire.clock.run_for(10**9)
    assert counted(wire.a) == {"XfrmAcquireError": 1}
    # what the daemon has negotiated takes its place, and only that stays
    negotiated = state(wire.a, BY_NAME["null"], OUTSIDE4[1], OUTSIDE4[0], 0x300, 0)
    xfrm_state_delete(negotiated)
    negotiated.spi, negotiated.km_state = 0x200, XFRM_STATE_VALID
    xfrm_state_update(negotiated)
    with wire.a.socket(AF_INET, SOCK_DGRAM) as rx, wire.b.socket(AF_INET, SOCK_DGRAM) as tx:
        rx.bind((OUTSIDE4[0], 9))
        rx.settimeout(2)
        tx.sendto(b"now", (OUTSIDE4[0], 9))
        assert rx.recv(9) == b"now"
    wire.clock.run_for(32 * 10**9)
    assert sorted(told) == sorted((spi, True) for spi in kept)
    assert list(table.by_id.values()) == [negotiated]


def test_a_socket_with_policies_of_its_own_is_asked_for_them_first(wire: Ipsec) -> None:
    for direction in (XFRM_POLICY_IN, XFRM_POLICY_OUT):
        block = xfrm_policy(selector(proto=17), direction, XFRM_POLICY_BLOCK)
        xfrm_policy_insert(wire.a, block)
    with (
        wire.a.socket(AF_INET, SOCK_DGRAM) as one,
        wire.a.socket(AF_INET, SOCK_DGRAM) as other,
        wire.b.socket(AF_INET, SOCK_DGRAM) as far,
    ):
        far.bind((OUTSIDE4[1], 500))
        far.settimeout(1)
        for sock, port in ((one, 500), (other, 501)):
            sock.bind((OUTSIDE4[0], port))
            sock.settimeout(1)
        for direction in (XFRM_POLICY_IN, XFRM_POLICY_OUT):
            allow = xfrm_policy(selector(), direction, XFRM_POLICY_ALLOW)
            one.setsockopt(SOL_IP, IP_XFRM_POLICY, put_policy_info(allow))
        one.sendto(b"past", (OUTSIDE4[1], 500))
        assert far.recv(9) == b"past"
        with pytest.raises(PermissionError):
            other.sendto(b"not", (OUTSIDE4[1], 500))
        far.sendto(b"back", (OUTSIDE4[0], 500))
        assert one.recv(9) == b"back"
        far.sendto(b"not", (OUTSIDE4[0], 501))
        with pytest.raises(TimeoutError):
            other.recv(9)
        xfrm_user_policy(IP_XFRM_POLICY, sockfd_lookup(wire.a, one.host_fd).sk, None)
        with pytest.raises(PermissionError):
            one.sendto(b"not", (OUTSIDE4[1], 500))
    assert counted(wire.a) == {"XfrmInPolBlock": 1, "XfrmOutPolBlock": 2}


def test_a_sockets_policy_counts_after_a_decrypted_packet_too(wire: Ipsec) -> None:
    for host in wire.hosts:
        state(host, BY_NAME["null"], *reversed(OUTSIDE4), 0x200, 0)
    template = xfrm_tmpl(AF_INET, proto=IPPROTO_ESP, reqid=1)
    chosen = selector(proto=17)
    xfrm_policy_insert(wire.b, xfrm_policy(chosen, XFRM_POLICY_OUT, xfrm_vec=(template,)))
    with (
        wire.a.socket(AF_INET, SOCK_DGRAM) as near,
        wire.b.socket(AF_INET, SOCK_DGRAM) as far,
    ):
        near.bind((OUTSIDE4[0], 500))
        near.settimeout(1)
        block = xfrm_policy(selector(), XFRM_POLICY_OUT, XFRM_POLICY_BLOCK)
        near.setsockopt(SOL_IP, IP_XFRM_POLICY, put_policy_info(block))
        far.sendto(b"secret", (OUTSIDE4[0], 500))
        assert near.recv(9) == b"secret"
        with pytest.raises(PermissionError):
            near.sendto(b"not", (OUTSIDE4[1], 500))


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


# --- ESP in UDP -----------------------------------------------------------------------------------

NAT_T = 4500
SOL_UDP, UDP_ENCAP, ESPINUDP = 17, 100, 2


def encapsulated(wire: Ipsec, six: bool, mode: int, name: str = "gcm128") -> list[Any]:
    """States with ESP in UDP on both hosts, and on both a key manager's socket; the states."""
    made = wire.protect(BY_NAME[name], six, mode, six)
    for x in made:
        x.encap = xfrm_encap_tmpl(ESPINUDP, NAT_T, NAT_T)
    for host in wire.hosts:
        xfrm_changed(host)
        sock = host.socket(AF_INET6 if six else AF_INET, SOCK_DGRAM)
        sock.setsockopt(SOL_UDP, UDP_ENCAP, ESPINUDP)
        assert sock.getsockopt(SOL_UDP, UDP_ENCAP) == ESPINUDP
        sock.bind(("::" if six else "0.0.0.0", NAT_T))
        sock.setblocking(False)
        wire.managers.append(sock)
    return made


def drop_policy_for_ike(wire: Ipsec) -> None:
    """Policies that take the ports of IKE out, as those of a key manager's socket do."""
    for host in wire.hosts:
        for way in (XFRM_POLICY_IN, XFRM_POLICY_OUT):
            chosen = selector(ANY[wire.family], ANY[wire.family], 17, dport=NAT_T)
            xfrm_policy_insert(host, xfrm_policy(chosen, way, XFRM_POLICY_ALLOW, -1))


@pytest.mark.parametrize(("six", "mode"), MODES, ids=IDS)
def test_esp_in_udp_both_ways(wire: Ipsec, six: bool, mode: int) -> None:
    """RFC 3948 2.1: a checksum of 0 over IPv4, a right one over IPv6, and no marker."""
    encapsulated(wire, six, mode)
    for size in (0, 1, 2, 3, 32, 1300):
        assert wire.send(bytes(size)) == bytes(size)
    wire.stream(30_000)
    assert not counted(wire.a)
    assert not counted(wire.b)
    frames = [frame for frame in wire.frames() if UDP in frame or TCP in frame]
    assert max(len(frame) for frame in frames) <= 1514
    for frame in frames:
        udp = frame[UDP]
        assert (udp.sport, udp.dport, TCP in frame) == (NAT_T, NAT_T, False)
        assert udp.len == len(udp)
        if not six:
            assert udp.chksum == 0
        else:
            told = udp.chksum
            again = IPv6(bytes(frame[IPv6]))
            del again[UDP].chksum
            assert IPv6(bytes(again))[UDP].chksum == told
        esp = ipsec.ESP(bytes(udp.payload))
        ip = frame[IPv6 if six else IP]
        bare = (
            IPv6(src=ip.src, dst=ip.dst, nh=50) if six else IP(src=ip.src, dst=ip.dst, proto=50)
        ) / bytes(esp)
        outer = (IPv6() if six else IP()) if mode else None
        plain = association(BY_NAME["gcm128"], esp.spi, outer).decrypt(bare.__class__(bytes(bare)))
        assert plain[IPv6 if six else IP].src in wire.inside


@pytest.mark.parametrize("six", [False, True])
def test_a_key_managers_socket_gets_what_is_not_esp(wire: Ipsec, six: bool) -> None:
    encapsulated(wire, six, 1)
    drop_policy_for_ike(wire)
    outside = OUTSIDE6 if six else OUTSIDE4
    ip = (IPv6 if six else IP)(src=outside[0], dst=outside[1]) / UDP(sport=9, dport=NAT_T)
    rx = wire.managers[1]
    for payload in (bytes(4) + b"IKE", b"\xfe", b"", b"\xff\xff", bytes(range(1, 9))):
        inject(wire, ip.copy() / payload)
        assert rx.recv(100) == payload
    inject(wire, ip.copy() / b"\xff")  # keeps the NAT's mapping alive (RFC 3948 2.3)
    assert not counted(wire.b)
    inject(wire, ip.copy() / bytes(range(1, 30)))
    assert counted(wire.b) == {"XfrmInNoStates": 1}
    with pytest.raises(BlockingIOError):
        rx.recv(100)


def test_encapsulated_or_not_is_the_states_to_say(wire: Ipsec) -> None:
    """XfrmInStateMismatch: bare ESP to a state with UDP, and ESP in UDP to one without."""
    states = encapsulated(wire, False, 0)
    bare = association(BY_NAME["gcm128"], 0x100).encrypt(datagram(wire, b"bare"), seq_num=1)
    inject(wire, bare)
    assert counted(wire.b) == {"XfrmInStateMismatch": 1}
    states[2].encap = None
    ip = IP(src=bare.src, dst=bare.dst) / UDP(sport=NAT_T, dport=NAT_T)
    inject(wire, ip / bytes(bare[ipsec.ESP]))
    assert counted(wire.b) == {"XfrmInStateMismatch": 2}


def test_key_managers_are_told_where_nat_put_the_peer(wire: Ipsec) -> None:
    """XFRM_MSG_MAPPING's call, and a checksum that NAT has made wrong is not looked at."""
    states = encapsulated(wire, False, 0)
    told: list[tuple[int, int, int]] = []
    table = wire.b.xfrm.state
    assert table is not None
    table.km_new_mapping = lambda x, saddr, sport: told.append((x.spi, saddr, sport))
    plain = IP(src="192.0.2.9", dst=OUTSIDE4[1]) / UDP(sport=5, dport=9) / b"behind NAT"
    esp = association(BY_NAME["gcm128"], 0x100).encrypt(IP(bytes(plain)), seq_num=1)
    with wire.b.socket(AF_INET, SOCK_DGRAM) as rx:
        rx.bind((OUTSIDE4[1], 9))
        rx.setblocking(False)
        ip = IP(src=OUTSIDE4[0], dst=OUTSIDE4[1]) / UDP(sport=61000, dport=NAT_T)
        inject(wire, ip / bytes(esp[ipsec.ESP]))
        assert rx.recv(100) == b"behind NAT"
    assert told == [(0x100, number(OUTSIDE4[0]), 61000)]
    assert states[2].curlft.packets == 1


@pytest.mark.parametrize("value", [1, 3, 7, -1])
def test_other_encapsulations_are_refused(wire: Ipsec, value: int) -> None:
    with wire.a.socket(AF_INET, SOCK_DGRAM) as sock:
        with pytest.raises(OSError, match="UDP_ENCAP") as caught:
            sock.setsockopt(SOL_UDP, UDP_ENCAP, value)
        assert caught.value.errno == errno.ENOPROTOOPT
        assert sock.getsockopt(SOL_UDP, UDP_ENCAP) == 0
    with pytest.raises(OSError, match="encapsulation type for ESP"):
        state(wire.a, BY_NAME["null"], *OUTSIDE4, 9, 0, encap=xfrm_encap_tmpl(value, 1, 2))


# --- path MTU -------------------------------------------------------------------------------------

PATH = {False: 1200, True: 1400}
"""The MTU of a router on the way, by IPv6 or not: what is left inside is no less than 1280."""


def too_big(wire: Ipsec, packet: Any, mtu: int) -> None:
    """A router tells a that a packet of its own is too large; it quotes as little as it may."""
    if packet.version == 6:
        outside, quoted = OUTSIDE6, bytes(packet)[:56]
        error: Any = IPv6(src=outside[1], dst=outside[0]) / ICMPv6PacketTooBig(mtu=mtu) / quoted
    else:
        head = ICMP(type=3, code=4, nexthopmtu=mtu)
        error = IP(src=OUTSIDE4[1], dst=OUTSIDE4[0]) / head / bytes(packet)[:28]
    inject(wire, error, to_a=True)


def largest(wire: Ipsec, six: bool) -> tuple[int, int]:
    """The largest datagram that a sends unfragmented, and the MTU that its socket sees."""
    level, discover, do, seen = (41, 23, 2, 24) if six else (0, 10, 2, 14)
    with wire.a.socket(wire.family, SOCK_DGRAM) as tx:
        tx.bind((wire.inside[0], 0))
        tx.connect((wire.inside[1], 9))
        tx.setsockopt(level, discover, do)
        fits, not_ = 1000, 1600
        while not_ - fits > 1:
            size = (fits + not_) // 2
            try:
                tx.send(bytes(size))
                fits = size
            except OSError as wrong:
                if wrong.errno != errno.EMSGSIZE:
                    raise
                not_ = size
        tx.send(bytes(fits))
        return fits, tx.getsockopt(level, seen)


@pytest.mark.parametrize("udp", [False, True], ids=["esp", "udp"])
@pytest.mark.parametrize(("six", "mode"), MODES, ids=IDS)
@pytest.mark.parametrize("name", ["gcm128", "null-sha256"])
def test_a_smaller_path_mtu_reaches_the_sender(
    wire: Ipsec, name: str, six: bool, mode: int, udp: bool
) -> None:
    """esp4_err, esp6_err, or the error of UDP: later packets fill the path, and none is larger."""
    if udp:
        encapsulated(wire, six, mode, name)
    else:
        wire.protect(BY_NAME[name], six, mode, six)
    assert wire.send() == b"x" * 32
    ip, path = IPv6 if six else IP, PATH[six]
    own = (OUTSIDE6 if six else OUTSIDE4)[0]
    sent = [frame[ip] for frame in wire.frames() if ipsec.ESP in frame or UDP in frame]
    before, _ = largest(wire, six)
    too_big(wire, sent[0], path)
    size, mtu = largest(wire, six)
    assert size + (48 if six else 28) == mtu < path
    assert size < before
    wire.clock.run_for(10**8)
    frames = [frame[ip] for frame in wire.frames() if ip in frame and frame[ip].src == own]
    assert path - 4 < len(frames[-1]) <= path
    wire.stream(60_000)
    frames = [frame[ip] for frame in wire.frames() if ip in frame and frame[ip].src == own]
    streamed = [len(one) for one in frames if len(one) > 200]
    assert max(streamed[-30:]) <= path
    assert max(streamed[-30:]) > path - 24
    assert not counted(wire.a)


@pytest.mark.parametrize("six", [False, True])
def test_an_error_about_no_state_of_ours_is_ignored(wire: Ipsec, six: bool) -> None:
    wire.protect(BY_NAME["gcm128"], six, 0, six)
    wire.send()
    ip = IPv6 if six else IP
    sent = next(frame[ip] for frame in wire.frames() if ipsec.ESP in frame)
    before = largest(wire, six)
    forged = ip(bytes(sent))
    forged[ipsec.ESP].spi = 0x999
    too_big(wire, forged, PATH[six])
    assert largest(wire, six) == before


@pytest.mark.parametrize("outside6", [False, True])
@pytest.mark.parametrize("six", [False, True])
def test_a_sender_behind_the_tunnel_is_told(wire: Ipsec, six: bool, outside6: bool) -> None:
    """What does not fit the tunnel: ICMP's fragmentation needed, ICMPv6's packet too big."""
    wire.protect(BY_NAME["gcm128"], six, 1, outside6)
    own = OUTSIDE6 if six else OUTSIDE4
    ends = OUTSIDE6 if outside6 else OUTSIDE4
    wire.a.sysctl["net.ipv4.ip_forward"] = 1
    wire.a.sysctl["net.ipv6.conf.all.forwarding"] = 1
    policy(wire.a, XFRM_POLICY_OUT, own[1], wire.inside[1], 1, ends)
    ip: Any = (
        IPv6(src=own[1], dst=wire.inside[1])
        if six
        else IP(src=own[1], dst=wire.inside[1], flags="DF")
    )
    inject(wire, ip / UDP(sport=5, dport=9) / bytes(1440), to_a=True)
    wire.clock.run_for(10**9)
    _, mtu = largest(wire, six)
    kind = ICMPv6PacketTooBig if six else ICMP
    told = [frame for frame in wire.frames() if kind in frame]
    told = [frame for frame in told if six or (frame[ICMP].type, frame[ICMP].code) == (3, 4)]
    assert len(told) == 1
    assert (told[0][kind].mtu if six else told[0][kind].nexthopmtu) == mtu
    assert told[0][IPv6 if six else IP].dst == own[1]


# --- tshark ---------------------------------------------------------------------------------------

SHARK = {
    "gcm128": ("AES-GCM with 16 octet ICV [RFC4106]", KEY[:20], "NULL", b""),
    "gcm256": ("AES-GCM with 16 octet ICV [RFC4106]", KEY, "NULL", b""),
    "null-sha256": ("NULL", b"", "HMAC-SHA-256-128 [RFC4868]", AUTH_KEY),
}
"""Wireshark's names of the algorithms (its table esp_sa), with the keys."""


@pytest.mark.parametrize("udp", [False, True], ids=["esp", "udp"])
@pytest.mark.parametrize(("six", "mode"), MODES, ids=IDS)
@pytest.mark.parametrize("name", SHARK)
def test_tshark_decrypts_what_a_host_sends(
    wire: Ipsec, tmp_path: Path, name: str, six: bool, mode: int, udp: bool
) -> None:
    require.tool("tshark")
    if udp:
        encapsulated(wire, six, mode, name)
    else:
        wire.protect(BY_NAME[name], six, mode, six)
    assert wire.send(b"hello" * 10) == b"hello" * 10
    frames = wire.frames()
    crypt, key, auth, auth_key = SHARK[name]
    columns = "IPv6" if six else "IPv4", "*", "*", "*", crypt, f"0x{key.hex()}" if key else ""
    columns += auth, f"0x{auth_key.hex()}" if auth_key else "", "32-bit"
    table = ",".join(f'"{column}"' for column in columns)
    options = [f"uat:esp_sa:{table}", "esp.enable_encryption_decode:TRUE"]
    options += ["esp.enable_authentication_check:TRUE"]
    words = [word for option in options for word in ("-o", option)]
    fields = ["-T", "fields", "-e", "esp.spi", "-e", "udp.payload", "-e", "esp.icv_bad"]
    capture = tmp_path / "again.pcap"
    wrpcap(str(capture), frames)
    out = subprocess.run(
        ["tshark", "-r", str(capture), *words, "-Y", "esp", *fields],
        check=True,
        capture_output=True,
        text=True,
    )
    lines = [line.split("\t") for line in out.stdout.splitlines()]
    assert [line[0] for line in lines] == ["0x00000100", "0x00000200"]
    for _, payload, bad in lines:
        assert payload.split(",")[-1] == (b"hello" * 10).hex()
        assert not {"1", "True"} & set(bad.split(","))
