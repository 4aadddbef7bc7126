"""Write the generated pages: the register reference and the command reference.

`python docs/generate.py` writes them; with `--check` it only says whether they are current (status
1 when not).
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

DOCS = Path(__file__).resolve().parent

INTRO = """# Command line

Written by `docs/generate.py` from the commands' own help. Every command that reports takes
`--json`; errors are one
line that names what was wrong and what to do, with exit status 1 (2 for a wrong flag).

## Try it

```console
$ e1000emu trace udp-send
$ e1000emu trace tcp-recv --format mermaid
$ e1000emu trace arp --format svg -o arp.svg
$ e1000emu regs RCTL
$ e1000emu regs 0x0100 --json
$ e1000emu doctor
```

On a machine where you may make TAP devices (root, or `ip tuntap add` done for you):

```console root
$ ip tuntap add tap-e1000emu mode tap
$ ip addr add 10.9.0.1/24 dev tap-e1000emu
$ ip link set tap-e1000emu up
$ e1000emu ping 10.9.0.1 --link tap:tap-e1000emu --addr 10.9.0.2/24 -c 2
$ ip link del tap-e1000emu
```
"""


def cli_page() -> str:
    """Return docs/cli.md."""
    from e1000emu.cli import COMMANDS, cli

    parts = [INTRO]
    context = click.Context(cli, info_name="e1000emu", **cli.context_settings)
    parts.append(f"## e1000emu\n\n```text\n{cli.get_help(context)}\n```\n")
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        parts.append(f"## e1000emu {name}\n\n```text\n{command.get_help(inner)}\n```\n")
    return "\n".join(parts)


def pages() -> dict[Path, str]:
    """Return every generated page by its path."""
    from e1000emu.regdoc import markdown

    return {DOCS / "cli.md": cli_page(), DOCS / "registers.md": markdown()}


def main() -> None:
    """Write or check."""
    stale = [
        path for path, text in pages().items() if not path.exists() or path.read_text() != text
    ]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(DOCS.parent)} is not current: run `python docs/generate.py`")
        sys.exit(1 if stale else 0)
    for path, text in pages().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
