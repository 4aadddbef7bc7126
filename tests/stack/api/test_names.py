"""The short names `stack.socket` and `stack.aio`: the modules of stack.api themselves."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

import stack
from stack.api import aio, socket

ROOT = Path(__file__).parents[3]
MODULES = {"socket": socket, "aio": aio}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_the_short_name_is_the_module_itself(name: str) -> None:
    assert importlib.import_module(f"stack.{name}") is MODULES[name]
    assert getattr(stack, name) is MODULES[name]
    assert importlib.import_module(f"stack.{name}") is sys.modules[f"stack.api.{name}"]


@pytest.mark.parametrize("first", ["stack.socket", "stack.aio", "stack.api.socket", "stack.host"])
def test_it_is_one_module_whatever_was_imported_first(first: str) -> None:
    """A program of its own: here the names are imported already."""
    program = f"""
import {first}
import stack.socket as a, stack.api.socket as b, stack.aio as c, stack.api.aio as d
from stack import socket, aio
from stack.socket import Socket
assert a is b is socket and c is d is aio and a.Socket is Socket is d.Socket
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_pickles_and_tracebacks_name_the_module_that_has_the_source() -> None:
    assert pickle.loads(pickle.dumps(socket.create_server)) is socket.create_server
    assert socket.Socket.__module__ == "stack.api.socket"
    with pytest.raises(TypeError) as caught:
        socket.create_server(None, ("10.0.0.1", 80))  # type: ignore[arg-type]
    files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert any(file.endswith("stack/api/socket.py") for file in files)


@pytest.mark.parametrize("name", ["socket.py", "sysctl.py"])
def test_no_two_files_of_the_stack_have_such_a_name(name: str) -> None:
    """The short name's five lines apart."""
    found = [p for p in (ROOT / "stack").rglob(name) if p != ROOT / "stack/socket.py"]
    assert len(found) == 1
