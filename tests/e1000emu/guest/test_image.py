"""The cache of what a guest is booted from: made once, whole or not at all; errors in one line."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from e1000emu.errors import E1000Error
from e1000emu.guest import image
from e1000emu.guest.image import Qemu, find_qemu


def fake_qemu(directory: Path, version: str, vfio_user: bool = True) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "qemu-system-x86_64"
    props = "vfio-user-pci options:\n  x-no-posted-writes=<bool>\n" if vfio_user else "not valid\n"
    path.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = --version ] && echo "QEMU emulator version {version} (Debian)"\n'
        f"[ \"$1\" = -device ] && printf '{props}'\nexit 0\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in (image.QEMU_VARIABLE, image.CACHE_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def test_cache_is_the_users_and_a_setting_moves_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert image.cache_directory() == tmp_path / ".cache/e1000emu"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert image.cache_directory() == tmp_path / "x/e1000emu"
    monkeypatch.setenv(image.CACHE_VARIABLE, str(tmp_path / "y"))
    assert image.cache_directory() == tmp_path / "y"


def test_installed_qemu_is_used_when_it_can_attach(monkeypatch, tmp_path):
    path = fake_qemu(tmp_path, "10.1.0")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert find_qemu() == Qemu((str(path),), "10.1.0", str(path))


@pytest.mark.parametrize(("version", "vfio_user"), [("7.2.22", True), ("10.1.0", False)])
def test_installed_qemu_that_cannot_attach_is_not_used(monkeypatch, tmp_path, version, vfio_user):
    fake_qemu(tmp_path, version, vfio_user)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert find_qemu() is None


@pytest.mark.parametrize(
    ("version", "vfio_user", "text"),
    [("7.2.22", False, "is 7.2.22 and has no vfio-user-pci"), ("x", False, "does not say")],
)
def test_qemu_asked_for_that_does_not_do_is_an_error(tmp_path, version, vfio_user, text):
    path = fake_qemu(tmp_path, version, vfio_user)
    with pytest.raises(E1000Error, match=text) as error:
        find_qemu(path)
    assert "10.1 or newer" in str(error.value)


def test_qemu_by_setting(monkeypatch, tmp_path):
    path = fake_qemu(tmp_path / "mine", "11.0.1")
    monkeypatch.setenv(image.QEMU_VARIABLE, str(path))
    found = find_qemu()
    assert found is not None
    assert found.command == (str(path),)
    with pytest.raises(E1000Error, match="no such program"):
        find_qemu(tmp_path / "none")


class FakeApt:
    made = 0

    def __init__(self, directory: Path, **options: object) -> None:
        directory.mkdir()
        FakeApt.made += 1

    def update(self) -> None:
        pass


@pytest.fixture
def tree(monkeypatch, tmp_path):
    """Return a function that makes a tree, with a maker of the test's own."""
    monkeypatch.setattr(image, "PrivateApt", FakeApt)
    FakeApt.made = 0

    def run(make, refresh=False, recipe=("linux", "a")):
        return image._tree(
            tmp_path,
            list(recipe),
            make,
            suites=("trixie",),
            architecture="amd64",
            refresh=refresh,
            say=lambda text: None,
        )

    return run


def write(text: str):
    def make(directory: Path, apt: FakeApt) -> list[str]:
        (directory / "file").write_text(text)
        return ["b=2", "a=1"]

    return make


def test_tree_is_made_once(tree):
    made = tree(write("one"))
    assert (made / "file").read_text() == "one"
    assert json.loads((made / "stamp.json").read_text())["packages"] == ["a=1", "b=2"]
    assert tree(write("two")) == made
    assert (made / "file").read_text() == "one"
    assert FakeApt.made == 1


def test_other_recipe_is_another_tree(tree):
    assert tree(write("one")) != tree(write("two"), recipe=("linux", "b"))


def test_refresh_replaces_it(tree, tmp_path):
    made = tree(write("one"))
    assert tree(write("two"), refresh=True) == made
    assert (made / "file").read_text() == "two"
    assert sorted(path.name for path in tmp_path.iterdir()) == [made.name]


def test_failure_leaves_nothing_behind_and_the_old_one_in_place(tree, tmp_path):
    def fail(directory: Path, apt: FakeApt) -> list[str]:
        (directory / "half").write_text("")
        raise E1000Error("the mirror is gone")

    with pytest.raises(E1000Error, match="mirror is gone"):
        tree(fail)
    assert list(tmp_path.iterdir()) == []
    made = tree(write("one"))
    with pytest.raises(E1000Error, match="mirror is gone"):
        tree(fail, refresh=True)
    assert (made / "file").read_text() == "one"


@pytest.mark.parametrize(
    ("number", "text"),
    [(errno.ENOSPC, "No space left on device; make room"), (errno.EROFS, "choose one you may")],
)
def test_errors_of_the_disk_are_one_line(monkeypatch, tmp_path, number, text):
    def fail(*args: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path / "x"))

    monkeypatch.setattr(image, "_tools_tree", fail)
    monkeypatch.setattr(image, "find_qemu", lambda given: Qemu(("true",), "11.0.0", "test"))
    with pytest.raises(E1000Error, match=text) as error:
        image.prepare(cache=tmp_path)
    assert image.CACHE_VARIABLE in str(error.value)
    assert "\n" not in str(error.value)


def test_kernel_of_no_suite_is_refused(tmp_path):
    with pytest.raises(E1000Error, match="'sarge'; give one of bookworm, trixie"):
        image.prepare(cache=tmp_path, kernel="sarge")


def test_cache_that_is_a_file_is_named(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(E1000Error, match=str(path)):
        image.prepare(cache=path)


def test_what_a_killed_preparer_left_is_removed(monkeypatch, tmp_path):
    (tmp_path / ".guest-dead").mkdir()
    (tmp_path / ".guest-dead" / "x").touch()

    def stop(given: object) -> None:
        raise E1000Error("stop here")

    monkeypatch.setattr(image, "find_qemu", stop)
    with pytest.raises(E1000Error, match="stop here"):
        image.prepare(cache=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["guest.lock"]


def test_second_preparer_waits_for_the_first(tmp_path):
    code = (
        "import sys, pathlib\n"
        "from e1000emu.guest.image import _locked\n"
        "with _locked(pathlib.Path(sys.argv[1]), lambda text: print(text, flush=True)):\n"
        "    print('mine', flush=True)\n"
    )
    lock = tmp_path / "lock"
    with image._locked(lock, lambda text: None):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == f"waiting for another preparation ({lock})\n"
    assert process.communicate(timeout=60)[0] == "mine\n"


def test_lock_of_a_cache_that_is_read_only(tmp_path, monkeypatch):
    lock = tmp_path / "lock"
    lock.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    lock.chmod(0o444)
    taken = image._locked(lock, lambda text: None)
    with taken, lock.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert lock.read_bytes() == b""


@pytest.mark.parametrize("path", ["boot/vmlinuz-7.3-amd64", "usr/lib/modules/7.3-amd64/vmlinuz"])
def test_a_kernels_release_is_known_by_its_file(tmp_path, path):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).touch()
    assert image._kernel(tmp_path) == tmp_path / path
    assert image._release(tmp_path) == "7.3-amd64"


def test_which_files_of_the_packages_are_kept():
    assert image._of_kernel("boot/vmlinuz-6.12.1-amd64")
    assert image._of_kernel("usr/lib/modules/7.3.4-amd64/vmlinuz")
    assert image._of_kernel(
        "usr/lib/modules/6.12.1/kernel/drivers/net/ethernet/intel/e1000/e1000.ko.xz"
    )
    assert not image._of_kernel("usr/lib/modules/6.12.1/kernel/fs/xfs/xfs.ko.xz")
    program = "usr/bin/qemu-system-x86_64"
    assert image._of_qemu(program, program)
    assert not image._of_qemu("usr/bin/qemu-system-i386", program)
    assert not image._of_tools("usr/share/doc/bash/README")
