"""TCP's MD5 signatures (RFC 2385) between two hosts, and what a wrong or malformed one does."""

from __future__ import annotations

import errno
import hashlib
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from fastpath.base.dma import HostMemory
from fastpath.base.skbuff import SkbPool, kfree_skb, skb_from_bytes
from fastpath.net.hdr import tcp_hdr_validate
from stack.core.drop_reason import drop_names
from stack.core.uapi import (
    AF_INET,
    AF_INET6,
    IP_MTU_DISCOVER,
    IP_PMTUDISC_DONT,
    IP_PMTUDISC_WANT,
    SOCK_STREAM,
    SOL_IP,
)
from stack.host import Host
from stack.inet.tcp_md5 import MD5SIG_KEY_BYTES, tcp_diag_md5sig, tcp_md5_do_lookup
from stack.inet.tcp_options import tcp_parse_auth_options
from tests.stack.inet.tcpnet import (
    ACK,
    PEER_OF,
    RST,
    SYN,
    A,
    B,
    S,
    Segment,
    Sock,
    TcpNet,
    build_segment,
    transfer,
)
from tests.stack.ipv6.tcpnet6 import TcpNet6
from tests.support import errno_of

TCP_MD5SIG, TCP_MD5SIG_EXT = 14, 32
FLAG_PREFIX, FLAG_IFINDEX = 1, 2
KEY = b"secret"
PORT = 80
MD5 = 19


def md5sig(
    addr: int | str | IPv4Address | IPv6Address,
    key: bytes,
    *,
    prefix: int | None = None,
    flags: int = 0,
    ifindex: int = 0,
    keylen: int | None = None,
) -> bytes:
    """struct tcp_md5sig; without bits of the prefix the flag for it is not set."""
    if isinstance(addr, str):
        addr = IPv6Address(addr) if ":" in addr else IPv4Address(addr)
    elif isinstance(addr, int):
        addr = IPv4Address(addr) if addr < 1 << 32 else IPv6Address(addr)
    if addr.version == 4:
        name = struct.pack("=H2x4s120x", AF_INET, addr.packed)
    else:
        name = struct.pack("=H6x16s104x", AF_INET6, addr.packed)
    if prefix is not None:
        flags |= FLAG_PREFIX
    size = len(key) if keylen is None else keylen
    return name + struct.pack("=BBHi80s", flags, prefix or 0, size, ifindex, key)


def signature(segment: Segment, key: bytes) -> bytes:
    """The twin: RFC 2385 2.0 word for word, from the frame."""
    frame = segment.frame
    at = 54 if frame[12:14] == b"\x86\xdd" else 34
    end = at + (int.from_bytes(frame[18:20], "big") if at == 54 else
                int.from_bytes(frame[16:18], "big") - 20)  # fmt: skip
    tcp = frame[at:end]
    if at == 54:
        pseudo = frame[22:54] + len(tcp).to_bytes(4, "big") + b"\0\0\0\x06"
    else:
        pseudo = frame[26:34] + b"\0\x06" + len(tcp).to_bytes(2, "big")
    header = tcp[:16] + b"\0\0" + tcp[18:20]
    return hashlib.md5(pseudo + header + segment.payload + key).digest()


POOL = SkbPool(HostMemory(1 << 17), 2048, 16)
NETS = pytest.mark.parametrize("kind", [TcpNet, TcpNet6], ids=["IPv4", "IPv6"])


def listening(net: TcpNet, key: bytes = KEY) -> Sock:
    """A listener that has a key for the client."""
    listener = net.listening()
    listener.setsockopt(TCP_MD5SIG, md5sig(PEER_OF[net.peer_addr], key))
    return listener


def connecting(net: TcpNet, key: bytes = KEY) -> Sock:
    """A client that has a key for the server, and sends its SYN."""
    client = net.socket(net.a)
    client.setsockopt(TCP_MD5SIG, md5sig(net.peer_addr, key))
    client.connect(net.peer_addr, PORT)
    return client


def signed_pair(net: TcpNet) -> tuple[Sock, Sock]:
    """A connection whose ends have each other's key."""
    listener, client = listening(net), connecting(net)
    assert net.run_until(lambda: listener.readable and client.state == "ESTABLISHED", 100 * S)
    server = listener.accept()
    listener.close()
    return client, server


def drops(host: Host) -> dict[str, int]:
    """What the host dropped for its signature or lack of one."""
    names = drop_names(host)
    return {
        name.removeprefix("SKB_DROP_REASON_TCP_"): n for name, n in names.items() if "MD5" in name
        or "AUTH" in name
    }  # fmt: skip


# --- signatures ---------------------------------------------------------------------------


@NETS
@pytest.mark.parametrize("sysctl", [{}, {"tcp_sack": 0}, {"tcp_timestamps": 0}, {"tcp_ecn": 3}])
def test_each_segment_is_signed_as_the_rfc_says(kind: type[TcpNet], sysctl: dict[str, int]) -> None:
    data = bytes(range(256)) * 1000
    with kind(loss=0.05, sysctl=sysctl, seed=3) as net:
        client, server = signed_pair(net)
        assert transfer(net, client, server, data) == data
        server.send(b"answer")
        server.close()
        net.run(300 * S)
        assert client.recv_all() == b"answer"
        client.close()
        net.finish(client, server)
        assert len(net.log) > 150
        for segment in net.log:
            assert segment.opt(MD5) == signature(segment, KEY), segment.text
            assert len(segment.options) <= 40
            assert len(segment.payload) <= 1460, "no device cuts a signed packet"
        assert drops(net.a) == drops(net.b) == {}


def test_options_beside_a_signature() -> None:
    """Linux's choice: a SYN has no timestamps; a SYN-ACK has them where SACK is not offered."""
    with TcpNet() as net:
        _client, _server = signed_pair(net)
        syn, synack, ack = net.log[:3]
        assert [o.opt(8) for o in (syn, synack, ack)] == [None] * 3
        assert syn.opt(4) == synack.opt(4) == b"", "SACK permitted"
        assert syn.opt(3) is not None
        assert syn.options[:4] == bytes((1, 1, 19, 18)), "the signature comes first"


def test_sack_blocks_have_less_room() -> None:
    with TcpNet() as net:
        client, server = signed_pair(net)
        lost = iter([True, False] * 6)
        net.filter = lambda s: not (s.payload and next(lost, False))
        assert transfer(net, client, server, bytes(40_000)) == bytes(40_000)
        net.finish(client, server)
        assert max(len(s.sacks) for s in net.log) == 2


@pytest.mark.parametrize("discover", [IP_PMTUDISC_DONT, IP_PMTUDISC_WANT])
def test_the_id_of_a_syn_ack_with_many_options(discover: int) -> None:
    """Linux's ip_build_and_send_pkt: above 68 bytes DF is set by IP_MTU_DISCOVER's rule alone."""
    with TcpNet() as net:
        listening(net).setsockopt(IP_MTU_DISCOVER, discover, SOL_IP)
        client = connecting(net)
        assert net.run_until(lambda: client.state == "ESTABLISHED", 10 * S)
        (syn_ack,) = (s for s in net.log if s.flags & (SYN | ACK) == SYN | ACK)
        header = syn_ack.frame[14:34]
        assert int.from_bytes(header[2:4], "big") > 68
        assert bool(header[6] & 0x40) == (discover == IP_PMTUDISC_WANT)
        assert bool(header[4] or header[5]) == (discover == IP_PMTUDISC_DONT)


def test_acks_of_time_wait_are_signed() -> None:
    with TcpNet() as net:
        client, server = signed_pair(net)
        client.close()
        net.run(S)
        net.filter = lambda s: s.src == B
        server.close()  # its FIN is acknowledged, and the ACK lost
        net.run(S // 10)
        net.filter = None
        before = len(net.log)
        net.run(30 * S)
        acks = [s for s in net.log[before:] if s.src == A and s.flags == ACK]
        assert acks
        assert all(s.opt(MD5) == signature(s, KEY) for s in acks)
        assert server.state == "CLOSE"


@pytest.mark.parametrize("sysctl", [{"tcp_syncookies": 2}, {}])
def test_cookies_and_requests_are_signed(sysctl: dict[str, int]) -> None:
    """SYN-ACKs with a cookie, those that are sent again, and the ACK of a request."""
    with TcpNet(sysctl=sysctl) as net:
        listener = listening(net)
        net.filter = lambda s: not s.flags & SYN or s.src == A or s.time_ns > 102 * S
        client = connecting(net)
        assert net.run_until(lambda: listener.readable, 100 * S)
        server = listener.accept()
        server.send(b"hello")
        net.run(S)
        assert client.recv() == b"hello"
        assert all(s.opt(MD5) == signature(s, KEY) for s in net.log)


# --- what is wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server_key", "client_key", "reason", "mib"),
    [
        (KEY, b"other", "MD5FAILURE", "TCPMD5Failure"),
        (KEY, None, "MD5NOTFOUND", "TCPMD5NotFound"),
        (None, KEY, "MD5UNEXPECTED", "TCPMD5Unexpected"),
    ],
)
@NETS
def test_a_syn_with_a_wrong_signature_is_dropped(
    kind: type[TcpNet], server_key: bytes | None, client_key: bytes | None, reason: str, mib: str
) -> None:
    with kind() as net:
        listener = net.listening() if server_key is None else listening(net, server_key)
        client = net.client() if client_key is None else connecting(net, client_key)
        net.run(S // 2)
        assert client.state == "SYN_SENT"
        assert not listener.readable
        assert drops(net.b) == {reason: 1}
        assert getattr(net.b.mib.linux, mib) == 1
        assert listener.sk.sk_drops == 1


def test_segments_of_a_connection_and_of_a_request_are_looked_at() -> None:
    with TcpNet() as net:
        listener = listening(net)
        net.filter = lambda s: s.src == B or bool(s.flags & SYN)  # the last ACK does not come
        client = connecting(net)
        net.run(S // 10)
        sport, seq, ack = client.sk.inet_sport, client.sk.snd_nxt, client.sk.rcv_nxt
        net.inject(build_segment(A, sport, PORT, seq, ack, ACK))
        net.inject(build_segment(A, sport, PORT, seq, ack, RST | ACK))
        assert drops(net.b) == {"MD5NOTFOUND": 2}
        net.filter = None
        assert net.run_until(lambda: listener.readable, 100 * S)
        server = listener.accept()
        net.inject(build_segment(A, sport, PORT, seq, ack, RST | ACK))
        net.inject(build_segment(A, sport, PORT, seq, ack, ACK, payload=b"x"))
        assert drops(net.b) == {"MD5NOTFOUND": 4}
        assert server.state == "ESTABLISHED"
        assert server.recv_all() == b""


GOOD = bytes((MD5, 18)) + bytes(16)


@pytest.mark.parametrize(
    ("options", "dropped"),
    [
        (b"", {}),
        (bytes((MD5, 4, 0, 0)), {}),  # too short a header for a signature, so nobody looks
        (bytes((MD5, 17)) + bytes(15) + bytes((1,)) * 3, {"AUTH_HDR": 1}),
        (GOOD + GOOD, {"AUTH_HDR": 1}),
        (bytes((8, 1)) + bytes(18), {"AUTH_HDR": 1}),
        (bytes((8, 40)) + bytes(18), {"AUTH_HDR": 1}),
        (bytes((0,)) + GOOD, {}),
        (bytes((1, 1)) + GOOD, {"MD5UNEXPECTED": 1}),
        (bytes((253, 4, 0, 0)) + GOOD + bytes((1, 1)), {"MD5UNEXPECTED": 1}),
        (bytes((1,)) * 40, {}),
    ],
)
def test_signatures_where_none_is_expected(options: bytes, dropped: dict[str, int]) -> None:
    with TcpNet() as net:
        client, _server = net.pair()
        seq, ack = client.sk.snd_nxt, client.sk.rcv_nxt
        head = A, client.sk.inet_sport, PORT, seq, ack, ACK
        net.inject(build_segment(*head, payload=b"x", options=options))
        assert drops(net.b) == dropped
        # without timestamps it is not taken (RFC 7323 3.2), but it is not dropped for its signature


@given(st.binary(max_size=40))
def test_any_options_are_read_as_by_the_twin(options: bytes) -> None:
    """tcp_parse_auth_options beside a plain reading of Linux's rules."""
    options += bytes(-len(options) % 4)

    def twin() -> int:
        left, found = options, 0
        while len(left) >= 18:
            if left[0] == 0:
                break
            if left[0] == 1:
                left = left[1:]
                continue
            if not 2 <= left[1] <= len(left):
                return -1
            if left[0] == MD5:
                if left[1] != 18 or found:
                    return -1
                found = 20 + len(options) - len(left) + 2
            left = left[left[1] :]
        return found

    header = bytes(12) + bytes((20 + len(options) << 2,)) + bytes(7) + options
    skb = skb_from_bytes(POOL, header)
    assert skb is not None
    assert tcp_parse_auth_options(skb, tcp_hdr_validate(skb)) == twin()
    kfree_skb(skb)


# --- resets -------------------------------------------------------------------------------


def signed(flags: int, sport: int, dport: int, key: bytes) -> bytes:
    """A segment of A with a signature of `key`, in an IP packet."""
    blank = build_segment(A, sport, dport, 1000, 2000, flags, options=b"\1\1" + GOOD)
    tcp = blank[20:]
    pseudo = blank[12:20] + b"\0\x06" + len(tcp).to_bytes(2, "big")
    digest = hashlib.md5(pseudo + tcp[:16] + b"\0\0" + tcp[18:20] + key).digest()
    options = b"\1\1" + GOOD[:2] + digest
    return build_segment(A, sport, dport, 1000, 2000, flags, options=options)


def test_a_reset_without_a_socket_is_signed_if_a_listener_has_the_key() -> None:
    """Both sides of BGP listen on one port: the peer's port finds the listener, as on Linux."""
    with TcpNet() as net:
        listening(net)
        net.inject(signed(ACK, PORT, 9999, KEY))
        net.run(S)
        (reset,) = net.log
        assert reset.flags & RST
        assert reset.opt(MD5) == signature(reset, KEY)
        net.inject(signed(ACK, PORT, 9999, b"other"))
        net.inject(signed(ACK, 81, 9999, KEY))  # nobody listens there
        net.run(S)
        assert len(net.log) == 1
        net.inject(build_segment(A, PORT, 9999, 1, 1, ACK))
        net.run(S)
        assert net.log[1].flags & RST
        assert net.log[1].opt(MD5) is None


# --- keys ---------------------------------------------------------------------------------


def a_socket(host: Host, family: int = AF_INET) -> Any:
    return host.socket(family, SOCK_STREAM)


@pytest.mark.parametrize("option", [TCP_MD5SIG, TCP_MD5SIG_EXT])
def test_what_setsockopt_refuses(option: int) -> None:
    host = Host(clock=VirtualClock())
    sock = a_socket(host)

    def failed(value: bytes) -> int:
        return errno_of(sock.setsockopt, 6, option, value)

    assert failed(b"") == failed(md5sig(A, KEY)[:-1]) == errno.EINVAL
    assert failed(md5sig("::1", KEY)) == errno.EINVAL
    assert failed(md5sig(A, KEY, keylen=81)) == errno.EINVAL
    assert failed(md5sig(A, b"")) == errno.ENOENT
    if option == TCP_MD5SIG_EXT:
        assert failed(md5sig(A, KEY, prefix=33)) == errno.EINVAL
        for ifindex in (1, 77, -1):
            assert failed(md5sig(A, KEY, flags=FLAG_IFINDEX, ifindex=ifindex)) == errno.EINVAL
    else:
        assert failed(md5sig(A, KEY, prefix=33)) == 0, "the flags do not count"
    with pytest.raises(OSError, match="Protocol not available"):
        sock.getsockopt(6, option, 216)


def test_prefixes_of_both_families_at_one_socket() -> None:
    host = Host(clock=VirtualClock())
    sock = a_socket(host, AF_INET6)
    for addr, prefix, refused in (
        ("::ffff:10.0.0.0", 24, False),
        ("::ffff:10.0.0.0", 33, True),
        ("fd00::", 128, False),
        ("fd00::", 129, True),
    ):
        value = md5sig(addr, KEY, prefix=prefix)
        if refused:
            with pytest.raises(OSError, match="prefix"):
                sock.setsockopt(6, TCP_MD5SIG_EXT, value)
        else:
            sock.setsockopt(6, TCP_MD5SIG_EXT, value)
    with pytest.raises(OSError, match="family"):
        sock.setsockopt(6, TCP_MD5SIG, md5sig(A, KEY))
    assert [(k.family, k.prefixlen) for k in sock.sk.md5sig_info] == [
        (AF_INET6, 128),
        (AF_INET, 24),
    ]


def test_keys_count_as_option_memory() -> None:
    host = Host(clock=VirtualClock(), sysctl={"optmem_max": 4 * MD5SIG_KEY_BYTES})
    sock = a_socket(host)
    for i in range(3):
        sock.setsockopt(6, TCP_MD5SIG, md5sig(A + i, KEY))
    sock.setsockopt(6, TCP_MD5SIG, md5sig(A, b"changed"))
    assert errno_of(sock.setsockopt, 6, TCP_MD5SIG, md5sig(A + 3, KEY)) == errno.ENOMEM
    sock.setsockopt(6, TCP_MD5SIG, md5sig(A + 1, b""))
    sock.setsockopt(6, TCP_MD5SIG, md5sig(A + 3, KEY))
    assert sock.sk.sk_omem_alloc == 3 * MD5SIG_KEY_BYTES


PREFIXES = st.lists(
    st.tuples(st.integers(0, 32), st.sampled_from([A, A + 1, A ^ 1 << 20, 0])),
    unique_by=lambda p: (p[0], p[1]),
    max_size=8,
)


@given(PREFIXES, st.sampled_from([A, A + 1, A ^ 1 << 31]))
def test_the_longest_prefix_wins(prefixes: list[tuple[int, int]], peer: int) -> None:
    sock = a_socket(Host(clock=VirtualClock()))
    for bits, addr in prefixes:
        sock.setsockopt(6, TCP_MD5SIG_EXT, md5sig(addr, b"%d" % bits, prefix=bits))
    fitting = [bits for bits, addr in prefixes if addr >> 32 - bits == peer >> 32 - bits]
    found = tcp_md5_do_lookup(sock.sk, 0, peer, AF_INET)
    assert (None if found is None else int(found.key)) == max(fitting, default=None)
    assert tcp_md5_do_lookup(sock.sk, 0, peer, AF_INET6) is None


def test_keys_of_a_vrf() -> None:
    """A key with TCP_MD5SIG_FLAG_IFINDEX is for that VRF only, and goes before one for all."""
    host = Host(clock=VirtualClock())
    host.add_vrf("blue", 10)
    index = host.dev_by_name["blue"].ifindex
    sock = a_socket(host)
    for key, named in ((b"blue", {"flags": FLAG_IFINDEX, "ifindex": index}), (b"all", {})):
        sock.setsockopt(6, TCP_MD5SIG_EXT, md5sig(A, key, **named))

    def key_for(l3index: int) -> bytes:
        found = tcp_md5_do_lookup(sock.sk, l3index, A, AF_INET)
        assert found is not None
        return found.key

    assert (key_for(index), key_for(0), key_for(index + 1)) == (b"blue", b"all", b"all")
    sock.setsockopt(6, TCP_MD5SIG_EXT, md5sig(A, b"", flags=FLAG_IFINDEX, ifindex=index))
    assert key_for(index) == b"all"


def test_keys_as_ss_gets_them() -> None:
    """struct tcp_diag_md5sig; tests/stack/netlink/test_diag_table.py compares it with Linux's."""
    sock = a_socket(Host(clock=VirtualClock()), AF_INET6)
    sock.setsockopt(6, TCP_MD5SIG, md5sig("::ffff:10.0.0.1", KEY))
    sock.setsockopt(6, TCP_MD5SIG_EXT, md5sig("fd00::", b"k" * 80, prefix=8))
    first, second = struct.iter_unpack("=BBH16s80s", tcp_diag_md5sig(sock.sk))
    assert first == (AF_INET6, 8, 80, IPv6Address("fd00::").packed, b"k" * 80)
    assert second == (AF_INET, 32, 6, b"\x0a\0\0\x01".ljust(16, b"\0"), KEY.ljust(80, b"\0"))
