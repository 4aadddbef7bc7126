"""A DHCP client of ours, its servers and the wire between them, for both families."""

from __future__ import annotations

from typing import Any

from stack.clients import dhcp4, dhcp6
from stack.clients.action import SetTimer
from tests.stack.clients.simulation import Simulation


class Wire:
    """Does what `client` asks for; the lists are what it asked for, `server` is the first."""

    def __init__(self, sim: Simulation, client: Any, *servers: Any) -> None:
        self.sim, self.client, self.servers = sim, client, servers
        self.server = servers[0]
        self.configured: list[Any] = []
        self.removed: list[Any] = []
        self.arps: list[tuple[int, dhcp4.SendArp]] = []
        self.sent: list[tuple[int, Any]] = []

    def do(self, actions: list[Any]) -> None:
        for action in actions:
            match action:
                case SetTimer():
                    self.sim.set_timer(
                        action.at_ns, lambda: self.do(self.client.timer(self.sim.now_ns))
                    )
                case dhcp4.Send() | dhcp6.Send6():
                    self.sent.append((self.sim.now_ns, action))
                    for server in self.servers:
                        self.sim.carry(lambda d=action.data, to=server: self.serve(to, d))  # type: ignore[misc]
                case dhcp4.SendArp():
                    self.arps.append((self.sim.now_ns, action))
                case dhcp4.Configure() | dhcp6.Configure6():
                    self.configured.append(action)
                case dhcp4.Deconfigure() | dhcp6.Deconfigure6():
                    self.removed.append(action)
                case _:
                    raise AssertionError(action)

    def serve(self, server: Any, data: bytes) -> None:
        reply = server.answer(data)
        if reply is not None:
            self.sim.carry(lambda: self.do(self.client.received(reply, self.sim.now_ns)))

    def start(self, *args: int, **how: bool) -> None:
        self.do(self.client.start(self.sim.now_ns, *args, **how))
