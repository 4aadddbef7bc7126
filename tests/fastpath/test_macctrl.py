"""The compiled searches for MAC control frames and magic packets against their twins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._ref import macctrl as ref
from fastpath.base.batch import FrameBatch
from fastpath.nic import macctrl

HEAD = st.sampled_from((b"", bytes(11), bytes(12), bytes(12) + b"\x88", bytes(12) + b"\x88\x08"))


@given(
    st.lists(st.builds(lambda head, tail: (head + tail) or b"\0", HEAD, st.binary(max_size=20))),
    st.integers(-2, 10),
    st.sampled_from((0x8808, 0x0000, 0x1234)),
)
def test_find_equals_reference(frames: list[bytes], start: int, kind: int) -> None:
    batch = FrameBatch(frames)
    assert macctrl.find_mac_control(batch, start, kind) == ref.find_mac_control(frames, start, kind)


MACS = (bytes.fromhex("525400123456"), bytes(6), b"\xff" * 6)
PARTS = st.one_of(
    st.sampled_from(
        [b"\xff" * 6, b"\xff", *MACS, *(15 * m for m in MACS), *(16 * m for m in MACS)]
    ),
    st.binary(max_size=8),
)


@given(
    st.lists(st.lists(PARTS, max_size=8).map(lambda parts: b"".join(parts) or b"\0"), max_size=5),
    st.integers(-2, 6),
    st.sampled_from(MACS),
)
def test_find_magic_equals_reference(frames: list[bytes], start: int, mac: bytes) -> None:
    batch = FrameBatch(frames)
    assert macctrl.find_magic(batch, start, mac) == ref.find_magic(frames, start, mac)


@pytest.mark.parametrize("mac", MACS)
@pytest.mark.parametrize("before", [0, 11, 12, 13, 1400])
def test_magic_is_found_behind_the_addresses(mac: bytes, before: int) -> None:
    frame = b"\1" * before + b"\xff" * 6 + 16 * mac + b"\2"
    for module, batch in ((macctrl, FrameBatch([b"\0" * 60, frame])), (ref, [b"\0" * 60, frame])):
        found = module.find_magic(batch, 0, mac)
        assert (found == 1) is (before >= 12 or b"\xff" * 6 + 16 * mac in frame[12:])
        assert module.find_magic(batch, 2, mac) == 2
        with pytest.raises(ValueError, match="six bytes"):
            module.find_magic(batch, 0, mac[:5])
