"""Campaigns as a whole: executors, resuming, running twice, stopping."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from e1000emu.campaign import Campaign, CampaignError, DigestsDiffer, read, run
from e1000emu.errors import E1000Error
from tests.e1000emu.campaign import cases
from tests.e1000emu.campaign.processes import marked, wait_gone

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "e1000emu", "campaign"]
FILE = str(Path(cases.__file__))


def digests(report: Any) -> dict[int, dict[str, str]]:
    return {outcome.number: outcome.digest for outcome in report.outcomes}


@pytest.fixture(scope="module")
def pure(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The report of the pure campaign on two processes."""
    path = tmp_path_factory.mktemp("pure") / "r.jsonl"
    return run(cases.PURE, executor="processes:2", results=path)


def test_a_campaign_on_two_processes(pure: Any) -> None:
    assert pure.ok, pure.failures
    assert len(pure.outcomes) == 20
    assert pure.outcomes[0].figures["sent"] == 12
    assert pure.outcomes[0].figures["worst"] == "nan"
    twice = [outcome for outcome in read(pure.path)[1] if outcome.again]
    first = {outcome.key: outcome for outcome in pure.outcomes}
    assert len(twice) == pure.confirmed >= 4
    assert all(outcome.worker != first[outcome.key].worker for outcome in twice)


def test_threads_do_the_same(pure: Any, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as executor:
        report = run(cases.PURE, executor=executor, results=tmp_path / "r.jsonl")
    assert report.ok
    assert digests(report) == digests(pure)
    assert report.confirmed == pure.confirmed


def test_a_pool_of_the_callers_does_the_same(pure: Any, tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        report = run(cases.PURE, executor=executor, results=tmp_path / "r.jsonl")
        assert executor.submit(os.getpid).result()  # it is still open
    assert digests(report) == digests(pure)


class Here(Executor):
    """Runs each task when it is handed over, twice: as schedulers do that lose an answer."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        fn(*args, **kwargs)
        future.set_result(fn(*args, **kwargs))
        return future


def test_a_task_that_runs_more_than_once_does_no_harm(pure: Any, tmp_path: Path) -> None:
    report = run(cases.PURE, executor=Here(), results=tmp_path / "r.jsonl")
    assert digests(report) == digests(pure)


def test_a_campaign_goes_on_and_does_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = tmp_path / "count"
    monkeypatch.setenv("E1000EMU_TEST_COUNT", str(count))
    path = tmp_path / "r.jsonl"
    whole = run(cases.COUNTING, executor="processes:1", results=path)
    assert whole.ok
    data = path.read_bytes()
    for kept in (7, 1, 18):
        lines = data.splitlines(keepends=True)
        path.write_bytes(b"".join(lines[: 1 + kept]) + lines[-1][:20])
        count.write_text("")
        assert run(cases.COUNTING, executor="processes:1", results=path).ok
        done = {outcome.number for outcome in read(path)[1][:kept]}
        ran = [int(line) for line in count.read_text().split()]
        assert sorted(ran) == sorted(set(range(18)) - done)
    count.write_text("")
    assert run(cases.COUNTING, executor="processes:1", results=path).ok
    assert count.read_text() == ""


def test_a_case_that_does_two_things_stops_the_campaign(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with pytest.raises(DigestsDiffer, match=r"ran again on .* and frames.* came out different"):
        run(cases.MOODY, executor="processes:2", results=path)
    with pytest.raises(DigestsDiffer):  # nor does it go on as if nothing had been
        run(cases.MOODY, executor="processes:2", results=path)


def test_exclusive_cases_have_a_processor_for_themselves(tmp_path: Path) -> None:
    report = run(cases.ALONE, executor="processes:4", results=tmp_path / "r.jsonl")
    assert report.ok
    spans: dict[int, list[tuple[float, float]]] = {}
    for outcome in report.outcomes:
        f: Any = outcome.figures
        spans.setdefault(f["processor"], []).append((f["begun"], f["end"]))
    assert set(spans) <= os.sched_getaffinity(0)
    for each in spans.values():
        each.sort()
        assert all(a[1] <= b[0] for a, b in pairwise(each))


def start(tmp_path: Path, mark: str, *words: str) -> subprocess.Popen[bytes]:
    # The tests may run in the background of a shell, which ignores SIGINT for its children.
    return subprocess.Popen(
        ["env", "--default-signal=INT", *COMMAND, *words],
        cwd=tmp_path,
        env={**os.environ, "E1000EMU_TEST_MARK": mark, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("number", "everyone"),
    [
        (signal.SIGINT, True),  # everyone: as a terminal's Ctrl-C
        (signal.SIGINT, False),
        (signal.SIGTERM, True),
        (signal.SIGTERM, False),
        (signal.SIGKILL, False),  # of everyone: nobody is left to end what cases have started
    ],
)
def test_a_command_that_is_stopped_leaves_a_file_and_no_process(
    tmp_path: Path, number: signal.Signals, everyone: bool
) -> None:
    mark = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    path = tmp_path / "slow.jsonl"
    command = start(tmp_path, mark, "run", f"{FILE}:SLOW", "--executor", "processes:2")
    while not path.exists() or path.read_bytes().count(b"\n") < 3 or len(marked(mark)) < 7:
        assert command.poll() is None, command.stderr and command.stderr.read()
        time.sleep(0.05)
    assert len(marked(mark)) >= 7  # manager, workers, servers, cases and what these have started
    (os.killpg if everyone else os.kill)(command.pid, number)
    while everyone and number == signal.SIGTERM and command.poll() is None:
        time.sleep(0.001)  # a second one does not keep the first from killing what runs
        with suppress(ProcessLookupError):
            os.killpg(command.pid, number)
    _, errors = command.communicate(timeout=60)
    assert not wait_gone(mark)
    if number == signal.SIGINT:
        assert command.returncode == 130
        assert b"stopped: slow: 2 of 50 cases: 2 passed; slow.jsonl has them" in errors
        assert b"Traceback" not in errors
    _, outcomes = read(path)
    assert sorted(outcome.number for outcome in outcomes) == [0, 1]


def test_a_worker_that_dies_ends_the_run_and_leaves_no_process(tmp_path: Path) -> None:
    mark = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    path = tmp_path / "slow.jsonl"
    command = start(tmp_path, mark, "run", f"{FILE}:SLOW", "--executor", "processes:1")
    while not path.exists() or path.read_bytes().count(b"\n") < 3:
        assert command.poll() is None
        time.sleep(0.05)
    worker = read(path)[1][0].worker
    os.kill(int(worker.rpartition(":")[2]), signal.SIGKILL)
    _, errors = command.communicate(timeout=60)
    assert b"a worker was lost" in errors
    assert b"run it again to go on" in errors
    assert command.returncode not in (0, 130)
    assert not wait_gone(mark)


def test_a_worker_with_another_program_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("e1000emu.campaign.worker.program", lambda: "other")
    with (
        ThreadPoolExecutor(1) as executor,
        pytest.raises(CampaignError, match=r"another program.*install the same one"),
    ):
        run(cases.PURE, executor=executor, results=tmp_path / "r.jsonl")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("process", "executor='process'"),
        ("processes:0", "executor=0"),
        ("processes:x", "executor='x'"),
        ("dask://", "executor='dask://'"),
        ("mpi:3", "executor='mpi:3'"),
        (3, "executor=3"),
    ],
)
def test_wrong_executors_are_named(tmp_path: Path, given: Any, text: str) -> None:
    with pytest.raises(E1000Error) as caught:
        run(cases.PURE, executor=given, results=tmp_path / "r.jsonl")
    assert text in str(caught.value)


def test_a_function_that_no_worker_can_find_is_refused(tmp_path: Path) -> None:
    for function in (lambda c: None, 5, len):
        with pytest.raises(E1000Error, match="run: case="):
            run(Campaign("c", {}), function, results=tmp_path / "r")  # type: ignore[arg-type]
    with pytest.raises(E1000Error, match="campaign=5"):
        run(5, results=tmp_path / "r")  # type: ignore[arg-type]
    with pytest.raises(E1000Error, match=r"@campaign\.case"):
        run(Campaign("c", {}), results=tmp_path / "r")
