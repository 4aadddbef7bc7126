"""Write the generated files of docs/ from declarations in the code.

`python docs/generate.py` writes them. With `--check` it only lists those that are not current, and
exits with status 1 if there are any. The output depends on the tree only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import arguments
import click
import cpython
import eeproms
import hardware
import misuses
import packets
import parts
import queues
import rates
import rfcs
import strangers
import trials

from e1000emu.cli import COMMANDS, cli, with_subcommands
from e1000emu.cli.trace import record, title_of
from e1000emu.registers.regdoc import markdown
from stack.tools.knobdoc import markdown as knobs
from stack.tools.trace_format import render_svg

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))
from tests.linux.calls import known  # noqa: E402 - from this tree, which has no package of tests

INTRO = """# Command line

Written by `docs/generate.py` from the commands' own help.

Before you start: `make build`, then `. .venv/bin/activate` ([Install](index.md#install)).
The examples with a TAP device need root and `apt-get install iproute2 curl iperf3`.

## Try it

```console
$ e1000emu trace udp-send
$ e1000emu trace tcp-recv --format mermaid
$ e1000emu trace arp --format svg -o arp.svg
$ e1000emu regs RCTL
$ e1000emu regs 0x0100 --json
$ e1000emu explain rules
$ e1000emu doctor
```

Without any network: the other end of the cable is a second emulated host, in the same process.

```console
$ e1000emu ping 10.9.0.1 --link stack:10.9.0.1/24 --addr 10.9.0.2/24 -c 2
$ e1000emu get http://10.9.0.1/ --link stack:10.9.0.1/24,serve=http:80 --addr 10.9.0.2/24
```

On a machine where you may create TAP devices (as root, or after an administrator's
`ip tuntap add`):

```console root
$ ip tuntap add tap-e1000emu mode tap
$ ip addr add 10.9.0.1/24 dev tap-e1000emu
$ ip link set tap-e1000emu up
$ e1000emu ping 10.9.0.1 --link tap:tap-e1000emu --addr 10.9.0.2/24 -c 2
$ timeout -s INT 60 e1000emu up --link tap:tap-e1000emu --addr 10.9.0.2/24 --serve http:80,iperf3 >up.log 2>&1 &
$ curl -s --retry 20 --retry-all-errors http://10.9.0.2/
$ iperf3 -c 10.9.0.2 -t 1
$ iperf3 -c 10.9.0.2 -t 1 -R
$ iperf3 -c 10.9.0.2 -t 1 -u -b 10M
$ ip link del tap-e1000emu
```

`--serve iperf3` does what `iperf3 -s` does: one test at a time, TCP and UDP, `-P`, `--bidir`, `-t`,
`-n`, `-k`, `-b` and `-O`. It reports no CPU usage and supports neither SCTP nor authentication.

## What holds for every command

* `--json` reports in JSON. The long-running commands `up` and `vfio-user` write one object a line:
  `"event": "ready"` when they begin to serve, `"counters"` at each SIGUSR1, and `"end"`. Every
  other command writes one document.
* `-o FILE` writes to a file what would go to standard output, text or JSON. `get -o FILE` writes
  the body, as curl does.
* Sizes are bytes, or `64K`, `256M`, `1GiB` (in 1024s) and `64KB`, `256MB` (in 1000s).
* A duration is `20ms`, `1.5s`, `100us`, `2min`, or a number of seconds. A rate is `10Mbit`, `2.5G`,
  `1e9`: bits per second, in 1000s. A share is `2%` or `0.02`.
* The keys of `--impair` and `--faults` are the arguments of `Impair` and `Faults` in Python:
  `delay_ns=5000000`, or without the unit in the name `delay=5ms`.
* An error is one line that says what was wrong and what to do. The exit status is 2 for wrong
  arguments, 1 for a later failure, 0 otherwise. `ping` has iputils' statuses: 1 if there was no
  answer, 2 for any other error.
* `ping` has the output format of iputils' ping, so programs that parse it work.
* Autonegotiation takes no time in `up`, `ping` and `get`, and one second for a guest's driver.
  `--autoneg DURATION` changes this, in a program `Nic(autoneg_ns=...)`. A virtual clock does not
  wait for it.

## Completion

click lets the shell complete commands, options, registers, kinds of links and TAP devices:

```console
$ eval "$(_E1000EMU_COMPLETE=bash_source e1000emu)"
```

Add that line to `~/.bashrc`. In zsh it is `eval "$(_E1000EMU_COMPLETE=zsh_source e1000emu)"` in
`~/.zshrc`, in fish `_E1000EMU_COMPLETE=fish_source e1000emu | source` in
`~/.config/fish/config.fish`.
"""  # noqa: E501 - a command is one line


def cli_page() -> str:
    """Return docs/cli.md."""
    parts = [INTRO]
    context = click.Context(cli, info_name="e1000emu", terminal_width=78, **cli.context_settings)
    parts.append(f"## e1000emu\n\n```text\n{cli.get_help(context)}\n```\n")
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        for words, each in with_subcommands(name, command).items():
            inner = click.Context(each, info_name=words, parent=context)
            parts.append(f"## e1000emu {words}\n\n```text\n{each.get_help(inner)}\n```\n")
    return "\n".join(parts)


def chain_picture(kind: str) -> str:
    """Return the picture of a packet's calls, without times, which differ from run to run."""
    return render_svg(record(kind), title_of(kind), times=False) + "\n"


GENERATED: dict[str, Callable[[], str]] = {
    "../README.md": lambda: rates.filled(DOCS.parent / "README.md"),
    "bridge.svg": lambda: chain_picture("bridge"),
    "cli.md": cli_page,
    "cpython.md": cpython.markdown,
    "differences.md": known.markdown,
    "drivers.md": lambda: arguments.filled(DOCS / "drivers.md"),
    "eeprom.md": eeproms.markdown,
    "hardware.md": hardware.markdown,
    "knobs.md": knobs,
    "measure.md": lambda: arguments.filled(DOCS / "measure.md"),
    "misuse.md": misuses.markdown,
    "packets.md": packets.markdown,
    "benchmarks.md": lambda: rates.filled(DOCS / "benchmarks.md"),
    "programs.md": lambda: strangers.filled(DOCS / "programs.md"),
    "queues.svg": queues.picture,
    "rates.md": lambda: rates.filled(DOCS / "rates.md"),
    "registers.md": markdown,
    "rfcs.md": rfcs.markdown,
    "tried.md": trials.markdown,
    "udp-recv.svg": lambda: chain_picture("udp-recv"),
    "vlan-send.svg": lambda: chain_picture("vlan-send"),
    **{name: partial(parts.markdown, part) for name, part in parts.PAGES.items()},
}
"""Each file of docs/ that is generated, or has generated blocks, and what makes its text."""


def stale(directory: Path = DOCS) -> dict[Path, str]:
    """Return the text of each generated file that is missing in `directory` or differs."""
    return {
        path: text
        for path, text in ((directory / name, make()) for name, make in GENERATED.items())
        if not path.exists() or path.read_text() != text
    }


def main() -> None:
    """Write or check."""
    changed = stale()
    if "--check" not in sys.argv[1:]:
        for path, text in changed.items():
            path.write_text(text)
        return
    for path in changed:
        print(f"{path.relative_to(DOCS.parent)} is not current: run `python docs/generate.py`")
    sys.exit(1 if changed else 0)


if __name__ == "__main__":
    main()
