"""What `e1000emu trace` can record of devices made by software: bridge, VLAN, veth."""

from __future__ import annotations

from e1000emu.cli.trace_kinds import DAD_NS, Kinds, Round, Scene, passing, sending
from e1000emu.lab import add_nic, mac_address
from e1000emu.links import pair
from stack.api.netns import Namespace
from stack.host import Host
from stack.socket import AF_INET, SOCK_DGRAM, Socket


class Switch:
    """A host that bridges two wires: a - host - b, with a datagram socket at either end."""

    def __init__(self, scene: Scene) -> None:
        clock = scene.clock
        self.host = Host(name="switch", clock=clock)
        self.ends = [Host(name=name, clock=clock) for name in ("left", "right")]
        for number, end in enumerate(self.ends, 1):
            ours, theirs = pair(clock)
            add_nic(self.host, ours, mac=mac_address(2 * number), wait=False)
            addr = f"10.7.0.{number}/24"
            add_nic(end, theirs, mac=mac_address(2 * number + 1), addr=addr, wait=False)
        self.host.add_bridge("br0", ["eth0", "eth1"], up=True)
        self.host.ifconfig("br0", "10.7.0.3/24")
        for end in self.ends:
            end.wait_carrier("eth0")
        scene.queue_every_packet(self.host)
        clock.run_for(DAD_NS)
        scene.others += [*self.ends, self.host]
        self.sender = Socket(self.ends[0], AF_INET, SOCK_DGRAM)


def warmed(sender: Socket, host: Namespace, addr: str) -> Socket:
    """Return a socket of `host` at `addr` that has had one datagram from `sender`: whoever is in
    between has learned the addresses."""
    sock = Socket(host, AF_INET, SOCK_DGRAM)
    sock.bind((addr, 9000))
    sender.sendto(b"warm", (addr, 9000))
    sock.recv(100)
    host.clock.run_for(DAD_NS)
    return sock


def _bridge(scene: Scene) -> Round:
    switch = Switch(scene)
    receiver = warmed(switch.sender, switch.ends[1], "10.7.0.2")
    to = ("10.7.0.2", 9000)
    return passing(scene, lambda: switch.sender.sendto(b"x" * 64, to), switch.host, receiver)


def _bridge_up(scene: Scene) -> Round:
    switch = Switch(scene)
    receiver = warmed(switch.sender, switch.host, "10.7.0.3")
    to = ("10.7.0.3", 9000)
    return passing(scene, lambda: switch.sender.sendto(b"x" * 64, to), switch.host, receiver)


def _bridge_send(scene: Scene) -> Round:
    switch = Switch(scene)
    sender = warmed(switch.sender, switch.host, "10.7.0.3")
    receiver = Socket(switch.ends[0], AF_INET, SOCK_DGRAM)
    receiver.bind(("10.7.0.1", 9000))
    return sending(scene, lambda: sender.sendto(b"x" * 64, ("10.7.0.1", 9000)), receiver)


def _vlan(scene: Scene) -> tuple[Socket, Socket]:
    for number, host in enumerate((scene.a, scene.b), 1):
        host.add_vlan("eth0.10", "eth0", 10, up=True)
        host.ifconfig("eth0.10", f"10.8.0.{number}/24")
    sender = Socket(scene.a, AF_INET, SOCK_DGRAM)
    return sender, warmed(sender, scene.b, "10.8.0.2")


def _vlan_send(scene: Scene) -> Round:
    sender, receiver = _vlan(scene)
    return sending(scene, lambda: sender.sendto(b"x" * 64, ("10.8.0.2", 9000)), receiver)


def _vlan_recv(scene: Scene) -> Round:
    sender, receiver = _vlan(scene)
    to = ("10.8.0.2", 9000)
    return passing(scene, lambda: sender.sendto(b"x" * 64, to), scene.b, receiver)


def _veth(scene: Scene) -> Round:
    blue = scene.a.netns_add("blue")
    scene.a.add_veth("veth0", (blue, "veth1"), up=True)
    scene.a.ifconfig("veth0", "10.9.0.1/24")
    blue.ifconfig("veth1", "10.9.0.2/24")
    sender = Socket(scene.a, AF_INET, SOCK_DGRAM)
    receiver = warmed(sender, blue, "10.9.0.2")
    return sending(scene, lambda: sender.sendto(b"x" * 64, ("10.9.0.2", 9000)), receiver)


LINK_KINDS: Kinds = {
    "bridge": ("a bridge: interrupt to the doorbell of the other NIC", _bridge),
    "bridge-recv": ("a bridge: interrupt to the socket at its own address", _bridge_up),
    "bridge-send": ("sendto() of 64 bytes through a bridge to the doorbell", _bridge_send),
    "vlan-send": ("sendto() of 64 bytes through a VLAN to the doorbell", _vlan_send),
    "vlan-recv": ("interrupt to the socket, through a VLAN", _vlan_recv),
    "veth": ("sendto() of 64 bytes to the socket in another namespace", _veth),
}
