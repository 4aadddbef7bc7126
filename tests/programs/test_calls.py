"""Single calls answer a program as the kernel does: their errors, and what they tell.

Each script runs twice, on a host and in a namespace of the kernel (test_iproute.both). They are
Python's and call libc, so that addresses may be wild.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stack.clients.resolvconf import HostsTable
from tests.hosts import real_host, run_script
from tests.linux.peer import Peer
from tests.programs.test_iproute import Row, both

pytestmark = pytest.mark.netns

HEAD = """
import ctypes, errno, os, struct, subprocess, time
from socket import *
import socket
libc = ctypes.CDLL(None, use_errno=True)
subprocess.run("ip link set lo up; ip link add v0 type veth peer name v1", shell=True, check=True)

def said(call, *args):
    ctypes.set_errno(0)
    n = call(*args)
    return n if n >= 0 else errno.errorcode[ctypes.get_errno()]

def tried(call, *args):
    try:
        return call(*args)
    except OSError as exc:
        return errno.errorcode[exc.errno]

def tcp():
    listener = create_server(("127.0.0.1", 0))
    client = create_connection(listener.getsockname())
    return listener, client, listener.accept()[0]

def udp():
    one, two = socket.socket(AF_INET, SOCK_DGRAM), socket.socket(AF_INET, SOCK_DGRAM)
    one.bind(("127.0.0.1", 0))
    two.connect(one.getsockname())
    return one, two

def room(n):
    return ctypes.byref(ctypes.c_int(n))

far = ctypes.c_void_p(8)
name, data = ctypes.create_string_buffer(128), ctypes.create_string_buffer(100)
"""
NAMES = """
listener, client, server = tcp()
one, two = udp()
for sock in client, two, listener:
    for call in libc.getsockname, libc.getpeername:
        rows = (None, room(16)), (name, None), (None, None), (far, room(16)), (name, room(-1))
        rows += (None, room(0)), (far, room(0)), (name, room(200))
        print(*(said(call, sock.fileno(), *row) for row in rows))
    size = ctypes.c_int(3)
    print(said(libc.getsockname, sock.fileno(), name, ctypes.byref(size)), size.value)
rows = (name, None), (None, room(16)), (far, room(16)), (name, room(-1)), (None, None), (name, far)
listener.setblocking(False)
for row in rows:
    with create_connection(listener.getsockname()):
        got = said(libc.accept, listener.fileno(), *row)
        print(got if isinstance(got, str) else os.close(got), tried(listener.accept))
for row in *rows, (name, room(0)):
    for into, out in (one, two), (server, client):
        into.setblocking(False)
        out.send(b"some")
        out.send(b"more")
        print(said(libc.recvfrom, into.fileno(), data, 4, 0, *row), tried(into.recv, 9))
        print(tried(into.recv, 9))
"""
MESSAGES = """
HEADER = struct.Struct("=QI4xQQQQi4x")
_, client, server = tcp()
one, two = udp()
vector = ctypes.create_string_buffer(struct.pack("=QQ", ctypes.addressof(data), 4), 16)
at = ctypes.addressof(name)
def header(addr, size, iov=1):
    found = HEADER.pack(addr, size & 0xFFFFFFFF, ctypes.addressof(vector), iov, 0, 0, 77)
    return ctypes.create_string_buffer(found, len(found))
rows = (at, -1), (at, 128), (at, 200), (at, 1), (at, 0), (0, -1), (0, 55), (8, 16), (8, 0)
for row in *rows, (at, 16, 2000), (at, -1, 2000):
    for into, out in (one, two), (server, client):
        into.setblocking(False)
        out.send(b"some")
        msg = header(*row)
        n = said(libc.recvmsg, into.fileno(), msg, 0)
        fields = HEADER.unpack(msg.raw[:56])
        print(row[1:], n, fields[1], fields[3], fields[5:], tried(into.recv, 9))
dest = struct.pack("=HH4s8x", AF_INET, htons(one.getsockname()[1]), bytes((127, 0, 0, 1)))
ctypes.memmove(name, dest.ljust(128, b"\\0"), 128)
three = socket.socket(AF_INET, SOCK_DGRAM)
for row in (at, -1), (at, 128), (at, 200), (at, 16), (at, 0), (0, -1), (0, 200), (8, 16):
    print(row[1:], said(libc.sendmsg, three.fileno(), header(*row), 0), tried(one.recv, 9))
"""
IOCTLS = """
def asked(sock, request, arg):
    return said(libc.ioctl, sock.fileno(), ctypes.c_ulong(request), arg)
def stamp(sock, request=0x8906):
    found = ctypes.create_string_buffer(16)
    return asked(sock, request, found), struct.unpack("=qq", found)
listener, client, server = tcp()
one, two = udp()
found = ctypes.create_string_buffer(40)
kinds = listener, client, one, socket.socket(AF_INET6, SOCK_DGRAM), socket.socket(AF_INET6)
kinds += socket.socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), socket.socket(AF_NETLINK, SOCK_RAW)
for sock in kinds:
    for request in 0x8905, 0x5411, 0x541B, 0x894B:  # SIOCATMARK, SIOCOUTQ, SIOCINQ, SIOCOUTQNSD
        print(hex(request), asked(sock, request, found), asked(sock, request, far))
for sock in kinds[:-1]:
    for request in 0x8906, 0x8907:  # SIOCGSTAMP, SIOCGSTAMPNS
        print(hex(request), asked(sock, request, found), asked(sock, request, far))
one, two = udp()
two.send(b"a"), two.send(b"b"), one.recv(9)
n, first = stamp(one)
print(n, abs(first[0] - time.time()) < 5, stamp(one) == (0, first))
one.recv(9)
print(stamp(one) != (0, first))  # some socket of the machine may want stamps already
one, two = udp()
two.send(b"a"), one.recv(9)
print(asked(one, 0x8906, far))
n, first = stamp(one, 0x8907)
print(n, abs(first[0] - time.time()) < 5)
REQUESTS = {
    "SIOCGHWTSTAMP": 0x89B1, "SIOCGIFBR": 0x8940, "SIOCSIFBR": 0x8941, "SIOCWANDEV": 0x894A,
    "SIOCBONDINFOQUERY": 0x8994, "SIOCBONDSLAVEINFOQUERY": 0x8993, "SIOCGIFPFLAGS": 0x8935,
    "SIOCSIFPFLAGS": 0x8934, "SIOCDEVPRIVATE": 0x89F0, "SIOCGIFMAP": 0x8970, "none": 0x8950,
}
for dev in "lo", "v0", "nothere":
    for what, request in REQUESTS.items():
        found = ctypes.create_string_buffer(dev.encode(), 40)
        print(dev, what, asked(one, request, found), asked(one, request, far))
"""
ETHTOOL = """
def asked(dev, command, body=b"", size=200):
    found = ctypes.create_string_buffer(struct.pack("=I", command) + body, size)
    ifr = struct.pack("=16sQ16x", dev.encode(), ctypes.addressof(found))
    n = said(libc.ioctl, sock.fileno(), 0x8946, ctypes.create_string_buffer(ifr, 40))
    return n if n else found.raw
sock = socket.socket(AF_INET, SOCK_DGRAM)
# GET_TS_INFO, GSET, GFLAGS, GGRO, GGSO, GTSO, GSG, GRXCSUM, GTXCSUM, GLINKSETTINGS
COMMANDS = 0x41, 1, 0x25, 0x2B, 0x23, 0x1E, 0x18, 0x14, 0x16, 0x4C
for dev in "lo", "v0", "nothere":
    for command in COMMANDS:
        print(dev, hex(command), asked(dev, command))
    print(dev, asked(dev, 0x4C, bytes(11) + b"\\4"))
    for words in 0, 1, 2, 4:
        found = asked(dev, 0x3A, struct.pack("=I", words))  # GFEATURES
        if isinstance(found, bytes):
            cmd, size, *blocks = struct.unpack("=50I", found)
            # rx-gro-list and rx-udp-gro-forwarding, which ours have not, are no question here
            blocks = [block & ~OTHERS if at // 4 == 1 else block for at, block in enumerate(blocks)]
            found = cmd, size, *blocks
        print(dev, words, found)
print(asked("lo", 0x3C))  # GCHANNELS
""".replace("OTHERS", hex(1 << 25 | 1 << 27))
OPTIONS = """
kinds = (AF_INET, SOCK_STREAM), (AF_INET, SOCK_DGRAM), (AF_INET6, SOCK_STREAM)
kinds += (AF_INET, SOCK_RAW, IPPROTO_ICMP), (AF_NETLINK, SOCK_RAW), (AF_PACKET, SOCK_RAW)
for kind in kinds:
    for option in 16, 34, 76:  # SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD
        sock = socket.socket(*kind)
        get, put = sock.getsockopt, sock.setsockopt
        print(option, tried(get, 1, option), tried(put, 1, option, 1), tried(get, 1, option))
        print(tried(put, 1, option, 0), tried(get, 1, option))
sock = socket.socket(AF_NETLINK, SOCK_RAW)
sock.setsockopt(SOL_SOCKET, SO_PASSCRED, 1)
sock.bind((0, 0))
sock.send(struct.pack("=IHHIIB3x", 20, 18, 0x301, 7, 0, 0))  # RTM_GETLINK, all
print(sock.recvmsg(9999, 999)[1:])
"""
PORT_IDS = """
def new(protocol=0):
    return socket.socket(AF_NETLINK, SOCK_RAW, protocol)
one, two, sends, other = new(), new(), new(), new(12)
for sock in one, two, other:
    sock.bind((0, 0))
sends.send(bytes(16))
ids = [sock.getsockname()[0] for sock in (one, two, sends, other)]
print([n == os.getpid() for n in ids], [1 << 31 < n <= (1 << 32) - 4097 for n in ids])
one.close()
again, late = new(), new()
again.bind((0, 0))
late.connect((0, 0))
print(again.getsockname()[0] == os.getpid(), late.getsockname()[0] > 1 << 31)
child = os.fork()
if not child:
    late.close()
    inherited = new()
    inherited.bind((0, 1))
    print(inherited.getsockname()[0] == os.getpid(), flush=True)
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
NETLINK_OPTIONS = """
sock = socket.socket(AF_NETLINK, SOCK_RAW)
put, get = sock.setsockopt, sock.getsockopt
def groups():
    told = []
    for size in 0, 3, 4, 7, 100:
        name[:], length = b"x" * 128, ctypes.c_int(size)
        told += said(libc.getsockopt, sock.fileno(), 270, 9, name, ctypes.byref(length)),
        told += length.value, name.raw[:9]
    return told
print(groups(), tried(put, 270, 1, 99), groups(), tried(put, 270, 1, 2), groups())
print(tried(put, 270, 1, b"12"), tried(put, 270, 77, b"12"), tried(put, 270, 9, b""))
for option in 3, 4, 5, 8, 10, 11, 12:
    print(option, tried(put, 270, option, 1), [tried(get, 270, option, n) for n in (1, 3, 4, 9)])
    print(tried(put, 270, option, b"12"), tried(get, 270, option))
"""
PATH_MTU = """
def run(words):
    subprocess.run(words, shell=True, check=True)
run("ip link set v0 up; ip link set v1 up; ip addr add 10.9.0.1/24 dev v0")
for family, to in (AF_INET, "127.0.0.1"), (AF_INET, "10.9.0.7"), (AF_INET6, "::1"):
    level, option = (0, 14) if family == AF_INET else (41, 24)  # IP_MTU, IPV6_MTU
    sock = socket.socket(family, SOCK_DGRAM)
    sock.connect((to, 9))
    print(to, sock.getsockopt(level, option))
    for words in "route add 10.77.0.0/24", "-6 route add 2001:db8:77::/64", "link set mtu 1400":
        run(f"ip {words} dev v0")
        print(words, tried(sock.getsockopt, level, option))
    run("ip -6 route del 2001:db8:77::/64; ip route del 10.77.0.0/24; ip link set v0 mtu 1500")
    traffic_class = (0, IP_TOS) if family == AF_INET else (41, IPV6_TCLASS)
    for value in 0, 16:
        sock.setsockopt(*traffic_class, value)
        print(value, tried(sock.getsockopt, level, option))
run("ip addr add 2001:db8::1/64 dev v0 nodad")
def summed(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return data[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + data[4:]
# An answer of the host's own did not fit.
inner = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 1, 0)
inner += inet_aton("10.9.0.1") + inet_aton("10.9.0.7") + bytes(8)
ends = inet_pton(AF_INET6, "2001:db8::1") + inet_pton(AF_INET6, "2001:db8::7")
inner6 = struct.pack("!IHBB", 6 << 28, 8, 58, 64) + ends + bytes((129, *bytes(7)))
four = socket.socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)
six = socket.socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6)
for mtu in 1390, 1300, 300:
    four.sendto(summed(struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + inner), ("10.9.0.1", 0))
    print(subprocess.getoutput("ip route get 10.9.0.7 | sed 's/[0-9]*sec/SEC/'"))
    told = ""
    while "SEC" not in told:  # a link that has just come up forgets
        six.sendto(struct.pack("!BBHI", 2, 0, 0, mtu) + inner6, ("2001:db8::1", 0))
        told = subprocess.getoutput("ip route get 2001:db8::7 | sed 's/[0-9]*sec/SEC/'")
    print(told)
"""
OPTION_VALUES = """
# ICMP_FILTER, ICMP6_FILTER: a short value leaves the rest.
for family, protocol, level in (AF_INET, 1, 255), (AF_INET6, 58, 58):
    sock = socket.socket(family, SOCK_RAW, protocol)
    for value in b"1234567", b"abc", b"", b"x":
        print(tried(sock.setsockopt, level, 1, value), tried(sock.getsockopt, level, 1, 40))
sock = socket.socket(AF_INET, SOCK_DGRAM)
for option in 64, 63, 35, 29:  # SO_TIMESTAMPNS_NEW, SO_TIMESTAMP_NEW, and those of old
    sock.setsockopt(1, option, 1)
    print(option, [sock.getsockopt(1, other) for other in (29, 35, 63, 64)])
listener, client, server = tcp()
for option in 12, 13:  # IP_RECVTTL, IP_RECVTOS; IP_PKTOPTIONS
    client.setsockopt(0, option, 1)
    told = [client.getsockopt(0, 9, size) for size in (2, 15, 16, 18, 24, 25, 41, 99)]
    print([(len(data), data[:20]) for data in told])
sock = socket.socket()
tried(sock.setsockopt, IPPROTO_TCP, 44, 1000)  # TCP_RTO_MAX_MS
sock.setsockopt(IPPROTO_TCP, TCP_DEFER_ACCEPT, 100)
print(sock.getsockopt(IPPROTO_TCP, TCP_DEFER_ACCEPT))
sock = socket.socket(AF_INET6, SOCK_RAW, IPPROTO_RAW)
for value in -1, 5, 5, -1, -1:
    print(tried(sock.setsockopt, 41, 22, value))  # IPV6_ROUTER_ALERT
"""
RAW = """
open("/proc/sys/net/ipv4/ping_group_range", "w").write("0 9")
for protocol in 89, IPPROTO_ICMPV6, IPPROTO_RAW:
    sock = socket.socket(AF_INET6, SOCK_RAW, protocol)
    for included in (0, 1) if protocol == IPPROTO_RAW else (0,):
        sock.setsockopt(41, 36, included)  # IPV6_HDRINCL
        for to in "::1", "::ffff:127.0.0.1", "2001:db8::1":
            for port in 0, 7, protocol, 256:
                print(protocol, to, port, tried(sock.sendto, bytes(50), (to, port)))
sock = socket.socket(AF_INET6, SOCK_RAW, IPPROTO_RAW)
sock.setsockopt(41, 36, 0)
hears = socket.socket(AF_INET6, SOCK_RAW, 7)
sock.sendto(b"by port", ("::1", 7))
print(hears.recv(99))
for family, protocol, to in (AF_INET, 1, "127.0.0.1"), (AF_INET6, 58, "::1"):
    sock = socket.socket(family, SOCK_RAW, protocol)
    for to in (to, "192.0.2.1") if family == AF_INET else (to, "2001:db8::1"):
        print(protocol, [tried(sock.sendto, bytes(n), (to, 0)) for n in range(3)])
for family, protocol, to in (AF_INET, 1, "127.0.0.1"), (AF_INET6, 58, "::1"):
    sock, out = (socket.socket(family, SOCK_RAW, protocol) for _ in range(2))
    sock.setblocking(False)
    for size in 2, 3, 4, 7, 8:
        tried(out.sendto, bytes(size), (to, 0))
        time.sleep(0.01)
        print(protocol, size, type(tried(sock.recv, 99)))
for scope in 0, 1, 99:
    sock = socket.socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6)
    print(scope, tried(sock.bind, ("::1", 0, 0, scope)))
"""
DISCONNECTS = """
for family in AF_INET, AF_INET6:
    for kind in (SOCK_STREAM,), (SOCK_DGRAM,), (SOCK_RAW, 89):
        for bound in False, True:
            sock = socket.socket(family, *kind)
            sock.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, b"lo")
            if bound:
                sock.bind(("127.0.0.1" if family == AF_INET else "::1", 0))
            print(said(libc.connect, sock.fileno(), bytes(28), 28))  # AF_UNSPEC
            print(sock.getsockopt(SOL_SOCKET, SO_BINDTODEVICE, 16), sock.getsockname()[0])
"""
SENDERS = """
subprocess.run("ip link set v0 up; ip link set v1 up", shell=True, check=True)
into, out = (socket.socket(AF_PACKET, kind) for kind in (SOCK_DGRAM, SOCK_RAW))
into.bind(("v1", 0x88B5))
out.bind(("v0", 0))
out.send(bytes(12) + b"\\x88\\xb5" + bytes(46))
into.settimeout(5)
print(len(into.recvfrom(100, MSG_PEEK)[0]))
for room in 0, 17, 18, 20, 128:
    name[:], length = b"x" * 128, ctypes.c_int(room)
    n = said(libc.recvfrom, into.fileno(), data, 100, MSG_PEEK, name, ctypes.byref(length))
    print(n, length.value, name.raw[10:12], name.raw[18:21])
sends = socket.socket(AF_PACKET, SOCK_DGRAM)
raw = socket.socket(AF_PACKET, SOCK_RAW)
raw.bind(("v1", 0x88B5))
raw.settimeout(5)
for halen in 0, 2, 6, 8:  # which Linux does not look at
    to = struct.pack("=HHiHBB8s", 17, 0xB588, if_nametoindex("v0"), 0, 0, halen, b"\\x02AbcdeF")
    print(said(libc.sendto, sends.fileno(), b"some", 4, 0, to, 20))
    print(raw.recv(99)[:6])
for sock in into, out, udp()[0], socket.socket(AF_NETLINK, SOCK_RAW):
    for flag in MSG_WAITALL, MSG_OOB, MSG_TRUNC:
        print(tried(sock.recv, 100, flag | MSG_PEEK | MSG_DONTWAIT))
"""
NETLINK_PEERS = """
def new(protocol=0):
    sock = socket.socket(AF_NETLINK, SOCK_RAW, protocol)
    sock.setblocking(False)
    sock.bind((0, 0))
    return sock
one, two, three = new(), new(), new()
ids = [sock.getsockname()[0] for sock in (one, two, three)]
wrong = struct.pack("IHHII", 16, 18, 1, 7, 0) + b"12345678"
def kinds(sock):
    found = tried(sock.recv, 9999)
    return found if isinstance(found, str) else struct.unpack_from("IH", found)[1]
for peer in ids[1], 0, None:
    if peer is None:
        print(said(libc.connect, one.fileno(), bytes(12), 12))  # AF_UNSPEC
    else:
        one.connect((peer, 0))
    print([tried(sock.sendto, wrong, (ids[0], 0)) for sock in (two, three)], kinds(one), kinds(one))
    print(tried(one.sendto, wrong, (0, 0)), kinds(one))
print([said(libc.connect, one.fileno(), bytes(12), n) for n in (0, 1, 2, 11)])
two.sendto(wrong, (ids[2], 8))
print(three.recvfrom(99)[1][1], tried(three.bind, (77, 4)), len(three.getsockopt(270, 9, 99)))
print(said(libc.sendto, one.fileno(), wrong, len(wrong), 0, struct.pack("HHII", 16, 0, 9, 9), 0))
print(said(libc.ioctl, one.fileno(), 0x8906, data))  # SIOCGSTAMP
for protocol in 0, 2, 4, 6, 12, 16:
    print(protocol, [tried(new(protocol).setsockopt, 270, 1, group) for group in (0, 1, 16, 32)])
"""
# What messages at random found (messages_at_random.py).
MESSAGES_IN_TURN = """
open("/proc/sys/net/ipv4/ping_group_range", "w").write("0 99999")
def cmsg(level, kind, data=b"", size=None):
    return struct.pack("=Qii", 16 + len(data) if size is None else size, level, kind) + data

def send(sock, control, to=None, part=b"x"):
    buf, ctl = ctypes.create_string_buffer(part, 9), ctypes.create_string_buffer(control, 99)
    iov = struct.pack("=QQ", ctypes.addressof(buf), len(part))
    iov = ctypes.create_string_buffer(iov)
    name = ctypes.create_string_buffer(to or b"", 28)
    ends = ctypes.addressof(name) if to else 0, len(to or b"")
    rest = ctypes.addressof(iov), 1, ctypes.addressof(ctl), len(control), 0
    return said(libc.sendmsg, sock.fileno(), struct.pack("=QI4xQQQQQ", *ends, *rest), MSG_DONTWAIT)

def udp6(*more):
    return socket.socket(AF_INET6, SOCK_DGRAM, *more)

def ints(*values):
    return struct.pack(f"={len(values)}i", *values)

one, two = udp()
six, seven = udp6(), udp6()
seven.bind(("::", 7007))
to4 = struct.pack("=H", AF_INET) + struct.pack(">H", 7007) + inet_aton("127.0.0.1") + bytes(8)
head = struct.pack("=H", AF_INET6) + struct.pack(">HI", 7007, 0)
mapped, to6 = (head + inet_pton(AF_INET6, a) + bytes(4) for a in ("::ffff:127.0.0.1", "::1"))
short = cmsg(0, 2, b"", 8)
raw = socket.socket(AF_PACKET, SOCK_RAW)
print("malformed", send(one, short), send(one, short, to4), send(six, short), send(six, short, to6),
      send(raw, short), send(socket.socket(AF_INET, SOCK_RAW, 253), short))
for source in "::ffff:127.0.0.1", "::ffff:9.9.9.9", "::1":
    print("mapped", send(six, cmsg(41, 50, inet_pton(AF_INET6, source) + ints(0)), mapped))
for hops in 0, 255, 256, 65535, 65536, -1, -2:
    print("hops", hops, send(six, cmsg(41, 52, ints(hops)), to6))
padding = bytes((0, 0, 1, 4, 0, 0, 0, 0))
print("twice", send(six, cmsg(41, 54, padding) * 2, to6), send(six, cmsg(41, 59, padding) * 2, to6),
      send(six, cmsg(41, 4, padding) * 2, to6))

six, ping = udp6(), udp6(58)
six.setsockopt(41, 50, inet_pton(AF_INET6, "::2") + ints(0))
print("sticky", tried(six.connect, ("::1", 7007)), six.getsockname()[0])
six = udp6()
six.setsockopt(41, 50, bytes(16) + ints(99))
print("sticky", tried(six.connect, ("::1", 7007)), tried(six.sendto, b"x", ("::1", 7007)))
for scope in 0, 1, 2, 99:
    print("ping", scope, tried(udp6(58).bind, ("::1", 0, 0, scope)))

seven.setblocking(False)
while isinstance(tried(seven.recv, 99), bytes):
    pass
seven.connect(("::ffff:127.0.0.1", 9))
print("unspec", said(libc.sendto, seven.fileno(), b"x", 1, 0, bytes(2), 2))
six = udp6()
six.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
six.bind(("::", 7008))
six.setblocking(False)
subprocess.run("ip addr add fd01::1/128 dev lo", shell=True, check=True)
six.connect(("fd01::1", 9))
libc.connect(six.fileno(), bytes(16), 16)
print("disconnected", six.sendto(b"x", ("::1", 7008)), tried(six.recv, 9))

source = socket.socket(AF_INET, SOCK_DGRAM)
source.bind(("127.0.0.1", 7009))
for turn in 1, -1:
    pair = [socket.socket(AF_INET, SOCK_DGRAM) for _ in range(2)]
    for sock in pair:
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 7010))
        sock.setblocking(False)
    for sock in pair[::turn]:
        sock.connect(("127.0.0.1", 7009))
    source.sendto(b"x", ("127.0.0.1", 7010))
    print("last", [tried(sock.recv, 9) for sock in pair])

late = socket.socket(AF_INET, SOCK_DGRAM)
late.bind(("127.0.0.1", 7011))
late.sendto(b"x", ("127.0.0.1", 7011))
late.setsockopt(0, 8, 1)
print("late", late.recvmsg(9, 99)[1])
peek = socket.socket(AF_INET, SOCK_DGRAM)
peek.bind(("127.0.0.1", 7012))
peek.setsockopt(SOL_SOCKET, 42, 200)
peek.sendto(bytes(100), ("127.0.0.1", 7012))
print("peek", len(peek.recv(8)), peek.getsockopt(SOL_SOCKET, 42))

gone = socket.socket(AF_INET, SOCK_DGRAM)
gone.connect(("127.0.0.1", 7999))
gone.send(b"x")
print("recvmmsg", said(libc.recvmmsg, gone.fileno(), None, 0, MSG_DONTWAIT, None),
      said(libc.recvmmsg, gone.fileno(), None, 0, MSG_DONTWAIT, None))
print("ifindex", tried(gone.setsockopt, SOL_SOCKET, 62, 1 << 30),
      tried(gone.getsockopt, SOL_SOCKET, SO_BINDTODEVICE, 4),
      tried(gone.getsockopt, SOL_SOCKET, SO_BINDTODEVICE, 16))
"""
GROUPS = """
subprocess.run("ip addr add 10.9.0.1/24 dev v0; ip link set v0 up; ip link set v1 up", shell=True)
any4, near = inet_aton("10.9.0.1"), [inet_aton(f"10.9.0.{n}") for n in range(5)]
group, where = inet_aton("239.1.1.1"), inet_aton("10.9.0.1")
names = {35: "join", 36: "leave", 37: "unblock", 38: "block", 39: "source", 40: "no source"}
for calls in ((35, 39, 40), (35, 38, 39, 37, 39), (39, 38, 39, 40, 36), (39, 35, 40, 35), (40, 38)):
    sock = socket.socket(AF_INET, SOCK_DGRAM)
    for name in calls:
        value = group + where + (near[2] if name > 36 else b"")
        print(names[name], tried(sock.setsockopt, 0, name, value), end=" ")
    print()
for where in "10.9.0.1", "9.9.9.9":
    for mode, sources in (0, 0), (1, 0), (1, 1), (2, 1):
        sock = socket.socket(AF_INET, SOCK_DGRAM)
        sock.setsockopt(0, 35, group + any4)
        value = group + inet_aton(where) + struct.pack("=II", mode, sources) + near[2] * sources
        print("filter", where, mode, sources, tried(sock.setsockopt, 0, 41, value))
def storage(family, host):
    at = bytes(2) if family == AF_INET else bytes(6)
    return (struct.pack("=H", family) + at + inet_pton(family, host)).ljust(128, bytes(1))
four, six = storage(AF_INET, "239.1.1.1"), storage(AF_INET6, "ff05::9")
for level, family in (0, AF_INET), (41, AF_INET6):
    for name in 42, 43, 46, 48:
        for one in four, six:
            sock = socket.socket(family, SOCK_DGRAM)
            value = struct.pack("=I4x", 1) + one + {43: one, 46: one, 48: bytes(8)}.get(name, b"")
            print(level, name, tried(sock.setsockopt, level, name, value))
subprocess.run("ip -6 addr add fd09::1/64 dev v0 nodad", shell=True)
for address, index in ("fd09::", 2), ("fd09::", 0), ("fd09::7", 1), ("fd0a::7", 0), ("fd09::1", 0):
    sock = socket.socket(AF_INET6, SOCK_DGRAM)
    number = if_nametoindex("v0") if index == 2 else index
    value = inet_pton(AF_INET6, address) + struct.pack("=i", number)
    calls = [tried(sock.setsockopt, 41, name, value) for name in (27, 27, 28, 28, 28)]
    print("anycast", address, index, calls)
"""
NETLINK_GROUPS = """
subprocess.run("ip link set v0 up", shell=True)
bound, unbound, taken = (socket.socket(16, SOCK_RAW, 0) for _ in range(3))
bound.bind((70001, 0))
for sock in bound, unbound:
    sock.setsockopt(270, 1, 1)
    sock.setblocking(False)
subprocess.run("ip link set v0 down", shell=True)
print([isinstance(tried(sock.recv, 9999), bytes) for sock in (bound, unbound)])
print(tried(taken.bind, (70001, 0)), taken.getsockname(), tried(taken.bind, (70002, 0)))
one, two = (socket.socket(16, SOCK_RAW, 2) for _ in range(2))
two.bind((70003, 1))
two.setblocking(False)
print(one.sendto(b"x", (70003, 1)), tried(two.recv, 9), tried(two.recv, 9))
import fcntl
for request in 0x8915, 0x8919, 0x8913:
    print(isinstance(tried(fcntl.ioctl, two, request, b"lo".ljust(40, bytes(1))), bytes))
"""
EVENTS = """
listens = subprocess.Popen(
    ["conntrack", "-E", "-o", "extended,id"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
)
def hears():
    rows = map(str.split, list(open("/proc/net/netlink"))[1:])
    return any(row[1] == "12" and int(row[3], 16) for row in rows)
while not hears():
    time.sleep(0.02)
def attr(kind, *parts):
    body = b"".join(parts)
    return (struct.pack("=HH", 4 + len(body), kind) + body).ljust(len(body) + 7 & ~3, b"\\0")
def tuple_of(kind, saddr, daddr, sport, dport):
    ip = attr(0x8001, attr(1, inet_aton(saddr)), attr(2, inet_aton(daddr)))
    ports = attr(2, struct.pack(">H", sport)), attr(3, struct.pack(">H", dport))
    return attr(0x8000 | kind, ip, attr(0x8002, attr(1, bytes([IPPROTO_UDP])), *ports))
flow = tuple_of(1, "10.1.1.1", "10.1.1.2", 5, 6) + tuple_of(2, "10.1.1.2", "10.1.1.1", 6, 5)
body = struct.pack("=BBH", AF_INET, 0, 0) + flow + attr(7, struct.pack(">I", 99))
body += attr(3, struct.pack(">I", 8))
asks = socket.socket(AF_NETLINK, SOCK_RAW, 12)
asks.bind((0, 0))
asks.send(struct.pack("=IHHII", 16 + len(body), 0x100, 0x605, 1, 0) + body)
print(asks.recv(999)[16:20])
line = listens.stdout.readline().decode().rstrip()
listens.terminate()
print(line, f"portid={os.getpid()} " in line)
"""
FILES = r"""
cd $DIR
for f in /etc/hosts /etc/resolv.conf /proc/net/dev /proc/self/net/route /proc/thread-self/net/tcp \
    /proc/sys/net/ipv4/ip_forward /sys/class/net/lo/mtu; do
    for with in cp 'cp -p' 'install -m 644' 'busybox cp'; do
        rm -f copied; $with $f copied; echo $with $f $?; cmp $f copied
    done
done
python3 - <<'END'
import os
def key(st):
    return st.st_dev, st.st_ino, st.st_mode, st.st_nlink, st.st_uid
def same(path):
    with open(path, "rb") as file:
        told = os.stat(path), os.fstat(file.fileno()), os.lstat(path)
        print(path, len(set(map(key, told))), [os.path.samestat(told[0], one) for one in told])
        return told
for path in "/etc/hosts", "/etc/resolv.conf":
    print(len({one.st_size for one in same(path)}))
for path in "/proc/net/dev", "/proc/self/net/arp", "/proc/sys/net/ipv4/ip_forward", \
        "/sys/class/net/lo/mtu", "/sys/class/net/lo/address":
    print(oct(same(path)[0].st_mode), os.stat(path).st_size)
print(oct(os.stat("/proc/net/nf_conntrack").st_mode))
for path in "/sys/class/net/lo/", "/proc/sys/net/ipv4", "/proc/net", "/proc/self/net", \
        "/proc/net/stat/":
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    print(path, key(os.stat(path))[:3] == key(os.fstat(fd))[:3], oct(os.stat(path).st_mode))
# Who reads goes on with what it opened.
with open("/proc/sys/net/ipv4/ip_default_ttl") as first:
    with open("/proc/sys/net/ipv4/ip_default_ttl", "w") as file:
        file.write("33")
    print(open("/proc/sys/net/ipv4/ip_default_ttl").read(), end="")
for path in "/proc/net/nothere", "/proc/self/net/nothere", "/sys/class/net/lo/nothere":
    for call in os.stat, open:
        try:
            print(call(path))
        except OSError as exc:
            print(exc)
END
pid=$$
for p in $pid self thread-self $pid/task/$pid 999999 self/task/1 $pid/task/1; do
    echo $p; cat /proc/$p/net/dev | grep -c eth; done 2>&1 | sed "s/$pid/PID/g"
stat -c '%F' /proc/net/stat /proc/net/ /proc/net; cat /proc/net/stat; echo $?
readlink /proc/net; readlink /proc/self/net; readlink -f /proc/net/dev | sed "s/[0-9]\+/PID/"
find /proc/net -name dev; cd /
find /proc/net/ /proc/self/net/ -name '*_mcast' -o -name 'icmp*' -o -name rt_cache | sort
cd /proc/sys/net/ipv4; echo 44 > ip_default_ttl; cat ./ip_default_ttl ../ipv4/ip_default_ttl
cat /proc/sys/net/ipv4/ip_default_ttl ../../kernel/ostype; ls conf | grep lo; stat -c %a ip_forward
cd /proc; cat sys/net/ipv4/ip_default_ttl self/net/dev | grep -c :; cd /etc; cmp hosts /etc/hosts
cd /proc/net; head -1 arp; cd /sys/class/net; cat lo/mtu ../net/lo/mtu; cat lo/nix; cd /
find -H /proc/net -name dev; ls /proc/net/stat | grep rt_cache; ls /proc/net | grep 'tcp\|route'
"""
SEGMENTS = """
subprocess.run("ip link set lo mtu 1500", shell=True, check=True)
for family, address, room in (AF_INET, "127.0.0.1", 1472), (AF_INET6, "::1", 1452):
    one, two = socket.socket(family, SOCK_DGRAM), socket.socket(family, SOCK_DGRAM)
    one.bind((address, 0))
    one.settimeout(0.2)
    two.connect(one.getsockname())
    level, discover = (IPPROTO_IP, 10) if family == AF_INET else (IPPROTO_IPV6, 23)
    for no_check in 0, 1:
        two.setsockopt(SOL_SOCKET, 11, no_check and family == AF_INET)  # SO_NO_CHECK
        for way in 2, 0:  # IP_PMTUDISC_DO, _DONT
            two.setsockopt(level, discover, way)
            for gso, size in ((room, room + 1), (room + 1, room + 2), (room + 1, room + 1),
                              (room + 1, room), (1, 128), (1, 129), (1400, 1400 * 40)):
                two.setsockopt(IPPROTO_UDP, 103, gso)  # UDP_SEGMENT
                sent, got = tried(two.send, bytes(size)), 0
                while isinstance(sent, int) and got < sent:
                    got += len(one.recv(9999))
                print(no_check, way, gso, size, sent, got)
            two.setsockopt(IPPROTO_UDP, 103, 0)
raw, sees = (socket.socket(AF_PACKET, SOCK_RAW, 0x300) for _ in range(2))
raw.bind(("lo", 0))
sees.bind(("lo", 3))
frame = bytes(12) + b"\\x88\\xb5" + bytes(100)
for _ in range(110):
    raw.send(frame)
sees.settimeout(0.2)
print(sum(sees.recv(999) == frame for _ in range(110)))  # short ones take little of the buffer
"""
KNOBS = """
os.chdir("/proc/sys/net/ipv4")
key = "-".join(["11111111"] * 4)
for name, text in (("tcp_congestion_control", "reno\\0\\0x"), ("tcp_fastopen_key", f"{key}\\0x"),
                   ("tcp_fastopen_key", f"{key}\\nx"), ("ip_local_port_range", "30000 40000\\0")):
    with open(name, "wb", buffering=0) as file:
        print(name, tried(file.write, text.encode()))
    if name != "ip_local_port_range":
        print(open(name).read())
for reuse in "01":
    subprocess.run(f"sysctl -q -w net.ipv4.ip_autobind_reuse={reuse} "
                   "net.ipv4.ip_local_port_range='40000 40000'", shell=True, check=True)
    for options in [SO_REUSEADDR], [SO_REUSEADDR, SO_REUSEPORT], []:
        socks = [socket.socket() for _ in range(3)]
        for sock in socks:
            for option in options:
                sock.setsockopt(SOL_SOCKET, option, 1)
        print(reuse, len(options), [tried(sock.bind, ("127.0.0.1", 0)) for sock in socks])
        print([tried(sock.listen) for sock in socks if sock.getsockname()[1]])
        for sock in socks:
            sock.close()
"""
PYTHON = {
    "names": NAMES,
    "messages": MESSAGES,
    "ioctls": IOCTLS,
    "ethtool's ioctls": ETHTOOL,
    "options about the sender": OPTIONS,
    "port ids of netlink": PORT_IDS,
    "options of netlink": NETLINK_OPTIONS,
    "path MTUs": PATH_MTU,
    "options' values": OPTION_VALUES,
    "raw sockets": RAW,
    "disconnects": DISCONNECTS,
    "peers of netlink": NETLINK_PEERS,
    "what packet sockets receive": SENDERS,
    "messages in turn": MESSAGES_IN_TURN,
    "groups and their sources": GROUPS,
    "groups of netlink": NETLINK_GROUPS,
    "datagrams that one send cuts": SEGMENTS,
}
LEFT = ((r"id=\d+", ""), (r"9[789] (?=src)", ""))
"""Numbers of connections and programs; the seconds that are left."""
ROWS = {
    **{name: Row(HEAD + script, python=True) for name, script in PYTHON.items()},
    "whose a connection is": Row(HEAD + EVENTS, LEFT, ("conntrack",), python=True),
    "files": Row(FILES, tools=("busybox",)),
    "knobs that are text, and a shared port": Row(HEAD + KNOBS, tools=("sysctl",), python=True),
}


@pytest.mark.parametrize("name", ROWS)
def test_as_on_linux(peer: Peer, tmp_path: Path, name: str) -> None:
    both(peer, tmp_path, ROWS[name], {"net.ipv4.ip_forward": 0})


NAME = os.uname().nodename


def test_the_machine_has_an_address_by_its_name() -> None:
    asks = f"hostname -f; getent hosts {NAME}"
    with real_host("solo") as host:
        assert run_script(host, asks).split() == [NAME, "127.0.1.1", NAME]
        with host.lock:
            host.names.hosts = HostsTable.parse(f"10.0.0.1 there.example {NAME}\n")
        assert run_script(host, asks).split() == [
            "there.example",
            "10.0.0.1",
            "there.example",
            NAME,
        ]
        assert run_script(host, "cat /etc/hosts") == f"10.0.0.1 there.example {NAME}\n"
