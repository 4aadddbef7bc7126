"""Driver misuse by name: a count, the last cases with values and time, the remedy.

The device never raises for a guest's mistake; it follows the datasheet and records the mistake
here, so that a "Detected Tx Unit Hang" can be explained.  A Nic made with ``strict=True`` raises
`MisuseError` at the access instead, for people who write drivers.

The rules are data (misuserules.py), the log is compiled and of a fixed size
(fastpath/nic/misuselog.pyx), and texts are created on request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from e1000emu.errors import E1000Error
from e1000emu.insight.misuserules import REMEDIES, RULE_NUMBER, RULES, Rule, cited
from e1000emu.registers.regs import at_offset
from fastpath.nic.misuselog import MisuseLog

__all__ = ["REMEDIES", "Misuse", "MisuseError", "MisuseEvent"]

CASES = 256
"""Number of latest cases kept."""

BOTH_SIDES = frozenset({"ring-align", "ring-length"})
"""Rules about the registers of either ring; a case begins with the offset."""

Values = tuple[int, ...]


class MisuseError(E1000Error):
    """A driver's mistake, raised at once because the Nic is strict."""


@dataclass(frozen=True, slots=True)
class MisuseEvent:
    """One kind of mistake so far, or one case of it: count, values, remedy."""

    name: str
    count: int
    last: str
    remedy: str
    section: str = ""
    """A section of Intel's SDM (317453), unless it names another standard."""
    register: str = ""
    descriptor: int | None = None
    """Index in its ring, if the rule is about one."""
    when_ns: int = 0
    because: str = ""
    """Another broken rule of which this is a consequence; it is listed before this one."""

    def __str__(self) -> str:
        said = f"{self.name} x{self.count}: {self.last}; {self.remedy} ({cited(self.section)})"
        return f"{said}; follows from {self.because}" if self.because else said


class Misuse:
    """Counts driver mistakes."""

    __slots__ = ("_log", "_now_ns", "_sources", "_strict", "on_strict")

    def __init__(self, *, strict: bool = False, now_ns: Callable[[], int] = lambda: 0) -> None:
        self._strict = strict
        self.on_strict: Callable[[bool], None] | None = None
        """Called when `strict` is set, to begin the checks that only a strict device makes."""
        self._now_ns = now_ns
        self._log = MisuseLog(len(RULES), CASES)
        self._sources: dict[str, tuple[Callable[[], int], Callable[[], Values]]] = {}

    @property
    def strict(self) -> bool:
        """Whether mistakes raise MisuseError."""
        return self._strict

    @strict.setter
    def strict(self, strict: bool) -> None:
        self._strict = strict
        if self.on_strict is not None:
            self.on_strict(strict)

    def derive(
        self, name: str, count: Callable[[], int], values: Callable[[], Values] = tuple
    ) -> None:
        """Set a function that returns the count of `name`.

        It is a compiled engine's own counter, or 1 during an error.
        """
        self._sources[name] = (count, values)

    def note(self, name: str, *values: int, n: int = 1) -> None:
        """Count `n` cases of the rule `name`; `values` are the numbers for its text.

        Raises: MisuseError when strict.
        """
        number = RULE_NUMBER[name]
        self._log.note(number, self._now_ns(), n, *values)
        if self._strict:
            rule = RULES[number]
            raise MisuseError(f"{rule.told.says.format(*values)}: {rule.remedy}")

    def count(self, name: str) -> int:
        """Return the number of cases of `name`."""
        if name in self._sources:
            return self._sources[name][0]()
        return self._log.count(RULE_NUMBER[name])

    @property
    def total(self) -> int:
        """Return the number of mistakes of all kinds."""
        return sum(e.count for e in self.events())

    def events(self) -> list[MisuseEvent]:
        """Return the mistakes, most frequent first, each followed by its consequences."""
        rows = []
        for number, rule in enumerate(RULES):
            if last := self._log.last(number):
                when_ns, _, *numbers = last
                rows.append(_event(rule, self._log.count(number), when_ns, numbers))
        for name, (count, values) in self._sources.items():
            if n := count():
                rows.append(_event(RULES[RULE_NUMBER[name]], n, self._now_ns(), list(values())))
        rows.sort(key=lambda e: (-e.count, e.name))
        names = [e.name for e in rows]
        because = {name: self._because(name, names) for name in names}
        out: list[MisuseEvent] = []

        def put(event: MisuseEvent) -> None:
            out.append(replace(event, because=because[event.name]))
            for other in rows:
                if because[other.name] == event.name:
                    put(other)

        for event in rows:
            if not because[event.name]:
                put(event)
        return out

    def _because(self, name: str, happened: list[str]) -> str:
        """Return the rule among those that have `happened` of which `name` is a consequence, or
        nothing."""
        side = "transmit" if name.startswith("tx-") else "receive"
        for cause in RULES[RULE_NUMBER[name]].follows:
            if cause in happened and (cause not in BOTH_SIDES or side in self._sides(cause)):
                return cause
        return ""

    def _sides(self, name: str) -> set[str]:
        """Return the sides (receive, transmit) of the registers that the cases of `name` are
        about."""
        number = RULE_NUMBER[name]
        last = self._log.last(number)
        offsets = [case[2] for case in self._log.cases() if case[1] == number]
        offsets += [last[2]] if last else []
        return {found.reg.group for at in offsets if (found := at_offset(at)) is not None}

    def cases(self) -> list[MisuseEvent]:
        """Return the latest cases (up to 256) recorded, oldest first."""
        return [
            _event(RULES[number], 1, when_ns, numbers)
            for when_ns, number, *numbers in self._log.cases()
        ]

    def state(self) -> dict[str, list[int]]:
        """Return the snapshot's state: the count and the last case of each rule that has any."""
        return {
            rule.name: [self._log.count(number), last[0], *last[2:]]
            for number, rule in enumerate(RULES)
            if (last := self._log.last(number))
        }

    def load(self, state: dict[str, list[int]]) -> None:
        """Load the result of `state`; ignores removed rules."""
        self.clear()
        for name, (n, when_ns, *values) in state.items():
            if name in RULE_NUMBER:
                self._log.note(RULE_NUMBER[name], when_ns, n, *values)

    def clear(self) -> None:
        """Clear the recorded cases; a reset clears the engines' counters."""
        self._log.clear()

    def __repr__(self) -> str:
        events = self.events()
        return f"<Misuse {sum(e.count for e in events)} in {len(events)} kinds>"


def _event(rule: Rule, count: int, when_ns: int, values: list[int]) -> MisuseEvent:
    index = rule.told.descriptor
    return MisuseEvent(
        rule.name,
        count,
        rule.told.says.format(*values, *(0,) * (4 - len(values))),
        rule.remedy,
        rule.sdm,
        rule.where,
        values[index] if 0 <= index < len(values) else None,
        when_ns,
    )
