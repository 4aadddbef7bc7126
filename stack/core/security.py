"""Security modules, which may deny socket operations (security/security.c).

    class NoTelnet:
        def socket_connect(self, sock, address, addrlen):
            return -errno.EACCES if address.port == 23 else 0

    register_security(host, NoTelnet())

A module is any object with methods named as in `SECURITY_HOOKS`, which take the arguments of
Linux's LSM hooks. A method returns 0 (or None), or a negative errno with which the call fails; an
OSError that it raises counts as its errno. Modules are called in the order of registration until
one denies. Without modules, a hook of the packet path costs one test (`net.security is None`).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastpath.base.skbuff import sk_buff
from stack.core.iov import msghdr
from stack.core.rows import row, state
from stack.net import Net

if TYPE_CHECKING:
    from stack.core.bsd_socket import socket
    from stack.core.sock import sock

SECURITY_HOOKS = (
    "socket_create",
    "socket_post_create",
    "socket_socketpair",
    "socket_bind",
    "socket_connect",
    "socket_listen",
    "socket_accept",
    "socket_sendmsg",
    "socket_recvmsg",
    "socket_getsockname",
    "socket_getpeername",
    "socket_getsockopt",
    "socket_setsockopt",
    "socket_shutdown",
    "sock_rcv_skb",
    "unix_stream_connect",
    "unix_may_send",
    "inet_conn_request",
    "inet_csk_clone",
    "inet_conn_established",
    "sk_classify_flow",
)
"""The hooks that a module may implement. `inet_csk_clone`, `inet_conn_established` and
`sk_classify_flow` are notifications: their results are ignored."""


@state
class security_net:
    """struct security_hook_heads of a namespace: its modules, and their methods by hook."""

    modules: list[Any] = row(make=list)
    heads: dict[str, list[Callable[..., Any]]] = row(make=dict)


def register_security(net: Net, ops: Any) -> None:
    """security/security.c security_add_hooks: register a module.

    Raises: ValueError: it is registered already, or has none of the hooks' methods.
    """
    heads = {name: getattr(ops, name) for name in SECURITY_HOOKS if hasattr(ops, name)}
    if not heads:
        raise ValueError(f"{ops!r} has no method of a hook: {', '.join(SECURITY_HOOKS)}")
    held: security_net = net.security or security_net()
    if any(module is ops for module in held.modules):
        raise ValueError(f"{ops!r} is registered in {net.name} already")
    held.modules.append(ops)
    for name, method in heads.items():
        held.heads.setdefault(name, []).append(method)
    net.security = held


def unregister_security(net: Net, ops: Any) -> None:
    """Remove a module; no error when it is not registered."""
    held = net.security
    if held is None:
        return
    modules = [module for module in held.modules if module is not ops]
    net.security = None
    for module in modules:
        register_security(net, module)


def call_int_hook(net: Net, name: str, args: tuple[Any, ...]) -> int:
    """security/security.c: call all modules; 0, or the errno of the first that denies."""
    held = net.security
    if held is None:
        return 0
    for method in held.heads.get(name, ()):
        try:
            ret = method(*args)
        except OSError as exc:
            ret = -(exc.errno or errno.EACCES)
        if ret:
            return -abs(int(ret))
    return 0


def security_socket_create(
    net: Net,
    family: int,
    type: int,  # noqa: A002
    protocol: int,
    kern: bool,
) -> int:
    """security/security.c: before a socket is created."""
    return call_int_hook(net, "socket_create", (family, type, protocol, kern))


def security_socket_post_create(
    sock: socket,
    family: int,
    type: int,  # noqa: A002
    protocol: int,
    kern: bool,
) -> int:
    """security/security.c: after a socket was created."""
    return call_int_hook(sock.net, "socket_post_create", (sock, family, type, protocol, kern))


def security_socket_socketpair(socka: socket, sockb: socket) -> int:
    """security/security.c: before two sockets are joined to a pair."""
    return call_int_hook(socka.net, "socket_socketpair", (socka, sockb))


def security_socket_bind(sock: socket, address: Any, addrlen: int) -> int:
    """security/security.c: before bind."""
    return call_int_hook(sock.net, "socket_bind", (sock, address, addrlen))


def security_socket_connect(sock: socket, address: Any, addrlen: int) -> int:
    """security/security.c: before connect."""
    return call_int_hook(sock.net, "socket_connect", (sock, address, addrlen))


def security_socket_listen(sock: socket, backlog: int) -> int:
    """security/security.c: before listen."""
    return call_int_hook(sock.net, "socket_listen", (sock, backlog))


def security_socket_accept(sock: socket, newsock: socket) -> int:
    """security/security.c: before accept waits for a connection."""
    return call_int_hook(sock.net, "socket_accept", (sock, newsock))


def security_socket_sendmsg(sock: socket, msg: msghdr, size: int) -> int:
    """security/security.c: before a message is sent."""
    return call_int_hook(sock.net, "socket_sendmsg", (sock, msg, size))


def security_socket_recvmsg(sock: socket, msg: msghdr, size: int, flags: int) -> int:
    """security/security.c: before a message is received."""
    return call_int_hook(sock.net, "socket_recvmsg", (sock, msg, size, flags))


def security_socket_getsockname(sock: socket) -> int:
    """security/security.c: before getsockname."""
    return call_int_hook(sock.net, "socket_getsockname", (sock,))


def security_socket_getpeername(sock: socket) -> int:
    """security/security.c: before getpeername."""
    return call_int_hook(sock.net, "socket_getpeername", (sock,))


def security_socket_getsockopt(sock: socket, level: int, optname: int) -> int:
    """security/security.c: before an option is read."""
    return call_int_hook(sock.net, "socket_getsockopt", (sock, level, optname))


def security_socket_setsockopt(sock: socket, level: int, optname: int) -> int:
    """security/security.c: before an option is set."""
    return call_int_hook(sock.net, "socket_setsockopt", (sock, level, optname))


def security_socket_shutdown(sock: socket, how: int) -> int:
    """security/security.c: before shutdown."""
    return call_int_hook(sock.net, "socket_shutdown", (sock, how))


def security_sock_rcv_skb(sk: sock, skb: sk_buff) -> int:
    """security/security.c: before a packet reaches the socket. Not 0: it is dropped and counted."""
    if sk.net.security is None:
        return 0
    return call_int_hook(sk.net, "sock_rcv_skb", (sk, skb))


def security_unix_stream_connect(sk: sock, other: sock, newsk: sock) -> int:
    """security/security.c: before an AF_UNIX stream connects to the listener `other`."""
    return call_int_hook(sk.net, "unix_stream_connect", (sk, other, newsk))


def security_unix_may_send(sock: socket, other: socket) -> int:
    """security/security.c: before an AF_UNIX datagram is sent."""
    if sock.net.security is None:
        return 0
    return call_int_hook(sock.net, "unix_may_send", (sock, other))


def security_inet_conn_request(sk: sock, skb: sk_buff, req: Any) -> int:
    """security/security.c: before the listener `sk` accepts a SYN."""
    if sk.net.security is None:
        return 0
    return call_int_hook(sk.net, "inet_conn_request", (sk, skb, req))


def security_inet_csk_clone(newsk: sock, req: Any) -> None:
    """security/security.c: a connection was created from a request."""
    if newsk.net.security is not None:
        call_int_hook(newsk.net, "inet_csk_clone", (newsk, req))


def security_inet_conn_established(sk: sock, skb: sk_buff) -> None:
    """security/security.c: a connect has succeeded."""
    if sk.net.security is not None:
        call_int_hook(sk.net, "inet_conn_established", (sk, skb))


def security_sk_classify_flow(sk: sock, flow: Any) -> None:
    """security/security.c: a route is looked up for a socket."""
    if sk.net.security is not None:
        call_int_hook(sk.net, "sk_classify_flow", (sk, flow))
