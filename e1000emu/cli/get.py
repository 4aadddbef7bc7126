"""`e1000emu get`: an HTTP/1.1 client (the standard library's) over our own TCP."""

from __future__ import annotations

import contextlib
import http.client
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from e1000emu.cli.common import StationOptions, describe, emit_json, open_output, station_options
from e1000emu.cli.errors import ArgumentError
from e1000emu.cli.params import OUT_FILE, Duration, Parsed, not_a_name
from e1000emu.errors import E1000Error
from e1000emu.quantities import show_duration

MAX_REDIRECTS = 5
FORM = "http://HOST[:PORT]/PATH"


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of a URL."""

    url: str
    address: str
    port: int
    path: str
    """For the request line: quoted, with the query."""


def parse_url(url: str) -> Target:
    """Parse a URL.  Raises: ArgumentError for one that this client does not support."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = 80 if parts.port is None else parts.port
    except ValueError as error:
        raise ArgumentError(f"{url!r}: {error}; give {FORM}") from None
    if parts.scheme != "http" or not parts.hostname:
        raise ArgumentError(f"{url!r}: only {FORM} can be fetched")
    if port == 0:
        raise ArgumentError(f"{url!r}: nothing can listen on port 0; give {FORM}")
    address = urllib.parse.unquote(parts.hostname)  # RFC 6874: a zone begins with %25
    if wrong := not_a_name(address):
        raise ArgumentError(f"{url!r}: {address!r} {wrong}; give {FORM}")
    # what a URL may not hold as it is (spaces, letters beyond ASCII) goes as UTF-8 in %XX
    target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    path = urllib.parse.quote(target, safe="!#$%&'()*+,-./:;=?@[]_~")
    return Target(url, address, port, path)


URL = Parsed("URL", parse_url)


class StackHTTPConnection(http.client.HTTPConnection):
    """`http.client.HTTPConnection` whose socket belongs to one of our hosts."""

    def __init__(self, host: Any, address: str, port: int, timeout_s: float) -> None:
        super().__init__(address, port, timeout=timeout_s)
        self._stack_host = host

    def connect(self) -> None:
        """Connect through our stack."""
        from stack.socket import IPPROTO_TCP, TCP_NODELAY, create_connection

        self.sock = create_connection(
            self._stack_host, (self.host, self.port), timeout=self.timeout
        )
        # As the base class does: a request in two pieces must not wait for a delayed ACK.
        self.sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)


class OutputError(Exception):
    """The body could not be written; `__cause__` is the OSError."""


def _write(out: Any, data: Any) -> None:
    """Write and flush; a failure is distinguished from network errors, also OSError."""
    try:
        out.write(data)
        out.flush()
    except OSError as error:
        raise OutputError from error


def fetch(host: Any, target: Target, out: Any, timeout_s: float) -> dict[str, Any]:
    """Fetch `target` into the binary file `out`; return status, bytes and times.

    Raises: E1000Error for a status of 400 and above, and for an answer that is not HTTP.
    """
    for _ in range(MAX_REDIRECTS + 1):
        url = target.url
        start = time.perf_counter()
        connection = StackHTTPConnection(host, target.address, target.port, timeout_s)
        try:
            try:
                connection.request(
                    "GET", target.path, headers={"User-Agent": "e1000emu", "Connection": "close"}
                )
                response = connection.getresponse()
            except http.client.HTTPException as error:
                raise E1000Error(
                    f"{url}: not an HTTP answer ({error!r}); is this an HTTP server's port?"
                ) from None
            if response.status in (301, 302, 303, 307, 308) and response.getheader("Location"):
                there = urllib.parse.urljoin(url, response.getheader("Location") or "")
                try:
                    target = parse_url(there)
                except ArgumentError as error:
                    raise E1000Error(f"{url}: redirected to {error}") from None
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
                # readinto() reports no error if the peer closes early; the announced length
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
@click.argument("target", metavar="URL", type=URL, is_eager=True)
@station_options
@click.option("-o", "--output", type=OUT_FILE, help="Write the body to this file.")
@click.option(
    "--timeout",
    "timeout_ns",
    type=Duration(above=True),
    default="30s",
    help="Give up after so much silence.",
)
@click.option("--json", "as_json", is_flag=True, help="Report as JSON; needs -o for the body.")
def command(
    target: Target, at: StationOptions, output: Path | None, timeout_ns: int, as_json: bool
) -> None:
    """Fetch URL over our own TCP; the body goes to standard output or to -o FILE.

    URL is http://HOST[:PORT]/PATH; HOST is a name, an IPv4 address or an IPv6 address in brackets.
    Names are resolved by the servers of --dns or --dhcp. Without a network there is a server
    at the far end of --link stack:10.9.0.1/24,serve=http:80.
    """
    if as_json and output is None:
        raise ArgumentError("--json: standard output carries the body; add -o FILE")
    url = target.url
    with at.blocking() as station:
        out = open_output(output)
        try:
            report = fetch(station.host, target, out, timeout_ns / 1e9)
        except OutputError as error:
            failure = error.__cause__
            if isinstance(failure, OSError) and failure.filename is None and output:
                failure.filename = str(output)
            raise (failure or error) from None
        except TimeoutError:
            raise E1000Error(
                f"{url}: no answer within {show_duration(timeout_ns)}; is it up? "
                "--timeout waits longer"
            ) from None
        except OSError as error:
            raise E1000Error(f"{url}: {describe(error, station.host)}") from None
        finally:
            if output is not None:
                with contextlib.suppress(OSError):
                    out.close()
    if as_json:
        emit_json(report)
    elif output is not None:
        click.echo(
            f"{output}: {report['bytes']} bytes, {report['mbit_per_s']:.0f} Mbit/s", err=True
        )
