"""Every command of the documentation that boots a guest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from e1000emu.guest import GuestImage
from tests.test_docs import blocks, packages, run

pytestmark = [pytest.mark.slow, pytest.mark.every_case]


@pytest.mark.parametrize(("path", "needs", "commands"), blocks(guest=True))
def test_commands_shown_work(
    image: GuestImage,
    path: Path,
    needs: str,
    commands: list[str],
    tmp_path: Path,
    environments: Callable[[frozenset[str]], Path],
) -> None:
    run(commands, tmp_path, environments(packages(path)), timeout_s=240)


def test_there_are_commands_to_run() -> None:
    assert sum(len(block.values[2]) for block in blocks(guest=True)) >= 2
