"""Security modules: each hook is asked where Linux asks it, and its errno goes to the caller."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from stack.core.security import SECURITY_HOOKS, register_security, unregister_security
from stack.host import Host
from tests.support import errno_of


class Module:
    """Notes every call, and refuses those of one hook."""

    def __init__(self, refused: str = "", err: int = -errno.EACCES) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.refused, self.err = refused, err

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


def hook(name: str) -> Any:
    def method(self: Module, *args: Any) -> int:
        self.calls.append((name, args))
        return self.err if name == self.refused else 0

    return method


for _name in SECURITY_HOOKS:
    setattr(Module, _name, hook(_name))


def refusing(host: Host, name: str, err: int = -errno.EACCES) -> Module:
    module = Module(name, err)
    register_security(host, module)
    return module


def udp(host: Host) -> Any:
    made = host.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(2)
    return made


def stream(host: Host) -> Any:
    made = host.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.settimeout(5)
    return made


CALLS = {
    "socket_create": lambda host, sock: host.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "socket_post_create": lambda host, sock: host.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "socket_bind": lambda host, sock: sock.bind(("", 5000)),
    "socket_connect": lambda host, sock: sock.connect(("10.0.0.2", 9)),
    "socket_listen": lambda host, sock: sock.listen(1),
    "socket_accept": lambda host, sock: sock.accept(),
    "socket_sendmsg": lambda host, sock: sock.sendto(b"x", ("10.0.0.2", 9)),
    "socket_recvmsg": lambda host, sock: sock.recv(1),
    "socket_getsockname": lambda host, sock: sock.getsockname(),
    "socket_getpeername": lambda host, sock: sock.getpeername(),
    "socket_getsockopt": lambda host, sock: sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
    "socket_setsockopt": lambda host, sock: sock.setsockopt(
        socket.SOL_SOCKET, socket.SO_RCVBUF, 9000
    ),
    "socket_shutdown": lambda host, sock: sock.shutdown(socket.SHUT_WR),
    "socket_socketpair": lambda host, sock: host.socketpair(),
}


@pytest.mark.parametrize("name", [n for n in CALLS if n != "socket_socketpair"])
def test_a_call_is_refused_with_the_modules_errno(a: Host, name: str) -> None:
    sock = stream(a) if name in ("socket_listen", "socket_accept") else udp(a)
    if name == "socket_accept":
        sock.bind(("", 80))
        sock.listen(1)
    module = refusing(a, name, -errno.EXDEV)
    assert errno_of(CALLS[name], a, sock) == errno.EXDEV
    assert module.names()[-1] == name
    unregister_security(a, module)
    assert a.security is None
    sock.close()


def test_options_of_every_level_are_asked_about(a: Host) -> None:
    sock = udp(a)
    module = refusing(a, "socket_setsockopt")
    assert errno_of(sock.setsockopt, socket.IPPROTO_IP, socket.IP_TTL, 9) == errno.EACCES
    assert module.calls[-1][1][1:] == (socket.IPPROTO_IP, socket.IP_TTL)
    sock.close()


def test_what_a_module_is_told(a: Host, b: Host) -> None:
    told, server_told = Module(), Module()
    listener = stream(b)
    listener.bind(("10.0.0.2", 80))
    listener.listen(1)
    register_security(a, told)
    register_security(b, server_told)
    client = stream(a)
    client.connect(("10.0.0.2", 80))
    server, _ = listener.accept()
    client.sendall(b"hello")
    assert server.recv(100) == b"hello"
    names = told.names()
    for one, two in zip(
        ("socket_create", "socket_post_create", "socket_connect", "sk_classify_flow"),
        ("socket_post_create", "socket_connect", "sk_classify_flow", "inet_conn_established"),
        strict=True,
    ):
        assert names.index(one) < names.index(two), names
    assert names[-1] in ("socket_sendmsg", "sock_rcv_skb")
    served = server_told.names()
    assert served.index("inet_conn_request") < served.index("inet_csk_clone")
    assert "socket_accept" in served
    assert "socket_recvmsg" in served
    assert "sock_rcv_skb" in served
    (address,) = [args[1] for name, args in told.calls if name == "socket_connect"]
    assert (address.port, address.family) == (80, socket.AF_INET)
    for sock in (client, server, listener):
        sock.close()
    a.clock.run_for(300_000_000_000)


def test_a_listener_that_may_not_take_a_syn_is_silent(a: Host, b: Host) -> None:
    listener = stream(b)
    listener.bind(("10.0.0.2", 80))
    listener.listen(1)
    refusing(b, "inet_conn_request")
    client = stream(a)
    with pytest.raises(TimeoutError):
        client.connect(("10.0.0.2", 80))
    assert b.mib.linux.ListenDrops > 0
    client.close()
    listener.close()
    a.clock.run_for(300_000_000_000)


def test_packets_that_a_socket_may_not_have_are_dropped(a: Host, b: Host) -> None:
    server, client = udp(b), udp(a)
    server.bind(("10.0.0.2", 7))
    module = refusing(b, "sock_rcv_skb")
    client.sendto(b"dropped", ("10.0.0.2", 7))
    with pytest.raises(TimeoutError):
        server.recv(100)
    assert b.mib.udp.InErrors == 1
    unregister_security(b, module)
    client.sendto(b"passed", ("10.0.0.2", 7))
    assert server.recv(100) == b"passed"
    client.close()
    server.close()


def test_batches_are_asked_about_one_by_one(a: Host, b: Host) -> None:
    server, client = udp(b), udp(a)
    server.bind(("10.0.0.2", 7))
    client.connect(("10.0.0.2", 7))
    client.send(b"resolved")
    assert server.recv(10) == b"resolved"
    sent, got = Module(), Module()
    register_security(a, sent)
    register_security(b, got)
    messages = [(b"%d" % i, None) for i in range(5)]
    assert client.sendmmsg(messages) == 5
    a.clock.run_for(1_000_000_000)
    found = []
    while len(found) < 5:
        found.append(server.recv(10))
    assert found == [b"0", b"1", b"2", b"3", b"4"]
    assert sent.names().count("socket_sendmsg") == 5
    assert got.names().count("sock_rcv_skb") == 5
    client.close()
    server.close()


def test_unix_sockets_are_asked_about(a: Host) -> None:
    listener = a.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("/run/s")
    listener.listen(1)
    box = a.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    box.bind("/run/d")
    client = a.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sender = a.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    module = refusing(a, "unix_stream_connect")
    assert errno_of(client.connect, "/run/s") == errno.EACCES
    module.refused = "unix_may_send"
    assert errno_of(sender.sendto, b"x", "/run/d") == errno.EACCES
    assert errno_of(sender.connect, "/run/d") == errno.EACCES
    module.refused = ""
    client.connect("/run/s")
    sender.sendto(b"x", "/run/d")
    assert box.recv(10) == b"x"
    for sock in (client, sender, box, listener):
        sock.close()


def test_the_first_module_that_refuses_decides(a: Host) -> None:
    first, second = Module(), Module("socket_create", -errno.EPERM)
    register_security(a, first)
    register_security(a, second)
    third = refusing(a, "socket_create", -errno.EACCES)
    assert errno_of(udp, a) == errno.EPERM
    assert first.names() == second.names() == ["socket_create"]
    assert third.names() == []
    unregister_security(a, second)
    assert errno_of(udp, a) == errno.EACCES
    with pytest.raises(ValueError, match="already"):
        register_security(a, first)
    with pytest.raises(ValueError, match="no method"):
        register_security(a, object())


def test_an_oserror_that_a_module_raises_is_its_answer(a: Host, b: Host) -> None:
    class Raises:
        def sock_rcv_skb(self, sk: Any, skb: Any) -> int:
            raise PermissionError(errno.EPERM, "no")

    server, client = udp(b), udp(a)
    server.bind(("10.0.0.2", 7))
    register_security(b, Raises())
    client.sendto(b"x", ("10.0.0.2", 7))
    with pytest.raises(TimeoutError):
        server.recv(10)
    client.close()
    server.close()
