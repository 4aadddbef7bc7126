"""`--link qemu:PATH`: the command at one end of a stream socket, a host of ours at the other."""

from __future__ import annotations

from pathlib import Path

from e1000emu.clock import RealClock
from e1000emu.lab import add_nic
from e1000emu.links import QemuStream
from stack.host import Host
from tests.e1000emu.cli.test_cli import run

PING = ("ping", "10.9.0.1", "--addr", "10.9.0.2/24", "-c", "2", "-i", "0.01")


def test_ping_over_a_stream_socket(tmp_path: Path) -> None:
    path = tmp_path / "net"
    clock = RealClock()
    link = QemuStream.listen(path, clock)
    with Host("far", clock=clock, ram_bytes=32 << 20) as host:
        add_nic(host, link, addr="10.9.0.1/24", wait=False)
        clock.start()
        try:
            done = run(*PING, "--link", f"qemu:{path}")
        finally:
            clock.stop()
    clock.close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 received, 0% packet loss" in done.stdout


def test_a_path_where_nobody_listens_is_named(tmp_path: Path) -> None:
    done = run(*PING, "--link", f"qemu:{tmp_path / 'none'}")
    assert done.returncode == 2  # as iputils' ping: it could not be tried
    assert "-netdev stream,id=n0,server=on" in done.stderr
