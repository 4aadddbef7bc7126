"""Multicast routing by a small daemon on our hosts, as in the kernel.

A daemon in Python, with the standard library's sockets, sets interfaces and routes. Frames go in
and come out by packet sockets at the far ends of veth pairs. What the daemon hears, what leaves,
the counters and what `ip mroute` and /proc tell is the same on a host and in the kernel.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.linux.peer import Peer
from tests.programs.test_iproute import Row, both

pytestmark = pytest.mark.netns

QUIET = {"net.ipv6.conf.all.disable_ipv6": 1, "net.ipv6.conf.default.disable_ipv6": 1}
QUIET |= {"net.ipv4.ip_forward": 1, "net.ipv4.conf.all.rp_filter": 0}
LINKS = "\n".join(
    f"ip link add {name}0 address 02:00:00:00:00:{n:02x} type veth "
    f"peer name {name}1 address 02:00:00:00:01:{n:02x}\n"
    f"ip link set {name}0 up; ip link set {name}1 up\nip addr add 10.{n}.0.1/24 dev {name}0\n"
    f"ip neigh add 10.{n}.0.9 lladdr 02:00:00:00:09:09 dev {name}0"
    for n, name in enumerate("abc", 1)
)
COMMON = (
    f"""
import errno, fcntl, os, select, socket, struct, subprocess, sys, time
# One CPU's queue keeps the order of what is sent and what comes out of a tunnel.
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
def sh(words):
    return subprocess.run(words, shell=True, check=False, capture_output=True, text=True).stdout
sh({LINKS!r})
"""
    + """
def csum(data):
    data += bytes(len(data) & 1)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
def put(data, at, value):
    return data[:at] + struct.pack("!H", value) + data[at + 2:]
def ip4(src, dst, ttl=9, proto=17, body=b"d" * 30, options=b"", frag=0):
    head = struct.pack("!BBHHHBBH", 0x45 + len(options) // 4, 0, 20 + len(options) + len(body),
                       7, frag, ttl, proto, 0) + socket.inet_aton(src) + socket.inet_aton(dst)
    head = put(head + options, 10, csum(head + options))
    mac = b"\\x01\\x00\\x5e" + bytes([socket.inet_aton(dst)[1] & 127]) + socket.inet_aton(dst)[2:]
    return mac + b"\\x02\\0\\0\\0\\x09\\x09" + b"\\x08\\x00" + head + body
taps = {}
for name in ("a1", "b1", "c1"):
    tap = taps[name] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    tap.bind((name, 3))
def drain(name, last):
    got = []
    while True:
        if not select.select([taps[name]], [], [], 20)[0]:
            sys.exit(f"nothing at {name}")
        data, (_, _, kind, _, _) = taps[name].recvfrom(3000)
        if kind == 4:
            continue
        if data[14:] == last:
            return got
        if data[:1] in (b"\\x01", b"\\x33") and not (data[12:14] == b"\\x08\\0" and data[23] == 2):
            got.append(data.hex())
last = 0
def send(name, frame, note=""):
    \"\"\"Send a frame to the router; which frames leave, and where?\"\"\"
    global last
    last += 1
    taps[name].send(frame)
    settle()
    for each in taps:
        out = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        text = struct.pack("!I", last) + bytes(60)
        out.sendto(text, (each[0] + "0", 0x88b5, 0, 0, b"\\2\\0\\0\\0\\0\\1"))
        print(note or sys._getframe().f_back.f_lineno, name, "->", each, *drain(each, text),
              flush=True)
        out.close()
def settle():
    \"\"\"What was sent is routed when an answer to an echo request behind it is there.\"\"\"
    body = struct.pack("!BBHHH", 8, 0, 0, 1, last)
    body = put(body, 2, csum(body))
    for each, n in (("a1", 1), ("b1", 2), ("c1", 3)):
        head = ip4(f"10.{n}.0.9", f"10.{n}.0.1", 9, 1, body)
        taps[each].send(bytes([2, 0, 0, 0, 0, n]) + head[6:])
        while True:
            if not select.select([taps[each]], [], [], 20)[0]:
                sys.exit(f"no answer at {each}")
            data, (_, _, kind, _, _) = taps[each].recvfrom(3000)
            if kind != 4 and data[12:14] == b"\\x08\\0" and data[23] == 1 and data[34] == 0:
                break
            if kind != 4 and data[:1] in (b"\\x01", b"\\x33"):
                taps_kept[each].append(data)
def tried(call, *args):
    try:
        return call(*args)
    except OSError as exc:
        return errno.errorcode[exc.errno]
"""
)
IPV4 = (
    COMMON
    + """
INIT, DONE, ADD_VIF, DEL_VIF, ADD_MFC, DEL_MFC, VERSION, ASSERT, PIM, TABLE = range(200, 210)
PROXY, UNPROXY, FLUSH = 210, 211, 212
G, H, S = "239.1.1.1", "239.1.1.2", "10.1.0.9"
def daemon():
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
def vif(n, where, flags=8, ttl=1):
    addr = struct.pack("=i", socket.if_nametoindex(where)) if flags & 8 else socket.inet_aton(where)
    return struct.pack("=HBBI4s4s", n, flags, ttl, 0, addr, bytes(4))
def mfc(src, group, iif, **ttls):
    wanted = bytes(ttls.get("v%d" % n, 0) for n in range(32))
    return struct.pack("=4s4sH32s2xIIIi", socket.inet_aton(src), socket.inet_aton(group), iif,
                       wanted, 0, 0, 0, 0)
def heard(sk):
    got = []
    while select.select([sk], [], [], 0)[0]:
        data, addr = sk.recvfrom(3000)
        if data[9] == 0:
            got.append((data[:12].hex(), data[12:21 if data[8] < 3 else 99].hex(), addr))
        elif data[9] == 2:
            got.append(("igmp", data[20:].hex(), addr))
    return got
def gone():
    while "1" in open("/proc/sys/net/ipv4/conf/all/mc_forwarding").read(): pass
def told():
    for f in ("ip_mr_vif", "ip_mr_cache"):
        print(open("/proc/net/" + f).read(), end="")
    print(sh("ip -s mroute show"), end="", flush=True)
"""
)
OPTIONS = (
    IPV4
    + """
a, b = daemon(), daemon()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(199, 214):
    for sk in (udp, a):
        print(n, tried(sk.getsockopt, 0, n) if 200 <= n < 213 else "")
print(tried(a.setsockopt, 0, INIT, b"abc"), tried(a.setsockopt, 0, INIT, b"abcdefgh"))
print(tried(udp.setsockopt, 0, INIT, 1), tried(a.setsockopt, 0, DONE, 1))
print(tried(a.setsockopt, 0, INIT, 1), tried(a.setsockopt, 0, INIT, 1))
print(tried(b.setsockopt, 0, INIT, 1), tried(b.setsockopt, 0, DONE, 1))
print(tried(a.setsockopt, 0, ADD_VIF, vif(0, "a0")), tried(a.setsockopt, 0, ADD_VIF, vif(0, "a0")))
print(tried(a.setsockopt, 0, ADD_VIF, vif(32, "a0")),
      tried(a.setsockopt, 0, ADD_VIF, vif(31, "b0")))
print(tried(a.setsockopt, 0, ADD_VIF, vif(3, "10.3.0.1", 0)),
      tried(a.setsockopt, 0, ADD_VIF, vif(4, "10.9.0.1", 0)))
print(tried(a.setsockopt, 0, ADD_VIF, vif(5, "10.3.0.1", 2)),
      tried(a.setsockopt, 0, ADD_VIF, vif(5, "c0", 24)),
      tried(a.setsockopt, 0, ADD_VIF, vif(5, "c0")[:-1]))
print(tried(a.setsockopt, 0, DEL_VIF, vif(7, "c0")), tried(a.setsockopt, 0, DEL_VIF, vif(32, "c0")))
print(tried(b.setsockopt, 0, ADD_VIF, vif(6, "c0")))
print(tried(a.setsockopt, 0, ADD_MFC, mfc(S, G, 32)), tried(a.setsockopt, 0, ADD_MFC, mfc(S, S, 1)))
print(tried(a.setsockopt, 0, ADD_MFC, mfc(S, G, 0, v3=2, v31=1, v9=3, v6=255)))
print(tried(a.setsockopt, 0, ADD_MFC, mfc(S, G, 0)[:-1]),
      tried(a.setsockopt, 0, DEL_MFC, mfc(S, H, 0)))
print(tried(b.setsockopt, 0, ADD_MFC, mfc(S, H, 0, v3=1)),
      tried(a.setsockopt, 0, ADD_MFC, mfc("0.0.0.0", H, 31, v3=1)))
told()
print(sh("cat /proc/sys/net/ipv4/conf/all/mc_forwarding; ip mrule show; ip -6 mrule show"))
for n in (ASSERT, PIM):
    print(tried(a.getsockopt, 0, n), tried(a.setsockopt, 0, n, 1), tried(a.getsockopt, 0, n))
print(tried(a.setsockopt, 0, PIM, 0), tried(a.getsockopt, 0, ASSERT),
      tried(a.setsockopt, 0, TABLE, 253))
print(tried(b.setsockopt, 0, TABLE, 253), tried(a.setsockopt, 0, PIM, b"a"))
print(tried(a.setsockopt, 0, ADD_MFC, mfc(S, G, 3, v0=7))); told()
print(tried(a.setsockopt, 0, DEL_VIF, vif(31, "b0"))); told()
print(tried(b.setsockopt, 0, FLUSH, 1)); told()
print(tried(b.setsockopt, 0, FLUSH, 2)); told()
print(tried(a.setsockopt, 0, DONE, 1)); told(); print(tried(a.setsockopt, 0, INIT, 1)); told()
print(sh("ip link del a0")); told(); a.close(); gone(); told()
print(tried(b.setsockopt, 0, INIT, 1)); b.close(); gone()
print(sh("cat /proc/sys/net/ipv4/conf/all/mc_forwarding"))
"""
)
FORWARDED = (
    IPV4.replace("taps_kept[each].append(data)", "kept[each].append(data)")
    + """
from collections import defaultdict
kept = defaultdict(list)
plain = drain
def drain(name, last):
    early = [d.hex() for d in kept.pop(name, [])
             if not (d[12:14] == b"\\x08\\0" and d[23] == 2)]
    return early + plain(name, last)
sk = daemon()
sk.setsockopt(0, INIT, 1)
for n, name in enumerate(("a0", "b0", "c0")):
    sk.setsockopt(0, ADD_VIF, vif(n, name))
send("a1", ip4(S, G)); print(heard(sk)); told()
for n in range(5):
    send("a1", ip4(S, G, 20 + n))
print(heard(sk))
sk.setsockopt(0, ADD_MFC, mfc(S, G, 0, v1=1, v2=5)); send("a1", ip4(S, G, 6))
print(heard(sk)); told()
for ttl in (1, 2, 5, 6, 255):
    send("a1", ip4(S, G, ttl))
send("b1", ip4(S, G)); print(heard(sk)); told()
sk.setsockopt(0, ASSERT, 1)
send("b1", ip4(S, G)); send("b1", ip4(S, G)); print(heard(sk))
send("a1", ip4(S, "224.0.0.9")); send("a1", ip4("10.1.0.9", "224.0.1.9", 1)); print(heard(sk))
send("a1", ip4(S, G, body=b"x" * 1480)); send("a1", ip4(S, G, body=b"x" * 600, frag=0x4000))
sh("ip link set b0 mtu 576"); send("a1", ip4(S, G, body=b"x" * 600, frag=0x4000))
send("a1", ip4(S, G, body=b"x" * 600)); sh("ip link set b0 mtu 1500")
sk.setsockopt(0, ADD_MFC, mfc("0.0.0.0", H, 0, v0=1, v1=1, v2=1))
send("a1", ip4("10.1.0.77", H)); send("b1", ip4("10.2.0.77", H)); print(heard(sk)); told()
sk.setsockopt(0, PROXY, mfc("0.0.0.0", "0.0.0.0", 1, v0=1, v1=1))
sk.setsockopt(0, PROXY, mfc("0.0.0.0", "0.0.0.0", 2, v2=1))
send("a1", ip4("10.1.0.77", "239.5.5.5")); send("b1", ip4("10.2.0.77", "239.5.5.5"))
send("c1", ip4("10.3.0.77", "239.5.5.6")); print(heard(sk)); told()
print(tried(sk.setsockopt, 0, UNPROXY, mfc("0.0.0.0", "0.0.0.0", 3)))
print(tried(sk.setsockopt, 0, UNPROXY, mfc("0.0.0.0", "0.0.0.0", 2))); told()
print(tried(sk.setsockopt, 0, DEL_MFC, mfc("0.0.0.0", "0.0.0.0", 0)))
sk.setsockopt(0, ADD_MFC, mfc("10.1.0.1", G, 0, v1=1, v2=1))
member = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
member.bind(("", 5000))
member.setsockopt(0, 35, socket.inet_aton(G) + socket.inet_aton("10.1.0.1"))
body = struct.pack("!HHHH", 9, 5000, 14, 0) + b"member"
send("a1", ip4(S, G, body=body)); print(member.recv(99)); send("b1", ip4(S, G, body=body))
send("a1", ip4("10.1.0.8", G, body=body)); print(member.recv(99)); print(heard(sk))
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.bind(("10.1.0.1", 6000))
own.setsockopt(0, 33, 8)
own.setsockopt(0, 32, socket.inet_aton("10.1.0.1"))
own.sendto(b"from the router", (G, 5000))
print(member.recv(99)); send("a1", ip4(S, G, 3)); told()
igmp = struct.pack("!BBH4s", 0x16, 0, 0, socket.inet_aton("239.8.8.8"))
igmp = put(igmp, 2, csum(igmp))
send("b1", ip4("10.2.0.9", "239.8.8.8", 1, 2, igmp))
send("b1", ip4("10.2.0.9", "239.8.8.8", 1, 2, igmp, b"\\x94\\x04\\0\\0")); print(heard(sk))
for n in range(5):
    req = bytearray(struct.pack("@HQQQQ", n, 0, 0, 0, 0))
    print(n, tried(fcntl.ioctl, sk, 0x89e0, req), bytes(req).hex())
for group in (G, "239.99.99.99"):
    req = bytearray(struct.pack("@4s4sQQQ", socket.inet_aton(S), socket.inet_aton(group), 0, 0, 0))
    print(tried(fcntl.ioctl, sk, 0x89e1, req), bytes(req).hex())
sk.setsockopt(0, PIM, 4)
sk.setsockopt(0, ADD_MFC, mfc("10.1.0.4", G, 0, v1=1)); send("b1", ip4("10.1.0.4", G))
print(heard(sk))
sk.close(); gone(); told(); send("a1", ip4(S, G))
"""
)
MONITOR = (
    IPV4
    + """
DIR = os.environ["DIR"]
heard = open(f"{DIR}/heard", "w")  # it is there before anybody reads it
mon = subprocess.Popen(["stdbuf", "-oL", "ip", "monitor", "mroute"], stdout=heard)
sk = daemon()
sk.setsockopt(0, INIT, 1)
for n, name in enumerate(("a0", "b0", "c0")):
    sk.setsockopt(0, ADD_VIF, vif(n, name))
while "239.9.9.9" not in open(f"{DIR}/heard").read():
    sk.setsockopt(0, ADD_MFC, mfc(S, "239.9.9.9", 0, v1=1))
    sh("true")
sk.setsockopt(0, ADD_MFC, mfc(S, G, 0, v1=1, v2=5)); sk.setsockopt(0, DEL_MFC, mfc(S, G, 0))
sk.setsockopt(0, ADD_MFC, mfc(S, H, 2, v1=1)); sk.close()
while f"Deleted ({S},{H})" not in open(f"{DIR}/heard").read(): sh("sleep 0.05")
mon.kill()
print("".join(x for x in open(f"{DIR}/heard") if "239.9.9.9" not in x))
"""
)
AGES = (
    (r"(4500002b).{4}(4000..11).{4}", r"\1\2"),  # identification, checksum
    (r"Age +\d+\.\d\d", "Age T"),
)
ROWS = {
    "options": (Row(OPTIONS, AGES, ("ip",), python=True), QUIET),
    "forwarded": (Row(FORWARDED, AGES, ("ip",), python=True), QUIET),
    "monitor": (Row(MONITOR, AGES, ("ip", "stdbuf"), python=True), QUIET),
}


@pytest.mark.parametrize("name", ROWS)
def test_multicast_is_routed_as_in_the_kernel(peer: Peer, tmp_path: Path, name: str) -> None:
    row, sysctl = ROWS[name]
    both(peer, tmp_path, row, sysctl)
