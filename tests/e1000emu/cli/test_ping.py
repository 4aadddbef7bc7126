"""`e1000emu ping` beside iputils' ping, and read by a parser that was written for the latter."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import jc
import pytest

from e1000emu.cli.ping import Run, show_time
from e1000emu.cli.pinger import Pinger, PingError, source_address
from e1000emu.cli.pingwords import explain4 as explain
from e1000emu.clock import RealClock
from e1000emu.lab import two_hosts
from e1000emu.links import Tap
from tests.e1000emu.cli.test_cli import run
from tests.linux.peer import Peer
from tests.support import missing, require

FAR = "10.9.0.1"
OURS = ("--addr", "10.9.0.2/24", "--link", f"stack:{FAR}/24")
NOBODY = "10.9.0.77"


def iputils(*args: str, namespace: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the installed ping; skip where it is another one than iputils'."""
    ping = require.tool("ping", "iputils-ping")
    version = subprocess.run([ping, "-V"], capture_output=True, text=True, check=False).stdout
    if "iputils" not in version:
        missing(f"{ping} is not iputils': {version!r}", "apt-get install iputils-ping")
    words = [ping, *args]
    if namespace is not None:
        words = ["ip", "netns", "exec", namespace, *words]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def shape(text: str) -> list[str]:
    """Return the lines with addresses, names of interfaces and times replaced by what they are."""
    text = re.sub(r"\d+\.\d+\.\d+\.\d+", "ADDR", text)
    text = re.sub(r"(?<=from ADDR )\w+(?=:)", "DEVICE", text)
    text = re.sub(r"\[\d{10}\.\d{6}\]", "[NOW]", text)
    text = re.sub(r"time=\d+(\.\d+)? ms", "time=MS ms", text)
    text = re.sub(r"time \d+ms", "time MSms", text)
    text = re.sub(r"\d+\.\d{3}(/\d+\.\d{3}){3} ms", "A/B/C/D ms", text)
    return re.sub(r", pipe \d+", "", text).splitlines()


@pytest.mark.parametrize(
    "options",
    [
        # both wait an interval for the last answer: long enough for a machine that is busy
        ("-c", "3", "-i", "0.4"),
        ("-c", "2", "-i", "0.4", "-q"),
        ("-c", "2", "-i", "0.4", "-D"),
        ("-c", "1", "-s", "1000"),
        ("-c", "1", "-s", "64", "-t", "9"),
        ("-c", "1", "-w", "5", "-W", "3"),
    ],
    ids=" ".join,
)
def test_its_lines_are_those_of_iputils(options: tuple[str, ...]) -> None:
    theirs = iputils(*options, "127.0.0.1")
    ours = run("ping", *options, FAR, *OURS)
    assert ours.returncode == theirs.returncode == 0, ours.stderr + theirs.stderr
    assert shape(ours.stdout) == shape(theirs.stdout)


@pytest.mark.parametrize(("ours", "theirs"), [("10.9.0.2", "127.0.0.1"), ("eth0", "lo")])
def test_where_it_sends_from_is_said_as_iputils_says_it(ours: str, theirs: str) -> None:
    wanted = iputils("-c", "1", "-I", theirs, "127.0.0.1")
    done = run("ping", "-c", "1", "-I", ours, FAR, *OURS)
    assert done.returncode == wanted.returncode == 0, done.stderr + wanted.stderr
    assert shape(done.stdout) == shape(wanted.stdout)


@pytest.mark.netns
def test_an_unreachable_host_is_reported_as_iputils_reports_it() -> None:
    require.taps()
    peer, clock = Peer(), RealClock()
    tap = Tap(peer.tap_name, clock)  # open, so that it has a carrier; nobody answers on it
    try:
        peer.adopt(peer.tap_name)
        theirs = iputils("-c", "2", "-i", "0.2", NOBODY, namespace=peer.name)
    finally:
        tap.close()
        peer.close()
        clock.close()
    ours = run("ping", "-c", "2", "-i", "0.2", NOBODY, *OURS)
    assert ours.returncode == theirs.returncode == 1
    assert shape(ours.stdout) == shape(theirs.stdout)
    assert "From ADDR icmp_seq=1 Destination Host Unreachable" in shape(ours.stdout)


def test_a_parser_of_iputils_output_reads_it() -> None:
    done = run("ping", "-c", "3", "-i", "0.4", "-D", FAR, *OURS)
    read = jc.parse("ping", done.stdout)
    assert read["destination_ip"] == FAR
    assert (read["packets_transmitted"], read["packets_received"]) == (3, 3)
    assert read["packet_loss_percent"] == 0
    assert 0 < read["round_trip_ms_min"] <= read["round_trip_ms_avg"] <= read["round_trip_ms_max"]
    assert [row["icmp_seq"] for row in read["responses"]] == [1, 2, 3]
    assert {row["ttl"] for row in read["responses"]} == {64}
    assert all(row["bytes"] == 64 and row["timestamp"] > 1e9 for row in read["responses"])
    reference = jc.parse("ping", iputils("-c", "3", "-i", "0.05", "-D", "127.0.0.1").stdout)
    assert set(read) == set(reference)
    assert set(read["responses"][0]) == set(reference["responses"][0])


def test_it_goes_on_until_interrupted() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "e1000emu", "ping", "-i", "0.02", FAR, *OURS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    seen = [process.stdout.readline() for _ in range(7)]
    assert seen[6].startswith("64 bytes from 10.9.0.1: icmp_seq=6 ")
    process.send_signal(signal.SIGQUIT)
    assert process.stderr.readline() == "\n"  # a carriage return, over the ^\\ of the terminal
    status = process.stderr.readline()
    form = r"(\d+)/(\d+) packets, \d+% loss, min/avg/ewma/max = ([\d.]+/){3}[\d.]+ ms\n"
    shown = re.fullmatch(form, status)
    assert shown is not None, status
    received, transmitted = int(shown[1]), int(shown[2])
    assert 6 <= received <= transmitted <= received + 1  # one may be under way
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    read = jc.parse("ping", "".join(seen) + out)
    assert 6 <= read["packets_received"] <= read["packets_transmitted"]
    assert read["packets_transmitted"] <= read["packets_received"] + 1


def test_no_reply_is_status_1_and_what_cannot_be_tried_is_2(tmp_path: Path) -> None:
    null = ("--addr", "10.9.0.2/24", "--link", "null")
    done = run("ping", "-c", "1", "-W", "0.1", FAR, *null)
    assert done.returncode == 1
    assert re.search(
        r"1 packets transmitted, 0 received, 100% packet loss, time \d+ms", done.stdout
    )
    assert run("ping", "-w", "0.2", "-i", "0.05", FAR, *null).returncode == 1
    for args in (("10.8.0.1", *null), ("10.9.0.255", *null), (FAR, *null, "-I", "wlan0")):
        done = run("ping", "-c", "1", *args)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_deadline_with_a_count_wants_them_all() -> None:
    done = run("ping", "-c", "2", "-i", "60", "-w", "2", FAR, *OURS)
    assert done.returncode == 1
    assert jc.parse("ping", done.stdout)["packets_received"] == 1


def test_doubled_answers_are_told_apart() -> None:
    done = run("ping", "-c", "3", "-i", "0.05", FAR, *OURS, "--impair", "duplicate=1,seed=1")
    assert done.returncode == 0
    assert "(DUP!)" in done.stdout
    read = jc.parse("ping", done.stdout)
    assert read["packets_received"] == 3
    assert read["duplicates"] >= 2
    assert any(row["duplicate"] for row in read["responses"])


def test_its_report_has_what_the_last_lines_have() -> None:
    report = json.loads(run("ping", "-c", "2", "-i", "0.01", FAR, *OURS, "--json").stdout)
    assert (report["transmitted"], report["received"], report["loss"]) == (2, 2, 0)
    assert report["min_ms"] <= report["avg_ms"] <= report["max_ms"]


@pytest.mark.parametrize(
    ("rtt_ns", "shown"),
    [
        (0, "0.000"),
        (42_999, "0.042"),
        (999_999, "0.999"),
        (1_000_000, "1.00"),
        (9_994_000, "9.99"),
        (9_995_000, "10.0"),
        (12_345_000, "12.3"),
        (99_949_000, "99.9"),
        (99_950_000, "100"),
        (1_234_567_000, "1235"),
    ],
)
def test_times_keep_three_digits_or_so(rtt_ns: int, shown: str) -> None:
    assert show_time(rtt_ns) == shown


def test_each_error_of_icmp_has_its_words() -> None:
    assert explain(3, 4, 1400) == "Frag needed and DF set (mtu = 1400)"
    assert explain(3, 13, 0) == "Packet filtered"
    assert explain(3, 99, 0) == "Dest Unreachable, Bad Code: 99"
    assert explain(11, 0, 0) == "Time to live exceeded"
    assert explain(12, 0, 0) == "Bad ICMP type: 12"


# --- in virtual time -----------------------------------------------------------------------------


def test_round_trips_are_exact_in_virtual_time() -> None:
    a, b = two_hosts(latency_ns=5_000_000)
    pinger = Pinger(a, "10.0.0.2")
    assert pinger.ping(1.0) is not None  # with the neighbour's address asked for on the way
    rtts = [pinger.ping(1.0) for _ in range(3)]
    assert all(rtt is not None and 10_000_000 <= rtt < 10_100_000 for rtt in rtts)
    counts = pinger.counts
    assert (counts.transmitted, counts.received, counts.duplicates) == (4, 4, 0)
    assert counts.min_ns in rtts
    b.close()
    assert pinger.ping(1.0) is None
    assert pinger.loss() == 0.2
    pinger.close()
    a.close()


def test_a_late_answer_is_not_taken_for_the_next() -> None:
    a, b = two_hosts(latency_ns=30_000_000)
    pinger = Pinger(a, "10.0.0.2")
    pinger.ping(1.0)
    assert pinger.ping(0.01) is None
    assert pinger.ping(1.0) is not None
    assert pinger.counts.received == 3  # the late one counts, for the request that it answers
    assert pinger.counts.pipe == 2
    pinger.close()
    a.close()
    b.close()


def test_the_last_answer_is_awaited_for_an_interval_however_fast_the_others_were() -> None:
    slower = 0
    for seed in range(20):
        a, b = two_hosts(impair={"delay_ns": 10_000_000, "jitter_ns": 9_900_000, "seed": seed})
        known = Pinger(a, "10.0.0.2")
        known.ping(1.0)  # the neighbour's address
        known.close()
        pinger = Pinger(a, "10.0.0.2")
        run = Run(
            pinger,
            count=2,
            interval_ns=100_000_000,
            timeout_ns=10_000_000_000,
            deadline_ns=None,
            quiet=True,
            stamps=False,
            errors_aside=False,
        )
        run.run()
        counts = pinger.counts
        assert (counts.transmitted, counts.received) == (2, 2)
        slower += counts.max_ns > 2 * counts.min_ns
        pinger.close()
        a.close()
        b.close()
    assert slower >= 5


def test_an_icmp_error_names_the_request_and_who_sent_it() -> None:
    a, b = two_hosts()
    pinger = Pinger(a, "10.0.0.99")
    pinger.send()
    assert a.clock.wait(pinger.waiting, 10_000_000_000)
    assert pinger.receive() == PingError(1, "10.0.0.1", "Destination Host Unreachable")
    assert pinger.receive() is None
    assert pinger.counts.errors == 1
    pinger.close()
    assert source_address(a, "10.0.0.2") == "10.0.0.1"
    a.close()
    b.close()
