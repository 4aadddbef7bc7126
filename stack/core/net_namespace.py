"""net/core/net_namespace.c: set-up and teardown of a machine's network namespaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stack.machine import Machine
    from stack.net import Net


@dataclass(frozen=True, slots=True)
class pernet_operations:
    """include/net/net_namespace.h: a subsystem's part of each namespace.

    `init(net)` sets its fields. When the namespace ends, every `pre_exit(net)` runs while its
    devices still work, then every `exit(net)`; both from the last registered to the first.
    """

    init: Callable[[Net], None] | None = None
    exit: Callable[[Net], None] | None = None
    pre_exit: Callable[[Net], None] | None = None
    device: bool = False
    """register_pernet_device: it ends before all subsystems, because its devices use them."""


def register_pernet_subsys(machine: Machine, ops: pernet_operations) -> None:
    """net/core/net_namespace.c: set up `ops` in every namespace, those that exist included."""
    ops_list = machine.pernet_list
    at = len(ops_list)
    while at and ops_list[at - 1].device:
        at -= 1
    _register(machine, ops, at)


def load_module(machine: Machine, name: str, ops: pernet_operations) -> None:
    """Load a module on first use (request_module): set up its part of every namespace."""
    if name not in machine.modules:
        machine.modules.append(name)
        register_pernet_subsys(machine, ops)


def register_pernet_device(machine: Machine, ops: pernet_operations) -> None:
    """net/core/net_namespace.c: as register_pernet_subsys, behind all subsystems."""
    _register(machine, ops, len(machine.pernet_list))


def _register(machine: Machine, ops: pernet_operations, at: int) -> None:
    machine.pernet_list.insert(at, ops)
    if ops.init is not None:
        for net in machine.net_namespace_list:
            ops.init(net)


def setup_net(net: Net) -> None:
    """net/core/net_namespace.c: run every registered init, in order."""
    for ops in net.machine.pernet_list:
        if ops.init is not None:
            ops.init(net)
    net.machine.net_namespace_list.append(net)


def ops_pre_exit_list(net: Net) -> None:
    """net/core/net_namespace.c: close sockets while devices still work. Once per namespace."""
    if net.closing:
        return
    net.closing = True
    for ops in reversed(net.machine.pernet_list):
        if ops.pre_exit is not None:
            ops.pre_exit(net)


def cleanup_net(net: Net) -> None:
    """net/core/net_namespace.c: the namespace ends. Idempotent."""
    if net.closed:
        return
    ops_pre_exit_list(net)
    for ops in reversed(net.machine.pernet_list):
        if ops.exit is not None:
            ops.exit(net)
    net.closed = True
    net.machine.net_namespace_list.remove(net)
