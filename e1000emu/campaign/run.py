"""Run a campaign's cases on an executor, and keep their results."""

from __future__ import annotations

import os
import pickle
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from e1000emu.campaign.case import Campaign, Case, Result
from e1000emu.campaign.executors import open_executor
from e1000emu.campaign.forkserver import Target, find
from e1000emu.campaign.report import Report
from e1000emu.campaign.results import (
    CampaignError,
    DigestsDiffer,
    Outcome,
    Store,
    differing,
    header,
    key,
    latest,
    outcome_of,
    program,
)
from e1000emu.campaign.worker import Done, Task, work
from e1000emu.errors import ArgumentError
from fastpath.errors import check_type, whole_number

TASK_S = 0.5
"""About how long a task's cases should take, s; shorter tasks spend more time in the executor."""
TASK_CASES = 64
TASKS_A_WORKER = 3
"""How many tasks are queued for each worker, so that none is idle."""
TRIES = 50
"""How often a case is offered to another worker; then any worker may run it."""
WAIT_S = 0.01
"""How long the worker to be avoided waits the first time, s; longer each time."""
SHOWN = 5

CaseFunction = Callable[[Case], Result | None]


def target_of(campaign: Campaign, function: CaseFunction | None) -> Target:
    """Return how workers find the case function.  Raises: ArgumentError, they could not."""
    found = campaign.function if function is None else function
    if not callable(found):
        raise ArgumentError(
            f"run: case={function!r}; give the case function, or decorate it with "
            f"@campaign.case of {campaign.name}"
        )
    return find(found, "run: case")


def run(
    campaign: Campaign,
    case: CaseFunction | None = None,
    *,
    executor: Executor | str | None = None,
    results: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    first: int | None = None,
) -> Report:
    """Run each case of `campaign` that has no result yet; return the report of all.

    `case` is the function (default: the one decorated with `@campaign.case`).  `executor`:
    "processes" (default, one for each processor), "processes:N", "dask://HOST:PORT", "mpi", or any
    `concurrent.futures.Executor`. `results` is the file to append to, by default NAME.jsonl in the
    current directory. `progress` draws a bar on standard error; by default if that is a terminal.
    At most `first` cases run.

    Raises:
        ArgumentError: an invalid argument.
        DigestsDiffer: a case that ran twice gave different results.
        CampaignError: the case file cannot be loaded, workers run another program or were lost.
        KeyboardInterrupt: Ctrl-C; the file has the results so far, and the next run continues.
    """
    check_type("run", "campaign", campaign, Campaign, "a Campaign")
    target = target_of(campaign, case)
    path = Path(f"{campaign.name}.jsonl" if results is None else results)
    if first is not None:
        whole_number("run", "first", first, 1, unit="cases")
    head = header(campaign, target.sha256)
    with ExitStack() as stack:
        store = Store(path, head)
        stack.callback(store.close)
        work = _Work(campaign, target, store, first)
        if work.left:
            draw = sys.stderr.isatty() if progress is None else progress
            bar = stack.enter_context(_Bar(head.campaign, head.cases, work.had, shown=draw))
            # After a pool of ours has closed, which stumbles over futures that are cancelled.
            stack.callback(work.cancel)
            pool, workers = stack.enter_context(open_executor(executor))
            work.run(pool, workers, bar)
    return Report(head, store.outcomes, campaign=campaign, target=target, path=path)


class _Pending(NamedTuple):
    """The cases of a task."""

    cases: list[Case]
    first: Outcome | None
    """The first outcome of a case that runs again."""
    tries: int


class _Work:
    """The cases that are left, and the tasks that run."""

    def __init__(self, campaign: Campaign, target: Target, store: Store, first: int | None) -> None:
        self._campaign = campaign
        self._target = target
        self._store = store
        done = latest(store.outcomes)
        confirmed = {outcome.key for outcome in store.outcomes if outcome.again}
        self._workers: set[str] = set()
        self._session = os.urandom(8).hex()
        differ = {pair[0].key: pair for pair in differing(store.outcomes)}
        self._todo: deque[Case] = deque()
        self._again: deque[tuple[Case, Outcome, int]] = deque()
        self.had = 0
        for case in campaign:
            found = key(case, target.sha256)
            if found not in done:
                if first is None or len(self._todo) < first:
                    self._todo.append(case)
                continue
            self.had += 1
            if found in differ:
                raise self._differs(*differ[found])
            if found not in confirmed and self._twice(case, done[found]):
                self._again.append((case, done[found], 0))
        self.left = len(self._todo) + len(self._again)
        self._pending: dict[Future[list[Done] | None], _Pending] = {}
        self._mean_s = TASK_S

    def _twice(self, case: Case, outcome: Outcome) -> bool:
        often = self._campaign.again
        return bool(often and outcome.digest and int(case.hash, 16) % often == 0)

    def run(self, executor: Executor, workers: int, bar: _Bar) -> None:
        """Run all cases."""
        while self._fill(executor, workers):
            done, _ = wait(self._pending, return_when=FIRST_COMPLETED)
            for future in done:
                self._take(future, self._pending.pop(future), bar)

    def cancel(self) -> None:
        """Cancel tasks that have not begun."""
        for future in self._pending:
            future.cancel()

    def _fill(self, executor: Executor, workers: int) -> bool:
        """Submit tasks while workers need them; return whether there are any."""
        while len(self._pending) < workers * TASKS_A_WORKER and (self._again or self._todo):
            if self._again and self._may_run_again(workers):
                case, first, tries = self._again.popleft()
                others = self._workers - {first.worker}
                avoid = first.worker if others and tries < TRIES else ""
                self._submit(executor, _Pending([case], first, tries), avoid)
            elif not self._todo:
                break
            else:
                count = 1 if self._campaign.exclusive else int(TASK_S / self._mean_s)
                # The last cases are spread over all workers.
                count = max(1, min(count, TASK_CASES, len(self._todo) // (2 * workers)))
                cases = [self._todo.popleft() for _ in range(count)]
                self._submit(executor, _Pending(cases, None, 0), "")
        return bool(self._pending)

    def _may_run_again(self, workers: int) -> bool:
        """Say whether another worker is known, or none is to be expected any more.

        Threads of one process are one worker.
        """
        others = self._workers - {self._again[0][1].worker}
        return workers == 1 or bool(others) or not (self._todo or self._pending)

    def _submit(self, executor: Executor, pending: _Pending, avoid: str) -> None:
        limits = self._campaign.limits
        task = Task(
            self._target,
            [pickle.dumps(case) for case in pending.cases],
            program(),
            limits.seconds,
            limits.memory_bytes,
            self._campaign.exclusive,
            avoid,
            min(WAIT_S * 1.2**pending.tries, 0.5),
            self._session,
        )
        self._pending[executor.submit(work, task)] = pending

    def _take(self, future: Future[list[Done] | None], pending: _Pending, bar: _Bar) -> None:
        try:
            found = future.result()
        except Exception as error:  # of the executor: `work` itself raises nothing
            raise CampaignError(
                f"campaign {self._campaign.name}: a worker was lost: "
                f"{type(error).__name__}: {error}; run it again to go on"
            ) from error
        if found is None:
            assert pending.first is not None
            self._again.append((pending.cases[0], pending.first, pending.tries + 1))
            return
        for case, done in zip(pending.cases, found, strict=True):
            answer = done.answer
            self._workers.add(done.worker)
            if answer.status == "unusable":
                raise CampaignError(
                    f"campaign {self._campaign.name}: worker {done.worker}: {answer.text}"
                )
            self._mean_s += (max(answer.seconds, 1e-4) - self._mean_s) / 8
            outcome = outcome_of(
                case,
                self._target.sha256,
                answer,
                worker=done.worker,
                again=pending.first is not None,
            )
            self._store.add(outcome)
            if pending.first is not None:
                self._compare(pending.first, outcome)
                continue
            bar.advance(outcome)
            if self._twice(case, outcome):
                self._again.append((case, outcome, 0))

    def _compare(self, first: Outcome, second: Outcome) -> None:
        if (first.status, first.digest) != (second.status, second.digest):
            raise self._differs(first, second)

    def _differs(self, first: Outcome, second: Outcome) -> DigestsDiffer:
        other = [name for name in first.digest if first.digest[name] != second.digest.get(name)]
        return DigestsDiffer(
            f"campaign {self._campaign.name}: {first}: ran again on {second.worker} after "
            f"{first.worker}, and {', '.join(other) or 'its end'} came out different; "
            "it takes time or randomness from outside its values, or e1000emu does"
        )


class _Bar:
    """A bar with the rate, the failures and the time that is left; the first failures above it."""

    def __init__(self, name: str, total: int, had: int, *, shown: bool) -> None:
        self._failed = 0
        self._shown = shown
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[failed]} failed"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._task = self._progress.add_task(name, total=total, completed=had, rate="", failed=0)

    def advance(self, outcome: Outcome) -> None:
        """Count one more."""
        if not outcome.ok:
            self._failed += 1
            if self._shown and self._failed <= SHOWN:
                self._progress.console.print(
                    str(outcome), markup=False, highlight=False, soft_wrap=True
                )
        speed = self._progress.tasks[0].speed
        rate = f"{speed:,.1f}/s" if speed else ""
        self._progress.update(self._task, advance=1, rate=rate, failed=self._failed)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._progress.stop()
