"""passt: the machine's own network as the far end, without privileges.

passt (https://passt.top, Debian's package `passt`) speaks Ethernet on one side, in QEMU's stream
framing, and uses the machine's sockets on the other. `Passt(clock)` starts and ends one;
`Passt(clock, path=PATH)` connects to a listening one.
"""

from __future__ import annotations

import ipaddress
import itertools
import logging
import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from e1000emu.errors import LinkError
from e1000emu.links import pool
from e1000emu.links.base import Middleware
from e1000emu.links.qemu import MIN_FRAME_BYTES, SOCKET_BYTES, PollClock, QemuStream
from fastpath.base.batch import FB_HAS_FCS
from fastpath.errors import check_clock, check_type, whole_number

if TYPE_CHECKING:
    from fastpath.base.batch import FrameBatch

log = logging.getLogger(__name__)

ADDRESS = "10.0.2.15/24"
"""What a guest gets by DHCP; its gateway is then 10.0.2.2. As in QEMU's user network."""
MTU = 1500
"""passt's default for guests is 65520, more than an 8254x supports."""
START_S = 5.0
NOBODY = bytes.fromhex("525400000000")
NOISE = re.compile(r"Failed to send \d+ bytes to syslog|Don't run as root.*|^\S*passt: ")
REMEDIES = (
    ("routable interface|interface not usable", "name the way out: a default route, or -i NAME"),
    ("option '--fd'|option -- 'F'", "this passt is too old; Debian 12 has one that will do"),
    ("user namespace|unshare|uid_map", "passt wants to make a user namespace; allow it (sysctl "
     "user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)"),
    ("[Bb]ind|in use|ermission denied", "forward ports that are free and above 1023"),
    ("option|specifier|nvalid", "passt --help lists its options"),
)  # fmt: skip


class _Process:
    """A passt process of ours and its output; `sock` is the Ethernet end of its socket."""

    def __init__(self, args: list[str], name: str, mac: bytes) -> None:
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 (closed by end)
        self.sock, theirs = socket.socketpair()
        # A full socket makes passt drop frames, and TCP back off.
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        self._said = 0  # bytes of `_words` that were not errors
        try:
            with theirs:
                self._popen = subprocess.Popen(
                    [*args, "--foreground", "--fd", str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=self._words,
                    stderr=self._words,
                )
        except OSError:
            self.sock.close()
            self._words.close()
            raise
        self.pid = self._popen.pid
        # Also if the interpreter ends without a call of close.
        self.end = weakref.finalize(self, _end, self._popen, self.sock, self._words)
        try:
            if not self._serves(mac):
                raise LinkError(f"{name}: does not start: {self.last_words()}")
        except BaseException:
            self.end()
            raise
        self._said = self._words.seek(0, os.SEEK_END)

    def _serves(self, mac: bytes) -> bool:
        """Wait for its first output; False if it exits."""
        # ARP for 0.0.0.1, since passt answers for all. An ARP probe without address (RFC 5227).
        probe = b"\xff" * 6 + mac + bytes.fromhex("0806 0001 0800 06 04 0001") + mac
        probe += bytes(4) + bytes(6) + bytes((0, 0, 0, 1))
        self.sock.settimeout(START_S)
        try:
            self.sock.sendall(len(probe).to_bytes(4, "big") + probe)
            self._receive(int.from_bytes(self._receive(4), "big"))
        except TimeoutError:
            return self._popen.poll() is None  # with IPv6 only, it does not answer ARP
        except OSError:
            return False
        return True

    def _receive(self, n: int) -> bytes:
        data = b""
        while len(data) < n:
            piece = self.sock.recv(n - len(data))
            if not piece:
                raise ConnectionResetError
            data += piece
        return data

    def last_words(self) -> str:
        """Return its exit status and its errors since it began to serve."""
        try:
            code = self._popen.wait(1)
        except subprocess.TimeoutExpired:
            return "it has closed its socket but still runs"
        self._words.seek(self._said)
        text = self._words.read().decode("utf-8", "replace").split("Usage:")[0]
        lines = [line for raw in text.splitlines() if (line := NOISE.sub("", raw).strip())]
        said = "; ".join(lines) or (f"killed by signal {-code}" if code < 0 else f"status {code}")
        for pattern, remedy in REMEDIES:
            if re.search(pattern, said):
                return f"{said}; {remedy}"
        return said


def _end(process: subprocess.Popen[bytes], sock: socket.socket, words: IO[bytes]) -> None:
    sock.close()
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    words.close()


def _defaults(options: Sequence[str], address: str, gateway: str | None, mtu: int) -> list[str]:
    """Return the options for `address`, `gateway` and `mtu` that `options` do not set."""
    if "/" not in address:
        raise LinkError(f"passt: address {address!r} has no prefix length; write {address}/24")
    try:
        ours = ipaddress.IPv4Interface(address)
        if gateway is None:
            # The second address before the first, as in QEMU's user network.
            first = list(itertools.islice(ours.network.hosts(), 2))
            gate = next(host for host in reversed(first) if host != ours.ip)
        else:
            gate = ipaddress.IPv4Address(gateway)
    except ValueError as error:
        raise LinkError(f"passt: {error}; write for instance 10.0.2.15/24 and 10.0.2.2") from None
    except StopIteration:
        raise LinkError(f"passt: {ours} leaves no address to the gateway; widen it") from None
    mtu = whole_number("passt", "mtu", mtu, 68, 65520, unit="bytes", error=LinkError)
    values = {
        "--address": str(ours.ip),
        "--netmask": str(ours.network.prefixlen),
        "--gateway": str(gate),
        "--mtu": str(mtu),
    }
    return [
        word
        for name, value in values.items()
        if not any(o.startswith((name[1:3], name)) for o in options)
        for word in (name, value)
    ]


class Passt(Middleware):
    """A link to the machine's network; `close` ends the passt that it started.

    Args:
        address: of the host on this link, with prefix length; offered by DHCP.
        gateway: stands for the machine itself: a connection to it goes to the machine's loopback
            address. None: the second address of the network, or the first when that is `address`.
        mtu: that passt announces by DHCP and NDP, bytes.
        mac: of the NIC, if connections from outside (`-t`) must reach it before it has sent
            anything; not needed if the guest uses DHCP.
        options: further ones for passt, `("-t", "8080:80")`; they override the three above.
        path: connect to the passt at this socket instead; it has its own options.
        program: the passt to start.
        poll_ns: as for `QemuStream`; a VirtualClock needs it.

    Raises:
        LinkError: passt is missing or fails to start; the text has its output and a remedy.
    """

    def __init__(
        self,
        clock: PollClock,
        *,
        address: str = ADDRESS,
        gateway: str | None = None,
        mtu: int = MTU,
        mac: bytes = NOBODY,
        options: Sequence[str] = (),
        path: str | os.PathLike[str] | None = None,
        program: str = "passt",
        poll_ns: int | None = None,
    ) -> None:
        check_clock("Passt", clock)
        check_type("Passt", "mac", mac, (bytes, bytearray), "six bytes")
        check_type("Passt", "address", address, str, f"text such as {ADDRESS}")
        if gateway is not None:
            check_type("Passt", "gateway", gateway, str, "text such as 10.0.2.2, or None")
        whole_number("Passt", "mtu", mtu)
        check_type("Passt", "options", options, (list, tuple), 'a list such as ["-t", "8080:80"]')
        for option in options:
            check_type("Passt", "options", option, str, 'text in it, as in ["-t", "8080:80"]')
        if path is not None:
            check_type("Passt", "path", path, (str, os.PathLike), "a path")
        check_type("Passt", "program", program, str, "the name of a program")
        if len(mac) != 6:
            raise LinkError(f"passt: mac={mac!r} has {len(mac)} bytes; a MAC address has 6")
        self.gone = ""
        """Why passt has ended; empty while it runs."""
        self._process: _Process | None = None
        if path is not None:
            self._name = f"passt:{os.fspath(path)}"
            sock = _join(os.fspath(path), self._name)
        else:
            self._name = shlex.join(["passt", *options])
            found = shutil.which(program)
            if found is None:
                raise LinkError(f"{self._name}: no program {program!r}; apt-get install passt")
            defaults = _defaults(options, address, gateway, mtu)
            try:
                self._process = _Process([found, *options, *defaults], self._name, mac)
            except OSError as error:
                raise LinkError(f"{self._name}: cannot start it: {error}") from None
            sock = self._process.sock
        try:
            stream = QemuStream(sock, clock, poll_ns=poll_ns)
        except BaseException:
            sock.close()
            if self._process is not None:
                self._process.end()
            raise
        super().__init__(stream, clock=clock)
        self.stats = stream.stats

    def __repr__(self) -> str:
        return f"Passt({self._name!r}, carrier={self.carrier})"

    def transmit(self, batch: FrameBatch) -> None:
        """Send the frames. Takes ownership of `batch`."""
        if any(batch.frame_len(i) <= MIN_FRAME_BYTES + 4 for i in range(len(batch))):
            padded, batch = batch, pool.get()
            for i, data in enumerate(padded):
                flags = padded.flags(i)
                if flags == FB_HAS_FCS:
                    data, flags = data[:-4], 0
                batch.append(data if flags else _unpadded(data), flags)
            pool.put(padded)
        super().transmit(batch)

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        """passt has ended: report the reason, and pass on the loss of carrier."""
        if not up and not self.gone:
            self.gone = "it has closed the socket"
            if "bad length" in self.stats.drops:
                self.gone = "it sent what is no frame"
            elif self._process is not None:
                self.gone = self._process.last_words()
            log.error("%s is gone: %s", self._name, self.gone)
        super().link_changed(up, speed_mbps, full_duplex)

    def close(self) -> None:
        """Unplug, and end our own passt."""
        super().close()
        if self._process is not None:
            self._process.end()


def _unpadded(data: bytes) -> bytes:
    """Remove the padding of an IP packet to 60 bytes.

    passt 2023-03 (Debian 12) drops a frame longer than the packet in it, such as every bare ACK;
    2025-05 (Debian 13) accepts it.
    """
    if len(data) == MIN_FRAME_BYTES:
        kind = data[12:14]
        if kind == b"\x08\x00":
            return data[: max(34, 14 + int.from_bytes(data[16:18], "big"))]
        if kind == b"\x86\xdd":
            return data[: 54 + int.from_bytes(data[18:20], "big")]
    return data


def _join(path: str, name: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise LinkError(
            f"{name}: {error.strerror or error}; first start passt --foreground --socket "
            f"{shlex.quote(path)}"
        ) from None
    return sock
