"""The device's fuzzer on every worker: registers, descriptors and frames, guided by coverage.

Workers share programs that reached something new through a directory ($E1000EMU_FUZZ_CORPUS, by
default fuzz-corpus in the current one). So a case is no pure function, and none runs twice for its
digest.
A generation is a set of cases: each begins with the results of the previous ones.  A case that
finds a program which crashes the device fails with that program.
"""

from __future__ import annotations

import os
from pathlib import Path

from e1000emu.campaign import Campaign, Case, Limits, Result
from e1000emu.campaign.builtin import of_the_tree

GENERATIONS = int(os.environ.get("E1000EMU_FUZZ_GENERATIONS") or 50)
PROGRAMS = int(os.environ.get("E1000EMU_FUZZ_PROGRAMS") or 400)
"""The number of programs that a case runs, after the corpus."""
SAMPLE = 100
"""The number of programs of the shared corpus that a case begins with."""
CORPUS = os.path.abspath(os.environ.get("E1000EMU_FUZZ_CORPUS") or "fuzz-corpus")
# Workers may have another current directory.
os.environ["E1000EMU_FUZZ_CORPUS"] = CORPUS

fuzzer = of_the_tree("fuzz", "tests.e1000emu.fuzzing.fuzzer")
program = of_the_tree("fuzz", "tests.e1000emu.fuzzing.program")

campaign = Campaign(
    "fuzz",
    axes={"generation": range(GENERATIONS), "seed": range(8)},
    limits=Limits(seconds=1800),
    again=0,
)


@campaign.case
def case(c: Case) -> Result:
    """Search from the existing corpus; add new programs to it."""
    shared = Path(CORPUS)
    shared.mkdir(parents=True, exist_ok=True)
    # One file per program, written atomically and never changed, so no partial file is read.
    keep = Kept(shared)
    search = fuzzer.Fuzzer(
        c.generation * 1000 + c.seed, kinds=(program.CLOCK,), keep=keep, hang_s=600.0
    )
    names = sorted(shared.glob("*.json"), key=lambda path: path.name[::-1])
    search.rng.shuffle(names)
    begin = [*fuzzer.corpus(), *(program.parse(path.read_text()) for path in names[:SAMPLE])]
    keep.begun = {each.name() for each in begin}
    try:
        tally = search.search(begin, programs=len(begin) + PROGRAMS)
    except fuzzer.Found as found:
        return Result(False, text=f"{found.__cause__!r}\n{found.program.text()}")
    counts = {"programs": sum(tally.programs.values()), "kept": keep.new, "lines": tally.lines}
    return Result(figures={**counts, "branches": tally.branches})


class Kept:
    """A directory as `Fuzzer` uses it (`/ name`, `write_text`), for several writers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.begun: set[str] = set()
        self.new = 0

    def __truediv__(self, name: str) -> Kept:
        self.name = name
        return self

    def write_text(self, text: str) -> None:
        """Write the file under its name at once."""
        if Path(self.name).stem in self.begun:
            return
        self.new += 1
        part = self.directory / f".{self.name}.{os.getpid()}"
        part.write_text(text)
        part.replace(self.directory / self.name)
