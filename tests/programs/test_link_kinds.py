"""Devices of software by Debian's `ip` and `tc`, on our hosts as in the kernel.

Each script of ROWS runs on a host and in a namespace of the kernel, as in test_iproute. The traffic
of some is random frames from packet sockets: each device gets the same frames on both, with the
same counters.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.hosts import real_host, run_script
from tests.linux.peer import Peer
from tests.programs.test_iproute import REFUSED, Row, both

pytestmark = pytest.mark.netns

WITH6 = {"net.ipv6.conf.all.disable_ipv6": 0}
QUIET = {"net.ipv6.conf.all.disable_ipv6": 1, "net.ipv6.conf.default.disable_ipv6": 1}
VETH = """
ip link add v0 numtxqueues 1 numrxqueues 1 address 02:00:00:00:00:01 type veth \\
    peer name v1 numtxqueues 1 numrxqueues 1 address 02:00:00:00:00:02
ip link set v0 up; ip link set v1 up
"""
SIZES = (r'"?(gso|tso|gro)_max_\w+[": ]+\d+[ ,]?', "")
"""Limits of super-packets, which are larger here."""
GROUPS6 = (r"33:33:.*\n", "")
"""Groups of IPv6, which the kernel joins where IPv6 is off, too."""
PROMISC = (r'promiscuity"?[: ]\d+', "")
"""The kernel's veth has no filter of addresses, so that a second one makes it promiscuous."""
MACVLAN_TRAFFIC = """
import json, random, socket, struct, subprocess, sys
def sh(words):
    subprocess.run(words, shell=True, check=True)
def mac(n):
    return bytes([2, 0, 0, 0, 1, n])
MODES = {"p0": "private", "e0": "vepa", "e1": "vepa", "b0": "bridge", "b1": "bridge",
         "s0": "source macaddr set 02:00:00:00:09:01 02:00:00:00:09:02",
         "s1": "source nodst macaddr add 02:00:00:00:09:03"}
SOURCES = [bytes([2, 0, 0, 0, 9, n]) for n in (1, 2, 3)]
for n, (name, mode) in enumerate(MODES.items()):
    sh(f"ip link add link v0 name {name} address {mac(n).hex(':')} type macvlan mode {mode}")
    sh(f"ip link set {name} up")
GROUP = bytes.fromhex("01005e010203")
taps = {}
for name in (*MODES, "v0", "v1"):
    tap = taps[name] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    tap.bind((name, 3))
    tap.settimeout(20)
    index = socket.if_nametoindex(name)
    tap.setsockopt(263, 1, struct.pack("iHH8s", index, 0, 6, GROUP))
outside = [bytes([2, 0, 0, 0, 7, n]) for n in range(3)]
macs = [mac(n) for n in range(len(MODES))]
lower = bytes.fromhex("020000000001")
rng = random.Random(SEED)
dests = [*macs, *macs, lower, bytes.fromhex("020000000002"), outside[0],
         b"\\xff" * 6, b"\\xff" * 6, GROUP, GROUP]
for n in range(140):
    name = rng.choice(["v1", "v1", "v1", *MODES, "v0"])
    src = rng.choice([*outside, *macs, *SOURCES, lower])
    if name in MODES and rng.random() < 0.8:
        src = macs[list(MODES).index(name)]
    frame = rng.choice(dests) + src + b"\\x88\\xb5" + struct.pack("!I", n)
    taps[name].send(frame + bytes(rng.choice([42, 100, 400])))
# The last frames come to all, behind those that wait.
for src in (outside[0], SOURCES[0], SOURCES[2]):
    taps["v1"].send(b"\\xff" * 6 + src + b"\\x88\\xb5" + b"last" + bytes(42))
taps["v0"].send(bytes([255] * 6) + SOURCES[1] + bytes([0x88, 0xB5]) + b"last" + bytes(42))
LAST = {"s0": SOURCES[0], "s1": SOURCES[2], "v0": SOURCES[2], "v1": SOURCES[1]}
for name, tap in taps.items():
    got, last = [], LAST.get(name, outside[0])
    while True:
        frame, (_, proto, kind, _, _) = tap.recvfrom(2000)
        if proto == 0x88b5:
            got.append((frame[14:18].hex(), len(frame), kind, frame[:12].hex()))
            if frame[6:12] == last and frame[14:18] == b"last":
                break
    print(name, len(got))
    for one in sorted(got):
        print(*one)
sys.stdout.flush()
for name in MODES:
    told = json.loads(subprocess.check_output(f"ip -j -s link show {name}", shell=True))
    print(name, told[0]["stats64"])
"""
IFB_TRAFFIC = """
import json, socket, struct, subprocess
def sh(words):
    subprocess.run(words, shell=True, check=True)
sh("ip link add ifb0 address 02:00:00:00:00:0f type ifb; ip link set ifb0 up")
sh("tc qdisc add dev v0 clsact; tc qdisc add dev v1 clsact; tc qdisc add dev ifb0 root tbf rate "
   "80mbit burst 100k limit 200k")
for way in ("ingress", "egress"):
    sh(f"tc filter add dev v0 {way} protocol all u32 match u32 0 0 "
       "action mirred egress redirect dev ifb0")
taps = {}
for name in ("v0", "v1", "ifb0"):
    taps[name] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    taps[name].bind((name, 3))
    taps[name].settimeout(20)
def frame(to, n):
    return bytes([2, 0, 0, 0, 0, to, 2, 0, 0, 0, 7, 7, 0x88, 0xB5]) + bytes([n]) + bytes(100)
for n in range(20):
    taps["v1"].send(frame(1, n))
    taps["v0"].send(frame(2, 100 + n))
taps["ifb0"].send(frame(3, 255))  # no filter sent it here
for name, count in (("v0", 40), ("v1", 40), ("ifb0", 40)):
    got = []
    while len(got) < count - 20 * (name == "v1"):
        frame, (_, proto, kind, _, _) = taps[name].recvfrom(2000)
        if proto == 0x88B5:
            got.append((kind, len(frame), frame[14]))
    print(name, sorted(got), flush=True)
told = json.loads(subprocess.check_output("ip -j -s link show ifb0", shell=True))
print(told[0]["stats64"])
"""
VXLAN_PATH_MTU = """
import socket, struct, subprocess
def sh(words):
    subprocess.run(words, shell=True, check=True)
sh("ip addr add 10.0.0.1/24 dev v0; ip addr add fd00::1/64 dev v0 nodad")
sh("ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev v0")
sh("ip neigh add fd00::2 lladdr 02:00:00:00:00:02 dev v0")
sh("ip link add x4 address 02:00:00:00:00:14 type vxlan id 4 dstport 4789 local 10.0.0.1 "
   "remote 10.0.0.2 df set; ip link add x6 address 02:00:00:00:00:16 type vxlan id 6 "
   "dstport 4789 local fd00::1 remote fd00::2")
sh("ip link set x4 up; ip link set x6 up")
for n in (4, 6):
    sh(f"ip addr add 192.168.{n}.1/24 dev x{n}; ip addr add fd0{n}::1/64 dev x{n} nodad")
    sh(f"ip neigh add 192.168.{n}.2 lladdr 02:00:00:00:00:22 dev x{n}")
    sh(f"ip neigh add fd0{n}::2 lladdr 02:00:00:00:00:22 dev x{n}")
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
tap.bind(("v1", 3))
tap.settimeout(20)
def total(data):
    data += bytes(len(data) % 2)
    value = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return 0xFFFF ^ value
def error(frame, mtu):
    # Fragmentation needed, or packet too big, from the other end.
    quoted = frame[14:14 + 200]
    if frame[12] == 8:
        body = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + quoted
        body = body[:2] + struct.pack("!H", total(body)) + body[4:]
        ends = frame[30:34] + frame[26:30]
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, 1, 0) + ends
        head = head[:10] + struct.pack("!H", total(head)) + head[12:]
    else:
        ends = frame[38:54] + frame[22:38]
        body = struct.pack("!BBHI", 2, 0, 0, mtu) + quoted
        pseudo = ends + struct.pack("!II", len(body), 58)
        body = body[:2] + struct.pack("!H", total(pseudo + body)) + body[4:]
        head = struct.pack("!IHBB", 6 << 28, len(body), 58, 64) + ends
    tap.send(frame[6:12] + frame[:6] + frame[12:14] + head + body)
def mtu(to):
    six = ":" in to
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((to, 9))
        return sock.getsockopt(41 if six else 0, 24 if six else 14)
def sent(to, n):
    with socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"number %d" % n, (to, 9))
    while True:
        frame = tap.recv(2000)
        if frame.endswith(b"number %d" % n):
            return frame
n = 0
for number, outside in ((4, "10.0.0.2"), (6, "fd00::2")):
    inside = f"192.168.{number}.2", f"fd0{number}::2"
    at = 42 if number == 4 else 62
    for vni, smaller in ((99, 1370), (number, 1390), (number, 1360)):
        for to in inside:
            n += 1
            frame = bytearray(sent(to, n))
            frame[at + 6] = vni
            error(bytes(frame), smaller)
            for to in inside:  # the first is too large for a path that is known to be smaller
                with socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET,
                                   socket.SOCK_DGRAM) as sock:
                    sock.sendto(bytes(1372 - 20 * (":" in to)), (to, 9))
            print(number, vni, smaller, mtu(outside), *map(mtu, inside), flush=True)
"""
VXLAN_TRAFFIC = """
import json, random, socket, struct, subprocess
def sh(words):
    subprocess.run(words, shell=True, check=True)
sh("ip addr add 10.0.0.1/24 dev v0; ip addr add fd00::1/64 dev v0 nodad")
sh("ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev v0")
sh("ip neigh add fd00::2 lladdr 02:00:00:00:00:02 dev v0")
sh("ip link add x4 address 02:00:00:00:00:14 type vxlan id 4 dstport 4789 local 10.0.0.1 "
   "remote 10.0.0.2 ttl 9 tos inherit df inherit")
sh("ip link add x6 address 02:00:00:00:00:16 type vxlan id 6 dstport 4789 local fd00::1 "
   "remote fd00::2 flowlabel 5 nolearning")
sh("ip link set x4 addrgenmode none; ip link set x6 addrgenmode none")
sh("ip link set x4 up; ip link set x6 up")
def csum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
FOUR = socket.inet_aton("10.0.0.2") + socket.inet_aton("10.0.0.1")
SIX = socket.inet_pton(10, "fd00::2") + socket.inet_pton(10, "fd00::1")
def outer(data, six, tos, summed):
    udp = struct.pack("!4H", 9999, 4789, len(data) + 8, 0) + data
    pseudo = SIX if six else FOUR
    sum_ = csum(pseudo + struct.pack("!HHI", 17, 0, len(udp)) + udp) or 0xFFFF
    udp = udp[:6] + struct.pack("!H", sum_ if summed else 0) + udp[8:]
    if six:
        return (bytes.fromhex("02000000000102000000000286dd")
                + struct.pack("!IHBB", 6 << 28 | tos << 20, len(udp), 17, 64) + SIX + udp)
    ip = struct.pack("!BBHHHBBH", 0x45, tos, len(udp) + 20, 1, 0, 64, 17, 0) + FOUR
    return (bytes.fromhex("0200000000010200000000020800")
            + ip[:10] + struct.pack("!H", csum(ip)) + ip[12:] + udp)
def inner(rng, to, n):
    kind = rng.choice([0x88B5, 0x800, 0x800, 0x86DD, 0x86DD])
    senders = [b"\\2\\0\\0\\0\\7\\7", b"\\2\\0\\0\\0\\7\\x08", to, b"\\3\\0\\0\\0\\7\\7", bytes(6)]
    frame = to + rng.choice(senders) + struct.pack("!H", kind)
    mark = rng.randrange(4)
    if kind == 0x800:
        ip = struct.pack("!BBHHHBBH", 0x45, mark, 20, n, rng.choice([0, 0x4000]), 7, 253, 0)
        ip += bytes(8)
        body = ip[:10] + struct.pack("!H", csum(ip)) + ip[12:]
    elif kind == 0x86DD:
        body = struct.pack("!IHBB", 6 << 28 | mark << 20, 0, 253, 7) + bytes(32)
    else:
        body = struct.pack("!I", n)
    frame += body
    if rng.random() < 0.15:
        frame = frame[:rng.randrange(len(frame))]
    return frame
def vxlan(rng, six, n):
    flags = 0x08000000 if rng.random() < 0.9 else rng.choice([0, 0x08000001, 0x88000000])
    vni = rng.choice([4, 6, 6, 6] if six else [4, 4, 4, 6, 99]) << 8
    vni |= rng.random() < 0.1
    to = bytes.fromhex("020000000016" if six else "020000000014")
    data = struct.pack("!II", flags, vni) + inner(rng, to, n)
    return data[:rng.randrange(9)] if rng.random() < 0.05 else data
rng = random.Random(SEED)
taps = {}
for name in ("x4", "x6", "v1"):
    taps[name] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    taps[name].bind((name, 3))
    taps[name].settimeout(20)
for n in range(300):
    six = rng.random() < 0.5
    data = vxlan(rng, six, n)
    taps["v1"].send(outer(data, six, rng.randrange(4), rng.random() < 0.8))
for six in (False, True):
    to = bytes.fromhex("020000000016" if six else "020000000014")
    taps["v1"].send(outer(struct.pack("!II", 0x08000000, (6 if six else 4) << 8) + to
                          + bytes([2, 0, 0, 0, 7, 7, 0x88, 0xB5]) + b"last", six, 0, True))
def heard(name, last):
    got = []
    while True:
        frame = taps[name].recv(2000)
        if last in frame:
            return got
        got.append(frame)
for name in ("x4", "x6"):
    for frame in heard(name, b"last"):
        if frame[:5] == bytes([2, 0, 0, 0, 0]):
            print(name, frame.hex())
to = bytes([2, 0, 0, 0, 9, 9])
for n in range(60):
    name = rng.choice(["x4", "x6"])
    frame = inner(rng, to, n)
    if len(frame) > 14:
        taps[name].send(frame[:6] + b"\\2\\0\\0\\0\\7\\7" + frame[12:])
for name in ("x4", "x6"):
    taps[name].send(to + b"\\2\\0\\0\\0\\7\\7" + b"\\x88\\xb5ends" + name.encode())
for last in (b"endsx4", b"endsx6"):
    for frame in heard("v1", last):
        at = 14 + (40 if frame[12:14] == b"\\x86\\xdd" else 20)
        if frame[at + 2:at + 4] == b"\\x12\\xb5" and frame[:6].hex() == "020000000002":
            # The hash of a flow is secret, so the source port; with it the checksum differs.
            whole = bytearray(frame)
            whole[at:at + 2] = bytes(2)
            whole[at + 6:at + 8] = bytes([bool(frame[at + 6:at + 8].strip(b"\\0")), 0])
            if at == 34:
                whole[18:20] = whole[24:26] = bytes(2)  # the identification and its checksum
            print("v1", whole.hex())
for name in ("x4", "x6"):
    told = json.loads(subprocess.check_output(f"ip -j -s -s link show {name}", shell=True))
    told[0]["stats64"]["rx"].pop("nohandler", 0)  # frames that no protocol takes: here more
    told[0]["stats64"]["tx"].pop("carrier_changes", 0)
    print(name, told[0]["stats64"])
"""
ROWS = {
    "frames of vxlan": Row(
        f"import subprocess\nsubprocess.run({VETH!r}, shell=True)\nSEED = 7\n{VXLAN_TRAFFIC}",
        python=True,
    ),
    "ifb": Row(
        f"""{VETH}
        ip link add ifb0 address 02:00:00:00:00:0f type ifb; ip -d link show ifb0
        ip link add type ifb; ip link show ifb1 | head -1; ip link add ifb0 type ifb; echo $?
        ip link add ifb7 address 03:00:00:00:00:0f type ifb; echo $?
        ip link set ifb0 up; ip link show ifb0; tc qdisc show dev ifb0
        tc qdisc add dev ifb0 root mq; echo $?; ip link set ifb0 mtu 9000; ip link show ifb0
        ip link set ifb0 type ifb; ip link del ifb0; ip link show ifb0; echo $?
        """,
        ((REFUSED, ""), SIZES),
        ("ip", "tc"),
    ),
    "frames of ifb": Row(
        f"import subprocess\nsubprocess.run({VETH!r}, shell=True)\n{IFB_TRAFFIC}",
        tools=("ip", "tc"),
        python=True,
    ),
    "macvlan": Row(
        f"""{VETH}
        A='address 02:00:00:00:00:1'
        ip link add link v0 name m0 ${{A}}0 type macvlan; ip -d link show m0
        ip link add link v0 name m1 ${{A}}1 type macvlan mode bridge bcqueuelen 2000
        ip link add link m0 name m2 ${{A}}2 type macvlan mode private; ip -d link show m2
        ip link add link v0 name m3 mtu 1400 ${{A}}3 type macvlan mode source; ip -d link show m1
        ip link add link v0 name m4 mtu 1501 type macvlan; echo $?
        ip link add link v0 name m4 mtu 66 type macvlan; echo $?
        ip link add link lo name m4 type macvlan; echo $?
        ip link add name m4 type macvlan; echo $?
        ip link add link v0 name m4 type macvlan mode passthru; echo $?
        ip link add link v0 name m1 type macvlan; echo $?
        ip link set m1 type macvlan mode vepa; ip link set m1 type macvlan bcqueuelen 5
        ip -d link show m1; ip link set m1 type macvlan mode passthru; echo $?
        ip link set m1 type macvlan macaddr add 02:00:00:00:00:05; echo $?
        ip link set m3 type macvlan macaddr add 02:00:00:00:00:05
        ip link set m3 type macvlan macaddr add 02:00:00:00:00:05; ip -d link show m3
        S="02:00:00:00:00:06 02:00:00:00:00:07 02:00:00:00:00:08 02:1b:77:49:54:fd"
        ip link set m3 type macvlan macaddr set $S; ip -d link show m3; ip -j -d link show m3
        ip link set m3 type macvlan macaddr del 02:00:00:00:00:07; ip -d link show m3
        ip link set m3 type macvlan macaddr del 02:00:00:00:00:77; echo $?
        python3 - <<'END'
import socket, struct
def attr(kind, data):
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) & 3)
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as s:
    for which in range(4):  # IFLA_MACVLAN_MACADDR_MODE, without an address
        data = attr(1, struct.pack("=I", 16)) + attr(3, struct.pack("=I", which))
        body = bytes(16) + attr(5, struct.pack("=I", socket.if_nametoindex("v0")))
        body += attr(18, attr(1, b"macvlan") + attr(2, data))
        s.send(struct.pack("=IHHII", 16 + len(body), 16, 0x605, 1, 0) + body)
        print(which, struct.unpack_from("=i", s.recv(4096), 16))
END
        for one in macvlan0 macvlan1; do ip link del $one; done
        ip link set m3 type macvlan macaddr flush; ip -d link show m3
        ip link set m3 type macvlan macaddr add 03:00:00:00:00:05; echo $?
        ip link set m3 type macvlan macaddr set $S; ip link set m3 type macvlan mode vepa
        ip -d link show m3
        ip link set m0 up; ip link set m1 up; ip link set m2 up; ip -d link show m0
        ip link set m0 ${{A}}1; echo $?; ip link set m0 address 02:00:00:00:00:01; echo $?
        ip link set m0 address 03:00:00:00:00:01; echo $?; ip link set m0 ${{A}}9; ip link show m0
        ip link set m3 ${{A}}9; echo $?; ip link set m3 ${{A}}3; ip link set m3 up; echo $?
        ip link set m0 mtu 1501; echo $?; ip link set m0 mtu 67; echo $?; ip link set m0 mtu 68
        ip link set v0 mtu 1450; ip link show m0; ip link show m1; ip link show m3
        # The kernel tells of carriers a little later.
        all() {{ for d in $2; do until ip link show $d | grep -q "state $1"; do :; done; done; }}
        ip link set v0 down; all LOWER 'm0 m1 m2 m3 v1'; ip link
        ip link set v0 up; all UP 'm0 m1 m2 m3 v0 v1'; ip link show m1
        ip link set v1 down; all LOWER 'm0 m1 m2 m3 v0'; ip link show m1; ip link show v0
        ip link set v1 up; all UP 'm0 m1 m2 m3 v0 v1'; ip link show m1
        ip link add br0 type bridge; ip link set v0 master br0; echo $?
        ip link set m1 master br0; echo $?; ip link show m1; ip link set m1 nomaster
        ip -d link show type macvlan; bridge fdb show dev v0 | sort
        bridge fdb add 02:00:00:00:00:77 dev m0 self; echo $?
        bridge fdb add 01:00:00:00:00:77 dev m0 self; echo $?; bridge fdb show dev m0 | sort
        bridge fdb add 01:00:00:00:00:77 dev m0 self; echo $?
        bridge fdb del 01:00:00:00:00:77 dev m0 self; echo $?; bridge fdb show dev v0 | sort
        bridge fdb del 01:00:00:00:00:77 dev m0 self; echo $?
        ip link del m0; ip link del m1; ip link; ip link set v0 master br0; echo $?
        ip link del m2; ip link set v0 master br0; echo $?; ip link del m3
        ip link set v0 master br0; echo $?
        ip link add link v0 name m0 type macvlan; echo $?; ip link set v0 nomaster
        ip link add link v0 name m0 ${{A}}0 type macvlan; ip link del v0; ip link
        """,
        ((REFUSED, ""), SIZES, PROMISC, GROUPS6),
        ("ip", "bridge"),
    ),
    "macvlan in mode passthru": Row(
        f"""{VETH}
        ip link add link v0 name m0 type macvlan mode passthru nopromisc; ip -d link show m0
        ip link add link v0 name m1 type macvlan; echo $?
        ip link add link v0 name m1 type macvlan mode passthru; echo $?
        ip link set m0 up; ip -d link show v0; ip link set m0 type macvlan mode passthru promisc
        ip -d link show v0; ip -d link show m0; ip link set m0 type macvlan mode bridge; echo $?
        ip link set m0 address 02:00:00:00:00:33; ip link show v0; ip link show m0
        ip link set v0 address 02:00:00:00:00:44; ip link show v0; ip link show m0
        ip link set m0 address 02:00:00:00:00:33; ip link set m0 down; ip -d link show v0
        bridge fdb add 02:00:00:00:00:77 dev m0 self; bridge fdb show dev m0
        ip link del m0; ip link show v0
        """,
        ((REFUSED, ""), SIZES, GROUPS6),
        ("ip", "bridge"),
    ),
    "flags, queues and carriers": Row(
        f"""{VETH}
        ip link add i0 address 02:00:00:00:00:05 txqueuelen 0 type ifb; ip link set i0 up
        ip link add b0 address 02:00:00:00:00:03 txqueuelen 7 type bridge; ip link set b0 up
        ip link add x0 address 02:00:00:00:00:04 type vxlan id 5 dstport 4789; ip link set x0 up
        ip tuntap add t0 mode tap; ip link set t0 address 02:00:00:00:00:07; ip link set t0 up
        ip link; ip link set v0 txqueuelen 0; cat /sys/class/net/v0/tx_queue_len
        tc qdisc add dev v0 root pfifo; tc qdisc show dev v0; tc -d qdisc replace dev v0 root htb
        ip link set i0 txqueuelen 4; tc qdisc add dev i0 root pfifo; tc qdisc show dev i0
        for d in v0 i0 b0 x0 t0; do
            ip link set $d trailers off dynamic on; cat /sys/class/net/$d/flags; ip link show $d
            ip link set $d trailers on; ip -j link show $d; ip link set $d dynamic off
            for s in 'carrier on' 'carrier off' 'vf 0 mac 02:00:00:00:00:08'; do
                ip link set $d $s; echo "$d $s $?"
            done
        done
        for d in v0 i0 b0 t0; do ip link set $d protodown on; echo $?; done
        ip link set v0 protodown_reason 3 on; echo $?
        for a in 03:00:00:00:00:09 02:00:00:00:00:09; do ip link set i0 address $a; echo $?; done
        ip link show i0
        """,
        ((REFUSED, ""), (r"qdisc (\w+) \w+:", r"qdisc \1")),
        ("ip", "tc"),
    ),
    "bridge vlan": Row(
        f"""{VETH}
        ip link add b0 address 02:00:00:00:00:03 type bridge; ip link set v0 master b0
        bridge vlan del dev v0 vid 5; echo $?; bridge vlan del dev b0 vid 5 self; echo $?
        bridge vlan del dev v1 vid 5; echo $?; bridge vlan del dev b0 vid 5; echo $?
        bridge vlan del dev v0 vid 0; echo $?; bridge vlan add dev v1 vid 5; echo $?
        bridge vlan add dev lo vid 5 self; echo $?; bridge link set dev v0 hwmode vepa; echo $?
        bridge link set dev v1 flood off; echo $?; ip -br link show type veth; ip -br link show b0
        """,
        ((REFUSED, ""),),
        ("ip", "bridge"),
    ),
    "bridge fdb and mdb": Row(
        f"""{VETH}
        ip link add x0 address 02:00:00:00:00:35 type vxlan id 5 dstport 4789; ip link set x0 up
        bridge fdb add 02:00:00:00:00:07 dev x0 dst 10.0.0.1; bridge fdb show dev x0
        ip link add b0 address 02:00:00:00:00:03 type bridge; ip link set v0 master b0
        ip link set b0 up
        for p in v0 b0; do for e in '239.1.1.1 src 0.0.0.0' 'ff05::1 src ::'; do
            bridge mdb add dev b0 port $p grp $e; echo $?; bridge mdb show dev b0
        done; done
        bridge mdb del dev b0 port v0 grp 239.1.1.1 src 0.0.0.0; bridge mdb show dev b0
        """,
        ((REFUSED, ""),),
        ("ip", "bridge"),
    ),
    "path MTU of vxlan": Row(
        f"import subprocess\nsubprocess.run({VETH!r}, shell=True)\n{VXLAN_PATH_MTU}",
        python=True,
    ),
    "frames of macvlan": Row(
        f"import subprocess\nsubprocess.run({VETH!r}, shell=True)\nSEED = 7\n{MACVLAN_TRAFFIC}",
        python=True,
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_what_ip_and_tc_tell_is_what_the_kernel_tells(
    peer: Peer, tmp_path: Path, name: str
) -> None:
    both(peer, tmp_path, ROWS[name], WITH6 if "of vxlan" in name else QUIET)


DAEMONS = """
ip link add x0 type vxlan id 5 dstport 4789
for s in 'mode dormant' 'state dormant' 'state testing' 'protodown on'; do
    ip link set x0 $s 2>/dev/null; echo $?
done
ip link set x0 mode default; echo $?; ip link set x0 state up; echo $?
"""


def test_what_only_a_daemon_sets_is_refused() -> None:
    """Linux does all of it (docs/differences.md)."""
    with real_host() as host:
        told = run_script(host, DAEMONS, stderr=subprocess.STDOUT)
    assert told.split() == ["2", "2", "2", "2", "0", "0"]
