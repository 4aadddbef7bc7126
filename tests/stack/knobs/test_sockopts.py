"""Every socket option does what its row says, and every number that is answered has a row."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from stack.api.sockopts import SOCKOPTS, R, W
from stack.core.bsd_socket import sys_getsockopt, sys_setsockopt, sys_socket
from stack.core.uapi import (
    AF_INET,
    AF_INET6,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_IGMP,
    IPV6_CHECKSUM,
    IPV6_HDRINCL,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_STREAM,
    SOL_ICMPV6,
    SOL_IP,
    SOL_IPV6,
    SOL_RAW,
    SOL_SOCKET,
    SOL_TCP,
    SOL_UDP,
)
from stack.host import Host
from tests.stack.knobs.mroute import MROUTE_PROBES
from tests.stack.knobs.sockopts import CONSTANT
from tests.stack.knobs.sockopts import PROBES as PROBES4
from tests.stack.knobs.sockopts6 import PROBES6
from tests.stack.knobs.sockopts_found import FOUND

PROBES = {**PROBES4, **PROBES6, **FOUND, **MROUTE_PROBES}

KINDS = (
    (AF_INET, SOCK_STREAM, 0),
    (AF_INET, SOCK_DGRAM, 0),
    (AF_INET, SOCK_DGRAM, IPPROTO_ICMP),
    (AF_INET, SOCK_RAW, IPPROTO_ICMP),
    (AF_INET, SOCK_RAW, IPPROTO_IGMP),
    (AF_INET6, SOCK_STREAM, 0),
    (AF_INET6, SOCK_DGRAM, 0),
    (AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6),
    (AF_INET6, SOCK_RAW, IPPROTO_ICMPV6),
    (AF_INET6, SOCK_RAW, 255),
)
LEVELS = (SOL_SOCKET, SOL_IP, SOL_TCP, SOL_UDP, SOL_RAW, SOL_IPV6, SOL_ICMPV6)
VALUES = (1, 0, bytes(4), bytes(8), bytes(12), bytes(16), b"reno\0")
CASES = [
    (name, value, seen) for name, (_, values) in PROBES.items() for value, seen in values.items()
]


def answers(call: Any, *args: Any) -> bool:
    """False when the option does not exist."""
    try:
        call(*args)
    except OSError as error:
        return error.errno not in (errno.ENOPROTOOPT, errno.EOPNOTSUPP)
    return True


def test_every_number_that_is_answered_is_declared_and_every_row_is_answered() -> None:
    host = Host(name="h", clock=VirtualClock(), drivers=False)
    got: dict[tuple[int, int], set[str]] = {}
    for family, kind, protocol in KINDS:
        for level in LEVELS:
            for number in range(256):
                fd = sys_socket(host, family, kind, protocol)
                if answers(sys_getsockopt, host, fd, level, number):
                    got.setdefault((level, number), set()).add("get")
                if any(answers(sys_setsockopt, host, fd, level, number, v) for v in VALUES):
                    got.setdefault((level, number), set()).add("set")
    # TCP_TIMESTAMP is set by a socket under repair only: EPERM, as on Linux.
    declared = {(o.level, o.number): set(o.access.split()) for o in SOCKOPTS}
    timestamp = next((o.level, o.number) for o in SOCKOPTS if o.name == "TCP_TIMESTAMP")
    got[timestamp].discard("set")
    # Linux answers these two at SOL_RAW as well.
    for number in (IPV6_CHECKSUM, IPV6_HDRINCL):
        del got[SOL_RAW, number]
    assert got == declared
    host.close()


def test_every_declared_option_has_a_row_that_tells_its_settings_apart() -> None:
    assert {o.name for o in SOCKOPTS} == set(PROBES)
    assert len({o.name for o in SOCKOPTS}) == len(SOCKOPTS)
    for name, (_, values) in PROBES.items():
        assert len({repr(seen) for seen in values.values()}) > 1 or name in CONSTANT, name
    assert R != W


@pytest.mark.parametrize(("name", "value", "seen"), CASES, ids=[f"{n}={v}" for n, v, _ in CASES])
def test_effect(name: str, value: Any, seen: Any) -> None:
    assert PROBES[name][0](value) == seen


@pytest.mark.parametrize("number", [14, 46, 49], ids=["BSDCOMPAT", "BUSY_POLL", "INCOMING_CPU"])
def test_what_is_not_offered_answers_as_an_option_that_linux_lacks(number: int) -> None:
    host = Host(name="h", clock=VirtualClock(), drivers=False)
    fd = sys_socket(host, AF_INET, SOCK_STREAM)
    for call in (
        lambda: sys_setsockopt(host, fd, SOL_SOCKET, number, 1),
        lambda: sys_getsockopt(host, fd, SOL_SOCKET, number),
    ):
        with pytest.raises(OSError, match="option") as info:
            call()
        assert info.value.errno == errno.ENOPROTOOPT
