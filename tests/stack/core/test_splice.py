"""splice, tee, sendfile and pipes: the same programs over the kernel's sockets and over ours."""

from __future__ import annotations

import errno
import functools
import io
import os
import socket as linux
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from stack.api import fcntl, select, signal, unistd
from stack.api.unistd import O_NONBLOCK, SPLICE_F_MORE, SPLICE_F_NONBLOCK
from stack.core.bsd_socket import socket, sockfd_lookup
from stack.core.pipe import pipe_inode_info
from stack.core.rows import replace
from stack.core.uapi import FIONREAD
from stack.host import Host
from stack.socket import AF_INET, SOCK_DGRAM, SOCK_STREAM
from stack.unix.unix_stream import unix_stream_splice_read

kernel = pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel to compare with")
DATA = bytes(range(256)) * 1000
NAMES = ("read", "write", "pipe2", "sendfile", "splice", "close")


def ours(host: Host) -> Any:
    """The calls of a program on a host: `fd(sock)`, `open(path)`, os's, `socket`, `say`."""
    world = SimpleNamespace(**{n: functools.partial(getattr(unistd, n), host) for n in NAMES})
    world.socket = host.socket
    world.fd = lambda sock: sock.host_fd
    world.open = lambda path: unistd.open_file(host, open(path, "r+b", buffering=0))  # noqa: SIM115
    world.say = []
    return world


def theirs() -> Any:
    world = SimpleNamespace(**{name: getattr(os, name) for name in NAMES})
    world.socket = linux.socket
    world.fd = lambda sock: sock.fileno()
    world.open = lambda path: os.open(path, os.O_RDWR)
    world.say = []
    return world


def attempt(world: Any, call: Callable[..., Any], *args: Any, **kw: Any) -> Any:
    """Note what a call returns, or its errno."""
    try:
        found = call(*args, **kw)
    except OSError as error:
        found = errno.errorcode[error.errno or 0]
    world.say.append(found)
    return found


def connection(world: Any) -> tuple[Any, Any]:
    server = world.socket(AF_INET, SOCK_STREAM)
    server.bind(("127.0.0.1", 0))
    server.listen()
    client = world.socket(AF_INET, SOCK_STREAM)
    client.connect(server.getsockname())
    peer, _ = server.accept()
    server.close()
    return client, peer


def drain(sock: Any) -> bytes:
    found = b""
    while data := sock.recv(1 << 20):
        found += data
    return found


def send_a_file(world: Any, path: Path) -> None:
    """As a web server does: headers, the file by sendfile, and what is wrong about it."""
    client, peer = connection(world)
    file = world.open(path)
    sent = 0
    while sent < len(DATA):
        sent += world.sendfile(world.fd(client), file, sent, len(DATA))
    world.say.append(sent)
    attempt(world, world.read, file, 3)  # an offset leaves the position alone
    attempt(world, world.sendfile, world.fd(client), file, None, 10)
    attempt(world, world.read, file, 3)
    for args in ((file, len(DATA), 5), (file, -1, 5), (file, 0, 0), (99999, 0, 5)):
        attempt(world, world.sendfile, world.fd(client), *args)
    attempt(world, world.sendfile, world.fd(client), world.fd(peer), None, 5)
    attempt(world, world.sendfile, world.fd(client), world.fd(peer), 0, 5)
    attempt(world, world.sendfile, file, world.fd(peer), None, 5)
    client.close()
    world.say.append(drain(peer))
    peer.close()
    world.close(file)


def proxy(world: Any, path: Path) -> None:
    """From one connection to another through a pipe, until the end."""
    one, into = connection(world)
    out, two = connection(world)
    reading, writing = world.pipe2(0)
    one.sendall(DATA[:50_000])
    one.shutdown(linux.SHUT_WR)
    total = 0
    while got := world.splice(world.fd(into), writing, 1 << 20):
        while got:
            went = world.splice(reading, world.fd(out), got, flags=SPLICE_F_MORE)
            got -= went
            total += went
    world.say.append(total)
    out.close()
    world.say.append(drain(two))
    for sock in (one, into, two):
        sock.close()
    world.close(reading)
    world.close(writing)


def wrong(world: Any, path: Path) -> None:
    one, two = connection(world)
    server = world.socket(AF_INET, SOCK_STREAM)
    server.bind(("127.0.0.1", 0))
    server.listen()
    fresh = world.socket(AF_INET, SOCK_STREAM)
    a, b, c, d = *world.pipe2(O_NONBLOCK), *world.pipe2(O_NONBLOCK)
    file = world.open(path)
    fd = world.fd
    for src, dst, kw in (
        (fd(one), fd(two), {}),
        (file, fd(two), {}),
        (a, b, {}),
        (a, d, {}),
        (b, fd(one), {}),
        (fd(one), a, {}),
        (a, fd(one), {}),
        (a, fd(one), {"offset_src": 0}),
        (a, fd(one), {"offset_dst": 0}),
        (a, d, {"offset_dst": 0}),
        (fd(one), b, {"offset_src": 0}),
        (fd(one), b, {"offset_dst": 0}),
        (fd(one), b, {"flags": 64}),
        (fd(server), b, {}),
        (fd(fresh), b, {}),
        (99999, b, {}),
        (a, 99999, {}),
    ):
        if src == fd(one):
            one.setblocking(False)
        attempt(world, world.splice, src, dst, 10, **kw)
    attempt(world, world.splice, 99999, 99999, 0)
    world.write(d, b"data")
    two.close()
    one.setblocking(True)
    attempt(world, world.splice, fd(one), b, 10)  # the end
    world.close(a)
    attempt(world, world.splice, file, b, 10)  # nobody reads
    attempt(world, world.sendfile, b, file, None, 10)
    attempt(world, world.write, b, b"x")
    world.close(d)
    attempt(world, world.read, c, 9)
    attempt(world, world.read, c, 9)
    attempt(world, world.splice, c, fd(fresh), 9)
    for sock in (one, server, fresh):
        sock.close()
    for number in (b, c, file):
        world.close(number)


def slots(world: Any, path: Path) -> None:
    """A write goes on in a slot that was moved whole, and not in a part of one."""
    for last in (3, 2):
        a, b, c, d = *world.pipe2(O_NONBLOCK), *world.pipe2(O_NONBLOCK)
        for size in (*[3] * 15, last):
            world.write(b, b"abc")
            attempt(world, world.splice, a, d, size, flags=SPLICE_F_NONBLOCK)
        attempt(world, world.write, b, b"more")
        attempt(world, world.write, d, b"more")
        attempt(world, world.read, c, 99)
        attempt(world, world.read, a, 99)
        for number in (a, b, c, d):
            world.close(number)


def files(world: Any, path: Path) -> None:
    """File to pipe to file, at positions and at the file's own."""
    file = world.open(path)
    reading, writing = world.pipe2(O_NONBLOCK)
    attempt(world, world.splice, file, writing, 100)
    attempt(world, world.splice, file, writing, 1 << 20, offset_src=1000)
    attempt(world, world.splice, file, writing, 10, offset_src=1 << 30)
    attempt(world, world.read, reading, 200)
    attempt(world, world.splice, reading, file, 4000, offset_dst=5)
    attempt(world, world.splice, reading, file, 300)
    attempt(world, world.read, file, 10)
    attempt(world, world.sendfile, writing, file, 7, 1 << 20)
    attempt(world, world.read, reading, 1 << 20)
    attempt(world, world.splice, reading, file, 300)
    attempt(world, world.read, file, 10)
    world.close(file)
    world.say.append(path.read_bytes())
    world.close(reading)
    world.close(writing)


def datagrams(world: Any, path: Path) -> None:
    """What a pipe holds is one message, of at most its slots."""
    one, two = (world.socket(AF_INET, SOCK_DGRAM) for _ in range(2))
    two.bind(("127.0.0.1", 0))
    one.connect(two.getsockname())
    reading, writing = world.pipe2(0)
    world.write(writing, DATA[:9000])
    attempt(world, world.splice, reading, world.fd(one), 9000)
    attempt(world, world.splice, world.fd(two), writing, 20_000)
    attempt(world, world.read, reading, 20_000)
    world.write(writing, b"tail")
    attempt(world, world.splice, reading, world.fd(one), 3)
    attempt(world, world.splice, world.fd(two), writing, 2)
    attempt(world, world.read, reading, 9)
    for sock in (one, two):
        sock.close()
    world.close(reading)
    world.close(writing)


def urgent(world: Any, path: Path) -> None:
    """splice stops before the urgent byte; there a blocking one returns 0, another EAGAIN."""
    client, peer = connection(world)
    reading, writing = world.pipe2(0)
    client.send(b"before")
    client.send(b"!", linux.MSG_OOB)
    client.send(b"after")
    attempt(world, world.splice, world.fd(peer), writing, 6)
    attempt(world, world.splice, world.fd(peer), writing, 1)
    peer.setblocking(False)
    attempt(world, world.splice, world.fd(peer), writing, 1)
    attempt(world, peer.recv, 1, linux.MSG_OOB)
    attempt(world, peer.recv, 9)
    attempt(world, world.read, reading, 9)
    client.close()
    peer.close()
    world.close(reading)
    world.close(writing)


@kernel
@pytest.mark.parametrize("program", [send_a_file, proxy, wrong, slots, files, datagrams, urgent])
def test_programs_do_what_they_do_on_the_kernel(
    program: Callable[[Any, Path], None], tmp_path: Path
) -> None:
    said = []
    with Host("h", clock=VirtualClock()) as host:
        for world in (theirs(), ours(host)):
            path = tmp_path / "file"
            path.write_bytes(DATA)
            program(world, path)
            said.append(world.say)
        assert not host.fdtable.fd
    assert said[1] == said[0]


def test_a_python_file_of_any_kind(host: Host) -> None:
    one, two = host.socketpair()
    memory = io.BytesIO(b"0123456789")
    memory.seek(2)
    assert unistd.sendfile(host, one.host_fd, memory, None, 3) == 3
    assert memory.tell() == 5
    assert unistd.sendfile(host, one.host_fd, memory, 8, 100) == 2
    assert memory.tell() == 5
    assert two.recv(9) == b"23489"
    number = unistd.open_file(host, memory)
    assert unistd.write(host, number, b"ab") == 2
    assert unistd.read(host, number, 9) == b"789"
    with pytest.raises(PermissionError), select.epoll(host) as ep:
        ep.register(number)
    assert select.select(host, [number], [number], []) == ([number], [number], [])
    unistd.close(host, number)
    assert memory.getvalue() == b"01234ab789"
    with pytest.raises(OSError, match="positions"):
        unistd.open_file(host, os.fdopen(os.dup(os.pipe()[0]), "rb"))


def test_pipes_wait_on_the_hosts_clock(host: Host) -> None:
    reading, writing = unistd.pipe(host)
    clock = host.clock
    clock.call_at(clock.now_ns() + 50, lambda: unistd.write(host, writing, b"later"))
    assert unistd.read(host, reading, 9) == b"later"
    unistd.write(host, writing, bytes(65536))
    clock.call_at(clock.now_ns() + 50, lambda: unistd.read(host, reading, 8192))
    assert unistd.write(host, writing, bytes(5000)) == 5000
    assert fcntl.ioctl(host, reading, FIONREAD) == 65536 - 8192 + 5000
    one, two = host.socketpair()
    got: list[Any] = []
    signal.signal(host, signal.SIGIO, lambda number, info: got.append(number))
    fcntl.fcntl(host, reading, fcntl.F_SETOWN, signal.getpid())
    fcntl.fcntl(host, reading, fcntl.F_SETFL, fcntl.O_ASYNC)
    unistd.read(host, reading, 1 << 20)
    two.send(b"x")
    assert unistd.splice(host, one.host_fd, writing, 10, flags=SPLICE_F_NONBLOCK) == 1
    clock.run_for(1000)
    assert got == [signal.SIGIO]
    other = unistd.pipe2(host, O_NONBLOCK)
    assert unistd.tee(host, reading, other[1], 9) == 1
    assert unistd.read(host, other[0], 9) == unistd.read(host, reading, 9) == b"x"
    clock.call_at(clock.now_ns() + 50, lambda: unistd.close(host, writing))
    assert unistd.read(host, reading, 9) == b""


@pytest.mark.parametrize("slot", [True, False])
def test_splice_reads_by_the_slot_of_the_socket(host: Host, slot: bool) -> None:
    """proto_ops.splice_read when it has one, else recvmsg."""
    one, two = host.socketpair()
    sock = sockfd_lookup(host, one.host_fd)
    sizes = []

    def splice_read(sock: socket, pos: int | None, pipe: pipe_inode_info, size: int) -> int:
        sizes.append(size)
        return unix_stream_splice_read(sock, pos, pipe, size)

    assert sock.ops.splice_read is unix_stream_splice_read
    sock.ops = replace(sock.ops, splice_read=splice_read if slot else None)
    reading, writing = unistd.pipe(host)
    two.send(b"spliced")
    assert unistd.splice(host, one.host_fd, writing, 4) == 4
    assert unistd.read(host, reading, 9) == b"spli"
    assert sizes == ([4] if slot else [])


def test_what_has_no_slot_is_not_spliced_from(host: Host) -> None:
    _, writing = unistd.pipe(host)
    with select.epoll(host) as ep, pytest.raises(OSError, match=r"EINVAL|Invalid argument"):
        unistd.splice(host, ep.fileno(), writing, 4)
