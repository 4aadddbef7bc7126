"""Make a failing case smaller: fewer steps, fewer faults, shorter lists, smaller numbers.

Delta debugging (Zeller and Hildebrandt, 2002) over what a case offers: its `steps`, and its values.
A smaller case counts if it ends in the same way.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any

from e1000emu.campaign.case import Campaign, Case
from e1000emu.campaign.forkserver import Answer, Target
from e1000emu.campaign.results import CampaignError, Outcome, outcome_of
from e1000emu.campaign.worker import end_servers, run_case
from e1000emu.errors import E1000Error
from fastpath.errors import whole_number


def ddmin(items: Sequence[Any], fails: Callable[[list[Any]], bool]) -> list[Any]:
    """Return a part of `items`, in order, that still fails, and of which no item can be left out.

    `items` itself must fail.
    """
    kept = list(items)
    parts = 2
    while kept:
        size = -(-len(kept) // parts)
        for at in range(0, len(kept), size):
            less = kept[:at] + kept[at + size :]
            if fails(less):
                kept = less
                parts = max(parts - 1, 2)
                break
        else:
            if size == 1:
                break
            parts = min(parts * 2, len(kept))
    return kept


def shrink(
    target: Target,
    case: Case,
    campaign: Campaign,
    *,
    tries: int = 1000,
    told: Callable[[Case], object] | None = None,
) -> tuple[Case, Outcome]:
    """Return the smallest case that was found to end as `case` does, and how it ends.

    Cases are tried one after the other on this machine, at most `tries`; `told` is called with each
    smaller one.  Raises: CampaignError, the case passes here.
    """
    try:
        return _Shrink(target, campaign, whole_number("shrink", "tries", tries, 1), told).run(case)
    finally:
        end_servers()


class _Shrink:
    def __init__(
        self,
        target: Target,
        campaign: Campaign,
        tries: int,
        told: Callable[[Case], object] | None,
    ) -> None:
        self._target = target
        self._campaign = campaign
        self._left = tries
        self._told = told
        self._seen: set[str] = set()

    def run(self, case: Case) -> tuple[Case, Outcome]:
        answer = self._try(case)
        if answer.status == "passed":
            raise CampaignError(f"shrink: {case!r} passes here")
        if answer.status == "unusable":
            raise CampaignError(f"shrink: {answer.text}")
        self._how = _how(answer)
        self._best, self._answer = case, answer
        while self._left > 0 and self._once():
            pass
        return self._best, outcome_of(self._best, self._target.sha256, self._answer)

    def _once(self) -> bool:
        """Go over steps and values; say whether anything became smaller."""
        before = self._best
        if self._answer.steps or before.keep:
            kept = sorted(before.keep if before.keep is not None else range(self._answer.steps))
            ddmin(kept, lambda part: self._keeps(self._best.values, frozenset(part)))
        for axis in self._best.values:
            while any(
                self._keeps({**self._best.values, axis: value}, self._best.keep)
                for value in smaller(self._best.values[axis])
            ):
                pass
        return self._best is not before

    def _keeps(self, values: dict[str, Any], keep: frozenset[int] | None) -> bool:
        """Say whether the case with these ends the same way, and take it if so."""
        case = Case(self._best.number, values, keep=keep)
        where = self._campaign.where
        if self._left <= 0 or case.hash in self._seen or (where and not where(case)):
            return False
        answer = self._try(case)
        if _how(answer) != self._how:
            return False
        self._best, self._answer = case, answer
        if self._told is not None:
            self._told(case)
        return True

    def _try(self, case: Case) -> Answer:
        self._left -= 1
        self._seen.add(case.hash)
        return run_case(self._target, pickle.dumps(case), self._campaign.limits)


def _how(answer: Answer) -> tuple[str, str, str]:
    """Return what identifies a failure: status, signal, kind of exception."""
    lines = answer.text.splitlines()
    last = lines[-1].partition(":")[0] if lines and answer.status == "failed" else ""
    return answer.status, answer.signal, last


def smaller(value: Any) -> Iterator[Any]:
    """Yield values that are simpler than `value`, the simplest first."""
    if type(value) not in (bool, int, float, bytes, tuple, list, dict) and not is_dataclass(value):
        return  # an enumeration, say, which is no number like others
    match value:
        case bool():
            if value:
                yield False
        case int() | float():
            if value:
                yield type(value)(0)
            half = abs(value) // 2 if isinstance(value, int) else abs(value) / 2
            if 1e-6 < half < abs(value):
                yield half if value > 0 else -half
        case bytes() | tuple() | list():
            items, made = list(value), type(value)
            size = len(items)
            while size:
                for at in range(0, len(items), size):
                    yield made(items[:at] + items[at + size :])
                size //= 2
            for at, item in enumerate(items if made is not bytes else ()):
                for less in smaller(item):
                    yield made([*items[:at], less, *items[at + 1 :]])
        case dict():
            for name in value:
                yield {k: v for k, v in value.items() if k != name}
            for name, item in value.items():
                for less in smaller(item):
                    yield {**value, name: less}
        case _ if is_dataclass(value) and not isinstance(value, type):
            for f in fields(value):
                now = getattr(value, f.name)
                if now == f.default:
                    continue  # nothing is simpler
                usual = [] if f.default is MISSING else [f.default]
                for less in (*usual, *smaller(now)):
                    with suppress(ValueError, E1000Error):  # the class may refuse it
                        yield replace(value, **{f.name: less})
