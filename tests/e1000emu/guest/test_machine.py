"""GuestLinux against a program that plays QEMU and the guest's agent: anything may come."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from e1000emu.guest import (
    BuiltinNic,
    GuestCrashed,
    GuestError,
    GuestImage,
    GuestLinux,
    Qemu,
    VfioUserNic,
)

# Plays QEMU: finds the agent's socket and the serial line's file among its arguments, then obeys
# lines as the agent does. A word of the test's says what a command does.
ACTOR = r"""
import base64, os, re, socket, sys, time
text = " ".join(sys.argv)
sock = socket.socket(fileno=int(re.search(r"id=agent,fd=(\d+)", text)[1]))
log = open(re.search(r"id=log,path=(\S+)", text)[1], "wb", buffering=0)
mode = sys.argv[1]
if mode == "dies":
    sys.exit("qemu: no such socket")
if mode == "silent":
    log.write(b"still booting\n")
    time.sleep(600)
if mode == "panics":
    log.write(b"\xff\xfe noise\r\n[    1.0] Kernel panic - not syncing: VFS\r\n[    1.0] end\r\n")
    time.sleep(600)
sock.sendall(b"\x00\xff\x1b[2J garbage\nready 6.12\n")
for line in sock.makefile("rb"):
    what, number, *rest = line.split()
    command = base64.b64decode(rest[0]) if rest else b""
    stdin = base64.b64decode(rest[1]) if len(rest) > 1 else b""
    def done(status, output):
        sock.sendall(b"\ndone %s %d %s\n" % (number, status, base64.b64encode(output)))
    if command == b"oops":
        log.write(b"BUG: kernel NULL pointer dereference, address: 0\nOops: Oops: 0000\n")
    elif command == b"die":
        print("qemu: assertion", file=sys.stderr)
        sys.exit(3)
    elif command.endswith(b"reboot -f"):
        sock.sendall(b"\ndone 9 0 AAAA" + b"\nready 6.12\n")
    elif command.endswith(b"poweroff -f"):
        sys.exit(0)
    elif command == b"noise":
        sock.sendall(b"\ndone 99999 0 AAAA\ndone x y z\ndone 1\n\n" + bytes(range(256)) * 10)
        done(0, b"heard")
    elif command == b"hang":
        pass
    elif command == b"big":
        done(0, bytes(range(256)) * 4096)
    elif what == b"kill":
        done(137, b"killed")
    else:
        done(int(command), stdin)
"""


@pytest.fixture
def start(tmp_path: Path):
    """Return a function that starts the actor in a mode; all are closed in the end."""
    actor = tmp_path / "actor.py"
    actor.write_text(ACTOR)
    started: list[GuestLinux] = []

    def run(mode: str = "good", **options) -> GuestLinux:
        qemu = Qemu((sys.executable, str(actor), mode), "10.1.0", "test")
        image = GuestImage(tmp_path / "kernel", tmp_path / "initrd", qemu, "6.12", ())
        guest = GuestLinux(image, **options)
        started.append(guest)
        return guest

    yield run
    for guest in started:
        guest.close()


@pytest.fixture
def guest(start) -> GuestLinux:
    return start()


def test_commands_give_status_and_output(guest):
    made = guest.run("5", stdin=b"\0\n\xff")
    assert (made.command, made.returncode, made.output) == ("5", 5, b"\0\n\xff")
    assert made.stdout == "\0\n\ufffd"
    with pytest.raises(GuestError, match="'5' returns 5"):
        made.check()
    assert guest.run("0").check().returncode == 0


def test_noise_is_no_answer(guest):
    assert guest.run("noise").stdout == "heard"
    assert guest.run("0", stdin=b"x").stdout == "x"


def test_long_output(start):
    assert start().run("big").output == bytes(range(256)) * 4096


def test_commands_of_many_threads_get_their_own_answers(guest):
    results: dict[int, tuple[int, bytes]] = {}

    def work(n: int) -> None:
        for _ in range(20):
            made = guest.run(str(n), stdin=b"%d" % n)
            results[n] = (made.returncode, made.output)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {n: (n, b"%d" % n) for n in range(8)}


def test_command_that_does_not_end_is_an_error(guest):
    with pytest.raises(GuestError, match="'hang' runs for more than"):
        guest.run("hang", timeout_s=0.5)
    assert guest.run("0").returncode == 0


def test_a_command_that_cannot_even_be_killed_says_what_it_did(guest, monkeypatch):
    send = guest._send

    def broken(line: bytes) -> None:
        if line.startswith(b"kill"):
            raise GuestError("guest: QEMU does not take commands")
        send(line)

    monkeypatch.setattr(guest, "_send", broken)
    with pytest.raises(GuestError, match="'hang' runs for more than"):
        guest.run("hang", timeout_s=0.5)


def test_job_is_killed(guest):
    job = guest.spawn("hang")
    job.kill()
    assert job.completed is not None
    assert job.completed.returncode == 137


def test_panic_at_boot_is_raised_with_the_kernels_words(start):
    with pytest.raises(GuestCrashed, match="not syncing: VFS") as error:
        start("panics")
    assert "noise" not in str(error.value)


def test_oops_is_raised_by_who_waits(guest):
    with pytest.raises(GuestCrashed, match="NULL pointer dereference"):
        guest.run("oops")
    with pytest.raises(GuestCrashed):
        guest.check()


def test_qemu_that_does_not_start_says_why(start):
    with pytest.raises(GuestError, match="QEMU ended with 1: qemu: no such socket"):
        start("dies")


def test_qemu_that_dies_under_a_command_says_why(guest):
    with pytest.raises(GuestError, match="QEMU ended with 3: qemu: assertion"):
        guest.run("die")
    assert not guest.running


def test_guest_that_does_not_boot_shows_its_console(start):
    with pytest.raises(GuestError, match=r"did not boot in 0.5 s; its console:\nstill booting"):
        start("silent", boot_timeout_s=0.5)


def test_reboot_is_seen_and_what_ran_is_lost(guest):
    job = guest.spawn("hang")
    guest.reboot()
    assert guest.boots == 2
    with pytest.raises(GuestError, match="ended or rebooted under 'hang'"):
        job.wait()
    assert guest.run("0").returncode == 0


def test_shutdown_waits_for_the_end(guest):
    guest.shutdown()
    assert not guest.running
    guest.close()


def test_closing_releases_who_waits(guest):
    job = guest.spawn("hang")
    failed: list[BaseException] = []

    def wait() -> None:
        try:
            job.wait()
        except GuestError as error:
            failed.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    guest.close()
    thread.join(60)
    assert not thread.is_alive()
    assert failed


def test_missing_qemu_is_an_error(tmp_path):
    qemu = Qemu((str(tmp_path / "none"),), "10.1.0", "test")
    image = GuestImage(tmp_path / "kernel", tmp_path / "initrd", qemu, "6.12", ())
    with pytest.raises(GuestError, match="No such file"):
        GuestLinux(image)


def test_nothing_is_left_in_the_temporary_directory(start, monkeypatch, tmp_path):
    where = tmp_path / "tmp"
    where.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(where))
    guest = start()
    assert list(where.iterdir())
    guest.close()
    assert list(where.iterdir()) == []


def test_both_kinds_of_card_are_options_of_qemu():
    card = VfioUserNic("/run/nic", {"x-send-queued": True})
    assert card.arguments() == [
        "-device",
        '{"driver": "vfio-user-pci", "socket": {"type": "unix", "path": "/run/nic"}, '
        '"x-send-queued": true}',
    ]
    assert BuiltinNic("tap,ifname=t0,script=no").arguments() == [
        "-netdev",
        "tap,id=n0,ifname=t0,script=no",
        "-device",
        "e1000,netdev=n0,mac=52:54:00:12:34:56,romfile=",
    ]
    assert BuiltinNic("user").arguments()[1] == "user,id=n0"
