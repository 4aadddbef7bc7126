"""Rings, frames, counters and captures as numpy arrays: without copies; dtypes are the layouts
in memory.

Every array keeps its memory alive, independent of its ring, batch or file:

* `rx_ring`, `tx_ring`: the guest's descriptors themselves; they change with device and driver.
* `frames`, `frame_memory`: the current batch. If it is cleared, shortened, grown or passed
  on, they keep their content.
* `statistics`: the counters themselves; they change as the device counts.
* `Series.rows`: the rows so far, which never change.
* `Capture`: the file as read.
* `Datagrams`: the caller's own memory, which the next `receive` overwrites.
"""

from __future__ import annotations

import functools
import io
import ipaddress
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from e1000emu.capture import read_records
from e1000emu.errors import E1000Error, LinkError
from e1000emu.registers.descriptors import DESCRIPTOR_BYTES, RX, TX_LEGACY
from fastpath.nic.regfile import Stats

if TYPE_CHECKING:
    from e1000emu.device.nic import Nic
    from fastpath.base.batch import FrameBatch

Array = npt.NDArray[Any]

TCP_INFO = np.dtype(
    [
        *((name, "u1") for name in ("state", "ca_state", "retransmits", "probes", "backoff")),
        *((name, "u1") for name in ("options", "wscale", "flags")),
        *((name, "u4") for name in ("rto", "ato", "snd_mss", "rcv_mss", "unacked", "sacked")),
        *((name, "u4") for name in ("lost", "retrans", "fackets", "last_data_sent")),
        *((name, "u4") for name in ("last_ack_sent", "last_data_recv", "last_ack_recv", "pmtu")),
        *((name, "u4") for name in ("rcv_ssthresh", "rtt", "rttvar", "snd_ssthresh", "snd_cwnd")),
        *((name, "u4") for name in ("advmss", "reordering", "rcv_rtt", "rcv_space")),
        ("total_retrans", "u4"),
        *((name, "u8") for name in ("pacing_rate", "max_pacing_rate", "bytes_acked")),
        ("bytes_received", "u8"),
        *((name, "u4") for name in ("segs_out", "segs_in", "notsent_bytes", "min_rtt")),
        *((name, "u4") for name in ("data_segs_in", "data_segs_out")),
        *((name, "u8") for name in ("delivery_rate", "busy_time", "rwnd_limited")),
        ("sndbuf_limited", "u8"),
        *((name, "u4") for name in ("delivered", "delivered_ce")),
        *((name, "u8") for name in ("bytes_sent", "bytes_retrans")),
        *((name, "u4") for name in ("dsack_dups", "reord_seen", "rcv_ooopack", "snd_wnd")),
        *((name, "u4") for name in ("rcv_wnd", "rehash")),
        *((name, "u2") for name in ("total_rto", "total_rto_recoveries")),
        ("total_rto_time", "u4"),
    ]
)
"""struct tcp_info (include/uapi/linux/tcp.h) without the prefix `tcpi_`; times in µs, those of
`last_*` in ms. Result of `getsockopt(IPPROTO_TCP, TCP_INFO, 248)` here and on Linux."""


FRAME = np.dtype(
    [("offset", "u4"), ("length", "u4"), ("flags", "u4"), ("mark", "u4"), ("tstamp_ns", "u8")]
)
"""A frame of a `FrameBatch`: `offset` counts in `frame_memory(batch)`; flags are FB_*."""

STATISTICS = np.dtype([(name, "u8") for name in Stats()])
"""The statistics of a NIC by base name, 64 bits each: GORC is GORCL and GORCH (SDM 13.7)."""

CAPTURED = np.dtype(
    [
        ("time_ns", "i8"),
        ("offset", "u8"),
        ("captured", "u4"),
        ("length", "u4"),
        ("interface", "u4"),
        ("linktype", "u2"),
        ("direction", "u2"),
    ]
)
"""A captured frame: `captured` bytes at `offset` of `Capture.data`, `length` on the wire;
`direction` is DIRECTION_IN, DIRECTION_OUT or 0."""

DATAGRAM = np.dtype([("length", "u4"), ("addr", "u4"), ("port", "u2")])
"""A received datagram: bytes, and its sender (address in host order)."""


def _ring(nic: Nic, engine: Any, which: str, layout: npt.DTypeLike) -> Array:
    base, size = engine.base & ~(DESCRIPTOR_BYTES - 1), engine.len
    if not size:
        raise E1000Error(f"{which} ring: {which[0].upper()}DLEN is 0; let the driver set it up")
    try:
        view = nic.memory.view(base, size)
    except ValueError:
        raise E1000Error(
            f"{which} ring: {size} bytes at {base:#x} lie in no one region of memory; "
            "nic.memory.read gives a copy"
        ) from None
    return np.frombuffer(view, layout)


def rx_ring(nic: Nic) -> Array:
    """Return the receive ring in place, read-only, dtype `descriptors.RX`.

    Raises E1000Error without a ring, or if it is not in one piece of shared memory.
    """
    return _ring(nic, nic.rx.engine, "receive", RX)


def tx_ring(nic: Nic, layout: npt.DTypeLike = TX_LEGACY) -> Array:
    """Return the transmit ring in place, read-only. Raises E1000Error as `rx_ring` does.

    `layout` is TX_LEGACY, TX_DATA or TX_CONTEXT of `descriptors`; a ring may hold all three, and
    the same memory can be viewed as each: `ring.view(TX_DATA)`.
    """
    return _ring(nic, nic.tx.engine, "transmit", layout)


def frames(batch: FrameBatch) -> Array:
    """Return a row of dtype `FRAME` for each frame, read-only."""
    return np.frombuffer(batch.rows(), FRAME) if len(batch) else np.zeros(0, FRAME)


def frame_memory(batch: FrameBatch) -> Array:
    """Return the memory of the frames, read-only; gaps between frames are undefined.

    Frame i is `memory[row["offset"] : row["offset"] + row["length"]]`. Get it together with
    `frames`, before the batch changes.
    """
    return np.frombuffer(batch.memory(), "u1") if len(batch) else np.zeros(0, "u1")


def statistics(nic: Nic) -> Array:
    """Return the NIC's counters as one record of dtype `STATISTICS`, read-only; nothing is cleared.

    `statistics(nic).copy()` keeps the current values.
    """
    record: Array = np.frombuffer(memoryview(nic.stats), STATISTICS).reshape(())
    return record


@dataclass(frozen=True, slots=True)
class Capture:
    """A capture file: a row of dtype `CAPTURED` for each frame, and the bytes of the file."""

    rows: Array
    data: Array

    def payload(self, number: int) -> Array:
        """Return the captured bytes of a frame: a part of `data`, not a copy."""
        row = self.rows[number]
        start = int(row["offset"])
        return self.data[start : start + int(row["captured"])]


def read_capture_array(path: str | os.PathLike[str]) -> Capture:
    """Read a pcapng or classic pcap file, once. Raises LinkError as `capture.read_capture` does."""
    name = os.fspath(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise LinkError(f"capture {name!r}: {error.strerror}; give a pcap or pcapng file") from None
    series = Series(CAPTURED)
    for record in read_records(io.BytesIO(data), name):
        series.append(
            (
                record.when_ns,
                record.offset,
                len(record.data),
                record.length,
                record.interface,
                record.linktype,
                record.direction,
            )
        )
    return Capture(series.rows, np.frombuffer(data, "u1"))


class Datagrams:
    """Memory for `count` datagrams of up to `size_bytes`, filled by recvmmsg(2) in one call.

        room = Datagrams(64)
        n = room.receive(sock, MSG_WAITFORONE)
        room.info["length"][:n], room.data[0, : room.info["length"][0]]

    `data` is (count, size_bytes) uint8 and `info` has a row of dtype `DATAGRAM` for each.
    """

    def __init__(self, count: int, size_bytes: int = 2048) -> None:
        if count < 1 or size_bytes < 1:
            raise E1000Error(f"Datagrams: count={count}, size_bytes={size_bytes}; give 1 or more")
        self.data: Array = np.zeros((count, size_bytes), "u1")
        self.info: Array = np.zeros(count, DATAGRAM)
        self._rows = [memoryview(row) for row in self.data]

    def receive(self, sock: Any, flags: int = 0) -> int:
        """Receive from the beginning of the memory; returns the number.

        Waits for all, or with MSG_WAITFORONE for the first; errors are those of `sock.recvmmsg`.
        """
        got = sock.recvmmsg(self._rows, flags)
        for number, (length, address) in enumerate(got):
            host, port = address or ("0.0.0.0", 0)
            self.info[number] = length, _number(host), port
        return len(got)


@functools.lru_cache(maxsize=1024)
def _number(address: str) -> int:
    return int(ipaddress.IPv4Address(address))


class Series:
    """Rows of one dtype that grow: `append` at the end, `rows` for all of them as one array.

    Growing moves to new memory and keeps arrays returned earlier valid.
    """

    def __init__(self, dtype: npt.DTypeLike, *, room: int = 1024) -> None:
        self._all = np.zeros(max(room, 1), dtype)
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    @property
    def rows(self) -> Array:
        """The rows so far, read-only; not a copy."""
        view = self._all[: self.count]
        view.flags.writeable = False
        return view

    def append(self, row: Any) -> None:
        """Add a row: a tuple or scalar of the dtype."""
        at = self._next()  # first, because it may move to other memory
        self._all[at] = row

    def append_bytes(self, *parts: bytes) -> None:
        """Add a row given as its bytes in memory. Raises ValueError for a wrong size."""
        raw = b"".join(parts)
        if len(raw) != self._all.itemsize:
            raise ValueError(f"Series: {len(raw)} bytes; a row has {self._all.itemsize}")
        at = self._next()
        self._all[at : at + 1].view("u1")[:] = np.frombuffer(raw, "u1")

    def _next(self) -> int:
        if self.count == len(self._all):
            grown = np.zeros(2 * len(self._all), self._all.dtype)
            grown[: self.count] = self._all
            self._all = grown
        self.count += 1
        return self.count - 1
