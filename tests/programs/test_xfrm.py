"""Debian's `ip xfrm` on a host of ours, and in a namespace of the kernel.

The kernel of this machine has policies, but no ESP. So states are compared where it refuses them
before it looks for ESP, and otherwise with what ip(8) should print.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.hosts import real_host, run_script
from tests.linux.peer import Peer
from tests.programs.test_iproute import Row, both
from tests.support import require

OUT = "src 10.0.0.0/24 dst 10.1.0.0/24 dir out"
IN = "src 10.1.0.0/24 dst 10.0.0.0/24 dir in"
FWD = "src fd00::/64 dst fd01::/64 proto tcp sport 80 dir fwd"
TMPL = "tmpl src 192.0.2.1 dst 192.0.2.2 proto esp"
ID = "src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x101"
SA = f"ip xfrm state add {ID} mode"
SPI = "ip xfrm state allocspi src 10.0.0.1 dst 10.0.0.2"
GCM = "aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0f10111213 128"
NULL = "enc cipher_null ''"
SCRIPT = f"""
exec 2>&1
ip xfrm policy add {OUT} priority 5 {TMPL} reqid 7 mode tunnel
ip xfrm policy add {IN} {TMPL} reqid 7 mode transport
ip xfrm policy add {FWD} action block
ip xfrm policy add {FWD} action block
ip xfrm policy update {IN} priority 9
ip xfrm policy; ip -s xfrm policy; ip -d xfrm policy
ip xfrm policy count; ip -s xfrm policy count; ip -s xfrm state count
ip xfrm policy get {IN}; ip xfrm policy get index 1 dir out; ip xfrm policy get index 1 dir in
ip xfrm policy delete {IN}; ip xfrm policy delete {IN}; ip xfrm policy get {IN}
ip xfrm policy add {OUT} {TMPL} mode tunnel level use
ip xfrm policy add src fd00::/64 dst 10.0.0.0/8 dir in; echo $?
ip xfrm policy add {IN} tmpl src fd00::1 dst fd00::2 proto esp mode transport
ip xfrm policy add {IN} {" ".join([TMPL + " mode tunnel"] * 7)}
ip xfrm policy getdefault; ip xfrm policy setdefault in block fwd accept; ip xfrm policy getdefault
ip xfrm policy setdefault in accept
ip xfrm state get {ID}
ip xfrm state delete {ID}
{SPI} proto esp mode transport reqid 9 min 0x100 max 0x100
{SPI} proto comp min 1 max 0x10000; {SPI} proto esp min 5 max 4; {SPI} proto hao min 1 max 2
ip xfrm state allocspi src fd00::1 dst fd00::2 proto ah mode tunnel reqid 5 seq 9 min 7 max 7
ip xfrm state count; ip xfrm state; ip xfrm state get src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x100
{SPI} proto esp mode transport reqid 9 min 0x100 max 0x100; ip xfrm state flush
{SA} transport aead nix 0x0102 128
{SA} transport enc nix 0x0102
{SA} transport auth nix 0x0102 {NULL}
{SA} transport auth-trunc 'hmac(sha256)' 0x0102 500 {NULL}
{SA} transport tfcpad 5 {NULL}
ip xfrm state; ip xfrm state flush; ip xfrm policy flush; ip xfrm policy
cat /proc/net/xfrm_stat
"""

STATES = f"""
exec 2>&1
{SA} tunnel {GCM} reqid 7 replay-window 32 limit packet-hard 9
ip xfrm state update {ID} mode tunnel {GCM} limit time-hard 60
{SA} tunnel {GCM}
ip xfrm state add src fd00::1 dst fd00::2 proto esp spi 0x102 mode transport {GCM} \
    replay-window 64 flag esn replay-seq 5 replay-oseq 7
ip xfrm state add src fd00::1 dst fd00::2 proto esp spi 0x103 mode transport \
    auth-trunc 'hmac(sha256)' 0x0102 128 {NULL}
ip xfrm state add src 10.0.0.2 dst 10.0.0.1 proto esp spi 0x104 mode tunnel {NULL} \
    encap espinudp 4500 4501 10.9.0.1
ip xfrm state add src 10.0.0.2 dst 10.0.0.1 proto esp spi 0x105 mode tunnel {NULL} \
    encap espintcp 4500 4501 0.0.0.0
ip xfrm state count; ip xfrm state; ip -s xfrm state get {ID}
ip xfrm state delete {ID}
ip xfrm state deleteall dst fd00::2 spi 0x103; ip xfrm state count; ip xfrm state flush
ip xfrm state count
"""
# What connect, a write and a ping come to under a policy without a state; who listens hears of the
# first of them, until a state comes.
ACQUIRE = """
import os, socket, struct, subprocess, sys, time

def sh(words):
    sys.stdout.flush()
    subprocess.run(words, shell=True, check=True, stderr=sys.stdout.buffer)

def tried(call, *args):
    try:
        return call(*args)
    except OSError as exc:
        return repr(exc)

def heard():
    while True:
        try:
            data = netlink.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        size, kind, flags, seq, port = struct.unpack_from("IHHII", data)
        told = bytearray(data[16:size])
        told[40 + 36 : 40 + 38] = b"??"  # the source port
        told[96 + 56 + 64 + 8 : 96 + 56 + 64 + 32] = bytes(24)  # when the policy was added and used
        told[276:280] = bytes(4)  # the kernel counts all namespaces' together
        print(len(data), kind, flags, seq, port, told.hex())

sh("ip link set lo up; ip link add v0 type veth peer name v1; ip link set v0 up")
sh("ip link set v1 up; ip addr add 10.0.0.1/24 dev v0; ip -6 addr add fd00::1/64 dev v0 nodad")
sh("ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:07 dev v0")
sh("ip neigh add fd00::2 lladdr 02:00:00:00:00:07 dev v0")
ends = {socket.AF_INET: ("10.0.0.1", "10.0.0.2"), socket.AF_INET6: ("fd00::1", "fd00::2")}
for family, (one, two) in ends.items():
    sh(f"ip xfrm policy add src {one} dst {two} dir out tmpl src {one} dst {two} proto esp "
        f"reqid 7 mode transport tmpl proto esp reqid 9 mode transport level use")
netlink = None
for listens in (False, True):
    if listens:
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 6)
        netlink.bind((0, 1))
    for family, (one, two) in ends.items():
        stream, datagrams = socket.socket(family), socket.socket(family, socket.SOCK_DGRAM)
        stream.settimeout(0.2)
        print(tried(stream.connect, (two, 80)))
        print(tried(datagrams.sendto, b"x", (two, 9)))
        if listens:
            heard()
            sh("ip xfrm state | sed 's/sport [0-9]*/sport N/'; ip xfrm state count")
sh("ip xfrm state flush; ip xfrm state count; ip xfrm policy flush")
"""
TIMES = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


def on_host(script: str) -> str:
    """What a script of the shell prints on a host of ours."""
    with real_host() as host:
        return run_script(host, script)


def test_policies_and_refusals_are_those_of_the_kernel(peer: Peer) -> None:
    require.tool("ip", "iproute2")
    theirs = peer.run("sh", "-c", SCRIPT, check=False).stdout.decode()
    assert theirs.count("lifetime config") >= 3
    assert TIMES.sub("then", on_host(SCRIPT)) == TIMES.sub("then", theirs)


def test_a_key_manager_is_asked_as_by_the_kernel(peer: Peer, tmp_path: Path) -> None:
    require.tool("ip", "iproute2")
    both(peer, tmp_path, Row(ACQUIRE, python=True), {"net.ipv6.conf.default.accept_dad": 0})


def test_states_are_made_changed_shown_and_deleted() -> None:
    require.tool("ip", "iproute2")
    require.netns()
    out = TIMES.sub("then", on_host(STATES))
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0] == "RTNETLINK answers: File exists"
    assert lines[1].startswith("Error: Unsupported encapsulation type for ESP")
    assert [line for line in lines if "SAD count" in line] == [f"SAD count {n}" for n in (4, 2, 0)]
    for line in (
        "replay-window 32",
        "aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 128",
        "auth-trunc hmac(sha256) 0x0102 128",
        "seq-hi 0x0, seq 0x5, oseq-hi 0x0, oseq 0x7",
        "replay_window 64, bitmap-length 2",
        "proto esp spi 0x00000101(257) reqid 7(0x00000007) mode tunnel",
        "expire add: soft 0(sec), hard 60(sec)",
        "encap type espinudp sport 4500 dport 4501 addr 10.9.0.1",
        "add then use then",
        "0(bytes), 0(packets)",
    ):
        assert line in lines, (line, out)
