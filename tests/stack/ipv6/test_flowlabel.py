"""Flow labels: automatic ones on the wire (RFC 6437), and leases (IPV6_FLOWLABEL_MGR)."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.inet.inet_sock import inet_sock
from stack.ipv6.ip6_flowlabel import (
    IPV6_FL_A_PUT,
    IPV6_FL_A_RENEW,
    IPV6_FL_F_CREATE,
    IPV6_FL_F_EXCL,
    IPV6_FL_S_ANY,
    IPV6_FL_S_EXCL,
    IPV6_FL_S_USER,
    fl6_free_socklist,
    fl6_sock_lookup,
    in6_flowlabel_req,
    ipv6_flowlabel_opt,
    ipv6_flowlabel_opt_get,
)
from stack.ipv6.pinfo import ipv6_pinfo
from tests.stack.ipv6.conformance import ICMPV6, echo, v6
from tests.stack.ipv6.net import PEER, SEC, Net6, ip6, one_host6
from tests.support import errno_of, examples


def sock_of(net: Net6) -> inet_sock:
    sk = inet_sock(net.host)
    sk.pinet6 = ipv6_pinfo()
    return sk


def lease(sk: inet_sock, label: int = 0x123, **how: Any) -> int:
    """Ask for a label; the one that was given."""
    how = {"flags": IPV6_FL_F_CREATE, "share": IPV6_FL_S_ANY, **how}
    request = bytearray(in6_flowlabel_req(ip6(PEER), label, **how).pack())
    ipv6_flowlabel_opt(sk, request)
    return in6_flowlabel_req.parse(request).label


def refused(*args: Any, **how: Any) -> str:
    return errno.errorcode[errno_of(lease, *args, **how)]


def test_packets_of_one_flow_have_one_label_and_other_flows_another(net: Net6) -> None:
    for src in (PEER, PEER, "2001:db8::fe"):
        net.inject(v6(ICMPV6, echo(src=src), src=src))
    first, second, other = (p.fl for p in net.ip_sent())
    assert first == second != other
    assert first & other & 0x80000  # the range of labels that nobody leased


@pytest.mark.parametrize(("mode", "labelled"), [(0, False), (1, True), (2, False), (3, True)])
def test_auto_flowlabels(mode: int, labelled: bool) -> None:
    net = one_host6(sysctl={"net.ipv6.auto_flowlabels": mode})
    net.inject(v6(ICMPV6, echo()))
    assert bool(net.ip_sent()[0].fl) is labelled


def test_a_lease_is_made_found_renewed_and_given_back(net: Net6) -> None:
    sk = sock_of(net)
    assert refused(sk, flags=0) == "ENOENT"
    assert lease(sk) == 0x123
    assert sk.pinet6 is not None
    sk.pinet6.flow_label = 0x123
    assert ipv6_flowlabel_opt_get(sk, 0).linger == 6
    ipv6_flowlabel_opt(sk, in6_flowlabel_req(0, 0x123, IPV6_FL_A_RENEW, linger=60).pack())
    assert ipv6_flowlabel_opt_get(sk, 0).linger == 60
    ipv6_flowlabel_opt(sk, in6_flowlabel_req(0, 0x123, IPV6_FL_A_PUT).pack())
    with pytest.raises(OSError, match="No such process"):
        ipv6_flowlabel_opt(sk, in6_flowlabel_req(0, 0x123, IPV6_FL_A_PUT).pack())


def test_label_0_takes_a_free_one(net: Net6) -> None:
    a, b = lease(sock_of(net), 0), lease(sock_of(net), 0)
    assert a
    assert b
    assert a != b
    assert not (a | b) & 0x80000


def test_an_exclusive_label_is_one_sockets_and_the_others_must_lease(net: Net6) -> None:
    a, b = sock_of(net), sock_of(net)
    lease(a, share=IPV6_FL_S_EXCL)
    assert refused(b) == "EPERM"
    assert refused(b, flags=IPV6_FL_F_CREATE | IPV6_FL_F_EXCL) == "EEXIST"
    found = fl6_sock_lookup(a, 0x123)
    assert found is not None
    assert found.label == 0x123
    with pytest.raises(OSError, match="No such file or directory"):
        fl6_sock_lookup(b, 0x123)


def test_a_users_label_is_for_that_user(net: Net6) -> None:
    lease(sock_of(net), share=IPV6_FL_S_USER)
    assert lease(sock_of(net), share=IPV6_FL_S_USER) == 0x123
    net.host.uid = 1000
    assert refused(sock_of(net), share=IPV6_FL_S_USER) == "EPERM"


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"label": 0x80001}, "ERANGE"),
        ({"label": 0x123456}, "EINVAL"),
        ({"share": 77}, "EINVAL"),
        ({"flags": 4}, "EPERM"),
    ],
)
def test_what_is_refused(how: dict[str, int], why: str) -> None:
    assert refused(sock_of(one_host6()), **how) == why


def test_a_label_lingers_and_is_free_then(net: Net6) -> None:
    sk = sock_of(net)
    lease(sk, linger=30)
    fl6_free_socklist(sk)
    net.run(29 * SEC)
    assert 0x123 in net.host.ipv6.flowlabels.labels
    net.run(10 * SEC)
    assert net.host.ipv6.flowlabels.labels == {}


def test_labels_of_a_user_are_bounded(net: Net6) -> None:
    net.host.uid = 1000
    sk = sock_of(net)
    for n in range(32):
        lease(sk, n + 1)
    assert refused(sk, 99) == "ENOBUFS"


@given(
    st.builds(
        in6_flowlabel_req,
        dst=st.integers(0, (1 << 128) - 1),
        label=st.integers(0, (1 << 32) - 1),
        action=st.integers(0, 255),
        share=st.integers(0, 255),
        flags=st.integers(0, 0xFFFF),
        expires=st.integers(0, 0xFFFF),
        linger=st.integers(0, 0xFFFF),
    ),
    st.integers(0, 31),
)
def test_requests_there_and_back_and_cut_off(request: in6_flowlabel_req, size: int) -> None:
    packed = request.pack()
    assert len(packed) == 32
    assert in6_flowlabel_req.parse(packed) == request
    with pytest.raises(OSError, match="Invalid argument"):
        in6_flowlabel_req.parse(packed[:size])


@settings(max_examples=examples(100), deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_a_request_or_an_error(data: bytes) -> None:
    sk = sock_of(one_host6())
    with suppress(OSError):
        ipv6_flowlabel_opt(sk, bytearray(data))
    fl6_free_socklist(sk)
