"""Traces of packets on our hosts and in a namespace of the kernel: `nft monitor trace`,
`xtables-monitor --trace`, and the messages of NFNLGRP_NFTRACE byte by byte.

What a packet is called (its id), the ids of connections and of IPv4's headers are taken out.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.linux.peer import Peer
from tests.programs.captures import CAPTURE, LINKS
from tests.programs.test_iproute import Row, both

pytestmark = pytest.mark.netns

LISTEN = (
    f"""
cat > $DIR/listen.py <<'END'
{CAPTURE}"""
    + """
NAMES = (
    "0 table chain handle type verdict id ll network transport iif iiftype oif oiftype mark "
    "nfproto policy pad ct_id ct_direction ct_status ct_state"
).split()
ids = {}

def network(data):
    if data[0] == 0x45:  # without the id and the checksum
        return data[:4].hex(), data[6:10].hex(), data[12:].hex()
    return data[:1].hex(), data[4:].hex()  # without the flow label

def show(name, value):
    if name == "id":
        return ids.setdefault(value, len(ids))
    if name == "network":
        return network(value)
    if name == "transport":  # ports of programs, checksums and numbers of TCP differ
        return value[2:4].hex(), len(value)
    if name == "ct_id":
        return len(value)
    return value.rstrip(b"\\0").decode() if name in ("table", "chain") else value.hex()

listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
listener.bind((0, 0))
listener.setsockopt(270, 1, 9)  # NFNLGRP_NFTRACE
listener.settimeout(20)

def told(count):
    for _ in range(count):
        data = listener.recv(1 << 16)
        head = struct.unpack_from("=IHHII", data)
        assert head[0] == len(data)
        print(*head[1:], data[16:20].hex(), end=" ")
        print(*((name, show(name, value)) for name, value in attributes(data[20:])))
    no_more(listener)

exec(sys.stdin.read())
END
listen() { python3 $DIR/listen.py; }
"""
)
RULES = """
nft -f - <<'END'
table ip t {
    chain other {
        udp dport 9 return
        counter
    }
    chain last {
        udp dport 7 mark set 3 accept
    }
    chain empty { }
    chain out {
        type filter hook output priority 0
        udp dport 5-12 meta nftrace set 1
        udp dport 9 jump other
        udp dport 7 goto last
        udp dport 6 drop
        udp dport 10 goto empty
        udp dport 11 reject
        udp dport 12 return
    }
    chain in {
        type filter hook input priority 0; policy drop
        udp dport 9 counter
        udp dport 8 meta nftrace set 0
        jump other
    }
}
table ip raw {
    chain out {
        type filter hook output priority -300
        udp dport 12 notrack
    }
}
table inet f {
    chain pre {
        type filter hook prerouting priority 0
        meta mark 3 meta nftrace set 0
        ct state new counter
    }
}
table ip6 s {
    chain out {
        type filter hook output priority 0
        meta l4proto { udp, tcp } meta nftrace set 1
    }
}
END
"""
RAW = f"""{LISTEN}{RULES}
nft list ruleset | grep trace; nft -j list chain ip t in; nft --debug=netlink list chain ip t in
listen <<'END'
udp("127.0.0.1", 4, 5, 6, 7, 8, 9, 10, 11, 12)
told(59)
udp("::1", 9, family=socket.AF_INET6)
udp("::1", 9, family=socket.AF_INET6, size=1)
udp("::1", 9, family=socket.AF_INET6, size=100)
told(18)
END
nft delete table ip t; nft flush chain inet f pre
listen <<'END'
udp("127.0.0.1", 5, 9)
udp("::1", 9, family=socket.AF_INET6, size=0)
told(5)
END
"""
FORWARDED = f"""{LISTEN}{LINKS}nft -f - <<'END'
table inet t {{
    chain pre {{
        type filter hook prerouting priority 0
        ip saddr 10.7.0.9 meta nftrace set 1
        ip6 saddr 2001:db8:7::9 meta nftrace set 1
        ip saddr 10.7.0.9 meta mark set 7
    }}
    chain forward {{ type filter hook forward priority 0; }}
    chain post {{
        type nat hook postrouting priority 100
        oifname x0 masquerade
    }}
}}
END
listen <<'END'
frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
frames.bind(("w0", 0x0800))
ether = bytes.fromhex("020000000002 020000000001")
datagram = bytes.fromhex("00070009000d0000") + b"hello"
head = bytes.fromhex("4500002100010000 4011 66b2 0a070009 0a080002")
frames.send(ether + b"\\x08\\0" + head + datagram)
head = bytes.fromhex("60000000 000d 1140") + 2 * bytes.fromhex("20010db8000700000000000000000009")
head = head[:28] + b"\\0\\x08" + head[30:]
frames.send(ether + b"\\x86\\xdd" + head + datagram[:6] + b"\\x60\\x5f" + datagram[8:])
told(13)
END
"""
MONITOR = """
listens() { until grep -q ' 12 .* 00000100 ' /proc/net/netlink; do sleep 0.05; done; }
lines() {
    i=0
    until [ $(grep -c . $DIR/told) -ge $1 ] || [ $((i += 1)) = 400 ]; do sleep 0.05; done
    { kill $p; wait $p; } 2>/dev/null
}
"""
SEND = """
listens; python3 - $ports <<'END'
import socket, sys
for family, address in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        for port in sys.argv[1:]:
            try:
                s.sendto(b"hello", (address, int(port)))
            except OSError as e:
                print(e)
END
"""
NFT = f"""{MONITOR}
nft -f - <<'END'
table inet t {{
    map m {{ type inet_service : verdict; elements = {{ 9 : drop }}; }}
    chain x {{
        udp dport 7 return
        udp dport 9 accept
    }}
    chain out {{
        type filter hook output priority 0
        udp dport 5-9 meta nftrace set 1
        udp dport 5 counter comment "counts"
        udp dport 6 goto x
        udp dport 7 jump x
        udp dport 8 drop
        udp dport vmap @m
    }}
    chain in {{
        type filter hook input priority 0; policy drop
        meta nftrace set 0
        counter
    }}
}}
END
ports='5 6 7 8 9'; nft monitor trace > $DIR/told & p=$!
{SEND}
lines 38; cat $DIR/told
"""
XTABLES = f"""{MONITOR}
for program in iptables ip6tables; do
    $program -t raw -A OUTPUT -p udp -j TRACE; $program -A INPUT -p udp -j TRACE
    $program -N other; $program -A OUTPUT -j other; $program -A other -j RETURN
done
iptables -A OUTPUT -p udp --dport 8 -j DROP  # xtables-monitor cannot print it of ip6tables
iptables-save | grep TRACE; ip6tables -t raw -S
nft list ruleset | grep trace
ports='7 8'; stdbuf -oL xtables-monitor --trace > $DIR/told & p=$!
{SEND}
lines 37; cat $DIR/told
"""
IDS = (
    (r"trace id [0-9a-f]+", "trace id"),
    (r"ip id \d+", "ip id"),
    (r"ip6 flowlabel \d+", "ip6 flowlabel"),
    (r"(PACKET|TRACE): (\d+) [0-9a-f]+", r"\1: \2"),
    (r" ID=?\d+", ""),
    (r"udp sport \d+|SPORT=\d+", ""),
    (r"FLOWLBL=\d+", ""),
)
FORWARDS = {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1}
ROWS = {
    "messages": Row(RAW, tools=("nft",)),
    "forwarded": Row(FORWARDED, tools=("nft", "ip")),
    "nft monitor trace": Row(NFT, IDS, tools=("nft",)),
    "xtables-monitor": Row(XTABLES, IDS, tools=("nft", "iptables", "xtables-monitor")),
}


@pytest.mark.parametrize("name", ROWS)
def test_traces_of_packets(peer: Peer, tmp_path: Path, name: str) -> None:
    both(peer, tmp_path, ROWS[name], FORWARDS)
