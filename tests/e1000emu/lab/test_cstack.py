"""Hosts in C: the example under its own scheduler, and arguments that no program should pass."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from e1000emu.lab.cstack import PACKETDRILL, STACK, Built, build
from tests.support import require

ROOT = Path(__file__).resolve().parents[3]
HEADER = (ROOT / "e1000emu/lab/cstack/e1000stack.h").read_text()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Built:
    gcc = require.tool("gcc")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CFLAGS", "-Werror")
        return build(tmp_path_factory.mktemp("cstack"), cc=gcc, library=STACK)


def run(*command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name.startswith("E1000EMU_")}
    return subprocess.run(
        [str(word) for word in command],
        env={"PATH": os.environ["PATH"], **kept, **env},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_two_hosts_under_a_scheduler_in_c(library: Built) -> None:
    program = library.directory / "two_hosts"
    source = ROOT / "examples/cstack/two_hosts.c"
    flags = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", *library.cflags]
    subprocess.run([require.tool("gcc"), *flags, source, *library.libs, "-o", program], check=True)
    first, second = run(program), run(program)
    assert first.returncode == 0, first.stderr
    assert re.search(r"^300000 bytes in \d+ ms$", first.stdout, re.MULTILINE)
    assert first.stdout == second.stdout


IN_PYTHON = """
import ctypes, errno, json, os, socket, struct, sys
lib = ctypes.CDLL(sys.argv[1], use_errno=True)
lib.e1000stack_last_error.restype = ctypes.c_char_p
WILD = ctypes.c_void_p(0x1000)
def call(name, *args):
    value = getattr(lib, "e1000stack_" + name)(*args)
    return value if value >= 0 else errno.errorcode[ctypes.get_errno()]
u64 = ctypes.c_uint64
clock = call("clock", u64(0))
host = call("host", clock, b"a")
tun = call("tun", host, b"tun0", 1500)
call("addr", host, b"tun0", b"10.0.0.1/24")
call("addr", host, b"tun0", b"2001:db8::1/64")
fd = call("socket", host, 2, 1, 0)
nonblock = call("socket", host, 2, 1 | socket.SOCK_NONBLOCK, 0)
there = struct.pack("=H", 2) + struct.pack(">H", 80) + bytes([10, 0, 0, 2]) + bytes(8)
packet, when = ctypes.create_string_buffer(2000), u64()
seen = dict(
    no_clock=call("run_until", 99, u64(1)),
    host_for_clock=call("run_until", host, u64(1)),
    no_host=call("socket", 99, 2, 1, 0),
    closed=call("close", host, 77),
    wild_name=call("host", clock, WILD),
    no_name=call("host", clock, None),
    wild_sockaddr=call("connect", host, fd, WILD, 16),
    long_sockaddr=call("connect", host, fd, there, 5000),
    wild_msghdr=call("sendmsg", host, fd, WILD, 0),
    many_iov=call("writev", host, fd, there, 1 << 30),
    wild_option=call("setsockopt", host, fd, 6, 1, WILD, 4),
    long_option=call("setsockopt", host, fd, 6, 1, there, -1),
    wild_poll=call("poll", host, WILD, 3, 0),
    many_polls=call("poll", host, WILD, ctypes.c_ulong(1 << 40), 0),
    no_command=call("fcntl", host, fd, 4711, 0),
    dup=call("fcntl", host, fd, 0, 0),
    not_epoll=call("epoll_wait", host, fd, packet, 1, 0),
    short_packet=call("tun_send", tun, packet, ctypes.c_size_t(3)),
    wild_packet=call("tun_send", tun, WILD, ctypes.c_size_t(40)),
    long_packet=call("tun_send", tun, packet, ctypes.c_size_t(1 << 40)),
    garbage=call("tun_send", tun, os.urandom(60), ctypes.c_size_t(60)),
    no_device=call("addr", host, b"eth9", b"10.0.0.1/24"),
    no_address=call("addr", host, b"tun0", b"ten"),
    no_knob=call("sysctl", host, b"tcp_nonsense", b"1"),
    taken=call("tun", host, b"tun0", 1500),
    end_of_time=call("run_until", clock, u64((1 << 64) - 1)),
    connect=call("connect", host, nonblock, there, 16),
    too_small=call("tun_receive", tun, packet, ctypes.c_size_t(10), None),
    syn=call("tun_receive", tun, packet, ctypes.c_size_t(2000), ctypes.byref(when)),
    flags=packet.raw[33],
    no_packet=call("tun_receive", tun, packet, ctypes.c_size_t(2000), None),
    next=call("next", clock, ctypes.byref(when)),
    blocking=call("connect", host, fd, there, 16),
    close=call("clock_close", clock),
    gone=call("host", clock, b"a"),
)
print(json.dumps(seen))
"""


def test_hostile_arguments_are_refused(library: Built) -> None:
    done = run(sys.executable, "-I", "-c", IN_PYTHON, library.library)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "no_clock": "EBADF",
        "host_for_clock": "EBADF",
        "no_host": "EBADF",
        "closed": "EBADF",
        "wild_name": "EFAULT",
        "no_name": "EFAULT",
        "wild_sockaddr": "EFAULT",
        "long_sockaddr": "EINVAL",
        "wild_msghdr": "EFAULT",
        "many_iov": "EMSGSIZE",
        "wild_option": "EFAULT",
        "long_option": "EINVAL",
        "wild_poll": "EFAULT",
        "many_polls": "EINVAL",
        "no_command": "EINVAL",
        "dup": "EINVAL",
        "not_epoll": "EINVAL",
        "short_packet": "EINVAL",
        "wild_packet": "EFAULT",
        "long_packet": "EINVAL",
        "garbage": 0,
        "no_device": "ENODEV",
        "no_address": "EINVAL",
        "no_knob": "ENOENT",
        "taken": "EEXIST",
        "end_of_time": "EINVAL",
        "connect": "EINPROGRESS",
        "too_small": "EMSGSIZE",
        "syn": 60,
        "flags": 2,
        "no_packet": "EAGAIN",
        "next": 0,
        "blocking": "ETIMEDOUT",
        "close": 0,
        "gone": "EBADF",
    }


def test_every_function_of_the_header_is_there(library: Built) -> None:
    declared = set(re.findall(r"^E1000STACK_API [^;]*?(e1000stack_\w+)\(", HEADER, re.MULTILINE))
    assert len(declared) > 35
    symbols = run(require.tool("nm", "binutils"), "-D", "--defined-only", library.library).stdout
    shown = {line.split()[-1] for line in symbols.splitlines()}
    assert shown - {"_cffi_pypyinit__e1000stack", "PyInit__e1000stack"} == declared


def test_a_simulator_in_rust_gives_the_time(library: Built) -> None:
    """Its time is that of its events, and the transfer is the one of the example in C."""
    program = library.directory / "two_hosts_rs"
    rustc = [require.tool("rustc", "rustc"), "--edition", "2021", "-D", "warnings"]
    flags = ["-L", library.directory, "-C", f"link-arg=-Wl,-rpath,{library.directory}"]
    source = ROOT / "examples/cstack/two_hosts.rs"
    subprocess.run([*rustc, source, *flags, "-o", program], check=True)
    first, second = run(program), run(program)
    assert first.returncode == 0, first.stderr
    assert re.search(r"^300000 bytes in \d+ ms$", first.stdout, re.MULTILINE)
    assert first.stdout == second.stdout


ON_A_CALLBACK_CLOCK = """
import ctypes, errno, json, socket, struct, sys
lib = ctypes.CDLL(sys.argv[1], use_errno=True)
lib.e1000stack_last_error.restype = ctypes.c_char_p
u64 = ctypes.c_uint64
def call(name, *args):
    value = getattr(lib, "e1000stack_" + name)(*args)
    return value if value >= 0 else errno.errorcode[ctypes.get_errno()]
Now = ctypes.CFUNCTYPE(u64, ctypes.c_void_p)
Due = ctypes.CFUNCTYPE(None, ctypes.c_void_p, u64)
class Time(ctypes.Structure):
    _fields_ = [("now", Now), ("due", Due), ("data", ctypes.c_void_p)]
now, asked = 5_000, []
time = Time(Now(lambda data: now), Due(lambda data, when: asked.append((data, when))), 77)
bad = Time(Now(), Due(), 0)
clock = call("callback_clock", ctypes.byref(time))
seen = dict(
    wild=call("callback_clock", ctypes.c_void_p(0x1000)),
    empty=call("callback_clock", ctypes.byref(bad)),
    other=call("run", call("clock", u64(clock))),
    run_until=call("run_until", clock, u64(9_000)),
)
host = call("host", clock, b"a")
tun = call("tun", host, b"tun0", 1500)
call("addr", host, b"tun0", b"10.0.0.1/24")
there = struct.pack("=H", 2) + struct.pack(">H", 80) + bytes([10, 0, 0, 2]) + bytes(8)
listener = call("socket", host, 2, 1, 0)
call("listen", host, listener, 1)
seen["blocks"] = call("accept4", host, listener, None, None, 0)
seen["why"] = lib.e1000stack_last_error().decode()
when, packet, syns = u64(), ctypes.create_string_buffer(2000), []
def receive():
    while call("tun_receive", tun, packet, ctypes.c_size_t(2000), ctypes.byref(when)) != "EAGAIN":
        syns.append((when.value, packet.raw[33]))
fd = call("socket", host, 2, 1 | socket.SOCK_NONBLOCK, 0)
call("connect", host, fd, there, 16)
receive()
while len(syns) < 3:
    assert asked[-1][0] == 77
    now = asked[-1][1]
    seen["run"] = call("run", clock)
    receive()
seen["syns"] = [(at - 5_000, flags) for at, flags in syns]
call("now", clock, ctypes.byref(when))
seen["now"] = when.value == now
now -= 1
seen["back"] = call("run", clock)
now += 1
seen["poll"] = call("poll", host, struct.pack("=ihh", fd, 1, 0), ctypes.c_ulong(1), 100)
seen["look"] = call("poll", host, struct.pack("=ihh", fd, 1, 0), ctypes.c_ulong(1), 0)
seen["close"] = call("clock_close", clock)
seen["last"] = asked[-1][1] == (1 << 64) - 1
print(json.dumps(seen))
"""


def test_a_clock_that_follows_the_programs_time(library: Built) -> None:
    """TCP's timers run when the program's time has come to them, and no call waits."""
    done = run(sys.executable, "-I", "-c", ON_A_CALLBACK_CLOCK, library.library)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "wild": "EFAULT",
        "empty": "EINVAL",
        "other": "EINVAL",
        "run_until": "EINVAL",
        "blocks": "EDEADLOCK",
        "why": "accept4: [Errno 35] Resource deadlock avoided: "
        "time is the program's, and passes in no call",
        "run": 0,
        "syns": [[0, 2], [1_000_000_000, 2], [2_000_000_000, 2]],
        "now": True,
        "back": "EINVAL",
        "poll": "EDEADLOCK",
        "look": 0,
        "close": 0,
        "last": True,
    }


def test_packetdrills_table(tmp_path: Path) -> None:
    """A SYN leaves at the time of the call, and each question for the time takes 1 us."""
    built = build(tmp_path, cc=require.tool("gcc"), library=PACKETDRILL)
    script = """
import ctypes, sys
lib = ctypes.CDLL(sys.argv[1])
table = (ctypes.c_void_p * 33)()
lib.packetdrill_interface_init(b"addr=10.0.0.1/24 route=0.0.0.0/0", table)
def call(number, *args):
    return ctypes.CFUNCTYPE(ctypes.c_long)(table[number])(None, *args)
def now():
    tv = (ctypes.c_long * 2)()
    call(27, tv, None)
    return tv[0] * 1_000_000 + tv[1]
first = now()
assert now() == first + 1
fd = call(2, 2, 1 | 2048, 0)
there = bytes([2, 0, 0, 80, 10, 0, 0, 2]) + bytes(8)
call(6, fd, there, 16)
packet, size, when = ctypes.create_string_buffer(2000), ctypes.c_size_t(2000), ctypes.c_longlong()
sent = []
for _ in range(2):
    size.value = 2000
    assert call(25, packet, ctypes.byref(size), ctypes.byref(when)) == 0
    sent.append((size.value, packet.raw[33], when.value - first))
print(sent, call(19, fd))
"""
    done = run(sys.executable, "-I", "-c", script, built.library)
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(r"\[\(60, 2, 1\), \(60, 2, (\d+)\)\] 0\n", done.stdout)
    assert found, done.stdout
    assert abs(int(found[1]) - 1_000_000) < 20_000  # the first retransmission, after a second


INSTEAD = r"""
#include <dlfcn.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/times.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    void *table[33], *lib = dlopen(argv[1], RTLD_NOW);
    void (*init)(const char *, void **);
    clock_t first = times(NULL);
    *(void **)&init = dlsym(lib, "packetdrill_interface_init");
    init(argv[2], table);
    int fd = ((int (*)(void *, int, int, int))table[2])(NULL, 2, 1, 0);
    char *preload = getenv("LD_PRELOAD");
    fprintf(stderr, "%d %s %d %d %s %s", argc, argv[3], if_nametoindex("tun7") > 0, fd >= 0,
            preload ? preload : "alone", getcwd(NULL, 0));
    if (!strcmp(argv[3], "stops"))
        abort();
    if (!strncmp(argv[3], "run ", 4))
        return WEXITSTATUS(system(argv[3] + 4));
    return strcmp(argv[3], "fails") ? !(times(NULL) == first + 1 && mlockall(MCL_CURRENT) == 0) : 3;
}
"""


def test_scripts_run_in_forks_of_one_process_that_has_python(tmp_path: Path) -> None:
    """E1000EMU_PACKETDRILL_SERVE: a line is a script, with the arguments that its main finds."""
    require.netns()
    source, program, errors = (tmp_path / name for name in ("in.c", "instead", "errors"))
    source.write_text(INSTEAD)
    gcc = require.tool("gcc")
    subprocess.run([gcc, "-w", source, "-o", program], check=True)
    library = build(tmp_path, cc=gcc, library=PACKETDRILL).library
    env = {**os.environ, "LD_PRELOAD": str(library), "E1000EMU_PACKETDRILL_SERVE": "60"}
    command = [program, "1", "2", "3"]
    with subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stderr is not None

        def script(*words: object, before: str = "ip tuntap add dev tun7 mode tun") -> list[object]:
            errors.write_text("")
            line = "\t".join(map(str, (tmp_path, errors, before, *words)))
            print(line, file=server.stdin, flush=True)
            status = os.waitstatus_to_exitcode(int(server.stdout.readline()))
            return [status, errors.read_text()]

        said = f"4 {{}} {{}} 1 alone {tmp_path}"
        flags = "addr=10.0.0.1/24"
        assert script(library, flags, "passes") == [0, said.format("passes", 1)]
        assert script(library, flags, "fails", before="true") == [3, said.format("fails", 0)]
        assert script(library, flags, "stops")[0] == -signal.SIGABRT
        assert "Invalid argument: --so_flags: 'mut'" in str(script(library, "mut=9", "passes"))
        assert script(library, flags, "passes", before="false") == [
            127,
            "e1000packetdrill: fails: false\n",
        ]
        shown = "run ip -br addr show dev tun0 >&2"
        assert script(library, flags, shown)[0] == 1  # the machine's namespace has none
        on_host = f"{flags} commands=host"
        status, said_by_ip = script(library, on_host, shown)
        assert status == 0
        assert re.search(r"\btun0 .* 10\.0\.0\.1/24\b", str(said_by_ip))
        assert script(library, on_host, "run sleep 600; exit 7")[0] == 7
        assert script(library, on_host, "run kill -STOP $$")[0] == 255  # waits for ever
        assert script(library, f"{flags} commands=ours", shown)[0] == 1
        assert script(library, flags)[0] == script(library, flags, "more", "words")[0] == 127
        assert script(library, flags, "passes") == [0, said.format("passes", 1)]
        server.stdin.close()
        assert server.wait(60) == 0
        refused = "e1000packetdrill: a line has a directory, a file, a command and 3 arguments\n"
        assert server.stderr.read() == refused * 2
