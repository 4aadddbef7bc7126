"""The groups an interface is a member of (include/linux/igmp.h)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stack.core.timer import TIMER_DEFERRABLE, timer_list
from stack.core.uapi import IPPROTO_IGMP
from stack.inet.mc_filter import mc_changes, mc_filter

if TYPE_CHECKING:
    from stack.ipv4.devinet import in_device


class ip_mc_list:
    """struct ip_mc_list: one group on one interface."""

    __slots__ = (
        "changes",
        "filter",
        "gsquery",
        "interface",
        "loaded",
        "multiaddr",
        "reporter",
        "timer",
        "unsolicit_count",
    )

    def __init__(
        self, in_dev: in_device, multiaddr: int, expire: Callable[[timer_list], None]
    ) -> None:
        self.interface = in_dev
        self.multiaddr = multiaddr
        self.filter = mc_filter()
        self.changes = mc_changes()  # version 3 reports still to be sent
        self.reporter = False
        self.loaded = False
        self.unsolicit_count = 0
        self.gsquery: frozenset[int] = frozenset()
        self.timer = timer_list(in_dev.dev.machine, expire, flags=TIMER_DEFERRABLE, data=self)

    @property
    def users(self) -> int:
        """Number of listeners, with any filter."""
        return self.filter.users


def ip_mc_lookup(in_dev: in_device, addr: int) -> ip_mc_list | None:
    """The group on the interface, or None."""
    for im in in_dev.mc_list:
        if im.multiaddr == addr:
            return im
    return None


def ip_check_mc_rcu(in_dev: in_device, mc_addr: int, src_addr: int, proto: int) -> bool:
    """net/ipv4/igmp.c: does this interface listen to the group (from that source)?"""
    im = ip_mc_lookup(in_dev, mc_addr)
    if im is None:
        return False
    return proto == IPPROTO_IGMP or not src_addr or im.filter.wants(src_addr)
