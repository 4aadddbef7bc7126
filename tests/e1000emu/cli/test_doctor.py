"""`e1000emu doctor`: each row says what is, and a row that is not ok has its remedy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from e1000emu.cli import doctor
from fastpath.built import make_command


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory that is all of PATH but for a shell."""
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.delenv("E1000EMU_QEMU", raising=False)
    return directory


def fake_qemu(directory: Path, version: str, device: str = "", name: str = "") -> Path:
    """Write a QEMU that prints its version, and `device` when asked for vfio-user-pci's help."""
    path = directory / (name or "qemu-system-x86_64")
    path.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = --version ] && echo "{version}" && exit 0\n'
        f'[ "$*" = "-device vfio-user-pci,help" ] && echo "{device}" && exit 0\n'
        "exit 1\n"
    )
    path.chmod(0o755)
    return path


def test_a_new_qemu_with_the_device_attaches(programs: Path) -> None:
    path = fake_qemu(programs, "QEMU emulator version 11.1.3", "  x-no-posted-writes=<bool>")
    row = doctor.check_qemu()
    assert row.state == "ok"
    assert str(path) in row.detail
    assert "11.1.3" in row.detail
    assert "vfio-user-pci" in row.detail


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)", "7.2.22 cannot attach"),
        ("QEMU emulator version 10.0.2", "10.0.2 cannot attach"),
        ("QEMU emulator version 10.1.0", "built without vfio-user-pci"),
        ("what do you want from me", "`--version` names none"),
    ],
)
def test_any_other_qemu_cannot_and_there_is_a_way_out(
    programs: Path, version: str, words: str
) -> None:
    path = fake_qemu(programs, version, "Device 'vfio-user-pci' not found")
    row = doctor.check_qemu()
    assert row.state == "missing"
    assert str(path) in row.detail
    assert words in row.detail
    assert "e1000emu qemu" in row.remedy


def test_a_qemu_that_is_named_is_the_one_that_is_asked(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_qemu(programs, "QEMU emulator version 7.2.22")
    other = fake_qemu(programs, "QEMU emulator version 11.0.0", "x-no-posted-writes=", "other")
    monkeypatch.setenv("E1000EMU_QEMU", str(other))
    assert doctor.check_qemu().state == "ok"
    monkeypatch.setenv("E1000EMU_QEMU", "/nowhere/qemu")
    row = doctor.check_qemu()
    assert (row.state, row.detail) == ("missing", "/nowhere/qemu: not found")


def test_a_program_that_does_not_end_or_cannot_run_says_nothing(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "PROGRAM_TIMEOUT_S", 0.2)
    slow = programs / "slow"
    slow.write_text("#!/bin/sh\nwhile :; do :; done\n")
    slow.chmod(0o755)
    assert doctor.ask(str(slow), "--version") == ""
    assert doctor.ask(str(programs / "none")) == ""
    assert doctor.ask("/bin/sh", "-c", "echo out; echo err >&2; exit 3") == "out\nerr\n"


def test_without_anything_every_row_has_a_remedy(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E1000EMU_GUEST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    rows = {row.name: row for row in doctor.examine()}
    assert len(rows) == len(doctor.CHECKS)
    for name in (
        "C compiler",
        "C interface",
        "network namespaces",
        "passt",
        "qemu",
        "guest image",
        "tshark",
    ):
        assert rows[name].state == "missing", name
    assert all(row.remedy for row in rows.values() if row.state != "ok")


def test_guest_image_is_seen_in_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E1000EMU_GUEST_CACHE", str(tmp_path))
    assert doctor.check_guest().state == "missing"
    (tmp_path / "guest-linux-0123").mkdir()
    (tmp_path / "guest-linux-0123" / "stamp.json").write_text("{}")
    assert doctor.check_guest().state == "ok"


def test_optional_packages_are_asked_by_name() -> None:
    assert doctor.module("click", "click", "this command line")().state == "ok"
    row = doctor.module("no-such-package-here", "x", "nothing")()
    assert (row.state, row.remedy) == ("missing", "pip install x")


def test_tap_rows_agree_with_the_device_file() -> None:
    can_open = os.path.exists("/dev/net/tun") and os.access("/dev/net/tun", os.R_OK | os.W_OK)
    row = doctor.check_tap_offloads()
    if not can_open:
        assert (row.state, row.remedy) == ("missing", "see TAP")
    else:
        assert "IFF_VNET_HDR" in row.detail


def test_modules_that_compute_wrongly_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    import fastpath

    assert doctor.check_compiled().state == "ok"
    monkeypatch.setattr(fastpath, "self_test", lambda: ["csum: wrong sum of 20 bytes"])
    row = doctor.check_compiled()
    assert (row.state, row.detail) == ("broken", "csum: wrong sum of 20 bytes")
    assert row.remedy == f"run: {make_command(os.curdir)}"


def test_any_c_compiler_is_found_and_cc_decides(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    row = doctor.check_compiler()
    assert (row.state, row.remedy) == ("missing", "apt-get install gcc libc6-dev, or set CC")
    for name in ("clang", "mycc"):
        (programs / name).write_text(f"#!/bin/sh\necho {name} version 1 $1\n")
        (programs / name).chmod(0o755)
    assert doctor.check_compiler().detail == "clang version 1 --version"
    monkeypatch.setenv("CC", "mycc -m64")
    assert doctor.check_compiler().detail == "mycc version 1 -m64"
    monkeypatch.setenv("CC", "nobody")
    assert "no C compiler 'nobody'" in doctor.check_compiler().detail
