"""Module parameters with their ranges (e1000_param.c).

A value outside its range gives a message and the default, as in the kernel, but no error,
because a module must load. `Params.messages` holds what ``dmesg`` would show.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stack.drivers.e1000 import defs as d
from stack.drivers.e1000 import e1000 as e
from stack.drivers.e1000.e1000 import e1000_adapter

UNSET = -1

MAX_TXDELAY = 0xFFFF
MAX_RXDELAY = 0xFFFF
MAX_ITR = 100_000
MIN_ITR = 100

ITR_OFF = 0
ITR_DYNAMIC = 1
ITR_DYNAMIC_CONSERVATIVE = 3
ITR_STARTING_RATE = 20_000
DEFAULT_ITR = ITR_OFF
"""Off is fastest: the emulated device raises one interrupt per batch and NAPI masks it while it
polls, so throttling only adds a timer event and latency. The kernel's default is 3."""

COPYBREAK_DEFAULT = 256
"""Received frames up to this length (bytes) are copied into small buffers."""
MAX_COPYBREAK = 512
"""Larger frames and their headroom do not fit into a buffer of net.skb_small_head."""

DEFAULT_TIDV = 0
"""No IDE: transmit interrupts are unmasked only while descriptors wait (see e1000_xmit_frame), so
there is nothing to delay. The kernel's default is 8."""


@dataclass(frozen=True, slots=True)
class Range:
    """A parameter that takes whole numbers from `low` to `high`."""

    low: int
    high: int
    default: int
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """A parameter that takes one of `values`."""

    values: tuple[int, ...]
    default: int


OPTIONS: dict[str, Range | Choice] = {
    "TxDescriptors": Range(e.E1000_MIN_TXD, e.E1000_MAX_82544_TXD, e.E1000_DEFAULT_TXD),
    "RxDescriptors": Range(e.E1000_MIN_RXD, e.E1000_MAX_82544_RXD, e.E1000_DEFAULT_RXD),
    "Speed": Choice((0, d.SPEED_10, d.SPEED_100, d.SPEED_1000), 0),
    "Duplex": Choice((0, d.HALF_DUPLEX, d.FULL_DUPLEX), 0),
    "AutoNeg": Range(0x01, 0x2F, d.AUTONEG_ADVERTISE_SPEED_DEFAULT),
    "FlowControl": Choice(
        (
            d.E1000_FC_NONE,
            d.E1000_FC_RX_PAUSE,
            d.E1000_FC_TX_PAUSE,
            d.E1000_FC_FULL,
            d.E1000_FC_DEFAULT,
        ),
        d.E1000_FC_DEFAULT,
    ),
    "XsumRX": Choice((0, 1), 1),
    "TxIntDelay": Range(0, MAX_TXDELAY, DEFAULT_TIDV, "1.024 us"),
    "TxAbsIntDelay": Range(0, MAX_TXDELAY, 32, "1.024 us"),
    "RxIntDelay": Range(0, MAX_RXDELAY, 0, "1.024 us"),
    "RxAbsIntDelay": Range(0, MAX_RXDELAY, 8, "1.024 us"),
    "InterruptThrottleRate": Range(MIN_ITR, MAX_ITR, DEFAULT_ITR, "interrupts/s"),
    "SmartPowerDownEnable": Choice((0, 1), 0),
    "copybreak": Range(0, MAX_COPYBREAK, COPYBREAK_DEFAULT, "bytes"),
    "NAPI": Choice((0, 1), 1),
}
"""Every parameter ``modinfo e1000`` lists (debug aside), and NAPI: 0 is the driver as built without
CONFIG_E1000_NAPI, whose interrupt handler does the work itself."""

SPECIAL_ITR = (ITR_OFF, ITR_DYNAMIC, ITR_DYNAMIC_CONSERVATIVE)


@dataclass(slots=True)
class Params:
    """The parameters of one module load; UNSET means the default."""

    values: dict[str, int] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Raise an exception for unknown names, which are errors of the caller."""
        unknown = sorted(set(self.values) - set(OPTIONS))
        if unknown:
            raise ValueError(f"e1000: unknown parameter {unknown[0]!r}; known: {sorted(OPTIONS)}")

    def get(self, name: str) -> int:
        """Return the value of parameter `name`, validated (e1000_validate_option)."""
        return e1000_validate_option(self, name, self.values.get(name, UNSET))

    def given(self, name: str) -> bool:
        """Return whether the caller set `name`."""
        return self.values.get(name, UNSET) != UNSET


def e1000_validate_option(params: Params, name: str, value: int) -> int:
    """e1000_param.c: return `value`, or the default with a message when it is not allowed."""
    option = OPTIONS[name]
    if value == UNSET:
        return option.default
    if isinstance(option, Choice):
        allowed = value in option.values
    else:
        allowed = option.low <= value <= option.high
    if allowed or (name == "InterruptThrottleRate" and value in SPECIAL_ITR):
        return value
    params.messages.append(
        f"Invalid {name} value specified ({value}), using default of {option.default}"
    )
    return option.default


def e1000_check_options(adapter: e1000_adapter) -> None:
    """e1000_param.c: set the adapter from the module's parameters."""
    params = adapter.params
    hw = adapter.hw
    adapter.tx_ring_count = -(-params.get("TxDescriptors") // e.REQ_TX_DESCRIPTOR_MULTIPLE) * 8
    adapter.rx_ring_count = -(-params.get("RxDescriptors") // e.REQ_RX_DESCRIPTOR_MULTIPLE) * 8
    adapter.rx_csum = bool(params.get("XsumRX"))
    adapter.copybreak = params.get("copybreak")
    if not params.get("NAPI"):
        adapter.flags |= e.E1000_NO_NAPI
    hw.fc = hw.original_fc = params.get("FlowControl")
    adapter.tx_int_delay = params.get("TxIntDelay")
    adapter.tx_abs_int_delay = params.get("TxAbsIntDelay")
    adapter.rx_int_delay = params.get("RxIntDelay")
    adapter.rx_abs_int_delay = params.get("RxAbsIntDelay")
    e1000_set_itr_setting(adapter, params.get("InterruptThrottleRate"))
    params.get("SmartPowerDownEnable")  # checked; the PHYs of this driver have no such mode
    e1000_check_copper_options(adapter)


def e1000_set_itr_setting(adapter: e1000_adapter, rate: int) -> None:
    """Apply InterruptThrottleRate: 0 off, 1 and 3 dynamic, else interrupts per second.

    The low two bits of itr_setting keep the mode, so a fixed rate loses them (as in the kernel).
    """
    if rate in (ITR_DYNAMIC, ITR_DYNAMIC_CONSERVATIVE):
        adapter.itr_setting = rate
        adapter.itr = ITR_STARTING_RATE
    elif rate == ITR_OFF:
        adapter.itr_setting = adapter.itr = 0
    else:
        adapter.itr = rate
        adapter.itr_setting = rate & ~3


def e1000_check_copper_options(adapter: e1000_adapter) -> None:
    """e1000_param.c: Speed, Duplex and AutoNeg select negotiation or a forced link."""
    params = adapter.params
    hw = adapter.hw
    speed, duplex = params.get("Speed"), params.get("Duplex")
    advertise = params.get("AutoNeg")
    if params.given("AutoNeg") and (speed or duplex):
        params.messages.append("AutoNeg specified along with Speed or Duplex, parameter ignored")
        advertise = d.AUTONEG_ADVERTISE_SPEED_DEFAULT
    hw.autoneg = True
    hw.autoneg_advertised = advertise
    match speed, duplex:
        case (0, 0):
            pass
        case (0, d.HALF_DUPLEX):
            hw.autoneg_advertised = d.ADVERTISE_10_HALF | d.ADVERTISE_100_HALF
        case (0, d.FULL_DUPLEX):
            hw.autoneg_advertised = (
                d.ADVERTISE_10_FULL | d.ADVERTISE_100_FULL | d.ADVERTISE_1000_FULL
            )
        case (d.SPEED_10, 0):
            hw.autoneg_advertised = d.ADVERTISE_10_HALF | d.ADVERTISE_10_FULL
        case (d.SPEED_100, 0):
            hw.autoneg_advertised = d.ADVERTISE_100_HALF | d.ADVERTISE_100_FULL
        case (d.SPEED_1000, _):
            if duplex == d.HALF_DUPLEX:
                params.messages.append("Half Duplex is not supported at 1000 Mbps")
            hw.autoneg_advertised = d.ADVERTISE_1000_FULL
        case _:
            hw.autoneg = False
            hw.autoneg_advertised = 0
            hw.forced_speed_duplex = (2 if speed == d.SPEED_100 else 0) | (
                1 if duplex == d.FULL_DUPLEX else 0
            )
