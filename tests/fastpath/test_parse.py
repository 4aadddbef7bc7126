"""What is parsed of a packet, whoever does it and when, against the twin's reading of its bytes."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath._ref.parse import Parsed, Ports
from fastpath._ref.parse import parse as ref_parse
from fastpath.base import skbuff as S
from fastpath.net import hdr, inet, inetkey, parse
from fastpath.net.gro import GroTable
from fastpath.net.rings_driver import RxRing
from tests.fastpath import frames
from tests.fastpath.test_rings_driver import IPCS, TCPCS, VP, Host, RxDevice
from tests.support import examples

HOST = Host()
RING = RxRing(HOST.mem, 16, HOST.rx, 2048)
DEVICE = RxDevice(HOST, RING)

STAMPS = b"\x01\x01\x08\x0a" + bytes(range(8))
OPTIONS = (b"", STAMPS, b"\x02\x04\x05\xb4", b"\x01" * 12, b"\x05" * 40)


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """Ethernet frames: TCP, UDP and others in both families, some with one byte wrong or cut."""
    payload = draw(st.binary(max_size=40))
    kind = draw(st.sampled_from(("tcp", "udp", "other", "fragment", "options", "exthdr", "noise")))
    v6 = draw(st.booleans())
    if kind == "tcp":
        frame = frames.tcp(
            payload,
            seq=draw(st.integers(0, 0xFFFFFFFF)),
            flags=draw(st.integers(0, 255)),
            options=draw(st.sampled_from(OPTIONS)),
            v6=v6,
        )
    elif kind == "udp":
        frame = frames.udp(payload, v6=v6, check=draw(st.booleans()))
    elif kind == "other":
        body = frames.ipv6(payload, 58) if v6 else frames.ipv4(payload, 1)
        frame = frames.ETH + (b"\x86\xdd" if v6 else b"\x08\x00") + body
    elif kind == "fragment":
        body = frames.ipv4(payload, 6, frag_off=draw(st.sampled_from((1, 0x2000, 0x2005))))
        frame = frames.ETH + b"\x08\x00" + body
    elif kind == "options":
        body = frames.udp(payload)[34:]
        frame = frames.ETH + b"\x08\x00" + frames.ipv4(body, 17, options=b"\x01" * 8)
    elif kind == "exthdr":
        body = b"\x11\x00" + bytes(6) + frames.udp(payload)[34:]
        first = draw(st.sampled_from((0, 43, 44, 60)))
        frame = frames.ETH + b"\x86\xdd" + frames.ipv6(body, first)
    else:
        frame = (
            frames.ETH + draw(st.sampled_from((b"\x08\x00", b"\x86\xdd", b"\x08\x06"))) + payload
        )
    if draw(st.booleans()):
        at = draw(st.integers(12, len(frame) - 1))
        frame = frame[:at] + bytes([frame[at] ^ draw(st.integers(1, 255))]) + frame[at + 1 :]
    if draw(st.integers(0, 3)) == 0:
        frame = frame[: draw(st.integers(14, len(frame)))]
    return frame + bytes(draw(st.sampled_from((0, 0, 6))))


def ethertype_parse(frame: bytes) -> Parsed | None:
    """The twin, when the EtherType agrees with the version in the header."""
    seen = ref_parse(frame[14:])
    kind = {b"\x08\x00": 2, b"\x86\xdd": 10}.get(frame[12:14])
    return seen if seen is not None and seen.family == kind else None


def told(skb: S.sk_buff) -> Parsed | None:
    """What stands in the sk_buff."""
    if not skb.parsed:
        return None
    assert skb.parsed & parse.PARSED_L3
    ports = None
    if skb.parsed & parse.PARSED_L4:
        ports = Ports(skb.sport, skb.dport, skb.l4_hlen)
        if skb.l4_proto == 6:
            ports = Ports(
                skb.sport, skb.dport, skb.l4_hlen, skb.th_seq, skb.th_ack, skb.th_flags,
                skb.th_window, skb.tcp_opts,
                (skb.tsval, skb.tsecr) if skb.tcp_opts == 1 else None,
            )  # fmt: skip
    four = skb.inet_family == 2
    return Parsed(
        skb.inet_family,
        skb.l4_proto,
        skb.l3_len,
        skb.l3_dsfield,
        bool(skb.parsed & parse.PARSED_WHOLE),
        bool(skb.parsed & parse.PARSED_PLAIN),
        hdr_len(skb),
        skb.saddr if four else 0,
        skb.daddr if four else 0,
        ports,
    )


def hdr_len(skb: S.sk_buff) -> int:
    """Where the transport header is, for IPv4 by its ihl."""
    return hdr.ip_hdr(skb).ihl * 4 if skb.inet_family == 2 else 40


@settings(deadline=None, max_examples=examples(150))
@given(packets(), st.booleans(), st.booleans(), st.booleans())
def test_the_receive_kernel_parses_as_the_twin(
    frame: bytes, gro: bool, verified: bool, tagged: bool
) -> None:
    table, out = GroTable(udp=True) if gro else None, []  # type: list[S.sk_buff]
    RING.refill()
    DEVICE.receive(frame, status=(IPCS | TCPCS) * verified | VP * tagged, special=5)
    RING.poll(8, out, table, True, True, False, 4)
    [skb] = out
    seen = ethertype_parse(frame + b"FCS!")  # which this device leaves to be trimmed
    found = skb.parsed
    assert told(skb) == seen
    if seen is not None:
        assert skb.network_header == skb.data_offset + 14
        assert skb.transport_header == skb.network_header + seen.l4
    # Whoever asks later finds it there: nothing is parsed again, nothing else comes out.
    hdr.eth_type_trans_fast(skb, frames.ETH[:6])
    S.skb_reset_network_header(skb)
    if found:
        assert parse.skb_parse(skb)
        assert told(skb) == seen
    S.kfree_skb(skb)
    assert HOST.small.in_use == 0


def lazily(packet: bytes) -> S.sk_buff:
    """An sk_buff from elsewhere, data at the network header."""
    skb = S.skb_from_bytes(HOST.small, packet, 128)
    assert skb is not None
    S.skb_reset_network_header(skb)
    return skb


@settings(deadline=None, max_examples=examples(150))
@given(packets())
def test_a_packet_from_elsewhere_is_parsed_when_somebody_asks(frame: bytes) -> None:
    skb = lazily(frame[14:])
    assert not skb.parsed
    assert parse.skb_parse(skb) is (ref_parse(frame[14:]) is not None)
    assert told(skb) == ref_parse(frame[14:])
    seen = ref_parse(frame[14:])
    if seen is not None and seen.family == 2 and seen.ports is not None:
        skb.transport_header = skb.network_header + seen.l4
        key = (2, seen.saddr, seen.ports.sport, seen.daddr, seen.ports.dport)
        assert inetkey.inet_key(skb) == key
        if seen.proto == 6:
            assert hdr.tcp_hdr_fields(skb)[2] == seen.ports.seq
            assert hdr.tcp_parse_ts(skb) == seen.ports.timestamps
            S.skb_pull(skb, seen.l4)
            assert hdr.tcp_hdr_validate(skb) == seen.ports.hlen
            hdr.tcp_fill_cb(skb)
            assert (skb.seq, skb.ack_seq, skb.tcp_flags, skb.ip_dsfield) == (
                seen.ports.seq,
                seen.ports.ack,
                seen.ports.flags,
                seen.dsfield,
            )
    S.kfree_skb(skb)


@settings(deadline=None, max_examples=examples(150))
@given(st.booleans(), st.lists(st.integers(0, 9), max_size=12), st.randoms(use_true_random=False))
def test_a_change_of_the_headers_is_seen(v6: bool, steps: list[int], rng: random.Random) -> None:
    frame = frames.tcp(b"payload", v6=v6, options=STAMPS)
    skb = lazily(frame[14:])
    net_view: Callable[..., object] = hdr.ipv6_hdr if v6 else hdr.ip_hdr
    held = [skb]
    for step in steps:
        parse.skb_parse(skb)
        at = skb.network_header - skb.data_offset
        word = rng.randrange(1 << 16)
        if step == 0:
            S.skb_store_bits(skb, 0, bytes([rng.randrange(256)]))
        elif step == 1 and 0 <= S.skb_transport_offset(skb) <= S.skb_headlen(skb) - 20:
            hdr.tcp_hdr(skb).source = word
        elif step == 2 and S.skb_headlen(skb) >= 40:
            net_view(skb).saddr = word  # type: ignore[attr-defined]
        elif step == 3:
            S.skb_push_data(skb, frame[14 : 14 + 20])  # another header in front
            S.skb_reset_network_header(skb)
        elif step == 4 and skb.len > 60:
            S.skb_pull(skb, 20)
            S.skb_reset_network_header(skb)
        elif step == 5:
            assert S.skb_cow_head(skb, 150)
        elif step == 6:
            skb = S.skb_clone(skb)
            held.append(skb)
            assert S.skb_unclone(skb)
        elif step == 7:
            copy = S.skb_copy(skb)
            assert copy is not None
            skb = copy
            held.append(skb)
        elif step == 8:
            skb.gso_size = 0
            S.skb_push(skb, 14)
            S.skb_pull(skb, 14)
        elif step == 9 and skb.len > 40:
            S.skb_set_transport_header(skb, at + (40 if v6 else 20))
        packet = S.skb_to_bytes(skb)
        parse.skb_parse(skb)
        assert told(skb) == ref_parse(packet)
        if S.skb_headroom(skb) < 40:
            break
    for one in held:
        S.kfree_skb(one)


def test_a_merged_packet_is_parsed_as_a_whole() -> None:
    for v6 in (False, True):
        table, out = GroTable(), []  # type: list[S.sk_buff]
        RING.refill()
        for i, flags in enumerate((0x10, 0x10, 0x18)):
            DEVICE.receive(frames.tcp(b"x" * 100, seq=1000 + 100 * i, flags=flags, v6=v6))
        RING.poll(8, out, table, True, True, False, 4)
        [skb] = out
        assert (skb.gso_segs, skb.l3_len) == (3, len(frames.tcp(b"", v6=v6)) - 14 + 300)
        assert (skb.th_seq, skb.th_flags, skb.l4_hlen) == (1000, 0x18, 20)
        assert told(skb) == ref_parse(S.skb_to_bytes(skb)[14:])
        S.skb_pull(skb, 14)
        S.skb_pull(skb, 40 if v6 else 20)
        hdr.tcp_fill_cb(skb)
        assert (skb.seq, skb.end_seq) == (1000, 1300)
        S.kfree_skb(skb)


def test_what_is_not_linear_is_left_to_its_layer() -> None:
    packet = frames.tcp(b"data", options=STAMPS)[14:]
    for linear in (20, 30, 39, 40, 51, 52, 56):
        skb = S.skb_from_bytes(HOST.small, packet[:linear], 128)
        assert skb is not None
        rest = S.skb_from_bytes(HOST.small, packet[linear:], 0)
        assert rest is not None
        if packet[linear:]:
            assert S.skb_append_frags(skb, rest, 0, len(packet) - linear)
        S.kfree_skb(rest)
        S.skb_reset_network_header(skb)
        assert parse.skb_parse(skb)
        assert bool(skb.parsed & parse.PARSED_L4) is (linear >= 52)
        S.skb_set_transport_header(skb, 20)
        assert inet.ip_route_fields(skb) == (0x0A000002, 0x0A000001, 0, 6, 2)
        S.skb_pull(skb, 20)
        assert hdr.tcp_hdr_validate(skb) == 32  # which pulls what it needs
        hdr.tcp_fill_cb(skb)
        assert (skb.seq, skb.end_seq) == (1, 5)
        S.kfree_skb(skb)


@given(
    st.sampled_from(OPTIONS),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 255),
    st.booleans(),
)
def test_tcp_has_its_fields_when_nobody_could_parse(
    options: bytes, seq: int, flags: int, v6: bool
) -> None:
    """A length in the IP header that is beyond the packet: TCP reads the header itself."""
    packet = bytearray(frames.tcp(b"payload", seq=seq, flags=flags, options=options, v6=v6)[14:])
    seen = ref_parse(bytes(packet))
    assert seen is not None
    assert seen.ports is not None
    packet[4 if v6 else 2] ^= 0x40
    skb = lazily(bytes(packet))
    skb.transport_header = skb.network_header + seen.l4
    S.skb_pull(skb, seen.l4)
    assert hdr.tcp_hdr_validate(skb) == seen.ports.hlen
    hdr.tcp_fill_cb(skb)
    assert not skb.parsed
    found = Ports(
        skb.sport, skb.dport, skb.l4_hlen, skb.th_seq, skb.th_ack, skb.th_flags, skb.th_window,
        skb.tcp_opts, (skb.tsval, skb.tsecr) if skb.tcp_opts == 1 else None,
    )  # fmt: skip
    assert found == seen.ports
    assert (skb.seq, skb.ack_seq, skb.tcp_flags) == (seq, seen.ports.ack, flags)
    S.kfree_skb(skb)


def test_freed_and_missing() -> None:
    skb = lazily(frames.udp(b"")[14:])
    assert parse.skb_parse(skb)
    S.kfree_skb(skb)
    with pytest.raises(ValueError, match="freed"):
        parse.skb_parse(skb)
    skb = lazily(frames.udp(b"")[14:])
    skb.network_header = S.HEADER_UNSET
    assert not parse.skb_parse(skb)
    S.kfree_skb(skb)
