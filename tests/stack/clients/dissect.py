"""What tshark makes of datagrams: each in a frame with scapy's headers, all in one capture."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import wrpcap

from tests.support import require


def tshark(
    path: Path,
    payloads: Sequence[bytes],
    sport: int,
    dport: int,
    fields: Sequence[str],
    *,
    v6: bool = False,
) -> list[list[str]]:
    """Write `payloads` to `path` as UDP datagrams, one row of `fields` for each.

    Fails for a frame that tshark calls malformed or has a warning or an error for.
    """
    tool = require.tool("tshark")
    ip = IPv6(src="fe80::1", dst="fe80::2") if v6 else IP(src="10.0.0.9", dst="10.0.0.1")
    head = Ether(src="52:54:00:12:34:56", dst="52:54:00:00:00:01") / ip
    frames = [head / UDP(sport=sport, dport=dport) / Raw(data) for data in payloads]
    wrpcap(str(path), frames)
    command = [tool, "-r", str(path), "-T", "fields"]
    wrong = "_ws.malformed or _ws.expert.severity >= 0x600000"
    bad = subprocess.run(
        [*command, "-e", "frame.number", "-e", "_ws.expert", "-Y", wrong],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert bad.stdout == ""
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) == len(payloads)
    return rows
