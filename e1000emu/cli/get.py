"""`e1000emu get`: an HTTP/1.1 client (the standard library's) over our own TCP."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import time
import urllib.parse
from pathlib import Path
from typing import Any

import click

from e1000emu.cli.common import (
    addr_option,
    capture_option,
    describe,
    emit_json,
    gw_option,
    impair_option,
    link_option,
    make_station,
    open_output,
)
from e1000emu.errors import E1000Error

__all__ = ["StackHTTPConnection", "command"]

MAX_REDIRECTS = 5


class StackHTTPConnection(http.client.HTTPConnection):
    """`http.client.HTTPConnection` whose socket belongs to one of our hosts."""

    def __init__(self, host: Any, address: str, port: int, timeout_s: float) -> None:
        super().__init__(address, port, timeout=timeout_s)
        self._stack_host = host

    def connect(self) -> None:
        """Connect through our stack."""
        from stack.socket import create_connection

        self.sock = create_connection(
            self._stack_host, (self.host, self.port), timeout=self.timeout
        )


class OutputError(Exception):
    """The body could not be written; `__cause__` is the OSError."""


def _write(out: Any, data: Any) -> None:
    """Write and flush; a failure is told apart from the network's, which is an OSError too."""
    try:
        out.write(data)
        out.flush()
    except OSError as error:
        raise OutputError from error


def fetch(host: Any, url: str, out: Any, timeout_s: float) -> dict[str, Any]:
    """Fetch `url` into the binary file `out`; return status, bytes and times.

    Raises E1000Error for a URL this client cannot serve (no DNS here: the URL must hold an IPv4
    address) and for
    an answer of 400 and above.
    """
    for _ in range(MAX_REDIRECTS + 1):
        try:
            parts = urllib.parse.urlsplit(url)
            port = parts.port or 80
        except ValueError as error:
            raise E1000Error(f"{url!r}: {error}; give http://ADDRESS[:PORT]/PATH") from None
        if parts.scheme != "http" or not parts.hostname:
            raise E1000Error(f"{url!r}: only http://ADDRESS[:PORT]/PATH can be fetched")
        try:
            address = str(ipaddress.IPv4Address(parts.hostname))
        except ValueError:
            raise E1000Error(
                f"{parts.hostname!r}: no name service here; give the IPv4 address"
            ) from None
        # what a URL may not hold as it is (spaces, letters beyond ASCII) goes as UTF-8 in %XX
        target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        path = urllib.parse.quote(target, safe="!#$%&'()*+,-./:;=?@[]_~")
        start = time.perf_counter()
        connection = StackHTTPConnection(host, address, port, timeout_s)
        try:
            try:
                connection.request(
                    "GET", path, headers={"User-Agent": "e1000emu", "Connection": "close"}
                )
                response = connection.getresponse()
            except http.client.HTTPException as error:
                raise E1000Error(
                    f"{url}: not an HTTP answer ({error!r}); is this an HTTP server's port?"
                ) from None
            if response.status in (301, 302, 303, 307, 308) and response.getheader("Location"):
                url = urllib.parse.urljoin(url, response.getheader("Location") or "")
                continue
            if response.status >= 400:
                # the server's words: nothing in them may reach the terminal as a command
                reason = "".join(c if c.isprintable() else "?" for c in response.reason)
                raise E1000Error(f"{url}: {response.status} {reason}")
            total = 0
            buffer = bytearray(1 << 18)
            try:
                while n := response.readinto(buffer):
                    _write(out, memoryview(buffer)[:n])
                    total += n
                # readinto() ends quietly when the peer closes early; the length that was promised
                # decides
                if response.length:
                    raise http.client.IncompleteRead(b"", response.length)
            except http.client.IncompleteRead as error:
                if error.partial:
                    _write(out, error.partial)
                left = "" if error.expected is None else f", {error.expected} bytes missing"
                raise E1000Error(f"{url}: the answer ended early{left}; try again") from None
            _write(out, b"")
            seconds = time.perf_counter() - start
            return {
                "url": url,
                "status": response.status,
                "bytes": total,
                "seconds": seconds,
                "mbit_per_s": total * 8 / seconds / 1e6,
            }
        finally:
            connection.close()
    raise E1000Error(f"{url}: more than {MAX_REDIRECTS} redirections")


@click.command()
@click.argument("url")
@link_option
@addr_option
@gw_option
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the body to this file.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.001),
    default=30.0,
    show_default=True,
    help="Seconds of silence.",
)
@capture_option
@impair_option
@click.option("--json", "as_json", is_flag=True, help="Report as JSON (needs -o).")
def command(
    url: str,
    link_spec: str,
    addr: ipaddress.IPv4Interface,
    gw: ipaddress.IPv4Address | None,
    output: Path | None,
    timeout: float,
    capture: Path | None,
    impair: str | None,
    as_json: bool,
) -> None:
    """Fetch http://ADDRESS[:PORT]/PATH over our own TCP; the body goes to standard output or to -o
    FILE."""
    from e1000emu import RealClock

    if as_json and output is None:
        raise E1000Error("--json: standard output carries the body; add -o FILE")
    clock = RealClock()
    with clock.lock:
        station = make_station(clock, link_spec, addr, gw, capture=capture, impair=impair)
        try:
            out = open_output(output)
            try:
                report = fetch(station.host, url, out, timeout)
            except OutputError as error:
                failure = error.__cause__
                if isinstance(failure, OSError) and failure.filename is None and output:
                    failure.filename = str(output)
                raise (failure or error) from None
            except TimeoutError:
                raise E1000Error(
                    f"{url}: no answer within {timeout:g} s; is it up? --timeout S waits longer"
                ) from None
            except OSError as error:
                raise E1000Error(f"{url}: {describe(error)}") from None
            finally:
                if output is not None:
                    with contextlib.suppress(OSError):
                        out.close()
        finally:
            station.close()
    if as_json:
        emit_json(report)
    elif output is not None:
        click.echo(
            f"{output}: {report['bytes']} bytes, {report['mbit_per_s']:.0f} Mbit/s", err=True
        )
