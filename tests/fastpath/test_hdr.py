"""Views and writers: every member against the twin, scapy as the foreign judge, bounds."""

import ast
import gc
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastpath._ref import hdr as ref
from fastpath.base import skbuff as S
from fastpath.base.dma import HostMemory
from fastpath.net import hdr as H
from fastpath.net import hdr6
from fastpath.net.headers import HEADERS
from tests.fastpath.frames import ipv4, tcp, udp
from tests.support import examples

MEM = HostMemory(4 << 20)
POOL = S.SkbPool(MEM, 2048, 64)
WHERE = {
    "ethhdr": (H.eth_hdr, "mac_header"),
    "arphdr": (H.arp_hdr, "network_header"),
    "iphdr": (H.ip_hdr, "network_header"),
    "ipv6hdr": (H.ipv6_hdr, "network_header"),
    "icmphdr": (H.icmp_hdr, "transport_header"),
    "udphdr": (H.udp_hdr, "transport_header"),
    "tcphdr": (H.tcp_hdr, "transport_header"),
    "icmp6hdr": (hdr6.icmp6_hdr, "transport_header"),
    "frag_hdr": (hdr6.frag_hdr_at, ""),
    "rd_msg": (hdr6.rd_msg_at, ""),
}
"""Which function makes each view, and of which offset of the sk_buff; "": it is given one."""
CASES = [(h, m) for h in WHERE for m in HEADERS[h].members]


def view_of(header: str, data: bytes) -> tuple[S.sk_buff, object]:
    skb = S.skb_from_bytes(POOL, data, 32)
    make, where = WHERE[header]
    if not where:
        return skb, make(skb, 0)
    setattr(skb, where, 32)
    return skb, make(skb)


@pytest.mark.parametrize("header", list(WHERE))
def test_a_view_is_of_an_sk_buff(header: str) -> None:
    with pytest.raises(TypeError, match="made by a function"):
        type(view_of(header, bytes(60))[1])()


@pytest.mark.parametrize("member", ["ttl", "tot_len", "saddr"])
def test_a_value_may_free_the_packet_it_is_for(member: str) -> None:
    skb, view = view_of("iphdr", bytes(60))

    class Freeing:
        def __index__(self) -> int:
            S.kfree_skb(skb)
            return 1

    with pytest.raises(IndexError, match="freed"):
        setattr(view, member, Freeing())


@pytest.mark.parametrize("header", list(WHERE))
def test_views_offer_exactly_the_table(header: str) -> None:
    _, view = view_of(header, bytes(60))
    members = {n for n in dir(view) if not n.startswith("_")}
    assert members - {"options"} == set(HEADERS[header].members)
    assert repr(view).startswith(f"<{header} ")


@settings(max_examples=examples(300), deadline=None)
@given(st.sampled_from(CASES), st.binary(min_size=60, max_size=60), st.integers(0, (1 << 128) - 1))
def test_members_read_and_write_as_the_twin(case: tuple[str, str], data: bytes, value: int) -> None:
    header, name = case
    skb, view = view_of(header, data)
    assert getattr(view, name) == ref.get(header, name, data)
    new: int | bytes = value
    if not HEADERS[header].members[name].bits:
        new = value.to_bytes(16, "big")[:6]
    want = bytearray(data)
    ref.put(header, name, want, new)
    setattr(view, name, new)
    assert S.skb_to_bytes(skb) == want
    S.kfree_skb(skb)


@pytest.mark.parametrize("case", CASES, ids=".".join)
def test_short_freed_and_unset_headers_raise(case: tuple[str, str]) -> None:
    header, name = case
    size = HEADERS[header].size
    skb, view = view_of(header, bytes(size))
    value = b"abcdef" if not HEADERS[header].members[name].bits else 1
    getattr(view, name)
    for break_it in (lambda: S.skb_trim(skb, size - 1), lambda: S.kfree_skb(skb)):
        break_it()
        with pytest.raises(IndexError, match="header view"):
            getattr(view, name)
        with pytest.raises(IndexError, match="header view"):
            setattr(view, name, value)
    assert "header view" in repr(view)
    other = S.skb_from_bytes(POOL, bytes(60))
    make, where = WHERE[header]
    if not where:
        with pytest.raises(IndexError, match="header view"):
            getattr(make(other, 61 - size), name)
        return
    for off in (S.HEADER_UNSET, 60, 0xFFFFFFF0, 61 - size):
        setattr(other, where, off)
        with pytest.raises(IndexError, match="header view"):
            getattr(make(other), name)


def test_the_stubs_offer_exactly_the_table() -> None:
    stubs = {}
    for module in (H, hdr6):
        for node in ast.parse(Path(module.__file__.split(".")[0] + ".pyi").read_text()).body:
            if isinstance(node, ast.ClassDef):
                names = [n.target.id for n in node.body if isinstance(n, ast.AnnAssign)]
                stubs[node.name] = [n for n in names if n != "options"]
    assert stubs == {"header": []} | {name: list(h.members) for name, h in HEADERS.items()}


def test_scapy_puts_every_member_where_the_table_has_it() -> None:
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import ARP, Ether

    macs = {"dst": "02:03:04:05:06:07", "src": "08:09:0a:0b:0c:0d"}
    ends = {"h_dest": bytes(range(2, 8)), "h_source": bytes(range(8, 14))}
    flags = dict.fromkeys(("fin", "rst", "ack", "ece"), 1) | dict.fromkeys(
        ("syn", "psh", "urg", "cwr"), 0
    )
    written = {
        "ethhdr": (Ether(**macs, type=0x1234), ends | {"h_proto": 0x1234}),
        "arphdr": (
            ARP(hwtype=1, ptype=0x800, hwlen=6, plen=4, op=9, hwsrc=macs["src"], psrc="1.2.3.4",
                hwdst=macs["dst"], pdst="5.6.7.8"),
            {"ar_hrd": 1, "ar_pro": 0x800, "ar_hln": 6, "ar_pln": 4, "ar_op": 9,
             "ar_sha": ends["h_source"], "ar_sip": 0x01020304, "ar_tha": ends["h_dest"],
             "ar_tip": 0x05060708},
        ),
        "iphdr": (
            IP(version=4, ihl=7, tos=0x12, len=0x3456, id=0x789A, flags="DF", frag=5, ttl=0xBC,
               proto=0xDE, chksum=0xF012, src="1.2.3.4", dst="5.6.7.8"),
            {"version": 4, "ihl": 7, "tos": 0x12, "tot_len": 0x3456, "id": 0x789A,
             "frag_off": 0x4005, "ttl": 0xBC, "protocol": 0xDE, "check": 0xF012,
             "saddr": 0x01020304, "daddr": 0x05060708},
        ),
        "ipv6hdr": (
            IPv6(version=6, tc=0x12, fl=0x34567, plen=0x89AB, nh=0xCD, hlim=0xEF, src="1::2",
                 dst="3::4"),
            {"version": 6, "priority": 0x12, "flow_lbl": 0x34567, "payload_len": 0x89AB,
             "nexthdr": 0xCD, "hop_limit": 0xEF, "saddr": 1 << 112 | 2, "daddr": 3 << 112 | 4},
        ),
        "icmphdr": (
            ICMP(type=8, code=2, chksum=0x1234, id=0x5678, seq=0x9ABC),
            {"type": 8, "code": 2, "checksum": 0x1234, "un": 0x56789ABC, "id": 0x5678,
             "sequence": 0x9ABC, "gateway": 0x56789ABC, "mtu": 0x9ABC},
        ),
        "udphdr": (
            UDP(sport=0x1234, dport=0x5678, len=0x9ABC, chksum=0xDEF0),
            {"source": 0x1234, "dest": 0x5678, "len": 0x9ABC, "check": 0xDEF0},
        ),
        "tcphdr": (
            TCP(sport=0x1234, dport=0x5678, seq=0x9ABCDEF0, ack=0x13579BDF, dataofs=7, reserved=5,
                flags="FRAE", window=0x2468, chksum=0xACE0, urgptr=0x1357),
            flags | {"source": 0x1234, "dest": 0x5678, "seq": 0x9ABCDEF0, "ack_seq": 0x13579BDF,
                     "doff": 7, "res1": 10, "flags": 0x55, "window": 0x2468, "check": 0xACE0,
                     "urg_ptr": 0x1357},
        ),
    }  # fmt: skip
    for header, (packet, members) in written.items():
        _, view = view_of(header, bytes(packet))
        assert {name: getattr(view, name) for name in HEADERS[header].members} == members


def test_a_view_keeps_its_skb_alive() -> None:
    skb, view = view_of("udphdr", b"\0\1\0\2\0\3\0\4")
    del skb
    gc.collect()
    assert (view.source, view.dest, view.len, view.check) == (1, 2, 3, 4)


def test_wrong_values_raise() -> None:
    _, view = view_of("ethhdr", bytes(20))
    with pytest.raises(ValueError, match="6 bytes"):
        view.h_dest = b"abc"
    with pytest.raises(TypeError):
        view.h_dest = None
    for name in ("h_dest", "h_proto"):
        with pytest.raises(NotImplementedError):
            delattr(view, name)
    with pytest.raises(TypeError):
        view.h_proto = b"x"
    with pytest.raises(TypeError):
        H.ip_hdr(None)
    _, view = view_of("iphdr", bytes(20))
    view.ttl = -1
    assert view.ttl == 255


@settings(max_examples=examples(60), deadline=None)
@given(st.binary(min_size=20, max_size=80), st.integers(20, 80))
def test_options_never_reach_past_the_data(data: bytes, cut: int) -> None:
    for header, at, high in (("iphdr", 0, False), ("tcphdr", 12, True)):
        skb, view = view_of(header, data[:cut])
        want = ref.options(data, 20, at, high)
        length = (data[at] >> 4 if high else data[at] & 15) * 4
        if max(length, 20) <= len(skb):
            assert view.options == want
        else:
            with pytest.raises(IndexError):
                _ = view.options
        S.kfree_skb(skb)


def test_views_at_an_offset_from_data() -> None:
    frame = tcp(b"abc", sport=77)
    skb = S.skb_from_bytes(POOL, frame, 16)
    assert H.iphdr_at(skb, 14).protocol == 6
    assert H.tcphdr_at(skb, 34).source == 77
    S.skb_pull(skb, 34)
    assert H.iphdr_at(skb, -20).daddr == 0x0A000002
    for bad in (-51, 24, 1 << 40, -(1 << 40)):
        for make in (H.iphdr_at, hdr6.frag_hdr_at, hdr6.rd_msg_at):
            with pytest.raises(IndexError, match="outside the linear data"):
                make(skb, bad)


u8, u16, u32 = st.integers(0, 255), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
opts = st.integers(0, 10).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n))


@settings(max_examples=examples(80), deadline=None)
@given(u8, st.integers(0, 100000), u16, u16, u8, u8, u32, u32, opts)
def test_ip_push(
    tos: int, length: int, ident: int, frag: int, ttl: int, proto: int, s: int, d: int, o: bytes
) -> None:
    skb = S.alloc_skb(POOL, 0, 128)
    H.ip_push(skb, tos, length, ident, frag, ttl, proto, s, d, o)
    assert S.skb_to_bytes(skb) == ref.ip_header(tos, length, ident, frag, ttl, proto, s, d, o)
    assert skb.network_header == skb.data_offset
    iph = H.ip_hdr(skb)

    def sum_is_right() -> bool:
        return ref.csum_fold(ref.csum_partial(S.skb_to_bytes(skb)[: 20 + len(o)], 0)) == 0

    assert sum_is_right()
    assert iph.options == o
    assert H.ip_decrease_ttl(iph) == (ttl - 1) & 255
    assert sum_is_right()
    iph.check = 0
    assert not sum_is_right()
    H.ip_send_check(iph)
    assert sum_is_right()
    S.kfree_skb(skb)


u128 = st.integers(0, (1 << 128) - 1)


@settings(max_examples=examples(80), deadline=None)
@given(u8, st.integers(0, 0xFFFFF), st.integers(0, 100000), u8, u8, u128, u128)
def test_ipv6_push(
    tclass: int, label: int, length: int, nexthdr: int, hops: int, s: int, d: int
) -> None:
    skb = S.alloc_skb(POOL, 0, 128)
    H.ipv6_push(skb, tclass, label, length, nexthdr, hops, s, d)
    want = ref.ipv6_header(tclass, label, length, nexthdr, hops, s, d)
    assert S.skb_to_bytes(skb) == want
    assert skb.network_header == skb.data_offset
    S.kfree_skb(skb)


@settings(max_examples=examples(80), deadline=None)
@given(u16, u16, u32, u32, u8, u16, u16, opts, st.binary(max_size=50))
@example(1, 2, 0xFFFFFFFF, 3, 0x11, 4, 0, b"", b"xyz")
def test_tcp_and_udp_push(
    sport: int,
    dport: int,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    urg: int,
    o: bytes,
    body: bytes,
) -> None:
    skb = S.skb_from_bytes(POOL, body, 128)
    H.tcp_push(skb, sport, dport, seq, ack, flags, window, urg, o)
    assert (
        S.skb_to_bytes(skb) == ref.tcp_header(sport, dport, seq, ack, flags, window, urg, o) + body
    )
    assert H.tcp_hdr_fields(skb) == (sport, dport, seq, ack, 5 + len(o) // 4, flags, window, urg)
    assert H.tcp_hdr_validate(skb) == 20 + len(o)
    skb.network_header = skb.transport_header
    H.tcp_fill_cb(skb)
    end = seq + len(body) + (flags & 1) + (flags >> 1 & 1)
    assert (skb.seq, skb.end_seq, skb.ack_seq, skb.tcp_flags) == (seq, end & 0xFFFFFFFF, ack, flags)
    S.kfree_skb(skb)
    skb = S.skb_from_bytes(POOL, body, 128)
    H.udp_push(skb, sport, dport, seq, window)
    assert S.skb_to_bytes(skb) == ref.udp_header(sport, dport, seq, window) + body
    S.kfree_skb(skb)


def test_timestamp_option_push_and_parse() -> None:
    skb = S.alloc_skb(POOL, 0, 128)
    H.tcp_push_ts(skb, 1, 2, 3, 4, 0x10, 5, 6, 0x11223344, 0x55667788)
    option = bytes.fromhex("0101080a1122334455667788")
    assert S.skb_to_bytes(skb) == ref.tcp_header(1, 2, 3, 4, 0x10, 5, 6, option)
    assert H.tcp_parse_ts(skb) == (0x11223344, 0x55667788)
    H.tcp_hdr(skb).doff = 5
    assert H.tcp_parse_ts(skb) is None


def test_pushes_check_room_and_options() -> None:
    skb = S.alloc_skb(POOL, 0, 10)
    with pytest.raises(ValueError, match="only 10"):
        H.ip_push(skb, 0, 0, 0, 0, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="options"):
        H.ip_push(skb, 0, 0, 0, 0, 0, 0, 0, 0, b"abc")
    with pytest.raises(ValueError, match="options"):
        H.tcp_push(skb, 0, 0, 0, 0, 0, 0, 0, bytes(44))
    with pytest.raises(ValueError, match="6 bytes"):
        H.eth_header_push(skb, b"", bytes(6), 0)
    with pytest.raises(OverflowError):
        H.tcp_push(skb, 0, 0, 1 << 32, 0, 0, 0, 0)
    assert len(skb) == 0


def test_scapy_agrees_on_whole_packets() -> None:
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import ARP, Ether

    mac, bcast = b"\2\0\0\0\0\1", b"\xff" * 6
    skb = S.skb_from_bytes(POOL, b"payload", 128)
    H.tcp_push(skb, 1000, 80, 5, 6, 0x18, 7, 0, b"\2\4\5\xb4")
    H.tcp_v4_send_check(skb, 0x0A000001, 0x0A000002)
    H.ip_push(skb, 0, 20 + len(skb), 1, 0x4000, 64, 6, 0x0A000001, 0x0A000002)
    H.eth_header_push(skb, bcast, mac, 0x800)
    want = (
        Ether(src="02:00:00:00:00:01", dst="ff:ff:ff:ff:ff:ff")
        / IP(src="10.0.0.1", dst="10.0.0.2", id=1, flags="DF")
        / TCP(sport=1000, dport=80, seq=5, ack=6, flags="PA", window=7, options=[("MSS", 1460)])
        / b"payload"
    )
    assert S.skb_to_bytes(skb) == bytes(want)

    for v6 in (False, True):
        skb = S.skb_from_bytes(POOL, b"payload", 128)
        H.udp_push(skb, 53, 5353, 15, 0)
        if v6:
            H.udp6_send_check(skb, 1, 2)
            H.ipv6_push(skb, 7, 0x12345, 15, 17, 9, 1, 2)
            want = (
                IPv6(src="::1", dst="::2", tc=7, fl=0x12345, hlim=9)
                / UDP(sport=53, dport=5353)
                / b"payload"
            )
        else:
            H.udp4_send_check(skb, 0x0A000001, 0x0A000002)
            H.ip_push(skb, 0, 35, 1, 0, 64, 17, 0x0A000001, 0x0A000002)
            want = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=53, dport=5353) / b"payload"
        assert S.skb_to_bytes(skb) == bytes(want)

    skb = S.skb_from_bytes(POOL, b"ping!", 128)
    H.icmp_push(skb, 8, 0, 0x00010002)
    assert S.skb_to_bytes(skb) == bytes(ICMP(type=8, id=1, seq=2) / b"ping!")
    assert H.icmp_csum(skb) == 0

    skb = S.alloc_skb(POOL, 64, 14)
    H.arp_put(skb, 2, mac, 0x0A000001, b"\2\0\0\0\0\2", 0x0A000002)
    assert S.skb_to_bytes(skb) == bytes(
        ARP(
            op=2,
            hwsrc="02:00:00:00:00:01",
            psrc="10.0.0.1",
            hwdst="02:00:00:00:00:02",
            pdst="10.0.0.2",
        )
    )
    assert H.arp_hdr(skb).ar_sip == 0x0A000001


@settings(max_examples=examples(100), deadline=None)
@given(st.binary(min_size=1, max_size=40), st.booleans(), st.booleans(), st.data())
def test_super_packets_are_made_ready_as_by_the_twin(
    body: bytes, v6: bool, is_udp: bool, data: st.DataObject
) -> None:
    packet = bytearray((udp if is_udp else tcp)(body, v6=v6)[14:])
    l4 = 40 if v6 else 20
    addresses = slice(8, 40) if v6 else slice(12, 20)
    size = addresses.stop - addresses.start
    packet[addresses] = data.draw(st.binary(min_size=size, max_size=size))
    skb = S.skb_from_bytes(POOL, bytes(packet), 32)
    skb.network_header, skb.transport_header = 32, 32 + l4
    skb.gso_size = 1
    skb.gso_type = S.SKB_GSO_UDP_L4 if is_udp else S.SKB_GSO_TCPV6 if v6 else S.SKB_GSO_TCPV4
    H.gso_csum_prep(skb)
    want = ref.gso_csum_prep(bytes(packet), l4, is_udp)
    assert S.skb_to_bytes(skb) == want
    if not is_udp:
        assert H.tcp_hdrlen(skb) == H.tcp_hdr(skb).doff * 4 == len(packet) - l4 - len(body)
    skb.transport_header = 32 + len(packet) - 1
    with pytest.raises(IndexError):
        H.gso_csum_prep(skb)
    assert S.skb_to_bytes(skb) == want


def test_partial_checks_end_up_the_same() -> None:
    for send in (H.tcp_v4_send_check, H.tcp_v6_send_check, H.udp4_send_check, H.udp6_send_check):
        results = []
        for partial in (False, True):
            skb = S.skb_from_bytes(POOL, bytes(range(33)), 128)
            (
                H.tcp_push(skb, 1, 2, 3, 4, 5, 6, 7)
                if "tcp" in send.__name__
                else H.udp_push(skb, 1, 2, 41, 0)
            )
            skb.ip_summed = S.CHECKSUM_PARTIAL if partial else S.CHECKSUM_NONE
            send(skb, 0x01020304, 0x05060708)
            assert S.skb_checksum_help(skb)
            results.append(S.skb_to_bytes(skb))
        assert results[0] == results[1]


@settings(max_examples=examples(150), deadline=None)
@given(st.binary(max_size=80), st.booleans(), st.integers(0, 79), u8, st.booleans(), st.booleans())
def test_ip_hdr_validate_equals_the_twin(
    data: bytes, plausible: bool, at: int, value: int, paged: bool, gso: bool
) -> None:
    if plausible:
        p = bytearray(ipv4(data, 6))
        if at < len(p):
            p[at] = value
        if at % 3 == 0 and len(p) >= 20:
            p[10:12] = b"\0\0"
            p[10:12] = ref.csum_fold(ref.csum_partial(bytes(p[: (p[0] & 15) * 4]), 0)).to_bytes(
                2, "big"
            )
        data = bytes(p)
    skb = S.alloc_skb(POOL, 0, 16)
    if paged:
        S.skb_add_data(skb, POOL, data, 0, len(data))
    else:
        S.skb_put_data(skb, data)
    skb.gso_size = 100 * gso
    verdict, keep = ref.ip_hdr_validate(data, gso)
    assert H.ip_hdr_validate(skb) == verdict
    if verdict == 0:
        assert S.skb_to_bytes(skb) == data[:keep]
        assert skb.transport_header - skb.network_header == (data[0] & 15) * 4
    S.kfree_skb(skb)


@pytest.mark.parametrize(
    ("frame", "proto", "kind"),
    [
        (b"\2\0\0\0\0\1" + bytes(6) + b"\x08\x00ab", 0x800, 0),
        (b"\2\0\0\0\0\2" + bytes(6) + b"\x08\x00ab", 0x800, 3),
        (b"\xff" * 6 + bytes(6) + b"\x08\x06ab", 0x806, 1),
        (b"\1\0\x5e\0\0\1" + bytes(6) + b"\x86\xddab", 0x86DD, 2),
        (b"\1\x80\xc2\0\0\0" + bytes(6) + b"\x00\x26BB", 4, 2),
        (b"\2\0\0\0\0\1" + bytes(6) + b"\x00\x26\xff\xff", 1, 0),
        (b"\2\0\0\0\0\1" + bytes(6) + b"\x00\x26", 4, 0),
        (b"short", 0, 0),
    ],
)
def test_eth_type_trans(frame: bytes, proto: int, kind: int) -> None:
    skb = S.skb_from_bytes(POOL, frame, 2)
    assert H.eth_type_trans_fast(skb, b"\2\0\0\0\0\1") == proto
    assert (skb.protocol, skb.pkt_type) == (proto, kind)
    if proto:
        assert S.skb_to_bytes(skb) == frame[14:]
        assert H.eth_hdr(skb).h_dest == frame[:6]
    else:
        assert S.skb_to_bytes(skb) == frame


@pytest.mark.parametrize("n", range(45))
def test_short_tcp_never_reads_beyond(n: int) -> None:
    segment = bytearray(tcp(b"x" * 30)[34 : 34 + n])
    for doff in range(16):
        if n > 12:
            segment[12] = doff << 4
        skb = S.skb_from_bytes(POOL, segment)
        want = doff * 4 if n >= 20 and 20 <= doff * 4 <= n else 0
        assert H.tcp_hdr_validate(skb) == want
        S.skb_reset_transport_header(skb)
        skb.network_header = 0
        if not want:
            with pytest.raises((IndexError, ValueError)):
                H.tcp_fill_cb(skb)
        S.kfree_skb(skb)
