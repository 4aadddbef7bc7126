"""`e1000emu tcpdump`: frames of a lab's host, files that tshark reads, lines of our own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

from e1000emu.capture import DIRECTION_IN, DIRECTION_OUT, PcapngWriter, Record, read_capture
from e1000emu.cli.framelines import frame_line, hex_lines
from e1000emu.cli.sniffer import Sniffer
from e1000emu.cli.tcpdump import Capture
from e1000emu.lab import two_hosts
from stack.api.pcap import PcapError
from stack.host import Host
from tests.e1000emu.cli.test_cli import run
from tests.support import require

AT = 1_767_268_800_123_456_789  # 2026-01-01 12:00:00.123456
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    a, b = two_hosts()
    with a, b:
        yield a, b


def ping(a: Host, size: int = 24) -> None:
    with a.socket(2, 2, 1) as sock:
        sock.sendto(b"\x08\0\0\0\0\0\0\1" + bytes(size), ("10.0.0.2", 0))
        assert len(sock.recv(1000)) == 8 + size


def test_a_host_of_a_lab_is_watched(hosts: tuple[Host, Host]) -> None:
    a, b = hosts
    with Sniffer(b, "icmp", interface="eth0") as icmp, Sniffer(b, "arp", direction="out") as arp, \
            Sniffer(b, "", direction="in", snap_bytes=20) as short:  # fmt: skip
        assert b.dev("eth0").promiscuity == 3
        ping(a)
        request, reply = icmp.waiting()
        (answer,) = arp.waiting()
        assert (request.direction, reply.direction) == (DIRECTION_IN, DIRECTION_OUT)
        assert (answer.direction, answer.data[20:22]) == (DIRECTION_OUT, b"\0\2")
        assert icmp.interfaces == arp.interfaces == ["eth0"]
        assert request.data[34] == 8
        assert reply.data[34] == 0
        assert b.realtime_ns() - 10**9 < request.when_ns <= reply.when_ns <= b.realtime_ns()
        heads = list(short.waiting())
        assert {len(one.data) for one in heads} == {20}
        assert all(one.length == 66 or one.length == 60 for one in heads)
        assert icmp.statistics() == (2, 0)
        assert icmp.read(0) is None
        assert icmp.read(0.001) is None
    assert b.dev("eth0").promiscuity == 0
    assert not b.ptype_all


def test_tags_that_the_nic_took_out_are_back(hosts: tuple[Host, Host]) -> None:
    a, b = hosts
    frame = bytes(Ether(**MACS) / Dot1Q(vlan=5, prio=1) / IP(dst="10.0.0.9") / UDP() / bytes(40))
    with Sniffer(b, "vlan 5 and udp") as five, Sniffer(b, "vlan 6") as six, \
            a.socket(17, 3) as sender:  # fmt: skip
        sender.bind(("eth0", 0))
        sender.send(frame)
        a.clock.run_for(1_000_000)
        (record,) = five.waiting()
        assert record.data == frame
        assert record.length == len(frame)
        assert list(six.waiting()) == []


def test_what_it_cannot_do_is_said(hosts: tuple[Host, Host]) -> None:
    _, b = hosts
    with pytest.raises(PcapError, match=r"^filter 'prot 5': "):
        Sniffer(b, "prot 5")
    with pytest.raises(OSError, match="no interface 'eth7'"):
        Sniffer(b, interface="eth7")
    assert not b.packet_sklist


def write(path: Path, frames: list[bytes]) -> None:
    with PcapngWriter(path) as out:
        number = out.add_interface("eth0")
        for n, frame in enumerate(frames):
            out.put_record(Record(AT + n, frame, len(frame), direction=DIRECTION_IN), number)


def test_tshark_reads_what_is_written(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    tshark = require.tool("tshark")
    a, b = hosts
    path = tmp_path / "out.pcapng"
    out = Capture(path.open("wb"))
    with Sniffer(b, "icmp or arp") as sniffer:
        ping(a, 200)
        records = list(sniffer.waiting())
        for record in records:
            out.put(record, sniffer.interfaces[record.interface])
    out.close()
    fields = [
        "frame.protocols",
        "frame.len",
        "frame.interface_name",
        "frame.packet_flags_direction",
    ]
    words = [tshark, "-r", str(path), "-T", "fields", *(w for f in fields for w in ("-e", f))]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[2] for row in rows] == ["eth0"] * len(records)
    assert [int(row[1]) for row in rows] == [record.length for record in records]
    assert [int(row[3], 0) for row in rows] == [record.direction for record in records]
    assert [row[0].split(":")[2] for row in rows] == ["arp", "arp", "ip", "ip"]
    assert [(r.when_ns, r.data) for r in read_capture(path)] == [
        (r.when_ns, r.data) for r in records
    ]


LINES = [
    (Ether(**MACS) / ARP(op=1, psrc="10.0.0.1", pdst="10.0.0.2"),
     "ARP, Request who-has 10.0.0.2 tell 10.0.0.1"),
    (Ether(**MACS) / ARP(op=2, psrc="10.0.0.1", hwsrc="02:00:00:00:00:01"),
     "ARP, Reply 10.0.0.1 is-at 02:00:00:00:00:01"),
    (Ether(**MACS) / IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(type=8, id=7, seq=3) / bytes(8),
     "IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 7, seq 3, length 16"),
    (Ether(**MACS) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=53, dport=99) / b"12345",
     "IP 10.0.0.1.53 > 10.0.0.2.99: UDP, length 5"),
    (Ether(**MACS) / IP(src="10.0.0.1", dst="10.0.0.2", frag=3, proto=17) / bytes(8),
     "IP 10.0.0.1 > 10.0.0.2: UDP fragment at 24"),
    (Ether(**MACS) / IPv6(src="fe80::1", dst="fe80::2")
     / TCP(sport=80, dport=99, seq=1, ack=9, flags="PA", window=5) / b"ab",
     "IP6 fe80::1.80 > fe80::2.99: Flags [P.], seq 1:3, ack 9, win 5, length 2"),
    (Ether(**MACS) / IPv6(src="fe80::1", dst="ff02::1") / IPv6ExtHdrHopByHop() / ICMPv6ND_NS(),
     "IP6 fe80::1 > ff02::1: ICMP6 neighbor solicitation, length 24"),
    (Ether(**MACS) / Dot1Q(vlan=5, prio=1) / IP(src="10.0.0.1", dst="10.0.0.2", proto=47),
     "vlan 5, p 1, IP 10.0.0.1 > 10.0.0.2: ip-proto-47, length 0"),
    (Ether(**MACS, type=0x88B5) / Raw(bytes(46)), "ethertype 0x88b5, length 60"),
]  # fmt: skip


@pytest.mark.parametrize(("frame", "said"), LINES, ids=[said[:30] for _, said in LINES])
def test_own_lines(frame: Ether, said: str) -> None:
    data = bytes(frame)
    record = Record(AT, data, len(data))
    assert frame_line(record) == f"12:00:00.123456 {said}"
    with_header = frame_line(record, link_level=True)
    assert with_header.startswith("12:00:00.123456 02:00:00:00:00:01 > 02:00:00:00:00:02, ")
    assert with_header.endswith(said.removeprefix("vlan 5, p 1, "))
    for cut in range(len(data)):  # never an exception
        assert frame_line(Record(AT, data[:cut], len(data)))


def test_hex_lines() -> None:
    assert hex_lines(b"0123456789abcdefg\xff") == [
        "\t0x0000:  3031 3233 3435 3637 3839 6162 6364 6566  0123456789abcdef",
        "\t0x0010:  67ff                                     g.",
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "in.pcapng"
    write(path, [bytes(frame) for frame, _ in LINES])
    return path


def test_a_file_is_shown(file: Path) -> None:
    shown = run("tcpdump", "-r", str(file), "--print", "own")
    assert shown.returncode == 0, shown.stderr
    assert [line.split(" ", 1)[1] for line in shown.stdout.splitlines()] == [s for _, s in LINES]
    shown = run("tcpdump", "-r", str(file), "--print", "own", "-c", "1", "-X", "icmp6", "or", "udp")
    assert "UDP, length 5" in shown.stdout.splitlines()[0]
    assert "0x0000:  4500" in shown.stdout
    rows = [
        json.loads(line) for line in run("tcpdump", "-r", str(file), "--json").stdout.splitlines()
    ]
    assert [bytes.fromhex(row["data"]) for row in rows] == [bytes(frame) for frame, _ in LINES]


def test_a_file_is_filtered_into_another(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    done = run("tcpdump", "-r", str(file), "-w", str(out), "arp")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert [r.data for r in read_capture(out)] == [bytes(frame) for frame, _ in LINES[:2]]


def test_tshark_prints(file: Path) -> None:
    require.tool("tshark")
    shown = run("tcpdump", "-r", str(file), "-n", "--print", "tshark", "arp")
    assert "Who has 10.0.0.2? Tell 10.0.0.1" in shown.stdout
    assert len(shown.stdout.splitlines()) == 2


def test_a_host_on_a_link_is_shown(tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    done = run("tcpdump", "--link", "stack:10.9.0.2/24", "--addr", "10.9.0.1/24", "-w", str(out),
               "-c", "1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "listening" in done.stderr
    assert len(list(read_capture(out))) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give --link"),
        (("-r", "FILE", "--link", "stack:10.9.0.2/24", "--addr", "10.9.0.1/24"), "give --link"),
        (("-r", "FILE", "prot", "5"), "filter 'prot 5'"),
        (("-r", "/nowhere"), "does not exist"),
        (("-r", "FILE", "-c", "0"), "0"),
        (("--link", "stack:10.9.0.2/24", "--addr", "10.9.0.1/24", "-i", "eth9"), "eth9"),
    ],
)
def test_mistakes_are_one_line(words: tuple[str, ...], said: str, file: Path) -> None:
    done = run("tcpdump", *(str(file) if word == "FILE" else word for word in words))
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
