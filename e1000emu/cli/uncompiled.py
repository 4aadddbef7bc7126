"""Commands that look at the stack's Python functions, which its compiled form does not show."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import click

from e1000emu.cli.output import console
from stack import COMPILED


def output_of(*words: str) -> tuple[int, str]:
    """Run `e1000emu WORDS` with the uncompiled stack: (exit status, what it printed).

    Its standard error goes to ours.
    """
    environment = os.environ | {"E1000EMU_UNCOMPILED": "1", "COLUMNS": str(console().width)}
    done = subprocess.run(
        [sys.executable, "-m", "e1000emu", *words],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


class UncompiledCommand(click.Command):
    """A command that runs in a process of its own, with the stack uncompiled."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Keep the words of the command line for the other process."""
        words = [info_name or "", *args]
        ctx = super().make_context(info_name, args, parent, **extra)
        ctx.meta["e1000emu.words"] = words
        return ctx

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command there, after its arguments were checked here."""
        if not COMPILED:
            return super().invoke(ctx)
        status, said = output_of(*ctx.meta["e1000emu.words"])
        click.echo(said, nl=False)
        ctx.exit(status)
