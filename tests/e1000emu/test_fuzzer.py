"""The fuzzer of tests/e1000emu/fuzzing: a search, its corpus, and that it finds what is planted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from e1000emu.registers.regs import reg
from tests.e1000emu.fuzzing.feedback import Branches
from tests.e1000emu.fuzzing.fuzzer import Found, Fuzzer, corpus
from tests.e1000emu.fuzzing.program import CLOCK, KINDS, Program, Step, mutated, parse, random_step
from tests.e1000emu.fuzzing.targets import Target
from tests.support import examples, in_ci, run_to_end

ROOT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("E1000EMU_FUZZ") or (examples(24) if Branches().there else 6))
"""600 for a night; by default 24, or the part of it that E1000EMU_EXAMPLES asks for, where branches
lead the search: under the sanitizers. Elsewhere enough to see that it goes on."""
MOST_CORPUS_BYTES = 150_000


def run(*words: str, code: str = "", seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run the fuzzer as a program of its own: what it meets may end the process."""
    what = ["-c", code] if code else ["-m", "tests.e1000emu.fuzzing"]
    return run_to_end([sys.executable, *what, *words], cwd=ROOT, timeout_s=seconds + 240)


@pytest.mark.fuzz
@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_the_device_survives_a_search(tmp_path: Path) -> None:
    """On a clock and with threads; under the sanitizers, too, in `make test-asan`."""
    # A red run of CI can be run again; everywhere else each search is another.
    seed = 0 if in_ci() and not os.environ.get("E1000EMU_FUZZ") else time.time_ns() % 1_000_000
    last = tmp_path / "last.json"
    words = ["--seconds", str(SECONDS), "--seed", str(seed), "--last", str(last)]
    done = run(*words, seconds=SECONDS)
    if done.returncode:
        pytest.fail(f"{done.stdout}{done.stderr}\nthe last program:\n{last.read_text()}", False)
    tally = json.loads(done.stdout.splitlines()[-1])
    assert set(tally["programs"]) == set(KINDS)
    assert all(tally["programs"].values())
    assert tally["lines"] > 500
    # With compiled code that counts its branches, those lead the search as well.
    assert (tally["branches"] > 1000) == Branches().there


@pytest.mark.fuzz
def test_threads_survive_programs_without_guidance() -> None:
    """As `make test-tsan` has it, with more programs: most of the time is the threads' then."""
    words = [word for kind in KINDS if kind != CLOCK for word in ("--kind", kind)]
    done = run("--blind", "--programs", "16", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    tally = json.loads(done.stdout.splitlines()[-1])
    assert set(tally["programs"]) == set(KINDS) - {CLOCK}
    assert sum(tally["programs"].values()) >= 16
    assert not tally["lines"], "nobody looked"


@pytest.mark.fuzz
def test_the_corpus_is_small_and_reaches_more_than_a_driver_does() -> None:
    programs = corpus()
    assert {program.kind for program in programs} == set(KINDS)
    assert sum(len(program.text()) for program in programs) < MOST_CORPUS_BYTES
    search = Fuzzer(0, kinds=[CLOCK])
    driver = Program((("up", 0), ("post", [bytes(16)]), ("ours", 60, 0), ("time", 10_000)))
    of_driver = search.run(driver)
    reached = set().union(*(search.run(each) for each in programs if each.kind == CLOCK))
    assert len(reached) > 1.5 * len(of_driver)


def test_programs_are_the_same_read_back_and_mutated_ones_can_be_run() -> None:
    rng = Random(3)
    program = Program(tuple(random_step(rng) for _ in range(20)))
    for _ in range(300):
        other = mutated(rng, program, program)
        assert parse(other.text()) == other
        program = other if other.steps else program


# --- planted defects -----------------------------------------------------------------------------


class Planted(Target):
    """In place of a device, which is slow; it fails when six registers are written in order."""

    written = 0

    def do(self, step: Step) -> None:
        if step[0] == "write":
            self.written = gate(self.written, step[1])

    def counted(self) -> Iterator[tuple[str, int]]:
        return iter(())

    def works(self) -> None:
        """It has no promise to keep."""

    def close(self) -> None:
        """It holds nothing."""


TDT, TDH, RDT, RDH, RCTL, TCTL = (
    reg(name).offset for name in ("TDT", "TDH", "RDT", "RDH", "RCTL", "TCTL")
)
ORDER = [RDH, TDT, RCTL, TDH, TCTL, RDT]
FIRST = Program((("write", RDH, 0, 4),))
PROGRAMS = 10_000


def gate(written: int, offset: int) -> int:
    """Return how many of them were written; each one is a line."""
    if written == 0 and offset == RDH:
        return 1
    if written == 1 and offset == TDT:
        return 2
    if written == 2 and offset == RCTL:
        return 3
    if written == 3 and offset == TDH:
        return 4
    if written == 4 and offset == TCTL:
        return 5
    if written == 5 and offset == RDT:
        raise ZeroDivisionError("planted")
    return written


def search(*, guided: bool) -> Fuzzer:
    return Fuzzer(
        1, kinds=[CLOCK], make=lambda program: Planted(), lines_of=[__file__], guided=guided
    )


def test_coverage_leads_to_a_defect_that_chance_does_not_find() -> None:
    with pytest.raises(Found) as found:
        search(guided=True).search([FIRST], programs=PROGRAMS)
    assert isinstance(found.value.__cause__, ZeroDivisionError)
    assert [step[1] for step in found.value.program.steps] == ORDER  # the rest is left out
    by_chance = search(guided=False).search([FIRST], programs=PROGRAMS)
    assert by_chance.programs[CLOCK] >= PROGRAMS


PLANT = """
import os, sys, time
from tests.e1000emu.fuzzing import __main__, targets
def planted(self, offset, value, size):
    {what}
targets.Target.write = planted
sys.exit(__main__.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("os.abort()", ""),
        ("time.sleep(1000)", "Timeout"),
        ("self.memory(0x100000, b'x')", "memory that is not its own"),
        ("raise KeyError(offset)", "KeyError"),
        ("self.bench.link.transmit = lambda batch: batch.clear()", "no frame leaves the device"),
    ],
    ids=["a crash", "a hang", "a stray write", "an exception", "a device that is dead"],
)
def test_a_defect_ends_the_search_and_the_program_is_there(
    what: str, said: str, tmp_path: Path
) -> None:
    last, program = tmp_path / "last.json", tmp_path / "program.json"
    given = Program((("write", 0x38, 2, 4), ("time", 5)))
    program.write_text(given.text())
    words = ["--program", str(program), "--last", str(last)]
    words += ["--hang-s", "3"] if said == "Timeout" else []
    done = run(*words, code=PLANT.format(what=what))
    assert done.returncode != 0
    assert said in done.stderr
    assert parse(last.read_text()) == given


def test_a_server_with_threads_that_dies_is_found(tmp_path: Path) -> None:
    program = tmp_path / "program.json"
    program.write_text(Program((("read", 8, 4),), "two threads").text())
    plant: dict[str, Any] = {"what": "raise KeyError(offset)"}
    code = PLANT.format(**plant).replace("Target.write", "Target.read").replace("value, ", "")
    done = run("--program", str(program), code=code)
    assert (done.returncode, "KeyError" in done.stderr) == (1, True)
