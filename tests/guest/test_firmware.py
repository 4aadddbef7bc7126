"""Boot loaders with drivers of their own on our NIC: U-Boot and iPXE.

They get an address from dnsmasq, ping it and fetch a file of it, over a TAP; what arrives is judged
by its CRC, or by being run. Nothing is built: the images are Debian's.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import socket
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from e1000emu.clock import RealClock
from e1000emu.errors import E1000Error
from e1000emu.guest import GuestImage, Qemu, prepare_qemu, unpacked, unpacked_linux
from e1000emu.guest.cpio import Initramfs
from e1000emu.links import Tap
from tests.guest.fetch import BUSYBOX, U_BOOT
from tests.guest.setup import MAC, TROUBLE, offered, sha256
from tests.guest.tried import Tried
from tests.linux.peer import DATA_PORT, LINUX, Peer, Worker
from tests.support import in_ci, kept, require

pytestmark = [pytest.mark.slow, pytest.mark.netns]

T = TypeVar("T")
UEFI_PACKAGES = ("ovmf", "ipxe")
ROM_PACKAGES = ("ipxe-qemu",)
MIB = 1 << 20
BAR1 = 0x14
BOOT_S, COMMAND_S = 120.0, 240.0
SCRIPT = "#!ipxe\necho script of the server runs\nshell\n"
SW_FW_SYNC = "unknown-register offset 0x5b5c, written 0x0"
"""U-Boot lets go of what only later parts have."""


@pytest.fixture(scope="module")
def firmware() -> Path:
    """U-Boot."""
    return _unpacked("firmware", U_BOOT)


@pytest.fixture(scope="module")
def ovmf() -> Path:
    """UEFI for a PC, and iPXE as a program for it."""
    return _unpacked("uefi", UEFI_PACKAGES)


@pytest.fixture(scope="module")
def rom() -> bytes:
    """iPXE as an option ROM for the 82540EM, for a BIOS."""
    return (_unpacked("roms", ROM_PACKAGES) / "usr/share/qemu/pxe-e1000.rom").read_bytes()


def _unpacked(name: str, packages: tuple[str, ...]) -> Path:
    return _got(lambda: unpacked(name, packages))


def _got(get: Callable[[], T]) -> T:
    try:
        return get()
    except E1000Error as error:
        if in_ci():
            pytest.fail(f"CI is set, but {error}", pytrace=False)
        pytest.skip(str(error))


class Server:
    """A namespace with dnsmasq on a TAP: addresses, and files by TFTP from `root`."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        tool = require.tool("dnsmasq", "dnsmasq-base")
        self.root = directory / "tftp"
        self.root.mkdir()
        self.peer = kept(stack, Peer())
        self.clock = kept(stack, RealClock())
        self.tap = kept(stack, Tap(self.peer.tap_name, self.clock))
        self.peer.adopt(self.tap.name)
        self.peer.start(
            tool,
            *("--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file="),
            *("--port=0", "--no-ping", "--dhcp-authoritative", "--bind-interfaces"),
            f"--log-facility={directory / 'dnsmasq.log'}",
            f"--interface={self.tap.name}",
            f"--dhcp-leasefile={directory / 'leases'}",
            "--dhcp-range=10.9.0.50,10.9.0.59,255.255.255.0,3600",
            *("--dhcp-userclass=set:ipxe,iPXE", "--dhcp-match=set:uefi,option:client-arch,7"),
            *("--dhcp-boot=tag:ipxe,boot.ipxe", "--dhcp-boot=tag:uefi,tag:!ipxe,snponly.efi"),
            *("--enable-tftp", f"--tftp-root={self.root}"),
        )


class Firmware:
    """A QEMU without a disk whose console is a serial line that is read and written here."""

    def __init__(
        self,
        qemu: Qemu,
        directory: Path,
        nic: Path,
        *,
        machine: str = "pc,graphics=off",  # the BIOS's screen is the serial line
        **device: Any,
    ) -> None:
        path = directory / "serial"
        self.text = b""
        memory: list[str] = []
        if device.pop("shared_memory", True):
            machine += ",memory-backend=mem"
            memory = ["-object", "memory-backend-memfd,id=mem,share=on,size=512M"]
        words = [
            *qemu.command,
            *("-no-user-config", "-nodefaults", "-display", "none", "-accel", "tcg"),
            *("-m", "512M", "-machine", machine, "-boot", "n"),
            *memory,
            # It waits for this end: what it printed before would be lost.
            *("-chardev", f"socket,id=s,path={path},server=on,wait=on", "-serial", "chardev:s"),
            *device.pop("arguments", ()),
            *("-device", json.dumps({
                "driver": "vfio-user-pci",
                "socket": {"type": "unix", "path": str(nic)},
                **device,
            })),
        ]  # fmt: skip
        self._process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, env=os.environ | qemu.environment
        )
        self._socket = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + BOOT_S
        while True:
            try:
                self._socket.connect(str(path))
                break
            except OSError:
                assert self._process.poll() is None, "QEMU has ended"
                assert time.monotonic() < deadline
                time.sleep(0.05)
        self._socket.settimeout(0.2)

    def until(self, pattern: bytes, timeout_s: float) -> bytes:
        """Return what was printed up to `pattern`, and forget it."""
        deadline = time.monotonic() + timeout_s
        while (found := re.search(pattern, self.text)) is None:
            assert self._process.poll() is None, f"QEMU has ended: {self.text[-2000:]!r}"
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.text[-2000:]!r}"
            with contextlib.suppress(TimeoutError):
                self.text += self._socket.recv(1 << 16)
        printed, self.text = self.text[: found.end()], self.text[found.end() :]
        return printed

    def type(self, line: bytes) -> None:
        self._socket.sendall(line)

    def close(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    require.taps()
    with ExitStack() as stack:
        yield Server(stack, tmp_path)


def wrong(nic: Any, *known: str) -> list[str]:
    """Return what the driver did against the datasheet, but for events that begin as `known`.

    Bits that are reserved here mean something in later parts, which these drivers serve too: iPXE
    sets the queue's enable bit of RXDCTL on all of them.
    """
    events = [f"{event.name} {event.last}" for event in nic.misuse.events()]
    return [text for text in events if not text.startswith(("tx-disabled", "reserved", *known))]


@dataclass(frozen=True, slots=True)
class Board:
    """A machine of QEMU's, the U-Boot that Debian has for it, and where that puts a file."""

    target: str
    machine: str
    image: str
    load_address: int = 0x4000000
    arguments: tuple[str, ...] = ()

    def qemu(self) -> Qemu:
        """Return what emulates its processor, fetched when it is not there."""
        return _got(lambda: prepare_qemu(target=self.target))


BOARDS = {
    "amd64": Board("x86_64", "pc,graphics=off", "qemu-x86_64/u-boot.rom"),
    "arm64": Board("aarch64", "virt", "qemu_arm64/u-boot.bin", 0x44000000, ("-cpu", "cortex-a57")),
    "powerpc, big-endian": Board("ppc", "ppce500", "qemu-ppce500/uboot.elf"),
}


def ipxe(printed: bytes) -> str:
    """Return the version that iPXE says."""
    version = re.search(rb"iPXE (\d[^\s\x1b]*)", printed)
    assert version is not None
    return version[1].decode()


@pytest.mark.parametrize(
    ("architecture", "model", "size"),
    [
        ("amd64", "82540EM", 16),
        ("amd64", "82545EM", 1),
        ("amd64", "82544GC", 1),
        ("arm64", "82540EM", 1),
        ("powerpc, big-endian", "82540EM", 1),
    ],
)
def test_u_boot_gets_an_address_and_a_file(
    architecture: str,
    firmware: Path,
    server: Server,
    model: str,
    size: int,
    tmp_path: Path,
    tried: Tried,
) -> None:
    board = BOARDS[architecture]
    content = random.Random(1).randbytes(size * MIB)
    (server.root / "big").write_bytes(content)
    bios = firmware / "usr/lib/u-boot" / board.image
    with offered(tmp_path / "nic", server.tap, server.clock, model=model) as nic:
        words = ("-bios", str(bios), *board.arguments)
        machine = Firmware(board.qemu(), tmp_path, nic.path, machine=board.machine, arguments=words)
        try:
            version = re.search(rb"U-Boot (\d\S*)", machine.until(b"autoboot", BOOT_S))
            assert version is not None
            machine.type(b"\n")
            machine.until(b"=> ", BOOT_S)

            def command(line: str) -> str:
                machine.text = b""
                machine.type(line.encode() + b"\n")
                return machine.until(rb"\n=> ", COMMAND_S).decode(errors="replace")

            command("setenv autoload no")
            assert re.search(r"DHCP client bound to address 10\.9\.0\.5\d", command("dhcp"))
            assert f"host {LINUX} is alive" in command(f"ping {LINUX}")
            at = board.load_address
            loaded = command(f"tftpboot {at:#x} {LINUX}:big")
            assert f"Bytes transferred = {len(content)}" in loaded
            checked = command(f"crc32 {at:#x} {len(content):#x}")
            assert f"==> {zlib.crc32(content):08x}" in checked
        finally:
            machine.close()
        # it sets RCTL.EN before it has a ring, against SDM 14.4
        assert wrong(nic.nic, SW_FW_SYNC, "rx-early") == []
    what, result = "DHCP, ping, a file by TFTP", "works; sets RCTL.EN before it has a ring"
    tried("U-Boot", version[1].decode(), architecture, model, what, result)


def test_ipxe_runs_the_script_that_the_server_gives(
    image: GuestImage, server: Server, tmp_path: Path, tried: Tried
) -> None:
    """Under SeaBIOS, from the ROM that QEMU has for its own e1000."""
    (server.root / "boot.ipxe").write_text(SCRIPT)
    with offered(tmp_path / "nic", server.tap, server.clock) as nic:
        machine = Firmware(image.qemu, tmp_path, nic.path, bootindex=1, romfile="pxe-e1000.rom")
        try:
            printed = machine.until(b"script of the server runs", BOOT_S)
            assert MAC.hex(":").encode() in printed
        finally:
            machine.close()
        assert wrong(nic.nic) == []
    tried("iPXE under SeaBIOS", ipxe(printed), "amd64", "82540EM", "DHCP, a script by TFTP")


def test_a_bios_boots_from_the_flash_of_the_card(
    image: GuestImage, rom: bytes, server: Server, tmp_path: Path
) -> None:
    """QEMU has no ROM of its own here: it copies what the card's boot flash holds, and the BIOS
    runs iPXE out of that."""
    (server.root / "boot.ipxe").write_text(SCRIPT)
    with offered(tmp_path / "nic", server.tap, server.clock, flash=rom) as nic:
        machine = Firmware(image.qemu, tmp_path, nic.path, bootindex=1)
        try:
            printed = machine.until(b"script of the server runs", BOOT_S)
            assert MAC.hex(":").encode() in printed
            machine.type(b"ifstat\n")
            machine.until(b"net0: " + MAC.hex(":").encode() + b" using 82540em", COMMAND_S)
        finally:
            machine.close()
        assert wrong(nic.nic) == []


@pytest.mark.parametrize(("shared", "wide"), [(True, False), (False, False), (True, True)])
def test_uefi_boots_ipxe_which_runs_the_script_that_the_server_gives(
    image: GuestImage,
    ovmf: Path,
    server: Server,
    shared: bool,
    wide: bool,
    tmp_path: Path,
    tried: Tried,
) -> None:
    """OVMF takes iPXE's driver out of the option ROM and fetches the program iPXE with it, which
    fetches the script. It does so over memory that the device reaches itself, by messages, and with
    windows of 64 bits."""
    (server.root / "boot.ipxe").write_text(SCRIPT)
    shutil.copy(ovmf / "usr/lib/ipxe/snponly.efi", server.root)
    code, variables = ovmf / "usr/share/OVMF/OVMF_CODE_4M.fd", tmp_path / "variables"
    shutil.copy(ovmf / "usr/share/OVMF/OVMF_VARS_4M.fd", variables)
    arguments = (
        *("-drive", f"if=pflash,format=raw,readonly=on,file={code}"),
        *("-drive", f"if=pflash,format=raw,file={variables}"),
        *("-cpu", "max"),  # RDRAND: OVMF's network stack asks for random numbers
    )
    with offered(tmp_path / "nic", server.tap, server.clock, wide_bars=wide) as nic:
        machine = Firmware(
            image.qemu,
            tmp_path,
            nic.path,
            shared_memory=shared,
            arguments=arguments,
            bootindex=1,
            romfile="efi-e1000.rom",
        )
        try:
            machine.until(b"Start PXE over IPv4", BOOT_S)
            machine.until(b"NBP file downloaded successfully", BOOT_S)
            assert bool(nic.memory.mapped_bytes) == shared
            with server.clock.lock:  # it places windows of 64 bits above 4 GiB
                assert bool(nic.nic.slot.config_read(BAR1, 4)) == wide
            printed = machine.until(b"script of the server runs", BOOT_S)
            assert MAC.hex(":").encode() in printed
        finally:
            machine.close()
        assert wrong(nic.nic) == []
    tried("iPXE under OVMF", ipxe(printed), "amd64", "82540EM", "PXE over IPv4, a script by TFTP")


INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs none /dev
mount -t proc none /proc
mount -t sysfs none /sys
insmod /e1000.ko
ip addr add 10.9.0.2/24 dev eth0
ip link set eth0 up
until [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]; do sleep 0.2; done
uname -r -m
exec sh
"""


def test_linux_on_arm64(server: Server, tmp_path: Path, tried: Tried) -> None:
    """Debian's kernel and its e1000.ko, with busybox: both ways, by UDP and TCP."""
    kernel, module = _got(lambda: unpacked_linux("arm64"))
    tree = _got(lambda: unpacked("busybox", BUSYBOX, architecture="arm64"))
    archive = Initramfs()
    for path in ("dev", "proc", "sys"):
        archive.directory(path)
    archive.char_device("dev/console", 5, 1)
    archive.file("bin/busybox", next(tree.glob("**/bin/busybox")).read_bytes(), 0o755)
    archive.file("init", INIT.encode(), 0o755)
    archive.file("e1000.ko", module.read_bytes())
    initrd = tmp_path / "initrd"
    initrd.write_bytes(archive.emit())
    big = random.Random(1).randbytes(MIB)
    (server.root / "big").write_bytes(big)
    qemu = BOARDS["arm64"].qemu()
    with offered(tmp_path / "nic", server.tap, server.clock) as nic:
        machine = Firmware(
            qemu,
            tmp_path,
            nic.path,
            machine="virt",
            arguments=(
                *BOARDS["arm64"].arguments,
                *("-kernel", str(kernel), "-initrd", str(initrd)),
                *("-append", "console=ttyAMA0 quiet panic=-1"),
            ),
        )
        try:
            release = re.search(rb"(\d\S+) aarch64", machine.until(rb"\S aarch64", BOOT_S))
            assert release is not None
            machine.type(f"ping -c 3 {LINUX} | grep received\n".encode())
            machine.until(b"3 packets received", COMMAND_S)
            machine.type(f"tftp -g -r big {LINUX} && sha256sum big\n".encode())
            machine.until(sha256(big).encode(), COMMAND_S)
            with server.peer.socket() as listener:
                listener.bind((LINUX, DATA_PORT))
                listener.listen(1)
                worker = Worker(_echo, (listener, len(big)))
                machine.type(f"nc {LINUX} {DATA_PORT} <big | sha256sum\n".encode())
                machine.until(sha256(big).encode(), COMMAND_S)
                assert worker.result(COMMAND_S) == len(big)
            machine.type(b"dmesg | tail -n 40; echo the end of it\n")
            said = machine.until(b"the end of it\r?\n", COMMAND_S).decode(errors="replace")
        finally:
            machine.close()
        assert not TROUBLE.search(said)
        assert wrong(nic.nic) == []
    what = "ping, a file by TFTP, TCP both ways"
    tried("Linux e1000.ko", release[1].decode(), "arm64", "82540EM", what)


def _echo(listener: socket.socket, size: int) -> int:
    listener.settimeout(COMMAND_S)
    sock, _ = listener.accept()
    done = 0
    with sock:
        sock.settimeout(COMMAND_S)
        while done < size and (data := sock.recv(1 << 16)):
            sock.sendall(data)
            done += len(data)
    return done
