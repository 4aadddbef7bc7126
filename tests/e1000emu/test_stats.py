"""Statistics at the registers: what each frame counts, sizes with FCS."""

from __future__ import annotations

import pytest

from e1000emu.stats import STATISTICS, describe_statistics
from e1000emu.testing.guest import Rctl
from tests.e1000emu.common import BROADCAST, PEER, RX_ON, frame, rd, running, wr

BUCKETS = ((60, "64"), (61, "127"), (124, "255"), (300, "511"), (600, "1023"), (1514, "1522"))


@pytest.mark.parametrize(("size", "bucket"), BUCKETS)
def test_sizes_count_the_fcs_both_ways(size: int, bucket: str) -> None:
    bench = running()
    bench.link.inject(frame(size))
    bench.guest.post_legacy(frame(size))
    wr(bench.nic, "TDT", bench.guest.tx.next_to_use)
    for name in (f"PRC{bucket}", f"PTC{bucket}", "GPRC", "GPTC", "TPR", "TPT"):
        assert rd(bench.nic, name) == 1, name
    for low, high in (("GORCL", "GORCH"), ("GOTCL", "GOTCH"), ("TORL", "TORH"), ("TOTL", "TOTH")):
        assert rd(bench.nic, low) == size + 4
        assert rd(bench.nic, high) == 0
        assert rd(bench.nic, low) == 0


def test_kinds_of_address() -> None:
    bench = running()
    bench.guest.setup_rx(RX_ON | Rctl.MPE)
    for dst in (BROADCAST, bytes.fromhex("01005e000001"), PEER):
        bench.link.inject(frame(dst=dst))
        bench.guest.post_legacy(frame(dst=dst))
    wr(bench.nic, "TDT", bench.guest.tx.next_to_use)
    got = {name: rd(bench.nic, name) for name in ("BPRC", "MPRC", "GPRC", "TPR", "BPTC", "MPTC")}
    assert got == {"BPRC": 1, "MPRC": 1, "GPRC": 2, "TPR": 3, "BPTC": 1, "MPTC": 1}


def test_errors_on_the_wire() -> None:
    bench = running()
    bench.link.inject(frame(), frame(), frame(), flags=[2, 4, 8])
    names = ("CRCERRS", "ALGNERRC", "SYMERRS", "RXERRC", "GPRC")
    assert [rd(bench.nic, name) for name in names] == [1, 1, 1, 1, 0]


def test_every_statistic_is_described() -> None:
    assert list(describe_statistics()) == list(STATISTICS)
    assert all(describe_statistics().values())
