"""A board with optics: its link set up, looked for, forced, met again; what ethtool says of it."""

from __future__ import annotations

import errno
from socket import AF_INET, SOCK_DGRAM

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from e1000emu.links.farend import FarEnd
from e1000emu.registers.models import MODELS
from e1000emu.testing.recorders import RecordingLink
from stack.core import ethtool as core
from stack.core.dev import dev_get_by_name, dev_open
from stack.core.netdevice import netif_carrier_ok
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000.ethtool import (
    e1000_get_regs,
    e1000_get_wol,
    e1000_set_link_ksettings,
    e1000_set_pauseparam,
)
from stack.drivers.e1000.selftest import e1000_diag_test
from tests.stack.drivers.e1000.machine import SECOND, Machine, bring_up, plug

FIBER = [name for name, part in MODELS.items() if part.fiber]


def fiber(model: str = FIBER[0], *, far: FarEnd | None = None, up: bool = True) -> Machine:
    link = RecordingLink()
    link.far_end = far
    machine = plug(VirtualClock(), link, model=model)
    if up:
        bring_up(machine)
    return machine


def light(machine: Machine, on: bool, far: FarEnd | None = None) -> None:
    """Plug or pull the fibre, and let the watchdog look twice."""
    machine.link.far_end = far
    machine.link.set_carrier(on)
    machine.run(6 * SECOND)


@pytest.mark.parametrize("model", FIBER)
def test_the_link_is_negotiated(model: str) -> None:
    machine = fiber(model)
    hw = machine.adapter.hw
    assert hw.media_type == d.e1000_media_type_fiber
    assert machine.reg(d.E1000_TXCW) & d.E1000_TXCW_ANE
    assert not machine.reg(d.E1000_CTRL) & (d.E1000_CTRL_SLU | d.E1000_CTRL_LRST)
    assert (machine.adapter.link_speed, machine.adapter.link_duplex) == (1000, d.FULL_DUPLEX)
    assert machine.adapter.hw_errors == 0
    assert machine.nic.misuse.total == 0
    assert machine.send(b"x" * 100) == 0
    machine.run()
    assert len(machine.link.frames) == 1


@pytest.mark.parametrize("model", FIBER)
def test_light_goes_and_comes_back(model: str) -> None:
    machine = fiber(model)
    light(machine, False)
    assert not netif_carrier_ok(machine.dev)
    light(machine, True)
    assert netif_carrier_ok(machine.dev)
    assert machine.reg(d.E1000_TXCW) & d.E1000_TXCW_ANE


def test_a_board_without_light_gets_it_later() -> None:
    machine = fiber(up=False)
    machine.link.set_carrier(False)
    assert dev_open(machine.dev) == 0
    machine.run(10 * SECOND)
    assert not netif_carrier_ok(machine.dev)
    light(machine, True)
    assert netif_carrier_ok(machine.dev)


def test_a_far_end_that_does_not_negotiate_has_its_link_forced() -> None:
    machine = fiber(far=FarEnd(negotiates=False))
    assert netif_carrier_ok(machine.dev)
    assert not machine.reg(d.E1000_TXCW) & d.E1000_TXCW_ANE
    both = d.E1000_CTRL_RFCE | d.E1000_CTRL_TFCE
    assert machine.reg(d.E1000_CTRL) & (d.E1000_CTRL_SLU | both) == d.E1000_CTRL_SLU | both
    # it begins to: the hardware negotiates again
    light(machine, True, FarEnd(pause=False))
    assert netif_carrier_ok(machine.dev)
    assert machine.reg(d.E1000_TXCW) & d.E1000_TXCW_ANE
    assert not machine.reg(d.E1000_CTRL) & (d.E1000_CTRL_SLU | both)


@pytest.mark.parametrize(
    ("wanted", "offered"),
    [
        ((False, False), 0),
        ((True, False), d.E1000_TXCW_PAUSE_MASK),
        ((False, True), d.E1000_TXCW_ASM_DIR),
        ((True, True), d.E1000_TXCW_PAUSE_MASK),
    ],
)
def test_pause_that_is_wanted_is_offered(wanted: tuple[bool, bool], offered: int) -> None:
    machine = fiber(far=FarEnd(asm_dir=True))
    assert e1000_set_pauseparam(machine.dev, core.ethtool_pauseparam(True, *wanted)) == 0
    machine.run(6 * SECOND)
    assert machine.reg(d.E1000_TXCW) & d.E1000_TXCW_PAUSE_MASK == offered
    assert bool(machine.reg(d.E1000_CTRL) & d.E1000_CTRL_TFCE) is bool(offered)


def test_what_ethtool_shows() -> None:
    machine = fiber()
    link = core.ethtool_get_settings(machine.dev)
    assert (link.port, link.speed) == (core.PORT_FIBRE, 1000)
    assert link.supported == link.advertising == ["1000baseT/Full"]
    assert link.eth_tp_mdix == core.ETH_TP_MDI_INVALID
    assert e1000_get_wol(machine.dev).supported == 0
    status = e1000_get_regs(machine.dev).data[1]
    assert status & d.E1000_STATUS_TBIMODE
    assert machine.nic.misuse.total == 0  # nobody asks for a PHY


def test_only_a_gigabit_can_be_asked_for() -> None:
    machine = fiber()
    slow = core.ethtool_link_ksettings(100, core.DUPLEX_FULL, autoneg=False)
    assert e1000_set_link_ksettings(machine.dev, slow) == -errno.EINVAL
    crossed = core.ethtool_link_ksettings(1000, core.DUPLEX_FULL)
    crossed.eth_tp_mdix_ctrl = core.ETH_TP_MDI_X
    assert e1000_set_link_ksettings(machine.dev, crossed) == -errno.EOPNOTSUPP
    fast = core.ethtool_link_ksettings(1000, core.DUPLEX_FULL, autoneg=False)
    assert e1000_set_link_ksettings(machine.dev, fast) == 0
    machine.run(6 * SECOND)
    assert netif_carrier_ok(machine.dev)


@pytest.mark.parametrize("model", FIBER)
def test_the_self_test_passes(model: str) -> None:
    machine = fiber(model)
    assert e1000_diag_test(machine.dev, 1) == (False, [0] * 5)
    assert machine.host.wait_carrier(machine.dev.name)


def test_two_boards_on_one_fibre() -> None:
    """What either driver offers reaches the other's board, and is what both act by."""
    hosts = two_hosts(models=(FIBER[0], FIBER[-1]))
    a, b = (dev_get_by_name(host, "eth0") for host in hosts)
    assert a is not None
    assert b is not None
    nics = [host.nics["eth0"] for host in hosts]
    flow = d.E1000_CTRL_RFCE | d.E1000_CTRL_TFCE
    assert [nic.regs["CTRL"] & flow for nic in nics] == [flow, flow]
    assert e1000_set_pauseparam(b, core.ethtool_pauseparam(True, False, True)) == 0
    hosts[0].clock.run_for(6 * SECOND)
    assert netif_carrier_ok(a)
    assert netif_carrier_ok(b)
    assert nics[0].regs["RXCW"] & d.E1000_TXCW_PAUSE_MASK == d.E1000_TXCW_ASM_DIR
    assert [nic.regs["CTRL"] & flow for nic in nics] == [d.E1000_CTRL_RFCE, d.E1000_CTRL_TFCE]
    assert sum(nic.misuse.total for nic in nics) == 0
    sender, receiver = (host.socket(AF_INET, SOCK_DGRAM) for host in hosts)
    receiver.bind(("10.0.0.2", 9))
    sender.sendto(b"light", ("10.0.0.2", 9))
    assert receiver.recv(100) == b"light"
    for host in hosts:
        host.close()
