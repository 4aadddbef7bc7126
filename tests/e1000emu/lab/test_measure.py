"""Samples of a TCP connection over time: what they hold, and what they cost the connection."""

from __future__ import annotations

import csv
import json
import re
import socket
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from e1000emu.cli import transfer
from e1000emu.cli.errors import ArgumentError
from e1000emu.cli.transfer import run_transfer
from e1000emu.errors import E1000Error
from e1000emu.insight.arrays import TCP_INFO
from e1000emu.lab import pump, two_hosts
from e1000emu.lab.measure import COLUMNS, TcpSampler
from stack.inet.tcp_sockopt import tcp_info_dict
from stack.socket import create_connection, create_server

MSS = 1448


def test_tcp_info_is_laid_out_as_linux_fills_it() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as peer,
    ):
        client.sendall(bytes(1000))
        got = peer.recv(1000, socket.MSG_WAITALL)
        raw = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.itemsize)
        (info,) = np.frombuffer(raw.ljust(TCP_INFO.itemsize, b"\0"), TCP_INFO)
        mss = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    assert len(got) == info["bytes_sent"] == 1000  # far into the structure
    assert info["state"] == 1
    assert info["snd_mss"] == mss
    assert info["snd_cwnd"] in (10, 11)
    assert info["data_segs_out"] == 1
    assert info["pmtu"] == 65535


def test_samples_agree_with_the_socket_and_the_clock() -> None:
    a, b = two_hosts(latency_ns=1_000_000)
    with a, b, create_server(b, ("10.0.0.2", 80)) as listener:
        client = create_connection(a, ("10.0.0.2", 80))
        server, _ = listener.accept()
        start = a.clock.now_ns()
        with TcpSampler(client, every_ns=500_000) as sampler:
            client.sendall(bytes(30 * MSS))  # the window still opens with each
            a.clock.run_for(10_000_000)
            expected = tcp_info_dict(client.sk)
        last = sampler.samples[-1]
        assert last["snd_cwnd"] == expected["snd_cwnd"]
        assert last["bytes_acked"] == 30 * MSS + 1  # and the SYN, as Linux counts
        times = sampler.samples["time_ns"] - start
        assert times[0] == 0
        assert set(np.diff(times[:-1])) == {500_000}
        assert 0 <= times[-1] - times[-2] < 500_000
        assert times[-1] == a.clock.now_ns() - start >= 10_000_000
        assert sampler.columns()["acked_bytes"][0] == 1
        assert server is not None


def test_sampling_changes_nothing() -> None:
    """The same bytes arrive at the same virtual time, sampled or not."""

    def end_ns(every_ns: int | None) -> int:
        a, b = two_hosts(latency_ns=2_000_000, rate_bps=10**8, impair={"loss": 0.02}, seed=5)
        with a, b, create_server(b, ("10.0.0.2", 80)) as listener:
            client = create_connection(a, ("10.0.0.2", 80))
            server, _ = listener.accept()
            sampler = None if every_ns is None else TcpSampler(client, every_ns=every_ns)
            if sampler is not None:
                sampler.start()
            pieces = iter([memoryview(bytes(500_000))])
            pump(client, server, lambda: next(pieces, None), lambda piece: None)
            return int(a.clock.now_ns())

    assert end_ns(None) == end_ns(100_000) == end_ns(7_777)


def test_samples_end_with_the_connection_and_keep_nothing_waiting() -> None:
    a, b = two_hosts()
    with a, b, create_server(b, ("10.0.0.2", 80)) as listener:
        client = create_connection(a, ("10.0.0.2", 80))
        sampler = TcpSampler(client)
        sampler.start()
        listener.accept()[0].close()
        client.close()
        a.clock.run_for(50_000_000)
        assert len(sampler.samples) == 1
        sampler.stop()
        sampler.stop()
        assert len(sampler.samples) == 1


def test_loss_and_delay_show_as_the_law_of_congestion_avoidance() -> None:
    """Mathis et al. 1997: Reno's rate = MSS / RTT * sqrt(3/2 / p)."""
    sampler, found = run_transfer(
        8 << 20,
        latency_ns=10_000_000,
        impair={"loss": 0.005},
        seed=3,
        sysctl={"tcp_congestion_control": "reno"},
    )
    # Both directions lose; of acknowledgements enough are left.
    law = MSS * 8 / 0.02 * (1.5 / 0.005) ** 0.5
    assert 0.6 < found["goodput_bps"] / law < 1.5
    columns = sampler.columns()
    assert np.nanmin(columns["rtt_ms"]) >= 20
    assert np.median(columns["rtt_ms"]) < 30
    seconds = np.diff(columns["time_s"], prepend=0)
    sent = float(np.sum(columns["throughput_bps"] * seconds) / 8)
    assert sent == pytest.approx(8 << 20, rel=0.01)
    lost = found["retransmitted_segments"] / ((8 << 20) / MSS)
    assert 0.003 < lost < 0.01
    # Each halving of the window is one of the saw's teeth.
    assert (np.diff(columns["cwnd_segments"].astype(int)) < -3).sum() > 5


def test_csv_has_a_heading_for_each_column_and_a_line_for_each_sample(tmp_path: Path) -> None:
    sampler, _ = run_transfer(100_000, rate_bps=10**8)
    path = tmp_path / "out.csv"
    sampler.write_csv(path)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert len(rows) == len(sampler.samples)
    assert [int(row["cwnd_segments"]) for row in rows] == sampler.samples["snd_cwnd"].tolist()
    assert {row["ssthresh_segments"] for row in rows} == {""}  # nothing was lost


def test_a_period_that_is_none_and_a_figure_of_nothing_are_refused(tmp_path: Path) -> None:
    a, b = two_hosts()
    with a, b, create_server(b, ("10.0.0.2", 80)):
        client = create_connection(a, ("10.0.0.2", 80))
        with pytest.raises(E1000Error, match="every_ns=0"):
            TcpSampler(client, every_ns=0)
        with pytest.raises(E1000Error, match="no samples"):
            TcpSampler(client).write_figure(tmp_path / "x.svg")
        with TcpSampler(client) as sampler:
            pass
        with pytest.raises(E1000Error, match=r"x\.nothing"):
            sampler.write_figure(tmp_path / "x.nothing")


WORDS = ("--bytes", "300K", "--loss", "1%", "--rate", "100Mbit", "--delay", "5ms")


def test_command_writes_csv_and_figure_and_is_reproducible(tmp_path: Path) -> None:
    texts = []
    for number in range(2):
        files = [tmp_path / f"{number}.csv", tmp_path / f"{number}.svg"]
        words = [*WORDS, "--csv", str(files[0]), "--figure", str(files[1])]
        done = CliRunner().invoke(transfer.command, words)
        assert done.exit_code == 0, done.output
        assert "307,200" in done.stdout
        texts.append([file.read_text() for file in files])
    assert texts[0] == texts[1]
    picture = ElementTree.fromstring(texts[0][1])
    words = {"".join(node.itertext()).strip() for node in picture.findall(".//{*}text")}
    assert {"cwnd", "ssthresh", "smoothed RTT", "throughput"} <= words


@pytest.mark.parametrize("words", [("--delay", "20"), ("--rate", "100")])
def test_a_wire_too_slow_for_arp_is_named(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(transfer.command, ["--bytes", "10K", *words])
    assert isinstance(done.exception, E1000Error)
    assert "no answer to ARP" in str(done.exception)
    assert "write 20ms" in str(done.exception)


@pytest.mark.parametrize("seed", [2, 6])
def test_a_wire_that_breaks_the_connection_is_named(seed: int) -> None:
    words = ["--bytes", "1M", "--loss", "50%", "--seed", str(seed), "--interval", "1s"]
    done = CliRunner().invoke(transfer.command, words)
    assert isinstance(done.exception, E1000Error)
    assert "the connection broke after" in str(done.exception)
    assert "give less --loss" in str(done.exception)


def test_a_run_that_takes_no_virtual_time_says_so() -> None:
    done = CliRunner().invoke(transfer.command, ["--bytes", "10K"])
    assert done.exit_code == 0, done.output
    assert "no time passed" in done.stdout
    assert re.search(r"RTT +0 ms", done.stdout)


def test_a_repeated_option_is_a_run_each_in_one_figure_and_file(tmp_path: Path) -> None:
    path, picture = tmp_path / "x.csv", tmp_path / "x.svg"
    words = ["--bytes", "300K", "--rate", "100Mbit", "--delay", "5ms", "--loss", "0.5%"]
    both = ["--congestion", "reno", "--congestion", "cubic", "--loss", "2%"]
    done = CliRunner().invoke(
        transfer.command,
        [*words, *both, "--csv", str(path), "--figure", str(picture)],
        env={"COLUMNS": "200"},
    )
    assert done.exit_code == 0, done.output
    names = [f"{name}, loss {loss}%" for name in ("reno", "cubic") for loss in ("0.5", "2")]
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert list(dict.fromkeys(row["run"] for row in rows)) == names
    texts = {
        "".join(node.itertext()).strip()
        for node in ElementTree.fromstring(picture.read_text()).findall(".//{*}text")
    }
    assert set(names) <= texts
    assert all(name in done.stdout for name in names)
    alone = CliRunner().invoke(transfer.command, [*words, "--congestion", "reno", "--json"])
    together = CliRunner().invoke(transfer.command, [*words, *both, "--json"])
    first, *others = json.loads(together.stdout)
    assert len(others) == 3
    same = ("goodput_bps", "retransmitted_segments", "samples")
    assert [first[key] for key in same] == [json.loads(alone.stdout)[key] for key in same]


def test_sysctls_are_of_both_hosts(tmp_path: Path) -> None:
    words = ["--bytes", "300K", "--rate", "100Mbit", "--delay", "5ms"]
    found = [
        json.loads(CliRunner().invoke(transfer.command, [*words, *more, "--json"]).stdout)
        for more in ((), ("--sysctl", "tcp_rmem=4096 8192 8192"))
    ]
    assert found[1]["goodput_bps"] < found[0]["goodput_bps"] / 2
    for wrong in ("tcp_sack=900", "tcp_bogus=1", "tcp_sack"):
        result = CliRunner().invoke(transfer.command, ["--sysctl", wrong])
        assert result.exit_code == 2 or isinstance(result.exception, ArgumentError)
    many = CliRunner().invoke(
        transfer.command, ["--loss", "0", "--loss", "1%", "--capture", str(tmp_path / "x")]
    )
    assert "holds one run" in str(many.exception)


@pytest.mark.parametrize(("bus", "mbps"), [("pci", (1000, 1067)), ("pci-66", (2000, 2134))])
def test_a_bus_is_as_fast_as_its_clock_and_words_say(bus: str, mbps: tuple[int, int]) -> None:
    result = CliRunner().invoke(transfer.command, ["--bytes", "4M", "--bus", bus, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert mbps[0] * 1e6 < found["goodput_bps"] < mbps[1] * 1e6
    assert found["retransmitted_segments"] == 0


def test_a_bus_that_is_none_is_refused() -> None:
    result = CliRunner().invoke(transfer.command, ["--bytes", "1M", "--bus", "isa"])
    assert isinstance(result.exception, E1000Error)
    assert "pci-66" in str(result.exception)
