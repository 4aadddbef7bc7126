"""AF_INET6 beside AF_INET: the same socket calls on a Linux kernel and on our host.

What binds, what connects to what, which names both sides see, and what each option takes. The
kernel's sockets are in a namespace of their own; nothing goes over a wire.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stack.core import uapi
from stack.core.uapi import AF_INET, AF_INET6, SOL_IPV6
from stack.socket import SOCK_DGRAM, SOCK_RAW, SOCK_STREAM, Socket
from tests.linux.peer import Peer
from tests.stack.ipv6.net import ME, one_host6
from tests.support import PATIENCE_S, require

pytestmark = pytest.mark.netns

Make = Callable[[int, int, int], Any]
"""(family, type, protocol) -> a socket, of the kernel or ours."""

# (family, IPV6_V6ONLY or None for the default, address)
PLACES = (
    (AF_INET, None, "0.0.0.0"),
    (AF_INET, None, "127.0.0.1"),
    (AF_INET, None, "127.0.0.2"),
    (AF_INET6, None, "::"),
    (AF_INET6, 0, "::"),
    (AF_INET6, 1, "::"),
    (AF_INET6, 0, "::1"),
    (AF_INET6, 1, "::1"),
    (AF_INET6, 0, "::ffff:127.0.0.1"),
    (AF_INET6, 1, "::ffff:127.0.0.1"),
    (AF_INET6, 0, "::ffff:0.0.0.0"),
    (AF_INET6, 0, ME),
    (AF_INET6, 0, "2001:db8::77"),
)
TARGETS = (
    (AF_INET, None, "127.0.0.1"),
    (AF_INET, None, "127.0.0.2"),
    (AF_INET6, 0, "::1"),
    (AF_INET6, 1, "::1"),
    (AF_INET6, 0, "::ffff:127.0.0.1"),
    (AF_INET6, 1, "::ffff:127.0.0.1"),
    (AF_INET6, 0, "::"),
    (AF_INET6, 0, ME),
)


@pytest.fixture(scope="module")
def linux() -> Iterator[Peer]:
    require.taps()
    peer = Peer()
    peer.ip("link", "set", "lo", "up")
    peer.ip("tuntap", "add", "dev", "d0", "mode", "tap")  # index 2, as our host's interface
    peer.ip("link", "set", "d0", "up")
    peer.ip("addr", "add", f"{ME}/64", "dev", "d0", "nodad")
    yield peer
    peer.close()


def kernel(peer: Peer) -> Make:
    return lambda family, kind, proto=0: peer.socket(kind, proto, family=family)


def ours() -> Make:
    host = one_host6().host

    def make(family: int, kind: int, proto: int = 0) -> Any:
        sock = Socket(host, family, kind, proto)
        sock.settimeout(0.5)
        return sock

    return make


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returned, or the name of its errno."""
    try:
        return call()
    except TimeoutError:
        return "timed out"
    except OSError as exc:
        return errno.errorcode.get(exc.errno or 0, str(exc))


def placed(make: Make, kind: int, place: tuple[int, int | None, str], port: int) -> Any:
    """A socket bound as `place` says, or why it cannot be."""
    family, v6only, addr = place
    sock = make(family, kind, 0)
    if v6only is not None:
        sock.setsockopt(SOL_IPV6, uapi.IPV6_V6ONLY, v6only)
    sock.bind((addr, port))
    return sock


def binds(make: Make, kind: int, options: tuple[int, ...]) -> dict[Any, Any]:
    """The second bind to a port, for every pair of places."""
    seen: dict[Any, Any] = {}
    port = 20000
    for first in PLACES:
        for second in PLACES:
            port += 1
            socks = []
            answers = []
            for family, v6only, addr in (first, second):
                sock = make(family, kind, 0)
                socks.append(sock)
                for option in options:
                    sock.setsockopt(socket.SOL_SOCKET, option, 1)
                if v6only is not None:
                    sock.setsockopt(SOL_IPV6, uapi.IPV6_V6ONLY, v6only)
                answers.append(outcome(lambda s=sock, a=addr, n=port: s.bind((a, n))))
                if family == AF_INET6:
                    answers.append(sock.getsockopt(SOL_IPV6, uapi.IPV6_V6ONLY))
                answers.append(sock.getsockname()[0])
            seen[first, second] = answers
            for sock in socks:
                sock.close()
    return seen


def streams(make: Make) -> dict[Any, Any]:
    """connect and accept for every listener and target."""
    seen: dict[Any, Any] = {}
    port = 30000
    for place in PLACES:
        for target in TARGETS:
            port += 1
            listener = outcome(lambda p=place, n=port: placed(make, SOCK_STREAM, p, n))
            if isinstance(listener, str):
                seen[place, target] = listener
                continue
            listener.listen(5)
            family, v6only, addr = target
            client = make(family, SOCK_STREAM, 0)
            if v6only is not None:
                client.setsockopt(SOL_IPV6, uapi.IPV6_V6ONLY, v6only)
            result = outcome(lambda c=client, a=addr, n=port: c.connect((a, n)))
            answer = [result]
            if result is None:
                conn, who = listener.accept()
                answer += [who[0], conn.getsockname()[0], conn.getpeername()[0]]
                answer += [client.getsockname()[0], client.getpeername()[0], conn.family]
                client.sendall(b"there")
                conn.sendall(b"back")
                answer += [conn.recv(9), client.recv(9)]
                conn.close()
            seen[place, target] = answer
            client.close()
            listener.close()
    return seen


def datagrams(make: Make, expected: dict[Any, Any] | None = None) -> dict[Any, Any]:
    """sendto, the sender's name, connect and the answer for every receiver and target.

    What is `expected` to come is waited for as long as it takes, what is not for an instant.
    """
    seen: dict[Any, Any] = {}
    port = 40000
    for place in PLACES:
        for target in TARGETS:
            port += 1
            receiver = outcome(lambda p=place, n=port: placed(make, SOCK_DGRAM, p, n))
            if isinstance(receiver, str):
                seen[place, target] = receiver
                continue
            comes = expected is not None and "timed out" not in expected[place, target]
            wait_s = PATIENCE_S if comes else 0.02
            receiver.settimeout(wait_s)
            family, v6only, addr = target
            client = make(family, SOCK_DGRAM, 0)
            client.settimeout(wait_s)
            if v6only is not None:
                client.setsockopt(SOL_IPV6, uapi.IPV6_V6ONLY, v6only)
            answer = [outcome(lambda c=client, a=addr, n=port: c.sendto(b"x", (a, n)))]
            got = outcome(lambda r=receiver: r.recvfrom(9))
            if isinstance(got, tuple):
                answer += [got[0], got[1][0]]
                answer.append(outcome(lambda r=receiver, n=got[1]: r.sendto(b"back", n)))
                answer.append(outcome(lambda c=client: c.recvfrom(9)[1][0]))
            else:
                answer.append(got)
            answer.append(outcome(lambda c=client, a=addr, n=port: c.connect((a, n))))
            answer.append(client.getsockname()[0])
            answer.append(outcome(lambda c=client: c.getpeername()[0]))
            seen[place, target] = answer
            client.close()
            receiver.close()
    return seen


OPTIONS = (
    uapi.IPV6_V6ONLY,
    uapi.IPV6_UNICAST_HOPS,
    uapi.IPV6_MULTICAST_HOPS,
    uapi.IPV6_MULTICAST_LOOP,
    uapi.IPV6_MULTICAST_IF,
    uapi.IPV6_MULTICAST_ALL,
    uapi.IPV6_MTU_DISCOVER,
    uapi.IPV6_MTU,
    uapi.IPV6_RECVERR,
    uapi.IPV6_FLOWINFO_SEND,
    uapi.IPV6_FLOWINFO,
    uapi.IPV6_TCLASS,
    uapi.IPV6_DONTFRAG,
    uapi.IPV6_AUTOFLOWLABEL,
    uapi.IPV6_ADDR_PREFERENCES,
    uapi.IPV6_MINHOPCOUNT,
    uapi.IPV6_FREEBIND,
    uapi.IPV6_TRANSPARENT,
    uapi.IPV6_RECVPKTINFO,
    uapi.IPV6_RECVHOPLIMIT,
    uapi.IPV6_RECVRTHDR,
    uapi.IPV6_RECVHOPOPTS,
    uapi.IPV6_RECVDSTOPTS,
    uapi.IPV6_RECVTCLASS,
    uapi.IPV6_RECVPATHMTU,
    uapi.IPV6_RECVORIGDSTADDR,
    uapi.IPV6_RECVFRAGSIZE,
    uapi.IPV6_2292PKTINFO,
    uapi.IPV6_2292HOPLIMIT,
    uapi.IPV6_2292RTHDR,
    uapi.IPV6_2292HOPOPTS,
    uapi.IPV6_2292DSTOPTS,
    uapi.IPV6_ADDRFORM,
    uapi.IPV6_CHECKSUM,
    uapi.IPV6_HDRINCL,
    uapi.IPV6_ROUTER_ALERT,
    9999,
)
NAMES = {v: k for k, v in vars(uapi).items() if k.startswith("IPV6_")}
VALUES = (-2, -1, 0, 1, 2, 3, 5, 6, 64, 255, 256, 1279, 1280, 0x101, 0x402)


def options(make: Make, kind: int, proto: int) -> dict[Any, Any]:
    """What each option is at first, and what it is after each value."""
    seen: dict[Any, Any] = {}
    for option in OPTIONS:
        sock = make(AF_INET6, kind, proto)
        name = NAMES.get(option, option)
        seen[name, "default"] = outcome(lambda s=sock, o=option: s.getsockopt(SOL_IPV6, o))
        for value in VALUES:
            set_ = outcome(lambda s=sock, o=option, v=value: s.setsockopt(SOL_IPV6, o, v))
            seen[name, value] = set_, outcome(lambda s=sock, o=option: s.getsockopt(SOL_IPV6, o))
        sock.close()
    return seen


def same(mine: dict[Any, Any], theirs: dict[Any, Any]) -> None:
    """Every entry equal; what is not is listed with both."""
    assert mine.keys() == theirs.keys()
    wrong = {k: (mine[k], theirs[k]) for k in mine if mine[k] != theirs[k]}
    assert not wrong, "\n".join(f"{k}: ours {a}, Linux {b}" for k, (a, b) in wrong.items())


@pytest.mark.parametrize("kind", [SOCK_DGRAM, SOCK_STREAM], ids=["udp", "tcp"])
@pytest.mark.parametrize(
    "shared", [(), (socket.SO_REUSEADDR,), (socket.SO_REUSEPORT,)], ids=["alone", "addr", "port"]
)
def test_who_may_have_a_port_beside_whom(linux: Peer, kind: int, shared: tuple[int, ...]) -> None:
    same(binds(ours(), kind, shared), binds(kernel(linux), kind, shared))


def test_streams_of_both_families(linux: Peer) -> None:
    same(streams(ours()), streams(kernel(linux)))


def test_datagrams_of_both_families(linux: Peer) -> None:
    mine = datagrams(ours())
    same(mine, datagrams(kernel(linux), mine))


@pytest.mark.parametrize(
    ("kind", "proto"),
    [(SOCK_DGRAM, 0), (SOCK_STREAM, 0), (SOCK_RAW, 200)],
    ids=["udp", "tcp", "raw"],
)
def test_options_take_and_give_what_linux_does(linux: Peer, kind: int, proto: int) -> None:
    same(options(ours(), kind, proto), options(kernel(linux), kind, proto))
