"""Random sequences of socket calls: OSError is the only way to say no, and nothing leaks."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from stack.core import bsd_socket as calls
from stack.core import eventpoll, fcntl, ioctl, read_write, select
from stack.core.iov import msghdr
from stack.core.sockaddr import sockaddr
from stack.core.uapi import IPPROTO_ICMP, SOL_IP, SOL_SOCKET, SOL_UDP
from tests.stack.ipv4.net import GW, ME, PEER, at, ip4, one_host
from tests.support import examples

LO = 0x7F000001

addresses = st.one_of(
    st.none(),
    st.builds(
        lambda addr, port: sockaddr(2, addr, port),
        st.sampled_from(
            [
                0,
                ip4(ME),
                ip4(PEER),
                ip4(GW),
                LO,
                0xFFFFFFFF,
                ip4("239.1.1.1"),
                ip4("10.0.0.255"),
                ip4("192.0.2.1"),
                1,
            ]
        ),
        st.sampled_from([0, 1, 7, 5000, 65535]),
    ),
    st.just("text"),
    st.just((LO, 7)),
    st.builds(
        lambda addr, port, scope: sockaddr(10, addr, port, 0, scope),
        st.sampled_from(
            [0, 1, 0xFE80 << 112 | 1, 0xFF02 << 112 | 1, 0xFFFF << 32 | LO, 0x20010DB8 << 96 | 1]
        ),
        st.sampled_from([0, 1, 7, 5000]),
        st.sampled_from([0, 1, 2, 9]),
    ),
    st.just(sockaddr(0, 0)),
)
fds = st.integers(2, 10)
flags = st.sampled_from(
    [0, 0x1, 0x2, 0x4, 0x20, 0x40, 0x42, 0x100, 0x800, 0x2000, 0x2040, 0x4000, 0x8000, 0x10000]
).map(lambda f: f | 0x40)
data = st.one_of(st.binary(max_size=40), st.integers(0, 70000).map(bytes))
values = st.one_of(st.integers(-(2**31), 2**31 - 1), st.binary(max_size=24))
levels = st.sampled_from([SOL_SOCKET, SOL_IP, SOL_UDP, 6, 41, 58, 255, 99])

steps = st.one_of(
    st.tuples(
        st.just("socket"),
        st.sampled_from([2, 10, 10, 1, 99]),
        st.integers(0, 6),
        st.sampled_from([0, IPPROTO_ICMP, 6, 17, 58, 200, 255, 256]),
    ),
    st.tuples(st.just("bind"), fds, addresses),
    st.tuples(st.just("connect"), fds, addresses),
    st.tuples(st.just("listen"), fds, st.integers(-1, 5)),
    st.tuples(st.just("accept"), fds),
    st.tuples(st.just("sendto"), fds, data, flags, addresses),
    st.tuples(st.just("recvfrom"), fds, st.integers(0, 3000), flags),
    st.tuples(st.just("setsockopt"), fds, levels, st.integers(0, 110), values),
    st.tuples(st.just("getsockopt"), fds, levels, st.integers(0, 110), st.integers(0, 40)),
    st.tuples(st.just("shutdown"), fds, st.integers(-1, 3)),
    st.tuples(st.just("close"), fds),
    st.tuples(st.just("dup"), fds),
    st.tuples(st.just("getsockname"), fds),
    st.tuples(st.just("getpeername"), fds),
    st.tuples(st.just("ioctl"), fds, st.sampled_from([0x541B, 0x5411, 0x5421, 0x8906, 1]), values),
    st.tuples(st.just("poll_one"), fds),
    st.tuples(st.just("poll"), st.lists(st.tuples(fds, st.integers(0, 0x3FFF))), st.just(0)),
    st.tuples(st.just("epoll_create1"), st.sampled_from([0, 0o2000000, 1])),
    st.tuples(
        st.just("epoll_ctl"), fds, st.integers(0, 4), fds, st.integers(0, 2**32 - 1), st.just(0)
    ),
    st.tuples(st.just("epoll_wait"), fds, st.integers(-1, 5), st.integers(0, 2)),
    st.tuples(st.just("dup2"), fds, fds),
    st.tuples(
        st.just("fcntl"), fds, st.sampled_from([0, 1, 2, 3, 8, 9, 10, 11, 99]), st.integers(-9, 99)
    ),
    st.tuples(
        st.just("fcntl"), fds, st.just(4), st.sampled_from([0o4000, 0o24000, 0o44000, 0o6000])
    ),
    st.tuples(st.just("write"), fds, data),
    st.tuples(st.just("writev"), fds, st.lists(data, max_size=3)),
    st.tuples(st.just("read"), fds, st.builds(bytearray, data)),
    st.tuples(st.just("readv"), fds, st.lists(st.builds(bytearray, data), max_size=3)),
    st.tuples(st.just("recvmsg"), fds, st.integers(0, 200), flags),
    st.tuples(st.just("run"), st.integers(0, 2_000_000_000)),
)


def call(name: str):
    """The function of a system call."""
    for module in (calls, eventpoll, fcntl, ioctl, read_write, select):
        found = getattr(module, f"sys_{name}", None)
        if found is not None:
            return found
    raise AssertionError(name)


def fresh(host) -> None:
    """Six unbound sockets of every kind."""
    for kind, protocol in ((1, 0), (2, 0), (2, 0), (2, IPPROTO_ICMP), (3, 200), (3, 255)):
        calls.sys_socket(host, 2, kind, protocol)


def fresh6(host) -> None:
    """Six unbound AF_INET6 sockets of every kind."""
    for kind, protocol in ((1, 0), (2, 0), (2, 0), (2, 58), (3, 200), (3, 58)):
        calls.sys_socket(host, 10, kind, protocol)


def connected(host) -> None:
    """A listener, both ends of a connection over loopback, two UDP sockets that know each other."""
    listener, client, one, two = (calls.sys_socket(host, 2, kind) for kind in (1, 1, 2, 2))
    calls.sys_bind(host, listener, at(LO, 7))
    calls.sys_listen(host, listener, 2)
    calls.sys_connect(host, client, at(LO, 7))
    calls.sys_accept(host, listener)
    calls.sys_bind(host, one, at(LO, 5000))
    calls.sys_connect(host, two, at(LO, 5000))
    calls.sys_connect(host, one, calls.sys_getsockname(host, two))


@settings(max_examples=examples(200))
@given(st.sampled_from([fresh, fresh6, connected]), st.lists(steps, max_size=40))
def test_any_calls_in_any_order(start, sequence: list[tuple]) -> None:
    net = one_host()
    host = net.host
    host.sysctl.tcp_syn_retries = 1
    start(host)
    for name, *args in sequence:
        with suppress(OSError):
            if name == "run":
                net.run(args[0])
            elif name == "recvfrom":
                calls.sys_recvfrom(host, args[0], bytearray(args[1]), args[2])
            elif name == "recvmsg":
                msg = msghdr(None, [bytearray(args[1])], [])
                calls.sys_recvmsg(host, args[0], msg, args[2])
            else:
                if name in ("connect", "accept", "read", "readv", "write", "writev"):
                    calls.sys_set_nonblocking(host, args[0], True)
                call(name)(host, *args)
        net.frames()
    host.close()
    assert host.skb_small.in_use == 0
    assert host.skb_pages.in_use == 0
