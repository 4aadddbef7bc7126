"""`e1000emu guest`: a Linux on our NIC in one command."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import time

import pytest

from tests.guest.setup import WAIT_S

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("image")]


def guest(*words: str, timeout: float = 2 * WAIT_S) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "e1000emu", "guest", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_command_runs_in_the_guest_and_its_status_is_ours(tmp_path):
    capture = tmp_path / "wire.pcapng"
    command = "ping -c 3 10.9.0.1 && wget -q -O - http://10.9.0.1/; exit 7"
    words = ("--kernel", "trixie-backports", "--model", "82544GC")
    made = guest(*words, "--capture", str(capture), "--run", command)
    assert made.returncode == 7, made.stderr
    assert "3 packets transmitted, 3 received" in made.stdout
    assert "<!doctype html>" in made.stdout
    assert "booting Linux" in made.stderr
    assert capture.stat().st_size > 1000


def test_report_in_json():
    words = ("--kernel", "bookworm", "--model", "82545EM", "--addr", "10.8.0.2/24")
    made = guest("--json", *words, "--link", "stack:10.8.0.1/24", "--run", "ip a; uname -r")
    assert made.returncode == 0, made.stderr
    report = json.loads(made.stdout)
    assert report["release"] in report["output"]
    assert report["release"].startswith("6.1.")
    assert report["returncode"] == 0
    assert "inet 10.8.0.2/24" in report["output"]
    assert report["clients"] == 1
    assert report["interrupts"] > 0


def test_command_that_does_not_end_is_one_line_after_what_it_wrote():
    made = guest("--timeout", "2s", "--run", "echo first; sleep 1000")
    assert made.returncode == 1
    assert made.stdout == "first\n"
    assert "runs for more than 2s; --timeout allows more" in made.stderr.splitlines()[-1]


def test_prepared_is_reported_and_quick():
    made = guest("--prepare-only", "--json")
    report = json.loads(made.stdout)
    image = f"linux-image-{report['release']}="
    assert any(name.startswith(image) for name in report["packages"])
    # nothing was fetched or made, but other tests may be at it
    assert [line for line in made.stderr.splitlines() if "waiting for another" not in line] == []


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        ((), 2, "--run"),
        (("--qemu", "/bin/true", "--run", "true"), 1, "vfio-user-pci"),
        (("--qemu", "no-such-qemu", "--run", "true"), 2, "no such program"),
        (("--gw", "10.1.1.1", "--run", "true"), 2, "--gw"),
        (("--mac", "x", "--run", "true"), 2, "--mac"),
        (("--model", "nonsense", "--run", "true"), 2, "nonsense"),
        (("--link", "what:ever", "--run", "true"), 2, "--link"),
    ],
)
def test_what_cannot_be_is_one_line(words, status, text):
    made = guest(*words)
    assert made.returncode == status
    lines = [line for line in made.stderr.splitlines() if not line.startswith("guest: ")]
    assert len(lines) == 1, made.stderr
    assert lines[0].startswith("e1000emu: ")
    assert text in lines[0]


def test_the_line_that_is_printed_boots_a_guest_and_warns_of_nothing(image, tmp_path):
    """With its display, whose memory has no descriptor: the firmware maps all memory anew."""
    words = ["--socket", str(tmp_path / "nic"), "--link", "stack:10.9.0.1/24", "--json"]
    with open(tmp_path / "said", "w") as said:
        server = subprocess.Popen(
            [sys.executable, "-m", "e1000emu", "vfio-user", *words],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
    commands = b"ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up; ping -c 9 10.9.0.1"
    setup = base64.b64encode(commands).decode()
    kernel = ["-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append"]
    kernel += [f"console=ttyS0 e1000emu.modules=e1000 e1000emu.setup={setup}"]
    line = json.loads(server.stdout.readline())["qemu"]
    qemu = subprocess.Popen(
        [*line, *kernel, "-display", "none", "-serial", f"file:{tmp_path / 'console'}"]
    )
    try:
        deadline = time.monotonic() + WAIT_S
        sent = 0
        while not sent:
            assert qemu.poll() is None
            assert time.monotonic() < deadline, (tmp_path / "console").read_text()[-2000:]
            time.sleep(0.2)
            server.send_signal(signal.SIGUSR1)
            sent = json.loads(server.stdout.readline())["tx_frames"]
    finally:
        qemu.terminate()
        qemu.wait(WAIT_S)
        server.terminate()
        server.communicate(timeout=WAIT_S)
    assert "without a file descriptor" not in (tmp_path / "said").read_text()


def test_qemu_is_a_command_of_its_own(image):
    words = [sys.executable, "-m", "e1000emu", "qemu"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert image.qemu.version in said
    assert image.qemu.origin in said
    shown = subprocess.run([*words, "--", "--version"], capture_output=True, text=True, check=True)
    assert image.qemu.version in shown.stdout
    wrong = subprocess.run([*words, "-m", "1G"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "stand behind --" in wrong.stderr
