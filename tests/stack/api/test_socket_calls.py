"""What CPython's own tests found in `stack.socket`; tests/cpython needs a Python that has them."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.host import Host
from stack.socket import (
    AF_INET,
    CMSG_LEN,
    CMSG_SPACE,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    Socket,
    create_connection,
    getdefaulttimeout,
    getnameinfo,
    setdefaulttimeout,
    socketpair,
)
from tests.hosts import real_host
from tests.support import errno_of


@pytest.fixture
def host() -> Iterator[Host]:
    with real_host("calls") as host:
        yield host


@pytest.fixture
def pair(host: Host) -> Iterator[tuple[Socket, Socket]]:
    one, two = socketpair(host)
    with one, two:
        yield one, two


def test_no_buffer_has_a_negative_size(pair: tuple[Socket, Socket]) -> None:
    for size in (-1, -5):
        with pytest.raises(ValueError, match="negative"):
            pair[0].recv(size)


def test_an_int_of_c_does_not_take_more(host: Host, pair: tuple[Socket, Socket]) -> None:
    with host.socket(AF_INET, SOCK_STREAM) as sock, pytest.raises(OverflowError):
        sock.listen(1 << 31)
    with pytest.raises(OverflowError):
        pair[0].shutdown(1 << 31)
    for call in (CMSG_LEN, CMSG_SPACE):
        for length in (-1, (1 << 31) - 8):
            with pytest.raises(OverflowError):
                call(length)


def test_new_sockets_start_with_the_default_timeout(host: Host) -> None:
    assert getdefaulttimeout(host) is None
    setdefaulttimeout(host, 7)
    listener = host.socket(AF_INET, SOCK_STREAM)
    with listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with create_connection(host, listener.getsockname()) as client:
            accepted, _ = listener.accept()
            with accepted, host.socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK) as never:
                one, two = socketpair(host)
                times = [s.gettimeout() for s in (listener, client, accepted, one, two, never)]
                with create_connection(host, listener.getsockname(), timeout=None) as waits:
                    assert waits.gettimeout() is None
                one.close()
                two.close()
    assert times == [7.0] * 5 + [0.0]
    with pytest.raises(ValueError, match="out of range"):
        setdefaulttimeout(host, -1)
    setdefaulttimeout(host, None)
    with host.socket(AF_INET, SOCK_STREAM) as sock:
        assert sock.gettimeout() is None


def test_every_address_that_failed(host: Host) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        create_connection(host, ("localhost", 9), all_errors=True)
    numbers = [error.errno for error in caught.value.exceptions if isinstance(error, OSError)]
    assert numbers == [errno.ECONNREFUSED] * 2  # ::1 and 127.0.0.1


def test_what_sendfile_refuses(host: Host, pair: tuple[Socket, Socket]) -> None:
    one, two = pair
    with pytest.raises(ValueError, match="binary"), open(__file__) as text:
        one.sendfile(text)  # type: ignore[arg-type]
    for count, kind in ((0, ValueError), (-1, ValueError), ("2", TypeError), (0.5, TypeError)):
        with pytest.raises(kind, match="positive integer"):
            one.sendfile(io.BytesIO(b"x"), count=count)  # type: ignore[arg-type]
    with host.socket(AF_INET, SOCK_DGRAM) as datagrams, pytest.raises(ValueError, match="STREAM"):
        datagrams.sendfile(io.BytesIO(b"x"))
    two.setblocking(False)
    with pytest.raises(ValueError, match="non-blocking"):
        two.sendfile(io.BytesIO(b"x"))


def test_sendfile_leaves_the_file_behind_what_it_sent(pair: tuple[Socket, Socket]) -> None:
    one, two = pair
    file = io.BytesIO(bytes(range(200)))
    assert one.sendfile(file, 10, 50) == 50
    assert file.tell() == 60
    assert two.recv(500) == bytes(range(10, 60))


def test_files_say_what_they_are(pair: tuple[Socket, Socket]) -> None:
    one, two = pair
    raw = one.makefile("rwb", 0)
    assert (raw.mode, raw.name) == ("rwb", one.fileno())
    raw.close()
    assert raw.name == -1
    for call in (raw.readable, raw.writable, raw.seekable, raw.fileno):
        with pytest.raises(ValueError, match="closed"):
            call()
    only = two.makefile("wb", 0)
    with pytest.raises(io.UnsupportedOperation):
        only.readinto(bytearray(1))
    only.close()


def test_a_file_is_not_read_after_a_timeout(pair: tuple[Socket, Socket]) -> None:
    one, _ = pair
    one.settimeout(0.01)
    with one.makefile("rb") as file:
        with pytest.raises(TimeoutError):
            file.read(1)
        with pytest.raises(OSError, match="timed out object"):
            file.read(1)


def test_numbers_that_are_no_sockets(host: Host, tmp_path: Path) -> None:
    for wrong, kind in ((42.5, TypeError), ("1", TypeError), (-1, ValueError)):
        with pytest.raises(kind):
            Socket(host, fileno=wrong)  # type: ignore[arg-type]
    with open(tmp_path / "file", "w") as file, pytest.raises(OSError) as caught:  # noqa: PT011
        Socket(host, fileno=file.fileno())
    assert caught.value.errno == errno.ENOTSOCK
    free = os.dup(0)
    os.close(free)
    assert errno_of(Socket, host, fileno=free) == errno.EBADF


def test_descriptors_are_not_inherited_unless_said(pair: tuple[Socket, Socket]) -> None:
    one, _ = pair
    assert not one.get_inheritable()
    one.set_inheritable(True)
    assert os.get_inheritable(one.fileno())


def test_names_of_what_is_no_address(host: Host) -> None:
    with pytest.raises(OSError, match="2 tuple"):
        getnameinfo(host, ("x", 0, 0, 0), 0)
    with pytest.raises(TypeError):
        getnameinfo(host, "10.0.0.1", 0)  # type: ignore[arg-type]


def test_an_address_of_nothing_is_no_address(host: Host) -> None:
    with host.socket(AF_INET, SOCK_DGRAM) as sock:
        with pytest.raises(TypeError):
            sock.sendto(b"x", None)  # type: ignore[arg-type, call-overload]
        with pytest.raises(TypeError):
            sock.sendto(b"x", 0, None)  # type: ignore[arg-type]


def test_what_a_socket_shows(host: Host) -> None:
    sock = host.socket(AF_INET, SOCK_STREAM)
    sock.bind(("127.0.0.1", 0))
    assert f"laddr={sock.getsockname()}" in repr(sock)
    assert "raddr" not in repr(sock)
    sock.close()
    assert "[closed]" in repr(sock)
    assert "laddr" not in repr(sock)
