"""The wheel, made of the source distribution, in an empty environment outside the tree.

`make test-dist` runs these; `make test` leaves them out, since all is compiled once more. What
works in the tree proves little for a package: a file that MANIFEST.in or setup.py forgets is still
there.
"""

from __future__ import annotations

import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import missing, require

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from stackc.tree import compiled_modules  # noqa: E402

CAPI = ROOT / "tests" / "e1000emu" / "embed" / "capi"
EXAMPLES = ROOT / "examples"
# Required is a wheel file below 15 MB, its modules stripped. Machine code packs about two and a half
# to one, so what is unpacked takes as much more; unstripped modules are several times it.
WHEEL_BYTES = 15_000_000
UNPACKED_BYTES = 38_500_000
OTHERS = {"stack._state", "fastpath._shared", "e1000emu._benchmarks.pktgen"}
NOT_SHIPPED = (".ci/", ".git")
ADDED = ("PKG-INFO", "setup.cfg", "e1000emu.egg-info/")
CHECKS = re.findall(r'^    \{"(\w+)", test_\w+\},$', (CAPI / "conformance.c").read_text(), re.M)

pytestmark = pytest.mark.timeout(1200)


def run(*words: str | Path, cwd: Path, path: Path | None = None) -> str:
    """Run a program in an environment that knows nothing of this tree; return what it prints."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "CC")}
    if path is not None:
        env["PATH"] = f"{path}:{env['PATH']}"
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the source distribution, and the wheel that pip makes of that alone.

    It does so as for who installs the former: in an environment that has what pyproject.toml names.
    """
    out = tmp_path_factory.mktemp("dist")
    words = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", out, ROOT]
    run(*words, cwd=out)
    words = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", out]
    run(*words, one(out, "*.tar.gz"), cwd=out)
    return out


def one(directory: Path, pattern: str) -> Path:
    (found,) = directory.glob(pattern)
    return found


@dataclass(frozen=True)
class Installed:
    """An environment with nothing but the package and what it asks for."""

    directory: Path

    @property
    def bin(self) -> Path:
        return self.directory / "bin"

    def command(self, *words: str | Path, cwd: Path) -> str:
        """Run the command `e1000emu`."""
        return run(self.bin / "e1000emu", *words, cwd=cwd)

    def python(self, *words: str | Path, cwd: Path) -> str:
        """Run the environment's Python."""
        return run(self.bin / "python", *words, cwd=cwd)


@pytest.fixture(scope="module")
def installed(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    directory = tmp_path_factory.mktemp("env")
    run(sys.executable, "-m", "venv", directory, cwd=directory)
    made = Installed(directory)
    made.python("-m", "pip", "install", "-q", one(packages, "*.whl"), cwd=directory)
    return made


# --- what the packages hold -----------------------------------------------------------------------


def test_sdist_holds_what_git_tracks(packages: Path) -> None:
    git = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if git.returncode:
        missing("only a checkout says which files belong to the source", "clone the repository")
    with tarfile.open(one(packages, "*.tar.gz")) as tar:
        names = {m.name.partition("/")[2] for m in tar.getmembers() if m.isfile()}
    shipped = {name for name in names if not name.startswith(ADDED)}
    tracked = {name for name in git.stdout.split() if not name.startswith(NOT_SHIPPED)}
    assert shipped == tracked


def test_wheel_is_small_and_holds_sources_of_nothing(packages: Path) -> None:
    wheel = one(packages, "*.whl")
    assert wheel.stat().st_size < WHEEL_BYTES
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    assert sum(sizes.values()) < UNPACKED_BYTES
    compiled = {name.partition(".")[0].replace("/", ".") for name in sizes if name.endswith(".so")}
    kernels = (ROOT / "fastpath").glob("*/*.pyx")
    sources = {f"{path.parent.name}/{path.stem}" for path in kernels}
    path = set(compiled_modules())
    assert compiled == {f"fastpath.{name.replace('/', '.')}" for name in sources} | path | OTHERS
    assert not [name for name in sizes if name.startswith(("tests/", "docs/", "examples/"))]
    assert not [name for name in sizes if re.match(r"fastpath/.*\.c$|.*/pktgen\.c$", name)]
    for package in ("fastpath", "e1000emu", "stack"):
        assert f"{package}/py.typed" in sizes
    assert {f"fastpath/{name}.pyi" for name in sources} <= set(sizes)


def test_compiled_modules_are_stripped(packages: Path, tmp_path: Path) -> None:
    readelf = require.tool("readelf", "binutils")
    with zipfile.ZipFile(one(packages, "*.whl")) as archive:
        archive.extractall(tmp_path)
    modules = [*tmp_path.rglob("*.so")]
    assert len(modules) > len(compiled_modules())
    for module in modules:
        assert ".symtab" not in run(readelf, "-SW", module, cwd=tmp_path)


def test_index_page_has_urls_and_links_that_lead_somewhere(packages: Path) -> None:
    with zipfile.ZipFile(one(packages, "*.whl")) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("METADATA"))
        page = email.message_from_string(archive.read(name).decode())
    urls = dict(value.split(", ", 1) for value in page.get_all("Project-URL", []))
    assert {"Source", "Documentation", "Changelog", "Issues"} <= set(urls)
    text = page.get_payload()
    links = re.findall(r"\]\(([^)]*)\)", text)
    inside = [link for link in links if link.startswith(urls["Source"])]
    assert len(inside) > 5
    for link in links:
        assert link.startswith(("https://", "#")), link
    for link in inside:  # what they name is in the repository
        target = link.removeprefix(urls["Source"]).split("/main/", 1)[1].partition("#")[0]
        assert (ROOT / target).exists(), link
    run(
        *(sys.executable, "-m", "twine", "check", "--strict", *packages.glob("e1000emu*")),
        cwd=packages,
    )


# --- what an installed package does ---------------------------------------------------------------


def test_doctor_finds_the_package_whole(installed: Installed, tmp_path: Path) -> None:
    where = installed.python("-c", "import e1000emu; print(e1000emu.__file__)", cwd=tmp_path)
    assert where.startswith(str(installed.directory))
    rows = json.loads(installed.command("doctor", "--json", cwd=tmp_path))
    rows = rows["findings"] if isinstance(rows, dict) else rows
    states = {row["name"]: row["state"] for row in rows}
    assert states["compiled modules"] == "ok"
    assert "broken" not in states.values()


def test_two_hosts_ping(installed: Installed, tmp_path: Path) -> None:
    words = ["ping", "10.9.0.1", "--link", "stack:10.9.0.1/24", "--addr", "10.9.0.2/24", "-c", "2"]
    assert re.search(r"2 received", installed.command(*words, cwd=tmp_path))


def test_first_example_runs(installed: Installed, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "two_hosts.py", tmp_path)
    assert "TCP: 1000000 bytes" in installed.python("two_hosts.py", cwd=tmp_path)


def test_c_abi(installed: Installed, tmp_path: Path) -> None:
    gcc = require.tool("gcc")
    installed.command("capi", "--out", tmp_path, cwd=tmp_path)
    flags, libs = (
        installed.command("capi", "--out", tmp_path, option, cwd=tmp_path).split()
        for option in ("--cflags", "--libs")
    )
    strict = ["-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{EXAMPLES / 'baremetal'}", *flags]
    driver = EXAMPLES / "baremetal" / "e1000_min.c"
    for program in (CAPI / "conformance.c", EXAMPLES / "baremetal" / "over_capi.c"):
        out = tmp_path / program.stem
        run(gcc, *strict, program, driver, *libs, "-pthread", "-o", out, cwd=tmp_path)
    assert 'on the wire: 64 bytes, "hello, wire"' in run(tmp_path / "over_capi", cwd=tmp_path)
    for check in CHECKS:
        if not check.startswith("planted"):  # those are for the sanitizers
            run(tmp_path / "conformance", check, cwd=tmp_path)


def test_fixtures_are_there_without_a_conftest(installed: Installed, tmp_path: Path) -> None:
    installed.python("-m", "pip", "install", "-q", "pytest>=9", cwd=tmp_path)
    (tmp_path / "test_mine.py").write_text(
        "def test_mine(running_bench):\n"
        "    running_bench.guest.send(bytes(60))\n"
        "    running_bench.clock.run_for(1_000_000)\n"
        "    assert len(running_bench.link.frames) == 1\n"
    )
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    assert "1 passed" in installed.python(*words, "test_mine.py", cwd=tmp_path)
    shutil.copy(EXAMPLES / "test_own_driver.py", tmp_path)  # with the plugin named once more
    assert "3 passed" in installed.python(*words, "test_own_driver.py", cwd=tmp_path)
