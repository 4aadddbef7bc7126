"""/dev/net/tun on a host: programs have a TUN or TAP of the host's, as on Linux.

Each script runs twice, on a host and in a namespace of the kernel; what it prints is the same.
openvpn and ssh make tunnels between two hosts, and in them between two namespaces.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stack.api.programs import spawn
from tests.hosts import real_host, real_hosts
from tests.linux.peer import Peer
from tests.programs.test_iproute import Row, both
from tests.support import PATIENCE_S, eventually, require

pytestmark = pytest.mark.netns

HEAD = """
import errno, fcntl, os, select, signal, socket, struct, subprocess, sys, threading, time
TUN, TAP, NO_PI, VNET, EXCL, PERSIST = 1, 2, 0x1000, 0x4000, 0x8000, 0x800
SETIFF, SETPERSIST, SETOWNER, SETLINK, SETGROUP = (0x40045400 + n for n in (202, 203, 204, 205,
    206))
SETOFFLOAD, SETTXFILTER, GETIFF = 0x400454d0, 0x400454d1, 0x800454d2
GETSNDBUF, SETSNDBUF = 0x800454d3, 0x400454d4
GETHDR, SETHDR, SETQUEUE = 0x800454d7, 0x400454d8, 0x400454d9
SETIFINDEX, SETCARRIER = 0x400454da, 0x400454e2

def tried(call, *args):
    try:
        return call(*args)
    except OSError as exc:
        return errno.errorcode[exc.errno]

def io(fd, request, arg=0):
    return tried(fcntl.ioctl, fd, request, struct.pack("i", arg) if request >> 16 & 0xC000 and
                 request in (GETSNDBUF, SETSNDBUF, GETHDR, SETHDR, SETCARRIER, SETIFINDEX) else arg)

def ifreq(name=b"", flags=0):
    return struct.pack("16sH22x", name, flags)

def setiff(fd, name, flags):
    got = tried(fcntl.ioctl, fd, SETIFF, ifreq(name, flags))
    return got if isinstance(got, str) else got[:18].rstrip(b"\\0")

def opened(name=b"", flags=TUN | NO_PI, mode=os.O_RDWR | os.O_NONBLOCK):
    fd = os.open("/dev/net/tun", mode)
    print(name, setiff(fd, name, flags))
    return fd

def read(fd, size=2000):
    return tried(os.read, fd, size)

def write(fd, data):
    return tried(os.write, fd, data)

def polled(fd):  # without POLLWRBAND, which sockets have
    poll = select.poll()
    poll.register(fd, 0xfff)
    return [bits & 0x1ff for _, bits in poll.poll(0)]

def sh(text):
    sys.stdout.flush()
    subprocess.run(["sh", "-c", text], stderr=subprocess.STDOUT)

def up(name, addr):
    sh(f"sysctl -qw net.ipv6.conf.{name}.disable_ipv6=1; ip link set {name} up")
    sh(f"ip addr add {addr} dev {name}")

def stat(name, *what):
    print({one: open(f"/sys/class/net/{name}/statistics/{one}").read().strip() for one in what})

def udp(src, dst, payload):
    data = struct.pack("!HHHH", 5, 7, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(data), 1, 0, 64, 17, 0,
                       socket.inet_aton(src), socket.inet_aton(dst))
    total = sum(struct.unpack("!10H", head))
    total = (total >> 16) + (total & 0xffff)
    return head[:10] + struct.pack("!H", (total >> 16) + total & 0xffff ^ 0xffff) + head[12:] + data
"""
GRO = (r"gro_max_size (\d+) ?|,\"gro_max_size\":\d+", "")
"""That of a host is larger, of all interfaces."""
SCRIPTS = {
    "before TUNSETIFF": """
fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
print(read(fd), write(fd, bytes(30)), polled(fd), select.select([fd], [fd], [fd], 0) != ([], [],
    []))
print([io(fd, one) for one in (SETPERSIST, SETOFFLOAD, SETLINK, SETOWNER, 0x400454ff, GETSNDBUF)])
print(tried(fcntl.ioctl, fd, GETIFF, ifreq()), tried(fcntl.ioctl, fd, 0x8927, ifreq()))
print(tried(fcntl.ioctl, fd, SETQUEUE, ifreq(b"", 0x200)))
print(fcntl.ioctl(fd, 0x800454cf, bytes(4))[0] & 3, tried(os.lseek, fd, 0, 0))
print(tried(lambda: socket.socket(fileno=os.dup(fd)).getsockname()))
for name, flags in (b"", 0), (b"", NO_PI), (b"a/b", TUN), (b"a b", TUN), (b"a:b", TUN), (b"a%s",
    TAP), \\
        (b"a%d%d", TUN), (b"..", TUN), (b"x" * 15, 0x20 | TAP), (b"lo", TUN):
    print(name, setiff(fd, name, flags))
print(tried(os.open, "/dev/net/tun", os.O_RDWR | os.O_DIRECTORY))
sh("ip -br link")
""",
    "names, and who has an interface": """
a, b = opened(), opened()
c = opened(b"vpn%d", TAP | NO_PI)
d = opened(b"vpn%d", TAP | NO_PI)
e = opened(b"x" * 15, TUN)
print(setiff(a, b"other", TUN), setiff(a, b"tun0", TUN))
spare = os.open("/dev/net/tun", os.O_RDWR)
for name, flags in (b"tun0", TUN), (b"tun0", TAP), (b"tun0", TUN | EXCL), (b"tun0",
    0), (b"vpn1", TUN):
    print(setiff(spare, name, flags))
print(io(spare, SETIFINDEX, -1), io(spare, SETIFINDEX, 2), setiff(spare, b"tun7", TUN))
print(io(spare, SETIFINDEX, 77), setiff(spare, b"tun7", TUN), io(spare, SETIFINDEX, 78))
sh("ip link show tun7 | cut -d: -f1,2 | head -1")
got = fcntl.ioctl(spare, GETIFF, ifreq())
print(got[:20])
os.close(a); os.close(c); os.close(spare)
sh("ip -o link | cut -d: -f2")
a, c = opened(), opened(b"vpn%d", TAP)
print(fcntl.ioctl(c, GETIFF, ifreq())[:20])
""",
    "requests": """
fd = opened()
print([io(fd, SETOFFLOAD, one) for one in (0, 1, 7, 15, 2, 8, 9, 0x10, 0x60, 0x21, 0x61, 0x1000,
    0)])
print(io(fd, GETSNDBUF), io(fd, SETSNDBUF, 0), io(fd, SETSNDBUF, -1), io(fd, SETSNDBUF, 100000),
    io(fd, GETSNDBUF))
print(io(fd, GETHDR), io(fd, SETHDR, 12), io(fd, SETHDR, 9), io(fd, GETHDR))
print([io(fd, 0x40045400 + n) for n in (200, 201, 0xff)], tried(fcntl.ioctl, fd, SETIFF, ifreq()))
print(tried(fcntl.ioctl, fd, SETTXFILTER, struct.pack("HH", 0, 0)), io(fd, SETIFINDEX, 9))
print(tried(fcntl.ioctl, fd, 0x8901, bytes(4)), tried(fcntl.ioctl, fd, 0x8913, ifreq(b"lo")))
print(io(fd, SETOWNER, 5), io(fd, SETGROUP, 6), io(fd, SETOWNER, -1))
sh("cat /sys/class/net/tun0/owner /sys/class/net/tun0/group /sys/class/net/tun0/tun_flags")
print(io(fd, SETLINK, 1))
sh("ip link show tun0 | tail -1 | cut -d' ' -f5")
sh("cat /sys/class/net/tun0/type /sys/class/net/tun0/addr_len")
print(io(fd, SETLINK, 65534))
print(io(fd, SETCARRIER, 0)); sh("ip link set tun0 up; ip link show tun0")
print(io(fd, SETCARRIER, 1)); sh("ip link show tun0"); print(io(fd, SETLINK, 1))
tap = opened(b"tap0", TAP | NO_PI)
print(tried(fcntl.ioctl, tap, 0x8924, struct.pack("16sH14s8x", b"", 1, bytes((2, 0, 0, 0, 0, 9)))))
print(fcntl.ioctl(tap, 0x8927, ifreq())[16:24]); sh("cat /sys/class/net/tap0/address")
print([tried(fcntl.ioctl, tap, SETTXFILTER, struct.pack("HH", 0, n) + bytes((1,
    *bytes(5))) * n) for n in (0, 9)])
print(tried(fcntl.ioctl, tap, 0x8901, bytes(4)), tried(fcntl.ioctl, tap, SETIFF, 1))
""",
    "packets": """
fd = opened()
print(read(fd), write(fd, b"\\x45" + bytes(19)), write(fd, b""), write(fd, b"\\x75"), polled(fd))
up("tun0", "10.5.0.1/24")
print(polled(fd))
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("10.5.0.1", 7))
for size in (1, 500, 1472):
    sock.sendto(bytes(size), ("10.5.0.2", 9))
print(polled(fd), read(fd, 0), len(read(fd, 10)), len(read(fd)), len(read(fd)), read(fd),
    polled(fd))
sock.sendto(b"12345678", ("10.5.0.2", 9))
one, two = bytearray(20), bytearray(30)
print(os.readv(fd, [one, two]), one[0], one[16:], two[:16])
packet = udp("10.5.0.2", "10.5.0.1", b"abc")
print(write(fd, packet), os.writev(fd, [packet[:9], b"", packet[9:]]), write(fd,
    packet + bytes(70000)))
print([sock.recvfrom(99) for _ in range(3)])
print([write(fd, one) for one in (b"\\x45", b"\\x60", b"\\x45" + bytes(19),
    b"\\x60" + bytes(39), b"\\x90" * 30)])
stat("tun0", "rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "rx_dropped", "tx_dropped",
    "rx_errors")
sh("ip link set tun0 txqueuelen 5")
for i in range(9):
    sock.sendto(b"%d" % i, ("10.5.0.2", 9))
print([read(fd)[28:] for _ in range(5)], read(fd))
stat("tun0", "tx_packets", "tx_dropped")
sh("ip link set tun0 down"); print(write(fd, packet))
only = opened(mode=os.O_RDONLY); print(write(only, packet)); os.close(only)
only = opened(mode=os.O_WRONLY | os.O_NONBLOCK); print(read(only)); os.close(only)
""",
    "struct tun_pi": """
fd = opened(flags=TUN)
up("tun0", "10.5.0.1/24")
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("10.5.0.1", 7))
for size in (2000, 31, 32, 8, 4, 3):
    sock.sendto(b"1234", ("10.5.0.2", 9))
    got = read(fd, size)
    print(size, got if isinstance(got, str) else (len(got), got[:4]))
packet = udp("10.5.0.2", "10.5.0.1", b"abc")
for pi in (0, 0x800), (1, 0x800), (0, 0x86dd), (0, 0x1234):
    print(write(fd, struct.pack("!HH", *pi) + packet))
print(sock.recvfrom(9), sock.recvfrom(9), write(fd, b"abc"), write(fd, b"abcd"))
stat("tun0", "rx_packets")
tap = opened(b"tap0", TAP)
sh("ip link set tap0 address 02:00:00:00:00:09"); up("tap0", "10.6.0.1/24")
sock.close(); sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); sock.bind(("10.6.0.1", 7))
sh("ip neigh add 10.6.0.2 lladdr 02:00:00:00:00:0a dev tap0")
sock.sendto(b"1234", ("10.6.0.2", 9)); print(read(tap)[:20])
frame = bytes((2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 10, 8, 0)) + udp("10.6.0.2", "10.6.0.1", b"abc")
print(write(tap, bytes(4) + frame), sock.recvfrom(9), [write(tap, bytes(n)) for n in (3, 4, 17,
    18)])
""",
    "struct virtio_net_hdr": """
fd = opened(b"tap0", TAP | NO_PI | VNET)
sh("ip link set tap0 address 02:00:00:00:00:09"); up("tap0", "10.6.0.1/24")
sh("ip neigh add 10.6.0.2 lladdr 02:00:00:00:00:0a dev tap0")
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); sock.bind(("10.6.0.1", 7))
sock.sendto(b"1234", ("10.6.0.2", 9)); print(read(fd)[:24])
sock.sendto(b"1234", ("10.6.0.2", 9)); print(read(fd, 9))
frame = bytes((2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 10, 8, 0)) + udp("10.6.0.2", "10.6.0.1", b"abc")
def written(*header, data=frame):
    return write(fd, struct.pack("=BBHHHH", *header) + data)
print(written(0, 0, 0, 0, 0, 0), sock.recvfrom(9), written(1, 0, 0, 0, 34, 6))
print([write(fd, bytes(n)) for n in (9, 10, 23)], written(1, 0, 0, 0, 60, 6), written(0, 9, 0,
    10, 0, 0), written(0, 1, 0, 0, 0, 0))
print(written(0, 0, 45, 0, 0, 0), written(0, 0, 46, 0, 0, 0), written(0, 0, 13, 0, 0, 0))
print(io(fd, SETHDR, 20)); sock.sendto(b"1234", ("10.6.0.2", 9)); print(read(fd)[:34])
print(write(fd, bytes(20) + frame), sock.recvfrom(9))
pseudo = struct.pack("!4s4sHH", socket.inet_aton("10.6.0.2"), socket.inet_aton("10.6.0.1"), 17, 11)
total = sum(struct.unpack("!6H", pseudo)); total = (total >> 16) + (total & 0xffff)
half = frame[:40] + struct.pack("!H", total) + frame[42:]
print(io(fd, SETHDR, 10), written(1, 0, 42, 0, 34, 6, data=half), sock.recvfrom(9))
print(written(1, 0, 42, 0, 34, 6, data=half[:-1] + b"x"), sock.recvfrom(9))
print(written(0, 0, 0, 0, 0, 0, data=half)); sock.settimeout(0.2); print(tried(sock.recv, 9))
""",
    "filter of addresses": """
fd = opened(b"tap0", TAP | NO_PI)
sh("ip link set tap0 address 02:00:00:00:00:09"); up("tap0", "10.6.0.1/24")
for i in (2, 3):
    sh(f"ip neigh add 10.6.0.{i} lladdr 02:00:00:00:00:0{i} dev tap0")
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); sock.bind(("10.6.0.1", 7))
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
def got(flags, *addrs):
    data = struct.pack("HH", flags, len(addrs)) + b"".join(bytes.fromhex(one) for one in addrs)
    print(tried(fcntl.ioctl, fd, SETTXFILTER, data) is not None)
    for to in ("10.6.0.2", "10.6.0.3", "10.6.0.255", "224.0.0.7"):
        sock.sendto(b"x", (to, 9))
    seen = []
    while (one := read(fd)) != "EAGAIN":
        seen.append(one[:6].hex())
    print(seen)
got(0); got(0, "020000000002"); got(1, "020000000003"); got(0, "ffffffffffff", "01005e000007")
got(0, *["020000000003"] * 8, "01005e000007"); got(0, *["020000000003"] * 9)
stat("tap0", "tx_packets", "tx_dropped")
""",
    "waiting": """
fd = opened(mode=os.O_RDWR)
up("tun0", "10.5.0.1/24")
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); sock.bind(("10.5.0.1", 7))
def soon(call, *args):
    timer = threading.Timer(0.1, call, args)
    timer.start()
    return timer
soon(sock.sendto, b"late", ("10.5.0.2", 9)); print(os.read(fd, 99)[28:])
poll = select.poll(); poll.register(fd, select.POLLIN)
soon(sock.sendto, b"late", ("10.5.0.2", 9)); print(poll.poll(9000), os.read(fd, 99)[28:])
epoll = select.epoll(); epoll.register(fd, select.EPOLLIN | select.EPOLLET)
print(epoll.poll(0)); sock.sendto(b"one", ("10.5.0.2", 9)); print(epoll.poll(9), epoll.poll(0))
sock.sendto(b"two", ("10.5.0.2", 9))
print(epoll.poll(9), os.read(fd, 99)[28:], os.read(fd, 99)[28:], epoll.poll(0))
soon(sock.sendto, b"late", ("10.5.0.2", 9))
print(select.select([fd], [], [], 9), os.read(fd, 99)[28:])
print(select.select([fd], [fd], [], 0)[0], fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK)
os.set_blocking(fd, False); print(read(fd)); os.set_blocking(fd, True)
def handler(number, frame):
    raise InterruptedError
signal.signal(signal.SIGALRM, handler); signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    os.read(fd, 99)
except InterruptedError:
    print("interrupted")
ready, there = os.pipe()
if not os.fork():
    os.write(there, b"x"); print(os.read(fd, 99)[28:], flush=True); os._exit(0)
os.read(ready, 1); time.sleep(0.1); sock.sendto(b"child's", ("10.5.0.2", 9)); os.wait()
""",
    "the last descriptor": """
fd = opened(mode=os.O_RDWR)
os.dup2(fd, 50); os.close(fd); sh("ip -o link show tun0 | grep -o 'tun0: <.*>'")
if not os.fork():
    time.sleep(0.1); os._exit(0)
os.close(50); sh("ip -o link show tun0 | grep -o 'tun0: <.*>'"); os.wait(); time.sleep(0.05)
sh("ip -br link show tun0")
fd = opened(mode=os.O_RDWR); one, two = socket.socketpair()
socket.send_fds(one, [b"x"], [fd]); os.close(fd); sh("ip -o link show tun0 | grep -c tun0")
(fd,) = socket.recv_fds(two, 9, 9)[1]
print(io(fd, SETPERSIST, 1)); up("tun0", "10.5.0.1/24"); os.close(fd)
sh("ip link show tun0; ip route")
fd = opened(b"tun0", TUN | NO_PI | EXCL); os.close(fd)
fd = opened(b"tun0", TUN); sh("ip link show tun0; cat /sys/class/net/tun0/tun_flags")
print(io(fd, SETPERSIST, 0)); os.close(fd); sh("ip -br link show tun0")
fd = opened(b"q")
sh("ip link set q name qq; ip link del qq")
print(read(fd), write(fd, bytes(20)), polled(fd), setiff(fd, b"again", TUN | NO_PI), read(fd))
os.execv("/bin/sh", ["sh", "-c", "sleep 0.05; ip -br link show again"])
""",
}
SHELL = {
    "ip tuntap": Row(
        """
        ip tuntap add dev tun0 mode tun; ip tuntap add mode tap user 5 group 7 pi vnet_hdr
        ip tuntap add mode tun name tun0; echo $?; ip tuntap add mode tap name tun0; echo $?
        ip tuntap add mode tun; ip tuntap add dev one_q mode tap one_queue
        ip tuntap list; ip -j tuntap list; ip tuntap show dev tap0
        ip -d link show tun0; ip -d link show tap0; ip -d -j link show tun0
        for d in tun0 tap0 one_q; do
            for f in tun_flags owner group type addr_len tx_queue_len addr_assign_type uevent; do
                cat /sys/class/net/$d/$f
            done
        done
        cat /sys/class/net/tun0/address
        ip tuntap del dev tun0 mode tap; echo $?; ip tuntap del dev tun0 mode tun; echo $?
        ip link del tap0; ip -br link; ip link add t9 type tun; echo $?
        ip link set tun1 type tun; echo $?; ip tuntap del dev nothere mode tun; echo $?
        """,
        (GRO, (r"([0-9a-f]{2}:){5}[0-9a-f]{2}", "MAC")),
    ),
    "without a carrier": Row(
        """
        ip tuntap add dev tun0 mode tun; ip link set tun0 up
        ip addr add 10.5.0.1 peer 10.5.0.2 dev tun0; ip addr show tun0; ip route; ip -6 route
        ip link set tun0 address 02:00:00:00:00:01; echo $?
        for mtu in 67 68 65535 65536; do ip link set tun0 mtu $mtu; echo $?; done
        ip addr flush dev tun0; ip link set tun0 mtu 1500 name vpn; ip link show vpn
        ip link set vpn down; ip addr show vpn
        ip link set vpn arp on multicast off; ip link show vpn; ethtool -i vpn
        ethtool vpn | grep -v message
        cat /proc/net/dev | grep vpn | tr -s ' '
        """,
        ((r"\n {30}\n", "\n"),),
        ("ip", "ethtool"),
    ),
}
SYSCTL = {"net.ipv4.ip_forward": 0}
SIX = """
fd = opened()
# Linux finds a moment later that an address needs no DAD, and has its route then.
settled = "; while ip -6 addr show tun0 tentative | grep -q .; do sleep 0.02; done; "
sh("cat /sys/class/net/tun0/carrier_changes; ip link set tun0 up" + settled)
sh("ip -d -6 addr show tun0; ip -6 route show table all dev tun0")
sh("ip -d link show tun0; ip -6 maddr show tun0")
select.select([fd], [], [], 9)
print(read(fd)[4:8].hex())
os.set_blocking(fd, False)
sh("ip addr add 2001:db8::1/64 dev tun0" + settled + "ip -6 addr show tun0")
sh("ip addr add 10.1.0.1/24 brd + dev tun0")
def sent(to):
    while read(fd) != "EAGAIN":
        pass
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    tried(socket.socket(family, socket.SOCK_DGRAM).sendto, b"x", (to, 9))
    got = read(fd)
    print(to, got if isinstance(got, str) else (len(got), got[0] >> 4))
for to in ("2001:db8::2", "10.1.0.2", "10.1.0.255", "224.0.0.7"):
    sent(to)
sh("ip neigh show dev tun0; ip -4 route; ip addr show tun0")
sh("ip -s link show tun0 | tail -4 | tr -s ' ' | cut -d' ' -f 3-")
"""
RANDOM = (r"fe80::[0-9a-f:]+", "fe80::R")


@pytest.mark.parametrize("name", SCRIPTS)
def test_files_are_as_on_linux(peer: Peer, tmp_path: Path, name: str) -> None:
    script = Row(f"{HEAD}\n{SCRIPTS[name]}", (GRO,), python=True)
    both(peer, tmp_path, script, SYSCTL)


@pytest.mark.parametrize("name", SHELL)
def test_interfaces_are_as_on_linux(peer: Peer, tmp_path: Path, name: str) -> None:
    both(peer, tmp_path, SHELL[name], SYSCTL)


def test_ipv6_of_a_link_without_addresses(peer: Peer, tmp_path: Path) -> None:
    both(peer, tmp_path, Row(HEAD + SIX, (GRO, RANDOM), python=True), SYSCTL)


def test_who_is_not_root_makes_none() -> None:
    script = f"{HEAD}\nprint(setiff(os.open('/dev/net/tun', os.O_RDWR), b'', TUN))"
    with real_host() as host:
        host.uid = 1000
        with spawn(host, ["python3", "-c", script], stdout=subprocess.PIPE) as program:
            assert program.communicate(timeout=60)[0] == b"EPERM\n"


def test_the_machine_has_no_interface_of_it() -> None:
    require.root()
    before = set(os.listdir("/sys/class/net"))
    with real_host() as host:
        script = "ip tuntap add dev mine0 mode tap; cat /sys/class/net/mine0/mtu"
        with spawn(host, ["sh", "-c", script], stdout=subprocess.PIPE) as program:
            assert program.communicate(timeout=60)[0] == b"1500\n"
        assert host.dev("mine0").mtu == 1500
        assert set(os.listdir("/sys/class/net")) == before


# --- tunnels between two hosts --------------------------------------------------------------------

Start = Callable[[int, str], "subprocess.Popen[Any]"]
"""Start a line of the shell on host 1 or 2."""


@contextlib.contextmanager
def two_of_ours() -> Iterator[Start]:
    """Two hosts on a wire: 10.0.0.1 and 10.0.0.2."""
    with real_hosts() as hosts, contextlib.ExitStack() as stack:

        def start(me: int, text: str) -> subprocess.Popen[Any]:
            argv = ["sh", "-c", text]
            program = spawn(hosts[me - 1], argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            return stack.enter_context(program)

        yield start


@contextlib.contextmanager
def two_of_linux() -> Iterator[Start]:
    """Two namespaces of the kernel with the same addresses."""
    require.netns()
    with contextlib.closing(Peer()) as one, contextlib.closing(Peer()) as two:
        ends = (one, two)
        wire = ["ip", "link", "add", "eth0", "netns", one.name, "type", "veth", "peer", "name"]
        subprocess.run([*wire, "eth0", "netns", two.name], check=True)
        for me, end in enumerate(ends, 1):
            end.ip("link", "set", "lo", "up")
            end.ip("addr", "add", f"10.0.0.{me}/24", "dev", "eth0")
            end.ip("link", "set", "eth0", "up")
        yield lambda me, text: ends[me - 1].start("sh", "-c", f"exec 2>&1; {text}")


VPN = """exec openvpn --dev {dev} --secret {dir}/key --cipher AES-256-CBC --local 10.0.0.{me} \
--remote 10.0.0.{you} --ifconfig {addr} --verb 3 --connect-retry 1 --log {dir}/{me}.log"""
ADDRESSES = {"tun": "10.8.0.{me} 10.8.0.{you}", "tap": "10.8.0.{me} 255.255.255.0"}
DONE = "Initialization Sequence Completed"


def says(log: Path, text: str) -> bool:
    """Whether a daemon has written this."""
    return log.exists() and text in log.read_text()


@pytest.mark.parametrize("dev", ADDRESSES)
@pytest.mark.parametrize("ends", [two_of_ours, two_of_linux])
def test_openvpn_between_two_hosts(
    tmp_path: Path, ends: Callable[[], contextlib.AbstractContextManager[Start]], dev: str
) -> None:
    require.root()
    require.tool("openvpn", "openvpn")
    subprocess.run(["openvpn", "--genkey", "secret", str(tmp_path / "key")], check=True)
    with ends() as start:
        daemons = []
        for me in (1, 2):
            words = {"dev": dev, "dir": tmp_path, "me": me, "you": 3 - me}
            addr = ADDRESSES[dev].format(**words)
            daemons.append(start(me, VPN.format(addr=addr, **words)))
        for me in (1, 2):
            log = tmp_path / f"{me}.log"
            eventually(partial(says, log, DONE))
        asked = start(1, "ping -c 3 -i 0.2 -w 20 -s 1400 10.8.0.2; ip route | grep 10.8")
        out = asked.communicate(timeout=PATIENCE_S)[0].decode()
        assert "3 received" in out, out
        assert f"dev {dev}0 " in out
        for daemon in daemons:
            daemon.terminate()
        assert [daemon.wait(PATIENCE_S) for daemon in daemons] == [0, 0]
        gone = start(1, f"ip link show {dev}0").communicate(timeout=PATIENCE_S)[0]
        assert b"does not exist" in gone


SSHD = """exec /usr/sbin/sshd -D -e -f /dev/null -h {dir}/host -o StrictModes=no -o UsePAM=no \
-o PermitRootLogin=yes -o PermitTunnel=yes -o AuthorizedKeysFile={dir}/id.pub \
-o ListenAddress=10.0.0.2 -o LogLevel=ERROR"""
TUNNEL = """
ssh -q -i {dir}/id -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \\
    -o ConnectionAttempts=20 -w 3:4 root@10.0.0.2 \\
    'ip link set tun4 up; ip addr add 10.7.0.2 peer 10.7.0.1 dev tun4; sleep 60' &
until ip link show tun3; do sleep 0.05; done >/dev/null 2>&1
ip link set tun3 up; ip addr add 10.7.0.1 peer 10.7.0.2 dev tun3
until ping -c 1 -W 1 10.7.0.2 >/dev/null; do :; done
ip link show tun3 | grep -o 'tun3: <.*>'; kill $!; wait
while ip link show tun3; do sleep 0.05; done >/dev/null 2>&1
"""
"""ssh waits for its tunnel after the command has ended, so it is killed."""


@pytest.mark.parametrize("ends", [two_of_ours, two_of_linux])
def test_ssh_tunnels_packets(
    tmp_path: Path, ends: Callable[[], contextlib.AbstractContextManager[Start]]
) -> None:
    require.root()
    require.tool("sshd", "openssh-server")
    for name in ("id", "host"):
        key = ["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", str(tmp_path / name)]
        subprocess.run(key, check=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    with ends() as start:
        server = start(2, SSHD.format(dir=tmp_path))
        client = start(1, TUNNEL.format(dir=tmp_path))
        out = client.communicate(timeout=PATIENCE_S)[0].decode()
        server.terminate()
        server.wait(PATIENCE_S)
    assert out == "tun3: <POINTOPOINT,MULTICAST,NOARP,UP,LOWER_UP>\n"
