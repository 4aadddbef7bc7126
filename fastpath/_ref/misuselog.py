"""The bounded log of misuse in plain Python: the twin of ``fastpath.nic.misuselog``."""

from __future__ import annotations

from collections import deque

_TOP64 = (1 << 64) - 1
Case = tuple[int, int, int, int, int, int]


class MisuseLog:
    """Cases of `rules` kinds of mistakes, the latest `capacity` of them kept."""

    def __init__(self, rules: int, capacity: int = 256) -> None:
        if not 0 < rules <= 1024:
            raise ValueError("MisuseLog: rules")
        if not 0 < capacity <= 1 << 20:
            raise ValueError("MisuseLog: capacity")
        self._counts = [0] * rules
        self._latest: list[Case | None] = [None] * rules
        self._ring: deque[Case] = deque(maxlen=capacity)

    def _rule(self, rule: int) -> int:
        if not 0 <= rule < len(self._counts):
            raise IndexError(rule)
        return rule

    def note(
        self,
        rule: int,
        when_ns: int,
        n: int = 1,
        a: int = 0,
        b: int = 0,
        c: int = 0,
        d: int = 0,
    ) -> None:
        """Record `n` cases of `rule`."""
        self._counts[self._rule(rule)] = min(self._counts[rule] + n, _TOP64)
        case = (when_ns, rule, a, b, c, d)
        self._latest[rule] = case
        self._ring.append(case)

    def count(self, rule: int) -> int:
        """Number of cases of `rule`."""
        return self._counts[self._rule(rule)]

    def last(self, rule: int) -> Case | None:
        """The latest case of `rule`."""
        return self._latest[self._rule(rule)]

    def cases(self) -> list[Case]:
        """The latest cases of all rules, oldest first."""
        return list(self._ring)

    def clear(self) -> None:
        """Clear the log."""
        self._counts = [0] * len(self._counts)
        self._latest = [None] * len(self._counts)
        self._ring.clear()

    def __len__(self) -> int:
        return len(self._ring)
