"""Statistics at the registers: what each frame counts, sizes with FCS."""

from __future__ import annotations

import pytest

from e1000emu.device.nic import Nic
from e1000emu.device.stats import STATISTICS, describe_statistics
from e1000emu.testing.bench import Bench
from e1000emu.testing.guest import Rctl
from tests.e1000emu.common import BROADCAST, PEER, RX_ON, frame, post_tso, rd, wr
from tests.e1000emu.witness import witness

BUCKETS = ((60, "64"), (61, "127"), (124, "255"), (300, "511"), (600, "1023"), (1514, "1522"))


@witness(
    "PRC{bucket}.COUNT",
    "PTC{bucket}.COUNT",
    "GPRC.COUNT",
    "GPTC.COUNT",
    "TPR.COUNT",
    "TPT.COUNT",
    "GORCL.COUNT",
    "GOTCL.COUNT",
    "TORL.COUNT",
    "TOTL.COUNT",
)
@pytest.mark.parametrize(("size", "bucket"), BUCKETS)
def test_sizes_count_the_fcs_both_ways(size: int, bucket: str, bench: Bench) -> None:
    bench.link.inject(frame(size))
    bench.guest.post_legacy(frame(size))
    wr(bench.nic, "TDT", bench.guest.tx.next_to_use)
    for name in (f"PRC{bucket}", f"PTC{bucket}", "GPRC", "GPTC", "TPR", "TPT"):
        assert rd(bench.nic, name) == 1, name
    for low, high in (("GORCL", "GORCH"), ("GOTCL", "GOTCH"), ("TORL", "TORH"), ("TOTL", "TOTH")):
        assert rd(bench.nic, low) == size + 4
        assert rd(bench.nic, high) == 0
        assert rd(bench.nic, low) == 0


@witness("BPRC.COUNT", "MPRC.COUNT", "BPTC.COUNT", "MPTC.COUNT", "RCTL.MPE")
def test_kinds_of_address(bench: Bench) -> None:
    bench.guest.setup_rx(RX_ON | Rctl.MPE)
    for dst in (BROADCAST, bytes.fromhex("01005e000001"), PEER):
        bench.link.inject(frame(dst=dst))
        bench.guest.post_legacy(frame(dst=dst))
    wr(bench.nic, "TDT", bench.guest.tx.next_to_use)
    got = {name: rd(bench.nic, name) for name in ("BPRC", "MPRC", "GPRC", "TPR", "BPTC", "MPTC")}
    assert got == {"BPRC": 1, "MPRC": 1, "GPRC": 2, "TPR": 3, "BPTC": 1, "MPTC": 1}


BAD_CRC, ALIGNMENT, RX_ER, EXTENSION = 2, 4, 8, 16
WIRE = ("CRCERRS", "ALGNERRC", "RXERRC", "CEXTERR", "RLEC", "RUC", "RFC", "ROC", "RJC")
FAULTS = (
    # bytes without FCS, flags of the wire: what is counted
    (60, BAD_CRC, "CRCERRS"),
    (60, ALIGNMENT, "ALGNERRC"),
    (60, RX_ER, "RXERRC"),
    (60, EXTENSION, "CEXTERR"),
    (59, 0, "RLEC RUC"),
    (59, BAD_CRC, "RLEC RFC"),
    (1519, 0, "RLEC ROC"),
    (1519, BAD_CRC, "RLEC RJC CRCERRS"),
)


@pytest.mark.parametrize(
    ("size", "flags", "counted"),
    [
        pytest.param(*row, marks=witness(*(f"{name}.COUNT" for name in row[2].split())))
        for row in FAULTS
    ],
)
def test_errors_on_the_wire(size: int, flags: int, counted: str, bench: Bench) -> None:
    """SDM 13.7.1 to 13.7.4, 13.7.14, 13.7.15, 13.7.34 to 13.7.37."""
    bench.nic.rx.engine.pad_runts = False
    for _ in range(3):
        bench.link.inject(frame(size), frame(), flags=[flags, 0])
    got = {name: rd(bench.nic, name) for name in WIRE}
    assert got == dict.fromkeys(WIRE, 0) | dict.fromkeys(counted.split(), 3)
    assert (rd(bench.nic, "GPRC"), rd(bench.nic, "TPR")) == (3, 6)
    assert rd(bench.nic, "SYMERRS") == 0, "with SerDes alone"


@witness("GORCH.COUNT", "GOTCH.COUNT", "TORH.COUNT", "TOTH.COUNT")
def test_octets_carry_into_the_high_half(bench: Bench, nic: Nic) -> None:
    for name in ("GORC", "GOTC", "TOR", "TOT"):
        nic.stats[name] = (1 << 32) - 1
    bench.link.inject(frame(100))
    bench.guest.post_legacy(frame(100))
    wr(nic, "TDT", bench.guest.tx.next_to_use)
    for name in ("GORC", "GOTC", "TOR", "TOT"):
        assert (rd(nic, f"{name}L"), rd(nic, f"{name}H")) == (103, 1)
        assert (rd(nic, f"{name}L"), rd(nic, f"{name}H")) == (0, 0)


@witness("TSCTFC.COUNT")
def test_a_segmentation_that_ends_early_has_failed(bench: Bench) -> None:
    """SDM 13.7.54: less data than PAYLEN said."""
    post_tso(bench, frame(54 + 1000, kind=0x0800), mss=500, paylen=5000, popts=0)
    wr(bench.nic, "TDT", bench.guest.tx.next_to_use)
    assert rd(bench.nic, "TSCTFC") == 1


def test_every_statistic_is_described() -> None:
    assert list(describe_statistics()) == list(STATISTICS)
    assert all(describe_statistics().values())
