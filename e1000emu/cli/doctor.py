"""`e1000emu doctor`: what works on this machine, why not, and how to mend it."""

from __future__ import annotations

import errno
import fcntl
import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

import click
from rich.markup import escape
from rich.table import Table

import e1000emu
from e1000emu.cli.common import emit_json, report_options
from e1000emu.cli.output import console
from e1000emu.compiler import c_compiler
from e1000emu.errors import E1000Error
from fastpath.built import other_tree

PROGRAM_TIMEOUT_S = 30
QEMU_PACKAGE = "qemu-system-x86"
VFIO_USER_OPTION = "x-no-posted-writes="
"""A property of the device, listed by a QEMU that has it: `-device vfio-user-pci,help`."""
TUNGETFEATURES = 0x800454CF
IFF_VNET_HDR = 0x4000


@dataclass(frozen=True, slots=True)
class Finding:
    """One row: `state` is ok, missing (something optional cannot work) or broken (the package
    itself cannot)."""

    name: str
    state: str
    detail: str
    remedy: str = ""


def check_python() -> Finding:
    """The interpreter's version."""
    version = platform.python_version()
    return Finding("python", "ok", f"{platform.python_implementation()} {version}")


def check_compiled() -> Finding:
    """The compiled modules: made of the sources beside them, loaded and self-tested."""
    try:
        fastpath = importlib.import_module("fastpath")
        importlib.import_module("stack")
    except Exception as error:
        detail, _, remedy = f"{type(error).__name__}: {error}".partition("; ")
        return Finding("compiled modules", "broken", detail, remedy)
    wrong = fastpath.self_test()
    if wrong:
        remedy = f"run: {fastpath.rebuild_command()}"
        return Finding("compiled modules", "broken", "; ".join(wrong), remedy)
    from fastpath.base import csum

    return Finding("compiled modules", "ok", f"{fastpath.BUILD}; checksum by {csum.level()}")


def check_tree() -> Finding:
    """Which source tree the running code is from."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(e1000emu.__file__)))
    detail, _, remedy = other_tree(os.curdir).partition("; ")
    return Finding("source tree", "broken" if detail else "ok", detail or root, remedy)


def check_compiler() -> Finding:
    """A C compiler, which benchmarks need for their C peers."""
    try:
        compiler = c_compiler()
    except E1000Error as error:
        detail, _, remedy = str(error).partition("; ")
        return Finding(
            "C compiler", "missing", f"{detail}: benchmarks run without their C peers", remedy
        )
    lines = ask(*compiler, "--version").splitlines()
    return Finding("C compiler", "ok", lines[0] if lines else compiler[0])


def check_capi() -> Finding:
    """What `e1000emu capi` builds the NIC for C programs with."""
    from e1000emu.embed.capi.build import CapiError, check

    try:
        check()
    except CapiError as error:
        detail, _, remedy = str(error).partition("; ")
        return Finding("C interface", "missing", detail, remedy)
    return Finding("C interface", "ok", "`e1000emu capi` can build libe1000emu.so")


def ask(*words: str) -> str:
    """Return what a program prints, "" if it cannot be run or does not end."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=PROGRAM_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def check_tap() -> Finding:
    """TAP devices."""
    if not sys.platform.startswith("linux"):
        return Finding(
            "TAP", "missing", f"{sys.platform} has none", "use Linux for --link tap:NAME"
        )
    if not os.path.exists("/dev/net/tun"):
        return Finding("TAP", "missing", "/dev/net/tun does not exist", "modprobe tun")
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return Finding(
            "TAP",
            "missing",
            f"/dev/net/tun: {error.strerror}",
            "run as root or ask for access to it",
        )
    if has_capability(12):
        return Finding("TAP", "ok", "/dev/net/tun opens, CAP_NET_ADMIN is held")
    return Finding(
        "TAP",
        "missing",
        "no CAP_NET_ADMIN",
        "run as root, or let root make the device for you: ip tuntap add tap0 mode tap user $USER",
    )


def check_tap_offloads() -> Finding:
    """The virtio-net header of TAP devices, with which a TSO frame crosses in one write."""
    name = "TAP offloads"
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return Finding(name, "missing", f"/dev/net/tun: {error.strerror}", "see TAP")
    try:
        features = struct.unpack("I", fcntl.ioctl(fd, TUNGETFEATURES, bytes(4)))[0]
    except OSError as error:
        return Finding(name, "missing", f"TUNGETFEATURES: {error.strerror}", "use a newer kernel")
    finally:
        os.close(fd)
    if features & IFF_VNET_HDR:
        return Finding(name, "ok", "the kernel has IFF_VNET_HDR: super-packets cross whole")
    return Finding(
        name, "missing", "no IFF_VNET_HDR: each frame is a write of its own", "use a newer kernel"
    )


def has_capability(bit: int) -> bool:
    """Whether this process holds capability number `bit` in its effective set (capabilities(7))."""
    try:
        with open("/proc/self/status") as status:
            found = re.search(r"^CapEff:\s*([0-9a-f]+)", status.read(), re.MULTILINE)
    except OSError:
        return False
    return found is not None and bool(int(found[1], 16) >> bit & 1)


def check_netns() -> Finding:
    """Network namespaces, in which the tests put a real Linux peer."""
    if shutil.which("ip") is None:
        return Finding(
            "network namespaces", "missing", "no `ip` command", "apt-get install iproute2"
        )
    if not has_capability(21):
        return Finding(
            "network namespaces", "missing", "no CAP_SYS_ADMIN", "run the Linux peer tests as root"
        )
    return Finding("network namespaces", "ok", "ip netns can be used")


def tool(name: str, package: str, use: str) -> Callable[[], Finding]:
    """Return a check for one outside program."""

    def check() -> Finding:
        path = shutil.which(name)
        if path is None:
            return Finding(name, "missing", f"not found; {use}", f"apt-get install {package}")
        return Finding(name, "ok", use)

    return check


def check_qemu() -> Finding:
    """The QEMU on PATH (or $E1000EMU_QEMU), and whether it can attach to `e1000emu vfio-user`."""
    from e1000emu.guest.image import OLDEST_QEMU, QEMU, QEMU_VARIABLE

    name = "qemu"
    wanted = os.environ.get(QEMU_VARIABLE) or QEMU
    path = shutil.which(wanted)
    oldest = ".".join(map(str, OLDEST_QEMU))
    own = "`e1000emu qemu` fetches and runs one"
    if path is None:
        return Finding(name, "missing", f"{wanted}: not found", f"apt-get install {QEMU_PACKAGE}, "
                       f"{oldest} or newer; {own}")  # fmt: skip
    text = ask(path, "--version")
    found = re.search(r"version (\d+)\.(\d+)(\S*)", text)
    if found is None:
        return Finding(
            name, "missing", f"{path}: `--version` names none", f"install it anew; {own}"
        )
    version = f"{found[1]}.{found[2]}{found[3]}"
    if (int(found[1]), int(found[2])) < OLDEST_QEMU:
        return Finding(
            name,
            "missing",
            f"{path}: {version} cannot attach, it has no vfio-user-pci",
            f"install {oldest} or newer (Debian 13: trixie-backports); {own}",
        )
    if VFIO_USER_OPTION not in ask(path, "-device", "vfio-user-pci,help"):
        return Finding(
            name,
            "missing",
            f"{path}: {version} cannot attach, it was built without vfio-user-pci",
            f"install a build with it (Debian's has it); {own}",
        )
    return Finding(name, "ok", f"{path}: {version}, attaches by vfio-user-pci")


def check_kvm() -> Finding:
    """Hardware virtualization, optional for QEMU, required by Cloud Hypervisor."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        remedy = (
            "adduser $USER kvm"
            if error.errno in (errno.EACCES, errno.EPERM)
            else "switch virtualization on in the firmware, or in the machine around this one"
        )
        detail = f"/dev/kvm: {error.strerror}; guests run slower, on TCG"
        return Finding("kvm", "missing", detail, remedy)
    return Finding("kvm", "ok", "/dev/kvm opens")


def check_guest() -> Finding:
    """The guest image of `e1000emu guest`, in its cache."""
    from e1000emu.guest.image import cache_directory

    cache = cache_directory()
    if any(cache.glob("guest-linux-*/stamp.json")):
        return Finding("guest image", "ok", os.fspath(cache))
    return Finding(
        "guest image", "missing", f"none in {cache}", "`e1000emu guest --prepare-only` makes one"
    )


def module(name: str, extra: str, use: str) -> Callable[[], Finding]:
    """Return a check for one optional package of Python."""

    def check() -> Finding:
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return Finding(name, "missing", f"not installed; {use}", f"pip install {extra}")
        return Finding(name, "ok", f"{found}; {use}")

    return check


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_compiled,
    check_tree,
    check_compiler,
    check_capi,
    check_tap,
    check_tap_offloads,
    check_netns,
    tool("tshark", "tshark", "judges our frames in the tests"),
    tool("wireshark", "wireshark", "opens the captures"),
    tool("curl", "curl", "a peer in the tests"),
    tool("nc.openbsd", "netcat-openbsd", "a peer in the tests"),
    tool("ping", "iputils-ping", "a peer in the tests"),
    tool("passt", "passt", "the way to the real network without privileges"),
    module("unicorn", "'e1000emu[embed]'", "our NIC in a Unicorn guest"),
    check_kvm,
    check_qemu,
    check_guest,
)


def examine() -> list[Finding]:
    """Run every check."""
    return [check() for check in CHECKS]


@click.command()
@report_options
def command(as_json: bool) -> None:
    """Say what works on this machine, why not, and how to mend it; status 1 when the package
    itself cannot run."""
    findings = examine()
    if as_json:
        emit_json([asdict(f) for f in findings])
    else:
        table = Table(box=None, pad_edge=False, show_header=False)
        for column in ("mark", "name"):
            table.add_column(column, no_wrap=True)
        table.add_column("detail", overflow="fold")
        marks = {"ok": "[green]ok[/]", "missing": "[yellow]--[/]", "broken": "[red]!![/]"}
        for f in findings:
            table.add_row(marks[f.state], escape(f.name), escape(f.detail))
            if f.remedy:
                table.add_row("", "", f"[cyan]→ {escape(f.remedy)}[/]")
        console().print(table)
    sys.exit(1 if any(f.state == "broken" for f in findings) else 0)
