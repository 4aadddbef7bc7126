"""Two ranks of MPI do what one process does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e1000emu.errors import E1000Error
from e1000emu.parallel import simulate
from tests.e1000emu.campaign.processes import wait_gone
from tests.e1000emu.campaign.test_cluster import BIN, package
from tests.e1000emu.parallel import networks
from tests.support import missing, run_to_end

ROOT = Path(__file__).parents[3]
END = {"until_ns": 20_000_000_000, "check_ns": 1_000_000_000}
PROGRAM = f"""
import json, sys
from e1000emu.parallel import simulate
from tests.e1000emu.parallel import networks
from mpi4py import MPI
outcome = simulate(networks.dying, sys.argv[1], mpi=True, seed=7, capture="ranks.pcapng", **{END})
with open(f"digest-{{MPI.COMM_WORLD.rank}}", "w") as file:
    json.dump([len(outcome.done), outcome.digest], file)
"""


def mpiexec(how: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the program on two ranks; nothing of it may be left."""
    package("mpi4py")
    if not (BIN / "mpiexec").exists():  # of the package mpich
        missing("needs mpiexec", "pip install 'e1000emu[test]'")
    mark = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    done = run_to_end(
        [BIN / "mpiexec", "-n", "2", sys.executable, "-c", PROGRAM, how],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "E1000EMU_TEST_MARK": mark},
    )
    assert not wait_gone(mark)
    return done


def test_two_ranks_do_the_same(tmp_path: Path) -> None:
    done = mpiexec("", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    alone = simulate(networks.dying, "", seed=7, capture=tmp_path / "alone.pcapng", **END)
    for rank in range(2):
        assert json.loads((tmp_path / f"digest-{rank}").read_text()) == [2, alone.digest]
    frames = (tmp_path / "ranks.pcapng").read_bytes()
    assert frames == (tmp_path / "alone.pcapng").read_bytes()


def test_an_exception_ends_all_ranks(tmp_path: Path) -> None:
    done = mpiexec("raise", tmp_path)
    assert done.returncode
    assert 'raise RuntimeError("it rains")' in done.stderr
    assert "of 2 (" in done.stderr
    assert "seed 7): client3 at 3" in done.stderr


def test_a_rank_that_dies_ends_the_other(tmp_path: Path) -> None:
    done = mpiexec("kill", tmp_path)
    assert done.returncode


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(E1000Error, match=r"pip install 'e1000emu\[mpi\]'"):
        simulate(networks.nothing, mpi=True, until_ns=1)
