"""`vfio-user --wake`: what happens when a NIC asserts PME#, up to QEMU's monitor."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from e1000emu.capture import PcapngWriter
from e1000emu.registers.eeprommap import eeprom_word
from e1000emu.registers.models import MODELS, eeprom_image
from fastpath.base.batch import FrameBatch

WAIT_S = 60.0
MAC = bytes.fromhex("525400123456")
MAGIC = b"\xff" * 6 + MAC + b"\x08\x42" + b"\xff" * 6 + 16 * MAC
NOT_ASLEEP = {"error": {"class": "GenericError", "desc": "not in suspended state"}}
RUNS = {"return": {"status": "running"}}


def woken_by(tmp_path: Path, how: str) -> subprocess.Popen[str]:
    """Start a server whose board asserts PME# at once: by APM, and a magic packet on the wire."""
    words = eeprom_image(MODELS["82540EM"], MAC)
    words[eeprom_word("ICW2").offset] |= eeprom_word("ICW2").mask("APM_PME")
    words[63] = (0xBABA - sum(words[:63])) & 0xFFFF
    image, wire = tmp_path / "image", tmp_path / "wire.pcapng"
    image.write_bytes(struct.pack("<64H", *words))
    with PcapngWriter(wire) as writer:
        number = writer.add_interface("wire")
        for n in range(100):  # the first may find the link down
            writer.write(FrameBatch([MAGIC]), 0, 1, interface=number, now_ns=n * 100_000_000)
    words_ = ["--socket", str(tmp_path / "nic"), "--link", f"pcap:{wire}", "--autoneg", "0s"]
    return subprocess.Popen(
        [sys.executable, "-m", "e1000emu", "vfio-user", *words_, "--eeprom", str(image),
         "--wake", how],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> str:
    process.terminate()
    out, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, out
    return out


def monitor(path: Path, serve: Callable[[socket.socket], None]) -> threading.Thread:
    """Be QEMU's monitor for one client."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)
    listener.settimeout(WAIT_S)

    def run() -> None:
        with listener:
            client, _ = listener.accept()
            with client:
                client.settimeout(WAIT_S)
                serve(client)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_qemu_is_asked_to_wake_its_guest_even_one_that_is_not_asleep_yet(tmp_path: Path) -> None:
    asked: list[str] = []

    def serve(client: socket.socket) -> None:
        lines = client.makefile("rwb")
        for answer in ({"QMP": {}}, {"return": {}}, NOT_ASLEEP, RUNS, {"return": {}}):
            lines.write(json.dumps(answer).encode() + b"\r\n")
            if answer is RUNS:
                lines.write(b'{"event": "SUSPEND"}\r\n')
            lines.flush()
            asked.append(json.loads(lines.readline() or b'{"execute": "end"}')["execute"])

    thread = monitor(tmp_path / "qmp", serve)
    process = woken_by(tmp_path, f"qmp:{tmp_path / 'qmp'}")
    thread.join(WAIT_S)
    out = ended(process)
    wakes = ["qmp_capabilities", "system_wakeup", "query-status", "system_wakeup", "end"]
    assert asked == wakes, out
    assert "--wake" not in out


def line_of(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    while words not in (line := process.stdout.readline()):
        assert line
    return line


def test_what_keeps_a_guest_asleep_is_said(tmp_path: Path) -> None:
    process = woken_by(tmp_path, f"qmp:{tmp_path / 'none'}")
    assert "No such file" in line_of(process, "the guest is not woken")
    ended(process)
    thread = monitor(tmp_path / "qmp", lambda client: client.send(b"hello\n") and None)
    process = woken_by(tmp_path, f"qmp:{tmp_path / 'qmp'}")
    assert "no QMP" in line_of(process, "the guest is not woken")
    thread.join(WAIT_S)
    ended(process)


def test_a_command_wakes_and_its_failure_is_said(tmp_path: Path) -> None:
    process = woken_by(tmp_path, f"cmd:touch '{tmp_path / 'woken'}'; exit 3")
    assert "exit status 3" in line_of(process, "--wake cmd:")
    ended(process)
    assert (tmp_path / "woken").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--wake", "x"], "qmp:PATH"),
        (["--wake", "qmp:"], "qmp:PATH"),
        (["--wake", "cmd:a", "--wake", "cmd:b"], "2 for 1 --socket"),
    ],
)
def test_a_wrong_way_to_wake_is_one_line(tmp_path: Path, words: list[str], text: str) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "e1000emu", "vfio-user", "--socket", str(tmp_path / "s"),
         "--link", "null", *words],
        capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert made.returncode == 2
    assert text in made.stderr
