"""Three hosts in a row: `inner` behind a router, `outer` in front of it; both families."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from e1000emu.clock import VirtualClock
from e1000emu.lab import add_nic, mac_address
from e1000emu.links import pair
from stack.host import Host
from stack.ipv6.if_inet6 import IFA_F_TENTATIVE

INNER, INSIDE = "10.0.1.2", "10.0.1.1"
OUTER, OUTSIDE = "192.0.2.2", "192.0.2.1"
INNER6, INSIDE6 = "2001:db8:1::2", "2001:db8:1::1"
OUTER6, OUTSIDE6 = "2001:db8:2::2", "2001:db8:2::1"
ADDRS = {
    4: (INNER, INSIDE, OUTER, OUTSIDE),
    6: (INNER6, INSIDE6, OUTER6, OUTSIDE6),
}


class Lan:
    """`inner` eth0 - eth0 `router` eth1 - eth0 `outer`. Only `inner` has a default route."""

    def __init__(self, *, mtu: int = 1500, **sysctl: int) -> None:
        self.clock = VirtualClock()
        knobs = {"net.ipv6.conf.default.accept_dad": 0}
        forward = {"ip_forward": 1, "net.ipv6.conf.all.forwarding": 1}
        self.inner = Host("inner", clock=self.clock, seed=1, sysctl=knobs)
        self.router = Host("router", clock=self.clock, seed=2, sysctl=knobs | forward | sysctl)
        self.outer = Host("outer", clock=self.clock, seed=3, sysctl=knobs)
        self.hosts = (self.inner, self.router, self.outer)
        inside, outside = pair(self.clock), pair(self.clock)
        add_nic(self.inner, inside[0], mac=mac_address(1), addr=f"{INNER}/24", wait=False)
        add_nic(self.router, inside[1], mac=mac_address(2), addr=f"{INSIDE}/24")
        add_nic(self.router, outside[0], mac=mac_address(3), addr=f"{OUTSIDE}/24", wait=False)
        add_nic(self.outer, outside[1], mac=mac_address(4), addr=f"{OUTER}/24")
        if mtu != 1500:
            self.router.ifconfig("eth1", mtu=mtu)
            self.outer.ifconfig("eth0", mtu=mtu)
        self.inner.ifconfig("eth0", f"{INNER6}/64")
        self.router.ifconfig("eth0", f"{INSIDE6}/64")
        self.router.ifconfig("eth1", f"{OUTSIDE6}/64")
        self.outer.ifconfig("eth0", f"{OUTER6}/64")
        self.inner.route_add("0.0.0.0/0", via=INSIDE)
        self.inner.route_add("::/0", via=INSIDE6)
        self.clock.wait(self._settled, 10_000_000_000)

    def _settled(self) -> bool:
        devs = [dev for host in self.hosts for dev in host.dev_by_name.values()]
        return not any(
            ifp.flags & IFA_F_TENTATIVE
            for dev in devs
            if dev.ip6_ptr is not None
            for ifp in dev.ip6_ptr.addr_list
        )

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.run_for(int(seconds * 1e9))

    def close(self) -> None:
        for host in self.hosts:
            host.close()


@contextlib.contextmanager
def lan(**options: int) -> Iterator[Lan]:
    """A `Lan` that is closed in the end, its packet pools empty."""
    made = Lan(**options)
    try:
        yield made
    finally:
        made.close()
    for host in made.hosts:
        assert host.skb_small.in_use == 0, host
        assert host.skb_pages.in_use == 0, host
