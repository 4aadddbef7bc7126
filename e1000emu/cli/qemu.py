"""`e1000emu qemu`: a QEMU that has `vfio-user-pci`."""

from __future__ import annotations

import os
import shlex
from typing import Any

import click

from e1000emu.cli.common import emit_json, report_options
from e1000emu.cli.errors import ArgumentError


class _Qemu(click.Command):
    """An option that is not ours is probably QEMU's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            text = f"{error.format_message().rstrip('.')}; QEMU's own options stand behind --"
            raise click.UsageError(text, ctx) from None


@click.command(cls=_Qemu, context_settings={"allow_interspersed_args": False})
@click.option("--refresh", is_flag=True, help="Fetch it again, even if it is cached.")
@report_options
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGS...]")
def command(arguments: tuple[str, ...], refresh: bool, as_json: bool) -> None:
    """Run a QEMU that can attach to `e1000emu vfio-user`; ARGS are its own options.

    It is the installed one when that has vfio-user-pci (QEMU 10.1 or newer), else Debian's newest,
    fetched once into the user's cache ($E1000EMU_GUEST_CACHE) without root. $E1000EMU_QEMU names
    another. Without ARGS its version is shown, and where it is from.
    """
    from e1000emu.guest import prepare_qemu

    found = prepare_qemu(refresh=refresh, say=lambda line: click.echo(f"qemu: {line}", err=True))
    if not arguments:
        if as_json:
            report: dict[str, Any] = {
                "version": found.version,
                "origin": found.origin,
                "command": list(found.command),
                "environment": found.environment,
            }
            emit_json(report)
        else:
            click.echo(f"QEMU {found.version} ({found.origin}): {shlex.join(found.command)}")
        return
    if as_json:
        raise ArgumentError("--json: give no ARGS with it; QEMU's own output is no JSON")
    words = [*found.command, *arguments]
    os.execvpe(words[0], words, os.environ | found.environment)
