"""One case in its process: however it ends, that is a result, and nothing of it is left."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e1000emu.campaign import Case, Limits
from e1000emu.campaign import worker as worker_module
from e1000emu.campaign.forkserver import OUTPUT_BYTES, Answer, Target
from e1000emu.campaign.run import target_of
from e1000emu.campaign.worker import end_servers, run_case
from tests.e1000emu.campaign import cases
from tests.e1000emu.campaign.processes import alive

TARGET = target_of(cases.TROUBLE, None)


@pytest.fixture(scope="module", autouse=True)
def _servers() -> Iterator[None]:
    yield
    end_servers()


def answer(what: str, *, limits: Limits | None = None, note: str = "") -> Answer:
    case = Case(0, {"what": what, "note": note})
    return run_case(TARGET, pickle.dumps(case), limits or Limits(seconds=20))


@pytest.mark.parametrize(
    ("what", "status", "signal", "text"),
    [
        ("nothing", "passed", "", ""),
        ("segv", "crashed", "SIGSEGV", "ended by SIGSEGV"),
        ("abort", "crashed", "SIGABRT", "ended by SIGABRT"),
        ("kill", "crashed", "SIGKILL", "out of memory?"),
        ("real-time signal", "crashed", "signal 40", "ended by signal 40"),
        ("exit", "crashed", "", "exit status 3"),
        ("sys.exit", "failed", "", "SystemExit: enough"),
        ("memory", "memory", "", "MemoryError"),
        ("unpicklable result", "failed", "", "return None or a Result"),
    ],
)
def test_every_end_is_a_result(what: str, status: str, signal: str, text: str) -> None:
    found = answer(what)
    assert (found.status, found.signal) == (status, signal)
    assert text in found.text
    assert answer("nothing").status == "passed"  # the next is none the worse


def test_a_crash_leaves_what_was_printed_and_its_stack() -> None:
    found = answer("segv")
    assert "seen before" in found.output
    assert "Segmentation fault" in found.output
    assert "cases.py" in found.output


@pytest.mark.parametrize("what", ["hang", "hang in C", "deaf", "stopped", "output for ever"])
def test_a_case_that_does_not_end_is_ended(what: str) -> None:
    found = answer(what, limits=cases.QUICK)
    assert found.status == "timeout"
    assert 1.0 <= found.seconds < 20
    assert len(found.output) <= OUTPUT_BYTES
    if what.startswith("hang"):
        assert "in trouble" in found.output  # the stack


def test_the_memory_limit_is_the_campaigns() -> None:
    assert answer("a gigabyte", limits=Limits(memory_bytes=4 << 30)).status == "passed"
    assert answer("a gigabyte", limits=Limits(memory_bytes=1 << 30)).status == "memory"


def test_output_is_kept_from_its_end() -> None:
    found = answer("output")
    assert found.status == "passed"
    assert len(found.output) == OUTPUT_BYTES
    assert found.output.endswith("xxx\nthe end\n")


def test_figures_are_what_json_can_carry() -> None:
    found = answer("figures")
    assert found.figures == {
        "numpy": 1.5,
        "count": 7,
        "nan": "nan",
        "big": float(1 << 70),
        "text": "\\udc80",
    }
    assert found.text == "\\udcff"


@pytest.mark.parametrize("stay", [False, True])
def test_what_a_case_has_started_goes_with_it(tmp_path: Path, stay: bool) -> None:
    note = tmp_path / ("stay" if stay else "go")
    found = answer("family", note=str(note), limits=cases.QUICK)
    assert found.status == ("timeout" if stay else "passed")
    pids = [int(word) for word in note.read_text().split()]
    assert len(pids) == 3
    assert not any(map(alive, pids))


def test_a_case_that_kills_its_server_is_a_result() -> None:
    found = answer("kill the server")
    assert found.status == "crashed"
    assert answer("nothing").status == "passed"


def test_a_server_that_was_killed_while_idle_is_started_again() -> None:
    assert answer("nothing").status == "passed"
    ((_, server),) = worker_module._idle
    server.kill()
    assert answer("nothing").status == "passed"


def test_a_server_that_ends_takes_its_case_with_it(tmp_path: Path) -> None:
    note = tmp_path / "stay"
    answer("nothing")
    ((_, server),) = worker_module._idle
    thread = threading.Thread(target=answer, args=("family",), kwargs={"note": str(note)})
    thread.start()
    while not note.exists() or len(note.read_text().split()) < 3:
        time.sleep(0.01)
    first = [int(word) for word in note.read_text().split()]
    note.unlink()
    server.terminate()
    server.wait(20)
    assert not any(map(alive, first))
    # It was tried once more, with a new server, until the limit.
    while not note.exists() or len(note.read_text().split()) < 3:
        time.sleep(0.01)
    os.kill(int(note.read_text().split()[0]), 9)
    thread.join(30)
    assert not thread.is_alive()


def test_many_cases_leave_no_descriptor_and_no_process() -> None:
    answer("nothing")
    ((_, server),) = worker_module._idle
    before = len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{server.pid}/fd"))
    for _ in range(20):
        answer("nothing")
    assert (len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{server.pid}/fd"))) == before
    end_servers()
    assert len(os.listdir("/proc/self/fd")) == before[0] - 2
    assert server.poll() is not None


def test_a_file_that_has_changed_is_read_again_by_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "changing.py"
    helper = tmp_path / "helper_of_changing.py"
    texts = []
    # of two lengths: Python knows an old .pyc by the second of the file's time and by its size
    for text in "one", "three":
        helper.write_text(f"TEXT = {text!r}\n")
        path.write_text(
            "from helper_of_changing import TEXT\n"
            "from e1000emu.campaign import Result\n"
            "def case(c):\n    return Result(text=TEXT)\n"
        )
        target = target_of_file(path)
        texts.append(run_case(target, pickle.dumps(Case(0, {})), Limits(), session=text).text)
    assert texts == ["one", "three"]


def target_of_file(path: Path) -> Target:
    from hashlib import sha256

    return Target("changing", str(path), sha256(path.read_bytes()).hexdigest(), "case")


@pytest.mark.parametrize("text", ["1 / 0", "raise SystemExit", "import no_such_module"])
def test_a_file_that_cannot_be_imported_is_unusable(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    found = run_case(target_of_file(path), pickle.dumps(Case(0, {})), Limits())
    assert found.status == "unusable"
    assert "broken.py" in found.text


def test_a_file_that_is_not_here_is_unusable(tmp_path: Path) -> None:
    target = Target("no_such", str(tmp_path / "no_such.py"), "0" * 64, "case")
    found = run_case(target, pickle.dumps(Case(0, {})), Limits())
    assert found.status == "unusable"
    assert "put the same file on each machine" in found.text
