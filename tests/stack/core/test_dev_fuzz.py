"""Whatever the wire brings: no exception, no leak, every frame accounted for."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from stack.ipv4.devinet import inet_addr_add
from tests.stack.core.wire import assert_no_leak, wired_pair
from tests.support import examples

MAC_A = b"\x02\x00\x00\x00\x00\x01"
macs = st.sampled_from([MAC_A, b"\xff" * 6, b"\x01\x00\x5e\x00\x00\x01", b"\x02" * 6, bytes(6)])
protos = st.sampled_from(
    [b"\x08\x00", b"\x08\x06", b"\x81\x00", b"\x88\xa8", b"\x86\xdd", b"\x00\x2e", b"\x90\x00"]
)


@st.composite
def frames(draw):
    """Ethernet-like bytes: tags in any number, a payload that often begins like IPv4."""
    head = draw(macs) + draw(macs) + draw(protos)
    for _ in range(draw(st.integers(0, 3))):
        head += draw(st.binary(min_size=2, max_size=2)) + draw(protos)
    body = draw(st.binary(max_size=80))
    if draw(st.booleans()):
        body = b"\x45\x00" + (20 + len(body)).to_bytes(2, "big") + body
    frame = head + body
    cut = draw(st.integers(0, len(frame))) if draw(st.booleans()) else len(frame)
    return frame[:cut]


@given(st.lists(frames(), max_size=12))
@settings(max_examples=examples(150))
def test_arbitrary_frames(batch):
    clock, a, b, wa, _wb = wired_pair(inet=True)
    inet_addr_add(wa.dev, 0x0A000001, 24)
    for frame in batch:
        wa.receive(frame)
    clock.run_for(3_000_000_000)
    stats = wa.dev.stats
    assert stats.rx_packets == len(batch)
    assert_no_leak(a, b)
