"""`e1000emu up`: events for programs, counters for people, and a start without waiting."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from e1000emu.cli.addressing import Addressing
from e1000emu.cli.common import StationOptions
from e1000emu.cli.live import human, table
from e1000emu.cli.stackspec import parse_stack
from e1000emu.clock import VirtualClock
from tests.e1000emu.cli.test_cli import run
from tests.support import wait_blocked

UP = ("up", "--addr", "10.9.0.2/24", "--link", "stack:10.9.0.1/24")
MS = 1_000_000


def start(*args: str, hangup: str = "default") -> subprocess.Popen[str]:
    # The tests themselves may run under nohup(1), which children inherit.
    return subprocess.Popen(
        ["env", f"--{hangup}-signal=HUP", sys.executable, "-m", "e1000emu", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_signal_before_it_is_ready_waits() -> None:
    process = start(*UP, "--json")
    assert process.stdout is not None
    wait_blocked(process, [signal.SIGUSR1])
    process.send_signal(signal.SIGUSR1)
    events = [json.loads(process.stdout.readline())["event"] for _ in range(2)]
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert [*events, json.loads(out)["event"]] == ["ready", "counters", "end"]


def test_a_hangup_that_nohup_ignores_ends_nothing() -> None:
    process = start(*UP, "--json", hangup="ignore")
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGUSR1)
    counters = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    end = json.loads(out)
    assert [ready["event"], counters["event"], end["event"]] == ["ready", "counters", "end"]


def test_json_tells_when_it_is_ready_and_what_it_did() -> None:
    process = start(*UP, "--serve", "echo:7,http:80", "--json")
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert ready == {
        "event": "ready",
        "pid": process.pid,
        "link": "stack:10.9.0.1/24",
        "addr": "10.9.0.2/24",
        "addrs": ["10.9.0.2/24"],
        "mac": "52:54:0a:09:00:02",
        "services": [{"name": "echo", "port": 7}, {"name": "http", "port": 80}],
    }
    process.send_signal(signal.SIGUSR1)
    counters = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    end = json.loads(out)
    assert (counters["event"], end["event"]) == ("counters", "end")
    assert set(counters) == set(end)
    assert set(end["services"]) == {"echo:7", "http:80"}


def test_events_go_to_a_file_as_they_happen(tmp_path: Path) -> None:
    path = tmp_path / "events"
    os.mkfifo(path)
    process = start(*UP, "--json", "-o", str(path))
    with path.open() as events:
        assert json.loads(events.readline())["event"] == "ready"
        process.send_signal(signal.SIGINT)
        assert json.loads(events.readline())["event"] == "end"
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def on_terminal(*args: str, until: str) -> str:
    """Run a command on a terminal of 80 columns, end it once `until` is shown; return it all."""
    master, slave = pty.openpty()
    env = dict(os.environ, COLUMNS="80", TERM="xterm")
    process = subprocess.Popen(
        [sys.executable, "-m", "e1000emu", *args],
        stdin=slave, stdout=slave, stderr=slave, env=env,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    told = False
    try:
        while process.poll() is None or select.select([master], [], [], 0)[0]:
            try:
                shown += os.read(master, 65536)
            except OSError:  # nobody has the other end open any more
                break
            if not told and re.search(until.encode(), shown):
                process.send_signal(signal.SIGINT)
                told = True
    finally:
        if process.poll() is None:
            process.wait(60)
        os.close(master)
    assert process.returncode == 0, shown
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def test_counters_stay_in_view_on_a_terminal() -> None:
    shown = on_terminal(*UP, "--serve", "echo:7", until="echo:7 +0")
    assert "eth0 10.9.0.2/24 on stack:10.9.0.1/24, serving echo:7" in shown
    assert re.search(r"packets in/s +bytes in/s +packets out/s +bytes out/s +open +in all", shown)
    assert re.search(r"eth0 +\d", shown)
    assert max(map(len, shown.replace("\r", "\n").splitlines())) <= 80


def test_vfio_user_counts_each_nic_on_a_terminal(tmp_path: Path) -> None:
    sockets = [word for name in "ab" for word in ("--socket", str(tmp_path / name))]
    shown = on_terminal("vfio-user", *sockets, "--link", "switch", until="nic1 +0")
    assert re.search(r"clients +messages/s +interrupts/s +sent/s +received/s", shown)
    assert re.search(r"nic0 +0", shown)


def test_a_pipe_gets_no_counters() -> None:
    process = start(*UP)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("eth0 10.9.0.2/24 on stack:")
    process.send_signal(signal.SIGUSR1)
    assert re.match(r"[\d.]+ s: received \d+ packets", process.stdout.readline())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.count("\n"), err) == (0, 1, "")


def test_rates_are_differences_and_figures_are_short() -> None:
    rows = [("eth0", {"frames/s": 5000, "open": 3}), ("new", {"frames/s": 7})]
    made = table(rows, [("eth0", {"frames/s": 1000, "open": 9})], 2.0, 10.0)
    cells = [list(column.cells) for column in made.columns]
    assert cells == [["eth0", "new"], ["2k", "0"], ["3", ""]]
    assert [human(n) for n in (0, 7, 999, 1000, 12_345, 999_950, 4.5e6, 1e15)] == [
        "0", "7", "999", "1k", "12.3k", "1M", "4.5M", "1P",
    ]  # fmt: skip


# --- the time to start ---------------------------------------------------------------------------


@pytest.mark.parametrize(("autoneg_ms", "least_ms", "most_ms"), [(0, 0, 300), (1500, 1500, 1800)])
def test_autonegotiation_takes_the_time_that_is_asked_for(
    autoneg_ms: int, least_ms: int, most_ms: int
) -> None:
    """In virtual time: it is what a command waits for on a real clock, less its own work."""
    clock = VirtualClock()
    own = Addressing(parse_stack("stack:10.9.0.2/24").addrs)
    station = StationOptions("stack:10.9.0.1/24", own, autoneg_ms * MS).start(clock)
    assert least_ms * MS <= clock.now_ns() < most_ms * MS
    assert station.host.nics["eth0"].link_up
    station.close()


def test_the_option_is_obeyed() -> None:
    args = ("ping", "-c", "1", "10.9.0.1", *UP[1:], "--autoneg")
    for bad in ("-1", "nan", "1d"):
        assert run(*args, bad).returncode == 2
    done = run(*args, "50ms")
    assert done.returncode == 0, done.stderr
