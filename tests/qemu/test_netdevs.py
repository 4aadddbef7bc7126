"""Our links on the socket netdevs of a real QEMU, which joins the two by a hub of its own."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from e1000emu.clock import RealClock
from e1000emu.errors import LinkError
from e1000emu.lab import add_nic, mac_address
from e1000emu.links import QemuDgram, QemuStream
from stack.host import Host
from tests.qemu.machine import SECOND_NS, A, B, ping
from tests.support import require


def start(program: str, *netdevs: str) -> subprocess.Popen[bytes]:
    """Start a QEMU without a machine, with a hub between its netdevs."""
    words: list[str] = []
    for number, netdev in enumerate(netdevs):
        kind, _, options = netdev.partition(",")
        words += ["-netdev", f"{kind},id=n{number},{options}"]
        words += ["-netdev", f"hubport,id=h{number},hubid=0,netdev=n{number}"]
    return subprocess.Popen(
        [program, "-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", *words],
        stdin=subprocess.DEVNULL,
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(60)


def patiently(make: Any) -> Any:
    """Call `make` until QEMU listens."""
    for _ in range(400):
        try:
            return make()
        except LinkError:
            time.sleep(0.05)
    return make()


@pytest.mark.parametrize("server", ["we listen", "qemu listens"])
def test_hosts_on_a_stream_and_a_dgram_meet_in_qemu(tmp_path: Path, server: str) -> None:
    program = require.tool("qemu-system-x86_64", "qemu-system-x86")
    net, ours, qemus = tmp_path / "net", tmp_path / "ours", tmp_path / "qemus"
    clock = RealClock()
    dgram = QemuDgram.open(ours, qemus, clock)
    first: Any = QemuStream.listen(net, clock) if server == "we listen" else None
    listens = "" if first else "server=on,"
    process = start(
        program,
        f"stream,{listens}addr.type=unix,addr.path={net}",
        f"dgram,local.type=unix,local.path={qemus},remote.type=unix,remote.path={ours}",
    )
    try:
        first = first or patiently(lambda: QemuStream.connect(net, clock))
        # IPv6 left to itself sends when it likes: such a frame may be inside QEMU in the end.
        quiet = {"net.ipv6.conf.default.disable_ipv6": 1}
        hosts = [Host(name, clock=clock, ram_bytes=32 << 20, sysctl=quiet) for name in "ab"]
        for number, (host, link) in enumerate(zip(hosts, (first, dgram), strict=True)):
            address = f"{(A, B)[number]}/24"
            add_nic(host, link, mac=mac_address(number + 1), addr=address, wait=False)
        for host in hosts:
            assert host.wait_carrier("eth0", 20 * SECOND_NS)
        a, b = hosts
        for size in (0, 56, 1472, 40000):
            assert ping(a, B, size, seq=size & 0xFFFF)
            assert ping(b, A, size, seq=size & 0xFFFF)
        assert first.stats.drops == {}
        assert (first.stats.tx_frames, first.stats.rx_frames) == (
            dgram.stats.rx_frames,
            dgram.stats.tx_frames,
        )
        stop(process)
        with clock.lock:
            assert clock.wait(lambda: not first.carrier, 20 * SECOND_NS)
        a.close()
        b.close()
    finally:
        if process.poll() is None:
            stop(process)
        dgram.close()
        if first is not None:
            first.close()
        clock.close()
