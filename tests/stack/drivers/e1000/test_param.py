"""Module parameters: ranges, defaults, messages."""

from __future__ import annotations

import pytest

from stack.drivers.e1000 import defs as d
from stack.drivers.e1000.param import OPTIONS, Choice, Params, Range
from tests.stack.drivers.e1000.machine import recorded


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_values_outside_the_range_give_the_default_and_a_message(name: str) -> None:
    option = OPTIONS[name]
    bad = 99_999_999
    params = Params({name: bad})
    assert params.get(name) == option.default
    assert params.messages == [
        f"Invalid {name} value specified ({bad}), using default of {option.default}"
    ]


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_the_limits_are_allowed(name: str) -> None:
    option = OPTIONS[name]
    values = option.values if isinstance(option, Choice) else (option.low, option.high)
    for value in values:
        params = Params({name: value})
        assert params.get(name) == value
        assert params.messages == []
    if isinstance(option, Range):
        assert Params({name: option.high + 1}).get(name) == option.default


def test_an_unknown_parameter_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="unknown parameter 'TxDescriptor'"):
        Params({"TxDescriptor": 64})


@pytest.mark.parametrize("special", [0, 1, 3])
def test_throttle_modes_are_no_rates(special: int) -> None:
    assert Params({"InterruptThrottleRate": special}).get("InterruptThrottleRate") == special


def test_ring_sizes_are_rounded_up_to_eight() -> None:
    machine = recorded(up=False, TxDescriptors=49, RxDescriptors=81)
    assert (machine.adapter.tx_ring_count, machine.adapter.rx_ring_count) == (56, 88)


@pytest.mark.parametrize(
    ("speed", "duplex", "autoneg", "advertised", "forced"),
    [
        (0, 0, True, 0x2F, 0),
        (0, 1, True, d.ADVERTISE_10_HALF | d.ADVERTISE_100_HALF, 0),
        (0, 2, True, 0x2A, 0),
        (10, 0, True, 0x03, 0),
        (10, 1, False, 0, 0),
        (10, 2, False, 0, 1),
        (100, 0, True, 0x0C, 0),
        (100, 1, False, 0, 2),
        (100, 2, False, 0, 3),
        (1000, 0, True, 0x20, 0),
        (1000, 1, True, 0x20, 0),
        (1000, 2, True, 0x20, 0),
    ],
)
def test_speed_and_duplex(
    speed: int, duplex: int, autoneg: bool, advertised: int, forced: int
) -> None:
    hw = recorded(up=False, Speed=speed, Duplex=duplex).adapter.hw
    assert (hw.autoneg, hw.autoneg_advertised, hw.forced_speed_duplex) == (
        autoneg,
        advertised,
        forced,
    )


def test_autoneg_mask_limits_what_is_offered() -> None:
    machine = recorded(AutoNeg=0x0F)
    assert machine.adapter.link_speed == 100


def test_autoneg_beside_speed_is_ignored_with_a_message() -> None:
    params = recorded(up=False, AutoNeg=0x01, Speed=100, Duplex=2).adapter.params
    assert params.messages == ["AutoNeg specified along with Speed or Duplex, parameter ignored"]


def test_receive_checksum_can_be_off_from_the_start() -> None:
    machine = recorded(XsumRX=0)
    assert not machine.reg(d.E1000_RXCSUM) & d.E1000_RXCSUM_TUOFL


@pytest.mark.parametrize("delay", [0, 5, 0xFFFF])
def test_interrupt_delays_reach_the_registers(delay: int) -> None:
    machine = recorded(RxIntDelay=delay, RxAbsIntDelay=delay, TxIntDelay=delay, TxAbsIntDelay=delay)
    assert machine.reg(d.E1000_RDTR) == delay
    assert machine.reg(d.E1000_RADV) == delay
    assert machine.reg(d.E1000_TIDV) == max(delay, 1)
    assert machine.reg(d.E1000_TADV) == delay


@pytest.mark.parametrize(("flow", "bits"), [(0, 0), (1, d.E1000_CTRL_RFCE), (3, 0x1800_0000)])
def test_flow_control_parameter(flow: int, bits: int) -> None:
    machine = recorded(FlowControl=flow)
    assert machine.reg(d.E1000_CTRL) & (d.E1000_CTRL_RFCE | d.E1000_CTRL_TFCE) == bits
