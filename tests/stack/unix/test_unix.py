"""AF_UNIX: what blocks, what is woken, descriptors in circles, names, and what no kernel shows."""

from __future__ import annotations

import array
import asyncio
import errno
import os
import selectors
import struct
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from stack import aio, proc
from stack.api.aio_unix import open_unix_connection, start_unix_server
from stack.core.bsd_socket import sys_close
from stack.core.drop_reason import drop_names
from stack.core.file import NR_OPEN
from stack.core.sock_flags import SOCK_DEAD
from stack.core.uapi import SO_PEERGROUPS, SO_PEERPIDFD, SO_PEERSEC
from stack.host import Host
from stack.socket import (
    AF_INET,
    AF_UNIX,
    CMSG_SPACE,
    MSG_CMSG_CLOEXEC,
    MSG_CTRUNC,
    MSG_OOB,
    MSG_PEEK,
    MSG_WAITALL,
    POLLIN,
    POLLOUT,
    SCM_CREDENTIALS,
    SCM_RIGHTS,
    SO_PASSCRED,
    SO_PEERCRED,
    SO_SNDBUF,
    SOCK_DGRAM,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
    Socket,
    recv_fds,
    send_fds,
    wait_any,
)
from tests.hosts import real_host
from tests.support import errno_of, examples

KINDS = (SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET)


@pytest.fixture
def host():
    with Host("h", clock=VirtualClock()) as host:
        yield host
    for pool in (host.skb_small, host.skb_small_head, host.skb_pages):
        assert pool.in_use == 0
    assert not host.unx.sockets
    assert host.unx.user_inflight == 0


@pytest.fixture
def live():
    with real_host("live") as host:
        yield host
    assert not host.unx.sockets


def fails(number, call, *args):
    assert errno.errorcode.get(errno_of(call, *args)) == errno.errorcode[number]


def until_it_fails(call, *args):
    """Call until that raises; what it raises."""
    while True:
        call(*args)


# --- waiting -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_waits_for_its_peer(live, kind):
    one, two = live.socketpair(type=kind)
    got = []
    reader = threading.Thread(target=lambda: got.append(two.recv(10)))
    reader.start()
    one.send(b"hello")
    reader.join()
    assert got == [b"hello"]


def test_a_stream_larger_than_its_buffer_passes(live):
    one, two = live.socketpair()
    data = os.urandom(3_000_000)
    writer = threading.Thread(target=lambda: (one.sendall(data), one.close()))
    writer.start()
    got = bytearray()
    while piece := two.recv(70_000):
        got += piece
    writer.join()
    assert got == data


def test_waitall_waits_for_all(live):
    one, two = live.socketpair()
    writer = threading.Thread(target=lambda: [one.send(b"12345") for _ in range(4)])
    writer.start()
    assert two.recv(20, MSG_WAITALL) == b"12345" * 4
    writer.join()


def test_a_datagram_waits_for_room_at_its_receiver(live):
    reader, writer = (live.socket(AF_UNIX, SOCK_DGRAM) for _ in range(2))
    reader.bind("/run/reader")
    done = threading.Event()

    def write():
        for number in range(40):
            writer.sendto(b"%d" % number, "/run/reader")
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert [int(reader.recv(10)) for _ in range(40)] == list(range(40))
    thread.join()
    assert done.is_set()


def test_connect_waits_for_the_backlog(live):
    listener = live.socket(AF_UNIX)
    listener.bind("/l")
    listener.listen(0)
    clients = [live.socket(AF_UNIX) for _ in range(4)]
    threads = [threading.Thread(target=c.connect, args=("/l",)) for c in clients]
    for thread in threads:
        thread.start()
    for _ in clients:
        listener.accept()[0].close()
    for thread in threads:
        thread.join()


def test_times_run_out_in_virtual_time(host):
    one, two = host.socketpair(type=SOCK_DGRAM)
    one.settimeout(1.5)
    before = host.clock.now_ns()
    with pytest.raises(TimeoutError):
        one.recv(1)
    assert host.clock.now_ns() - before == 1_500_000_000
    two.setsockopt(SOL_SOCKET, SO_SNDBUF, 5000)
    two.settimeout(0.25)
    with pytest.raises(TimeoutError):
        until_it_fails(two.send, bytes(1000))
    assert host.clock.now_ns() - before == 1_750_000_000
    listener, client = host.socket(AF_UNIX), host.socket(AF_UNIX)
    listener.bind("/l")
    listener.listen(0)
    client.connect("/l")
    late = host.socket(AF_UNIX)
    late.settimeout(0.25)
    with pytest.raises(TimeoutError):
        late.connect("/l")
    assert host.clock.now_ns() - before == 2_000_000_000


def test_a_reader_hears_that_its_own_socket_is_closed(live):
    one, two = live.socketpair()
    failed = []

    def read():
        try:
            one.recv(1)
        except OSError as error:
            failed.append(error.errno)

    thread = threading.Thread(target=read)
    thread.start()
    while not one.sk.sk_sleepers:
        pass
    one.close()
    thread.join()
    assert failed == [errno.EBADF]
    two.close()


def test_wait_any_hears_of_room_at_the_receiver(live):
    reader, writer = (live.socket(AF_UNIX, SOCK_DGRAM) for _ in range(2))
    reader.bind("/reader")
    writer.connect("/reader")
    writer.setblocking(False)
    with pytest.raises(BlockingIOError):
        until_it_fails(writer.send, b"x")
    assert not writer.poll() & POLLOUT
    thread = threading.Thread(target=reader.recv, args=(1,))
    thread.start()
    assert wait_any(live, [(writer, POLLOUT)], 60) == [(writer, POLLOUT)]
    thread.join()
    assert not reader.sk.peer_wait.waiters


def test_selectors_see_it(live):
    one, two = live.socketpair()
    one.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(two, selectors.EVENT_READ, "readable")
        selector.register(one, selectors.EVENT_WRITE, "writable")
        assert [key.data for key, _ in selector.select(0)] == ["writable"]
        one.send(b"x")
        assert {key.data for key, _ in selector.select(60)} == {"readable", "writable"}
        with pytest.raises(BlockingIOError):
            until_it_fails(one.send, bytes(30_000))
        assert [key.data for key, _ in selector.select(0)] == ["readable"]
        while two.poll() & POLLIN:
            two.recv(1 << 20)
        assert [key.data for key, _ in selector.select(60)] == ["writable"]


def test_asyncio(host):
    async def main():
        async def echo(reader, writer):
            writer.write(await reader.readexactly(500_000))
            await writer.drain()
            writer.close()

        server = await start_unix_server(host, echo, b"\0echo")
        reader, writer = await open_unix_connection(host, b"\0echo")
        data = os.urandom(500_000)
        writer.write(data)
        assert await reader.read(-1) == data
        writer.close()
        server.close()
        one, two = host.socketpair(type=SOCK_DGRAM)
        one.setblocking(False)
        two.setblocking(False)
        waiting = asyncio.ensure_future(aio.sock_recv(two, 10))
        await asyncio.sleep(1)
        await aio.sock_sendall(one, b"late")
        assert await waiting == b"late"

        reader, writer = (host.socket(AF_UNIX, SOCK_DGRAM) for _ in range(2))
        for sock in (reader, writer):
            sock.setblocking(False)
        reader.bind("/r")

        async def write():
            for _ in range(50):
                await aio.sock_sendto(writer, b"x", "/r")

        writing = asyncio.ensure_future(write())
        for _ in range(50):
            assert await aio.sock_recv(reader, 10) == b"x"
        await writing

    aio.run(main(), clock=host.clock)


# --- names ---------------------------------------------------------------------------------


def test_names_are_the_nets_own(host):
    other = host.netns_add("other")
    for net in (host, other):
        for name in ("/tmp/of-the-net", b"\0x"):
            net.socket(AF_UNIX).bind(name)
    assert not os.path.exists("/tmp/of-the-net")
    fails(errno.EADDRINUSE, host.socket(AF_UNIX).bind, "/tmp//./of-the-net")
    fails(errno.EADDRINUSE, host.socket(AF_UNIX).bind, b"\0x")
    fails(errno.EADDRINUSE, host.socket(AF_UNIX).bind, "/tmp")
    fails(errno.ECONNREFUSED, host.socket(AF_UNIX).connect, "/tmp")
    fails(errno.ENOTDIR, host.socket(AF_UNIX).connect, "/tmp/of-the-net/y")
    fails(errno.EISDIR, host.unlink, "/tmp")
    host.unlink("tmp/../tmp/of-the-net")
    fails(errno.ENOENT, host.unlink, "/tmp/of-the-net")
    fails(errno.ENOENT, host.socket(AF_UNIX).connect, "/tmp/of-the-net")
    assert not host.unx.folders
    other.close()


def test_names_have_pythons_form(host):
    sock = host.socket(AF_UNIX)
    assert sock.getsockname() == ""
    sock.bind("")
    name = sock.getsockname()
    assert isinstance(name, bytes)
    assert len(name) == 6
    assert name[0] == 0
    sock = host.socket(AF_UNIX)
    sock.bind(b"caf\xc3\xa9")
    assert sock.getsockname() == "café"
    host.socket(AF_UNIX).bind("/" + "x" * 106)
    host.socket(AF_UNIX).bind(b"\0" + b"x" * 107)
    fails(errno.ENAMETOOLONG, host.socket(AF_UNIX).bind, "/" + "x" * 107)
    fails(errno.ENAMETOOLONG, host.socket(AF_UNIX).bind, b"\0" + b"x" * 108)
    for wrong in (("127.0.0.1", 80), None, 5):
        with pytest.raises(TypeError):
            sock.connect(wrong)
    with pytest.raises(TypeError):
        host.socket(AF_INET).bind("/x")


def test_proc_and_ss_show_them(host):
    listener = host.socket(AF_UNIX)
    listener.bind("/l")
    listener.listen(3)
    client = host.socket(AF_UNIX)
    client.connect("/l")
    other = host.socket(AF_UNIX, SOCK_DGRAM)
    other.bind(b"\0a\0b")
    lines = proc.read(host, "unix").splitlines()
    assert lines[0] == "Num       RefCount Protocol Flags    Type St Inode Path"
    rows = [line.split()[3:] for line in lines[1:]]
    numbers = [str(sock.sk.sk_cookie) for sock in (listener, client, other)]
    assert ["00010000", "0001", "01", numbers[0], "/l"] in rows
    assert ["00000000", "0001", "03", numbers[1]] in rows
    assert ["00000000", "0002", "01", numbers[2], "@a@b"] in rows
    assert [row[2] for row in rows].count("02") == 1  # it waits to be accepted
    shown = proc.ss(host)
    assert any(
        line.split()[:4] == ["u_str", "LISTEN", "1", "3"] and "/l" in line
        for line in shown.splitlines()
    )
    assert "@a@b" in shown


# --- who the peer is -----------------------------------------------------------------------


def test_programs_are_the_namespaces_user(host):
    with Host("user", clock=host.clock, uid=1000, gid=100) as user:
        one, two = user.socketpair()
        assert one.getsockopt(SOL_SOCKET, SO_PEERCRED, 12) == struct.pack("3i", 1, 1000, 100)
        two.setsockopt(SOL_SOCKET, SO_PASSCRED, 1)
        one.send(b"x")
        control = two.recvmsg(1, 100)[1]
        assert control == [(SOL_SOCKET, SCM_CREDENTIALS, struct.pack("3i", 1, 1000, 100))]

        def claim(*who):
            one.sendmsg([b"y"], [(SOL_SOCKET, SCM_CREDENTIALS, struct.pack("iii", *who))])

        claim(1, 1000, 100)
        for who in ((1, 0, 100), (1, 1000, 0), (2, 1000, 100)):
            fails(errno.EPERM, claim, *who)
        fails(errno.EINVAL, claim, 1, -1, 100)
        one.close()
        two.close()
    one, _ = host.socketpair()
    one.sendmsg([b"y"], [(SOL_SOCKET, SCM_CREDENTIALS, struct.pack("iii", 1, 5, 6))])
    for option in (SO_PEERSEC, SO_PEERPIDFD):
        fails(errno.ENOPROTOOPT, one.getsockopt, SOL_SOCKET, option)
    assert one.getsockopt(SOL_SOCKET, SO_PEERGROUPS, 10) == b""
    inet = host.socket(AF_INET)
    assert inet.getsockopt(SOL_SOCKET, SO_PEERCRED, 12) == struct.pack("3i", 0, -1, -1)
    fails(errno.ENODATA, inet.getsockopt, SOL_SOCKET, SO_PEERGROUPS)
    fails(errno.EOPNOTSUPP, inet.setsockopt, SOL_SOCKET, SO_PASSCRED, 1)


# --- descriptors ---------------------------------------------------------------------------


def test_a_descriptor_is_the_same_socket(host):
    one, two = host.socketpair()
    server = host.socket(AF_INET)
    server.bind(("127.0.0.1", 80))
    server.listen()
    send_fds(one, [b"x"], [server.host_fd])
    server.close()
    data, fds, flags, _ = recv_fds(two, 10, 3)
    assert (data, len(fds), flags) == (b"x", 1, 0)
    found = Socket.from_host_fd(host, fds[0])
    assert (found.family, found.getsockname()) == (AF_INET, ("127.0.0.1", 80))
    client = host.socket(AF_INET)
    client.connect(("127.0.0.1", 80))
    assert found.accept()[1] == client.getsockname()
    one.send(b"y")
    assert two.recvmsg(1, 0, MSG_CMSG_CLOEXEC)[2] == MSG_CMSG_CLOEXEC


def test_what_has_no_room_is_closed(host):
    one, two = host.socketpair()
    inner, outer = host.socketpair()
    send_fds(one, [b"x"], [inner.host_fd])
    inner.close()
    assert outer.poll() & POLLIN == 0
    assert two.recvmsg(1)[1:3] == ([], MSG_CTRUNC)
    assert outer.recv(1) == b""


def test_peeking_gives_descriptors_of_their_own(host):
    one, two = host.socketpair()
    inner, outer = host.socketpair()
    send_fds(one, [b"x"], [inner.host_fd])
    inner.close()
    first = recv_fds(two, 1, 1, MSG_PEEK)[1]
    second = recv_fds(two, 1, 1)[1]
    assert first != second
    sys_close(host, first[0])
    outer.send(b"y")
    assert Socket.from_host_fd(host, second[0]).recv(1) == b"y"


def test_the_limits(host):
    one, two = host.socketpair()
    fails(errno.EINVAL, send_fds, one, [b"x"], [one.host_fd] * 254)
    send_fds(one, [b"x"], [one.host_fd] * 253)
    assert host.unx.user_inflight == 253
    assert len(recv_fds(two, 1, 253)[1]) == 253
    fails(errno.EBADF, send_fds, one, [b"x"], [9999])
    fails(errno.EBADF, send_fds, one, [b"x"], [-1])
    with Host("user", clock=host.clock, uid=1000) as user:
        one, two = user.socketpair(type=SOCK_DGRAM)
        other = user.socket(AF_INET)
        user.unx.user_inflight += NR_OPEN
        send_fds(one, [b"x"], [other.host_fd])
        fails(errno.ETOOMANYREFS, send_fds, one, [b"x"], [other.host_fd])
        user.unx.user_inflight -= NR_OPEN


def test_a_long_chain_of_sockets_in_messages_ends(host):
    """Each is in a message to the next: closing the last ends all, without a call for each."""
    first, held = host.socketpair()
    watcher = first
    for _ in range(10_000):
        one, two = host.socketpair()
        send_fds(two, [b"x"], [held.host_fd])
        held.close()
        two.close()
        held = one
    assert host.unx.user_inflight == 10_000
    held.close()
    assert host.unx.user_inflight == 0
    assert watcher.recv(1) == b""


def collect(host):
    """As on Linux the end of a socket starts the collector, which runs a little later."""
    before = host.unx.user_inflight
    host.socket(AF_UNIX).close()
    assert host.unx.user_inflight == before
    host.clock.run_for(0)


@pytest.mark.parametrize("ring", [1, 2, 5])
def test_circles_are_collected(host, ring):
    """Sockets that are in messages to each other only."""
    watched, inner = host.socketpair()
    pairs = [host.socketpair() for _ in range(ring)]
    for (_, sender), (held, _) in zip(pairs, pairs[1:] + pairs[:1], strict=True):
        send_fds(sender, [b"x"], [held.host_fd, inner.host_fd])
    inner.close()
    assert host.unx.user_inflight == 2 * ring
    for held, sender in pairs:
        sender.close()
        held.close()
    assert host.unx.user_inflight == 2 * ring
    collect(host)
    assert host.unx.user_inflight == 0
    assert watched.recv(1) == b""


def test_what_can_be_received_is_not_collected(host):
    one, two = host.socketpair()
    held, sender = host.socketpair()
    send_fds(sender, [b"x"], [held.host_fd])  # a circle, but
    send_fds(one, [b"y"], [held.host_fd])  # somebody can have it
    held.close()
    sender.close()
    collect(host)
    assert host.unx.user_inflight == 2
    (fd,) = recv_fds(two, 1, 1)[1]
    again = Socket.from_host_fd(host, fd)
    assert recv_fds(again, 1, 1)[0] == b"x"


def test_a_circle_through_a_connection_that_nobody_accepted(host):
    listener = host.socket(AF_UNIX)
    listener.bind("/l")
    listener.listen(1)
    client = host.socket(AF_UNIX)
    client.connect("/l")
    send_fds(client, [b"x"], [listener.host_fd])
    client.close()
    listener.close()
    collect(host)
    assert host.unx.user_inflight == 0
    fails(errno.ECONNREFUSED, host.socket(AF_UNIX).connect, "/l")


def test_a_host_ends_with_circles_in_it():
    with Host("h", clock=VirtualClock()) as host:
        held, sender = host.socketpair()
        send_fds(sender, [b"x"], [held.host_fd, sender.host_fd])
        sk = held.sk
    assert host.unx.user_inflight == 0
    assert sk.sk_flags & SOCK_DEAD
    assert host.skb_small_head.in_use == 0


LEVELS = st.sampled_from([SOL_SOCKET, SOL_SOCKET, SOL_SOCKET, 0, 41])
TYPES = st.sampled_from([SCM_RIGHTS, SCM_RIGHTS, SCM_CREDENTIALS, 0, 3, 4, 99])
DATA = st.one_of(
    st.binary(max_size=40),
    st.lists(st.integers(-2, 12), max_size=300).map(lambda fds: array.array("i", fds).tobytes()),
    st.tuples(st.integers(0, 2), st.integers(-1, 2), st.integers(-1, 2)).map(
        lambda who: struct.pack("iii", *who)
    ),
    st.integers(-5, 20),
)


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(st.tuples(LEVELS, TYPES, DATA), max_size=4),
    st.integers(0, 200),
    st.sampled_from(KINDS),
    st.sampled_from([0, 1000]),
)
def test_any_control_message_is_refused_or_arrives(control, room, kind, uid):
    """Nothing leaks: what was not received is closed, what was received is open."""
    with Host("h", clock=VirtualClock(), uid=uid) as host:
        one, two = host.socketpair(type=kind)
        two.setsockopt(SOL_SOCKET, SO_PASSCRED, 1)
        files = dict(host.fdtable.fd)
        failed = errno_of(one.sendmsg, [b"x"], control)
        if failed:
            assert failed in (errno.EINVAL, errno.EBADF, errno.EPERM, errno.ESRCH)
            assert host.unx.user_inflight == 0
        else:
            data, got, flags, _ = two.recvmsg(1, room)
            assert data == b"x"
            assert sum(CMSG_SPACE(len(found)) for _, _, found in got) <= room + 7
            if room >= 28:
                assert got[0][:2] == (SOL_SOCKET, SCM_CREDENTIALS)
            else:
                assert flags & MSG_CTRUNC
        extra = len(host.fdtable.fd) - len(files)
        assert sum(file.f_count for file in files.values()) == len(files) + extra
        assert host.unx.user_inflight == 0
    assert host.skb_small_head.in_use == 0


def test_packet_memory_runs_out_with_an_errno():
    with Host("small", clock=VirtualClock(), ram_bytes=1 << 20) as host:
        pairs = [host.socketpair() for _ in range(20)]
        for one, _ in pairs:
            one.setblocking(False)
        ends = {errno_of(until_it_fails, one.send, bytes(30_000)) for one, _ in pairs}
        assert ends == {errno.EAGAIN, errno.ENOBUFS}
    for pool in (host.skb_small, host.skb_small_head, host.skb_pages):
        assert pool.in_use == 0


def test_unread_messages_of_a_former_peer_are_dropped_for_a_reason(host):
    a, b = host.socketpair(AF_UNIX, SOCK_DGRAM)
    c = host.socket(AF_UNIX, SOCK_DGRAM)
    c.bind("\0c")
    b.send(b"one")
    b.send(b"two")
    a.connect("\0c")
    assert drop_names(host) == {"SKB_DROP_REASON_UNIX_DISCONNECT": 2}
    for sock in (a, b, c):
        sock.close()


def test_an_urgent_byte_that_is_skipped_is_dropped_for_a_reason(host):
    a, b = host.socketpair(AF_UNIX, SOCK_STREAM)
    a.send(b"x", MSG_OOB)
    a.send(b"y")
    assert b.recv(9) == b"y"
    assert drop_names(host) == {"SKB_DROP_REASON_UNIX_SKIP_OOB": 1}
    a.close()
    b.close()
