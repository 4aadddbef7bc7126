"""A network namespace for programs: the `ip` commands, and sockets in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature
from types import NoneType
from typing import Any

from fastpath.errors import ArgumentError, check_type, known_words, whole_number
from stack.api.links import Links
from stack.api.programs import Program, spawn
from stack.api.qdisc import class_add, qdisc_add, qdisc_show
from stack.api.rules import ip_rule_add, ip_rule_del
from stack.api.socket import Socket, socketpair, unlink
from stack.clients.dhcp4_pool import Dhcp4ServerConfig
from stack.clients.resolvconf import NameService
from stack.core.dev import dev_close, dev_open, dev_set_mtu
from stack.core.dev_netns import dev_change_net_namespace
from stack.core.errors import check
from stack.core.link_watch import linkwatch_pending
from stack.core.netdevice import net_device
from stack.inet.metrics import METRICS
from stack.ipv4.devinet import inet_addr_add, inet_addr_del, parse_ifaddr
from stack.ipv4.fib import ip_route_add, ip_route_del
from stack.ipv6.addr import parse_addr6, parse_ifaddr6
from stack.ipv6.addrconf import inet6_addr_add, inet6_addr_del
from stack.ipv6.route_config import (
    ip6_route_add,
    ip6_route_del,
    ip6_route_info_create,
)
from stack.machine import Machine
from stack.net import Net, check_net
from stack.sched.sch_api import qdisc_graft
from stack.services.dhcpd import Dhcpd, dhcp4_server_config
from stack.services.radvd import Radvd
from stack.services.router_advertiser import AdvertiserConfig
from stack.sysctl import sysctl_table


class Namespace(Links):
    """A network namespace and its administration.

    `Host.netns_add` creates one; a Host is its machine's first. Interfaces move within one
    machine (`set_netns`). Closing it closes its sockets; hardware returns to the first one.
    """

    __slots__ = ()

    def __init__(
        self,
        machine: Machine,
        name: str,
        *,
        uid: int = 0,
        gid: int = 0,
        sysctl: Mapping[str, Any] | None = None,
    ) -> None:
        first = not machine.net_namespace_list
        table = sysctl_table(machine.ram.size_bytes, sysctl, first=first)
        super().__init__(machine, name, NameService(), table, uid=uid, gid=gid)

    def ifconfig(
        self,
        name: str,
        addr: str | None = None,
        *,
        up: bool | None = None,
        mtu: int | None = None,
    ) -> None:
        """Configure an interface: set `mtu`, add `addr`, then bring it up or down.

        `addr`: "10.0.0.1/24" or "2001:db8::2/64". An IPv6 address can be used after duplicate
        address detection, a second or two after the interface is up.

        Raises: OSError: with the kernel's errno. ArgumentError (a ValueError): not an address with
        prefix length, not an integer.
        """
        with self.lock:
            dev = self.dev(name)
            if mtu is not None:
                mtu = whole_number(f"{self.name}.ifconfig", "mtu", mtu, unit="bytes")
                check(dev_set_mtu(dev, mtu), f"{name}: mtu {mtu}")
            if addr is not None:
                if ":" in str(addr):
                    inet6_addr_add(dev, *parse_ifaddr6(addr))
                else:
                    inet_addr_add(dev, *parse_ifaddr(addr))
            if up is not None:
                check_type("ifconfig", "up", up, int, "True or False")
                if up:
                    check(dev_open(dev), f"{name}: open")
                else:
                    dev_close(dev)

    def addr_del(self, name: str, addr: str) -> None:
        """Remove an address such as "10.0.0.1/24" or "2001:db8::2/64".

        Raises: OSError: EADDRNOTAVAIL, the interface does not have it.
        """
        check_type("addr_del", "addr", addr, str, "text such as 10.0.0.1/24")
        with self.lock:
            if ":" in addr:
                inet6_addr_del(self.dev(name), *parse_ifaddr6(addr))
            else:
                inet_addr_del(self.dev(name), *parse_ifaddr(addr))

    def radvd(self, name: str, config: AdvertiserConfig | None = None) -> Radvd:
        """Advertise the interface's prefixes, or as `config` says, until the result's `stop()`.

        Raises:
            OSError: EINVAL, the interface does not forward; ENODEV; EBUSY, it advertises already.
        """
        with self.lock:
            return Radvd(self.dev(name), config)

    def dhcpd(self, name: str, config: Dhcp4ServerConfig | str, **options: Any) -> Dhcpd:
        """Assign addresses by DHCPv4 on the interface until the result's `stop()`.

        `config`: a range of the interface's network as text, "10.0.0.50-10.0.0.99", with `options`
        of `dhcp4_server_config` (stack.services.dhcpd): router, dns, domain, reserved, lease_s ...

        Raises: OSError: ENODEV; EADDRINUSE, port 67 is in use. ArgumentError: values that
        cannot be assigned, with the remedy.
        """
        with self.lock:
            dev = self.dev(name)
            if isinstance(config, str):
                config = dhcp4_server_config(dev, config, **options)
            elif options:
                given = ", ".join(options)
                raise ArgumentError(f"dhcpd: {given} beside a configuration; put them into it")
            return Dhcpd(dev, config)

    def route_add(
        self, prefix: str, via: str | None = None, dev: str | None = None, **kw: Any
    ) -> None:
        """`ip route add PREFIX [via GW] [dev DEV]`, of either family.

        `prefix`: "10.0.0.0/8", "2001:db8::/32", "::/0" or "default", of the gateway's
        family; an IPv4 prefix may have an IPv6 gateway. `kw` are arguments of `ip_route_add`
        (stack.ipv4.fib) or `ip6_route_add` (stack.ipv6.route_config): src, metric, rtype, onlink,
        replace ..., and the route's metrics (stack.inet.metrics): mtu, advmss, initcwnd ...

        Raises: OSError: with the kernel's errno. ArgumentError: bad text, an argument that routes
        of the family do not have, or a table that no rule refers to.
        """
        with self.lock:
            call = _route_call("route_add", ip_route_add, ip6_route_add, prefix, via, dev, kw)
            if via is not None and ":" in via and call is ip_route_add:
                call(self, prefix, nexthops=[(parse_addr6(via), dev, 1)], **kw)
                return
            call(self, prefix, via=via, dev=dev, **kw)

    def route_del(
        self, prefix: str, via: str | None = None, dev: str | None = None, **kw: Any
    ) -> None:
        """`ip route del`; `kw`: metric, table, and of IPv4 tos. Raises: as route_add."""
        with self.lock:
            call = _route_call("route_del", ip_route_del, ip6_route_del, prefix, via, dev, kw)
            call(self, prefix, via=via, dev=dev, **kw)

    def qdisc_add(
        self, name: str, kind: str, *, parent: str = "root", handle: str | None = None, **opt: Any
    ) -> None:
        """`tc qdisc replace dev NAME parent PARENT handle HANDLE KIND ...`.

        `opt` are the members of Linux's structures and attributes, in their units: rates in
        bytes/s, sizes in bytes (stack.netlink.tc_attrs). A float is a probability, 0.01 is 1%.
        qdisc_add("eth0", "tbf", rate=125_000, burst=3000, limit=10_000)

        Raises: OSError: with the kernel's errno: ENODEV, EINVAL ... ArgumentError: unknown
        discipline, parameter or parent.
        """
        with self.lock:
            qdisc_add(self.dev(name), kind, parent, handle, opt)

    def qdisc_del(self, name: str) -> None:
        """`tc qdisc del dev NAME root`: restore the default discipline. Raises: OSError ENODEV."""
        with self.lock:
            qdisc_graft(self.dev(name), None)

    def qdisc_show(self, name: str) -> list[dict[str, Any]]:
        """`tc -s qdisc show dev NAME`: parameters and statistics. Raises: OSError ENODEV."""
        with self.lock:
            return qdisc_show(self.dev(name))

    def class_add(self, name: str, classid: str, *, parent: str = "root", **opt: Any) -> None:
        """`tc class replace dev NAME parent PARENT classid CLASSID ...`. Raises: as qdisc_add."""
        with self.lock:
            class_add(self.dev(name), classid, parent, opt)

    def rule_add(self, table: int | None = None, **words: Any) -> None:
        """`ip rule add [from SRC] [to DST] [fwmark MARK] ... table N`, of either family.

        `words`: src, dst ("10.0.0.0/8"), mark, mask, iif, oif, tos, ipproto, sport and dport (a
        port, or (first, last)), uidrange, priority, suppress_prefixlength, invert. In place of
        `table`: goto (a priority) or action ("blackhole", "unreachable", "prohibit", "nop").
        `family` is 6 for an IPv6 rule without addresses.

        Raises: OSError: EEXIST, EINVAL. ArgumentError: an unknown argument or invalid value.
        """
        with self.lock:
            ip_rule_add(self, {"table": table, **words} if table is not None else words)

    def rule_del(self, table: int | None = None, **words: Any) -> None:
        """`ip rule del`: the first rule with these fields. Raises: ENOENT; as above."""
        with self.lock:
            ip_rule_del(self, {"table": table, **words} if table is not None else words)

    def wait_carrier(self, name: str, timeout_ns: int = 10_000_000_000) -> bool:
        """Wait until the interface's link is up (and its queue active). False after the timeout."""
        dev = self.dev(name)
        timeout_ns = whole_number("wait_carrier", "timeout_ns", timeout_ns, 0, unit="ns")
        with self.lock:
            return bool(self.clock.wait(lambda: not linkwatch_pending(dev), timeout_ns))

    def socket(self, family: int = 2, type: int = 1, proto: int = 0) -> Socket:  # noqa: A002
        """Open a socket in it, with the standard library's interface."""
        return Socket(self, family, type, proto)

    def socketpair(
        self,
        family: int = 1,
        type: int = 1,  # noqa: A002
        proto: int = 0,
    ) -> tuple[Socket, Socket]:
        """Two connected sockets in it (AF_UNIX)."""
        return socketpair(self, family, type, proto)

    def unlink(self, path: str | bytes) -> None:
        """Remove the name of an AF_UNIX socket from the namespace's paths.

        Raises: OSError: ENOENT, EISDIR, ENOTDIR.
        """
        unlink(self, path)

    def spawn(self, argv: Sequence[str], **options: Any) -> Program:
        """Start an unmodified program with this namespace's sockets: stack.api.programs.spawn.

        with host.spawn(["curl", "http://10.0.0.2/"], stdout=PIPE) as program:
            print(program.communicate()[0])
        """
        return spawn(self, argv, **options)

    def set_netns(self, name: str, net: Net, pattern: str | None = None) -> net_device:
        """`ip link set NAME netns NET`: move an interface; it arrives down and without addresses.

        `pattern` ("eth%d") selects a new name if its name exists there.

        Raises:
            OSError: ENODEV; EINVAL for `lo`; EEXIST, the name is taken; EXDEV, on another machine.
        """
        check_net(f"{self.name}.set_netns", net)
        with self.lock:
            dev = self.dev(name)
            check(dev_change_net_namespace(dev, net, pattern), f"{name}: netns {net.name}")
        return dev


ROUTE_WORDS = {
    **dict.fromkeys(("gateway", "gw", "nexthop"), "via"),
    **dict.fromkeys(("device", "interface", "iface", "oif"), "dev"),
    **dict.fromkeys(("source", "prefsrc"), "src"),
    **dict.fromkeys(("priority", "preference"), "metric"),
}
"""Common alternative names of arguments of `route_add`."""


def _route_call(
    where: str,
    ip: Callable[..., object],
    ip6: Callable[..., object],
    prefix: str,
    via: str | None,
    dev: object,
    words: Mapping[str, Any],
) -> Callable[..., object]:
    """The family's function, after checking the arguments. Raises: ArgumentError."""
    check_type(where, "prefix", prefix, str, "text such as 10.0.0.0/8, or default")
    check_type(where, "via", via, (str, NoneType), "text such as 10.0.0.1")
    check_type(where, "dev", dev, (str, net_device, NoneType), "an interface, or its name")
    six = ":" in prefix or (via is not None and ":" in via and prefix == "default")
    call = ip6 if six else ip
    taken = [*signature(call).parameters.values()]
    if call is ip6_route_add:
        taken += signature(ip6_route_info_create).parameters.values()
    known = [p.name for p in taken if p.kind is Parameter.KEYWORD_ONLY]
    if call in (ip_route_add, ip6_route_add):
        known += METRICS
    known_words(f"{where} of IPv{6 if six else 4}", words, known, ROUTE_WORDS)
    return call
