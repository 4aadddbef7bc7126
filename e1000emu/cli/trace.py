"""`e1000emu trace`: the chain of calls a packet takes, by the kernel's names."""

from __future__ import annotations

from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from e1000emu.cli.common import report_options
from e1000emu.cli.output import console

if TYPE_CHECKING:
    from collections.abc import Callable

    from stack.trace import Call

__all__ = ["KINDS", "command", "record"]


def _of_host(net: Any) -> Callable[[str, FrameType], bool]:
    """Return a root filter that keeps the calls made for one host (all hosts share this
    process)."""

    def root(name: str, frame: FrameType) -> bool:
        local = frame.f_locals
        if local.get("net") is net or local.get("self") is net:
            return True
        owner = local.get("self") or local.get("timer") or local.get("napi") or local.get("dev")
        return getattr(owner, "net", None) is net or getattr(owner, "host", None) is net

    return root


class Scene:
    """Two hosts on a wire, warmed up (addresses resolved, connection made) so that a trace shows
    one packet only."""

    def __init__(self) -> None:
        from e1000emu.lab import two_hosts

        self.a, self.b = two_hosts()
        self.clock = self.a.clock

    def settle(self, seconds: float = 0.3) -> None:
        """Let timers and late acknowledgements pass."""
        self.clock.run_for(int(seconds * 1e9))

    def udp(self) -> tuple[Any, Any]:
        """Return a connected sender on a and a bound receiver on b, ARP resolved."""
        from stack.socket import AF_INET, SOCK_DGRAM, Socket

        receiver = Socket(self.b, AF_INET, SOCK_DGRAM)
        receiver.bind(("10.0.0.2", 9000))
        sender = Socket(self.a, AF_INET, SOCK_DGRAM)
        sender.sendto(b"warm", ("10.0.0.2", 9000))
        receiver.recvfrom(100)
        self.settle()
        return sender, receiver

    def tcp(self) -> tuple[Any, Any]:
        """Return both ends of an established connection, quiet."""
        from stack.socket import create_connection, create_server

        listener = create_server(self.b, ("10.0.0.2", 9000))
        client = create_connection(self.a, ("10.0.0.2", 9000))
        server, _ = listener.accept()
        client.sendall(b"warm")
        server.recv(100)
        self.settle()
        return client, server


def _udp_send(scene: Scene, trace: Callable[..., Any]) -> None:
    sender, _ = scene.udp()
    with trace(None):
        sender.sendto(b"x" * 64, ("10.0.0.2", 9000))


def _udp_recv(scene: Scene, trace: Callable[..., Any]) -> None:
    sender, receiver = scene.udp()
    sender.sendto(b"x" * 64, ("10.0.0.2", 9000))
    with trace(scene.b):
        scene.settle(0.001)
    with trace(None):
        receiver.recvfrom(100)


def _tcp_send(scene: Scene, trace: Callable[..., Any]) -> None:
    client, _ = scene.tcp()
    with trace(None):
        client.send(b"x" * 64)


def _tcp_recv(scene: Scene, trace: Callable[..., Any]) -> None:
    from stack.socket import create_connection, create_server

    # The first segment that a connecting side gets finds header prediction not armed yet (with a
    # window scale it is set by the first segment), so it takes the slow path, which shows more.
    listener = create_server(scene.a, ("10.0.0.1", 9000))
    receiver = create_connection(scene.b, ("10.0.0.1", 9000))
    sender, _ = listener.accept()
    scene.settle()
    sender.send(b"x" * 64)
    with trace(scene.b):
        scene.settle(0.001)
    with trace(None):
        receiver.recv(100)


def _tcp_connect(scene: Scene, trace: Callable[..., Any]) -> None:
    from stack.socket import create_connection, create_server

    scene.udp()
    create_server(scene.b, ("10.0.0.2", 9000))
    with trace(scene.a):
        create_connection(scene.a, ("10.0.0.2", 9000))


def _arp(scene: Scene, trace: Callable[..., Any]) -> None:
    from stack.socket import AF_INET, SOCK_DGRAM, Socket

    sender = Socket(scene.a, AF_INET, SOCK_DGRAM)
    with trace(None):
        sender.sendto(b"x" * 64, ("10.0.0.2", 9000))
    with trace(scene.b):
        scene.settle(0.0005)
    with trace(scene.a):
        scene.settle(0.0005)


def _icmp(scene: Scene, trace: Callable[..., Any]) -> None:
    from stack.socket import AF_INET, IPPROTO_ICMP, SOCK_DGRAM, Socket

    scene.udp()
    sender = Socket(scene.a, AF_INET, SOCK_DGRAM, IPPROTO_ICMP)
    with trace(None):
        sender.sendto(b"\x08\x00\x00\x00\x00\x00\x00\x01" + b"x" * 56, ("10.0.0.2", 0))
    with trace(scene.b):
        scene.settle(0.001)


def _socket(scene: Scene, trace: Callable[..., Any]) -> None:
    from stack.socket import Socket

    with trace(None):
        Socket(scene.a).close()


KINDS: dict[str, tuple[str, Callable[[Scene, Callable[..., Any]], None]]] = {
    "udp-send": ("sendto() of 64 bytes to the doorbell", _udp_send),
    "udp-recv": ("interrupt to recvfrom() of 64 bytes", _udp_recv),
    "tcp-send": ("send() of 64 bytes to the doorbell", _tcp_send),
    "tcp-recv": ("interrupt to recv() of 64 bytes, with the acknowledgement", _tcp_recv),
    "tcp-connect": ("connect(): the client's side of the handshake", _tcp_connect),
    "arp": ("first packet to an unknown neighbour: request, reply, packet", _arp),
    "icmp": ("echo request out, and its answer on the other host", _icmp),
    "socket": ("socket() and close()", _socket),
}


def record(kind: str) -> list[Call]:
    """Record one of `KINDS` and return its calls."""
    from stack.trace import Tracer

    calls: list[Call] = []

    class Part(Tracer):
        def __init__(self, net: Any) -> None:
            super().__init__(root=_of_host(net) if net is not None else None)

        def __exit__(self, *exc: object) -> None:
            super().__exit__(*exc)
            calls.extend(self.calls)

    scene = Scene()
    try:
        KINDS[kind][1](scene, Part)
    finally:
        scene.a.close()
        scene.b.close()
    return calls


@click.command()
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "mermaid", "svg", "perfetto"]),
    default="text",
    show_default=True,
)
@report_options
def command(kind: str, form: str, as_json: bool) -> None:
    """Print the chain of calls that a packet of this KIND takes, with per-call time.

    \b
    udp-send udp-recv tcp-send tcp-recv tcp-connect arp icmp socket
    """
    from stack.trace_format import render, render_text

    calls = record(kind)
    title = f"{kind}: {KINDS[kind][0]}"
    if form == "text" and not as_json:
        text = render_text(calls, title, console().width)
    else:
        text = render(calls, "json" if as_json else form, title)
    click.echo(text)
