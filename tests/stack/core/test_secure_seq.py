"""Numbers that nobody may guess: they depend on the secret of the host."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import stack
from e1000emu.clock import VirtualClock
from stack.core.secure_seq import secure_ipv4_port_ephemeral, secure_tcp_seq
from stack.host import Host
from stack.inet.af_ops import inet_ehashfn
from stack.ipv4.ip_output import ip_ident_slot

ENDS = 0x0A000001, 0x0A000002


@pytest.fixture
def two_nets():
    clock = VirtualClock()
    with Host(clock=clock, seed=1) as one, Host(clock=clock, seed=2) as other:
        yield one, other


@pytest.mark.parametrize(
    "number",
    [
        lambda net: secure_ipv4_port_ephemeral(net, *ENDS, 80),
        lambda net: secure_tcp_seq(net, *ENDS, 5000, 80),
        lambda net: inet_ehashfn(net, (2, ENDS[0], 5000, ENDS[1], 80)),
        lambda net: [ip_ident_slot(net, dst, ENDS[0], 17) for dst in range(8)],
    ],
    ids=["port", "sequence", "ends", "ident"],
)
def test_another_secret_another_number(two_nets, number) -> None:
    one, other = two_nets
    assert number(one) == number(one)
    assert number(one) != number(other)
    other.secret = one.secret
    assert number(one) == number(other)


def test_purposes_do_not_tell_each_other(two_nets) -> None:
    net, _ = two_nets
    assert secure_ipv4_port_ephemeral(net, *ENDS, 80) != secure_tcp_seq(net, *ENDS, 0, 80)


@pytest.mark.slow
def test_pythons_hash_is_not_used() -> None:
    """It has no key: who knows what is hashed knows the result."""
    found = [
        f"{path}:{node.lineno}"
        for path in Path(stack.__path__[0]).glob("*/**/*.py")
        if path.parent.name != "api"  # the caller's own values
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hash"
    ]
    assert found == []
