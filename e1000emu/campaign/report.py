"""Reports of campaigns: counts, a matrix over two axes, tables, and failures to replay."""

from __future__ import annotations

import html
import os
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from e1000emu.campaign.case import Campaign, Case
from e1000emu.campaign.forkserver import Answer, Target
from e1000emu.campaign.results import CampaignError, Header, Outcome, Status, differing, latest
from e1000emu.campaign.worker import end_servers, run_case
from e1000emu.errors import ArgumentError, E1000Error
from fastpath.errors import did_you_mean

if TYPE_CHECKING:
    import pyarrow

LISTED = 50
"""How many failures a page lists."""


class Replay(msgspec.Struct):
    """A case that was run here."""

    outcome: str
    directory: Path
    """Has the recordings (.rec), captures (.pcapng), explain.txt and output.txt."""
    answer: Answer

    def __str__(self) -> str:
        lines = [f"{self.outcome}: {self.answer.status} {self.answer.signal}".rstrip()]
        lines += self.answer.text.splitlines()
        lines += self.answer.told
        lines += [f"{path}" for path in sorted(self.directory.iterdir())]
        return "\n".join(lines)


def replay(target: Target, case: Case, campaign: Campaign, directory: Path) -> Replay:
    """Run a case in a child process, with recordings, captures and explanations in `directory`.

    Raises: CampaignError, the case file cannot be loaded; OSError.
    """
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        answer = run_case(target, pickle.dumps(case), campaign.limits, directory=str(directory))
    finally:
        end_servers()  # what they have imported may change before the next
    if answer.status == "unusable":
        raise CampaignError(f"campaign {campaign.name}: {answer.text}")
    (directory / "output.txt").write_text(answer.output, encoding="utf-8")
    return Replay(repr(case), directory, answer)


class Failure:
    """One case that did not pass."""

    def __init__(self, outcome: Outcome, case: Case, target: Target, campaign: Campaign) -> None:
        self.outcome = outcome
        self.case = case
        self._target = target
        self._campaign = campaign

    def __repr__(self) -> str:
        return str(self.outcome)

    def replay(self, directory: str | os.PathLike[str] | None = None) -> Replay:
        """Run it here, with recordings, captures and explanations in `directory`.

        By default CAMPAIGN-case-NUMBER in the current directory.
        """
        name = f"{self._campaign.name}-case-{self.case.number}"
        return replay(self._target, self.case, self._campaign, Path(directory or name))

    def shrink(self, **options: Any) -> Failure:
        """Return the smallest case found that fails in the same way (`shrink`)."""
        from e1000emu.campaign.shrink import shrink

        case, outcome = shrink(self._target, self.case, self._campaign, **options)
        return Failure(outcome, case, self._target, self._campaign)


class Report:
    """The results of a campaign, of this run and of earlier ones."""

    def __init__(
        self,
        header: Header,
        outcomes: Sequence[Outcome],
        *,
        campaign: Campaign | None = None,
        target: Target | None = None,
        path: Path | None = None,
    ) -> None:
        self.header = header
        self.path = path
        current = [outcome for outcome in outcomes if outcome.source == header.run]
        self.older = len(outcomes) - len(current)
        """Number of results of another program or case file, which are not counted."""
        self.differing = differing(current)
        """Cases that ran twice with different results: both results."""
        self.confirmed = sum(outcome.again for outcome in current) - len(self.differing)
        """Number of cases that ran twice with the same result."""
        by_number = {outcome.number: outcome for outcome in latest(current).values()}
        self.outcomes = [by_number[number] for number in sorted(by_number)]
        self._campaign = campaign
        self._target = target

    @property
    def counts(self) -> Counter[str]:
        """How many cases ended in which way."""
        return Counter(str(outcome.status) for outcome in self.outcomes)

    @property
    def ok(self) -> bool:
        """Whether every case ran and passed, and did the same twice where it ran twice."""
        return self.counts[Status.PASSED] == self.header.cases and not self.differing

    @property
    def failures(self) -> list[Outcome]:
        """Cases that did not pass."""
        return [outcome for outcome in self.outcomes if not outcome.ok]

    def __str__(self) -> str:
        ran = len(self.outcomes)
        said = ", ".join(f"{n:,} {status}" for status, n in self.counts.most_common())
        again = f"; {self.confirmed:,} ran twice and did the same" if self.confirmed else ""
        if self.differing:
            again += f"; {len(self.differing):,} ran twice and did not do the same"
        of = f" of {self.header.cases:,}" if ran != self.header.cases else ""
        return f"{self.header.campaign}: {ran:,}{of} cases: {said or 'none ran'}{again}"

    def first_failure(self) -> Failure:
        """Return the failure with the lowest number.

        Raises: CampaignError, there is none, or the report was read without its case file.
        """
        for outcome in self.failures:
            return self.failure(outcome.number)
        raise CampaignError(f"{self.header.campaign}: nothing failed")

    def failure(self, number: int) -> Failure:
        """Return case `number`, which can be replayed whether it failed or not."""
        if self._campaign is None or self._target is None:
            raise CampaignError(
                f"{self.header.campaign}: a replay needs the case file; "
                "run: e1000emu campaign replay FILE.py"
            )
        outcome = next((o for o in self.outcomes if o.number == number), None)
        case = next((c for c in self._campaign if c.number == number), None)
        if outcome is None or case is None:
            raise CampaignError(f"{self.header.campaign}: there is no result of case {number}")
        return Failure(outcome, case, self._target, self._campaign)

    def matrix(self, rows: str, columns: str) -> Matrix:
        """Return how many cases passed for each pair of values of two axes.  Raises:
        ArgumentError."""
        for axis in (rows, columns):
            if axis not in self.header.axes:
                known = ", ".join(self.header.axes)
                near = did_you_mean(axis, self.header.axes)
                raise ArgumentError(f"matrix: no axis {axis!r}; there are: {known}{near}")
        return Matrix(self, rows, columns)

    # --- tables ------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping for each case: axes, status, times, and `figure NAME` of each."""
        return [
            {
                "case": o.number,
                **o.values,
                "status": str(o.status),
                "text": o.text,
                "seconds": o.seconds,
                "cpu_seconds": o.cpu_seconds,
                "memory_bytes": o.memory_bytes,
                **{f"figure {name}": value for name, value in o.figures.items()},
                **{f"digest {name}": value for name, value in o.digest.items()},
            }
            for o in self.outcomes
        ]

    def arrow(self) -> pyarrow.Table:
        """Return `rows` as an Arrow table.  Raises: E1000Error, pyarrow is not installed."""
        try:
            import pyarrow
        except ImportError:
            raise E1000Error(
                "tables need pyarrow, which is not installed; run: pip install 'e1000emu[cluster]'"
            ) from None
        found = self.rows()
        names = list(dict.fromkeys(name for row in found for name in row))
        return pyarrow.table({name: _column([row.get(name) for row in found]) for name in names})

    def parquet(self, path: str | os.PathLike[str]) -> None:
        """Write `arrow` to a file."""
        table = self.arrow()
        from pyarrow import parquet

        parquet.write_table(table, os.fspath(path))

    def html(self, rows: str = "", columns: str = "") -> str:
        """Return a self-contained HTML page: counts, a matrix, failures.

        `rows` and `columns` name the matrix's axes; by default the first two.
        """
        axes = self.header.axes
        parts = [f"<h1>{html.escape(self.header.campaign)}</h1>"]
        parts.append(f"<p>{html.escape(str(self))}.</p>")
        head = self.header
        parts.append(
            f"<p>e1000emu {html.escape(head.release)} {html.escape(head.commit)}, program "
            f"{head.program}; digests of frames, counters, registers and virtual time.</p>"
        )
        first, second, *_ = *axes, "", ""
        if rows or columns or second:
            parts.append(self.matrix(rows or first, columns or second).table_html())
        if self.failures:
            parts.append(f"<h2>Failures: {len(self.failures):,}</h2><ul>")
            for outcome in self.failures[:LISTED]:
                more = "\n".join([outcome.text, *outcome.told, outcome.output]).strip()
                parts.append(
                    f"<li><details><summary>{html.escape(str(outcome))}</summary>"
                    f"<pre>{html.escape(more)}</pre></details></li>"
                )
            parts.append("</ul>")
            if len(self.failures) > LISTED:
                parts.append(f"<p>and {len(self.failures) - LISTED:,} more.</p>")
        return PAGE.format(title=html.escape(head.campaign), body="\n".join(parts))


class Matrix:
    """Cases that passed, and all, for each pair of values: arrays of shape (rows, columns)."""

    def __init__(self, report: Report, rows: str, columns: str) -> None:
        self.axes = (rows, columns)
        self.rows = list(dict.fromkeys(o.values[rows] for o in report.outcomes))
        self.columns = list(dict.fromkeys(o.values[columns] for o in report.outcomes))
        self.passed = np.zeros((len(self.rows), len(self.columns)), np.int64)
        self.total = np.zeros_like(self.passed)
        row = {value: i for i, value in enumerate(self.rows)}
        column = {value: i for i, value in enumerate(self.columns)}
        for outcome in report.outcomes:
            at = row[outcome.values[rows]], column[outcome.values[columns]]
            self.total[at] += 1
            self.passed[at] += outcome.ok

    def numpy(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the share that passed, NaN where there is no case."""
        with np.errstate(invalid="ignore"):
            share: np.ndarray[Any, np.dtype[np.float64]] = self.passed / self.total
        return share

    def arrow(self) -> pyarrow.Table:
        """Return one row for each pair: both values, passed, total."""
        import pyarrow

        pairs = [(i, j) for i in range(len(self.rows)) for j in range(len(self.columns))]
        return pyarrow.table(
            {
                self.axes[0]: [self.rows[i] for i, _ in pairs],
                self.axes[1]: [self.columns[j] for _, j in pairs],
                "passed": [int(self.passed[pair]) for pair in pairs],
                "total": [int(self.total[pair]) for pair in pairs],
            }
        )

    def _cells(self, write: Callable[[int, int], str]) -> list[list[str]]:
        return [
            [write(int(p), int(t)) for p, t in zip(passed, total, strict=True)]
            for passed, total in zip(self.passed, self.total, strict=True)
        ]

    def __str__(self) -> str:
        cells = self._cells(lambda passed, total: f"{passed}/{total}" if total else "")
        lines = [["", *self.columns]]
        lines += [[name, *row] for name, row in zip(self.rows, cells, strict=True)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        return "\n".join(
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    def table_html(self) -> str:
        """Return the matrix as an HTML table."""

        def write(passed: int, total: int) -> str:
            if not total:
                return "<td></td>"
            kind = "all" if passed == total else "none" if passed == 0 else "some"
            return f'<td class="{kind}">{passed:,} of {total:,}</td>'

        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(
            f"<tr><th>{html.escape(name)}</th>{''.join(row)}</tr>"
            for name, row in zip(self.rows, self._cells(write), strict=True)
        )
        corner = html.escape(" \\ ".join(self.axes))
        return f"<table><tr><th>{corner}</th>{head}</tr>{body}</table>"


def _column(values: list[Any]) -> list[Any]:
    """Return the values with one type: all numbers ("nan" is one), or all text."""
    texts = {value for value in values if isinstance(value, str)}
    if texts - {"nan", "inf", "-inf"}:
        return [None if value is None else str(value) for value in values]
    if texts or any(isinstance(value, float) for value in values):
        return [None if value is None else float(value) for value in values]
    return values


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem }}
table {{ border-collapse: collapse; display: block; overflow-x: auto }}
th, td {{ border: 1px solid #ccc; padding: .2rem .6rem; text-align: left }}
td.all {{ background: #d9f2dc }} td.some {{ background: #fff0c2 }} td.none {{ background: #f7d0cc }}
pre {{ background: #f5f5f5; overflow-x: auto; padding: .5rem }}
</style></head><body>
{body}
</body></html>
"""
