"""Random `tc` commands come to the same on a host as in the kernel, and so do their statistics.

GRAMMAR has the alternatives of each word, with weights. `script` expands them to the commands of
one seed, and to programs that send packets. After each command `tc` lists what there is. At the end
stands what `tc monitor` heard. Only kinds that a small kernel has are named.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tests.linux.peer import Peer
from tests.programs.test_iproute import Row, both
from tests.programs.test_tc import HANDLES, TIMES
from tests.support import require

pytestmark = pytest.mark.netns

Grammar = dict[str, dict[str, int]]

GRAMMAR: Grammar = {
    "command": {
        "tc qdisc {add} dev v0 {where} {qdisc}": 10,
        "tc qdisc {del} dev v0 {where}": 2,
        "tc qdisc {del} dev v0 {where} {handle}": 1,
        "tc qdisc del dev v0 {where} {kind}": 1,
        "tc qdisc change dev v0 handle {major}: {qdisc}": 1,
        "tc qdisc {add} dev v0 {hook} {ingress}": 3,
        "tc qdisc del dev v0 {ingress}": 1,
        "tc class {add} dev v0 {parent} classid {classid} {class}": 12,
        "tc class {add} dev v0 {parent} {class}": 1,
        "tc class {del} dev v0 {parent} classid {classid}": 1,
        "tc class {del} dev v0 classid {classid}": 3,
        "tc filter {add} dev v0 {place} {chain}{proto} {prio}{filter}": 10,
        "tc filter {del} dev v0 {place} {chain}{proto} {prio}{one}": 3,
        "tc filter {del} dev v0 {place} {chain}{prio}": 1,
        "tc filter del dev v0 {place}": 1,
        "tc filter get dev v0 {place} {chain}{proto} {prio}{one}": 2,
        "tc chain {chained} dev v0 {place} chain {number}": 2,
        "tc {show}": 2,
        "send {size} {count} {priority} {tos} {port}": 8,
        "frames {size} {count} {ethertype}": 3,
    },
    "add": {"add": 8, "replace": 3, "change": 2, "link": 0},
    "del": {"del": 6, "get": 1},
    "chained": {"add": 3, "del": 2, "get": 1},
    "major": {"1": 8, "2": 3, "10": 3, "20": 2, "7": 1, "ffff": 1, "0": 1},
    "minor": {"1": 4, "2": 3, "10": 4, "20": 4, "0": 1, "fff0": 1},
    "classid": {"1:{minor}": 12, "{major}:{minor}": 3, "{minor}": 1},
    "handle": {"handle {major}:": 10, "": 3, "handle {major}:{minor}": 1},
    "where": {"root {handle}": 8, "{parent} {handle}": 9, "{handle}": 1},
    "parent": {"parent {classid}": 8, "parent 1:": 5, "parent {major}:": 1, "root": 1},
    "hook": {"ingress": 1, "clsact": 1, "handle ffff: ingress": 1, "parent ffff:fff1": 1},
    "ingress": {"ingress": 2, "clsact": 2},
    "place": {
        "ingress": 5,
        "egress": 4,
        "parent 1:": 6,
        "parent {classid}": 3,
        "parent {major}:": 2,
        "parent ffff:fff3": 1,
        "root": 2,
    },
    "kind": {"pfifo": 2, "htb": 2, "tbf": 2, "clsact": 1, "nosuch": 1},
    "qdisc": {
        "htb {default}{r2q}": 10,
        "pfifo {limit}": 4,
        "bfifo {limit}": 3,
        "pfifo_head_drop {limit}": 3,
        "pfifo_fast": 1,
        "tbf rate {rate} burst {burst} {latency} {tbf}": 8,
        "tbf rate {rate}": 1,
        "noqueue": 1,
        "blackhole": 1,
        "mq": 1,
        "nosuch": 1,
        "stab {stab}htb {default}": 2,
        "stab {stab}{fifo}": 2,
        "": 1,
    },
    "fifo": {"pfifo": 1, "bfifo": 1},
    "default": {"default {minor}": 6, "": 2, "direct_qlen 3 ": 1},
    "r2q": {"": 6, " r2q {number}": 1},
    "limit": {"": 2, "limit {number}": 3, "limit {bytes}": 3},
    "number": {"0": 2, "1": 3, "2": 2, "3": 2, "100": 2, "4294967295": 1},
    "bytes": {"50": 1, "150": 3, "300": 3, "1600": 3, "10k": 3, "64kb": 1},
    "rate": {"8bit": 3, "40gbit": 6, "100gbit": 1, "0": 1},
    "burst": {"{bytes}": 8, "0": 1, "{bytes}/8": 1},
    "latency": {"limit {bytes}": 6, "latency 50ms": 3, "limit 0": 1, "": 1},
    "tbf": {
        "": 8,
        "peakrate {rate} mtu {bytes}": 3,
        "mpu 64 overhead 20": 2,
        "linklayer atm": 1,
    },
    "stab": {
        "overhead {number} ": 2,
        "linklayer atm ": 2,
        "linklayer ethernet overhead 20 mpu 64 mtu 2000 tsize 128 ": 1,
        "tsize 3 mtu 1 ": 1,
    },
    "class": {"htb {rates}{ceil}{bursts}{extra}": 12, "htb": 1, "tbf": 1, "nosuch": 1, "": 1},
    "rates": {"rate {rate}": 1},
    "ceil": {"": 3, " ceil {rate}": 2},
    "bursts": {"": 5, " burst {bytes}": 2, " burst {bytes} cburst {bytes}": 2, " cburst 0": 1},
    "extra": {"": 8, " prio {number}": 2, " quantum {bytes}": 2, " mpu 64 overhead 8": 1},
    "chain": {"": 8, "chain {number} ": 2},
    "proto": {
        "protocol ip": 8,
        "protocol all": 3,
        "protocol arp": 1,
        "protocol ipv6": 1,
        "protocol 802.1q": 1,
        "": 1,
    },
    "prio": {"prio 1 ": 4, "prio 2 ": 3, "prio 49152 ": 1, "": 2, "prio 0 ": 1},
    "filter": {
        "u32 {match} {matches}{flow}{act}": 10,
        "{fh} u32 {match} {flow}{act}": 3,
        "handle {ht}: u32 divisor {divisor}": 3,
        "u32 ht {ht}:{bucket}: {match} {flow}{act}": 3,
        "u32 {match} {link}{matches}{flow}": 2,
        "bpf {direct}bytecode '{program}' {flow}{act}": 4,
        "{bh} bpf bytecode '{program}' {flow}{act}": 1,
        "u32": 1,
        "bpf": 1,
        "nosuch": 1,
        "": 1,
    },
    "one": {"": 2, "{fh} u32": 4, "{bh} bpf": 2, "handle {ht}: u32": 2, "u32": 1, "bpf": 1},
    "fh": {
        "handle 800::800": 4,
        "handle 800::801": 2,
        "handle {ht}:{bucket}:800": 2,
        "handle ::1": 1,
        "handle 801::800": 1,
    },
    "bh": {"handle 1": 3, "handle 2": 2, "handle 0x80000000": 1},
    "ht": {"5": 4, "6": 2, "800": 1, "801": 1},
    "bucket": {"0": 2, "1": 2, "3": 1},
    "divisor": {"1": 1, "4": 3, "256": 1, "3": 1, "512": 1},
    "link": {"link {ht}: hashkey mask 0x3 at 16 ": 4, "link {ht}: ": 1, "link {ht}:1: ": 1},
    "match": {
        "match u32 0 0": 4,
        "match ip dport {port} 0xffff": 3,
        "match ip tos {tos} 0xff": 2,
        "match ip dst 10.0.0.{number}": 1,
        "match u8 {number} 0xff at {at}": 1,
        "match u16 0x0806 0xffff at -2": 1,
        "match ip protocol 17 0xff": 2,
    },
    "matches": {"": 4, "{match} ": 1},
    "at": {"0": 1, "9": 2, "-14": 1, "400": 1},
    "flow": {"": 2, "flowid {classid} ": 6, "classid {classid} ": 1, "skip_sw ": 1, "skip_hw ": 1},
    "act": {
        "": 6,
        "action mirred {side} mirror dev {dev} {control}": 3,
        "action mirred {side} redirect dev {dev}": 2,
        "action mirred index {number}": 1,
        "action mirred egress mirror dev w0 pipe action mirred ingress mirror dev w0": 1,
    },
    "side": {"egress": 2, "ingress": 1},
    "dev": {"w0": 8, "none": 1},
    "control": {"": 4, "pipe": 1, "continue": 1, "drop": 1, "goto chain {number}": 2, "pass": 1},
    "direct": {"": 3, "da ": 1},
    "program": {
        "1,6 0 0 4294967295,": 3,
        "1,6 0 0 0,": 1,
        "1,6 0 0 65546,": 2,
        "4,48 0 0 1,21 0 1 16,6 0 0 4294967295,6 0 0 0,": 2,
        "1,6 0 0 2,": 1,
        "1,255 0 0 1,": 1,
    },
    "show": {
        "qdisc show dev v0 {where}": 1,
        "-j -s -d qdisc show dev v0": 2,
        "-j -s -d class show dev v0": 2,
        "-j -s -d filter show dev v0 {place}": 2,
        "qdisc show dev v0 invisible": 1,
        "class show dev v0 {parent}": 1,
        "class show dev v0 classid {classid}": 1,
        "filter show dev v0 {place} {chain}{proto} {prio}": 2,
        "-s -d filter show dev v0 {place} prio 2": 1,
        "chain show dev v0 {place}": 1,
        "actions ls action mirred": 1,
        "-g class show dev v0": 1,
    },
    "size": {"0": 1, "72": 3, "100": 4, "400": 2, "1400": 1},
    "count": {"1": 2, "3": 3, "9": 1},
    "priority": {"0": 6, "1": 1, "6": 1, "0x10001": 2, "0x10010": 2, "0x10000": 1, "0x20002": 1},
    "tos": {"0": 4, "16": 2, "184": 1},
    "port": {"9": 4, "53": 2},
    "ethertype": {"0x0800": 4, "0x0806": 1, "0x86dd": 1},
}
"""Weighted alternatives of each word; a word in braces is expanded in its turn."""

START = """
ip link add v0 numtxqueues 1 address 02:00:00:00:00:01 type veth peer name v1
ip link set v1 address 02:00:00:00:00:02; ip link set v0 up; ip link set v1 up
ip addr add 10.0.0.1/24 dev v0; ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev v0
ip link add w0 numtxqueues 1 address 02:00:00:00:00:03 type veth peer name w1
ip link set w1 address 02:00:00:00:00:04; ip link set w0 up; ip link set w1 up
send() { python3 -S -c "
import socket, sys
size, count, priority, tos, port = (int(word, 0) for word in sys.argv[1:])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('10.0.0.1', 5000))
s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
s.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, priority)
for n in range(count):
    try: s.sendto(bytes(size), ('10.0.0.2', port))
    except OSError as error: print(error)
" $@; }
frames() { python3 -S -c "
import socket, sys
size, count, proto = (int(word, 0) for word in sys.argv[1:])
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('v1', 0))
ip = bytes.fromhex('450000280000000040110000 0a000002 0a000064 0035000900140000')
for n in range(count):
    s.send(bytes.fromhex('020000000001020000000002') + proto.to_bytes(2, 'big') + ip + bytes(size))
" $@; }
list() {
    echo LIST; tc -s -d qdisc show dev v0; echo LIST; tc -s -d class show dev v0
    for place in 'parent 1:' 'parent 1:1' ingress egress; do
        echo LIST $place; tc -s -d filter show dev v0 $place
    done
}
tc monitor >$DIR/monitor & M=$!
mark() {
    tc qdisc add dev w0 ingress
    until grep -qs "chain $1" $DIR/monitor; do
        tc chain add dev w0 ingress chain $1; tc chain del dev w0 ingress chain $1; sleep 0.05
    done
    tc qdisc del dev w0 ingress
}
mark 4001
"""
END = "mark 4002; kill $M; grep -v 'chain 400[12]\\|dev w0 parent ffff:' $DIR/monitor\n"
RULES = (
    HANDLES,
    (r"class [89A-F][0-9A-F]{3}(\w{4}) is", r"class AUTO\1 is"),
    TIMES,
    (r"(?m)^ *tokens: .*\n", ""),
    (r'"c?tokens":-?\d+,?', ""),
)


def expand(r: random.Random, word: str) -> str:
    """One of the alternatives of a word, with the words in it expanded."""
    choices = GRAMMAR[word]
    text = r.choices([*choices], [*choices.values()])[0]
    return re.sub(r"\{(\w+)\}", lambda found: expand(r, found[1]), text)


def script(seed: int, count: int = 60) -> str:
    """The shell script of a seed."""
    r = random.Random(seed)
    lines = []
    if r.random() < 0.7:
        lines += ["tc qdisc add dev v0 root handle 1: htb default 10"]
        lines += ["tc class add dev v0 parent 1: classid 1:1 htb rate 40gbit"]
        lines += ["tc class add dev v0 parent 1:1 classid 1:10 htb rate 40gbit"]
    if r.random() < 0.6:
        lines += ["tc qdisc add dev v0 clsact"]
    lines += [" ".join(expand(r, "command").split()) for _ in range(count)]
    said = (f'echo "\n$ {line}"; {line}; echo "= $?"; list' for line in lines)
    return START + "\n".join(said) + "\n" + END


SEEDS = (10, 66, 82, 123, 163, 309)
"""Each of them found something once."""


@pytest.mark.parametrize("seed", SEEDS)
def test_commands_come_to_the_same(peer: Peer, tmp_path: Path, seed: int) -> None:
    require.tool("tc", "iproute2")
    row = Row(script(seed), RULES, ("ip",))
    both(peer, tmp_path, row, {"net.ipv6.conf.default.disable_ipv6": 1})
