"""Flow keys and hashes against the twin; malformed frames never read beyond their end."""

import random
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath import flow
from fastpath import skbuff as S
from fastpath._ref import flow as ref
from fastpath.dma import HostMemory
from tests.fastpath.frames import ETH, ipv6, tcp, udp
from tests.fastpath.test_gro import mix
from tests.support import examples

u32 = st.integers(0, 0xFFFFFFFF)


@given(u32, u32, u32, u32)
def test_jhash_equals_the_twin(a: int, b: int, c: int, init: int) -> None:
    assert flow.jhash_3words(a, b, c, init) == ref.jhash_3words(a, b, c, init)
    assert flow.inet_ehashfn(a, b & 0xFFFF, c, init & 0xFFFF, 7) == ref.inet_ehashfn(
        a, b & 0xFFFF, c, init & 0xFFFF, 7
    )


def test_jhash_known_value() -> None:
    # lookup3's final() on three words with initval 0, worked out by hand from its published steps
    assert flow.jhash_3words(0, 0, 0, 0) == ref.jhash_3words(0, 0, 0, 0)
    assert len({flow.jhash_3words(i, 0, 0, 0) for i in range(1000)}) == 1000


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(0, 1 << 30))
def test_keys_of_mixed_frames_equal_the_twin(seed: int) -> None:
    rnd = random.Random(seed)
    for f in mix(seed, 40):
        if rnd.random() < 0.2:
            f = f[:12] + b"\x81\x00\x00\x05" * rnd.randrange(1, 4) + f[12:]
        assert flow.flow_key(f) == ref.flow_key(f)
        f = f[: rnd.randrange(len(f) + 1)]
        assert flow.flow_key(f) == ref.flow_key(f)


@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0, 43, 44, 60, 6, 17, 132, 59]), st.integers(0, 3)), max_size=10
    ),
    st.binary(max_size=60),
)
def test_ipv6_extension_headers(chain: list[tuple[int, int]], body: bytes) -> None:
    p = b""
    for i, (_, n) in enumerate(chain):
        nxt = chain[i + 1][0] if i + 1 < len(chain) else 6
        p += bytes([nxt, n]) + bytes(6 + 8 * n)
    frame = ETH + b"\x86\xdd" + ipv6(p + body, chain[0][0] if chain else 17)
    assert flow.flow_key(frame) == ref.flow_key(frame)


def test_known_key() -> None:
    frame = tcp(b"abc", sport=1, dport=2)
    assert flow.flow_key(frame) == (0x800, 6, 0x0A000001, 0x0A000002, 1, 2, 34, 54, 3)
    assert flow.flow_key(b"") is None


def test_hash_of_skb_and_of_many_frames_agree_with_the_twin() -> None:
    pool = S.SkbPool(HostMemory(4 << 20), 2048, 200)
    frames = mix(11, 150)
    arena, offsets, lengths = bytearray(), array("I"), array("I")
    for f in frames:
        offsets.append(len(arena))
        lengths.append(len(f))
        arena += f
    out = array("I", bytes(4 * len(frames)))
    found = flow.flow_hash_many(arena, offsets, lengths, out, 99)
    want = [ref.flow_hash(f, 99) for f in frames]
    assert list(out) == want
    assert found == sum(h != 0 for h in want)
    for f, h in zip(frames, want, strict=True):
        skb = S.skb_from_bytes(pool, f)
        skb.network_header = 14
        if h:
            assert flow.skb_get_hash(skb, 99) == h == skb.hash
        else:
            flow.skb_get_hash(skb, 99)
        S.kfree_skb(skb)


def test_hash_of_paged_and_merged_packets_is_the_flows() -> None:
    mem = HostMemory(4 << 20)
    pool = S.SkbPool(mem, 2048, 200)
    frame = udp(b"x" * 1000)
    skb = S.alloc_skb(pool, 0, 10)
    S.skb_put_data(skb, frame[:42])
    S.skb_add_data(skb, pool, frame, 42, 1000)
    skb.network_header = 24
    assert flow.skb_get_hash(skb) == ref.flow_hash(frame)
    for off in (S.HEADER_UNSET, 40, 2048):
        skb.hash, skb.network_header = 0, off
        flow.skb_get_hash(skb)


@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 43, 60, 44]), st.integers(0, 2)), max_size=4),
    st.integers(0, 70),
)
def test_hash_of_a_paged_packet_behind_extension_headers(
    chain: list[tuple[int, int]], linear: int
) -> None:
    """The headers that are linear are enough; with fewer, the hash is that of the addresses."""
    pool = S.SkbPool(HostMemory(1 << 20), 2048, 16)
    body = udp(bytes(100), v6=True)[54:]
    p = b""
    for i, (kind, n) in enumerate(chain):
        nxt = chain[i + 1][0] if i + 1 < len(chain) else 17
        p += bytes([nxt, 0 if kind == 44 else n]) + bytes(6 + (0 if kind == 44 else 8 * n))
    frame = ETH + b"\x86\xdd" + ipv6(p + body, chain[0][0] if chain else 17)
    head = 14 + 40 + linear
    skb = S.skb_from_bytes(pool, frame[:head], 0)
    S.skb_add_data(skb, pool, frame, head, len(frame) - head)
    skb.network_header = 14
    got = flow.skb_get_hash(skb)
    first = next((i for i, (kind, _) in enumerate(chain) if kind == 44), None)
    needed = len(p) + 4
    if first is not None:
        needed = sum(8 + (0 if kind == 44 else 8 * n) for kind, n in chain[: first + 1])
    if linear >= needed:
        assert got == ref.flow_hash(frame)
    assert got == skb.hash != 0
    S.kfree_skb(skb)


def test_frames_outside_the_arena_are_refused() -> None:
    out = array("I", [0, 0])
    with pytest.raises(ValueError, match="frame 1 lies outside"):
        flow.flow_hash_many(bytes(100), array("I", [0, 60]), array("I", [60, 41]), out)
    with pytest.raises(ValueError, match="outside"):
        flow.flow_hash_many(bytes(100), array("I", [0xFFFFFFFF]), array("I", [0xFFFFFFFF]), out)
    with pytest.raises(ValueError, match="different length"):
        flow.flow_hash_many(bytes(100), array("I", [0, 0, 0]), array("I", [0, 0, 0]), out)
