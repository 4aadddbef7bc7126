"""tshark checks every frame that our stack sends in a test: not malformed, checksums correct.

`judged(module)` (an autouse fixture of `tests/stack`) puts a tap between each NIC and its link and
has tshark read the sent frames after the module's tests. A test that means to send bad frames
says so with `@pytest.mark.sends_bad_frames`.
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e1000emu.capture import DIRECTION_OUT, PcapngWriter, read_capture
from e1000emu.device.nic import Nic
from e1000emu.links.capture import Capture
from tests.support import in_ci

# Enough to see every kind of frame a test sends; a bulk transfer repeats itself.
FRAMES_PER_NIC = 3000

# A client's port may be EtherCAT's (34980): its data is not.
NOT_ON_THESE_PORTS = ("--disable-protocol", "ecatf")
BAD = (
    "_ws.malformed or _ws.short or ip.checksum.status == 0 or tcp.checksum.status == 0 "
    "or udp.checksum.status == 0 or icmp.checksum.status == 0 or icmpv6.checksum.status == 0 "
    "or igmp.checksum.status == 0 or xtp.checksum.status == 0 or xtp.spans_bad "
    "or ip.bogus_header_length or tcp.bogus_header_length or udp.length.bad "
    "or _ws.expert.severity == 8388608"
)
ID = "frame.interface_id"


class Tap(Capture):
    """A capture of the frames from its port, up to `FRAMES_PER_NIC` frames."""

    sent = 0
    on = True

    def transmit(self, batch: Any) -> None:
        """Write the first frames and send all. Takes ownership of `batch`."""
        n = min(len(batch), FRAMES_PER_NIC - self.sent)
        if n > 0 and Tap.on:
            self.sent += n
            self._write(batch, 0, n, DIRECTION_OUT)
        self.link.transmit(batch)

    def receive(self, batch: Any, start: int, hold: bool) -> int:
        """Pass the frames on."""
        return self.port.receive(batch, start, hold) if self.port is not None else len(batch)


def verdict(path: Path, tshark: str) -> str:
    """Return tshark's summary of the frames it finds wrong; empty if all are correct.

    A NIC with one is judged once more, by its own frames alone. tshark puts fragments of two hosts
    together when both have the same addresses and count alike, as in each example of a property.
    That happens when one of them lost the rest, or when it was not written down.
    """
    wrong = _bad_frames(path, tshark)
    if not wrong:
        return ""
    accused = {int(line) for line in _bad_frames(path, tshark, "-T", "fields", "-e", ID).split()}
    found = []
    for interface in sorted(accused):
        alone = path.with_name(f"{path.stem}-{interface}{path.suffix}")
        with PcapngWriter(alone) as writer:
            number = writer.add_interface(f"nic{interface}")
            for record in read_capture(path):
                if record.interface == interface:
                    writer.put_record(record, number)
        found.append(_bad_frames(alone, tshark))
    return "\n".join(filter(None, found))


def _bad_frames(path: Path, tshark: str, *form: str) -> str:
    checks = [
        part for name in ("ip", "tcp", "udp") for part in ("-o", f"{name}.check_checksum:TRUE")
    ]
    done = subprocess.run(
        [tshark, "-r", str(path), *checks, *NOT_ON_THESE_PORTS, "-Y", BAD, *form],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if done.returncode:
        raise OSError(f"tshark exits with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


def judge(tmp_path_factory: pytest.TempPathFactory, tshark: str | None) -> Iterator[None]:
    """Tap every NIC created meanwhile; fail if tshark finds a bad frame among those sent."""
    if tshark is None:
        if in_ci():
            pytest.fail("CI is set, but there is no tshark to judge the frames", pytrace=False)
        yield
        return
    path = tmp_path_factory.mktemp("judge") / "sent.pcapng"
    writer = PcapngWriter(path)
    original = Nic.__init__
    taps = 0

    @functools.wraps(original)
    def tapped(self: Nic, *, link: Any, clock: Any, **kwargs: Any) -> None:
        nonlocal taps
        taps += 1
        original(self, link=Tap(link, writer, clock=clock), clock=clock, **kwargs)

    Nic.__init__ = tapped  # type: ignore[method-assign]
    try:
        yield
    finally:
        Nic.__init__ = original  # type: ignore[method-assign]
        writer.close()
    if taps:
        wrong = verdict(path, tshark)
        assert not wrong, f"tshark on {path}:\n{wrong[:4000]}"
