"""bind, connect, listen, accept, shutdown and names in every state, with all sorts of addresses."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, AF_PACKET, AF_UNIX

from tests.linux.calls.states import STATES, State
from tests.linux.calls.world import ADDR4, ADDR6, FAR4, FAR6, World, same_name, sin, sin6, sll, sun


def addresses(port: int) -> dict[str, bytes]:
    """Return addresses by description: of every family, complete, short and long."""
    in4, in6 = sin("127.0.0.1", port), sin6("::1", port)
    out = {
        "in lo": in4,
        "in own": sin(ADDR4, port),
        "in any": sin("0.0.0.0", port),
        "in far": sin(FAR4, port),
        "in broadcast": sin("255.255.255.255", port),
        "in net broadcast": sin("10.9.0.255", port),
        "in group": sin("224.0.0.9", port),
        "in port 0": sin("127.0.0.1", 0),
        "in any port 0": sin("0.0.0.0", 0),
        "in6 lo": in6,
        "in6 own": sin6(ADDR6, port),
        "in6 any": sin6("::", port),
        "in6 far": sin6(FAR6, port),
        "in6 mapped": sin6("::ffff:127.0.0.1", port),
        "in6 mapped any": sin6("::ffff:0.0.0.0", port),
        "in6 group": sin6("ff02::9", port, 2),
        "in6 group without scope": sin6("ff02::9", port),
        "in6 link-local without scope": sin6("fe80::99", port),
        "in6 link-local": sin6("fe80::99", port, 2),
        "in6 link-local bad scope": sin6("fe80::99", port, 77),
        "in6 scope": sin6("::1", port, 1),
        "in6 flow": sin6("::1", port, 0, 0x12345),
        "in6 port 0": sin6("::1", 0),
        "unspec in any": sin("0.0.0.0", port, 0),
        "unspec in lo": sin("127.0.0.1", port, 0),
        "unspec in6": sin6("::1", port, family=0),
        "unspec in6 any": sin6("::", port, family=0),
        "in as in6": sin("127.0.0.1", port, AF_INET6),
        "in6 as in": sin6("::1", port, family=AF_INET),
        "in as 99": sin("127.0.0.1", port, 99),
        "in6 as 99": sin6("::1", port, family=99),
        "in as unix": sin("127.0.0.1", port, AF_UNIX),
        "in as packet": sin("127.0.0.1", port, AF_PACKET),
        "un": sun(b"\0other"),
        "un 109": sun(b"\0" + b"x" * 108),
        "un empty": sun(b""),
        "ll lo": sll(1, 0x88B5),
        "ll none": sll(0, 0x88B5),
        "ll bad": sll(99, 0x88B5),
        "ll short": sll(1, 0x88B5)[:18],
        "long 128": in4.ljust(128, b"\0"),
        "long 129": in4.ljust(129, b"\0"),
    }
    for size in (0, 1, 2, 4, 7, 8, 12, 15):
        out[f"in {size} bytes"] = in4[:size]
        out[f"unspec {size} bytes"] = bytes(size)
    for size in (2, 8, 16, 20, 23, 24, 27):
        out[f"in6 {size} bytes"] = in6[:size]
    return out


def bind_in(w: World, state: State) -> None:
    """bind() in a state, once for each address."""
    for label, addr in addresses(7100).items():
        with w.case(f"{state.kind}/{state.name}"):
            fd = state.make(w)
            w.bind(fd, addr, label)
            if label.split()[0] in ("in", "in6", "unspec") and "bytes" not in label:
                w.row(f"bound to {label}", lambda fd=fd: same_name(w.raw.getsockname(fd)))


def connect_in(w: World, state: State) -> None:
    """connect() in a state, once for each address, and the socket's names afterwards."""
    for label, addr in addresses(7200).items():
        with w.case(f"{state.kind}/{state.name}"):
            fd = state.make(w)
            w.connect(fd, addr, label)
            with w.case(f"after connect({label})"):
                w.settle()
                w.names(fd)


BIND_STATES = ("new", "bound", "connected", "listening", "shut_rdwr", "reset", "pair")
CONNECT_STATES = (
    "new",
    "bound",
    "connected",
    "listening",
    "connecting",
    "refused",
    "pair",
    "dissolved",
)


def naming(w: World) -> None:
    """All of it."""
    for state in STATES:
        if state.name in BIND_STATES:
            bind_in(w, state)
        if state.name in CONNECT_STATES:
            connect_in(w, state)
    for state in STATES:
        at = f"{state.kind}/{state.name}"
        with w.case(at):
            fd = state.make(w)
            w.names(fd)
            w.poll(fd)
        for backlog in (-1, 0, 5, 1 << 20):
            with w.case(at):
                fd = state.make(w)
                w.listen(fd, backlog)
                w.poll(fd)
        for flags in (0, 0x800, 0x80000, 1, 0x4000):
            with w.case(at):
                fd = state.make(w)
                made = w.accept(fd, flags)
                if made is not None:
                    with w.case("accepted"):
                        w.names(made)
                        w.poll(made)
        for how in (-1, 0, 1, 2, 3, 1 << 20):
            with w.case(at):
                fd = state.make(w)
                w.shutdown(fd, how)
                w.settle()
                with w.case(f"after shutdown({how})"):
                    w.poll(fd)
                    w.names(fd)
                    w.shutdown(fd, how)
