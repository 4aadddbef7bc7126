"""geneve (RFC 8926): frames as scapy and tshark read them, options, who receives, hostile frames.

The kernel of the tests has no geneve. The path of the frames is that of vxlan, which is compared
with the kernel's (tests/programs/test_link_kinds.py); messages are those of geneve.c.
"""

from __future__ import annotations

import errno
import json
import socket as stdlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.all import IP, UDP, Ether, IPv6, Raw
from scapy.contrib.geneve import GENEVE

from stack.api.programs import spawn
from stack.host import Host
from stack.netlink.rt_attrs import IFINFOMSG
from stack.netlink.rt_geneve import CANNOT
from stack.tunnel.geneve import geneve_config, geneve_newlink
from tests.hosts import real_host
from tests.linux.peer import judged
from tests.stack.core.wire import assert_no_leak
from tests.stack.links.test_tunnels import MAC_A, MAC_B, OUTSIDE4, OUTSIDE6, Pair, inject
from tests.stack.links.test_veth import stream
from tests.stack.netlink.requests import ACK, REQUEST, Asker, Request, attr
from tests.support import examples, require

VNI = 0xABCDEF


def number(text: str) -> int:
    family = stdlib.AF_INET6 if ":" in text else stdlib.AF_INET
    return int.from_bytes(stdlib.inet_pton(family, text), "big")


def geneve(host: Host, name: str, remote: str, **words: object) -> None:
    """`ip link add NAME type geneve id VNI remote REMOTE`, up."""
    cfg = geneve_config()
    cfg.vni, cfg.remote = VNI, number(remote)
    cfg.family = stdlib.AF_INET6 if ":" in remote else stdlib.AF_INET
    for member, value in words.items():
        setattr(cfg, member, value)
    with host.lock:
        geneve_newlink(host, name, cfg)
    host.ifconfig(name, up=True)


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path / "wire.pcapng")
    yield made
    assert_no_leak(*made.hosts)


def joined(wire: Pair, six: bool, **words: object) -> None:
    ends = OUTSIDE6 if six else OUTSIDE4
    for at, host in enumerate(wire.hosts):
        geneve(host, "t0", ends[1 - at], **words)
        host.ifconfig("t0", f"192.168.0.{at + 1}/24")
        host.ifconfig("t0", f"fd01::{at + 1}/64")
    wire.clock.run_for(3 * 10**9)


CASES = ((False, False), (False, True), (True, True))


@pytest.mark.parametrize(("six", "csum"), CASES, ids=["IPv4", "IPv4 with a checksum", "IPv6"])
def test_frames_are_as_the_standard_has_them(wire: Pair, six: bool, csum: bool) -> None:
    require.tool("tshark")
    joined(wire, six, udp_csum=csum, ttl=9)
    rx, tx = wire.b.dev("t0").stats, wire.a.dev("t0").stats
    missed = tx.tx_packets - rx.rx_packets, tx.tx_bytes - rx.rx_bytes  # before b was up
    assert wire.a.dev("t0").mtu == (1430 if six else 1450)
    for inside in (False, True):
        assert wire.datagram(inside, b"y" * 1300) == b"y" * 1300
    wire.clock.run_for(10**9)
    assert (tx.tx_packets - rx.rx_packets, tx.tx_bytes - rx.rx_bytes) == missed
    stream(wire.a, wire.b, "192.168.0.2", 100_000)
    sent = [one for one in wire.frames() if UDP in one and one[UDP].dport == 6081]
    assert len(sent) > 70
    for frame in sent:
        head = frame[GENEVE]
        assert (head.version, head.optionlen, head.oam, head.critical) == (0, 0, 0, 0)
        assert (head.proto, head.vni) == (0x6558, VNI)
        assert head.payload.__class__ is Ether
        assert bool(frame[UDP].chksum) is csum
        assert (frame[IPv6].hlim if six else frame[IP].ttl) == 9
    wire.clock.run_for(10**9)
    assert tx.tx_packets < rx.rx_packets  # a super-packet is one
    assert list(judged(wire.path)) == []
    fields = ["-T", "fields", "-e", "geneve.vni", "-e", "geneve.proto_type", "-Y", "geneve"]
    command = ["tshark", "-r", str(wire.path), *fields]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    assert set(told) == {"0xabcdef\t0x6558", ""}
    assert len(told) > 70


@pytest.mark.sends_bad_frames
def test_without_a_checksum_ipv6_is_taken_when_asked_for(wire: Pair) -> None:
    joined(wire, True, zero_csum6_tx=True, zero_csum6_rx=True)
    assert wire.datagram(False) == b"x" * 32


@pytest.mark.sends_bad_frames
def test_without_a_checksum_ipv6_is_taken_only_when_asked_for(wire: Pair) -> None:
    joined(wire, True, zero_csum6_tx=True)
    with pytest.raises(TimeoutError):
        wire.datagram(False)
    assert not wire.b.dev("t0").stats.rx_packets
    assert wire.b.mib.udp6.InCsumErrors


def message(head: GENEVE, source: str = OUTSIDE4[0], inner: bytes | None = None) -> bytes:
    """A frame for eth0 of b."""
    if inner is None:
        inner = bytes(
            Ether(src="02:00:00:00:09:09", dst="ff:ff:ff:ff:ff:ff", type=0x88B5) / Raw(b"x" * 9)
        )
    udp = IP(src=source, dst=OUTSIDE4[1]) / UDP(sport=9, dport=6081, chksum=0)
    return bytes(Ether(src=MAC_A, dst=MAC_B) / udp / Raw(bytes(head) + inner))


def test_options_are_passed_over_unless_one_is_critical(wire: Pair) -> None:
    joined(wire, False)
    stats = wire.b.dev("t0").stats
    before = stats.rx_packets
    option = b"\x01\x02\x03\x01" + b"data"
    for length in (0, 1, 31):
        options = (option * 16)[: 4 * length].ljust(4 * length, b"\0")
        head = GENEVE(proto=0x6558, vni=VNI, optionlen=length, options=[])
        inject(wire.b, message(Raw(bytes(head)[:8] + options)))
    assert stats.rx_packets == before + 3
    inject(
        wire.b,
        message(Raw(bytes(GENEVE(proto=0x6558, vni=VNI, optionlen=2, critical=1))[:8] + option)),
    )
    assert (stats.rx_frame_errors, stats.rx_errors) == (1, 1)
    inject(wire.b, message(GENEVE(proto=0x6558, vni=VNI, oam=1)))
    assert stats.rx_packets == before + 4


def test_vni_sender_version_and_protocol_say_whose_a_frame_is(wire: Pair) -> None:
    joined(wire, False)
    geneve(wire.b, "t1", "10.0.0.77")
    one, two = (wire.b.dev(name).stats for name in ("t0", "t1"))
    before = one.rx_packets, two.rx_packets
    inject(wire.b, message(GENEVE(proto=0x6558, vni=VNI), "10.0.0.77"))
    inject(wire.b, message(GENEVE(proto=0x6558, vni=VNI), "10.0.0.78"))
    inject(wire.b, message(GENEVE(proto=0x6558, vni=VNI ^ 1)))
    inject(wire.b, message(GENEVE(proto=0x6558, vni=VNI, version=1)))
    assert (one.rx_packets, two.rx_packets) == (before[0], before[1] + 1)
    assert (one.rx_dropped, one.rx_errors) == (0, 0)
    inject(wire.b, message(GENEVE(proto=0x800, vni=VNI)))
    inject(wire.b, message(GENEVE(proto=0x6558, vni=VNI, optionlen=63)))
    assert (one.rx_dropped, one.rx_errors) == (2, 0)
    own = bytes(Ether(src=wire.b.dev("t0").dev_addr, dst="ff:ff:ff:ff:ff:ff", type=0x88B5) / "x")
    inject(wire.b, message(GENEVE(proto=0x6558, vni=VNI), inner=own))
    assert one.rx_errors == 1


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(tmp_path_factory.mktemp("hostile") / "wire.pcapng")
    joined(made, False)
    yield made
    assert_no_leak(*made.hosts)


@pytest.mark.sends_bad_frames
@settings(max_examples=examples(200), deadline=None)
@given(
    first=st.sampled_from((0, 0, 0, 1, 2, 63, 0x40, 0xC1)),
    flags=st.sampled_from((0, 0, 0x40, 0x80, 0x3F)),
    proto=st.sampled_from((0x6558, 0x6558, 0x800, 0)),
    vni=st.sampled_from((VNI, VNI, 0)),
    kind=st.sampled_from((0x800, 0x86DD, 0x88B5)),
    body=st.binary(max_size=80),
    cut=st.integers(0, 120),
)
def test_hostile_frames_are_counted_once_without_a_leak(
    hostile: Pair, first: int, flags: int, proto: int, vni: int, kind: int, body: bytes, cut: int
) -> None:
    head = bytes((first, flags)) + proto.to_bytes(2, "big") + (vni << 8).to_bytes(4, "big")
    inner = MAC_B + b"\2\0\0\0\7\7" + kind.to_bytes(2, "big") + body
    stats = hostile.b.dev("t0").stats
    before = stats.rx_packets, stats.rx_errors, stats.rx_dropped
    data = (head + inner)[:cut]
    udp = IP(src=OUTSIDE4[0], dst=OUTSIDE4[1]) / UDP(sport=9, dport=6081, chksum=0)
    inject(hostile.b, bytes(Ether(src=MAC_A, dst=MAC_B) / udp / Raw(data)))
    after = stats.rx_packets, stats.rx_errors, stats.rx_dropped
    room = len(data) - 8 - 4 * (first & 63)
    if len(data) < 8 or first >> 6 or vni != VNI:
        want = (0, 0, 0)
    elif proto != 0x6558 or room < 14:
        want = (0, 0, 1)
    elif flags & 0x40:
        want = (0, 1, 0)
    else:
        want = (0, 0, 0)
    changed = tuple(now - then for now, then in zip(after, before, strict=True))
    if want != (0, 0, 0):
        assert changed == want
    elif len(data) < 8 or first >> 6 or vni != VNI:
        assert changed == (0, 0, 0)
    else:  # received, unless its IP header is short or its marks forbid it
        assert changed in ((1, 0, 0), (1, 0, 1), (0, 1, 0))  # dropped: of an unknown protocol


SCRIPT = """
ip link add e0 type veth peer name e1; ip link set e0 up; ip link set e1 up
ip addr add 10.0.0.1/24 dev e0; ip addr add fd00::1/64 dev e0 nodad
ip link add g0 type geneve id 7 remote 10.0.0.2 ttl 9 df set udpcsum || exit 1
ip link add g6 type geneve id 7 remote fd00::2 tos inherit flowlabel 5 udp6zerocsumrx || exit 2
ip link add g1 type geneve id 7 remote 10.0.0.2 2>/dev/null && exit 3
ip link set g0 type geneve id 7 ttl inherit || exit 4
ip link set g0 up; ip link set g0 type geneve id 7 remote 10.0.0.3 || exit 5
ip -d -j link show g0; ip -d -j link show g6; ip link del g0; ip link show g0 2>/dev/null
exit 0
"""


def test_ip_makes_changes_and_shows_them() -> None:
    require.tool("ip", "iproute2")
    with (
        real_host() as host,
        spawn(host, ["sh", "-c", SCRIPT], stdout=subprocess.PIPE) as program,
    ):
        out, _ = program.communicate(timeout=120)
        assert program.returncode == 0
    four, six = (json.loads(line)[0] for line in out.splitlines())
    assert (four["mtu"], four["max_mtu"], six["mtu"], six["max_mtu"]) == (1450, 65485, 1430, 65465)
    data = four["linkinfo"]["info_data"]
    assert (data["remote"], data["df"]) == ("10.0.0.3", "set")
    assert (data["udp_csum"], data["port"], data["id"]) == (True, 6081, 7)
    data = six["linkinfo"]["info_data"]
    assert (data["remote6"], data["tos"], data["label"]) == ("fd00::2", "0x1", "0x5")
    assert (data["udp_zero_csum6_rx"], data["udp_zero_csum6_tx"]) == (True, False)


ID, REMOTE, PORT, REMOTE6, CSUM, LABEL, DF, RANGE = 1, 2, 5, 7, 8, 11, 13, 15
WRONG = {
    "no data": (None, "Not enough attributes provided to perform the operation"),
    "ID": (attr(ID, b"\0\0\0\1"), "Geneve ID must be lower than 16777216"),
    "DF": (attr(DF, b"\3"), "Invalid DF attribute"),
    "ports": (attr(RANGE, b"\0\2\0\1"), "Invalid source port range"),
    "group": (attr(REMOTE, b"\xe0\1\1\1"), "Remote IPv4 address cannot be Multicast"),
    "group6": (attr(REMOTE6, b"\xff\5" + bytes(14)), "Remote IPv6 address cannot be Multicast"),
    "scope": (attr(REMOTE6, b"\xfe\x80" + bytes(14)), "Remote IPv6 address cannot be link-local"),
    "both": (
        attr(REMOTE, b"\n\0\0\2") + attr(REMOTE6, b"\xfd" + bytes(15)),
        "Cannot specify both IPv4 and IPv6 Remote addresses",
    ),
    "label": (attr(LABEL, b"\0\0\0\5"), "Label attribute only applies for IPv6 Geneve devices"),
}


def request(name: str, data: bytes | None, flags: int) -> Request:
    info = attr(1, b"geneve\0") + (attr(2, data) if data is not None else b"")
    body = IFINFOMSG.pack(0, 0, 0, 0, 0) + attr(3, name.encode() + b"\0") + attr(18, info)
    return Request(name, 16, REQUEST | ACK | flags, body)


def test_what_is_wrong_has_the_drivers_words() -> None:
    with real_host() as host:
        asker = Asker(host.socket(stdlib.AF_NETLINK, stdlib.SOCK_RAW, 0))
        for data, words in WRONG.values():
            code = errno.ERANGE if "ID" in words else errno.EINVAL
            assert asker.refused(request("g0", data, 0x600)) == (code, words)
        good = attr(ID, b"\5\0\0\0") + attr(REMOTE, b"\n\0\0\2")
        assert asker.refused(request("g0", good, 0x600)) == (0, "")
        assert asker.refused(request("g1", good, 0x600))[0] == errno.EBUSY
        for change in (
            *(attr(ID, b"\6\0\0\0"), attr(PORT, b"\0\1"), attr(CSUM, b"\1")),
            *(attr(REMOTE6, b"\xfd" + bytes(15)), attr(RANGE, b"\0\1\0\2")),
        ):
            assert asker.refused(request("g0", change, 0)) == (errno.EOPNOTSUPP, CANNOT)
        assert asker.refused(request("g0", attr(ID, b"\5\0\0\0"), 0)) == (0, "")
        asker.sock.close()
