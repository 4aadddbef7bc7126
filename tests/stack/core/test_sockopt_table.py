"""The rows of socket options: what set_option and get_option make of them, and in which order."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from stack.api.sockopts import OPTIONS
from stack.core.bsd_socket import sys_getsockopt, sys_socket
from stack.core.sockopt_table import (
    ADMIN,
    ON_OFF,
    RW,
    Level,
    R,
    SockOpt,
    W,
    flag,
    get_option,
    need_device,
    number,
    only,
    set_option,
    switch,
)
from stack.core.uapi import (
    AF_INET6,
    AF_PACKET,
    IPV6_FLOWLABEL_MGR,
    IPV6_PATHMTU,
    SOCK_DGRAM,
    SOL_IPV6,
    SOL_PACKET,
)
from stack.host import Host
from stack.packet.packet_sock import PACKET_HDRLEN
from tests.support import errno_of

NUMBERS = {"SHOUT": 1, "PACE": 2, "BITS": 3, "BOTH": 4, "AGE": 5, "RESET": 6, "SECRET": 7, "OUT": 8}


def refuse(sk: Any) -> None:
    raise OSError(errno.EOPNOTSUPP, "not such a socket")


only_connected = only("connected", (True,), errno.ENOTCONN, "not connected")


def forget(sk: Any) -> None:
    sk.inner.pace = 0


LEVEL = Level(
    "SOL_TEST",
    42,
    NUMBERS,
    (
        switch("SHOUT", "loud", "a switch", legal=ON_OFF, may_set=only_connected),
        number("PACE", "inner.pace", range(1, 10), "a number", unit=1000, caps=ADMIN, free=(1,)),
        flag("BITS", 4, "a bit", "flags"),
        flag("BOTH", 4, "two bits of which one", "flags", mask=6),
        SockOpt("AGE", "only read", get=lambda sk: 7, room=4, no_set=errno.EPERM),
        SockOpt("RESET", "only set", then=forget),
        SockOpt("SECRET", "of other sockets", has=refuse, get=lambda sk: 1, set=lambda sk, v: 0),
        number("OUT", "inner.pace", None, "an interface", check=need_device),
    ),
)


def sock(uid: int = 0) -> Any:
    inner = SimpleNamespace(pace=5000)
    net = Host(name="h", clock=VirtualClock(), drivers=False)
    net.uid = uid
    return SimpleNamespace(loud=False, connected=True, inner=inner, flags=0, net=net)


def test_a_row_says_whether_it_can_be_set_and_read() -> None:
    access = {row.name: row.access for row in LEVEL}
    assert access == {
        **dict.fromkeys(("SHOUT", "PACE", "BITS", "BOTH", "SECRET", "OUT"), RW),
        "AGE": R,
        "RESET": W,
    }
    assert {(row.level, row.number) for row in LEVEL} == {(42, n) for n in NUMBERS.values()}


def test_members_are_set_and_read_in_the_units_of_the_option() -> None:
    sk = sock()
    set_option(LEVEL, sk, 1, 1)
    set_option(LEVEL, sk, 2, (7).to_bytes(4, "little"))
    assert (sk.loud, sk.inner.pace) == (True, 7000)
    assert (get_option(LEVEL, sk, 1), get_option(LEVEL, sk, 2)) == (1, 7)
    set_option(LEVEL, sk, 6, 0)
    assert sk.inner.pace == 0


def test_a_flag_is_on_when_the_bits_of_its_mask_are_its_own() -> None:
    sk = sock()
    set_option(LEVEL, sk, 3, 1)
    assert (sk.flags, get_option(LEVEL, sk, 3), get_option(LEVEL, sk, 4)) == (4, 1, 1)
    sk.flags |= 2
    assert (get_option(LEVEL, sk, 3), get_option(LEVEL, sk, 4)) == (1, 0)
    set_option(LEVEL, sk, 3, 0)
    assert sk.flags == 2


def test_checks_come_in_order_length_socket_time_range_user() -> None:
    sk = sock(uid=1000)
    sk.connected = False
    assert errno_of(set_option, LEVEL, sk, 7, b"\1") == errno.EINVAL
    assert errno_of(set_option, LEVEL, sk, 7, 1) == errno.EOPNOTSUPP
    assert errno_of(set_option, LEVEL, sk, 1, 2) == errno.ENOTCONN
    assert errno_of(set_option, LEVEL, sk, 2, 10) == errno.EINVAL
    assert errno_of(set_option, LEVEL, sk, 2, 9) == errno.EPERM
    set_option(LEVEL, sk, 2, 1)
    assert sk.inner.pace == 1000


def test_a_check_sees_socket_and_value_before_anything_is_stored() -> None:
    sk = sock()
    assert errno_of(set_option, LEVEL, sk, 8, 99) == errno.EADDRNOTAVAIL
    assert sk.inner.pace == 5000
    set_option(LEVEL, sk, 8, 1)  # the loopback device
    assert get_option(LEVEL, sk, 8) == 1


@pytest.mark.parametrize(
    ("family", "kind", "level", "option", "least"),
    [
        (AF_INET6, SOCK_DGRAM, SOL_IPV6, IPV6_FLOWLABEL_MGR, 32),
        (AF_INET6, SOCK_DGRAM, SOL_IPV6, IPV6_PATHMTU, 32),
        (AF_PACKET, SOCK_DGRAM, SOL_PACKET, PACKET_HDRLEN, 4),
    ],
)
def test_structures_that_linux_does_not_cut_need_their_room(
    family: int, kind: int, level: int, option: int, least: int
) -> None:
    host = Host(name="h", clock=VirtualClock(), drivers=False)
    fd = sys_socket(host, family, kind, 0)
    assert errno_of(sys_getsockopt, host, fd, level, option, least - 1) == errno.EINVAL
    try:
        data = sys_getsockopt(host, fd, level, option, least)
    except OSError as exc:
        assert exc.errno != errno.EINVAL  # noqa: PT017 - such a socket has no label, no path
    else:
        assert len(data) == least


def test_what_is_unknown_or_goes_one_way_only() -> None:
    sk = sock()
    late = Level("SOL_LATE", 43, NUMBERS, (), length_first=False)
    assert errno_of(set_option, LEVEL, sk, 99, b"") == errno.EINVAL
    assert errno_of(set_option, late, sk, 99, b"") == errno.ENOPROTOOPT
    assert errno_of(set_option, LEVEL, sk, 99, 1) == errno.ENOPROTOOPT
    assert errno_of(get_option, LEVEL, sk, 99) == errno.ENOPROTOOPT
    assert errno_of(get_option, LEVEL, sk, 6) == errno.ENOPROTOOPT
    assert errno_of(set_option, LEVEL, sk, 5, 1) == errno.EPERM
    assert errno_of(get_option, LEVEL, sk, 5, 3) == errno.EINVAL
    assert get_option(LEVEL, sk, 5, 4) == 7
    assert errno_of(get_option, LEVEL, sk, 7) == errno.EOPNOTSUPP


def test_every_option_of_the_stack_has_one_row_and_one_line_of_its_own() -> None:
    assert len({(row.level, row.number) for row in OPTIONS}) == len(OPTIONS)
    assert all(row.what and "\n" not in row.what for row in OPTIONS)
