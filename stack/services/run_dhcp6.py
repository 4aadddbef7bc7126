"""Drives a `Dhcp6Client` on a host: UDP from the interface's link-local address, addresses, names.

The interface needs a link-local address that has passed duplicate address detection; until then the
socket cannot be bound, and `start` waits for it. A leased address gets a prefix of 128 bits, since
router advertisements say which prefixes are on-link (RFC 8415 21.6). The stack checks it by DAD;
an address in use is declined.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from stack.clients.action import SetTimer
from stack.clients.dhcp6 import Action6, Configure6, Deconfigure6, Dhcp6Client, Send6
from stack.clients.dhcp6_lease import Lease6, LeasedAddress
from stack.clients.dhcp6_state import State
from stack.clients.dhcp6_wire import (
    ALL_DHCP_RELAY_AGENTS_AND_SERVERS,
    CLIENT_PORT,
    SERVER_PORT,
    duid_ll,
)
from stack.clients.dns_wire import DNS_PORT
from stack.clients.runner import CoreTimer, WatchedSocket
from stack.core.netdevice import NETDEV_DOWN, net_device
from stack.core.rows import wide
from stack.core.sockaddr import sockaddr
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import mod_timer, timer_delete, timer_list
from stack.core.uapi import AF_INET6, SO_REUSEADDR, SOCK_DGRAM, SOL_SOCKET
from stack.core.workqueue import cancel_delayed_work, schedule_work, work_struct
from stack.ipv6 import if_inet6
from stack.ipv6.addr import ipv6_addr_is_linklocal
from stack.ipv6.addrconf import inet6_addr_add, inet6_addr_del
from stack.ipv6.addrconf_addr import register_inet6addr_notifier, unregister_inet6addr_notifier
from stack.ipv6.addrconf_temp import addrconf_verify
from stack.ipv6.if_inet6 import inet6_dev, inet6_ifaddr
from stack.net import Net

PREFIX_LEN = 128
LOOK_NS = 100_000_000
LONGEST_S = 0xFFFFFFFE
"""The longest lifetime. An infinite one would count as set by hand, and stay when DAD fails."""


class Dhcp6Runner:
    """A DHCPv6 client on the interface `dev` of `net`, which has to be up.

    Args:
        stateless: request information only (RFC 8415 18.2.6).
        rapid_commit: use the two-message exchange if the server agrees.
        duid: this machine's identifier; from the interface's MAC if None.
        changed: called with the lease when it is obtained or changed, with None when it is lost.
    """

    def __init__(
        self,
        net: Net,
        dev: net_device,
        *,
        stateless: bool = False,
        rapid_commit: bool = False,
        duid: bytes | None = None,
        changed: Callable[[Lease6 | None], None] = lambda lease: None,
    ) -> None:
        self.net, self.dev = net, dev
        self.core = Dhcp6Client(
            duid=duid_ll(bytes(dev.dev_addr)) if duid is None else duid,
            iaid=dev.ifindex,
            random=net.random,
            rapid_commit=rapid_commit,
        )
        self.lease: Lease6 | None = None
        self._stateless = stateless
        self._changed = changed
        self._timer = CoreTimer(net, lambda now_ns: self._do(self.core.timer(now_ns)))
        self._sock: WatchedSocket | None = None
        self._ours: set[int] = set()
        self._duplicates: list[wide] = []
        self._work = work_struct(net.machine, self._look)
        self._again = timer_list(net.machine, lambda timer: schedule_work(self._work))
        self._source = f"dhcp6 {dev.name}"
        self._open = False

    # --- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, as soon as the interface has a link-local address.

        Raises: OSError: port 546 of that address is taken.
        """
        with self.net.lock:
            if not self._open:
                self._open = True
                register_inet6addr_notifier(self.net, self._address_changed)
                self.net.machine.on_close(self._shut)
            try:
                self._look()
            except OSError:
                self._shut()
                raise

    def wait(self, timeout_ns: int | None = None) -> bool:
        """Wait until there is a lease (or the information) and its addresses may be used."""
        with self.net.lock:
            return bool(self.net.clock.wait(self.ready, timeout_ns))

    def ready(self) -> bool:
        """Whether there is a lease (or the information), and its addresses may be used."""
        if self.lease is None:
            return False
        return self._stateless or not any(
            ifp.flags & if_inet6.IFA_F_TENTATIVE
            for ifp in self._addresses()
            if ifp.addr in self._ours
        )

    def stop(self, *, release: bool = True) -> None:
        """Stop: remove the addresses. An unanswered release is retransmitted for
        some seconds, while the clock runs."""
        with self.net.lock:
            if self._open:
                self._do(self.core.stop(self.net.now(), release=release))
                if self.core.state is State.STOPPED:
                    self._shut()

    def _shut(self) -> None:
        """Close the socket; harmless when repeated."""
        if not self._open:
            return
        self._open = False
        self.net.machine.on_close_cancel(self._shut)
        self._timer.set(-1)
        cancel_delayed_work(self._work)
        timer_delete(self._again)
        unregister_inet6addr_notifier(self.net, self._address_changed)
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    # --- the interface --------------------------------------------------------------------------

    def _addresses(self) -> tuple[inet6_ifaddr, ...]:
        idev: inet6_dev | None = self.dev.ip6_ptr
        return tuple(idev.addr_list) if idev is not None else ()

    def _address_changed(self, event: int, ifp: inet6_ifaddr) -> None:
        """An address of ours failed its check: decline it in process context."""
        if ifp.idev.dev is not self.dev:
            return
        if event == NETDEV_DOWN and ifp.addr in self._ours and ifp.flags & if_inet6.IFA_F_DADFAILED:
            self._duplicates.append(ifp.addr)
            schedule_work(self._work)

    def _look(self) -> None:
        """Open the socket when that is possible now; decline addresses in use elsewhere."""
        if not self._open:
            return
        if self._duplicates:
            found, self._duplicates = tuple(self._duplicates), []
            self._ours.difference_update(found)
            self._do(self.core.declined(found, self.net.now()))
        if self._sock is None:
            if self._bind():
                self._do(self.core.start(self.net.now(), stateless=self._stateless))
            else:  # there is no event for an address that passed DAD
                mod_timer(self._again, self.net.now() + LOOK_NS)
        self.net.clock.wake()

    def _bind(self) -> bool:
        own = next(
            (
                ifp.addr
                for ifp in self._addresses()
                if ipv6_addr_is_linklocal(ifp.addr) and not ifp.flags & if_inet6.IFA_F_TENTATIVE
            ),
            None,
        )
        if own is None:
            return False
        sock = WatchedSocket(self.net, AF_INET6, SOCK_DGRAM, self._ready)
        try:
            sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            sock.bind(sockaddr(AF_INET6, own, CLIENT_PORT, 0, self.dev.ifindex))
        except OSError:
            sock.close()
            raise
        self._sock = sock
        return True

    # --- actions --------------------------------------------------------------------------------

    def _do(self, actions: list[Action6]) -> None:
        for action in actions:
            match action:
                case SetTimer():
                    self._timer.set(action.at_ns, background=self.core.state in SETTLED)
                case Send6():
                    self._send(action.data)
                case Configure6():
                    self._configure(action.lease)
                case Deconfigure6():
                    self._deconfigure(action.addresses)
        if self._open and self.core.state is State.STOPPED:
            self._shut()

    def _send(self, data: bytes) -> None:
        """Send a datagram; the core retransmits one that cannot be sent now."""
        to = ALL_DHCP_RELAY_AGENTS_AND_SERVERS
        if self._sock is None:
            return
        try:
            self._sock.send(data, sockaddr(AF_INET6, to, SERVER_PORT, 0, self.dev.ifindex))
        except OSError:
            return

    def _ready(self, sock: WatchedSocket) -> None:
        for data, _ in sock.datagrams():  # after an ICMP error the core retries
            self._do(self.core.received(data, self.net.now()))

    def _configure(self, lease: Lease6) -> None:
        now = self.net.now()
        for leased in lease.addresses:
            self._add(leased, now)
        self.lease = lease
        servers = [
            sockaddr(AF_INET6, a, DNS_PORT, 0, self.dev.ifindex if ipv6_addr_is_linklocal(a) else 0)
            for a in lease.dns
        ]
        self.net.names.learn(self._source, servers, lease.search)
        self._changed(lease)
        self.net.clock.wake()

    def _add(self, leased: LeasedAddress, now_ns: int) -> None:
        """Add an address, or set the new lifetimes of one that exists."""
        valid_s, preferred_s = (
            LONGEST_S if at is None else max((at - now_ns) // NSEC_PER_SEC, 0)
            for at in (leased.valid_ns, leased.preferred_ns)
        )
        for ifp in self._addresses():
            if ifp.addr == leased.address:
                ifp.valid_lft, ifp.prefered_lft = valid_s, preferred_s
                ifp.tstamp = now_ns
                addrconf_verify(self.net)
                return
        self._ours.add(leased.address)
        try:
            inet6_addr_add(
                self.dev,
                leased.address,
                PREFIX_LEN,
                flags=if_inet6.IFA_F_NOPREFIXROUTE,
                valid_lft=max(valid_s, 1),
                preferred_lft=min(preferred_s, max(valid_s, 1)),
            )
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise

    def _deconfigure(self, addresses: tuple[int, ...]) -> None:
        for address in addresses:
            self._ours.discard(address)
            try:
                inet6_addr_del(self.dev, address, PREFIX_LEN)
            except OSError as error:  # DAD failed, it expired, or it was removed
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
        if not self._ours:
            self.lease = None
            self.net.names.forget(self._source)
            self._changed(None)


SETTLED = frozenset({State.BOUND, State.RENEW, State.REBIND, State.INFORMED})
"""States whose timers are housekeeping: no task waits for them."""
