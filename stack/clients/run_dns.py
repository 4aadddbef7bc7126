"""Drives a `Lookup` on a host's own UDP and TCP sockets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stack.clients.action import SetTimer
from stack.clients.resolver import (
    CloseSocket,
    DnsAction,
    Finished,
    Lookup,
    OpenStream,
    SendDatagram,
)
from stack.clients.runner import CoreTimer, WatchedSocket
from stack.core.errors import os_error
from stack.core.uapi import SOCK_DGRAM, SOCK_STREAM
from stack.net import Net


@dataclass(slots=True, eq=False)
class _Peer:
    """A socket of the core, by number; `left` are unsent bytes of a stream."""

    number: int
    sock: WatchedSocket
    stream: bool
    left: bytes = b""


class LookupRunner:
    """One lookup on the host `net`; `done(result)` is called at its end, in process context.

    A UDP socket is connected, so it receives its server's datagrams only; its port is random.
    """

    def __init__(self, net: Net, lookup: Lookup, done: Callable[[Finished], object]) -> None:
        self.result: Finished | None = None
        self._net = net
        self._core = lookup
        self._done = done
        self._timer = CoreTimer(net, lambda now_ns: self._do(lookup.timer(now_ns)))
        self._peers: dict[int, _Peer] = {}

    def start(self) -> None:
        """Begin. Call with the host's lock held."""
        self._do(self._core.start(self._net.now()))

    def cancel(self) -> None:
        """Stop without a result. Call with the host's lock held."""
        self._timer.set(-1)
        for peer in self._peers.values():
            peer.sock.close()
        self._peers.clear()

    def _do(self, actions: list[DnsAction]) -> None:
        # An action that fails at once appends further ones to this list.
        queue = list(actions)
        while queue:
            action = queue.pop(0)
            match action:
                case SetTimer():
                    self._timer.set(action.at_ns)
                case SendDatagram() | OpenStream():
                    queue += self._send(action)
                case CloseSocket():
                    peer = self._peers.pop(action.number, None)
                    if peer is not None:
                        peer.sock.close()
                case Finished():
                    self.result = action
        if self.result is not None:
            done, self._done = self._done, lambda result: None
            done(self.result)

    def _send(self, action: SendDatagram | OpenStream) -> list[DnsAction]:
        """Send, from a new socket if needed; returns the core's actions on immediate failure."""
        number = action.number
        try:
            peer = self._peers.get(number)
            if peer is None:
                peer = self._open(action)
            if peer.stream:
                peer.left = action.data
            else:
                peer.sock.send(action.data)
        except OSError:
            return self._core.failed(number, self._net.now())
        return []

    def _open(self, action: SendDatagram | OpenStream) -> _Peer:
        stream = isinstance(action, OpenStream)
        kind = SOCK_STREAM if stream else SOCK_DGRAM
        number = action.number
        sock = WatchedSocket(
            self._net, action.server.family, kind, lambda sock: self._ready(number)
        )
        peer = self._peers[number] = _Peer(number, sock, stream)
        sock.connect(action.server)
        return peer

    def _ready(self, number: int) -> None:
        """Read a socket until it is empty or the core closes it."""
        while (peer := self._peers.get(number)) is not None:
            try:
                if peer.left:
                    if error := peer.sock.error():
                        raise os_error(error, "connect")
                    peer.left = peer.left[peer.sock.send(peer.left) :]
                got = peer.sock.receive()
            except OSError:
                self._do(self._core.failed(number, self._net.now()))
                # a datagram socket may receive more
                if peer.stream:
                    return
                continue
            if got is None:
                return
            data, _ = got
            if peer.stream:
                self._do(self._core.stream(number, data, self._net.now()))
                if not data:
                    return
            else:
                self._do(self._core.datagram(number, data, self._net.now()))
