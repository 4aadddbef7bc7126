"""A traceback through compiled modules is that of their sources: file, line, text of each frame."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import stack

ROOT = Path(stack.__file__).parents[1]

PROGRAM = """
import json, socket as S, traceback
import stack
from e1000emu.clock import VirtualClock
from stack.host import Host

h = Host(name="h", clock=VirtualClock())
h.ifconfig("lo", up=True)
udp = h.socket(S.AF_INET, S.SOCK_DGRAM)
tcp = h.socket(S.AF_INET, S.SOCK_STREAM)
raw = h.socket(S.AF_INET, S.SOCK_RAW, S.IPPROTO_ICMP)
udp6 = h.socket(S.AF_INET6, S.SOCK_DGRAM)
unix = h.socket(S.AF_UNIX, S.SOCK_STREAM)
other = h.socket(S.AF_INET, S.SOCK_DGRAM)
other.bind(("127.0.0.1", 7))
CALLS = [
    lambda: udp.sendto(b"x", ("192.0.2.1", 9)),
    lambda: udp.connect(("192.0.2.1", 9)),
    lambda: tcp.connect(("192.0.2.1", 9)),
    lambda: udp.bind(("127.0.0.1", 7)),
    lambda: udp.bind(("192.0.2.1", 7)),
    lambda: udp.sendto(bytes(70000), ("127.0.0.1", 9)),
    lambda: raw.sendto(bytes(70000), ("127.0.0.1", 0)),
    lambda: udp6.sendto(b"x", ("2001:db8::1", 9)),
    lambda: udp6.sendto(bytes(70000), ("::1", 9)),
    lambda: tcp.accept(),
    lambda: tcp.send(b"x"),
    lambda: tcp.recv(1),
    lambda: udp.setsockopt(S.IPPROTO_IP, 9999, 1),
    lambda: udp.setsockopt(S.IPPROTO_IP, S.IP_TTL, 300),
    lambda: udp.setsockopt(S.IPPROTO_IP, S.IP_OPTIONS, bytes([131, 1, 1])),
    lambda: tcp.getsockopt(S.IPPROTO_TCP, 9999),
    lambda: udp.recv(1, S.MSG_DONTWAIT),
    lambda: unix.connect("/nowhere"),
    lambda: unix.send(b"x"),
]
found = []
for call in CALLS:
    try:
        call()
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[1:]
        found.append(([(f.filename, f.lineno, f.line) for f in frames], repr(error)))
    else:
        found.append(([], "nothing"))
print(json.dumps([stack.COMPILED, found]))
"""


def run(where: Path, uncompiled: str) -> tuple[bool, list[tuple[list[tuple[str, int, str]], str]]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=where,  # from where no relative name is found
        env=dict(os.environ, E1000EMU_UNCOMPILED=uncompiled),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    compiled, found = json.loads(done.stdout)
    return compiled, found


@pytest.mark.skipif(not stack.COMPILED, reason="compares what is compiled with its sources")
def test_a_traceback_of_compiled_code_is_that_of_its_sources(tmp_path: Path) -> None:
    compiled, here = run(tmp_path, "0")
    _, there = run(tmp_path, "1")
    assert compiled
    assert [error for _, error in here] == [error for _, error in there]
    for ours, plain in zip(here, there, strict=True):
        assert ours == plain
    assert max(len(frames) for frames, _ in here) >= 5
    files = {Path(name) for frames, _ in here for name, _, _ in frames}
    assert len(files & {Path(name) for name in SOURCES}) >= 8


SOURCES = [
    str(ROOT / (name.removesuffix(".so").partition(".cpython-")[0] + ".py"))
    for name in (str(path.relative_to(ROOT)) for path in (ROOT / "stack").rglob("*.so"))
]
