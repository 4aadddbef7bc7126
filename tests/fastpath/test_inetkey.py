"""Socket keys of packets: both families against the twin, scapy's packets, cut-off headers."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastpath._ref import inetkey as ref
from fastpath.base import skbuff as S
from fastpath.base.dma import HostMemory
from fastpath.net import inetkey
from fastpath.net.sockaddr import sockaddr
from tests.fastpath.frames import ipv4, ipv6, tcp, udp
from tests.support import examples

POOL = S.SkbPool(HostMemory(4 << 20), 2048, 64)
STEPS = (
    (inetkey.inet_key, ref.inet_key),
    (inetkey.icmp_echo_key, ref.icmp_echo_key),
)


def packet(data: bytes, net: int, l4: int, headroom: int = 16) -> S.sk_buff:
    """A sk_buff of `data` whose headers begin at `net` and `l4`."""
    skb = S.skb_from_bytes(POOL, data, headroom)
    skb.network_header, skb.transport_header = headroom + net, headroom + l4
    return skb


def outcome(step: object, *args: object, **kind: object) -> object:
    """What a call returns, or the type of what it raises."""
    try:
        return step(*args, **kind)  # type: ignore[operator]
    except (IndexError, ValueError) as error:
        return type(error)


@settings(max_examples=examples(200), deadline=None)
@given(
    st.binary(max_size=100),
    st.integers(0, 100),
    st.integers(0, 100),
    st.sampled_from((None, 0x45, 0x60)),
)
@example(bytes(100), 0, 40, 0x60)
@example(bytes(39), 0, 20, 0x60)
def test_keys_of_any_bytes_are_the_twins(data: bytes, net: int, l4: int, first: int | None) -> None:
    if first is not None and net < len(data):
        data = data[:net] + bytes([first]) + data[net + 1 :]
    skb = packet(data, net, l4)
    for step, oracle in STEPS:
        assert outcome(step, skb) == outcome(oracle, data, net, l4)
    want = outcome(ref.inet_key, data, net, l4, back=True)
    assert outcome(inetkey.inet_err_key, skb, net, l4) == want
    for made, key in (
        (outcome(inetkey.inet_skb_ends, skb), outcome(ref.inet_key, data, net, l4)),
        (outcome(inetkey.inet_err_ends, skb, net, l4), want),
    ):
        if isinstance(made, inetkey.InetEnds):
            assert made.key() == key
            assert (made.family, made.sport, made.dport) == (key[0], key[2], key[4])  # type: ignore[index]
        else:
            assert made is key  # what both raise
    S.kfree_skb(skb)


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=40), st.booleans(), st.booleans(), st.integers(-3, 3), st.integers(0, 70))
def test_usual_datagrams_are_the_twins(
    body: bytes, v6: bool, check: bool, longer: int, cut: int
) -> None:
    """Right datagrams, ones of another length and ones that are cut off."""
    whole = bytearray(udp(body, v6=v6, check=check)[14:])
    l4 = 40 if v6 else 20
    if v6 and longer == 0 and cut % 3 == 0:
        whole[24] = 0xFF  # a group
    whole[l4 + 4 : l4 + 6] = (8 + len(body) + longer).to_bytes(2, "big")
    data = bytes(whole[: max(l4, len(whole) - cut)])
    skb = packet(data, 0, l4)
    S.skb_pull(skb, l4)
    assert inetkey.udp_rcv_ends(skb) is None  # nobody has verified it
    assert not inetkey.udp_rcv_usual(skb)
    skb.ip_summed = S.CHECKSUM_UNNECESSARY
    want = ref.udp_rcv_key(data, 0, l4)
    for merged in (0, 1):  # merged datagrams belong to one socket
        skb.gso_size = merged
        ends = inetkey.udp_rcv_ends(skb)
        assert (None if ends is None else ends.key()) == want
        assert inetkey.udp_rcv_usual(skb) == (want is not None)
    skb.ip_summed = S.CHECKSUM_COMPLETE
    assert inetkey.udp_rcv_ends(skb) is None
    assert not inetkey.udp_rcv_usual(skb)
    S.kfree_skb(skb)
    for step in (inetkey.udp_rcv_ends, inetkey.udp_rcv_usual):
        with pytest.raises(ValueError, match="freed"):
            step(skb)


NEAR = st.sampled_from([1 << bit for bit in (0, 31, 32, 62, 63, 64, 127)])


@settings(max_examples=examples(200), deadline=None)
@given(st.booleans(), st.lists(st.integers(0, (1 << 128) - 1) | NEAR, min_size=2, max_size=2), NEAR)
def test_ends_are_compared_with_any_address(v6: bool, addresses: list[int], bit: int) -> None:
    """Also with one that is longer or shorter than the packet's, or with what is none."""
    size, at, l4 = (16, 8, 40) if v6 else (4, 12, 20)
    saddr, daddr = (addr % (1 << 8 * size) for addr in addresses)
    data = bytearray(udp(b"abc", v6=v6)[14:])
    data[at : at + 2 * size] = saddr.to_bytes(size, "big") + daddr.to_bytes(size, "big")
    skb = packet(bytes(data), 0, l4)
    ends = inetkey.inet_skb_ends(skb)
    for same, addr in ((ends.is_from, saddr), (ends.is_to, daddr)):
        assert same(addr)
        assert not same(addr ^ bit)
        assert not same(addr - (1 << 64))
        assert not same(addr + (1 << 128))
        assert not same(-1)
        with pytest.raises(TypeError):
            same("::1")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            same(None)  # type: ignore[arg-type]
    S.kfree_skb(skb)


def test_keys_have_the_family_of_the_wire_first() -> None:
    for v6, addresses in ((False, (0x0A000001, 0x0A000002)), (True, (1, 2))):
        family, l4 = (inetkey.AF_INET6, 40) if v6 else (inetkey.AF_INET, 20)
        src, dst = addresses
        data = tcp(b"abc", v6=v6, sport=9, dport=10)[14:]
        skb = packet(data, 0, l4)
        assert inetkey.inet_key(skb) == (family, src, 9, dst, 10)
        assert inetkey.inet_err_key(skb, 0, l4) == (family, dst, 10, src, 9)
        S.kfree_skb(skb)


def test_scapys_packets_with_wide_addresses() -> None:
    from ipaddress import ip_address

    from scapy.layers.inet import ICMP, IP, UDP
    from scapy.layers.inet6 import ICMPv6EchoReply, IPv6

    for src, dst in (("fe80::1", "ff02::2"), ("2001:db8:ffff::", "::"), ("::1", "f" * 4 + "::1")):
        s, d = int(ip_address(src)), int(ip_address(dst))
        skb = packet(bytes(IPv6(src=src, dst=dst) / UDP(sport=65535, dport=1)), 0, 40)
        assert inetkey.inet_key(skb) == (10, s, 65535, d, 1)
        S.kfree_skb(skb)
        skb = packet(bytes(IPv6(src=src, dst=dst) / ICMPv6EchoReply(id=0xBEEF, seq=3)), 0, 40)
        assert inetkey.icmp_echo_key(skb) == (10, s, 0, d, 0xBEEF)
        S.kfree_skb(skb)
    skb = packet(bytes(IP(src="255.1.2.3", dst="1.2.3.4") / ICMP(type=0, id=7)), 0, 20)
    assert inetkey.icmp_echo_key(skb) == (2, 0xFF010203, 0, 0x01020304, 7)
    S.kfree_skb(skb)


@settings(max_examples=examples(100), deadline=None)
@given(
    st.binary(max_size=9),
    st.one_of(st.integers(0, (1 << 128) - 1), st.integers(0x3FA << 118, (0x3FB << 118) - 1)),
    st.integers(0, 0xFFFF),
    st.integers(0, 99),
)
def test_senders_are_the_twins(body: bytes, saddr: int, port: int, iif: int) -> None:
    for v6, family in ((False, 2), (False, 10), (True, 10)):
        data = udp(body, sport=port, v6=v6, **({"src": saddr} if v6 else {}))[14:]
        l4 = 40 if v6 else 20
        skb = packet(data, 0, l4)
        skb.skb_iif = iif
        S.skb_pull(skb, l4 + 8)
        want = sockaddr(*ref.udp_name(data, 0, l4, family, iif))
        assert inetkey.udp_name(skb, family) == want
        assert inetkey.inet_name(skb, family, 7) == sockaddr(family, want.addr, 7, 0, want.scope_id)
        if v6:
            with pytest.raises(ValueError, match="version 6, a socket of 2"):
                inetkey.udp_name(skb, 2)
        skb.transport_header = S.HEADER_UNSET
        with pytest.raises(IndexError, match="no UDP header"):
            inetkey.udp_name(skb, family)
        skb.transport_header, skb.network_header = 0, S.HEADER_UNSET
        with pytest.raises(IndexError, match="no network header"):
            inetkey.udp_name_consume(skb, family, None)
        skb.network_header, skb.transport_header = 16, 16 + l4
        others = [  # each differs in one thing
            sockaddr(family, want.addr ^ 1, port, 0, want.scope_id),
            sockaddr(family, want.addr, port ^ 1, 0, want.scope_id),
            sockaddr(family, want.addr, port, 1, want.scope_id),
            sockaddr(family, want.addr, port, 0, want.scope_id ^ 1),
            sockaddr(12 - family, want.addr & 0xFFFFFFFF, port, 0, want.scope_id),
        ]
        for seen in [None, *others]:
            S.skb_get(skb)
            assert inetkey.udp_name_consume(skb, family, seen) == want
        again = inetkey.udp_name_consume(skb, family, want)
        assert again == want
        assert again is want or (family == 10 and not v6)
        with pytest.raises(ValueError, match="freed"):
            inetkey.udp_name(skb, family)


def test_offsets_of_a_carried_packet_stay_inside() -> None:
    skb = packet(ipv4(bytes(8), 17), 0, 20)
    for net, l4 in ((29, 20), (0, 29), (0, 0xFFFFFFFF), (0xFFFFFFFF, 20), (0, 26), (9, 20)):
        with pytest.raises((IndexError, ValueError)):
            inetkey.inet_err_key(skb, net, l4)
    S.kfree_skb(skb)


@pytest.mark.parametrize("v6", [False, True])
def test_checksum_init_takes_the_addresses_from_the_header(v6: bool) -> None:
    l4 = 40 if v6 else 20
    for size in (5, 200):
        for spoil in (False, True):
            data = bytearray(udp(bytes(range(size)), v6=v6)[14:])
            data[-1] ^= spoil
            skb = packet(bytes(data), 0, l4)
            S.skb_pull(skb, l4)
            bad = S.inet_checksum_init(skb, 17) or S.skb_checksum_complete(skb)
            assert bool(bad) is spoil
            S.kfree_skb(skb)
    short = packet(ipv6(b"", 17)[:39], 0, 39)
    S.skb_pull(short, 39)
    with pytest.raises(IndexError, match="no network header"):
        S.inet_checksum_init(short, 17)
    short.network_header = S.HEADER_UNSET
    with pytest.raises(IndexError, match="no network header"):
        S.inet_checksum_init(short, 17)
    S.kfree_skb(short)
    other = packet(bytes(60), 0, 20)
    with pytest.raises(ValueError, match="IP version 0"):
        S.inet_checksum_init(other, 17)
    S.kfree_skb(other)


@pytest.mark.parametrize(
    ("size", "value"), [(0, 0x726FDB47DD0E0E31), (15, 0xA129CA6149BE45E5)], ids=["none", "paper"]
)
def test_siphash_of_its_authors(size: int, value: int) -> None:
    secret, data = bytes(range(16)), bytes(range(size))
    assert inetkey.siphash(secret, data) == ref.siphash(secret, data) == value


ADDRESSES = st.one_of(st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 128) - 1))
WORDS = st.integers(0, (1 << 32) - 1)


@settings(max_examples=examples(200), deadline=None)
@given(
    st.binary(min_size=16, max_size=16), st.binary(max_size=80), ADDRESSES, ADDRESSES, WORDS, WORDS
)
def test_siphash_as_in_the_twin(
    secret: bytes, data: bytes, saddr: int, daddr: int, ports: int, more: int
) -> None:
    assert inetkey.siphash(secret, data) == ref.siphash(secret, data)
    ends = saddr, daddr, ports, more
    assert inetkey.inet_siphash(secret, *ends) == ref.inet_siphash(secret, *ends)


@pytest.mark.parametrize("size", [0, 15, 17])
def test_siphash_wants_a_secret_of_16_bytes(size: int) -> None:
    with pytest.raises(ValueError, match=f"16 bytes, not {size}"):
        inetkey.siphash(bytes(size), b"")
    with pytest.raises(ValueError, match=f"16 bytes, not {size}"):
        inetkey.inet_siphash(bytes(size), 1, 2, 3)
    with pytest.raises(TypeError):
        inetkey.inet_siphash(bytes(16), "1", 2, 3)
    with pytest.raises(OverflowError):
        inetkey.inet_siphash(bytes(16), -1, 2, -3)
