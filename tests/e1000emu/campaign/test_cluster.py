"""The same campaign on Dask and on MPI: a scheduler and two workers, two ranks, on loopback."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e1000emu.campaign import read, run
from e1000emu.campaign.report import Report
from e1000emu.errors import E1000Error
from tests.e1000emu.campaign import cases
from tests.e1000emu.campaign.processes import wait_gone
from tests.support import missing, require, run_to_end

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
FILE = f"{Path(cases.__file__)}:PURE"
START_S = 120


def package(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        missing(f"needs {name}", "pip install 'e1000emu[test]'")


def digests(report: Report) -> dict[int, dict[str, str]]:
    return {outcome.number: outcome.digest for outcome in report.outcomes}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, str]]:
    """What the process pool says."""
    path = tmp_path_factory.mktemp("pool") / "r.jsonl"
    return digests(run(cases.PURE, executor="processes:2", results=path))


Start = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a program of Dask; wait for a line that matches, and return its first group."""
    mark = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    begun: list[subprocess.Popen[str]] = []

    def run_it(line: str, *words: str) -> tuple[subprocess.Popen[str], str]:
        log = tmp_path / f"log-{len(begun)}"
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *words],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(ROOT), "E1000EMU_TEST_MARK": mark},
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
            )
        begun.append(process)
        end = time.monotonic() + START_S
        while time.monotonic() < end and process.poll() is None:
            found = re.search(line, log.read_text())
            if found:
                return process, found[1]
            time.sleep(0.05)
        pytest.fail(f"dask {' '.join(words)} does not start:\n{log.read_text()}")

    yield run_it
    for process in reversed(begun):
        process.terminate()
    for process in begun:
        process.wait(60)
    assert not wait_gone(mark, 60)


def scheduler(start: Start) -> str:
    package("distributed")
    _, address = start(
        r"Scheduler at:\s+tcp://(\S+)",
        *("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"),
    )
    return address


def test_dask_does_the_same(expected: Any, start: Start, tmp_path: Path) -> None:
    address = scheduler(start)
    for _ in range(2):
        start(
            r"(Registered to):\s+tcp",
            *("worker", address, "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1"),
        )
    path = tmp_path / "r.jsonl"
    report = run(cases.PURE, executor=f"dask://{address}", results=path)
    assert digests(report) == expected
    assert report.ok
    outcomes = read(path)[1]
    first = {outcome.key: outcome.worker for outcome in outcomes if not outcome.again}
    again = [outcome for outcome in outcomes if outcome.again]
    assert len(set(first.values())) == 2
    assert again
    assert all(outcome.worker != first[outcome.key] for outcome in again)


def test_dask_with_tls(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openssl = require.tool("openssl")
    package("distributed")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-keyout", key, "-out", cert),
        ],
        capture_output=True,
        check=True,
    )
    comm = "DASK_DISTRIBUTED__COMM__"
    monkeypatch.setenv(f"{comm}REQUIRE_ENCRYPTION", "true")
    monkeypatch.setenv(f"{comm}TLS__CA_FILE", str(cert))
    for who in ("SCHEDULER", "WORKER", "CLIENT"):
        monkeypatch.setenv(f"{comm}TLS__{who}__CERT", str(cert))
        monkeypatch.setenv(f"{comm}TLS__{who}__KEY", str(key))
    import dask

    _, address = start(
        r"Scheduler at:\s+(tls://\S+)",
        *("scheduler", "--protocol", "tls", "--host", "127.0.0.1", "--port", "0"),
        "--no-dashboard",
    )
    start(
        r"(Registered to):\s+tls",
        *("worker", address, "--nthreads", "1", "--no-dashboard", "--host", "tls://127.0.0.1"),
    )
    path = tmp_path / "r.jsonl"
    # Key by key: a whole tree would replace the defaults if distributed is imported already.
    settings = {
        name.removeprefix("DASK_").lower().replace("__", "."): value
        for name, value in os.environ.items()
        if name.startswith(comm)
    }
    with dask.config.set(settings):
        report = run(cases.NOTHING, executor=f"dask://{address}", results=path)
    assert report.ok
    # Without a certificate nobody gets in.
    plain = {name: value for name, value in os.environ.items() if not name.startswith(comm)}
    command = [sys.executable, "-c", CLIENT.format(address=address.replace("tls://", "tcp://"))]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=False)
    assert "refused" in done.stdout, done.stdout + done.stderr


CLIENT = """
from distributed import Client
try:
    Client("{address}", timeout="3s")
except OSError:
    print("refused")
"""


def test_a_scheduler_without_workers_is_named(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = scheduler(start)
    monkeypatch.setattr("e1000emu.campaign.executors.WORKERS_S", 1)
    with pytest.raises(E1000Error, match=f"dask worker tcp://{address}"):
        run(cases.PURE, executor=f"dask://{address}", results=tmp_path / "r.jsonl")


def test_no_scheduler_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package("distributed")
    import dask

    soon = dask.config.set({"distributed.comm.timeouts.connect": "1s"})
    with soon, pytest.raises(E1000Error, match="start one: dask scheduler"):
        run(cases.PURE, executor="dask://127.0.0.1:1", results=tmp_path / "r.jsonl")


def test_mpi_does_the_same(expected: Any, tmp_path: Path) -> None:
    package("mpi4py")
    mpiexec = BIN / "mpiexec"  # of the package mpich
    if not mpiexec.exists():
        missing("needs mpiexec", "pip install 'e1000emu[test]'")
    mark = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    command = [sys.executable, "-m", "mpi4py.futures", "-m", "e1000emu", "campaign", "run", FILE]
    done = run_to_end(
        [mpiexec, "-n", "2", *command, "--executor", "mpi", "--results", "r.jsonl"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "E1000EMU_TEST_MARK": mark},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = Report(*read(tmp_path / "r.jsonl"))
    assert report.ok
    assert digests(report) == expected
    assert not wait_gone(mark)


@pytest.mark.parametrize(("name", "extra"), [("distributed", "cluster"), ("mpi4py", "mpi")])
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, f"{name}.futures", None)
    where = "dask://127.0.0.1:1" if extra == "cluster" else "mpi"
    with pytest.raises(E1000Error, match=re.escape(f"pip install 'e1000emu[{extra}]'")):
        run(cases.PURE, executor=where, results=tmp_path / "r.jsonl")
