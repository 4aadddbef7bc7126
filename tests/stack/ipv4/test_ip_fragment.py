"""stack/ipv4/ip_fragment.py"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP, fragment
from scapy.packet import Raw

from stack.core.bsd_socket import sys_recvfrom, sys_setsockopt
from stack.core.uapi import MSG_DONTWAIT, SO_BINDTODEVICE, SOL_SOCKET
from stack.inet.inet_fragment import ip_frag_ecn
from tests.stack.ipv4.net import ME, PEER, SEC, Net, one_host, udp_socket
from tests.support import examples


def pieces(payload: bytes, cuts: list[int], ident: int = 7, **kw) -> list[bytes]:
    """IP fragments of a UDP datagram, cut at the given multiples of 8."""
    whole = bytes(IP(src=PEER, dst=ME, id=ident) / UDP(sport=9, dport=5000) / Raw(payload))[20:]
    edges = sorted({0, *(c * 8 for c in cuts if c * 8 < len(whole)), len(whole)})
    out = []
    for a, b in pairwise(edges):
        out.append(
            bytes(
                IP(
                    src=PEER,
                    dst=ME,
                    id=ident,
                    proto=17,
                    frag=a // 8,
                    flags=1 if b < len(whole) else 0,
                    **kw,
                )
                / Raw(whole[a:b])
            )
        )
    return out


def read(net: Net, fd: int) -> bytes | None:
    buf = bytearray(70000)
    try:
        n, _ = sys_recvfrom(net.host, fd, buf, MSG_DONTWAIT)
    except BlockingIOError:
        return None
    return bytes(buf[:n])


def settled(net: Net) -> None:
    """Nothing waits and no buffer is lost."""
    assert net.host.ipv4.frags.mem == 0
    assert net.host.ipv4.frags.queues == {}
    assert net.host.skb_small.in_use == 0
    assert net.host.skb_pages.in_use == 0


@settings(max_examples=examples(60))
@given(
    size=st.integers(1, 4000),
    cuts=st.lists(st.integers(1, 500), max_size=12),
    data=st.data(),
)
def test_any_order_and_repeats_give_the_datagram_once(size: int, cuts: list[int], data) -> None:
    net = one_host()
    fd = udp_socket(net, 5000)
    payload = bytes(i * 7 % 256 for i in range(size))
    frags = pieces(payload, cuts)
    order = data.draw(st.permutations(frags))
    repeats = data.draw(st.lists(st.sampled_from(frags), max_size=4))
    # Repeats before completion are dropped; after it they begin a datagram that never ends.
    mixed = list(order[:-1])
    for extra in repeats:
        if extra != order[-1] and extra in mixed:
            mixed.insert(mixed.index(extra) + 1, extra)
    for frag in (*mixed, order[-1]):
        net.inject(frag)
    assert read(net, fd) == payload
    assert read(net, fd) is None
    settled(net)


@settings(max_examples=examples(60))
@given(
    size=st.integers(64, 2000),
    cuts=st.lists(st.integers(1, 250), min_size=1, max_size=8),
    where=st.integers(0, 249),
    length=st.integers(1, 40),
    data=st.data(),
)
def test_overlap_never_delivers_wrong_bytes(
    size: int, cuts: list[int], where: int, length: int, data
) -> None:
    net = one_host()
    fd = udp_socket(net, 5000)
    payload = bytes(i * 7 % 256 for i in range(size))
    frags = pieces(payload, cuts)
    evil = bytes(
        IP(src=PEER, dst=ME, id=7, proto=17, frag=where, flags=1) / Raw(b"\xee" * (8 * length))
    )
    for frag in data.draw(st.permutations([*frags, evil])):
        net.inject(frag)
    got = read(net, fd)
    assert got in (None, payload)
    net.run(31 * SEC)
    settled(net)


def test_missing_fragment_times_out_with_icmp(net: Net) -> None:
    frags = pieces(bytes(2000), [100])
    net.inject(frags[0])
    assert net.host.ipv4.frags.mem > 0
    net.run(31 * SEC)
    (packet,) = net.ip_sent()
    assert (packet[ICMP].type, packet[ICMP].code) == (11, 1)
    assert bytes(packet[ICMP].payload)[:20] == frags[0][:20]
    assert net.host.mib.ip.ReasmTimeout == net.host.mib.ip.ReasmFails == 1
    settled(net)


def test_timeout_without_the_first_fragment_is_silent(net: Net) -> None:
    net.inject(pieces(bytes(2000), [100])[1])
    net.run(31 * SEC)
    assert net.ip_sent() == []
    assert net.host.mib.ip.ReasmTimeout == 1
    settled(net)


def test_ping_of_death_is_dropped(net: Net) -> None:
    for off in range(0, 8191, 180):
        last = off + 180 >= 8191
        net.inject(
            IP(src=PEER, dst=ME, id=9, proto=17, frag=off, flags=0 if last else 1)
            / Raw(bytes(1440 if not last else 1400))
        )
    assert net.host.mib.ip.ReasmFails == 1
    assert net.drops() == {"SKB_DROP_REASON_PKT_TOO_BIG": 46}
    settled(net)


@pytest.mark.parametrize(("where", "more"), [(220, 0), (260, 0), (260, 1)])
def test_last_fragment_may_not_move_the_end(net: Net, where: int, more: int) -> None:
    frags = pieces(bytes(2000), [100, 200])
    net.inject(frags[0])
    net.inject(frags[-1])
    net.inject(IP(src=PEER, dst=ME, id=7, proto=17, frag=where, flags=more) / Raw(bytes(64)))
    assert net.host.mib.ip.ReasmFails == 1
    assert net.host.ipv4.frags.queues == {}
    assert net.drops() == {"SKB_DROP_REASON_IP_INHDR": 3}
    assert net.host.skb_small.in_use == 0


def test_overlap_is_counted_and_its_reason_named(net: Net) -> None:
    net.inject(pieces(bytes(2000), [100])[0])
    net.inject(IP(src=PEER, dst=ME, id=7, proto=17, frag=99, flags=1) / Raw(bytes(64)))
    assert net.drops() == {"SKB_DROP_REASON_FRAG_OVERLAP": 2}
    assert net.host.mib.ipext.ReasmOverlaps == net.host.mib.ip.ReasmFails == 1
    settled(net)


def test_a_fragment_before_the_last_is_cut_to_a_multiple_of_8(net: Net, fd: int) -> None:
    payload = bytes(range(200))
    first, second = pieces(payload, [13])
    whole = IP(first)
    del whole.len, whole.chksum
    net.inject(bytes(whole / Raw(b"\xee" * 4)))
    net.inject(second)
    assert read(net, fd) == payload
    settled(net)


def test_empty_fragment_kills_the_queue(net: Net) -> None:
    net.inject(pieces(bytes(2000), [100])[0])
    net.inject(IP(src=PEER, dst=ME, id=7, proto=17, frag=101, flags=1))
    assert net.host.ipv4.frags.queues == {}
    settled(net)


def test_memory_limit_refuses_new_datagrams(net: Net) -> None:
    net.host.sysctl.ipfrag_low_thresh = 10000
    net.host.sysctl.ipfrag_high_thresh = 20000
    for ident in range(50):
        net.inject(pieces(bytes(2000), [100], ident=ident)[0])
    assert net.host.ipv4.frags.mem < 20000 + 8192
    assert net.host.mib.ip.ReasmFails > 0
    net.run(31 * SEC)
    settled(net)


def test_above_the_limit_waiting_datagrams_get_no_fragments_either(net: Net, fd: int) -> None:
    net.host.sysctl.ipfrag_low_thresh = 10000
    net.host.sysctl.ipfrag_high_thresh = 20000
    first, last = pieces(bytes(2000), [100], ident=1)
    net.inject(first)
    for ident in range(2, 50):
        net.inject(pieces(bytes(2000), [100], ident=ident)[0])
    net.inject(last)
    assert read(net, fd) is None
    net.run(31 * SEC)
    settled(net)


def test_a_limit_of_0_ends_reassembly(net: Net, fd: int) -> None:
    net.host.sysctl.ipfrag_low_thresh = 0
    net.host.sysctl.ipfrag_high_thresh = 0
    for frag in pieces(bytes(2000), [100]):
        net.inject(frag)
    assert read(net, fd) is None
    assert net.host.mib.ip.ReasmFails == 2


def test_too_many_other_fragments_restart_the_queue(net: Net, fd: int) -> None:
    net.host.sysctl.ipfrag_max_dist = 4
    old = pieces(b"old" * 500, [100], ident=1)
    net.inject(old[0])
    for ident in range(10, 20):
        net.inject(pieces(bytes(1500), [100], ident=ident)[0])
    net.inject(old[1])
    assert read(net, fd) is None
    assert net.host.mib.ip.ReasmFails >= 1


def test_different_protocol_or_id_do_not_mix(net: Net, fd: int) -> None:
    one, two = pieces(b"1" * 1000, [64], ident=1), pieces(b"2" * 1000, [64], ident=2)
    for frag in (one[0], two[1], two[0], one[1]):
        net.inject(frag)
    assert read(net, fd) == b"2" * 1000
    assert read(net, fd) == b"1" * 1000


def test_thousands_of_tiny_fragments(net: Net, fd: int) -> None:
    net.host.sysctl.ipfrag_high_thresh = 16 << 20  # each holds a whole buffer
    payload = bytes(i % 251 for i in range(20000))
    for frag in pieces(payload, list(range(1, 2501))):
        net.inject(frag)
    assert read(net, fd) == payload
    settled(net)


def test_a_packet_of_many_fragments_is_from_their_interface(net: Net, fd: int) -> None:
    sys_setsockopt(net.host, fd, SOL_SOCKET, SO_BINDTODEVICE, b"eth0")
    for frag in pieces(bytes(8000), list(range(1, 1001))):
        net.inject(frag)
    assert read(net, fd) == bytes(8000)
    settled(net)


def test_scapys_fragments_of_64k_ping_are_answered(net: Net) -> None:
    data = bytes(i % 251 for i in range(65507))
    for frag in fragment(IP(src=PEER, dst=ME) / ICMP(id=1, seq=2) / Raw(data), 1480):
        net.inject(frag)
    reply = b"".join(bytes(p.payload) for p in net.ip_sent())
    assert reply[0] == 0
    assert reply[8:] == data
    settled(net)


@pytest.mark.parametrize(
    ("codepoints", "result"),
    [((0,), 0), ((2,), 0), ((1, 2), 0), ((3,), 3), ((3, 2), 3), ((0, 2), 255), ((0, 3), 255)],
)
def test_ecn_of_fragments(codepoints: tuple[int, ...], result: int) -> None:
    assert ip_frag_ecn(sum(1 << c for c in codepoints)) == result


def test_congestion_mark_of_one_fragment_reaches_the_whole(net: Net, fd: int) -> None:
    frags = pieces(bytes(1000), [64], tos=2)
    marked = bytearray(frags[1])
    marked[1] = 3
    again = IP(bytes(marked))
    del again.chksum
    net.inject(frags[0])
    net.inject(again)
    assert len(read(net, fd) or b"") == 1000


def test_bad_mixture_of_ecn_is_dropped(net: Net, fd: int) -> None:
    net.inject(pieces(bytes(1000), [64], tos=0)[0])
    net.inject(pieces(bytes(1000), [64], tos=3)[1])
    assert read(net, fd) is None
    settled(net)
