"""`up --serve iperf3`: the sockets and tasks of `stack.services.iperf3`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from typing import Any

from e1000emu.cli.servespec import Service
from stack import aio
from stack.core.uapi import SO_RCVBUFFORCE
from stack.inet.tcp_sock import TCP_INFO
from stack.services.iperf3 import Close, Iperf3Server, Send, SendTo, Start, Stop, Stream
from stack.socket import AF_INET6, IPPROTO_TCP, SOCK_DGRAM, SOL_SOCKET, TCP_NODELAY, Socket

log = logging.getLogger(__name__)

CHUNK = 1 << 18
UDP_ROW = 65536
UDP_ROWS = 32
"""Datagrams that are read, or sent, in one step."""
UDP_RCVBUF = 4 << 20
TCP_INFO_BYTES = 104
TOTAL_RETRANS = struct.Struct("=I")
TOTAL_RETRANS_AT = 100
"""The field of struct tcp_info, and its offset."""
BURST_S = 0.001
"""How long a sender with a rate sleeps when it is ahead of it."""


class Iperf3:
    """An iperf3 server on a host: one test at a time, TCP and UDP on one port."""

    def __init__(self, host: Any, service: Service) -> None:
        self.host = host
        self.service = service
        self.core = Iperf3Server()
        self.conns: dict[int, Socket] = {}
        self.streams: dict[Any, Stream] = {}
        self.senders: dict[Any, asyncio.Task[None]] = {}
        self.rest = memoryview(bytearray(CHUNK))
        self.alarm: asyncio.TimerHandle | None = None
        self.udp = Socket(host, AF_INET6, SOCK_DGRAM)  # takes IPv4 too
        service.sockets.append(self.udp)
        self.udp.setsockopt(SOL_SOCKET, SO_RCVBUFFORCE, UDP_RCVBUF)
        self.udp.bind(("::", service.port))
        self.udp.setblocking(False)

    def _do(self, actions: list[Any]) -> None:
        """Carry out the core's actions."""
        for action in actions:
            match action:
                case Send(conn, data):
                    self._send(conn, data)
                case SendTo(to, data):
                    self._send_to(to, data)
                case Close(conn):
                    sock = self.conns.pop(conn, None)
                    if sock is not None:
                        sock.close()
                case Start(streams):
                    self._start(streams)
                case Stop(text, streams):
                    if text:
                        log.info("iperf3:%d: %s", self.service.port, text)
                    self._settle(streams)
                    for stream in streams:
                        self.streams.pop(stream.peer, None)
                        sender = self.senders.pop(stream.peer, None)
                        if sender is not None:
                            sender.cancel()
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None
        if self.core.deadline_ns:
            wait_s = max(self.core.deadline_ns - self._now(), 0) / 1e9
            self.alarm = asyncio.get_running_loop().call_later(wait_s, self._timer)

    def _now(self) -> int:
        return int(self.host.clock.now_ns())

    def _wall_s(self) -> float:
        return float(self.host.machine.realtime_ns() / 1e9)

    def _timer(self) -> None:
        self._do(self.core.timer(self._now()))

    def _send(self, conn: int, data: bytes) -> None:
        sock = self.conns.get(conn)
        try:
            if sock is not None and sock.send(data) == len(data):
                return
        except OSError:
            pass  # closed, or not reading
        if sock is not None and self.conns.pop(conn, None) is not None:
            sock.close()

    def _send_to(self, to: Any, data: bytes) -> None:
        with contextlib.suppress(OSError):  # lost: the client retries
            self.udp.sendto(data, to)

    def _start(self, streams: tuple[Stream, ...]) -> None:
        self.service.requests = self.core.tests
        self.streams = {stream.peer: stream for stream in streams}
        for stream in streams:
            if not stream.sender:
                continue
            send = self._send_datagrams if stream.params.udp else self._send_blocks
            self.senders[stream.peer] = asyncio.create_task(send(stream))

    def _settle(self, streams: tuple[Stream, ...]) -> None:
        """Count TCP retransmissions, and bytes in receive queues."""
        for stream in streams:
            sock = self.conns.get(stream.peer)
            if sock is None:
                continue
            if stream.sender:
                info = sock.getsockopt(IPPROTO_TCP, TCP_INFO, TCP_INFO_BYTES)
                (stream.retransmits,) = TOTAL_RETRANS.unpack_from(info, TOTAL_RETRANS_AT)
                continue
            with contextlib.suppress(OSError):
                while n := sock.recv_into(self.rest):
                    stream.size += n

    # --- TCP -----------------------------------------------------------------------------------

    async def connection(self, number: int, sock: Socket) -> None:
        """Serve one connection until it ends, be it the control connection or a stream."""
        self.conns[number] = sock
        sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        self._do(self.core.accepted(number))
        try:
            while want := self.core.wants(number):
                data = await aio.sock_recv(sock, want)
                if not data:
                    break
                self._do(self.core.received(number, data, self._now()))
                if number not in self.conns:
                    return
            else:
                await self._read_blocks(number, sock)
        except OSError:
            pass  # the peer has closed, or the core closed the connection
        finally:
            if self.conns.pop(number, None) is not None:
                self._do(self.core.lost(number, self._now()))
                sock.close()

    async def _read_blocks(self, number: int, sock: Socket) -> None:
        """Count a stream's data."""
        buffer = memoryview(bytearray(CHUNK))
        while n := await aio.sock_recv_into(sock, buffer):
            self.service.bytes_in += n
            stream = self.streams.get(number)
            if stream is not None:
                stream.size += n
                if self.core.draining:
                    self._do(self.core.counted(self._now()))

    async def _send_blocks(self, stream: Stream) -> None:
        """Send blocks of a TCP stream until cancelled."""
        sock = self.conns[stream.peer]
        block = bytes(stream.params.block_bytes)
        if not stream.params.rate:
            block *= max(CHUNK // len(block), 1)
        started, sent = self._now(), 0
        try:
            while True:
                sent += len(block)
                await self._pace(stream, started, sent)
                await aio.sock_sendall(sock, block)
                stream.size += len(block)
                self.service.bytes_out += len(block)
                await asyncio.sleep(0)  # let other tasks run, also when the peer is never slower
        except OSError:
            return  # the client has closed it

    async def _pace(self, stream: Stream, started_ns: int, sent: int) -> None:
        """Sleep while `sent` bytes since `started_ns` are more than the rate allows."""
        rate = stream.params.rate
        while rate and sent * 8_000_000_000 > rate * (self._now() - started_ns):
            await asyncio.sleep(BURST_S)

    # --- UDP -----------------------------------------------------------------------------------

    async def datagrams(self) -> None:
        """Read the UDP port: datagrams of streams are counted, others may open one."""
        rows = memoryview(bytearray(UDP_ROW * UDP_ROWS))
        while True:
            try:
                data, source = await aio.sock_recvfrom(self.udp, UDP_ROW)
                self._datagram(source, data, self._wall_s())
                got = self.udp.recvmfrom_into(rows, UDP_ROW)
            except BlockingIOError:
                continue
            except OSError:
                await asyncio.sleep(0)  # an ICMP error for an earlier answer
                continue
            wall_s = self._wall_s()
            for i, (n, peer) in enumerate(got):
                self._datagram(peer, rows[i * UDP_ROW : i * UDP_ROW + n], wall_s)

    def _datagram(self, source: Any, data: bytes | memoryview, wall_s: float) -> None:
        self.service.bytes_in += len(data)
        stream = self.streams.get(source)
        if stream is None or len(data) == 4:
            self._do(self.core.datagram(source, data, self._now()))
        elif not stream.sender:
            stream.take(data, wall_s)

    async def _send_datagrams(self, stream: Stream) -> None:
        """Send the datagrams of a UDP stream until cancelled."""
        size = stream.params.block_bytes
        head = len(stream.head(0.0))
        stream.packets = 0
        filling = bytes(size - head)
        started, sent = self._now(), 0
        # With a rate, a burst is at most what the rate allows in a millisecond.
        rows = UDP_ROWS
        if stream.params.rate:
            rows = min(max(int(stream.params.rate * BURST_S) // (8 * size), 1), UDP_ROWS)
        while True:
            sent += size * rows
            await self._pace(stream, started, sent)
            wall_s = self._wall_s()
            messages = [(stream.head(wall_s) + filling, stream.peer) for _ in range(rows)]
            while messages:
                try:
                    done = self.udp.sendmmsg(messages)
                except BlockingIOError:
                    await aio.sock_sendto(self.udp, *messages[0])
                    done = 1
                except OSError:
                    done = 1  # an ICMP error for an earlier one; this one is lost
                stream.size += size * done
                self.service.bytes_out += size * done
                del messages[:done]
            await asyncio.sleep(0)

    async def serve(self, listener: Socket) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.datagrams())
            number = 0
            try:
                while True:
                    sock, _ = await aio.sock_accept(listener)
                    number += 1
                    self.service.connections += 1
                    group.create_task(self._counted(number, sock))
            finally:
                for task in self.senders.values():
                    task.cancel()
                if self.alarm is not None:
                    self.alarm.cancel()

    async def _counted(self, number: int, sock: Socket) -> None:
        self.service.active += 1
        try:
            await self.connection(number, sock)
        finally:
            self.service.active -= 1
