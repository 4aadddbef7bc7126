"""DHCP between Debian's programs on two of our hosts: dnsmasq leases, udhcpc and dhclient ask.

The server unicasts its offer to an address that nobody has yet, for which it writes into the
host's ARP table (SIOCSARP). The client's packets go through a packet socket.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fastpath.base import seccomp
from stack import proc
from stack.api.programs import spawn
from stack.host import Host
from tests.hosts import real_hosts
from tests.support import eventually, require

pytestmark = pytest.mark.skipif(not seccomp.available(), reason="needs Linux's seccomp")
CLIENTS = {
    "udhcpc": "udhcpc -i eth0 -f -n -q -s {script}",
    "dhclient": "dhclient -1 -d -sf {script} -lf {dir}/leases -pf {dir}/pid eth0",
}
SCRIPT = """#!/bin/sh
if [ -n "$new_ip_address" ]; then ip addr add $new_ip_address/24 dev eth0; kill $PPID; fi
if [ "$1" = bound ]; then ip addr add $ip/24 dev eth0; fi
exit 0
"""


def listens(server: Host) -> bool:
    with server.lock:
        return ":0043 " in proc.read(server, "udp")


@pytest.mark.parametrize("name", CLIENTS)
def test_a_lease_is_asked_and_given(tmp_path: Path, name: str) -> None:
    for tool, package in ((name, None), ("dnsmasq", "dnsmasq-base"), ("ip", "iproute2")):
        require.tool(tool, package)
    script = tmp_path / "script"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    said: list[str] = []
    with real_hosts() as (client, server):
        with spawn(client, ["ip", "-4", "addr", "flush", "dev", "eth0"]) as flush:
            assert flush.wait(60) == 0
        serve = [
            *("dnsmasq", "-k", "-C", "/dev/null", "-p", "0", "-u", "root", "--pid-file="),
            *("--no-ping", f"--dhcp-leasefile={tmp_path}/given"),
            *("--dhcp-range=10.0.0.100,10.0.0.110", "--dhcp-authoritative"),
        ]
        asks = CLIENTS[name].format(script=script, dir=tmp_path).split()
        with spawn(server, serve, log=said.append, stderr=subprocess.PIPE) as dnsmasq:
            eventually(lambda: listens(server), "dnsmasq listens")
            with spawn(client, asks, log=said.append, stderr=subprocess.PIPE) as program:
                told = program.communicate(timeout=60)[1].decode()
            dnsmasq.terminate()
        (lease,) = (tmp_path / "given").read_text().splitlines()
        assert f"{client.dev('eth0').dev_addr.hex(':')} {lease.split()[2]} " in lease
        held = [ifa.ifa_local for ifa in client.dev("eth0").ip_ptr.ifa_list]
        assert [a - (10 << 24) in range(100, 111) for a in held] == [True], told
        assert said == []
