"""Debian's nft on our hosts and in a namespace of the kernel: it prints the same, packets meet it.

Each row is a script of the shell. Times that are left, and the numbers of processes are taken out.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.linux.peer import Peer
from tests.programs.nft_at_random import script
from tests.programs.test_iproute import Row, both

pytestmark = pytest.mark.netns

HANDLE = (r'("table": \{"family": "ip", "name": "\w+", "handle": )\d+', r"\1N")
"""Of a table; how often nft was asked whether it listens decides."""
TIMES = (
    (r"\"expires\": \d+", "expires"),
    (r"expires [\dhmsd]+", "expires N"),
    (r"by process \d+", "by process N"),
    HANDLE,
)
TABLES = """
nft add table ip t; nft add chain ip t a; nft add chain ip t b
nft add chain ip t base '{ type filter hook input priority 0; }'
"""
RULES = """
nft add table ip t; nft add table inet f; nft add table ip6 s
nft add chain inet f input '{ type filter hook input priority 0; policy drop; }'
nft add rule inet f input iif lo accept
nft add rule inet f input tcp dport 22 counter accept
nft add rule inet f input tcp dport '{ 80, 443, 8000-8010 }' counter accept
nft add rule inet f input ip saddr 10.0.0.0/8 udp dport 53 counter accept comment '"dns"'
nft add rule inet f input ip6 saddr fd00::/8 meta l4proto icmpv6 counter
nft insert rule inet f input position 4 meta mark 5 drop
nft add rule inet f input index 0 meta nfproto ipv4 counter
nft add chain inet f other; nft add rule inet f input jump other; nft add rule inet f other return
nft add rule inet f other goto nosuch; echo $?
nft delete chain inet f other; echo $?
nft add rule inet f input jump '{ ip saddr 1.1.1.1 accept; ip daddr 2.2.2.2 drop; }'
"""
SETS = """
nft add table inet f; nft add chain inet f input
nft add set inet f s1 '{ type ipv4_addr; flags interval;
    elements = { 10.0.0.1, 10.1.0.0/16, 192.168.1.5-192.168.1.9 } ; }'
nft add map inet f m1 '{ type inet_service : verdict; elements = { 22 : accept, 23 : drop };
    comment "the map" ; }'
nft add rule inet f input tcp dport vmap @m1; nft add rule inet f input ip saddr @s1 counter
nft add set inet f s2 '{ typeof ip saddr . tcp dport; flags timeout, dynamic; timeout 1h;
    size 100; }'
nft add rule inet f input update @s2 '{ ip saddr . tcp dport timeout 30m counter }' accept
nft add set inet f s3 '{ type ipv4_addr . inet_service; flags interval;
    elements = { 10.0.0.0/24 . 80-90, 1.2.3.4 . 5 } ; }'
nft add rule inet f input ip saddr . tcp dport @s3 counter; nft add chain inet f other
"""
ELEMENTS = """
nft get element inet f s1 '{ 10.1.2.3 }'; nft get element inet f s1 '{ 11.0.0.0 }'
nft get element inet f s1 '{ 192.168.1.6-192.168.1.7 }'
nft delete element inet f s1 '{ 10.0.0.1 }'; nft delete element inet f s1 '{ 10.0.0.1 }'
nft add element inet f s1 '{ 10.1.2.3 }'; nft list set inet f s1
nft add element inet f m1 '{ 24 : jump other }'; nft add element inet f m1 '{ 24 : accept }'
nft delete chain inet f other; nft list map inet f m1
nft create element inet f m1 '{ 22 : accept }'
nft flush set inet f s1; nft list set inet f s1; nft delete set inet f s1; echo $?
nft delete element inet f m1 '{ 24 : jump other }'; nft delete chain inet f other; echo $?
"""
KINDS = """
nft add table ip t
show() { nft list set ip t $1; nft -j list set ip t $1; }
nft add set ip t few '{ type ipv4_addr; size 2; }'
nft add element ip t few '{ 2.2.2.2, 2.2.2.3, 2.2.2.4 }'; show few
nft add set ip t fixed '{ type ipv4_addr; flags constant; elements = { 1.1.1.1 } ; }'
nft add element ip t fixed '{ 2.2.2.2 }'; nft add chain ip t c
nft add rule ip t c ip saddr @fixed; nft add element ip t fixed '{ 2.2.2.3 }'; show fixed
nft add set ip t pairs '{ type ipv4_addr . ipv4_addr; flags interval; auto-merge; }'
for one in 1.1.1.1-1.1.1.9 1.1.1.2-1.1.1.3 1.1.1.2-1.1.1.12; do
    nft add element ip t pairs "{ $one . 2.2.2.0/24 }"
done
nft get element ip t pairs '{ 1.1.1.5 . 2.2.2.5 }'; show pairs
nft delete element ip t pairs '{ 1.1.1.5 . 2.2.2.5 }'
nft delete element ip t pairs '{ 1.1.1.1-1.1.1.9 . 2.2.2.0/24 }'; show pairs
nft add set ip t merged '{ type ipv4_addr; flags interval; auto-merge;
    elements = { 1.0.0.0/24, 1.0.1.0/24, 1.0.2.5 } ; }'; show merged
nft add element ip t merged '{ 1.0.1.5-1.0.3.0 }'; show merged
nft delete element ip t merged '{ 1.0.0.5 }'; show merged
nft add set ip t rest '{ type ipv4_addr; elements = { 1.1.1.1, * } ; }'; show rest
nft delete element ip t rest '{ * }'; nft delete element ip t rest '{ * }'; show rest
nft add map ip t m '{ type ipv4_addr : verdict; elements = { 1.1.1.1 : drop, * : accept } ; }'
nft list map ip t m
nft add set ip t counts '{ type ipv4_addr; counter;
    elements = { 1.1.1.1, 2.2.2.2 counter packets 5 bytes 10 comment "abc" } ; }'; show counts
nft add set ip t names '{ type ifname; flags interval; elements = { "eth*", lo } ; }'; show names
nft add set ip t typed '{ typeof meta iifname . ip saddr; comment "nice"; policy memory; }'
show typed; nft add set ip t typed '{ type inet_proto; }'
nft add set ip t timed '{ type inet_proto; flags timeout; gc-interval 10s; timeout 5m; }'
show timed; nft add element ip t timed '{ tcp, udp timeout 1h comment "slow" }'; show timed
nft create set ip t few '{ type ipv4_addr; }'; nft list sets; nft list maps
"""
WRONG = f"""{TABLES}
nft -f - <<'X'
add rule ip t a counter
add rule ip t base jump a
add rule ip t a jump b
add rule ip t b jump a
add rule ip t nochain accept
add rule ip t base accept
X
nft -f - <<'X'
add rule ip t base jump a
add rule ip t a jump b
add rule ip t b jump a
add rule ip t base accept
X
nft -f - <<'X'
add chain ip t c
add rule ip t c accept
add rule ip t c tcp dport {{ 1, 2, 3 }} jump a
add map ip t m {{ type ipv4_addr : verdict; }}
add element ip t m {{ 1.1.1.1 : jump b }}
add rule ip t c ip saddr vmap @m
add rule ip nosuch c accept
delete chain ip t b
X
nft -a list ruleset
nft add map ip t m '{{ type ipv4_addr : verdict; }}'
nft add element ip t m '{{ 1.1.1.1 : jump b, 2.2.2.2 : accept }}'; nft delete chain ip t b
nft add rule ip t base ip saddr vmap @m; nft add element ip t m '{{ 3.3.3.3 : goto a }}'
nft add rule ip t a ip saddr vmap @m; nft add rule ip t a ip saddr vmap '{{ 9.9.9.9 : jump b }}'
nft add rule ip t b jump a; nft add rule ip t b jump base; nft delete map ip t m
nft delete element ip t m '{{ 9.9.9.9 : accept }}'; nft add element ip t m '{{ 2.2.2.2 : drop }}'
nft add rule ip t base meta pkttype set host; nft add rule ip t a meta pkttype set host
nft add rule ip t base position 99 accept; nft replace rule ip t base handle 99 accept
nft delete rule ip t base handle 99; nft insert rule ip t nosuch accept
nft list table ip nosuch; nft list chain ip t nosuch; nft list set ip t nosuch
nft flush chain ip t nosuch; nft delete table ip nosuch; nft delete chain ip t nosuch
nft create table ip t; nft create chain ip t a
nft add chain ip t x '{{ type nat hook forward priority 0; }}'
nft add chain ip t x '{{ type nat hook prerouting priority -300; }}'
nft add chain ip t x '{{ type nonono hook output priority 0; }}'
nft add chain ip t base '{{ type filter hook output priority 7; }}'
nft rename chain ip t a b; nft -a list ruleset; nft delete table ip handle 1; nft list ruleset
"""
FILE = """
nft -f - <<'X'
flush ruleset
table ip a {
    map m { type ipv4_addr : mark; elements = { 1.1.1.1 : 5 } }
    chain c {
        type filter hook output priority -150; policy accept;
        meta mark set ip daddr map @m
        ip ttl set 5
        ip dscp set cs1 counter
        tcp dport vmap { 1 : accept, 2-5 : drop, 7 : jump d }
    }
    chain d {
        meta priority set 1:2
    }
}
X
nft -a list ruleset; nft -n list ruleset; nft --debug=netlink list ruleset
nft delete rule ip a c handle 6; nft -a list chain ip a c; nft flush chain ip a c
nft list ruleset; nft flush table ip a; nft rename chain ip a d e
nft add chain ip a c '{ policy drop; }'; nft list chain ip a c; nft list chains; nft list tables
nft add table ip a '{ flags dormant; }'; nft list table ip a; nft add table ip a
nft list table ip a
nft -c add table ip not; nft list tables; nft list ruleset ip6; nft list flowtables
"""
MONITOR = """
begin() {
    : > $DIR/events; nft $1 monitor > $DIR/events 2>&1 & m=$!
    until grep -q probe $DIR/events; do
        kill -0 $m || exit 9; nft add table ip probe; nft delete table ip probe; sleep 0.05
    done
    nft add table ip begin; nft delete table ip begin
    until grep begin $DIR/events | grep -q delete; do sleep 0.05; done
}
end() {
    nft add table ip end; nft delete table ip end
    until grep '\\bend\\b' $DIR/events | grep -q delete; do sleep 0.05; done
    kill $m; wait $m 2>/dev/null
    sed '/begin/,$!d' $DIR/events | sed 's/new generation [0-9]*/new generation/'
}
"""
CHANGES = """
nft add table ip t; nft add chain ip t c '{ type filter hook input priority 5; policy drop; }'
nft add rule ip t c counter
nft add rule ip t c tcp dport '{ 1, 2 }' accept
nft insert rule ip t c ip saddr 1.2.3.4 drop comment '"x"'; nft add rule ip t c index 0 drop
nft replace rule ip t c handle 4 counter drop; nft -f - <<'X'
add chain ip t d
add rule ip t d accept
add rule ip t c jump d
X
nft add set ip t s '{ type ipv4_addr; timeout 1d; }'
nft add element ip t s '{ 1.1.1.1, 2.2.2.2 timeout 2h comment "c" }'
nft delete element ip t s '{ 1.1.1.1 }'
nft add set ip t i '{ type ipv4_addr; flags interval; elements = { 1.0.0.0/8 } ; }'
nft add element ip t i '{ 2.0.0.0-2.0.0.5 }'; nft delete element ip t i '{ 1.0.0.0/8 }'
nft add map ip t m '{ type inet_service : verdict; }'; nft add element ip t m '{ 1 : jump d }'
nft add rule ip t c tcp dport vmap @m; nft rename chain ip t d e; nft add counter ip t n
nft add chain ip t c '{ policy accept; }'; nft add table ip t '{ flags dormant; }'
nft flush set ip t s; nft flush chain ip t c; nft delete counter ip t n; nft delete map ip t m
nft delete chain ip t e; nft delete table ip t
"""
ECHO = """
nft -e -a add table ip t; nft -e -a add chain ip t c; nft -e -a add rule ip t c accept
nft -e -a insert rule ip t c tcp dport '{ 1, 2 }'; nft -e add set ip t s '{ type inet_service; }'
nft -e add element ip t s '{ 5, 6 }'; nft -e -j add rule ip t c drop
nft -e delete rule ip t c handle 2; nft -a list ruleset
"""
TALK = """
cat > $DIR/talk.py <<'X'
import socket, sys
for word in sys.argv[1:]:
    kind, _, port = word.partition(":")
    family, lo = (socket.AF_INET6, "::1") if kind == "6" else (socket.AF_INET, "127.0.0.1")
    if kind == "tcp":
        with socket.create_server((lo, int(port))), socket.socket(family) as client:
            client.settimeout(0.4)
            try:
                client.connect((lo, int(port)))
                print(word, "connected")
            except OSError as exc:
                print(word, type(exc).__name__)
        continue
    with socket.socket(family, 2) as sender, socket.socket(family, 2) as receiver:
        receiver.bind((lo, int(port)))
        receiver.settimeout(0.4)
        try:
            sender.sendto(b"hello", (lo, int(port)))
            data, source = receiver.recvfrom(99)
            print(word, data, source[1] if source[1] < 100 else "")
        except OSError as exc:
            print(word, type(exc).__name__)
X
talk() { python3 $DIR/talk.py "$@"; }
"""
TRAFFIC = f"""{TALK}
nft -f - <<'X'
table inet f {{
  set seen {{ type ipv4_addr . inet_service; flags dynamic, timeout; timeout 1h; size 3; }}
  map colours {{
    type inet_service : mark; flags interval; elements = {{ 5000-5005 : 7, 5006 : 9 }};
  }}
  set bad {{ type inet_service; flags interval; counter; elements = {{ 6000-6010, 6020 }}; }}
  chain out {{
    type filter hook output priority -150; policy accept;
    meta mark set udp dport map @colours
    meta l4proto udp ip dscp set cs1
    udp dport 5003 ip ttl set 7 counter
    udp dport 5004 udp sport set 99 counter
    meta l4proto udp ip6 hoplimit set 9
    oifname "lo" meta l4proto udp counter
    meta oif lo udp length 13 counter
  }}
  chain in {{
    type filter hook input priority 0; policy accept;
    update @seen {{ ip saddr . udp dport }} counter
    udp dport @bad drop
    meta mark 7 counter
    meta mark 9 counter
    ip ttl 7 counter
    ip dscp cs1 counter
    @th,64,40 0x68656c6c6f counter comment "hello"
    ip6 hoplimit 9 counter
    udp sport 99 counter
    tcp flags & (syn|ack) == syn counter
    tcp dport {{ 80, 81 }} drop
    tcp flags & (syn|ack) == syn tcp dport vmap {{ 82 : jump deep, 83 : goto deep, 84 : drop }}
    meta l4proto udp counter comment "end"
    iifname "lo" ip protocol udp ip saddr & 255.0.0.0 == 127.0.0.0 counter
  }}
  chain deep {{ counter; tcp dport 82 return; drop; }}
}}
X
talk udp:5000 udp:5003 udp:5004 udp:5006 udp:6000 udp:6011 udp:6020 6:5000 6:6005
talk tcp:80 tcp:82 tcp:83 tcp:84 tcp:85
nft list ruleset; nft get element inet f seen '{{ 127.0.0.1 . 5000 }}'
nft add chain inet f in '{{ policy drop; }}'; talk udp:5000
nft add table inet f '{{ flags dormant; }}'; talk udp:5000; nft add table inet f; talk udp:5000
nft delete table inet f; talk udp:5000
nft add table ip t; nft add chain ip t o '{{ type filter hook output priority 0; }}'
nft add rule ip t o udp dport 7 drop; talk udp:7 udp:8; nft delete chain ip t o; talk udp:8
"""
ORDER = """
nft -f - <<'X'
table ip t {
  chain older {
    type filter hook output priority 0
    meta mark set 1
  }
  chain newer {
    type filter hook output priority 0
    meta mark 1 counter
    meta mark 0 counter
  }
}
X
ping -qn -c 1 127.0.0.1 >/dev/null; nft list ruleset
"""
"""Of two chains of one priority the newer one comes first."""
BIG = r"""
python3 - > $DIR/rules <<'X'
print("table inet big {\nset s {\ntype ipv4_addr; flags interval; elements = {")
print(", ".join(f"10.{i >> 8}.{i & 255}.0-10.{i >> 8}.{i & 255}.7" for i in range(2000)))
print("}\n}\nchain c {")
for i in range(1000):
    print(f"ip saddr 10.0.{i & 255}.{i >> 8} tcp dport {i + 1} counter accept")
print("}\n}")
X
nft -f $DIR/rules; echo $?; nft list ruleset | md5sum; nft -a list ruleset | tail -3
nft add element inet big s '{ 10.0.0.5 }'; nft get element inet big s '{ 10.3.7.5 }'
nft flush ruleset; nft list ruleset
"""

ROWS = {
    "rules": Row(f"{RULES} nft -a list ruleset; nft -j list ruleset"),
    "sets and maps": Row(f"{SETS} nft -a list ruleset; nft -j list ruleset; {ELEMENTS}"),
    "kinds of sets": Row(KINDS),
    "what is refused": Row(WRONG),
    "files of rules": Row(FILE),
    "monitor": Row(f"{MONITOR} begin; {CHANGES} end; begin -j; {CHANGES} end"),
    "echo": Row(ECHO),
    "packets": Row(TRAFFIC),
    "chains of one priority": Row(ORDER),
    "a big file": Row(BIG),
}


@pytest.mark.parametrize("name", ROWS)
def test_nft_prints_what_it_prints_on_linux(peer: Peer, tmp_path: Path, name: str) -> None:
    both(peer, tmp_path, Row(ROWS[name].script, TIMES, ("nft",)), {"net.ipv4.ip_forward": 0})


@pytest.mark.parametrize("seed", range(4))
def test_commands_at_random_print_what_they_print_on_linux(
    peer: Peer, tmp_path: Path, seed: int
) -> None:
    both(peer, tmp_path, Row(script(seed, 100), TIMES, ("nft",)), {"net.ipv4.ip_forward": 0})
