"""One simulation by 1, 2, 4 and 8 ranks does the same; a process that dies ends all."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e1000emu.capture import read_capture
from e1000emu.errors import ArgumentError
from e1000emu.parallel import Outcome, SimulationError, partition, simulate
from e1000emu.parallel.cutlink import unpack
from e1000emu.parallel.share import Share, Simulation, parcels
from e1000emu.parallel.window import Windows
from stack.socket import AF_INET, AF_INET6
from tests.e1000emu.campaign.processes import alive, wait_gone
from tests.e1000emu.parallel import networks
from tests.e1000emu.parallel.networks import Flow
from tests.support import eventually, examples, require, run_to_end

ROOT = Path(__file__).parents[3]
SECOND_NS = 1_000_000_000
UNTIL_NS = 20 * SECOND_NS


def together(simulation: Simulation, ranks: int, until_ns: int) -> Outcome:
    """Run all ranks in this process: what the transports do is done here."""
    found = partition(simulation.flat, ranks)
    shares = [Share(simulation, found, rank) for rank in range(ranks)]
    try:
        windows = [Windows(rank, found.distances(), until_ns=until_ns) for rank in range(ranks)]
        while True:
            sent = []
            for share, window in zip(shares, windows, strict=True):
                report = window.report(share.rank.due_ns, share.rank.arrivals)
                sent.append((report, parcels(share.rank.take_outbox())))
            for report, boxes in sent:
                for rank in range(ranks):
                    if rank != report.rank:
                        for arrival in unpack(boxes.get(rank, b"")):
                            shares[rank].rank.put(arrival)
                        windows[rank].received(report)
            if windows[0].finished:
                break
            for share, window in zip(shares, windows, strict=True):
                share.rank.run_before(window.end_ns)
        return Outcome(found, tuple(share.done(until_ns) for share in shares))
    finally:
        for share in shares:
            share.close()


DELAYS = [0, "20us", "300us", "1ms", "1ms", "7ms"]


@st.composite
def simulations(draw: st.DrawFn) -> tuple[int, int, list[dict[str, Any]], list[Flow]]:
    """A tree of switches with hosts at it, and flows between the hosts."""
    hosts, switches = draw(st.integers(2, 8)), draw(st.integers(1, 3))
    links = []
    for i in range(1, switches):
        links.append([f"s{i}", f"s{draw(st.integers(0, i - 1))}"])
    links += [[f"h{i}", f"s{draw(st.integers(0, switches - 1))}"] for i in range(hosts)]
    shapes = [
        {
            "endpoints": link,
            "delay": draw(st.sampled_from(DELAYS)),
            "loss": draw(st.sampled_from([0, 0, 0.01, 0.05])),
            "rate": draw(st.sampled_from([None, None, "10Mbit"])),
            "jitter": draw(st.sampled_from([0, 0, "100us"])),
            "queue": draw(st.sampled_from([None, None, 20])),
        }
        for link in links
    ]
    number = st.integers(0, hosts - 1)
    flow = st.builds(
        Flow,
        kind=st.sampled_from(["tcp", "tcp", "udp", "ping"]),
        source=number,
        dest=number,
        family=st.sampled_from([AF_INET, AF_INET6]),
        size=st.integers(1, 100_000),
        # Simultaneous starts, so that frames of several links arrive at one time.
        after_ns=st.sampled_from([0, 0, 0, 1_000_000]),
    )
    flows = st.lists(flow.filter(lambda f: f.source != f.dest), min_size=1, max_size=5)
    return hosts, switches, shapes, draw(flows)


@settings(max_examples=examples(8), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(simulations(), st.integers(0, 1 << 32))
def test_any_number_of_ranks_does_the_same(
    network: tuple[int, int, list[dict[str, Any]], list[Flow]], seed: int
) -> None:
    make = partial(networks.random_network, *network, seed)
    first = together(make(), 1, 6 * SECOND_NS)
    most = len(first.partition.domains)
    for ranks in {2, 4, 8, most}:
        if 1 < ranks <= most:
            other = together(make(), ranks, 6 * SECOND_NS)
            assert other.digest == first.digest
            assert other.figures == first.figures
    # Hosts that do something have been heard of.
    assert first.figures


def test_the_seed_is_in_the_digest() -> None:
    a, b, c = (
        simulate(networks.streams, until_ns=UNTIL_NS, check_ns=SECOND_NS, seed=seed).digest
        for seed in (1, 1, 2)
    )
    assert a == b
    assert a["frames"] != c["frames"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, bytes]:
    path = tmp_path_factory.mktemp("alone") / "all.pcapng"
    outcome = simulate(networks.streams, until_ns=UNTIL_NS, check_ns=SECOND_NS, capture=path)
    return outcome, path.read_bytes()


@pytest.mark.parametrize("processes", [2, 4, 7])
def test_processes_do_the_same(
    alone: tuple[Outcome, bytes], processes: int, tmp_path: Path
) -> None:
    first, frames = alone
    path = tmp_path / "all.pcapng"
    outcome = simulate(
        networks.streams,
        processes=processes,
        until_ns=UNTIL_NS,
        check_ns=SECOND_NS,
        capture=path,
    )
    assert outcome.digest == first.digest
    assert sum(outcome.figures.values()) == 4_000_000
    assert outcome.figures == first.figures
    assert len(outcome.done) == processes
    assert path.read_bytes() == frames


def test_a_capture_is_in_the_order_of_time(alone: tuple[Outcome, bytes], tmp_path: Path) -> None:
    path = tmp_path / "all.pcapng"
    path.write_bytes(alone[1])
    times = [record.when_ns for record in read_capture(path)]
    assert times == sorted(times)
    assert {record.interface for record in read_capture(path)} == set(range(6))
    tshark = require.tool("tshark")
    done = run_to_end(
        [tshark, "-r", path, "-T", "fields", "-e", "frame.interface_name", "-c", "1"], check=True
    )
    assert re.fullmatch(r"\w+:eth\d-\w+:eth\d\n", done.stdout)


def test_some_links_are_captured(tmp_path: Path) -> None:
    files = []
    for processes in (1, 2):
        path = tmp_path / f"{processes}.pcapng"
        simulate(
            networks.streams,
            processes=processes,
            until_ns=UNTIL_NS,
            check_ns=SECOND_NS,
            capture=path,
            links=[5, 0],
        )
        assert {record.interface for record in read_capture(path)} == {0, 1}
        files.append(path.read_bytes())
    assert files[0] == files[1]


# --- programs of a topology ----------------------------------------------------------------------


def test_programs_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(
        networks.LINES.replace(
            "count = 4", 'count = 4\nrun = ["ping -c 2 server", "send -n 100k server 9"]'
        ).replace("[nodes.server]", '[nodes.server]\nrun = ["serve discard:9"]')
    )
    reports = []
    for processes in (1, 2, 7):
        capture = tmp_path / f"{processes}.pcapng"
        done = run_to_end(
            [
                *(sys.executable, "-m", "e1000emu", "lab", path, "--json"),
                *("--processes", processes, "--capture", f"near-far={capture}"),
            ]
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert ("link 5" in done.stderr) == (processes == 7), done.stderr
        assert len(report["processes"]) == processes
        kept = {k: report[k] for k in ("digest", "events", "drops", "virtual_seconds", "run")}
        reports.append((kept, capture.read_bytes()))
    assert reports[0] == reports[1] == reports[2]
    run = reports[0][0]["run"]
    assert {row["state"] for row in run if row["node"] != "server"} == {"done"}
    (served,) = (row["figures"] for row in run if row["node"] == "server")
    assert served["discard:9"]["bytes_in"] == 4 * 102_400


# --- ends ----------------------------------------------------------------------------------------


def test_an_argument_is_larger_than_a_pipe() -> None:
    """The supervisor reads its request from one, which holds 64 KiB."""
    outcome = simulate(networks.dying, "x" * 300_000, processes=2, until_ns=UNTIL_NS, seed=7)
    assert sum(outcome.figures.values()) == 4_000_000


def died(how: str, processes: int = 3) -> SimulationError:
    with pytest.raises(SimulationError) as caught:
        simulate(networks.dying, how, processes=processes, until_ns=UNTIL_NS, seed=7)
    return caught.value


@pytest.mark.parametrize(
    ("how", "why"), [("kill", "ended by SIGKILL"), ("exit", "ended with exit status 3")]
)
def test_a_process_that_dies_is_named(how: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv("E1000EMU_TEST_MARK", mark)
    text = str(died(how))
    assert re.match(r"process \d of 3 \(.*client3.*; seed 7\) at about 3\d*[mun]?s: ", text), text
    assert why in text
    assert not wait_gone(mark)


@pytest.mark.parametrize("processes", [1, 3])
def test_an_exception_has_its_host_its_time_and_its_traceback(processes: int) -> None:
    error = died("raise", processes)
    where = rf"process \d of {processes} \(.*; seed 7\): client3 at 3\d*[mun]?s"
    assert re.match(f"{where}: RuntimeError: it rains", str(error)), error
    assert 'raise RuntimeError("it rains")' in error.__notes__[0]


PROGRAM = """
from e1000emu.parallel import simulate
from tests.e1000emu.parallel.networks import dying
simulate(dying, "sleep", processes=3, until_ns=10**10, seed=7)
"""


@pytest.mark.parametrize("victim", ["caller", "supervisor", "rank"])
def test_nothing_is_left_of_what_is_killed(victim: str) -> None:
    mark = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    caller = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={**os.environ, "E1000EMU_TEST_MARK": mark},
        stderr=subprocess.PIPE,
        text=True,
    )
    supervisor = only(caller.pid, 1)[0]
    ranks = only(supervisor, 3)
    os.kill({"caller": caller.pid, "supervisor": supervisor, "rank": ranks[1]}[victim], 9)
    _, said = caller.communicate(timeout=120)
    assert caller.returncode
    assert not wait_gone(mark)
    eventually(lambda: not any(map(alive, [supervisor, *ranks])), "the end of all of them")
    if victim != "caller":
        assert {"supervisor": "supervisor ended by SIGKILL", "rank": "process 1 of 3"}[
            victim
        ] in said


def only(parent: int, count: int) -> list[int]:
    """Wait until a process has so many children, and return them."""
    path = Path(f"/proc/{parent}/task/{parent}/children")
    eventually(lambda: len(path.read_text().split()) == count, f"{count} children of {parent}")
    return [int(pid) for pid in path.read_text().split()]


def test_ctrl_c_ends_all() -> None:
    mark = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    caller = subprocess.Popen(
        # the tests may run in the background of a shell, which ignores SIGINT for its children
        ["env", "--default-signal=INT", sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={**os.environ, "E1000EMU_TEST_MARK": mark},
        stderr=subprocess.PIPE,
        text=True,
    )
    only(only(caller.pid, 1)[0], 3)
    caller.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in caller.communicate(timeout=120)[1]
    assert not wait_gone(mark)


# --- what cannot be ------------------------------------------------------------------------------


def test_a_link_without_delay_is_not_cut() -> None:
    with pytest.raises(
        ArgumentError, match=r"processes=2, .* 1 part: link 0, a:eth0-b:eth0, for one, has no delay"
    ):
        simulate(networks.nothing, processes=2, until_ns=1)


def test_what_build_returns_is_checked() -> None:
    with pytest.raises(ArgumentError, match="build returned 7; return a Simulation"):
        simulate(networks.no_simulation, until_ns=1)  # type: ignore[arg-type]


def test_a_function_that_other_processes_cannot_find() -> None:
    with pytest.raises(ArgumentError, match="define the function at the top level of a file"):
        simulate(lambda: networks.nothing(), until_ns=1)


@pytest.mark.parametrize(
    "wrong", [{"processes": 0}, {"until_ns": -1}, {"check_ns": 0}, {"until_ns": 0.5}]
)
def test_numbers_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=f"simulate: {next(iter(wrong))}="):
        simulate(networks.nothing, **{"until_ns": 1, **wrong})


def test_captured_links_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="links=6"):
        simulate(networks.streams, until_ns=1, capture=tmp_path / "x", links=[6])


def test_short_links_are_named() -> None:
    outcome = simulate(networks.streams, processes=7, until_ns=1)
    assert "link 5, server:eth0-far:eth1, has a delay of 20us" in outcome.advice
    assert simulate(networks.streams, processes=2, until_ns=1).advice == ""
