"""CPython's own test_socket over this stack: the module that it takes for `socket`.

`load()` makes a fresh copy of `test.test_socket` whose `socket` is that module: everything of the
standard library's, with sockets of one host in the place of the kernel's.
"""

from __future__ import annotations

import importlib.util
import socket as stdlib
import sys
import types
from functools import wraps
from typing import Any

import pytest

from stack import socket as ours
from stack.host import Host
from stack.socket import Socket

ANY = -1
PATIENCE_S = 60.0
"""How long CPython's tests wait for what is sure to come, in place of one second or five."""


class _SocketType(type):
    """`socket.socket` as a class: calling makes a Socket of the host, isinstance knows them."""

    host: Host
    used: int
    """How often the stack was asked for something; a test that never does tests nothing."""

    def __call__(
        cls,
        family: int = ANY,
        type: int = ANY,  # noqa: A002 -- as in the standard library
        proto: int = ANY,
        fileno: int | None = None,
    ) -> Socket:
        cls.used += 1
        if fileno is not None:
            return Socket(cls.host, fileno=fileno)
        return Socket(
            cls.host,
            stdlib.AF_INET if family == ANY else family,
            stdlib.SOCK_STREAM if type == ANY else type,
            0 if proto == ANY else proto,
        )

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Socket)

    def __getattr__(cls, name: str) -> Any:
        return getattr(Socket, name)


def socket_module(host: Host) -> types.ModuleType:
    """The standard library's socket module with the sockets of `host`."""
    module = types.ModuleType("socket")
    module.__dict__.update(vars(stdlib))
    kind = _SocketType("socket", (), {"host": host, "used": 0})
    module.socket = kind  # type: ignore[attr-defined]
    module.SocketType = kind  # type: ignore[attr-defined]

    def counted(function: Any) -> Any:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            kind.used += 1
            return function(*args, **kwargs)

        return call

    for name in ("CMSG_LEN", "CMSG_SPACE", "recv_fds", "send_fds"):
        setattr(module, name, counted(getattr(ours, name)))
    for name in OF_A_HOST:
        setattr(module, name, counted(_of_host(getattr(ours, name), host)))
    module.getaddrinfo = counted(_with_enums(host))  # type: ignore[attr-defined]
    return module


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
    "socketpair",
)
"""Functions of stack.socket whose first argument is the host."""


def _of_host(function: Any, host: Host) -> Any:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(host, *args, **kwargs)

    return call


def _with_enums(host: Host) -> Any:
    """`getaddrinfo` with the enums that socket.py makes of the C module's ints."""

    def getaddrinfo(*args: Any, **kwargs: Any) -> Any:
        return [
            (stdlib.AddressFamily(row[0]), stdlib.SocketKind(row[1]), *row[2:])
            for row in ours.getaddrinfo(host, *args, **kwargs)
        ]

    return getaddrinfo


def load(host: Host) -> types.ModuleType:
    """`test.test_socket` with the sockets of `host`. Skips where Python came without its tests."""
    try:
        spec = importlib.util.find_spec("test.test_socket")
        support = importlib.import_module("test.support.socket_helper")
    except ImportError:
        spec = None
    if spec is None or spec.loader is None:
        pytest.skip("this Python came without its own tests (test.test_socket)")
    # Classes take it over; regrtest makes it longer in the same way when it is given a --timeout.
    importlib.import_module("test.support").LOOPBACK_TIMEOUT = PATIENCE_S  # type: ignore[attr-defined]
    name = "tests.cpython.test_socket_copy"
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_file_location(name, spec.origin)  # type: ignore[arg-type]
    )
    sys.modules[name] = module
    assert module.__spec__ is not None
    assert module.__spec__.loader is not None
    module.__spec__.loader.exec_module(module)
    fake = socket_module(host)
    module.socket = fake  # type: ignore[attr-defined]
    helper = types.ModuleType(support.__name__)
    helper.__dict__.update(vars(support))
    for key, value in vars(support).items():
        if isinstance(value, types.FunctionType) and value.__globals__ is vars(support):
            copy = types.FunctionType(
                value.__code__, helper.__dict__, key, value.__defaults__, value.__closure__
            )
            copy.__kwdefaults__ = value.__kwdefaults__
            helper.__dict__[key] = copy
    helper.__dict__["socket"] = fake
    module.socket_helper = helper  # type: ignore[attr-defined]
    module.select = _patient(module.select)  # type: ignore[attr-defined]
    return module


def _patient(select: types.ModuleType) -> types.ModuleType:
    """`select` for tests that wait with it for what comes: readiness is the clock's thread's to
    tell, which a busy machine may let run late."""
    made = types.ModuleType(select.__name__)
    made.__dict__.update(vars(select))
    made.select = lambda *args: select.select(*args[:3], PATIENCE_S)  # type: ignore[attr-defined]
    return made
