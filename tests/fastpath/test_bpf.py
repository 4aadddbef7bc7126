"""fastpath.base.bpf against the filters of this machine's kernel.

Datagrams of AF_UNIX are judged anywhere; frames with headers, tags and a device need a namespace.
What a packet's bytes are laid out in, and whose they are, changes no verdict.
tests/stack/api/test_pcap.py has libpcap's own interpreter judge, too.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath.base import bpf
from fastpath.base.dma import HostMemory
from fastpath.base.skbuff import (
    SkbPool,
    alloc_skb,
    kfree_skb,
    sk_buff,
    skb_add_data,
    skb_pull,
    skb_put_data,
    skb_reset_mac_header,
    skb_set_network_header,
)
from tests.fastpath.bpfprogs import AD_OFF, Insn, attach_to_kernel, broken, programs, u32
from tests.stack.packet.kernelnet import AF_PACKET, KernelNet
from tests.support import examples, require

ALL_AD = tuple(range(0, 64, 4))
# Attributes are not looked for in fragments.
LAYOUT_AD = tuple(n for n in ALL_AD if n not in (12, 16))
# Of a host's own those that a frame on a quiet loopback has in any: not CPU and RANDOM.
FRAME_AD = tuple(n for n in ALL_AD if n not in (36, 56))
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
TAGS = b"\x81\0", b"\x88\xa8"


@pytest.fixture(scope="module")
def pools() -> tuple[SkbPool, SkbPool]:
    memory = HostMemory(4 << 20)
    return SkbPool(memory, 2048, 64), SkbPool(memory, 4096, 64)


def packet(pools: tuple[SkbPool, SkbPool], frame: bytes, linear: int, pulled: int) -> sk_buff:
    """A frame as an sk_buff: `linear` bytes in its head, the rest in fragments; `pulled` of it."""
    small, pages = pools
    skb = alloc_skb(small, 1536, 64)
    assert skb is not None
    linear = max(linear, pulled)
    skb_put_data(skb, frame[:linear])
    skb_reset_mac_header(skb)
    if frame[linear:]:
        skb_add_data(skb, pages, frame[linear:], 0, len(frame) - linear)
    skb_set_network_header(skb, 14)
    skb.protocol = int.from_bytes(frame[12:14], "big")
    skb_pull(skb, pulled)
    return skb


MACS = bytes(range(12))


@st.composite
def ipv4(draw: st.DrawFn) -> bytes:
    proto = draw(st.sampled_from([1, 2, 4, 6, 17, 33, 41, 132, 136, 200]))
    ihl = draw(st.integers(4, 7))
    frag = draw(st.sampled_from([0, 0, 0, 0x2000, 0x2001, 0x4000]))
    head = struct.pack(">BBHHHBBH8s", 0x40 | ihl, 0, 0, 0, frag, 64, proto, 0, bytes(8))
    inner = draw(st.deferred(l3)) if proto in (4, 41) else draw(st.binary(max_size=60))
    return (head + bytes(max(ihl - 5, 0) * 4) + inner)[: draw(st.sampled_from([30, 2000]))]


@st.composite
def ipv6(draw: st.DrawFn) -> bytes:
    out, kinds = b"", draw(st.lists(st.sampled_from([0, 43, 44, 60]), max_size=3))
    last = draw(st.sampled_from([6, 17, 58, 4, 41, 59]))
    for n, kind in enumerate(kinds):
        after = kinds[n + 1] if n + 1 < len(kinds) else last
        size = 0 if kind == 44 else draw(st.integers(0, 1))
        frag = draw(st.sampled_from([0, 1, 8])) if kind == 44 else 0
        out += bytes([after, size]) + frag.to_bytes(2, "big") + bytes(4 + 8 * size)
    inner = draw(st.deferred(l3)) if last in (4, 41) else draw(st.binary(max_size=60))
    first = kinds[0] if kinds else last
    head = struct.pack(">IHBB32s", 6 << 28, 0, first, 64, bytes(32))
    return (head + out + inner)[: draw(st.sampled_from([50, 2000]))]


def l3() -> st.SearchStrategy[bytes]:
    return st.one_of(ipv4(), ipv6())


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """An Ethernet frame that says something, most of the time."""
    kind = draw(st.integers(0, 4))
    tag = draw(st.sampled_from([b"", b"", b"\x81\x00\x20\x05", b"\x88\xa8\0\x07\x81\0\0\x08"]))
    if kind == 0:
        return MACS + draw(st.binary(min_size=2, max_size=120))
    if kind == 1:
        return MACS + tag + b"\x08\x06" + draw(st.binary(min_size=28, max_size=46))
    if kind <= 3:
        return (
            MACS + tag + (b"\x08\x00" + draw(ipv4()) if kind == 2 else b"\x86\xdd" + draw(ipv6()))
        )
    # attributes, as netlink has them
    rows = draw(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)), max_size=8))
    data = b"".join(struct.pack("=HH", 4 + n, k) + bytes(n + -n % 4) for n, k in rows)
    return MACS + b"\x88\xb5" + data


def checked(prog: Any) -> Any:
    """The program, or None when it is refused with a reason."""
    try:
        return bpf.bpf_prog(prog, 7)
    except ValueError as error:
        said = str(error)
    assert re.match(r"bpf: (instruction \d|\d+ bytes are not)", said)
    return None


@given(prog=programs(LAYOUT_AD), frame=frames(), linear=st.integers(34, 200),
       start=st.sampled_from([0, 14]), pulled=st.sampled_from([0, 14]), mark=u32,
       tag=st.sampled_from([0, 0x8100]), dev=st.booleans())  # fmt: skip
def test_neither_fragments_nor_where_data_begins_change_a_verdict(
    pools: Any, prog: list[Insn], frame: bytes, linear: int, start: int, pulled: int, mark: int,
    tag: int, dev: bool) -> None:  # fmt: skip
    if checked(prog) is None or start > len(frame):
        return
    verdicts = []
    for head, cut in ((linear, pulled), (len(frame), start)):
        skb = packet(pools, frame, head, cut)
        skb.mark, skb.hash, skb.queue_mapping, skb.pkt_type = mark, mark ^ 5, 3, 4
        skb.vlan_proto, skb.vlan_tci = tag, tag and 0x2005
        if dev:
            skb.dev = SimpleNamespace(ifindex=7, type=772)  # type: ignore[assignment]
        ours = bpf.bpf_prog(prog, 7)
        # RANDOM goes on from run to run
        verdicts.append([bpf.bpf_prog_run(ours, skb, start - cut) for _ in range(2)])
        kfree_skb(skb)
    assert verdicts[0] == verdicts[1]


@given(prog=programs(ALL_AD), frame=frames())
def test_bytes_of_a_frame_are_a_packet_without_a_device(
    pools: Any, prog: list[Insn], frame: bytes
) -> None:
    if checked(prog) is None:
        return
    skb = packet(pools, frame, len(frame), 0)
    want = bpf.bpf_prog_run(bpf.bpf_prog(prog, 9), skb)
    kfree_skb(skb)
    assert bpf.bpf_filter(bpf.bpf_prog(prog, 9), frame) == want


@pytest.mark.parametrize(
    ("ancillary", "value"),
    [(0, 0x800), (4, 4), (8, 7), (20, 77), (24, 3), (28, 772), (32, 78), (36, 0), (44, 0x2005),
     (48, 1), (60, 0x8100)],
)  # fmt: skip
def test_ancillary_loads_are_the_packets_fields(pools: Any, ancillary: int, value: int) -> None:
    skb = packet(pools, MACS + b"\x08\x00" + bytes(46), 60, 14)
    skb.mark, skb.hash, skb.queue_mapping, skb.pkt_type = 77, 78, 3, 4
    skb.vlan_proto, skb.vlan_tci = 0x8100, 0x2005
    skb.dev = SimpleNamespace(ifindex=7, type=772)  # type: ignore[assignment]
    prog = bpf.bpf_prog([(0x20, 0, 0, AD_OFF + ancillary), (0x16, 0, 0, 0)])
    assert bpf.bpf_prog_run(prog, skb) == value
    kfree_skb(skb)


@given(st.binary(max_size=64))
def test_any_bytes_are_a_program_or_refused(data: bytes) -> None:
    prog = checked(data)
    assert prog is None or prog.filter == data


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([], "1 to 4096"),
        ([(6, 0, 0, 0)] * 4097, "1 to 4096"),
        ([(0x0E, 0, 0, 0)], "instruction 0 .*no such instruction"),
        ([(0x34, 0, 0, 0), (6, 0, 0, 0)], "division by zero"),
        ([(0x64, 0, 0, 32), (6, 0, 0, 0)], "shift by 32"),
        ([(0x05, 0, 0, 1), (6, 0, 0, 0)], "jump beyond the end"),
        ([(0x15, 0, 1, 0), (6, 0, 0, 0)], "jump beyond the end"),
        ([(0x05, 0, 0, 0xFFFFFFFF), (6, 0, 0, 0)], "jump beyond the end"),
        ([(0x02, 0, 0, 16), (6, 0, 0, 0)], "no such word"),
        ([(0x60, 0, 0, 1), (6, 0, 0, 0)], "before it is stored"),
        ([(0x30, 0, 0, 0xFFFFF001), (6, 0, 0, 0)], "ancillary"),
        ([(0x00, 0, 0, 0)], "must return"),
        ([(6, 0, 0)], "rows of"),
        ([(6, 0, 300, 0)], "rows of"),
        ("text", "rows of"),
        (b"1234567", "1 to 4096"),
    ],
)
def test_refusal_says_where_and_why(rows: Any, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        bpf.bpf_prog(rows)


def test_longest_program_runs() -> None:
    prog = bpf.bpf_prog([(0x04, 0, 0, 1)] * 4095 + [(0x16, 0, 0, 0)])
    assert len(prog) == 4096
    assert bpf.bpf_filter(prog, b"") == 4095


def test_freed_packet_and_offsets_outside_are_refused(pools: Any) -> None:
    prog = bpf.bpf_prog([(6, 0, 0, 1)])
    skb = packet(pools, bytes(60), 60, 14)
    for off in (-1000, 47):
        with pytest.raises(ValueError, match="offset"):
            bpf.bpf_prog_run(prog, skb, off)
    assert bpf.bpf_prog_run(prog, skb, 46) == 1
    kfree_skb(skb)
    with pytest.raises(ValueError, match="freed"):
        bpf.bpf_prog_run(prog, skb)


def test_a_refused_program_does_not_run(pools: Any) -> None:
    with pytest.raises(ValueError, match="no such instruction"):  # no object is left of it
        bpf.bpf_prog.__new__(bpf.bpf_prog, [(6, 0, 0, 1), (0xFFFF, 0, 0, 0)])
    with pytest.raises(TypeError):
        bpf.bpf_prog.__new__(bpf.bpf_prog)
    with pytest.raises(TypeError):
        bpf.bpf_filter(None, b"")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        bpf.bpf_prog_run(None, packet(pools, bytes(60), 60, 14))  # type: ignore[arg-type]


def test_random_numbers_come_from_the_seed() -> None:
    rows = [(0x20, 0, 0, 0xFFFFF000 + 56), (0x16, 0, 0, 0)]
    one, other = (bpf.bpf_prog(rows, seed) for seed in (1, 2))
    first = [bpf.bpf_filter(one, b"") for _ in range(4)]
    assert first == [bpf.bpf_filter(p, b"") for p in [bpf.bpf_prog(rows, 1)] for _ in range(4)]
    assert first != [bpf.bpf_filter(other, b"") for _ in range(4)]


# --- the kernel's own verdicts -----------------------------------------------------------------


@pytest.fixture(scope="module")
def link() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A pair of datagram sockets of this machine's kernel: what one sends, the other filters."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    two.setblocking(False)
    with one, two:
        yield one, two


def kernel_verdict(link: tuple[socket.socket, socket.socket], data: bytes) -> int:
    """How much of `data` the kernel's filter lets through, -1 for none of it."""
    one, two = link
    one.setblocking(False)
    try:
        one.send(data)
    except BlockingIOError:
        raise
    except PermissionError:  # AF_UNIX tells the sender what the filter said
        return -1
    try:
        return len(two.recv(65536))
    except BlockingIOError:
        return -1


@settings(max_examples=examples(400))
@given(prog=st.one_of(programs(), programs(), broken()), data=st.lists(frames(), max_size=3))
def test_kernel_gives_the_same_verdicts(link: Any, pools: Any, prog: list[Insn],
                                        data: list[bytes]) -> None:  # fmt: skip
    _, two = link
    err = attach_to_kernel(two, prog)
    ours = checked(prog)
    assert (ours is None) == (err == 22), (prog, err)
    if ours is None:
        return
    charged = struct.unpack("9I", two.getsockopt(socket.SOL_SOCKET, 55, 36))[6]
    assert ours.size_bytes == charged
    for frame in data:
        # AF_UNIX's packets have neither headers nor a device; their network header is at data.
        skb = packet(pools, frame, len(frame), 0)
        skb.mac_header = 0xFFFFFFFF
        skb_set_network_header(skb, 0)
        skb.protocol = 0
        want = bpf.bpf_prog_run(ours, skb)
        kfree_skb(skb)
        assert kernel_verdict(link, frame) == (min(max(want, 1), len(frame)) if want else -1)


@pytest.fixture(scope="module")
def loopback() -> Iterator[tuple[socket.socket, socket.socket, socket.socket]]:
    """Packet sockets on a loopback of the kernel's: one sends, one filters, one gets all."""
    require.netns()
    with contextlib.closing(KernelNet()) as net, contextlib.ExitStack() as stack:
        net.run("[ ! -e /proc/sys/net/ipv6 ] || echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6")
        sends, all_, filters = (
            stack.enter_context(net.socket(AF_PACKET, socket.SOCK_RAW)) for _ in range(3)
        )
        sends.bind(("lo", 0))
        # The one that comes last is served first: when a frame is at `all_`, its fate is known.
        for sock in (all_, filters):
            sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            sock.bind(("lo", 3))  # ETH_P_ALL
        all_.settimeout(60)
        filters.setblocking(False)
        yield sends, filters, all_


@pytest.mark.netns
@settings(max_examples=examples(400))
@given(prog=st.one_of(programs(FRAME_AD), broken()), data=st.lists(frames(), max_size=3))
def test_kernel_gives_frames_the_same_verdicts(
    loopback: Any, pools: Any, prog: list[Insn], data: list[bytes]
) -> None:
    sends, filters, all_ = loopback
    ours = checked(prog)
    assert attach_to_kernel(filters, prog) == (22 if ours is None else 0)
    if ours is None:
        return
    for frame in data:
        if frame[12] < 6:  # a length, not a protocol
            continue
        sends.send(frame)
        got, (_, protocol, pkt_type, hatype, _) = all_.recvfrom(65536)
        tagged = frame[12:14] in TAGS and len(got) == len(frame) - 4
        skb = packet(pools, got, len(got), 0)
        skb.protocol, skb.pkt_type = protocol, pkt_type
        skb.dev = SimpleNamespace(ifindex=1, type=hatype)  # type: ignore[assignment]
        if tagged:
            skb.vlan_proto = int.from_bytes(frame[12:14], "big")
            skb.vlan_tci = int.from_bytes(frame[14:16], "big")
        want = bpf.bpf_prog_run(ours, skb)
        kfree_skb(skb)
        try:
            verdict = len(filters.recv(65536))
        except BlockingIOError:
            verdict = 0
        assert verdict == min(want, len(got))
