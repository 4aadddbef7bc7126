"""Programs on a host print what they print on the kernel.

Each script runs twice, over the loopback of a host and over the kernel's. What it prints, and its
exit status, are the same. The scripts are Python's, whose socket and select modules are thin over
libc; tests/programs/test_debian.py has programs that are not.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest

from e1000emu.clock import VirtualClock
from fastpath.base import seccomp
from stack.api.programs import spawn
from stack.host import Host
from tests.hosts import real_host
from tests.support import PATIENCE_S, require

pytestmark = pytest.mark.skipif(not seccomp.available(), reason="needs Linux's seccomp")

HEAD = """
import array, ctypes, errno, os, select, signal, struct, sys, threading, time
from socket import *
import socket
IP_PKTINFO = 8  # not in Python's socket before 3.13
libc = ctypes.CDLL(None, use_errno=True)

def tried(call, *args):
    try:
        return call(*args)
    except OSError as exc:
        return type(exc).__name__, errno.errorcode[exc.errno]

def tcp(family=AF_INET):
    listener = socket.socket(family, SOCK_STREAM)
    listener.bind(("127.0.0.1" if family == AF_INET else "::1", 0))
    listener.listen()
    client = socket.socket(family, SOCK_STREAM)
    client.connect(listener.getsockname())
    server, _ = listener.accept()
    return listener, client, server

def udp():
    one, two = socket.socket(AF_INET, SOCK_DGRAM), socket.socket(AF_INET, SOCK_DGRAM)
    one.bind(("127.0.0.1", 0))
    two.connect(one.getsockname())
    return one, two

def soon(call, *args, after=0.1):
    timer = threading.Timer(after, call, args)
    timer.start()
    return timer
"""

SCRIPTS = {
    "splice": """
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        DONTWAIT = 2  # SPLICE_F_NONBLOCK
        _, c, d = tcp()
        r, w = os.pipe()
        os.write(w, b"hello")
        print(os.splice(r, c.fileno(), 3), d.recv(9), os.read(r, 9))
        print(tried(lambda: os.splice(r, c.fileno(), 3, flags=DONTWAIT)))
        os.write(w, b"z" * 50000)
        print(os.splice(r, c.fileno(), 100000), len(d.recv(50000, MSG_WAITALL)))
        soon(os.write, w, b"later")
        print(os.splice(r, c.fileno(), 100), d.recv(9))
        d.send(b"x" * 10)
        time.sleep(0.05)
        for size in (4, 99):
            print(os.splice(c.fileno(), w, size), os.read(r, 99))
        c.setblocking(False)
        print(tried(lambda: os.splice(c.fileno(), w, 99)))
        c.setblocking(True)
        soon(d.send, b"later")
        print(os.splice(c.fileno(), w, 100), os.read(r, 9))
        os.set_blocking(w, False)
        while tried(os.write, w, b"f" * 4096) == 4096:
            pass
        d.send(b"more")
        time.sleep(0.05)
        print(tried(lambda: os.splice(c.fileno(), w, 9, flags=DONTWAIT)))
        print(tried(os.splice, c.fileno(), w, 9))
        os.set_blocking(w, True)
        soon(os.read, r, 65536)
        print(os.splice(c.fileno(), w, 9), os.read(r, 9))
        os.close(w)
        print(os.splice(r, c.fileno(), 9))
        os.close(r)
        r, w = os.pipe()
        os.close(r)
        d.send(b"p")
        time.sleep(0.05)
        print(tried(os.splice, c.fileno(), w, 9), c.recv(9))
        d.close()
        os.close(w)
        r, w = os.pipe()
        print(os.splice(c.fileno(), w, 9))
        os.write(w, b"q")
        print(tried(os.splice, r, c.fileno(), 9))
        time.sleep(0.05)
        os.write(w, b"q")
        print(tried(os.splice, r, c.fileno(), 9))
        for offset in ({"offset_dst": 0}, {"offset_src": 0}):
            print(tried(lambda: os.splice(r, c.fileno(), 9, **offset)))
            print(tried(lambda: os.splice(c.fileno(), w, 9, **offset)))
        with open("/etc/passwd") as file:
            print(tried(os.splice, file.fileno(), c.fileno(), 9))
        print(tried(os.splice, c.fileno(), c.fileno(), 9))
        # Of a socket that is full what was not taken stays in the pipe.
        _, c, d = tcp()
        c.setblocking(False)
        given = 0
        while True:
            os.write(w, b"k" * 60000)
            left = 60001 if not given else 60000
            while left and isinstance(took := tried(os.splice, r, c.fileno(), left), int):
                left -= took
                given += took
            if left:
                break
        rest = len(os.read(r, 99999))
        c.close()
        got = 0
        while data := d.recv(1 << 20):
            got += len(data)
        print(got == given, (given + rest) % 60000)
    """,
    "the wrong end of a pipe": """
        _, c, d = tcp()
        r, w = os.pipe()
        print(tried(os.splice, w, c.fileno(), 3), tried(os.splice, c.fileno(), r, 3))
        with open("/dev/null") as file:
            path = os.open("/dev/null", os.O_PATH)
            print(tried(os.splice, path, c.fileno(), 3))
    """,
    "who closed first has to wait": """
        def bind_again(names):
            listener, client, server = tcp()
            address = listener.getsockname()
            held = {"listener": listener, "client": client, "server": server}
            numbers = [held.pop(name).detach() for name in names]
            for number in numbers:
                libc.close(number)
            return tried(socket.socket().bind, address)
        for names in ("server client listener", "client server listener",
                      "listener server client", "client listener server"):
            print(names, {bind_again(names.split()) for _ in range(5)})
    """,
    "Fast Open to a peer on the same host": """
        for size in 0, 1, 20000:
            listener = socket.create_server(("127.0.0.1", 0))
            listener.setsockopt(IPPROTO_TCP, TCP_FASTOPEN, 5)
            client = socket.socket()
            client.settimeout(None)
            print(client.sendto(bytes(size), MSG_FASTOPEN, listener.getsockname()))
            server, _ = listener.accept()
            client.close()
            print(len(server.recv(30000, MSG_WAITALL)))
        one = socket.socket()  # and to itself
        one.bind(("127.0.0.1", 0))
        print(one.sendto(b"", MSG_FASTOPEN, one.getsockname()), one.send(b"a"), one.recv(9))
    """,
    "urgent data": """
        _, c, d = tcp()
        signals = []
        signal.signal(signal.SIGURG, lambda *args: signals.append(args[0]))
        import fcntl
        fcntl.fcntl(c, fcntl.F_SETOWN, os.getpid())
        d.send(b"x", MSG_OOB)
        time.sleep(0.05)
        polls, epoll = select.poll(), select.epoll()
        polls.register(c, select.POLLIN | select.POLLPRI)
        epoll.register(c, select.EPOLLPRI)
        def told():
            return [bits for _, bits in polls.poll(50)], [bits for _, bits in epoll.poll(0.05)]
        print(told(), signals, [len(ready) for ready in select.select([], [], [c], 0.1)])
        print(c.recv(1, MSG_OOB), told())
        d.send(b"ab")
        d.send(b"!", MSG_OOB)
        d.send(b"cd")
        time.sleep(0.05)
        print(told(), c.recv(9), told(), c.recv(9), told(), len(signals))
        soon(d.send, b"y", MSG_OOB)
        print(select.select([], [], [c], 2)[2] == [c])
    """,
    "a socket that is closed while a call waits": """
        l, c, d = tcp()
        one, two = udp()
        for sock in (c, one):
            sock.setsockopt(SOL_SOCKET, SO_RCVTIMEO, struct.pack("qq", 0, 400000))
            number = sock.detach()
            soon(os.close, number)
            begun = time.monotonic()
            print(tried(os.read, number, 10), time.monotonic() - begun > 0.35)
            print(tried(os.read, number, 10))
        again = socket.socket()
        print(tried(again.bind, l.getsockname()))
        l.setsockopt(SOL_SOCKET, SO_RCVTIMEO, struct.pack("qq", 2, 0))
        at = l.getsockname()
        number = l.detach()
        soon(os.close, number)
        soon(lambda: socket.create_connection(at), after=0.2)
        time.sleep(0)
        libc.accept.restype = ctypes.c_int
        got = libc.accept(number, None, None)
        print(got >= 0, tried(again.connect, at))
    """,
    "a negative time to wait is none": """
        one, two = udp()
        l, c, d = tcp()
        for name in SO_RCVTIMEO, SO_SNDTIMEO:
            for sock in (one, c, l):
                sock.setsockopt(SOL_SOCKET, name, struct.pack("qq", -1, 0))
                print(struct.unpack("qq", sock.getsockopt(SOL_SOCKET, name, 16)))
        print(tried(one.recv, 10), tried(c.recv, 10), tried(l.accept))
        sent = 0
        while isinstance(took := tried(c.send, bytes(99999)), int):
            sent += took
        print(took, sent > 0)
        print(tried(c.setsockopt, SOL_SOCKET, SO_RCVTIMEO, struct.pack("qq", 0, -1)))
    """,
    "datagrams after shutdown": """
        for family, addr in ((AF_INET, "127.0.0.1"), (AF_INET6, "::1")):
            s = socket.socket(family, SOCK_DGRAM)
            s.bind((addr, 0))
            print(tried(s.shutdown, SHUT_RD), tried(s.recv, 9, MSG_DONTWAIT))
            s.connect(s.getsockname())
            soon(s.shutdown, SHUT_RD)
            print(tried(s.recv, 9), tried(s.recv, 9), tried(s.recv, 9, MSG_DONTWAIT))
            s.connect(s.getsockname())
            print(tried(s.recv, 9), tried(s.recvfrom, 9)[0], tried(s.recvmsg, 9)[0])
    """,
    "which of several sockets of a port gets a datagram": """
        for option in SO_REUSEADDR, SO_REUSEPORT:
            for family, addr in ((AF_INET, "127.0.0.1"), (AF_INET6, "::1")):
                all = []
                for number in range(4):
                    s = socket.socket(family, SOCK_DGRAM)
                    s.setsockopt(SOL_SOCKET, option, 1)
                    s.bind((addr, all[0].getsockname()[1] if all else 0))
                    all.append(s)
                    sender = socket.socket(family, SOCK_DGRAM)
                    sender.sendto(b"x", all[0].getsockname())
                    got = [isinstance(tried(s.recv, 9, MSG_DONTWAIT), bytes) for s in all]
                    print(got if option == SO_REUSEADDR else got.count(True))
    """,
    "sockets that share a port in different ways": """
        import itertools
        ways = (), (SO_REUSEADDR,), (SO_REUSEPORT,), (SO_REUSEADDR, SO_REUSEPORT)
        kinds = (AF_INET, "127.0.0.1"), (AF_INET, "0.0.0.0"), (AF_INET6, "::")
        ends = list(itertools.product(kinds, repeat=3))
        for kind, ends in itertools.product((SOCK_DGRAM, SOCK_STREAM), ends):
            for order in itertools.product(ways, repeat=3):
                all = []
                for options, (family, addr) in zip(order, ends):
                    s = socket.socket(family, kind)
                    for option in options:
                        s.setsockopt(SOL_SOCKET, option, 1)
                    print(tried(s.bind, (addr, 7777)), end=" ")
                    all.append(s)
                print(kind.name, [addr for _, addr in ends], order)
                for s in all:
                    s.close()
    """,
    "from a v4-mapped source to an address of IPv6": """
        for addr in "::ffff:127.0.0.1", "::ffff:0.0.0.0":
            for kind in SOCK_DGRAM, SOCK_STREAM:
                s = socket.socket(AF_INET6, kind)
                s.bind((addr, 0))
                if kind == SOCK_DGRAM:
                    print(tried(s.sendto, b"x", ("::1", 99)))
                print(tried(s.connect, ("::1", 99)))
    """,
    "groups of netlink": """
        def listed(s):
            return [s.getsockopt(270, 9, size) for size in (100, 8)]
        for protocol in 0, 4, 16:
            s = socket.socket(AF_NETLINK, SOCK_RAW, protocol)
            print(protocol, listed(s), tried(s.setsockopt, 270, 1, 1), listed(s))
            print(tried(s.setsockopt, 270, 2, 1), listed(s))
        s = socket.socket(AF_NETLINK, SOCK_RAW, 0)
        s.bind((0, 1 << 4))
        print(listed(s), tried(s.setsockopt, 270, 1, 33), listed(s))
    """,
    "rights in a user namespace of its own": """
        libc.unshare(0x10000000)
        print(tried(socket.socket, AF_INET, SOCK_RAW, IPPROTO_UDP))
        print(tried(socket.socket, AF_PACKET, SOCK_DGRAM, 768))
        one, two = udp()
        print(tried(one.setsockopt, SOL_SOCKET, 33, 1 << 20), tried(one.send, b""))
        print(tried(one.setsockopt, SOL_SOCKET, SO_MARK, 5))
        print(tried(two.send, b"x"), one.recv(9))
    """,
    "a checksum that the program left in an ICMPv6 packet": """
        s = socket.socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6)  # root's, as AF_PACKET is
        s.settimeout(2)
        for check in 0, 1, 0xFFFF:
            s.sendto(struct.pack("!BBHHH", 128, 0, check, 7, check), ("::1", 0))
            got = []
            while not got or got[-1][0] != 129:
                got.append(s.recv(99))
            print([(data[0], data[4:]) for data in got])
    """,
    "the address that a sender of multicast sees": """
        one, two = (socket.socket(AF_INET, SOCK_DGRAM) for _ in range(2))
        one.bind(("", 0))
        group, lo = inet_aton("224.0.2.1"), inet_aton("127.0.0.1")
        one.setsockopt(IPPROTO_IP, IP_ADD_MEMBERSHIP, group + lo)
        one.setsockopt(IPPROTO_IP, IP_PKTINFO, 1)
        for source in "127.0.0.1", "127.0.0.5":
            two = socket.socket(AF_INET, SOCK_DGRAM)
            two.bind((source, 0))
            two.setsockopt(IPPROTO_IP, IP_MULTICAST_IF, lo)
            two.sendto(b"x", ("224.0.2.1", one.getsockname()[1]))
            (level, kind, data), = one.recvmsg(9, 99)[1]
            print(data[4:8], data[8:])
    """,
    "what is closed is so at once": """
        def count(call, rounds=20):
            results = [tried(call, i) for i in range(rounds)]
            print(call.__name__, {result: results.count(result) for result in results})
        def listen_again(i):
            one = socket.create_server(("127.0.0.1", 0))
            address = one.getsockname()
            one.close()
            socket.create_server(address).close()
        def connect_to_what_is_closed(i):
            one = socket.create_server(("127.0.0.1", 0))
            address = one.getsockname()
            one.close()
            socket.socket().connect(address)
        def end_of_data(i):
            _, one, other = tcp()
            other.setblocking(False)
            one.close()
            return other.recv(9)
        def reset(i):
            _, one, other = tcp()
            other.setblocking(False)
            other.send(b"x")
            time.sleep(0.002)
            one.close()
            return other.recv(9)
        def end_seen_by_epoll(i):
            listener, one, other = tcp()
            poll = select.epoll()
            poll.register(other, select.EPOLLIN)
            (one if i % 2 else listener).close()
            before = poll.poll(0)
            one.close()
            return before == [], poll.poll(0) != []
        def never_accepted(i):
            one = socket.create_server(("127.0.0.1", 0))
            other = socket.create_connection(one.getsockname())
            poll = select.epoll()
            poll.register(other, select.EPOLLIN)
            one.close()
            return str([events for _, events in poll.poll(0)])
        def bind_again(i):
            one, two = socket.socket(AF_INET, SOCK_DGRAM), socket.socket(AF_INET, SOCK_DGRAM)
            one.bind(("127.0.0.1", 0))
            address = one.getsockname()
            one.close()
            two.bind(address)
        def killed(i):
            out, into = os.pipe()
            child = os.fork()
            if not child:
                one = socket.create_server(("127.0.0.1", 0))
                os.write(into, str(one.getsockname()[1]).encode())
                if i % 2:
                    os._exit(0)
                time.sleep(9)
            port = int(os.read(out, 9))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            socket.create_server(("127.0.0.1", port)).close()
        for call in (listen_again, connect_to_what_is_closed, end_of_data, reset, bind_again,
                     end_seen_by_epoll, never_accepted):
            count(call)
        count(killed)
    """,
    "another user": """
        if os.geteuid():
            print("one user")
            sys.exit()
        stream, datagram = socket.socket(), socket.socket(AF_INET, SOCK_DGRAM)
        os.setuid(65534)
        print(tried(stream.bind, ("127.0.0.1", 79)))
        print(tried(socket.socket, AF_INET, SOCK_RAW, 1))
        print(tried(socket.socket, AF_PACKET, SOCK_RAW, 1))
        for level, option, value in ((1, 36, 5), (1, 12, 7), (1, 33, 9999), (0, 19, 1), (1, 12, 6)):
            print(option, tried(datagram.setsockopt, level, option, value))
        print(tried(open, "/proc/sys/net/ipv4/ip_forward", "w"))
    """,
    "errors about a host's own datagrams have no limit": """
        for family, address in ((AF_INET, "127.0.0.1"), (AF_INET6, "::1")):
            asks = socket.socket(family, SOCK_DGRAM)
            asks.connect((address, 9))
            asks.settimeout(2)
            print({(tried(asks.send, b"x"), tried(asks.recv, 1)) for _ in range(120)})
    """,
    "policies of sockets": """
        def policy(way, action=0, size=0, family=AF_INET):
            selector = struct.pack("=32s8xHBBB3xiI", b"", family, 0, 0, 0, 0, 0)
            tail = struct.pack("=IIBBBB4x", 0, 0, way, action, 0, 0)
            return (selector + bytes(96) + tail).ljust(size, b"\\0")
        one, two = udp()
        one.setblocking(False)
        def sent(data):
            print(tried(two.send, data))
            time.sleep(0.05)
            print(tried(one.recv, 9))
        for sock, way in ((two, 1), (one, 0)):
            sock.setsockopt(SOL_IP, 17, policy(way, 1))  # block
            sent(b"one")
            sock.setsockopt(SOL_IP, 17, policy(way, 0))  # allow
            sent(b"two")
            sock.setsockopt(SOL_IP, 17, policy(way, 1, family=AF_INET6))
            sent(b"two")
            sock.setsockopt(SOL_IP, 17, policy(way, 1))
            libc.setsockopt(sock.fileno(), 0, 17, None, 0)
            sent(b"three")
        six = socket.socket(AF_INET6, SOCK_DGRAM)
        rows = (one, 0, 17), (six, 0, 17), (six, 41, 35), (one, 41, 35)
        values = [policy(1), policy(2), policy(0, 2), policy(0, family=77), policy(1, 0, 5000)]
        values += [policy(1)[:-1], policy(0, 0, 168 + 63), policy(0, 0, 168 + 64), b""]
        for sock, level, name in rows:
            print(name, *(tried(sock.setsockopt, level, name, value) for value in values))
            print(tried(sock.getsockopt, level, name, 200))
        """,
    "errors and hang-ups, as epoll and poll tell them": """
        def told(what, *sockets):
            poll, epoll = select.poll(), select.epoll()
            for one in sockets:
                poll.register(one, 0x2007)
                epoll.register(one, 0x2007)
            yield
            while True:
                time.sleep(0.1)
                rows = [dict(table.poll(0)) for table in (poll, epoll)]
                print(what, *([row.get(one.fileno(), 0) for one in sockets] for row in rows))
                yield
        listener, client, server = tcp()
        ears = told("ends", client, server)
        next(ears), next(ears)
        client.shutdown(SHUT_WR)
        next(ears)
        server.close()
        _, server, _ = tcp()
        next(ears)
        client.close()
        _, client, server = tcp()
        reset = told("reset", client)
        next(reset), next(reset)
        server.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        next(reset), next(reset)
        print(errno.errorcode[client.getsockopt(SOL_SOCKET, SO_ERROR)])
        next(reset)
        print(client.recv(1))
        held = socket.socket(AF_INET, SOCK_STREAM)  # nobody else gets its port
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        refused = socket.socket(AF_INET, SOCK_STREAM)
        refused.setblocking(False)
        ears = told("refused", refused)
        next(ears)
        print(tried(refused.connect, ("127.0.0.1", port))[0])
        next(ears)
        print(tried(refused.recv, 1), tried(refused.send, b"x")[0])
        next(ears)
        """,
    "a filter, in the program's own memory": """
        SO_ATTACH_FILTER = 26
        one, two = udp()
        # Those that begin with "a": ldb [8]; jeq 'a', 0, 1; ret -1; ret 0
        code = [(0x30, 0, 0, 8), (0x15, 0, 1, 97), (6, 0, 0, 0xFFFFFFFF), (6, 0, 0, 0)]
        insns = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *row) for row in code))

        def attach(count, addr):
            one.setsockopt(SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", count, addr))

        def get(room):
            found, length = ctypes.create_string_buffer(64), ctypes.c_int(room)
            done = libc.getsockopt(one.fileno(), SOL_SOCKET, SO_ATTACH_FILTER, found,
                ctypes.byref(length))
            print(done, ctypes.get_errno() if done else 0, length.value, found.raw.rstrip(b"\\0"))

        get(0)
        attach(4, ctypes.addressof(insns))
        for word in (b"no", b"and", b"not", b"also"):
            two.send(word)
        print(one.recv(9), one.recv(9), tried(one.recv, 9, MSG_DONTWAIT))
        get(0), get(3), get(4), get(8)
        for count, addr in ((4, 8), (0, ctypes.addressof(insns)), (5000, ctypes.addressof(insns))):
            print(tried(attach, count, addr))
        """,
    "addresses": """
        for family in (AF_INET, AF_INET6):
            listener, client, server = tcp(family)
            print(client.getpeername() == listener.getsockname())
            print(server.getpeername() == client.getsockname(), client.getsockname()[0])
            print(tried(listener.getpeername))
        """,
    "a stream": """
        _, client, server = tcp()
        data = os.urandom(3_000_000)
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        print(server.recv(len(data), MSG_WAITALL) == data)
        sender.join()
        client.shutdown(SHUT_WR)
        print(server.recv(10), tried(client.send, b"x"))
        server.close()
        print(client.recv(10))
        """,
    "datagrams": """
        one, two = udp()
        two.send(b"hello")
        two.send(b"")
        data, name = one.recvfrom(3)
        print(data, name == two.getsockname())
        print(one.recvfrom(100)[0])
        print(tried(two.send, bytes(70_000)))
        print(tried(two.sendto, b"x", ("127.0.0.1", 0)))
        one.setsockopt(SOL_IP, IP_PKTINFO, 1)
        two.sendmsg([b"a", b"bc", b"d"])
        data, control, flags, _ = one.recvmsg(100, 100)
        print(data, [(level, kind, len(what)) for level, kind, what in control], flags)
        two.send(b"0123456789")
        print(one.recvmsg(4)[:3])
        """,
    "errors": """
        one = socket.socket(AF_INET, SOCK_STREAM)
        print(tried(one.connect, ("127.0.0.1", 1)))
        print(tried(socket.socket, 77, SOCK_STREAM))
        print(tried(socket.socket, AF_INET, 99))
        print(tried(socket.socket(AF_INET, SOCK_STREAM).recv, 1))
        print(tried(socket.socket(AF_INET, SOCK_DGRAM).send, b"x"))
        listener, client, server = tcp()
        other = socket.socket(AF_INET, SOCK_STREAM)
        print(tried(other.bind, listener.getsockname()))
        print(tried(client.setsockopt, SOL_SOCKET, 9999, 1), tried(client.getsockopt, 99, 1))
        client.setblocking(False)
        print(tried(client.recv, 1), tried(client.connect, listener.getsockname()))
        """,
    "null pointers and wild ones": """
        fd = tcp()[1].fileno()
        for call, args in (
            (libc.send, (fd, 1, 5, 0)),
            (libc.connect, (fd, 0, 16)),
            (libc.getsockname, (fd, 0, 0)),
            (libc.getsockopt, (fd, 1, 3, 0, 0)),
            (libc.setsockopt, (fd, 1, 2, 1, 4)),
            (libc.setsockopt, (fd, 1, 2, 0, -1)),
            (libc.sendmsg, (fd, 8, 0)),
            (libc.writev, (fd, 8, 1)),
            (libc.writev, (fd, 8, -1)),
            (libc.writev, (fd, 8, 5000)),
            (libc.ioctl, (fd, 0x541B, 1)),
        ):
            print(call.__name__, call(*args), errno.errorcode.get(ctypes.get_errno()))
        """,
    "options": """
        _, client, server = tcp()
        client.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        print(client.getsockopt(IPPROTO_TCP, TCP_NODELAY), client.getsockopt(SOL_SOCKET, SO_TYPE))
        print(client.getsockopt(SOL_SOCKET, SO_ERROR), client.getsockopt(SOL_SOCKET, SO_ACCEPTCONN))
        client.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        print(client.getsockopt(SOL_SOCKET, SO_LINGER, 8))
        client.close()
        print(tried(server.recv, 1))
        """,
    "timeouts": """
        _, client, server = tcp()
        client.setsockopt(SOL_SOCKET, SO_RCVTIMEO, struct.pack("ll", 0, 100_000))
        began = time.monotonic()
        print(tried(client.recv, 1), 0.09 < time.monotonic() - began < 5)
        """,
    "poll and select": """
        listener, client, server = tcp()
        print(select.select([client, server], [client], [], 0.1) == ([], [client], []))
        poller = select.poll()
        poller.register(client, select.POLLIN)
        poller.register(0, select.POLLIN)
        poller.unregister(0)
        print(poller.poll(50))
        soon(server.send, b"hello")
        print([events for _, events in poller.poll(10_000)])
        print(client.recv(100), poller.poll(0))
        soon(server.close)
        poller.modify(client, select.POLLIN | select.POLLRDHUP)
        print([events for _, events in poller.poll(10_000)])
        read, write = os.pipe()
        soon(os.write, write, b"x")
        other = tcp()[1]
        print(select.select([read, other], [], [], 10)[0] == [read])
        """,
    "poll tells errors and hang-ups": """
        poller = select.poll()
        fresh = socket.socket(AF_INET, SOCK_STREAM)
        poller.register(fresh, select.POLLIN | select.POLLOUT)
        print([events for _, events in poller.poll(0)])
        poller.unregister(fresh)
        one = socket.socket(AF_INET, SOCK_DGRAM)
        one.setsockopt(SOL_IP, 11, 1)  # IP_RECVERR
        one.connect(("127.0.0.1", 1))
        one.send(b"nobody is there")
        poller.register(one, select.POLLIN)
        found = []
        while found != [select.POLLERR]:
            found = [events for _, events in poller.poll(10_000)]
        print(tried(one.recv, 1), len(one.recvmsg(100, 1000, MSG_ERRQUEUE)[1]))
        print(tried(one.recvmsg, 100, 1000, MSG_ERRQUEUE), poller.poll(0))
        poller.unregister(one)
        _, client, server = tcp()
        client.shutdown(SHUT_WR)
        server.close()
        time.sleep(0.1)
        poller.register(client, select.POLLIN | select.POLLRDHUP)
        print([events for _, events in poller.poll(0)])
        """,
    "a full buffer is not writable": """
        _, client, server = tcp()
        client.setblocking(False)
        sent = 0
        while isinstance(n := tried(client.send, bytes(65536)), int):
            sent += n
        print(n, select.select([], [client], [], 0)[1])
        got = 0
        while got < sent:
            got += len(server.recv(1 << 20))
        print(got == sent, select.select([], [client], [], 10)[1] == [client])
        """,
    "epoll, levels and edges": """
        _, client, server = tcp()
        level, edge = select.epoll(), select.epoll()
        level.register(client, select.EPOLLIN)
        edge.register(client, select.EPOLLIN | select.EPOLLET)
        names = lambda found: [events for _, events in found]
        print(names(level.poll(0)), names(edge.poll(0)))
        server.send(b"one")
        print(names(level.poll(10)), names(level.poll(10)))
        print(names(edge.poll(10)), names(edge.poll(0.05)))
        server.send(b"two")
        print(names(edge.poll(10)), names(edge.poll(0.05)))
        print(client.recv(100), names(level.poll(0.05)))
        once = select.epoll()
        once.register(client, select.EPOLLIN | select.EPOLLONESHOT)
        server.send(b"three")
        print(names(once.poll(10)), names(once.poll(0.05)))
        """,
    "a connection that does not block": """
        listener = tcp()[0]
        client = socket.socket(AF_INET, SOCK_STREAM)
        client.setblocking(False)
        print(client.connect_ex(listener.getsockname()) in (0, errno.EINPROGRESS))
        print(select.select([], [client], [], 10)[1] == [client])
        print(client.getsockopt(SOL_SOCKET, SO_ERROR))
        refused = socket.socket(AF_INET, SOCK_STREAM)
        refused.setblocking(False)
        refused.connect_ex(("127.0.0.1", 1))
        print(select.select([], [refused], [], 10)[1] == [refused])
        print(errno.errorcode[refused.getsockopt(SOL_SOCKET, SO_ERROR)])
        """,
    "dup, fork and exec": """
        listener, client, server = tcp()
        again = os.dup(client.fileno())
        client.close()
        os.write(again, b"dup ")
        print(server.recv(100))
        child = os.fork()
        if not child:
            os.write(again, b"child ")
            os._exit(7)
        os.close(again)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print(server.recv(100), server.recv(100))
        _, client, server = tcp()
        os.set_inheritable(client.fileno(), True)
        text = f"import os; os.write({client.fileno()}, b'executed')"
        child = os.posix_spawn(sys.executable, [sys.executable, "-c", text], os.environ)
        client.close()
        print(server.recv(100), server.recv(100))
        os.waitpid(child, 0)
        """,
    "a server that forks": """
        listener = tcp()[0]
        for number in range(3):
            client = socket.socket(AF_INET, SOCK_STREAM)
            client.connect(listener.getsockname())
            conn, _ = listener.accept()
            if not os.fork():
                client.close()
                conn.sendall(conn.recv(100)[::-1])
                os._exit(0)
            conn.close()
            client.send(b"abc")
            print(client.recv(100), client.recv(100))
            os.wait()
        """,
    "descriptors over AF_UNIX": """
        here, there = socketpair(AF_UNIX)
        _, client, server = tcp()
        socket.send_fds(here, [b"x"], [client.fileno()])
        client.close()
        _, (number,), _, _ = socket.recv_fds(there, 1, 1)
        os.write(number, b"passed")
        print(server.recv(100))
        os.close(number)
        print(server.recv(100))
        """,
    "a socket as standard input and output": """
        _, client, server = tcp()
        child = os.fork()
        if not child:
            os.dup2(client.fileno(), 0)
            os.dup2(client.fileno(), 1)
            os.execvp("sh", ["sh", "-c", "echo ready; read line; echo got $line; cat"])
        client.close()
        file = server.makefile("rw")
        print(file.readline())
        file.write("one\\ntwo\\n")
        file.flush()
        print(file.readline(), file.readline())
        server.shutdown(SHUT_WR)
        print(file.read(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
    "signals": """
        _, client, server = tcp()
        alarms = []
        signal.signal(signal.SIGALRM, lambda *_: alarms.append(1))
        signal.siginterrupt(signal.SIGALRM, True)
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        fd = client.fileno()
        room = ctypes.create_string_buffer(8)
        print(libc.recv(fd, room, 8, 0), errno.errorcode[ctypes.get_errno()])
        signal.siginterrupt(signal.SIGALRM, False)
        soon(server.send, b"later", after=0.4)
        print(libc.recv(fd, room, 8, 0), room.value, len(alarms) > 1)
        signal.setitimer(signal.ITIMER_REAL, 0)
        server.close()
        client.recv(1)
        tried(client.send, b"x")
        time.sleep(0.1)
        signal.signal(signal.SIGPIPE, lambda *_: print("pipe"))
        print(tried(client.send, b"x"))
        print(tried(client.send, b"x", MSG_NOSIGNAL))
        """,
    "a signal in the midst of a send": """
        _, client, server = tcp()
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.siginterrupt(signal.SIGALRM, True)
        signal.setitimer(signal.ITIMER_REAL, 0.3, 0.3)
        room = bytes(50_000_000)
        sent = libc.send(client.fileno(), room, ctypes.c_size_t(len(room)), 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(0 < sent < len(room))
        client.shutdown(SHUT_WR)
        got = 0
        while data := server.recv(1 << 20):
            got += len(data)
        print(got == sent)
        """,
    "the end of it by a signal": """
        _, client, server = tcp()
        server.close()
        client.recv(1)
        tried(client.send, b"x")
        time.sleep(0.1)
        print("before", flush=True)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        client.send(b"x")
        print("after")
        """,
    "threads": """
        listener, _, _ = tcp()
        def serve():
            while True:
                conn, _ = listener.accept()
                threading.Thread(target=echo, args=(conn,), daemon=True).start()
        def echo(conn):
            while data := conn.recv(65536):
                conn.sendall(data)
            conn.close()
        threading.Thread(target=serve, daemon=True).start()
        def ask(number):
            client = socket.socket(AF_INET, SOCK_STREAM)
            client.connect(listener.getsockname())
            for turn in range(20):
                client.sendall(bytes([number]) * 1000)
                assert client.recv(1000, MSG_WAITALL) == bytes([number]) * 1000
            client.close()
            done.append(number)
        done = []
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(sorted(done))
        """,
    "a thread that waits for readiness": """
        _, client, server = tcp()
        def wait():
            ready = select.epoll()
            ready.register(client, select.EPOLLIN)
            for turn in range(3):
                print(len(ready.poll(10)), client.recv(100), ready.poll(0.05))
                done.release()
        done = threading.Semaphore(0)
        thread = threading.Thread(target=wait)
        thread.start()
        for turn in range(3):
            server.send(b"data")
            done.acquire()
        thread.join()
        """,
    "many messages in a call": """
        one, two = udp()
        for number in range(5):
            two.send(bytes([number]) * number)
        MSG_WAITFORONE = 0x10000
        class iovec(ctypes.Structure):
            _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
        class msghdr(ctypes.Structure):
            _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint),
                        ("iov", ctypes.POINTER(iovec)), ("iovlen", ctypes.c_size_t),
                        ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
                        ("flags", ctypes.c_int)]
        class mmsghdr(ctypes.Structure):
            _fields_ = [("hdr", msghdr), ("len", ctypes.c_uint)]
        rooms = [ctypes.create_string_buffer(16) for _ in range(8)]
        iovs = [iovec(ctypes.addressof(room), 16) for room in rooms]
        rows = (mmsghdr * 8)(*(mmsghdr(msghdr(None, 0, ctypes.pointer(iov), 1)) for iov in iovs))
        print(libc.recvmmsg(one.fileno(), rows, 8, MSG_DONTWAIT, None))
        print([row.len for row in rows][:5])
        for row, iov in zip(rows, iovs):
            iov.len = 3
        print(libc.sendmmsg(two.fileno(), rows, 4, 0), [row.len for row in rows][:4])
        print([len(one.recv(100)) for _ in range(4)])
        soon(two.send, b"one")
        soon(two.send, b"two", after=0.3)
        print(libc.recvmmsg(one.fileno(), rows, 2, 0, None))
        soon(two.send, b"three")
        print(libc.recvmmsg(one.fileno(), rows, 2, MSG_WAITFORONE, None))
        limit = (ctypes.c_long * 2)(0, 50_000_000)
        soon(two.send, b"late")
        print(libc.recvmmsg(one.fileno(), rows, 2, 0, limit), list(limit))
        limit[1] = 1 << 40
        print(libc.recvmmsg(one.fileno(), rows, 2, 0, limit), errno.errorcode[ctypes.get_errno()])
        """,
    "sendfile": """
        _, client, server = tcp()
        with open(sys.executable, "rb") as file:
            print(os.sendfile(client.fileno(), file.fileno(), 100, 5000))
            want = os.pread(file.fileno(), 5000, 100)
            print(server.recv(5000, MSG_WAITALL) == want, file.tell())
            print(os.sendfile(client.fileno(), file.fileno(), None, 10))
            print(os.lseek(file.fileno(), 0, 1))
            signal.signal(signal.SIGPIPE, lambda *_: print("SIGPIPE"))
            client.shutdown(SHUT_WR)
            print(tried(os.sendfile, client.fileno(), file.fileno(), 0, 10))
        """,
    "sendfile takes all that a blocking socket can wait for": """
        _, client, server = tcp()
        data = os.urandom(3 << 20)
        fd = os.memfd_create("data")
        os.write(fd, data)
        got = bytearray()
        def read():
            while piece := server.recv(50000):
                got.extend(piece)
        reader = threading.Thread(target=read)
        soon(reader.start)
        print(os.sendfile(client.fileno(), fd, 0, 1 << 40), os.lseek(fd, 0, 1))
        os.lseek(fd, 1 << 20, 0)
        print(os.sendfile(client.fileno(), fd, None, 2_000_000), os.lseek(fd, 0, 1))
        client.shutdown(SHUT_WR)
        reader.join()
        print(got == data + data[1 << 20 :][:2_000_000])
        _, client, server = tcp()
        client.setblocking(False)
        print(0 < os.sendfile(client.fileno(), fd, 0, 3 << 20))
        for _ in range(99):
            tried(os.sendfile, client.fileno(), fd, 0, 3 << 20)
        print(tried(os.sendfile, client.fileno(), fd, 0, 10))
        """,
    "bytes that wait": """
        import fcntl, termios
        one, two = udp()
        two.send(b"12345")
        room = array.array("i", [0])
        fcntl.ioctl(one, termios.FIONREAD, room)
        print(room[0], one.recv(2, MSG_PEEK), one.recv(10))
        with open(sys.executable, "rb") as file:
            fcntl.ioctl(file, termios.FIONREAD, room)
            print(room[0] > 0)
        """,
    "what is not of the network": """
        here, there = socketpair(AF_UNIX)
        here.send(b"unix")
        print(there.recv(10))
        read, write = os.pipe()
        os.write(write, b"pipe")
        print(os.read(read, 10))
        with open("/proc/self/comm") as file:
            print(file.read())
        print(tried(os.read, 77, 1), tried(os.write, 77, b"x"))
        """,
    "a packet socket's ring, and bad requests for one": """
        import mmap
        VERSION, RESERVE, HDRLEN, RX_RING, SOL_PACKET = 10, 12, 11, 5, 263
        tap = socket.socket(AF_PACKET, SOCK_RAW, 0)
        def hdrlen(version, room=4):
            value, size = ctypes.c_int(version), ctypes.c_int(room)
            done = libc.getsockopt(tap.fileno(), SOL_PACKET, HDRLEN, ctypes.byref(value),
                ctypes.byref(size))
            print(done, ctypes.get_errno() if done else (value.value, size.value))
        hdrlen(0), hdrlen(1), hdrlen(2), hdrlen(3), hdrlen(-1), hdrlen(2, 3), hdrlen(2, 8)
        def ring(*request):
            return tried(tap.setsockopt, SOL_PACKET, RX_RING, struct.pack("=7I", *request))
        def maps(size, offset=0, shared=1, fd=None):
            libc.mmap.restype = ctypes.c_void_p
            where = libc.mmap(None, ctypes.c_size_t(size), 3, shared,
                tap.fileno() if fd is None else fd, ctypes.c_size_t(offset))
            failed = where == ctypes.c_void_p(-1).value
            return errno.errorcode[ctypes.get_errno()] if failed else where
        good = 4096, 4, 2048, 8, 60000, 0, 0
        print(maps(4096))
        print(tap.setsockopt(SOL_PACKET, VERSION, 1), ring(*good))
        print(tried(tap.setsockopt, SOL_PACKET, VERSION, 2))
        print(tried(tap.setsockopt, SOL_PACKET, RESERVE, 4))
        print(maps(4096), maps(16384, 4096), maps(16384, 1), maps(0), maps(1 << 63))
        print(maps(16384, 0, 1, 77), ring(*good))
        os.set_inheritable(tap.fileno(), True)
        before = os.fstat(tap.fileno()).st_mode
        area = maps(16384 - 100)
        tap.bind(("lo", 3))
        print(os.fstat(tap.fileno()).st_mode == before, os.get_inheritable(tap.fileno()))
        print(ring(0, 0, 0, 0, 0, 0, 0))
        one, two = udp()
        two.send(b"frame")
        print(select.select([tap], [], [], 5)[0] == [tap], one.recv(9))
        view = (ctypes.c_char * 16384).from_address(area)
        status, length, snaplen, mac, net = struct.unpack_from("=IIIHH", view)
        print(status & 1, length, snaplen, mac, net, view[net + 28:net + 33])
        print(tried(tap.recv, 100, MSG_DONTWAIT))
        child = os.fork()
        if not child:
            os._exit(view[2048 + net + 28:2048 + net + 33] != b"frame")
        print(os.waitpid(child, 0)[1])
        polled, epolled = select.poll(), select.epoll()
        polled.register(tap, 1), epolled.register(tap, 1)
        def emptied():
            libc.memset(ctypes.c_void_p(area), 0, 16384)
            end = time.monotonic() + 20  # a host tells epoll a little later
            while epolled.poll(0) and time.monotonic() < end:
                time.sleep(0.001)
            return epolled.poll(0)
        libc.memset(ctypes.c_void_p(area), 0, 16384)
        print(polled.poll(0), select.select([tap], [], [], 0)[0], epolled.poll(0))
        two.send(b"again"), one.recv(9)
        print(select.select([tap], [], [], 5)[0] == [tap], len(epolled.poll(5)))
        print(emptied())
        two.send(b"again"), one.recv(9)
        print(select.select([tap], [], [], 5)[0] == [tap])
        libc.memset(ctypes.c_void_p(area), 0, 16384)
        print(select.select([tap], [], [], 0)[0], epolled.poll(0))
        epolled.close()
        print(libc.munmap(ctypes.c_void_p(area), 16384), ring(0, 0, 0, 0, 0, 0, 0))
        print(maps(16384), ring(*good))
        last = maps(16384)
        tap.close()  # and nobody calls about it any more
        (ctypes.c_char * 16384).from_address(last)[0] = 1
        """,
    "a packet socket's ring to send": """
        import mmap
        VERSION, TX_RING, SOL_PACKET, REQUEST, WRONG = 10, 13, 263, 1, 4
        ear = socket.socket(AF_PACKET, SOCK_RAW, 0)
        ear.bind(("lo", 0x88B5))
        tap = socket.socket(AF_PACKET, SOCK_RAW, 0)
        tap.bind(("lo", 0))
        tap.setsockopt(SOL_PACKET, VERSION, 1)
        tap.setsockopt(SOL_PACKET, TX_RING, struct.pack("=4I", 4096, 2, 2048, 4))
        ring = mmap.mmap(tap.fileno(), 8192)
        frame = bytes(12) + b"\\x88\\xb5" + b"ring"
        for slot, length in enumerate((100, 60, 4000, 200)):
            at = 2048 * slot
            ring[at + 32 : at + 32 + len(frame)] = frame
            struct.pack_into("=I", ring, at + 4, length)
            struct.pack_into("=I", ring, at, REQUEST)
        def statuses():
            return [struct.unpack_from("=I", ring, 2048 * slot)[0] for slot in range(4)]
        def heard():
            while select.select([ear], [], [], 0.2)[0]:
                print(len(got := ear.recv(5000)), got[12:18], set(got[18:]))
        for _ in range(3):
            print(tried(tap.send, b""), statuses())
            heard()
        print(select.select([], [tap], [], 0)[1] == [tap], tried(tap.send, b"x" * 20))
        child = os.fork()
        if not child:  # the ring is the child's as well
            struct.pack_into("=I", ring, 4096 + 4, 40)
            struct.pack_into("=I", ring, 4096, REQUEST)
            os._exit(tap.send(b"") != 240)
        print(os.waitpid(child, 0)[1])
        heard()
        ring.close()
        print(tap.setsockopt(SOL_PACKET, TX_RING, bytes(16)))
        """,
    "a datagram peeked at from an offset": """
        one, two = udp()
        two.send(b"0123456789")
        for size in (100, 6, 5, 10):
            one.setsockopt(SOL_SOCKET, 42, 4)
            print(one.recvmsg(size, 0, MSG_PEEK)[:3], one.getsockopt(SOL_SOCKET, 42))
        """,
    "memory that is not there": """
        page = 4096
        libc.mmap.restype = ctypes.c_size_t
        def memory():
            at = libc.mmap(None, ctypes.c_size_t(2 * page), 3, 0x22, -1, ctypes.c_long(0))
            libc.munmap(ctypes.c_size_t(at + page), ctypes.c_size_t(page))
            return at
        def said(call, number, *args):
            ctypes.set_errno(0)
            n = call(number, *(ctypes.c_size_t(arg) for arg in args))
            return n if n >= 0 else errno.errorcode[ctypes.get_errno()]
        kept = []
        def vector(*parts):
            kept.append((ctypes.c_size_t * (2 * len(parts)))(*sum(parts, ())))
            return ctypes.addressof(kept[-1])
        at = memory()
        ctypes.memset(at, 120, page)
        end = at + page
        for kind, ends in (("tcp", tcp()[1:]), ("udp", udp()[::-1])):
            out, into = (one.fileno() for one in ends)
            print(kind, said(libc.write, out, 8, 10), said(libc.write, out, end - 5, 10))
            print(said(libc.writev, out, vector((at, 10), (8, 10)), 2), said(libc.write, out, 8, 0))
            print(said(libc.writev, out, vector((at, 0), (end - 20, 20)), 2))
            print(said(libc.write, out, at, 30), said(libc.writev, out, 8, 2))
            print(said(libc.read, into, 8, 5), said(libc.read, into, end - 3, 5))
            print(said(libc.readv, into, vector((at, 3), (8, 10)), 2))
            ends[1].setblocking(False)
            print([tried(ends[1].recv, 20) for _ in range(5)])
        """,
    "asyncio": """
        import asyncio
        async def main():
            async def echo(reader, writer):
                writer.write(await reader.read())
                await writer.drain()
                writer.close()
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            async def ask(size):
                reader, writer = await asyncio.open_connection(*address)
                writer.write(bytes(size))
                writer.write_eof()
                got = len(await reader.read())
                writer.close()
                return got
            print(await asyncio.gather(*(ask(size) for size in (0, 1, 1000, 300_000))))
        asyncio.run(main())
        """,
}


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with real_host("solo") as host:
        yield host


def has_ended(pid: int) -> bool:
    """Whether a process has, though perhaps nobody has waited for it."""
    task = seccomp.Task(pid)
    task.look()
    return task.state in ("", "Z")


def left_open(host: Host) -> int:
    """Sockets that stay open on the host; what was closed may be seen a little later."""
    end = time.monotonic() + PATIENCE_S
    while host.fdtable.fd and time.monotonic() < end:
        time.sleep(0.01)
    return len(host.fdtable.fd)


@pytest.mark.parametrize("name", SCRIPTS)
def test_as_on_the_kernel(host: Host, name: str) -> None:
    if "AF_PACKET" in SCRIPTS[name] or name == "policies of sockets":
        require.root()
    argv = [sys.executable, "-c", HEAD + textwrap.dedent(SCRIPTS[name])]
    kernel = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    said: list[str] = []
    pipe = subprocess.PIPE
    with spawn(host, argv, log=said.append, stdout=pipe, stderr=pipe, text=True) as program:
        out, err = program.communicate(timeout=60)
        assert program.supervisor.calls
        assert left_open(host) == 0
    assert "Traceback" not in kernel.stderr, kernel.stderr
    assert err == kernel.stderr
    assert out == kernel.stdout
    assert program.returncode == kernel.returncode
    assert said == []


def test_what_is_closed_is_so_at_once_in_virtual_time() -> None:
    argv = [sys.executable, "-c", HEAD + textwrap.dedent(SCRIPTS["what is closed is so at once"])]
    kernel = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    with (
        Host("solo", clock=VirtualClock()) as host,
        spawn(host, argv, stdout=subprocess.PIPE, text=True) as program,
    ):
        assert program.communicate(timeout=60)[0] == kernel.stdout
