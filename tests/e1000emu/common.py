"""Helpers of the device tests: a running device, and register access by name."""

from __future__ import annotations

from typing import Any

from e1000emu.device.nic import Nic
from e1000emu.registers.regs import reg
from e1000emu.testing.bench import BENCH_MAC, Bench, make_bench
from e1000emu.testing.guest import RCTL_BSIZE, Popts, Rctl, Tucmd, TxCmd

PEER = bytes.fromhex("020000000001")
BROADCAST = b"\xff" * 6


def off(name: str) -> int:
    """Return a register's offset by the name in the table."""
    return reg(name).offset


def rd(nic: Nic, name: str) -> int:
    """Read a register by name."""
    return nic.mmio_read(off(name))


def wr(nic: Nic, name: str, value: int) -> None:
    """Write a register by name."""
    nic.mmio_write(off(name), value)


def frame(size: int = 60, dst: bytes = BENCH_MAC, src: bytes = PEER, kind: int = 0x88B5) -> bytes:
    """Return a frame of `size` bytes without FCS, with a payload that reveals shifts."""
    body = bytes(i & 0xFF for i in range(max(0, size - 14)))
    return (dst + src + kind.to_bytes(2, "big") + body)[:size]


TCP_HEADERS_BYTES = 54
"""Ethernet, IPv4 and TCP, none with options."""


def post_tso(
    bench: Bench,
    data: bytes,
    *,
    mss: int,
    paylen: int | None = None,
    flags: int = 0,
    popts: int = Popts.IXSM | Popts.TXSM,
) -> None:
    """Post a TCP packet for TSO: its context and one data descriptor, with `flags` of RS and IDE.

    `paylen`: PAYLEN of the context; by default the payload's length.
    """
    bench.guest.post_context(
        ipcss=14,
        ipcso=24,
        ipcse=33,
        tucss=34,
        tucso=50,
        paylen=len(data) - TCP_HEADERS_BYTES if paylen is None else paylen,
        tucmd=Tucmd.TCP | Tucmd.IP | Tucmd.TSE | Tucmd.DEXT,
        hdrlen=TCP_HEADERS_BYTES,
        mss=mss,
    )
    dcmd = TxCmd.TSE | TxCmd.DEXT | TxCmd.EOP | TxCmd.IFCS | flags
    bench.guest.post_data(data, dcmd=dcmd, popts=popts)


def until_held(bench: Bench, size: int = 1000) -> int:
    """Send frames into a full link until the device accepts no more; return their number."""
    taken = 0
    while bench.link.inject(frame(size), hold=True):
        taken += 1
    return taken


def running(*, rctl: int | None = None, ims: int = 0, **sizes: Any) -> Bench:
    """Return a bench brought up by the fake driver, with link and without pending causes."""
    bench = make_bench(**sizes)
    bench.guest.up(mac=BENCH_MAC, rctl=rctl, ims=0)
    bench.clock.run_for(5_000_000_000)
    rd(bench.nic, "ICR")
    wr(bench.nic, "IMS", ims)
    bench.line.clear()
    return bench


RX_ON = Rctl.EN | Rctl.BAM | Rctl.SECRC | RCTL_BSIZE[2048]
