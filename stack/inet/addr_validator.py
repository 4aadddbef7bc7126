"""Validators of new addresses: inetaddr_validator_chain and inet6addr_validator_chain in one.

net/ipv4/devinet.c, net/ipv6/addrconf_core.c. Called before an address is added to an interface.
"""

from __future__ import annotations

from collections.abc import Callable

from stack.core.netdevice import net_device
from stack.core.rows import wide
from stack.net import Net

CHAIN = "addr_validator_chain"
"""Its name in `net.gen`."""


def register_addr_validator(net: Net, fn: Callable[[net_device, wide, int], int]) -> None:
    """Register `fn(dev, addr, AF_INET | AF_INET6)`, which returns 0 or -errno."""
    net.gen.setdefault(CHAIN, []).append(fn)


def validate_addr(dev: net_device, addr: wide, family: int) -> int:
    """Call the validators. 0, or the first -errno."""
    for fn in dev.net.gen.get(CHAIN, ()):
        err: int = fn(dev, addr, family)
        if err:
            return err
    return 0
