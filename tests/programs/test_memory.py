"""Structs of a program's memory: what is built is what is parsed, and nonsense is an errno."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath.base import seccomp
from stack.api.programs import filter as seccomp_filter
from stack.api.programs import vdso
from stack.api.programs.memory import (
    build_control,
    gather,
    get_iov,
    parse_control,
    total,
    user_buffers,
)
from stack.core.iov import msghdr
from stack.core.uapi import MSG_CTRUNC
from tests.support import errno_of

pytestmark = pytest.mark.skipif(not seccomp.available(), reason="needs Linux's seccomp")
INT = st.integers(-(1 << 31), (1 << 31) - 1)
MESSAGES = st.lists(st.tuples(INT, INT, st.binary(max_size=40)), max_size=5)
ME = os.getpid()


@given(MESSAGES)
def test_control_messages_come_back(messages):
    data, flags = build_control(messages, 1 << 16)
    assert flags == 0
    assert parse_control(data) == messages


@given(MESSAGES, st.integers(0, 200))
def test_control_messages_are_cut_to_the_room(messages, room):
    data, flags = build_control(messages, room)
    assert len(data) <= room
    whole, _ = build_control(messages, 1 << 16)
    assert bool(flags) == (len(data) < len(whole.rstrip(b"\0")) or bool(flags))
    assert flags in (0, MSG_CTRUNC)
    if not flags:
        assert parse_control(data) == messages


@given(st.binary(max_size=100))
def test_any_bytes_are_control_messages_or_an_errno(data):
    with contextlib.suppress(OSError):
        found = parse_control(data)
        assert sum(len(what) for _, _, what in found) <= len(data)


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(0, 300))
def test_buffers_are_read_and_written_from_any_place_on(sizes, skip):
    data = os.urandom(sum(sizes))
    rooms = [ctypes.create_string_buffer(max(size, 1)) for size in sizes]
    iov = [(ctypes.addressof(room), size) for room, size in zip(rooms, sizes, strict=True)]
    skip = min(skip, len(data))
    assert msghdr(None, user_buffers(ME, iov)).put(data) == len(data)
    assert b"".join(room.raw[:size] for room, size in zip(rooms, sizes, strict=True)) == data
    assert total(iov) == len(data)
    assert gather(ME, iov, skip) == data[skip:]
    assert msghdr(None, user_buffers(ME, iov, skip)).take(len(data)) == data[skip:]
    msghdr(None, user_buffers(ME, iov, skip)).put(data[skip:][::-1])
    assert gather(ME, iov) == data[:skip] + data[skip:][::-1]


@given(st.lists(st.integers(0, 1 << 63), min_size=1, max_size=4))
def test_a_call_moves_no_more_than_linux_lets_it(sizes):
    iov = [(4096, size) for size in sizes]
    assert total(iov) == msghdr(None, user_buffers(ME, iov)).count == min(sum(sizes), 0x7FFFF000)


@pytest.mark.parametrize(
    ("addr", "count", "code"),
    [(8, 1, errno.EFAULT), (0, -1, errno.EINVAL), (0, 1025, errno.EMSGSIZE)],
)
def test_wrong_buffers_have_the_kernels_errno(addr, count, code):
    assert errno_of(get_iov, ME, addr, count) == code


def run(data: dict[int, int]) -> int:
    """What the filter says of the words of a struct seccomp_data, by a plain interpreter."""
    at, a, insns = 0, 0, seccomp_filter.program()
    while True:
        code, jt, jf, k = insns[at]
        at += 1
        if code == seccomp_filter.RET:
            return k
        if code == seccomp_filter.LD:
            a = data.get(k, 0)
        elif code == seccomp_filter.AND:
            a &= k
        else:
            true = {
                seccomp_filter.JEQ: a == k,
                seccomp_filter.JSET: bool(a & k),
            }[code]
            at += jt if true else jf


WORD = st.integers(0, (1 << 32) - 1)


NUMBER = st.integers(0, 500) | st.sampled_from(sorted(seccomp_filter.numbers()))
PASSES_BY = {
    "open": (1, os.O_PATH),
    "openat": (2, os.O_PATH),
    "newfstatat": (3, 0x1000),
    "statx": (2, 0x1000),
}
"""Calls that the kernel does with these flags (O_PATH, AT_EMPTY_PATH); which argument has them."""


@given(NUMBER, st.lists(WORD, min_size=4, max_size=4))
def test_the_filter_stops_what_may_be_about_a_socket(number, args):
    found = seccomp_filter.machine()
    assert found is not None
    words = {16 + 8 * place: word for place, word in enumerate(args)}
    said = run({0: number, 4: found[1]} | words)
    name = seccomp_filter.numbers().get(number)
    if name is None:
        stops = False
    elif name == "socket":
        stops = args[0] != 1
    elif name in PASSES_BY:
        place, mask = PASSES_BY[name]
        stops = not args[place] & mask
    elif name == "ioctl":
        stops = args[1] in (0x541B, 0x5411) or args[1] & 0xFF00 == 0x8900
        stops = stops or args[1] & 0xFFC0 == 0x54C0  # of /dev/net/tun
    elif name in ("select", "pselect6"):
        stops = not args[2]  # a set for writing: nothing that is shown has to be looked at
    elif name in ("epoll_wait", "epoll_pwait"):
        stops = not args[3]  # one that does not wait
    elif name == "mmap":
        stops = args[3] & (mmap.MAP_SHARED | mmap.MAP_ANONYMOUS) == mmap.MAP_SHARED
    else:
        stops = True
    want = seccomp_filter.NOTIFY if stops else seccomp_filter.ALLOW
    if name == "io_uring_setup":
        want = seccomp_filter.ERRNO | errno.ENOSYS
    assert said == want
    assert run({0: number, 4: 0x40000003}) == seccomp_filter.ERRNO | errno.ENOSYS


def own_vdso() -> bytes:
    with open("/proc/self/maps") as maps:
        (text,) = (line.split()[0] for line in maps if line.rstrip().endswith("[vdso]"))
    begin, end = (int(word, 16) for word in text.split("-"))
    return bytes(seccomp.read_memory(os.getpid(), begin, end - begin))


def test_the_functions_of_the_vdso_are_found():
    assert set(vdso.CALLS[os.uname().machine]) <= set(vdso.functions(own_vdso()))


PLACES = st.integers(0, 63) | st.integers(0, 1 << 14)  # the header's, and any


@given(st.lists(st.tuples(PLACES, st.binary(min_size=1, max_size=8)), max_size=20))
def test_a_vdso_that_the_program_has_changed_is_an_error_or_has_functions_inside(changes):
    image = bytearray(own_vdso())
    size = len(image)
    for at, data in changes:
        image[at % size : at % size + len(data)] = data
    with contextlib.suppress(ValueError):
        assert all(0 <= value < len(image) for value in vdso.functions(bytes(image)).values())
