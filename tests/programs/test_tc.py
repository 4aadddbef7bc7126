"""Debian's `tc` sets up and shows queueing disciplines on our hosts as it does in the kernel.

Each script of ROWS runs on a host and in a namespace of the kernel, on a veth with one queue. What
it prints, its statistics and its exit status are the same.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.hosts import real_host, run_script
from tests.linux.peer import Peer
from tests.programs.test_iproute import Row, both
from tests.support import require

pytestmark = pytest.mark.netns

VETH = """
ip link add v0 numtxqueues 1 address 02:00:00:00:00:01 type veth peer name v1
ip link set v1 address 02:00:00:00:00:02; ip link set v0 up; ip link set v1 up
ip addr add 10.0.0.1/24 dev v0
ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev v0
"""
REFUSED = (
    r"(?m)^(Error: .*|Warning: Unable to flush .*|RTNETLINK answers: .*|We have an error \
    .*)\n",
    "",
)
HANDLES = (r"\b[89a-f][0-9a-f]{3}:", "AUTO:")
"""Linux counts the handles that it chooses, from 8000: on, over all namespaces."""
SEND = """python3 -c "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('10.0.0.1', 5000))
for n in range(5): s.sendto(bytes(100), ('10.0.0.2', 9))
"
"""
TIMES = (r'"(installed|last_used|first_used)":\d+,|( ?(installed|used|firstused) \d+ sec)', "")
"""How long ago: not the same on both sides."""
OVERLIMITS = (r'(overlimits"?[ :])\d+', r"\1N")
"""A mirror counts one for each packet while the kernel brings the other interface up."""
CLSACT = f"""{VETH}
tc qdisc add dev v0 clsact
ip link add w0 numtxqueues 1 type veth peer name w1; ip link set w0 up; ip link set w1 up
"""
MIRROR = "action mirred egress mirror dev w0"


def frames(seed: int, count: int = 200) -> str:
    """A program that sends random frames out of v1, so that v0 receives them."""
    return f"""python3 -c "
import random, socket, struct
r = random.Random({seed})
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('v1', 0))
for n in range({count}):
    proto, ihl = r.choice((6, 17, 17, 1)), r.choice((5, 5, 5, 6, 8))
    data = struct.pack('>HHIIHHHH', r.choice((53, 80, 4000)), r.choice((53, 80, 4000)), n, 0,
        0x5002, 0, 0, 0) + bytes(r.randrange(40))
    ip = struct.pack('>BBHHHBBHBBBBBBBB', 0x40 | ihl, r.choice((0, 16, 184)),
        ihl * 4 + len(data), n, r.choice((0, 0, 0, 8192, 1)), r.randrange(1, 9), proto, 0,
        10, 0, r.randrange(3), r.randrange(4), 10, 0, r.randrange(3), r.randrange(4))
    kind = r.choice((0x0800, 0x0800, 0x0800, 0x86DD, 0x0806))
    frame = bytes.fromhex('020000000001020000000002') + struct.pack('>H', kind)
    s.send(frame + ip + bytes(ihl * 4 - 20) + data)
"
sleep 0.3
"""


U32 = f"""{CLSACT}
tc filter add dev v0 ingress protocol ip prio 10 u32 match ip src 10.0.1.0/24 {MIRROR}
tc filter add dev v0 ingress protocol ip prio 10 u32 match ip protocol 17 0xff match ip dport 53 \
    0xffff {MIRROR} pipe {MIRROR}
tc filter add dev v0 ingress protocol ip prio 11 u32 match u8 0x10 0xff at 1 match u16 80 0xffff \
    at 22 {MIRROR} continue
tc filter add dev v0 ingress protocol ip prio 12 handle 5: u32 divisor 4
tc filter add dev v0 ingress protocol ip prio 12 u32 ht 5:0: match ip dst 10.0.0.0/30 {MIRROR}
tc filter add dev v0 ingress protocol ip prio 12 u32 ht 5:1: match ip ttl 4 0xff {MIRROR}
tc filter add dev v0 ingress protocol ip prio 12 u32 ht 5:2: match tcp dst 80 0xffff {MIRROR}
tc filter add dev v0 ingress protocol ip prio 12 u32 ht 5:3: match udp src 53 0xffff {MIRROR}
tc filter add dev v0 ingress protocol ip prio 12 u32 match ip protocol 6 0xff link 5: hashkey \
    mask 3 at 16 offset at 0 mask 0x0f00 shift 6 eat
tc filter add dev v0 ingress protocol ip prio 12 u32 match ip protocol 17 0xff link 5: hashkey \
    mask 3 at 12 offset at 0 mask 0x0f00 shift 6 plus 0
tc filter add dev v0 ingress protocol all prio 13 u32 match u16 0x0806 0xffff at -2 {MIRROR}
tc filter add dev v0 ingress protocol ipv6 prio 14 u32 match u32 0 0 {MIRROR}
tc filter add dev v0 ingress protocol ip prio 15 u32 match u32 0 0 {MIRROR} goto chain 3
tc filter add dev v0 ingress chain 3 protocol ip prio 1 u32 match ip tos 184 0xff \
    {MIRROR} reclassify
tc filter add dev v0 ingress chain 3 protocol ip prio 2 u32 match ip firstfrag {MIRROR} drop
tc filter add dev v0 ingress chain 3 protocol ip prio 3 u32 match u32 0 0 {MIRROR} pass
"""
"""Filters of most forms; the statistics of their actions tell which matched."""
BPF = f"""{CLSACT}
tc filter add dev v0 ingress protocol all prio 1 bpf bytecode \
    '4,40 0 0 12,21 0 1 2054,6 0 0 4294967295,6 0 0 0,' flowid 1:1 {MIRROR}
tc filter add dev v0 ingress protocol ip prio 2 bpf bytecode \
    '4,48 0 0 23,21 0 1 17,6 0 0 65538,6 0 0 0,' {MIRROR} continue
tc filter add dev v0 ingress protocol ip prio 3 bpf da bytecode \
    '4,48 0 0 22,21 0 1 3,6 0 0 2,6 0 0 0,' flowid 1:3
tc filter add dev v0 ingress protocol ip prio 4 bpf bytecode '1,6 0 0 4294967295,' {MIRROR}
"""
ROWS = {
    "filters": Row(
        f"""{U32} tc filter show dev v0 ingress; {frames(1)}
        tc -s filter show dev v0 ingress; tc -s -j filter show dev v0 ingress
        tc filter add dev v0 ingress protocol ip prio 12 handle 5: u32 divisor 4; echo $?
        tc filter add dev v0 ingress protocol ip prio 12 u32 ht 6: match u32 0 0; echo $?
        tc filter add dev v0 ingress protocol ip prio 12 u32 ht 5:7: match u32 0 0; echo $?
        tc filter add dev v0 ingress protocol ip prio 12 u32 divisor 3; echo $?
        tc filter del dev v0 ingress protocol ip prio 12 handle 5: u32; echo $?
        tc filter del dev v0 ingress protocol ip prio 12 handle 800::800 u32; echo $?
        tc filter replace dev v0 ingress protocol ip prio 12 handle 5:1:800 u32 match u32 0 0 \
        flowid 1:1
        tc filter change dev v0 ingress protocol ip prio 12 handle 5:2:999 u32 match u32 0 0; \
        echo $?
        tc filter del dev v0 ingress protocol ip prio 13; echo $?
        tc filter del dev v0 ingress protocol ip prio 77; echo $?
        tc filter get dev v0 ingress protocol ip prio 12 handle 5:1:800 u32
        tc filter get dev v0 ingress protocol ip prio 12 handle 5:1:801 u32; echo $?
        tc filter show dev v0 ingress prio 12; tc filter show dev v0 ingress chain 3
        tc filter show dev v0 ingress protocol ipv6; tc chain show dev v0 ingress
        tc filter del dev v0 ingress chain 3; tc filter show dev v0 ingress
        tc filter del dev v0 ingress; tc filter show dev v0 ingress; tc -s qdisc show dev v0
        """,
        (REFUSED, HANDLES, TIMES, OVERLIMITS),
        ("tc", "ip"),
    ),
    "bpf": Row(
        f"""{BPF} tc filter show dev v0 ingress; {frames(2)} tc -s filter show dev v0 ingress
        tc filter replace dev v0 ingress protocol ip prio 4 handle 1 bpf bytecode '1,6 0 0 0,'
        tc filter add dev v0 ingress protocol ip prio 4 bpf bytecode '1,6 0 0 7,' classid 2:2
        tc filter add dev v0 ingress protocol ip prio 4 bpf bytecode '1,6 0 0,'; echo $?
        tc filter add dev v0 ingress protocol ip prio 4 bpf bytecode '1,255 0 0 1,'; echo $?
        tc filter show dev v0 ingress; tc filter del dev v0 ingress prio 4 handle 2 protocol ip bpf
        tc filter show dev v0 ingress; tc -s qdisc show dev v0
        """,
        (REFUSED, HANDLES, TIMES),
        ("tc", "ip"),
    ),
    "actions": Row(
        f"""{CLSACT}
        tc actions add action mirred egress mirror dev v1 index 9 cookie aabb; tc actions ls \
        action mirred
        tc actions add action mirred egress mirror dev v1 index 9; echo $?
        tc actions add action mirred egress redirect dev v1; tc actions ls action mirred
        tc actions replace action mirred ingress redirect dev w0 index 9
        tc -s -j actions get action mirred index 9; tc actions get action mirred index 8; echo $?
        tc filter add dev v0 egress protocol ip prio 1 u32 match u32 0 0 action mirred index 9
        tc filter show dev v0 egress; tc actions ls action mirred
        tc actions del action mirred index 9; echo $?; tc actions flush action mirred; echo $?
        tc filter del dev v0 egress; sleep 0.3; tc actions ls action mirred
        tc actions flush action mirred; echo $?; tc actions ls action mirred
        tc actions add action nosuchaction; echo $?; tc actions add action mirred egress mirror \
        dev no
        echo $?; tc actions flush action mirred; echo $?
        tc filter add dev v0 egress protocol ip prio 1 u32 match u32 0 0 action mirred egress \
        redirect dev w0
        {SEND} tc -s filter show dev v0 egress; ip -s link show w0 | grep -A1 TX; ip link del w0
        {SEND} tc -s filter show dev v0 egress
        """,
        (
            REFUSED,
            HANDLES,
            TIMES,
            (r"Command .*\n|mtu.*|Cannot find device.*\n|.*bad action.*\n", ""),
        ),
        ("tc", "ip"),
    ),
    "chains": Row(
        f"""{CLSACT} tc monitor >$0.monitor & M=$!
        mark() {{  # the monitor listens, or has told of all that was before
            until grep -qs "chain $1" $0.monitor; do
                tc chain add dev v0 ingress chain $1; tc chain del dev v0 ingress chain $1
                sleep 0.05
            done
        }}
        mark 4001
        tc chain show dev v0 ingress; tc chain add dev v0 ingress chain 9; tc chain show dev v0 \
        ingress
        tc chain add dev v0 ingress chain 9; echo $?; tc chain get dev v0 ingress chain 9
        tc chain get dev v0 ingress chain 8; echo $?; tc chain del dev v0 ingress chain 8; echo $?
        tc filter add dev v0 ingress protocol ip prio 5 u32 match ip dst 1.2.3.4 {MIRROR} goto \
        chain 33
        tc chain show dev v0 ingress; tc filter show dev v0 ingress
        tc filter add dev v0 ingress chain 33 protocol ip prio 5 u32 match u32 0 0
        tc chain show dev v0 ingress; tc chain del dev v0 ingress chain 33; echo $?
        tc chain show dev v0 ingress; tc filter del dev v0 ingress prio 5; tc chain show dev v0 \
        ingress
        tc filter add dev v0 egress nosuchkind; echo $?; tc filter add dev v1 ingress bpf; echo $?
        tc filter add dev v0 ingress protocol ip prio 5 u32 match u32 0 0
        tc filter add dev v0 ingress protocol ipv6 prio 5 u32 match u32 0 0; echo $?
        tc filter add dev v0 ingress protocol ip prio 5 bpf bytecode '1,6 0 0 0,'; echo $?
        tc filter del dev v0 ingress; tc chain del dev v0 ingress chain 9
        mark 4002; kill $M; grep -v 'chain 400[12]' $0.monitor
        """,
        (REFUSED, HANDLES, TIMES, (r".*(\[.*|bpf.*|Usage.*|Unknown.*)\n", "")),
        ("tc", "ip"),
    ),
    "ingress": Row(
        f"""{VETH}
        tc qdisc add dev v0 ingress; tc -s -j qdisc show dev v0
        tc qdisc add dev v0 ingress; echo $?; tc qdisc add dev v0 clsact; echo $?
        tc qdisc replace dev v0 clsact; echo $?; tc qdisc change dev v0 ingress; echo $?
        tc class show dev v0; tc class show dev v0 parent ffff:; tc filter show dev v0 egress
        tc filter add dev v0 parent ffff:fff2 protocol ip u32 match u32 0 0; tc filter show dev \
        v0 ingress
        tc qdisc del dev v0 clsact; echo $?
        tc qdisc del dev v0 ingress; tc qdisc show dev v0; tc qdisc del dev v0 ingress; echo $?
        tc filter add dev v0 ingress protocol ip u32 match u32 0 0; echo $?
        tc qdisc add dev v0 parent ffff:fff1 pfifo; echo $?
        tc qdisc add dev v0 handle 5: clsact; tc qdisc show dev v0; tc qdisc del dev v0 parent \
        ffff:fff1
        tc qdisc show dev v0; tc filter add dev v0 protocol ip u32 match u32 0 0; echo $?
        """,
        (REFUSED, HANDLES, (r"filter (ingress|parent AUTO:fff1|parent AUTO:) ", "filter ")),
        ("tc", "ip"),
    ),
    "classify": Row(
        f"""{VETH} tc qdisc add dev v0 root handle 1: htb default 30
        for n in 10 20 30; do tc class add dev v0 parent 1: classid 1:$n htb rate 1gbit; done
        tc class add dev v0 parent 1:20 classid 1:21 htb rate 1gbit
        tc class add dev v0 parent 1:20 classid 1:22 htb rate 1gbit
        tc filter add dev v0 parent 1: protocol ip prio 1 u32 match ip dport 9 0xffff match ip \
        ihl 5 0xf flowid 1:20
        tc filter add dev v0 parent 1: protocol ip prio 2 u32 match ip dport 10 0xffff flowid 1:10
        tc filter add dev v0 parent 1: protocol ip prio 3 u32 match ip dport 11 0xffff flowid 1:77
        tc filter add dev v0 parent 1: protocol ip prio 4 u32 match ip dport 12 0xffff flowid 1:0
        tc filter add dev v0 parent 1:20 protocol ip prio 1 u32 match u16 108 0xffff at 4 flowid \
        1:21
        tc filter add dev v0 parent 1:20 protocol ip prio 2 u32 match u16 4 4 at 2 flowid 1:22
        tc filter show dev v0; tc filter show dev v0 parent 1:20
        tc filter add dev v0 parent 1:77 protocol ip u32 match u32 0 0; echo $?
        tc filter add dev v0 parent 2: protocol ip u32 match u32 0 0; echo $?
        python3 -c "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('10.0.0.1', 5000))
for n in range(60): s.sendto(bytes(n), ('10.0.0.2', 9 + n % 5))
"
        tc -s class show dev v0 | grep -v tokens; tc -s qdisc show dev v0
        tc class del dev v0 classid 1:10; echo $?; tc filter del dev v0 parent 1: prio 2
        tc class del dev v0 classid 1:10; echo $?; tc class del dev v0 classid 1:21; echo $?
        tc filter del dev v0 parent 1:20; tc class del dev v0 classid 1:21; echo $?
        tc qdisc add dev v0 parent 1:30 handle 30: tbf rate 1mbit burst 3000 limit 10000
        tc filter add dev v0 parent 30: protocol ip u32 match u32 0 0; echo $?
        tc qdisc add dev v0 parent 30:1 handle 31: pfifo
        tc filter add dev v0 parent 31: protocol ip u32 match u32 0 0; echo $?
        """,
        (REFUSED, HANDLES, (r"(?m)^Warning: .*\n", "")),
        ("tc", "ip"),
    ),
    "stab": Row(
        f"""{VETH}
        tc qdisc add dev v0 root handle 1: stab overhead 20 linklayer atm mtu 2048 tsize 512 mpu \
        64 est 1sec 8sec htb default 10
        tc class add dev v0 parent 1: classid 1:10 est 1sec 8sec htb rate 100mbit
        {SEND} tc -s -d qdisc show dev v0; tc -s class show dev v0 | grep -v tokens
        tc -s -j class show dev v0 | grep -o rate.:0
        tc qdisc change dev v0 root handle 1: stab overhead 4 htb; tc -d qdisc show dev v0
        tc qdisc add dev v0 parent 1:10 handle 10: stab overhead 20 pfifo; echo $?
        tc qdisc replace dev v0 root stab overhead 30 tbf rate 1mbit burst 5000 limit 10000
        {SEND} tc -s -d qdisc show dev v0; tc qdisc del dev v0 root; tc -d qdisc show dev v0
        """,
        (REFUSED, HANDLES, (r"(?m)^Warning: .*\n", ""), (r"rate \d+bit \dpps", "")),
        ("tc", "ip"),
    ),
    "fifo": Row(
        f"""{VETH}
        tc qdisc show dev v0; tc qdisc show dev lo
        tc qdisc add dev v0 root pfifo limit 7; tc -s -j qdisc show dev v0
        tc qdisc add dev v0 root pfifo limit 8; echo $?
        tc qdisc change dev v0 root pfifo limit 9; tc qdisc show dev v0
        tc qdisc replace dev v0 root bfifo; tc qdisc show dev v0
        tc qdisc replace dev v0 root handle 7: pfifo_head_drop limit 3
        tc qdisc show; tc qdisc change dev v0 root bfifo limit 9; echo $?
        tc qdisc replace dev v0 root pfifo_fast; tc qdisc show dev v0
        {SEND} tc -s qdisc show dev v0
        tc qdisc del dev v0 root; tc qdisc show dev v0; tc qdisc del dev v0 root; echo $?
        """,
        (REFUSED, HANDLES),
        ("tc", "ip"),
    ),
    "tbf": Row(
        f"""{VETH}
        tc qdisc add dev v0 root handle 1: tbf rate 1mbit burst 3000 limit 10000
        tc -s -j qdisc show dev v0; tc class show dev v0; tc -s class show dev v0
        {SEND} tc -s -j qdisc show dev v0
        tc qdisc change dev v0 root tbf rate 20gbit burst 1mb latency 10ms overhead 20 mpu 64
        tc qdisc show dev v0; tc -d qdisc show dev v0
        tc qdisc replace dev v0 root tbf rate 1mbit burst 3000 limit 9000 peakrate 2mbit mtu 1600
        tc qdisc show dev v0
        tc qdisc add dev v0 root tbf rate 1mbit; echo $?
        tc qdisc change dev v0 root tbf rate 2mbit burst 3000 limit 9000 peakrate 1mbit mtu 1600
        echo $?
        tc qdisc add dev v0 parent 1:1 handle 10: pfifo limit 2; tc qdisc show dev v0
        tc class show dev v0; tc class add dev v0 parent 1: classid 1:2 tbf rate 1mbit; echo $?
        tc qdisc add dev v0 parent 1:1 handle 10: pfifo limit 3; echo $?
        tc qdisc change dev v0 parent 1:1 handle 10: pfifo limit 3; echo $?
        tc qdisc change dev v0 handle 10: pfifo limit 4; tc qdisc show dev v0
        tc qdisc add dev v0 parent 10:1 pfifo; echo $?
        tc qdisc add dev v0 parent 9:1 pfifo; echo $?
        tc qdisc del dev v0 parent 1:1; tc qdisc show dev v0
        tc qdisc del dev v0 root handle 3:; echo $?; tc qdisc del dev v0 root; tc qdisc show dev v0
        """,
        (REFUSED, HANDLES),
        ("tc", "ip"),
    ),
    "htb": Row(
        f"""{VETH}
        tc qdisc add dev v0 root handle 1: htb default 10 r2q 20
        tc class add dev v0 parent 1: classid 1:1 htb rate 10mbit burst 15k cburst 15k
        tc class add dev v0 parent 1:1 classid 1:10 htb rate 1mbit ceil 10mbit prio 3
        tc class add dev v0 parent 1:1 classid 1:20 htb rate 2mbit ceil 5mbit quantum 3000
        tc class add dev v0 parent 1:20 classid 1:21 htb rate 50gbit
        tc -s -d class show dev v0; tc -s qdisc show dev v0; tc qdisc show dev v0 invisible
        tc qdisc add dev v0 parent 1:10 handle 10: bfifo limit 5000
        tc qdisc add dev v0 parent 1:20 pfifo; echo $?
        {SEND} tc -s qdisc show dev v0; tc -s class show dev v0 | grep -v tokens
        tc class change dev v0 parent 1:1 classid 1:10 htb rate 3mbit; tc class show dev v0
        tc class add dev v0 parent 1:1 classid 1:10 htb rate 3mbit; echo $?
        tc class add dev v0 parent 1:9 classid 1:30 htb rate 3mbit; echo $?
        tc class add dev v0 parent 1:1 classid 2:30 htb rate 3mbit; echo $?
        tc class add dev v0 parent 1:1 classid 1:30 htb; echo $?
        tc class del dev v0 classid 1:1; echo $?; tc class del dev v0 classid 1:99; echo $?
        tc class del dev v0 classid 1:21; echo $?; tc class show dev v0
        tc class show dev v0 parent 1:1; tc class show dev v0 classid 1:10
        tc class show dev v0 root; tc qdisc del dev v0 root; tc class show dev v0
        """,
        (REFUSED, HANDLES, (r"(?m)^Warning: .*\n", "")),
        ("tc", "ip"),
    ),
    "where a filter is": Row(
        f"""{VETH}
        match='u32 match u32 0 0'
        tc qdisc add dev v0 ingress; tc filter show dev v0 egress
        tc filter add dev v0 ingress protocol ip pref 5 $match; tc filter show dev v0 egress
        tc filter show dev v0 ingress; tc filter add dev v0 parent ffff: protocol arp $match
        tc filter show dev v0 ingress; tc filter show dev v0 egress; tc filter show dev v0 root
        tc filter add dev v0 root protocol arp pref 9 $match; tc filter show dev v0 ingress
        tc filter add dev v0 ingress protocol arp pref 5 $match; tc filter show dev v0 egress
        """,
        (REFUSED,),
        ("ip", "tc"),
    ),
    "no queue": Row(
        f"""{VETH}
        ip link add b0 address 02:00:00:00:00:03 type bridge; ip link set b0 up
        ip link add i0 numtxqueues 1 address 02:00:00:00:00:05 type ifb; ip link set i0 up
        for d in v0 b0 i0; do
            tc qdisc add dev $d root handle 5: htb offload; echo $?
            for q in noqueue 'htb default 9'; do
                tc qdisc add dev $d root handle 5: $q; echo $?; tc qdisc show dev $d
                tc qdisc del dev $d root; echo $?; tc qdisc show dev $d
            done
        done
        ip link set i0 txqueuelen 0; tc qdisc add dev i0 root handle 5: pfifo_fast; echo $?
        ip link set i0 down; tc qdisc del dev i0 root; ip link set i0 up; tc qdisc show dev i0
        """,
        (REFUSED, (r"stat \d+", "stat N")),
        ("ip", "tc"),
    ),
    "errors": Row(
        f"""{VETH}
        for q in nosuchkind mq 'pfifo limit' 'handle 1:1 pfifo' 'handle ffff: pfifo' tbf; do
            tc qdisc add dev v0 root $q; echo $q $?
        done
        tc qdisc show dev v0; tc qdisc add dev nothere root pfifo; echo $?
        tc qdisc add dev v0 parent 1:2 pfifo; echo $?; tc qdisc del dev v0 parent 1:2; echo $?
        tc class show dev v0; tc class add dev v0 parent 1: classid 1:1 htb rate 1mbit; echo $?
        tc qdisc change dev v0 root pfifo; echo $?; tc class del dev v0 classid 1:1; echo $?
        """,
        (HANDLES, (r"Command line is not.*|Usage.*|.*\[.*\n", "")),
        ("tc", "ip"),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_as_on_linux(peer: Peer, tmp_path: Path, name: str) -> None:
    require.tool("tc", "iproute2")
    both(peer, tmp_path, ROWS[name], {"net.ipv6.conf.default.disable_ipv6": 1})


SHOWN = (
    "prio bands 4 priomap 0 1 2 3 0 1 2 3 0 1 2 3 0 1 2 3",
    "netem limit 1000 delay 10ms  2ms 25%",
    "netem limit 7 loss 1% 25%",
    "netem limit 1000 loss state p13 1% p31 90% p32 0.5% p23 100% p14 0%",
    "netem limit 1000 loss gemodel p 1% r 10% 1-h 70% 1-k 0.1%",
    "netem limit 1000 duplicate 1%",
    "netem limit 1000 delay 10ms reorder 25% 50% corrupt 0.1% gap 5",
    "netem limit 1000 rate 50Gbit packetoverhead 20 cellsize 100 celloverhead 5",
    "netem limit 1000 delay 20s slot 800us 1ms packets 4 bytes 1000",
    "netem limit 1000 delay 1ms slot distribution 1ms 100us",
    "netem limit 1000 loss 5% ecn",
    "codel limit 900p target 4ms interval 80ms ecn",
    "fq_codel limit 900p flows 64 quantum 600 target 4ms interval 80ms memory_limit 4Mb "
    "ecn drop_batch 7",
    "fq limit 900p flow_limit 50p buckets 256 orphan_mask 255 quantum 3000b initial_quantum 9000b "
    "maxrate 1Mbit low_rate_threshold 1Mbit refill_delay 30ms horizon 2s horizon_cap",
    "etf clockid TAI delta 300000 offload off deadline_mode on skip_sock_check off",
    "sfq limit 100p quantum 2000b depth 20 headdrop divisor 512 perturb 10sec",
    "red limit 60000b min 10000b max 30000b ecn",
)
"""What `tc` shows of disciplines that this machine's kernel may not have."""
WORDS = (
    (r"p13 | p31| p32| p23| p14|\bp | r | 1-h| 1-k|packetoverhead|cell\w+", " "),
    (r"slot distribution", "slot distribution normal"),
    (r"limit 1000 ", ""),
    (r"(\d)[pb]\b", r"\1"),
    (r"sec$", ""),
    (r"clockid TAI(.*) offload off deadline_mode on .*", r"clockid CLOCK_TAI\1 deadline_mode"),
    (r"^(red .*)", r"\1 avpkt 1000 burst 20 bandwidth 10mbit"),
)
"""What it shows and does not take."""


def said_on_a_host(lines: list[str]) -> str:
    """What a script of the shell prints on a host of ours."""
    with real_host() as host:
        return run_script(host, "\n".join(lines), stderr=subprocess.STDOUT)


def test_it_shows_what_it_set(tmp_path: Path) -> None:
    require.netns()
    require.tool("tc", "iproute2")
    lines = [VETH]
    for shown in SHOWN:
        words = shown
        for pattern, instead in WORDS:
            words = re.sub(pattern, instead, words)
        lines.append(
            f"tc qdisc add dev v0 root {words}; tc qdisc show dev v0; tc qdisc del dev v0 root"
        )
    out = said_on_a_host(lines)
    told = [re.sub(r"qdisc (\w+) \w+: root refcnt 2", r"\1", line) for line in out.splitlines()]
    assert [line.strip() for line in told] == list(SHOWN)


FILTERS = {
    "ip flower src_mac 00:01:02:03:04:05 dst_mac 00:01:02:00:00:00/24 ip_proto tcp "
    "src_ip 10.0.0.0/8 dst_ip 10.1.2.3 src_port 80 dst_port 1024/0xfc00 tcp_flags 0x2/0x12": (
        "handle 0x1 dst_mac 00:01:02:00:00:00/24 src_mac 00:01:02:03:04:05 eth_type ipv4 "
        "ip_proto tcp dst_ip 10.1.2.3 src_ip 10.0.0.0/8 dst_port 1024/0xfc00 src_port 80 "
        "tcp_flags 0x2/12 not_in_hw"
    ),
    "ip flower ip_proto udp ip_tos 0x10/0xf0 ip_ttl 64 dst_port 1000-2000 src_port 1-9": (
        "handle 0x1 eth_type ipv4 ip_proto udp ip_tos 16/0xf0 ip_ttl 64 dst_port 1000-2000 "
        "src_port 1-9 not_in_hw"
    ),
    "ip flower ip_proto icmp type 8 code 0 ip_flags nofrag": (
        "handle 0x1 eth_type ipv4 ip_proto icmp icmp_type 8 icmp_code 0 ip_flags nofrag not_in_hw"
    ),
    "802.1ad flower vlan_id 5 vlan_prio 2 vlan_ethtype 802.1q cvlan_id 6 cvlan_prio 3 "
    "cvlan_ethtype ip dst_ip 1.2.3.4": (
        "handle 0x1 vlan_id 5 vlan_prio 2 vlan_ethtype 802.1Q cvlan_id 6 cvlan_prio 3 "
        "cvlan_ethtype ip eth_type ipv4 dst_ip 1.2.3.4 not_in_hw"
    ),
    "arp flower arp_op reply arp_sip 10.0.0.1 arp_tip 10.0.0.0/8 arp_sha 00:01:02:03:04:05": (
        "handle 0x1 eth_type arp arp_sip 10.0.0.1 arp_tip 10.0.0.0/8 arp_op reply "
        "arp_sha 00:01:02:03:04:05 not_in_hw"
    ),
    "ipv6 flower src_ip 2001:db8::/32 dst_ip ::1 ip_proto icmpv6 type 128 code 0 classid 1:1": (
        "handle 0x1 classid 1:1 eth_type ipv6 ip_proto icmpv6 dst_ip ::1 src_ip 2001:db8::/32 "
        "icmp_type 128 icmp_code 0 not_in_hw"
    ),
    "ip matchall classid 1:7": "handle 0x1 flowid 1:7 not_in_hw",
    "ip handle 6 fw classid 1:1": "handle 0x6 classid 1:1",
    "ip basic classid 1:3": "handle 0x1 flowid 1:3",
    "ip u32 match mark 6 0xff match u32 0 0": (
        "fh 800: ht divisor 1 FILTER fh 800::800 order 2048 key ht 800 bkt 0 not_in_hw "
        "mark 0x0006 0x00ff (success 0) match 00000000/00000000 at 0"
    ),
    "ip u32 match u32 0 0 police rate 1mbit burst 10k drop flowid 1:1": (
        "fh 800: ht divisor 1 FILTER fh 800::800 order 2048 key ht 800 bkt 0 *flowid 1:1 "
        "not_in_hw match 00000000/00000000 at 0 police 0x1 rate 1Mbit burst 10Kb mtu 2Kb "
        "action drop overhead 0b ref 1 bind 1"
    ),
}
ACTIONS = {
    "drop random determ ok 3": "gact action drop random type determ pass val 3",
    "goto chain 5": "gact action goto chain 5 random type none pass val 0",
    "jump 2 random netrand drop 10": "gact action jump 2 random type netrand drop val 10",
    "vlan push id 5 protocol 802.1ad priority 3 pipe": (
        "vlan push id 5 protocol 802.1ad priority 3 pipe"
    ),
    "vlan modify id 7 continue": "vlan modify id 7 protocol 802.1Q continue",
    "vlan pop pass": "vlan pop pass",
    "skbedit priority 1:2 mark 4/0xff ptype otherhost pipe": (
        "skbedit priority 1:2 mark 4/0xff ptype otherhost pipe"
    ),
    "mirred ingress mirror dev v1": "mirred (Ingress Mirror to device v1) pipe",
    "police rate 1mbit burst 10k mtu 2k peakrate 2mbit conform-exceed pipe/drop": (
        "police 0x1 rate 1Mbit burst 10Kb mtu 2Kb peakrate 2Mbit action pipe/drop overhead 0b"
    ),
    "police pkts_rate 100 pkts_burst 10 drop": (
        "police 0x1 rate 0bit burst 0b mtu 4096Mb pkts_rate 100 pkts_burst 10 action drop "
        "overhead 0b"
    ),
    "pedit ex munge ip ttl set 9 munge eth dst add 00:00:00:00:00:01 pass": (
        "pedit action pass keys 3 index 1 ref 1 bind 1 key #0 at ipv4+8: val 09000000 mask "
        "00ffffff key #1 at eth+0: add 00000000 mask 00000000 key #2 at eth+4: add 00010000 mask "
        "0000ffff"
    ),
    "pedit munge offset 8 u8 set 5 pipe": (
        "pedit action pipe keys 1 index 1 ref 1 bind 1 key #0 at 8: val 05000000 mask 00ffffff"
    ),
}
"""What `tc filter` and `action` take, and what they show of it. The kernel here has few of them."""


def test_filters_and_actions_show_what_was_set(tmp_path: Path) -> None:
    require.netns()
    require.tool("tc", "iproute2")
    lines = [f"{VETH} tc qdisc add dev v0 clsact"]
    for words in (*FILTERS, *(f"ip matchall action {action}" for action in ACTIONS)):
        lines.append(
            f"tc filter add dev v0 ingress prio 1 protocol {words}; echo NEXT; "
            "tc filter show dev v0 ingress; tc filter del dev v0 ingress"
        )
    out = said_on_a_host(lines)
    start = r"filter protocol \S+ pref 1 \w+ chain 0"
    told = [" ".join(part.split()) for part in out.split("NEXT\n")][1:]
    told = [re.sub(start, "FILTER", part).removeprefix("FILTER FILTER ") for part in told]
    assert told[: len(FILTERS)] == list(FILTERS.values())
    shown = [part.removeprefix("handle 0x1 not_in_hw action order 1: ") for part in told]
    for got, want in zip(shown[len(FILTERS) :], ACTIONS.values(), strict=True):
        assert got.removesuffix(" index 1 ref 1 bind 1").removesuffix(" ref 1 bind 1") == want
