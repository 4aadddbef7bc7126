"""The command line: one file per command; this one only joins them and turns errors into one clear
line."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap

import click
from click.shell_completion import CompletionItem

from e1000emu.cli.errors import CommandError, did_you_mean, explain_os_error
from e1000emu.errors import E1000Error

__all__ = ["main"]

# name -> one line of help. A command's module is imported when it is used, so `e1000emu --help`
# stays quick.
COMMANDS = {
    "demo": "Run the main job: two hosts, their NICs, a wire, ping, UDP and 256 MiB of TCP.",
    "up": "Put a host of this stack on a real network until SIGINT, SIGTERM or SIGHUP.",
    "vfio-user": "Offer our NIC to QEMU as a PCI device; a guest's own e1000 driver binds to it.",
    "guest": "Boot a Linux guest in QEMU on our NIC: a shell in it, or one command.",
    "qemu": "Run a QEMU that can attach to vfio-user: the installed one, or Debian's, fetched.",
    "capi": "Build the NIC as a shared object with a C header, for other emulators.",
    "ping": "Send ICMP echo requests through our own stack and NIC.",
    "get": "Fetch a URL over our own TCP.",
    "exec": "Run an unmodified program with the sockets of a host of ours.",
    "tcpdump": "Show the frames on an interface of a host of ours, or in a capture file.",
    "trace": "Print the chain of calls that a packet takes through our stack.",
    "transfer": "Send one TCP stream over a wire of your making: window, RTT and rate over time.",
    "lab": "Run the network of hosts, routers, switches and links that a file describes.",
    "profile": "Show where the CPU time of a script or of ready-made traffic goes.",
    "bench": "Measure rates and compare them with those of peers.",
    "campaign": "Run a case over models, faults and seeds, on every processor or many machines.",
    "regs": "Show the register reference.",
    "explain": "Say why no frames move: each reason that a state file shows, with its remedy.",
    "record": "Record what crosses a NIC's ports under our driver, from probe to removal.",
    "replay": "Replay a recording byte by byte; name the first event that differs.",
    "doctor": "Say what works on this machine, why not, and how to mend it.",
}

UNCOMPILED = {"trace"}
"""Commands that look at the stack's Python functions, which its compiled form does not show."""

EXIT_STATUS: dict[int | str, str] = {
    0: "All went well.",
    1: "Something went wrong; a line on standard error says what and what to do.",
    2: "The arguments are wrong; nothing was done.",
}
"""The default meaning of each exit status (see `EXIT_STATUSES`)."""
ENDED: dict[int | str, str] = {0: "SIGINT, SIGTERM or SIGHUP ended it."}
EXIT_STATUSES: dict[str, dict[int | str, str]] = {
    "up": ENDED,
    "vfio-user": ENDED,
    "guest": {"other": "The status of the command that --run gives."},
    "qemu": {"other": "QEMU's own."},
    "ping": {
        0: "A reply was received; with -c and -w, all of them.",
        1: "No reply was received.",
        2: "It could not be tried, or the arguments are wrong.",
    },
    "exec": {"other": "The program's, or 128 and the number of the signal that ended it."},
    "profile": {"other": "The status of the SCRIPT."},
    "lab": {1: "A program on one of the hosts failed, or the lab cannot be built."},
    "bench": {0: "It was measured, whatever was found."},
    "record": {1: "There is no link, faults stopped TCP, or the file cannot be written."},
    "replay": {1: "An event differs, or the file is damaged."},
    "campaign": {1: "A case did not pass, or the campaign could not go on.", 130: "Ctrl-C."},
    "campaign run": {1: "A case did not pass, or it could not go on.", 130: "Ctrl-C."},
    "campaign replay": {1: "The case did not pass, or it could not be run."},
    "doctor": {1: "Something that is needed is broken."},
}


def exit_status(name: str) -> str:
    """Return the part of a command's help that says what its exit status means."""
    lines = ["\b", "Exit status:"]
    for status, text in (EXIT_STATUS | EXIT_STATUSES.get(name, {})).items():
        head = f"  {status:<5}  "
        lines += textwrap.wrap(text, 74, initial_indent=head, subsequent_indent=" " * len(head))
    return "\n".join(lines)


def with_subcommands(name: str, command: click.Command) -> dict[str, click.Command]:
    """Return a command and those below it, each by the words of its command line."""
    found = {name: command}
    if isinstance(command, click.Group):
        for word, below in command.commands.items():
            found |= with_subcommands(f"{name} {word}", below)
    return found


class Commands(click.Group):
    """A click group whose commands live in modules of the same name, `-` written `_`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:  # shell completion
                return None
            guess = did_you_mean(cmd_name, COMMANDS)
            raise click.UsageError(f"No such command {cmd_name!r}{guess}", ctx)
        if cmd_name in UNCOMPILED and "stack" not in sys.modules:
            os.environ["E1000EMU_UNCOMPILED"] = "1"  # `stack` reads it at import
        module = importlib.import_module(f"e1000emu.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        for name, each in with_subcommands(cmd_name, command).items():
            each.epilog = exit_status(name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the commands without importing them."""
        words = [
            CompletionItem(name, help=text)
            for name, text in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return words + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True}


@click.group(cls=Commands, context_settings=SETTINGS)
@click.version_option(package_name="e1000emu")
def cli() -> None:
    """e1000emu: a register-level Intel e1000 and a Linux-shaped network stack on top."""


def _usage(error: click.ClickException) -> str:
    """Return a mistake in the arguments as one line that ends with where to look."""
    text = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{text}; see {context.command_path} --help" if context is not None else text


def main() -> None:
    """Run the command line; an expected error ends with one line on standard error.

    Exit status: 2 for wrong arguments, 1 for other errors.
    """
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        click.echo(f"e1000emu: {_usage(error)}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # the reader of our output has gone (`| head`): not an error to report
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except E1000Error as error:
        click.echo(f"e1000emu: {error}", err=True)
        sys.exit(error.exit_status if isinstance(error, CommandError) else 1)
    except OSError as error:
        click.echo(f"e1000emu: {explain_os_error(error)}", err=True)
        sys.exit(1)
