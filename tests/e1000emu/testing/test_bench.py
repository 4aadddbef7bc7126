"""A bench: what closes it."""

from __future__ import annotations

import subprocess
import sys

from e1000emu.testing import Bench, RecordingLink


def test_a_bench_that_is_closed_does_nothing_any_more() -> None:
    with Bench() as bench:
        bench.guest.up()
        bench.clock.run_for(3_000_000_000)
        assert bench.guest.send(bytes(60)) == 1
    now = bench.clock.now_ns()
    bench.clock.run_until_idle(1_000_000_000)
    assert bench.clock.now_ns() == now  # no timer is left
    bench.close()


def test_a_running_bench_takes_the_options_of_a_bench() -> None:
    link = RecordingLink(gso_max_bytes=9000)
    with Bench.running(mac=b"\x52\x54\0\0\0\7", link=link, tx_count=16) as bench:
        assert bench.nic.link_up
        assert bench.nic.link is link
        assert bench.guest.tx.count == 16
        link.inject(b"\x52\x54\0\0\0\7" + bytes(54))
        assert len(bench.guest.receive()) == 1
        assert bench.line.edges == []


def test_a_program_with_a_bench_imports_no_pytest() -> None:
    code = """
import sys
from e1000emu.testing import Bench
with Bench.running() as bench:
    bench.guest.send(bytes(60))
    bench.link.inject(b"\\xff" * 60)
    print(len(bench.link.take()), len(bench.guest.receive()))
print([name for name in sys.modules if "pytest" in name])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1 1\n[]\n"
