"""Test a driver with the project's pytest fixtures: a device on a bench, its far sides faked.

`python -m pytest examples/test_own_driver.py`. In a project of your own the line `pytest_plugins`
goes into the `conftest.py` at the root. Put your driver where `bench.guest` (GuestRings, the
shipped fake driver) stands here: it needs `bench.nic.slot` (configuration space and BARs),
`bench.memory` (host memory, poisoned with ones) and `bench.line` (the interrupt).
"""

from e1000emu.testing.bench import BENCH_MAC, Bench

pytest_plugins = ["e1000emu.testing.fixtures"]

FRAME = b"\xff" * 6 + bytes.fromhex("525400123456") + b"\x08\x00" + b"hello, wire" + bytes(35)
MS = 1_000_000


def test_a_frame_goes_out_and_comes_in(running_bench: Bench) -> None:
    bench = running_bench
    bench.guest.send(FRAME)
    bench.clock.run_for(MS)
    assert [bytes(frame) for frame in bench.link.frames] == [FRAME]
    bench.link.inject(FRAME)
    bench.clock.run_for(MS)
    assert bench.guest.receive()[0].data.startswith(FRAME)


def test_a_driver_that_does_not_wait_for_dd_sees_old_content() -> None:
    bench = Bench(writeback_ns=2000)  # of the bench's clock: what the device writes shows later
    bench.guest.up(mac=BENCH_MAC)
    bench.clock.run_for(5000 * MS)
    bench.link.inject(FRAME)
    length = bench.memory.read(bench.guest.rx.address(0) + 8, 2)  # without a look at the status
    assert length == b"\0\0"
    assert "rx-before-dd" in "\n".join(bench.nic.explain())
    bench.clock.run_for(2000)
    assert bench.guest.receive()[0].data.startswith(FRAME)


def test_the_device_says_what_the_driver_forgot(bench: Bench) -> None:
    slot = bench.nic.slot
    slot.bar_write(0, 0x3818, 5, 4)  # TDT, before TCTL.EN is set
    slot.bar_write(0, 0x0400, 2, 4)  # TCTL.EN, before the ring exists
    slot.bar_write(0, 0x3818, 6, 4)
    said = "\n".join(bench.nic.explain())
    assert "set TCTL.EN; the descriptors wait until then" in said
    assert "TDLEN must be at least 128 and a multiple of 128" in said
