"""stack/ipv6/rfc6724.py, saddr.py, addrlabel.py: the examples of RFC 6724 10, and its rules."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.ipv6.addr import ipv6_addr_set_v4mapped, ipv6_addr_type, parse_addr6
from stack.ipv6.addrlabel import ip6addrlbl_entry, ip6addrlbl_table
from stack.ipv6.if_inet6 import (
    IFA_F_DEPRECATED,
    IFA_F_HOMEADDRESS,
    IFA_F_OPTIMISTIC,
    IFA_F_TEMPORARY,
    IFA_F_TENTATIVE,
)
from stack.ipv6.rfc6724 import SourceChoice, destination_sort
from stack.ipv6.saddr import (
    IPV6_PREFER_SRC_COA,
    IPV6_PREFER_SRC_PUBLIC,
    IPV6_PREFER_SRC_TMP,
    ipv6_dev_get_saddr,
)


def ip(text: str) -> int:
    """128 bits of an address of either family."""
    if "." in text and ":" not in text:
        a, b, c, d = map(int, text.split("."))
        return ipv6_addr_set_v4mapped(a << 24 | b << 16 | c << 8 | d)
    return parse_addr6(text)


def order(*pairs: tuple[str, str | SourceChoice | None]) -> list[str]:
    """Destinations in their order; each with its source."""

    def source(pair: tuple[str, str | SourceChoice | None]) -> SourceChoice | None:
        value = pair[1]
        plen = 24 if "." in pair[0] else 64
        return SourceChoice(ip(value), plen) if isinstance(value, str) else value

    return [pair[0] for pair in destination_sort(pairs, lambda p: ip(p[0]), source)]


# RFC 6724 10.2, in the order of its list; the winner is the first
@pytest.mark.parametrize(
    ("winner", "loser"),
    [
        (("2001:db8:1::1", "2001:db8:1::2"), ("198.51.100.121", "169.254.13.78")),
        (("198.51.100.121", "198.51.100.117"), ("2001:db8:1::1", "fe80::1")),
        (("2001:db8:1::1", "2001:db8:1::2"), ("10.1.2.3", "10.1.2.4")),
        (("fe80::1", "fe80::2"), ("2001:db8:1::1", "2001:db8:1::2")),
        (
            ("2001:db8:1::1", SourceChoice(ip("2001:db8:1::2"), home=True)),
            ("fe80::1", SourceChoice(ip("fe80::2"))),
        ),
        (
            ("fe80::1", SourceChoice(ip("fe80::2"))),
            ("2001:db8:1::1", SourceChoice(ip("2001:db8:1::2"), deprecated=True)),
        ),
        (("2001:db8:1::1", "2001:db8:1::2"), ("2001:db8:3ffe::1", "2001:db8:3f44::2")),
        (("2001:db8:1::1", "2001:db8:1::2"), ("2002:c633:6401::1", "2002:c633:6401::2")),
        (("2002:c633:6401::1", "2002:c633:6401::2"), ("2001:db8:1::1", "2002:c633:6401::2")),
        (("198.51.100.121", "192.0.2.1"), ("2001:db8:1::1", None)),
    ],
)
def test_examples_of_destination_selection(winner: Any, loser: Any) -> None:
    assert order(winner, loser) == [winner[0], loser[0]]
    assert order(loser, winner) == [winner[0], loser[0]]


def test_equal_destinations_stay_in_their_order() -> None:
    # IPv4 beyond the own network: the order of the name server is worth more than bits in common.
    far = [("203.0.113.9", "10.0.0.1"), ("10.99.0.1", "10.0.0.1"), ("192.0.2.1", "10.0.0.1")]
    assert order(*far) == [name for name, _ in far]
    assert order(("203.0.113.9", "10.0.0.1"), ("10.0.0.7", "10.0.0.1"))[0] == "10.0.0.7"


@given(
    st.lists(
        st.tuples(
            st.integers(0, (1 << 128) - 1),
            st.none()
            | st.builds(SourceChoice, st.integers(0, (1 << 128) - 1), st.integers(0, 128)),
        ),
        max_size=12,
    )
)
def test_any_destinations_are_all_there_with_the_unusable_last(pairs: list[Any]) -> None:
    out = destination_sort(pairs, lambda p: p[0], lambda p: p[1])
    assert sorted(map(id, out)) == sorted(map(id, pairs))
    usable = [pair[1] is not None for pair in out]
    assert usable == sorted(usable, reverse=True)


class Rig:
    """Interfaces with addresses, as ipv6_dev_get_saddr reads them: a test with it is uncompiled."""

    def __init__(self) -> None:
        conf = SimpleNamespace(optimistic_dad=0, use_optimistic=0)
        table = ip6addrlbl_table()
        self.ipv6 = SimpleNamespace(devconf_all=conf, addrlabel=table)
        self.dev_base_head: list[Any] = []

    def dev(self, *addresses: str | tuple[str, int], use_tempaddr: int = 0) -> Any:
        cnf = SimpleNamespace(
            optimistic_dad=0, use_optimistic=0, use_tempaddr=use_tempaddr, use_oif_addrs_only=0
        )
        dev = SimpleNamespace(ifindex=len(self.dev_base_head) + 1, net=self, priv_flags=0)
        idev = SimpleNamespace(dev=dev, net=self, cnf=cnf, addr_list=[])
        for each in addresses:
            text, flags = each if isinstance(each, tuple) else (each, 0)
            addr = parse_addr6(text)
            idev.addr_list.append(
                SimpleNamespace(
                    addr=addr,
                    idev=idev,
                    flags=flags,
                    prefix_len=64,
                    scope=ipv6_addr_type(addr) & 0xF0,
                )
            )
        dev.ip6_ptr = idev
        self.dev_base_head.append(dev)
        return dev

    def source(self, dest: str, dev: Any = None, prefs: int = 0) -> int:
        return ipv6_dev_get_saddr(self, dev, parse_addr6(dest), prefs)  # type: ignore[arg-type]


# RFC 6724 10.1
@pytest.mark.uncompiled
@pytest.mark.parametrize(
    ("dest", "candidates", "winner"),
    [
        ("2001:db8:1::1", ["2001:db8:3::1", "fe80::1"], "2001:db8:3::1"),
        ("ff05::1", ["2001:db8:3::1", "fe80::1"], "2001:db8:3::1"),
        (
            "2001:db8:1::1",
            [("2001:db8:1::1", IFA_F_DEPRECATED), "2001:db8:2::1"],
            "2001:db8:1::1",
        ),
        ("fe80::1", [("fe80::2", IFA_F_DEPRECATED), "2001:db8:1::1"], "fe80::2"),
        ("2001:db8:1::1", ["2001:db8:1::2", "2001:db8:3::2"], "2001:db8:1::2"),
        ("2002:c633:6401::1", ["2002:c633:6401::d5e3:7953:13eb:22e8", "2001:db8:1::2"],
         "2002:c633:6401::d5e3:7953:13eb:22e8"),
        ("fd00::9", ["2001:db8::1", "fd00:1::1"], "fd00:1::1"),
        ("2001:db8:1::1", [("2001:db8:1::5", IFA_F_TENTATIVE), "2001:db8:7::1"], "2001:db8:7::1"),
    ],
)  # fmt: skip
def test_examples_of_source_selection(dest: str, candidates: list[Any], winner: str) -> None:
    for listed in (candidates, candidates[::-1]):
        rig = Rig()
        dev = rig.dev(*listed)
        assert rig.source(dest, dev) == parse_addr6(winner)


@pytest.mark.uncompiled
def test_outgoing_interface_and_link_local_scope() -> None:
    rig = Rig()
    a, b = rig.dev("2001:db8:1::1", "fe80::a"), rig.dev("2001:db8:2::1", "fe80::b")
    assert rig.source("2001:db8:9::1", b) == parse_addr6("2001:db8:2::1")  # rule 5
    assert rig.source("fe80::9", b) == parse_addr6("fe80::b")
    assert rig.source("ff02::1", a) == parse_addr6("fe80::a")
    c = rig.dev()
    assert rig.source("fe80::9", c) == 0  # RFC 6724 4: the candidates are of the same link
    assert rig.source("2001:db8:9::1", c) != 0
    c.ip6_ptr.cnf.use_oif_addrs_only = 1
    assert rig.source("2001:db8:9::1", c) == 0


@pytest.mark.uncompiled
def test_temporary_and_home_addresses_and_preferences() -> None:
    rig = Rig()
    pub, tmp = "2001:db8:1::1", "2001:db8:1::aaaa"
    dev = rig.dev(pub, (tmp, IFA_F_TEMPORARY))
    assert rig.source("2001:db8:9::1", dev) == parse_addr6(pub)
    assert rig.source("2001:db8:9::1", dev, IPV6_PREFER_SRC_TMP) == parse_addr6(tmp)
    dev.ip6_ptr.cnf.use_tempaddr = 2
    assert rig.source("2001:db8:9::1", dev) == parse_addr6(tmp)
    assert rig.source("2001:db8:9::1", dev, IPV6_PREFER_SRC_PUBLIC) == parse_addr6(pub)
    home = Rig()
    dev = home.dev("2001:db8:1::1", ("2001:db8:1::2", IFA_F_HOMEADDRESS))
    assert home.source("2001:db8:9::1", dev) == parse_addr6("2001:db8:1::2")
    assert home.source("2001:db8:9::1", dev, IPV6_PREFER_SRC_COA) == parse_addr6("2001:db8:1::1")


@pytest.mark.uncompiled
def test_an_optimistic_address_is_second_choice_unless_allowed() -> None:
    flags = IFA_F_TENTATIVE | IFA_F_OPTIMISTIC
    rig = Rig()
    dev = rig.dev(("2001:db8:1::1", flags), "2001:db8:2::1")
    assert rig.source("2001:db8:1::9", dev) == parse_addr6("2001:db8:2::1")
    rig.ipv6.devconf_all.optimistic_dad = rig.ipv6.devconf_all.use_optimistic = 1
    assert rig.source("2001:db8:1::9", dev) == parse_addr6("2001:db8:1::1")


def test_a_label_of_ones_own() -> None:
    table = ip6addrlbl_table()
    addr = parse_addr6("2001:db8:7::1")
    assert table.lookup(addr).label == 1
    table.add(ip6addrlbl_entry(parse_addr6("2001:db8:7::"), 48, 99))
    table.add(ip6addrlbl_entry(parse_addr6("2001:db8:7::"), 48, 77, ifindex=3))
    assert (table.lookup(addr).label, table.lookup(addr, 3).label) == (99, 77)
    table.remove(parse_addr6("2001:db8:7::"), 48)
    with pytest.raises(ProcessLookupError):
        table.remove(parse_addr6("2001:db8:7::"), 48)
    assert table.lookup(addr).label == 1
