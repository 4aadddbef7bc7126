"""Debian's `tc` sets up and shows queueing disciplines on our hosts as it does in the kernel.

Each script of ROWS runs on a host and in a namespace of the kernel, on a veth with one queue. What
it prints, its statistics and its exit status are the same.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e1000emu.clock import RealClock
from stack.api.programs import spawn
from stack.host import Host
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
REFUSED = (r"(?m)^(Error: .*|RTNETLINK answers: .*|We have an error .*)\n", "")
HANDLES = (r"\b[89a-f][0-9a-f]{3}:", "AUTO:")
"""Linux counts the handles that it chooses, from 8000: on, over all namespaces."""
SEND = """python3 -c "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('10.0.0.1', 5000))
for n in range(5): s.sendto(bytes(100), ('10.0.0.2', 9))
"
"""
ROWS = {
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


@pytest.fixture
def peer() -> Iterator[Peer]:
    require.netns()
    with contextlib.closing(Peer()) as peer:
        peer.ip("link", "set", "lo", "up")
        yield peer


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
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with (
        contextlib.closing(RealClock().start()) as clock,
        Host("h", clock=clock) as host,
        spawn(host, ["sh", "-c", "\n".join(lines)], **pipes) as program,
    ):
        out, _ = program.communicate(timeout=120)
    told = [
        re.sub(r"qdisc (\w+) \w+: root refcnt 2", r"\1", line) for line in out.decode().splitlines()
    ]
    assert [line.strip() for line in told] == list(SHOWN)
