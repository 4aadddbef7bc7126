"""Expressions of nft rules beside those of test_nft.py, on our hosts and in a namespace of the
kernel: connection tracking, reject, log, limit, NAT, objects, fib, headers' options and others.

Both list the same, refuse the same, and packets over `lo` meet the same.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.linux.peer import Peer
from tests.programs.test_iproute import Row, both
from tests.programs.test_iptables import SENDS

pytestmark = pytest.mark.netns

BASE = """
t() { nft "$@" 2>&1; echo "$* : $?"; }
r() { t add rule inet t "$*"; }
nft -f - <<'END'
table inet t {
    counter cn { }
    quota qn { 100 bytes }
    quota qo { over 5 kbytes used 1 kbytes }
    limit ln { rate 5/second; }
    limit lb { rate over 3 mbytes/hour burst 5 kbytes; }
    chain c { type filter hook input priority 0; }
    chain o { type filter hook output priority 0; }
    chain f { type filter hook forward priority 0; }
    chain pre { type filter hook prerouting priority -300; }
    chain post { type filter hook postrouting priority 0; }
    chain np { type nat hook prerouting priority -100; }
    chain no { type nat hook output priority -100; }
    chain ni { type nat hook input priority 100; }
    chain ns { type nat hook postrouting priority 100; }
    chain u { }
}
table ip t4 {
    chain c { type filter hook input priority 0; }
    chain ns { type nat hook postrouting priority 100; }
}
table ip6 t6 {
    chain c { type filter hook input priority 0; }
    chain ns { type nat hook postrouting priority 100; }
}
END
"""
LIST = "nft list ruleset; nft -j list ruleset; nft --debug=netlink list ruleset | grep -v element\n"
EXPRESSIONS = (
    *("c ct state new", "c ct state established,related,untracked accept", "c ct direction reply"),
    *(
        "c ct mark 5",
        "c ct mark set 5",
        "c ct mark set meta mark and 0xff",
        "c ct status snat,dnat",
    ),
    *("c ct status != assured", "c ct expiration 5s", "c ct original ip saddr 1.1.1.1"),
    *("c ct reply ip6 daddr fd00::/8", "c meta l4proto tcp ct original proto-dst 5-9"),
    *("c ct protocol 6", "c ct packets 5", "c ct original bytes > 5", "c ct reply avgpkt 5"),
    *("c ct zone 0", "c ct id 5", "c ct l3proto 2", "c meta mark set ct mark", 'c ct helper "ftp"'),
    *("pre notrack", "c reject", "c reject with icmpx type host-unreachable", "u reject"),
    *("c reject with icmp type host-unreachable", "c reject with icmpv6 type no-route"),
    *("c meta l4proto tcp reject with tcp reset", "post reject", "c reject with icmpx type 9"),
    *('c log prefix "x: " level debug flags all', "c log", "c log group 5", "c log level audit"),
    *("c log group 5 snaplen 9 queue-threshold 3", "c log flags tcp sequence,options"),
    *("c limit rate 5/second", "c limit rate over 5 kbytes/second burst 10 kbytes"),
    *("c limit rate 1/week burst 3 packets accept", "c limit rate 0/second", "c quota 100 bytes"),
    *("c quota over 100 bytes used 50 bytes drop", "c ct count 5", "c ct count over 5 reject"),
    *("ns masquerade", "ns masquerade random,persistent", "ns meta l4proto tcp masquerade to :5-9"),
    *("np meta l4proto tcp redirect to :80", "no redirect", "no redirect random", "c masquerade"),
    *("np dnat ip to 1.1.1.1", "np meta l4proto tcp dnat ip to 1.1.1.1:80-90", "ns redirect"),
    *("np dnat ip6 to fd00::1", "np meta l4proto udp dnat ip6 to [fd00::1]:53", "u masquerade"),
    *("ns snat ip to 1.1.1.1-1.1.1.9 persistent", "np snat ip to 1.1.1.1", "c dnat ip to 1.1.1.1"),
    "ns snat ip prefix to ip saddr map { 10.0.0.0/24 : 20.0.0.0/24 }",
    "np meta l4proto tcp dnat ip to tcp dport map { 80 : 10.0.0.1, 81 : 10.0.0.2 }",
    *(
        "c exthdr frag exists",
        "c frag id 5",
        "c rt type 0",
        "c hbh nexthdr 6",
        "c rt0 addr[1] fd00::1",
    ),
    *(
        "c tcp option maxseg size 5",
        "c tcp option maxseg size set 1000",
        "c tcp option timestamp exists",
    ),
    *("c reset tcp option sack-perm", "c ip option lsrr exists", "c ip option ra value 0"),
    *("f tcp flags syn tcp option maxseg size set rt mtu", "c tcp option sack left 1"),
    *("o rt ip nexthop 1.1.1.1", "o rt ip6 nexthop fd00::1", "o rt mtu 1500", "o rt ipsec exists"),
    *(
        "c rt mtu 1500",
        "c fib saddr oif 0",
        "c fib daddr type local",
        "c fib saddr . iif oif missing",
    ),
    *(
        'c fib daddr . mark oifname "lo"',
        "o fib daddr type != unicast",
        "post fib saddr . oif type local",
    ),
    *("o fib saddr oif 0", "c numgen inc mod 5 == 3", "c numgen random mod 5 offset 7 == 9"),
    *(
        "c meta mark set numgen inc mod 5 offset 2",
        "c jhash ip saddr . tcp dport mod 5 seed 0x7 == 3",
    ),
    *("c symhash mod 5 offset 3 == 4", "c jhash ip saddr mod 1 == 0", "c numgen inc mod 0 == 3"),
    *("c ip saddr != 1.1.1.1-1.1.1.9", "c udp sport 5-9", "c ct mark 5-9", "c meta mark != 3-4"),
    *("c counter name cn", "c quota name qn", 'c limit name "ln"', "c counter name nothere"),
    *("c counter name tcp dport map { 1 : cn, 2 : cn }", "c limit name lb drop"),
    *("c meta length 5-9", "c sctp chunk init exists", "c sctp chunk data tsn 5"),
    *("c flow add @f", "c ct timeout set nothere"),
)
FOURS = (
    *(
        "ip t4 c reject",
        "ip t4 c reject with icmp type net-prohibited",
        "ip t4 c ct original saddr 1.1.1.1",
    ),
    *(
        "ip t4 ns masquerade",
        "ip t4 ns snat to 1.1.1.1",
        "ip t4 c meta l4proto tcp reject with tcp reset",
    ),
    *("ip6 t6 c reject", "ip6 t6 c ct reply saddr fd00::1", "ip6 t6 ns snat to fd00::1-fd00::9"),
    *("ip6 t6 c fib saddr oif missing", "ip t4 c fib saddr . iif oif missing drop"),
)
DELETES = """
t list counters; t list quotas; t list limits; t -a list counter inet t cn; t reset counters
t delete counter inet t cn; t flush chain inet t c; t delete counter inet t cn
t add quota inet t qn 200 bytes; t add quota inet t qn '{ over 300 bytes; }'; t list quotas
t add counter inet t cn '{ packets 5 bytes 7; }'; t list counters; t reset counter inet t cn
t create counter inet t cn; t delete limit inet t ln; t delete limit inet t ln
t add ct helper inet t h '{ type "nosuch" protocol tcp; }'; t list counters
t delete table inet t; t list ruleset
"""
TRAFFIC = (
    *("c ct state new", "c ct state established", "c ct state related", "c ct state untracked"),
    *(
        "c ct direction reply",
        "c ct original ip saddr 127.0.0.1",
        "c meta l4proto udp ct original proto-dst 9",
    ),
    *("c ct status seen-reply", "c ct status confirmed", "c ct l3proto 2", "c ct protocol udp"),
    *("c ct original ip6 saddr ::1", "c ct reply ip6 saddr ::1", "c ct expiration 1s-1h"),
    *("c meta mark 7", "c ct mark 7", "c ct mark != 7", "c ct mark 5-9"),
    *("c ip saddr 127.0.0.0-127.0.0.1", "c udp dport 8-9", "c udp dport != 8-9"),
    *("c meta l4proto icmp limit rate 1/hour burst 2 packets", "c icmp type 8 quota 100 bytes"),
    *(
        "c icmp type 8 quota 168 bytes",
        "c icmp type 8 quota over 168 bytes",
        "c udp dport 9 quota name qn",
    ),
    *("c icmp type 8 limit rate over 100 bytes/hour burst 100 bytes", "c ip length 40-60"),
    *(
        "c tcp option maxseg size 1-65535",
        "c tcp option maxseg exists",
        "c tcp option timestamp exists",
    ),
    *("c tcp option sack-perm exists", "c tcp option maxseg size 600", "c ip option ra exists"),
    *("c fib daddr type local", "c fib saddr type unicast", "o fib daddr . oif type local"),
    *("c fib saddr . iif oif missing", "c fib saddr oif exists", 'c fib saddr oifname "lo"'),
    *("c numgen inc mod 3 == 0", "c numgen inc mod 3 offset 5 == 6", "c numgen random mod 1 == 0"),
    *(f"c jhash ip saddr . ip daddr mod 8 seed 0x5 == {n}" for n in range(8)),
    *(f"c jhash ip saddr mod 8 seed 0x12345 == {n}" for n in range(8)),
    *("c udp dport 9 counter name cn", "c counter name ip protocol map { 1 : cn, 6 : cn }"),
    *(
        "c udp dport 9 ct count 1",
        "c ct count over 2",
        "o rt ip nexthop 127.0.0.1",
        "o rt mtu 536",
    ),
    *(
        "c frag exists",
        "c hbh exists",
        "c ct packets 2-99",
        "c ct original packets 1",
        "c ct bytes 100-9999",
    ),
    *(
        "c udp dport 2000 limit name ln",
        "c ct id 0",
        "c ct avgpkt 50-999",
        "c ct zone 0",
        "c ct l3proto 10",
    ),
)
MEETS = (
    BASE
    + SENDS
    + """
ip -6 addr add fd00::1/128 dev lo nodad
r pre udp dport 11 notrack; r o udp dport 11 notrack; r o icmp type 8 meta mark set 7
r post meta mark 7 ct mark set meta mark; r o tcp flags syn tcp option maxseg size set 600
r o reset tcp option sack-perm
"""
    + "".join(f"r '{one} counter'\n" for one in TRAFFIC)
    + """ping -n -q -c 4 -i 0.2 127.0.0.1 > /dev/null; ping -n -q -c 2 -i 0.2 fd00::1 > /dev/null
sends <<'END'
udp(("127.0.0.1", 9)); udp(("127.0.0.1", 11)); udp(("fd00::1", 9), socket.AF_INET6)
refused(socket.SOCK_STREAM, ("127.0.0.1", 7))
echoed(("127.0.0.1", 2000), ("127.0.0.1", 2000))
END
nft list table inet t; nft reset counters; nft list counters; nft list quotas; nft reset quotas
nft list quotas; nft list limits
"""
)
REJECTS = (
    BASE
    + SENDS
    + """
ip -6 addr add fd00::1/128 dev lo nodad
for with in "" "with icmpx type no-route" "with icmpx type host-unreachable" \\
    "with icmpx type admin-prohibited" "with icmp type net-prohibited" \\
    "with icmp type prot-unreachable" \\
    "with icmpv6 type policy-fail" "with icmpv6 type addr-unreachable"; do
    r c udp dport 9 counter reject $with
    sends <<'END'
refused(socket.SOCK_DGRAM, ("127.0.0.1", 9))
refused(socket.SOCK_DGRAM, ("fd00::1", 9), socket.AF_INET6)
END
    nft list chain inet t c; nft flush chain inet t c
done
for chain in pre c o; do
    r $chain tcp dport 7 counter reject with tcp reset; r $chain udp dport 8 counter reject
    r $chain tcp dport 6 counter reject
    sends <<'END'
refused(socket.SOCK_STREAM, ("127.0.0.1", 7)); refused(socket.SOCK_DGRAM, ("127.0.0.1", 8))
refused(socket.SOCK_STREAM, ("fd00::1", 7), socket.AF_INET6)
refused(socket.SOCK_STREAM, ("127.0.0.1", 6))
refused(socket.SOCK_DGRAM, ("fd00::1", 8), socket.AF_INET6)
END
    nft list chain inet t $chain; nft flush chain inet t $chain
done
"""
)
NATS = (
    BASE
    + SENDS
    + """
ip addr add 10.9.0.1/32 dev lo; ip addr add 10.9.0.2/32 dev lo
ip -6 addr add fd00::1/128 dev lo nodad
ip route add 10.8.0.0/16 dev lo; ip -6 route add fd01::/64 dev lo
r no udp dport 53 counter redirect to :2000
r no ip daddr 10.8.0.0/16 tcp dport 80 counter dnat ip to 127.0.0.1:2001
r no ip daddr 10.8.0.5 udp dport 9 counter dnat ip to 10.9.0.2:2002
r ns ip daddr 10.9.0.2 counter snat ip to 10.9.0.1
r ni tcp dport 2003 counter snat ip to 10.9.0.2
r no ip6 daddr fd01::/64 meta l4proto tcp counter dnat ip6 to [fd00::1]:2001
r no meta l4proto udp counter dnat ip to udp dport map '{ 99 : 10.9.0.2 }'
r ns ip daddr 10.9.0.7 counter masquerade
sends <<'END'
echoed(("127.0.0.1", 2000), ("127.0.0.9", 53))
tcp(("127.0.0.1", 2001), ("10.8.7.6", 80))
echoed(("10.9.0.2", 2002), ("10.8.0.5", 9))
echoed(("10.9.0.2", 99), ("10.8.0.5", 99))
tcp(("127.0.0.1", 2003), ("127.0.0.1", 2003))
echoed(("::1", 2000), ("fd00::1", 53), socket.AF_INET6)
tcp(("fd00::1", 2001), ("fd01::7", 80), socket.AF_INET6)
END
nft list table inet t
conntrack -L 2>/dev/null |
    sed -E 's/^(\\S+ +[0-9]+) [0-9]+/\\1/; s/sport=[0-9]{5}|dport=[0-9]{5}//g' | sort
"""
)
OWNERS = (
    SENDS
    + """
nft -f - <<'END'
table inet t {
    chain o {
        type filter hook output priority 0
        meta skuid 0 counter
        meta skgid 0 counter
        tcp flags & (syn|ack) == syn|ack meta skuid 0 counter
        tcp flags & (syn|ack|psh|fin) == ack meta skuid 0 counter
        tcp flags & rst == rst meta skuid 0 counter
        icmp type != echo-request meta skuid 0 counter
        counter
    }
    chain post {
        type filter hook postrouting priority 0
        meta skuid 0 counter
        meta l4proto tcp iif 0 counter
        meta l4proto udp iif != 0 counter
    }
}
END
cat > $DIR/tcp.py <<'END'
import socket
server = socket.create_server(("127.0.0.1", 2000))
client = socket.create_connection(("127.0.0.1", 2000)); taken, _ = server.accept()
client.send(b"hello"); taken.recv(100); taken.send(b"hello"); client.recv(100)
END
python3 $DIR/tcp.py; ping -n -q -c 1 127.0.0.1 > /dev/null
sends <<'END'
refused(socket.SOCK_STREAM, ("127.0.0.1", 7)); refused(socket.SOCK_DGRAM, ("127.0.0.1", 8))
END
nft list table inet t
"""
)
ROWS = {
    "listing": Row(
        BASE
        + "".join(f"r '{one}'\n" for one in EXPRESSIONS)
        + "".join(f"t add rule '{one}'\n" for one in FOURS)
        + LIST
        + DELETES,
        tools=("nft",),
    ),
    "counters": Row(MEETS, tools=("nft", "ping")),
    "reject": Row(REJECTS, tools=("nft",)),
    "owners": Row(OWNERS, tools=("nft", "ping")),
    "NAT": Row(NATS, tools=("nft", "conntrack")),
}


@pytest.mark.parametrize("name", ROWS)
def test_nft_expressions_do_what_they_do_on_linux(peer: Peer, tmp_path: Path, name: str) -> None:
    both(peer, tmp_path, ROWS[name], {"net.netfilter.nf_conntrack_acct": 0})
