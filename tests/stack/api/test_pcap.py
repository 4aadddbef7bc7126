"""libpcap's programs run by ours against libpcap's own interpreter, on frames of every kind."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

from fastpath.base.bpf import bpf_filter, bpf_prog
from stack.api import pcap
from stack.api.pcap import PcapError, compile_filter
from tests.fastpath.test_bpf import attach_to_kernel, kernel_verdict
from tests.fastpath.test_bpf import link as link  # a fixture
from tests.support import missing

HOSTS4, HOSTS6 = ("10.0.0.1", "10.0.0.2", "224.0.0.1"), ("2001:db8::1", "2001:db8::2", "ff02::1")
PORTS = (22, 53, 80, 4000)
EXTRA = (IPv6ExtHdrHopByHop, IPv6ExtHdrFragment, IPv6ExtHdrRouting, IPv6ExtHdrDestOpt)


@pytest.fixture(scope="module")
def lib() -> Any:
    try:
        return pcap.libpcap()
    except PcapError as error:
        missing("needs libpcap", str(error))


def primitives() -> st.SearchStrategy[str]:
    port, h4, h6 = (st.sampled_from(x) for x in (PORTS, HOSTS4, HOSTS6))
    way = st.sampled_from(["", "src ", "dst "])
    plain = st.sampled_from(
        [
            *("ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6", "broadcast", "multicast", "igmp"),
            *("ip proto 47", "ether proto 0x88b5", "less 60", "greater 100", "ip6 protochain 17"),
            *("tcp[tcpflags] & (tcp-syn|tcp-ack) != 0", "icmp[0] = 8", "ip[6:2] & 0x1fff = 0"),
            *("udp[4:2] > 20", "len % 3 = 1", "ether[0] & 1 = 1", "ip6[6] = 58", "vlan", "vlan 5"),
            *("net 10.0.0.0/30", "ether host 52:54:00:12:34:56", "portrange 22-80"),
            *(
                "tcp[13] * 2 / 3 > 8",
                "vlan and vlan",
                "vlan 5 and udp",
                "vlan 4 and vlan 5 and ip6",
            ),
            # what divides by zero, and what lies outside of the frame, is no match
            *("len / (udp[4:2] - udp[4:2]) = 0", "ip[8] / ip[9] > 1", "len % ip[1] = 0"),
            *("ether[1500] = 0", "tcp[60] = 0", "ip[ip[2:2]] = 0", "ether[len - 1] = 0x78"),
            *("udp[udp[5]] > 1", "ip6[40] = 58", "ip6[ip6[5]:2] != 0", "ether[len] = 0"),
            *(
                "icmp6[0] = 128",
                "((ip[0] & 0xf) << 2) > 20",
                "-ip[8] < 0",
                "ether[12:2] - 2048 = 0",
            ),
            *("ether proto \\ip", "mpls", "pppoes", "llc", "ip6 proto 43", "ip6 proto 60", "stp"),
        ]
    )
    return st.one_of(
        plain,
        st.tuples(way, port).map(lambda t: f"{t[0]}port {t[1]}"),
        st.tuples(way, h4).map(lambda t: f"{t[0]}host {t[1]}"),
        st.tuples(way, h6).map(lambda t: f"{t[0]}host {t[1]}"),
    )


def expressions() -> st.SearchStrategy[str]:
    return st.recursive(
        primitives(),
        lambda inner: st.one_of(
            inner.map(lambda e: f"not ({e})"),
            st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
                lambda t: f"({t[0]}) {t[1]} ({t[2]})"
            ),
        ),
        max_leaves=4,
    )


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    packet: Any = Ether(src="52:54:00:12:34:56", dst=draw(st.sampled_from(
        ["52:54:00:12:34:57", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"])))  # fmt: skip
    for vid in draw(st.lists(st.integers(4, 6), max_size=2)):
        packet /= Dot1Q(vlan=vid)
    port, body = st.sampled_from(PORTS), draw(st.binary(max_size=80))
    l4: Any = draw(
        st.one_of(
            st.builds(TCP, sport=port, dport=port, flags=st.integers(0, 255)),
            st.builds(UDP, sport=port, dport=port),
            st.builds(ICMP, type=st.integers(0, 12)),
            st.builds(ICMPv6EchoRequest),
            st.just(Raw(b"")),
        )
    )
    kind = draw(st.integers(0, 4))
    if kind == 0:
        packet /= ARP(psrc=draw(st.sampled_from(HOSTS4)), pdst=draw(st.sampled_from(HOSTS4)))
    elif kind <= 2:
        ip = IP(src=draw(st.sampled_from(HOSTS4)), dst=draw(st.sampled_from(HOSTS4)),
                frag=draw(st.sampled_from([0, 0, 0, 5])),
                options=draw(st.sampled_from([[], [], b"\x01\x01\x01\x00"])))  # fmt: skip
        packet = packet / ip / l4 / body
    elif kind == 3:
        packet /= IPv6(src=draw(st.sampled_from(HOSTS6)), dst=draw(st.sampled_from(HOSTS6)))
        for extra in draw(st.lists(st.sampled_from(EXTRA), max_size=3)):
            packet /= extra()
        packet = packet / l4 / body
    else:
        packet = packet / Raw(body)
    data = bytes(packet)
    return data[: draw(st.sampled_from([len(data), len(data), draw(st.integers(0, len(data)))]))]


@given(expression=expressions(), data=st.lists(frames(), min_size=1, max_size=5),
       optimize=st.booleans(), missing_bytes=st.sampled_from([0, 0, 20]))  # fmt: skip
def test_verdicts_are_libpcaps(lib: Any, expression: str, data: list[bytes], optimize: bool,
                               missing_bytes: int) -> None:  # fmt: skip
    ffi, dll = lib
    try:
        code = compile_filter(expression, optimize=optimize)
    except PcapError:  # "expression rejects all packets" and the like
        return
    try:
        ours = bpf_prog(code)
    except ValueError:
        # protochain loops, which only libpcap's own interpreter runs
        assert "protochain" in expression
        return
    insns = ffi.from_buffer("struct bpf_insn[]", code)
    for frame in data:
        wire = len(frame) + missing_bytes
        want = dll.bpf_filter(insns, frame, wire, len(frame))
        assert bpf_filter(ours, frame, wire) == want


@given(expression=expressions(), data=st.lists(frames(), min_size=1, max_size=5))
def test_verdicts_are_the_kernels(lib: Any, link: Any, expression: str, data: list[bytes]) -> None:
    try:
        code = compile_filter(expression)
    except PcapError:
        return
    insns = list(struct.iter_unpack("=HBBI", code))
    refused = attach_to_kernel(link[1], insns)
    try:
        ours = bpf_prog(code)
    except ValueError:
        assert refused
        return
    assert not refused
    for frame in data:
        want = bpf_filter(ours, frame, len(frame))
        assert kernel_verdict(link, frame) == (min(want, len(frame)) if want else -1)


@pytest.mark.parametrize(
    "expression", ["port", "foo bar", "host 1.2.3.4.5", "ip\0", "\udc80", "and"]
)
def test_a_bad_expression_is_one_clear_line(lib: Any, expression: str) -> None:
    with pytest.raises(PcapError, match=r"^filter ") as info:
        compile_filter(expression)
    assert "\n" not in str(info.value)


def test_empty_expression_takes_all(lib: Any) -> None:
    assert bpf_filter(bpf_prog(compile_filter("", snap_bytes=77)), b"") == 77


def test_without_libpcap_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pcap.libpcap.cache_clear()
    monkeypatch.setattr(pcap, "NAMES", ("libnothing.so.0",))
    try:
        with pytest.raises(PcapError, match=r"no libpcap .*libnothing.so.0.*apt-get install"):
            compile_filter("ip")
    finally:
        pcap.libpcap.cache_clear()
