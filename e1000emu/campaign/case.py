"""The axes of a campaign, and one case for each combination of their values."""

from __future__ import annotations

import itertools
import keyword
import numbers
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any, TypeVar

import msgspec

from e1000emu.capture import PcapngWriter
from e1000emu.device.nic import Nic
from e1000emu.errors import ArgumentError
from e1000emu.lab import two_hosts
from e1000emu.lab.hosts import counters_text
from e1000emu.quantities import show_duration
from e1000emu.record.recorder import Recorder
from e1000emu.record.snapshot import save
from e1000emu.testing.bench import Bench
from fastpath.errors import check_type, real_number, whole_number
from stack.host import Host

T = TypeVar("T")
HASH_DIGITS = 16
INT64 = 1 << 63
LATEST = 10


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one case; a case that exceeds one is stopped, which is its result."""

    seconds: float = 60.0
    """Maximum wall-clock time."""
    memory_bytes: int = 4 << 30
    """Maximum address space of each process; mapped and unused memory counts too."""

    def __post_init__(self) -> None:
        real_number("Limits", "seconds", self.seconds, 0.001, 1e9, takes="seconds, 0.001 or more")
        whole_number("Limits", "memory_bytes", self.memory_bytes, 1 << 26, unit="bytes")


class Result(msgspec.Struct):
    """The optional result of a case function; None is a pass without figures."""

    passed: bool = True
    figures: dict[str, float | int | str] = {}
    """What was measured or counted, by names that the case chooses."""
    text: str = ""
    """One line for people."""


class Campaign:
    """A name, and axes with their values; a case has one value of each axis.

    `axes` maps names to collections of values: numbers, text, bytes, `Faults` and other dataclasses
    of such values, and lists and mappings of them. The last axis changes fastest. `where(case)` is
    false for combinations to leave out. One in `again` cases runs once more on another worker; 0:
    none does. With `exclusive` a worker takes one processor for itself while it runs a case, as
    benchmarks need.
    """

    def __init__(
        self,
        name: str,
        axes: Mapping[str, Collection[Any]],
        *,
        where: Callable[[Case], bool] | None = None,
        limits: Limits | None = None,
        again: int = 100,
        exclusive: bool = False,
    ) -> None:
        check_type("Campaign", "name", name, str, "a name, which is that of its results too")
        if not name or "/" in name or not name.isprintable():
            raise ArgumentError(f"Campaign: name={name!r}; give a name that a file can have")
        check_type("Campaign", "axes", axes, Mapping, 'a mapping such as {"seed": range(100)}')
        if where is not None and not callable(where):
            raise ArgumentError(f"Campaign: where={where!r}; give a function of a Case, or None")
        if limits is not None:
            check_type("Campaign", "limits", limits, Limits, "Limits(seconds=10)")
        self.name = name
        self.axes: dict[str, Sequence[Any]] = {}
        for axis, values in axes.items():
            self.axes[axis] = self._checked(axis, values)
        self.where = where
        self.limits = Limits() if limits is None else limits
        self.again = whole_number("Campaign", "again", again, 0)
        self.exclusive = bool(exclusive)
        self.function: Callable[[Case], Result | None] | None = None

    def _checked(self, axis: Any, values: Any) -> Sequence[Any]:
        of = f"Campaign {self.name}: axis {axis}"
        check_type("Campaign", "axes", axis, str, "names of axes that are text")
        if not axis.isidentifier() or keyword.iskeyword(axis) or axis in NOT_AXES:
            raise ArgumentError(
                f"Campaign {self.name}: no axis can be called {axis!r}; "
                "give an identifier that Case does not have"
            )
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise ArgumentError(f"{of}={values!r}; give a list of values")
        found = values if isinstance(values, range) else tuple(values)
        if not found:
            raise ArgumentError(f"{of} has no values; give one or more")
        if isinstance(found, range):
            return found
        texts = []
        for value in found:
            try:
                texts.append(canonical(value))
            except (TypeError, ValueError) as error:
                raise ArgumentError(
                    f"{of}: {value!r}: {error}; give numbers, text, bytes, dataclasses, "
                    "or lists and mappings of them"
                ) from None
        text, times = Counter(texts).most_common(1)[0]
        if times > 1:
            value = found[texts.index(text)]
            raise ArgumentError(f"{of} has {value!r} {times} times; give each value once")
        return found

    def case(self, function: Callable[[Case], T]) -> Callable[[Case], T]:
        """Decorate the function that tries a case."""
        if not callable(function):
            raise ArgumentError(f"Campaign.case: function={function!r}; decorate a function")
        self.function = function  # type: ignore[assignment]
        return function

    def __repr__(self) -> str:
        axes = " x ".join(f"{len(values):,} {name}" for name, values in self.axes.items())
        return f"Campaign({self.name!r}: {axes or 'one case'})"

    def __iter__(self) -> Iterator[Case]:
        for number, values in enumerate(itertools.product(*self.axes.values())):
            case = Case(number, dict(zip(self.axes, values, strict=True)))
            if self.where is None or self.where(case):
                yield case

    def __len__(self) -> int:
        if self.where is not None:
            return sum(1 for _ in self)
        total = 1
        for values in self.axes.values():
            total *= len(values)
        return total


class Case:
    """One combination of values, each an attribute: `c.seed`; and what a case function needs.

    What `bench`, `hosts`, `capture` and `watch` return is part of the result's digest, is recorded
    in a replay, and is closed when the function ends.
    """

    def __init__(
        self, number: int, values: Mapping[str, Any], *, keep: frozenset[int] | None = None
    ) -> None:
        self.number = number
        """Its place among all combinations, from 0."""
        self.values = dict(values)
        self.keep = keep
        """Which of `steps` are run; None: all."""
        self._begin(None)

    def _begin(self, directory: Path | None) -> None:
        self._directory = directory
        self._closing = ExitStack()
        self._nics: list[Nic] = []
        self._hosts: list[Host] = []
        self._captures: list[_Hash] = []
        self._names: Counter[str] = Counter()
        self._steps = 0

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("values", {})
        try:
            return values[name]
        except KeyError:
            axes = ", ".join(values)
            raise AttributeError(f"the case has no {name!r}; its axes are: {axes}") from None

    def __reduce__(self) -> Any:
        return _unpickled, (self.number, self.values, self.keep)

    def __repr__(self) -> str:
        return f"case {self.number} ({self})"

    def __str__(self) -> str:
        said = ", ".join(f"{name}={label(value)}" for name, value in self.values.items())
        return said if self.keep is None else f"{said}, steps={sorted(self.keep)}"

    @property
    def hash(self) -> str:
        """The values as one number, in hexadecimal: the same on every machine."""
        kept = None if self.keep is None else sorted(self.keep)
        return sha256(canonical([self.values, kept])).hexdigest()[:HASH_DIGITS]

    # --- what a case function uses -----------------------------------------------------------

    def bench(self, **options: Any) -> Bench:
        """Return a `Bench` of these `options`: one NIC with faked memory, line, link and driver."""
        if "record" not in options:
            options["record"] = self.recorder("nic")
        if "capture" not in options:
            options["capture"] = self.capture("nic")
        bench = Bench(**options)
        self._nics.append(bench.nic)
        self._closing.callback(bench.close)
        return bench

    def hosts(self, **options: Any) -> tuple[Host, Host]:
        """Return two hosts with a NIC each on one cable; `options` are those of `two_hosts`."""
        options.setdefault("records", (self.recorder("a"), self.recorder("b")))
        if "capture" not in options:
            options["capture"] = self.capture("cable")
        a, b = two_hosts(**options)
        for host in (a, b):
            self.watch(host)
            self._closing.callback(host.close)
        return a, b

    def watch(self, *what: Nic | Host) -> None:
        """Put the state of NICs and hosts that the function made itself into the digest."""
        for one in what:
            if isinstance(one, Host):
                self._hosts.append(one)
                self._nics.extend(one.nics.values())
            else:
                check_type("Case.watch", "what", one, Nic, "NICs and hosts")
                self._nics.append(one)

    def capture(self, name: str) -> PcapngWriter:
        """Return a writer for the `capture` of links and `two_hosts`: each frame and its time goes
        into the digest. A replay writes `name`.pcapng."""
        path = None if self._directory is None else self._file(name, "pcapng")
        file = _Hash(path)
        self._captures.append(file)
        return PcapngWriter(file)  # type: ignore[arg-type]

    def recorder(self, name: str) -> Recorder | None:
        """Return the `record` of a `Nic`: None in a campaign. In a replay it writes `name`.rec,
        each event at once."""
        if self._directory is None:
            return None
        recorder = Recorder(self._file(name, "rec"), flush=True)
        self._closing.callback(recorder.close)
        return recorder

    def _file(self, name: str, suffix: str) -> Path:
        """Return a path that no other file of this case has: name, name-2, name-3 ..."""
        assert self._directory is not None
        self._names[f"{name}.{suffix}"] += 1
        number = self._names[f"{name}.{suffix}"]
        return self._directory / f"{name}{'' if number == 1 else f'-{number}'}.{suffix}"

    def steps(self, steps: Iterable[T]) -> Iterator[T]:
        """Yield `steps` (frames, register accesses, events); shrinking leaves some of them out.

        All of them are still generated, so the remaining ones do not depend on those left out.
        """
        for step in steps:
            number = self._steps
            self._steps += 1
            if self.keep is None or number in self.keep:
                yield step

    # --- results for the campaign ------------------------------------------------------------

    def digest(self) -> dict[str, str]:
        """Return hashes of frames, counters and registers, and the time."""
        frames, counters, registers = sha256(), sha256(), sha256()
        for file in self._captures:
            frames.update(file.hash.digest())
        end = 0
        for nic in self._nics:
            counters.update(msgspec.msgpack.encode(nic.stats.as_dict()))
            registers.update(save(nic))
            end = max(end, nic.clock.now_ns())
        for host in self._hosts:
            counters.update(counters_text(host))
            end = max(end, host.clock.now_ns())
        return {
            "frames": frames.hexdigest()[:HASH_DIGITS],
            "counters": counters.hexdigest()[:HASH_DIGITS],
            "registers": registers.hexdigest()[:HASH_DIGITS],
            "end": show_duration(end),
        }

    def told(self) -> list[str]:
        """Return each NIC's report: why no frames move, misuse, and injected faults."""
        lines: list[str] = []
        for number, nic in enumerate(self._nics):
            of = f"nic {number}: " if len(self._nics) > 1 else ""
            lines += [of + text for text in nic.explain()]
            if nic.faults is not None:
                latest = nic.faults.log[-LATEST:]
                lines += [f"{of}fault {kind} at {show_duration(at)}" for at, kind in latest]
        return lines

    def close(self) -> None:
        """Close what the case made."""
        self._closing.close()


def _unpickled(number: int, values: dict[str, Any], keep: frozenset[int] | None) -> Case:
    return Case(number, values, keep=keep)


class _Hash:
    """A binary file that is hashed, and written where there is a path."""

    name = "capture"
    closed = False

    def __init__(self, path: Path | None) -> None:
        self.hash = sha256()
        self._file = None if path is None else open(path, "wb", buffering=0)  # noqa: SIM115

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return len(data) if self._file is None else self._file.write(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True
        if self._file is not None:
            self._file.close()


NOT_AXES = frozenset(dir(Case(0, {}))) | vars(Case(0, {})).keys()


def canonical(value: Any) -> bytes:
    """Return a text that is the same for equal values on every machine, and differs for others.

    Raises: TypeError, ValueError (text that is not Unicode).
    """
    return msgspec.json.encode(_plain(value))


def _plain(value: Any) -> Any:
    """Return a value that JSON can write; values that JSON cannot distinguish get a prefix."""
    if value is None or type(value) in (bool, int, str):
        return value if type(value) is not int or -INT64 <= value < INT64 else ["int", str(value)]
    if isinstance(value, Enum):
        return ["enum", type(value).__qualname__, value.name]
    if isinstance(value, bytes | bytearray):
        return ["bytes", value.hex()]
    if isinstance(value, str):
        return str(value)
    if isinstance(value, numbers.Integral):
        return _plain(int(value))
    if isinstance(value, numbers.Real):
        return ["float", float(value).hex()]
    if isinstance(value, PurePath):
        return ["path", str(value)]
    if isinstance(value, Mapping):
        return ["map", *sorted(([_plain(k), _plain(v)] for k, v in value.items()), key=repr)]
    if isinstance(value, set | frozenset):
        return ["set", *sorted(map(_plain, value), key=repr)]
    if isinstance(value, list | tuple | range):
        return ["list", *map(_plain, value)]
    if isinstance(value, type) or not (is_dataclass(value) or isinstance(value, msgspec.Struct)):
        raise TypeError(f"a {type(value).__name__} is no plain value")
    names = (
        value.__struct_fields__
        if isinstance(value, msgspec.Struct)
        else [f.name for f in fields(value)]
    )
    return [
        "of",
        type(value).__qualname__,
        *([name, _plain(getattr(value, name))] for name in names),
    ]


def label(value: Any) -> str:
    """Return a value as people write it; for a dataclass what differs from its defaults."""
    if is_dataclass(value) and not isinstance(value, type):
        said = []
        for f in fields(value):
            now = getattr(value, f.name)
            if f.default is MISSING or now != f.default:
                said.append(f"{f.name}={label(now)}")
        return ",".join(said) or "none"
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | list):
        return ":".join(map(label, value))
    return str(value)
