"""Programs that `run` starts on a host: ping, get, send, serve, iperf3 -s and exec, as coroutines.

Names and options are those of the commands of the same names, as far as supported.
"""

from __future__ import annotations

import asyncio
import functools
import http.client
import io
import os
import shlex
from collections.abc import Callable, Coroutine
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

import click
import msgspec

from e1000emu.cli.errors import did_you_mean
from e1000emu.cli.get import URL, Target
from e1000emu.cli.params import HOST, Duration, Rate, Size
from e1000emu.cli.pinger import MAX_PAYLOAD_BYTES, Pinger, PingError
from e1000emu.cli.servespec import IPERF3_PORT, SERVICES, Service, parse_serve
from e1000emu.cli.services import serve as serve_one
from e1000emu.cli.signals import signal_name
from e1000emu.errors import E1000Error
from e1000emu.quantities import SECOND_NS
from stack import aio
from stack.host import Host
from stack.socket import AF_INET, AF_INET6, SHUT_WR, SOCK_STREAM, Socket

Figures = dict[str, Any]
Start = Callable[[Host, Callable[[str], str], Figures], Coroutine[Any, Any, None]]
"""`(host, address of a name, callback for figures)`; raises OSError and E1000Error."""
BLOCK = memoryview(bytes(64 << 10))
SEGMENT_BYTES = 1448
MOST_SHOWN = 200
"""Maximum length of a line of program output."""
PORT = click.IntRange(1, 65535)


class ProgramError(E1000Error, ValueError):
    """An invalid line of `run`, or a program that failed."""


class Program(msgspec.Struct, frozen=True):
    """One line of `run`."""

    text: str
    start: Start
    dest: str | None = None
    """Its peer: an address, or the name of a node."""
    lasting: bool = False
    """It serves until stopped; the run does not wait for its end."""
    looks_up: bool = False
    """It resolves names itself, so its host needs those of the nodes."""

    @property
    def name(self) -> str:
        """Its first word."""
        return self.text.split()[0]


PROGRAMS: dict[str, click.Command] = {}


def _program(
    *params: Callable[..., Any], name: str | None = None, **settings: Any
) -> Callable[[Callable[..., Any]], click.Command]:
    """Declare a program of the function's name; the function returns `Program`'s fields.

    `settings` belong to click's context.
    """

    def declare(function: Callable[..., Any]) -> click.Command:
        for param in reversed(params):
            function = param(function)
        command = click.command(name, context_settings=settings, add_help_option=False)(function)
        assert command.name is not None
        PROGRAMS[command.name] = command
        return command

    return declare


@functools.lru_cache(maxsize=1024)
def parse(text: str) -> Program:
    """Parse a line of `run`.  Raises: ProgramError."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ProgramError(f"{error}; quote it as for a shell") from None
    name = words[0] if words else ""
    command = PROGRAMS.get(name)
    if command is None:
        near = did_you_mean(name, PROGRAMS)
        raise ProgramError(f"no program {name!r}; there are: {', '.join(PROGRAMS)}{near}")
    try:
        with command.make_context(name, words[1:]) as context:
            fields: dict[str, Any] = command.invoke(context)
    except click.ClickException as error:
        usage = " ".join(click.Context(command, info_name=name).get_usage().split()[1:])
        told = " ".join(error.format_message().split()).rstrip(".")
        raise ProgramError(f"{told}; write {usage}") from None
    except E1000Error as error:
        raise ProgramError(str(error)) from None
    return Program(text=text, **fields)


class _Woken:
    """Lets a coroutine sleep until a socket's wait queue is woken."""

    def __init__(self, sock: Socket) -> None:
        self.event = asyncio.Event()
        self.queue = sock.wait_queue()
        self.queue.add(self.event.set)

    async def wait(self, timeout_ns: int) -> None:
        """Sleep, at most this long."""
        self.event.clear()
        try:
            async with asyncio.timeout(timeout_ns / 1e9):
                await self.event.wait()
        except TimeoutError:
            pass

    def close(self) -> None:
        self.queue.remove(self.event.set)


@_program(
    click.argument("dest", type=HOST),
    click.option("-c", "--count", type=click.IntRange(1)),
    click.option("-i", "--interval", "interval_ns", type=Duration(above=True), default="1s"),
    click.option("-s", "--size", type=Size(0, MAX_PAYLOAD_BYTES), default=56),
    click.option("-W", "--timeout", "timeout_ns", type=Duration(above=True), default="10s"),
)
def ping(dest: str, count: int | None, interval_ns: int, size: int, timeout_ns: int) -> Any:
    """Send echo requests, without -c until stopped; fails without any reply."""

    async def start(host: Host, address: Callable[[str], str], figures: Figures) -> None:
        pinger = Pinger(host, address(dest), name=dest, size_bytes=size)
        woken = _Woken(pinger.sock)
        told = ""
        try:
            now = host.clock.now_ns
            next_ns = end_ns = now()
            while True:
                while (came := pinger.receive()) is not None:
                    told = came.text if isinstance(came, PingError) else told
                figures.update(pinger.summary())
                counts = pinger.counts
                sent_all = count is not None and counts.transmitted >= count
                answered = counts.received + counts.errors
                if sent_all and (answered >= counts.transmitted or now() >= end_ns):
                    break
                if not sent_all and now() >= next_ns:
                    pinger.send()
                    next_ns, end_ns = now() + interval_ns, now() + timeout_ns
                    continue
                await woken.wait((end_ns if sent_all else next_ns) - now())
        finally:
            woken.close()
            pinger.close()
        if not pinger.counts.received:
            raise ProgramError(f"no answer from {dest}{told and f': {told}'}")

    return {"start": start, "dest": dest}


@_program(click.argument("url", type=URL))
def get(url: Target) -> Any:
    """Fetch a URL; fails for a status of 400 and above."""

    async def start(host: Host, address: Callable[[str], str], figures: Figures) -> None:
        began_ns = host.clock.now_ns()
        reader, writer = await aio.open_connection(host, address(url.address), url.port)
        try:
            of = f"[{url.address}]" if ":" in url.address else url.address
            request = (
                f"GET {url.path} HTTP/1.1\r\nHost: {of}:{url.port}\r\nConnection: close\r\n\r\n"
            )
            writer.write(request.encode())
            answer = http.client.HTTPResponse(_Answer(await reader.read()))  # type: ignore[arg-type]
        finally:
            writer.close()
        try:
            answer.begin()
            body = answer.read()
        except (http.client.HTTPException, ValueError) as error:
            raise ProgramError(f"{url.url}: no HTTP answer: {error!r}") from None
        figures["status"] = answer.status
        figures["bytes"] = len(body)
        figures["seconds"] = (host.clock.now_ns() - began_ns) / SECOND_NS
        if answer.status >= 400:
            raise ProgramError(f"{url.url}: {answer.status} {answer.reason}")

    return {"start": start, "dest": url.address}


class _Answer:
    """Received data of a connection, for the standard library's HTTP."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.data)


@_program(
    click.option("-n", "--bytes", "total", type=Size(1)),
    click.option("-t", "--time", "time_ns", type=Duration(above=True)),
    click.option("-b", "--bitrate", "bitrate", type=Rate()),
    click.argument("dest", type=HOST),
    click.argument("port", type=PORT),
)
def send(total: int | None, time_ns: int | None, bitrate: int | None, dest: str, port: int) -> Any:
    """Send a TCP stream of -n bytes, for -t, or until stopped; reads replies."""

    async def start(host: Host, address: Callable[[str], str], figures: Figures) -> None:
        to = address(dest)
        now = host.clock.now_ns
        figures["bytes"], figures["seconds"] = 0, 0.0
        with Socket(host, AF_INET6 if ":" in to else AF_INET, SOCK_STREAM) as sock:
            sock.setblocking(False)
            await aio.sock_connect(sock, (to, port))
            began_ns = now()
            reading = asyncio.create_task(_read_all(sock))
            try:
                while True:
                    sent, spent_ns = figures["bytes"], now() - began_ns
                    if time_ns is not None and spent_ns >= time_ns:
                        break
                    most = len(BLOCK) if total is None else min(len(BLOCK), total - sent)
                    if not most:
                        break
                    if bitrate is not None:
                        early_ns = sent * 8 * SECOND_NS // bitrate - spent_ns
                        if early_ns > 0:
                            await asyncio.sleep(early_ns / SECOND_NS)
                            continue
                        most = min(most, max(SEGMENT_BYTES, bitrate // 800))  # or 10 ms of it
                    await aio.sock_sendall(sock, BLOCK[:most])
                    figures["bytes"] = sent + most
                    figures["seconds"] = (now() - began_ns) / SECOND_NS
                sock.shutdown(SHUT_WR)
                await reading
                figures["seconds"] = (now() - began_ns) / SECOND_NS
            finally:
                reading.cancel()

    return {"start": start, "dest": dest}


async def _read_all(sock: Socket) -> None:
    while await aio.sock_recv(sock, 1 << 16):
        pass


@_program(click.argument("services", type=SERVICES))
def serve(services: list[Service]) -> Any:
    """Serve echo, discard, chargen, http and iperf3, as `e1000emu up --serve`."""
    return _serving(services)


@_program(
    click.option("-s", "--server", is_flag=True),
    click.option("-p", "--port", type=PORT, default=IPERF3_PORT),
)
def iperf3(server: bool, port: int) -> Any:
    """Serve iperf3's protocol: one test at a time."""
    if not server:
        raise click.UsageError("only the server, -s, is there")
    return _serving(parse_serve(f"iperf3:{port}"))


def _serving(services: list[Service]) -> Any:
    async def start(host: Host, address: Callable[[str], str], figures: Figures) -> None:
        own = [Service(s.name, s.port, s.root) for s in services]  # with counters of this host
        try:
            async with asyncio.TaskGroup() as group:
                for service in own:
                    group.create_task(serve_one(host, service))
        finally:
            for service in own:
                figures[f"{service.name}:{service.port}"] = {
                    "connections": service.connections,
                    "bytes_in": service.bytes_in,
                    "bytes_out": service.bytes_out,
                }

    return {"start": start, "lasting": True}


@_program(
    click.option("-s", "--server", is_flag=True),
    click.argument("argv", metavar="PROGRAM [ARGS]...", nargs=-1, required=True),
    name="exec",
    allow_interspersed_args=False,
)
def unmodified(server: bool, argv: tuple[str, ...]) -> Any:
    """Run a program of this machine, on the host's network; fails according to its exit status.

    With -s the run does not wait for it, and it has ended when all its processes have. Without -s
    it has ended when its first process has, and the others are killed.
    """

    async def start(host: Host, address: Callable[[str], str], figures: Figures) -> None:
        from stack.api.programs import start as start_program

        began_ns = host.clock.now_ns()
        pipes: dict[str, Any] = {"stdin": DEVNULL, "stdout": PIPE, "stderr": STDOUT}
        program = start_program(host, argv, **pipes)
        try:
            status = await program.ended(children=server)
        finally:
            program.close()
            program.wait()
            output = last_line(program.printed)
            figures |= {"seconds": (host.clock.now_ns() - began_ns) / SECOND_NS, "output": output}
        if status:
            why = f"ended by {signal_name(-status)}" if status < 0 else f"exit status {status}"
            raise ProgramError(f"{why}{output and f': {output}'}")

    return {"start": start, "lasting": server, "looks_up": True}


def last_line(printed: bytes) -> str:
    """Return the last non-empty line of a program's output, for our message."""
    lines = [line for line in printed.decode(errors="replace").splitlines() if line.strip()]
    shown = "".join(char if char.isprintable() else " " for char in "".join(lines[-1:]))
    return shown.strip()[:MOST_SHOWN]


def told(error: BaseException) -> str:
    """Return the message of a program that ended with `error`."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(told(each) for each in error.exceptions)
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
