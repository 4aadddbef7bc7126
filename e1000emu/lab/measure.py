"""Measurements over time: a TCP connection, counters, round trips, as arrays, CSV and figure."""

from __future__ import annotations

import csv
import errno
import os
import struct
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np

from e1000emu.errors import E1000Error
from e1000emu.insight.arrays import TCP_INFO, Array, Series

__all__ = [
    "COLUMNS",
    "PING",
    "SAMPLE",
    "CounterSampler",
    "Sampler",
    "TcpSampler",
    "ping",
    "write_csv",
    "write_figure",
]

AF_INET, SOCK_DGRAM = 2, 2
IPPROTO_ICMP, IPPROTO_TCP, OPT_TCP_INFO = 1, 6, 11
ICMP_ECHO, ICMP_ECHOREPLY = 8, 0
ECHO = struct.Struct("!BBHHH")

SAMPLE = np.dtype([("time_ns", "i8"), *TCP_INFO.descr])
"""One sample: the host's clock, then every field of struct tcp_info."""

COLUMNS = {
    "time_s": "seconds since the first sample",
    "cwnd_segments": "congestion window",
    "ssthresh_segments": "slow start threshold, empty before there is one",
    "rtt_ms": "smoothed round-trip time",
    "rttvar_ms": "its variation",
    "acked_bytes": "acknowledged so far",
    "throughput_bps": "of what was acknowledged since the sample before",
    "unacked_segments": "in flight or lost",
    "retransmitted_segments": "so far",
    "rto_ms": "retransmission timeout",
}
"""The columns of the CSV file."""
INFINITE_SSTHRESH = 0x7FFFFFFF
FIGURE_BINS = 100


class Sampler:
    """Samples a row every `every_ns` of `clock`, during `with` or from `start` to `stop`.

    On a virtual clock that is virtual time. Samples are taken while other calls run or wait on the
    clock; they change nothing that is sampled and delay no call.
    """

    def __init__(self, clock: Any, dtype: np.dtype[Any], every_ns: int) -> None:
        if every_ns <= 0:
            raise E1000Error(f"{type(self).__name__}: every_ns={every_ns} is not above 0")
        self._clock = clock
        self._every_ns = every_ns
        self._timer: Any = None
        self._series = Series(dtype)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Take the first sample now and the others in time."""
        with self._clock.lock:
            if self._timer is None:
                self._sample()

    def stop(self) -> None:
        """Take a last sample, if there is still something to sample. Harmless when repeated."""
        with self._clock.lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
                self._read()

    @property
    def samples(self) -> Array:
        """What was sampled so far; not a copy, and later samples are not in it."""
        return self._series.rows

    def _read(self) -> bool:
        """Append a row; False when there is nothing left to sample."""
        raise NotImplementedError

    def _sample(self) -> None:
        self._timer = None
        if self._read():
            self._timer = self._clock.call_at(
                self._clock.now_ns() + self._every_ns, self._sample, background=True
            )


class CounterSampler(Sampler):
    """Reads counters every `every_ns` of `clock`: how they grow over time.

        sources = {"nic": nic.stats.as_dict, "tcp": lambda: dict(host.mib.tcp.items())}
        with CounterSampler(host.clock, sources, every_ns=1_000_000) as sampler:
            ...
        np.diff(sampler.samples["nic.GPRC"])

    A source is a function that returns numbers by name. The fields of `samples` are `time_ns` and
    SOURCE.NAME for each name that its first answer has.
    """

    def __init__(
        self,
        clock: Any,
        sources: Mapping[str, Callable[[], Mapping[str, int]]],
        *,
        every_ns: int = 1_000_000,
    ) -> None:
        self._sources = [(source, tuple(source())) for source in sources.values()]
        fields = [
            (f"{label}.{name}", "i8")
            for label, (_, names) in zip(sources, self._sources, strict=True)
            for name in names
        ]
        super().__init__(clock, np.dtype([("time_ns", "i8"), *fields]), every_ns)

    def _read(self) -> bool:
        values: list[int] = [self._clock.now_ns()]
        for source, names in self._sources:
            now = source()
            values += [now[name] for name in names]
        self._series.append(tuple(values))
        return True


class TcpSampler(Sampler):
    """Reads TCP_INFO of a connected `sock` every `every_ns` of its host's clock.

        with TcpSampler(client) as sampler:
            ...
        sampler.write_csv("transfer.csv")

    `samples` has the dtype `SAMPLE`. The last one is taken before the socket is closed.
    """

    def __init__(self, sock: Any, *, every_ns: int = 1_000_000) -> None:
        super().__init__(sock.net.clock, SAMPLE, every_ns)
        self._sock = sock

    def _read(self) -> bool:
        try:
            info = self._sock.getsockopt(IPPROTO_TCP, OPT_TCP_INFO, TCP_INFO.itemsize)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            return False  # closed
        self._series.append_bytes(np.int64(self._clock.now_ns()).tobytes(), info)
        return True

    def columns(self) -> dict[str, Array]:
        """Return an array for each of `COLUMNS`; NaN where there is no value."""
        rows = self.samples
        seconds = (rows["time_ns"] - rows["time_ns"][:1]) / 1e9
        acked = rows["bytes_acked"].astype(float)
        rate = np.zeros(len(rows))
        apart = np.diff(seconds)
        np.divide(8 * np.diff(acked), apart, out=rate[1:], where=apart > 0)
        threshold = rows["snd_ssthresh"].astype(float)
        threshold[rows["snd_ssthresh"] >= INFINITE_SSTHRESH] = np.nan
        return {
            "time_s": seconds,
            "cwnd_segments": rows["snd_cwnd"],
            "ssthresh_segments": threshold,
            "rtt_ms": rows["rtt"] / 1e3,
            "rttvar_ms": rows["rttvar"] / 1e3,
            "acked_bytes": rows["bytes_acked"],
            "throughput_bps": rate,
            "unacked_segments": rows["unacked"],
            "retransmitted_segments": rows["total_retrans"],
            "rto_ms": rows["rto"] / 1e3,
        }

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the columns with a line of headings; a value that does not exist is empty."""
        write_csv(path, {"": self})

    def write_figure(self, path: str | os.PathLike[str], *, title: str = "") -> None:
        """Draw cwnd, RTT and throughput over time; the suffix (.svg, .png, .pdf) is the format.

        Raises E1000Error without samples, for an unknown suffix, and without matplotlib.
        """
        write_figure(path, {"": self}, title=title)


def write_csv(path: str | os.PathLike[str], runs: Mapping[str, TcpSampler]) -> None:
    """Write what was sampled in `runs`, by name, which is the first column of several runs."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*(["run"] if len(runs) > 1 else []), *COLUMNS])
        for name, sampler in runs.items():
            first = [name] if len(runs) > 1 else []
            columns = sampler.columns().values()
            for row in zip(*(column.tolist() for column in columns), strict=True):
                writer.writerow(first + ["" if value != value else _plain(value) for value in row])


def write_figure(
    path: str | os.PathLike[str], runs: Mapping[str, TcpSampler], *, title: str = ""
) -> None:
    """Draw cwnd, RTT and throughput over time of `runs`, by name: a colour for each of several.

    Raises E1000Error without samples, for an unknown suffix, and without matplotlib.
    """
    from e1000emu.lab.figures import new_figure, save

    figure, (windows, trips, rates) = new_figure(3, height=7.0)
    largest, one = 1.0, len(runs) == 1
    for number, (name, sampler) in enumerate(runs.items()):
        columns = sampler.columns()
        if not len(sampler.samples):
            raise E1000Error("TcpSampler: no samples to draw; start it while the socket is open")
        blue, orange, green, red = ("C0", "C1", "C2", "C3") if one else (f"C{number % 10}",) * 4
        time_s = columns["time_s"]
        windows.plot(time_s, columns["cwnd_segments"], color=blue, label="cwnd" if one else name)
        threshold = "ssthresh" if one else "_ssthresh"
        windows.plot(time_s, columns["ssthresh_segments"], "--", color=orange, label=threshold)
        largest = max(largest, float(np.max(columns["cwnd_segments"], initial=1)))
        trips.plot(time_s, columns["rtt_ms"], color=green, label="smoothed RTT" if one else name)
        # Acknowledgements arrive in bursts of a window: an average shows the path's throughput.
        edges = np.linspace(time_s[0], time_s[-1], FIGURE_BINS + 1)
        acked = np.interp(edges, time_s, columns["acked_bytes"].astype(float))
        mbps = 8e-6 * np.diff(acked) / max(edges[1] - edges[0], 1e-9)
        rates.stairs(mbps, edges, color=red, label="throughput" if one else name)
    windows.set_ylabel("segments" if one else "cwnd, dashed ssthresh")
    # A threshold that nothing has lowered yet would flatten the window.
    windows.set_ylim(0, 1.2 * largest)
    trips.set_ylabel("ms" if one else "smoothed RTT: ms")
    rates.set_ylabel("Mbit/s" if one else "throughput: Mbit/s")
    rates.set_xlabel("s")
    for axis in (trips, rates):
        axis.set_ylim(bottom=0)
    for axis in (windows, trips, rates):
        axis.legend(loc="upper right")
        axis.grid(alpha=0.3)
    if title:
        figure.suptitle(title)
    save(figure, os.fspath(path))


def _plain(value: float) -> float | str:
    return f"{value:.9g}" if isinstance(value, float) else value


PING = np.dtype([("sent_ns", "i8"), ("rtt_ns", "i8")])
"""An echo request: the host's clock when it left, and the round trip, -1 when no answer came."""


def ping(
    host: Any,
    dest: str,
    *,
    count: int = 100,
    interval_ns: int = 10_000_000,
    timeout_ns: int = 1_000_000_000,
    size_bytes: int = 56,
) -> Array:
    """Send ICMP echo requests from `host`, each after the answer to the one before; dtype `PING`.

    A request leaves `interval_ns` after the one before it, or later when its answer takes longer.
    """
    if count < 1 or interval_ns < 0 or timeout_ns <= 0:
        raise E1000Error(
            f"ping: count={count}, interval_ns={interval_ns}, timeout_ns={timeout_ns}; give "
            "a count and a timeout above 0, an interval of 0 or more"
        )
    clock, found = host.clock, Series(PING, room=count)
    with host.socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP) as sock:
        for number in range(count):
            start = clock.now_ns()
            sequence = number & 0xFFFF
            sock.sendto(ECHO.pack(ICMP_ECHO, 0, 0, 0, sequence) + bytes(size_bytes), (dest, 0))
            found.append((start, _answer_ns(clock, sock, sequence, start, timeout_ns)))
            rest = start + interval_ns - clock.now_ns()
            if rest > 0 and number + 1 < count:
                clock.wait(lambda: False, rest)
    return found.rows


def _answer_ns(clock: Any, sock: Any, sequence: int, start: int, timeout_ns: int) -> int:
    """Wait for the reply with that number; ns since `start`, -1 when time is up."""
    while (left := start + timeout_ns - clock.now_ns()) > 0:
        sock.settimeout(left / 1e9)
        try:
            data = sock.recv(65536)
        except TimeoutError:
            break
        kind, _, _, _, number = ECHO.unpack_from(data)
        if (kind, number) == (ICMP_ECHOREPLY, sequence):
            return int(clock.now_ns() - start)
    return -1
