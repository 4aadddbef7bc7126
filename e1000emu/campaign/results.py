"""Results: one JSON line for each case, only appended, so a campaign can be continued later.

The first line names the campaign, program and case file of the following lines; another such line
follows when one of them has changed.  A line that was cut off by a crash is ignored and
overwritten.  One run at a time writes.
"""

from __future__ import annotations

import fcntl
import functools
import os
import subprocess
from collections.abc import Iterable
from enum import StrEnum
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

import e1000emu
import fastpath
import stack
from e1000emu.campaign.case import HASH_DIGITS, Campaign, Case, label
from e1000emu.errors import E1000Error
from fastpath.built import ROOT, is_tree

if TYPE_CHECKING:
    from e1000emu.campaign.forkserver import Answer

FILE_KIND = "e1000emu-campaign"
VERSION = 1
BEGINS = f'{{"kind":"{FILE_KIND}",'.encode()
PACKAGES = (e1000emu, fastpath, stack)
SOURCES = {".py", ".pyx", ".pxd", ".h"}


class CampaignError(E1000Error):
    """A campaign cannot continue; results so far are in its file."""


class DigestsDiffer(CampaignError):
    """A case gave two different results: it, or e1000emu, is not deterministic."""


class Status(StrEnum):
    """How a case ended."""

    PASSED = "passed"
    FAILED = "failed"
    """The case function raised, or said so."""
    CRASHED = "crashed"
    """A signal or an exit ended its process."""
    TIMEOUT = "timeout"
    MEMORY = "memory"


class Header(msgspec.Struct, kw_only=True):
    """The first line of a file."""

    kind: str = FILE_KIND
    version: int = VERSION
    campaign: str
    axes: list[str]
    cases: int
    program: str
    release: str
    commit: str
    source: str
    """The hash of the file that has the case function."""

    @property
    def run(self) -> str:
        """The program and the case file of the results after this line."""
        return f"{self.program} {self.source}"


class Outcome(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The result of one case."""

    key: str
    """The key of the case, its function's file and the program."""
    number: int
    values: dict[str, str]
    """The axes' values as text."""
    status: Status
    digest: dict[str, str] = {}
    figures: dict[str, float | int | str] = {}
    text: str = ""
    signal: str = ""
    told: list[str] = []
    """Why no frames move, misuse and faults; for a crash the device's last events."""
    output: str = ""
    steps: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    worker: str = ""
    again: bool = False
    """It ran before: this line only confirms the digest."""
    source: str = ""
    """`Header.run` of the line that it stands after; not written."""

    @property
    def ok(self) -> bool:
        """Whether it passed."""
        return self.status is Status.PASSED

    def __str__(self) -> str:
        said = ", ".join(f"{name}={value}" for name, value in self.values.items())
        lines = self.text.splitlines()
        why = f": {lines[-1]}" if lines else ""
        return f"case {self.number} ({said}) {self.status}{why}"


@functools.cache
def program() -> str:
    """Return the hash of all sources of the three packages, or of an installed wheel's record."""
    found = sha256()
    if not is_tree(ROOT):
        files = metadata.files("e1000emu") or []
        for file in sorted(files, key=str):
            if file.hash is not None and ".dist-info" not in str(file):
                found.update(f"{file} {file.hash.value}\n".encode())
        return found.hexdigest()[:HASH_DIGITS]
    for package in PACKAGES:
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*")):
            if path.suffix in SOURCES and "__pycache__" not in path.parts:
                found.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return found.hexdigest()[:HASH_DIGITS]


def commit() -> str:
    """Return git's description of the source tree, "" if there is none."""
    try:
        done = subprocess.run(
            ["git", "-C", ROOT, "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if is_tree(ROOT) else ""


def key(case: Case, source: str) -> str:
    """Return the key under which a result is stored."""
    return sha256(f"{case.hash} {source} {program()}".encode()).hexdigest()[:HASH_DIGITS]


def header(campaign: Campaign, source: str) -> Header:
    """Return the first line of this campaign's file."""
    return Header(
        campaign=campaign.name,
        axes=list(campaign.axes),
        cases=len(campaign),
        program=program(),
        release=metadata.version("e1000emu"),
        commit=commit(),
        source=source,
    )


def labels(case: Case) -> dict[str, str]:
    """Return the case's values as text."""
    return {name: label(value) for name, value in case.values.items()}


def outcome_of(
    case: Case, source: str, answer: Answer, *, worker: str = "", again: bool = False
) -> Outcome:
    """Return the stored result of a case that ran; `source` is the hash of its function's file."""
    fields = msgspec.structs.asdict(answer) | {"status": Status(answer.status)}
    return Outcome(
        key=key(case, source),
        number=case.number,
        values=labels(case),
        worker=worker,
        again=again,
        **fields,
    )


class Store:
    """The file of one campaign, open for more."""

    def __init__(self, path: Path, first: Header) -> None:
        """Open or make `path`; `outcomes` has what is there.

        Raises: CampaignError, it is of another campaign, or is no such file; OSError.
        """
        self.path = path
        self.outcomes: list[Outcome] = []
        self._run = first.run
        self._file: IO[bytes] = open(path, "a+b", buffering=0)  # noqa: SIM115
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CampaignError(
                    f"{path}: another run of the campaign writes there; wait for it, or name "
                    "another file"
                ) from None
            found, self.outcomes, end = _parse(path)
            if found is not None and (found.campaign, found.axes) != (first.campaign, first.axes):
                raise CampaignError(
                    f"{path}: has results of campaign {found.campaign} over "
                    f"{', '.join(found.axes)}; name another file"
                )
            self._file.truncate(end)
            if found != first:
                self._put(first)
        except BaseException:
            self._file.close()
            raise

    def add(self, outcome: Outcome) -> None:
        """Append one result, in one write."""
        self._put(outcome)
        outcome.source = self._run
        self.outcomes.append(outcome)

    def _put(self, line: Any) -> None:
        data = msgspec.json.encode(line) + b"\n"
        while data:
            data = data[self._file.write(data) :]

    def close(self) -> None:
        """Close the file; it is complete after each `add`."""
        self._file.close()


def read(path: str | os.PathLike[str]) -> tuple[Header, list[Outcome]]:
    """Read a file of results, also one that is being written; return the latest header.

    Raises: CampaignError, it is none; OSError.
    """
    found, outcomes, _ = _parse(Path(path))
    if found is None:
        raise CampaignError(f"{path}: there are no results of a campaign; name another file")
    return found, outcomes


def _parse(path: Path) -> tuple[Header | None, list[Outcome], int]:
    """Return the latest header, the results, and where the last whole line ends."""
    first: Header | None = None
    outcomes: list[Outcome] = []
    end = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                if not line.endswith(b"\n"):
                    # Cut off by a crash, or by the end of a file that is not ours.
                    if first is None and not (BEGINS.startswith(line) or line.startswith(BEGINS)):
                        raise msgspec.ValidationError("it does not begin as one")
                    break
                if line.startswith(BEGINS):
                    first = msgspec.json.decode(line, type=Header)
                    if first.version != VERSION:
                        raise msgspec.ValidationError(f"version {first.version}, not {VERSION}")
                elif first is None:
                    raise msgspec.ValidationError("it does not begin as one")
                else:
                    outcomes.append(msgspec.json.decode(line, type=Outcome))
                    outcomes[-1].source = first.run
            except (msgspec.DecodeError, msgspec.ValidationError) as error:
                raise CampaignError(
                    f"{path}, line {number}: no result of a campaign: {error}; name another file"
                ) from None
            end += len(line)
    return first, outcomes, end


def latest(outcomes: Iterable[Outcome]) -> dict[str, Outcome]:
    """Return the result of each key, without the runs that only confirmed one."""
    found: dict[str, Outcome] = {}
    for outcome in outcomes:
        if not outcome.again:
            found[outcome.key] = outcome
    return found


def differing(outcomes: Iterable[Outcome]) -> list[tuple[Outcome, Outcome]]:
    """Return both results of each case that ran twice with different results."""
    outcomes = list(outcomes)
    first = latest(outcomes)
    found = {}
    for outcome in outcomes:
        one = first.get(outcome.key)
        if one is None or not outcome.again:
            continue
        if (one.status, one.digest) != (outcome.status, outcome.digest):
            found[outcome.key] = one, outcome
    return list(found.values())
