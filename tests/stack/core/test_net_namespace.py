"""What is set up in every namespace, in which order, and how it ends."""

from __future__ import annotations

import pytest

from e1000emu import VirtualClock
from stack.clients.resolvconf import NameService
from stack.core.net_namespace import (
    pernet_operations,
    register_pernet_device,
    register_pernet_subsys,
)
from stack.host import Host
from stack.machine import Machine
from stack.net import Net
from stack.sysctl import sysctl_table


def recorder(log, name):
    return pernet_operations(
        init=lambda net: log.append(f"{name} init {net.name}"),
        pre_exit=lambda net: log.append(f"{name} pre_exit {net.name}"),
        exit=lambda net: log.append(f"{name} exit {net.name}"),
    )


def test_subsystems_begin_in_order_and_end_backwards_devices_first():
    log: list[str] = []
    machine = Machine("m", clock=VirtualClock())
    a, b, dev = recorder(log, "a"), recorder(log, "b"), recorder(log, "dev")
    register_pernet_subsys(machine, a)
    register_pernet_device(machine, pernet_operations(dev.init, dev.exit, dev.pre_exit, True))
    register_pernet_subsys(machine, b)  # stands before the devices all the same
    net = Net(machine, "n", NameService(), sysctl_table(machine.ram.size_bytes))
    assert log == ["a init n", "b init n", "dev init n"]
    log.clear()
    net.close()
    net.close()
    assert log == [
        *("dev pre_exit n", "b pre_exit n", "a pre_exit n"),
        *("dev exit n", "b exit n", "a exit n"),
    ]
    assert machine.net_namespace_list == []
    machine.close()


def test_what_is_registered_later_is_set_up_in_the_namespaces_that_exist():
    log: list[str] = []
    with Host("h", clock=VirtualClock()) as host:
        host.netns_add("blue")
        register_pernet_subsys(host.machine, recorder(log, "late"))
        assert log == ["late init h", "late init blue"]
        host.netns_add("red")
        assert log[-1] == "late init red"
        log.clear()
    # While devices still work, in all namespaces; then each is taken down, the first one last.
    assert log == [
        *("late pre_exit red", "late pre_exit blue", "late pre_exit h"),
        *("late exit red", "late exit blue", "late exit h"),
    ]


def test_neither_class_takes_what_it_does_not_declare():
    with Host("h", clock=VirtualClock()) as host:
        blue = host.netns_add("blue")
        for what in (host, host.machine, blue):
            assert not hasattr(what, "__dict__")
            with pytest.raises(AttributeError):
                what.hung_on_from_outside = 1
