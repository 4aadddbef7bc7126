"""Every command that the documentation shows is run, and the generated pages are current."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import require

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^```console *(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# what `make demo` and `make test` do is run by .ci/run itself
ELSEWHERE = ("make ", "git ", "pip ")


def blocks(*, guest: bool = False) -> list:
    """Return (needs, commands) for each console block of README and docs; with `guest` those that
    boot a guest, which tests/guest/test_docs.py runs, else the others."""
    found = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        if not path.exists():
            continue
        for number, match in enumerate(FENCE.finditer(path.read_text())):
            commands = [line[2:] for line in match[2].splitlines() if line.startswith("$ ")]
            name = f"{path.name}-{number}" + f"-{match[1]}" * bool(match[1])
            if guest == (match[1] == "guest"):
                found.append(pytest.param(match[1], commands, id=name))
    return found


@pytest.mark.parametrize(("needs", "commands"), blocks())
def test_commands_shown_work(needs, commands, tmp_path):
    if needs == "root":
        require.root()
        require.tun()
    elif needs == "qemu":
        require.tool("qemu-system-x86_64", "qemu-system-x86")
    elif needs == "passt":
        require.tool("passt")
    run(commands, tmp_path)


def run(commands: list[str], directory: Path, timeout_s: float = 110) -> None:
    """Run a block's commands beside a copy of the examples; each must end with status 0."""
    env = dict(os.environ)
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    shutil.copytree(ROOT / "examples", directory / "examples")
    for line in commands:
        if line.startswith(ELSEWHERE):
            continue
        line = line.replace(".venv/bin/", "")  # the environment that runs this test is on PATH
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=directory,
            env=env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"$ {line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_there_are_commands_to_run():
    assert sum(len(p.values[1]) for p in blocks()) >= 5


def test_generated_pages_are_current():
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
