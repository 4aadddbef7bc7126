"""Drives a `Dhcp4Client` on a host: UDP sockets on one interface, ARP, addresses, routes, names.

While the interface has no address (RFC 2131 4.1), a UDP socket bound to the device and to port 68
sends to 255.255.255.255 with source 0.0.0.0. IP takes broadcast answers for it, but no unicast
ones: their address is not the host's yet. A packet handler gets those, as dhclient's packet socket
does. Renewals are sent from a second socket, bound to the leased address, in case the interface has
others.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable

from fastpath.base import skbuff
from fastpath.base.csum import csum_fold, csum_partial, csum_tcpudp_magic
from fastpath.base.skbuff import kfree_skb, pskb_may_pull, sk_buff, skb_copy_bits
from fastpath.net.hdr import arp_hdr
from stack.clients.action import SetTimer
from stack.clients.dhcp4 import Action, Configure, Deconfigure, Dhcp4Client, Send, SendArp
from stack.clients.dhcp4_lease import Lease
from stack.clients.dhcp4_request import Dhcp4Config
from stack.clients.dhcp4_wire import CLIENT_PORT, SERVER_PORT, Route
from stack.clients.dns_wire import DNS_PORT
from stack.clients.runner import CoreTimer, WatchedSocket
from stack.core import uapi
from stack.core.dev import dev_set_mtu
from stack.core.dev_receive import dev_add_pack, dev_remove_pack
from stack.core.netdevice import ETH_P_ARP, ETH_P_IP, NET_RX_SUCCESS, net_device, packet_type
from stack.core.sockaddr import sockaddr
from stack.core.workqueue import cancel_delayed_work, schedule_work, work_struct
from stack.ipv4.arp_send import ARP_HDR_LEN, ARPOP_REQUEST, arp_send, arp_send_gratuitous
from stack.ipv4.devinet import inet_addr_add, inet_addr_del
from stack.ipv4.fib import format_addr, ip_route_add, ip_route_del
from stack.net import Net

ARP_BACKLOG = 64
ANSWER_BACKLOG = 16
IP_HLEN, UDP_HLEN = 20, 8


class Dhcp4Runner:
    """A DHCPv4 client on the interface `dev` of `net`, which has to be up.

    Args:
        config: of the core; by default the host's name is sent.
        changed: called with the lease, or None, when it is obtained, changed or lost.
    """

    def __init__(
        self,
        net: Net,
        dev: net_device,
        *,
        config: Dhcp4Config | None = None,
        changed: Callable[[Lease | None], None] = lambda lease: None,
    ) -> None:
        self.net, self.dev = net, dev
        self.core = Dhcp4Client(mac=bytes(dev.dev_addr), random=net.random, config=config)
        self.lease: Lease | None = None
        """The lease that is configured, or None."""
        self.mtu_before = dev.mtu
        self._changed = changed
        self._timer = CoreTimer(net, lambda now_ns: self._do(self.core.timer(now_ns)))
        self._sockets: dict[int, WatchedSocket] = {}
        self._routes: list[Route] = []
        self._heard: deque[tuple[bytes, int, int]] = deque(maxlen=ARP_BACKLOG)
        self._arp_work = work_struct(net.machine, self._arp_heard)
        self._tap = packet_type(ETH_P_ARP, self._arp_rcv, dev)
        self._answers: deque[bytes] = deque(maxlen=ANSWER_BACKLOG)
        self._answer_work = work_struct(net.machine, self._answered)
        self._answer_tap: packet_type | None = None
        """The handler of unicast answers, while there is no lease."""
        self._source = f"dhcp4 {dev.name}"
        self._open = False

    # --- life -----------------------------------------------------------------------------------

    def start(self, address: int = 0) -> None:
        """Begin; `address` is that of an earlier lease, which is requested first.

        Raises: OSError: port 68 of the interface is taken.
        """
        with self.net.lock:
            if not self._open:
                self._socket(0)
                self._open = True
                dev_add_pack(self.net, self._tap)
                self._hear_answers(True)
                self.net.machine.on_close(self._shut)
            self._do(self.core.start(self.net.now(), address))

    def wait(self, timeout_ns: int | None = None) -> bool:
        """Wait until there is a lease in use; False after the timeout."""
        with self.net.lock:
            return bool(self.net.clock.wait(lambda: self.lease is not None, timeout_ns))

    def stop(self, *, release: bool = True) -> None:
        """End: release the lease, remove the address from the interface."""
        with self.net.lock:
            if self._open:
                self._do(self.core.stop(self.net.now(), release=release))
                self._shut()

    def _shut(self) -> None:
        """Close the sockets and stop receiving ARP; harmless when repeated."""
        if not self._open:
            return
        self._open = False
        self.net.machine.on_close_cancel(self._shut)
        self._timer.set(-1)
        cancel_delayed_work(self._arp_work)
        cancel_delayed_work(self._answer_work)
        dev_remove_pack(self.net, self._tap)
        self._hear_answers(False)
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    # --- actions --------------------------------------------------------------------------------

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case SetTimer():
                    self._timer.set(action.at_ns, background=self.core.in_use)
                case Send():
                    self._send(action)
                case SendArp():
                    if action.announce:
                        arp_send_gratuitous(self.dev, action.address)
                    else:
                        arp_send(ARPOP_REQUEST, ETH_P_ARP, action.address, self.dev, 0, None,
                                 None, None)  # fmt: skip
                case Configure():
                    self._configure(action.lease)
                case Deconfigure():
                    self._deconfigure(action.lease)

    def _send(self, action: Send) -> None:
        """Send a datagram; the core retransmits one that cannot be sent now."""
        try:
            sock = self._socket(action.saddr)
            sock.send(action.data, sockaddr(uapi.AF_INET, action.daddr, SERVER_PORT))
        except OSError:
            return

    def _socket(self, saddr: int) -> WatchedSocket:
        """The socket that sends from `saddr`; 0: the one for an interface without an address."""
        sock = self._sockets.get(saddr)
        if sock is None:
            sock = WatchedSocket(self.net, uapi.AF_INET, uapi.SOCK_DGRAM, self._ready)
            try:
                sock.setsockopt(uapi.SOL_SOCKET, uapi.SO_REUSEADDR, 1)
                sock.setsockopt(uapi.SOL_SOCKET, uapi.SO_BROADCAST, 1)
                sock.setsockopt(uapi.SOL_SOCKET, uapi.SO_BINDTODEVICE, self.dev.name.encode())
                sock.bind(sockaddr(uapi.AF_INET, saddr, CLIENT_PORT))
            except OSError:
                sock.close()
                raise
            self._sockets[saddr] = sock
        return sock

    def _ready(self, sock: WatchedSocket) -> None:
        for data, _ in sock.datagrams():  # after an ICMP error the core retries
            self._do(self.core.received(data, self.net.now()))

    # --- unicast answers before there is an address ---------------------------------------------

    def _hear_answers(self, on: bool) -> None:
        """Add or remove the packet handler; harmless when repeated."""
        if on and self._answer_tap is None:
            self._answer_tap = packet_type(ETH_P_IP, self._ip_rcv, self.dev)
            dev_add_pack(self.net, self._answer_tap)
        elif not on and self._answer_tap is not None:
            dev_remove_pack(self.net, self._answer_tap)
            self._answer_tap = None

    def _ip_rcv(self, skb: sk_buff, dev: net_device, pt: packet_type, orig: net_device) -> int:
        """A packet handler beside IP's own. Takes ownership of skb."""
        if skb.pkt_type == skbuff.PACKET_HOST:
            summed = skb.ip_summed in (skbuff.CHECKSUM_PARTIAL, skbuff.CHECKSUM_UNNECESSARY)
            payload = _answer_in(skb_copy_bits(skb, 0, skb.len), summed)
            if payload is not None:
                self._answers.append(payload)
                schedule_work(self._answer_work)
        kfree_skb(skb)
        return NET_RX_SUCCESS

    def _answered(self) -> None:
        while self._answers and self._open:
            self._do(self.core.received(self._answers.popleft(), self.net.now()))

    # --- ARP ------------------------------------------------------------------------------------

    def _arp_rcv(self, skb: sk_buff, dev: net_device, pt: packet_type, orig: net_device) -> int:
        """A packet handler beside ARP's own. Takes ownership of skb."""
        if pskb_may_pull(skb, ARP_HDR_LEN):
            arp = arp_hdr(skb)
            ours = self.core.wants_arp(arp.ar_sip, arp.ar_tip)
            if ours and arp.ar_hln == 6 and arp.ar_pln == 4:
                self._heard.append((bytes(arp.ar_sha), arp.ar_sip, arp.ar_tip))
                schedule_work(self._arp_work)
        kfree_skb(skb)
        return NET_RX_SUCCESS

    def _arp_heard(self) -> None:
        while self._heard and self._open:
            sender_mac, sender, target = self._heard.popleft()
            self._do(self.core.arp_received(sender_mac, sender, target, self.net.now()))

    # --- configuration --------------------------------------------------------------------------

    def _configure(self, lease: Lease) -> None:
        before, self.lease = self.lease, lease
        self._hear_answers(False)  # IP takes what is for the address
        if before is None or _address(before) != _address(lease):
            if before is not None:
                self._remove_address(before)
            try:
                inet_addr_add(self.dev, lease.address, lease.prefixlen, broadcast=lease.broadcast)
            except OSError as error:
                if error.errno != errno.EEXIST:
                    raise
        if lease.mtu and lease.mtu != self.dev.mtu:
            dev_set_mtu(self.dev, lease.mtu)
        self._set_routes(list(lease.routes), lease)
        search = lease.search or tuple(lease.domain.split())
        servers = [sockaddr(uapi.AF_INET, address, DNS_PORT) for address in lease.dns]
        self.net.names.learn(self._source, servers, search)
        self._changed(lease)
        self.net.clock.wake()

    def _deconfigure(self, lease: Lease) -> None:
        if self.lease is None:
            return
        self._set_routes([], lease)
        self._remove_address(self.lease)
        self.lease = None
        if self._open:
            self._hear_answers(True)
        if self.dev.mtu != self.mtu_before:
            dev_set_mtu(self.dev, self.mtu_before)
        self.net.names.forget(self._source)
        self._changed(None)

    def _remove_address(self, lease: Lease) -> None:
        sock = self._sockets.pop(lease.address, None)
        if sock is not None:
            sock.close()
        try:
            inet_addr_del(self.dev, *_address(lease))
        except OSError as error:  # it was removed already
            if error.errno != errno.EADDRNOTAVAIL:
                raise

    def _set_routes(self, wanted: list[Route], lease: Lease) -> None:
        """Make the lease's routes those in `wanted`, keeping those that exist."""
        for route in [r for r in self._routes if r not in wanted]:
            self._routes.remove(route)
            try:
                ip_route_del(self.net, _prefix(route), via=_gateway(route), dev=self.dev)
            except OSError as error:
                if error.errno != errno.ESRCH:
                    raise
        mask = 0xFFFFFFFF << (32 - lease.prefixlen) & 0xFFFFFFFF
        for route in wanted:
            if route in self._routes:
                continue
            gateway = route[2]
            # RFC 3442: the gateway of a classless route need not be in the subnet
            beyond = bool(gateway) and bool((gateway ^ lease.address) & mask)
            try:
                ip_route_add(
                    self.net,
                    _prefix(route),
                    via=_gateway(route),
                    dev=self.dev,
                    src=format_addr(lease.address),
                    onlink=beyond,
                    protocol=uapi.RTPROT_DHCP,
                )
            except OSError as error:
                # A route that exists or cannot be set is no reason to give up the lease.
                if error.errno not in (errno.EEXIST, errno.EINVAL, errno.ENETUNREACH):
                    raise
            else:
                self._routes.append(route)


def _answer_in(packet: bytes, summed: bool) -> bytes | None:
    """The payload of a UDP datagram for port 68, None if `packet` is anything else.

    `packet` begins with its IPv4 header. `summed`: its UDP checksum need not be checked.
    """
    hlen = (packet[0] & 15) * 4 if packet else 0
    size = int.from_bytes(packet[2:4], "big")
    if (
        not IP_HLEN <= hlen <= size - UDP_HLEN <= len(packet) - UDP_HLEN
        or packet[0] >> 4 != 4
        or csum_fold(csum_partial(packet[:hlen]))
        or int.from_bytes(packet[6:8], "big") & 0x3FFF  # a fragment
        or packet[9] != uapi.IPPROTO_UDP
        or int.from_bytes(packet[hlen + 2 : hlen + 4], "big") != CLIENT_PORT
    ):
        return None
    ulen = int.from_bytes(packet[hlen + 4 : hlen + 6], "big")
    if not UDP_HLEN <= ulen <= size - hlen:
        return None
    datagram = packet[hlen : hlen + ulen]
    saddr, daddr = (int.from_bytes(packet[at : at + 4], "big") for at in (12, 16))
    if (
        not summed
        and datagram[6:8] != b"\0\0"
        and csum_tcpudp_magic(saddr, daddr, ulen, uapi.IPPROTO_UDP, csum_partial(datagram))
    ):
        return None
    return datagram[UDP_HLEN:]


def _address(lease: Lease) -> tuple[int, int]:
    return lease.address, lease.prefixlen


def _prefix(route: Route) -> str:
    return f"{format_addr(route[0])}/{route[1]}"


def _gateway(route: Route) -> str | None:
    return format_addr(route[2]) if route[2] else None
