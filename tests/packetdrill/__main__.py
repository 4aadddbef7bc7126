"""Run a directory of packetdrill's scripts on our host: `make test-packetdrill`.

    python -m tests.packetdrill --packetdrill PATH --scripts DIR [--kernel] [--nic] [--only WORD]

Each script runs in a network namespace of its own, over IPv4, IPv6 and IPv4-mapped addresses, in
virtual time and in parallel. The table says passed or failed. With `--kernel` each runs on this
machine's kernel, too, and the exit status tells whether all that the kernel passes passes here.
With `--nic` the packets cross an emulated NIC and its driver.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from e1000emu.lab.cstack import PACKETDRILL, build

LIMIT_S = 60
MODEL = "82540EM"
V4 = ["--local_ip=192.168.0.1", "--gateway_ip=192.168.0.1", "--netmask_ip=255.255.0.0"]
V4 += ["--remote_ip=192.0.2.1", "-D", "TFO_COOKIE=3021b9d889017eeb"]
V4_HOST = "addr=192.168.0.1/16 route=192.0.2.1/32"
V6 = ["--mtu=1520", "--local_ip=fd3d:0a0b:17d6::1", "--gateway_ip=fd3d:0a0b:17d6:8888::1"]
V6 += ["--remote_ip=fd3d:fa7b:d17d::1", "-D", "TFO_COOKIE=c1d1e9742a47a9bc"]
IP = ["-D", "CMSG_LEVEL_IP=SOL_IP", "-D", "CMSG_TYPE_RECVERR=IP_RECVERR"]
IPV6 = ["-D", "CMSG_LEVEL_IP=SOL_IPV6", "-D", "CMSG_TYPE_RECVERR=IPV6_RECVERR"]
CODE = ["-D", "CODE=host_unreachable"]
VARIANTS = {
    "ipv4": (["--ip_version=ipv4", *V4, *IP, *CODE], V4_HOST),
    "ipv6": (
        ["--ip_version=ipv6", *V6, *IPV6],
        "addr=fd3d:0a0b:17d6::1/48 route=fd3d:fa7b:d17d::1/128 mtu=1520",
    ),
    "mapped": (["--ip_version=ipv4-mapped-ipv6", *V4, *IPV6, *CODE], V4_HOST),
}
KERNEL_TOLERANCE = "--tolerance_usecs=14000"
"""Real time, and ticks of 4 ms: of a timer that two ticks are added to, 13 ms may be left."""
SAME = "--send_omit_free"
"""May be given twice."""
SET_UP = (
    "ip link set lo up; ip tuntap add dev tun0 mode tun; ip link set tun0 up; "
    "knob=/proc/sys/net/ipv4/tcp_ecn; mount -t tmpfs none /mnt; cat $knob >/mnt/tcp_ecn; "
    "mount --bind /mnt/tcp_ecn $knob"
)
"""A script's own `tc` wants the interface that packetdrill does not make in this mode. tcp_ecn is a
file, since Linux before 7.0 refuses the values of Accurate ECN."""
ON_HOST = re.compile(
    r"\b(nstat|ethtool|(ip|tc) (-6 )?(route|addr|link|qdisc|tcp_metrics))\b|/proc/net/"
)
"""Commands that show or set more than knobs. A script with one has all of its run on the host."""


@dataclass(frozen=True)
class Result:
    """The result of a script: "passed" or "failed", and why."""

    script: str
    variant: str
    result: str
    why: str = ""
    kernel: str = ""


def flags_of(script: Path) -> str:
    """The flags that a script adds to the host's."""
    text = re.sub(r"//.*", "", script.read_text(errors="replace"))
    mss = re.search(r"^--mss=(\d+)", text, re.M)
    flags = f" mss={mss[1]}" if mss else ""
    return flags + (" commands=host" if ON_HOST.search(text) else "")


def run_on_kernel(program: str, variant: str, script: Path) -> str:
    """Run a script in a namespace; packetdrill's last words, nothing when it passes."""
    before = 'ip link set lo up; exec "$@"'
    words = ["unshare", "--net", "--mount", "sh", "-c", before, "sh", program, SAME]
    try:
        done = subprocess.run(
            [*words, *VARIANTS[variant][0], KERNEL_TOLERANCE, script.name],
            cwd=script.parent,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"still ran after {LIMIT_S} s"
    return last_words(done.returncode, done.stderr)


def last_words(code: int, stderr: str) -> str:
    """The output of packetdrill on failure."""
    if code == 0:
        return ""
    lines = [line for line in stderr.splitlines() if not line.startswith("sysctl:")]
    return " | ".join(lines[:3]) or f"exit status {code}"


class Server:
    """A packetdrill with Python started: each script runs in a fork of it (packetdrill.c)."""

    def __init__(self, program: str, library: Path, variant: str, nic: bool) -> None:
        arguments, host = VARIANTS[variant]
        if nic:
            host += f" nic={MODEL}"
        self._name = program
        self._arguments = [SAME, *arguments, f"--so_filename={library}", f"--so_flags={host}"]
        self._scratch = tempfile.TemporaryDirectory()
        self._errors = Path(self._scratch.name, "errors")
        self._errors.touch()
        serves = {"LD_PRELOAD": str(library), "E1000EMU_PACKETDRILL_SERVE": str(LIMIT_S)}
        serves["NSTAT_HISTORY"] = f"{self._scratch.name}/nstat"  # or all share one
        self._program = subprocess.Popen(
            [program, *self._arguments, SAME, "script"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | serves,
        )

    def run(self, script: Path, tolerance: str = SAME) -> str:
        """Run a script; packetdrill's last words, nothing when it passes."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        words = [script.parent, self._errors, SET_UP, *self._arguments]
        words[-1] += flags_of(script)
        words += [tolerance, script.name]
        with contextlib.suppress(BrokenPipeError):
            self._program.stdin.write("\t".join(map(str, words)) + "\n")
            self._program.stdin.flush()
        line = self._program.stdout.readline()
        if not line:  # its reason, if it gave one, stands on the standard error
            sys.exit(f"{self._name} has ended and cannot run {script.name}")
        status = int(line)
        if status == signal.SIGALRM:
            return f"still ran after {LIMIT_S} s"
        return last_words(
            os.waitstatus_to_exitcode(status), self._errors.read_text(errors="replace")
        )

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(BrokenPipeError):
            self._program.communicate()
        self._scratch.cleanup()


def one(
    program: str,
    servers: queue.SimpleQueue[Server],
    script: Path,
    name: str,
    variant: str,
    kernel: bool,
) -> Result:
    """Run a script over one kind of addresses."""
    theirs = ""
    if kernel:
        said = run_on_kernel(program, variant, script)
        theirs = "failed" if said else "passed"
    server = servers.get()
    try:
        said = server.run(script)
        late = "timing error" in said and not server.run(script, KERNEL_TOLERANCE)
    finally:
        servers.put(server)
    if late:
        return Result(name, variant, "passed", f"as on a kernel with ticks of 4 ms: {said}", theirs)
    return Result(name, variant, "failed" if said else "passed", said, theirs)


def runs_over(script: Path, variant: str) -> bool:
    """Whether a script's name allows the kind of addresses."""
    other = "v4.pkt" if variant == "ipv6" else "v6.pkt"
    return not script.name.endswith(other)


def run_all(
    asked: argparse.Namespace, program: str, library: Path, scripts: list[Path], variant: str
) -> list[Result]:
    """Run the scripts over one kind of addresses, `asked.j` at the same time."""
    servers: queue.SimpleQueue[Server] = queue.SimpleQueue()
    with contextlib.ExitStack() as ended, concurrent.futures.ThreadPoolExecutor(asked.j) as pool:
        for _ in range(asked.j):
            servers.put(server := Server(program, library, variant, asked.nic))
            ended.callback(server.close)

        def result(script: Path) -> Result:
            name = str(script.relative_to(asked.scripts.resolve()))
            return one(program, servers, script, name, variant, asked.kernel)

        return list(pool.map(result, [path for path in scripts if runs_over(path, variant)]))


def main(argv: list[str] | None = None) -> int:
    """Run all, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.packetdrill", description=__doc__)
    parser.add_argument("--packetdrill", required=True, help="the program")
    parser.add_argument("--scripts", required=True, type=Path, help="a directory with *.pkt")
    parser.add_argument("--kernel", action="store_true", help="run each on the kernel, too")
    parser.add_argument("--nic", action="store_true", help="through an emulated NIC")
    parser.add_argument("--only", default="", help="scripts whose path has this text")
    parser.add_argument("--variant", choices=VARIANTS, help="one kind of addresses")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("-j", type=int, default=os.cpu_count() or 1, help="at the same time")
    asked = parser.parse_args(argv)
    program = shutil.which(asked.packetdrill)
    if program is None:
        parser.error(f"--packetdrill: no program {asked.packetdrill!r}")
    scripts = sorted(p for p in asked.scripts.resolve().rglob("*.pkt") if asked.only in str(p))
    if not scripts:
        parser.error(f"--scripts: no *.pkt in {asked.scripts}")
    variants = [asked.variant] if asked.variant else list(VARIANTS)
    with tempfile.TemporaryDirectory() as scratch:
        library = build(scratch, library=PACKETDRILL).library
        results: list[Result] = []
        for variant in variants:
            results += run_all(asked, os.path.abspath(program), library, scripts, variant)
    for row in results:
        if row.result != "passed" or row.why or row.kernel == "failed":
            theirs = f" (kernel {row.kernel})" if row.kernel else ""
            print(f"{row.variant:7}{row.result:7}{theirs} {row.script}: {row.why}")
    for variant in variants:
        mine = [row for row in results if row.variant == variant]
        count = {word: sum(r.result == word for r in mine) for word in ("passed", "failed")}
        said = ", ".join(f"{number} {word}" for word, number in count.items())
        if asked.kernel:
            said += f"; the kernel passes {sum(r.kernel == 'passed' for r in mine)}"
        print(f"{variant}: {said}, of {len(mine)}")
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in results], indent=1))
    bad = [r for r in results if r.result == "failed" and r.kernel != "failed"]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
