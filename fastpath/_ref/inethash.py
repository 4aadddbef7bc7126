"""Connections by their two ends: the twin of ``fastpath.net.inethash`` on packets as bytes."""

from __future__ import annotations

from typing import TypeVar

from fastpath._ref.inetkey import Key, inet_key

V = TypeVar("V")


class InetHash(dict[Key, V]):
    """A dict by inet_key."""

    def find_packet(self, packet: bytes, net: int, l4: int) -> V | None:
        """The value of the key of a packet with headers at `net` and `l4`."""
        return self.get(inet_key(packet, net, l4))
