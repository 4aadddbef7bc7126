"""Short frames in buffers of their size: what sockets and reassembly can hold of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e1000emu.lab import two_hosts
from stack.drivers.e1000.param import Params
from stack.host import Host
from stack.socket import AF_INET, IPPROTO_RAW, SO_RCVBUF, SOCK_DGRAM, SOCK_RAW, SOL_SOCKET, Socket
from tests.stack.drivers.e1000.machine import cabled

PORT = 20001
BURST = 2000
TRUESIZE = 896
"""What Linux counts for a short packet: 640 bytes of skbuff_small_head and an sk_buff of 256."""
RMEM_DEFAULT = 212992


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    a, b = two_hosts(sysctl={"rmem_max": 4 << 20})
    yield a, b
    for host in (a, b):
        host.close()
        for pool in (host.skb_small, host.skb_pages, host.skb_small_head):
            assert pool.in_use == 0


def burst(sender: Host, reader: Socket, addr: str, size: int) -> list[int]:
    """Send BURST datagrams while nobody reads; the numbers of those that can be read then."""
    reader.bind((addr, PORT))
    sock = Socket(sender, AF_INET, SOCK_DGRAM)
    sock.sendto(b"resolve", (addr, PORT))
    reader.recv(2000)
    for number in range(BURST):
        sock.sendto(number.to_bytes(2, "big").ljust(size, b"."), (addr, PORT))
    sender.clock.run_for(1_000_000_000)
    reader.setblocking(False)
    got = []
    while reader.poll() & 1:
        data = reader.recv(2000)
        assert len(data) == size
        got.append(int.from_bytes(data[:2], "big"))
    sock.close()
    reader.close()
    return got


@pytest.mark.parametrize("over", ["wire", "loopback"])
def test_a_burst_fills_the_default_buffer_as_on_linux(a: Host, b: Host, over: str) -> None:
    """rmem_default holds 237 short datagrams, and one may overrun it (until Linux 6.15).

    Seen on Linux 6.18 over its loopback: 256 of 832 bytes each, where the kernel is built without
    wireless drivers and an sk_buff's head is 576 bytes.
    """
    sender, addr = (a, "10.0.0.2") if over == "wire" else (b, "127.0.0.1")
    got = burst(sender, Socket(b, AF_INET, SOCK_DGRAM), addr, 18)
    assert got == list(range(RMEM_DEFAULT // TRUESIZE + 1))
    assert b.mib.udp.RcvbufErrors == BURST - len(got)
    assert b.mib.udp.MemErrors == 0


def test_a_burst_of_2000_is_taken_whole_by_a_buffer_that_was_asked_for(a: Host, b: Host) -> None:
    reader = Socket(b, AF_INET, SOCK_DGRAM)
    reader.setsockopt(SOL_SOCKET, SO_RCVBUF, BURST * TRUESIZE // 2)
    assert burst(a, reader, "10.0.0.2", 64) == list(range(BURST))
    assert b.mib.udp.RcvbufErrors == b.mib.udp.MemErrors == 0


@pytest.mark.parametrize(("size", "taken"), [(214, 238), (215, 93)])
def test_frames_to_256_bytes_are_short(a: Host, b: Host, size: int, taken: int) -> None:
    """The 42 bytes of headers count; a longer frame keeps its 2 KiB buffer of the ring."""
    assert len(burst(a, Socket(b, AF_INET, SOCK_DGRAM), "10.0.0.2", size)) == taken


@pytest.mark.parametrize(("copybreak", "short"), [(256, [True, True, False]), (0, [False] * 3)])
def test_the_module_parameter_says_which_frames_are_copied(
    copybreak: int, short: list[bool]
) -> None:
    a, b = cabled(copybreak=copybreak)
    for size in (46, 242, 243):  # with 14 bytes of header: 60, 256, 257
        used = b.host.skb_small_head.gets
        a.send(bytes(size))
        a.run()
        assert len(b.received[-1]) == size
        assert (b.host.skb_small_head.gets > used) is short.pop(0)
    assert b.buffers_in_use() == 0
    assert Params({"copybreak": 513}).get("copybreak") == 256


def fragment(ident: int) -> bytes:
    """The first 8 bytes of a UDP datagram of 10.0.0.3 whose rest never comes."""
    return (
        b"\x45\0"
        + (28).to_bytes(2, "big")
        + ident.to_bytes(2, "big")
        + b"\x20\0\x40\x11\0\0"
        + bytes((10, 0, 0, 3, 10, 0, 0, 2))
        + bytes(8)
    )


def test_small_fragments_do_not_exhaust_reassembly(a: Host, b: Host) -> None:
    """1,366 of them were enough for 30 s; now a datagram in pieces still comes together."""
    count = 1366
    raw = Socket(a, AF_INET, SOCK_RAW, IPPROTO_RAW)
    reader = Socket(b, AF_INET, SOCK_DGRAM)
    reader.bind(("10.0.0.2", PORT))
    sender = Socket(a, AF_INET, SOCK_DGRAM)
    sender.sendto(b"resolve", ("10.0.0.2", PORT))
    reader.recv(100)
    for ident in range(1, count + 1):
        raw.sendto(fragment(ident), ("10.0.0.2", 0))
    a.clock.run_for(100_000_000)
    assert len(b.ipv4.frags.queues) == count
    assert b.ipv4.frags.mem == count * TRUESIZE
    assert b.sysctl.ipfrag_high_thresh == 4 << 20
    whole = bytes(range(250)) * 12
    sender.sendto(whole, ("10.0.0.2", PORT))
    a.clock.run_for(100_000_000)
    reader.setblocking(False)
    assert reader.recv(4000) == whole
    assert b.mib.ip.ReasmFails == 0
    a.clock.run_for(40_000_000_000)
    assert b.ipv4.frags.mem == 0
    for sock in (raw, sender, reader):
        sock.close()
