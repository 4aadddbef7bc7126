"""What bench_guest reads out of /proc and out of ping, and how figures become rows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import guest_rig
from benchmarks.bench_guest import MEASUREMENTS, Record, _ping_report, attempted, row
from benchmarks.guest_rig import (
    BenchError,
    Snapshot,
    busy_seconds,
    cpu_seconds,
    interrupts,
    net_dev,
    prepared_image,
    udp_received,
)

ROOT = Path(__file__).resolve().parents[2]
BY_NAME = {measurement.name: measurement for measurement in MEASUREMENTS}

# Linux 6.12
INTERRUPTS = """\
           CPU0       CPU1
  1:          9          0   IO-APIC   1-edge      i8042
 11:       1234        766   IO-APIC  11-fasteoi   eth0
 24:          0          0  PCI-MSIX-0000:00:03.0   0-edge      virtio0-config
NMI:          0          0   Non-maskable interrupts
"""
NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo
    lo:       1       2    0    0    0     0          0         0        3       4    0    0    0
  eth0: 6320172  105336    7    0    0     0          0         0  9320172  205337    0    0    0
"""
SNMP = """\
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti
Udp: 4242 0 17 9 17 0 0 0
UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors
UdpLite: 0 0 0 0 0 0 0
"""


def test_counters_are_read_where_the_kernel_has_them() -> None:
    assert interrupts(INTERRUPTS, "eth0") == 2000
    assert net_dev(NET_DEV, "eth0") == (105336, 205337)
    assert net_dev(NET_DEV, "lo") == (2, 4)
    assert udp_received(SNMP) == 4242
    assert udp_received(SNMP, or_lost=True) == 4242 + 17


@pytest.mark.parametrize(
    "read", [lambda: interrupts(INTERRUPTS, "eth1"), lambda: net_dev(NET_DEV, "th0")]
)
def test_an_interface_that_is_not_there_is_named(read: Callable[[], Any]) -> None:
    with pytest.raises(BenchError, match=r"eth1|th0"):
        read()


def test_cpu_seconds_grow_with_work_and_end_with_the_process() -> None:
    before = cpu_seconds(os.getpid())
    while cpu_seconds(os.getpid()) - before < 0.05:
        pass
    gone = subprocess.Popen(["true"])
    gone.wait()
    with pytest.raises(BenchError, match=str(gone.pid)):
        cpu_seconds(gone.pid)


def test_a_busy_processor_is_seen() -> None:
    # user nice system idle iowait irq softirq steal guest guest_nice, in ticks
    text = "cpu  1000 200 300 99999 88888 40 60 7 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
    assert busy_seconds(text) == 1600 / os.sysconf("SC_CLK_TCK")
    before = busy_seconds(Path("/proc/stat").read_text())
    start = cpu_seconds(os.getpid())
    while cpu_seconds(os.getpid()) - start < 0.1:
        pass
    assert busy_seconds(Path("/proc/stat").read_text()) - before >= 0.05


def test_snapshots_give_what_was_gained() -> None:
    earlier, later = Snapshot({"frames": 5.0, "irqs": 1.0}), Snapshot({"frames": 9.0, "irqs": 1.0})
    assert earlier.until(later) == {"frames": 4.0, "irqs": 0.0}


def test_ping_must_have_been_answered() -> None:
    text = "200 packets transmitted, 198 received, 1% packet loss, time 2187ms\nrtt min/avg"
    assert _ping_report("ping", text) == (200, 198, 2.187)
    for bad in ("5 packets transmitted, 0 received, 100% packet loss, time 4089ms", "ping: what?"):
        with pytest.raises(BenchError, match="no answer"):
            _ping_report("ping", bad)


def record(value: float, cpu_s: float = 1.0) -> Record:
    return Record(value, {"frames": value}, {"qemu": cpu_s}, 2.0, {"lost": 0.0})


def test_a_ratio_above_one_is_to_our_advantage() -> None:
    ours = [record(300.0), record(100.0), record(200.0)]
    peer = [record(100.0), record(100.0), record(100.0, 3.0)]
    made = row(BY_NAME["tcp_guest_host"], "peer", ours, peer)
    assert (made["value"], made["peer_value"], made["ratio"]) == (200.0, 100.0, 2.0)
    assert made["ratio_rounds"] == [3.0, 1.0, 2.0]
    assert made["per_second"] == {"frames": 200.0}
    assert made["peer_cpu_s"] == {"qemu": 1.0}
    made = row(BY_NAME["ping_guest_host"], "peer", ours, peer)
    assert (made["ratio"], made["lower_is_better"]) == (0.5, True)


def test_a_measurement_that_fails_is_tried_again_and_then_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    failures = 2

    def measure(*args: Any) -> Record:
        if len(said) < failures:
            raise BenchError("iperf3: the server is busy")
        return record(1.0)

    monkeypatch.setattr("benchmarks.bench_guest.measure", measure)
    assert attempted(MEASUREMENTS[0], None, None, said.append).value == 1.0  # type: ignore[arg-type]
    assert said == ["once more: iperf3: the server is busy"] * 2
    said.clear()
    failures = 3
    with pytest.raises(BenchError, match="busy"):
        attempted(MEASUREMENTS[0], None, None, said.append)  # type: ignore[arg-type]


@pytest.mark.parametrize(("user", "words"), [(1000, "needs root"), (0, "--prepare-only")])
def test_what_is_missing_is_said_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user: int, words: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(guest_rig, "TOOLS", ())
    monkeypatch.setattr(os, "open", lambda *args: os.memfd_create("tun"))
    monkeypatch.setenv("E1000EMU_GUEST_CACHE", str(tmp_path))
    with pytest.raises(BenchError, match=words):
        prepared_image()


def test_an_option_that_cannot_be_is_one_line() -> None:
    for words in (["-o", "/nowhere/x"], ["--qemu-args", "'"], ["--rounds", "0"]):
        done = subprocess.run(
            [sys.executable, str(ROOT / "benchmarks" / "bench_guest.py"), *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode in (1, 2)
        assert words[0] in done.stderr
        assert "Traceback" not in done.stderr
