"""resolv.conf(5) and hosts(5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.clients.dnsname import name_from_text
from stack.clients.resolvconf import HostsTable, NameService, ResolvConf
from stack.core.sockaddr import sockaddr
from stack.core.uapi import AF_INET, AF_INET6

TEXT = """\
# a comment
nameserver 10.0.0.1
nameserver fe80::1%eth0
nameserver 2001:db8::53   extra words
nameserver 10.0.0.4
search example.org sub.example.org .. bad..name
options ndots:2 timeout:99 attempts:0 rotate use-vc nonsense ndots:x
"""


def test_resolv_conf_as_glibc_reads_it() -> None:
    conf = ResolvConf.parse(TEXT, {"eth0": 7}.__getitem__)
    assert conf.servers == (
        sockaddr(AF_INET, 0x0A000001, 53),
        sockaddr(AF_INET6, 0xFE80 << 112 | 1, 53, 0, 7),
        sockaddr(AF_INET6, 0x20010DB8 << 96 | 0x53, 53),
    )
    assert conf.search == (name_from_text("example.org"), name_from_text("sub.example.org"))
    assert (conf.ndots, conf.timeout_s, conf.attempts) == (2, 30, 1)
    assert conf.rotate
    assert conf.use_vc
    assert conf.edns_bytes == 1232


def test_the_last_of_domain_and_search_counts() -> None:
    conf = ResolvConf.parse("search a b\ndomain c d\n")
    assert conf.search == (name_from_text("c"),)
    assert ResolvConf.parse("").servers == ()


def test_configuration_round_trips() -> None:
    conf = ResolvConf.parse(TEXT, {"eth0": 7}.__getitem__)
    assert ResolvConf.parse(conf.emit()) == conf


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    ResolvConf.parse(text)
    HostsTable.parse(text)


def test_hosts() -> None:
    table = HostsTable.parse(
        "10.0.0.1 Gateway.example.org gateway # the box\n"
        "10.0.0.2\n"
        "nonsense name\n"
        "fe80::1 gateway\n"
        "10.0.0.3 gateway\n"
    )
    assert table.addresses("GATEWAY") == [
        (AF_INET, 0x0A000001, "Gateway.example.org"),
        (AF_INET6, 0xFE80 << 112 | 1, "gateway"),
        (AF_INET, 0x0A000003, "gateway"),
    ]
    assert table.addresses("gateway.example.org.") == [(AF_INET, 0x0A000001, "Gateway.example.org")]
    assert table.addresses("other") == table.addresses("a..b") == []
    assert table.names(AF_INET, 0x0A000001) == ("Gateway.example.org", "gateway")
    assert table.names(AF_INET, 0x0A000009) == ()
    with pytest.raises(ValueError, match="nonsense"):
        table.add("nonsense", "name")


def test_every_net_knows_localhost() -> None:
    families = [family for family, _, _ in NameService().hosts.addresses("localhost")]
    assert families == [AF_INET, AF_INET6]
