"""`e1000emu doctor`: what works on this machine, why not, and how to mend it."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

import click
from rich.table import Table

from e1000emu.cli.common import console, emit_json, json_option

__all__ = ["CHECKS", "Finding", "command", "examine"]


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
    """The compiled modules, loaded and self-tested."""
    try:
        fastpath = importlib.import_module("fastpath")
        fastpath.self_test()
    except Exception as error:
        return Finding(
            "compiled modules", "broken", f"{type(error).__name__}: {error}", "run `make build`"
        )
    from fastpath import csum

    return Finding("compiled modules", "ok", f"{fastpath.BUILD}; checksum by {csum.level()}")


def check_compiler() -> Finding:
    """A C compiler, which benchmarks need for their C peers."""
    cc = shutil.which(os.environ.get("CC", "cc"))
    if cc is None:
        return Finding(
            "C compiler",
            "missing",
            "no cc: benchmarks run without their C peers",
            "apt-get install gcc",
        )
    first = subprocess.run(
        [cc, "--version"], capture_output=True, text=True, check=False
    ).stdout.split("\n")[0]
    return Finding("C compiler", "ok", first)


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
    """QEMU, and whether it has a vfio-user client (10.1 and newer)."""
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        return Finding(
            "qemu", "missing", "not found; guests need it", "apt-get install qemu-system-x86"
        )
    text = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"version (\d+)\.(\d+)", text)
    version = f"{found[1]}.{found[2]}" if found else "unknown version"
    if found and (int(found[1]), int(found[2])) >= (10, 1):
        return Finding("qemu", "ok", f"{version}, has vfio-user")
    return Finding(
        "qemu", "missing", f"{version} has no vfio-user client", "install QEMU 10.1 or newer"
    )


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_compiled,
    check_compiler,
    check_tap,
    check_netns,
    tool("tshark", "tshark", "judges our frames in the tests"),
    tool("wireshark", "wireshark", "opens the captures"),
    tool("curl", "curl", "a peer in the tests"),
    tool("nc", "netcat-openbsd", "a peer in the tests"),
    tool("ping", "iputils-ping", "a peer in the tests"),
    check_qemu,
)


def examine() -> list[Finding]:
    """Run every check."""
    return [check() for check in CHECKS]


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Say what works on this machine, why not, and how to mend it; status 1 when the package
    itself cannot run."""
    findings = examine()
    if as_json:
        emit_json([asdict(f) for f in findings])
    else:
        table = Table(box=None, pad_edge=False)
        for heading in ("", "what", "state", "remedy"):
            table.add_column(heading)
        marks = {"ok": "[green]ok[/]", "missing": "[yellow]--[/]", "broken": "[red]!![/]"}
        for f in findings:
            table.add_row(marks[f.state], f.name, f.detail, f.remedy)
        console.print(table)
    sys.exit(1 if any(f.state == "broken" for f in findings) else 0)
