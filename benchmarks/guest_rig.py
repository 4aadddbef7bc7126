"""Two guests of one image with different cards: QEMU's own e1000, and ours behind vfio-user.

Each has its own far end: a network namespace with a TAP and an iperf3 server. QEMU's card opens its
TAP itself; ours is an `e1000emu vfio-user` process, as a user runs it. Counters of both sides are
read at the same places: the guest's /proc, the namespace's /proc/net, the processes' CPU time. Only
our side has vfio-user messages.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from e1000emu.errors import E1000Error
from e1000emu.guest import BuiltinNic, GuestImage, GuestLinux, VfioUserNic, prepare
from e1000emu.guest.image import cache_directory, find_qemu

__all__ = [
    "GUEST",
    "HOST",
    "BenchError",
    "Side",
    "Snapshot",
    "builtin_side",
    "idle_cpu",
    "our_side",
    "prepared_image",
    "sweep",
]

ROOT = Path(__file__).resolve().parent.parent
HOST, GUEST = "10.98.0.1", "10.98.0.2"
"""The same address in both namespaces, so that both guests get the same configuration."""
MAC = "52:54:00:12:34:56"
TAP = "e1kbench"
NAMESPACE = "e1kbench"
START_S, END_S, ANSWER_S = 30.0, 10.0, 10.0
CARRIER_S = 20
FIRST_PINGS = 10
"""QEMU's e1000 takes no frame for a second after each write to RCTL, and guests that boot beside
others are slow: ARP may give up before the first answer."""
MORTAL = ("setpriv", "--pdeathsig", "TERM")
"""Ends a program when the benchmark ends in any way; QEMU does so by itself."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
TOOLS = (
    ("ip", "iproute2"),
    ("iperf3", "iperf3"),
    ("ping", "iputils-ping"),
    ("setpriv", "util-linux"),
)
PREPARE = "`e1000emu guest --prepare-only` makes it"

# On an emulated processor, a socket's default buffer is full before the receiver runs:
# then the guest's scheduler is measured, too.
LARGE_BUFFERS = "echo 8388608 >/proc/sys/net/core/rmem_default"
SETUP = f"""
echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6
ip addr add {GUEST}/24 dev eth0
ip link set eth0 up
for i in $(seq {CARRIER_S * 10}); do
    [ "$(cat /sys/class/net/eth0/carrier)" = 1 ] && break
    sleep 0.1
done
for i in $(seq {FIRST_PINGS}); do
    ping -n -q -c 3 -i 0.2 {HOST} && exit
done
exit 1
"""
GUEST_COUNTERS = "cat /proc/interrupts /proc/net/dev /proc/net/snmp"


class BenchError(E1000Error):
    """The machine lacks something, or a measurement gave no figure."""


def prepared_image(qemu: str | None = None) -> GuestImage:
    """Return the guest that was prepared before; nothing is fetched here.

    Raises: BenchError naming what is missing on this machine, and the remedy.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        raise BenchError("needs root, for network namespaces and TAP devices; run it with sudo")
    for tool, package in TOOLS:
        if shutil.which(tool) is None:
            raise BenchError(f"no {tool} on this machine; apt-get install {package}")
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise BenchError(f"/dev/net/tun: {error.strerror}; run: modprobe tun") from None
    cache = cache_directory()
    if not any(cache.glob("guest-linux-*/stamp.json")):
        raise BenchError(f"no guest image in {cache}; {PREPARE}")
    if find_qemu(qemu) is None and not any(cache.glob("guest-qemu-*/stamp.json")):
        raise BenchError(f"no QEMU with vfio-user-pci, here or in {cache}; {PREPARE}")
    return prepare(qemu=qemu)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counters since the start, by name."""

    counters: dict[str, float]

    def until(self, later: Snapshot) -> dict[str, float]:
        """Return the increase of each counter."""
        return {name: value - self.counters[name] for name, value in later.counters.items()}


def _end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
    """End a process of ours, by its id."""
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _ip(*words: str) -> None:
    made = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if made.returncode:
        raise BenchError(f"`ip {' '.join(words)}`: {made.stderr.strip()}")


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process with all its threads (proc(5), stat)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        raise BenchError(f"process {pid} of the benchmark has ended") from None
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def net_dev(text: str, name: str) -> tuple[int, int]:
    """Return packets received and sent from the text of /proc/net/dev."""
    found = re.search(rf"^\s*{re.escape(name)}:\s*(.*)$", text, re.MULTILINE)
    if found is None:
        raise BenchError(f"no interface {name} in /proc/net/dev")
    fields = found[1].split()
    return int(fields[1]), int(fields[9])


def udp_received(text: str, *, or_lost: bool = False) -> int:
    """Return the datagrams that applications have received, from the text of /proc/net/snmp.

    `or_lost`: also those for which their sockets' buffers had no room.
    """
    names, values = re.findall(r"^Udp: (.*)$", text, re.MULTILINE)
    counters = dict(zip(names.split(), map(int, values.split()), strict=True))
    return counters["InDatagrams"] + (counters["RcvbufErrors"] if or_lost else 0)


def interrupts(text: str, name: str) -> int:
    """Return how often the line of `name` interrupted, from the text of /proc/interrupts."""
    found = re.search(rf"^\s*\d+:((?:\s+\d+)+)\s.*\b{re.escape(name)}$", text, re.MULTILINE)
    if found is None:
        raise BenchError(f"no interrupt of {name} in the guest's /proc/interrupts")
    return sum(map(int, found[1].split()))


class FarEnd:
    """A namespace with a TAP, an address and an iperf3 server."""

    def __init__(self, name: str, stack: ExitStack) -> None:
        self.name = name
        stack.callback(subprocess.run, ["ip", "netns", "del", name], capture_output=True)
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "tuntap", "add", "dev", TAP, "mode", "tap")
        quiet = f"echo 1 >/proc/sys/net/ipv6/conf/{TAP}/disable_ipv6"
        subprocess.run(self.command("sh", "-c", quiet), capture_output=True, check=False)
        _ip("-n", name, "addr", "add", f"{HOST}/24", "dev", TAP)
        _ip("-n", name, "link", "set", TAP, "up")
        self._iperf = subprocess.Popen(
            self.command(*MORTAL, "iperf3", "-s"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(_end, self._iperf)

    def command(self, *words: str) -> list[str]:
        """Return the prefix to run a program in the namespace; the process id stays."""
        return ["ip", "netns", "exec", self.name, *words]

    def read(self, name: str) -> str:
        """Return the namespace's /proc/net/`name`."""
        return Path(f"/proc/{self._iperf.pid}/net/{name}").read_text()

    def tap_packets(self) -> tuple[int, int]:
        """Return the packets that came out of the guest, and those that went into it."""
        return net_dev(self.read("dev"), TAP)

    def mac(self) -> str:
        """Return the TAP's address."""
        made = subprocess.run(
            ["ip", "-n", self.name, "-json", "link", "show", TAP],
            capture_output=True,
            check=True,
        )
        address: str = json.loads(made.stdout)[0]["address"]
        return address

    def wait_iperf(self) -> None:
        """Wait until the server listens (0A: LISTEN; proc_net_tcp(5)).  Raises: BenchError."""
        deadline = time.monotonic() + START_S
        while not re.search(r":1451 \S+ 0A ", self.read("tcp") + self.read("tcp6")):
            if self._iperf.poll() is not None or time.monotonic() > deadline:
                raise BenchError("iperf3 -s does not listen")
            time.sleep(0.05)


class Server:
    """`e1000emu vfio-user` as a process of its own."""

    def __init__(
        self, far: FarEnd, directory: Path, arguments: list[str], stack: ExitStack
    ) -> None:
        self.socket = directory / "nic"
        self._errors = directory / "server"
        words = ["vfio-user", "--json", "--socket", str(self.socket), "--link", f"tap:{TAP}"]
        words += ["--mac", MAC, *arguments]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        with open(self._errors, "wb") as errors:
            self._process = subprocess.Popen(
                far.command(*MORTAL, sys.executable, "-m", "e1000emu", *words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | {"PYTHONPATH": path},
                bufsize=0,
            )
        assert self._process.stdout is not None
        stack.callback(self._process.stdout.close)
        stack.callback(_end, self._process)
        self._buffer = b""
        self._event("ready", START_S)

    @property
    def pid(self) -> int:
        return self._process.pid

    def counters(self) -> dict[str, int]:
        """Return the server's counters so far."""
        self._process.send_signal(signal.SIGUSR1)
        return self._event("counters", ANSWER_S)

    def _event(self, name: str, timeout_s: float) -> dict[str, int]:
        """Read one line of the server, which must be this event."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = max(0.0, deadline - time.monotonic())
            ready = select.select([self._process.stdout], [], [], left)[0]
            piece = os.read(self._process.stdout.fileno(), 1 << 16) if ready else b""
            if not piece:
                said = self._errors.read_text(errors="replace").strip().splitlines()
                why = said[-1] if said and ready else f"silent for {timeout_s:g} s"
                raise BenchError(f"the vfio-user server gives no {name!r}: {why}")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        event: dict[str, int] = json.loads(line)
        if event.get("event") != name:
            raise BenchError(f"the vfio-user server says {event.get('event')!r}, not {name!r}")
        return event


SERVER_COUNTERS = ("region_reads", "region_writes", "posted_writes", "unmasks", "messages")


@dataclass(slots=True)
class Side:
    """A guest, its card and its far end; `label` is for people."""

    label: str
    far: FarEnd
    guest: GuestLinux
    server: Server | None
    _clocks: tuple[float, float] = (0.0, 0.0)

    def wait_ready(self, *, default_buffers: bool = False) -> None:
        """Wait until the guest reaches its far end.  Raises: BenchError, GuestError.

        default_buffers: its sockets keep Linux's buffers, else they get large ones.
        """
        self.far.wait_iperf()
        self.guest.wait_boot()
        if not default_buffers:
            self.guest.run(LARGE_BUFFERS).check()
        self.guest.run(SETUP).check()
        self._clocks = self._now()

    def _now(self) -> tuple[float, float]:
        """Return the guest's time and ours, in seconds."""
        text = self.guest.run("cat /proc/uptime").check().stdout
        return float(text.split()[0]), time.monotonic()

    def setup(self) -> dict[str, int]:
        """Return the guest's own report of its processors and of a socket's buffer."""
        made = self.guest.run("nproc; cat /proc/sys/net/core/rmem_default").check()
        cpus, buffer_bytes = map(int, made.stdout.split())
        return {"cpus": cpus, "receive_buffer_bytes": buffer_bytes}

    def clock_ratio(self) -> float:
        """Return how fast the guest's clock has run, which times what arrives there; 1 is right."""
        (guest_then, then), (guest_now, now) = self._clocks, self._now()
        return (guest_now - guest_then) / (now - then)

    def snapshot(self, *, after: bool = False) -> Snapshot:
        """Read every counter of this side, the guest's first; `after` the work: last.

        So our counters exclude the cost of querying the guest.
        """
        reads = (self._guest_counters, self._host_counters)
        counters: dict[str, float] = {}
        for read in reads[::-1] if after else reads:
            counters |= read()
        return Snapshot(counters)

    def _guest_counters(self) -> dict[str, float]:
        text = self.guest.run(GUEST_COUNTERS).check().stdout
        received, sent = net_dev(text, "eth0")
        return {
            "interrupts": interrupts(text, "eth0"),
            "frames": received + sent,
            "guest_frames_received": received,
            "guest_udp_received": udp_received(text),
        }

    def _host_counters(self) -> dict[str, float]:
        counters: dict[str, float] = {
            "tap_packets": sum(self.far.tap_packets()),
            # The far end's receiver is not part of the card's measurement.
            "host_udp_received": udp_received(self.far.read("snmp"), or_lost=True),
            "qemu_cpu_s": cpu_seconds(self.guest.pid),
        }
        if self.server is not None:
            said = self.server.counters()
            counters |= {name: said[name] for name in SERVER_COUNTERS}
            counters["interrupts_raised"] = said["interrupts"]
            counters["server_cpu_s"] = cpu_seconds(self.server.pid)
        return counters


def sweep() -> None:
    """Remove the namespaces of a benchmark that was killed."""
    for path in Path("/run/netns").glob(f"{NAMESPACE}-*-*"):
        pid = path.name.split("-")[1]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            subprocess.run(["ip", "netns", "del", path.name], capture_output=True, check=False)


def builtin_side(image: GuestImage, stack: ExitStack, qemu_arguments: list[str]) -> Side:
    """Start booting a guest with QEMU's own e1000; `stack` ends it."""
    far = FarEnd(f"{NAMESPACE}-{os.getpid()}-qemu", stack)
    inside = replace(image.qemu, command=tuple(far.command(*image.qemu.command)))
    netdev = f"tap,ifname={TAP},script=no,downscript=no,vhost=off"
    guest = GuestLinux(
        replace(image, qemu=inside),
        nic=BuiltinNic(netdev, mac=MAC),
        modules=("e1000", "pktgen"),
        qemu_arguments=qemu_arguments,
        wait=False,
    )
    stack.callback(guest.close)
    return Side(f"QEMU {image.qemu.version} e1000", far, guest, None)


def our_side(
    image: GuestImage, stack: ExitStack, qemu_arguments: list[str], server_arguments: list[str]
) -> Side:
    """Start our server and a guest on it; `stack` ends both."""
    far = FarEnd(f"{NAMESPACE}-{os.getpid()}-ours", stack)
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="e1000emu-bench-")))
    server = Server(far, directory, server_arguments, stack)
    guest = GuestLinux(
        image,
        nic=VfioUserNic(server.socket),
        modules=("e1000", "pktgen"),
        qemu_arguments=qemu_arguments,
        wait=False,
    )
    stack.callback(guest.close)
    return Side("e1000emu vfio-user", far, guest, server)


def busy_seconds(text: str) -> float:
    """Return the time that processors were not idle, from the text of /proc/stat (proc(5))."""
    user, nice, system, _, _, irq, softirq = map(int, text.split(maxsplit=8)[1:8])
    return (user + nice + system + irq + softirq) / TICKS_PER_S


def idle_cpu(sides: Sequence[Side], seconds: float) -> dict[str, float]:
    """Return the processors that each side takes while nothing is measured, by its label, and
    those that all other programs of the machine take, by ""."""
    pids = {
        side.label: [side.guest.pid] + ([side.server.pid] if side.server is not None else [])
        for side in sides
    }

    def read() -> dict[str, float]:
        made = {label: sum(map(cpu_seconds, each)) for label, each in pids.items()}
        return made | {"": busy_seconds(Path("/proc/stat").read_text()) - sum(made.values())}

    before, start = read(), time.monotonic()
    time.sleep(seconds)
    after, took = read(), time.monotonic() - start
    return {label: (after[label] - before[label]) / took for label in after}
