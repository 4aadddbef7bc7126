"""The loop: run a program, record its coverage, keep and mutate programs with new coverage."""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from e1000emu.registers.models import MODELS
from tests.e1000emu.fuzzing.feedback import Branches, Lines, numbered
from tests.e1000emu.fuzzing.program import CLOCK, KINDS, Program, mutated, parse, random_step
from tests.e1000emu.fuzzing.targets import Target, make

HANG_S = 60.0
"""No program takes a hundredth of it."""
TRIES = 150
"""How often one that failed is tried with fewer steps."""
TRIMS = 12
NEWEST = 40
CORPUS = Path(__file__).parent / "corpus"


class Found(Exception):
    """A program that the device does not survive; its cause is the failure."""

    def __init__(self, program: Program) -> None:
        super().__init__(program.text())
        self.program = program


@dataclass
class Tally:
    """Statistics of the search."""

    programs: dict[str, int]
    seconds: dict[str, float]
    kept: int = 0
    lines: int = 0
    branches: int = 0
    others: int = 0


def corpus(directory: Path = CORPUS) -> list[Program]:
    """Return the programs of a directory."""
    return [parse(path.read_text()) for path in sorted(directory.glob("*.json"))]


class Fuzzer:
    """One search.  A seed and a number of programs on the clock give the same search again."""

    def __init__(
        self,
        seed: int,
        *,
        kinds: Sequence[str] = KINDS,
        guided: bool = True,
        lines_of: Sequence[str] = (),
        make: Callable[[Program], Target] = make,
        last: Path | None = None,
        keep: Path | None = None,
        hang_s: float = HANG_S,
    ) -> None:
        """`lines_of`: files beside the device's whose lines count; `make` builds a target.

        last: a file that has the program that runs, for whoever finds the process dead.
        keep: a directory for programs that reached something new.
        """
        self.rng = Random(seed)
        self.kinds = list(kinds)
        self.pool: list[Program] = []
        self.reached: set[int] = set()
        self.tally = Tally(dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0.0))
        self._lines = Lines(*lines_of)
        self._branches = Branches()
        self._known: dict[tuple[str, int], int] = {}
        self._make, self._guided = make, guided
        self._last, self._keep, self._hang_s = last, keep, hang_s

    def run(self, program: Program) -> set[int]:
        """Run one program on a fresh device; return what it reached.  Raises: Found."""
        if self._last is not None:
            self._last.write_text(program.text())
        begun = time.monotonic()
        faulthandler.dump_traceback_later(self._hang_s, exit=True)
        try:
            return self._reached(program)
        except Exception as error:
            raise Found(program) from error
        finally:
            faulthandler.cancel_dump_traceback_later()
            self.tally.programs[program.kind] += 1
            self.tally.seconds[program.kind] += time.monotonic() - begun

    def _reached(self, program: Program) -> set[int]:
        target = self._make(program)
        try:
            self._lines.reached.clear()
            self._branches.take()
            with self._lines.on() if self._guided else nullcontext():
                for step in program.steps:
                    target.do(step)
            target.finish()
            # Threads do the same more or less often each time, which is nothing new.
            counted = target.counted()
            if program.kind != CLOCK:
                counted = ((name, 1) for name, count in counted if count)
            made = set(numbered(counted, self._known))
            made.update(self._lines.reached, self._branches.take())
            target.works()
            return made
        finally:
            target.close()

    def search(
        self, seeds: Sequence[Program], *, seconds: float = 1e9, programs: int = 1 << 60
    ) -> Tally:
        """Search for so long, or so many programs, after the seeds.  Raises: Found."""
        for program in seeds:
            if program.kind in self.kinds:
                self._look(program, trim=False)  # as it was when it came there
        end = time.monotonic() + seconds
        while time.monotonic() < end and sum(self.tally.programs.values()) < programs:
            self._look(self._next())
        for number in self.reached:
            if number < 0:
                self.tally.others += 1
            elif number >> 48:
                self.tally.branches += 1
            else:
                self.tally.lines += 1
        return self.tally

    def distilled(self, programs: Sequence[Program]) -> list[Program]:
        """Return those that reach what the ones before them do not, the shortest first."""
        kept = []
        for program in sorted(programs, key=lambda program: len(program.text())):
            new = self.run(program) - self.reached
            if new:
                self.reached |= new
                kept.append(program)
        return kept

    def _next(self) -> Program:
        # Half of the time for the clock, half for all kinds of threads.
        spent = self.tally.seconds
        kind = min(self.kinds, key=lambda kind: spent[kind] * (1 if kind != CLOCK else 0.25))
        if not self.pool or self.rng.random() < 0.05:
            steps = [random_step(self.rng) for _ in range(self.rng.randrange(1, 20))]
            return Program((("up", 0), *steps), kind, self.rng.choice(list(MODELS)))
        parent = self.rng.choice(self.pool if self.rng.random() < 0.5 else self.pool[-NEWEST:])
        made = mutated(self.rng, parent, self.rng.choice(self.pool))
        return replace(made, kind=kind)

    def _look(self, program: Program, *, trim: bool = True) -> None:
        try:
            new = self.run(program) - self.reached
        except Found as found:
            raise self._smaller(found) from found.__cause__
        if not new or not self._guided:
            if not self._guided and len(self.pool) < NEWEST:
                self.pool.append(program)
            elif not self._guided:
                self.pool[self.rng.randrange(NEWEST)] = program
            return
        if trim and program.kind == CLOCK:
            program = self._trimmed(program, new)
        self.reached |= new
        self.pool.append(program)
        self.tally.kept += 1
        if self._keep is not None:
            (self._keep / f"{program.name()}.json").write_text(program.text())

    def _trimmed(self, program: Program, new: set[int]) -> Program:
        """Leave out steps that the new things do not need; not all of them are tried."""
        steps = list(program.steps)
        for _ in range(min(TRIMS, len(steps) - 1)):
            at = self.rng.randrange(len(steps))
            fewer = replace(program, steps=tuple(steps[:at] + steps[at + 1 :]))
            if len(fewer.steps) and new <= self.run(fewer):
                steps = list(fewer.steps)
                program = fewer
        return program

    def _smaller(self, found: Found) -> Found:
        """Leave out steps while it fails for the same reason."""
        reason = _reason(found)
        tries, at = TRIES, 0
        while tries and at < len(found.program.steps):
            steps = found.program.steps
            tries -= 1
            try:
                self.run(replace(found.program, steps=steps[:at] + steps[at + 1 :]))
            except Found as other:
                if _reason(other) == reason:
                    found = other
                    continue
            at += 1
        return found


def _reason(found: Found) -> tuple[type, str]:
    cause = found.__cause__
    last = cause.__traceback__ if cause is not None else None
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return type(cause), "" if last is None else f"{last.tb_frame.f_code.co_name} {last.tb_lineno}"
