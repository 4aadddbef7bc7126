"""Messages at random come to the same as on the kernel (messages_at_random.py)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e1000emu.clock import VirtualClock
from fastpath.base import seccomp
from stack.api.programs import spawn
from stack.host import Host
from tests.support import require

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not seccomp.available(), reason="needs Linux's seccomp"),
]
SETUP = """
ip link set lo up
for i in 0 1; do
    ip link add d$i address 02:00:00:00:00:0$i type ifb
    ip link set d$i up multicast on
    ip addr add 10.9.$i.1/24 brd + dev d$i
    ip addr add fd09:$i::1/64 dev d$i nodad
done
echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range
while ip -6 addr | grep -q tentative; do sleep 0.1; done
"""
THEMES = "udp", "udp6", "mapped", "raw", "raw6", "groups", "groups6", "packet", "netlink"
COUNT = 15


def command(theme: str) -> list[str]:
    """A shell's command, for a network that has `lo` only."""
    program = Path(__file__).with_name("messages_at_random.py")
    return ["sh", "-c", f"{SETUP} exec {sys.executable} {program} {theme} 0 {COUNT}"]


@pytest.fixture(scope="module")
def kernel() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The kernel's runs, all at once: they mostly wait."""
    require.netns()
    runs = {
        theme: subprocess.Popen(
            ["unshare", "-n", *command(theme)], stdout=subprocess.PIPE, text=True
        )
        for theme in THEMES
    }
    yield runs
    for run in runs.values():
        run.kill()
        run.communicate()


@pytest.mark.parametrize("theme", THEMES)
def test_messages_come_to_the_same(theme: str, kernel: dict[str, subprocess.Popen[str]]) -> None:
    with (
        Host("solo", clock=VirtualClock()) as host,
        spawn(host, command(theme), stdout=subprocess.PIPE, text=True) as running,
    ):
        said, _ = running.communicate(timeout=200)
    wanted, _ = kernel[theme].communicate(timeout=200)
    assert running.returncode == kernel[theme].returncode == 0
    assert said.splitlines() == wanted.splitlines()
