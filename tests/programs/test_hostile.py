"""Programs that die in a call, lie, fork, flood; wrong arguments of `spawn`; leaks."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import gc
import mmap
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from e1000emu.cli import cli
from e1000emu.clock import ClockError, RealClock
from e1000emu.errors import E1000Error
from fastpath.base import seccomp
from stack.api.programs import Program, spawn
from stack.api.programs.filter import numbers
from stack.host import Host
from stack.socket import create_connection, create_server
from tests.hosts import real_host
from tests.programs.test_scripts import HEAD, SCRIPTS, left_open
from tests.support import eventually, require

pytestmark = pytest.mark.skipif(not seccomp.available(), reason="needs Linux's seccomp")
PIPE = subprocess.PIPE
HERE, MAP_FIXED_NOREPLACE = 0x123450000000, 0x100000


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with real_host("solo") as host:
        yield host


def script(host: Host, text: str, *, ours: bool = True, **popen: object) -> Program:
    said: list[str] = []
    argv = [sys.executable, "-c", (HEAD if ours else "") + textwrap.dedent(text)]
    program = spawn(host, argv, log=said.append, stdout=PIPE, text=True, **popen)  # type: ignore[arg-type]
    program.said = said  # type: ignore[attr-defined]
    return program


def test_a_program_that_is_killed_in_a_call_takes_nothing_with_it(host):
    with create_server(host, ("127.0.0.1", 700)) as listener:
        port = 'one = socket.create_connection(("127.0.0.1", 700))'
        with script(host, f"{port}; print(flush=True); one.recv(100)") as program:
            conn, _ = listener.accept()
            assert program.stdout.readline() == "\n"
            time.sleep(0.1)
            program.kill()
            assert program.wait() == -signal.SIGKILL
            assert conn.recv(1) == b""
            conn.close()
            eventually(lambda: not program.supervisor.waiting)
            assert program.said == []


def test_wild_arguments_give_an_errno_and_harm_nobody(host):
    text = """
        import random
        random.seed(7)
        _, client, server = tcp()
        one, two = udp()
        room = ctypes.create_string_buffer(1 << 20)  # for all that can be received
        fds = [client.fileno(), server.fileno(), one.fileno(), two.fileno(), 0, 77, -1]
        numbers = [0, 1, 2, 3, 8, 16, 28, 64, 4096, -1, 1 << 31, 1 << 32, (1 << 63) - 1]
        numbers += [ctypes.addressof(room) + at for at in (0, 8, 100, 4095)]
        names = {NUMBERS}
        kept = ("read", "readv", "select", "pselect6", "splice", "sendfile", "poll", "ppoll",
                "open", "openat", "openat2", "epoll_wait", "epoll_pwait")
        calls = [number for number, name in names.items() if name not in kept]
        for fd in fds[:4]:
            os.set_blocking(fd, False)
        done = 0
        for turn in range(4000):
            args = [random.choice(numbers) for _ in range(5)]
            if random.random() < 0.5:
                args[2] = MSG_DONTWAIT
            number = random.choice(calls)
            if names[number] in ("recvmmsg", "accept", "accept4"):
                args[3] = 0
            if names[number] == "mmap":
                args[2] &= 3  # without MAP_FIXED, which takes memory away that the program uses
            words = [ctypes.c_long(arg) for arg in (number, random.choice(fds), *args)]
            libc.syscall(*words)
            filling = bytes(random.choice([0, 1, 16, 255]) for _ in range(8))
            room.raw = filling.ljust(4096, bytes([turn % 256]))
            done += 1
        print(done)
        """
    with script(host, text.replace("{NUMBERS}", repr(numbers()))) as program:
        out, _ = program.communicate(timeout=120)
        assert program.said == []
        assert out == "4000\n"
        assert program.supervisor.calls > 3000
        assert left_open(host) == 0
    # the host goes on
    with create_server(host, ("127.0.0.1", 701)) as server:
        create_connection(host, ("127.0.0.1", 701)).close()
        server.accept()[0].close()


STATIC = """
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(704)};
    char b[6] = {0};
    long s = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (s < 0 || syscall(SYS_connect, s, &a, sizeof a) || syscall(SYS_write, s, "hello", 5) != 5)
        return 1;
    return syscall(SYS_read, s, b, 5) == 5 && b[0] == 'H' ? 0 : 2;
}
"""


def test_a_static_binary_that_calls_the_kernel_itself(host, tmp_path):
    """As programs in Go do: nothing of libc is in the way."""
    source = tmp_path / "static.c"
    source.write_text(STATIC)
    gcc = require.tool("gcc")
    subprocess.run([gcc, "-static", source, "-o", tmp_path / "static"], check=True)
    with (
        create_server(host, ("127.0.0.1", 704)) as listener,
        spawn(host, [str(tmp_path / "static")]) as program,
    ):
        conn, _ = listener.accept()
        conn.sendall(conn.recv(5).upper())
        assert program.wait(60) == 0
        conn.close()


def test_what_is_told_of_descriptors_is_the_kernels():
    listener = seccomp.Listener(-1)
    for number in (*range(6), 1 << 31):
        try:
            flags = fcntl.fcntl(number, fcntl.F_GETFL)
            link = os.readlink(f"/proc/self/fd/{number}")
        except (OSError, OverflowError):
            flags, link = -1, ""
        found = seccomp.fd_flags(os.getpid(), number)
        assert found & ~os.O_CLOEXEC == flags if flags >= 0 else found == -1
        inode = int(link[8:-1]) if link.startswith("socket:[") else -1
        assert listener.inode(os.getpid(), number) == inode
    with socket.socket() as sock:
        number = sock.fileno()
        assert listener.inode(os.getpid(), number) == os.fstat(number).st_ino


def test_many_children(host):
    text = """
        listener = socket.create_server(("127.0.0.1", 702), backlog=400)
        for number in range(200):
            if not os.fork():
                socket.create_connection(("127.0.0.1", 702)).send(b"x")
                os._exit(0)
        got = sum(len(listener.accept()[0].recv(1)) for _ in range(200))
        while tried(os.wait) != ("ChildProcessError", "ECHILD"):
            pass
        print(got)
        """
    with script(host, text) as program:
        assert program.communicate(timeout=120)[0] == "200\n"
        assert left_open(host) == 0


def test_files_about_the_network_are_the_hosts(host):
    text = """
        for path in ("/proc/net/tcp", "/proc/self/net/dev", "/etc/resolv.conf", "/etc/hosts",
                     "/proc/sys/net/ipv4/tcp_rmem", "/proc/sys/net/ipv6/conf/all/forwarding",
                     "/proc/net/nothing", "/proc/sys/net/nothing"):
            try:
                with open(path) as file:
                    print(file.read(), end="")
            except OSError as exc:
                print(path, errno.errorcode[exc.errno])
        print(tried(open, "/proc/sys/net/ipv4/conf/all/mc_forwarding", "w"))
        print(gethostbyname("lan.example"))
        """
    host.names.hosts.add("10.1.2.3", "lan.example", "lan")
    with create_server(host, ("127.0.0.1", 0x1234)), script(host, text) as program:
        said = program.communicate(timeout=60)[0]
    assert "0100007F:1234 00000000:0000 0A" in said
    assert "    lo:" in said
    assert "eth" not in said
    assert "options ndots:1" in said
    assert "10.1.2.3 lan.example lan\n" in said
    assert "\n4096\t131072\t6291456\n" in said
    for line in ("/proc/net/nothing ENOENT", "/proc/sys/net/nothing ENOENT"):
        assert line in said.splitlines()
    assert said.splitlines()[-2:] == ["('PermissionError', 'EACCES')", "10.1.2.3"]
    assert program.said == []


def test_what_serves_goes_away(host):
    text = """
        one = socket.create_connection(("127.0.0.1", 703))
        print(flush=True)
        print(tried(one.recv, 1))
        print(tried(socket.socket, AF_INET, SOCK_STREAM), tried(os.write, one.fileno(), b"x"))
        print(select.select([one], [], [], 10)[0] == [one])
        one.close()
        with open("/etc/resolv.conf") as file:
            print(len(file.read()) > 0)
        """
    with create_server(host, ("127.0.0.1", 703)):
        program = script(host, text)
        with program:
            assert program.stdout.readline() == "\n"
            time.sleep(0.1)
            program.close()
            program.close()
            said = program.stdout.read().splitlines()
            down = "('OSError', 'ENETDOWN')"
            assert said == [down, f"{down} {down}", "True", "True"]
            (line,) = program.said
            assert line.endswith(": the host is gone; calls fail with ENETDOWN")


def test_two_programs_on_one_port(host):
    text = """
        listener = socket.create_server(("127.0.0.1", 705))
        print(flush=True)
        sys.stdin.read()
        """
    with script(host, text, stdin=PIPE) as first:
        assert first.stdout.readline() == "\n"
        with script(host, "print(tried(socket.create_server, ('127.0.0.1', 705)))") as second:
            assert second.communicate(timeout=60)[0] == "('OSError', 'EADDRINUSE')\n"
        first.communicate("", timeout=60)


def test_a_program_that_floods_keeps_nobody_from_its_turn(host):
    flood = """
        import threading
        print(flush=True)
        one, two = udp()
        one.setblocking(False)
        def flood():
            while True:
                tried(one.recv, 1)
        for _ in range(8):
            threading.Thread(target=flood, daemon=True).start()
        time.sleep(1000)
        """
    with script(host, flood) as program:
        assert program.stdout.readline() == "\n"
        with script(host, SCRIPTS["a stream"]) as other:
            assert other.communicate(timeout=120)[0].startswith("True")
        program.kill()
        program.wait(60)


def test_a_program_closes_what_it_does_not_own(host):
    """Numbers of the server's own descriptors are none of the program's."""
    text = """
        before = len(os.listdir("/proc/self/fd"))
        one, two = udp()
        os.closerange(3, 4000)
        print(tried(os.close, 3), tried(one.recv, 1))
        one.detach(), two.detach()
        print(tcp()[1].fileno() > 0)
        """
    before = len(os.listdir("/proc/self/fd"))  # an earlier test's program may still be closing its
    with script(host, text) as program:
        out = program.communicate(timeout=60)[0].splitlines()
        assert out == ["('OSError', 'EBADF') ('OSError', 'EBADF')", "True"]
        assert left_open(host) == 0
        assert program.said == []
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_a_pointer_in_a_request_is_never_followed_here(host):
    """SIOCGIFCONF and SIOCADDRT have pointers, which are addresses of the program, not of ours."""
    text = """
        import fcntl
        one = socket.socket(AF_INET, SOCK_DGRAM)
        fd = one.fileno()
        room = ctypes.create_string_buffer(400)
        asked = bytearray(struct.pack("=i4xQ", 400, ctypes.addressof(room)))
        fcntl.ioctl(fd, 0x8912, asked)
        print(struct.unpack("=i4xQ", asked)[0], room.raw[:2])
        asked = bytearray(struct.pack("=i4xQ", 400, ADDRESS))
        print(tried(fcntl.ioctl, fd, 0x8912, asked))
        route = struct.Struct("@L16s16s16sHhLPhPLLH")
        to = struct.pack("=H2x4s8x", 2, bytes([10, 7, 0, 1]))
        name = ctypes.create_string_buffer(b"lo")
        long = ctypes.create_string_buffer(b"a name of an interface")
        for addr in (ADDRESS, ADDRESS + 4096, ctypes.addressof(long), ctypes.addressof(name)):
            asked = bytearray(120)
            route.pack_into(asked, 0, 0, to, to, bytes(16), 5, 0, 0, 0, 0, addr, 0, 0, 0)
            print(tried(fcntl.ioctl, fd, 0x890B, asked))
        """
    # Memory of this process where the program has none.
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
    here = libc.mmap(ctypes.c_void_p(HERE), ctypes.c_size_t(4096), 3, flags, -1, ctypes.c_long(0))
    assert here == HERE
    mine = (ctypes.c_char * 400).from_address(here)
    mine.raw = b"mine" * 100
    with script(host, text.replace("ADDRESS", str(here))) as program:
        out = program.communicate(timeout=60)[0].splitlines()
    assert out == [
        "40 b'lo'",
        *["('OSError', 'EFAULT')"] * 3,
        "('OSError', 'ENODEV')",
        "('OSError', 'ENETUNREACH')",
    ]
    assert mine.raw == b"mine" * 100
    libc.munmap(ctypes.c_void_p(here), ctypes.c_size_t(4096))


def test_a_program_that_has_ended_costs_nothing(host):
    """Also when nobody calls its close()."""

    def one() -> None:
        program = script(host, "tcp()")
        program.communicate(timeout=60)
        eventually(lambda: program.supervisor.ended)  # and its listener is not looked at any more

    def costs() -> tuple[int, int]:
        gc.collect()
        programs = sum(isinstance(thing, Program) for thing in gc.get_objects())
        return len(os.listdir("/proc/self/fd")), programs

    one()
    before = costs()
    for _ in range(3):
        one()
    assert costs() == before


def test_nothing_is_left_of_many_programs(host):
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def one() -> None:
        with script(host, "print(tcp()[0].fileno() > 0)") as program:
            assert program.communicate(timeout=60)[0] == "True\n"
            assert left_open(host) == 0

    one()
    before = descriptors()
    for _ in range(20):
        one()
    eventually(lambda: descriptors() <= before)


def test_wrong_arguments_are_named(host):
    with pytest.raises(E1000Error, match="argv"):
        spawn(host, "curl")  # type: ignore[arg-type]
    with pytest.raises(E1000Error, match="argv is empty"):
        spawn(host, [])
    with (
        contextlib.closing(RealClock()) as still,
        Host(clock=still) as other,
        pytest.raises(ClockError, match="spawn"),
    ):
        spawn(other, ["true"])
    with host.spawn(["/no/such/program"], stderr=PIPE) as program:
        assert program.communicate()[1] == b"/no/such/program: No such file or directory\n"
        assert program.returncode == 127


def test_a_coroutine_waits_for_the_end(host):
    async def statuses() -> list[int]:
        with script(host, "time.sleep(0.2); sys.exit(3)") as one, script(host, "") as two:
            return [await two.ended(), await one.ended(), await one.ended()]

    assert asyncio.run(statuses()) == [0, 3, 3]

    async def too_long() -> None:
        with script(host, "time.sleep(1000)") as one:
            try:
                await asyncio.wait_for(one.ended(), 0.1)
            finally:
                one.kill()

    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(TimeoutError):
        asyncio.run(too_long())
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_trace_names_each_call(host):
    said: list[str] = []
    argv = [sys.executable, "-c", HEAD + "tried(socket.create_connection, ('127.0.0.1', 1))"]
    with spawn(host, argv, log=said.append, trace=True) as program:
        program.wait(60)
    assert any("socket(2, " in line and line.endswith("= 3") for line in said)
    assert any("connect(3, " in line and line.endswith("= -1 ECONNREFUSED") for line in said)


EXEC = ["exec", "--link", "stack:10.9.0.1/24,serve=http:80", "--addr", "10.9.0.2/24"]


@pytest.mark.parametrize("time_is", [[], ["--virtual"]], ids=["real", "virtual"])
@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["sh", "-c", "exit 3"], 3),
        (["sh", "-c", "kill -9 $$"], 128 + 9),
        (["/no/such/program"], 127),
    ],
)
def test_the_commands_status_is_the_programs(words, status, time_is):
    before = {number: signal.getsignal(number) for number in (2, 3, 15, 1)}
    try:
        assert CliRunner().invoke(cli, [*EXEC, *time_is, "--", *words]).exit_code == status
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def test_the_command_runs_a_program():
    text = "import urllib.request as u; print(u.urlopen('http://10.9.0.1/').read()[:15])"
    done = subprocess.run(
        [sys.executable, "-m", "e1000emu", *EXEC, "--", sys.executable, "-c", text],
        capture_output=True,
        timeout=120,
    )
    assert done.stderr == b""
    assert done.stdout == b"b'<!doctype html>'\n"
    assert done.returncode == 0
