"""net/core/dev.c: receive time stamps, taken while a socket of the machine needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath.base.skbuff import sk_buff

if TYPE_CHECKING:
    from stack.machine import Machine


def net_enable_timestamp(machine: Machine) -> None:
    """net/core/dev.c: count a socket that needs time stamps."""
    machine.net_hotdata.netstamp_needed += 1


def net_disable_timestamp(machine: Machine) -> None:
    """net/core/dev.c: one less."""
    machine.net_hotdata.netstamp_needed -= 1


def net_timestamp_check(skb: sk_buff, machine: Machine) -> None:
    """net/core/dev.c: stamp a packet that has no time yet; call with `netstamp_needed`.

    0 is no time, so the first instant of a clock is its first nanosecond.
    """
    if not skb.tstamp_ns:
        skb.tstamp_ns = machine.clock.now_ns() or 1


def net_timestamp_set(skb: sk_buff, machine: Machine) -> None:
    """net/core/dev.c: stamp a sent packet with the current time, or 0 if no socket needs it."""
    skb.tstamp_ns = 0
    if machine.net_hotdata.netstamp_needed:
        net_timestamp_check(skb, machine)
