"""The peers that `bench --peers` adds: each does what its row says, and leaves nothing behind."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
from pathlib import Path

import pytest

from benchmarks.rows import Case, Row, Unavailable, every_row, packaged, peer, pytcp, remote, udp
from benchmarks.rows.ends import (
    kernel_datagrams,
    kernel_stream,
    loopback,
    open_files,
    veth_offloads,
    veth_plain,
)
from stack.socket import AF_INET, AF_INET6
from tests.support import require

FROM_C = [
    row
    for row in every_row()
    if row.extra and row.name.endswith(("_c", "_veth", "_veth_plain")) and row.group != "udp_mmsg"
]


def once(row: Row) -> None:
    """Run the row's work once at its first quick size; it raises when something is lost."""
    case = next(row.cases(quick=True))
    with case.start() as work:
        work.run()


@pytest.mark.netns
@pytest.mark.parametrize("row", FROM_C, ids=lambda row: row.name)
def test_the_kernel_from_c_moves_all_there_is(row: Row) -> None:
    require.netns()
    require.tool("ethtool")
    once(row)


@pytest.mark.netns
@pytest.mark.parametrize("name", ["routes", "neighs"])
def test_the_kernel_takes_a_datagram_over_every_route_and_neighbour(name: str) -> None:
    require.netns()
    row = next(r for r in every_row() if r.name == f"stack__peer__udp_{name}")
    with row.start(f"10{name}") as work:
        work.run()


@pytest.mark.netns
@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
def test_sockets_are_made_in_the_namespaces_and_the_thread_comes_back(family: int) -> None:
    require.netns()
    require.tool("ethtool")
    mine = os.readlink("/proc/thread-self/ns/net")
    for link in (loopback, veth_offloads, veth_plain):
        with link() as ends:
            with ends.a:
                inside = os.readlink("/proc/thread-self/ns/net")
            assert inside != mine
            assert os.readlink("/proc/thread-self/ns/net") == mine
            with kernel_datagrams(ends, family) as (tx, rx):
                tx.send(b"there")
                assert rx.recv(16) == b"there"
            with kernel_stream(ends, family) as (client, server):
                client.send(b"here")
                assert server.recv(16) == b"here"
    assert not list(Path("/run/netns").glob(f"e1000emu-bench-{os.getpid()}-*"))


@pytest.mark.netns
def test_a_plain_veth_pair_has_no_offloads() -> None:
    require.netns()
    require.tool("ethtool")
    for link, expected in ((veth_offloads, "on"), (veth_plain, "off")):
        with link() as ends:
            name = ends.a.name  # type: ignore[attr-defined]
            words = ["ip", "netns", "exec", name, "ethtool", "-k", "veth0"]
            shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        assert f"tcp-segmentation-offload: {expected}" in shown
        assert f"tx-checksumming: {expected}" in shown


def test_lwip_moves_all_there_is() -> None:
    require.header("lwip/lwip/tcp.h", "liblwip-dev")
    for row in packaged.ROWS:
        if row.peer == "lwIP":
            once(row)


@pytest.mark.parametrize("row", [packaged.ROWS[-1], pytcp.trip], ids=["dpdk", "pytcp"])
def test_optional_peers_move_all_there_is_where_they_are(row: Row) -> None:
    if row is pytcp.trip and importlib.util.find_spec("pytcp") is None:
        pytest.skip("PyTCP is not installed; pip install PyTCP")
    if row is not pytcp.trip and not Path("/usr/include/dpdk").exists():
        pytest.skip("libdpdk-dev is not installed")
    once(row)


def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = peer.Package("libnone-dev", "none/none.h", (), ())
    monkeypatch.setitem(peer.PACKAGES, "ring_copy", gone)
    peer.load.cache_clear()
    with pytest.raises(Unavailable, match="libnone-dev is not installed; apt-get install libnone"):
        peer.load("ring_copy")


def test_more_files_than_allowed_are_said_to_be() -> None:
    with pytest.raises(Unavailable, match="open files; this process may have"):
        open_files(1 << 30)


def test_another_process_runs_the_case_and_tells_its_cpu_time() -> None:
    with remote._process(Case(udp.single, "64B")) as (found, timed):
        assert found["amount"] == udp.PACKETS
        assert not found["compiled"]
        assert 0 < timed(1) < 60
    assert {row.name.split("__")[1] for row in remote.ROWS} == {"uncompiled"}


def test_without_root_the_loopback_is_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with loopback() as ends, kernel_datagrams(ends, socket.AF_INET) as (tx, rx):
        tx.send(b"there")
        assert rx.recv(16) == b"there"
    with pytest.raises(Unavailable, match="needs root"), veth_plain():
        pass
