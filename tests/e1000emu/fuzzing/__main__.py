"""Search for so many seconds; the last line has what was done as JSON."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.e1000emu.fuzzing.fuzzer import CORPUS, Found, Fuzzer, corpus
from tests.e1000emu.fuzzing.program import KINDS, parse


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; 1 when a program was found that the device does not survive."""
    parser = argparse.ArgumentParser(prog="python -m tests.e1000emu.fuzzing", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--programs", type=int, default=1 << 60, help="so many, and no more")
    parser.add_argument("--blind", action="store_true", help="look not at what programs reach")
    parser.add_argument("--kind", choices=KINDS, action="append", help="one alone; can be repeated")
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="where it begins")
    parser.add_argument("--keep", type=Path, help="a directory for what reached something new")
    parser.add_argument("--last", type=Path, help="a file for the program that runs")
    parser.add_argument("--hang-s", type=float, default=60.0, help="longer than any program takes")
    parser.add_argument("--program", type=Path, help="run this one, and no other")
    parser.add_argument(
        "--distil", type=Path, metavar="DIR", help="search not; copy there what --corpus needs"
    )
    options = parser.parse_args(words)
    logging.disable(logging.WARNING)  # a TAP that is none
    for directory in (options.keep, options.distil):
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
    search = Fuzzer(
        options.seed,
        kinds=options.kind or KINDS,
        guided=not options.blind,
        last=options.last,
        keep=options.keep,
        hang_s=options.hang_s,
    )
    try:
        if options.program is not None:
            search.run(parse(options.program.read_text()))
        elif options.distil is not None:
            for program in search.distilled(corpus(options.corpus)):
                (options.distil / f"{program.name()}.json").write_text(program.text())
        else:
            search.search(
                corpus(options.corpus), seconds=options.seconds, programs=options.programs
            )
    except Found as found:
        traceback.print_exception(found.__cause__)
        print(f"the device does not survive this program (seed {options.seed}):", file=sys.stderr)
        print(found.program.text(), end="", file=sys.stderr)
        return 1
    print(json.dumps(dataclasses.asdict(search.tally)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
