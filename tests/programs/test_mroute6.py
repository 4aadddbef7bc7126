"""Multicast routing of IPv6 by a small daemon on our hosts, as in the kernel.

As test_mroute.py, with MRT6_* on a raw socket of ICMPv6. The far ends of the wires are ports of
bridges, so they are no way back into the router.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.linux.peer import Peer
from tests.programs.test_iproute import Row, both
from tests.programs.test_mroute import AGES, COMMON

pytestmark = pytest.mark.netns

ROUTER = {"net.ipv6.conf.all.disable_ipv6": 0, "net.ipv6.conf.default.disable_ipv6": 0}
ROUTER |= {"net.ipv6.conf.default.accept_dad": 0, "net.ipv6.conf.default.dad_transmits": 0}
ROUTER |= {"net.ipv6.conf.all.forwarding": 1, "net.ipv4.ip_forward": 1}
IPV6 = (
    COMMON.replace("taps_kept[each].append(data)", "kept[each].append(data)")
    + r"""
from collections import defaultdict
INIT, DONE, ADD_MIF, DEL_MIF, ADD_MFC, DEL_MFC, VERSION, ASSERT, PIM, TABLE = range(200, 210)
PROXY, UNPROXY, FLUSH = 210, 211, 212
G, H, S = "ff1e::1", "ff1e::2", "fd01::9"
for name in "abc":  # a bridge that is down drops what comes
    sh(f"ip link add {name}2 type bridge; ip link set {name}1 master {name}2")
for n, name in enumerate("abc", 1):
    sh(f"ip addr add fd0{n}::1/64 dev {name}0 nodad")
addr = lambda text: socket.inet_pton(socket.AF_INET6, text)
def daemon():
    return socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
def sin6(text):
    return struct.pack("=HHI16sI", 10, 0, 0, addr(text), 0)
def mif(n, where, flags=0):
    return struct.pack("=HBBH2xI", n, flags, 1, socket.if_nametoindex(where), 0)
def mfc(src, group, iif, *out):
    bits = sum(1 << n for n in out).to_bytes(32, "little")
    return sin6(src) + sin6(group) + struct.pack("=H2x", iif) + bits
def ip6(src, dst, hops=9, proto=59, body=b"d" * 20):
    mac = b"\x33\x33" + addr(dst)[12:] + b"\x02\0\0\0\x09\x09\x86\xdd"
    head = struct.pack("!IHBB", 6 << 28, len(body), proto, hops)
    return mac + head + addr(src) + addr(dst) + body
def routed(frame):
    # Frames to groups of a wide scope: the others are the router's own
    return frame[12:14] == b"\x86\xdd" and frame[38] == 255 and frame[39] & 15 > 5
kept = defaultdict(list)
plain = drain
def drain(name, last):
    got = [each.hex() for each in kept.pop(name, [])] + plain(name, last)
    return [each for each in got if routed(bytes.fromhex(each))]
def heard(sk):
    got = []
    while select.select([sk], [], [], 0)[0]:
        data, where = sk.recvfrom(3000)
        if data[0] == 0:
            got.append((data[:40].hex(), len(data), data[40:].hex() if data[1] > 2 else "", where))
        elif data[0] == 131 and b"\xee" in data:
            got.append(("mld", data.hex(), where))
    return got
def conf(name="all"):
    return open(f"/proc/sys/net/ipv6/conf/{name}/mc_forwarding").read().strip()
def gone():
    while conf() != "0": pass
def told():
    for f in ("ip6_mr_vif", "ip6_mr_cache"):
        print(open("/proc/net/" + f).read(), end="")
    print(sh("ip -s -6 mroute show"), end="", flush=True)
"""
)
OPTIONS = (
    IPV6
    + r"""
a, b = daemon(), daemon()
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
other = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 17)
for n in range(199, 215):
    for sk in (udp, other, a):
        print(n, tried(sk.getsockopt, 41, n) if 200 <= n < 213 else "")
for sk in (a, other, udp):
    print(tried(sk.setsockopt, 41, INIT, b"abc"), tried(sk.setsockopt, 41, DONE, 1))
print(tried(a.setsockopt, 41, INIT, b"abcdefgh"), tried(a.setsockopt, 41, INIT, 1))
print(tried(b.setsockopt, 41, INIT, 1), tried(b.setsockopt, 41, DONE, 1), conf(), conf("a0"))
print(tried(a.setsockopt, 41, ADD_MIF, mif(0, "a0")),
      tried(a.setsockopt, 41, ADD_MIF, mif(0, "a0")))
print(conf("a0"), conf("b0"), conf("default"))
print(tried(open, "/proc/sys/net/ipv6/conf/a0/mc_forwarding", "w"))
print(tried(a.setsockopt, 41, ADD_MIF, mif(32, "a0")),
      tried(a.setsockopt, 41, ADD_MIF, mif(31, "b0")))
print(tried(a.setsockopt, 41, ADD_MIF, mif(3, "c0") + b"more"),
      tried(a.setsockopt, 41, ADD_MIF, struct.pack("=HBBH2xI", 4, 0, 1, 999, 0)))
print(tried(a.setsockopt, 41, ADD_MIF, mif(5, "c0", 2)),
      tried(a.setsockopt, 41, ADD_MIF, mif(5, "c0")[:-1]))
for n in (7, 32, 65535):
    print(tried(a.setsockopt, 41, DEL_MIF, struct.pack("=H", n)))
print(tried(a.setsockopt, 41, DEL_MIF, b"a"), tried(b.setsockopt, 41, ADD_MIF, mif(6, "c0")))
print(tried(a.setsockopt, 41, ADD_MFC, mfc(S, G, 32)),
      tried(a.setsockopt, 41, ADD_MFC, mfc(S, S, 1)))
print(tried(a.setsockopt, 41, ADD_MFC, mfc(S, G, 0, 3, 31, 9, 6) + b"more"))
print(tried(a.setsockopt, 41, ADD_MFC, mfc(S, G, 0)[:-1]),
      tried(a.setsockopt, 41, DEL_MFC, mfc(S, H, 0)))
print(tried(b.setsockopt, 41, ADD_MFC, mfc(S, H, 0, 3)),
      tried(a.setsockopt, 41, ADD_MFC, mfc("::", H, 31, 3)))
told()
print(sh("ip -6 mrule show"), conf())
for n in (ASSERT, PIM):
    print(tried(a.getsockopt, 41, n), tried(a.setsockopt, 41, n, 7), tried(a.getsockopt, 41, n))
print(tried(a.setsockopt, 41, PIM, 0), tried(a.getsockopt, 41, ASSERT),
      tried(a.setsockopt, 41, TABLE, 254))
print(tried(b.setsockopt, 41, TABLE, 254), tried(a.setsockopt, 41, PIM, b"a"),
      tried(b.setsockopt, 41, TABLE, b"\0" * 8), tried(a.setsockopt, 41, FLUSH, b"\0" * 8))
print(tried(a.setsockopt, 41, ADD_MFC, mfc(S, G, 3, 0))); told()
print(tried(a.setsockopt, 41, DEL_MIF, struct.pack("=H", 31))); told()
print(tried(b.setsockopt, 41, FLUSH, 1)); told()
print(tried(b.setsockopt, 41, FLUSH, 2)); told()
print(tried(a.setsockopt, 41, DONE, 1), conf(), conf("a0")); told()
print(tried(a.setsockopt, 41, INIT, 1)); told()
print(sh("ip link del a0")); told(); a.close(); gone(); told()
print(tried(b.setsockopt, 41, INIT, 1)); b.close(); gone(); print(conf())
"""
)
FORWARDED = (
    IPV6
    + r"""
sk = daemon()
sk.setsockopt(41, INIT, 1)
for n, name in enumerate(("a0", "b0", "c0")):
    sk.setsockopt(41, ADD_MIF, mif(n, name))
send("a1", ip6(S, G)); print(heard(sk)); told()
for n in range(5):
    send("a1", ip6(S, G, 20 + n))
print(heard(sk))
sk.setsockopt(41, ADD_MFC, mfc(S, G, 0, 1, 2)); send("a1", ip6(S, G, 6))
print(heard(sk)); told()
for hops in (0, 1, 2, 255):
    send("a1", ip6(S, G, hops))
send("b1", ip6(S, G)); print(heard(sk)); told()
sk.setsockopt(41, ASSERT, 1)
send("b1", ip6(S, G)); send("b1", ip6(S, G)); print(heard(sk))
for scope in (0, 1, 2, 3, 5):  # packets that stay on their link, and some that do not
    send("a1", ip6(S, f"ff1{scope}::1"))
print([each[0] for each in heard(sk)])
for n in range(12):
    send("a1", ip6(f"fd01::1:{n:x}", G))
print(len(heard(sk))); told()
sh("ip link set b0 mtu 1280"); send("a1", ip6(S, G, body=b"x" * 1300)); told()
send("a1", ip6(S, G, body=b"x" * 1240)); sh("ip link set b0 mtu 1500")
sk.setsockopt(41, ADD_MFC, mfc("::", H, 0, 0, 1, 2))
send("a1", ip6("fd01::77", H)); send("b1", ip6("fd02::77", H)); print(heard(sk)); told()
sk.setsockopt(41, PROXY, mfc("::", "::", 1, 0, 1))
sk.setsockopt(41, PROXY, mfc("::", "::", 2, 2))
send("a1", ip6("fd01::77", "ff1e::5")); send("b1", ip6("fd02::77", "ff1e::5"))
send("c1", ip6("fd03::77", "ff1e::6")); print(heard(sk)); told()
print(tried(sk.setsockopt, 41, UNPROXY, mfc("::", "::", 3)))
print(tried(sk.setsockopt, 41, UNPROXY, mfc("::", "::", 2))); told()
print(tried(sk.setsockopt, 41, DEL_MFC, mfc("::", "::", 0)))
sk.setsockopt(41, ADD_MFC, mfc("fd01::1", G, 0, 1, 2))
sk.setsockopt(41, ASSERT, 0)  # it would be told again after 3 s
member = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
member.bind(("", 5000))
member.setsockopt(41, 20, addr(G) + struct.pack("=I", socket.if_nametoindex("a0")))
def udp(src):
    head = struct.pack("!HHHH", 9, 5000, 14, 0) + b"member"
    return put(head, 6, csum(addr(src) + addr(G) + struct.pack("!II", 14, 17) + head))
send("a1", ip6(S, G, 9, 17, udp(S))); print(member.recv(99)); send("b1", ip6(S, G, 9, 17, udp(S)))
send("a1", ip6("fd01::8", G, 9, 17, udp("fd01::8"))); print(member.recv(99)); print(heard(sk))
own = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
own.bind(("fd01::1", 6000))
own.setsockopt(41, 18, 8)
own.setsockopt(41, 70, 0)  # no flow label
own.setsockopt(41, 17, socket.if_nametoindex("a0"))
own.sendto(b"from the router", (G, 5000))
print(member.recv(99)); send("a1", ip6(S, G, 3)); told()
own.setsockopt(41, 19, 0); own.sendto(b"unlooped", (G, 5000)); send("a1", ip6(S, G, 3)); told()
own.setsockopt(41, 19, 1); own.setsockopt(41, 17, socket.if_nametoindex("b0"))
own.sendto(b"another way", (G, 5000)); send("a1", ip6(S, G, 3)); told(); print(heard(sk))
mld = struct.pack("!BBHHH16s", 131, 0, 0, 0, 0, addr("ff1e::ee"))
mld = put(mld, 2, csum(addr("fe80::9") + addr("ff1e::ee") + struct.pack("!II", 24, 58) + mld))
send("b1", ip6("fe80::9", "ff1e::ee", 1, 58, mld)); print(heard(sk))
send("b1", ip6("fe80::9", "ff1e::ee", 9, 0, b"\x3a\0\5\2\0\0\1\0" + mld)); print(heard(sk))
send("b1", ip6("fe80::9", "ff1e::ee", 9, 0, b"\x3a\0\5\2\0\7\1\0" + mld)); print(heard(sk))
for n in range(5):
    req = bytearray(struct.pack("@HQQQQ", n, 0, 0, 0, 0))
    print(n, tried(fcntl.ioctl, sk, 0x89e0, req), bytes(req).hex())
for group in (G, "ff1e::99"):
    req = bytearray(sin6(S) + sin6(group) + bytes(24))
    print(tried(fcntl.ioctl, sk, 0x89e1, req), bytes(req).hex())
print(tried(fcntl.ioctl, sk, 0x89e2, req))
sk.setsockopt(41, PIM, 4)
sk.setsockopt(41, ADD_MFC, mfc("fd01::4", G, 0, 1)); send("b1", ip6("fd01::4", G))
print(heard(sk))
print(sh("ip netconf show | grep -o 'inet6* [abc]0 .*mc_forwarding o[nf]*'"))
sk.close(); gone(); told(); send("a1", ip6(S, G))
"""
)
MONITOR = (
    IPV6
    + r"""
DIR = os.environ["DIR"]
heard = open(f"{DIR}/heard", "w")  # it is there before anybody reads it
mon = subprocess.Popen(["stdbuf", "-oL", "ip", "-6", "monitor", "mroute"], stdout=heard)
sk = daemon()
sk.setsockopt(41, INIT, 1)
for n, name in enumerate(("a0", "b0", "c0")):
    sk.setsockopt(41, ADD_MIF, mif(n, name))
while "ff1e::9" not in open(f"{DIR}/heard").read():
    sk.setsockopt(41, ADD_MFC, mfc(S, "ff1e::9", 0, 1))
    sh("true")
sk.setsockopt(41, ADD_MFC, mfc(S, G, 0, 1, 2)); sk.setsockopt(41, DEL_MFC, mfc(S, G, 0))
sk.setsockopt(41, ADD_MFC, mfc(S, H, 2, 1)); sk.close()
while f"Deleted ({S},{H})" not in open(f"{DIR}/heard").read(): sh("sleep 0.05")
mon.kill()
print("".join(x for x in open(f"{DIR}/heard") if "ff1e::9" not in x))
"""
)
ASKED = (
    IPV6
    + r"""
v4 = lambda text: socket.inet_aton(text)
sk, igmp = daemon(), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
ears = socket.socket(16, 3, 0); ears.bind((0, 0))
for group in (30, 31):
    ears.setsockopt(270, 1, group)
asks = socket.socket(16, 3, 0); asks.bind((0, 0)); asks.setsockopt(270, 11, 1)
def ask(family, *attrs, bits=(0, 0), table=0, kind=0):
    body = struct.pack("=BBBBBBBBI", family, *bits, 0, table, 0, 0, kind, 0)
    for number, value in attrs:
        body += struct.pack("=HH", len(value) + 4, number) + value + bytes(-len(value) % 4)
    asks.send(struct.pack("=IHHII", 16 + len(body), 26, 1, 7, 0) + body)
    got = asks.recv(9000)
    got = got[:12] + got[16:].partition(b"\x1c\0\x04\x80")[0]  # no port, no policy
    if got[4] != 2:  # how long nothing was sent changes
        at = got.find(b"\x0c\0\x17\0")
        got = got[:at + 4] + bytes(8) + got[at + 12:]
    print(family, attrs, bits, got.hex() if got[4] != 2 else (got[12:16].hex(), got[32:]))
def every():
    W, T = (128, 128), lambda n: (15, struct.pack("=I", n))
    src, dst = (2, addr(S)), (1, addr(G))
    ask(129, src, dst, bits=W); ask(129, src, dst); ask(129, src, dst, T(254), bits=W)
    ask(129, src, dst, T(99), bits=W); ask(129, src, (1, addr(H)), T(254), bits=W)
    ask(129, (1, addr(H)), T(254), bits=(128, 0)); ask(129, (2, addr(S)), bits=(0, 3))
    ask(129, src, (1, b"abcd"), T(254), bits=W); ask(129, src, dst, (4, b"1234"), bits=W)
    ask(129, src, dst, T(254), bits=W, kind=1); ask(129); ask(129, T(254), bits=W, table=254)
    W, src, dst = (32, 32), (2, v4("10.1.0.9")), (1, v4("239.1.1.1"))
    ask(128, src, dst, bits=W); ask(128, src, dst); ask(128, src, dst, T(253), bits=W)
    ask(128, src, dst, T(99), bits=W); ask(128, src, (1, v4("239.9.9.9")), bits=W)
    ask(128, dst, bits=(32, 0)); ask(128, src, dst, (4, b"1234"), bits=W); ask(128)
    ask(128, src, dst, bits=W, kind=1)
every()
igmp.setsockopt(0, INIT, 1); sk.setsockopt(41, INIT, 1)
for n, name in enumerate(("a0", "b0", "c0")):
    sk.setsockopt(41, ADD_MIF, mif(n, name))
    local = struct.pack("=i", socket.if_nametoindex(name))
    igmp.setsockopt(0, ADD_MIF, struct.pack("=HBBI4s4s", n, 8, 1, 0, local, bytes(4)))
sk.setsockopt(41, ADD_MFC, mfc(S, G, 0, 1)); sk.setsockopt(41, ADD_MFC, mfc("::", H, 0, 2))
igmp.setsockopt(0, ADD_MFC, struct.pack("=4s4sH32s2xIIIi", v4("10.1.0.9"), v4("239.1.1.1"), 0,
                                        bytes([0, 1, 1]).ljust(32, b"\0"), 0, 0, 0, 0))
every(); asks.setsockopt(270, 12, 1); every()
sk.setsockopt(41, PIM, 4); igmp.setsockopt(0, PIM, 4)
send("a1", ip6("fd01::8", G)); send("b1", ip6(S, G))
send("a1", ip4("10.1.0.8", "239.1.1.1")); send("b1", ip4("10.1.0.9", "239.1.1.1"))
while select.select([ears], [], [], 0)[0]:
    got = ears.recv(9000)
    whole = got[24] > 2
    head = got[:56] if got[16] == 128 else got[:80]
    print(head.hex(), len(got), got.hex() if whole else "")
"""
)
ROWS = {
    "options": Row(OPTIONS, AGES, ("ip",), python=True),
    "forwarded": Row(FORWARDED, AGES, ("ip",), python=True),
    "monitor": Row(MONITOR, AGES, ("ip", "stdbuf"), python=True),
    "asked": Row(ASKED, AGES, ("ip",), python=True),
}


@pytest.mark.parametrize("name", ROWS)
def test_multicast_of_ipv6_is_routed_as_in_the_kernel(
    peer: Peer, tmp_path: Path, name: str
) -> None:
    both(peer, tmp_path, ROWS[name], ROUTER)
