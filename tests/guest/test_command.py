"""`e1000emu guest`: a Linux on our NIC in one command."""

from __future__ import annotations

import json
import subprocess
import sys

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
