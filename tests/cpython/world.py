"""CPython's own test_socket over this stack: its replacement of the module `socket`.

`load()` creates a fresh copy of `test.test_socket` whose `socket` is that module: everything of the
standard library's, with sockets of one host instead of the kernel's.
"""

from __future__ import annotations

import importlib.util
import socket as stdlib
import sys
import types
from functools import wraps
from typing import Any

import pytest

from stack import dropin
from stack import socket as ours
from stack.host import Host

PATIENCE_S = 60.0
"""Timeout of CPython's tests for events that are certain, instead of one second or five."""


def socket_module(host: Host) -> types.ModuleType:
    """The standard library's socket module as `stack.dropin` makes it, AF_UNIX too of `host`.

    `socket.used` counts the calls of the stack; a test without calls tests
    nothing.
    """
    module = types.ModuleType("socket")
    module.__dict__.update(vars(stdlib))
    names = dropin.names(host, kernel=())
    made = names.pop("socket")

    class Counted(type(made)):  # type: ignore[misc]
        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            cls.used += 1
            return super().__call__(*args, **kwargs)

    kind: Any = Counted("socket", (made,), {"used": 0})

    def counted(function: Any) -> Any:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            kind.used += 1
            return function(*args, **kwargs)

        return call

    vars(module).update({name: counted(function) for name, function in names.items()})
    for name in ("CMSG_LEN", "CMSG_SPACE"):
        setattr(module, name, counted(getattr(ours, name)))
    module.socket = module.SocketType = kind  # type: ignore[attr-defined]
    return module


def load(host: Host) -> types.ModuleType:
    """`test.test_socket` with the sockets of `host`. Skips if Python has no tests installed."""
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
