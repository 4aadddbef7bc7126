"""Write the generated files of docs/; what they say is declared in the code.

`python docs/generate.py` writes them; with `--check` it only says which are not current (status 1
when one is not). The same tree always gives the same bytes: no times, no terminal's width.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from e1000emu.cli import COMMANDS, cli
from e1000emu.regdoc import markdown

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
    parts = [INTRO]
    context = click.Context(cli, info_name="e1000emu", terminal_width=78, **cli.context_settings)
    parts.append(f"## e1000emu\n\n```text\n{cli.get_help(context)}\n```\n")
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        parts.append(f"## e1000emu {name}\n\n```text\n{command.get_help(inner)}\n```\n")
    return "\n".join(parts)


GENERATED: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "registers.md": markdown,
}
"""Each generated file of docs/ and what makes its text."""


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
