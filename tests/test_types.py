"""What `mypy --strict` says of a user's scripts: every mistake is found, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Each line that is wrong names the kind of error it is.
WRONG = """\
from e1000emu import Nic, Nicc  # attr-defined
from e1000emu.lab import add_nic, lan, pump, two_hosts
from stack import aio
from stack.core.rows import wide
from stack.ipv4.addr import ipv4_is_loopback
from stack.socket import Socket, create_connection, create_server, wait_any

a, b = two_hosts()
a.nonexistent()  # attr-defined
print(a.no_such_field)  # attr-defined
a.machine.no_such_field = 1  # attr-defined
a.dev("eth0").mtuu = 9000  # attr-defined
a.dev("eth0").netdev_ops.ndo_nothing = None  # attr-defined
a.dev("eth0").net.routes()  # attr-defined
a.socket().sk.foo  # attr-defined
a.socket().sk.net.mib.tcpp  # attr-defined
a.netns_add("blue").no_such_field  # attr-defined
a.set_netns("eth0", "blue")  # arg-type
two_hosts(foo=1)  # call-arg
two_hosts(latency_ns="1 ms")  # arg-type
lan(2, foo=1)  # call-arg
lan(2, mac=b"")  # call-arg
add_nic(a, "tap0")  # arg-type
a.socket().nonexistent()  # attr-defined
with Socket(a) as sock:
    sock.sendto(5, 6, 7)  # call-overload
    sock.sendto(b"x", ("10.0.0.2", 80), 7)  # call-overload
    sock.send("text")  # arg-type
    sock.bind(5)  # arg-type
    sock.recv("1")  # arg-type
    sock.nonexistent()  # attr-defined
    pump(sock, a, lambda: None, print)  # arg-type
    wait_any(sock, [])  # arg-type
create_connection("10.0.0.2", ("10.0.0.2", 80))  # arg-type
create_server(a, 80)  # arg-type


async def main() -> int:
    await aio.open_connection("10.0.0.2", "10.0.0.2", 80)  # arg-type
    return 1


text: str = aio.run(main(), clock=a.clock)  # assignment


def short(addr: wide) -> int:
    ipv4_is_loopback(addr)  # arg-type
    half: int = addr >> 64  # assignment
    return addr + half  # return-value
"""

RIGHT = """\
import asyncio
import select

from e1000emu import AsyncioClock, RealClock, VirtualClock, pair
from e1000emu.lab import add_nic, lan, pump, two_hosts
from stack import aio
from stack.core.rows import narrow, wide
from stack.host import Host
from stack.ipv4.addr import ipv4_is_loopback
from stack.ipv6.addr import ipv6_addr_loopback
from stack.socket import AF_INET, POLLIN, SOCK_DGRAM, SOL_SOCKET, SO_ERROR, Socket, wait_any

clock = VirtualClock()
a, b = two_hosts(clock, impair={"loss": 0.1}, sysctl={"tcp_sack": 0}, strict=True)
two_hosts(RealClock().start(), autoneg_ns=0)
h1, *rest = lan(3, mtu=1400, strict=True)
host = Host("c", clock=clock)
nic = add_nic(host, pair(clock)[0], addr="10.0.0.3/24", wait=False, autoneg_ns=1000)
print(nic.explain(), a.nics["eth0"].counters(), a.mib.tcp.OutSegs + 1, a.dev("eth0").mtu)
a.clock.run_for(1000)

blue = a.netns_add("blue", sysctl={"tcp_sack": 0})
moved: int = a.set_netns("eth0", blue, "eth%d").ifindex
blue.ifconfig("eth0", "10.0.0.1/24", up=True)
blue.socket(AF_INET, SOCK_DGRAM).sk.net.machine.clock.now_ns()

sock = a.socket(AF_INET, SOCK_DGRAM)
sock.sendto(b"x", ("10.0.0.2", 80))
sock.sendto(bytearray(2), 0, ("10.0.0.2", 80))
sock.sendto(memoryview(b"x"), 0, (0x0A000002, 80))
data, sender = sock.recvfrom(100)
sock.sendto(data + b"!", sender)
name: str = sock.getsockname()[0]
error: int = sock.getsockopt(SOL_SOCKET, SO_ERROR)
info: bytes = sock.getsockopt(6, 11, 200)
for ready, events in wait_any(a, [(sock, POLLIN)], timeout=1.0):
    ready.recv_into(bytearray(10))
select.select([sock], [], [], 0)
with Socket(b) as listener:
    listener.bind(("", 80))
    listener.listen()
    conn, peer = listener.accept()
    conn.sendall(peer[0].encode())
    pump(conn, listener, lambda: None, lambda piece: None)


async def main() -> bytes:
    reader, writer = await aio.open_connection(a, "10.0.0.2", 80)
    writer.write(b"x")
    return await reader.read()


answer: bytes = aio.run(main(), clock=clock)


def short(addr: wide, port: int) -> wide:
    if ipv6_addr_loopback(port) or ipv4_is_loopback(narrow(addr)):
        return port
    host: bytes = addr.to_bytes(16, "big")
    return addr & 0xFF | port if addr < 1 << 64 and host else ~addr


with asyncio.Runner() as runner:
    two_hosts(AsyncioClock(runner.get_loop()))
"""


def strict(*scripts: Path, cache: Path) -> list[str]:
    """The errors of mypy --strict, as in a project that has this package installed."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent"),
            *("--config-file=", f"--cache-dir={cache}", "--hide-error-context", "--no-pretty"),
            *map(str, scripts),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=scripts[0].parent,
        env={"MYPYPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if ": error: " in line]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("mypy")


def test_every_mistake_is_found_where_it_is(tmp_path, cache):
    script = tmp_path / "wrong.py"
    script.write_text(WRONG)
    lines = WRONG.splitlines()
    expected = {n: line.split("# ")[1] for n, line in enumerate(lines, 1) if "  # " in line}
    found = {}
    for error in strict(script, cache=cache):
        number, kind = int(error.split(":")[1]), error.rsplit("[", 1)[1].rstrip("]")
        found[number] = kind
    assert found == expected


def test_what_is_right_passes(tmp_path, cache):
    script = tmp_path / "right.py"
    script.write_text(RIGHT)
    assert strict(script, cache=cache) == []


def test_the_examples_pass(cache):
    examples = sorted((ROOT / "examples").glob("*.py"))
    assert len(examples) >= 6
    assert strict(*examples, cache=cache) == []


def test_each_name_that_stubtest_leaves_out_stands_below_a_reason() -> None:
    blocks = (ROOT / "scripts" / "stubtest.txt").read_text().split("\n\n")
    for block in blocks[1:]:
        lines = block.strip().splitlines()
        reasons = [line for line in lines if line.startswith("# ")]
        assert reasons, block
        assert lines[: len(reasons)] == reasons, "the reason stands first"
        assert len(lines) > len(reasons), f"nothing is left out by {reasons}"
