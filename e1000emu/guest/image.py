"""A guest's kernel, initramfs and QEMU, made from Debian packages without root.

A cache outside any source tree keeps everything, so the work is done once. It has a tree of
unpacked packages and an initramfs built of it. Where the machine has no QEMU with a vfio-user
client, it also has a newer QEMU, which runs in place. Each is made in a temporary directory and
renamed when it is complete; a lock keeps two preparers apart.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import lzma
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from e1000emu.errors import E1000Error
from e1000emu.guest import elf
from e1000emu.guest.apt import PrivateApt, debian_architecture, extract
from e1000emu.guest.bzimage import vmlinux
from e1000emu.guest.cpio import Initramfs
from e1000emu.guest.init import AGENT, INIT, PASSWD, PROFILE

CACHE_VARIABLE = "E1000EMU_GUEST_CACHE"
QEMU_VARIABLE = "E1000EMU_QEMU"
QEMU = "qemu-system-x86_64"
OLDEST_QEMU = (10, 1)
"""The first release with `vfio-user-pci`."""

SUITE = "trixie"
BACKPORTS = "trixie-backports"
GUEST_ARCHITECTURE = "amd64"
"""Debian's name for the processor of the guest."""
KERNEL_PARTS = ("linux-binary-", "linux-modules-")
"""Newer kernels' packages are empty, and these have the files."""
KERNELS = ("bookworm", SUITE, BACKPORTS)
"""Suites whose kernel can be booted: 6.1, 6.12 and Debian's newest."""
TOOLS = (
    "bash",
    "busybox-static",
    "ethtool",
    "iperf3",
    "iproute2",
    "iputils-ping",
    "libgcc-s1",
    "tcpdump",
)
PROGRAMS = ("bash", "bridge", "busybox", "ethtool", "ip", "iperf3", "ping", "ss", "tc", "tcpdump")
LOADED_AT_RUN_TIME = ("libgcc_s.so.1",)
"""Libraries that no file names; glibc opens this one when iperf3 ends a thread."""
MODULES = ("e1000", "e1000e", "8021q", "pktgen", "uio_pci_generic")
SOME_MODULES = (
    *("virtio_pci", "virtio_console"),
    *("esp4", "esp6", "xfrm_user", "gcm", "ghash_generic", "ctr", "seqiv"),
    *("authenc", "crypto_null", "hmac", "sha256_generic"),
    *("ipip", "sit", "ip_gre", "ip6_tunnel", "ip6_gre"),
    *("bonding", "ipvlan", "veth", "vrf"),
)
"""For the agent's port, IPsec, tunnels and links above others; which of it is a module differs
between kernels."""
MODULE_PATHS = (
    "kernel/crypto/",
    "kernel/drivers/char/virtio_console",
    "kernel/drivers/net/bonding/",
    "kernel/drivers/net/ethernet/intel/e1000",
    "kernel/drivers/net/ipvlan/",
    "kernel/drivers/net/veth",
    "kernel/drivers/net/vrf",
    "kernel/drivers/pps/",
    "kernel/drivers/ptp/",
    "kernel/drivers/uio/",
    "kernel/drivers/virtio/",
    "kernel/lib/",
    "kernel/net/",
)
RUN_TIME = re.compile(r"lib(?!.*-dev$)")
"""Packages of libraries to run with, by their names."""
QEMU_PACKAGES = {
    "x86_64": ("qemu-system-x86", "seabios"),
    "aarch64": ("qemu-system-arm",),
    "ppc": ("qemu-system-ppc",),
}
"""By the processor that is emulated."""
LIBRARY_DIRECTORY = "usr/lib/{triplet}"
TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
LOADERS = {"amd64": "ld-linux-x86-64.so.2", "arm64": "ld-linux-aarch64.so.1"}
UNWANTED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "etc/", "var/")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Qemu:
    """How to run a QEMU that has a vfio-user client."""

    command: tuple[str, ...]
    """The words before its options."""
    version: str
    origin: str
    """Where it is from, for people."""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Extra:
    """Programs that only some guests have; they are in a second archive after the first."""

    name: str
    """The name of the tree in the cache."""
    package: str
    """The package of the programs; of its dependencies only run-time libraries are fetched."""
    more: tuple[str, ...]
    """Further packages, with all they depend on."""
    programs: tuple[str, ...]
    libraries: tuple[str, ...]
    """Libraries that a program opens at run time without naming them."""


@dataclass(frozen=True, slots=True)
class GuestImage:
    """What `GuestLinux` boots.

    `kernel` is unpacked where that can be, which boots sooner. QEMU puts such a kernel into memory
    again at each reset, and waking from S3 is one; a guest that is to sleep takes `packed`.
    """

    kernel: Path
    initrd: Path
    qemu: Qemu
    release: str
    """The kernel's `uname -r`."""
    packages: tuple[str, ...]
    """name=version of everything in the guest."""
    packed: Path | None = None
    """The kernel as Debian has it."""


def cache_directory() -> Path:
    """Return where guests are kept: $E1000EMU_GUEST_CACHE, or e1000emu in the user's cache."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base).absolute() / "e1000emu"


def prepare(
    *,
    qemu: str | os.PathLike[str] | None = None,
    cache: Path | None = None,
    refresh: bool = False,
    kernel: str = SUITE,
    extra: Extra | None = None,
    say: Say = lambda text: None,
) -> GuestImage:
    """Return an image to boot, made now if the cache has none; `refresh` fetches it anew.

    `qemu` (or $E1000EMU_QEMU) names the QEMU to use; without, the installed one is taken if it can
    attach to vfio-user servers, else Debian's newest is fetched. `kernel` is the suite that the
    kernel is from, one of `KERNELS`. `extra` adds programs. `say` is called with the progress.
    Raises: E1000Error naming what is missing, and the remedy.
    """
    if kernel not in KERNELS:
        raise E1000Error(f"guest: kernel {kernel!r}; give one of {', '.join(KERNELS)}")
    with _held(cache, say) as cache:
        for left in cache.glob(".guest-*"):  # of a preparer that was killed
            shutil.rmtree(left, ignore_errors=True)
        found = find_qemu(qemu) or _fetched_qemu(cache, refresh, say)
        tools = _tools_tree(cache, refresh, say)
        linux = _linux_tree(cache, kernel, refresh, say)
        kernel_file = _unpacked_kernel(cache, linux, say)
        initrd = _initramfs(cache, tools, linux, say)
        trees = [linux, tools]
        if extra is not None:
            trees.append(_extra_tree(cache, extra, refresh, say))
            initrd = _with_extra(cache, initrd, extra, trees[-1], say)
    stamps = [json.loads((tree / "stamp.json").read_text()) for tree in trees]
    return GuestImage(
        kernel=kernel_file,
        initrd=initrd,
        qemu=found,
        release=_release(linux),
        packages=tuple(name for stamp in stamps for name in stamp["packages"]),
        packed=_kernel(linux),
    )


def prepare_qemu(
    *,
    cache: Path | None = None,
    refresh: bool = False,
    say: Say = lambda text: None,
    target: str = "x86_64",
) -> Qemu:
    """Return the QEMU that `prepare` would take, fetched now when there is none; no guest with it.

    `target` is the processor that it emulates: x86_64, aarch64 or ppc.
    Raises: E1000Error naming what is missing, and the remedy.
    """
    found = find_qemu() if target == "x86_64" else None
    if found is not None:
        return found
    with _held(cache, say) as cache:
        return _fetched_qemu(cache, refresh, say, target)


def unpacked_linux(
    architecture: str, *, cache: Path | None = None, say: Say = lambda text: None
) -> tuple[Path, Path]:
    """Return Debian's kernel for `architecture` and its module e1000.ko, unpacked.

    Raises: E1000Error naming what is missing, and the remedy.
    """
    with _held(cache, say) as cache:
        tree = _linux_tree(cache, SUITE, False, say, architecture)
        module = tree / "e1000.ko"
        if not module.is_file():
            (packed,) = tree.glob("**/e1000.ko*")
            module.write_bytes(lzma.decompress(packed.read_bytes()))
        return _kernel(tree), module


def unpacked(
    name: str,
    packages: tuple[str, ...],
    *,
    cache: Path | None = None,
    say: Say = lambda text: None,
    architecture: str = GUEST_ARCHITECTURE,
) -> Path:
    """Return a directory with the files of single packages (firmware, say), made now if need be.

    What they depend on is not fetched; `name` is the directory's in the cache.
    Raises: E1000Error naming what is missing, and the remedy.
    """

    def make(directory: Path, apt: PrivateApt) -> list[str]:
        return [
            extract(apt.download_only(package), directory, lambda path: path.startswith("usr/"))
            for package in packages
        ]

    recipe = [name, SUITE, architecture, *packages]
    with _held(cache, say) as cache:
        return _tree(cache, recipe, make, architecture=architecture, say=say)


@contextmanager
def _held(given: Path | None, say: Say) -> Iterator[Path]:
    """Yield the cache's directory, locked against other writers.

    Raises: E1000Error with the remedy when it cannot be written.
    """
    cache = cache_directory() if given is None else given.absolute()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / "guest.lock", say):
            yield cache
    except OSError as error:
        remedy = "make room" if error.errno == errno.ENOSPC else "choose one you may write to"
        raise E1000Error(
            f"guest: {error.filename or cache}: {error.strerror or error}; {remedy}, or set "
            f"{CACHE_VARIABLE} to another directory"
        ) from None


@contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    # A cache that others have filled may be one that we may only read.
    with open(path, "a" if not path.exists() or os.access(path, os.W_OK) else "r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another preparation ({path})")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# --- QEMU --------------------------------------------------------------------------------------


def find_qemu(given: str | os.PathLike[str] | None = None) -> Qemu | None:
    """Return the QEMU given or installed; None when none here has vfio-user.

    Raises: E1000Error when one was given by name and is not suitable.
    """
    given = given or os.environ.get(QEMU_VARIABLE)
    path = shutil.which(os.fspath(given) if given else QEMU)
    if given and path is None:
        raise E1000Error(f"qemu {given}: no such program; give the path of a {QEMU}")
    if path is None:
        return None
    version = _qemu_version([path])
    if version is not None and version >= OLDEST_QEMU and _has_vfio_user([path]):
        return Qemu((path,), _dotted(version), path)
    if given:
        what = f"is {_dotted(version)}" if version else "does not say its version"
        raise E1000Error(
            f"qemu {given}: {what} and has no vfio-user-pci; give one of version "
            f"{_dotted(OLDEST_QEMU)} or newer, or none and Debian's is fetched"
        )
    return None


def _qemu_version(command: list[str], environment: dict[str, str] | None = None) -> tuple | None:
    text = _output([*command, "--version"], environment)
    found = re.search(r"version (\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(part) for part in found.groups()) if found else None


def _has_vfio_user(command: list[str], environment: dict[str, str] | None = None) -> bool:
    # Listing all devices would load all modules, and a QEMU that runs from the cache would find
    # the installed QEMU's modules, which do not fit it.
    return "x-no-posted-writes=" in _output(
        [*command, "-device", "vfio-user-pci,help"], environment
    )


def _output(command: list[str], environment: dict[str, str] | None) -> str:
    try:
        made = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
            env=os.environ | (environment or {}),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (made.stdout + made.stderr).decode("utf-8", "replace")


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _fetched_qemu(cache: Path, refresh: bool, say: Say, target: str = "x86_64") -> Qemu:
    architecture = debian_architecture()
    packages, program = QEMU_PACKAGES[target], f"usr/bin/qemu-system-{target}"
    recipe = ["qemu", architecture, SUITE, BACKPORTS, *packages]

    def make(directory: Path, apt: PrivateApt) -> list[str]:
        fetched = apt.download(packages, suite=BACKPORTS)
        say(f"unpacking QEMU, {len(fetched)} packages")
        wanted = partial(_of_qemu, program=program)
        return [extract(package, directory, wanted) for package in fetched]

    tree = _tree(
        cache,
        recipe,
        make,
        suites=(SUITE, BACKPORTS),
        architecture=architecture,
        refresh=refresh,
        say=say,
    )
    libraries = tree / LIBRARY_DIRECTORY.format(triplet=TRIPLETS[architecture])
    # Debian's libraries are newer than this machine's, so their own loader has to start it.
    command = [
        str(libraries / LOADERS[architecture]),
        "--library-path",
        str(libraries),
        str(tree / program),
    ]
    environment = {"QEMU_MODULE_DIR": str(libraries / "qemu")}
    version = _qemu_version(command, environment)
    if version is None or version < OLDEST_QEMU or not _has_vfio_user(command, environment):
        text = _output([*command, "--version"], environment).strip().splitlines()
        raise E1000Error(
            f"guest: Debian's QEMU in {tree} does not do: {text[0] if text else 'no output'}; "
            "remove that directory to fetch it again, or give a QEMU by --qemu"
        )
    command += ["-L", str(tree / "usr/share/qemu"), "-L", str(tree / "usr/share/seabios")]
    return Qemu(tuple(command), _dotted(version), f"Debian {BACKPORTS}", environment)


def _of_qemu(path: str, program: str) -> bool:
    if path.startswith(("usr/bin/", "bin/")):
        return path == program
    return path.startswith(("usr/lib", "lib", "usr/share/qemu/", "usr/share/seabios/")) and not (
        path.startswith(("usr/lib/systemd", "usr/lib/udev"))
    )


# --- the guest -----------------------------------------------------------------------------------


def _tree(
    cache: Path,
    recipe: list[str],
    make: Callable[[Path, PrivateApt], list[str]],
    *,
    suites: tuple[str, ...] = (SUITE,),
    architecture: str = GUEST_ARCHITECTURE,
    refresh: bool = False,
    say: Say,
) -> Path:
    """Return the directory of unpacked packages that `recipe` names, made now if it is not there.

    `make(directory, apt)` fills it and returns name=version of each package.
    """
    digest = hashlib.sha256("\n".join(recipe).encode()).hexdigest()[:12]
    tree = cache / f"guest-{recipe[0]}-{digest}"
    if (tree / "stamp.json").is_file() and not refresh:
        return tree
    with tempfile.TemporaryDirectory(prefix=".guest-", dir=cache) as temporary:
        apt = PrivateApt(Path(temporary) / "apt", suites=suites, architecture=architecture, say=say)
        say(f"fetching Debian's list of packages ({', '.join(suites)})")
        apt.update()
        made = Path(temporary) / "tree"
        made.mkdir()
        packages = make(made, apt)
        stamp = {"recipe": recipe, "packages": sorted(packages)}
        (made / "stamp.json").write_text(json.dumps(stamp, indent=1))
        if tree.exists():
            tree.rename(Path(temporary) / "old")
        made.rename(tree)
    return tree


def _tools_tree(cache: Path, refresh: bool, say: Say) -> Path:
    recipe = ["tools", SUITE, GUEST_ARCHITECTURE, *TOOLS]

    def make(directory: Path, apt: PrivateApt) -> list[str]:
        packages = apt.download(TOOLS)
        say(f"unpacking {len(packages)} packages")
        return [extract(package, directory, _of_tools) for package in packages]

    return _tree(cache, recipe, make, refresh=refresh, say=say)


def _linux_tree(
    cache: Path, suite: str, refresh: bool, say: Say, architecture: str = GUEST_ARCHITECTURE
) -> Path:
    kernel = f"linux-image-{architecture}"
    recipe = [f"linux-{suite}", architecture, kernel, *KERNEL_PARTS, "|", *MODULE_PATHS]

    def make(directory: Path, apt: PrivateApt) -> list[str]:
        image = apt.named(kernel, "linux-image-")[0]
        parts = [name for name in apt.depends(image) if name.startswith(KERNEL_PARTS)]
        packages = [apt.download_only(name) for name in (image, *parts)]
        say(f"unpacking {image}")
        return [extract(package, directory, _of_kernel) for package in packages]

    return _tree(
        cache, recipe, make, suites=(suite,), architecture=architecture, refresh=refresh, say=say
    )


def _of_kernel(path: str) -> bool:
    if path.startswith("boot/vmlinuz-"):
        return True
    found = re.match(r"(?:usr/)?lib/modules/[^/]+/(.*)", path)
    return found is not None and (found[1] == "vmlinuz" or found[1].startswith(MODULE_PATHS))


def _of_tools(path: str) -> bool:
    return not path.startswith(UNWANTED)


def _kernel(tree: Path) -> Path:
    """Return the kernel's file: in /boot, or since Linux 7 beside its modules."""
    return next(found for name in ("boot/vmlinuz-*", "**/vmlinuz") for found in tree.glob(name))


def _unpacked_kernel(cache: Path, linux: Path, say: Say) -> Path:
    """Return an unpacked kernel, or the packed one where that is not possible."""
    packed, unpacked = _kernel(linux), linux / "vmlinux"
    if not unpacked.is_file():
        say("unpacking the kernel")
        content = vmlinux(packed.read_bytes())
        if content is None:
            return packed
        with tempfile.TemporaryDirectory(prefix=".guest-", dir=cache) as temporary:
            made = Path(temporary) / "vmlinux"
            made.write_bytes(content)
            made.rename(unpacked)
    return unpacked


def _release(tree: Path) -> str:
    path = _kernel(tree)
    return path.parent.name if path.name == "vmlinuz" else path.name.removeprefix("vmlinuz-")


def _initramfs(cache: Path, tools: Path, linux: Path, say: Say) -> Path:
    """Return the initramfs, whose name depends on its contents."""
    sources = (Path(__file__).with_name(f"{name}.py") for name in ("image", "init", "cpio", "elf"))
    parts = [(tree / "stamp.json").read_text() for tree in (linux, tools)]
    parts += [path.read_text() for path in sources]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
    initrd = linux / f"initrd-{digest}.cpio"
    if not initrd.is_file():
        say("making the initramfs")
        archive = Initramfs()
        _add_programs(archive, tools, PROGRAMS, LOADED_AT_RUN_TIME)
        archive.symlink("bin/sh", "/usr/bin/bash")
        archive.symlink("bin/bash", "/usr/bin/bash")
        _add_modules(archive, linux)
        for name in ("dev", "proc", "root", "run", "sys", "tmp", "sbin", "var/log"):
            archive.directory(name)
        archive.char_device("dev/console", 5, 1)
        archive.char_device("dev/null", 1, 3, 0o666)
        archive.file("init", INIT.encode(), 0o755)
        archive.file("usr/lib/e1000emu/agent", AGENT.encode(), 0o755)
        archive.file("etc/passwd", PASSWD.encode())
        archive.file("etc/group", b"root:x:0:\n")
        archive.file("etc/hosts", b"127.0.0.1 localhost guest\n")
        archive.file("etc/profile", PROFILE.encode())
        archive.symlink("etc/mtab", "/proc/mounts")
        with tempfile.TemporaryDirectory(prefix=".guest-", dir=cache) as temporary:
            made = Path(temporary) / "initrd"
            archive.write(made)
            made.rename(initrd)
    return initrd


def _extra_tree(cache: Path, extra: Extra, refresh: bool, say: Say) -> Path:
    recipe = [extra.name, SUITE, GUEST_ARCHITECTURE, extra.package, *extra.more]

    def make(directory: Path, apt: PrivateApt) -> list[str]:
        libraries = [name for name in apt.depends(extra.package) if RUN_TIME.match(name)]
        packages = [apt.download_only(extra.package), *apt.download([*libraries, *extra.more])]
        say(f"unpacking {extra.name}, {len(packages)} packages")
        return [extract(package, directory, _of_tools) for package in packages]

    return _tree(cache, recipe, make, refresh=refresh, say=say)


def _with_extra(cache: Path, initrd: Path, extra: Extra, tree: Path, say: Say) -> Path:
    """Return an initramfs with the programs of `extra`: the kernel unpacks one after the other."""
    sources = (Path(__file__).with_name(f"{name}.py") for name in ("image", "cpio", "elf"))
    parts = [initrd.name, repr(extra), (tree / "stamp.json").read_text()]
    parts += [path.read_text() for path in sources]
    made = tree / f"initrd-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:12]}.cpio"
    if not made.is_file():
        say(f"making the initramfs with {extra.name}")
        archive = Initramfs()
        _add_programs(archive, tree, extra.programs, extra.libraries)
        with tempfile.TemporaryDirectory(prefix=".guest-", dir=cache) as temporary:
            behind, whole = Path(temporary) / "behind", Path(temporary) / "initrd"
            archive.write(behind)
            whole.write_bytes(initrd.read_bytes() + behind.read_bytes())
            whole.rename(made)
    return made


def _add_programs(
    archive: Initramfs, tree: Path, programs: tuple[str, ...], opened: tuple[str, ...]
) -> None:
    """Add programs with the libraries that they name, and those `opened` at run time."""
    libraries = tree / LIBRARY_DIRECTORY.format(triplet=TRIPLETS[GUEST_ARCHITECTURE])
    wanted = list(opened)
    for name in programs:
        path = next(
            (p for d in ("usr/bin", "usr/sbin", "bin", "sbin") if (p := tree / d / name).exists()),
            None,
        )
        if path is None:
            raise E1000Error(f"guest: Debian's packages bring no {name}; is {tree} damaged?")
        content = path.read_bytes()
        archive.file(f"usr/bin/{name}", content, 0o755)
        interpreter, names = elf.needed(content)
        wanted += names
        if interpreter and interpreter not in archive:
            loader = libraries / os.path.basename(interpreter)
            archive.file(interpreter, loader.read_bytes(), 0o755)
    done = set()
    while wanted:
        name = wanted.pop()
        if name in done or name == LOADERS[GUEST_ARCHITECTURE]:
            continue
        done.add(name)
        path = libraries / name
        if not path.exists():
            raise E1000Error(
                f"guest: library {name} is in none of the packages; is {tree} damaged?"
            )
        content = path.read_bytes()
        archive.file(f"lib/{TRIPLETS[GUEST_ARCHITECTURE]}/{name}", content, 0o755)
        wanted += elf.needed(content)[1]


def _add_modules(archive: Initramfs, tree: Path) -> None:
    """Add the modules, what they depend on, and the list by which modprobe knows it."""
    release = _release(tree)
    found = {}
    for path in tree.glob(f"**/lib/modules/{release}/**/*.ko*"):
        found[path.name.partition(".")[0].replace("-", "_")] = path
    depends: dict[str, list[str]] = {}
    wanted = [*MODULES, *(name for name in SOME_MODULES if name in found)]
    while wanted:
        name = wanted.pop().replace("-", "_")
        if name in depends:
            continue
        if name not in found:
            raise E1000Error(f"guest: the kernel {release} has no module {name}")
        content = found[name].read_bytes()
        if found[name].suffix == ".xz":
            content = lzma.decompress(content)
        depends[name] = [other.replace("-", "_") for other in elf.module_depends(content)]
        wanted += depends[name]
        archive.file(f"lib/modules/{release}/{name}.ko", content)
    lines = []
    for name in sorted(depends):
        # modprobe loads from the last to the first, so what is needed first comes last
        below: list[str] = []
        todo = list(depends[name])
        while todo:
            other = todo.pop(0)
            if other in below:
                below.remove(other)
            below.append(other)
            todo += depends[other]
        lines.append(f"{name}.ko: {' '.join(f'{other}.ko' for other in below)}".rstrip())
    archive.file(f"lib/modules/{release}/modules.dep", "\n".join([*lines, ""]).encode())
