"""Addresses of IPv6: text (RFC 5952), types and scopes; the standard library is the judge."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath.errors import ArgumentError
from stack.ipv6.addr import (
    IPV6_ADDR_ANY,
    IPV6_ADDR_LINKLOCAL,
    IPV6_ADDR_LOOPBACK,
    IPV6_ADDR_MAPPED,
    IPV6_ADDR_MULTICAST,
    IPV6_ADDR_SITELOCAL,
    IPV6_ADDR_UNICAST,
    IPV6_ADDR_COMPATv4,
    addrconf_addr_solict_mult,
    addrconf_ifid_eui48,
    format_addr6,
    ipv6_addr_diff,
    ipv6_addr_is_solict_mult,
    ipv6_addr_scope,
    ipv6_addr_set_v4mapped,
    ipv6_addr_type,
    ipv6_addr_v4mapped,
    ipv6_eth_mc_map,
    parse_addr6,
    parse_ifaddr6,
    parse_prefix6,
    rt6_need_strict,
)

addresses = st.integers(0, (1 << 128) - 1) | st.sampled_from(
    [0, 1, 0xFE80 << 112 | 1, 0xFF02 << 112 | 1, 0xFFFF << 32 | 0x01020304, 0xFC00 << 112]
)


@given(addresses)
def test_text_there_and_back(addr: int) -> None:
    text = format_addr6(addr)
    assert parse_addr6(text) == addr
    assert int(ipaddress.IPv6Address(text)) == addr
    assert text == text.lower()


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("2001:0DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("0:0:0:0:0:0:0:0", "::"),
        ("::FFFF:10.0.0.1", "::ffff:10.0.0.1"),
        ("fe80:0:0:0:0:0:0:1", "fe80::1"),
    ],
)
def test_text_is_that_of_rfc_5952(given_text: str, shown: str) -> None:
    assert format_addr6(parse_addr6(given_text)) == shown


@pytest.mark.parametrize("text", ["", "1", "2001:db8::1%eth0", "2001:db8::/32", "g::1", "10.0.0.1"])
def test_what_is_no_address_is_named(text: str) -> None:
    with pytest.raises(ArgumentError, match="IPv6 address"):
        parse_addr6(text)


@given(st.text(max_size=50))
def test_any_text_is_an_address_or_a_clear_error(text: str) -> None:
    for parse in (parse_addr6, parse_prefix6, parse_ifaddr6):
        try:
            parse(text)
        except ArgumentError as error:
            assert repr(text) in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "prefix"),
    [("default", (0, 0)), ("::/0", (0, 0)), ("fe80::/10", (0xFE80 << 112, 10)), ("::1", (1, 128))],
)
def test_prefixes(text: str, prefix: tuple[int, int]) -> None:
    assert parse_prefix6(text) == prefix


@pytest.mark.parametrize("text", ["2001:db8::1/32", "::/129", "::/x"])
def test_bits_behind_a_prefix_are_an_error(text: str) -> None:
    with pytest.raises(ArgumentError, match="prefix"):
        parse_prefix6(text)


@given(addresses)
def test_types_agree_with_the_standard_library(addr: int) -> None:
    known = ipaddress.IPv6Address(addr)
    kind = ipv6_addr_type(addr)
    assert bool(kind & IPV6_ADDR_MULTICAST) == known.is_multicast
    assert (kind == IPV6_ADDR_ANY) == known.is_unspecified
    assert (addr == 1) == known.is_loopback
    link = known in ipaddress.IPv6Network("fe80::/10")
    assert (kind == IPV6_ADDR_LINKLOCAL | IPV6_ADDR_UNICAST) == link
    assert (kind == IPV6_ADDR_SITELOCAL | IPV6_ADDR_UNICAST) == known.is_site_local
    assert (kind == IPV6_ADDR_MAPPED) == (known.ipv4_mapped is not None) == ipv6_addr_v4mapped(addr)


@pytest.mark.parametrize(
    ("text", "kind", "scope", "strict"),
    [
        ("::", IPV6_ADDR_ANY, 14, False),
        ("::1", IPV6_ADDR_LOOPBACK | IPV6_ADDR_UNICAST, 2, True),
        ("::10.0.0.1", IPV6_ADDR_COMPATv4 | IPV6_ADDR_UNICAST, 14, False),
        ("2001:db8::1", IPV6_ADDR_UNICAST, 14, False),
        ("fd00::1", IPV6_ADDR_UNICAST, 14, False),
        ("fe80::1", IPV6_ADDR_LINKLOCAL | IPV6_ADDR_UNICAST, 2, True),
        ("fec0::1", IPV6_ADDR_SITELOCAL | IPV6_ADDR_UNICAST, 5, False),
        ("ff01::1", IPV6_ADDR_LOOPBACK | IPV6_ADDR_MULTICAST, 1, True),
        ("ff02::1", IPV6_ADDR_LINKLOCAL | IPV6_ADDR_MULTICAST, 2, True),
        ("ff05::1", IPV6_ADDR_SITELOCAL | IPV6_ADDR_MULTICAST, 5, True),
        ("ff0e::1", IPV6_ADDR_MULTICAST, 14, True),
    ],
)
def test_types_and_scopes(text: str, kind: int, scope: int, strict: bool) -> None:
    addr = parse_addr6(text)
    assert (ipv6_addr_type(addr), ipv6_addr_scope(addr), rt6_need_strict(addr)) == (
        kind,
        scope,
        strict,
    )


def test_derived_addresses() -> None:
    """RFC 4291 2.7.1 and appendix A, RFC 2464 7."""
    group = addrconf_addr_solict_mult(parse_addr6("4037::01:800:200e:8c6c"))
    assert format_addr6(group) == "ff02::1:ff0e:8c6c"
    assert ipv6_addr_is_solict_mult(group)
    assert ipv6_eth_mc_map(group).hex(":") == "33:33:ff:0e:8c:6c"
    ident = addrconf_ifid_eui48(bytes.fromhex("3456789abcde"))
    assert f"{ident:016x}" == "365678fffe9abcde"
    assert format_addr6(ipv6_addr_set_v4mapped(0x0A000001)) == "::ffff:10.0.0.1"


@given(addresses, addresses)
def test_common_prefix(a: int, b: int) -> None:
    bits = ipv6_addr_diff(a, b)
    assert a >> (128 - bits) == b >> (128 - bits)
    assert bits == 128 or a >> (127 - bits) != b >> (127 - bits)
