"""/proc/sys/net of a host: every file is read as Linux shows it, and takes what it shows.

`tests/programs/test_iproute.py` compares it with the kernel's, through Debian's sysctl.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from stack.api import net_procsys
from stack.host import Host
from stack.net import Net
from stack.sysctl import SysctlError

OURS = {"ipv4/tcp_comp_sack_rtt_percent", "vrf/strict_mode"}
"""Newer than some kernels, or of a module that may not be loaded."""


@pytest.fixture
def host() -> Iterator[Host]:
    a, b = two_hosts(VirtualClock())
    with a, b:
        yield a


def files(net: Net, path: str = "") -> Iterator[str]:
    inside = net_procsys.names(net, path)
    if inside is None:
        yield path
    else:
        for name in inside:
            yield from files(net, os.path.join(path, name))


@pytest.mark.filterwarnings("ignore:sysctl net.*:UserWarning")
def test_every_file_takes_what_it_shows(host: Host) -> None:
    found = list(files(host))
    assert len(found) == len(set(found)) > 400
    written = 0
    for path in found:
        if net_procsys.mode(host, path) == 0o200 or path.endswith("stable_secret"):
            continue
        text = net_procsys.show(host, path)
        assert text.endswith("\n")
        assert "frozenset" not in text
        if net_procsys.mode(host, path) & 0o200:
            net_procsys.store(host, path, text)
            assert net_procsys.show(host, path) == text, path
            written += 1
    assert written > 400


def test_names_are_linuxs(host: Host) -> None:
    """But for interfaces, which this machine has others of."""
    root = Path(net_procsys.ROOT)
    kernel = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    ours = {path for path in files(host) if "/eth0/" not in path and "netfilter" not in path}
    assert ours - kernel <= OURS


def test_what_cannot_be_read(host: Host) -> None:
    for path, wrong in (
        ("ipv4/route/flush", errno.EACCES),
        ("ipv6/conf/all/stable_secret", errno.EIO),
    ):
        with pytest.raises(OSError, match=path) as caught:
            net_procsys.show(host, path)
        assert caught.value.errno == wrong
    net_procsys.store(host, "ipv4/route/flush", "1\n")
    assert net_procsys.mode(host, "ipv6/route/flush") == 0o200


def test_an_interface_all_and_default_are_three_settings(host: Host) -> None:
    net_procsys.store(host, "ipv4/conf/all/rp_filter", "2\n")
    net_procsys.store(host, "ipv4/conf/default/rp_filter", "1\n")
    net_procsys.store(host, "ipv4/conf/eth0/forwarding", "1")
    for path, shown in {
        "ipv4/conf/all/rp_filter": 2,
        "ipv4/conf/default/rp_filter": 1,
        "ipv4/conf/eth0/rp_filter": 0,
        "ipv4/conf/eth0/forwarding": 1,
        "ipv4/ip_forward": 0,
    }.items():
        assert net_procsys.show(host, path) == f"{shown}\n", path
    net_procsys.store(host, "ipv6/conf/eth0/forwarding", "1")
    assert host.sysctl["net.ipv6.conf.eth0.forwarding"] == 1


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("ipv4/nothing", errno.ENOENT),
        ("ipv4/conf/eth9/rp_filter", errno.ENOENT),
        ("ipv6/conf/eth9/forwarding", errno.ENOENT),
        ("ipv4/conf/eth0/nothing", errno.ENOENT),
        ("ipv4/tcp_sack/", errno.ENOENT),
        ("ipv4", errno.EISDIR),
        ("ipv4/conf/eth0", errno.EISDIR),
        ("", errno.EISDIR),
    ],
)
def test_what_is_no_file(host: Host, path: str, wrong: int) -> None:
    for tried in (
        lambda: net_procsys.show(host, path),
        lambda: net_procsys.store(host, path, "1"),
        lambda: net_procsys.mode(host, path),
    ):
        with pytest.raises(OSError, match="/proc/sys/net") as caught:
            tried()
        assert caught.value.errno == wrong


def test_who_may_write_and_what(host: Host) -> None:
    with pytest.raises(SysctlError, match="tcp_sack") as bad:
        net_procsys.store(host, "ipv4/tcp_sack", "yes")
    assert bad.value.errno == errno.EINVAL
    assert net_procsys.mode(host, "ipv4/conf/all/mc_forwarding") == 0o444
    with pytest.raises(SysctlError) as bad:
        net_procsys.store(host, "ipv4/conf/all/mc_forwarding", "1")
    assert bad.value.errno == errno.EACCES
    host.uid = 1000
    with pytest.raises(OSError, match="root") as refused:
        net_procsys.store(host, "ipv4/tcp_sack", "0")
    assert refused.value.errno == errno.EPERM
    assert host.sysctl.tcp_sack == 1
