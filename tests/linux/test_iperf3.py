"""`e1000emu up --serve iperf3`: the real iperf3 client against it, over a TAP."""

from __future__ import annotations

import json
import shlex
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.linux.peer import IPV4, IPV6, Family, Peer
from tests.linux.test_cli import peer, start_up
from tests.support import require

__all__ = ["peer"]

pytestmark = pytest.mark.netns
PORT = 5201
MB = 1 << 20


@pytest.fixture
def iperf3(peer: Peer) -> Iterator[str]:
    """A server that is up, and still well when the test is over."""
    program = require.tool("iperf3")
    process = start_up(peer, IPV4, "--addr", IPV6.our_addr, "--serve", "iperf3", "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["event"] == "ready"
    yield program
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err.decode()
    assert b"Traceback" not in err
    counters = json.loads(out.splitlines()[-1])["services"]["iperf3:5201"]
    assert counters["active"] == 0


def said(peer: Peer, iperf3: str, options: str, family: Family = IPV4) -> dict[str, Any]:
    """What the client reports; its exit status is 0."""
    words = [iperf3, "-c", family.ours, "-J", *shlex.split(options)]
    done = peer.run(*words, check=False)
    report = json.loads(done.stdout)
    assert "error" not in report
    assert done.returncode == 0
    return report["end"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", ["", "-R", "-P 4", "-R -P 4", "--bidir", "--bidir -P 2", "-O 1"])
def test_tcp(peer: Peer, iperf3: str, way: str) -> None:
    end = said(peer, iperf3, f"-t 1 {way}")
    for stream in end["streams"]:
        sent, got = stream["sender"]["bytes"], stream["receiver"]["bytes"]
        assert sent > 0
        assert abs(sent - got) < 16 * MB + sent / 10
        assert 0 <= stream["sender"].get("retransmits", 0) < 1 << 31


@pytest.mark.parametrize("way", ["", "-R"])
@pytest.mark.parametrize("limit", ["-n 20M", "-k 100"])
def test_limited_by_bytes_or_blocks(peer: Peer, iperf3: str, limit: str, way: str) -> None:
    end = said(peer, iperf3, f"{limit} {way}")
    if not way:
        assert end["sum_received"]["bytes"] == end["sum_sent"]["bytes"]
    wanted = 20 * MB if "-n" in limit else 100 * 128 * 1024
    told = end["sum_received" if way else "sum_sent"]["bytes"]
    assert told < wanted + 4 * MB
    if way != "-R" or limit != "-k 100":  # reading, iperf3 takes each part of a block for one
        assert told >= wanted


@pytest.mark.parametrize("way", ["-P 4", "--bidir", "-b 40M"])
def test_every_byte_of_a_limited_test_arrives(peer: Peer, iperf3: str, way: str) -> None:
    for stream in said(peer, iperf3, f"-n 8M {way}")["streams"]:
        if stream["sender"]["sender"]:  # the client's own
            assert stream["receiver"]["bytes"] == stream["sender"]["bytes"] > 0


@pytest.mark.parametrize("way", ["", "-R", "-P 4", "--bidir", "--udp-counters-64bit", "-R -P 4"])
def test_udp(peer: Peer, iperf3: str, way: str) -> None:
    end = said(peer, iperf3, f"-u -b 1M -l 1000 -t 1 {way}")
    for stream in end["streams"]:
        report = stream["udp"]
        assert 100 < report["packets"] < 140
        assert report["lost_packets"] <= report["packets"] // 4
        assert 0 <= report["jitter_ms"] < 1000


def test_over_ipv6(peer: Peer, iperf3: str) -> None:
    assert said(peer, iperf3, "-6 -n 2M", IPV6)["sum_received"]["bytes"] > 0
    assert said(peer, iperf3, "-6 -u -b 1M -t 1", IPV6)["sum"]["packets"] > 50


def test_a_rate_is_kept(peer: Peer, iperf3: str) -> None:
    end = said(peer, iperf3, "-R -b 8M -t 2")
    assert end["sum_received"]["bytes"] <= 2.5 * MB


def test_one_client_at_a_time(peer: Peer, iperf3: str) -> None:
    with peer.socket() as control:
        control.connect((IPV4.ours, PORT))
        control.sendall(b"c" * 36 + b"\0")
        assert control.recv(1) == b"\x09"
        busy = peer.run(iperf3, "-c", IPV4.ours, check=False)
        assert busy.returncode == 1
        assert b"the server is busy" in busy.stdout + busy.stderr
        control.sendall(b"\0\0\0\x02{{")
        assert control.recv(9, socket.MSG_WAITALL)[:1] == b"\xfe"
        assert control.recv(1) == b""
    assert said(peer, iperf3, "-n 1M")["sum_sent"]["bytes"] >= MB
