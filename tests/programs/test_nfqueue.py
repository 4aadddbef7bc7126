"""nfnetlink_queue on our hosts and in a namespace of the kernel: what a program asks of it, the
messages byte by byte, and what becomes of packets by its verdicts.

The programs are Python with a netlink socket, one in C with Debian's libnetfilter-queue, and
dhcpoptinj, which adds options to DHCP requests. Each script in Python has a socket with
SO_TIMESTAMP, so that packets have times: which times is taken out.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from e1000emu.clock import VirtualClock
from stack.api.programs import spawn
from stack.host import Host
from stack.netfilter import firewall
from tests.hosts import real_host
from tests.linux.peer import Peer
from tests.programs.test_iproute import Row, both
from tests.support import require

pytestmark = pytest.mark.netns

ASK = """
cat > $DIR/ask.py <<'END'
import collections, errno, os, socket, struct, sys, threading, time

NAMES = (
    "0 hdr verdict mark timestamp indev outdev physin physout hwaddr payload ct ct_info cap_len "
    "skb_info exp uid gid secctx vlan l2hdr priority classid"
).split()
BIND, UNBIND, PF_BIND, PF_UNBIND = 1, 2, 3, 4
DROP, ACCEPT, STOLEN, QUEUE, REPEAT, STOP = range(6)
FAIL_OPEN, CONNTRACK, GSO, UID_GID, SECCTX = 1, 2, 4, 8, 16
stamps = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
stamps.setsockopt(socket.SOL_SOCKET, 29, 1)  # SO_TIMESTAMP
Packet = collections.namedtuple("Packet", "queue number attrs")

def listener():
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    made.bind((0, 0))
    made.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
    made.settimeout(20)
    return made

listens = listener()

def attr(kind, data=b""):
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) & 3)

def word(kind, value):
    return attr(kind, struct.pack(">I", value))

def command(which):
    return attr(1, struct.pack(">BBH", which, 0, 2))

def params(mode, length=0xFFFF):
    return attr(2, struct.pack(">IB", length, mode))

def maxlen(value):
    return word(3, value)

def flags(value, mask=0xFFFFFFFF):
    return word(5, value) + word(4, mask)

def header(what, number):
    return attr(2, struct.pack(">II", what, number & 0xFFFFFFFF))

def mark(value):
    return word(3, value)

def priority(value):
    return word(21, value)

def payload(data):
    return attr(10, data)

def tell(kind, *attrs, queue=5, family=0, by=None, acked=0):
    body = struct.pack(">BBH", family, 0, queue) + b"".join(attrs)
    message = struct.pack("=IHHII", 16 + len(body), 0x300 | kind, 1 | acked, 1, 0) + body
    (by or listens).send(message)

waiting = collections.deque()

def answer(by):
    while True:
        data = by.recv(1 << 20)
        if struct.unpack_from("=H", data, 4)[0] == 2:
            wrong = -struct.unpack_from("=i", data, 16)[0]
            return errno.errorcode.get(wrong, wrong)
        waiting.append(data)

def ask(kind, *attrs, queue=5, by=None, **rest):
    tell(kind, *attrs, queue=queue, by=by, acked=4, **rest)
    return answer(by or listens)

def config(*attrs, queue=5, **rest):
    print("config", queue, ask(2, *attrs, queue=queue, **rest))

def verdict(number, what=ACCEPT, *attrs, queue=5, **rest):
    print("verdict", number, what, ask(1, header(what, number), *attrs, queue=queue, **rest))

def batch(number, what=ACCEPT, *attrs, queue=5, **rest):
    print("batch", number, what, ask(3, header(what, number), *attrs, queue=queue, **rest))

def attributes(data):
    at = 0
    while len(data) - at >= 4:
        length, kind = struct.unpack_from("=HH", data, at)
        yield NAMES[kind & 0x3FFF], data[at + 4 : at + length]
        at += length + 3 & ~3

def packet(by=None):
    data = waiting.popleft() if waiting else (by or listens).recv(1 << 20)
    length, kind, *rest = struct.unpack_from("=IHHII", data)
    assert (length, kind, rest) == (len(data), 0x300, [0, 0, 0]), data
    found = list(attributes(data[20:]))
    number, = struct.unpack_from(">I", found[0][1])
    return Packet(struct.unpack_from(">H", data, 18)[0], number, found)

def show(name, value):
    if name == "payload":
        udp = value[6 if value[0] >> 4 == 6 else 9] == 17
        return len(value), value[:1].hex(), value[-5:] if udp else b""
    return len(value) if name == "timestamp" else value.hex()

def told(count=1, what=None):
    last = None
    for _ in range(count):
        last = packet()
        print("packet", last.queue, *((name, show(name, value)) for name, value in last.attrs))
        if what is not None:
            tell(1, header(what, last.number), queue=last.queue)
    return last

def nothing():
    listens.setblocking(False)
    try:
        print("unexpected:", packet())
    except BlockingIOError:
        print("no packet")
    listens.settimeout(20)

def bound(port, address="127.0.0.1", kind=socket.SOCK_DGRAM):
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.settimeout(20)
    return made

def got(*socks):
    for sock in socks:
        sock.setblocking(False)
        found = []
        try:
            while True:
                data, where = sock.recvfrom(70000)
                found.append((data if len(data) < 50 else (len(data), data[-5:]), where[1]))
        except BlockingIOError:
            print("got", sock.getsockname()[1], found)
        sock.settimeout(20)

def summed(data):
    data += bytes(len(data) & 1)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

def changed(found, data):
    "The packet with another payload of its UDP datagram, and new lengths and checksums."
    old = dict(found.attrs)["payload"]
    six = old[0] >> 4 == 6
    head = bytearray(old[: 40 if six else 20])
    udp = bytearray(old[len(head) : len(head) + 4]) + struct.pack(">HH", 8 + len(data), 0) + data
    if six:
        head[4:6] = struct.pack(">H", len(udp))
        pseudo = bytes(head[8:40]) + struct.pack(">II", len(udp), 17)
    else:
        head[2:4] = struct.pack(">H", 20 + len(udp))
        head[10:12] = b"\\0\\0"
        head[10:12] = struct.pack(">H", summed(bytes(head)))
        pseudo = bytes(head[12:20]) + struct.pack(">HH", 17, len(udp))
    udp[6:8] = struct.pack(">H", summed(pseudo + bytes(udp)) or 0xFFFF)
    return bytes(head + udp)

TABLE = "/proc/net/netfilter/nfnetlink_queue"

def table():
    print([(line.split()[:1], line.split()[2:]) for line in open(TABLE)])

def run(text):
    sys.stdout.flush()
    os.system(text)

exec(sys.stdin.read())
END
ask() { python3 $DIR/ask.py; }
"""
CONFIGURATION = (
    ASK
    + """
ask <<'END'
config(command(BIND)); config(command(BIND)); config(command(UNBIND), queue=6)
config(command(0), queue=6); config(command(7), queue=6); config(command(7)); config(queue=6)
config(); config(params(2), queue=7); table()
for family in 0, 2, 7, 10, 255:
    config(command(PF_BIND), family=family); config(command(PF_UNBIND), family=family)
config(command(PF_BIND), flags(64)); config(command(PF_BIND), flags(64), queue=9)
for mode, length in (0, 7), (1, 7), (2, 7), (3, 9), (2, 0), (2, 0xFFFB), (2, 0xFFFC), (2, 1 << 31):
    config(params(mode, length)); table()
for value in FAIL_OPEN, GSO, UID_GID, SECCTX, 32, 64, 0xFFFFFFFF, 0:
    config(flags(value)); config(flags(value, 0)); config(flags(value), queue=8)
config(word(5, 1)); config(word(4, 1)); config(word(5, 1), command(BIND), queue=8)
config(command(BIND), params(1), maxlen(7), flags(9), queue=8); config(command(UNBIND), queue=8)
for short in attr(1, b"abc"), attr(2, b"abcd"), attr(3, b"abc"), attr(4, b"ab"), attr(5, b"a"):
    config(short)
config(attr(6, b"a"), attr(0, b""), attr(99, b"abcd")); config(attr(1, b"")); config(b"abc")
for kind in 0, 4, 5, 255:
    print(kind, ask(kind, command(BIND)), ask(kind, header(ACCEPT, 1)))
other = listener()
for asked in command(BIND), command(UNBIND), command(7), params(1), flags(64), command(PF_BIND):
    config(asked, by=other)
for queue in 0, 1, 17, 256, 300, 0xFFFF:
    config(command(BIND), params(2, queue), queue=queue, by=other)
table(); print(oct(os.stat(TABLE).st_mode))
other.close(); table(); config(queue=9); config(command(BIND), queue=300); table()
END
"""
)
RULES = """
each() { iptables -w "$@"; ip6tables -w "$@"; }
each -A OUTPUT -p udp --dport 5 -m mark --mark 9 -j ACCEPT
each -A OUTPUT -p udp --dport 5 -j NFQUEUE --queue-num 5
each -A OUTPUT -p udp --dport 6 -j NFQUEUE --queue-num 6 --queue-bypass
each -A OUTPUT -p udp --dport 7 -j NFQUEUE --queue-num 7
nft -f - <<'END'
table inet t {
    chain later {
        type filter hook output priority 5
        udp dport 5 counter
        udp dport 5 meta mark 10 counter
        udp dport 5 meta priority 1:7 counter
    }
}
END
"""
VERDICTS = (
    ASK
    + RULES
    + """
ask <<'END'
five, six, sender = bound(5), bound(6), bound(1000)
five6, sender6 = bound(5, "::1"), bound(1000, "::1")
def send(*texts, port=5):
    for text in texts:
        sender.sendto(text, ("127.0.0.1", port))
send(b"nobody listens"); send(b"bypassed", port=6); got(five, six)
config(command(BIND)); send(b"no copy mode"); got(five); table()
config(params(2)); config(command(BIND), params(2), queue=6)
send(b"hello"); table(); last = told(); got(five); verdict(last.number); got(five)
verdict(last.number)
send(b"a", b"b", b"c"); told(3); verdict(4, DROP); verdict(3); verdict(2, STOP); got(five); table()
for what in STOLEN, 6, 0xFF, 0x102, 0xFFFFFFFF:
    verdict(9, what); batch(9, what)
send(b"upper bits 1", b"2", b"3", b"4", b"5"); told(5)
for number, what in (5, 0x10001), (6, 0x10000), (7, 0x10005), (8, 0x10004), (9, 0x101):
    verdict(number, what); got(five)
send(b"again"); told(); verdict(10, REPEAT); told(); verdict(11, REPEAT, mark(9)); got(five)
send(b"to 6"); told(); verdict(12, 6 << 16 | QUEUE); last = told(); got(five)
verdict(last.number); verdict(last.number, queue=6); got(five)
send(b"to 7", b"to 7, else accepted"); told(2)
verdict(13, 7 << 16 | QUEUE); verdict(14, 7 << 16 | 0x8000 | QUEUE); got(five)
send(b"mark", b"priority", b"both"); told(3)
verdict(15, ACCEPT, mark(10)); verdict(16, ACCEPT, priority(0x10007))
verdict(17, ACCEPT, mark(10), priority(0x10007)); got(five)
for number in range(18, 25):
    send(b"number %d" % number)
told(7); batch(17); batch(19); got(five); batch(22, DROP, mark(3)); got(five); batch(2 ** 31 + 30)
batch(2 ** 32 - 1); batch(24, REPEAT, mark(9)); got(five); batch(24); table()
print(ask(1), ask(3), ask(1, attr(2, b"1234567")), ask(1, mark(1)))
print(ask(1, queue=9), ask(3, queue=9), ask(1, header(ACCEPT, 1), queue=9))
other = listener()
send(b"other's"); told(); verdict(25, by=other); batch(25, by=other); verdict(25, queue=6)
for wrong in attr(3, b"abc"), attr(21, b"a"), attr(19, b"ab"), attr(11, b""), attr(2, b"1"):
    verdict(25, ACCEPT, wrong)
verdict(25, ACCEPT, attr(23, b"ab"), attr(10)[:3]); got(five)
send(*[b"x"] * 12)
for _ in range(12):
    last = packet()
    old = dict(last.attrs)["payload"]
    for new in (
        {26: old, 27: changed(last, b"longer " * 9), 28: changed(last, b""),
          29: changed(last, b"y" * 1400), 30: changed(last, b"z" * 9000), 31: old[:20],
          32: old[:19], 33: b"", 34: old + b"behind", 35: changed(last, b"w" * 65000),
          36: old[:4] + b"no IP header", 37: changed(last, b"w" * 65487)}[last.number],
    ):
        verdict(last.number, ACCEPT, payload(new)); got(five)
sender6.sendto(b"six", ("::1", 5)); verdict(told().number); got(five6)
for data in b"longer " * 9, b"", b"y" * 1400, b"z" * 9000:
    sender6.sendto(b"six", ("::1", 5)); last = told()
    verdict(last.number, ACCEPT, payload(changed(last, data))); got(five6)
send(b"to 8"); sender.sendto(b"elsewhere", ("127.0.0.1", 5)); told(2); table()
nothing(); run("iptables-save -c | grep dport; nft list table inet t | grep counter")
END
"""
)
PACKETS = (
    ASK
    + """
ip link add w0 type veth peer name w1; ip link add x0 type veth peer name x1
for dev in w0 w1 x0 x1; do
    ip link set $dev address 02:00:00:00:00:0$((i += 1)) addrgenmode none up
done
ip addr add 10.7.0.1/24 dev w1; ip addr add 10.8.0.1/24 dev x0
ip addr add 2001:db8:7::1/64 dev w1 nodad; ip addr add 2001:db8:8::1/64 dev x0 nodad
ip neigh add 10.8.0.2 lladdr 02:00:00:00:00:09 dev x0
ip neigh add 10.7.0.9 lladdr 02:00:00:00:00:01 dev w1
ip neigh add 2001:db8:7::9 lladdr 02:00:00:00:00:01 dev w1
ip neigh add 2001:db8:8::9 lladdr 02:00:00:00:00:09 dev x0
for chain in PREROUTING INPUT FORWARD OUTPUT POSTROUTING; do
    for tables in iptables ip6tables; do
        n=$((n + 1))
        $tables -t mangle -A $chain -p udp --dport 7 -j NFQUEUE --queue-num $n
    done
done
iptables -A INPUT -p tcp --dport 2000 -j NFQUEUE --queue-num 20
iptables -A OUTPUT -p tcp --dport 2000 -j NFQUEUE --queue-num 21
ip6tables -A OUTPUT -p icmpv6 --icmpv6-type 128 -j NFQUEUE --queue-num 22
ask <<'END'
for queue in range(1, 23):
    config(command(BIND), params(2), flags(UID_GID), queue=queue)
frames, out = (socket.socket(socket.AF_PACKET, socket.SOCK_RAW) for _ in range(2))
frames.bind(("w0", 0x0800)); out.bind(("x1", 3)); out.settimeout(20)
ether = bytes.fromhex("020000000002 020000000001")
datagram = bytes.fromhex("03e80007000d0000") + b"hello"
def four(target):
    head = bytearray(bytes.fromhex("450000210001000040110000 0a070009") + socket.inet_aton(target))
    head[10:12] = struct.pack(">H", summed(bytes(head)))
    return ether + b"\\x08\\0" + head + datagram
def six(target):
    head = bytes.fromhex("60000000 000d 1140") + socket.inet_pton(socket.AF_INET6, "2001:db8:7::9")
    head += socket.inet_pton(socket.AF_INET6, target)
    check = summed(head[8:40] + struct.pack(">II", 13, 17) + datagram)
    return ether + b"\\x86\\xdd" + head + datagram[:6] + struct.pack(">H", check) + datagram[8:]
def sent():
    while True:
        frame = out.recv(2000)
        if frame[12:14] in (b"\\x08\\0", b"\\x86\\xdd") and frame[-5:] == b"hello":
            print(frame[:14].hex(), frame[14:16].hex(), frame[22], len(frame))
            return
for target in "10.8.0.2", "10.7.0.1":
    receiver = bound(7, "10.7.0.1")
    frames.send(four(target)); told(3 if target == "10.8.0.2" else 2, ACCEPT)
    sent() if target == "10.8.0.2" else got(receiver)
    receiver.close()
for target in "2001:db8:8::9", "2001:db8:7::1":
    receiver = bound(7, "2001:db8:7::1")
    frames.send(six(target)); told(3 if target == "2001:db8:8::9" else 2, ACCEPT)
    sent() if target == "2001:db8:8::9" else got(receiver)
    receiver.close()
for address in "10.8.0.2", "2001:db8:8::9":
    sender = bound(1000, "::" if ":" in address else "0.0.0.0")
    sender.setsockopt(socket.SOL_SOCKET, 36, 77)  # SO_MARK
    sender.setsockopt(socket.SOL_SOCKET, 12, 6)  # SO_PRIORITY
    sender.sendto(b"hello", (address, 7)); told(2, ACCEPT); sent(); sender.close()
receiver, sender = bound(7), bound(1000)
sender.sendto(b"hello", ("127.0.0.1", 7)); told(4, ACCEPT); got(receiver)
for mode, length in (1, 0), (2, 30), (2, 33):
    for queue in 5, 7, 9, 1, 3:
        tell(2, params(mode, length), flags(0), queue=queue)
    sender.sendto(b"hello", ("127.0.0.1", 7)); told(4, ACCEPT); got(receiver)
server = socket.create_server(("127.0.0.1", 2000))
client = bound(3000, kind=socket.SOCK_STREAM); client.setblocking(False)
try:
    client.connect(("127.0.0.1", 2000))
except BlockingIOError:
    pass
told(2, ACCEPT); told(2, ACCEPT); client.settimeout(20); taken, _ = server.accept()
client.send(b"hello"); told(2, ACCEPT); print(taken.recv(9))
pinging = threading.Thread(target=os.system, args=("ping -qc 1 ::1 > /dev/null",))
pinging.start(); told(1, ACCEPT); pinging.join(); nothing()
END
"""
)
DROPS = (
    ASK
    + RULES
    + """
ask <<'END'
five, six, sender = bound(5), bound(6), bound(1000)
def send(count, port=5):
    for number in range(count):
        sender.sendto(b"number %d" % number, ("127.0.0.1", port))
config(command(BIND), params(2), maxlen(3)); send(5); told(3); table()
config(flags(FAIL_OPEN)); send(2); got(five); table(); batch(3); got(five)
config(maxlen(0)); send(1); got(five); config(flags(0)); send(1); got(five); table()
config(maxlen(0xFFFFFFFF)); send(3); config(command(UNBIND)); told(3); got(five); table()
verdict(4)
other = listener()
config(command(BIND), params(2), queue=6, by=other); send(3, 6); got(six); table()
other.close(); got(six); table(); send(1, 6); got(six)
config(command(BIND), params(2)); send(2); told(2)
run("nft add table inet u; nft delete table inet u"); table()
run("nft add chain inet t c; nft delete chain inet t c"); table()
run("nft add chain inet t c { type filter hook input priority 7\\\\; }"); table()
run("nft delete chain inet t c"); table(); verdict(2); got(five)
send(2); told(2); run("nft delete chain inet t later"); table(); batch(9); got(five)
run("ip link add v0 type veth peer name v1; ip addr add 10.9.0.1/24 dev v0")
run("ip link set v0 up; ip link set v1 up; ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:09 dev v0")
away = bound(1001, "10.9.0.1")
away.sendto(b"away", ("10.9.0.2", 5)); send(1); told(2); table()
run("ip link set v1 down"); table(); run("ip link set v0 down"); table(); batch(99); got(five)
small = listener()
small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
config(command(BIND), params(2), queue=7, by=small); send(200, 7)
line = [line.split() for line in open(TABLE) if line.startswith("    7")][0]
queued, user_dropped, numbers = int(line[2]), int(line[6]), int(line[7])
print(queued + user_dropped, numbers, queued < 100, queued > 0, line[5])
try:
    small.recv(1 << 16)
except OSError as exc:
    print(errno.errorcode[exc.errno])
END
"""
)
TARGETS = (
    ASK
    + """
t() { iptables "$@" 2>&1; echo "$* : $?"; }; t6() { ip6tables "$@" 2>&1; echo "6 $* : $?"; }
t -A OUTPUT -p udp --dport 1 -j NFQUEUE
t -A OUTPUT -p udp --dport 2 -j NFQUEUE --queue-num 65535
t -A OUTPUT -p udp --dport 3 -j NFQUEUE --queue-num 4 --queue-bypass
t -A OUTPUT -p udp --dport 4 -j NFQUEUE --queue-balance 10:19
t -A OUTPUT -p udp --dport 5 -j NFQUEUE --queue-balance 10:19 --queue-bypass
t -A OUTPUT -p udp --dport 6 -j NFQUEUE --queue-balance 10:19 --queue-cpu-fanout
t -A OUTPUT -p udp --dport 6 -j NFQUEUE --queue-cpu-fanout
t -A OUTPUT -p udp --dport 7 -j NFQUEUE --queue-balance 19:10
t -A OUTPUT -p udp --dport 7 -j NFQUEUE --queue-num 65536
t6 -A OUTPUT -p udp --dport 4 -j NFQUEUE --queue-balance 10:19
t -t mangle -A OUTPUT -p udp --dport 9 -j NFQUEUE --queue-num 2
iptables-save | grep NFQUEUE; ip6tables-save | grep NFQUEUE
ask <<'END'
for queue in 0, 2, *range(10, 20), 65535:
    tell(2, command(BIND), params(2), queue=queue)
sender, addresses = bound(1000, "0.0.0.0"), [f"127.0.0.{n}" for n in range(1, 60)]
def send(*ports, address="127.0.0.1"):
    for port in ports:
        sender.sendto(b"hello", (address, port)); found = packet()
        print(port, found.queue); tell(1, header(DROP, found.number), queue=found.queue)
def numbers(count=1):
    found = []
    for _ in range(count):
        one = packet(); found.append(one.queue)
        tell(1, header(DROP, one.number), queue=one.queue)
    return found
send(1, 2, 9)
sender.sendto(b"to the queue of the CPU", ("127.0.0.1", 6)); print(numbers()[0] in range(10, 20))
sender.sendto(b"bypassed", ("127.0.0.1", 3)); nothing()
for port in 4, 5:
    pairs = collections.defaultdict(set)
    for address in addresses:
        for source in 2000, 2001:
            with bound(source) as one:
                one.sendto(b"x", (address, port)); pairs[address, 1].add(numbers()[0])
        with bound(2000, address) as one:
            one.sendto(b"x", ("127.0.0.1", port)); pairs[address, 1].add(numbers()[0])
    print(port, {len(found) for found in pairs.values()}, len(set().union(*pairs.values())) > 6)
nothing()
END
"""
)
STREAMS = (
    ASK
    + """
ip link set lo mtu 1500
for tables in iptables ip6tables; do
    $tables -A INPUT -p tcp --dport 2000 -j NFQUEUE --queue-num 5
    $tables -A OUTPUT -p tcp --sport 2000 -j NFQUEUE --queue-num 6
done
ask <<'END'
judges, seen = listener(), set()
for queue in 5, 6:
    config(command(BIND), params(2), maxlen(100000), queue=queue, by=judges)
def judge():
    while True:
        found = packet(judges); attrs = dict(found.attrs)
        info = int.from_bytes(attrs.get("skb_info", b""), "big")
        seen.add((len(attrs["payload"]) > 1500, bool(info & 2)))
        again = [] if info & 3 or found.number % 3 else [payload(attrs["payload"])]
        tell(1, header(ACCEPT, found.number), *again, queue=found.queue, by=judges)
threading.Thread(target=judge, daemon=True).start()
data = b"0123456789" * 100000
def sends(sock):
    sock.sendall(data); sock.shutdown(socket.SHUT_WR)
def received(sock):
    whole = b""
    while piece := sock.recv(1 << 20):
        whole += piece
    return whole == data
for address, family in ("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6):
    for whole in 0, GSO:
        for queue in 5, 6:
            tell(2, flags(whole), queue=queue, by=judges)
        server = socket.create_server((address, 2000), family=family)
        client = socket.create_connection((address, 2000)); taken, _ = server.accept()
        seen.clear()
        threads = [threading.Thread(target=sends, args=(one,)) for one in (client, taken)]
        for one in threads:
            one.start()
        print(address, whole, received(client), received(taken), sorted(seen - {(False, False)}))
        for one in threads:
            one.join()
        for one in client, taken, server:
            one.close()
os._exit(0)
END
"""
)
CONNECTIONS = (
    ASK
    + """
nft -f - <<'END'
table ip t {
    chain nat {
        type nat hook output priority -100
        udp dport 7 redirect to :70
        tcp dport 2001 redirect to :2000
    }
    chain in {
        type filter hook input priority 0
        ct state new udp dport 8 counter
        ct state established counter
        ct state invalid counter
    }
}
END
t() { iptables -A OUTPUT "$@"; }
t -p udp --dport 70 -m conntrack --ctstate NEW -j NFQUEUE --queue-num 5
t -p udp --dport 8 -m conntrack --ctstate NEW -j NFQUEUE --queue-num 5
t -p tcp --dport 2000 -j NFQUEUE --queue-num 6 --queue-bypass
t -t nat -p udp --dport 9 -j NFQUEUE --queue-num 5
ask <<'END'
eight, seventy, sender = bound(8), bound(70), bound(1000)
config(command(BIND), params(2))
def send(count, port=8):
    for number in range(count):
        sender.sendto(b"number %d" % number, ("127.0.0.1", port))
send(3); told(3); verdict(2); verdict(1); verdict(3); got(eight)
eight.sendto(b"back", ("127.0.0.1", 1000)); got(sender)
send(1); got(eight)
send(2, 7); told(2); verdict(5); verdict(4); got(seventy)
seventy.sendto(b"back", ("127.0.0.1", 1000)); got(sender); send(1, 7); got(seventy)
nine = bound(9); send(2, 9); told(2); verdict(6); verdict(7); got(nine)
send(1, 9); told(1, ACCEPT); got(nine)  # again: no chain of nat has accepted
config(command(BIND), params(2), queue=6)
server = socket.create_server(("127.0.0.1", 2000))
client = bound(3000, kind=socket.SOCK_STREAM); client.setblocking(False)
try:
    client.connect(("127.0.0.1", 2001))
except BlockingIOError:
    pass
told(1, ACCEPT); told(1, ACCEPT); client.settimeout(20); taken, _ = server.accept()
client.send(b"hello"); told(1, ACCEPT); print(taken.recv(9), client.getpeername())
run("iptables-save -c | grep dport; nft list table ip t | grep counter"); nothing()
END
"""
)
DHCPOPTINJ = """
cd $DIR
iptables -A OUTPUT -p udp --dport 67 -j NFQUEUE --queue-num 12
dhcpoptinj -f -d -q 12 -o 0c:61:62:63 -o 52:01:04:de:ad:be:ef > log 2>&1 & p=$!
until grep -q '^ *12 ' /proc/net/netfilter/nfnetlink_queue; do sleep 0.05; done
python3 - <<'END'
import socket
server, client = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
server.bind(("127.0.0.1", 67)); client.bind(("127.0.0.1", 68)); server.settimeout(20)
head = bytes([1, 1, 6, 0]) + bytes(232) + bytes.fromhex("63825363")
for options in b"\\x35\\1\\1\\xff", b"\\x35\\1\\3\\x37\\3\\1\\3\\6\\xff" + bytes(40), b"":
    client.sendto(head + options, ("127.0.0.1", 67))
    data, name = server.recvfrom(2000)
    print(len(data), data[240:].hex(), name)
END
tr -s ' ' < /proc/net/netfilter/nfnetlink_queue | cut -d' ' -f2,4-
kill $p; wait $p 2> /dev/null; echo $?; cat log
"""
TABLES = ("nft", "iptables", "ip6tables")
JUDGE = r"""
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <libnetfilter_queue/libnetfilter_queue_ipv4.h>
#include <libnetfilter_queue/libnetfilter_queue_udp.h>
#include <libnetfilter_queue/pktbuff.h>

static struct sockaddr_in at(int port)
{
    struct sockaddr_in made = {.sin_family = AF_INET, .sin_port = htons(port)};
    made.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return made;
}

static int bound(int port)
{
    struct sockaddr_in name = at(port);
    int fd = socket(AF_INET, SOCK_DGRAM, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMP, &one, sizeof one);
    return bind(fd, (struct sockaddr *)&name, sizeof name) ? -1 : fd;
}

static int change(struct nfq_q_handle *queue, uint32_t id, unsigned char *data, int size)
{
    static const char text[] = "another text, which is longer";
    struct pkt_buff *packet = pktb_alloc(AF_INET, data, size, 100);
    struct iphdr *ip = nfq_ip_get_hdr(packet);
    int done;
    nfq_ip_set_transport_header(packet, ip);
    done = nfq_udp_mangle_ipv4(packet, 0, 8, text, strlen(text));
    printf("mangled %d\n", done);
    done = nfq_set_verdict(queue, id, NF_ACCEPT, pktb_len(packet), pktb_data(packet));
    pktb_free(packet);
    return done;
}

static int judge(struct nfq_q_handle *queue, struct nfgenmsg *msg, struct nfq_data *data, void *arg)
{
    struct nfqnl_msg_packet_hdr *head = nfq_get_msg_packet_hdr(data);
    uint32_t id = ntohl(head->packet_id), uid = 99, gid = 99;
    struct timeval when = {0, 0};
    unsigned char *payload;
    char xml[4096];
    int size = nfq_get_payload(data, &payload), timed = !nfq_get_timestamp(data, &when);
    int owned = nfq_get_uid(data, &uid) && nfq_get_gid(data, &gid);
    int what = NFQ_XML_HW | NFQ_XML_MARK | NFQ_XML_DEV | NFQ_XML_UID | NFQ_XML_GID;
    printf("packet %u hook %u protocol %04x family %u", id, head->hook, ntohs(head->hw_protocol),
           msg->nfgen_family);
    printf(" in %u out %u mark %u size %d", nfq_get_indev(data), nfq_get_outdev(data),
           nfq_get_nfmark(data), size);
    printf(" owner %d %u %u time %d %d info %u", owned, uid, gid, timed, when.tv_sec > 1000000000,
           nfq_get_skbinfo(data));
    nfq_snprintf_xml(xml, sizeof xml, data, what);
    printf("\n  %s\n", xml);
    switch (payload[size - 1]) {
    case 'd': return nfq_set_verdict(queue, id, NF_DROP, 0, NULL);
    case 'm': return nfq_set_verdict2(queue, id, NF_ACCEPT, 9, 0, NULL);
    case 'c': return change(queue, id, payload, size);
    case 'w': return 0;
    case 'b': return nfq_set_verdict_batch2(queue, id, NF_ACCEPT, 9);
    }
    return nfq_set_verdict(queue, id, NF_ACCEPT, 0, NULL);
}

int main(void)
{
    static const char *texts[] = {"accepted", "dropped d", "marked m", "changed c", "waits w",
                                  "waits too w", "a batch b", "accepted"};
    struct nfq_handle *handle = nfq_open();
    struct sockaddr_in five = at(5);
    int receives = bound(5), sends = bound(1000);
    struct nfq_q_handle *queue;
    printf("pf %d %d\n", nfq_unbind_pf(handle, AF_INET), nfq_bind_pf(handle, AF_INET));
    queue = nfq_create_queue(handle, 5, judge, NULL);
    printf("again %d\n", nfq_create_queue(handle, 5, judge, NULL) != NULL);
    printf("mode %d", nfq_set_mode(queue, NFQNL_COPY_PACKET, 0xffff));
    printf(" length %d", nfq_set_queue_maxlen(queue, 100));
    printf(" flags %d\n", nfq_set_queue_flags(queue, NFQA_CFG_F_UID_GID, NFQA_CFG_F_UID_GID));
    for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++) {
        char data[4096];
        ssize_t size;
        sendto(sends, texts[i], strlen(texts[i]), 0, (struct sockaddr *)&five, sizeof five);
        size = recv(nfq_fd(handle), data, sizeof data, 0);
        if (nfq_handle_packet(handle, data, size))
            printf("not handled: %s\n", strerror(errno));
        while ((size = recv(receives, data, sizeof data, MSG_DONTWAIT)) >= 0)
            printf("  got %.*s\n", (int)size, data);
    }
    printf("unbound %d", nfq_destroy_queue(queue));
    printf(" closed %d\n", nfq_close(handle));
    return 0;
}
"""
ROWS = {
    "configuration": Row(CONFIGURATION),
    "verdicts": Row(VERDICTS, tools=TABLES),
    "packets": Row(PACKETS, tools=(*TABLES, "ping")),
    "drops": Row(DROPS, tools=TABLES),
    "targets": Row(TARGETS, tools=TABLES),
    "streams": Row(STREAMS, tools=TABLES),
    "connections": Row(CONNECTIONS, tools=TABLES),
    "dhcpoptinj": Row(DHCPOPTINJ, ((r"\b[\d:]{8}\b", "time"),), ("iptables", "dhcpoptinj")),
}
FORWARDS = {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1}


@pytest.mark.parametrize("name", ROWS)
def test_packets_are_queued_to_programs(peer: Peer, tmp_path: Path, name: str) -> None:
    both(peer, tmp_path, ROWS[name], FORWARDS)


def test_a_program_in_c_with_libnetfilter_queue(peer: Peer, tmp_path: Path) -> None:
    """Its messages are built and read by Debian's library, which also changes datagrams."""
    gcc = require.tool("gcc")
    require.header("libnetfilter_queue/pktbuff.h", "libnetfilter-queue-dev")
    source, program = tmp_path / "judge.c", tmp_path / "judge"
    source.write_text(JUDGE)
    subprocess.run([gcc, source, "-o", program, "-lnetfilter_queue"], check=True)
    script = f"{RULES}{program}; iptables-save -c | grep dport"
    both(peer, tmp_path, Row(script, tools=TABLES), FORWARDS)


WAITS = (
    ASK
    + """
ask <<'END'
config(command(BIND), params(2))
receiver, sender = bound(7), bound(1000)
def sends():
    for number in range(3):
        sender.sendto(b"number %d" % number, ("127.0.0.1", 7))
        print("sent", time.monotonic())
        time.sleep(1)
threading.Thread(target=sends).start()
for what in ACCEPT, DROP, ACCEPT:
    found = packet()
    time.sleep(0.25)
    tell(1, header(what, found.number))
    if what == ACCEPT:
        print(receiver.recv(99), time.monotonic())
END
"""
)


def test_packets_wait_in_virtual_time(tmp_path: Path) -> None:
    """Time moves while a packet waits for its verdict, only as far as the filter sleeps."""
    script = tmp_path / "script"
    script.write_text(WAITS)
    with Host("solo", clock=VirtualClock()) as host:
        firewall.queue(host, "output", 5, proto="udp")
        argv = ["env", f"DIR={tmp_path}", "sh", str(script)]
        with host.spawn(argv, stdout=subprocess.PIPE) as program:
            out, _ = program.communicate()
            assert program.wait() == 0
    assert out.decode().splitlines() == [
        "config 5 0",
        *("sent 0.0", "b'number 0' 0.25", "sent 1.0", "sent 2.0", "b'number 2' 2.25"),
    ]


NFT = """
nft add table inet t
nft add chain inet t out '{ type filter hook output priority 9; }'
while read rule; do nft add rule inet t out udp dport $rule; done <<'END'
21 queue to 0
22 queue flags bypass to 3
23 queue to 10-19
24 queue flags bypass,fanout to 10-19
25 queue flags bypass to symhash mod 3 offset 10
26-27 queue to udp dport map { 26 : 30, 27 : 31 }
28 queue to numgen inc mod 2 offset 30
END
nft list chain inet t out
ask <<'END'
for queue in 0, *range(10, 20), 30, 31:
    tell(2, command(BIND), params(1), queue=queue)
def queues(*ports):
    found = []
    for port in ports:
        with bound(0) as sender:
            sender.sendto(b"hello", ("127.0.0.1", port))
        one = packet(); found.append(one.queue); tell(1, header(DROP, one.number), queue=one.queue)
    return found
with bound(22) as receiver:
    receiver.sendto(b"bypass", ("127.0.0.1", 22)); got(receiver)
print(queues(21, 24, 26, 27, 28, 28, 28), len(set(queues(23, 23, 23))))
print(sorted(set(queues(*[25] * 40))))
END
"""


def test_queue_of_nft(tmp_path: Path) -> None:
    """The kernel here may be one without CONFIG_NFT_QUEUE, so there is nothing to compare with."""
    script = tmp_path / "script"
    require.tool("nft", "nftables")
    script.write_text(f"{ASK}{NFT}")
    argv = ["env", f"DIR={tmp_path}", "sh", str(script)]
    with real_host() as host, spawn(host, argv, stdout=subprocess.PIPE) as program:
        out, _ = program.communicate(timeout=120)
    rules, told = out.decode().split("\t}\n}\n")
    wanted = [f"udp dport {line}" for line in NFT.split("END\n")[0].splitlines()[4:]]
    assert [line.strip() for line in rules.splitlines()[3:]] == wanted
    assert told.splitlines() == [
        "got 22 [(b'bypass', 22)]",
        "[0, 10, 30, 31, 30, 31, 30] 1",
        "[10, 11, 12]",
    ]
