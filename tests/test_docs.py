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


def blocks() -> list:
    """Return (file, needs, commands) for each console block of README and docs."""
    found = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        if not path.exists():
            continue
        for number, match in enumerate(FENCE.finditer(path.read_text())):
            commands = [line[2:] for line in match[2].splitlines() if line.startswith("$ ")]
            name = f"{path.name}-{number}" + f"-{match[1]}" * bool(match[1])
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
    elif needs == "guest" and os.environ.get("E1000EMU_TEST_GUEST", "0") == "0":
        pytest.skip("boots a guest; run: make test-guest")
    env = dict(os.environ)
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for line in commands:
        if line.startswith(ELSEWHERE):
            continue
        line = line.replace(".venv/bin/", "")  # the environment that runs this test is on PATH
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=110,
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
