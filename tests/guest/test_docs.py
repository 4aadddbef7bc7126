"""Every command of the documentation that boots a guest."""

from __future__ import annotations

from pathlib import Path

import pytest

from e1000emu.guest import GuestImage
from tests.test_docs import blocks, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("needs", "commands"), blocks(guest=True))
def test_commands_shown_work(
    image: GuestImage, needs: str, commands: list[str], tmp_path: Path
) -> None:
    run(commands, tmp_path, timeout_s=240)


def test_there_are_commands_to_run() -> None:
    assert sum(len(block.values[1]) for block in blocks(guest=True)) >= 2
