"""TCP segments at random, to this machine's kernel and to a host of ours.

    python -m tests.linux.segments_at_random FIRST COUNT [--verbose]

A seed makes a script of steps: a segment that a hand-made peer sends, a call of a program, or the
wait for a timer. Each step goes to the kernel and then to ours, and what can be seen must be the
same. That is what each sends, what its calls return, TCP_INFO, poll(2), and the counters of TCP.
Windows are compared too, and which segments leave at once, without a timer. Left out are fields
that follow from time.

`Scene` plays a script. It has two `Side`s: `KernelSide` is a namespace behind a TUN, `OurSide` a
host in virtual time. A step is made for both with numbers that are relative: sequence numbers count
from the initial ones, and timestamps are echoes. `Peer` is one connection as its far end sees it,
and chooses the next segment; it knows what the kernel sent, so that a script goes somewhere.

Time: a TUN hands a packet to the kernel's TCP within the write, so what can be read then is the
answer. Our clock follows the kernel's. A timer of ours that is due soon is awaited before the next
step, by both. On a slow machine a timer of the kernel's may come first nevertheless. So a
difference counts only when each of several runs of its seed finds it (`confirmed`).
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import random
import select
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from e1000emu.clock import VirtualClock
from fastpath.base.csum import csum_ipv6_magic, csum_partial, csum_tcpudp_magic, ip_compute_csum
from stack.core.ioctl import sys_ioctl
from stack.core.read_write import sys_read, sys_write
from stack.core.timer import timer_list
from stack.drivers.tun_chr import tun_chr_open
from stack.host import Host
from stack.proc.counters import counters
from tests.linux.calls.kernel import Kernel
from tests.linux.calls.ours import Ours
from tests.linux.calls.world import Calls, same_name, sin, sin6
from tests.stack.packet.kernelnet import KernelNet

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR, AE = (1 << bit for bit in range(9))
LETTERS = "FSRPAUECN"
M32 = 0xFFFFFFFF
MS = 1_000_000
SECOND = 1000 * MS
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
NEAR4, FAR4, NEAR6, FAR6 = "10.0.0.2", "10.0.0.1", "fd00::2", "fd00::1"
PORT, OWN_PORT = 80, 7777
SOON_NS = 60 * MS
"""A timer of ours that expires within this time is awaited. A delayed ACK's is 40 ms."""
LATER_NS = 1500 * MS
"""The longest that a step waits."""
LATE_S = 0.016
"""A timer of the kernel's may be late by so much: it counts in ticks of 4 ms."""
PATIENCE_S = 3.0
"""How long the kernel may take to send the segments that ours has sent."""
TRIES = 4

MSS, WSCALE, SACK_OK, SACK, STAMP, MD5, FASTOPEN = 2, 3, 4, 5, 8, 19, 34
WRITABLE = select.POLLOUT | 0x100
"""POLLOUT and POLLWRNORM: how the send buffer grows depends on the time at which segments leave."""
INFO = struct.Struct("=8B 24I 4Q 6I 4Q 2I 2Q 6I 2H I")
INFO_FIELDS = """
state ca_state retransmits probes backoff options wscale -app_limited -rto -ato snd_mss rcv_mss
unacked sacked lost retrans fackets -data_sent -ack_sent -data_recv -ack_recv pmtu rcv_ssthresh
-rtt -rttvar snd_ssthresh snd_cwnd advmss reordering -rcv_rtt rcv_space total_retrans
-pacing_rate -max_pacing_rate bytes_acked bytes_received segs_out segs_in notsent_bytes -min_rtt
data_segs_in data_segs_out -delivery_rate -busy_time -rwnd_limited -sndbuf_limited delivered
delivered_ce bytes_sent bytes_retrans dsack_dups reord_seen rcv_ooopack snd_wnd rcv_wnd -rehash
total_rto total_rto_recoveries -total_rto_time
"""
"""Fields of struct tcp_info. Those with a dash are times, or follow from memory and time."""
INFO_NAMES = INFO_FIELDS.split()
OTHER_FIELDS = """
TcpRtoAlgorithm TcpRtoMin TcpRtoMax TcpMaxConn TcpExtTCPAutoCorking TcpExtTCPHystartTrainDetect
TcpExtTCPBacklogCoalesce TcpExtTCPOrigDataSent TcpExtDelayedACKLocked
TcpExtTcpTimeoutRehash TcpExtTcpDuplicateDataRehash TcpExtTCPHPHits TcpExtTCPHPAcks
TcpExtTCPSackShifted TcpExtTCPSackMerged TcpExtTCPSackShiftFallback TcpExtTSEcrRejected
"""
"""Counters that tell of the machine: memory, locks, and what was joined in a queue. A flow of ours
keeps its hash."""
OTHER_COUNTERS = frozenset(OTHER_FIELDS.split())


BASE: dict[str, Any] = {
    "tcp_congestion_control": "reno",
    "tcp_moderate_rcvbuf": 0,
    "tcp_comp_sack_nr": 0,
    "tcp_slow_start_after_idle": 0,
    "tcp_no_metrics_save": 1,
    "tcp_fastopen_key": "00000001-00000002-00000003-00000004",
    "tcp_rmem": (4096, 131_072, 6_291_456),
    "tcp_wmem": (4096, 262_144, 4_194_304),
}


@dataclass(frozen=True)
class Spec:
    """A segment of the peer's. Numbers are relative to the initial ones."""

    port: int
    dport: int
    seq: int
    ack: int
    flags: int
    window: int = 50_000
    size: int = 0
    urg: int = 0
    options: tuple[tuple[Any, ...], ...] = ()
    """(kind, value): the value is bytes, or (stamp, delta of the echo), or blocks of SACK."""
    tos: int = 0
    damage: str = ""
    doff: int = 0
    """An offset to the header's length."""

    def __str__(self) -> str:
        words = f"{self.port}>{self.dport} {flag_text(self.flags)} seq {self.seq}+{self.size}"
        words += f" ack {self.ack} win {self.window}"
        rest = {"urg": self.urg, "options": self.options, "tos": self.tos, "damage": self.damage}
        rest["doff"] = self.doff
        return words + "".join(f" {name} {value}" for name, value in rest.items() if value)


@dataclass(frozen=True)
class Seen:
    """A segment that a side sent. Numbers are relative; times and identifications are left out."""

    sport: int
    port: int
    seq: int
    ack: int
    flags: int
    window: int
    urg: int
    options: tuple[tuple[Any, ...], ...]
    payload: bytes
    ip: tuple[int, ...]
    """Type of service, DF, hop limit."""

    def __str__(self) -> str:
        words = f"{self.sport}>{self.port} {flag_text(self.flags)} seq {self.seq}"
        words += f"+{len(self.payload)} ack {self.ack} win {self.window} {self.options}"
        return words + (f" urg {self.urg}" if self.urg else "") + f" ip {self.ip}"


def flag_text(flags: int) -> str:
    """Letters of flags."""
    return "".join(name for i, name in enumerate(LETTERS) if flags >> i & 1) or "-"


def signed(number: int) -> int:
    """A difference of sequence numbers."""
    return ((number + (1 << 31)) & M32) - (1 << 31)


def content(seq: int, size: int) -> bytes:
    """The bytes of a stream from a relative sequence number: the same in each segment."""
    return bytes((seq + i) % 251 for i in range(size))


def options_of(data: bytes) -> list[tuple[int, bytes]]:
    """(kind, value) of each option, NOPs too."""
    found = []
    while data:
        kind = data[0]
        size = 1 if kind < 2 else max(data[1], 2)
        found.append((kind, data[2:size]))
        data = data[size:] if kind else b""
    return found


@dataclass
class Ends:
    """A side's data of one connection: its initial numbers."""

    iss: int
    irs: int = 0
    stamp: int = 0


class Side(ABC):
    """A host, its program's calls, and the wire to the peer."""

    calls: Calls

    def __init__(self, v6: bool) -> None:
        self.v6 = v6
        self.near, self.far = (
            (socket.inet_pton(socket.AF_INET6, a) for a in (NEAR6, FAR6))
            if v6
            else (socket.inet_aton(a) for a in (NEAR4, FAR4))
        )
        self.fds: list[int | None] = []
        self.ends: dict[int, Ends] = {}
        self._waiting: list[Seen] = []

    @abstractmethod
    def give(self, packet: bytes) -> None:
        """The host receives a packet, and answers at once if it does."""

    @abstractmethod
    def packets(self) -> list[bytes]:
        """The segments that it sent since the last call."""

    @abstractmethod
    def counters(self) -> dict[str, int]:
        """Counters of TCP."""

    def answered(self, packet: bytes) -> int:
        """Receive a packet; how many segments leave at once, without a timer."""
        self.look()
        before = len(self._waiting)
        self.give(packet)
        self.look()
        return len(self._waiting) - before

    def look(self) -> None:
        """Read the segments it sent: the next segment for it may depend on that."""
        self._waiting += [seen for p in self.packets() if (seen := self._parse(p)) is not None]

    def take(self) -> list[Seen]:
        """The segments that it sent since the last call."""
        self.look()
        found, self._waiting = self._waiting, []
        return found

    def _magic(self, source: bytes, to: bytes, tcp: bytes | bytearray) -> int:
        magic = csum_ipv6_magic if self.v6 else csum_tcpudp_magic
        numbers = int.from_bytes(source, "big"), int.from_bytes(to, "big")
        return magic(*numbers, len(tcp), 6, csum_partial(tcp))

    def _option(self, ends: Ends, option: tuple[Any, ...]) -> bytes:
        kind, value = option
        if kind == STAMP and not isinstance(value, bytes):
            value = struct.pack("!II", value[0] & M32, (ends.stamp + value[1]) & M32)
        if kind == SACK and not isinstance(value, bytes):
            numbers = [(ends.irs + n) & M32 for block in value for n in block]
            value = struct.pack(f"!{len(numbers)}I", *numbers)
        if kind == "raw":
            return bytes(value)
        return bytes((kind,)) if kind < 2 else bytes((kind, len(value) + 2)) + bytes(value)

    def segment(self, spec: Spec) -> bytes:
        """The IP packet of a segment."""
        ends = self.ends[spec.port]
        options = b"".join(self._option(ends, option) for option in spec.options)[:40]
        options += b"\0" * (-len(options) % 4)
        ack = (ends.irs + spec.ack) & M32 if spec.flags & ACK else spec.ack & M32
        head = (spec.port, spec.dport, (ends.iss + spec.seq) & M32, ack)
        doff = (5 + len(options) // 4 + spec.doff) & 15
        bits = doff << 12 | spec.flags
        tcp = bytearray(struct.pack("!HHIIHHHH", *head, bits, spec.window, 0, spec.urg))
        tcp += options + content(spec.seq, spec.size)
        check = self._magic(self.far, self.near, tcp) ^ (0x5555 if spec.damage else 0)
        tcp[16:18] = check.to_bytes(2, "big")
        if self.v6:
            head6 = struct.pack("!IHBB", 6 << 28 | spec.tos << 20, len(tcp), 6, 64)
            return head6 + self.far + self.near + tcp
        ip = bytearray(struct.pack("!BBHIBBH", 0x45, spec.tos, 20 + len(tcp), 0x4000, 64, 6, 0))
        ip += self.far + self.near
        ip[10:12] = ip_compute_csum(ip).to_bytes(2, "big")
        return bytes(ip + tcp)

    def _parse(self, packet: bytes) -> Seen | None:
        """A packet of the host's; None if TCP has nothing to do with it."""
        if packet[0] >> 4 == 6:
            if packet[6] != 6:
                return None
            tcp, word = packet[40:], int.from_bytes(packet[:4], "big")
            ip = (word >> 20 & 0xFF, 0, packet[7])
        else:
            if packet[9] != 6:
                return None
            tcp, ip = packet[20:], (packet[1], packet[6] >> 6, packet[8])
        assert self._magic(self.near, self.far, tcp) == 0, "checksum"
        sport, port, seq, ack, bits, window, _, urg = struct.unpack("!HHIIHHHH", tcp[:20])
        size, flags = bits >> 12 << 2, bits & 0xFFF
        ends = self.ends[port]
        options = options_of(tcp[20:size])
        if flags & SYN:
            ends.irs = seq
        if flags & ACK:
            ack = signed(ack - ends.iss)
        shown: list[tuple[Any, ...]] = []
        for kind, value in options:
            if kind == STAMP:
                stamp, echo = struct.unpack("!II", value)
                if flags & SYN or len(tcp) > size:
                    # Of a request's SYN-ACK only: a later stamp is one that it has not sent.
                    ends.stamp = stamp
                shown.append((kind, echo))
            elif kind == SACK:
                numbers = struct.unpack(f"!{len(value) // 4}I", value)
                shown.append((kind, tuple(signed(n - ends.iss) for n in numbers)))
            elif kind != 1:
                shown.append((kind, value.hex()))
        seq = signed(seq - ends.irs) if seq else 0
        return Seen(sport, port, seq, ack, flags, window, urg, tuple(shown), tcp[size:], ip)

    # --- calls

    def call(self, name: str, slot: int, *args: Any) -> Any:
        """Make a call on the socket in a slot; its result."""
        fd = self.fds[slot] if slot >= 0 else -1
        try:
            if name == "socket":
                self.fds.append(self.calls.socket(*args))
                return None
            if name == "accept":
                made, addr = self.calls.accept(fd or 0, socket.SOCK_NONBLOCK)
                self.fds.append(made)
                return same_name(addr)
            if name == "recvfrom":
                n, data, _ = self.calls.recvfrom(fd or 0, *args)
                return n, data
            if name == "close":
                self.fds[slot] = None
            return getattr(self.calls, name)(fd, *args)
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def states(self) -> dict[str, Any]:
        """The state of each socket as the program can read it."""
        out: dict[str, Any] = {}
        for slot, fd in enumerate(self.fds):
            if fd is None:
                continue
            data = self.calls.getsockopt(fd, socket.IPPROTO_TCP, socket.TCP_INFO, INFO.size)
            info = INFO.unpack(data.ljust(INFO.size, b"\0"))
            for name, value in zip(INFO_NAMES, info, strict=True):
                if not name.startswith("-"):
                    out[f"{slot} {name}"] = value
            out[f"{slot} poll"] = self.calls.poll([(fd, 0x3FFF & ~WRITABLE)])[0]
            for name, request in (("inq", 0x541B), ("outq", 0x5411), ("unsent", 0x894B)):
                try:
                    out[f"{slot} {name}"] = self.calls.ioctl(fd, request, 0)
                except OSError as error:
                    out[f"{slot} {name}"] = error.errno
        return out


class KernelSide(Side):
    """A namespace behind a TUN. Its methods are called in the namespace's thread."""

    def __init__(self, v6: bool, sysctl: dict[str, Any], quickack: bool) -> None:
        super().__init__(v6)
        self.calls = Kernel()
        self.tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.tun, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
        knobs = Path("/proc/sys/net/ipv4")
        for name, value in sysctl.items():
            text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            (knobs / name).write_text(text)
        route = " quickack 1" if quickack else ""
        lines = [
            "link set tun0 up",
            f"addr add {NEAR4}/32 dev tun0",
            f"route add {FAR4} dev tun0{route}",
            f"addr add {NEAR6}/128 dev tun0 nodad",
            f"route add {FAR6} dev tun0{route}",
        ]
        done = os.popen("ip -batch - 2>&1 <<'END'\n" + "\n".join(lines) + "\nEND").read()
        assert not done, done
        # The address may be used when the kernel's work queue has seen that nobody else has it.
        while any(int(line.split()[4], 16) & 0x40 for line in self.addresses()):
            time.sleep(0.001)

    def addresses(self) -> list[str]:
        """The lines of /proc/net/if_inet6."""
        return Path("/proc/thread-self/net/if_inet6").read_text().splitlines()

    def give(self, packet: bytes) -> None:
        os.write(self.tun, packet)

    def packets(self) -> list[bytes]:
        found = []
        while True:
            try:
                found.append(os.read(self.tun, 70_000))
            except BlockingIOError:
                return found

    def wait(self, seconds: float) -> None:
        """Wait until it sends something."""
        select.select([self.tun], [], [], max(seconds, 0))

    def counters(self) -> dict[str, int]:
        out = {}
        for name in ("snmp", "netstat"):
            lines = Path(f"/proc/thread-self/net/{name}").read_text().splitlines()
            for names, values in zip(lines[::2], lines[1::2], strict=True):
                prefix, *keys = names.split()
                if prefix in ("Tcp:", "TcpExt:"):
                    for key, value in zip(keys, values.split()[1:], strict=True):
                        out[prefix[:-1] + key] = int(value)
        return {k: v for k, v in out.items() if k not in OTHER_COUNTERS}

    def close(self) -> None:
        """Close what is open."""
        for fd in self.fds:
            if fd is not None:
                os.close(fd)
        os.close(self.tun)


class OurCalls(Ours):
    """Calls on an existing host."""

    def __init__(self, host: Host) -> None:
        self.host = host


class OurSide(Side):
    """A host of ours in virtual time."""

    def __init__(self, v6: bool, sysctl: dict[str, Any], quickack: bool) -> None:
        super().__init__(v6)
        self.clock = VirtualClock()
        knobs = {**sysctl, "net.ipv6.conf.default.accept_dad": 0}
        self.host = Host("h", clock=self.clock, sysctl=knobs)
        self.calls = OurCalls(self.host)
        self.tun = tun_chr_open(self.host, os.O_RDWR | os.O_NONBLOCK)
        ifreq = bytearray(struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
        sys_ioctl(self.host, self.tun, TUNSETIFF, ifreq)
        self.host.ifconfig("tun0", f"{NEAR4}/32", up=True)
        self.host.ifconfig("tun0", f"{NEAR6}/128")
        extra: dict[str, Any] = {"quickack": 1} if quickack else {}
        for far in (f"{FAR4}/32", f"{FAR6}/128"):
            self.host.route_add(far, dev="tun0", **extra)
        self.clock.run_for(5 * SECOND)
        self.packets()

    def give(self, packet: bytes) -> None:
        sys_write(self.host, self.tun, packet)
        self.clock.run_for(0)

    def packets(self) -> list[bytes]:
        found, room = [], bytearray(70_000)
        while True:
            try:
                found.append(bytes(room[: sys_read(self.host, self.tun, room)]))
            except BlockingIOError:
                return found

    def counters(self) -> dict[str, int]:
        found = {k: v for k, v in counters(self.host) if k.startswith("Tcp")}
        return {k: v for k, v in found.items() if k not in OTHER_COUNTERS}

    def due(self) -> int | None:
        """When the next timer of TCP runs."""
        heap: list[timer_list] = self.host.machine.timers.heap
        mine = (t for t in heap if type(t.data).__module__.startswith("stack.inet."))
        dues = [timer.expires for timer in mine if timer.pending]
        return min(dues, default=None)

    def close(self) -> None:
        """End the host."""
        self.host.close()


class Peer:
    """The far end of one connection, as the script sees it: it chooses segments."""

    def __init__(self, pick: random.Random, port: int, dport: int) -> None:
        self.pick = pick
        self.port, self.dport = port, dport
        near_wrap = pick.random() < 0.3
        self.iss = (-pick.randrange(1, 3000)) & M32 if near_wrap else pick.getrandbits(32)
        self.snd_nxt = 0
        """The number after the data sent in order."""
        self.acked = 1
        """The number that the host has acknowledged."""
        self.end = 1
        """The number after all that the host has sent."""
        self.una = 1
        """The number that we have acknowledged."""
        self.window = 50_000
        self.offered = pick.random() < 0.5, pick.random() < 0.6, pick.random() < 0.5
        """Timestamps, SACK, window scaling."""
        self.wscale = pick.choice((0, 0, 1, 7, 14))
        self.stamps = False
        self.clock = pick.choice((1, 1000, pick.getrandbits(32), 0x7FFFFFFF, 0xFFFFFF00))
        self.known = False
        """The host has sent a SYN."""

    def saw(self, seen: Seen) -> None:
        """The host has sent a segment."""
        if seen.flags & SYN:
            self.known = True
            self.end = 1
            self.una = 1
            self.acked = max(seen.ack, 0) if seen.flags & ACK else 0
            self.stamps = any(kind == STAMP for kind, _ in seen.options)
        if seen.flags & RST:
            return
        fin = 1 if seen.flags & FIN else 0
        self.end = max(self.end, seen.seq + len(seen.payload) + fin)
        if seen.flags & ACK:
            self.acked = max(self.acked, seen.ack)

    def syn(self) -> Spec:
        """A SYN with options, which may be odd."""
        pick = self.pick
        options: list[tuple[Any, ...]] = []
        stamps, sack, scaling = self.offered
        if pick.random() < 0.85:
            mss = pick.choice((1460, 1460, 1000, 536, 536, 300, 100, 48, 1, 0, 65535))
            options.append((MSS, mss.to_bytes(2, "big")))
        if sack:
            options.append((SACK_OK, b""))
        if stamps:
            options.append((STAMP, (self.tick(), 0)))
        if scaling:
            options.append((WSCALE, bytes((pick.choice((self.wscale,) * 4 + (15, 255)),))))
        if pick.random() < 0.15:
            options.append((FASTOPEN, pick.randbytes(pick.choice((0, 0, 4, 8, 16, 3)))))
        if pick.random() < 0.3:
            options.insert(pick.randrange(len(options) + 1), self.odd_option())
        if pick.random() < 0.2:
            pick.shuffle(options)
        flags = SYN | pick.choice((0,) * 6 + (ECE | CWR, ECE | CWR, ECE, CWR, PSH, URG, FIN, AE))
        size = pick.choice((0,) * 6 + (1, 100))
        tos = pick.choice((0,) * 5 + (1, 2, 3, 0xB8))
        spec = Spec(self.port, self.dport, 0, 0, flags, 50_000, size, 0, tuple(options), tos)
        self.snd_nxt = 1
        return spec

    def odd_option(self) -> tuple[Any, ...]:
        """An option that does not belong here."""
        pick = self.pick
        return pick.choice(
            (
                (1, b""),
                (0, b""),
                (MSS, b""),
                (MSS, b"\x05\xb4\0"),
                (WSCALE, b""),
                (WSCALE, b"\x07\x07"),
                (SACK_OK, b"\0"),
                (STAMP, bytes(4)),
                (MD5, bytes(16)),
                (MD5, bytes(3)),
                (FASTOPEN, pick.randbytes(8)),
                (254, b"\xf9\x89" + pick.randbytes(pick.choice((0, 4, 8)))),
                (172, pick.randbytes(pick.choice((0, 3, 6, 9)))),
                (253, pick.randbytes(2)),
                ("raw", b"\x02"),
                ("raw", b"\x05\x00"),
                ("raw", b"\x08\x01"),
                ("raw", b"\x63\x28"),
                ("raw", b"\x1e\x04\0\0"),
                (SACK, pick.randbytes(pick.choice((0, 4, 7, 8)))),
                (STAMP, (pick.getrandbits(32), pick.getrandbits(32))),
            )
        )

    def tick(self) -> int:
        """The next value of our timestamps."""
        self.clock = (self.clock + self.pick.choice((0, 1, 1, 10))) & M32
        return self.clock

    def usual(self, flags: int, seq: int, ack: int, size: int = 0) -> Spec:
        """A segment with the options of an ordinary one."""
        stamp = ((1, b""), (1, b""), (STAMP, (self.tick(), 0))) if self.stamps else ()
        scale = 0
        window = min(self.window >> scale, 65535)
        return Spec(self.port, self.dport, seq, ack, flags, window, size, 0, stamp)

    def ordinary(self) -> Spec:
        """The next segment of a correct peer."""
        pick = self.pick
        size = pick.choice((0, 0, 1, 10, 100, 500, 536, 1000, 1400))
        self.una = max(self.una, pick.choice((self.end, self.end, self.end, self.una)))
        spec = self.usual(ACK | (PSH if size and pick.random() < 0.7 else 0), self.acked, self.una)
        spec = replace(spec, seq=self.snd_nxt, size=size)
        self.snd_nxt += size
        return spec

    def sequence(self) -> int:
        """Where a segment starts."""
        pick = self.pick
        far = pick.choice((-1, -2, 1, 2, 10, 100, 600, 1000, 1400, 3000, -100, -1000))
        return pick.choice(
            (
                *(self.snd_nxt,) * 5,
                *(self.snd_nxt + far,) * 5,
                self.acked,
                self.acked + far,
                self.acked + pick.randrange(70_000),
                self.acked + 65_535,
                self.acked + 64_240,
                self.acked - pick.randrange(1, 70_000),
                pick.getrandbits(32),
                0,
                1,
            )
        )

    def number(self) -> int:
        """What a segment acknowledges."""
        pick = self.pick
        between = pick.randrange(min(self.una, self.end), max(self.una, self.end) + 1)
        return pick.choice(
            (
                *(self.end,) * 6,
                *(between,) * 3,
                self.una,
                self.una - 1,
                self.una - pick.randrange(1, 70_000),
                self.end + 1,
                self.end + pick.randrange(1, 70_000),
                pick.getrandbits(32),
                0,
            )
        )

    def blocks(self) -> tuple[tuple[int, int], ...]:
        """Blocks of SACK, some of them wrong."""
        pick = self.pick
        out = []
        for _ in range(pick.choice((1, 1, 1, 2, 3))):
            low, high = self.una, max(self.end, self.una + 1)
            a, b = sorted((pick.randrange(low, high + 1), pick.randrange(low, high + 1)))
            if pick.random() < 0.6:
                a, b = low + (a - low) // 536 * 536, low + -(-(b - low) // 536) * 536
            if pick.random() < 0.1:
                a, b = pick.choice(((b, a), (a - 600, a), (b, b + 600), (low - 10, high), (a, a)))
            out.append((a, b))
        return tuple(out)

    def odd(self) -> Spec:
        """A segment that a correct peer would not send, or not now."""
        pick = self.pick
        size = pick.choice((0, 0, 0, 1, 1, 10, 100, 536, 1000, 1400))
        flags = pick.choice(
            (
                *(ACK,) * 12,
                *(ACK | PSH,) * 4,
                *(ACK | FIN,) * 3,
                ACK | FIN | PSH,
                *(ACK | URG,) * 3,
                *(RST,) * 2,
                RST | ACK,
                *(SYN,) * 2,
                SYN | ACK,
                SYN | FIN,
                SYN | RST,
                0,
                FIN,
                PSH,
                ACK | ECE,
                ACK | CWR,
                ACK | ECE | CWR | AE,
                pick.randrange(512),
            )
        )
        ack, before = self.number(), self.clock
        spec = self.usual(flags, self.sequence(), ack, size)
        if size and not self.una <= ack <= self.end and spec.seq == self.snd_nxt:
            # Whether Linux looks at the ACK of such data depends on the memory at hand.
            spec = replace(spec, ack=self.una)
        elif not self.una <= ack <= self.end and self.stamps:
            # Whether the stamp of data with an old ACK is kept depends on the memory at hand.
            self.clock = before
            spec = replace(spec, options=(*spec.options[:2], (STAMP, (before, 0))))
        options = list(spec.options)
        if pick.random() < 0.35 and not flags & SYN:
            options += [(1, b""), (1, b""), (SACK, self.blocks())]
        if pick.random() < 0.15:
            change = pick.choice((-1, -1000, -(1 << 20), 1000, 1 << 30, 1 << 31))
            # A stamp that is not ours has no defined meaning for SYN cookies.
            odd = self.acked > 1
            delta = pick.choice((0, 0, 1, -1, -5000, 1 << 20, pick.getrandbits(32))) * odd
            options = [(STAMP, (self.clock + change, delta)), *options[3:]]
        if pick.random() < 0.1:
            options = [o for o in options if o[0] != STAMP]
        if pick.random() < 0.1:
            options.insert(pick.randrange(len(options) + 1), self.odd_option())
        window = pick.choice((spec.window,) * 6 + (0, 1, 100, 1000, 5000, 65535))
        urg = pick.choice((0, 1, 2, size, size + 1, size // 2, 5000, 65535)) if flags & URG else 0
        urg = pick.choice((urg,) * 9 + (7,))
        tos = pick.choice((0,) * 8 + (1, 2, 3, 3, 0x20))
        damage = "checksum" if pick.random() < 0.05 and size < 2 else ""
        doff = pick.choice((-2, 1, 3, -6)) if pick.random() < 0.02 else 0
        return replace(
            spec, options=tuple(options), window=window, urg=urg, tos=tos, damage=damage, doff=doff
        )

    def good_window(self) -> Spec:
        """An ACK that updates our window."""
        self.window = self.pick.choice((0, 0, 1, 100, 1000, 5000, 50_000, 50_000, 65_535))
        self.una = self.end
        return self.usual(ACK, self.snd_nxt, self.una)

    def selective(self) -> Spec:
        """An ACK with blocks of SACK."""
        spec = self.usual(ACK, self.snd_nxt, self.una)
        return replace(
            spec, options=(*spec.options[-1:], (1, b""), (1, b""), (SACK, self.blocks()))
        )

    def finish(self) -> Spec:
        """The end of our stream."""
        self.una = self.end
        spec = self.usual(ACK | FIN, self.snd_nxt, self.una, self.pick.choice((0, 0, 10)))
        self.snd_nxt += spec.size + 1
        return spec

    def reset(self) -> Spec:
        """A RST near the expected sequence number."""
        off = self.pick.choice((0, 0, 0, 1, -1, 100, 70_000, -70_000))
        flags = self.pick.choice((RST, RST | ACK))
        return replace(self.usual(flags, self.acked + off, self.number()), options=())

    def next(self) -> Spec:
        """The next segment."""
        pick = self.pick
        if not self.known and pick.random() < 0.85:
            return self.syn()
        makers = (
            (40, self.ordinary),
            (40, self.odd),
            (6, self.good_window),
            (8, self.selective),
            (3, self.finish),
            (2, self.reset),
            (2, self.syn),
        )
        (made,) = pick.choices([m for _, m in makers], [w for w, _ in makers])
        return made()


class Scene:
    """One script, played on both sides."""

    def __init__(
        self,
        seed: int,
        *,
        verbose: bool = False,
        v6: bool | None = None,
        sysctl: dict[str, Any] | None = None,
    ) -> None:
        """`v6`, `sysctl`: not by chance, for a script that is not."""
        self.seed = seed
        self.verbose = verbose
        self.pick = pick = random.Random(seed)
        self.v6 = pick.random() < 0.3 if v6 is None else v6
        self.sysctl = self._sysctl() if sysctl is None else BASE | sysctl
        self.quickack = pick.random() < 0.5
        self.kernel = KernelSide(self.v6, self.sysctl, self.quickack)
        self.ours = OurSide(self.v6, self.sysctl, self.quickack)
        self.sides: tuple[Side, Side] = (self.kernel, self.ours)
        self.peers: dict[int, Peer] = {}
        self.history: list[str] = [f"{'IPv6' if self.v6 else 'IPv4'} quickack={self.quickack}"]
        self.history[0] += f" {self.sysctl}"
        self.before = [side.counters() for side in self.sides]
        self.shift = time.monotonic_ns() - self.ours.clock.now_ns()
        self.sockets: list[str] = []
        """The script's view of each slot."""
        for i in range(3):
            self._peer(40_000 + i, PORT)
        self._peer(50_000, OWN_PORT)
        for side in self.sides:
            side.take()

    def _sysctl(self) -> dict[str, Any]:
        pick = self.pick
        rmem = pick.choice((131_072, 131_072, 131_072, 16_384))
        return BASE | {
            "tcp_rmem": (4096, rmem, 6_291_456),
            "tcp_early_retrans": pick.choice((0, 3)),
            "tcp_ecn": pick.choice((0, 1, 2, 2)),
            "tcp_sack": pick.choice((1, 1, 1, 1, 0)),
            "tcp_timestamps": pick.choice((1, 1, 1, 2, 0)),
            "tcp_window_scaling": pick.choice((1, 1, 1, 0)),
            "tcp_syncookies": pick.choice((1, 1, 0, 2)),
            "tcp_fastopen": pick.choice((1, 3, 0, 0x207, 0x603)),
            "tcp_rfc1337": pick.choice((0, 0, 1)),
            "tcp_abort_on_overflow": pick.choice((0, 0, 1)),
            "tcp_fin_timeout": pick.choice((60, 60, 1)),
            "tcp_dsack": pick.choice((1, 1, 1, 0)),
            "tcp_invalid_ratelimit": pick.choice((500, 0)),
        }

    def _peer(self, port: int, dport: int) -> Peer:
        peer = self.peers[port] = Peer(self.pick, port, dport)
        for side in self.sides:
            side.ends[port] = Ends(peer.iss)
        return peer

    def address(self, near: bool, port: int) -> bytes:
        """A struct sockaddr."""
        if self.v6:
            return sin6(NEAR6 if near else FAR6, port)
        return sin(NEAR4 if near else FAR4, port)

    # --- comparison

    def play(self, script: Iterator[str]) -> str:
        """Play it; returns the first difference, empty if there is none."""
        try:
            for line in script:
                self.history.append(line)
                if self.verbose:
                    print(line, flush=True)
                if found := self.settle():
                    return found
                if found := self.compare():
                    return found
            return ""
        finally:
            self.ours.close()
            self.kernel.close()

    def catch_up(self) -> None:
        """Bring our clock to the kernel's time."""
        now = time.monotonic_ns() - self.shift
        if now > self.ours.clock.now_ns():
            self.ours.clock.run_until(now)

    def settle(self, most: int = SOON_NS) -> str:
        """Let both answer, and timers that are due soon expire. Both must send the same."""
        theirs, mine = self.kernel.take(), self.ours.take()
        while (due := self.ours.due()) is not None and due <= self.ours.clock.now_ns() + most:
            self.ours.clock.run_until(due)
            mine += self.ours.take()
            until = (due + self.shift) / 1e9 + LATE_S
            while time.monotonic() < until:
                self.kernel.wait(until - time.monotonic())
                theirs += self.kernel.take()
            most = SOON_NS
        theirs += self.kernel.take()
        until = time.monotonic() + PATIENCE_S
        while len(theirs) < len(mine) and time.monotonic() < until:
            self.kernel.wait(until - time.monotonic())
            theirs += self.kernel.take()
        self.catch_up()
        mine += self.ours.take()
        # Timers of two connections may be due at a time.
        theirs.sort(key=lambda seen: (seen.port, seen.sport))
        mine.sort(key=lambda seen: (seen.port, seen.sport))
        for seen in theirs:
            self.peers[seen.port].saw(seen)
            self.history.append(f"    {seen}")
            if self.verbose:
                print(self.history[-1])
        if theirs == mine:
            return ""
        same = 0
        while same < min(len(theirs), len(mine)) and theirs[same] == mine[same]:
            same += 1
        lines = [f"  kernel  {seen}" for seen in theirs[same : same + 3]]
        lines += [f"  ours    {seen}" for seen in mine[same : same + 3]]
        return f"sent ({len(theirs)}, {len(mine)}):\n" + "\n".join(lines)

    def compare(self) -> str:
        """The differences of socket states and counters."""
        found = []
        for name, get in (("state", Side.states), ("counter", self.changes)):
            theirs, mine = (get(side) for side in self.sides)
            for key in theirs.keys() | mine.keys():
                if theirs.get(key) != mine.get(key):
                    found.append(f"  {name} {key}: kernel {theirs.get(key)}, ours {mine.get(key)}")
        return "\n".join(sorted(found))

    def changes(self, side: Side) -> dict[str, int]:
        """How the counters changed since the start."""
        before = self.before[self.sides.index(side)]
        now = side.counters()
        return {key: value - before.get(key, 0) for key, value in now.items() if value}

    # --- steps

    def segment(self, spec: Spec) -> str:
        """Both receive a segment, and answer it at once or later. Raises: Differs."""
        packets = [side.segment(spec) for side in self.sides]
        theirs = self.kernel.answered(packets[0])
        self.catch_up()
        mine = self.ours.answered(packets[1])
        if theirs != mine:
            self.history.append(f"segment {spec}")
            raise Differs(f"  answers at once: kernel {theirs}, ours {mine}")
        return f"segment {spec}"

    def call(self, name: str, slot: int, *args: Any) -> str:
        """Both make a call. Raises: Differs."""
        theirs = self.kernel.call(name, slot, *args)
        self.catch_up()
        mine = self.ours.call(name, slot, *args)
        shown = [f"{len(a)} bytes" if isinstance(a, bytes) and len(a) > 40 else a for a in args]
        line = f"{name} {slot} {shown} = {str(theirs)[:80]}"
        if theirs != mine:
            self.history.append(line)
            raise Differs(f"  result: kernel {theirs}, ours {mine}"[:400])
        self.result = theirs
        return line

    def script(self, steps: int = 40) -> Iterator[str]:
        """Make steps, and say what each was."""
        yield from self.opening()
        for _ in range(steps):
            yield self.step()

    def socket(self, kind: str) -> int:
        """One more slot."""
        family = socket.AF_INET6 if self.v6 else socket.AF_INET
        line = self.call("socket", -1, family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 0)
        self.history.append(line)
        self.sockets.append(kind)
        return len(self.sockets) - 1

    def option(self, slot: int, level: int, name: int, value: bytes) -> str:
        """setsockopt."""
        return self.call("setsockopt", slot, level, name, value)

    def opening(self) -> Iterator[str]:
        """A listener, or a socket that connects, and maybe both."""
        pick = self.pick
        how = pick.choice(("passive", "passive", "active", "both"))
        if how != "active":
            slot = self.socket("listener")
            yield self.option(slot, socket.SOL_SOCKET, socket.SO_REUSEADDR, b"\1\0\0\0")
            yield self.call("bind", slot, self.address(True, PORT))
            if pick.random() < 0.3:
                yield self.some_option(slot)
            yield self.call("listen", slot, pick.choice((5, 5, 0, 1)))
        if how != "passive":
            slot = self.socket("client")
            peer = self.peers[50_000]
            yield self.call("bind", slot, self.address(True, OWN_PORT))
            if pick.random() < 0.3:
                yield self.some_option(slot)
            yield self.call("connect", slot, self.address(False, peer.port))
            yield self.answer_syn(peer)

    def answer_syn(self, peer: Peer) -> str:
        """A segment for a host that connects."""
        pick = self.pick
        spec = peer.syn()
        flags = pick.choice((SYN | ACK,) * 6 + (SYN | ACK | ECE, SYN, SYN, RST | ACK, RST, ACK))
        ack = pick.choice((1,) * 7 + (0, 2, 1000, 1 << 31))
        if flags & RST:
            spec = replace(spec, options=())
        return self.segment(replace(spec, flags=flags, ack=ack))

    def some_option(self, slot: int) -> str:
        """Set an option at random."""
        tcp, sol = socket.IPPROTO_TCP, socket.SOL_SOCKET
        level, name, values = self.pick.choice(
            (
                (tcp, socket.TCP_NODELAY, (0, 1)),
                (tcp, socket.TCP_CORK, (0, 1)),
                (tcp, socket.TCP_QUICKACK, (0, 1)),
                (tcp, socket.TCP_MAXSEG, (536, 1000, 100)),
                (tcp, socket.TCP_DEFER_ACCEPT, (0, 1, 5)),
                (tcp, socket.TCP_LINGER2, (-1, 1, 0)),
                (tcp, socket.TCP_USER_TIMEOUT, (0, 1000)),
                (tcp, socket.TCP_KEEPIDLE, (1,)),
                (tcp, socket.TCP_KEEPINTVL, (1,)),
                (tcp, socket.TCP_KEEPCNT, (1, 3)),
                (tcp, 25, (1000, 1)),  # TCP_NOTSENT_LOWAT
                (tcp, 30, (0, 1)),  # TCP_FASTOPEN_CONNECT
                (tcp, 23, (0, 5)),  # TCP_FASTOPEN
                (tcp, 36, (0, 1)),  # TCP_INQ
                (sol, socket.SO_KEEPALIVE, (0, 1)),
                (sol, socket.SO_OOBINLINE, (0, 1)),
                (sol, socket.SO_RCVBUF, (20_000, 100_000)),
                (sol, socket.SO_SNDBUF, (20_000, 100_000)),
                (sol, socket.SO_RCVLOWAT, (1, 100, 3000)),
            )
        )
        return self.option(slot, level, name, struct.pack("=i", self.pick.choice(values)))

    def step(self) -> str:
        """Any step."""
        pick = self.pick
        roll = pick.random()
        if roll < 0.62:
            return self.segment(pick.choice(self.lively()).next())
        if roll < 0.70:
            lines = [self.segment(pick.choice(self.lively()).next()) for _ in range(3)]
            return "\n".join(lines)
        if roll < 0.74 and (found := self.settle(LATER_NS)):
            raise Differs(found)
        return self.any_call()

    def lively(self) -> list[Peer]:
        """The peers to choose from: mostly the ones that the host has talked to."""
        known = [peer for peer in self.peers.values() if peer.known]
        return known if known and self.pick.random() < 0.93 else list(self.peers.values())

    def any_call(self) -> str:
        """A call on one of the sockets."""
        pick = self.pick
        open_slots = [i for i, fd in enumerate(self.kernel.fds) if fd is not None]
        listeners = [i for i in open_slots if self.sockets[i] == "listener"]
        if listeners and (pick.random() < 0.35 or len(open_slots) == 1) and len(open_slots) < 5:
            line = self.call("accept", pick.choice(listeners))
            if len(self.kernel.fds) > len(self.sockets):
                self.sockets.append("accepted")
            return line
        if not open_slots:
            return self.segment(pick.choice(self.lively()).next())
        slot = pick.choice([i for i in open_slots if i not in listeners] or open_slots)
        return self.call_on(slot)

    def call_on(self, slot: int) -> str:
        """A call on a socket."""
        pick = self.pick
        size = pick.choice((1, 10, 100, 536, 1000, 3000, 5000))
        flags: int = pick.choice((0,) * 5 + (socket.MSG_OOB, 0x8000, 0x80)) | socket.MSG_NOSIGNAL
        roll = pick.random()
        if roll < 0.35:
            return self.call("sendto", slot, content(0, size), flags, None)
        if roll < 0.65:
            flags = pick.choice((0,) * 5 + (socket.MSG_OOB, socket.MSG_PEEK, socket.MSG_TRUNC))
            return self.call("recvfrom", slot, pick.choice((1, 100, 1000, 100_000)), flags)
        if roll < 0.73:
            return self.call("shutdown", slot, pick.choice((0, 1, 1, 2)))
        if roll < 0.79:
            if pick.random() < 0.3:
                linger = struct.pack("=ii", 1, 0)
                self.option(slot, socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return self.call("close", slot)
        if roll < 0.82:
            return self.call("getsockopt", slot, socket.SOL_SOCKET, socket.SO_ERROR, 4)
        if roll < 0.84:
            return self.call("connect", slot, bytes(16))
        if roll < 0.85:
            return self.call("connect", slot, self.address(False, 50_000))
        if roll < 0.86:
            return self.call("listen", slot, 5)
        return self.some_option(slot)


class Differs(Exception):
    """The two sides differ in a step."""


Script: TypeAlias = Callable[[Scene], Iterator[str]]


def difference(seed: int, script: Script = Scene.script, **options: Any) -> tuple[str, list[str]]:
    """The first difference of a script, and the steps before. `options` are those of Scene."""
    net = KernelNet()
    try:
        found: tuple[str, list[str]] = net.call(_play, seed, script, options)
        return found
    finally:
        net.close()


def _play(seed: int, script: Script, options: dict[str, Any]) -> tuple[str, list[str]]:
    scene = Scene(seed, **options)
    try:
        return scene.play(script(scene)), scene.history
    except Differs as found:
        return str(found), scene.history


def confirmed(seed: int, script: Script = Scene.script, **options: Any) -> str:
    """The difference that each of several runs of a script finds, with its steps; else empty."""
    text = ""
    for _ in range(TRIES):
        found, steps = difference(seed, script, **options)
        if not found:
            return ""
        text = "\n".join([f"seed {seed}:", *steps, found])
    return text


def main() -> None:
    """Play scripts, and print differences."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    for seed in range(options.first, options.first + options.count):
        found, steps = difference(seed, verbose=options.verbose)
        if found:
            print(f"# seed {seed}, after {len(steps)} lines:")
            print("\n".join(steps[1:][-6:]), found, sep="\n", flush=True)


if __name__ == "__main__":
    main()
