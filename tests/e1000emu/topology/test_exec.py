"""Programs of this machine on the hosts of a topology, in virtual time."""

from __future__ import annotations

import os
import shlex
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from e1000emu.parallel import Outcome, Simulation, simulate
from e1000emu.topology import Running, Topology, build
from e1000emu.topology.programs import last_line, parse
from fastpath.base import seccomp
from tests.e1000emu.topology import star
from tests.programs.test_scripts import has_ended
from tests.support import eventually, require

pytestmark = pytest.mark.skipif(not seccomp.available(), reason="needs Linux's seccomp")
SECOND_NS = 1_000_000_000

DELAY = "100ms"  # of a link to a client
results = partial(star.results, delay=DELAY)

SERVER = """
import os, socket, sys
listener = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    one, peer = listener.accept()
    if not os.fork():
        while data := one.recv(1000):
            one.sendall(data.upper())
        print("served", peer[0], flush=True)
        os._exit(0)
    one.close()
"""
CLIENT = """
import os, socket, subprocess, time
def ask(number):
    family = (socket.AF_INET, socket.AF_INET6)[number % 2]
    address = socket.getaddrinfo("server", 80, family, socket.SOCK_STREAM)[0][4]
    for _ in range(3):
        with socket.socket(family) as one:
            one.connect(address)
            one.sendall(b"number %d" % number)
            assert one.recv(99) == b"NUMBER %d" % number
for number in range(4):
    if not os.fork():
        ask(number)
        subprocess.run(["sh", "-c", "sleep 0.5; true"], check=True)
        os._exit(0)
for number in range(4):
    assert os.wait()[1] == 0
print("all after", time.monotonic())
"""


def python(tmp_path: Path, name: str, text: str) -> str:
    """Return the words that run `text`."""
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    return shlex.join([sys.executable, "-IS", str(path)])


def test_curl_fetches_from_pythons_server_over_a_link_with_delay(tmp_path: Path) -> None:
    curl = require.tool("curl")
    (tmp_path / "page").write_text("hello\n" * 1000)
    served = f"exec -s {sys.executable} -m http.server 80 --bind :: -d {tmp_path}"
    server, *clients = results(
        f"exec {curl} -sS -{{4,6}} -o /dev/null -w '%{{http_code}} %{{time_total}}' server/page",
        server=(served,),
    )
    for result in clients:  # SYN, request, FIN: three times there and back
        assert result.figures["output"] == "200 0.606000"
        assert (result.state, result.figures["seconds"]) == ("done", pytest.approx(0.606))
    assert server.state == "stopped"
    assert '"GET /page HTTP/1.1" 200 -' in server.figures["output"]


def test_time_is_virtual() -> None:
    begun = time.monotonic()
    for result in results("exec sleep 3600"):
        assert (result.state, result.figures) == ("done", {"seconds": 3600, "output": ""})
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("exec sh -c 'echo one; echo two >&2; echo; exit 3'", "exit status 3: two"),
        ("exec sh -c 'kill -9 $$'", "ended by SIGKILL"),
        ("exec sh -c 'kill -40 $$'", "ended by signal 40"),
        ("exec /no/such/program", "exit status 127: /no/such/program: No such file or directory"),
        ("exec false", "exit status 1"),
    ],
)
def test_a_status_that_is_not_0_fails_with_the_last_line(line: str, told: str) -> None:
    (one, _) = results(line)
    assert (one.state, one.error) == ("failed", told)


def test_a_program_that_waits_for_what_cannot_come_fails(tmp_path: Path) -> None:
    text = "import socket; socket.socket(type=socket.SOCK_DGRAM).recv(1)"
    (one, _) = results(f"exec {python(tmp_path, 'waits', text)}")
    assert one.state == "failed"
    assert "no event is left" in one.error


def test_names_of_nodes_are_known_only_where_programs_look_them_up() -> None:
    with build(star.flat((), ("exec true",))) as lab, Running(lab):
        hosts = lab["client1"].names.hosts
        assert "10.0.0.1 server\n2001:db8::1 server\n10.0.0.2 client1\n" in hosts.emit()
        assert lab["server"].names.hosts.addresses("server") == []


def test_a_server_ends_with_its_last_process_others_end_their_children(tmp_path: Path) -> None:
    forks = """
import os, sys, time
if not os.fork():
    print(os.getpid(), flush=True)
    time.sleep(int(sys.argv[1]))
    print("child", time.monotonic(), flush=True)
    os._exit(0)
time.sleep(1)
"""
    line = python(tmp_path, "forks", forks)
    server, *clients = results(f"exec {line} 50", "exec sleep 5", server=(f"exec -s {line} 2",))
    assert (server.state, server.figures["seconds"]) == ("done", 2)
    assert server.figures["output"].startswith("child ")
    for one in clients[::2]:
        assert (one.state, one.figures["seconds"]) == ("done", 1)
        child = int(one.figures["output"])
        eventually(lambda child=child: has_ended(child))


def test_much_output_is_taken_and_its_end_is_kept() -> None:
    (one, _) = results("exec seq 100000")
    assert one.figures["output"] == "100000"


def test_nothing_is_left_of_what_still_runs() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        results("exec sleep 1000", "exec -s sh -c 'sleep 10000 & sleep 10000'", for_ns=SECOND_NS)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_last_lines_can_be_shown() -> None:
    assert last_line(b"") == last_line(b"\n \n") == ""
    assert last_line(b"a\nb\xff\x1b[1m\tc \n\n") == "b\N{REPLACEMENT CHARACTER} [1m c"
    assert last_line(b"a" * 1000) == "a" * 200


def test_words_after_the_program_are_its_own() -> None:
    assert not parse("exec ls -s").lasting
    assert parse("exec -s ls").lasting


def divided(text: str) -> Simulation:
    return Simulation(Topology.from_text(text, file="f").flat())


def run_divided(text: str, processes: int) -> Outcome:
    return simulate(
        divided, text, processes=processes, until_ns=60 * SECOND_NS, check_ns=SECOND_NS // 10
    )


def test_runs_are_equal_however_they_are_divided(tmp_path: Path) -> None:
    server, client = python(tmp_path, "server", SERVER), python(tmp_path, "client", CLIENT)
    text = star.lab_text((f"exec -s {server}",), (f"exec {client}",), DELAY)
    one = run_divided(text, 1)
    server_ended, *clients = one.programs
    assert server_ended.figures["output"].startswith("served ")
    for result in clients:
        assert (result.state, result.error) == ("done", "")
        assert result.figures["output"].startswith("all after ")
    for processes in (2, 3):
        again = run_divided(text, processes)
        assert again.digest == one.digest
        assert again.programs == one.programs
