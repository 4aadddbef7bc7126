"""passt: a script in its place for what goes wrong, the real one for TCP and UDP over loopback."""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e1000emu.clock import RealClock, VirtualClock
from e1000emu.errors import LinkError
from e1000emu.lab import add_nic
from e1000emu.links import passt as module
from e1000emu.links.passt import Passt
from e1000emu.links.qemu import MAX_FRAME_BYTES
from stack.host import Host
from stack.socket import AF_INET, SOCK_DGRAM, Socket, create_connection, create_server
from tests.e1000emu.cli.test_cli import run
from tests.e1000emu.links.ports import RecordingPort, frame
from tests.support import in_ci, require, run_to_end

MAC = bytes.fromhex("525400a1b2c3")
SECOND_NS = 1_000_000_000


def until(clock: RealClock, cond: Callable[[], bool]) -> bool:
    return clock.run(until=cond, timeout_ns=20 * SECOND_NS)


# --- a script in passt's place --------------------------------------------------------------------

FAKE = """#!{python} -IS
import os, socket, sys, time
sock = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
def take(n):
    data = b""
    while len(data) < n:
        piece = sock.recv(n - len(data))
        if not piece:
            sys.exit(0)
        data += piece
    return data
def frame():
    return take(int.from_bytes(take(4), "big"))
def send(data):
    sock.sendall(len(data).to_bytes(4, "big") + data)
"""
ANSWER = "send(frame())\n"
ECHO = ANSWER + "while True: send(frame())\n"


@pytest.fixture
def fake(tmp_path: Path) -> Callable[[str], str]:
    """Make a program that does what the text says, and give its path."""

    def make(body: str) -> str:
        path = tmp_path / "passt"
        path.write_text(FAKE.format(python=sys.executable) + body)
        path.chmod(stat.S_IRWXU)
        return str(path)

    return make


def arguments(fake: Callable[[str], str], **options: Any) -> list[str]:
    """Return what passt would be called with, by name."""
    body = f"open(sys.argv[0] + '.args', 'w').write('\\n'.join(sys.argv[1:]))\n{ECHO}"
    program = fake(body)
    Passt(RealClock(), program=program, **options).close()
    return Path(program + ".args").read_text().splitlines()


def test_a_passt_of_ours_gets_qemus_addresses_and_an_mtu_that_fits(fake: Any) -> None:
    args = arguments(fake)
    told = dict(zip(args[::2], args[1::2], strict=False))
    wanted = {"--address": "10.0.2.15", "--netmask": "24", "--gateway": "10.0.2.2", "--mtu": "1500"}
    assert wanted.items() <= told.items()
    assert {"--foreground", "--fd"} <= set(args)


@pytest.mark.parametrize(
    ("address", "gateway"),
    [
        ("10.9.0.1/24", "10.9.0.2"),
        ("10.9.0.2/24", "10.9.0.1"),
        ("10.9.0.1/30", "10.9.0.2"),
        ("10.9.0.1/31", "10.9.0.0"),
    ],
)
def test_the_gateway_is_another_address_of_the_network(
    fake: Any, address: str, gateway: str
) -> None:
    args = arguments(fake, address=address)
    assert args[args.index("--gateway") + 1] == gateway


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        (("-a", "10.1.1.1"), "--address"),
        (("--address=10.1.1.1",), "--address"),
        (("-n24",), "--netmask"),
        (("--gateway", "10.1.1.2"), "--gateway"),
        (("-4", "-m", "9000"), "--mtu"),
    ],
)
def test_options_win_over_our_defaults(fake: Any, options: tuple[str, ...], gone: str) -> None:
    args = arguments(fake, options=options)
    assert args[: len(options)] == list(options)
    names = {"--address", "--netmask", "--gateway", "--mtu"}
    assert names - set(args[len(options) :]) == {gone}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"address": "10.0.2.15/33"}, "'33' .*write for instance"),
        ({"gateway": "ten"}, "ten.*write for instance"),
        ({"address": "10.0.2.15/32"}, "no address to the gateway; widen it"),
        ({"mtu": 65521}, "mtu=65521 is out of range; give 68 to 65520"),
        ({"program": "passt-that-is-not"}, "no program 'passt-that-is-not'; apt-get install passt"),
    ],
)
def test_what_cannot_be_is_named(fake: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(LinkError, match=text):
        Passt(RealClock(), **{"program": fake(ECHO), **options})


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("sys.exit('passt: unrecognized option --fd')", "unrecognized option --fd; passt --help"),
        (
            "sys.exit(\"passt: unrecognized option '--fd'\\nUsage: x\")",
            "'--fd'; this passt is too old",
        ),
        ("sys.exit('External interface not usable')", "not usable; name the way out"),
        ("sys.exit('Couldn\\'t create user namespace: x')", "namespace: x; passt wants"),
        ("sys.exit('Failed to bind port 80')", "port 80; forward ports that are free"),
        ("sys.exit(3)", "does not start: status 3"),
        ("os.kill(os.getpid(), 9)", "does not start: killed by signal 9"),
        ("take(20); sock.close(); sys.exit('oh')", "does not start: oh"),
    ],
)
def test_a_passt_that_does_not_start_is_quoted_with_the_remedy(
    fake: Any, body: str, text: str
) -> None:
    with pytest.raises(LinkError, match=f"^passt -q: does not start: .*{text}|^.*{text}") as caught:
        Passt(RealClock(), program=fake(body), options=["-q"])
    assert "\n" not in str(caught.value)
    assert "Usage" not in str(caught.value)


def test_a_program_that_cannot_run_is_named(tmp_path: Path) -> None:
    program = tmp_path / "passt"
    program.write_text("#!/nowhere\n")
    program.chmod(stat.S_IRWXU)
    with pytest.raises(LinkError, match=r"cannot start it: .*No such file.*/passt"):
        Passt(RealClock(), program=str(program))


def test_a_process_without_descriptors_left_says_so(fake: Any, monkeypatch: Any) -> None:
    def refuse() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    program = fake(ECHO)
    monkeypatch.setattr(module.socket, "socketpair", refuse)
    with pytest.raises(LinkError, match=r"passt: cannot start it: .*Too many open files"):
        Passt(RealClock(), program=program)


def test_a_virtual_clock_looks_at_it_now_and_then(fake: Any) -> None:
    clock = VirtualClock()
    link = Passt(clock, program=fake(ECHO), poll_ns=50_000)
    port = RecordingPort(link)
    port.send(frame(7, 200))
    deadline = time.monotonic() + 20
    while not port.frames and time.monotonic() < deadline:
        clock.run_for(1_000_000)
    assert port.frames == [frame(7, 200)]
    link.close()


def test_one_that_does_not_answer_arp_but_lives_is_taken(fake: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "START_S", 0.2)
    with contextlib.closing(Passt(RealClock(), program=fake("frame(); time.sleep(60)"))) as link:
        assert link.carrier


def test_frames_cross_both_ways_and_padding_stays_here(fake: Any, clock: RealClock) -> None:
    link = Passt(clock, program=fake(ECHO))
    port = RecordingPort(link)
    ack = bytes(12) + bytes.fromhex("0800 4500 0028") + bytes(36)
    six = bytes(12) + bytes.fromhex("86dd 6000 0000 0002") + bytes(40)
    whole = bytes(12) + bytes.fromhex("0800 4500 002e") + bytes(42)
    arp = bytes(12) + bytes.fromhex("0806") + b"\xaa" * 46
    long = frame(1, 1514)
    sizes = [54, 56, 60, 60, 1514]
    port.send(ack.ljust(60, b"\0"), six.ljust(60, b"\0"), whole, arp, long)
    assert until(clock, lambda: len(port.frames) == 5)
    assert [data.ljust(60, b"\0") for data in (ack, six, whole, arp, long)] == port.frames
    assert link.stats.tx_frames == 5
    assert link.stats.tx_bytes == sum(sizes)
    link.close()


def test_frames_over_64_kib_pass_and_longer_ones_end_the_link(
    fake: Any, clock: RealClock, caplog: Any
) -> None:
    sizes = (65535, 65549, MAX_FRAME_BYTES)
    body = ANSWER + "frame()\n" + "".join(f"send(bytes({n}))\n" for n in sizes) + "frame()\n"
    link = Passt(clock, program=fake(body + f"send(bytes({MAX_FRAME_BYTES + 1})); frame()"))
    port = RecordingPort(link)
    port.send(frame(0))
    assert until(clock, lambda: len(port.frames) == 3)
    assert tuple(map(len, port.frames)) == sizes
    port.send(frame(0))
    assert until(clock, lambda: port.changes == [False])
    assert link.gone == "it sent what is no frame"
    assert "passt is gone: it sent what is no frame" in caplog.text
    link.close()


@pytest.mark.parametrize(
    ("end", "text"),
    [
        ("sys.exit('ASSERTION FAILED')", "ASSERTION FAILED"),
        ("os.kill(os.getpid(), 11)", "killed by signal 11"),
        ("sock.sendall(b'\\0\\0\\0\\x40half'); sys.exit(0)", "status 0"),
    ],
)
def test_a_passt_that_dies_takes_the_carrier_down_and_says_why(
    fake: Any, clock: RealClock, caplog: Any, end: str, text: str
) -> None:
    before = "print('10.0.2.2 and such', file=sys.stderr, flush=True)\n"
    link = Passt(clock, program=fake(f"{before}{ANSWER}frame(); {end}"))
    port = RecordingPort(link)
    port.send(frame(0))
    assert until(clock, lambda: port.changes == [False])
    assert not link.carrier
    assert link.gone == text
    assert f"passt is gone: {text}" in caplog.text
    port.send(frame(1))
    assert link.stats.drops["no peer"] == 1
    link.close()
    link.close()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pid_of(link: Passt) -> int:
    assert link._process is not None
    return link._process.pid


def test_close_and_the_collector_end_the_process(fake: Any) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + ANSWER
    link = Passt(RealClock(), program=fake(ECHO))
    pid = pid_of(link)
    assert alive(pid)
    link.close()
    assert not alive(pid)
    link = Passt(RealClock(), program=fake(stubborn + "take(1)"))  # ends with its socket
    pid = pid_of(link)
    del link
    gc.collect()
    assert not alive(pid)


# --- the real one ---------------------------------------------------------------------------------


@pytest.fixture
def way_out() -> Iterator[list[str]]:
    """Give the options by which passt finds an interface with an address, which it insists on."""
    require.tool("passt")
    routes = Path("/proc/net/route").read_text().splitlines()[1:]
    if any(line.split()[1] == "00000000" for line in routes):
        yield []
        return
    require.tun()
    name = f"e1kp{os.getpid()}"[:15]
    for command in (f"tuntap add {name} mode tap", f"addr add 192.0.2.1/24 dev {name}"):
        subprocess.run(["ip", *command.split()], check=True)
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
    yield ["-i", name, "-4"]
    subprocess.run(["ip", "link", "del", name], check=True)


@contextlib.contextmanager
def served(kind: int, handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """Run `handle(socket)` in a thread, bound to loopback; give the port."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(20)
        if kind == socket.SOCK_STREAM:
            sock.listen()
        thread = threading.Thread(target=handle, args=(sock,))
        thread.start()
        yield sock.getsockname()[1]
        thread.join(20)
        assert not thread.is_alive()


@contextlib.contextmanager
def on_passt(**options: Any) -> Iterator[tuple[Host, Passt]]:
    """Give a host of ours at 10.0.2.15 on a real passt; the clock's lock is held."""
    clock = RealClock()
    try:
        link = Passt(clock, mac=MAC, **options)
    except LinkError as error:
        if "user namespace" in str(error) and not in_ci():
            pytest.skip(str(error))
        raise
    with clock.lock, Host("guest", clock=clock, ram_bytes=32 << 20) as host:
        add_nic(host, link, mac=MAC, addr="10.0.2.15/24")
        yield host, link
    clock.close()


def as_nobody(tmp_path: Path) -> str:
    """Return a passt that an ordinary user starts."""
    require.tool("setpriv", "util-linux")
    path = tmp_path / "passt"
    path.write_text(
        '#!/bin/sh\nexec setpriv --reuid nobody --regid nogroup --clear-groups passt "$@"\n'
    )
    path.chmod(0o755)
    return str(path)


DATA = bytes(i * i >> 3 & 0xFF for i in range(1 << 20))


@pytest.mark.parametrize("user", ["whoever runs this", "an ordinary user"])
def test_tcp_both_ways_arrives_whole(way_out: list[str], tmp_path: Path, user: str) -> None:
    options: dict[str, Any] = {"options": way_out}
    if user == "an ordinary user" and os.geteuid() == 0:
        options["program"] = as_nobody(tmp_path)
    got: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock, sock.makefile("rb") as file:
            sock.settimeout(20)
            got.append(file.read(len(DATA)))
            sock.sendall(DATA[::-1])

    with served(socket.SOCK_STREAM, serve) as port, on_passt(**options) as (host, link):
        sock = create_connection(host, ("10.0.2.2", port), timeout=20)
        sock.sendall(DATA)
        back = b"".join(iter(lambda: sock.recv(1 << 16), b""))
        sock.close()
        assert link.carrier
    assert hashlib.sha256(got[0]).digest() == hashlib.sha256(DATA).digest()
    assert hashlib.sha256(back).digest() == hashlib.sha256(DATA[::-1]).digest()


def test_udp_comes_back_from_the_machine_as_the_gateway(way_out: list[str]) -> None:
    sizes = (1, 100, 1472)

    def serve(sock: socket.socket) -> None:
        for _ in sizes:
            data, source = sock.recvfrom(65536)
            assert source[0] == "127.0.0.1"
            sock.sendto(data[::-1], source)

    with served(socket.SOCK_DGRAM, serve) as port, on_passt(options=way_out) as (host, _):
        sock = Socket(host, AF_INET, SOCK_DGRAM)
        sock.settimeout(20)
        for size in sizes:
            sock.sendto(DATA[:size], ("10.0.2.2", port))
            assert sock.recvfrom(65536) == (DATA[:size][::-1], ("10.0.2.2", port))


def test_a_forwarded_port_reaches_our_server(way_out: list[str]) -> None:
    port = 20000 + os.getpid() % 10000  # the kernel gives nobody a port of these (32768 and up)
    answers: list[bytes] = []

    def ask() -> None:
        with socket.create_connection(("127.0.0.1", port), 20) as sock:
            sock.sendall(b"who is there?")
            answers.append(sock.recv(100))

    with on_passt(options=[*way_out, "-t", f"127.0.0.1/{port}:80"]) as (host, _):
        listener = create_server(host, ("10.0.2.15", 80))
        listener.settimeout(20)
        thread = threading.Thread(target=ask)
        thread.start()
        sock, source = listener.accept()
        sock.settimeout(20)
        assert sock.recv(100) == b"who is there?"
        assert source[0] == "10.0.2.2"
        sock.sendall(b"the stack")
        assert sock.recv(100) == b""
        sock.close()
    thread.join(20)
    assert answers == [b"the stack"]


def test_dhcp_offers_what_we_told_passt(way_out: list[str], clock: RealClock) -> None:
    from scapy.layers.dhcp import BOOTP, DHCP
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    mac = "52:54:00:12:34:56"
    ask = Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / IP(src="0.0.0.0", dst="255.255.255.255")
    ask /= UDP(sport=68, dport=67) / BOOTP(chaddr=bytes.fromhex(mac.replace(":", "")), xid=7)
    ask /= DHCP(options=[("message-type", "discover"), "end"])
    link = Passt(clock, options=way_out, mtu=9000)
    port = RecordingPort(link)
    port.send(bytes(ask))
    assert until(clock, lambda: any(BOOTP in Ether(data) for data in port.frames))
    offer = next(p for p in map(Ether, port.frames) if BOOTP in p)
    options = dict(o for o in offer[DHCP].options if isinstance(o, tuple) and len(o) == 2)
    assert offer[BOOTP].yiaddr == "10.0.2.15"
    assert options["router"] == "10.0.2.2"
    assert options["subnet_mask"] == "255.255.255.0"
    assert options["interface-mtu"] == 9000
    link.close()


def test_passt_killed_in_mid_traffic_is_a_pulled_cable(way_out: list[str], caplog: Any) -> None:
    def serve(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock, contextlib.suppress(OSError):
            while True:
                sock.sendall(DATA)

    with served(socket.SOCK_STREAM, serve) as port, on_passt(options=way_out) as (host, link):
        sock = create_connection(host, ("10.0.2.2", port), timeout=20)
        assert sock.recv(1 << 16)
        os.kill(pid_of(link), signal.SIGKILL)
        assert host.clock.wait(lambda: not link.carrier, 20 * SECOND_NS)
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            list(iter(lambda: sock.recv(1 << 16), b""))
    assert "passt" in caplog.text
    assert "is gone: killed by signal 9" in caplog.text


def test_its_own_words_for_an_option_that_it_does_not_have(way_out: list[str]) -> None:
    with pytest.raises(LinkError, match=r"^passt .*--bogus: does not start: .*option '--bogus'; "):
        Passt(RealClock(), options=[*way_out, "--bogus"])


def test_without_any_way_out_the_remedy_is_said() -> None:
    require.tool("passt")
    require.netns()
    code = "from e1000emu import RealClock; from e1000emu.links import Passt; Passt(RealClock())"
    name = f"e1kp-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        done = run_to_end(["ip", "netns", "exec", name, sys.executable, "-c", code])
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
    if done.returncode:  # a newer one starts all the same, for loopback alone
        assert re.search(r"interface.*; name the way out", done.stderr.splitlines()[-1])


# --- joining one, and the command line ------------------------------------------------------------


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Give a directory where root's passt, which is nobody by then, may make its socket."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o777)
        yield Path(path)


def test_a_passt_that_listens_is_joined_and_left_alone(
    way_out: list[str], open_directory: Path
) -> None:
    path = open_directory / "passt.sock"
    theirs = subprocess.Popen(
        ["passt", "--foreground", "--socket", path, *way_out, "-g", "10.0.2.2", "-a", "10.0.2.15"],
        stderr=subprocess.DEVNULL,
    )
    try:
        # The path is there before passt listens on it, and it takes one connection: ours.
        table = Path("/proc/net/unix")
        while not re.search(
            rf" 00010000 0001 01 +\d+ {re.escape(str(path))}$", table.read_text(), re.M
        ):
            assert theirs.poll() is None
            time.sleep(0.01)

        def serve(listener: socket.socket) -> None:
            listener.accept()[0].close()

        with served(socket.SOCK_STREAM, serve) as port, on_passt(path=path) as (host, link):
            sock = create_connection(host, ("10.0.2.2", port), timeout=20)
            assert sock.recv(1) == b""
            assert str(path) in repr(link)
        assert theirs.poll() is None
    finally:
        theirs.terminate()
        theirs.wait(20)


def test_a_path_where_no_passt_listens_is_named(tmp_path: Path) -> None:
    done = run("ping", "10.0.2.2", "--addr", "10.0.2.15/24", "--link", f"passt:{tmp_path / 'no'}")
    assert done.returncode == 2
    assert re.fullmatch(
        r"e1000emu: passt:\S*: No such file .*; first start passt .*\n", done.stderr
    )


def test_the_command_line_fetches_through_passt(way_out: list[str], tmp_path: Path) -> None:
    def serve(listener: socket.socket) -> None:
        for _ in range(2):
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(20)
                while b"\r\n\r\n" not in sock.recv(4096):
                    pass
                sock.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + DATA[:100_000])

    link = " ".join(["passt:-q", *way_out])
    with served(socket.SOCK_STREAM, serve) as port:
        for addr, gate in (("10.0.2.15/24", "10.0.2.2"), ("10.9.0.2/24", "10.9.0.254")):
            url = f"http://{gate}:{port}/"
            body = tmp_path / gate
            done = run("get", url, "--addr", addr, "--gw", gate, "--link", link, "-o", str(body))
            assert done.returncode == 0, done.stderr
            assert body.read_bytes() == DATA[:100_000]


def children(pid: int) -> list[int]:
    """Return the ids of the passts that `pid` has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(n) for n in found if Path(f"/proc/{n}/comm").read_text().startswith("passt")]


@pytest.mark.parametrize("killed", [False, True])
def test_a_vfio_user_server_takes_its_passt_along(
    way_out: list[str], tmp_path: Path, killed: bool
) -> None:
    command = [sys.executable, "-m", "e1000emu", "vfio-user", "--socket", str(tmp_path / "s")]
    command += ["--json", "--link", " ".join(["passt:-q", *way_out])]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert server.stdout is not None
    assert server.stderr is not None
    try:
        assert '"ready"' in server.stdout.readline()
        (pid,) = children(server.pid)
        if killed:
            os.kill(pid, signal.SIGKILL)
            assert any("is gone: killed by signal 9" in line for line in server.stderr)
            assert server.poll() is None
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=100)
        assert server.returncode == 0, errors
        assert not alive(pid)
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("link", ["passt:", "passt:-t 'unclosed"])
def test_a_link_that_is_not_written_right_is_named(link: str) -> None:
    done = run("ping", "10.0.2.2", "--addr", "10.0.2.15/24", "--link", link)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert link in done.stderr
