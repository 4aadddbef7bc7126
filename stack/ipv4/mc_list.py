"""The groups an interface is a member of (include/linux/igmp.h)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stack.core.rows import row, state
from stack.core.timer import TIMER_DEFERRABLE, timer_list
from stack.core.uapi import IPPROTO_IGMP
from stack.inet.mc_filter import mc_group

if TYPE_CHECKING:
    from stack.ipv4.devinet import in_device


@state
class ip_mc_list(mc_group):
    """struct ip_mc_list: one group on one interface."""

    interface: in_device
    multiaddr: int
    expire: Callable[[timer_list], None]
    reporter: bool = row(False)
    unsolicit_count: int = row(0)
    timer: timer_list = row(
        of=lambda im: timer_list(im.interface.dev.machine, im.expire, TIMER_DEFERRABLE, data=im)
    )

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
    """net/ipv4/igmp.c: whether this interface listens to the group (from that source)."""
    im = ip_mc_lookup(in_dev, mc_addr)
    if im is None:
        return False
    return proto == IPPROTO_IGMP or not src_addr or im.filter.wants(src_addr)
