"""strongSwan on two hosts: IKEv2 negotiates states and policies, new keys, and takes them away."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from stack.api.programs import Program, spawn
from stack.host import Host
from tests.hosts import real_hosts
from tests.support import eventually, require

pytestmark = pytest.mark.netns

CHARON = """
charon-systemd {{
    load = random nonce aes sha1 sha2 hmac kdf gmp kernel-netlink socket-default vici pem pkcs1
    plugins {{ vici {{ socket = unix://{dir}/{me}.vici }} }}
    delete_rekeyed_delay = 1
    journal {{ default = -1 }}
    filelog {{ all {{ path = {dir}/{me}.log
        default = 1 }} }}
}}
swanctl {{ load = pem pkcs1 random }}
"""
CONNECTION = """
connections {{ ends {{
    version = 2
    local_addrs = {mine}
    remote_addrs = {yours}
    proposals = aes128-sha256-modp2048
    local {{ auth = psk
        id = host{me} }}
    remote {{ auth = psk
        id = host{you} }}
    children {{ all {{
        mode = {mode}
        start_action = {start}
        esp_proposals = aes128-sha256
    }} }}
}} }}
secrets {{ ike {{ id-1 = host1
    id-2 = host2
    secret = "known to both" }} }}
"""
ENDS = {"IPv4": ("10.0.0.1", "10.0.0.2"), "IPv6": ("fd00::1", "fd00::2")}


class Ends:
    """charon on both hosts, and what a shell on the first one prints."""

    def __init__(
        self, hosts: tuple[Host, Host], path: Path, family: str, mode: str, start: str = "none"
    ) -> None:
        self.hosts = hosts
        self.said: list[str] = []
        self.daemons: list[Program] = []
        self.path = path
        for me, host in enumerate(hosts, 1):
            words = {"dir": path, "me": me, "you": 3 - me, "mode": mode, "start": start}
            words |= {"mine": ENDS[family][me - 1], "yours": ENDS[family][2 - me]}
            (path / f"{me}.conf").write_text(CHARON.format(**words))
            (path / f"{me}.swanctl").write_text(CONNECTION.format(**words))
            self.daemons.append(self.spawn(host, me, ["/usr/sbin/charon-systemd"]))
        for me in (1, 2):
            eventually((path / f"{me}.vici").exists, program=self.daemons[me - 1])
            self.swanctl(me, f"-q -f {path}/{me}.swanctl")

    def spawn(self, host: Host, me: int, argv: list[str], **pipes: int) -> Program:
        """Start a program of the host's, with its configuration."""
        env = {**os.environ, "STRONGSWAN_CONF": f"{self.path}/{me}.conf"}
        return spawn(host, argv, log=self.said.append, env=env, **pipes)

    def run(self, me: int, text: str) -> str:
        """What a line of the shell prints, which must succeed."""
        argv = ["sh", "-c", text]
        with self.spawn(self.hosts[me - 1], me, argv, stdout=subprocess.PIPE) as program:
            out, _ = program.communicate(timeout=60)
            said: str = out.decode()
            assert program.returncode == 0, said
        return said

    def swanctl(self, me: int, words: str) -> str:
        """What swanctl(8) says."""
        return self.run(me, f"swanctl {words} -u unix://{self.path}/{me}.vici 2>&1")

    def close(self) -> None:
        """End the daemons."""
        for daemon in self.daemons:
            daemon.terminate()
        assert [daemon.wait(60) for daemon in self.daemons] == [0, 0]


@pytest.mark.parametrize("mode", ["transport", "tunnel"])
@pytest.mark.parametrize("family", ENDS)
def test_ike_negotiates_what_protects_packets(tmp_path: Path, family: str, mode: str) -> None:
    require.root()
    require.tool("charon-systemd", "charon-systemd")
    require.tool("swanctl", "strongswan-swanctl")
    far = ENDS[family][1]
    with real_hosts() as hosts:
        for me, host in enumerate(hosts, 1):
            host.sysctl["net.ipv6.conf.eth0.accept_dad"] = 0
            host.ifconfig("eth0", f"fd00::{me}/64")
        ends = Ends(hosts, tmp_path, family, mode)
        try:
            ends.swanctl(1, "-i -c all")
            before = ends.run(1, "ip xfrm state")
            assert before.count(f"mode {mode}") == 2
            assert f"mode {mode}" in ends.run(1, "ip xfrm policy")
            ends.run(1, f"ping -c 3 -i 0.2 {far}")
            # both states have carried them, and nothing came without
            assert ends.run(1, "ip -s xfrm state").count(" 3(packets)") == 2
            # the daemons talk past the policies that are about all packets between them
            ends.swanctl(1, "--rekey -c all")
            eventually(lambda: rekeyed(before, ends.run(1, "ip xfrm state")))
            ends.run(1, f"ping -c 1 {far}")
            ends.swanctl(1, "-t -i ends")
            for me in (1, 2):
                eventually(lambda me=me: not ends.run(me, "ip xfrm state; ip xfrm policy"))
            stat = ends.run(1, "cat /proc/net/xfrm_stat")
            assert [line for line in stat.splitlines() if not line.endswith("\t0")] == []
        finally:
            ends.close()
        assert ends.said == []


def test_the_first_packet_has_states_negotiated(tmp_path: Path) -> None:
    """A policy without states (`trap`): the packet that needs them has the daemon ask for them.

    With IPv6 the policies would be about neighbour advertisements, too, as on Linux.
    """
    require.root()
    require.tool("charon-systemd", "charon-systemd")
    require.tool("swanctl", "strongswan-swanctl")
    with real_hosts() as hosts:
        ends = Ends(hosts, tmp_path, "IPv4", "transport", "trap")
        try:
            assert ends.run(1, "ip xfrm state; ip xfrm policy").count("tmpl") >= 1
            ends.run(1, f"ping -c 1 -i 0.2 -w 20 {ENDS['IPv4'][1]}")
            states = ends.run(1, "ip xfrm state")
            assert len(spis(states)) == 2
            assert "0x00000000" not in spis(states), "the one that was asked for is gone"
        finally:
            ends.close()
        assert ends.said == []


def spis(text: str) -> set[str]:
    """The SPIs of `ip xfrm state`."""
    return {word for line in text.splitlines() if "spi" in line for word in line.split()[3:4]}


def rekeyed(before: str, now: str) -> bool:
    """Whether there are two other states."""
    return len(spis(now)) == 2 and not spis(before) & spis(now)
