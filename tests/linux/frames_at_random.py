"""Random frames, mostly plausible, given to the kernel and to a host of ours: and the results.

    python -m tests.linux.frames_at_random FIRST COUNT      prints the first difference of each seed

A seed makes a set-up (knobs, whether it forwards, sockets) and a sequence of frames. Each side gets
them one by one. `Kernel` is the kernel, with two TAPs in a namespace of its own. `Ours` is a host
with two interfaces on a virtual clock. After each frame `heard` collects what the side has sent,
what its sockets have received, and which counters have moved. `plain` takes out what a side chooses
by itself: identifiers, sequence numbers, times, and the checksums over them (which must be right).
Timers play no part: their intervals are long, and rates are not limited.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol

from e1000emu.clock import VirtualClock
from stack import proc
from stack.api.programs import spawn
from stack.host import Host
from tests.linux.frames import (
    MACS,
    OURS4,
    OURS6,
    RAW,
    TCP_PORT,
    UDP_PORT,
    Generator,
    checksum,
    ip4,
    ip6,
)
from tests.stack.core.wire import add_wire_device

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
FRAMES = 50

SETUP = """
net=/proc/sys/net
echo 0 >$net/ipv4/icmp_ratemask; echo 0 >$net/ipv4/icmp_ratelimit
echo 255 >$net/ipv6/icmp/ratemask; echo 0 >$net/ipv6/icmp/ratelimit
echo 0 >$net/ipv4/tcp_invalid_ratelimit
echo 1000000 >$net/ipv4/icmp_msgs_per_sec; echo 1000000 >$net/ipv4/icmp_msgs_burst
echo "4096 131072 6291456" >$net/ipv4/tcp_rmem
echo "0 0" >$net/ipv4/ping_group_range; echo 1 >$net/ipv4/igmp_qrv
echo 0 >$net/ipv6/auto_flowlabels
echo 0 >$net/ipv4/conf/all/send_redirects; echo 0 >$net/ipv4/conf/default/send_redirects
for dev in all default eth0 eth1; do
    echo 0 >$net/ipv6/conf/$dev/accept_dad; echo 0 >$net/ipv6/conf/$dev/router_solicitations
    for version in 1 2 3; do
        for file in ipv6/conf/$dev/mldv$version ipv4/conf/$dev/igmpv$version; do
            file=$net/${file}_unsolicited_report_interval
            [ ! -e $file ] || echo 1 >$file
        done
    done
    echo 1 >$net/ipv6/conf/$dev/addr_gen_mode; echo 0 >$net/ipv4/conf/$dev/send_redirects
done
for dev in eth0 eth1; do
    for family in ipv4 ipv6; do
        echo 100000 >$net/$family/neigh/$dev/retrans_time_ms
        echo 1000 >$net/$family/neigh/$dev/delay_first_probe_time
        echo 0 >$net/$family/neigh/$dev/locktime
        echo 0 >$net/$family/neigh/$dev/proxy_delay
    done
done
{knobs}
ip -batch - <<END
link set lo up
link set eth0 up
link set eth1 up
addr add 10.0.0.1/24 brd + dev eth0
addr add 10.0.1.1/24 brd + dev eth1
addr add fe80::1/64 dev eth0 nodad
addr add fe80::2/64 dev eth1 nodad
addr add 2001:db8:1::1/64 dev eth0 nodad
addr add 2001:db8:2::1/64 dev eth1 nodad
neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev eth0
neigh add 10.0.0.254 lladdr 02:00:00:00:00:fe dev eth0
neigh add 10.0.1.2 lladdr 02:00:00:00:01:02 dev eth1
neigh add 2001:db8:1::2 lladdr 02:00:00:00:00:02 dev eth0
neigh add fe80::fe lladdr 02:00:00:00:00:fe dev eth0
neigh add 2001:db8:2::2 lladdr 02:00:00:00:01:02 dev eth1
{routes}
END
"""
ROUTES = """route add default via 10.0.0.254
route add 10.1.0.0/16 via 10.0.1.2
route add unreachable 10.2.0.0/16
route add blackhole 10.3.0.0/16
route add prohibit 10.4.0.0/16
route add default via fe80::fe dev eth0
route add 2001:db8:f1::/48 via 2001:db8:2::2
route add unreachable 2001:db8:f2::/48
route add blackhole 2001:db8:f3::/48
route add prohibit 2001:db8:f4::/48"""
CONF4 = {
    "rp_filter": (0, 0, 1, 2),
    "accept_local": (0, 0, 1),
    "accept_source_route": (0, 1),
    "accept_redirects": (0, 1),
    "secure_redirects": (0, 1),
    "shared_media": (0, 1),
    "arp_accept": (0, 1, 2),
    "arp_ignore": (0, 0, 1, 2, 3),
    "arp_announce": (0, 1, 2),
    "arp_filter": (0, 0, 1),
    "arp_evict_nocarrier": (0, 1),
    "drop_gratuitous_arp": (0, 0, 1),
    "drop_unicast_in_l2_multicast": (0, 0, 1),
    "proxy_arp": (0, 0, 0, 1),
    "proxy_arp_pvlan": (0, 0, 0, 1),
    "route_localnet": (0, 0, 1),
    "src_valid_mark": (0, 0, 1),
    "bc_forwarding": (0, 0, 1),
    "force_igmp_version": (0, 0, 0, 1, 2, 3),
}
CONF6 = {
    "accept_ra": (0, 1, 2),
    "accept_redirects": (0, 1),
    "accept_ra_defrtr": (0, 1, 1),
    "accept_ra_from_local": (0, 1),
    "accept_ra_min_hop_limit": (1, 1, 64),
    "accept_ra_rt_info_max_plen": (0, 64, 128),
    "accept_untracked_na": (0, 0, 1, 2),
    "drop_unicast_in_l2_multicast": (0, 0, 1),
    "drop_unsolicited_na": (0, 0, 1),
    "suppress_frag_ndisc": (1, 1, 0),
    "force_mld_version": (0, 0, 1, 2),
    "proxy_ndp": (0, 0, 1),
    "ndisc_notify": (0, 0, 1),
}
KNOBS = {
    "ipv4/icmp_echo_ignore_all": (0, 0, 0, 0, 1),
    "ipv4/icmp_echo_ignore_broadcasts": (0, 1),
    "ipv4/icmp_ignore_bogus_error_responses": (0, 1),
    "ipv4/icmp_errors_use_inbound_ifaddr": (0, 1),
    "ipv4/ip_default_ttl": (64, 64, 255, 7),
    "ipv4/ip_no_pmtu_disc": (0, 0, 0, 1, 2, 3),
    "ipv4/ip_forward_use_pmtu": (0, 1),
    "ipv4/ip_forward_update_priority": (0, 1),
    "ipv4/ipfrag_max_dist": (64, 0, 1),
    "ipv4/fwmark_reflect": (0, 1),
    "ipv4/tcp_ecn": (0, 1, 2),
    "ipv4/tcp_timestamps": (0, 1),
    "ipv4/tcp_sack": (0, 1),
    "ipv4/tcp_window_scaling": (0, 1),
    "ipv4/tcp_syncookies": (0, 0, 1),
    "ipv4/tcp_reflect_tos": (0, 1),
    "ipv4/udp_l3mdev_accept": (0,),
    "ipv6/icmp/echo_ignore_all": (0, 0, 0, 0, 1),
    "ipv6/icmp/echo_ignore_multicast": (0, 0, 1),
    "ipv6/icmp/echo_ignore_anycast": (0, 0, 1),
    "ipv6/max_dst_opts_number": (8, 0, 1, -2),
    "ipv6/max_hbh_opts_number": (8, 0, 1, -2),
    "ipv6/max_dst_opts_length": (2147483647, 8),
    "ipv6/max_hbh_length": (2147483647, 8),
    "ipv6/flowlabel_reflect": (0, 0, 1, 2, 4),
    "ipv6/anycast_src_echo_reply": (0, 1),
}


# --- the two sides -----------------------------------------------------------------------------


class Side(Protocol):
    """A receiver of frames: the kernel, or a host of ours."""

    def run(self, script: str) -> None:
        """Run a shell script there."""

    def socket(self, family: int, kind: int, proto: int = 0) -> Any:
        """Create a socket there."""

    def receive(self, number: int, frame: bytes) -> None:
        """An interface receives a frame."""

    def sent(self) -> list[tuple[int, bytes]]:
        """The interfaces and frames sent since the last call."""

    def wait(self, ms: int) -> None:
        """Let time pass."""

    def read(self, name: str) -> str:
        """A file of /proc/net."""


class Kernel:
    """The kernel, in a network namespace that the calling thread enters."""

    def __init__(self, patience_s: float = 0.0003) -> None:
        """`patience_s` is the time that the kernel's workers get after each frame; above 10 ms
        other waits are longer, too."""
        self.patience_s = patience_s
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        # A backlog for each processor: packets sent from two may change places.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        self.taps: list[int] = []
        for number, mac in enumerate(MACS):
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            name = f"eth{number}"
            ifreq = struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI)
            fcntl.ioctl(fd, TUNSETIFF, ifreq)
            self.taps.append(fd)
            self.run(f"ip link set {name} address {mac.hex(':')}")

    socket = staticmethod(socket.socket)

    def run(self, script: str) -> None:
        subprocess.run(["sh", "-ec", script], check=True)

    def receive(self, number: int, frame: bytes) -> None:
        os.write(self.taps[number], frame)
        time.sleep(self.patience_s)

    def sent(self) -> list[tuple[int, bytes]]:
        frames = []
        for number, fd in enumerate(self.taps):
            with contextlib.suppress(BlockingIOError):
                while True:
                    frames.append((number, os.read(fd, 1 << 16)))
        return frames

    def wait(self, ms: int) -> None:
        time.sleep(ms / 1000 * max(1.0, self.patience_s * 100))

    def read(self, name: str) -> str:
        return Path("/proc/thread-self/net", name).read_text()

    def close(self) -> None:
        for fd in self.taps:
            os.close(fd)


class Ours:
    """A host of ours with two recording interfaces."""

    def __init__(self) -> None:
        self.host = Host("ours", clock=VirtualClock(), drivers=False)
        self.wires = [add_wire_device(self.host, mac) for mac in MACS]
        self.socket: Callable[..., Any] = self.host.socket

    def run(self, script: str) -> None:
        with spawn(self.host, ["sh", "-ec", script]) as running:
            assert running.wait(60) == 0

    def receive(self, number: int, frame: bytes) -> None:
        self.wires[number].receive(frame)
        self.host.clock.run_for(1000)

    def sent(self) -> list[tuple[int, bytes]]:
        frames = [(number, frame) for number, wire in enumerate(self.wires) for frame in wire.sent]
        for wire in self.wires:
            wire.sent.clear()
        return frames

    def wait(self, ms: int) -> None:
        self.host.clock.run_for(ms * 1_000_000)

    def read(self, name: str) -> str:
        return proc.read(self.host, name)

    def close(self) -> None:
        self.host.close()


# --- results ------------------------------------------------------------------------


def plain(frame: bytes) -> str:
    """A frame that a side has sent, without the parts chosen by it."""
    kind = frame[12:14]
    if kind == b"\x08\0":
        return frame[:14].hex() + " " + plain4(frame[14:])
    if kind == b"\x86\xdd":
        return frame[:14].hex() + " " + plain6(frame[14:])
    return frame.hex()


def blank(data: bytes, at: int, size: int) -> bytes:
    """The bytes with some of them masked."""
    return data[:at] + bytes(min(size, max(len(data) - at, 0))) + data[at + size :]


def plain4(packet: bytes) -> str:
    """A packet of IPv4."""
    size = (packet[0] & 15) * 4 if packet[:1] >= b"\x45" else 0
    if not 20 <= size <= len(packet):
        return packet.hex()
    head, payload = packet[:size], packet[size:]
    right = checksum(head) == 0
    source = str(ip_address(head[12:16]))
    if source in OURS4 or source.startswith("127."):
        head = blank(head, 4, 2)
    proto, whole = head[9], not int.from_bytes(head[6:8], "big") & 0x3FFF
    pseudo = head[12:20] + struct.pack("!BBH", 0, proto, len(payload))
    head = blank(stamps(head), 10, 2)
    return (
        f"{head.hex()} {right} {plain_payload(proto, payload, pseudo) if whole else payload.hex()}"
    )


def stamps(head: bytes) -> bytes:
    """A packet without the times in its header's options."""
    at, end = 20, (head[0] & 15) * 4 if head else 0
    while at + 4 <= min(end, len(head)) and head[at]:
        if head[at] == 1:
            at += 1
            continue
        size = head[at + 1]
        if size < 2:
            break
        if head[at] == 68:
            for place in range(at + 4, min(at + size, len(head)) - 3, 4):
                if head[place] < 6:  # a time of day in ms, no address of a frame's
                    head = blank(head, place, 4)
        at += size
    return head


def plain6(packet: bytes) -> str:
    """A packet of IPv6."""
    head, kind, payload = packet[:40], packet[6], packet[40:]
    told, whole = "", True
    while kind in (0, 43, 44, 60) and len(payload) >= 8:
        size = 8 if kind == 44 else (payload[1] + 1) * 8
        row = payload[:size]
        if kind == 44:
            whole = not int.from_bytes(row[2:4], "big") & 0xFFF9
            if str(ip_address(head[8:24])) in OURS6:
                row = blank(row, 4, 4)
        told += row.hex() + " "
        kind, payload = payload[0], payload[size:]
    pseudo = head[8:40] + struct.pack("!II", len(payload), kind)
    return f"{head.hex()} {told}{plain_payload(kind, payload, pseudo) if whole else payload.hex()}"


def plain_payload(kind: int, payload: bytes, pseudo: bytes) -> str:
    """The payload of a packet."""
    if kind == 6 and len(payload) >= 20:
        right = checksum(pseudo + payload) == 0
        if payload[13] & 2:
            payload = blank(payload, 4, 4)
        at = 20
        while at + 10 <= min((payload[12] >> 4) * 4, len(payload)):
            if payload[at] == 1:
                at += 1
                continue
            if payload[at] == 8:
                payload = blank(payload, at + 2, 4)
            at += max(payload[at + 1], 1)
        return f"{right} {blank(payload, 16, 2).hex()}"
    if kind == 1:
        right, quoted = checksum(payload) == 0, payload[8:]
        if payload[:1] in (b"\3", b"\4", b"\5", b"\x0b", b"\x0c"):
            quoted = stamps(quoted)
        elif payload[:1] == b"\x0e":
            quoted = blank(quoted, 4, 8)
        return f"{right} {blank(payload, 2, 2)[:8].hex()}{quoted.hex()}"
    return payload.hex()


def counters(side: Side) -> dict[str, int]:
    """All counters of a side."""
    found = {}
    for name in ("snmp", "netstat"):
        lines = side.read(name).splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            table = names.split()[0]
            for key, value in zip(names.split()[1:], values.split()[1:], strict=True):
                found[table + key] = int(value)
    for line in side.read("snmp6").splitlines():
        key, _, value = line.partition(" ")
        found[key] = int(value)
    return found


OPTIONS4 = 12, 13, 6, 7, 8, 11, 20
OPTIONS6 = 25, 49, 51, 53, 56, 58, 66, 74, 2, 3, 4, 5, 8, 11


def sockets(side: Side, seed: int) -> dict[str, Any]:
    """The sockets of a seed."""
    pick = random.Random(seed ^ 0x5A5A)
    made: dict[str, Any] = {}
    for family, here in ((socket.AF_INET, "10.0.0.1"), (socket.AF_INET6, "2001:db8:1::1")):
        v6 = family == socket.AF_INET6
        there = "2001:db8:1::2" if v6 else "10.0.0.2"
        level, every = (41, "::") if v6 else (0, "0.0.0.0")
        rows = [
            ("udp", socket.SOCK_DGRAM, 0, (every, UDP_PORT)),
            ("connected", socket.SOCK_DGRAM, 0, (here, 5002)),
            ("ping", socket.SOCK_DGRAM, 58 if v6 else 1, (every, 77)),
            ("listener", socket.SOCK_STREAM, 0, (every, TCP_PORT)),
            ("raw", socket.SOCK_RAW, RAW, None),
            ("raw icmp", socket.SOCK_RAW, 58 if v6 else 1, None),
            ("raw 2", socket.SOCK_RAW, 2, None),
            ("raw udp", socket.SOCK_RAW, 17, None),
        ]
        for name, kind, proto, address in rows:
            if pick.random() < 0.25:
                continue
            sock = side.socket(family, kind, proto)
            if v6 and kind == socket.SOCK_RAW and proto == 58 and pick.random() < 0.5:
                sock.setsockopt(58, 1, pick.randbytes(32))
            if v6 and kind != socket.SOCK_RAW:
                sock.setsockopt(41, socket.IPV6_V6ONLY, 1)
            sock.setblocking(False)
            if address is not None:
                sock.bind(address)
            if name == "connected":
                sock.connect((there, 7))
            for option in OPTIONS6 if v6 else OPTIONS4:
                if pick.random() < 0.5:
                    sock.setsockopt(level, option, 1)
            if name == "udp" and pick.random() < 0.8:
                if v6:
                    index = struct.pack("=I", pick.choice((2, 3)))
                    sock.setsockopt(41, 20, ip6("ff05::1234") + index)
                else:
                    sock.setsockopt(0, 35, ip4("239.1.2.3") + ip4(pick.choice(OURS4)))
            if kind == socket.SOCK_STREAM:
                sock.listen(1000)
            made[f"{name} {4 + 2 * v6}"] = sock
    return made


def control(level: int, kind: int, value: bytes) -> str:
    """The bytes of a control message."""
    if level == 0 and kind in (6, 7):  # IP_RECVOPTS, IP_RETOPTS
        return stamps(b"\x4f" + bytes(19) + value)[20:].hex()
    return bytes(value).hex()


def received(made: dict[str, Any]) -> Iterator[str]:
    """The data received by the sockets."""
    for name, sock in made.items():
        if name.startswith("listener"):
            continue
        for flags in (0, socket.MSG_ERRQUEUE):
            for _ in range(20):
                try:
                    data, controls, told, address = sock.recvmsg(
                        4000, 2000, flags | socket.MSG_DONTWAIT
                    )
                except BlockingIOError:
                    break
                except OSError as error:
                    yield f"{name}: {error.errno}"
                    continue
                shown = [
                    (level, kind, control(level, kind, value)) for level, kind, value in controls
                ]
                text = plain4(data) if name.startswith("raw") and name.endswith("4") else data.hex()
                yield f"{name}: {told:#x} {address} {text} {shown}"


def routes6(text: str) -> Iterator[str]:
    """The lines of ipv6_route without reference counts, but for those of lo."""
    for line in text.splitlines():
        words = line.split()
        if words[-1] != "lo":
            yield " ".join((*words[:2], *words[4:6], *words[8:]))


STATES: dict[str, Callable[[str], Iterable[str]]] = {
    "arp": str.splitlines,
    "route": str.splitlines,
    "if_inet6": str.splitlines,
    "ipv6_route": routes6,
}


def knobs(seed: int) -> str:
    """The shell's lines that set a seed's knobs."""
    pick = random.Random(seed ^ 0xA5A5)
    lines = []
    for name, values in KNOBS.items():
        if pick.random() < 0.3:
            lines.append(f"echo {pick.choice(values)} >$net/{name}")
    for family, table in (("ipv4", CONF4), ("ipv6", CONF6)):
        for name, values in table.items():
            if pick.random() < 0.3:
                dev = pick.choice(("all", "eth0", "eth0", "eth1"))
                lines.append(f"echo {pick.choice(values)} >$net/{family}/conf/{dev}/{name}")
    if pick.random() < 0.4:
        lines.append("echo 1 >$net/ipv4/ip_forward")
    if pick.random() < 0.4:
        lines.append("echo 1 >$net/ipv6/conf/all/forwarding")
    return "\n".join(lines)


def heard(side: Any, seed: int, count: int = FRAMES) -> Iterator[tuple[str, list[str]]]:
    """Each frame of a seed, and its results."""
    routes = ROUTES if random.Random(seed ^ 0x77).random() < 0.8 else ""
    side.run(SETUP.replace("{knobs}", knobs(seed)).replace("{routes}", routes))
    side.wait(30)
    made = sockets(side, seed)
    side.wait(60)
    side.sent()
    list(received(made))  # discard reports that were looped back
    before = counters(side)
    generator = Generator(random.Random(seed))
    for number in range(count):
        interface, frame = generator.frame()
        try:
            side.receive(interface, frame)
        except OSError as error:
            yield f"{frame.hex()}", [f"error {error.errno}"]
            continue
        if generator.slow:
            side.wait(generator.slow)
        told = [f"eth{n} {plain(f)}" for n, f in side.sent()]
        told += received(made)
        if generator.slow:
            told.sort()
        now = counters(side)
        told += [
            f"{key} {now[key] - before.get(key, 0):+}" for key in now if now[key] != before.get(key)
        ]
        before = now
        yield f"{number} eth{interface}{generator.about}: {frame.hex()}", told
        if generator.last:
            break
    for name in STATES:
        yield name, sorted(STATES[name](side.read(name)))


def in_thread(function: Callable[[], Any]) -> Any:
    """The result of a function in its own thread."""
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    thread.join()
    return result[0]


def told_by(kind: Callable[[], Any], seed: int, count: int = FRAMES) -> list[tuple[str, list[str]]]:
    """All results of a seed on a side."""

    def run() -> list[tuple[str, list[str]]]:
        with contextlib.closing(kind()) as side:
            return list(heard(side, seed, count))

    return in_thread(run)


def main(first: int, count: int) -> None:
    for seed in range(first, first + count):
        kernel, ours = (told_by(kind, seed) for kind in (Kernel, Ours))
        if kernel != ours:
            kernel = told_by(lambda: Kernel(0.005), seed)
        for (frame, theirs), (_, own) in zip(kernel, ours, strict=False):
            if theirs != own:
                print(f"seed {seed} {frame}")
                for line in difference(theirs, own):
                    print("   ", line)
                sys.stdout.flush()
                break


def difference(theirs: list[str], own: list[str]) -> Iterator[str]:
    """The results only of the kernel (-) and only of ours (+)."""
    if theirs != own and sorted(theirs) == sorted(own):
        yield "another order"
    yield from (f"- {line}" for line in theirs if line not in own)
    yield from (f"+ {line}" for line in own if line not in theirs)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
