"""Our host and our commands on a TAP with dnsmasq behind it: leases, advertisements, names."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e1000emu.clock import RealClock
from e1000emu.lab import add_nic
from e1000emu.links import Capture, Tap
from stack.clients.dhcp4_request import Dhcp4Config
from stack.host import Host
from stack.services.run_dhcp4 import Dhcp4Runner
from stack.services.run_dhcp6 import Dhcp6Runner
from stack.socket import SOCK_STREAM, getaddrinfo, gethostbyname, getnameinfo
from tests.linux.dnsmasq import SERVER4, SERVER6, Dnsmasq
from tests.linux.peer import Peer, judged
from tests.support import eventually, kept, require

pytestmark = pytest.mark.netns

SECOND = 1_000_000_000


@dataclass
class Lan:
    """A namespace with a TAP and dnsmasq on it; the other end of the TAP is free."""

    peer: Peer
    tap: str
    server: Dnsmasq


@pytest.fixture(scope="module")
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lan]:
    require.taps()
    require.tool("dnsmasq", "dnsmasq-base")
    with ExitStack() as stack:
        peer = kept(stack, Peer())
        name = peer.tap_name
        # made to stay, so that one program after the other can open it
        peer.ip("tuntap", "add", name, "mode", "tap")
        for word in ("accept_dad=0", "disable_ipv6=0"):
            key, value = word.split("=")
            peer.run("sh", "-c", f"echo {value} >/proc/sys/net/ipv6/conf/{name}/{key}")
        peer.ip("link", "set", "lo", "up")
        peer.ip("link", "set", name, "up")
        peer.ip("addr", "add", f"{SERVER4}/24", "dev", name)
        peer.ip("addr", "add", f"{SERVER6}/64", "dev", name, "nodad")
        peer.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
        server = stack.enter_context(
            Dnsmasq(
                peer,
                name,
                tmp_path_factory.mktemp("dnsmasq"),
                "--enable-ra",
                "--ra-param=*,low,10,600",
            )
        )
        yield Lan(peer, name, server)


def inside(lan: Lan, fn: Callable[[], Any]) -> Any:
    """Call `fn()` in a thread that lives in the namespace: a TAP is opened there."""
    import threading

    from tests.linux.peer import _setns

    made: list[Any] = []

    def main() -> None:
        try:
            _setns(f"/run/netns/{lan.peer.name}")
            made.append(fn())
        except BaseException as error:
            made.append(error)

    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
    if isinstance(made[0], BaseException):
        raise made[0]
    return made[0]


@pytest.fixture
def host(lan: Lan, tmp_path: Path) -> Iterator[Host]:
    """A host of ours without an address; tshark judges all that crosses its TAP."""
    path = tmp_path / "lan.pcapng"
    with ExitStack() as stack:
        clock = kept(stack, RealClock())
        tap = kept(stack, inside(lan, lambda: Tap(lan.tap, clock)))
        link = Capture(tap, path)
        stack.callback(link.writer.close)
        clock.start()
        stack.callback(clock.stop)
        made = kept(stack, Host(name="ours", clock=clock, seed=4))
        add_nic(made, link)
        yield made
    if require.tool("tshark"):
        assert list(judged(path)) == []


def test_dhcp4_then_names_and_ping(lan: Lan, host: Host) -> None:
    client = Dhcp4Runner(host, host.dev("eth0"), config=Dhcp4Config(probes=1, hostname="ours"))
    client.start()
    assert client.wait(30 * SECOND)
    assert client.lease is not None
    address = str(ipaddress.IPv4Address(client.lease.address))
    assert lan.peer.run("ping", "-c", "1", "-W", "5", address).returncode == 0
    assert gethostbyname(host, "seven") == "10.9.0.7"
    assert len(getaddrinfo(host, "many.lan", 80, 0, SOCK_STREAM)) == 119  # by TCP
    assert getnameinfo(host, ("10.9.0.7", 80), 0) == ("seven.lan", "http")
    client.stop()
    eventually(lambda: f"DHCPRELEASE({lan.tap}) {address}" in lan.server.log(), "the release")


def test_address_of_the_kernel_is_declined(lan: Lan, host: Host) -> None:
    # Unicast, the server's kernel would keep the offer: the address that it offers is its own.
    config = Dhcp4Config(probes=1, decline_pause_s=0, broadcast=True)
    client = Dhcp4Runner(host, host.dev("eth0"), config=config)
    client.start()
    assert client.wait(30 * SECOND)
    assert client.lease is not None
    taken = client.lease.address
    client.stop(release=False)
    lan.peer.ip("addr", "add", f"{ipaddress.IPv4Address(taken)}/24", "dev", lan.tap)
    try:
        client.start()
        assert client.wait(60 * SECOND)
        assert client.lease is not None
        assert client.lease.address != taken
        assert "DHCPDECLINE" in lan.server.log()
    finally:
        lan.peer.ip("addr", "del", f"{ipaddress.IPv4Address(taken)}/24", "dev", lan.tap)
    client.stop()


def test_dhcp6_then_names_over_ipv6(lan: Lan, host: Host) -> None:
    client = Dhcp6Runner(host, host.dev("eth0"))
    client.start()
    assert client.wait(30 * SECOND)
    assert client.lease is not None
    address = str(ipaddress.IPv6Address(client.lease.addresses[0].address))
    assert host.names.current.servers[0].addr == int(ipaddress.IPv6Address(SERVER6))
    # dnsmasq's advertisement makes the way back: the prefix is on the link
    eventually(lambda: _has_route(host), "dnsmasq's advertisement")
    rows = getaddrinfo(host, "six", 80, 0, SOCK_STREAM)
    assert [row[4][0] for row in rows] == ["fd09::8"]
    assert lan.peer.run("ping", "-6", "-c", "1", "-W", "5", address).returncode == 0
    client.stop()
    told = lan.server.log
    eventually(lambda: "DHCPRELEASE" in told() and address in told(), "the release")


def _has_route(host: Host) -> bool:
    with host.socket(10, 2) as probe:
        try:
            probe.connect((SERVER6, 9))
        except OSError:
            return False
    return True


# --- the commands ---------------------------------------------------------------------------------


def command(lan: Lan, *words: str) -> list[str]:
    return ["ip", "netns", "exec", lan.peer.name, sys.executable, "-m", "e1000emu", *words]


def test_up_with_dhcp_and_slaac_is_there_for_others_and_gives_its_lease_back(lan: Lan) -> None:
    words = command(lan, "up", "--link", f"tap:{lan.tap}", "--dhcp", "--slaac",
                    "--serve", "http:80", "--json")  # fmt: skip
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout is not None
            ready = json.loads(run.stdout.readline() or "{}")
            assert ready.get("event") == "ready", run.communicate()
            versions = [ipaddress.ip_interface(a).version for a in ready["addrs"]]
            assert set(versions) == {4, 6}
            for address in ready["addrs"]:
                ip = ipaddress.ip_interface(address).ip
                url = f"http://{ip}/" if ip.version == 4 else f"http://[{ip}]/"
                page = lan.peer.run("curl", "-s", "-m", "20", url)
                assert b"e1000emu" in page.stdout
        finally:
            run.send_signal(signal.SIGINT)
            _, errors = run.communicate(timeout=60)
    told = re.compile(r"e1000emu: --(dhcp|slaac): (waiting for|eth0 has) .* \(\d+s( of 30s)?\)")
    assert all(told.fullmatch(line) for line in errors.splitlines()), errors
    four = next(a for a in ready["addrs"] if ":" not in a).partition("/")[0]
    eventually(lambda: f"DHCPRELEASE({lan.tap}) {four}" in lan.server.log(), "the release")


def test_ping_and_get_by_name(lan: Lan) -> None:
    lan.peer.ip("addr", "add", "10.9.0.7/24", "dev", lan.tap)
    lan.peer.ip("addr", "add", "fd09::7/64", "dev", lan.tap, "nodad")
    try:
        ours = ("--link", f"tap:{lan.tap}", "--addr", "10.9.0.2/24", "--addr", "fd09::2/64",
                "--dns", SERVER4)  # fmt: skip
        done = run(lan, "ping", "-6", "-c", "1", "seven.lan", *ours)
        assert "(fd09::7)" in done.stdout.splitlines()[0]
        assert "1 received" in done.stdout
        web = lan.peer.start(
            sys.executable, "-m", "http.server", "8000", "--bind", "::", "-d", "/proc/net"
        )
        asked = ("curl", "-s", "http://[::1]:8000/")
        eventually(lambda: lan.peer.run(*asked, check=False).stdout, "an answer of http.server")
        for url in ("http://seven.lan:8000/", "http://[fd09::7]:8000/", "http://10.9.0.7:8000/"):
            assert "Directory listing" in run(lan, "get", url, *ours).stdout
        web.kill()
    finally:
        lan.peer.ip("addr", "del", "10.9.0.7/24", "dev", lan.tap)
        lan.peer.ip("addr", "del", "fd09::7/64", "dev", lan.tap)


def run(lan: Lan, *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(lan, *words), capture_output=True, text=True, timeout=120, check=False,
        env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def test_address_that_the_kernel_has_is_refused(lan: Lan) -> None:
    done = subprocess.run(
        command(lan, "ping", "-c", "1", SERVER6, "--link", f"tap:{lan.tap}", "--addr",
                f"{SERVER6}/64"),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "another host on the link has it" in done.stderr
