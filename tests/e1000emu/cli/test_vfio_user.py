"""`e1000emu vfio-user`: what it prints, serves and refuses."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from e1000emu.capture import PcapngWriter
from e1000emu.cli.vfio_user import parse_mac, qemu_arguments
from e1000emu.embed.vfio_user import protocol as vu
from e1000emu.errors import E1000Error


def run(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "e1000emu", "vfio-user", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_mac_is_parsed_or_refused() -> None:
    assert parse_mac("52:54:00:ab:cd:ef") == bytes.fromhex("525400abcdef")
    assert parse_mac("52-54-00-AB-CD-EF") == bytes.fromhex("525400abcdef")
    for bad in ("", "52:54:00:12:34", "53:54:00:12:34:56", "0:0:0:0:0:1", "zz:54:00:12:34:56"):
        with pytest.raises(E1000Error, match="--mac"):
            parse_mac(bad)


def test_qemu_line_survives_a_shell() -> None:
    words = shlex.split(shlex.join(qemu_arguments(Path("/run/a b/s"))))
    device = json.loads(words[-1])
    assert device == {
        "driver": "vfio-user-pci",
        "socket": {"type": "unix", "path": "/run/a b/s"},
    }
    assert "share=on" in words[words.index("-object") + 1]


def test_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    trace = tmp_path / "in.pcapng"
    with PcapngWriter(trace):
        pass
    process = run("--socket", str(path), "--link", f"pcap:{trace}", "--json")
    assert process.stderr is not None
    lines = [process.stderr.readline() for _ in range(3)]
    assert "82540EM 52:54:00:12:34:56" in lines[0]
    assert "vfio-user-pci" in lines[2]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.send(vu.pack(1, 1, bytes(4)))
        assert len(client.recv(100)) == 20
        head = vu.REGION_ACCESS.pack(0, 7, 4)
        client.send(vu.pack(2, 9, head))
        assert client.recv(100)[32:] == bytes.fromhex("86800e10")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    counters = json.loads(out)
    assert (counters["clients"], counters["messages"]) == (1, 2)
    assert (counters["tx_frames"], counters["rx_frames"]) == (0, 0)
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    "args",
    [
        ("--link", "what:ever"),
        ("--link", "pcap:missing.pcapng"),
        ("--link", "tap:x", "--mac", "nonsense"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, args: tuple[str, ...]) -> None:
    process = run("--socket", str(tmp_path / "s"), *args)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err.startswith("e1000emu: --")
    assert err.count("\n") == 1
