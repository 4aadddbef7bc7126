"""Classic BPF programs for tests: random ones, mostly valid ones."""

from __future__ import annotations

import ctypes
import socket
import struct

from hypothesis import strategies as st

Insn = tuple[int, int, int, int]

LOADS = (0x20, 0x28, 0x30)
INDIRECT = (0x40, 0x48, 0x50)
PLAIN = (0x80, 0x00, 0x81, 0x01, 0x07, 0x87, 0x84)
WORDS = (0x60, 0x61, 0x02, 0x03)
ALU = tuple(4 | op << 4 | src for op in (*range(8), 9, 10) for src in (0, 8))
BRANCH = tuple(5 | op << 4 | src for op in (1, 2, 3, 4) for src in (0, 8))
AD_OFF, NET_OFF, LL_OFF = 0xFFFFF000, 0xFFF00000, 0xFFE00000
# Of the ancillary loads those that mean the same in any host: not CPU (36) and RANDOM (56).
SAME_AD = tuple(n for n in range(0, 64, 4) if n not in (36, 56))

u32 = st.one_of(
    st.integers(0, 64),
    st.integers(0, 0xFFFFFFFF),
    st.sampled_from([0x800, 0x86DD, 0x7FFF, 0x8000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]),
)


def offsets(ancillary: tuple[int, ...]) -> st.SearchStrategy[int]:
    """What a load may name: bytes of a packet or of its headers, ancillary data, nonsense."""
    near = st.integers(0, 80)
    return st.one_of(
        near,
        near,
        near.map(lambda n: NET_OFF + n),
        near.map(lambda n: LL_OFF + n),
        st.sampled_from(ancillary).map(lambda n: AD_OFF + n),
        u32,
    )


@st.composite
def insns(draw: st.DrawFn, left: int, ancillary: tuple[int, ...]) -> Insn:
    """One instruction that `left` others follow."""
    kind = draw(st.integers(0, 9))
    if kind <= 2:
        return draw(st.sampled_from(LOADS)), 0, 0, draw(offsets(ancillary))
    if kind == 3:
        code = draw(st.sampled_from((*INDIRECT, 0xB1)))
        return code, 0, 0, draw(st.one_of(st.integers(0, 40), offsets(ancillary)))
    if kind == 4:
        return draw(st.sampled_from(PLAIN)), 0, 0, draw(u32)
    if kind == 5:
        return draw(st.sampled_from(WORDS)), 0, 0, draw(st.integers(0, 3))
    if kind <= 7:
        code = draw(st.sampled_from(ALU))
        k = draw(u32)
        if code in (0x64, 0x74):
            k %= 32
        return code, 0, 0, k or code in (0x34, 0x94)
    if kind == 8 and left > 1 and draw(st.booleans()):
        return 0x05, 0, 0, draw(st.integers(0, left - 1))
    most = min(max(left - 1, 0), 255)
    jump = st.integers(0, most)
    return draw(st.sampled_from(BRANCH)), draw(jump), draw(jump), draw(u32)


@st.composite
def programs(draw: st.DrawFn, ancillary: tuple[int, ...] = SAME_AD) -> list[Insn]:
    """A program that ends with a return; most of them are valid."""
    count = draw(st.integers(0, 12))
    # Words are stored first in most programs, so that what loads them is legal.
    body: list[Insn] = [(0x02, 0, 0, n) for n in range(4)] if draw(st.integers(0, 3)) else []
    for n in range(count):
        body.append(draw(insns(count - n, ancillary)))
    last = draw(st.sampled_from([(0x16, 0, 0, 0), (0x06, 0, 0, 65535), (0x06, 0, 0, 20)]))
    return [*body, last]


# What may be wrong with one: any field of any instruction, or its end.
@st.composite
def broken(draw: st.DrawFn) -> list[Insn]:
    """A program in which something was changed; some are still valid."""
    prog = draw(programs())
    at = draw(st.integers(0, len(prog) - 1))
    code, jt, jf, k = prog[at]
    what = draw(st.integers(0, 4))
    if what == 0:
        code = draw(st.integers(0, 0x1FF))
    elif what == 1:
        jt = draw(st.integers(0, 255))
    elif what == 2:
        jf = draw(st.integers(0, 255))
    elif what == 3:
        k = draw(u32)
    else:
        return prog[:-1]
    prog[at] = code, jt, jf, k
    return prog


def fprog(prog: list[Insn]) -> tuple[bytes, object]:
    """struct sock_fprog, and the object that it refers to."""
    data = b"".join(struct.pack("=HBBI", *insn) for insn in prog)
    room = ctypes.create_string_buffer(data, max(len(data), 1))
    return struct.pack("@HP", len(prog), ctypes.addressof(room)), room


def attach_to_kernel(sock: socket.socket, prog: list[Insn]) -> int:
    """SO_ATTACH_FILTER on a socket of this machine's kernel: 0 or the errno."""
    value, alive = fprog(prog)
    try:
        sock.setsockopt(socket.SOL_SOCKET, 26, value)
    except OSError as error:
        return error.errno or -1
    finally:
        del alive
    return 0
