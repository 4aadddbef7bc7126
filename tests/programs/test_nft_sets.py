"""What ends with sets, elements, rules and tables of nft, on our hosts and in a namespace of the
kernel: uses of chains and objects, connection tracking, hooks. And attributes that nft never sends.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.linux.peer import Peer
from tests.programs.test_iproute import Row, both

pytestmark = pytest.mark.netns

BEGIN = """
t() { nft "$@" 2>&1; echo "$* : $?"; }
sends() { python3 -c "
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.bind(('127.0.0.1', 5000))
    for port in $1,:
        s.sendto(b'hello', ('127.0.0.1', port))
"; }
tracked() { sends 9; conntrack -L 2>/dev/null | grep -c dport; conntrack -F 2>/dev/null; }
nft add table ip t; nft add chain ip t gone
nft add chain ip t o '{ type filter hook output priority 0; }'
nft add chain ip t i '{ type filter hook input priority 0; }'
nft add chain ip t p '{ type filter hook prerouting priority 0; }'
"""
EXPIRED = f"""{BEGIN}
t add map ip t m '{{ type ipv4_addr : verdict; flags timeout; }}'
t add element ip t m '{{ 1.1.1.1 timeout 100ms : jump gone }}'; t delete chain ip t gone
t add map ip t n '{{ type ipv4_addr : counter; flags timeout; }}'; t add counter ip t c
t add element ip t n '{{ 1.1.1.1 timeout 100ms : "c" }}'; t delete counter ip t c
sleep 3  # the kernel collects once a second
t delete chain ip t gone; t delete counter ip t c
"""
CHANGED = f"""{BEGIN}
t add set ip t a '{{ type ipv4_addr; flags dynamic; }}'
t add rule ip t o udp dport 9 add @a '{{ ip daddr quota 1000 bytes used 300 bytes }}'
t add set ip t b '{{ type ipv4_addr; flags dynamic; }}'
t add rule ip t o udp dport 10 delete @b '{{ ip daddr }}' counter
t add rule ip t o udp dport 9 add @b '{{ ip daddr }}' counter
t add rule ip t o udp dport 11 delete @b '{{ ip daddr }}' counter
t add set ip t c '{{ type inet_service; flags dynamic,timeout; }}'
t add element ip t c '{{ 9, 10 timeout 2h, 11 timeout 1d }}'
t add rule ip t o update @c '{{ udp dport timeout 1h }}' counter
t add rule ip t o update @c '{{ udp sport }}'; t add rule ip t o update @c '{{ udp length }}'
t add rule ip t p udp dport 9 meta pkttype set 5; t add rule ip t p meta pkttype 5 counter
t add rule ip t p udp dport 10 meta pkttype set 3; t add rule ip t p meta pkttype 3 counter
t add rule ip t o tcp option maxseg size set 1000 counter
sends 9,9,10,9,11; nft list ruleset
"""
TRACKS = f"""{BEGIN}
tracked; t add set ip t a '{{ type ipv4_addr; flags dynamic; }}'
t add rule ip t o add @a '{{ ip daddr ct count over 2 }}'; tracked
t flush chain ip t o; t delete set ip t a; tracked
t add set ip t b '{{ type ipv4_addr; ct count 3; }}'; tracked
t add element ip t b '{{ 127.0.0.1, 127.0.0.2 ct count 9 }}'; t list set ip t b
t delete set ip t b; tracked
t add set ip t c '{{ type ipv4_addr; flags dynamic,timeout; timeout 5s; ct count 3; }}'
t add set ip t c '{{ type ipv4_addr; flags dynamic,timeout; timeout 5s; }}'
t add rule ip t o add @c '{{ ip daddr ct count over 2 }}'
for how in 'flags interval' 'size 9' 'size 9; flags dynamic'; do
    t add set ip t d "{{ type ipv4_addr; $how; ct count 3; }}"; t delete set ip t d
done
t add set ip t e '{{ type ipv4_addr; flags constant; elements = {{ 1.1.1.1 }} ; }}'
t add rule ip t o add @e '{{ ip daddr }}'
t add set ip t f '{{ type ipv4_addr; flags constant,dynamic; }}'
t add rule ip t o add @f '{{ ip daddr }}'; tracked
t add set ip t g '{{ type ipv4_addr; flags dynamic; }}'
t add rule ip t o add @g '{{ ip daddr ct count over 2 }}'; tracked; nft delete table ip t; tracked
"""
OWNED = """
nft -f - <<'END'
table inet o {
    flags owner
    set s { type ipv4_addr; flags dynamic; }
    chain c {
        type filter hook output priority 0; policy drop
        ct state new add @s { ip daddr ct count 2 }
    }
}
END
echo $?; nft list ruleset; ping -n -q -c 1 -W 1 127.0.0.1 | grep -c ' 0% packet loss'
conntrack -L 2>/dev/null | grep -c src
(sleep 1; nft -f - <<'END'
table inet q {
    flags owner
    chain c { type filter hook output priority 0; policy accept; counter; }
}
END
) &
timeout 3 nft monitor
"""
RAW = r"""
cat > $DIR/raw.py <<'END'
import errno, os, socket, struct
s = socket.socket(16, 3, 12)
s.bind((0, 0))
s.settimeout(3)

def attr(kind, *data):
    data = b"".join(data)
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) & 3)

def be(value):
    return struct.pack(">I", value)

def msg(kind, flags, *attrs, family=2):
    whole = struct.pack(">BBH", family, 0, 0) + b"".join(attrs)
    return struct.pack("=IHHII", 16 + len(whole), 10 << 8 | kind, flags, 1, 0) + whole

def batch(message):
    begin, end = (struct.pack("=IHHII4s", 20, kind, 1, 1, 0, b"\0\0\0\n") for kind in (16, 17))
    s.send(begin + message + end)
    data = s.recv(1 << 16)
    wrong = -struct.unpack_from("=i", data, 16)[0]
    return errno.errorcode.get(wrong, wrong)

def attributes(data):
    found, at = {}, 0
    while len(data) - at >= 4:
        size, kind = struct.unpack_from("=HH", data, at)
        found[kind & 0x3FFF] = data[at + 4 : at + size]
        at += size + 3 & ~3
    return found

def table(name):
    with socket.socket(16, 3, 12) as asks:
        asks.send(msg(1, 1, attr(1, name)))
        return attributes(asks.recv(1 << 16)[20:])

def expr(name, *data):
    return attr(1, attr(1, name), attr(2, *data))

def rule(*exprs, family=2):
    return batch(msg(6, 0xC05, attr(1, b"t\0"), attr(2, b"c\0"), attr(4, *exprs), family=family))

def payload(size):
    return expr(b"payload\0", attr(1, be(1)), attr(2, be(1)), attr(3, be(0)), attr(4, be(size)))

def compared(value):
    return expr(b"cmp\0", attr(1, be(1)), attr(2, be(0)), attr(3, value))

def ranged(value):
    return expr(b"range\0", attr(1, be(1)), attr(2, be(0)), attr(3, value), attr(4, value))

for family in "ip", "inet":
    os.system(f"nft 'add table {family} t; add chain {family} t c; add chain {family} t d'")
os.system("nft 'add counter ip t x; add set ip t s { type ipv4_addr; flags dynamic; }'")
for command in (
    "add rule ip t c ip saddr { 1.1.1.1, 2.2.2.2 } drop", "add rule ip t c jump { accept; }",
    "flush chain ip t c", "delete counter ip t x",
):
    os.system(f"nft '{command}'")
    print(command, table(b"t\0")[3].hex())
for size in 4, 16, 17, 64, 65:
    value = attr(1, bytes(size))
    bits = expr(b"bitwise\0", *(attr(n, be(v)) for n, v in ((1, 1), (2, 1), (3, size))),
        attr(4, value), attr(5, value))
    first = payload(min(size, 64))
    print(size, rule(first, compared(value)), rule(first, bits), rule(first, ranged(value)),
        rule(expr(b"immediate\0", attr(1, be(1)), attr(2, value))))
verdict = attr(2, attr(1, struct.pack(">i", -3)), attr(2, b"d\0"))
print(rule(payload(4), compared(verdict)), rule(payload(4), ranged(verdict)))
os.system("nft delete chain ip t d; echo $?; nft flush chain ip t c")
for flags in 0, 1, 2:
    rule(payload(4), expr(b"dynset\0", attr(1, b"s\0"), attr(3, be(0)), attr(4, be(1)),
        attr(9, be(flags))))
with socket.socket(16, 3, 12) as asks:
    asks.send(msg(7, 0x301, attr(1, b"t\0"), attr(2, b"c\0")))
    print(*(part[:50].hex() for part in asks.recv(1 << 16).split(b"dynset")[1:]), sep="\n")
for family in 0, 1, 2, 3, 7, 10, 99:
    nat = attr(1, be(0)), attr(2, be(family))
    print("nat", family, *(rule(payload(4), expr(b"nat\0", *nat, *more), family=1)
        for more in ((), (attr(3, be(1)),), (attr(5, be(1)),))))
print(batch(msg(0, 0x405, attr(1, b"own\0"), attr(2, be(6)))))  # NFT_TABLE_F_OWNER, _PERSIST
print(table(b"own\0")[2].hex(), os.system("nft add chain ip own d"))
s.close()
print(table(b"own\0")[2].hex(), os.system("nft add chain ip own d"))
END
python3 $DIR/raw.py 2>&1
"""
ROWS = {
    "expired elements": Row(EXPIRED, tools=("nft",)),
    "changed by rules": Row(CHANGED, ((r"expires [\dhms]+", "expires N"),), ("nft",)),
    "connection tracking": Row(TRACKS, tools=("nft", "conntrack")),
    "owned tables": Row(OWNED, ((r"by process.*", ""),), ("nft", "conntrack", "ping")),
    "what nft never sends": Row(RAW, tools=("nft",)),
}


@pytest.mark.parametrize("name", ROWS)
def test_what_ends(peer: Peer, tmp_path: Path, name: str) -> None:
    both(peer, tmp_path, ROWS[name], {"net.ipv4.ip_forward": 0})
