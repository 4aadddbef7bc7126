"""`e1000emu campaign`: run a file's campaign on every processor, or on many machines, and look at
what came of it."""

from __future__ import annotations

import importlib
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from e1000emu.campaign.case import Campaign
from e1000emu.campaign.forkserver import import_file
from e1000emu.campaign.report import Report, replay
from e1000emu.campaign.results import Outcome, Status, read
from e1000emu.campaign.run import run, target_of
from e1000emu.campaign.shrink import shrink
from e1000emu.cli.common import emit_json, report_options
from e1000emu.cli.errors import ArgumentError, CommandError, did_you_mean
from e1000emu.cli.params import OUT_FILE

LISTED = 20
BUILTIN = Path(__file__).parent.parent / "campaign" / "builtin"


def builtin() -> dict[str, Path]:
    """Return the campaigns that come with e1000emu, by name."""
    return {
        path.stem.replace("_", "-"): path
        for path in sorted(BUILTIN.glob("*.py"))
        if not path.stem.startswith("_")
    }


def _path(given: str) -> Path:
    path = Path(given)
    if path.suffix == ".py":
        if path.is_file():
            return path
        raise ArgumentError(f"{given}: there is no such file")
    known = builtin()
    if given not in known:
        near = did_you_mean(given, known)
        raise ArgumentError(f"{given!r} is neither FILE.py nor one of {', '.join(known)}{near}")
    return known[given]


def _module(path: Path) -> ModuleType:
    """Import a file under the name that the workers give it too."""
    if path.parent == BUILTIN:
        return importlib.import_module(f"e1000emu.campaign.builtin.{path.stem}")
    return import_file(path.resolve(), sha256(path.read_bytes()).hexdigest())


def load(given: str) -> Campaign:
    """Return the campaign of FILE.py, or FILE.py:NAME where it has several.

    Raises: ArgumentError; what the file raises when it is imported.
    """
    file, colon, name = given.partition(":")
    path = _path(file)
    module = _module(path)
    found = {k: v for k, v in vars(module).items() if isinstance(v, Campaign)}
    if name and name not in found:
        raise ArgumentError(
            f"{path} has no campaign {name!r}; it has: {', '.join(found) or 'none'}"
        )
    if not name and len(found) != 1:
        which = f"several: write {path}:NAME with one of {', '.join(found)}"
        raise ArgumentError(f"{path} has {which if found else 'no Campaign at its top level'}")
    campaign = found[name] if colon else next(iter(found.values()))
    if campaign.function is None:
        campaign.function = getattr(module, "case", None)
    return campaign


class Names(click.ParamType):
    """FILE.py, FILE.py:NAME, or a campaign that comes with e1000emu."""

    name = "FILE"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[Any]:
        """Offer the names; the shell offers files."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(n) for n in builtin() if n.startswith(incomplete)]


file_argument = click.argument("file", type=Names())
results_option = click.option(
    "--results",
    type=OUT_FILE,
    help="File of the results; the campaign's name with .jsonl by default.",
)


def _report(file: str, results: Path | None) -> Report:
    """Return the report of a file of results, or of a campaign's."""
    if file.endswith(".jsonl"):
        header, outcomes = read(file)
        return Report(header, outcomes, path=Path(file))
    campaign = load(file)
    path = Path(results or f"{campaign.name}.jsonl")
    header, outcomes = read(path)
    target = target_of(campaign, None)
    return Report(header, outcomes, campaign=campaign, target=target, path=path)


def _summary(report: Report) -> dict[str, Any]:
    return {
        "campaign": report.header.campaign,
        "cases": report.header.cases,
        "done": len(report.outcomes),
        **{status: report.counts[status] for status in Status},
        "confirmed": report.confirmed,
        "file": str(report.path),
    }


def _tell_failures(failures: list[Outcome], file: str) -> None:
    for outcome in failures[:LISTED]:
        click.echo(f"  {outcome}")
    if len(failures) > LISTED:
        click.echo(f"  and {len(failures) - LISTED:,} more")
    if failures:
        click.echo(f"see one: e1000emu campaign replay {file} --case {failures[0].number}")


@click.group()
def command() -> None:
    """Run one function over every combination of some axes: models, faults, seeds, drivers.

    FILE.py has a Campaign at its top level and a case function; docs/beyond.md builds one step by
    step. Every case runs in a process of its own, so crashes and hangs are results.
    """


@command.command("run")
@file_argument
@click.option(
    "--executor",
    default="processes",
    metavar="WHERE",
    help="Where cases run: processes, processes:N, dask://HOST:PORT, or mpi.",
)
@click.option(
    "--first",
    type=click.IntRange(1),
    metavar="N",
    help="Run at most N of the cases that have no result yet.",
)
@results_option
@report_options
def run_command(
    file: str, executor: str, first: int | None, results: Path | None, as_json: bool
) -> None:
    """Run the cases that have no result yet; Ctrl-C stops, and the same command goes on.

    Workers import FILE.py and run what stands in it.
    """
    campaign = load(file)
    path = Path(results or f"{campaign.name}.jsonl")
    try:
        report = run(campaign, executor=executor, results=path, first=first)
    except KeyboardInterrupt:
        done = f"{Report(*read(path))}; {path} has them" if path.exists() else "nothing ran"
        raise CommandError(f"stopped: {done}; the same command goes on", 130) from None
    if as_json:
        emit_json(_summary(report))
    else:
        click.echo(f"{report}; {path}")
        _tell_failures(report.failures, file)
    if report.failures:
        raise CommandError(f"{len(report.failures):,} of {len(report.outcomes):,} failed", 1)


@command.command("status")
@file_argument
@results_option
@report_options
def status_command(file: str, results: Path | None, as_json: bool) -> None:
    """Say how far a campaign is, also while it runs. FILE: the case file, or its .jsonl."""
    report = _report(file, results)
    if as_json:
        emit_json(_summary(report))
        return
    click.echo(str(report))
    _tell_failures(report.failures, file)


@command.command("report")
@file_argument
@click.option(
    "--rows",
    default="",
    show_default=False,
    help="Axis of the rows; with --columns, print a matrix of what passed.",
)
@click.option("--columns", default="", show_default=False, help="Axis of the columns.")
@click.option("--html", "page", type=OUT_FILE, help="Write one self-contained HTML page.")
@click.option("--parquet", type=OUT_FILE, help="Write a Parquet table (needs pyarrow).")
@results_option
@report_options
def report_command(
    file: str,
    rows: str,
    columns: str,
    page: Path | None,
    parquet: Path | None,
    results: Path | None,
    as_json: bool,
) -> None:
    """Show what passed: a matrix over two axes, a page, a table. FILE: the case file or .jsonl."""
    if bool(rows) != bool(columns):
        raise ArgumentError("--rows and --columns go together: give two axes")
    report = _report(file, results)
    if as_json:
        emit_json(report.rows())
    else:
        click.echo(str(report))
        if rows:
            click.echo(str(report.matrix(rows, columns)))
    if page is not None:
        page.write_text(report.html(rows, columns), encoding="utf-8")
    if parquet is not None:
        report.parquet(parquet)


@command.command("replay")
@file_argument
@click.option(
    "--case", "number", type=int, help="Number of the case; the first failure by default."
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory for recordings, captures and explain.txt; CAMPAIGN-case-NUMBER by default.",
)
@click.option("--shrink", "smaller", is_flag=True, help="First find the smallest such failure.")
@results_option
@report_options
def replay_command(
    file: str,
    number: int | None,
    directory: Path | None,
    smaller: bool,
    results: Path | None,
    as_json: bool,
) -> None:
    """Run one case here, with recordings, captures and what the NICs have to say.

    Exits with 1 if it fails again.
    """
    campaign = load(file)
    target = target_of(campaign, None)
    if number is None:
        case = _report(file, results).first_failure().case
    else:
        found = next((c for c in campaign if c.number == number), None)
        if found is None:
            raise ArgumentError(f"campaign {campaign.name} has no case {number}")
        case = found
    if smaller:
        case, _ = shrink(target, case, campaign, told=lambda c: click.echo(f"  {c}", err=True))
    where = directory or Path(f"{campaign.name}-case-{case.number}")
    done = replay(target, case, campaign, where)
    if as_json:
        answer = done.answer
        emit_json({"case": str(case), "status": answer.status, "signal": answer.signal,
                   "text": answer.text, "told": answer.told, "digest": answer.digest,
                   "directory": str(where)})  # fmt: skip
    else:
        click.echo(str(done))
    if done.answer.status != "passed":
        raise CommandError(f"case {case.number} {done.answer.status}", 1)
