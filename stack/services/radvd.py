"""Router advertisements of an interface, as by radvd: the runner of router_advertiser.py.

    service = Radvd(host.dev("eth0"), AdvertiserConfig(prefixes=(prefix_info(prefix, 64),)))
    service.stop()

It is among the services because a router serves its link. `Host.radvd` makes one with the prefixes
of the interface.
"""

from __future__ import annotations

import errno
import logging

from stack.clients.action import SetTimer
from stack.core.dev_notifier import register_netdevice_notifier, unregister_netdevice_notifier
from stack.core.errors import os_error
from stack.core.netdevice import NETDEV_DOWN, NETDEV_UNREGISTER, NETDEV_UP, net_device
from stack.core.rows import wide
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import TIMER_DEFERRABLE, mod_timer, timer_delete, timer_list
from stack.core.uapi import INFINITY_LIFE_TIME
from stack.ipv6.addr import IPV6_ADDR_SCOPE_GLOBAL, MASKS6, ipv6_addr_scope
from stack.ipv6.if_inet6 import inet6_dev
from stack.ipv6.nd_messages import RouterAdvertisement
from stack.ipv6.nd_options import ndisc_options, prefix_info
from stack.ipv6.ndisc_send import ndisc_send_skb
from stack.ipv6.saddr import ipv6_get_lladdr
from stack.services.router_advertiser import (
    Action,
    Advertise,
    AdvertiserConfig,
    Inconsistent,
    RouterAdvertiser,
)

log = logging.getLogger(__name__)

RETRY_NS = NSEC_PER_SEC
"""The interval of retries while the interface has no link-local address."""


def prefixes_of(dev: net_device) -> tuple[prefix_info, ...]:
    """The /64s of the interface's own global and unique local addresses, each once."""
    idev: inet6_dev | None = dev.ip6_ptr
    found: dict[wide, prefix_info] = {}
    for ifp in idev.addr_list if idev is not None else ():
        if ifp.prefix_len == 64 and ipv6_addr_scope(ifp.addr) == IPV6_ADDR_SCOPE_GLOBAL:
            prefix = ifp.addr & MASKS6[64]
            if ifp.valid_lft == INFINITY_LIFE_TIME:
                found.setdefault(prefix, prefix_info(prefix, 64))
            else:
                life = ifp.valid_lft, ifp.prefered_lft
                found.setdefault(prefix, prefix_info(prefix, 64, valid=life[0], prefered=life[1]))
    return tuple(found.values())


class Radvd:
    """The advertising of one interface, until `stop`. Call with the host's lock held.

    Raises: OSError EINVAL when the interface does not forward: a host must not advertise itself as
    a router (RFC 4861 6.2.1); ENODEV without IPv6; EBUSY when it advertises already.
    """

    def __init__(self, dev: net_device, config: AdvertiserConfig | None = None) -> None:
        net = dev.net
        idev: inet6_dev | None = dev.ip6_ptr
        if idev is None:
            raise os_error(errno.ENODEV, f"{net.name}: {dev.name} has no IPv6")
        if not idev.cnf.forwarding:
            raise os_error(
                errno.EINVAL,
                f"{dev.name}: set net.ipv6.conf.all.forwarding first, a host is no router",
            )
        if idev.nd.on_rs is not None:
            raise os_error(errno.EBUSY, f"{dev.name}: it advertises already")
        self.net = net
        self.dev = dev
        self.idev = idev
        config = config if config is not None else AdvertiserConfig(prefixes=prefixes_of(dev))
        self.core = RouterAdvertiser(config, net.random, dev.dev_addr)
        self.inconsistent: list[Inconsistent] = []
        self.timer = timer_list(net.machine, self._expired, TIMER_DEFERRABLE)
        idev.nd.on_rs = self._solicited
        idev.nd.on_ra = self._heard
        register_netdevice_notifier(net, self._event)

    def stop(self) -> None:
        """Send a last advertisement with router lifetime 0, and stop. Idempotent."""
        if self.idev.nd.on_rs == self._solicited:
            self.idev.nd.on_rs = self.idev.nd.on_ra = None
            unregister_netdevice_notifier(self.net, self._event)
        self._act(self.core.stop(self.net.now()))
        timer_delete(self.timer)

    def _event(self, event: int, dev: net_device) -> None:
        if dev is not self.dev:
            return
        if event == NETDEV_UP:
            if not self.core.running:
                self._begin()
        elif event == NETDEV_DOWN:
            self.core.stop(self.net.now(), final=0)
            timer_delete(self.timer)
        elif event == NETDEV_UNREGISTER:
            self.stop()

    def _begin(self) -> None:
        """Start as soon as there is a link-local address to send from."""
        if ipv6_get_lladdr(self.dev) is None:
            mod_timer(self.timer, self.net.now() + RETRY_NS)
        else:
            self._act(self.core.start(self.net.now()))

    def _expired(self, timer: timer_list) -> None:
        if not self.core.running:
            self._begin()
        else:
            self._act(self.core.timer(self.net.now()))

    def _solicited(self, source: wide) -> None:
        self._act(self.core.solicited(source, self.net.now()))

    def _heard(self, source: wide, message: RouterAdvertisement, options: ndisc_options) -> None:
        self._act(self.core.heard(message, options, self.net.now()))

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Advertise):
                saddr = ipv6_get_lladdr(self.dev)
                if saddr is not None:
                    ndisc_send_skb(self.dev, action.message, action.daddr, saddr)
            elif isinstance(action, SetTimer):
                mod_timer(self.timer, action.at_ns)
            else:
                del self.inconsistent[:-15]
                self.inconsistent.append(action)
                log.info("%s: another router's %s differs", self.dev.name, action.what)
