"""ICMP echo from one of our hosts, counted as iputils' ping counts; for any clock.

Requests and answers are handled separately, so that late and duplicate answers are recognized.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

from e1000emu.cli.pingwords import EXTENDED_ERR, HEADER, family_of
from stack.core.uapi import SO_BINDTODEVICE
from stack.socket import (
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    POLLERR,
    POLLIN,
    SO_RCVBUF,
    SOCK_DGRAM,
    SOL_SOCKET,
    Socket,
)

MAX_PAYLOAD_BYTES = 65535 - 20 - HEADER.size


@dataclass(frozen=True, slots=True)
class Reply:
    """An echo reply to one of our requests."""

    sequence: int
    source: str
    size_bytes: int
    """ICMP header and payload."""
    ttl: int
    rtt_ns: int
    duplicate: bool = False
    wrong_byte: int | None = None
    """Index into the payload of the first byte that differs."""


@dataclass(frozen=True, slots=True)
class PingError:
    """An ICMP error about one of our requests."""

    sequence: int
    source: str
    text: str


@dataclass(slots=True)
class Counts:
    """The statistics of `summary`; times in ns."""

    transmitted: int = 0
    received: int = 0
    duplicates: int = 0
    errors: int = 0
    pipe: int = 0
    """Most requests in flight when an answer arrived."""
    rtts: int = 0
    sum_ns: int = 0
    sum_of_squares: int = 0
    min_ns: int = 0
    max_ns: int = 0
    ewma_ns: float = 0.0

    def rtt(self, rtt_ns: int) -> None:
        """Count one round trip."""
        self.min_ns = min(self.min_ns, rtt_ns) if self.rtts else rtt_ns
        self.max_ns = max(self.max_ns, rtt_ns)
        self.ewma_ns += (rtt_ns - self.ewma_ns) / 8 if self.rtts else rtt_ns
        self.rtts += 1
        self.sum_ns += rtt_ns
        self.sum_of_squares += rtt_ns * rtt_ns

    def mean_ns(self) -> float:
        """Return the mean round trip, 0 without any."""
        return self.sum_ns / self.rtts if self.rtts else 0.0

    def mdev_ns(self) -> float:
        """Return the standard deviation of the round trips, which ping calls mdev."""
        if not self.rtts:
            return 0.0
        # in whole numbers: the squares of 10**9 ns lose what matters as floats
        return math.sqrt(self.rtts * self.sum_of_squares - self.sum_ns**2) / self.rtts


class Pinger:
    """Sends echo requests from a ping socket (SOCK_DGRAM/IPPROTO_ICMP or ICMPV6) and matches the
    answers.

    `dest` is an address of either family, `name` its name in the statistics; `device` or
    `source` bind the socket; `ttl` is the initial TTL of requests.  Raises: OSError.
    """

    def __init__(
        self,
        host: Any,
        dest: str,
        *,
        name: str | None = None,
        size_bytes: int = 56,
        ttl: int | None = None,
        source: str | None = None,
        device: str | None = None,
    ) -> None:
        self.host = host
        self.dest = dest
        self.name = dest if name is None else name
        self.family = family = family_of(dest)
        self.counts = Counts()
        self.payload = bytes(i & 0xFF for i in range(size_bytes))
        self._sent_ns: dict[int, int] = {}
        self._answered: set[int] = set()
        self._buffer = bytearray(65536)
        self.sock = sock = Socket(host, family.family, SOCK_DGRAM, family.proto)
        try:
            sock.setblocking(False)
            sock.setsockopt(SOL_SOCKET, SO_RCVBUF, 1 << 20)
            sock.setsockopt(family.level, family.recv_ttl, 1)
            sock.setsockopt(family.level, family.recverr, 1)
            if ttl is not None:
                sock.setsockopt(family.level, family.ttl, ttl)
            if device is not None:
                sock.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, device.encode())
            if source is not None:
                sock.bind((source, 0))
        except BaseException:
            sock.close()
            raise

    def send(self) -> None:
        """Send the next request; counted also when the socket refuses it.  Raises: OSError."""
        counts = self.counts
        counts.transmitted += 1
        sequence = counts.transmitted & 0xFFFF
        self._answered.discard(sequence)
        self._sent_ns[sequence] = self.host.clock.now_ns()
        header = HEADER.pack(self.family.echo, 0, 0, 0, sequence)
        self.sock.sendto(header + self.payload, (self.dest, 0))

    def waiting(self) -> bool:
        """Whether `receive` would return something."""
        return bool(self.sock.poll() & (POLLIN | POLLERR))

    def receive(self) -> Reply | PingError | None:
        """Return the next answer or error about one of our requests, else None."""
        while True:
            now_ns = self.host.clock.now_ns()
            try:
                n, control, _, name = self.sock.recvmsg_into([self._buffer], 64)
            except BlockingIOError:
                return None
            except OSError:
                if (failed := self._error()) is not None:
                    return failed
                continue
            reply = self._reply(bytes(memoryview(self._buffer)[:n]), control, name, now_ns)
            if reply is not None:
                return reply

    def _reply(self, data: bytes, control: list[Any], name: Any, now_ns: int) -> Reply | None:
        counts = self.counts
        if len(data) < HEADER.size:
            return None
        kind, _, _, _, sequence = HEADER.unpack_from(data)
        if kind != self.family.reply or sequence not in self._sent_ns:
            return None
        ttls = [
            int.from_bytes(value, sys.byteorder)
            for level, what, value in control
            if (level, what) == (self.family.level, self.family.ttl_cmsg)
        ]
        rtt_ns = now_ns - self._sent_ns[sequence]
        duplicate = sequence in self._answered
        self._answered.add(sequence)
        if duplicate:
            counts.duplicates += 1
        else:
            counts.received += 1
        counts.rtt(rtt_ns)
        self._acknowledge(sequence)
        payload = data[HEADER.size :]
        wrong = None
        if payload != self.payload:
            pairs = enumerate(zip(payload, self.payload, strict=False))
            short = min(len(payload), len(self.payload))
            wrong = next((i for i, (got, sent) in pairs if got != sent), short)
        return Reply(sequence, name[0], len(data), ttls[0] if ttls else 0, rtt_ns, duplicate, wrong)

    def _error(self) -> PingError | None:
        """Take one entry of the error queue; None when there is none about a request of ours."""
        try:
            n, control, _, _ = self.sock.recvmsg_into(
                [self._buffer], 512, MSG_ERRQUEUE | MSG_DONTWAIT
            )
        except BlockingIOError:
            return None
        for level, what, value in control:
            family = self.family
            if (level, what) != (family.level, family.recverr) or n < HEADER.size:
                continue
            _, origin, kind, code, _, info, _ = EXTENDED_ERR.unpack_from(value)
            offender = family.offender(value[EXTENDED_ERR.size :])
            request, _, _, _, sequence = HEADER.unpack_from(self._buffer)
            if origin != family.origin or request != family.echo:
                continue
            self.counts.errors += 1
            self._acknowledge(sequence)
            return PingError(sequence, offender, family.explain(kind, code, info))
        return None

    def _acknowledge(self, sequence: int) -> None:
        behind = self.counts.transmitted - sequence & 0xFFFF
        if behind <= 0x7FFF:
            self.counts.pipe = max(self.counts.pipe, behind + 1)

    def ping(self, timeout_s: float) -> int | None:
        """Send one request and wait for its own reply; return the round trip in ns, or None when
        none came in time or an error came instead."""
        clock = self.host.clock
        deadline = clock.now_ns() + int(timeout_s * 1e9)
        self.send()
        wanted = self.counts.transmitted & 0xFFFF
        while (left := deadline - clock.now_ns()) > 0 and clock.wait(self.waiting, left):
            came = self.receive()
            if came is not None and came.sequence == wanted:
                return came.rtt_ns if isinstance(came, Reply) else None
        return None

    def loss(self) -> float:
        """Return the part of the requests that had no reply, 0 to 1."""
        sent = self.counts.transmitted
        return (sent - self.counts.received) / sent if sent else 0.0

    def summary(self) -> dict[str, Any]:
        """Return what `ping` prints at the end; times in ms."""
        counts = self.counts
        times = (counts.min_ns, counts.mean_ns(), counts.max_ns, counts.mdev_ns())
        names = ("min_ms", "avg_ms", "max_ms", "mdev_ms")
        rtts = {
            name: ns / 1e6 if counts.rtts else None for name, ns in zip(names, times, strict=True)
        }
        return {
            "transmitted": counts.transmitted,
            "received": counts.received,
            "duplicates": counts.duplicates,
            "errors": counts.errors,
            "loss": self.loss(),
        } | rtts

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


def source_address(host: Any, dest: str, device: str | None = None) -> str:
    """Return the address that `host` speaks to `dest` from, as a connected socket finds it.

    Raises: OSError: no route, or a broadcast address.
    """
    with Socket(host, family_of(dest).family, SOCK_DGRAM) as probe:
        if device is not None:
            probe.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, device.encode())
        probe.connect((dest, 1025))
        address: str = probe.getsockname()[0]
        return address
