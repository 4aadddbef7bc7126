"""The register file of one Nic, by name and by offset."""

from __future__ import annotations

from dataclasses import replace

import pytest

from e1000emu.registers.models import MODELS
from e1000emu.registers.regs import TABLE, reg
from e1000emu.testing.bench import make_bench


def test_names_offsets_and_elements_reach_the_same_register() -> None:
    regs = make_bench().nic.regs
    regs["RAL[2]"] = 7
    assert regs[0x5410] == regs["ral[2]"] == regs.peek(0x5410) == 7
    with pytest.raises(KeyError):
        regs["NOPE"]


def test_nonreset_lists_only_what_differs() -> None:
    nic = make_bench().nic
    before = set(nic.regs.nonreset())
    nic.mmio_write(reg("TIPG").offset, 1)
    assert set(nic.regs.nonreset()) - before == {"TIPG"}


def test_show_decodes() -> None:
    assert make_bench().nic.regs.show("LEDCTL").startswith("LEDCTL 0E00 = 07068302  LED0_MODE=0x2")


def test_a_model_may_override_reset_values() -> None:
    part = replace(MODELS["82540EM"], reset_overrides={"PBA": 0x00180028})
    nic = make_bench(model=part).nic  # type: ignore[arg-type]
    assert nic.mmio_read(reg("PBA").offset) == 0x00180028
    assert nic.rx.engine.fifo_bytes == 40 * 1024


def test_every_row_of_the_table_is_defined() -> None:
    file = make_bench().nic.regs.file
    assert all(file.defined(o // 4) for r in TABLE for o in r.offsets)
    assert sum(file.defined(i) for i in range(len(file))) == sum(r.count for r in TABLE)
