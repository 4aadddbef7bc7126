"""A running Linux guest: QEMU with one network card, and an agent inside that runs commands.

    with GuestLinux(prepare(), nic=VfioUserNic("/run/nic.sock")) as guest:
        print(guest.run("ethtool -i eth0").stdout)

The processor is emulated (TCG), so it works in any container. The agent has a virtio port of its
own. The kernel's messages go to a serial line and from there to a file. After a panic or an oops in
that file, every call that waits for the guest raises `GuestCrashed`.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e1000emu.closing import Closing
from e1000emu.errors import E1000Error
from e1000emu.guest.image import GuestImage, prepare
from e1000emu.guest.init import PORT

BOOT_TIMEOUT_S = 180.0
RUN_TIMEOUT_S = 120.0
END_TIMEOUT_S = 60.0
WATCH_S = 0.2
"""How often waiting functions check the kernel's messages and QEMU."""
TAIL_LINES = 40
# An emulated processor on a busy machine loses seconds: the kernel's own watchdogs would see
# false lock-ups. The second half disables slow steps that do not concern the network card:
# tests of ciphers, checks of page tables, calibrations, types for BPF programs.
KERNEL_ARGUMENTS = (
    "console=ttyS0 loglevel=4 panic=0 oops=panic nowatchdog rcupdate.rcu_cpu_stall_suppress=1 "
    "mitigations=off random.trust_cpu=on cryptomgr.notests rodata=off tsc=reliable no_timer_check "
    "initcall_blacklist=jent_mod_init,crypto_kdf108_init,bpf_tcp_ca_kfunc_init,bpf_dummy_struct_ops_init"
)
CRASH = re.compile(
    r"Kernel panic|\bBUG: |\bOops: |general protection fault|kernel BUG at|"
    r"Attempted to kill init"
)
ANSWER = re.compile(rb"done (\d+) (\d+) ([A-Za-z0-9+/=]*)$|ready (\S+)$")
EXIT_WITH_PARENT = (10, 2)
"""The first release that can end with the process that started it."""


class GuestError(E1000Error):
    """QEMU does not start, the guest does not answer, or a command does not end."""


class GuestCrashed(GuestError):
    """The guest's kernel panicked; the text ends with its last messages."""


@dataclass(frozen=True, slots=True)
class VfioUserNic:
    """Our NIC, at the socket of a vfio-user server."""

    path: str | os.PathLike[str]
    options: dict[str, Any] = field(default_factory=dict)
    """More properties of QEMU's device, {"x-send-queued": True}."""

    def arguments(self) -> list[str]:
        """Return QEMU's options."""
        device = {
            "driver": "vfio-user-pci",
            "socket": {"type": "unix", "path": os.path.abspath(self.path)},
        }
        return ["-device", json.dumps(device | self.options)]


@dataclass(frozen=True, slots=True)
class BuiltinNic:
    """A card that QEMU emulates itself, on a network of QEMU's: "tap,ifname=t0,script=no"."""

    netdev: str
    driver: str = "e1000"
    mac: str = "52:54:00:12:34:56"

    def arguments(self) -> list[str]:
        """Return QEMU's options."""
        kind, comma, rest = self.netdev.partition(",")
        return [
            *("-netdev", f"{kind},id=n0{comma}{rest}"),
            *("-device", f"{self.driver},netdev=n0,mac={self.mac},romfile="),
        ]


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command in the guest ended."""

    command: str
    returncode: int
    """As a shell has it: 128 + N for one that signal N ended."""
    output: bytes
    """Standard output and standard error, in the order of writing."""

    @property
    def stdout(self) -> str:
        """The output as text."""
        return self.output.decode("utf-8", "replace")

    def check(self) -> Completed:
        """Return this.  Raises: GuestError unless the command returned 0."""
        if self.returncode:
            raise GuestError(
                f"guest: {self.command!r} returns {self.returncode}: {self.stdout.strip()}"
            )
        return self


class Job:
    """A command that runs in the guest."""

    def __init__(self, guest: GuestLinux, number: int, command: str) -> None:
        self.guest = guest
        self.number = number
        self.command = command
        self.completed: Completed | None = None
        self.lost = False
        """The guest rebooted or ended under it."""

    def __repr__(self) -> str:
        return f"Job({self.command!r}, {self.completed})"

    def wait(self, timeout_s: float = RUN_TIMEOUT_S) -> Completed:
        """Wait for its end.  Raises: GuestError when it takes longer, or the guest has ended;
        GuestCrashed."""
        what = f"{self.command!r} runs for more than {timeout_s:g} s"
        self.guest._wait_for(lambda: self.completed is not None or self.lost, timeout_s, what)
        if self.completed is None:
            raise GuestError(f"guest: it ended or rebooted under {self.command!r}")
        return self.completed

    def output(self, start: int = 0) -> bytes:
        """Return its output so far, from byte `start` on."""
        if self.completed is None:
            read = self.guest.run(f"tail -c +{start + 1} /run/job/{self.number}/out")
            if read.returncode == 0:
                return read.output
            self.wait()
        assert self.completed is not None
        return self.completed.output[start:]

    def kill(self) -> None:
        """Kill it and all its processes (SIGKILL), and wait for their end."""
        deadline = time.monotonic() + RUN_TIMEOUT_S
        while self.completed is None and not self.lost:
            if time.monotonic() > deadline:
                raise GuestError(f"guest: {self.command!r} cannot be killed")
            self.guest._send(b"kill %d" % self.number)
            with contextlib.suppress(_NotYet):
                self.guest._wait_for(lambda: self.completed is not None or self.lost, 2.0, None)


class _NotYet(Exception):
    """A wait without an error text of its own has timed out."""


def _kernel_words(modules: Sequence[str], setup: str, interactive: bool) -> list[str]:
    """Return the kernel's arguments, those for the guest's init among them."""
    words = [KERNEL_ARGUMENTS, f"e1000emu.modules={','.join(modules)}"]
    if setup:
        words.append(f"e1000emu.setup={base64.b64encode(setup.encode()).decode()}")
    if interactive:
        words.append("e1000emu.console=shell")
    return words


class GuestLinux(Closing):
    """Boots the image and waits until the agent answers.

    Args:
        image: from `prepare()`, which is called when there is none.
        nic: `VfioUserNic`, `BuiltinNic`, or None for a guest without a card.
        modules: what modprobe loads at boot, in order.
        setup: shell commands that run before the agent, or the interactive shell, does.
        interactive: QEMU and a shell in the guest take over this terminal; use `wait_end`.
        wait: return when the agent answers; False leaves that to `wait_boot`.
        cpus, ram_mib: the guest's; accel: QEMU's -accel.
        shared_memory: its RAM is a memfd that a vfio-user server maps; without, DMA goes by
            messages.
        kernel_arguments, qemu_arguments: appended to ours.

    Raises: GuestError when QEMU ends, or the guest does not answer in `boot_timeout_s`.
    """

    def __init__(
        self,
        image: GuestImage | None = None,
        *,
        nic: VfioUserNic | BuiltinNic | None = None,
        modules: Sequence[str] = ("e1000",),
        setup: str = "",
        interactive: bool = False,
        wait: bool = True,
        cpus: int = 1,
        ram_mib: int = 512,
        shared_memory: bool = True,
        accel: str = "tcg,thread=multi",
        kernel_arguments: str = "",
        qemu_arguments: Sequence[str] = (),
        boot_timeout_s: float = BOOT_TIMEOUT_S,
    ) -> None:
        self.image = image if image is not None else prepare()
        self.nic = nic
        self.boots = 0
        """How often the guest's agent has started."""
        self._lock = threading.Condition()
        self._jobs: dict[int, Job] = {}
        self._serial = 0
        self._directory = Path(tempfile.mkdtemp(prefix="e1000emu-guest-"))
        self._log = self._directory / "console"
        self._errors = self._directory / "qemu"
        self._interactive = interactive
        words = [*_kernel_words(modules, setup, interactive), kernel_arguments]
        qemu = self.image.qemu
        memory = ["-m", f"{ram_mib}M", "-machine", "pc"]
        if shared_memory:
            memory[-1] += ",memory-backend=mem"
            memory += ["-object", f"memory-backend-memfd,id=mem,share=on,size={ram_mib}M"]
        self.args = [
            *qemu.command,
            *("-no-user-config", "-nodefaults", "-display", "none"),
            *("-accel", accel, "-cpu", "max" if "tcg" in accel else "host", "-smp", str(cpus)),
            *memory,
            *("-kernel", str(self.image.kernel), "-initrd", str(self.image.initrd)),
            *("-append", " ".join(words).strip()),
            *(nic.arguments() if nic is not None else ()),
        ]
        version = tuple(map(int, qemu.version.split(".")))
        # The kernel's "parent" is the thread that started it, and only the main one stays.
        if version >= EXIT_WITH_PARENT and threading.current_thread() is threading.main_thread():
            self.args += ["-run-with", "exit-with-parent=on"]
        ours, theirs = socket.socketpair()
        if interactive:
            self.args += ["-serial", "mon:stdio"]
        else:
            self.args += [
                *("-chardev", f"file,id=log,path={self._log}", "-serial", "chardev:log"),
                *("-chardev", f"socket,id=agent,fd={theirs.fileno()}"),
                *("-device", "virtio-serial-pci", "-device"),
                f"virtserialport,chardev=agent,name={PORT}",
            ]
        self.args += qemu_arguments
        self._socket = ours
        self._process = self._start(theirs)
        # Also when the interpreter exits without a call of close.
        self._ending = weakref.finalize(self, _end, self._process, ours, self._directory)
        if interactive:
            return
        reader = threading.Thread(
            target=_read, args=(weakref.ref(self), ours), name="e1000emu-guest", daemon=True
        )
        reader.start()
        if wait:
            try:
                self.wait_boot(boot_timeout_s)
            except BaseException:
                self.close()
                raise

    def _start(self, agent: socket.socket) -> subprocess.Popen[bytes]:
        """Start QEMU, which gets `agent`. Takes ownership of it."""
        interactive = self._interactive
        try:
            with open(self._errors, "wb") as errors:
                return subprocess.Popen(
                    self.args,
                    pass_fds=() if interactive else (agent.fileno(),),
                    stdin=None if interactive else subprocess.DEVNULL,
                    stdout=None if interactive else errors,
                    stderr=errors,
                    env=os.environ | self.image.qemu.environment,
                )
        except OSError as error:
            self._socket.close()
            shutil.rmtree(self._directory, ignore_errors=True)
            raise GuestError(f"guest: {self.args[0]}: {error.strerror}") from None
        finally:
            agent.close()

    def __repr__(self) -> str:
        return f"GuestLinux(pid={self._process.pid}, boots={self.boots})"

    def wait_boot(self, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Wait until the agent answers.  Raises: GuestError, GuestCrashed."""
        self._wait_for(lambda: self.boots > 0, timeout_s, f"did not boot in {timeout_s:g} s")

    # --- commands --------------------------------------------------------------------------------

    def run(
        self, command: str, *, timeout_s: float = RUN_TIMEOUT_S, stdin: bytes = b""
    ) -> Completed:
        """Run a command of bash in the guest to its end.

        Raises: GuestError when it takes longer (it is killed then); GuestCrashed.
        """
        job = self.spawn(command, stdin=stdin)
        try:
            return job.wait(timeout_s)
        except GuestError:
            if job.completed is None and not job.lost:
                with contextlib.suppress(GuestError):
                    self._send(b"kill %d" % job.number)
            raise

    def spawn(self, command: str, *, stdin: bytes = b"") -> Job:
        """Start a command of bash in the guest."""
        with self._lock:
            self._serial += 1
            job = Job(self, self._serial, command)
            self._jobs[job.number] = job
        encoded = base64.b64encode(command.encode()), base64.b64encode(stdin)
        self._send(b"run %d %s %s" % (job.number, *encoded))
        return job

    def reboot(self, *, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Restart the guest and wait until it answers again; what ran in it is lost."""
        before = self.boots
        self.spawn("sync; reboot -f")
        self._wait_for(lambda: self.boots > before, timeout_s, f"did not reboot in {timeout_s:g} s")

    def shutdown(self, *, timeout_s: float = END_TIMEOUT_S) -> None:
        """Switch the guest off and wait for QEMU's end.  Raises: GuestError when it does not."""
        self.spawn("sync; poweroff -f")
        try:
            self.wait_end(timeout_s)
        finally:
            self.close()

    def wait_end(self, timeout_s: float | None = None) -> int:
        """Wait for QEMU's end and return its status."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise GuestError(f"guest: it did not end in {timeout_s:g} s") from None

    def close(self) -> None:
        """End QEMU at once and forget its files; safe to call twice."""
        self._ending()
        with self._lock:
            for job in self._jobs.values():
                job.lost = job.lost or job.completed is None
            self._jobs.clear()
            self._lock.notify_all()

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """QEMU has not ended."""
        return self._process.poll() is None

    # --- what it says ----------------------------------------------------------------------------

    def dmesg(self) -> str:
        """Return the kernel's log."""
        return self.run("dmesg").check().stdout

    def console(self) -> str:
        """Return the output of the serial line: errors of the kernel and of /init."""
        try:
            return self._log.read_text(errors="replace").replace("\r", "")
        except OSError:
            return ""

    def qemu_messages(self) -> str:
        """Return what QEMU wrote to its standard output and error."""
        try:
            return self._errors.read_text(errors="replace").strip()
        except OSError:
            return ""

    def check(self) -> None:
        """Raises: GuestCrashed when the kernel panicked; GuestError when QEMU has ended."""
        text = self.console()
        found = CRASH.search(text)
        if found is not None:
            tail = text[text.rfind("\n", 0, found.start()) + 1 :].splitlines()[:TAIL_LINES]
            raise GuestCrashed("guest: its kernel crashed:\n" + "\n".join(tail))
        code = self._process.poll()
        if code is not None:
            words = self.qemu_messages() or "\n".join(text.splitlines()[-TAIL_LINES:])
            raise GuestError(f"guest: QEMU ended with {code}: {words}")

    def _wait_for(self, condition: Any, timeout_s: float, what: str | None) -> None:
        """Wait until `condition()`, while the guest lives."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self._lock:
                if condition():
                    return
                self._lock.wait(min(WATCH_S, max(0.0, deadline - time.monotonic())))
                if condition():
                    return
            self.check()
            if time.monotonic() >= deadline:
                if what is None:
                    raise _NotYet
                tail = "\n".join(self.console().splitlines()[-TAIL_LINES:])
                said = self.qemu_messages()
                raise GuestError(
                    f"guest: {what}"
                    + (f"; QEMU says: {said}" if said else "")
                    + (f"; its console:\n{tail}" if tail else "")
                )

    # --- the agent -------------------------------------------------------------------------------

    def _send(self, line: bytes) -> None:
        try:
            self._socket.sendall(line + b"\n")
        except OSError as error:
            self.check()
            raise GuestError(f"guest: QEMU does not take commands: {error.strerror}") from None

    def _line(self, line: bytes) -> None:
        """Process one line of the agent; anything else is noise, as from a guest that was reset."""
        found = ANSWER.search(line)
        if found is None:
            return
        with self._lock:
            if found[4] is not None:
                self.boots += 1
                lost, self._jobs = self._jobs, {}
                for job in lost.values():
                    job.lost = True
            else:
                finished = self._jobs.pop(int(found[1]), None)
                if finished is not None:
                    try:
                        output = base64.b64decode(found[3], validate=True)
                    except binascii.Error:
                        output = b""
                    finished.completed = Completed(finished.command, int(found[2]), output)
            self._lock.notify_all()


def _read(reference: weakref.ref[GuestLinux], sock: socket.socket) -> None:
    """Split the agent's output into lines, until the socket is closed."""
    buffer = bytearray()
    while True:
        try:
            piece = sock.recv(1 << 16)
        except OSError:
            piece = b""
        guest = reference()
        if not piece or guest is None:
            return
        buffer += piece
        *lines, rest = buffer.split(b"\n")
        buffer = bytearray(rest)
        for line in lines:
            guest._line(bytes(line))
        del guest


def _end(process: subprocess.Popen[bytes], sock: socket.socket, directory: Path) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
    shutil.rmtree(directory, ignore_errors=True)
