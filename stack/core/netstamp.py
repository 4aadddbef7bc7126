"""net/core/dev.c: the time at which packets came, kept while a socket of the machine asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath.base.skbuff import sk_buff

if TYPE_CHECKING:
    from stack.machine import Machine


def net_enable_timestamp(machine: Machine) -> None:
    """net/core/dev.c: one more socket asks."""
    machine.net_hotdata.netstamp_needed += 1


def net_disable_timestamp(machine: Machine) -> None:
    """net/core/dev.c: one less."""
    machine.net_hotdata.netstamp_needed -= 1


def net_timestamp_check(skb: sk_buff, machine: Machine) -> None:
    """net/core/dev.c: a packet that has no time yet came now; call with `netstamp_needed`.

    0 is no time, so the first instant of a clock is its first nanosecond.
    """
    if not skb.tstamp_ns:
        skb.tstamp_ns = machine.clock.now_ns() or 1


def net_timestamp_set(skb: sk_buff, machine: Machine) -> None:
    """net/core/dev.c: give a packet that is sent the current time, or 0 if no socket asks."""
    skb.tstamp_ns = 0
    if machine.net_hotdata.netstamp_needed:
        net_timestamp_check(skb, machine)
