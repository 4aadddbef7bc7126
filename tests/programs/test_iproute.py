"""Debian's ip, ss, bridge, busybox and dnsmasq ask and configure our hosts as they do the kernel.

Each script runs twice, on a host and in a namespace of the kernel that has `lo` only. It makes what
it needs itself. What it prints, and its exit status, are the same; a row names what cannot be.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from stack.api.programs import spawn
from stack.host import Host
from tests.hosts import real_host
from tests.linux.peer import Peer
from tests.support import require

pytestmark = pytest.mark.netns

LOCAL = 'until grep -qE "^%s 80 .* %s$" /proc/net/ipv6_route; do sleep 0.02; done'
"""Wait for the route of a new IPv6 address: a worker of the kernel adds it."""
VETH = f"""
ip link add v0 address 02:00:00:00:00:01 type veth peer name v1 address 02:00:00:00:00:02
ip link set v0 up; ip link set v1 up
ip addr add 10.0.0.1/24 brd + dev v0
ip addr add 2001:db8::1/64 dev v0 nodad
{LOCAL % ("20010db80*1", "v0")}
"""
MARK = """
mark() {
    until grep -qs $1: $DIR/heard; do ip rule add prio $1; ip rule del prio $1; sleep 0.05; done
}
"""
"""`mark PRIORITY` makes rules until a monitor that writes to $DIR/heard has told of one.

It listens then, and has told of all that was before.
"""
MARKS = r"(?m)^.*\b3200[12]:.*\n"
PACKAGES = {
    "dig": "bind9-dnsutils",
    "dnsmasq": "dnsmasq-base",
    "nc.openbsd": "netcat-openbsd",
    "sysctl": "procps",
    "nft": "nftables",
    **dict.fromkeys(("iptables", "ip6tables", "iptables-save", "iptables-restore"), "iptables"),
    "ping": "iputils-ping",
    **dict.fromkeys(("ip", "tc", "bridge"), "iproute2"),
    **dict.fromkeys(("route", "arp", "ifconfig", "netstat"), "net-tools"),
}
REFUSED = r"(?m)^(Error: .*|RTNETLINK answers: .*)\n"
"""Ours name what is wrong in their own words, or where the kernel has none."""
ROUTES = """
ip route add 10.1.0.0/16 via 10.0.0.9
ip route add 10.2.0.0/16 dev v0 metric 5 mtu 1300 advmss 1200
ip route add 10.3.0.0/16 via 10.0.0.9 dev v0 onlink proto static
ip route add default via 10.0.0.254
ip route add blackhole 10.4.0.0/16; ip route add unreachable 10.5.0.0/16
ip route add 10.6.0.0/16 nexthop via 10.0.0.7 weight 2 nexthop via 10.0.0.8
ip -6 route add 2001:db8:1::/48 via 2001:db8::9; ip -6 route add default via 2001:db8::fe metric 7
ip -6 route add unreachable 2001:db8:2::/48
"""
METRICS = """
ip route add 10.1.0.0/16 dev v0 mtu lock 1300 advmss 900 window 5000 rtt 20ms rttvar 30ms ssthresh 7
ip route add 10.2.0.0/16 dev v0 reordering 9 hoplimit 300 initcwnd 11 features ecn rto_min 30ms
ip route add 10.3.0.0/16 dev v0 initrwnd 12 quickack 1 fastopen_no_cookie 1 congctl reno cwnd 5
ip route add 10.4.0.0/16 dev v0 mtu 100000 advmss 100000 hoplimit 0 congctl lock cubic
ip route add 10.5.0.0/16 dev v0 congctl nothere; echo $?
ip -6 route add 2001:db8:1::/48 dev v0 mtu lock 1400 initcwnd 11 hoplimit 9 features ecn quickack 1
ip route; ip -j route; ip -6 route; ip route get 10.1.0.1; ip route get 10.2.0.1
ip route del 10.1.0.0/16 mtu 1301; echo $?; ip route del 10.2.0.0/16 hoplimit 300; echo $?
ip route del 10.3.0.0/16 congctl cubic; echo $?; ip route del 10.3.0.0/16 congctl reno; echo $?
ip route del 10.2.0.0/16 initcwnd 11 reordering 9; echo $?; ip route
ip tcp_metrics; ip tcp_metrics show 10.0.0.9; echo $?; ip tcp_metrics delete 10.0.0.9; echo $?
ip tcp_metrics delete 2001:db8::9 source 2001:db8::1; echo $?; ip tcp_metrics flush all; echo $?
"""
PROBES = r"""
import os, struct
from socket import *
os.system(
    "ip link set lo up; ip link add v0 type veth peer name v1; ip link set v0 up;"
    "ip addr add 10.0.0.1/24 dev v0; ip addr add 2001:db8::1/64 dev v0 nodad;"
    "sysctl -qw net.ipv4.ping_group_range='0 0' net.ipv4.icmp_ratelimit=0;"
    "cat /proc/sys/net/ipv4/icmp_echo_enable_probe"
)
def objects():
    for name in (b"lo\0\0", b"v0", b"v1\0\0", b"nope", b"x" * 15, b"x" * 16, b""):
        yield 1, name
    for index in (1, 2, 99):
        yield 2, struct.pack("!I", index)
    yield 2, b"\0\1"
    yield 2, bytes(5)
    for family, text in (
        (AF_INET, "10.0.0.1"), (AF_INET, "10.0.0.2"), (AF_INET, "127.0.0.9"),
        (AF_INET6, "2001:db8::1"), (AF_INET6, "2001:db8::2"), (AF_INET6, "::1"),
    ):
        addr = inet_pton(family, text)
        yield 3, struct.pack("!HBB", 1 if family == AF_INET else 2, len(addr), 0) + addr
    for head, rest in (((1, 16, 0), bytes(16)), ((3, 4, 0), bytes(4)), ((1, 5, 0), bytes(4))):
        yield 3, struct.pack("!HBB", *head) + rest
    yield 3, b"\0\1"
    yield 4, bytes(4)
def queries():
    for kind, data in objects():
        yield struct.pack("!HBB", 4 + len(data), 3, kind) + data
    for length in (3, 4, 12, 40):
        yield struct.pack("!HBB", length, 3, 1) + b"lo\0\0"
    yield from (b"", b"\0\6")
def ask(to, kind, query=next(queries()), code=0, sequence=0x101):
    head = struct.pack("!BBHHH", kind, code, 0, 7, sequence) + b"\x20\0\0\0"
    try:
        sock.sendto(head + query, (to, 0))
        data = sock.recv(200)
        print(data[:2].hex(), data[6:].hex())
    except OSError as exc:
        print(type(exc).__name__, exc.errno)
for family, to, kind in ((AF_INET, "127.0.0.1", 42), (AF_INET6, "::1", 160)):
    sock = socket(family, SOCK_DGRAM, 1 if family == AF_INET else 58)
    sock.settimeout(0.3)
    os.system("echo 0 >/proc/sys/net/ipv4/icmp_echo_enable_probe")
    ask(to, kind)
    os.system("echo 1 >/proc/sys/net/ipv4/icmp_echo_enable_probe")
    for query in queries():
        ask(to, kind, query)
    ask(to, kind, sequence=0x1FF)
    ask(to, kind, sequence=0x100)
    ask(to, kind, code=1)
    ask(to, kind + 1)
os.system("grep Icmp: /proc/net/snmp; grep IcmpMsg: /proc/net/snmp; grep Icmp6 /proc/net/snmp6")
"""
"""Requests of RFC 8335 about interfaces, well formed and not."""
SAVED_METRICS = r"""
import os, socket, struct, sys
def run(command):
    sys.stdout.flush(); os.system(command)
def tcp_info(sock):
    return struct.unpack_from("24I", sock.getsockopt(6, 11, 240), 8)
def connection(address, locked):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, 0), family=family)
    client = socket.create_connection(listener.getsockname()[:2])
    server, _ = listener.accept()
    if locked:
        print("rto", tcp_info(client)[0])
    print("ssthresh, cwnd, reordering", [tcp_info(client)[i] for i in (17, 18, 20)])
    for tx, rx in (client, server), (server, client):
        tx.sendall(b"data"); rx.recv(4)
    client.close(); server.recv(1); server.close(); listener.close()
    run("ip tcp_metrics show; ip -j tcp_metrics show " + address)
knobs = "/proc/sys/net/ipv4/"
run(f"echo reno > {knobs}tcp_congestion_control; ip link set lo up")
run(f"for knob in no_metrics_save no_ssthresh_metrics_save; do cat {knobs}tcp_$knob; done")
connection("::1", False)
for free, values in enumerate((
    "rtt lock 300ms rttvar lock 50ms cwnd lock 5 ssthresh lock 4 reordering lock 9",
    "rtt 300ms rttvar 50ms cwnd 20 ssthresh 4 reordering 9", "ssthresh 30 cwnd lock 12"
)):
    run(f"ip route replace local 127.0.0.1 dev lo table local {values}; ip tcp_metrics flush")
    for ssthresh in (1, 0, 0):
        run(f"echo {ssthresh} > {knobs}tcp_no_ssthresh_metrics_save")
        locked = not free and ssthresh == 0
        connection("127.0.0.1", locked)
run(f"ip tcp_metrics flush; echo 1 > {knobs}tcp_no_metrics_save"); connection("127.0.0.1", False)
"""
TRIES = f"""
shown() {{ for f; do cat /proc/net/$f; done; }}
shown fib_trie fib_triestat; {VETH}{ROUTES}
ip route add 10.7.0.0/16 via 10.0.0.7 table 10; ip addr add 10.77.0.1/30 dev v1
ip route add 192.168.1.0/24 tos 0x10 dev v0; ip route add 192.168.1.0/24 dev v0 scope 17
ip route add local 203.0.113.0/24 dev v1 table 300; shown fib_trie fib_triestat
"""
NEXTHOPS = """
ip nexthop add id 1 via 10.0.0.2 dev v0; ip nexthop add id 2 via 10.0.0.3 dev v0 protocol static
ip nexthop add id 3 via 2001:db8::2 dev v0; ip nexthop add id 4 blackhole
ip nexthop add id 5 dev v0; ip nexthop add id 6 via 10.0.0.5 dev v0 onlink
ip nexthop add via 10.0.0.6 dev v0; ip nexthop add id 10 group 1/2,5; echo $?
ip nexthop add id 12 group 4; ip nexthop add id 13 group 5; ip nexthop add id 14 group 10; echo $?
ip nexthop add id 15 group 1/1; echo $?; ip nexthop add id 16 group 99; echo $?
ip nexthop add id 17 group 1/4; echo $?; ip nexthop add id 1 via 10.0.0.2 dev v0; echo $?
ip nexthop add id 20 via 192.0.2.1 dev v0; echo $?; ip nexthop add id 20 via 192.0.2.1; echo $?
ip nexthop add id 20 via 10.0.0.1 dev v0; ip -6 nexthop add id 21 dev v0
ip nexthop add id 22 via 10.0.0.9 dev v0 fdb; echo $?
ip nexthop add id 30 via 2001:db8::3 dev v0; ip nexthop add id 31 group 3,5/30,7
ip route add 10.1.0.0/16 nhid 1; ip route add 10.2.0.0/16 nhid 10; ip route add 10.3.0.0/16 nhid 4
ip route add 10.5.0.0/16 nhid 99; echo $?; ip route add 10.6.0.0/16 nhid 1 via 10.0.0.2; echo $?
ip route add 10.7.0.0/16 nhid 1 dev v0; echo $?; ip route add 10.8.0.0/16 nhid 5
ip route add blackhole 10.9.0.0/16 nhid 5; echo $?; ip route add 10.11.0.0/16 nhid 5 scope link
ip route add 10.12.0.0/16 nhid 6 scope link; echo $?
ip route add 10.13.0.0/16 nhid 1 scope host; echo $?
ip -6 route add 2001:db8:1::/48 nhid 3; ip -6 route add 2001:db8:2::/48 nhid 1; echo $?
ip -6 route add 2001:db8:4::/48 nhid 21; ip -6 route add 2001:db8:5::/48 nhid 31; echo $?
ip route add 10.1.0.0/16 nhid 1; echo $?; ip route add 10.1.0.0/16 nhid 2; echo $?
"""
VIA = """
ip route add 10.3.0.0/16 via inet 10.0.0.9; echo $?
ip route add 10.4.0.0/16 nexthop via inet6 fe80::9 dev v0 weight 2 nexthop via 10.0.0.8
ip route add 10.5.0.0/16 via inet6 fe80::9; echo $?
ip route add 10.5.0.0/16 via inet6 2001:db8::1 dev v0; echo $?
ip route add 10.5.0.0/16 via inet6 2001:db9::1; echo $?
ip route add 10.5.0.0/16 via inet6 2001:db9::1 dev v0 onlink; echo $?
ip route add 10.6.0.0/16 via inet6 ff02::1 dev v0; echo $?
ip route add 10.6.0.0/16 via inet6 fe80::9 dev v0 scope link; echo $?
ip route add 10.1.0.0/16 via inet6 fe80::9 dev v0; echo $?
ip -6 route add 2001:db8:5::/48 via inet 10.0.0.9; echo $?
ip nexthop add id 1 via fe80::7 dev v0; ip nexthop add id 2 via 2001:db8::7 dev v0
ip nexthop add id 3 group 1/2; ip nexthop add id 4 via 10.0.0.7 dev v0
ip route add 10.7.0.0/16 nhid 1; echo $?; ip route add 10.8.0.0/16 nhid 3; echo $?
ip nexthop add id 5 group 1/4; ip route add 10.9.0.0/16 nhid 5; echo $?
ip -6 nexthop add id 6 dev v0; ip route add 10.10.0.0/16 nhid 6; echo $?
ip route add 10.11.0.0/16 nhid 1 scope host; echo $?
ip route; ip -j route; ip -d route show 10.4.0.0/16
ip route get 10.1.0.1; ip route get 10.2.0.1; ip route get 10.7.0.1; ip route get 10.10.0.1
ip -j route get 10.1.0.1
ip route del 10.2.0.0/16 via inet6 2001:db8::8; echo $?
ip route del 10.2.0.0/16 via inet6 2001:db8::9; echo $?
ip route del 10.4.0.0/16 nexthop via inet6 fe80::9 dev v0 nexthop via 10.0.0.8; echo $?
ip route del 10.7.0.0/16; ip nexthop del id 2
ip route replace 10.1.0.0/16 via inet6 fe80::8 dev v0
ip route change 10.3.0.0/16 via inet6 fe80::8 dev v0
ip nexthop replace id 1 via fe80::6 dev v0; ip route; ip route del 10.9.0.0/16
cat /proc/net/route
ip neigh add fe80::6 lladdr 02:00:00:00:00:66 dev v0
python3 - <<'END'
import socket
def tap(proto):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sock.bind(("v1", proto))
    sock.settimeout(20)
    return sock
sent, asked, udp = tap(0x800), tap(3), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for data in (b"to a neighbour of IPv6", b"again", b"again"):
    udp.sendto(data, ("10.8.0.1", 9))
    frame = sent.recv(99)
    print(frame[:14].hex(), frame[42:])
udp.sendto(b"who is it?", ("10.1.0.1", 9))
while True:
    frame = asked.recv(99)
    asks = frame[12:14] == b"\\x86\\xdd" and frame[54:56] == b"\\x87\\0" and frame[77] == 8
    if asks or frame[12:14] == b"\\x08\\x06":
        print(frame[:6].hex(), frame[12:14].hex())
        break
END
ip link set v0 down; ip route
"""
RULES = """
ip rule add from 10.0.0.0/24 to 10.9.0.0/16 table 100
ip rule add fwmark 7 table 101 priority 50; ip rule add fwmark 0x10/0xf0 lookup 1000000 prio 60
ip rule add iif v0 oif v1 tos 0x10 table 102; ip rule add iif nothere lookup 5 prio 3
ip rule add ipproto udp sport 53 dport 1000-2000 table 103 prio 70
ip rule add uidrange 1-5 table 104 prio 71
ip rule add not from 10.0.0.1 table main suppress_prefixlength 0 prio 72
ip rule add goto 32766 prio 73; ip rule add goto 9999 prio 74; ip rule add nop prio 75
ip rule add prohibit to 10.66.0.0/16 prio 76; ip rule add blackhole fwmark 66 prio 77
ip rule add unreachable from 1.1.1.1 prio 78; ip rule add l3mdev prio 1000; echo $?
"""


def decisions(seed: int, six: bool) -> str:
    """A script that makes rules and tables, and asks for the routes of packets of all kinds."""
    rng = Random(seed)
    addrs = (
        ("2001:db8:1::9", "2001:db8:2::9", "fd77::9")
        if six
        else ("10.1.0.9", "10.2.0.9", "8.8.8.8")
    )
    nets = (
        ("2001:db8:1::/48", "2001:db8::/32", "fd77::9")
        if six
        else ("10.1.0.0/16", "10.0.0.0/8", "8.8.8.8")
    )
    own, gw = ("2001:db8::1", "2001:db8::") if six else ("10.0.0.1", "10.0.0.1")
    ip = "ip -6" if six else "ip"
    lines = [VETH]
    lines.append("ip addr add 10.5.0.1/24 dev v1; ip addr add 2001:db8:5::1/64 dev v1 nodad")
    for table in range(100, 106):
        for net in rng.sample(nets, 2):
            kind = rng.choice(("via {}{}", "via {}{}", "via {}{}", "unreachable", "throw"))
            if kind[:3] == "via":
                lines.append(f"{ip} route add {net} {kind.format(gw, table - 50)} table {table}")
            else:
                lines.append(f"{ip} route add {kind} {net} table {table}")
    lines.append(f"{ip} route add default via {gw}99")
    for _ in range(14):
        words = [
            rng.choice(("", "", "not")),
            rng.choice(("", "", "from {}", "to {}")).format(rng.choice(nets)),
            rng.choice(("", "", "fwmark 1", "fwmark 0x3/0x2")),
            rng.choice(("", "", "iif v0", "iif lo", "oif v1")),
            rng.choice(("", "", "ipproto udp", "ipproto tcp")),
            rng.choice(("", "", "sport 50-60", "dport 80")),
            rng.choice(
                (
                    "table {}",
                    "table {}",
                    "table {}",
                    "table {} suppress_prefixlength 32",
                    "prohibit",
                    "blackhole",
                    "unreachable",
                    "goto 31000",
                )
            ).format(rng.randrange(100, 107)),
        ]
        lines.append(f"{ip} rule add {' '.join(words)} prio {rng.randrange(2, 40) * 100}")
    lines.append(f"{ip} rule")
    for _ in range(150):
        words = [
            rng.choice(addrs),
            rng.choice(("", f"from {own}", "from {} iif v0")).format(rng.choice(addrs[1:])),
            rng.choice(("", "mark 1", "mark 2", "mark 3")),
            rng.choice(("", "", "oif v1", "oif v0")),
            rng.choice(("", "ipproto udp sport 55 dport 80", "ipproto tcp sport 9 dport 80")),
        ]
        if "iif" in words[1]:
            words[3] = ""
        lines.append(f"{ip} route get {' '.join(words)}; echo $?")
    return "\n".join(lines)


SOCKETS = """
import fcntl, socket, subprocess, time
one = socket.socket(); one.bind(("127.0.0.1", 80)); one.listen(5)
two = socket.socket(); two.connect(("127.0.0.1", 80)); three, _ = one.accept()
three.send(bytes(100))
while fcntl.ioctl(three, 0x5411, bytes(4)) != bytes(4): time.sleep(0.01)  # SIOCOUTQ
four = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); four.bind(("0.0.0.0", 53))
five = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); five.bind(("::1", 54))
six = socket.socket(socket.AF_INET6); six.bind(("::", 81)); six.listen(3)
seven = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
def ss(words):
    found = subprocess.run(f"ss {words}", shell=True, capture_output=True, text=True).stdout
    print(words, *sorted(found.splitlines()), sep="\\n", flush=True)
"""


@dataclass(frozen=True)
class Row:
    """A script of the shell, or with `python` of Python. `rules` take out what is not compared."""

    script: str
    rules: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = ()
    tools: tuple[str, ...] = ("ip",)
    python: bool = False
    forwards: bool = False


OVER_LO = f"""
sysctl -qw net.ipv6.icmp.ratelimit=0; ip link set lo up; ip -6 addr add fd88::1/64 dev lo nodad
{LOCAL % ("fd880*1", "lo")}
grep -vE "^fe80|^ff0" /proc/net/ipv6_route
ip -6 route add fd00::/16 dev lo; ip -6 route add fd01::/16 dev lo table local
ip -6 route add local fd03::/64 dev lo; ip -6 route add anycast fd02::/64 dev lo
ip -6 route add fd05::/64 dev v0 table 100; ip -6 route add default dev v0
for a in fd00::5 fd01::5 fd88::2 fd03::2 fd02::2; do
    ip -6 route get $a; ping -c 1 -W 1 $a | sed "s/time.*//; /^rtt/d"
done
grep -vE "^fe80|^ff0" /proc/net/ipv6_route; ip -6 route show table all | grep -v ^multicast
ip -6 route flush fd00::/16; ip -6 route del default
grep -vE "^fe80|^ff0" /proc/net/ipv6_route
"""
REFERENCES = (r"(?m)^((\S+ ){6})\S+ (\S+)", r"\1N \3")
PORTS = (r"127\.0\.0\.1:\d{5}|pid=\d+| +", " ")
LINK_LOCAL = ((r"(?m)^fe80::/64 .*\n", ""), (r'\{"dst":"fe80::/64"[^}]*\},?', ""))
"""Routes of two interfaces, in the order in which these came up."""
TIMES_OF_PEERS = r'("(?:age|rtt|rttvar)"):[\d.]+'
ROWS = {
    "metrics of routes": Row(f"{VETH}{METRICS}", LINK_LOCAL),
    "saved metrics": Row(
        SAVED_METRICS,
        ((r"age [\d.]+sec", "age"), (r"(rtt|rttvar) [\d.]+us", r"\1"), (TIMES_OF_PEERS, r"\1")),
        python=True,
    ),
    "questions about interfaces": Row(PROBES, tools=("ip", "sysctl"), python=True),
    "gateways of IPv6": Row(f"{VETH}{VIA}", ((REFUSED, ""), *LINK_LOCAL)),
    "addresses": Row(
        f"""{VETH}
        ip addr add 10.0.0.2/24 dev v0 label v0:1
        ip addr add 10.0.0.1/24 dev v0; echo $?
        ip -j -p addr show dev v0; ip addr show; ip -6 addr; ip -4 -o addr
        ip addr del 10.0.0.2/24 dev v0; ip addr del 10.0.0.2/24 dev v0; echo $?
        ip addr show v0; ip addr flush dev v0; ip addr show v0
        ip addr add 1.2.3.4/24 dev nothere; echo $?; ip addr add 10.0.0.1/33 dev v0; echo $?
        """,
        (("( proto kernel_l[ol]| tentative| qlen 1000)", ""), (REFUSED, "")),
    ),
    "links": Row(
        f"""{VETH}
        ip link; ip -j link show dev v1; ip link show type veth; ip -br link
        ip link set v0 mtu 1400; ip link set v0 txqueuelen 50; ip -o link show v0
        ip link set v0 mtu 1; echo $?
        ip link set v0 down; ip link set v0 name w0; ip link show w0
        ip link set w0 address 02:00:00:00:00:07; ip -j link show w0
        ip link set w0 up; ip link show w0; ip link set lo down; ip link show lo
        ip stats show dev lo; ip -j stats show dev lo group link; ip stats show dev nothere; echo $?
        ip link del w0; ip link; ip link del lo; echo $?
        ip link show nothere; echo $?; ip link add x type nokind; echo $?
        """,
        ((REFUSED, ""), (r"M-DOWN|,?NO-CARRIER,?|state \w+", "")),
    ),
    "sizes of packets": Row(
        """
        ip link add v0 type veth peer name v1
        ip link add v2 gso_max_size 30000 gso_max_segs 9 type veth peer name v3
        ip link set v0 gso_max_size 70000 gro_max_size 100000
        ip link set v0 gso_max_segs 10
        ip link set v0 gso_max_size 600000
        ip link set v0 gro_max_size 600000
        ip link set v0 gso_max_size 100
        for dev in v0 v1 v2 v3; do ip -d link show $dev | grep -o "g.o_max_[a-z]* [0-9]*"; done
        """,
        ((r"(g[sr]o_max_size) 65536|(g[sr]o_max_size) 532480", r"\1\2 default"),),
    ),
    "routes of IPv4": Row(
        f"""{VETH}{ROUTES}
        ip route add default via 10.0.0.253; echo $?; ip route add 10.7.0.1/16 dev v0; echo $?
        ip route add 10.8.0.0/16 via 192.0.2.1; echo $?
        ip route; ip -j route; ip route show table local; ip route show 10.3.0.0/16
        ip route get 10.1.2.3; ip route get 10.4.0.1; echo $?; ip -j route get 10.0.0.1
        ip route get 8.8.8.8; ip route get fibmatch 10.1.2.3; ip route get 10.5.0.1; echo $?
        ip route del 10.1.0.0/16; ip route del 10.1.0.0/16; echo $?
        ip route replace default via 10.0.0.250; ip route show default
        ip route append default via 10.0.0.251; ip route show default
        ip route flush proto static; ip route show 10.3.0.0/16
        """,
        (
            (REFUSED, ""),
            # Hosts have the broadcast address of all zeros, too, which Linux had until 5.14.
        ),
    ),
    "routes of IPv6": Row(
        f"""{VETH}{ROUTES}
        ip -6 route; ip -6 -j route show default; ip -6 route show table local
        ip -6 route get 2001:db8:1::5; ip -6 route get 2001:db8::77
        ip -6 route del 2001:db8:1::/48; ip -6 route del 2001:db8:1::/48; echo $?
        ip -6 route replace default via 2001:db8::fd metric 7; ip -6 route show default
        """,
        (
            (REFUSED, ""),
            (r".*ff00::/8.*\n|anycast.*\n|local fe80.*\n", ""),
            *LINK_LOCAL,
        ),
    ),
    "routes of IPv6 over lo": Row(f"{VETH}{OVER_LO}", (REFERENCES, *LINK_LOCAL), ("ip", "ping")),
    "labels of addresses": Row(
        f"""{VETH}
        for label in "2001:db8::/32 label 99" "2001:db8::/32 dev v0 label 97" \\
            "2001:db8::1/32 label 97" "::ffff:1.2.3.4/100 label 5" "::/0 dev v1 label 5" \\
            "10.0.0.0/8 label 5" "2001::/32 label 8"
        do ip addrlabel add prefix $label; echo $?; done
        ip addrlabel list; ip -j addrlabel
        ip addrlabel del prefix 2001:db8::/32 label 1; echo $?
        ip addrlabel del prefix 2001:db8::/32 label 1; echo $?
        ip addr add 2001:db8:1::1/64 dev v0 nodad; ip addr add fd77::1/64 dev v0 nodad
        ip -6 route get 2001:db8:7::1 from ::; ip -6 route get fd77:1::1
        ip -6 route add fd77:1::/32 dev v0; ip -6 route get fd77:1::1
        ip addrlabel add prefix fd77:1::/32 label 1; ip -6 route get fd77:1::1
        ip addrlabel flush; ip addrlabel
        """,
        LINK_LOCAL,
    ),
    "several next hops, on the link or not": Row(
        f"""{VETH}
        show() {{
            ip route show $1; ip -j route show $1; ip -6 route show $2; ip -6 -j route show $2
        }}
        ip route add 10.1.0.0/16 nexthop via 10.9.0.9 dev v0 onlink nexthop via 10.0.0.2 dev v0
        ip -6 route add 2001:db9::/48 nexthop via fd77::1 dev v0 onlink nexthop via 2001:db8::2
        show 10.1.0.0/16 2001:db9::/48
        ip route add 10.2.0.0/16 nexthop via inet6 2001:db8::2 nexthop via 10.9.0.2 dev v0 onlink
        ip -6 route add 2001:dba::/48 via 2001:db8::2
        ip -6 route append 2001:dba::/48 via 2001:db8::3
        show 10.2.0.0/16 2001:dba::/48
        ip -6 route del 2001:dba::/48 nexthop via 2001:db8::2 nexthop via 2001:db8::9; echo $?
        ip -6 route show 2001:dba::/48
        ip -6 route add blackhole 2001:dbb::/48 pref low; ip -6 route show 2001:dbb::/48
        ip -6 route replace 2001:dbb::/48 via 2001:db8::2; ip -6 route show 2001:dbb::/48
        ip -6 route replace prohibit 2001:db9::/48; ip -6 route show 2001:db9::/48
        ip -6 route change 2001:db9::/48 via 2001:db8::2 metric 7; echo $?
        ip -6 route change 2001:dbf::/48 via 2001:db8::2; echo $?
        for route in "10.3.0.0/16 dev v0" "2001:dbc::/48 dev v1" "2001:dbc::/48 via fe80::1" \\
            "2001:dbc::/48 via ::1 dev v0" "2001:dbc::/48 via :: dev v0"
        do
            ip route add $route; ip route add $route onlink; echo $?
        done
        ip nexthop add id 1 via 127.0.0.1 dev v0; ip nexthop add id 2 via 10.0.0.1 dev v0
        ip nexthop
        ip -6 route add 2001:dbc::/48 via fe80::1; echo $?
        ip -6 nexthop add id 1 via fe80::1 dev lo
        for kind in unreachable blackhole prohibit throw; do
            ip -6 route replace $kind 2001:dbd::/48; ip -6 route get 2001:dbd::1; echo $?
            ip -6 route get fibmatch 2001:dbd::1; echo $?; ip -6 route del 2001:dbd::/48
        done
        """,
        LINK_LOCAL,
    ),
    "several next hops while devices go": Row(
        f"""{VETH}
        ip link add w0 type veth peer name w1; ip link set w0 up; ip link set w1 up
        ip addr add 10.1.0.1/24 dev w0; ip addr add 2001:db8:1::1/64 dev w0 nodad
        ip route add 10.9.0.0/16 nexthop via 10.0.0.9 dev v0 nexthop via 10.1.0.9 dev w0
        V6="2001:db8:9::/48 nexthop via 2001:db8::9 dev v0 nexthop via 2001:db8:1::9 dev w0"
        ip -6 route add $V6
        ip -6 route replace 2001:db8:9::/48 nexthop via 2001:db8::7 nexthop via 2001:db8:7::7
        echo $?; ip -6 route show 2001:db8:9::/48 | sort
        ip -6 route add 2001:db8:8::/48 dsfield 4 via 2001:db8::9; echo $?
        told() {{ ip route show 10.9.0.0/16; ip -6 route show 2001:db8:9::/48 | sort; echo; }}
        ip link set v0 down; told; ip link set v0 up; ip addr add 2001:db8::1/64 dev v0 nodad
        until ip -6 route get 2001:db8::9 2>&1 | grep -q v0; do sleep 0.1; done
        told; ip link set w0 down; told; ip link set v0 down; told
        """,
        ((REFUSED, ""), (r" +\n", "\n")),
    ),
    "next hops are deleted in their order": Row(
        f"""{VETH}
        ip link add w0 type veth peer name w1; ip link set w0 up; ip link set w1 up
        ip addr add 10.1.0.1/24 dev w0
        ip route add 10.9.0.0/16 nexthop via 10.0.0.9 nexthop via 10.0.0.8
        for hops in "via 10.0.0.8" "nexthop via 10.0.0.8 nexthop via 10.0.0.9" \
                "nexthop via 10.0.0.9" "nexthop via 10.0.0.9 nexthop via 10.0.0.8"; do
            ip route del 10.9.0.0/16 $hops; echo $?; done
        ip route add 10.9.0.0/16 nexthop via 10.0.0.9 nexthop via 10.1.0.9
        ip link del w0; ip route show 10.9.0.0/16
        ip route add 10.8.0.0/16 dev v0 tos 0x10
        for tos in 0x10 0x11 0x12 0x13 0x14; do ip route get 10.8.0.1 tos $tos; done
        ip neigh add 10.2.0.9 nud failed dev v0; ip neigh add 10.2.0.255 nud failed dev v0
        ip neigh add 10.2.0.8 nud failed dev v0
        ip addr add 10.2.0.1/24 brd 10.2.0.9 dev v0; ip neigh
        """,
        ((REFUSED, ""),),
    ),
    "neighbours": Row(
        f"""{VETH}
        ip neigh add 10.0.0.11 lladdr 02:00:00:00:00:09 dev v0 nud noarp extern_learn proto 99
        ip neigh; ip -j neigh; ip neigh replace 10.0.0.11 lladdr 02:00:00:00:00:09 dev v0; ip neigh
        ip neigh del 10.0.0.11 dev v0
        ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev v0
        ip neigh add 2001:db8::9 lladdr 02:00:00:00:00:09 dev v0 nud permanent
        ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:0a dev v0; echo $?
        ip neigh change 10.0.0.8 lladdr 02:00:00:00:00:0a dev v0; echo $?
        ip neigh replace 10.0.0.9 lladdr 02:00:00:00:00:0a dev v0
        ip neigh add proxy 10.0.0.77 dev v0
        ip neigh; ip -j neigh; ip neigh show proxy; ip neigh get 10.0.0.9 dev v0
        ip neigh del 10.0.0.9 dev v0; ip neigh del 10.0.0.9 dev v0; echo $?
        ip neigh flush all; ip neigh show 2001:db8::9; ip neigh show proxy
        """,
        ((REFUSED, ""), (r"10.0.0.9 dev v0 FAILED \n", "")),
    ),
    "neighbours' parameters": Row(
        f"""{VETH}
        values() {{ for f in $1/*; do echo $f $(cat $f); done | grep -v '/anycast\\|/interval'; }}
        for v in 4 6; do values /proc/sys/net/ipv$v/neigh/v0; done
        ls /proc/sys/net/ipv4/neigh | grep -v default
        sysctl -a -r 'neigh.v0.(gc|retr|unres)' | sort
        sysctl -w net.ipv4.neigh.v0.gc_stale_time=9 net.ipv6.neigh.v0.retrans_time_ms=400
        sysctl -w net.ipv4.neigh.v0.mcast_solicit=-1 net.ipv4.neigh.v9.locktime=1; echo $?
        for w in unres_qlen=3 base_reachable_time=8 locktime=250 proxy_delay=0 retrans_time=150; do
            echo ${{w#*=}} > /proc/sys/net/ipv4/neigh/v0/${{w%=*}}
        done
        echo 500 > /proc/sys/net/ipv6/neigh/v0/retrans_time
        ip ntable show dev v0; ip -6 ntable show dev v1; ip ntable show name arp_cache | grep thresh
        ip ntable change name arp_cache dev v0 retrans 2000 queue 5 ucast_probes 7 app_probes 1
        ip ntable change name ndisc_cache dev v1 base_reachable 12000 gc_stale 7000 mcast_probes 4
        ip ntable change name arp_cache dev v1 proxy_delay 100 proxy_queue 7 delay_probe 3000
        ip ntable change name arp_cache dev v1 locktime 0 anycast_delay 500
        ip ntable change name none dev v0 retrans 1; echo $?
        ip ntable change name arp_cache dev lo; echo $?
        ip ntable show dev v0; ip ntable show dev v1
        for v in 4 6; do values /proc/sys/net/ipv$v/neigh/v1; done
        ip link set v0 name w0; ls /proc/sys/net/ipv4/neigh | grep -v default
        ip link del w0; ls /proc/sys/net/ipv6/neigh | grep -v default; ip ntable show dev v1
        """,
        (
            (r"(?m)^sh: .*|^.*script: \d+: .*?(?=[A-Z]|cannot|echo)", ""),
            (r"refcnt \d+ reachable \d+", "reachable"),
        ),
        tools=("sysctl",),
    ),
    "nexthop objects": Row(
        f"""{VETH}{NEXTHOPS}
        ip nexthop; ip -j nexthop; ip -6 nexthop; ip -4 nexthop; ip nexthop show dev v0
        ip nexthop show groups; ip nexthop get id 10; ip nexthop get id 77; echo $?
        ip route; ip -6 route; ip -j route; ip -6 -j route
        for to in 10.1.0.5 10.3.0.5 10.8.0.5 "fibmatch 10.2.0.9"; do ip route get $to; echo $?; done
        for to in 2001:db8:1::9 2001:db8:4::9; do ip -6 route get $to; echo $?; done
        ip route replace 10.1.0.0/16 nhid 2; ip route show 10.1.0.0/16
        ip nexthop replace id 2 via 10.0.0.77 dev v0; ip route show 10.1.0.0/16
        ip nexthop replace id 10 via 10.0.0.8 dev v0; echo $?
        ip nexthop replace id 1 group 2; echo $?; ip nexthop replace id 55 via 10.0.0.5 dev v0
        ip nexthop replace id 10 group 1,7/2; ip route; ip nexthop
        ip nexthop replace id 3 via 2001:db8::33 dev v0; ip -6 route
        ip route del 10.1.0.0/16 nhid 1; echo $?; ip route del 10.1.0.0/16 nhid 2; ip route
        ip nexthop del id 1; ip route; ip nexthop; ip nexthop del id 77; echo $?
        ip nexthop del id 3; ip -6 route; ip -6 route del 2001:db8:4::/48 nhid 5; echo $?
        ip -6 route del 2001:db8:4::/48 nhid 21; echo $?; ip -6 route
        ip nexthop flush; ip nexthop; ip route; ip -6 route
        ip nexthop add id 1 via 10.0.0.2 dev v0; ip nexthop add id 3 via 2001:db8::2 dev v0
        ip nexthop add id 2 group 1; ip route add 10.2.0.0/16 nhid 2
        ip -6 route add 2001:db8:1::/48 nhid 3; ip nexthop; ip route
        ip link set v0 down; ip nexthop; ip route; ip link del v0; ip nexthop
        """,
        ((REFUSED, ""), *LINK_LOCAL),
    ),
    "resilient groups": Row(
        f"""{VETH}
        n() {{ ip nexthop "$@" || echo $?; }}
        b() {{ ip nexthop bucket show "$@" | sed 's/idle_time [0-9.]* //'; }}
        for i in 1 2 3; do n add id $i via 10.0.0.1$i dev v0; done; n add id 4 via fe80::9 dev v0
        n add id 10 group 1/2 type resilient; n add id 10 group 1/2 type resilient buckets 0
        n add id 10 group 1/2 type resilient idle_timer 5
        n add id 10 group 1/2 type resilient buckets 1; n add id 11 group 10; n add id 13 group 1/2
        n add id 11 group 10 type resilient buckets 4
        n replace id 10 group 1/2/3 type resilient buckets 4; n replace id 10 group 1/2/3
        n replace id 10 group 1/2/3 type resilient idle_timer 3
        n replace id 13 group 1/2 type resilient buckets 4
        ip nexthop; ip -j nexthop; ip -d nexthop show groups; b; ip nexthop bucket get id 10 index 9
        ip nexthop bucket get id 99 index 0; ip nexthop bucket get id 1 index 0
        ip nexthop bucket get id 13 index 0; b id 13; b id 1; b id 88
        n add id 20 group 1,1/2,5/3,2 type resilient buckets 32 unbalanced_timer 1 idle_timer 7
        b id 20; b nhid 2; b dev v0; b dev v1; b id 20 nhid 3; n del id 1; ip nexthop; b id 20
        n replace id 20 group 2,1/3,7 type resilient; ip nexthop get id 20; b id 20
        n replace id 20 group 3 type resilient unbalanced_timer 2; ip nexthop get id 20; b id 20
        n add id 30 group 4 type resilient buckets 5; ip nexthop get id 30; b id 30
        ip route add 10.1.0.0/16 nhid 20; ip -6 route add 2001:db8:9::/48 nhid 30; ip route
        ip -6 route | grep -v '^fe80'; n del id 20; ip route; b id 20; n flush; b
        """,
        ((REFUSED, ""),),
    ),
    "what a monitor hears of nexthop objects": Row(
        f"""{MARK}{VETH}
        ip monitor nexthop route rule > $DIR/heard & M=$!
        mark 32001
        {NEXTHOPS}
        ip route replace 10.1.0.0/16 nhid 2; ip nexthop replace id 2 via 10.0.0.77 dev v0
        ip nexthop replace id 10 group 1,7/2; ip nexthop replace id 3 via 2001:db8::33 dev v0
        ip nexthop del id 1; ip nexthop del id 3; ip nexthop del id 22; mark 32002; kill $M
        grep -v 'fe80\\|ff00' $DIR/heard
        """,
        ((REFUSED, ""), (MARKS, "")),
    ),
    "routes over next hops, by id alone": Row(
        f"""{MARK}{VETH}
        hop() {{ ip nexthop $1 id $2 via $3 dev v0; }}
        hop add 1 10.0.0.2; hop add 2 10.0.0.3; hop add 3 2001:db8::2; hop add 4 2001:db8::3
        ip nexthop add id 10 group 1/2; ip nexthop add id 11 group 3/4
        ip nexthop add id 12 blackhole
        ip route add 10.1.0.0/16 nhid 1; ip route add 10.2.0.0/16 nhid 10
        ip route add 10.3.0.0/16 nhid 12
        ip -6 route add 2001:db9::/48 nhid 3; ip -6 route add 2001:dba::/48 nhid 11
        for mode in 1 0; do
            sysctl net.ipv4.nexthop_compat_mode; sysctl -w net.ipv4.nexthop_compat_mode=$mode
            ip route; ip -6 route show 2001:db9::/48; ip -6 route show 2001:dba::/48
            ip route get fibmatch 10.2.0.1; ip -6 route get fibmatch 2001:dba::1
            ip monitor nexthop route rule > $DIR/heard & M=$!
            mark 32001
            hop replace 1 10.0.0.4; hop replace 3 2001:db8::4
            ip nexthop replace id 10 group 2; ip nexthop replace id 11 group 4
            ip -6 route del 2001:dba::/48; ip -6 route add 2001:dba::/48 nhid 11
            ip nexthop del id 4; ip nexthop replace id 10 group 1/2
            hop add 4 2001:db8::3; ip nexthop replace id 11 group 3/4
            ip -6 route add 2001:dba::/48 nhid 11
            ip route replace 10.1.0.0/16 nhid 2; ip route replace 10.1.0.0/16 nhid 1
            ip route del 10.3.0.0/16; ip route add 10.3.0.0/16 nhid 12
            mark 32002; kill $M; cat $DIR/heard
        done
        """,
        ((MARKS, ""), (r".*fe80::.*\n", "")),
        ("ip", "sysctl"),
    ),
    "rules": Row(
        rf"""{VETH}
        ip rule; ip -6 rule; ip -j rule; ip rule show table main
        ip route show table 100; echo $?
        {RULES}
        ip rule; ip -j rule; ip -N rule; ip rule show table 101; ip rule show prio 70
        ip rule add fwmark 7 table 101 priority 50; echo $?
        ip rule del prio 60; ip rule del fwmark 7; ip rule del prio 60; echo $?
        ip rule del from 10.0.0.0/24 to 10.9.0.0/16 table 100; ip rule del goto 9999; ip rule
        ip rule flush; ip rule; ip route get 10.0.0.1
        ip -6 rule add from 2001:db8::/32 table 200 prio 5
        ip -6 rule add fwmark 1 table 0; echo $?
        ip -6 rule add to 2001:db8:1::/48 iif lo table 201 prio 6
        ip -6 rule; ip -6 rule del table 200; ip -6 rule del prio 0; ip -6 rule
        ip -6 rule flush; ip -6 rule; ip -6 route show table 201; echo $?
        ip rule add table 7 prio 7; ip rule add goto 3 prio 7; echo $?
        ip route add 10.7.0.0/16 dev v0 table 7; ip route add 10.8.0.0/16 dev v0 table 4294967295
        ip -6 route add 2001:db8:9::/48 dev v0 table 500
        ip route show table 7; ip route show table 4294967295; ip -6 route show table 500
        ip route show table all | grep -v 'local\|anycast\|multicast\|fe80'
        ip route del 10.7.0.0/16 table 7; ip route flush table 4294967295; ip route show table 7
        """,
        ((REFUSED, ""),),
    ),
    "rules decide": Row(decisions(1, False), ((REFUSED, ""),), forwards=True),
    "rules of IPv6 decide": Row(decisions(2, True), ((REFUSED, ""),), forwards=True),
    "bridges": Row(
        f"""{VETH}
        ip link add br0 type bridge; ip link set br0 up; ip link set v1 master br0
        bridge link; ip link show master br0; bridge -j link
        bridge fdb add 02:00:00:00:00:99 dev v1 master static
        bridge fdb show br br0 | grep -v 'self\\|00:01 ' | sort
        bridge fdb del 02:00:00:00:00:99 dev v1 master
        bridge fdb del 02:00:00:00:00:99 dev v1 master; echo $?
        bridge link set dev v1 state 9; echo $?; bridge link set dev v0 learning off; echo $?
        bridge link set dev v1 cost 7 priority 3; bridge link set dev v1 cost 70000; echo $?
        bridge link set dev v1 priority 64; echo $?; bridge link set dev v1 guard on; bridge link
        bridge link set dev v1 root_block on; ip link set br0 type bridge priority 4096
        ip link set br0 type bridge hello_time 300 max_age 1000 forward_delay 1800 stp_state 1
        bridge link set dev v1 state 3; echo $?
        for x in hello_time max_age forward_delay
        do ip link set br0 type bridge $x 1; echo $?; ip link set br0 type bridge $x 9999; echo $?
        done
        ip link set br0 type bridge group_fwd_mask 7; echo $?
        ip link set br0 type bridge group_address 01:80:c2:00:00:02; echo $?
        ip link set br0 type bridge group_address 01:80:c2:00:00:0d fdb_flush
        B='forward_delay|hello_time|max_age|ageing_time|stp_state|priority|bridge_id'
        B="$B|designated_root|root_port|root_path_cost|group_address"
        ip -d link show br0 | grep -oE "($B) [^ ]*"
        P='state|priority|cost|guard|root_block|port_id|port_no|designated_port'
        P="$P|designated_cost|designated_bridge|designated_root|config_pending"
        ip -d link show v1 | sed -n 's/.*bridge_slave//p' | grep -oE "($P) [^ ]*"
        ip link set v1 type bridge_slave cost 9
        ip link set v1 type bridge_slave priority 65; echo $?
        ip link set v1 nomaster; bridge link; ip link del br0; ip link show br0; echo $?
        """,
        ((REFUSED, ""),),
        ("ip", "bridge"),
    ),
    "what a monitor hears of ports": Row(
        f"""{VETH}
        ip link add br0 type bridge forward_delay 200; ip link set br0 up
        bridge monitor link > $DIR/heard & M=$!
        until grep -qs v0@ $DIR/heard; do  # it listens
            ip link set v0 master br0; ip link set v0 nomaster; sleep 0.05
        done
        heard() {{ until grep -q "$1" $DIR/heard; do sleep 0.05; done; }}
        ip link set v1 master br0; bridge link set dev v1 cost 7; heard 'cost 7'
        ip link set v1 type bridge_slave priority 3; heard 'priority 3'
        ip link set br0 type bridge stp_state 1; ip link set v1 down; heard 'state disabled'
        ip link set v1 up; heard 'state learning'
        until bridge link | grep -q 'state forwarding'; do sleep 0.05; done
        ip link set v1 nomaster; heard Deleted; kill $M
        grep -v v0@ $DIR/heard | grep -oE 'Deleted.*|state .*' | uniq
        """,
        tools=("ip", "bridge"),
    ),
    "a forwarding database": Row(
        f"""{VETH}
        ip link add br0 address 02:00:00:00:00:b0 type bridge; ip link set br0 up
        ip link set v1 master br0
        stdbuf -oL bridge monitor fdb > $DIR/heard & M=$!
        until grep -qs :77:77 $DIR/heard; do  # it listens
            bridge fdb add 02:00:00:00:77:77 dev v1 master static
            bridge fdb del 02:00:00:00:77:77 dev v1 master; sleep 0.05
        done
        heard() {{ until grep -q "$1" $DIR/heard; do sleep 0.05; done; }}
        one=02:00:00:00:01:01
        bridge fdb get $one br br0; echo $?
        bridge fdb add $one dev v1 master static; heard $one; bridge fdb get $one br br0
        bridge fdb add $one dev v1 master static; bridge fdb get $one dev v1
        bridge fdb replace $one dev v1 master dynamic; bridge fdb get $one dev v1 master
        bridge fdb del $one dev v1 master; heard "Deleted $one"
        bridge fdb del $one dev v1 master; bridge fdb get $one dev v1 self
        bridge fdb add 02:00:00:00:01:02 dev v1 master static sticky
        bridge fdb add 02:00:00:00:01:03 dev v1 master extern_learn
        bridge fdb add 02:00:00:00:01:04 dev br0 self local
        bridge fdb add 33:33:00:00:07:77 dev v0 self
        bridge fdb show br br0 | grep :01: | sort; bridge fdb show dev v0 | grep 07:77
        bridge fdb flush dev br0 nopermanent nosticky; bridge fdb show br br0 | grep :01: | sort
        bridge fdb flush dev v1 master permanent; bridge fdb flush dev v0
        bridge fdb flush dev br0 brport v0; bridge fdb flush dev br0 vlan 7
        bridge fdb flush dev br0; bridge fdb show br br0 | sort
        bridge fdb show | sort; bridge fdb show dev v1 | sort; bridge fdb show br nothing
        heard 'Deleted 02:00:00:00:01:02'; heard 'Deleted 02:00:00:00:01:04'; kill $M
        grep -c :01: $DIR/heard; grep :01: $DIR/heard | sort
        """,
        # What v0 sends by itself, of IPv6, may have come or not.
        ((r"02:00:00:00:00:01 (dev v1 )?master br0 *\n", ""),),
        tools=("ip", "bridge", "stdbuf"),
    ),
    "groups": Row(
        f"""
import socket, subprocess
subprocess.run({VETH!r}, shell=True)
def sh(words):
    print(words, flush=True)
    subprocess.run(words, shell=True)
while True:  # the kernel joins the groups of its addresses in a worker
    told = subprocess.run(["ip", "maddr"], capture_output=True, text=True).stdout
    if "ff00:1 users 2" in told and "ff00:2" in told:
        break
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
join = bytes([10, 0, 0, 1])
one.setsockopt(0, 35, bytes([239, 1, 2, 3]) + join)
one.setsockopt(0, 39, bytes([239, 1, 2, 4]) + join + bytes([10, 0, 0, 7]))
sh("ip link set lo up; ip maddr add 01:00:5e:00:00:05 dev v1")
sh("ip maddr add 01:00:5e:00:00:05 dev v1")
sh("ip maddr | sort; ip maddr show dev v1 | sort; ip -4 maddr show dev v0")
sh("ip maddr del 01:00:5e:00:00:05 dev v1; ip maddr show dev v1 | sort")
for name in ("igmp", "mcfilter", "igmp6", "icmp", "icmp6", "raw", "raw6", "udp6"):
    print(open("/proc/net/" + name).read())
        """,
        python=True,
    ),
    "the tables as one trie": Row(
        f"{TRIES}shown rt_cache anycast6; shown rt_acct | wc -c; head -1 /proc/net/stat/rt_cache"
    ),
    "tables apart as tries": Row(f"ip rule add from 1.2.3.4 table 10; {TRIES}"),
    "/sys/class/net": Row(
        f"""
        {VETH}
        ip link add br0 address 02:00:00:00:00:06 type bridge
        ls /sys/class/net; ls /sys/class/net/ /sys/class/net/v0/statistics
        shown() {{
            for f in address addr_len addr_assign_type broadcast carrier duplex flags ifindex \
                    iflink mtu operstate speed tx_queue_len type uevent; do
                echo $1 $f $(cat /sys/class/net/$1/$f 2>&1)
            done
        }}
        for i in lo v0 v1 br0; do shown $i; done; ip link set v1 down; shown v0; shown v1
        cat /sys/class/net/v1/statistics/collisions; ls -d /sys/class/net/*/mtu
        echo 1400 > /sys/class/net/v0/mtu; echo 77 > /sys/class/net/v0/tx_queue_len; shown v0
        echo nonsense > /sys/class/net/v0/mtu; echo 99999999 > /sys/class/net/v0/mtu
        echo 0x500 >/sys/class/net/v0/mtu; cat /sys/class/net/v0/mtu
        echo 1 > /sys/class/net/v0/address; echo $?; cat /sys/class/net/nothing/mtu
        cat /sys/class/net/v0/nothing; cat /sys/class/net/v0; ls /sys/class/net/none; echo $?
        for f in v0 v0/mtu none v0/none v0/statistics v0/statistics/rx_bytes; do
            for t in e d f w r x; do [ -$t /sys/class/net/$f ]; echo $f $t $?; done
        done
        stat -c '%F %a %s %n' -L /sys/class/net/v0/mtu /sys/class/net/v0/address /sys/class/net/v0/
        python3 -c 'import os, glob; p = "/sys/class/net/v0/"; print(
            sorted(os.listdir("/sys/class/net")), os.path.isdir(p), os.access(p + "mtu", os.W_OK),
            os.stat(p + "mtu").st_size, sorted(glob.glob("/sys/class/net/v*/mtu")))'
        ip link del v0; ls /sys/class/net
        """,
        ((r"(?m)^sh: .*|^.*script: \d+: .*?(?=[A-Z]|cannot|echo)", ""),),
    ),
    "/proc/sys/net": Row(
        f"""
        {VETH}
        read_back() {{ for f; do echo $f $(cat /proc/sys/net/$f 2>&1); done; }}
        ls -d /proc/sys/net/ipv4/conf/* /proc/sys/net/ipv6/conf/*
        sysctl net.ipv4.conf.v0.forwarding net.ipv4.tcp_sack net.ipv4.nothing; echo $?
        sysctl -w net.ipv4.tcp_sack=0 net.ipv4.conf.v0.rp_filter=2 net.ipv6.conf.v1.accept_ra=0
        sysctl -w net.ipv4.ip_local_port_range="40000 50000" net.ipv4.tcp_sack=x; echo $?
        read_back ipv4/tcp_sack ipv4/conf/v0/rp_filter ipv4/conf/v1/rp_filter \
            ipv6/conf/v1/accept_ra ipv4/ip_local_port_range ipv4/tcp_nothing ipv4/conf/v9/rp_filter
        echo 1 > /proc/sys/net/ipv4/tcp_sack; echo 7000 > /proc/sys/net/ipv4/tcp_sack; echo $?
        echo 80,90-99 > /proc/sys/net/ipv4/ip_local_reserved_ports
        echo > /proc/sys/net/ipv4; echo $?; echo 1 > /proc/sys/net/ipv4/nothing; echo $?
        read_back ipv4/tcp_sack ipv4/ip_local_reserved_ports core/somaxconn ipv6/icmp/ratemask
        for f in ipv4 ipv4/tcp_sack none ipv4/conf/v0 ipv4/conf/v0/rp_filter unix; do
            for t in e d f r x; do [ -$t /proc/sys/net/$f ]; echo $f $t $?; done
        done
        stat -c '%F %a %s %n' /proc/sys/net/ipv4/tcp_sack /proc/sys/net/ipv4 /proc/sys/net
        python3 - <<'END'
import os
for tried in (lambda both: both.read(9), lambda both: both.write(b"1")):
    with open("/proc/sys/net/ipv4/conf/v1/rp_filter", "r+b", buffering=0) as both:
        print(tried(both))
print(open("/proc/sys/net/ipv4/conf/v1/rp_filter").read())
for i in range(2):
    names = [os.path.join(d, f) for d, _, files in os.walk("/proc/sys/net/unix") for f in files]
    print(names)
END
        sysctl -a -r 'net.ipv4.tcp_r.?mem|conf.v[01].(forwarding|accept_ra)$' | sort
        ip link del v0; ls /proc/sys/net/ipv4/conf
        """,
        (
            (r"(?m)^sh: .*|^.*script: \d+: .*?(?=[A-Z]|cannot|echo)", ""),
            (r"tcp_rmem = .*", ""),  # of the memory
        ),
        tools=("sysctl",),
    ),
    "net-tools": Row(
        f"""
        {VETH}
        route add -net 10.9.0.0/16 gw 10.0.0.2; route add -host 10.8.0.1 dev v0
        route add default gw 10.0.0.3; route add -net 10.6.0.0/16 reject
        route add -net 10.7.0.0 netmask 255.255.255.0 metric 5 dev v0; route -n; ip route
        cat /proc/net/route; route add -net 10.5.0.0/16 gw 192.0.2.1; echo $?
        route add -host 10.5.0.1 dev none; echo $?
        route add -host 10.5.0.1 dev a-name-that-is-long; echo $?
        route del -net 10.9.0.0/16; route del -net 10.9.0.0/16; echo $?; route del default
        route -A inet6 add 2001:db8:7::/48 gw 2001:db8::9 dev v0
        route -A inet6 add 2001:db8:6::/48 dev v0; route -A inet6 add 2001:db8:5::/48 reject
        ip -6 route | grep db8; route -A inet6 del 2001:db8:7::/48
        route -A inet6 del 2001:db8:7::/48; echo $?; ip -6 route | grep db8; ip route
        busybox route add default gw 10.0.0.4; busybox route -n; busybox route del default
        arp -s 10.0.0.9 02:00:00:00:00:99; arp -i v0 -s 10.0.0.8 02:00:00:00:00:98 temp
        arp -n | sort
        arp -n 10.0.0.9; ip neigh | grep PERM; arp -d 10.0.0.9; arp -d 10.0.0.77; echo $?; arp -n
        arp -s 192.0.2.1 02:00:00:00:00:01; echo $?
        arp -i none -s 10.0.0.5 02:00:00:00:00:01; echo $?
        ifconfig v0:7 10.0.7.1 netmask 255.255.255.0; ifconfig v0 mtu 1400; ip addr show v0
        route add -net 10.4.0.0/16 dev v0:7; ip route show 10.4.0.0/16; ifconfig v0:7 down
        """,
        (
            (REFUSED, ""),
            (r".*ff00::/8.*\n|anycast.*\n|local fe80.*\n", ""),
            *LINK_LOCAL,
        ),
        tools=("route", "arp", "ifconfig", "busybox"),
    ),
    "whose socket it is": Row(
        """
        nc.openbsd -l 127.0.0.1 1234 & t=$!; nc.openbsd -u -l 127.0.0.1 1235 & u=$!
        until [ $(cat /proc/net/tcp /proc/net/udp | grep -c ':04D[23]') = 2 ]; do sleep 0.05; done
        ss -tulnp; netstat -tulnp
        lsof -w -n -P -a -p $t,$u -i | awk '{ print $1, $2, $4, $5, $8, $9, $10 }'
        for p in $t $u; do ls -l /proc/$p/fd/3 | tr -dc 0-9 >/dev/null
            i=$(readlink /proc/$p/fd/3 | tr -dc 0-9)
            cat /proc/net/tcp /proc/net/udp | awk -v i=$i '$10 == i { print $2, $4 }'; done
        kill $t $u
        """,
        ((r"(?m)(pid=|^nc.openbs |\b)\d+(?=,fd|/nc| 3u)", r"\1N"),),
        tools=("nc.openbsd", "netstat", "lsof"),
    ),
    "protocols": Row(
        f"""{SOCKETS}
eight = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
nine = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
ours = "TCP UDP RAW PING TCPv6 UDPv6 RAWv6 PINGv6 UNIX UNIX-STREAM PACKET NETLINK".split()
lines = open("/proc/net/protocols").read().splitlines()
print(lines[0])
for line in sorted(lines[1:]):
    name, _, sockets, memory, press, *_ = line.split()
    if name in ours:
        print(name, sockets, memory == "-1", press)
""",
        python=True,
    ),
    "what a monitor hears": Row(
        f"""{MARK}
        ip monitor address route neigh rule > $DIR/heard & M=$!
        mark 32001
        {VETH}
        ip route add 10.1.0.0/16 dev v0; ip route del 10.1.0.0/16
        ip -6 route add 2001:db8:1::/48 dev v0
        ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev v0; ip neigh del 10.0.0.9 dev v0
        ip rule add table 7; ip -6 rule add table 8; ip rule del table 7
        ip addr del 10.0.0.1/24 dev v0; mark 32002; kill $M
        sort $DIR/heard | grep -v 'fe80\\|ff0\\|valid_lft\\|broadcast'
        """,
        ((MARKS, ""),),
    ),
    "busybox": Row(
        """
        busybox ip addr add 10.5.0.1/24 dev lo; busybox ip addr; busybox ip link
        busybox ip route add 10.6.0.0/24 dev lo; busybox ip route; busybox ip neigh
        busybox ip route del 10.6.0.0/24; busybox ip route; busybox ip rule
        """,
        ((" qlen 1000", ""),),  # by an ioctl, where a queue that does not exist has no length
        ("busybox",),
    ),
    "getifaddrs": Row(
        """
import ctypes, socket, struct, subprocess
subprocess.run("ip addr add 10.5.0.1/24 dev lo", shell=True)
class ifaddrs(ctypes.Structure):
    pass
ifaddrs._fields_ = [("next", ctypes.POINTER(ifaddrs)), ("name", ctypes.c_char_p)] + [
    ("flags", ctypes.c_uint), ("addr", ctypes.c_void_p), ("mask", ctypes.c_void_p)]
first = ctypes.POINTER(ifaddrs)()
print(ctypes.CDLL(None).getifaddrs(ctypes.byref(first)))
while first:
    one = first.contents
    print(one.name, hex(one.flags), [ctypes.string_at(at, 8).hex() for at in (one.addr, one.mask)])
    first = one.next
print(socket.if_nameindex())
        """,
        python=True,
    ),
    "ss": Row(
        f"""{SOCKETS}
for words in ("-Htna", "-Huna", "-Hwna", "-Htln", "-Htnp", "-Hulnp", "-Htn state established",
        "-Htan sport = :80", "-Htan '( dport = :80 or sport = :81 )'", "-Htan dst 127.0.0.0/8",
        "-Htan src 10.0.0.0/8", "-Htan sport gt :80", "-Htan 'not dst 127.0.0.1'", "-H6tan",
        "-HtnK dport = :80", "-Htna"):
    ss(words)
        """,
        (PORTS,),
        ("ss",),
        python=True,
    ),
    "ss -tunap, -i, -m, -s": Row(
        f"""{SOCKETS}
ss("-tunap"); ss("-HOtni state established"); ss("-HOtnm state established"); ss("-s | head -1")
        """,
        (
            PORTS,
            # What differs by congestion control, time and memory is left: the names.
            (r"\bbbr:\(.*?\)", ""),
            (r"\bbbr\b|\bcubic\b", "CC"),
            (r"(pacing_rate|delivery_rate) [\d.KMG]+bps|app_limited|busy:\d+ms|ato:\d+", ""),
            (r"last(snd|rcv|ack):\d+", ""),  # of no milliseconds ss says nothing
            (r"[\d.,/]+(bps)?", "N"),
            (r" +", " "),
        ),
        ("ss",),
        python=True,
    ),
    "dnsmasq and dig": Row(
        """
        ip addr add 10.5.0.1/24 dev lo
        dnsmasq -k -q --log-facility=$DIR/log -p 53 --no-resolv --no-hosts --user=root \\
            --pid-file= --address=/box.test/10.5.0.9 --interface=lo --bind-interfaces &
        D=$!; sleep 1; dig +short @10.5.0.1 box.test; dig +short @127.0.0.1 box.test
        kill $D; wait $D; grep -o 'query.*\\|config.*' $DIR/log
        """,
        tools=("dnsmasq", "dig"),
    ),
}


def run(argv: list[str], row: Row, files: Path) -> list[str]:
    """A row's command in a namespace or on a host, where `argv` begins it."""
    files.mkdir()
    script = files / "script"
    script.write_text(row.script)
    return [*argv, "env", f"DIR={files}", "python3" if row.python else "sh", str(script)]


def told(text: str, row: Row) -> str:
    """The text without what the row's rules take out, and without spaces at the ends of lines."""
    for pattern, instead in row.rules:
        text = re.sub(pattern, instead, text)
    return re.sub(r"(?m) +$", "", text)


def both(peer: Peer, tmp_path: Path, row: Row, sysctl: dict[str, int]) -> None:
    """Run a row's script in the kernel's namespace and on a host; what they tell is the same."""
    kernel, host = ran(peer, tmp_path, row, sysctl)
    assert told(host, row).splitlines() == told(kernel, row).splitlines()


def ran(
    peer: Peer,
    tmp_path: Path,
    row: Row,
    sysctl: dict[str, int],
    prepare: Callable[[Host], None] = lambda host: None,
) -> tuple[str, str]:
    """What a row's script tells in the kernel's namespace, and on a host, with one status.

    `prepare(host)` is called with the host's lock.
    """
    for tool in row.tools:
        require.tool(tool, PACKAGES.get(tool))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    begin = ["ip", "netns", "exec", peer.name]
    # The kernel has a backlog for each processor: packets sent from two may change places.
    begin += ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
    # `ip` asks the kernel for every name in /run/netns, and other tests make and remove theirs.
    begin += ["sh", "-c", 'mount -t tmpfs none /run/netns && exec "$@"', "sh"]
    said: list[str] = []
    settings = [f"{name}={value}" for name, value in sysctl.items()]
    subprocess.run([*begin, "sysctl", "-qw", *settings], check=True)
    want = subprocess.run(run(begin, row, tmp_path / "kernel"), **pipes, check=False)  # type: ignore[call-overload]
    with real_host(sysctl=sysctl) as host:
        with host.lock:
            prepare(host)
        with spawn(host, run([], row, tmp_path / "host"), log=said.append, **pipes) as program:
            out, _ = program.communicate(timeout=120)
    assert said == []
    assert program.returncode == want.returncode, out.decode()
    return want.stdout.decode(), out.decode()


SHARES = """
ip link add w0 type veth peer name w1; ip link set w0 up; ip link set w1 up
ip link add x0 type veth peer name x1; ip link set x0 up; ip link set x1 up
ip addr add 10.7.0.1/24 dev w0; ip addr add 10.8.0.1/24 dev x0
ip addr add 2001:db8:7::1/64 dev w0 nodad; ip addr add 2001:db8:8::1/64 dev x0 nodad
ip route add default nexthop via 10.7.0.2 weight 3 nexthop via 10.8.0.2 weight 1
ip -6 route add default nexthop via 2001:db8:7::2 weight 3 nexthop via 2001:db8:8::2 weight 1
python3 - > $DIR/asked <<'END'
for i in range(400):
    a, b = f"172.16.{i % 250}.1", f"172.17.{i // 250}.7"
    for src, dst in ((a, b), (b, a)):
        print(f"route get {dst} from {src} iif v0")
    print(f"route get 2001:db8:99::{i + 1:x} from 2001:db8::1")
    print(f"route get 172.18.{i % 250}.{i // 250} ipproto udp sport {i + 1} dport 5")
    print(f"route get 9.9.9.9 ipproto udp sport {i + 1} dport 5")
    print(f"route get 9.9.9.9 from 10.8.0.1 ipproto udp sport {i + 1} dport 5")
END
ip -b $DIR/asked | grep -o 'dev [wx]0'
"""


@pytest.mark.parametrize("policy", [0, 1])
def test_flows_part_as_on_linux(peer: Peer, tmp_path: Path, policy: int) -> None:
    """Six kinds of question, 400 of each: the shares of the next hops are the kernel's."""
    sysctl = {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1}
    sysctl |= {f"net.{v}.fib_multipath_hash_policy": policy for v in ("ipv4", "ipv6")}
    texts = ran(peer, tmp_path, Row(f"{VETH}{SHARES}"), sysctl)
    answers = [text.splitlines() for text in texts]
    assert [len(lines) for lines in answers] == [2400, 2400]
    for kind in range(6):
        kernel, ours = (lines[kind::6].count("dev w0") for lines in answers)
        if kernel in (0, 400):
            assert ours in (0, 400), kind
        else:
            assert abs(kernel - ours) < 5 * (2 * 400 * 3 / 16) ** 0.5, (kind, kernel, ours)
    for lines in answers:  # both directions go one way
        assert lines[0::6] == lines[1::6]


@pytest.mark.parametrize("name", ROWS)
def test_as_on_linux(peer: Peer, tmp_path: Path, name: str) -> None:
    row = ROWS[name]
    names = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
    both(peer, tmp_path, row, dict.fromkeys(names, int(row.forwards)))
