"""Linux - TAP - our host as router - TAP - Linux, both families; the far link is narrower."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e1000emu.clock import RealClock
from e1000emu.lab import add_nic
from e1000emu.links import Capture, Tap
from stack.host import Host
from tests.linux.peer import DATA_PORT, Peer, wait_for_addresses
from tests.support import Rig, kept, missing, quiet_ipv6, require

PMTU = 1300
"""MTU of the far link; that of the near one is 1500."""
SSH_PORT = 2222


@dataclass(frozen=True)
class Route:
    """The addresses from end to end in one family, and its terms."""

    name: str
    af: int
    near: str
    near_router: str
    far: str
    far_router: str
    nowhere: str
    """An address without a route on the router."""
    prefix_len: int
    header_bytes: int

    @property
    def flag(self) -> str:
        """`-4` or `-6`, for programs."""
        return f"-{self.name[-1]}"

    def __str__(self) -> str:
        return self.name


ROUTED4 = Route(
    *("IPv4", socket.AF_INET, "10.10.1.2", "10.10.1.1", "10.10.2.2", "10.10.2.1"),
    *("10.99.0.1", 24, 20),
)
ROUTED6 = Route(
    *("IPv6", socket.AF_INET6, "2001:db8:a::2", "2001:db8:a::1", "2001:db8:b::2"),
    *("2001:db8:b::1", "2001:db8:ffff::1", 64, 40),
)


class Router(Rig):
    """`host` is ours; `near` and `far` are namespaces with a default route to it."""

    def __init__(self, captures: Path | None = None) -> None:
        """`captures`: a directory for near.pcapng and far.pcapng."""
        with contextlib.ExitStack() as stack:
            self.clock = kept(stack, RealClock())
            self.peers: list[Peer] = []
            self.captures: list[Path] = []
            links: list[Tap | Capture] = []
            for name in ("near", "far"):
                peer = kept(stack, Peer())
                tap = kept(stack, Tap(peer.tap_name, self.clock))
                self._adopt(peer, tap.name, name)
                link: Tap | Capture = tap
                if captures is not None:
                    self.captures.append(captures / f"{name}.pcapng")
                    link = Capture(tap, self.captures[-1])
                    stack.callback(link.writer.close)
                self.peers.append(peer)
                links.append(link)
            self.near, self.far = self.peers
            self.clock.start()
            stack.callback(self.clock.stop)
            knobs = {
                "net.ipv4.ip_forward": 1,
                "net.ipv6.conf.all.forwarding": 1,
                "net.ipv6.conf.default.accept_dad": 0,
            }
            self.host = kept(stack, Host(name="router", clock=self.clock, seed=2, sysctl=knobs))
            for i, link in enumerate(links):
                add_nic(self.host, link)
                for path in (ROUTED4, ROUTED6):
                    ours = (path.near_router, path.far_router)[i]
                    self.host.ifconfig(f"eth{i}", f"{ours}/{path.prefix_len}")
            self.host.ifconfig("eth1", mtu=PMTU)
            wait_for_addresses(self.host)
            for path in (ROUTED4, ROUTED6):
                for peer, via in ((self.near, path.near_router), (self.far, path.far_router)):
                    peer.ip(path.flag, "route", "add", "default", "via", via)
            self._stack = stack.pop_all()

    @staticmethod
    def _adopt(peer: Peer, tap: str, name: str) -> None:
        peer.take(tap)
        quiet_ipv6(tap, peer.name)
        peer.ip("link", "set", "lo", "up")
        peer.ip("link", "set", tap, "up")
        peer.write(f"/proc/sys/net/ipv6/conf/{tap}/accept_dad", 0)
        peer.write(f"/proc/sys/net/ipv6/conf/{tap}/disable_ipv6", 0)
        for path in (ROUTED4, ROUTED6):
            addr = path.near if name == "near" else path.far
            nodad = ("nodad",) if path.af == socket.AF_INET6 else ()
            peer.ip("addr", "add", f"{addr}/{path.prefix_len}", "dev", tap, *nodad)

    def tracepath(self, path: Route) -> None:
        """Check that tracepath from the near end finds us, the far end, and the path MTU."""
        tracepath = require.tool("tracepath", "iputils-tracepath")
        out = self.near.run(tracepath, path.flag, "-n", path.far).stdout.decode()
        assert path.near_router in out, out
        assert re.search(rf"Resume: pmtu {PMTU} hops 2", out), out

    def iperf3(self, path: Route, *how: str) -> Any:
        """The output of the near end's iperf3 after a run with the far end's."""
        iperf3 = require.tool("iperf3")
        server = self.far.start(iperf3, "-s", "-1", "-p", str(DATA_PORT), "--forceflush")
        assert server.stdout is not None
        while b"listening" not in server.stdout.readline():
            assert server.poll() is None
        words = ("-J", path.flag, "-c", path.far, "-p", str(DATA_PORT), *how)
        said = json.loads(self.near.run(iperf3, *words, check=False).stdout)
        assert "error" not in said, said.get("error")
        server.communicate(timeout=100)
        return said["end"]

    def sshd(self, directory: Path) -> tuple[str, ...]:
        """Start sshd at the far end's SSH_PORT; return the options of programs that log in there.

        `directory` gets throw-away keys.
        """
        sshd = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin")
        if sshd is None:
            missing("needs sshd", "apt-get install openssh-server")
        keygen = require.tool("ssh-keygen", "openssh-client")
        for name in ("host", "user"):
            self.far.run(keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name))
        Path("/run/sshd").mkdir(exist_ok=True)  # for its privilege separation; its service makes it
        config = directory / "sshd_config"
        config.write_text(
            f"HostKey {directory}/host\nAuthorizedKeysFile {directory}/user.pub\nStrictModes no\n"
            f"PermitRootLogin yes\nUsePAM no\nPidFile none\nPort {SSH_PORT}\n"
            "Subsystem sftp internal-sftp\nUseDNS no\n"
        )
        self.far.start(sshd, "-D", "-e", "-f", str(config))
        self.far.wait_for_listener(SSH_PORT)
        settings = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
        options = [word for setting in settings for word in ("-o", setting)]
        return ("-F", "none", "-i", str(directory / "user"), "-o", "BatchMode=yes", *options)

    def ssh_cat(self, path: Route, options: tuple[str, ...], data: bytes) -> None:
        """Data goes from the near end to the far end's sshd and back; all of it arrives."""
        ssh = require.tool("ssh", "openssh-client")
        words = (path.flag, *options, "-p", str(SSH_PORT), f"root@{path.far}", "cat")
        out = self.near.run(ssh, *words, stdin=data, check=False)
        assert out.returncode == 0, out.stderr.decode()
        assert out.stdout == data

    def forget_paths(self) -> None:
        """Clear the near end's path MTUs."""
        for path in (ROUTED4, ROUTED6):
            self.near.ip(path.flag, "route", "flush", "cache")
