"""`python -m scripts.stackc`: its commands, and the page that shows them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import stack
from tests.test_docs import fences

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from stackc.__main__ import main  # noqa: E402
from stackc.overrides import OVERRIDES  # noqa: E402

README = ROOT / "scripts/stackc/README.md"
SHOWN = [
    line[2:]
    for language, _, text in fences(README)
    for line in text.splitlines()
    if language == "console" and line.startswith("$ ")
]


@pytest.mark.skipif(not stack.COMPILED, reason="some look at what a build has written")
@pytest.mark.parametrize("command", SHOWN)
def test_the_commands_of_the_readme_run(command: str) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert not done.stderr


def test_the_readme_is_a_page_and_names_each_command() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 72
    for command in ("fallbacks", "annotate", "overrides", "measure"):
        assert f"python -m scripts.stackc {command}" in text


BODIES = {
    "@mark\ndef f(): pass": "has a decorator",
    "def f(*a): pass": "has a * argument",
    "def f(**a): pass": "has a ** argument",
    "def f(*, a): pass": "has a keyword-only argument",
    "def f(a, /): pass": "has a positional-only argument",
    "async def f(): pass": "is a coroutine",
    "def f():\n    return lambda: 1": "contains a lambda (line 2)",
    "def f():\n    def g(): pass": "contains a function (line 2)",
    "def f(x):\n    return any(i for i in x)": "contains a generator expression (line 2)",
    "def f():\n    yield 1": "contains a yield (line 2)",
    "def f():\n    class A: pass": "contains a class (line 2)",
    "def f(): pass\nf = 1": "its name is bound twice",
    "def f(x: int) -> int: return x": "",
}


@pytest.mark.parametrize(("text", "reason"), BODIES.items(), ids=lambda value: None)
def test_why_a_function_stays_python(
    text: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "stack").mkdir()
    (tmp_path / "stack/one.py").write_text(text + "\n")
    (tmp_path / "stack/two.py").write_text("")
    monkeypatch.setattr("stackc.__main__.ROOT", tmp_path)
    monkeypatch.setattr("stackc.__main__.compiled_modules", lambda: {"stack.one": ""})
    line = 2 if text.startswith("@") else 1
    main(["fallbacks"])
    assert capsys.readouterr().out == (f"stack/one.py:{line}: f {reason}\n" if reason else "")
    main(["fallbacks", "stack.two"])
    reason = "not compiled: no function takes packets"
    assert capsys.readouterr().out == f"stack/two.py: {reason}\n"
    with pytest.raises(SystemExit, match=r"stack\.three: no such module"):
        main(["fallbacks", "stack.three"])


def test_what_stays_python_has_no_c_function() -> None:
    """The list is what the translator did: none of it is in the .pxd, all else is."""
    stays = subprocess.run(
        [sys.executable, "-m", "scripts.stackc", "fallbacks"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for path, name in re.findall(r"^(\S+)\.py:\d+: (\w+) ", stays, re.M):
        declared = ROOT / "build/stackc" / f"{path}.pxd"
        if declared.exists():
            assert not re.search(rf"^cpdef .*\b{name}\(", declared.read_text(), re.M), name


def test_why_a_module_is_not_compiled(capsys: pytest.CaptureFixture[str]) -> None:
    main(["fallbacks", "stack.ipv4.icmp"])
    assert capsys.readouterr().out == "stack/ipv4/icmp.py: not compiled: echo\n"


def test_the_overrides_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    main(["overrides"])
    shown = capsys.readouterr().out
    for row in OVERRIDES:
        assert row.why in shown
        assert row.saves in shown
