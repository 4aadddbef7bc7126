"""Every command that the documentation shows is run, links lead somewhere, and what is generated is
current."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.support import plain_environment, require

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ASIDE = [ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "scripts/stackc/README.md")]
LINKED = [*PAGES, *ASIDE]

# What `make demo` and `make test` do is run by .ci/run itself; what is activated and installed, the
# environment has that the commands run in.
ELSEWHERE = ("make ", "git ", "pip ", ". .venv/bin/activate")
ACTIVATE = ". .venv/bin/activate"
PIP = re.compile(r"\bpip install ([^`\n]+)")
PROGRAMS = {
    "curl": "curl",
    "ip": "iproute2",
    "ping": "iputils-ping",
    "qemu-system-x86_64": "qemu-system-x86",
    "rustc": "rustc",
    "tshark": "tshark",
}
"""Programs that a page names the Debian package of, when it shows a command of theirs."""

GUEST = "guest"
"""The condition of commands that boot a guest: tests/guest/test_docs.py runs them."""
STAYS = "stays"
"""The condition of commands that serve until Ctrl-C, which comes after a while."""
CONDITIONS = ("", "root", "qemu", "passt", STAYS, GUEST)
"""What may stand behind `console` where a fence opens. In CommonMark the first word there is the
language and the rest is ours: GitHub and the site show a fence with a condition like any other."""


LONG = ("e1000emu campaign run", "pytest benchmarks", "two-tiers.toml")
"""In commands that take ten seconds of a processor."""


def tokens(path: Path) -> list[Token]:
    """Return the page as CommonMark has it: what GitHub and the site make their HTML of."""
    return MarkdownIt("commonmark").enable("table").parse(path.read_text())


def fences(path: Path) -> list[tuple[str, str, str]]:
    """Return (language, condition, text) of each fenced block of a page."""
    found = []
    for token in tokens(path):
        if token.type == "fence":
            language, _, condition = token.info.partition(" ")
            found.append((language, condition.strip(), token.content))
    return found


def packages(path: Path) -> frozenset[str]:
    """Return what a page says to install beside the project itself."""
    words = [word for line in PIP.findall(path.read_text()) for word in shlex.split(line)]
    return frozenset(words) - {"."}


def blocks(*, guest: bool = False) -> list:
    """Return (page, needs, commands) for each console block of README and docs; with `guest` those
    that boot a guest, else the others. Left out are blocks whose commands all stand in others, of
    pages that have no more installed."""
    found: list[Any] = []
    for path in PAGES:
        consoles = [fence for fence in fences(path) if fence[0] == "console"]
        for number, (_, needs, text) in enumerate(consoles):
            commands = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
            name = f"{path.name}-{number}" + f"-{needs}" * bool(needs)
            if guest == (needs == GUEST):
                marks = [pytest.mark.xdist_group(f"docs {path.name}")]
                marks += [pytest.mark.night] * any(word in text for word in LONG)
                found.append(pytest.param(path, needs, commands, id=name, marks=marks))
    installed = {path: packages(path) for path in PAGES}
    for block in sorted(found, key=lambda block: len(block.values[2])):
        page, needs, commands = block.values
        others = [other.values for other in found if other is not block]
        if set(commands) <= {
            line
            for path, same, lines in others
            if same == needs and installed[path] <= installed[page]
            for line in lines
        }:
            found.remove(block)
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_fences_are_fences(path):
    """A fence that is none (not closed, indented as text, run on in a line) ends up in the text."""
    opened = len(re.findall(r"^ *```\S", path.read_text(), re.MULTILINE))
    assert len(fences(path)) == opened
    for language, condition, text in fences(path):
        assert language, f"{path.name}: a fence without a language: {text[:60]!r}"
        assert text.strip(), f"{path.name}: an empty fence"
        assert condition in (CONDITIONS if language == "console" else ("",))
    for token in tokens(path):
        assert token.type != "inline" or "```" not in token.content


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub and the site give to a page's headings."""
    pairs = itertools.pairwise(tokens(path))
    titles = [inside.content for at, inside in pairs if at.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", LINKED, ids=lambda path: path.name)
def test_links_inside_the_repository_lead_somewhere(path):
    for token in tokens(path):
        for part in token.children or ():
            target = str(part.attrGet("href") or part.attrGet("src") or "")
            if not target or re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            there = (path.parent / name) if name else path
            assert there.exists(), f"{path.name}: {target}"
            assert not anchor or anchor in anchors(there), f"{path.name}: {target}"


NAMED = re.compile(
    r"`((?:tests|stack|e1000emu|fastpath|benchmarks|scripts|examples|docs)/[\w/.-]+)`"
)
NO_FILES = ("stack/_state", "stack/_state.pyx", "fastpath/nic/x.pyx", "fastpath/_ref/x.py")
"""Made by the build, or an example of a name."""


@pytest.mark.parametrize("path", LINKED, ids=lambda path: path.name)
def test_files_that_a_page_names_are_there(path):
    for name in NAMED.findall(path.read_text()):
        there = (ROOT / name).exists() or (ROOT / "tests" / name).exists() or name in NO_FILES
        assert there, f"{path.name}: {name}"


def test_the_first_page_links_to_every_other():
    """The sidebar is checked by Sphinx, which warns of a page that is in no table of contents."""
    linked = {
        str(part.attrGet("href")).partition("#")[0]
        for token in tokens(ROOT / "docs" / "index.md")
        for part in token.children or ()
        if part.type == "link_open"
    }
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert pages | {"api/index.md"} <= linked


@contextlib.contextmanager
def own_network() -> Iterator[list[str]]:
    """Yield what is put before a command so that it runs in a network namespace of its own.

    The documentation uses fixed names and addresses, which may be taken on this machine; and what a
    block that fails leaves behind goes with the namespace.
    """
    name = f"e1k-docs-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield ["ip", "netns", "exec", name]
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_says_how_what_it_needs_comes_to_be_there(path):
    text = path.read_text()
    lines = [
        line
        for language, _, body in fences(path)
        for line in body.splitlines()
        if language == "python" or (language == "console" and line.startswith("$ "))
    ]
    needing = next((line for line in lines if not line.startswith("$ make ")), None)
    if needing is not None:
        assert ACTIVATE in text[: text.index(needing)] + needing, f"{needing!r} stands before it"
    commands = "\n".join(line for line in lines if line.startswith("$ "))
    for program, package in PROGRAMS.items():
        if re.search(rf"^\$ (sudo )?{program} ", commands, re.M):
            assert re.search(rf"apt-get install [\w -]*\b{package}\b", text), package


@pytest.mark.timeout(900)  # some measure for half a minute, and machines are busy
@pytest.mark.parametrize(("path", "needs", "commands"), blocks())
def test_commands_shown_work(path, needs, commands, tmp_path, environments):
    programs = environments(packages(path))
    match needs:
        case "":
            pass
        case "stays":
            run(commands, tmp_path, programs, stays=True)
            return
        case "root":
            require.taps()
            with own_network() as inside:
                run(commands, tmp_path, programs, inside=inside)
            return
        case "qemu":
            require.tool("qemu-system-x86_64", "qemu-system-x86")
        case "passt":
            require.tool("passt")
        case _:
            pytest.fail(f"{needs!r} is no condition of a console fence")
    run(commands, tmp_path, programs)


def only(programs: Path) -> dict[str, str]:
    """Return what is in the environment of somebody who has activated that of `programs`."""
    env = plain_environment()
    own = str(Path(sys.executable).parent)
    paths = [path for path in env["PATH"].split(":") if path != own]
    return env | {"PATH": ":".join([str(programs), *paths]), "VIRTUAL_ENV": str(programs.parent)}


def run(
    commands: list[str],
    directory: Path,
    programs: Path,
    timeout_s: float = 600,
    inside: Sequence[str] = (),
    stays: bool = False,
) -> None:
    """Run a block's commands beside copies of the examples and the benchmarks; each must end with
    status 0. The words `inside` stand before each; Python's programs are those of `programs`.
    Those that stay get Ctrl-C once they serve."""
    env = only(programs)
    for name in ("examples", "benchmarks"):
        shutil.copytree(ROOT / name, directory / name)
    for line in commands:
        if line.startswith(ELSEWHERE):
            continue
        with subprocess.Popen(
            [*inside, "bash", "-c", f"exec {line}" if stays else line],
            cwd=directory,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            if stays:
                assert process.stdout is not None
                while not re.search("listening|ready", process.stdout.readline()):
                    assert process.poll() is None, f"$ {line}"
                process.send_signal(signal.SIGINT)
            try:
                out, err = process.communicate(timeout=timeout_s)
            finally:
                process.kill()
        assert process.returncode == 0, f"$ {line}\n{out[-2000:]}\n{err[-2000:]}"


def test_there_are_commands_to_run():
    assert sum(len(p.values[2]) for p in blocks()) >= 5


def test_the_program_of_the_readme_prints_what_the_readme_says(environments, tmp_path):
    readme = fences(ROOT / "README.md")
    (program,) = [text for language, _, text in readme if language == "python"]
    (printed,) = [text for language, _, text in readme if language == "text"]
    (tmp_path / "program.py").write_text(program)
    run(["python program.py >printed"], tmp_path, environments(frozenset()))
    assert (tmp_path / "printed").read_text() == printed
    assert (ROOT / "README.md").read_text().index(program) < 2000, "it stands at the beginning"


def test_four_lines_send_and_receive_without_pytest(environments, tmp_path):
    """The environment has no test packages, and a program needs none."""
    (program,) = [
        t for language, _, t in fences(ROOT / "docs" / "drivers.md") if language == "python"
    ]
    lines = [line for line in program.splitlines() if line and "import" not in line]
    assert len(lines) == 4
    (tmp_path / "program.py").write_text(
        program + "\nimport sys\nassert 'pytest' not in sys.modules\n"
    )
    run(["python program.py >printed"], tmp_path, environments(frozenset()))
    frame = ast.literal_eval((tmp_path / "printed").read_text())
    assert frame == b"\xff" * 6 + b"a broadcast".ljust(54)


def test_the_example_tests_run_in_the_tree(environments):
    """The tree's own settings name plugins that only its tests need."""
    done = subprocess.run(
        ["python", "-m", "pytest", "examples/test_own_driver.py"],
        cwd=ROOT,
        env=only(environments(frozenset({"e1000emu[pytest]"}))),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout.lower(), done.stdout


def test_generated_pages_are_current():
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        # whatever the terminal and the order of sets
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "PYTHONHASHSEED": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_test_that_the_table_of_rfcs_names_exists():
    spec = importlib.util.spec_from_file_location("rfcs", ROOT / "docs" / "rfcs.py")
    rfcs = importlib.util.module_from_spec(spec)
    sys.modules["rfcs"] = rfcs  # dataclasses look their module up
    spec.loader.exec_module(rfcs)
    missing = []
    for rfc in rfcs.load():
        for test in rfc.tests:
            path, _, name = test.partition("::")
            file = ROOT / "tests" / path
            if not file.exists() or not re.search(rf"^ *def {name}\(", file.read_text(), re.M):
                missing.append(f"RFC {rfc.number}: {test}")
    assert missing == []
    assert len(rfcs.load()) > 50
