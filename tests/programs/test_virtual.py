"""Programs in virtual time: every call shows it, it moves when all threads wait, runs repeat."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from e1000emu.clock import SimulationDeadlock, VirtualClock
from e1000emu.lab import two_hosts
from fastpath.base import seccomp
from stack.api.programs import Program, spawn, virtual
from stack.api.programs.filter import TIME_CALLS, number_of
from stack.host import Host
from tests.e1000emu.cli.test_cli import run
from tests.programs.test_scripts import HEAD, has_ended
from tests.support import eventually, require

pytestmark = pytest.mark.skipif(not seccomp.available(), reason="needs Linux's seccomp")
PIPE = subprocess.PIPE
SECOND = 1_000_000_000
FAR = "stack:10.9.0.1/24,serve=http:80"


@pytest.fixture
def host() -> Iterator[Host]:
    with Host("solo", clock=VirtualClock()) as host:
        yield host


def script(host: Host, text: str, **popen: object) -> Program:
    argv = [sys.executable, "-c", HEAD + textwrap.dedent(text)]
    program = spawn(host, argv, stdout=PIPE, text=True, log=(said := []).append, **popen)  # type: ignore[arg-type]
    program.said = said  # type: ignore[attr-defined]
    return program


SCRIPTS = {
    "what time it is": (
        """
        libc.time.restype = ctypes.c_long
        room = (ctypes.c_long * 2)()
        libc.gettimeofday(room, None)
        print(time.time(), time.monotonic(), libc.time(None), room[0], room[1])
        time.sleep(1.5)
        print(time.time(), time.monotonic(), libc.time(None))
        print(time.process_time() < 10)
        """,
        ["1767268800.0 0.0 1767268800 1767268800 0", "1767268801.5 1.5 1767268801", "True"],
    ),
    "to sleep": (
        """
        begin = time.monotonic()
        time.sleep(3600)
        print(time.monotonic() - begin)
        room = (ctypes.c_long * 2)(7300, 0)
        print(libc.clock_nanosleep(1, 1, room, None), time.monotonic())
        room = (ctypes.c_long * 2)(1, 1 << 40)
        print(libc.clock_nanosleep(1, 0, room, None) == errno.EINVAL)
        """,
        ["3600.0", "0 7300.0", "True"],
    ),
    "a sleep that a signal ends": (
        """
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.alarm(3)
        asked, left = (ctypes.c_long * 2)(10, 0), (ctypes.c_long * 2)()
        handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: None)
        libc.signal(signal.SIGALRM, handler)
        print(libc.nanosleep(asked, left), errno.errorcode[ctypes.get_errno()], list(left))
        """,
        ["-1 EINTR [7, 0]"],
    ),
    "poll, select and epoll": (
        """
        read, write = os.pipe()
        one, _ = udp()
        poll = select.poll()
        poll.register(read)
        poll.register(one, select.POLLIN)
        print(poll.poll(3000), time.monotonic())
        print(select.select([read, one], [], [], 7), time.monotonic())
        epoll = select.epoll()
        epoll.register(read, select.EPOLLIN)
        print(epoll.poll(0.5), epoll.poll(0), time.monotonic())
        def later():
            time.sleep(2)
            os.write(write, b"x")
        for what in (lambda: poll.poll(9000), lambda: select.select([read], [], [], 9),
                     lambda: epoll.poll(9)):
            thread = threading.Thread(target=later)
            thread.start()
            print(len(what()) > 0, time.monotonic())
            os.read(read, 1)
            thread.join()
        signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
        signal.setitimer(signal.ITIMER_REAL, 0.25)
        try:
            poll.poll(9000)
        except ZeroDivisionError:
            print(time.monotonic())
        """,
        [
            "[] 3.0",
            "([], [], []) 10.0",
            "[] [] 10.5",
            "True 12.5",
            "True 14.5",
            "True 16.5",
            "16.75",
        ],
    ),
    "conditions of threads": (
        """
        condition = threading.Condition()
        with condition:
            print(condition.wait(50), time.monotonic())
        event = threading.Event()
        def later():
            time.sleep(5)
            event.set()
        threading.Thread(target=later).start()
        print(event.wait(1000), time.monotonic())
        lock = threading.Lock()
        lock.acquire()
        print(lock.acquire(timeout=2), time.monotonic())
        """,
        ["False 50.0", "True 55.0", "False 57.0"],
    ),
    "timers": (
        """
        rang = []
        signal.signal(signal.SIGALRM, lambda *_: rang.append(time.monotonic()))
        print(signal.setitimer(signal.ITIMER_REAL, 2.5, 1), signal.getitimer(signal.ITIMER_REAL))
        time.sleep(6)
        print(rang, signal.setitimer(signal.ITIMER_REAL, 0), signal.getitimer(signal.ITIMER_REAL))
        print(signal.alarm(9), signal.alarm(4))
        signal.pause()
        print(time.monotonic())
        fd = libc.timerfd_create(1, 0)
        room = (ctypes.c_long * 4)(2, 0, 1, 500_000_000)
        print(libc.timerfd_settime(fd, 0, room, None))
        print(os.read(fd, 8)[0], time.monotonic())
        time.sleep(5)
        print(os.read(fd, 8)[0], time.monotonic())
        print(libc.timerfd_gettime(fd, room), list(room))
        print(libc.timerfd_settime(fd, 0, (ctypes.c_long * 4)(), None))
        print(select.select([fd], [], [], 9)[0], time.monotonic())
        print(libc.timerfd_settime(0, 0, room, None), errno.errorcode[ctypes.get_errno()])
        """,
        [
            "(0.0, 0.0) (2.5, 1.0)",
            "[2.5, 3.5, 4.5, 5.5] (0.5, 1.0) (0.0, 0.0)",
            "0 9",
            "10.0",
            "0",
            "1 11.5",
            "2 16.5",
            "0 [2, 0, 1, 0]",
            "0",
            "[] 25.5",
            "-1 EINVAL",
        ],
    ),
    "sockets": (
        """
        one, two = udp()
        one.settimeout(4)
        try:
            one.recv(1)
        except TimeoutError as exc:
            print(exc, time.monotonic())
        one.settimeout(None)
        one.setsockopt(SOL_SOCKET, SO_RCVTIMEO, struct.pack("qq", 3, 0))
        print(tried(one.recv, 1), time.monotonic())
        threading.Timer(2, two.send, (b"x",)).start()
        print(one.recv(9), time.monotonic())
        """,
        ["timed out 4.0", "('BlockingIOError', 'EAGAIN') 7.0", "b'x' 9.0"],
    ),
    "children": (
        """
        import subprocess
        print(subprocess.run(["sleep", "33"]).returncode, time.monotonic())
        if not os.fork():
            if not os.fork():
                time.sleep(10)
                print("grandchild", time.monotonic(), flush=True)
                os._exit(0)
            os._exit(0)
        os.wait()
        print(time.monotonic(), flush=True)
        time.sleep(20)
        print(time.monotonic())
        """,
        ["0 33.0", "33.0", "grandchild 43.0", "53.0"],
    ),
    "who looks at the clock until it is late": (
        """
        begin = time.monotonic()
        while time.monotonic() < begin + 0.01:
            pass
        print(0.01 <= time.monotonic() - begin < 0.02)
        one, two = udp()
        one.setblocking(False)
        threading.Timer(0.01, two.send, (b"x",)).start()
        while tried(one.recv, 1)[0] == "BlockingIOError":
            pass
        print(time.monotonic() - begin < 0.1)
        """,
        ["True", "True"],
    ),
    "asyncio": (
        """
        import asyncio
        async def main():
            await asyncio.gather(*(asyncio.sleep(number) for number in (1000, 1, 10)))
        asyncio.run(main())
        print(time.monotonic())
        """,
        ["1000.0"],
    ),
    "signals that are waited for": (
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        print(signal.sigtimedwait([signal.SIGALRM], 3), time.monotonic())
        signal.alarm(2)
        print(signal.sigtimedwait([signal.SIGALRM], 9).si_signo == signal.SIGALRM)
        print(time.monotonic())
        """,
        ["None 3.0", "True", "5.0"],
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_program_sees_virtual_time(host, name):
    text, want = SCRIPTS[name]
    with script(host, text) as program:
        assert program.communicate()[0].splitlines() == want
        assert program.returncode == 0
        assert program.said == []


def test_a_ring_that_nobody_empties_holds_no_time_up(host):
    require.root()
    text = """
        import mmap
        tap = socket.socket(AF_PACKET, SOCK_RAW, 0)
        tap.setsockopt(263, 10, 1)
        tap.setsockopt(263, 5, struct.pack("=7I", 4096, 4, 2048, 8, *bytes(3)))
        ring = mmap.mmap(tap.fileno(), 16384)
        tap.bind(("lo", 3))
        one, two = udp()
        two.send(b"frame")
        ready = lambda: select.select([tap], [], [], 0)[0] == [tap]
        print(select.select([tap], [], [], 5)[0] == [tap])
        time.sleep(1 << 20)
        print(ready(), int(time.monotonic()))
        ring[:] = bytes(16384)
        print(ready())
        """
    with script(host, text) as program:
        assert program.communicate()[0].splitlines() == ["True", "True 1048576", "False"]
        assert program.said == []


def test_a_long_sleep_ends_at_once(host):
    """An hour of the wall would be beyond the time that a test has."""
    with host.spawn(["sleep", "3600"]) as program:
        assert program.wait() == 0
    assert host.clock.now_ns() == 3600 * SECOND


def test_a_timeout_is_one_of_the_programs_time(host):
    with host.spawn(["sleep", "3600"]) as program:
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(10)
        assert host.clock.now_ns() == 10 * SECOND
        program.terminate()  # which has no time: it comes from outside of the simulation
        assert program.wait() == -15


def test_more_than_pipes_hold(host):
    data = bytes(range(256)) * 2000
    with host.spawn(["sh", "-c", "sleep 1; cat; sleep 1"], stdin=PIPE, stdout=PIPE) as program:
        assert program.communicate(data)[0] == data
    assert host.clock.now_ns() == 2 * SECOND


def test_a_program_that_waits_for_ever_is_told(host):
    program = script(host, "one, _ = udp(); one.recv(1)")
    try:
        with pytest.raises(SimulationDeadlock):
            program.wait()
    finally:
        program.close()
    assert program.wait() == -9


def test_what_is_left_at_the_end_is_ended(host):
    text = """
        child = os.fork()
        if child:
            print(child, flush=True)
            os._exit(0)
        time.sleep(1000)
        """
    with script(host, text) as program:
        assert program.wait() == 0
        child = int(program.stdout.readline())
        assert os.path.exists(f"/proc/{child}")
        assert host.clock.now_ns() < SECOND
    eventually(lambda: has_ended(child))


def test_a_static_binary_asks_for_the_time(host, tmp_path):
    source = tmp_path / "static.c"
    source.write_text(
        "#include <time.h>\n#include <stdio.h>\n"
        "int main(void) { struct timespec a; clock_gettime(CLOCK_REALTIME, &a);\n"
        'printf("%ld\\n", (long)a.tv_sec); return 0; }\n'
    )
    gcc = require.tool("gcc")
    subprocess.run([gcc, "-static", source, "-o", tmp_path / "static"], check=True)
    with host.spawn([str(tmp_path / "static")], stdout=PIPE) as program:
        assert program.communicate()[0] == b"1767268800\n"


def test_threads_that_wait_in_a_loop_for_one_whose_call_is_not_answered(host, tmp_path):
    """As memcslap's do for the start: they run until the clone of the last one has returned."""
    source = tmp_path / "spin.c"
    source.write_text(
        "#include <pthread.h>\n#include <stdio.h>\n#include <time.h>\n"
        "static volatile int go;\n"
        "static void *spin(void *arg) { while (!go) ; return arg; }\n"
        "int main(void) { pthread_t all[3]; struct timespec a;\n"
        "for (int i = 0; i < 3; i++) pthread_create(&all[i], 0, spin, 0);\n"
        "clock_gettime(CLOCK_MONOTONIC, &a); go = 1;\n"
        "for (int i = 0; i < 3; i++) pthread_join(all[i], 0);\n"
        'printf("%ld\\n", (long)a.tv_sec); return 0; }\n'
    )
    gcc = require.tool("gcc")
    subprocess.run([gcc, "-pthread", source, "-o", tmp_path / "spin"], check=True)
    with host.spawn([str(tmp_path / "spin")], stdout=PIPE) as program:
        assert program.communicate()[0] == b"0\n"


SERVER = """
listener = socket.create_server(("0.0.0.0", 80))
while True:
    one, _ = listener.accept()
    with one:
        time.sleep(0.5)
        one.sendall(one.recv(100).upper() * 1000)
"""
CLIENT = """
for number in range(3):
    with socket.create_connection(("10.0.0.2", 80)) as one:
        one.sendall(b"number %d" % number)
        got = b""
        while piece := one.recv(5000):
            got += piece
    print(len(got), time.monotonic())
"""


def transfer(path: Path, seed: int) -> tuple[str, bytes, int]:
    """What a client prints, the frames on the wire, when it ended."""
    clock = VirtualClock()
    a, b = two_hosts(
        clock, latency_ns=SECOND, capture=path, seed=seed, impair={"loss": 0.1, "seed": seed}
    )
    with a, b:
        server = script(b, SERVER)
        clock.run_for(SECOND)
        with script(a, CLIENT) as client:
            out = client.communicate()[0]
        server.close()
        server.wait()
        server.stdout.close()
    return out, path.read_bytes(), clock.now_ns()


def test_the_same_seed_gives_the_same_run(tmp_path):
    one = transfer(tmp_path / "one.pcapng", 3)
    assert one == transfer(tmp_path / "two.pcapng", 3)
    assert len(one[0].splitlines()) == 3
    assert one[2] > 12 * SECOND  # three handshakes and answers over two seconds and back
    assert one[1] != transfer(tmp_path / "three.pcapng", 4)[1]


def test_what_lingers_holds_no_time_up():
    """A server closes with SO_LINGER before its clients have all, as vsftpd does."""
    server = """
        listener = socket.create_server(("10.0.0.2", 99))
        while True:
            conn, _ = listener.accept()
            conn.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 600))
            conn.setblocking(False)
            conn.send(bytes(400_000))
            conn.close()
        """
    client = """
        idle = socket.create_connection(("10.0.0.2", 99))
        conn, got = socket.create_connection(("10.0.0.2", 99)), 0
        while piece := conn.recv(9999):
            got += len(piece)
        print(got > 200_000, time.monotonic() < 9)
        """
    clock = VirtualClock()
    a, b = two_hosts(clock, latency_ns=SECOND // 10, sysctl={"tcp_wmem": "4096 400000 4000000"})
    with a, b, script(b, server) as serves:
        clock.run_for(SECOND)
        with script(a, client) as program:
            assert program.communicate()[0] == "True True\n"
        serves.kill()


def command(*words: str, link: str = FAR) -> subprocess.CompletedProcess[str]:
    exec_ = ["exec", "--virtual", "--link", link, "--addr", "10.9.0.2/24"]
    return run(*exec_, *words)


def test_the_command_runs_a_program_in_virtual_time():
    text = """
        import subprocess, urllib.request
        begin = time.monotonic()
        print(urllib.request.urlopen("http://10.9.0.1/").read()[:15])
        print(round(time.monotonic() - begin, 3))
        subprocess.run(["sleep", "3600"])
        print(round(time.monotonic() - begin, 3))
        """
    words = ["--impair", "delay=1s", "--", sys.executable, "-c", HEAD + textwrap.dedent(text)]
    one, two = command(*words), command(*words)
    assert (one.stdout, one.stderr, one.returncode) == (two.stdout, two.stderr, 0)
    assert one.stdout.splitlines() == ["b'<!doctype html>'", "6.0", "3606.0"]  # ARP, SYN, request


def test_the_command_tells_of_a_program_that_waits_for_ever():
    waits = "import socket; socket.socket(type=socket.SOCK_DGRAM).recv(1)"
    done = command("--", sys.executable, "-c", waits)
    assert (done.returncode, done.stdout) == (1, "")
    assert "e1000emu: the program waits for what cannot come" in done.stderr


def test_what_can_be_simulated_is_told():
    assert command("--", "true", link="null").returncode == 0
    done = command("--", "true", link="tap:none")
    assert done.returncode == 2
    assert "--link 'tap:none' leads to has real time; use stack:" in done.stderr


def test_wild_arguments_of_calls_about_time(host):
    text = """
        import random
        random.seed(7)
        room = ctypes.create_string_buffer(8192)
        numbers = [0, 1, 2, 3, 8, 64, 4096, -1, 1 << 31, 1 << 32, (1 << 63) - 1]
        numbers += [ctypes.addressof(room) + at for at in (0, 8, 100, 4095)]
        for turn in range(2000):
            call, *args = random.choice(CALLS), *(random.choice(numbers) for _ in range(6))
            if call in SELECTS:  # for ever, unless there is a time
                short = (ctypes.c_long * 2)(0, 1000)
                args[4] = args[4] or ctypes.addressof(short)
            libc.syscall(*(ctypes.c_long(arg) for arg in (call, *args)))
            filling = bytes(random.choice([0, 1, 16, 255]) for _ in range(8))
            room.raw = filling.ljust(8192, bytes([turn % 256]))
        print("done")
        """
    # Not those that end the program, or wait for what never comes.
    kept = ("clone", "clone3", "fork", "vfork", "exit_group", "alarm", "setitimer",
            "set_tid_address", "arch_prctl", "rt_sigtimedwait", "epoll_wait", "epoll_pwait",
            "epoll_pwait2", "nanosleep", "clock_nanosleep", "futex")  # fmt: skip
    calls = [number_of(name) for name in TIME_CALLS if name not in kept and number_of(name)]
    selects = [number_of("select"), number_of("pselect6")]
    text = text.replace("CALLS", repr(calls)).replace("SELECTS", repr(selects))
    with script(host, text) as program:
        assert program.communicate()[0] == "done\n"
        assert program.said == []


def test_nothing_is_left_of_many_programs(host):
    text = """
        _, client, server = tcp()
        client.send(b"x")
        print(select.select([server], [], [], 9)[0] == [server], select.select([], [], [], 1))
        """

    def one() -> None:
        with script(host, text) as program:
            assert program.communicate()[0] == "True ([], [], [])\n"

    one()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        one()
    assert len(os.listdir("/proc/self/fd")) <= before
    assert not host.fdtable.fd
    assert not host.clock.attached.supervisors


def test_a_thread_that_sleeps_before_its_child_is_made_does_not_rest(host, monkeypatch):
    """It is asleep in clone(2), but for memory or a lock and not for the end of a vfork."""
    attached = virtual.Attached(host.clock)
    children = [11]
    monkeypatch.setattr(virtual, "children_of", lambda tid: list(children))
    monkeypatch.setattr(virtual, "in_clone", lambda tid: True)
    monkeypatch.setattr(virtual, "process_of", lambda tid: 10)
    monkeypatch.setattr(attached, "_find", lambda pid, owner: None)
    attached._threads[10] = {10: (1, Mock(tid=10, state="D"))}
    attached._owner[10] = object()
    assert not attached._rest()  # in no call that makes anything
    attached.makes(10)
    assert not attached._rest()
    children.append(12)
    assert attached._rest()
    assert attached._rest()  # as long as it waits
