"""dnsmasq inside a namespace of its own: DHCPv4, DHCPv6 and DNS on one interface."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from types import TracebackType

from tests.linux.peer import Peer
from tests.support import eventually, require

SERVER4, SERVER6 = "10.9.0.1", "fd09::1"
HOSTS = """\
10.9.0.1 router.lan
10.9.0.7 seven.lan seven
fd09::7 seven.lan
fd09::8 six.lan
"""


class Dnsmasq:
    """The server on `interface` of a namespace, with addresses 10.9.0.1/24 and fd09::1/64.

    It assigns 10.9.0.50 to 59 and fd09::50 to 59 and knows names under lan.
    """

    def __init__(self, peer: Peer, interface: str, where: Path, *options: str) -> None:
        tool = require.tool("dnsmasq", "dnsmasq-base")
        hosts = where / "hosts"
        hosts.write_text(HOSTS)
        self.log_file = where / "dnsmasq.log"
        self.leases = where / "leases"
        self.process = peer.start(
            tool,
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
            "--pid-file=",
            f"--log-facility={self.log_file}",
            "--log-dhcp",
            "--log-queries",
            f"--interface={interface}",
            "--bind-interfaces",
            "--except-interface=lo",
            "--no-resolv",
            "--no-hosts",
            f"--addn-hosts={hosts}",
            "--domain=lan",
            "--local=/lan/",
            "--no-ping",
            "--dhcp-authoritative",
            f"--dhcp-leasefile={self.leases}",
            "--dhcp-range=10.9.0.50,10.9.0.59,255.255.255.0,3600",
            "--dhcp-range=fd09::50,fd09::59,64,3600",
            "--dhcp-option=option:classless-static-route,10.77.0.0/16,10.9.0.9,0.0.0.0/0,10.9.0.1",
            "--dhcp-option=option:domain-search,lan,example.lan",
            f"--dhcp-option=option6:dns-server,[{SERVER6}]",
            "--dhcp-option=option6:domain-search,lan",
            "--cname=alias.lan,seven.lan",
            "--txt-record=big.lan," + ",".join("x" * 200 for _ in range(12)),
            *(f"--host-record=many.lan,10.8.0.{i}" for i in range(1, 120)),
            *options,
        )
        self._wait(peer)

    def _wait(self, peer: Peer) -> None:
        """Wait until it answers: its port for names is open."""

        def listens() -> bool:
            assert self.process.poll() is None, self.process.communicate()
            with contextlib.suppress(OSError), peer.socket(socket.SOCK_STREAM) as probe:
                probe.connect((SERVER4, 53))
                return True
            return False

        eventually(listens, "dnsmasq's port for names")

    def log(self) -> str:
        """Its output so far."""
        return self.log_file.read_text()

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.communicate(timeout=100)

    def __enter__(self) -> Dnsmasq:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class VethPair:
    """Two namespaces with a cable between them: the server's with its addresses, the client's
    without one."""

    def __init__(self) -> None:
        self.server, self.client = Peer(), Peer()
        tag = f"{os.getpid() % 100000}"
        self.inner, self.outer = f"s{tag}", f"c{tag}"
        self.server.ip("link", "add", self.inner, "type", "veth", "peer", "name", self.outer,
                       "netns", self.client.name)  # fmt: skip
        for peer, name in ((self.server, self.inner), (self.client, self.outer)):
            peer.ip("link", "set", "lo", "up")
            # addresses can be used at once, without a check
            peer.run("sh", "-c", f"echo 0 >/proc/sys/net/ipv6/conf/{name}/accept_dad")
            peer.ip("link", "set", name, "up")
        self.server.ip("addr", "add", f"{SERVER4}/24", "dev", self.inner)
        self.server.ip("addr", "add", f"{SERVER6}/64", "dev", self.inner)
        # The kernel's link watch sees the carrier up to a second later. Until then IPv6 has no
        # routes there, for multicast neither: ENETUNREACH.
        for peer, name in ((self.server, self.inner), (self.client, self.outer)):
            asked = ("-6", "route", "show", "table", "local", "ff00::/8", "dev", name)
            eventually(lambda peer=peer, asked=asked: peer.ip(*asked).strip(), f"{name} up")

    def close(self) -> None:
        self.client.close()
        self.server.close()
