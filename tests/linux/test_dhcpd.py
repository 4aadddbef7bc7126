"""Clients of others get their addresses from `e1000emu up --serve dhcp:`, over a TAP."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.linux.peer import Peer, judged
from tests.support import eventually, require

pytestmark = pytest.mark.netns
FIRST, LAST = "10.9.0.50", "10.9.0.59"


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A namespace with a TAP that has no address."""
    require.taps()
    made = Peer()
    try:
        made.ip("tuntap", "add", "dev", made.tap_name, "mode", "tap")
        made.ip("link", "set", "lo", "up")
        made.ip("link", "set", made.tap_name, "up")
        yield made
    finally:
        made.close()


@pytest.fixture
def server(peer: Peer, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Our server on the TAP; tshark judges all that crossed it."""
    capture = tmp_path / "dhcpd.pcapng"
    process = peer.start(
        sys.executable, "-m", "e1000emu", "up", "--link", f"tap:{peer.tap_name}", "--addr",
        "10.9.0.2/24", "--serve", f"dhcp:{FIRST}-{LAST}:10min", "--json", "--capture", str(capture),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline() or b"{}")
        assert ready.get("services") == [{"name": "dhcp", "port": 67}], process.communicate()
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    end = json.loads(out.splitlines()[-1])
    assert end["services"]["dhcp:67"]["connections"] >= 1
    if require.tool("tshark"):
        assert list(judged(capture)) == []


def addresses(peer: Peer) -> list[str]:
    shown = json.loads(peer.ip("-4", "-j", "addr", "show", "dev", peer.tap_name))
    return [addr["local"] for link in shown for addr in link.get("addr_info", ())]


def test_udhcpc(peer: Peer, server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    tool = require.tool("udhcpc")
    script = tmp_path / "script"
    script.write_text(
        "#!/bin/sh\n[ $1 = bound ] && ip addr add $ip/$mask dev $interface && "
        "echo lease=$lease server=$serverid ip=$ip/$mask\nexit 0\n"
    )
    script.chmod(0o755)
    done = peer.run(tool, "-i", peer.tap_name, "-s", str(script), "-n", "-q", "-t", "5", "-f")
    told = (done.stdout + done.stderr).decode()
    assert "lease=600 server=10.9.0.2 ip=10.9.0.50/24" in told
    assert addresses(peer) == [FIRST]
    assert peer.ping("10.9.0.2") == 3


def test_dhclient_renews_its_lease_and_gives_it_back(
    peer: Peer, server: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    tool = require.tool("dhclient", "isc-dhcp-client")
    script = tmp_path / "script"
    script.write_text(
        "#!/bin/sh\n[ $reason = BOUND ] || [ $reason = REBOOT ] && "
        "ip addr replace $new_ip_address/24 dev $interface\n"
        "[ $reason = RELEASE ] && ip addr flush dev $interface\nexit 0\n"
    )
    script.chmod(0o755)
    leases = tmp_path / "leases"
    words = (
        tool, "-4", "-v", "-sf", str(script), "-lf", str(leases), "-pf", str(tmp_path / "pid"),
        "-cf", "/dev/null",
    )  # fmt: skip
    for kind in ("DHCPDISCOVER", "DHCPREQUEST"):  # the second time it asks for what it had
        peer.ip("addr", "flush", "dev", peer.tap_name)
        process = peer.start(*words, "-d", "--no-pid", peer.tap_name)
        try:
            eventually(lambda: addresses(peer) == [FIRST], "the lease of dhclient")
        finally:
            process.terminate()
            told = b"".join(process.communicate(timeout=60)).decode()
        assert kind in told
        assert "DHCPACK" in told
    assert "dhcp-lease-time 600" in leases.read_text()
    done = peer.run(*words, "-r", "--no-pid", peer.tap_name, check=False)
    told = (done.stdout + done.stderr).decode()
    assert "DHCPRELEASE" in told
    eventually(lambda: addresses(peer) == [], "the end of the address")


def test_dhcpcd(peer: Peer, server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    tool = require.tool("dhcpcd", "dhcpcd-base")
    config = tmp_path / "dhcpcd.conf"
    config.write_text("ipv4only\nnohook resolv.conf\nnoipv4ll\nscript /bin/true\n")
    words = (tool, "-f", str(config), "-1", "-4", "-B", "-t", "30", peer.tap_name)
    done = peer.run(*words, check=False)
    told = (done.stdout + done.stderr).decode()
    assert "leased 10.9.0.5" in told, told
