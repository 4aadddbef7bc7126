"""The initramfs writer, judged by Debian's own unpacker where there is one, and by the format."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from e1000emu.guest.cpio import Initramfs


def entries(archive: bytes) -> dict[str, tuple[int, bytes, tuple[int, int]]]:
    """Read an archive back by the kernel's buffer-format.rst, written anew for this test."""
    found = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        assert at % 4 == 0
        f = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = archive[at + 110 : at + 110 + f[11]]
        assert name.endswith(b"\0")
        start = (at + 110 + f[11] + 3) & ~3
        content = archive[start : start + f[6]]
        assert len(content) == f[6]
        at = (start + f[6] + 3) & ~3
        if name == b"TRAILER!!!\0":
            assert at == len(archive)
            return found
        found[name[:-1].decode()] = (f[1], content, (f[9], f[10]))


def test_what_goes_in_comes_out():
    made = Initramfs()
    made.file("init", b"#!/bin/sh\n", 0o755)
    made.file("/lib/modules/x/a.ko", b"\x7fELF" + bytes(1001))
    made.symlink("bin/sh", "/usr/bin/bash")
    made.char_device("dev/console", 5, 1)
    made.directory("proc", 0o555)
    found = entries(made.emit())
    assert found["init"] == (stat.S_IFREG | 0o755, b"#!/bin/sh\n", (0, 0))
    assert found["lib/modules/x/a.ko"][1] == b"\x7fELF" + bytes(1001)
    assert found["bin/sh"] == (stat.S_IFLNK | 0o777, b"/usr/bin/bash", (0, 0))
    assert found["dev/console"] == (stat.S_IFCHR | 0o600, b"", (5, 1))
    assert found["proc"][0] == stat.S_IFDIR | 0o555


def test_directories_stand_before_what_is_in_them():
    made = Initramfs()
    made.file("a/b/c", b"")
    made.file("a/d", b"")
    names = list(entries(made.emit()))
    assert names == ["a", "a/b", "a/b/c", "a/d"]


def test_same_content_gives_the_same_bytes(tmp_path: Path):
    def build(path: Path) -> bytes:
        made = Initramfs()
        made.file("x", b"content")
        made.write(path)
        return path.read_bytes()

    one, two = build(tmp_path / "one"), build(tmp_path / "two")
    assert one == two
    assert entries(one)["x"][1] == b"content"


def test_later_entry_replaces_the_first():
    made = Initramfs()
    made.file("x", b"one")
    made.file("x", b"two")
    assert "x" in made
    assert "/x" in made
    assert entries(made.emit())["x"][1] == b"two"


@pytest.mark.parametrize("bad", ["", "/", ".", "../x", "a/../../x"])
def test_path_outside_is_refused(bad: str):
    with pytest.raises(ValueError, match="path"):
        Initramfs().file(bad, b"")
