"""Every frame that the stack sends in these tests is judged by tshark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from stack.host import Host
from tests import judge
from tests.stack.ipv4.net import Net, one_host, udp_socket


@pytest.fixture(scope="module", autouse=True)
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tap the NICs of a module's tests."""
    yield from judge.judge(tmp_path_factory, shutil.which("tshark"))


@pytest.fixture(autouse=True)
def _bad_frames(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave out the tests that mean to send bad frames."""
    judge.Tap.on = request.node.get_closest_marker("sends_bad_frames") is None
    yield
    judge.Tap.on = True


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts on a wire, who leave no sk_buff behind. Files with other wishes have their own."""
    a, b = two_hosts()
    with a, b:
        yield a, b
    for host in (a, b):
        assert host.skb_small.in_use == 0
        assert host.skb_pages.in_use == 0


@pytest.fixture
def a(hosts: tuple[Host, Host]) -> Host:
    """The first of the file's hosts."""
    return hosts[0]


@pytest.fixture
def b(hosts: tuple[Host, Host]) -> Host:
    """The second of the file's hosts."""
    return hosts[1]


@pytest.fixture
def host() -> Iterator[Host]:
    """A host by itself. Files with other wishes have their own."""
    with Host("h", clock=VirtualClock(), drivers=False) as host:
        yield host


@pytest.fixture
def net() -> Net:
    """A host with a recording interface. Files with other wishes have their own."""
    return one_host()


@pytest.fixture
def fd(net: Net) -> int:
    """A UDP descriptor bound to port 5000."""
    return udp_socket(net, 5000)
