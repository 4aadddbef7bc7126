"""The standard library's `socket` module on the sockets of a host.

    with dropin(host):
        print(requests.get("http://10.0.0.2/").text)

Code written for the kernel's sockets runs unchanged: `socket.socket` creates sockets of the
host, `getaddrinfo` uses the host's resolver, `ssl` encrypts what the host sends. AF_UNIX stays the
kernel's: asyncio uses it internally, and it connects to other programs of this machine.

The replacement affects all threads of the process. A name imported earlier
(`from socket import socket`) remains the kernel's. `python -m stack.dropin` runs a script whose
modules are all imported afterwards.

Selectors and asyncio wait for descriptors (`Socket.fileno`), for which the host's clock must run
in a thread of its own: a started RealClock. Blocking calls work on every clock.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import importlib
import operator
import os
import runpy
import socket as stdlib
import ssl
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

from fastpath.errors import check_type
from stack.api import netdb
from stack.api import socket as ours
from stack.api.socket import Socket, _LockedSocket
from stack.api.tls import TlsSocket
from stack.core.dev import dev_get_by_index, dev_get_by_name
from stack.core.uapi import AF_INET, AF_UNIX, SOCK_STREAM
from stack.net import Net, check_net

__all__ = ["dropin", "names"]

OF_A_HOST = (
    "create_connection",
    "create_server",
    "getdefaulttimeout",
    "gethostbyaddr",
    "gethostbyname",
    "gethostbyname_ex",
    "getnameinfo",
    "has_dualstack_ipv6",
    "setdefaulttimeout",
)
"""Functions of stack.socket whose first argument is the host."""
KERNEL_CLASS = stdlib.socket
KERNEL_PAIR = stdlib.socketpair


class _Kind(type):
    """isinstance(sock, socket.socket) is true for sockets of the host and of the kernel."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Socket | TlsSocket | KERNEL_CLASS)


def _socket_class(net: Net, kernel: frozenset[int]) -> type:
    """`socket.socket` whose sockets are those of `net`, except those of the families `kernel`."""

    class socket(_LockedSocket, metaclass=_Kind):
        def __new__(
            cls,
            family: int = -1,
            type: int = -1,  # noqa: A002 -- as in the standard library
            proto: int = -1,
            fileno: int | None = None,
        ) -> Any:
            foreign = isinstance(fileno, int) and fileno >= 0 and fileno not in net.detached_fds
            if family in kernel or (foreign and kernel):
                return KERNEL_CLASS(family, type, proto, fileno)
            return super().__new__(cls, net)

        def __init__(
            self,
            family: int = -1,
            type: int = -1,  # noqa: A002 -- as in the standard library
            proto: int = -1,
            fileno: int | None = None,
        ) -> None:
            super().__init__(
                net,
                AF_INET if family == -1 else family,
                SOCK_STREAM if type == -1 else type,
                0 if proto == -1 else proto,
                fileno,
            )

        def __getstate__(self) -> NoReturn:
            raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    return socket


def names(net: Net, kernel: Iterable[int] = (AF_UNIX,)) -> dict[str, Any]:
    """The names that `dropin` replaces in the standard library's `socket`, with new values."""
    families = frozenset(kernel)
    made = _socket_class(net, families)
    found: dict[str, Any] = {
        name: functools.wraps(getattr(ours, name))(functools.partial(getattr(ours, name), net))
        for name in OF_A_HOST
    }

    def getaddrinfo(*args: Any, **kwargs: Any) -> Any:
        # With the enums that socket.py creates from the C module's ints.
        return [
            (stdlib.AddressFamily(row[0]), stdlib.SocketKind(row[1]), *row[2:])
            for row in netdb.getaddrinfo(net, *args, **kwargs)
        ]

    def socketpair(family: int | None = None, *args: Any, **kwargs: Any) -> Any:
        if AF_UNIX in families and family in (None, AF_UNIX):
            return KERNEL_PAIR(family, *args, **kwargs)
        return ours.socketpair(net, AF_UNIX if family is None else family, *args, **kwargs)

    def gethostname() -> str:
        return net.name

    def if_nametoindex(name: str) -> int:
        dev = dev_get_by_name(net, os.fsdecode(name))
        if dev is None:
            raise OSError("no interface with this name")
        return dev.ifindex

    def if_indextoname(index: int) -> str:
        if not 0 <= operator.index(index) < 1 << 32:
            raise OverflowError(f"interface index {index} is no unsigned int")
        dev = dev_get_by_index(net, index)
        if dev is None:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        return dev.name

    def if_nameindex() -> list[tuple[int, str]]:
        return [(dev.ifindex, dev.name) for dev in net.dev_base_head]

    found |= {
        "socket": made,
        "SocketType": made,
        "if_indextoname": if_indextoname,
        "if_nameindex": if_nameindex,
        "if_nametoindex": if_nametoindex,
        "getaddrinfo": getaddrinfo,
        "gethostname": gethostname,
        "socketpair": socketpair,
    }
    if AF_UNIX not in families:
        found |= {name: getattr(ours, name) for name in ("recv_fds", "send_fds")}
    return found


class _SslSocket:
    """The result of `SSLContext.wrap_socket`: a TlsSocket of a host's socket, else an SSLSocket."""

    @classmethod
    def _create(cls, sock: Any, *args: Any, **kwargs: Any) -> Any:
        made = TlsSocket if isinstance(sock, Socket) else ssl.SSLSocket
        return made._create(sock, *args, **kwargs)  # type: ignore[union-attr]


@contextlib.contextmanager
def dropin(net: Net, kernel: Iterable[int] = (AF_UNIX,)) -> Iterator[Net]:
    """Use the sockets of host `net` in the standard library's `socket` during the block.

    `kernel`: the families whose sockets stay the kernel's. Blocks may be nested: the innermost one
    applies. Sockets created in the block keep their kind after it.

    Raises: ArgumentTypeError: `net` is not a host, a family not a number.
    """
    check_net("dropin", net)
    families = list(kernel)
    for family in families:
        check_type("dropin", "kernel", family, int, "families, such as (AF_UNIX,)")
    new = names(net, families)
    old = {name: getattr(stdlib, name) for name in new}
    wrapped = ssl.SSLContext.sslsocket_class
    try:
        for name, value in new.items():
            setattr(stdlib, name, value)
        ssl.SSLContext.sslsocket_class = _SslSocket  # type: ignore[assignment]
        yield net
    finally:
        ssl.SSLContext.sslsocket_class = wrapped
        for name, value in old.items():
            setattr(stdlib, name, value)


def _hosts(stack: contextlib.ExitStack, source: str) -> list[Net]:
    """Call MODULE:FUNCTION for the hosts; `stack` closes them.  Raises: SystemExit."""
    module, colon, name = source.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        build: Callable[[], Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise SystemExit(
            f"--hosts {source}: {exc if colon else 'give MODULE:FUNCTION'}, such as mylab:build"
        ) from exc
    made = build()
    if hasattr(made, "__enter__") and not isinstance(made, Net):
        made = stack.enter_context(made)
    found = [made] if isinstance(made, Net) else list(getattr(made, "hosts", made))
    for host in found:
        stack.enter_context(host)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m stack.dropin`: run a Python program on a host."""
    parser = argparse.ArgumentParser(
        prog="python -m stack.dropin",
        description="Run a Python program with the sockets of a host.",
    )
    source = os.environ.get("E1000EMU_HOSTS")
    parser.add_argument(
        "--hosts",
        metavar="MODULE:FUNCTION",
        default=source,
        required=source is None,
        help="what makes the hosts: a function that returns one, several, or a lab "
        "(default: E1000EMU_HOSTS of the environment)",
    )
    parser.add_argument("--host", metavar="NAME", help="the host to run on (default: the first)")
    parser.add_argument("script", help="a Python file")
    parser.add_argument("args", nargs=argparse.REMAINDER, help="its arguments")
    given = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        hosts = {host.name: host for host in _hosts(stack, given.hosts)}
        name = given.host or next(iter(hosts), None)
        if name not in hosts:
            parser.error(f"--host {name}: there are {', '.join(hosts) or 'no hosts'}")
        sys.argv = [given.script, *given.args]
        sys.path[0] = os.path.dirname(os.path.abspath(given.script))
        stack.enter_context(dropin(hosts[name]))
        runpy.run_path(given.script, run_name="__main__")
