"""Snooping of IGMP and MLD: the multicast groups of a switch's ports (RFC 4541).

The switch learns from the hosts' reports and forwards a group to its members and to the ports of
multicast routers. Group addresses of the local network that hosts do not report are flooded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

P = TypeVar("P")

IP_GROUPS = 0x01005E000000
"""The beginning of the Ethernet addresses of IPv4 groups (RFC 1112 6.4)."""
IP6_GROUPS = 0x333300000000
"""The beginning of the Ethernet addresses of IPv6 groups (RFC 2464 7)."""
ETH_P_IP, ETH_P_IPV6, ETH_P_8021Q, ETH_P_8021AD = 0x0800, 0x86DD, 0x8100, 0x88A8
PROTO_IGMP, PROTO_PIM, PROTO_HOPOPTS, PROTO_ICMPV6 = 2, 103, 0, 58
IGMP_QUERY, IGMPV1_REPORT, IGMPV2_REPORT, IGMP_LEAVE, IGMPV3_REPORT = 0x11, 0x12, 0x16, 0x17, 0x22
MLD_QUERY, MLD_REPORT, MLD_DONE, MLDV2_REPORT = 130, 131, 132, 143
IS_INCLUDE, IS_EXCLUDE, TO_INCLUDE, TO_EXCLUDE, ALLOW_NEW, BLOCK_OLD = range(1, 7)
"""Types of a record of an IGMPv3 or MLDv2 report (RFC 3376 4.2.12, RFC 3810 5.2.12)."""
LOCAL_GROUPS = 0xE00000
"""The first 24 bits of 224.0.0.0/24, which hosts need not report (RFC 4541 2.1.2)."""
ALL_NODES = 0xFF020000000000000000000000000001


class MulticastDatabase(Generic[P]):
    """The members of each group by port, and the ports of multicast routers.

    Memberships are kept per host, so that a leaving host does not affect another behind
    the same port. A membership ends when its host leaves or its port is unplugged: the switch sends
    no queries, so it does not wait for replies.
    """

    def __init__(self) -> None:
        self.routers: dict[P, bool] = {}
        """Ports of multicast routers; True: permanent, False: learned from a router."""
        self._members: dict[int, dict[P, set[tuple[int, int]]]] = {}
        # Port -> Ethernet addresses of groups that have members there.
        self._groups: dict[P, set[int]] = {}

    def __len__(self) -> int:
        """The number of group addresses that have members."""
        return len(self._members)

    def members(self, address: int) -> list[P]:
        """The ports that have members of a group, by its Ethernet address."""
        return list(self._members.get(address, ()))

    def forget(self, port: P) -> None:
        """Remove all data about `port`."""
        for address in self._groups.pop(port, ()):
            self._remove(address, port)
        if self.routers.get(port) is False:
            del self.routers[port]

    def route(self, port: P, dst: int, src: int, frame: bytes) -> Iterable[P] | None:
        """Learn from a frame to a group that `port` sent; returns its ports, None for all."""
        family = dst & ~0x7FFFFF == IP_GROUPS or dst >> 32 == IP6_GROUPS >> 32
        if not family:
            return None
        kind, at = int.from_bytes(frame[12:14], "big"), 14
        while kind in (ETH_P_8021Q, ETH_P_8021AD):
            kind, at = int.from_bytes(frame[at + 2 : at + 4], "big"), at + 4
        packet = frame[at:]
        if kind == ETH_P_IP and len(packet) >= 20 and packet[0] >> 4 == 4:
            return self._ipv4(port, dst, src, packet)
        if kind == ETH_P_IPV6 and len(packet) >= 40 and packet[0] >> 4 == 6:
            return self._ipv6(port, dst, src, packet)
        return None

    def _ipv4(self, port: P, dst: int, src: int, packet: bytes) -> Iterable[P] | None:
        protocol = packet[9]
        if protocol == PROTO_IGMP:
            start, stop = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
            message = packet[start:stop]
            if len(message) < 8:
                return None
            kind, group = message[0], int.from_bytes(message[4:8], "big")
            if kind == IGMP_QUERY:
                self._router(port, packet[12:16])
                return None
            if kind in (IGMPV1_REPORT, IGMPV2_REPORT, IGMP_LEAVE):
                self._set(port, src, group, joined=kind != IGMP_LEAVE, address_bytes=4)
                return list(self.routers)
            if kind == IGMPV3_REPORT:
                self._records(port, src, message, 4)
                return list(self.routers)
        elif protocol == PROTO_PIM:
            self._router(port, packet[12:16])
        if int.from_bytes(packet[16:19], "big") == LOCAL_GROUPS:
            return None
        return self._to(dst)

    def _ipv6(self, port: P, dst: int, src: int, packet: bytes) -> Iterable[P] | None:
        following, at = packet[6], 40
        if following == PROTO_HOPOPTS and len(packet) >= 48:
            following, at = packet[40], 48 + 8 * packet[41]  # MLD has Router Alert there
        if following == PROTO_ICMPV6:
            message = packet[at : 40 + int.from_bytes(packet[4:6], "big")]
            kind = message[0] if len(message) >= 8 else 0
            if kind == MLD_QUERY:
                self._router(port, packet[8:24])
                return None
            if kind in (MLD_REPORT, MLD_DONE) and len(message) >= 24:
                group = int.from_bytes(message[8:24], "big")
                self._set(port, src, group, joined=kind == MLD_REPORT, address_bytes=16)
                return list(self.routers)
            if kind == MLDV2_REPORT:
                self._records(port, src, message, 16)
                return list(self.routers)
        elif following == PROTO_PIM:
            self._router(port, packet[8:24])
        if int.from_bytes(packet[24:40], "big") == ALL_NODES:
            return None
        return self._to(dst)

    def _to(self, dst: int) -> list[P]:
        found = dict.fromkeys(self._members.get(dst, ()))
        found.update(dict.fromkeys(self.routers))
        return list(found)

    def _router(self, port: P, source: bytes) -> None:
        """Learn a router port. A querier without an address is a switch (RFC 4541 2.1.1 1)."""
        if any(source):
            self.routers.setdefault(port, False)

    def _records(self, port: P, src: int, message: bytes, address_bytes: int) -> None:
        """An IGMPv3 or MLDv2 report: a host joins a group unless it includes no source."""
        at = 8
        for _ in range(int.from_bytes(message[6:8], "big")):
            sources_at = at + 4 + address_bytes
            if len(message) < sources_at:
                return
            kind, sources = message[at], int.from_bytes(message[at + 2 : at + 4], "big")
            group = int.from_bytes(message[at + 4 : sources_at], "big")
            if kind in (IS_EXCLUDE, TO_EXCLUDE) or (kind != BLOCK_OLD and sources):
                self._set(port, src, group, joined=True, address_bytes=address_bytes)
            elif kind in (IS_INCLUDE, TO_INCLUDE):
                self._set(port, src, group, joined=False, address_bytes=address_bytes)
            at = sources_at + sources * address_bytes + 4 * message[at + 1]

    def _set(self, port: P, src: int, group: int, *, joined: bool, address_bytes: int) -> None:
        if address_bytes == 4:
            address = IP_GROUPS | group & 0x7FFFFF
        else:
            address = IP6_GROUPS | group & 0xFFFFFFFF
        ports = self._members.setdefault(address, {}) if joined else self._members.get(address, {})
        if joined:
            ports.setdefault(port, set()).add((src, group))
            self._groups.setdefault(port, set()).add(address)
        elif port in ports:
            ports[port].discard((src, group))
            if not ports[port]:
                self._groups[port].discard(address)
                self._remove(address, port)

    def _remove(self, address: int, port: P) -> None:
        ports = self._members[address]
        del ports[port]
        if not ports:
            del self._members[address]
