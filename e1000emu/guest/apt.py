"""Debian packages into a directory, by an apt of our own: no root, and the machine's apt is
not changed.

Lists, cache and status live in a private directory. The machine's apt settings for reaching the
network (`Acquire::…`, proxies above all) are taken over, its hooks and sources are not. The
archive's signature is verified with Debian's keyring.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import unquote

from e1000emu.errors import E1000Error

DEFAULT_MIRROR = "http://deb.debian.org/debian"
MIRROR_VARIABLE = "E1000EMU_DEBIAN_MIRROR"
KEYRINGS = (
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
)
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PROGRAMS = {"apt-get": "apt", "apt-cache": "apt", "apt-config": "apt", "dpkg-deb": "dpkg"}
# The machine's settings of what to fetch, as opposed to how to reach it.
NOT_INHERITED = ("IndexTargets", "Languages", "cdrom", "Allow", "CompressionTypes", "gzipIndexes")

CAUSES = (
    (
        r"No space left|enough free space|File size limit",
        "the disk is full; make room, or set E1000EMU_GUEST_CACHE to a directory elsewhere",
    ),
    (
        r"NO_PUBKEY|not signed|EXPKEYSIG|signatures? (?:couldn't|were invalid)|no longer signed",
        "the archive's signature cannot be verified; update the package debian-archive-keyring",
    ),
    (
        r"not valid yet|Release file .* expired",
        "the archive's date and this machine's do not agree; set the clock, or the mirror",
    ),
    (
        r"resolv|connect|timed out|Network is unreachable|proxy|Failed to fetch|40[0-9] |50[0-9] ",
        f"is the network there? apt's own proxy settings are used; {MIRROR_VARIABLE} names another "
        "mirror",
    ),
    (
        r"Unable to locate package|no installation candidate|Version '.*' for",
        f"the mirror lacks it; {MIRROR_VARIABLE} names another",
    ),
)

Say = Callable[[str], None]


def debian_architecture() -> str:
    """Return Debian's name for this machine's processor.  Raises: E1000Error for one without."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise E1000Error(
            f"guest: QEMU is fetched for {known} only, this is {machine}; give a QEMU by --qemu"
        )
    return ARCHITECTURES[machine]


class PrivateApt:
    """An apt that knows `suites` of one mirror for one architecture, all of it in `directory`.

    `say` is called with the progress of long steps.
    Raises: E1000Error when apt, dpkg-deb or the keyring is missing.
    """

    def __init__(
        self, directory: Path, *, suites: Iterable[str], architecture: str, say: Say
    ) -> None:
        self.directory = directory
        self.suites = tuple(suites)
        self.say = say
        for program, package in PROGRAMS.items():
            if shutil.which(program) is None:
                raise E1000Error(
                    f"guest: no {program} on this machine; install {package} (Fedora and Arch have "
                    "it too, as well as debian-archive-keyring), or prepare the guest on Debian or "
                    "Ubuntu and copy the cache"
                )
        keyring = next((path for path in KEYRINGS if os.path.exists(path)), None)
        if keyring is None:
            raise E1000Error(
                f"guest: {KEYRINGS[-1]} is missing, with which the packages are verified; "
                "apt-get install debian-archive-keyring"
            )
        mirror = os.environ.get(MIRROR_VARIABLE) or DEFAULT_MIRROR
        for name in ("lists/partial", "archives/partial", "empty"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        (directory / "status").touch()
        (directory / "sources.list").write_text(
            "".join(
                f"deb [arch={architecture} signed-by={keyring}] {mirror} {suite} main\n"
                for suite in self.suites
            )
        )
        self._conf = directory / "apt.conf"
        self._conf.write_text(_configuration(directory, architecture))

    def update(self) -> None:
        """Fetch the lists of packages."""
        self._run("apt-get", "update", "--error-on=any", what="the list of packages")

    def named(self, package: str, prefix: str) -> list[str]:
        """Return the dependency of `package` whose name begins with `prefix`.

        Raises: E1000Error for none.
        """
        found = [name for name in self.depends(package) if name.startswith(prefix)]
        if not found:
            raise E1000Error(f"guest: Debian's package {package} depends on no {prefix}…")
        return found

    def depends(self, package: str) -> list[str]:
        """Return the names of the packages that `package` depends on, with all alternatives."""
        text = self._run("apt-cache", "depends", package, what=package)
        return re.findall(r"^\s*\|?Depends: (\S+)$", text, re.MULTILINE)

    def download(self, packages: Iterable[str], *, suite: str = "") -> list[Path]:
        """Fetch packages with all they depend on, but not what they only recommend."""
        options = ["-t", suite] if suite else []
        self._run(
            "apt-get", "install", "-y", "--download-only", *options, *packages, what="packages"
        )
        return sorted((self.directory / "archives").glob("*.deb"))

    def download_only(self, package: str) -> Path:
        """Fetch one package alone."""
        before = set(self.directory.glob("*.deb"))
        self._run("apt-get", "download", package, what=package)
        (made,) = set(self.directory.glob("*.deb")) - before
        return made

    def _run(self, *words: str, what: str) -> str:
        """Run apt; what it says of its progress is passed on in steps of a tenth."""
        reading, writing = os.pipe()
        command = [*words, "-q", "-o", f"APT::Status-Fd={writing}"]
        environment = os.environ | {"APT_CONFIG": str(self._conf), "LC_ALL": "C.UTF-8"}
        log = self.directory / "apt.log"
        with open(log, "wb") as output, open(reading, "rb") as status:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=environment,
                pass_fds=(writing,),
            )
            os.close(writing)
            try:
                self._follow(status, what)
                code = process.wait()
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        text = log.read_text(errors="replace")
        if code:
            raise E1000Error(f"guest: {' '.join(words[:2])} failed: {_reason(text, code)}")
        return text

    def _follow(self, status: Iterable[bytes], what: str) -> None:
        tenth = 0
        for line in status:
            parts = line.decode("utf-8", "replace").split(":")
            if parts[0] != "dlstatus" or len(parts) < 3:
                continue
            try:
                percent = float(parts[2])
            except ValueError:
                continue
            if int(percent // 10) > tenth:
                tenth = int(percent // 10)
                self.say(f"fetching {what}: {tenth}0 %")


def _configuration(directory: Path, architecture: str) -> str:
    """Return apt.conf: our own directories, and how the machine's apt reaches the network."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
    inherited = [
        line
        for line in dump.stdout.splitlines()
        if line.startswith("Acquire::") and not line[len("Acquire::") :].startswith(NOT_INHERITED)
    ]
    ours = {
        "Dir": "/",
        "Dir::Etc": f"{directory}/empty",
        "Dir::Etc::Parts": f"{directory}/empty",
        "Dir::Etc::Main": "/dev/null",
        "Dir::Etc::SourceList": f"{directory}/sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::Etc::TrustedParts": "/dev/null",
        "Dir::State": f"{directory}",
        "Dir::State::Lists": f"{directory}/lists",
        "Dir::State::Status": f"{directory}/status",
        "Dir::State::Extended_States": f"{directory}/extended_states",
        "Dir::Cache": f"{directory}",
        "Dir::Cache::Archives": f"{directory}/archives",
        "Dir::Log": f"{directory}",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "false",
        "APT::Get::List-Cleanup": "false",
        # The user _apt cannot enter a private cache, and what is fetched is only unpacked.
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::PDiffs": "false",
        "Acquire::Retries": "3",
    }
    return "\n".join([*inherited, *(f'{key} "{value}";' for key, value in ours.items()), ""])


def _reason(text: str, code: int) -> str:
    """Return apt's first complaint and what to do about it, as one line."""
    lines = [line[3:].strip() for line in text.splitlines() if line[:3] in ("E: ", "W: ")]
    errors = [line[3:].strip() for line in text.splitlines() if line.startswith("E: ")]
    first = (errors or lines or [f"it ends with {code}"])[0]
    for text in (first, "\n".join(lines)):  # what came first is the cause of the rest
        for pattern, remedy in CAUSES:
            if re.search(pattern, text, re.IGNORECASE):
                return f"{first}; {remedy}"
    return first


def extract(package: Path, to: Path, wanted: Callable[[str], bool]) -> str:
    """Unpack the files of a package whose path (`usr/bin/ip`) is wanted; return name=version.

    Raises: E1000Error when the package is damaged; OSError when `to` cannot be written.
    """
    name, version, _ = package.stem.split("_", 2)
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(package)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    path = member.name.removeprefix("./")
                    if wanted(path):
                        _unpack(archive, member, to / path, to)
            process.stdout.read()
            damaged = ""
        except tarfile.TarError as error:
            damaged = str(error)
        complaint = process.stderr.read().decode("utf-8", "replace").strip()
    if process.returncode or damaged:
        raise E1000Error(f"guest: {package.name} cannot be unpacked: {complaint or damaged}")
    return f"{name}={unquote(version)}"


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path, root: Path) -> None:
    """Write a file or link; owners, times and directories' modes are not kept."""
    # Debian 12's Python 3.11.2 has no filters for TarFile.extract yet.
    if ".." in path.parts or not (member.isfile() or member.issym() or member.islnk()):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if member.issym():
        path.symlink_to(member.linkname)
    elif member.islnk():
        path.hardlink_to(root / member.linkname.removeprefix("./"))
    else:
        source = archive.extractfile(member)
        assert source is not None
        with source, open(path, "wb") as file:
            shutil.copyfileobj(source, file)
        path.chmod(member.mode & 0o755)
