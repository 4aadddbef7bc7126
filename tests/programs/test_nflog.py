"""nfnetlink_log on our hosts and in a namespace of the kernel: what a program asks of it, the
messages byte by byte, ulogd and `tcpdump -i nflog`; nft's `log group` and iptables' NFLOG.

Each script has a socket with SO_TIMESTAMP, so that packets have times: which times is taken out.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.linux.peer import Peer
from tests.programs.captures import CAPTURE, LINKS
from tests.programs.test_iproute import Row, both

pytestmark = pytest.mark.netns

ASK = (
    f"""
cat > $DIR/ask.py <<'END'
{CAPTURE}"""
    + """
import collections, errno, os

NAMES = (
    "0 hdr mark timestamp indev outdev physin physout hwaddr payload prefix uid seq seq_global gid "
    "hwtype hwheader hwlen ct ct_info vlan l2hdr"
).split()
BIND, UNBIND, PF_BIND, PF_UNBIND = 1, 2, 3, 4
stamps = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
stamps.setsockopt(socket.SOL_SOCKET, 29, 1)  # SO_TIMESTAMP

def listener():
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    made.bind((0, 0))
    made.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
    made.settimeout(20)
    return made

listens = listener()

def attr(kind, data):
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) & 3)

def command(which):
    return attr(1, bytes([which]))

def mode(which, length=0xFFFF):
    return attr(2, struct.pack(">IBB", length, which, 0))

def size(value):
    return attr(3, struct.pack(">I", value))

def timeout(value):
    return attr(4, struct.pack(">I", value))

def threshold(value):
    return attr(5, struct.pack(">I", value))

def flags(value):
    return attr(6, struct.pack(">H", value))

def tell(*attrs, group=5, family=0, kind=0x401, by=listens, acked=0):
    body = struct.pack(">BBH", family, 0, group) + b"".join(attrs)
    by.send(struct.pack("=IHHII", 16 + len(body), kind, 1 | acked, 1, 0) + body)

def config(*attrs, group=5, by=listens, **rest):
    tell(*attrs, group=group, by=by, acked=4, **rest)
    wrong = -struct.unpack_from("=i", by.recv(1 << 16), 16)[0]
    print("config", group, errno.errorcode.get(wrong, wrong))

def messages(data):
    at = 0
    while at < len(data):
        length, kind, *rest = struct.unpack_from("=IHHII", data, at)
        yield kind, rest, data[at + 16 : at + length]
        at += length + 3 & ~3

def show(name, value):
    if name == "payload":
        return len(value), value[:1].hex()
    return len(value) if name == "timestamp" else value.hex()

def told(count):
    while count > 0:
        print("packet")
        for kind, rest, data in messages(listens.recv(1 << 20)):
            print("  ", kind, *rest, data[:4].hex(), end=" ")
            print(*((name, show(name, value)) for name, value in attributes(data[4:])))
            count -= kind == 0x400
    no_more(listens)

def buffers(count):
    seen = collections.Counter()
    while count > 0:
        data = listens.recv(1 << 20)
        parts = list(messages(data))
        seen[len(data), len(parts), *sorted({16 + len(part[2]) for part in parts})] += 1
        count -= sum(part[0] == 0x400 for part in parts)
    print(count, *seen.items())

exec(sys.stdin.read())
END
ask() { python3 $DIR/ask.py; }
"""
)
RULES = """
nft -f - <<'END'
table inet t {
    chain in {
        type filter hook input priority 0
        udp dport 5 log group 5 prefix "in: "
        udp dport 6 meta mark set 7 log group 5 snaplen 9 queue-threshold 1
        udp dport 7 log group 5 queue-threshold 2
        udp dport 8 log prefix "kernel: "
    }
    chain out {
        type filter hook output priority 0
        udp dport 9 log group 6 prefix "out" snaplen 0
    }
}
END
"""
CONFIGURATION = f"""{ASK}{RULES}
ask <<'END'
config(command(BIND)); config(command(BIND)); config(command(UNBIND), group=6)
config(command(7), group=6); config(command(7)); config(group=6); config(mode(2), group=7)
for family in 0, 2, 10, 11, 255:
    config(command(PF_BIND), family=family); config(command(PF_UNBIND), family=family)
config(mode(2), threshold(1)); udp("127.0.0.1", 5, 6, 8); told(2)
udp("127.0.0.1", 7); told(1)
for which in 1, 0, 7:
    config(mode(which)); udp("127.0.0.1", 5); told(1)
config(mode(2, 10)); udp("127.0.0.1", 5, 6); told(2)
config(mode(2, 0), flags(3)); udp("127.0.0.1", 5, 6); told(2)
config(flags(7)); config(flags(4)); config(flags(0xFFF8), mode(2, 0xFFFFFFFF))
udp("127.0.0.1", 5); told(1)
config(flags(0), threshold(3), timeout(6000)); udp("127.0.0.1", 5, 5, 7, 7, 5, 5); told(6)
config(timeout(1)); udp("127.0.0.1", 5); told(1)
config(command(BIND), command(UNBIND), group=6); config(threshold(0), timeout(0))
udp("127.0.0.1", 5); told(1)
config(command(BIND), threshold(1), group=6); udp("127.0.0.1", 9); told(1)
udp("::1", 9, 5, family=socket.AF_INET6); told(2)
config(command(BIND), group=300); config(timeout(0), group=300)
for value in 0, 1, 3776, 1 << 17, 1 << 20:
    config(size(value), group=300)
config(threshold(9), timeout(0xFFFFFFFF)); udp("127.0.0.1", 5, 5)
tell(command(UNBIND)); told(2); udp("127.0.0.1", 5); told(0)
config(command(BIND)); config(command(BIND), group=0xFFFF); config(kind=0x400); config(kind=0x402)
for short in attr(1, b""), attr(2, b"abc"), attr(3, b"a"), attr(4, b"ab"), attr(6, b"a"):
    config(short)
other = listener()
for asked in command(BIND), command(UNBIND), command(7), mode(1), flags(4), command(PF_BIND):
    config(asked, group=300, by=other)
config(command(BIND), group=9, by=other)
table = "/proc/net/netfilter/nfnetlink_log"
print(sorted(line.split()[:1] + line.split()[2:] for line in open(table)))
print(oct(os.stat(table).st_mode))
other.close(); config(group=9); config(command(BIND), group=9)
END
"""
PACKETS = f"""{ASK}{LINKS}
long=0123456789012345678901234567890123456789012345678901234567890123456789
t() {{ iptables "$@" 2>&1; echo "$* : $?"; }}; t6() {{ ip6tables "$@" 2>&1; echo "6 $* : $?"; }}
t -A OUTPUT -p tcp -j NFLOG --nflog-group 6 --nflog-prefix "tcp out"
t -A INPUT -p tcp -j NFLOG --nflog-group 7 --nflog-size 30 --nflog-threshold 3
t -A INPUT -p tcp -j NFLOG --nflog-group 5 --nflog-range 30
t -A INPUT -p tcp -j NFLOG --nflog-group 70000; t -A INPUT -p tcp -j NFLOG --nflog-threshold 0
t6 -A INPUT -p icmpv6 --icmpv6-type 128 -j NFLOG --nflog-group 6 --nflog-prefix $long
t6 -A INPUT -p icmpv6 --icmpv6-type 128 -j NFLOG --nflog-group 6 --nflog-size 0
for chain in PREROUTING FORWARD POSTROUTING; do
    t -t mangle -A $chain -s 10.7.0.9 -j NFLOG --nflog-group 5
    t6 -t mangle -A $chain -s 2001:db8:7::9 -j NFLOG --nflog-group 5
done
iptables-save | grep NFLOG; ip6tables-save | grep NFLOG; nft list ruleset | grep -i log
ask <<'END'
config(command(BIND), threshold(1)); config(command(BIND), threshold(1), group=6)
config(command(BIND), threshold(9), timeout(0xFFFFFFFF), group=7)
server = socket.create_server(("127.0.0.1", 2000))
client = socket.create_connection(("127.0.0.1", 2000)); taken, _ = server.accept()
told(9); client.send(b"hello"); taken.recv(100); told(4)
tell(command(UNBIND), group=7); told(2)
os.system("ping -c 1 ::1 > /dev/null"); told(2)
frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
frames.bind(("w0", 0x0800))
ether = bytes.fromhex("020000000002 020000000001")
datagram = bytes.fromhex("00070009000d0000") + b"hello"
head = bytes.fromhex("4500002100010000 4011 66b2 0a070009 0a080002")
frames.send(ether + b"\\x08\\0" + head + datagram); told(3)
head = bytes.fromhex("60000000 000d 1140") + 2 * bytes.fromhex("20010db8000700000000000000000009")
head = head[:28] + b"\\0\\x08" + head[30:]
frames.send(ether + b"\\x86\\xdd" + head + datagram[:6] + b"\\x60\\x5f" + datagram[8:]); told(3)
END
"""
BUFFERS = f"""{ASK}
nft -f - <<'END'
table ip t {{
    chain in {{
        type filter hook input priority 0
        udp dport 5 log group 5 prefix "a prefix of many bytes, to which belongs a zero at its end"
        udp dport 6 log group 5
        udp dport 7 log group 5 snaplen 0 queue-threshold 65535
    }}
}}
END
ask <<'END'
def fill(port, count, length, *attrs):
    config(command(BIND), threshold(1000000), timeout(6000), *attrs)
    udp("127.0.0.1", *[port] * count, size=length)
    tell(command(UNBIND)); buffers(count)

for length in *range(0, 200, 12), 500, 1450, 9000, 30000:
    fill(6, 50, length, flags(3))
for room in 5000, 16384, 32768, 65536, 131072:
    fill(5, 200, 999, size(room), flags(1))
fill(7, 100, 99, mode(1)); fill(5, 100, 99, mode(2, 64)); fill(5, 100, 99, flags(2), mode(0))
END
"""
PROGRAM = """
cd $DIR
bound() { until grep -q '^ *5 ' /proc/net/netfilter/nfnetlink_log; do sleep 0.05; done; }
lines() {
    i=0
    until [ $(grep -c . $2) -ge $1 ] || [ $((i += 1)) = 400 ]; do sleep 0.05; done
}
ends() { kill $p; wait $p; echo $?; } 2> /dev/null
cat > send.py <<'END'
import socket
for family, address in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.bind((address, 3333))
        for port in 5, 6, 7:
            s.sendto(b"hello", (address, port))
END
nft -f - <<'END'
table inet t {
    chain in {
        type filter hook input priority 0
        udp dport 5 log group 5 prefix "in: "
        udp dport 6 meta mark set 7 log group 5 snaplen 40
    }
    chain out {
        type filter hook output priority 0
        udp dport 7 log group 5 prefix "out"
    }
}
END
iptables -t mangle -A OUTPUT -p udp --dport 7 -j NFLOG --nflog-group 5 --nflog-prefix iptables
"""
ULOGD = f"""{PROGRAM}
for module in inppkt_NFLOG raw2packet_BASE filter_IFINDEX filter_IP2STR filter_HWHDR \\
    filter_PRINTPKT output_LOGEMU output_GPRINT
do
    plugins="$plugins
plugin=$(echo /usr/lib/*/ulogd/ulogd_$module.so)"
done
cat > conf <<END
[global]
logfile="$DIR/log"$plugins
stack=log1:NFLOG,base:BASE,if:IFINDEX,ip:IP2STR,mac:HWHDR,print:PRINTPKT,emu:LOGEMU
stack=log1:NFLOG,base:BASE,if:IFINDEX,ip:IP2STR,gprint:GPRINT
[log1]
group=5
numeric_label=3
bind=1
seq_local=1
seq_global=1
[emu]
file="$DIR/emu"
sync=1
[gprint]
file="$DIR/gprint"
sync=1
END
touch emu gprint; ulogd -c conf & p=$!
bound; python3 send.py; lines 7 emu; lines 7 gprint; ends
grep -v plugin log | cut -d' ' -f7-; cut -d' ' -f6- emu; cat gprint
"""
TCPDUMP = f"""{PROGRAM}
touch told packets; tcpdump -l -nn -v -i nflog:5 > told 2> wrong & p=$!
bound; python3 send.py; lines 11 told; ends; cat told wrong
tcpdump -nn -i nflog:5 -U -w packets 2> wrong & p=$!
bound; python3 send.py
until [ $(tcpdump -nnr packets 2> /dev/null | grep -c .) = 7 ]; do sleep 0.05; done
ends; tcpdump -nn -r packets; tcpdump -D | grep -o 'nflog .*'
"""
CHANGING = (
    (r"time\.u?sec=\d+", ""),
    (r"\bid[ =]\d+|ID=\d+|csum=\d+", ""),
    (r"(?i)(flowlbl=|flowlabel[ =])(0x)?[0-9a-f]+", ""),
    (r"(?m)^\d\d:\d\d:\d\d\.\d+", ""),
)
ROWS = {
    "configuration": Row(CONFIGURATION, tools=("nft",)),
    "packets": Row(PACKETS, tools=("nft", "iptables", "ip6tables", "ping")),
    "buffers": Row(BUFFERS, tools=("nft",)),
    "ulogd": Row(ULOGD, CHANGING, tools=("nft", "iptables", "ulogd")),
    "tcpdump": Row(TCPDUMP, CHANGING, tools=("nft", "iptables", "tcpdump")),
}
FORWARDS = {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1}


@pytest.mark.parametrize("name", ROWS)
def test_packets_are_logged_to_programs(peer: Peer, tmp_path: Path, name: str) -> None:
    both(peer, tmp_path, ROWS[name], FORWARDS)
