"""IGMP and MLD snooping of bridges by Debian's `ip` and `bridge`, on our hosts as in the kernel.

Each script runs on a host and in a namespace of the kernel, as in test_iproute. The traffic is sent
by packet sockets: which ports get which frames, and the database, are the same on both.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.linux.peer import Peer
from tests.programs.test_iproute import REFUSED, Row, both

pytestmark = pytest.mark.netns

QUIET = {"net.ipv6.conf.all.disable_ipv6": 1, "net.ipv6.conf.default.disable_ipv6": 1}
LOUD = {"net.ipv6.conf.all.disable_ipv6": 0, "net.ipv6.conf.default.disable_ipv6": 0}
PORTS = ("a", "b", "c", "d")
BRIDGE = "\n".join(
    [
        "ip link add br0 address 02:00:00:00:00:99 type bridge",
        *(
            f"ip link add {name}0 address 02:00:00:00:00:{n:02x} type veth "
            f"peer name {name}1 address 02:00:00:00:01:{n:02x}\n"
            f"ip link set {name}0 master br0\nip link set {name}0 up\nip link set {name}1 up"
            for n, name in enumerate(PORTS)
        ),
        "ip link set br0 up",
        f'until [ "$(bridge link | grep -c "state forwarding")" = {len(PORTS)} ]; do sleep 0.02',
        "done\n",
    ]
)
"""A port forwards once the kernel's worker has seen the carrier."""
MISSING = (
    r'("|)(vlan_filtering|no_linklocal_learn|mcast_vlan_snooping|vlan_default_pvid|'
    r"mcast_stats_enabled|vlan_stats_enabled|vlan_stats_per_port|nf_call_iptables|"
    r"nf_call_ip6tables|nf_call_arptables|proxy_arp|proxy_arp_wifi|mcast_to_unicast|"
    r'neigh_suppress|vlan_tunnel|locked)("|)[: ]("\w+"|\w+)[ ,]?',
    "",
)
"""What the kernel's bridge has and ours does not."""
SIZES = (r'"?(gso|tso|gro)_max_\w+[": ]+\d+[ ,]?', "")
QUEUES = (r'"?num[tr]xqueues[": ]+\d+[ ,]?', "")
TIMES = (r" +\d+\.\d\d", " T")
GROUPS6 = (r"(Deleted )?dev .*grp ff02:.*\n", "")
"""Groups of IPv6 itself, which are joined at moments of their own."""
LEAVES = (r"(?m)^ +", "")
TRAFFIC = """
import json, os, random, select, socket, struct, subprocess, sys, time
# Each CPU has a queue for what comes in: sends from one keep their order.
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
def sh(words):
    return subprocess.run(words, shell=True, check=False, capture_output=True, text=True).stdout
def csum(data):
    data += bytes(len(data) & 1)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
def put(data, at, value):
    return data[:at] + struct.pack("!H", value) + data[at + 2:]
def ip4(src, dst, proto, body, options=b"", bad=False):
    head = struct.pack("!BBHHHBBH", 0x45 + len(options) // 4, 0, 20 + len(options) + len(body),
                       1, 0, 1, proto, 0) + socket.inet_aton(src) + socket.inet_aton(dst) + options
    head = put(head, 10, csum(head) ^ bad)
    mac = b"\\x01\\x00\\x5e" + bytes([socket.inet_aton(dst)[1] & 127]) + socket.inet_aton(dst)[2:]
    return mac, 0x0800, head + body
def igmp(kind, group, code=0, tail=b"", bad=False):
    body = struct.pack("!BBH", kind, code, 0) + socket.inet_aton(group) + tail
    return put(body, 2, csum(body) ^ bad)
def igmp3(records, count=None):
    body = struct.pack("!BBHHH", 0x22, 0, 0, 0, len(records) if count is None else count)
    for kind, group, sources in records:
        body += struct.pack("!BBH", kind, 0, len(sources)) + socket.inet_aton(group)
        body += b"".join(map(socket.inet_aton, sources))
    return put(body, 2, csum(body))
RA = b"\\x94\\x04\\x00\\x00"
def in6(text):
    return socket.inet_pton(socket.AF_INET6, text)
def ip6(src, dst, body, kind=58, hop=True, bad=False):
    if kind == 58:
        pseudo = in6(src) + in6(dst) + struct.pack("!II", len(body), 58)
        body = put(body, 2, csum(pseudo + body) ^ bad)
    nxt = kind
    if hop:
        body, nxt = bytes([kind, 0, 5, 2, 0, 0, 1, 0]) + body, 0
    head = struct.pack("!IHBB", 6 << 28, len(body), nxt, 1) + in6(src) + in6(dst)
    return b"\\x33\\x33" + in6(dst)[12:], 0x86DD, head + body
def mld(kind, group, delay=0, tail=b""):
    return struct.pack("!BBHHH", kind, 0, 0, delay, 0) + in6(group) + tail
def mld2(records):
    body = struct.pack("!BBHHH", 143, 0, 0, 0, len(records))
    for kind, group, sources in records:
        body += struct.pack("!BBH", kind, 0, len(sources)) + in6(group)
        body += b"".join(map(in6, sources))
    return body
PORTS = ("a1", "b1", "c1", "d1")
taps = {}
for name in (*PORTS, "br0"):
    tap = taps[name] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    tap.bind((name, 3))
serial = 0
def send(name, what, note=""):
    \"\"\"Send a frame, then a broadcast behind it; which ports got the frame?\"\"\"
    global serial
    serial += 1
    mac, proto, data = what
    source = b"\\x02\\0\\0\\0\\x07" + bytes([PORTS.index(name) if name in PORTS else 9])
    if name == "br0":
        source = bytes.fromhex("020000000099")
    frame = mac + source + struct.pack("!H", proto) + data
    last = b"\\xff" * 6 + source + b"\\x88\\xb5" + struct.pack("!I", serial) + bytes(42)
    taps[name].send(frame)
    taps[name].send(last)
    got = []
    for each, tap in taps.items():
        if each == name:
            continue
        while True:
            if not select.select([tap], [], [], 20)[0]:
                sys.exit(f"nothing at {each}")
            data, (_, _, kind, _, _) = tap.recvfrom(2000)
            if kind == 4:
                continue
            if data == last:
                break
            if data[6:12] == source and data == frame:
                got.append(each)
    print(note or sys._getframe().f_back.f_lineno, name, "->", *got, flush=True)
def mdb():
    lines = sh("bridge -d mdb").splitlines()
    lines = [x.strip() for x in lines if "ff02:" not in x]
    lines = [" ".join(sorted(x.split()) if x.startswith("router") else x.split()) for x in lines]
    print(*sorted(lines), sep="\\n", flush=True)
def data4(group, src="10.0.0.9"):
    return ip4(src, group, 17, b"data" * 5)
def data6(group, src="2001:db8::9"):
    return ip6(src, group, b"data" * 5, 17, hop=False)
"""
SNOOPED = """
G, H, L = "239.1.1.1", "239.1.1.2", "224.0.0.9"
send("a1", data4(G)); send("br0", data4(G))
send("b1", ip4("10.0.0.2", G, 2, igmp(0x16, G), RA)); mdb()
send("a1", data4(G))  # nobody asks: flooded
send("d1", ip4("10.0.0.4", "224.0.0.1", 2, igmp(0x11, "0.0.0.0", 0), RA)); mdb()
send("b1", ip4("10.0.0.2", G, 2, igmp(0x12, G), RA))
send("c1", ip4("0.0.0.0", H, 2, igmp(0x16, H)))
mdb()
send("b1", ip4("10.0.0.2", "224.0.0.22", 2, igmp3([(4, "239.1.1.5", []), (4, H, []), (3, G, []),
    (9, "239.9.9.9", []), (1, "239.1.1.6", ["1.2.3.4"]), (6, "239.1.1.7", [])]), RA)); mdb()
send("b1", ip4("10.0.0.2", "224.0.0.22", 2, igmp3([(4, "239.1.2.5", [])], 7))); mdb()
send("b1", ip4("10.0.0.2", "224.0.0.22", 2, igmp3([(4, "239.1.3.5", ["1.1.1.1"] * 3)])[:-2])); mdb()
for group in (G, H, L, "239.7.7.7", "239.1.1.5", "239.1.1.6"):
    for name in ("a1", "b1", "d1", "br0"):
        send(name, data4(group), group)
send("a1", ip4("10.0.0.9", G, 17, b"x" * 20, bad=True))
send("a1", ip4("10.0.0.9", G, 2, igmp(0x16, "239.6.6.6", bad=True)))
send("a1", ip4("10.0.0.9", G, 2, igmp(0x16, "239.6.6.6")[:7]))
send("a1", ip4("10.0.0.9", G, 2, igmp(0x99, "239.6.6.6")))
send("a1", ip4("10.0.0.9", "239.6.6.6", 2, igmp(0x11, "0.0.0.0", 100)))
send("a1", ip4("10.0.0.9", "224.0.0.1", 2, igmp(0x11, "0.0.0.0", 100, b"\\0\\0")))
send("a1", ip4("10.0.0.9", "224.0.0.9", 2, igmp(0x16, "224.0.0.9"))); mdb()
send("b1", ip4("10.0.0.2", "224.0.0.13", 103, b"\\x20\\0\\0\\0")); mdb()
send("c1", ip4("10.0.0.3", "224.0.0.106", 2, igmp(0x30, "0.0.0.0"))); mdb()
send("a1", data4("239.7.7.7")); send("a1", data4(H))
print(sh("bridge link set dev a0 mcast_router 2; bridge link set dev b0 mcast_router 0")); mdb()
send("d1", data4(H)); send("d1", data4("239.7.7.7"))
print(sh("bridge link set dev a0 mcast_router 1; bridge link set dev c0 mcast_flood off")); mdb()
send("d1", data4("239.7.7.7")); send("d1", data4(H))
print(sh("bridge mdb add dev br0 port br0 grp 239.1.1.2; "
         "bridge mdb add dev br0 port a0 grp 239.1.1.2 permanent"))
send("d1", data4(H)); mdb()
print(sh("bridge mdb add dev br0 port a0 grp 239.1.1.2 src 10.0.0.9 permanent"))
send("d1", data4(H)); print(sh("ip link set br0 type bridge mcast_igmp_version 3"))
send("d1", data4(H)); print(sh("ip link set br0 type bridge mcast_igmp_version 2")); mdb()
print(sh("bridge mdb add dev br0 port b0 grp 01:00:5e:00:11:22 permanent"))
send("d1", (bytes.fromhex("01005e001122"), 0x88b6, bytes(60)))
send("d1", (bytes.fromhex("01005e001123"), 0x88b6, bytes(60)))
print(sh("bridge link set dev c0 fastleave on"))
send("c1", ip4("10.0.0.3", "224.0.0.2", 2, igmp(0x17, H), RA)); mdb()
print(sh("ip link set br0 type bridge mcast_router 2")); send("d1", data4("239.1.1.5"))
print(sh("ip link set br0 type bridge mcast_router 0")); send("d1", data4("239.1.1.5"))
print(sh("ip link set br0 type bridge mcast_snooping 0")); send("d1", data4("239.1.1.5")); mdb()
print(sh("bridge mdb add dev br0 port b0 grp 239.8.8.8; "
         "ip link set br0 type bridge mcast_snooping 1"))
send("d1", data4("239.1.1.5")); print(sh("ip link set b0 down")); mdb()
print(sh("ip link set a0 nomaster; bridge link")); mdb()
"""
BOUNDED = """
send("d1", ip4("10.0.0.4", "224.0.0.1", 2, igmp(0x11, "0.0.0.0", 0), RA))
for n in range(12):
    g = f"239.1.2.{n}"
    send("b1", ip4("10.0.0.2", g, 2, igmp(0x16, g), RA))
mdb(); print(sh("ip -d link show br0 | grep -o 'mcast_snooping .'"))
send("a1", data4("239.1.2.1")); send("a1", data4("239.1.2.11"))
"""
SNOOPED6 = """
G, H, LL = "ff0e::1:1", "ff0e::1:2", "fe80::4"
send("a1", data6(G)); send("b1", ip6("fe80::2", G, mld(131, G))); mdb()
send("d1", ip6("2001:db8::4", "ff02::1", mld(130, "::", 100))); mdb()
send("d1", ip6(LL, G, mld(130, "::", 100)))
send("d1", ip6(LL, "ff02::1", mld(130, "::", 0))); mdb()
send("d1", ip6(LL, "ff02::1", mld(130, "::", 1))); mdb()
until = time.monotonic() + 0.3  # the answers to the query may take 100 ms, then it counts
while time.monotonic() < until: pass
send("b1", ip6("fe80::2", "ff02::16", mld2([(4, H, []), (3, G, []), (1, "ff0e::5", ["2001:db8::1"]),
    (4, "ff02::1", []), (77, "ff0e::77", [])]))); mdb()
send("b1", ip6("fe80::2", "ff02::16", mld2([(4, "ff0e::99", ["::1"])])[:-3])); mdb()
send("b1", ip6("fe80::2", "ff02::16", mld2([]))); send("b1", ip6("fe80::2", G, mld(131, "ff0e::9"),
    bad=True)); send("b1", ip6("fe80::2", G, mld(131, "ff0e::9")[:20])); mdb()
send("b1", ip6("fe80::2", G, mld(131, "ff0e::9"), hop=False)); mdb()
send("c1", ip6("fe80::3", "ff02::6a", struct.pack("!BBHI", 151, 0, 0, 0))); mdb()
print(sh("bridge link set dev c0 mcast_router 1; bridge link set dev c0 mcast_router 0; "
         "bridge link set dev c0 mcast_router 1"))
"""
AFTER6 = """
until = time.monotonic() + 0.2  # the answers to the query may take 1 ms
while time.monotonic() < until: pass
for group in (G, H, "ff0e::7", "ff02::1", "ff02::9", "ff0e::5"):
    for name in ("a1", "b1", "d1", "br0"):
        send(name, data6(group), group)
print(sh("bridge link set dev b0 fastleave on"))
send("b1", ip6("fe80::2", "ff02::2", mld(132, H))); mdb()
"""
MDB = f"""{BRIDGE}
ip -d link show br0; ip -d link show a0
try() {{ "$@"; echo $?; }}
try bridge mdb add dev br0 port a0 grp 239.1.1.1 permanent
try bridge mdb add dev br0 port a0 grp 239.1.1.2 src 1.2.3.4; bridge -j -d mdb
try bridge mdb add dev br0 port b0 grp 239.1.1.1; try bridge mdb add dev br0 port b0 grp 239.1.1.1
try bridge mdb add dev br0 port b0 grp 224.0.0.5; try bridge mdb add dev br0 port b0 grp 10.0.0.5
try bridge mdb add dev br0 port br0 grp 239.1.1.1; try bridge mdb add dev br0 port br0 grp 239.1.1.1
try bridge mdb add dev br0 port br0 grp 239.1.1.7 permanent
try bridge mdb add dev br0 port br0 grp 239.1.1.7 src 1.2.3.4
try bridge mdb add dev br0 port a0 grp 239.1.1.2 src 1.2.3.4
try bridge mdb add dev br0 port a0 grp 0.0.0.0; try bridge mdb add dev br0 port a0 grp ff02::1
try bridge mdb add dev br0 port a0 grp 01:00:5e:00:00:77
try bridge mdb add dev br0 port a0 grp 02:00:5e:00:00:77
try bridge mdb add dev br0 port a0 grp 01:00:5e:00:00:77 permanent
try bridge mdb add dev br0 port a0 grp ff0e::77
try bridge mdb add dev br0 port a0 grp ff0e::77 src 2001:db8::1
try bridge mdb add dev br0 port a1 grp ff0e::77; try bridge mdb add dev a0 port a0 grp ff0e::77
try bridge mdb del dev br0 port a0 grp ff0e::79; try bridge mdb del dev br0 port c0 grp ff0e::77
bridge link set dev a0 mcast_router 2; bridge -s -d mdb | sort
bridge link set dev a0 mcast_router 1; bridge link set dev b0 mcast_router 3
bridge -d -s mdb | sort; bridge mdb | sort; bridge mdb show dev br0 | sort
try bridge mdb del dev br0 port a0 grp ff0e::77; try bridge link set dev a0 mcast_router 1
try bridge link set dev a0 mcast_router 4; try ip link set br0 type bridge mcast_router 3
try ip link set br0 type bridge mcast_igmp_version 4
try ip link set br0 type bridge mcast_mld_version 0
try ip link set br0 type bridge mcast_query_interval 5 mcast_startup_query_interval 99999999
try ip link set br0 type bridge mcast_querier 1 mcast_query_use_ifaddr 1 mcast_hash_max 512 \\
    mcast_last_member_count 3 mcast_startup_query_count 4 mcast_last_member_interval 50 \\
    mcast_membership_interval 1000 mcast_querier_interval 2000 mcast_query_response_interval 300 \\
    mcast_igmp_version 3 mcast_mld_version 2
ip -d link show br0; ip link set a0 down; ip link set b0 nomaster; bridge -d mdb
bridge link set dev a0 fastleave on mcast_flood off; bridge -d link show dev a0
try bridge mdb add dev br0 port a0 grp 239.4.4.4
try bridge mdb add dev br0 port a0 grp 239.4.4.4 permanent
ip link set br0 type bridge mcast_snooping 0
try bridge mdb add dev br0 port a0 grp 239.4.4.5 permanent
ip link set br0 down; try bridge mdb add dev br0 port a0 grp 239.4.4.5 permanent; bridge -d mdb
ip link set a0 nomaster; bridge -d mdb; ip link del br0; bridge -d mdb
"""
MONITOR = f"""{BRIDGE}
: > $DIR/heard
stdbuf -oL bridge monitor mdb > $DIR/heard & M=$!
until grep -q 239.9.9.9 $DIR/heard; do
    bridge mdb add dev br0 port c0 grp 239.9.9.9; bridge mdb del dev br0 port c0 grp 239.9.9.9
done
bridge mdb add dev br0 port a0 grp 239.1.1.1 permanent
bridge mdb add dev br0 port a0 grp 239.1.1.2 src 1.2.3.4
bridge mdb add dev br0 port br0 grp 239.1.1.1
bridge mdb del dev br0 port a0 grp 239.1.1.1; bridge link set dev a0 mcast_router 2
bridge link set dev a0 mcast_router 0; bridge link set dev b0 mcast_router 2; ip link set a0 down
ip link set b0 down; bridge mdb add dev br0 port c0 grp 239.3.3.3
until grep -q 239.3.3.3 $DIR/heard; do :; done
kill $M; grep -v 239.9.9.9 $DIR/heard
"""

QUERIES = """
def query(data):
    if data[12:14] == b"\\x08\\0":
        return data[23] == 2 and data[38] == 0x11
    return data[12:14] == b"\\x86\\xdd" and data[20] == 0 and data[62] == 130
def heard(count):
    \"\"\"The queries that come to a1 and to the host.\"\"\"
    for each in ("a1", "br0"):
        got = []
        while len(got) < count:
            if not select.select([taps[each]], [], [], 20)[0]:
                sys.exit(f"no query at {each}: {got}")
            data, (_, _, kind, _, _) = taps[each].recvfrom(2000)
            if query(data) and kind != 4:
                got.append(data.hex())
        print(each, *sorted(got), sep="\\n", flush=True)
def off_on(*words):
    sh("ip link set br0 type bridge mcast_querier 0 " + " ".join(words))
    sh("ip link set br0 type bridge mcast_querier 1")
    heard(2)
sh("bridge link set dev d0 mcast_router 2")
off_on(); off_on("mcast_igmp_version 3 mcast_mld_version 2 mcast_query_interval 6000")
off_on("mcast_query_use_ifaddr 1 mcast_query_response_interval 520")
off_on("mcast_query_use_ifaddr 0 mcast_igmp_version 2 mcast_mld_version 1")
send("a1", ip4("10.0.0.2", "239.1.1.1", 2, igmp(0x16, "239.1.1.1"), RA))
send("a1", ip6("fe80::2", "ff0e::1:1", mld(131, "ff0e::1:1"))); mdb()
def leave():
    taps["a1"].send(b"\\x01\\0\\x5e\\0\\0\\2" + b"\\2\\0\\0\\0\\7\\0\\x08\\0"
                    + ip4("10.0.0.2", "224.0.0.2", 2, igmp(0x17, "239.1.1.1"), RA)[2])
    taps["a1"].send(b"\\x33\\x33\\0\\0\\0\\2" + b"\\2\\0\\0\\0\\7\\0\\x86\\xdd"
                    + ip6("fe80::2", "ff02::2", mld(132, "ff0e::1:1"))[2])
    got = []
    while len(got) < 2:
        data, (_, _, kind, _, _) = taps["a1"].recvfrom(2000)
        if kind != 4 and query(data):
            got.append(data.hex())
    print("asked", *sorted(got), sep="\\n", flush=True)
leave(); sh("ip link set br0 type bridge mcast_igmp_version 3 mcast_mld_version 2"); leave()
while "239.1.1.1" in sh("bridge mdb") or "ff0e" in sh("bridge mdb"): pass
mdb()
"""


def script(text: str, *commands: str) -> str:
    """A Python program behind `ip` commands."""
    lines = f"{BRIDGE}\n" + "\n".join(commands)
    return f"import subprocess\nsubprocess.run({lines!r}, shell=True)\n{TRAFFIC}\n{text}"


CHANGES = (MISSING, SIZES, QUEUES, TIMES, GROUPS6, (REFUSED, ""), LEAVES)
ROWS = {
    "mdb": (Row(MDB, CHANGES, ("ip", "bridge")), QUIET),
    "monitor": (Row(MONITOR, CHANGES, ("ip", "bridge", "stdbuf")), QUIET),
    "igmp": (Row(script(SNOOPED), tools=("ip", "bridge"), python=True), QUIET),
    "mld": (Row(script(SNOOPED6 + AFTER6), tools=("ip", "bridge"), python=True), QUIET),
    "queries": (
        Row(
            script(
                QUERIES,
                "ip link set br0 down; ip link set br0 addrgenmode none; ip link set br0 up",
                "ip addr add 10.0.0.1/24 dev br0; ip addr add fe80::99/64 dev br0 nodad",
            ),
            tools=("ip", "bridge"),
            python=True,
        ),
        LOUD,
    ),
    "igmp bounded": (
        Row(
            script(BOUNDED, "ip link set br0 type bridge mcast_hash_max 8"),
            tools=("ip", "bridge"),
            python=True,
        ),
        QUIET,
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_bridge_tells_and_does_what_the_kernels_does(
    peer: Peer, tmp_path: Path, name: str
) -> None:
    row, sysctl = ROWS[name]
    both(peer, tmp_path, row, sysctl)
