"""Frames of a host's interface, read from an AF_PACKET socket of its stack as tcpdump does."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from e1000emu.capture import DIRECTION_IN, DIRECTION_OUT, Record
from e1000emu.closing import Closing
from fastpath.base.bpf import bpf_filter, bpf_prog
from stack.api.pcap import compile_filter
from stack.core.bsd_socket import sys_bind
from stack.core.sockaddr import sockaddr_ll
from stack.core.uapi import SO_ATTACH_FILTER, SO_RCVBUFFORCE, SO_TIMESTAMPNS, SOL_PACKET
from stack.packet.packet_ring import TP_STATUS_VLAN_TPID_VALID, TP_STATUS_VLAN_VALID
from stack.packet.packet_sock import (
    PACKET_ADD_MEMBERSHIP,
    PACKET_AUXDATA,
    PACKET_IGNORE_OUTGOING,
    PACKET_MR_PROMISC,
    PACKET_STATISTICS,
)
from stack.socket import AF_PACKET, SOCK_RAW, SOL_SOCKET

if TYPE_CHECKING:
    from stack.api.netns import Namespace
    from stack.socket import Socket

PACKET_OUTGOING = 4
AUXDATA = struct.Struct("=IIIHHHH")
TIMESPEC = struct.Struct("=qq")
CONTROL_BYTES = 128
ROOM_BYTES = 1 << 19  # a super-packet and more
RCVBUF_BYTES = 4 << 20
IN, OUT, BOTH = "in", "out", "inout"


class Sniffer(Closing):
    """The frames of an interface of `host`, or all of them (None), as `Record`s.

    `expression` is libpcap's ("" takes all). It runs in the stack, on frames as taps see them,
    which have no VLAN tag. So an expression that needs one ("vlan") runs here instead, on frames
    that have it again. `direction`: "in", "out" or "inout". Promiscuous while it is open, with an
    interface. Close it in the end (it is a context manager).

    Raises: PcapError for an expression; OSError, ENODEV for an interface.
    """

    def __init__(
        self,
        host: Namespace,
        expression: str = "",
        *,
        interface: str | None = None,
        direction: str = BOTH,
        snap_bytes: int = 262144,
    ) -> None:
        self.direction = direction
        self.snap_bytes = snap_bytes
        code = compile_filter(expression, snap_bytes=snap_bytes) if expression else b""
        self._here: bpf_prog | None = None
        self._buffer = bytearray(ROOM_BYTES)
        self._interfaces: dict[str, int] = {}
        self.frames = 0
        self._socket: Socket = host.socket(AF_PACKET, SOCK_RAW, 0)
        try:
            self._open(host, interface, code, bool(re.search(r"\bvlan\b", expression)))
        except BaseException:
            self._socket.close()
            raise

    def _open(self, host: Namespace, interface: str | None, code: bytes, tags: bool) -> None:
        sock = self._socket
        sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.setsockopt(SOL_SOCKET, SO_RCVBUFFORCE, RCVBUF_BYTES)
        sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        if self.direction == IN:
            sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        if tags:
            self._here = bpf_prog(code)
        elif code:
            rows = [(c, t, f, k) for c, t, f, k in struct.iter_unpack("=HBBI", code)]
            sock.setsockopt(SOL_SOCKET, SO_ATTACH_FILTER, rows)
        if interface is not None:
            index = host.dev(interface).ifindex
            mreq = struct.pack("=iHH8x", index, PACKET_MR_PROMISC, 0)
            sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, mreq)
            sock.bind((interface, 3))
        else:
            for dev in host.dev_base_head:
                mreq = struct.pack("=iHH8x", dev.ifindex, PACKET_MR_PROMISC, 0)
                sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, mreq)
            self._bind_any(host)

    def _bind_any(self, host: Namespace) -> None:
        """Receive frames of every interface: bind(2) with index 0, which has no name in Python."""
        with host.lock:
            sys_bind(host, self._socket.host_fd, sockaddr_ll(3))

    @property
    def interfaces(self) -> list[str]:
        """The interfaces seen so far; `Record.interface` is an index into it."""
        return list(self._interfaces)

    def read(self, timeout_s: float | None = None) -> Record | None:
        """The next frame; None at the timeout. 0 does not wait. Raises: OSError ENETDOWN."""
        self._socket.settimeout(timeout_s)
        while True:
            try:
                size, anc, _, name = self._socket.recvmsg_into([self._buffer], CONTROL_BYTES)
            except (BlockingIOError, TimeoutError):
                return None
            record = self._record(size, anc, name)
            if record is not None:
                self.frames += 1
                return record

    def waiting(self) -> Iterator[Record]:
        """The frames that are queued now."""
        while (record := self.read(0)) is not None:
            yield record

    def _record(
        self, size: int, anc: list[tuple[int, int, bytes]], name: tuple[str, int, int, int, bytes]
    ) -> Record | None:
        outgoing = name[2] == PACKET_OUTGOING
        if self.direction != BOTH and outgoing != (self.direction == OUT):
            return None
        data = bytes(memoryview(self._buffer)[: min(size, ROOM_BYTES)])
        length, when = size, 0
        for level, kind, value in anc:
            if level == SOL_PACKET and kind == PACKET_AUXDATA:
                status, length, _, _, _, tci, tpid = AUXDATA.unpack(value)
                if status & TP_STATUS_VLAN_VALID:
                    tpid = tpid if status & TP_STATUS_VLAN_TPID_VALID else 0x8100
                    data = data[:12] + struct.pack(">HH", tpid, tci) + data[12:]
                    length += 4
            elif level == SOL_SOCKET and kind == SO_TIMESTAMPNS:
                sec, nsec = TIMESPEC.unpack(value)
                when = sec * 1_000_000_000 + nsec
        if self._here is not None and not bpf_filter(self._here, data, length):
            return None
        number = self._interfaces.setdefault(name[0], len(self._interfaces))
        way = DIRECTION_OUT if outgoing else DIRECTION_IN
        return Record(when, data[: self.snap_bytes], length, number, direction=way)

    def statistics(self) -> tuple[int, int]:
        """(frames that passed the filter, dropped frames) since the last call."""
        packets, drops = struct.unpack(
            "=II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        )
        return packets, drops

    def close(self) -> None:
        """End; interfaces are no longer promiscuous for it. Harmless when repeated."""
        self._socket.close()
