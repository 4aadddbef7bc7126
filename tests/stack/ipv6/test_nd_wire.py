"""stack/ipv6/nd_messages.py, nd_options.py: against scapy, and against any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDNSSL,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRDNSS,
    ICMPv6NDOptRedirectedHdr,
    ICMPv6NDOptRouteInfo,
    ICMPv6NDOptSrcLLAddr,
)
from scapy.utils6 import in6_ptop

from stack.ipv6.nd_messages import (
    ND_MSG_LEN,
    RA_LEN,
    RD_LEN,
    RS_LEN,
    NeighbourAdvertisement,
    NeighbourSolicitation,
    Redirect,
    RouterAdvertisement,
    RouterSolicitation,
)
from stack.ipv6.nd_options import (
    ND_OPT_SOURCE_LL_ADDR,
    ND_OPT_TARGET_LL_ADDR,
    dnssl,
    ndisc_fill_addr_option,
    ndisc_parse_options,
    opt_mtu,
    opt_nonce,
    opt_redirected_header,
    prefix_info,
    rdnss,
    route_info,
)

addresses = st.integers(0, (1 << 128) - 1)
seconds = st.integers(0, 0xFFFFFFFF)
bits = st.booleans()


def text(addr: int) -> str:
    """An address as scapy writes it."""
    raw = addr.to_bytes(16, "big").hex()
    return str(in6_ptop(":".join(raw[i : i + 4] for i in range(0, 32, 4))))


@given(st.builds(NeighbourAdvertisement, addresses, bits, bits, bits))
def test_advertisement_as_scapy_reads_and_writes_it(message: NeighbourAdvertisement) -> None:
    there = ICMPv6ND_NA(message.pack())
    assert (there.tgt, there.R, there.S, there.O) == (
        text(message.target),
        message.router,
        message.solicited,
        message.override,
    )
    again = ICMPv6ND_NA(
        tgt=text(message.target), R=message.router, S=message.solicited, O=message.override, cksum=0
    )
    assert bytes(again) == message.pack()
    assert NeighbourAdvertisement.parse(bytes(again)) == message


@given(
    st.builds(
        RouterAdvertisement,
        st.integers(0, 255),
        bits,
        bits,
        bits,
        st.integers(0, 3),
        st.integers(0, 0xFFFF),
        seconds,
        seconds,
    )
)
def test_router_advertisement_as_scapy_reads_it(message: RouterAdvertisement) -> None:
    there = ICMPv6ND_RA(message.pack())
    assert (there.chlim, there.M, there.O, there.H, there.prf, there.P) == (
        message.hop_limit,
        message.managed,
        message.other,
        message.home_agent,
        message.router_pref,
        0,
    )
    assert (there.routerlifetime, there.reachabletime, there.retranstimer) == (
        message.router_lifetime,
        message.reachable_time,
        message.retrans_timer,
    )
    assert RouterAdvertisement.parse(message.pack()) == message


@given(addresses, addresses)
def test_solicitations_and_redirect_as_scapy_reads_them(target: int, dest: int) -> None:
    assert ICMPv6ND_NS(NeighbourSolicitation(target).pack()).tgt == text(target)
    assert NeighbourSolicitation.parse(
        NeighbourSolicitation(target).pack()
    ) == NeighbourSolicitation(target)
    assert bytes(ICMPv6ND_RS(cksum=0)) == RouterSolicitation().pack()
    there = ICMPv6ND_Redirect(Redirect(target, dest).pack())
    assert (there.tgt, there.dst) == (text(target), text(dest))
    assert Redirect.parse(Redirect(target, dest).pack()) == Redirect(target, dest)


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        (RouterAdvertisement, RA_LEN),
        (NeighbourSolicitation, ND_MSG_LEN),
        (NeighbourAdvertisement, ND_MSG_LEN),
        (Redirect, RD_LEN),
    ],
)
def test_a_message_cut_short_is_none(kind: type[RouterAdvertisement], size: int) -> None:
    assert kind.parse(bytes(size)) is not None
    for short in range(size):
        assert kind.parse(bytes(short)) is None
    assert len(RouterSolicitation().pack()) == RS_LEN


prefixes = st.builds(
    prefix_info, addresses, st.integers(0, 255), bits, bits, seconds, seconds, bits
)


@given(prefixes)
def test_prefix_information(option: prefix_info) -> None:
    there = ICMPv6NDOptPrefixInfo(option.pack())
    assert (there.prefixlen, there.L, there.A, there.R) == (
        option.prefix_len,
        option.onlink,
        option.autoconf,
        option.router_addr,
    )
    assert (there.validlifetime, there.preferredlifetime) == (option.valid, option.prefered)
    assert there.prefix == text(option.prefix)
    parsed = ndisc_parse_options(bytes(there))
    assert parsed is not None
    assert parsed.prefixes == [option]


@given(st.integers(0, 128), addresses, st.integers(0, 3), seconds)
def test_route_information(plen: int, addr: int, pref: int, life: int) -> None:
    prefix = addr >> (128 - plen) << (128 - plen)
    option = route_info(prefix, plen, pref, life)
    packed = option.pack()
    assert len(packed) == 8 * (1 + (plen + 63) // 64)
    there = ICMPv6NDOptRouteInfo(packed)
    assert (there.plen, there.prf, there.rtlifetime) == (plen, pref, life)
    parsed = ndisc_parse_options(packed)
    assert parsed is not None
    assert parsed.routes == [option]


def test_route_information_longer_than_it_has_room_for_is_left_out() -> None:
    packed = bytearray(route_info(0x20010DB8 << 96, 64).pack())
    packed[2] = 65
    parsed = ndisc_parse_options(bytes(packed))
    assert parsed is not None
    assert (parsed.routes, parsed.unknown) == ([], [24])


names = st.lists(
    st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20),
    min_size=1,
    max_size=4,
).map(".".join)


@given(
    st.lists(addresses, min_size=1, max_size=5), st.lists(names, min_size=1, max_size=4), seconds
)
def test_name_servers_and_search_lists(servers: list[int], domains: list[str], life: int) -> None:
    ours = rdnss(tuple(servers), life), dnssl(tuple(domains), life)
    there = ICMPv6NDOptRDNSS(ours[0].pack()), ICMPv6NDOptDNSSL(ours[1].pack())
    assert there[0].dns == [text(addr) for addr in servers]
    assert there[0].lifetime == there[1].lifetime == life
    assert [name.rstrip(".") for name in there[1].searchlist if name != "."] == domains
    parsed = ndisc_parse_options(ours[0].pack() + ours[1].pack())
    assert parsed is not None
    assert (parsed.rdnss, parsed.dnssl) == ([ours[0]], [ours[1]])


@given(st.binary(min_size=6, max_size=6), st.integers(0, 0xFFFFFFFF), st.binary(max_size=200))
def test_small_options(lladdr: bytes, mtu: int, packet: bytes) -> None:
    source = ndisc_fill_addr_option(ND_OPT_SOURCE_LL_ADDR, lladdr)
    target = ndisc_fill_addr_option(ND_OPT_TARGET_LL_ADDR, lladdr)
    assert ICMPv6NDOptSrcLLAddr(source).lladdr == lladdr.hex(":")
    assert ICMPv6NDOptDstLLAddr(target).lladdr == lladdr.hex(":")
    assert ICMPv6NDOptMTU(opt_mtu(mtu)).mtu == mtu
    redirected = opt_redirected_header(packet)
    assert ICMPv6NDOptRedirectedHdr(redirected).len * 8 == len(redirected)
    parsed = ndisc_parse_options(source + target + opt_mtu(mtu) + opt_nonce(lladdr) + redirected)
    assert parsed is not None
    assert (parsed.src_lladdr, parsed.tgt_lladdr, parsed.mtu, parsed.nonce) == (
        lladdr,
        lladdr,
        mtu,
        lladdr,
    )
    assert parsed.redirected == packet[: len(packet) & ~7]


def test_the_first_of_two_counts() -> None:
    one, two = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"
    parsed = ndisc_parse_options(
        ndisc_fill_addr_option(1, one) + ndisc_fill_addr_option(1, two) + opt_mtu(1400) + opt_mtu(9)
    )
    assert parsed is not None
    assert (parsed.src_lladdr, parsed.mtu) == (one, 1400)


@pytest.mark.parametrize(
    "area", [b"\1", b"\1\0" + bytes(6), b"\1\2" + bytes(6), opt_mtu(1500) + b"\0\0"]
)
def test_zero_length_and_overrun_condemn_the_message(area: bytes) -> None:
    assert ndisc_parse_options(area) is None


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=60)), max_size=6))
def test_any_well_formed_options_parse(options: list[tuple[int, bytes]]) -> None:
    area = b""
    for kind, body in options:
        units = (2 + len(body) + 7) // 8
        area += (bytes((kind, units)) + body).ljust(units * 8, b"\0")
    assert ndisc_parse_options(area) is not None


@given(st.binary(max_size=400))
def test_any_bytes_end(area: bytes) -> None:
    parsed = ndisc_parse_options(area)
    if parsed is None:
        return
    for option in (*parsed.prefixes, *parsed.routes, *parsed.rdnss, *parsed.dnssl):
        assert ndisc_parse_options(option.pack()) is not None
