"""AF_UNIX, AF_PACKET and XTP against random bytes: addresses, control messages, options, ioctls,
programs and packets. OSError is the only way to say no, and nothing leaks.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.packet import Raw

from stack.api.sockaddr import parse_un
from stack.core import bsd_socket as calls
from stack.core import fcntl, ioctl
from stack.core.iov import msghdr
from stack.core.sockaddr import sockaddr, sockaddr_ll
from stack.core.uapi import IPPROTO_XTP, SOL_SOCKET
from stack.xtp.packet import (
    XTP_CNTL,
    XTP_DATA,
    XTP_DIAG,
    XTP_ECNTL,
    XTP_FIRST,
    XTP_RTN,
    XTP_TCNTL,
    xtp_build,
    xtp_cntl_segment,
    xtp_diag_segment,
    xtp_ecntl_segment,
    xtp_first_segment,
    xtp_tspec,
)
from tests.stack.ipv4.net import ME, PEER, at, ip4, one_host
from tests.support import examples

AF_UNIX, AF_PACKET, AF_INET = 1, 17, 2
SOL_PACKET, SOL_XTP = 263, 36

paths = st.one_of(
    st.sampled_from(
        [b"", b"\0", b"\0a", b"/run/a", b"a", b"/", b"//", b"/run/a/b", b"..", b"\0" * 108]
    ),
    st.binary(max_size=120),
)  # fmt: skip
lls = st.builds(
    sockaddr_ll,
    st.integers(0, 0xFFFF),
    st.sampled_from([0, 1, 2, 3, 0xFFFFFFFF]),
    st.integers(0, 0xFFFF),
    st.integers(0, 255),
    st.binary(max_size=8),
)
names = st.one_of(
    st.none(),
    paths.map(lambda path: ("path", path)),
    lls,
    st.just(at(ME, 7)),
    st.just(at(PEER, 7)),
    st.just(sockaddr(10, 1, 7)),
    st.just(sockaddr(0, 0)),
    st.just("text"),
)
rows = st.lists(
    st.tuples(st.integers(0, 0xFFFF), st.integers(0, 255), st.integers(0, 255),
              st.integers(0, 0xFFFFFFFF)),
    max_size=8,
)  # fmt: skip
ints = st.one_of(st.integers(-(2**31), 2**31 - 1), st.integers(0, 70))
values = st.one_of(
    ints,
    st.binary(max_size=48),
    rows,
    st.builds(lambda n, p: struct.pack("@HP", n, p), st.integers(0, 0xFFFF), st.integers(0, 4096)),
    st.builds(lambda i, t, a: struct.pack("=iHH", i, t, a) + bytes(16),
              st.integers(-1, 4), st.integers(0, 5), st.integers(0, 40)),
)  # fmt: skip
controls = st.lists(
    st.tuples(
        st.sampled_from([SOL_SOCKET, SOL_SOCKET, 0, SOL_PACKET, SOL_XTP, -1]),
        st.sampled_from([1, 2, 3, 4, 37, 42, 0, 99]),
        st.one_of(
            st.binary(max_size=40),
            st.lists(st.integers(-1, 12), max_size=260).map(
                lambda fds: struct.pack(f"={len(fds)}i", *fds)
            ),
            st.builds(lambda *ids: struct.pack("=iii", *ids), *[st.integers(-1, 3)] * 3),
        ),
    ),
    max_size=3,
)
fds = st.integers(2, 11)
data = st.one_of(st.binary(max_size=80), st.integers(0, 3000).map(bytes))
flags = st.sampled_from([0, 1, 2, 0x20, 0x40, 0x80, 0x100, 0x800, 0x2000, 0x4000]).map(
    lambda f: f | 0x40
)
levels = st.sampled_from([SOL_SOCKET, SOL_PACKET, SOL_XTP, 0, 1, 41])
options = st.one_of(st.integers(0, 30), st.integers(0, 90))
kinds = st.tuples(
    st.sampled_from([AF_UNIX, AF_PACKET, AF_INET]),
    st.sampled_from([1, 2, 3, 5]),
    st.sampled_from([0, IPPROTO_XTP, 0x0300, 0x0008, 1]),
)
steps = st.one_of(
    st.tuples(st.just("socket"), kinds),
    st.tuples(st.just("bind"), fds, names),
    st.tuples(st.just("connect"), fds, names),
    st.tuples(st.just("listen"), fds, st.integers(-1, 3)),
    st.tuples(st.just("accept"), fds),
    st.tuples(st.just("sendmsg"), fds, data, controls, names, flags),
    st.tuples(st.just("recvmsg"), fds, st.integers(0, 300), st.integers(0, 300), flags),
    st.tuples(st.just("setsockopt"), fds, levels, options, values),
    st.tuples(st.just("getsockopt"), fds, levels, options, st.integers(0, 60)),
    st.tuples(st.just("ioctl"), fds, st.sampled_from([0x541B, 0x5411, 0x5421, 0x8906, 1]),
              st.one_of(ints, st.binary(max_size=48))),
    st.tuples(st.just("shutdown"), fds, st.integers(-1, 3)),
    st.tuples(st.just("dup"), fds),
    st.tuples(st.just("close"), fds),
    st.tuples(st.just("getsockname"), fds),
    st.tuples(st.just("getpeername"), fds),
    st.tuples(st.just("frame"), st.binary(min_size=14, max_size=90)),
    st.tuples(st.just("run"), st.integers(0, 3_000_000_000)),
)  # fmt: skip


def address(name: Any) -> Any:
    """What a step names, as the sys_* calls take it."""
    return parse_un(name[1]) if isinstance(name, tuple) else name


def step(net: Any, name: str, args: tuple[Any, ...]) -> None:
    """One call."""
    host = net.host
    match name:
        case "run":
            net.run(args[0])
        case "frame":
            net.wire.receive(args[0])
            net.run(1000)
        case "socket":
            calls.sys_socket(host, *args[0])
        case "bind" | "connect":
            calls.sys_set_nonblocking(host, args[0], True)
            getattr(calls, f"sys_{name}")(host, args[0], address(args[1]))
        case "accept":
            calls.sys_set_nonblocking(host, args[0], True)
            calls.sys_accept(host, args[0])
        case "sendmsg":
            fd, what, control, to, how = args
            msg = msghdr(calls.move_addr_to_kernel(address(to)), [what], control or None, how)
            calls.sys_sendmsg(host, fd, msg, how)
        case "recvmsg":
            fd, room, control, how = args
            msg = msghdr(None, [bytearray(room)], [])
            msg.msg_controllen = control
            calls.sys_recvmsg(host, fd, msg, how)
        case "dup":
            fcntl.sys_dup(host, *args)
        case "ioctl":
            ioctl.sys_ioctl(host, *args)
        case _:
            getattr(calls, f"sys_{name}")(host, *args)


@settings(max_examples=examples(200))
@given(st.lists(steps, max_size=40))
def test_any_calls_of_three_families(sequence: list[tuple[Any, ...]]) -> None:
    net = one_host()
    host = net.host
    for kind in ((AF_UNIX, 1, 0), (AF_UNIX, 2, 0), (AF_PACKET, 3, 0x0300), (AF_PACKET, 2, 0x0008),
                 (AF_INET, 1, IPPROTO_XTP), (AF_INET, 2, IPPROTO_XTP)):  # fmt: skip
        calls.sys_socket(host, *kind)
    calls.sys_socketpair(host, AF_UNIX, 5, 0)
    for name, *args in sequence:
        with suppress(OSError):
            step(net, name, tuple(args))
        net.frames()
    host.close()
    assert host.skb_small.in_use == 0
    assert host.skb_pages.in_use == 0


# --- packets of XTP to a host with sockets -----------------------------------------------------

KEY = 0x1234_5678_9ABC
SEQ = st.one_of(st.integers(0, 3000), st.integers(0, (1 << 62) - 1))
U24 = st.integers(0, (1 << 24) - 1)
packets = st.one_of(
    st.builds(lambda o, s, d: xtp_build(KEY, o, XTP_DATA, s, 0, 0, b"", d), U24, SEQ, data),
    st.builds(lambda o, d, port, kind: xtp_build(
        KEY, o, XTP_FIRST, 0, 1, 0,
        xtp_first_segment(ip4(PEER), 9, ip4(ME), port, xtp_tspec(kind)), d),
        U24, data, st.sampled_from([7, 8, 9]), st.integers(0, 5)),
    st.builds(lambda o, a, b, c: xtp_build(
        KEY, o, XTP_CNTL, 0, 0, 0, xtp_cntl_segment(a, b, c), b""),
              U24, SEQ, SEQ, st.integers(0, 9)),
    st.builds(lambda a, steps: xtp_build(
        KEY | XTP_RTN, 0, XTP_ECNTL, 0, 0, 0,
        xtp_ecntl_segment(a, a + 9, 0, [(a + 1 + s, a + 2 + s) for s in steps]), b""),
        st.integers(0, 3000), st.lists(st.integers(0, 9), max_size=4)),
    st.builds(lambda code: xtp_build(
        KEY, 0, XTP_DIAG, 0, 0, 0, xtp_diag_segment(code, 1, "x"), b""),
              st.integers(0, 9)),
    st.builds(lambda form, d: xtp_build(KEY, 0, form, 0, 0, 0, b"", d),
              st.sampled_from([XTP_TCNTL, XTP_FIRST, XTP_ECNTL, 7, 9]), data),
    st.binary(max_size=60),
)  # fmt: skip
bent = st.lists(st.tuples(st.integers(0, 70), st.integers(0, 255)), max_size=2)


@settings(max_examples=examples(200))
@given(st.lists(st.tuples(packets, bent, st.integers(0, 40_000_000)), max_size=25))
def test_any_packets_of_xtp(sequence: list[tuple[bytes, list[tuple[int, int]], int]]) -> None:
    net = one_host()
    host = net.host
    stream, datagrams = (calls.sys_socket(host, AF_INET, kind, IPPROTO_XTP) for kind in (1, 2))
    calls.sys_bind(host, stream, at(ME, 7))
    calls.sys_listen(host, stream, 2)
    calls.sys_bind(host, datagrams, at(ME, 8))
    known = [stream, datagrams]
    for fd in known:
        calls.sys_set_nonblocking(host, fd, True)
    for packet, changes, pause in sequence:
        raw = bytearray(packet)
        for place, value in changes:
            if place < len(raw):
                raw[place] = value
        net.inject(IP(src=PEER, dst=ME, proto=IPPROTO_XTP) / Raw(bytes(raw)))
        with suppress(OSError):
            fd, _ = calls.sys_accept(host, stream)
            calls.sys_set_nonblocking(host, fd, True)
            known.append(fd)
        for fd in known:
            with suppress(OSError):
                calls.sys_recvfrom(host, fd, bytearray(500), 0x40)
        net.run(pause)
        net.frames()
    host.close()
    assert host.skb_small.in_use == 0
    assert host.skb_pages.in_use == 0
