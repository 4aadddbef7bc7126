"""Measurements as numpy arrays: dtypes that are the layout in memory, and rows that grow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["TCP_INFO", "Array", "Series"]

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
`last_*` in ms. What `getsockopt(IPPROTO_TCP, TCP_INFO, 248)` returns, ours and Linux's alike."""


class Series:
    """Rows of one dtype that grow: `append` at the end, `rows` for all of them as one array.

    Growing moves to new memory and leaves arrays that were handed out where they are.
    """

    def __init__(self, dtype: npt.DTypeLike, *, room: int = 1024) -> None:
        self._all = np.zeros(max(room, 1), dtype)
        self._all.flags.writeable = True
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
        self._all[self._next()] = row

    def append_bytes(self, *parts: bytes) -> None:
        """Add a row given as its bytes in memory. Raises ValueError when they are not as many."""
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
