"""Which local addresses an AF_INET6 socket may have (net/ipv6/af_inet6.c __inet6_bind)."""

from __future__ import annotations

import errno

from stack.core.errors import os_error
from stack.core.netdevice import net_device
from stack.core.rows import wide
from stack.inet.inet_sock import inet_can_nonlocal_bind, inet_sock
from stack.ipv6.addr import ipv6_addr_is_multicast
from stack.ipv6.if_inet6 import ipv6_chk_acast_addr, ipv6_chk_addr
from stack.ipv6.ip6_cmsg import iface_scope_id


def inet6_bind_check(
    sk: inet_sock, addr: wide, scope_id: int, dev: net_device | None = None
) -> None:
    """Check that the address is ours; a link-local one also binds the socket to its interface.

    `dev`: the interface that must have the address, unless it is global.
    Raises: OSError EINVAL (no interface given), ENODEV, EADDRNOTAVAIL.
    """
    if not addr:
        return
    net = sk.net
    if iface_scope_id(addr, 1):
        if scope_id:
            sk.sk_bound_dev_if = scope_id
        if not sk.sk_bound_dev_if:
            raise os_error(errno.EINVAL, "a link-local address needs its interface (scope id)")
    if dev is None and sk.sk_bound_dev_if:
        dev = net.dev_by_index.get(sk.sk_bound_dev_if)
        if dev is None:
            raise os_error(errno.ENODEV, f"no device with index {sk.sk_bound_dev_if}")
    if ipv6_addr_is_multicast(addr):
        return
    if inet_can_nonlocal_bind(sk, net.ipv6.sysctl.ip_nonlocal_bind):
        return
    if not ipv6_chk_addr(net, addr, dev, False) and not ipv6_chk_acast_addr(net, dev, addr):
        raise os_error(errno.EADDRNOTAVAIL, "not an address of this host")
