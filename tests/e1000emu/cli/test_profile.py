"""`e1000emu profile`: scripts run as they would alone, and the report says what it should."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from e1000emu.cli.profile import with_margin
from e1000emu.cli.workloads import WORKLOADS
from stack.tools.profile import Profile
from tests.support import run_to_end

pytestmark = pytest.mark.skipif(
    not Profile.available(), reason="needs Linux and CPython 3.11 to 3.13"
)


def profile(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return run_to_end([sys.executable, "-m", "e1000emu", "profile", *map(str, args)])


@pytest.mark.parametrize("workload", list(WORKLOADS))
def test_every_workload_shows_stack_driver_and_nic(workload):
    done = profile("--workload", workload, "--duration", "100ms", "--interval", "100us", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    layers = {row["name"] for row in report["layers"] if row["ns"]}
    assert {"nic", "driver", "socket"} <= layers
    assert ({"tcp", "udp"} & layers) == {"udp" if workload.startswith("udp") else "tcp"}
    assert report["samples"] > 0
    assert report["overhead_ns"] > 0
    assert 0 <= report["unattributed_ns"] < report["cpu_ns"]


SCRIPT = """
import sys
assert __name__ == "__main__"
print("arguments", sys.argv[1:], sys.path[0])
def busy(x=0):
    for i in range(2_000_000):  # much more than what imports take, however busy the machine
        x += i
busy()
sys.exit(3)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SCRIPT)
    return path


def test_a_script_gets_its_arguments_and_keeps_its_exit_status(script):
    done = profile("--interval", "100us", script, "-x", "--json", "y")
    assert done.returncode == 3
    assert f"arguments ['-x', '--json', 'y'] {script.parent}" in done.stdout
    assert "mine.py: " in done.stdout
    assert "busy" in done.stdout
    assert max(map(len, done.stdout.splitlines()[1:])) <= 80  # the first is the script's


def test_imports_are_left_out_and_told(tmp_path):
    path = tmp_path / "imports.py"
    path.write_text(f"import unittest.mock, xml.dom.minidom, email.mime.text\n{SCRIPT}")
    folded = tmp_path / "x.folded"
    done = profile("--interval", "100us", "-o", folded, path)
    assert "Imports took 0." in done.stdout
    frames = {frame for line in folded.read_text().splitlines() for frame in line.split(";")}
    assert "busy" in {frame.partition(" ")[0] for frame in frames}
    assert not {frame for frame in frames if frame.startswith(("_find_and_load", "exec_module"))}


def test_json_stays_json_when_the_script_prints(script):
    done = profile("--interval", "100us", "--json", script)
    assert "arguments" in done.stderr
    report = json.loads(done.stdout)
    assert report["title"] == "mine.py"
    assert "busy" in {row["name"] for row in report["functions"]}
    assert "Command.invoke" not in {row["name"] for row in report["functions"]}


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("a.svg", ElementTree.fromstring),
        ("a.speedscope.json", lambda text: json.loads(text)["profiles"][0]["samples"]),
        ("a.folded", lambda text: [int(line.rpartition(" ")[2]) for line in text.splitlines()]),
        ("a.json", lambda text: json.loads(text)["layers"]),
        ("a.txt", lambda text: text.index("self ms")),
    ],
)
def test_the_ending_of_the_file_chooses_the_form(script, tmp_path, name, check):
    done = profile("-o", tmp_path / name, script)
    assert "self ms" in done.stdout
    check((tmp_path / name).read_text())


def test_an_exception_of_the_script_is_shown_and_so_is_the_profile(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text("sum(range(10**6))\nraise KeyError('gone')\n")
    done = profile(path)
    assert done.returncode == 1
    assert "KeyError: 'gone'" in done.stderr
    assert "runpy" not in done.stderr
    assert "bad.py: " in done.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "give a SCRIPT or --workload"),
        (("--workload", "udp", "x.py"), "give a SCRIPT or --workload"),
        (("/nonexistent.py",), "/nonexistent.py: no such file"),
        (("--workload", "udp", "--interval", "10us"), "--interval"),
        (("--workload", "tcp-bulk", "--seconds", "5"), "there are: --workload, --duration"),
        (("--its-own", "x.py"), "no option --its-own of ours; a SCRIPT's own stand behind"),
    ],
)
def test_wrong_arguments_end_with_one_line_and_status_2(args, message):
    done = profile(*args)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("value", "margin", "text"),
    [
        (1234.0, 87.0, "1,230 ±90"),
        (1234.0, 412.0, "1,200 ±500"),
        (12.34, 0.052, "12.34 ±0.06"),
        (3.0, 4.0, "3 ±4"),
        (0.0, 0.0, ""),
        (12.6, 0.0, "13"),
    ],
)
def test_no_more_digits_than_the_margin_leaves(value, margin, text):
    assert with_margin(value, margin) == text
