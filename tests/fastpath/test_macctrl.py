"""The compiled search for MAC control frames against its twin."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastpath import macctrl
from fastpath._ref import macctrl as ref
from fastpath.batch import FrameBatch

HEAD = st.sampled_from((b"", bytes(11), bytes(12), bytes(12) + b"\x88", bytes(12) + b"\x88\x08"))


@given(
    st.lists(st.builds(lambda head, tail: (head + tail) or b"\0", HEAD, st.binary(max_size=20))),
    st.integers(-2, 10),
    st.sampled_from((0x8808, 0x0000, 0x1234)),
)
def test_find_equals_reference(frames: list[bytes], start: int, kind: int) -> None:
    batch = FrameBatch(frames)
    assert macctrl.find_mac_control(batch, start, kind) == ref.find_mac_control(frames, start, kind)
