"""What groups of NETLINK_ROUTE and NETLINK_XFRM hear of a request: as on Linux.

A program that listens to its own changes tells them from others' by the message's port and number.
FRR's zebra sends a route again that somebody else seems to have changed. Compared are kind, flags,
number and port of each message, what comes back to who asked with NLM_F_ECHO, and the errors.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.linux.peer import Peer
from tests.programs.test_iproute import Row, both

pytestmark = pytest.mark.netns

REQUESTS = """
import itertools, socket, struct, subprocess

u32 = struct.Struct("I").pack
CREATE, EXCL, REPLACE, APPEND, ECHO = 0x400, 0x200, 0x100, 0x800, 8
NEW = CREATE | EXCL

def attr(number, value):
    return struct.pack("HH", 4 + len(value), number) + value + bytes(-len(value) & 3)

def opened(protocol, groups):
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    sock.bind((0, 0))
    for group in groups:
        sock.setsockopt(270, 1, group)
    return sock

def messages(sock, kind=0):
    # What waits; of who asked (kind 2), up to the acknowledgement.
    while True:
        try:
            data = sock.recv(1 << 16, 0 if kind else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        while data:
            size, told, flags, seq, port = struct.unpack_from("IHHII", data)
            yield told, flags, seq, port, data[16:size]
            data = data[size + 3 & ~3 :]
            if kind and told == kind:
                return

def ask(name, kind, flags, *body, protocol=0):
    # Ask, and tell what came of this kind to who asked and to the groups; routes and next hops
    # may change each other.
    body = b"".join(body)
    listener, asker = opened(protocol, range(1, 37 if protocol == 0 else 8)), opened(protocol, ())
    own = asker.getsockname()[0]
    asker.send(struct.pack("IHHII", 16 + len(body), kind, flags | 5, 77, own) + body)
    for to, sock in (("asker", asker), ("group", listener)):
        for told, flags, seq, port, payload in messages(sock, 2 if to == "asker" else 0):
            about = told >> 2 == kind >> 2 or (kind >> 2 == 26 and told >> 2 == 6)
            late = told in (20, 24) and not seq  # an address of IPv6 has become usable
            if told == 2:
                print(name, to, hex(flags), seq, port == own, *struct.unpack_from("i", payload))
            elif about and not late:
                print(name, to, told, hex(flags), seq, port and port == own)
    listener.close()
    asker.close()

def sh(words):
    subprocess.run(words, shell=True, check=True)

sh("ip link set lo up; ip link add br0 type bridge; ip link add v0 type veth peer name v1")
sh("ip link set v0 master br0; ip link set br0 up; ip link set v0 up; ip link set v1 up; sleep 0.3")
sh("ip addr add 10.5.0.1/24 dev v1; ip -6 addr add fd05::1/64 dev v1 nodad; sleep 0.3")
index = {name: number for number, name in socket.if_nameindex()}
v0, v1 = index["v0"], index["v1"]
ends = {2: ("10.5.0.2", "10.5.0.3", "10.5.0.4", "10.6.0.0"),
        10: ("fd05::2", "fd05::3", "fd05::4", "fd06::")}
for echo, family in itertools.product((0, ECHO), ends):
    mark = f"{family} {'echo' if echo else ''}"
    one, two, three, net = (socket.inet_pton(family, text) for text in ends[family])
    to = attr(1, net)

    def rtmsg(kind):
        return struct.pack("BBBBBBBBI", family, 24, 0, 0, 254, 4, 0, kind, 0) + to

    def hops(*gateways):
        rows = (struct.pack("HBBi", 12 + len(g), 0, 0, v1) + attr(5, g) for g in gateways)
        return attr(9, b"".join(rows))

    ifa = struct.pack("BBBBi", family, 24, 2, 0, v1) + attr(1, one) + attr(2, one)
    ask(f"address {mark}", 20, NEW | echo, ifa)
    ask(f"no address {mark}", 21, echo, ifa)
    for name, kind, flags, *body in (
        ("add", 24, NEW, rtmsg(1), attr(5, one)),
        ("add again", 24, NEW, rtmsg(1), attr(5, one)),
        ("append", 24, CREATE | APPEND, rtmsg(1), attr(5, two)),
        ("prepend", 24, CREATE, rtmsg(1), attr(5, three)),
        ("replace by the same", 24, CREATE | REPLACE, rtmsg(1), attr(5, three)),
        ("change", 24, REPLACE, rtmsg(1), attr(5, two)),
        *(("delete", 25, 0, rtmsg(0)),) * 4,
        ("change what is not there", 24, REPLACE, rtmsg(1), attr(5, two)),
        ("replace what is not there", 24, CREATE | REPLACE, rtmsg(1), attr(5, three)),
        ("replace", 24, CREATE | REPLACE, rtmsg(1), attr(5, two)),
        ("another metric", 24, NEW, rtmsg(1), attr(5, three), attr(6, u32(50))),
        ("another, appended", 24, CREATE | APPEND, rtmsg(1), attr(5, one), attr(6, u32(60))),
        *(("delete", 25, 0, rtmsg(0)),) * 3,
        ("several next hops", 24, NEW, rtmsg(1), hops(one, two)),
        ("replaced by others", 24, CREATE | REPLACE, rtmsg(1), hops(one, three)),
        ("delete", 25, 0, rtmsg(0)),
        ("discard", 24, NEW, rtmsg(6)),
        ("delete", 25, 0, rtmsg(0)),
    ):
        ask(f"route {name} {mark}", kind, flags | echo, *body)
    nhmsg = struct.pack("BBBBI", family, 0, 0, 0, 0) + attr(1, u32(9))
    ask(f"next hop {mark}", 104, NEW | echo, nhmsg, attr(5, u32(v1)))
    ask(f"route over it {mark}", 24, NEW | echo, rtmsg(1), attr(30, u32(9)))
    ask(f"next hop replaced {mark}", 104, CREATE | REPLACE | echo, nhmsg, attr(5, u32(v1)),
        attr(6, one))
    ask(f"no next hop {mark}", 105, echo, nhmsg)
    rule = struct.pack("BBBBBBBBI", family, 0, 0, 0, 100, 0, 0, 1, 0) + attr(6, u32(555))
    ask(f"rule {mark}", 32, NEW | echo, rule)
    ask(f"no rule {mark}", 33, echo, rule)
    ndmsg = struct.pack("BxxxiHBB", family, v1, 0x80, 0, 0) + attr(1, two)
    ask(f"neighbour {mark}", 28, NEW | echo, ndmsg, attr(2, bytes([2, 0, 0, 0, 0, 7])))
    ask(f"no neighbour {mark}", 29, echo, ndmsg)
for flags, where in ((2, "self"), (4, "of the bridge")):
    ndmsg = struct.pack("BxxxiHBB", 7, v0, 0x80, flags, 0) + attr(2, bytes([2, 0, 0, 0, 0, 9]))
    ask(f"entry {where}", 28, NEW | ECHO, ndmsg)
    ask(f"no entry {where}", 29, ECHO, ndmsg)
for echo in (0, ECHO):
    def tcmsg(handle):
        return struct.pack("BxxxiIII", 0, v1, handle, 0xFFFFFFFF, 0)

    ask("discipline", 36, NEW | echo, tcmsg(1 << 16), attr(1, b"pfifo\\0"))
    ask("another", 36, CREATE | REPLACE | echo, tcmsg(2 << 16), attr(1, b"bfifo\\0"))
    ask("none", 37, echo, tcmsg(2 << 16))
    selector = struct.pack("=16s16sHHHHHBBB3xiI", bytes([10]), bytes([11]), 0, 0, 0, 0, 2, 8, 8,
        0, 0, 0)
    policy = selector + struct.pack("4Q", *[(1 << 64) - 1] * 4) + bytes(32 + 32)
    policy += struct.pack("IIBBBBxxxx", 0, 0, 1, 0, 0, 0)
    ask("policy", 19, CREATE | echo, policy, protocol=6)
    ask("no policy", 20, echo, selector, struct.pack("IBxxx", 0, 1), protocol=6)
    link = struct.pack("BxHiII", 0, 0, 0, 0, 0) + attr(3, b"made\\0")
    ask("link", 16, NEW, link, attr(18, attr(1, b"bridge\\0")))
    ask("no link", 17, 0, link)
"""


def test_as_on_linux(peer: Peer, tmp_path: Path) -> None:
    both(peer, tmp_path, Row(REQUESTS, python=True), {"net.ipv6.conf.default.accept_dad": 0})


LINKS = """
def told(name, kind, *body):
    body = b"".join(body)
    asker = opened(0, ())
    asker.send(struct.pack("IHHII", 16 + len(body), kind, NEW | ECHO | 5, 77, 0) + body)
    for kind, flags, seq, port, payload in messages(asker, 2):
        print(name, kind, hex(flags), seq, port == asker.getsockname()[0])
    asker.close()

link = struct.pack("BxHiII", 0, 0, 0, 0, 0) + attr(3, b"made\\0")
told("link", 16, link, attr(18, attr(1, b"bridge\\0")))
told("no link", 17, link)
"""
"""Linux gives number and port to the group, too, where NLM_F_ECHO is set; we do not."""


def test_who_makes_a_link_hears_it(peer: Peer, tmp_path: Path) -> None:
    script = REQUESTS.partition("def sh(")[0] + LINKS
    both(peer, tmp_path, Row(script, python=True), {"net.ipv4.ip_forward": 1})
