"""The private apt: what it takes over from the machine's, and what it says when it cannot."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from e1000emu.errors import E1000Error
from e1000emu.guest import apt
from e1000emu.guest.apt import PrivateApt

CONFIGURATION = """APT "";
APT::Architecture "i386";
APT::Update::Post-Invoke:: "rm -rf /";
Acquire "";
Acquire::http::Proxy "http://cache.example:3142";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "true";
Acquire::Languages:: "fr";
Acquire::ForceIPv4 "true";
DPkg::Post-Invoke:: "true";
"""


def programs(directory: Path, monkeypatch: pytest.MonkeyPatch, get: str = "exit 0") -> None:
    """Put an apt of our own on PATH, beside what its scripts need."""
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    (directory / "dump").write_text(CONFIGURATION)
    scripts = {
        "apt-config": f"cat {directory}/dump",
        "apt-get": get,
        "apt-cache": "printf 'linux-image-amd64\\n  Depends: linux-image-6.12-amd64\\n'",
        "dpkg-deb": "exit 0",
    }
    for name, text in scripts.items():
        path = directory / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keyring.gpg"
    path.touch()
    monkeypatch.setattr(apt, "KEYRINGS", (str(path),))


def make(directory: Path, said: list[str] | None = None) -> PrivateApt:
    return PrivateApt(
        directory,
        suites=("trixie",),
        architecture="amd64",
        say=(said if said is not None else []).append,
    )


@pytest.mark.usefixtures("keyring")
def test_network_settings_are_taken_over_and_hooks_are_not(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch)
    make(tmp_path / "apt")
    text = (tmp_path / "apt" / "apt.conf").read_text()
    assert 'Acquire::http::Proxy "http://cache.example:3142";' in text
    assert 'Acquire::ForceIPv4 "true";' in text
    assert "Post-Invoke" not in text
    assert "IndexTargets" not in text
    assert '"fr"' not in text
    assert 'APT::Architecture "amd64";' in text
    assert "i386" not in text


@pytest.mark.usefixtures("keyring")
def test_mirror_is_a_setting(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch)
    monkeypatch.setenv(apt.MIRROR_VARIABLE, "http://mirror.example/debian")
    make(tmp_path / "apt")
    line = (tmp_path / "apt" / "sources.list").read_text()
    assert "http://mirror.example/debian trixie main" in line
    assert f"signed-by={tmp_path}/keyring.gpg" in line


@pytest.mark.usefixtures("keyring")
def test_current_kernel_is_what_the_meta_package_depends_on(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch)
    made = make(tmp_path / "apt")
    assert made.named("linux-image-amd64", "linux-image-") == ["linux-image-6.12-amd64"]
    with pytest.raises(E1000Error, match="depends on no linux-modules-"):
        made.named("linux-image-amd64", "linux-modules-")


@pytest.mark.parametrize(
    ("complaint", "remedy"),
    [
        ("E: Failed to fetch http://x/InRelease  Could not connect", "is the network there"),
        ("W: Failed to fetch http://x  Temporary failure resolving 'x'", "is the network there"),
        ("E: You don't have enough free space in /x/archives/.", "disk is full"),
        ("E: The repository 'http://x trixie InRelease' is not signed.", "debian-archive-keyring"),
        ("E: Unable to locate package qemu-system-x86", "the mirror lacks it"),
        (
            "E: Failed to fetch http://x/InRelease  400  Bad Request\nE: It is not signed.",
            "is the network there",
        ),
        ("E: Something new", "Something new"),
    ],
)
@pytest.mark.usefixtures("keyring")
def test_failure_is_one_line_with_the_remedy(tmp_path, monkeypatch, complaint, remedy):
    programs(tmp_path, monkeypatch, get=f'echo "Hit:1 http://x"; echo "{complaint}" >&2; exit 100')
    with pytest.raises(E1000Error, match=remedy) as error:
        make(tmp_path / "apt").update()
    assert "\n" not in str(error.value)
    assert "apt-get update failed" in str(error.value)


@pytest.mark.usefixtures("keyring")
def test_progress_is_told_by_tenths(tmp_path, monkeypatch):
    lines = "".join(f"dlstatus:1:{p}:Retrieving\\n" for p in (1, 9, 35.5, 36, "x", 100))
    script = "for word; do case $word in *Status-Fd=*) fd=${word#*Fd=};; esac; done\n"
    script += f"printf '{lines}' >/dev/fd/$fd"
    programs(tmp_path, monkeypatch, get=script)
    said: list[str] = []
    make(tmp_path / "apt", said).update()
    assert said == [f"fetching the list of packages: {tenth}0 %" for tenth in (3, 10)]


@pytest.mark.parametrize("missing", ["apt-get", "dpkg-deb"])
@pytest.mark.usefixtures("keyring")
def test_missing_program_is_named_with_its_package(tmp_path, monkeypatch, missing):
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == missing else which(name))
    programs(tmp_path, monkeypatch)
    with pytest.raises(E1000Error, match=f"no {missing}.*install {apt.PROGRAMS[missing]}"):
        make(tmp_path / "apt")


def test_missing_keyring_is_named_with_its_package(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch)
    monkeypatch.setattr(apt, "KEYRINGS", (str(tmp_path / "none"),))
    with pytest.raises(E1000Error, match="apt-get install debian-archive-keyring"):
        make(tmp_path / "apt")


def test_other_processors_are_told_to_bring_their_qemu(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(E1000Error, match="riscv64; give a QEMU by --qemu"):
        apt.debian_architecture()


def test_damaged_package_is_named(tmp_path):
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb; install dpkg")
    broken = tmp_path / "tool_1%3a2.0-3_amd64.deb"
    broken.write_bytes(b"!<arch>\n" + bytes(100))
    with pytest.raises(E1000Error, match=r"tool_1%3a2.0-3_amd64.deb cannot be unpacked"):
        apt.extract(broken, tmp_path / "to", lambda path: True)


def test_package_is_unpacked_as_it_was_packed(tmp_path):
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb; install dpkg")
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        "Package: tool\nVersion: 1:2.0-3\nArchitecture: all\nMaintainer: x <x@example>\n"
        "Description: x\n"
    )
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tool").write_bytes(b"\x7fELF\0\n")
    (root / "usr/bin/tool").chmod(0o4755)
    (root / "usr/bin/same").hardlink_to(root / "usr/bin/tool")
    (root / "usr/bin/other").symlink_to("/usr/bin/tool")
    (root / "usr/share/doc").mkdir(parents=True)
    (root / "usr/share/doc/README").write_text("not wanted")
    package = tmp_path / "tool_1%3a2.0-3_all.deb"
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", str(root), str(package)],
        check=True,
        capture_output=True,
    )
    to = tmp_path / "to"
    for _ in range(2):  # a second time replaces the first
        assert apt.extract(package, to, lambda path: "share" not in path) == "tool=1:2.0-3"
    assert (to / "usr/bin/tool").read_bytes() == b"\x7fELF\0\n"
    assert stat.S_IMODE((to / "usr/bin/tool").stat().st_mode) == 0o755
    assert (to / "usr/bin/same").samefile(to / "usr/bin/tool")
    assert str((to / "usr/bin/other").readlink()) == "/usr/bin/tool"
    assert not (to / "usr/share").exists()
