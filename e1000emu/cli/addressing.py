"""How a host of ours on a link gets its addresses: --addr, --gw, --dhcp, --slaac, --dns.

Any number of addresses of both families; a command gets them as one `Addressing`.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from e1000emu.cli.errors import ArgumentError
from e1000emu.cli.params import CIDR, IP
from e1000emu.cli.stackspec import mac_for
from e1000emu.cli.waiting import Wait
from e1000emu.errors import E1000Error
from e1000emu.quantities import SECOND_NS

if TYPE_CHECKING:
    from stack.host import Host
    from stack.services.run_dhcp4 import Dhcp4Runner
    from stack.services.run_dhcp6 import Dhcp6Runner

    Client: TypeAlias = Dhcp4Runner | Dhcp6Runner

Interface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

DEVICE = "eth0"
WAIT_NS = 30 * SECOND_NS
DAD_WAIT_NS = 10 * SECOND_NS


@dataclass(frozen=True, slots=True)
class Addressing:
    """The values of the options."""

    addrs: tuple[Interface, ...] = ()
    gws: tuple[Address, ...] = ()
    dns: tuple[Address, ...] = ()
    dhcp: bool = False
    slaac: bool = False

    def first(self, version: int) -> Any:
        """The first address of IP version 4 or 6, or None."""
        return next((addr for addr in self.addrs if addr.version == version), None)

    def gateway(self, version: int) -> Any:
        """The gateway of IP version 4 or 6, or None."""
        return next((gw for gw in self.gws if gw.version == version), None)

    def mac(self, link_spec: str) -> bytes:
        """The host's MAC: of its first address, else of this machine's name and the link, so that
        it keeps its MAC, and with it its lease, between runs."""
        if self.addrs:
            return mac_for(self.addrs[0].ip)
        known = f"{socket.gethostname()} {link_spec}".encode()
        return b"\x52\x54" + zlib.crc32(known).to_bytes(4, "big")

    def __str__(self) -> str:
        how = [*map(str, self.addrs), *["DHCP"] * self.dhcp, *["SLAAC"] * self.slaac]
        return " ".join(how)


def check_gateways(gws: Sequence[Address], addrs: Sequence[Interface]) -> None:
    """Refuse a gateway that is on none of the host's own networks.  Raises: ArgumentError."""
    for version in (4, 6):
        if len([gw for gw in gws if gw.version == version]) > 1:
            raise ArgumentError(f"--gw: given twice for IPv{version}; a host has one default route")
    for gw in gws:
        networks = [addr.network for addr in addrs if addr.version == gw.version]
        if gw.version == 6 and gw.is_link_local:
            continue
        if not any(gw in network for network in networks):
            inside = f"not inside {' or '.join(map(str, networks))}" if networks else "no network"
            raise ArgumentError(f"--gw {gw}: {inside}; give a gateway on our own network")


def address_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--addr`, `--gw`, `--dhcp`, `--slaac` and `--dns`, as its argument `own`."""

    @functools.wraps(command)
    def run(
        *args: Any,
        addr: tuple[Interface, ...],
        gw: tuple[Address, ...],
        dns: tuple[Address, ...],
        dhcp: bool,
        slaac: bool,
        **options: Any,
    ) -> Any:
        own = Addressing(addr, gw, dns, dhcp, slaac)
        on_link = options.get("link_spec", "") is not None  # a command may have no host
        if on_link and not (addr or dhcp or slaac):
            raise click.UsageError("the host has no address; give --addr, --dhcp or --slaac")
        if dhcp and own.first(4) is not None:
            raise ArgumentError(f"--dhcp: IPv4 has --addr {own.first(4)} already; give one of them")
        check_gateways(gw, addr)
        return command(*args, own=own, **options)

    run = click.option("--dns", type=IP, multiple=True, help="Name server; may be repeated.")(run)
    run = click.option(
        "--slaac", is_flag=True, help="IPv6 addresses and routes from router advertisements."
    )(run)
    run = click.option(
        "--dhcp", is_flag=True, help="IPv4 address, routes and name servers from DHCP."
    )(run)
    run = click.option(
        "--gw", type=IP, multiple=True, help="Default gateway; one for each family."
    )(run)
    return click.option(
        "--addr",
        type=CIDR,
        multiple=True,
        help="Our address, 10.9.0.2/24 or 2001:db8::2/64; may be repeated.",
    )(run)


def no_router_advertisements(host: Host) -> None:
    """Make the future interfaces of `host` ignore router advertisements."""
    host.ipv6.sysctl["net.ipv6.conf.default.accept_ra"] = 0


def configure(host: Host, own: Addressing) -> list[Client]:
    """Configure the interface, which is up, by the options, and wait until that is done.

    Returns the DHCP clients, to be stopped in the end.  Raises: E1000Error, OSError.
    """
    from stack.core.sockaddr import sockaddr

    for addr in own.addrs:
        host.ifconfig(DEVICE, str(addr))
    for gw in own.gws:
        host.route_add("0.0.0.0/0" if gw.version == 4 else "::/0", via=str(gw), dev=DEVICE)
    families = {4: socket.AF_INET, 6: socket.AF_INET6}
    servers = [sockaddr(families[dns.version], int(dns), 53) for dns in own.dns]
    host.names.learn("--dns", servers, ())
    clients: list[Client] = []
    try:
        if own.dhcp:
            clients.append(_dhcp(host))
        if own.slaac:
            clients += _slaac(host)
        _checked(host, own)
    except BaseException:
        for client in clients:
            client.stop(release=False)
        raise
    return clients


def _dhcp(host: Host) -> Dhcp4Runner:
    from stack.clients.dhcp4_request import Dhcp4Config
    from stack.clients.dhcp4_state import State
    from stack.services.run_dhcp4 import Dhcp4Runner

    config = Dhcp4Config(probes=1, hostname=host.hostname)
    client = Dhcp4Runner(host, host.dev(DEVICE), config=config)
    client.start()
    awaits = {
        State.SELECTING: "a DHCP server's offer",
        State.REQUESTING: "the server to grant its offer",
        State.CHECKING: "the check that no other host has the address",
        State.HELD_OFF: "another try, after an address that could not be used",
    }
    wait = Wait(host.clock, "--dhcp", WAIT_NS)
    if not wait.until(
        lambda: client.lease is not None,
        lambda: awaits.get(client.core.state, f"DHCP ({client.core.state.value})"),
    ):
        client.stop(release=False)
        raise E1000Error(
            f"--dhcp: no server gave an address within {WAIT_NS // SECOND_NS} s; is one on this "
            "link? --addr sets an address by hand"
        )
    wait.end(lambda: _has(host, 4))
    return client


def _has(host: Host, version: int) -> str:
    """Say what addresses of IP version 4 or 6 the interface has."""
    found = [a for a in addresses_of(host) if ipaddress.ip_interface(a).version == version]
    return f"{DEVICE} has {' '.join(found)}"


def _slaac(host: Host) -> list[Dhcp6Runner]:
    """Wait for an address from a router's prefix, or use DHCPv6 if the router says so."""
    from stack.ipv6.if_inet6 import (
        IF_RA_MANAGED,
        IF_RA_OTHERCONF,
        IF_RA_RCVD,
        IF_READY,
        IFA_F_TENTATIVE,
    )
    from stack.services.run_dhcp6 import Dhcp6Runner

    idev = host.dev(DEVICE).ip6_ptr
    assert idev is not None

    def usable() -> bool:
        return bool(idev.if_flags & IF_RA_MANAGED) or any(
            not ifp.flags & IFA_F_TENTATIVE and not ipaddress.IPv6Address(ifp.addr).is_link_local
            for ifp in idev.addr_list
        )

    def awaited() -> str:
        if not idev.if_flags & IF_READY or not any(
            not ifp.flags & IFA_F_TENTATIVE for ifp in idev.addr_list
        ):
            return "the check that no other host has our link-local address"
        if not idev.if_flags & IF_RA_RCVD:
            return "a router's advertisement"
        return "the check that no other host has our address"

    wait = Wait(host.clock, "--slaac", WAIT_NS)
    if not wait.until(usable, awaited):
        raise E1000Error(
            f"--slaac: no router gave a prefix within {WAIT_NS // SECOND_NS} s; does one advertise "
            "on this link? --addr sets an address by hand"
        )
    if not idev.if_flags & (IF_RA_MANAGED | IF_RA_OTHERCONF):
        wait.end(lambda: _has(host, 6))
        return []
    stateless = not idev.if_flags & IF_RA_MANAGED
    client = Dhcp6Runner(host, host.dev(DEVICE), stateless=stateless)
    client.start()
    what = "name servers" if stateless else "an address"
    wait = Wait(host.clock, "--slaac", WAIT_NS)
    answered = wait.until(
        client.ready, lambda: f"{what} by DHCPv6, to which the router sends its hosts"
    )
    # without an answer the addresses of the router's prefixes are still good
    if not answered and not stateless:
        client.stop(release=False)
        raise E1000Error(
            "--slaac: the router sends its hosts to DHCPv6 (M flag), and no server answered within "
            f"{WAIT_NS // SECOND_NS} s; --addr sets an address by hand"
        )
    said = "" if answered else "; no DHCPv6 server answered"
    wait.end(lambda: _has(host, 6) + said)
    return [client]


def _checked(host: Host, own: Addressing) -> None:
    """Wait until the IPv6 addresses have passed duplicate address detection."""
    from stack.ipv6.if_inet6 import IFA_F_DADFAILED, IFA_F_TENTATIVE

    wanted = {int(addr.ip): addr for addr in own.addrs if addr.version == 6}
    idev = host.dev(DEVICE).ip6_ptr
    if not wanted or idev is None:
        return

    def settled() -> bool:
        return all(
            not ifp.flags & IFA_F_TENTATIVE or ifp.flags & IFA_F_DADFAILED
            for ifp in idev.addr_list
            if ifp.addr in wanted
        )

    host.clock.wait(settled, DAD_WAIT_NS)
    for ifp in idev.addr_list:
        if ifp.addr in wanted and ifp.flags & IFA_F_DADFAILED:
            raise E1000Error(
                f"--addr {wanted[int(ifp.addr)]}: another host on the link has it; give another one"
            )


def addresses_of(host: Host) -> list[str]:
    """The addresses of the interface with their prefix lengths, IPv4's first; IPv6's without the
    link-local ones."""
    dev = host.dev(DEVICE)
    found: list[Interface] = []
    if dev.ip_ptr is not None:
        found += [
            ipaddress.IPv4Interface((ifa.ifa_local, ifa.ifa_prefixlen))
            for ifa in dev.ip_ptr.ifa_list
        ]
    if dev.ip6_ptr is not None:
        found += [
            ipaddress.IPv6Interface((ifp.addr, ifp.prefix_len)) for ifp in dev.ip6_ptr.addr_list
        ]
    return [str(a) for a in found if a.version == 4 or not a.is_link_local]
