"""Errors that end a command: an exit status, and one clear line for each."""

from __future__ import annotations

import errno

from e1000emu.errors import E1000Error
from fastpath.errors import did_you_mean

__all__ = ["ArgumentError", "CommandError", "did_you_mean", "explain_os_error"]

# What to do about the errors of files that a user meets; others have only their text.
REMEDIES = {
    errno.ENOSPC: "make room, or write somewhere else",
    errno.ENOENT: "give a path that exists",
    errno.ENOTDIR: "give a path that exists",
    errno.EISDIR: "give a file, not a directory",
    errno.EACCES: "choose a path you may use",
    errno.EPERM: "choose a path you may use",
    errno.EROFS: "choose a path you may write to",
}


class CommandError(E1000Error):
    """Ends a command with a status of its own; other errors end it with 1."""

    def __init__(self, text: str, exit_status: int) -> None:
        super().__init__(text)
        self.exit_status = exit_status


class ArgumentError(CommandError):
    """An argument is wrong."""

    def __init__(self, text: str) -> None:
        super().__init__(text, 2)


def explain_os_error(error: OSError) -> str:
    """Return an error of the operating system as one line: what, why, and the remedy if known."""
    text = error.strerror or str(error)
    if error.filename is not None:
        text = f"{error.filename}: {text}"
    remedy = REMEDIES.get(error.errno or 0)
    return f"{text}; {remedy}" if remedy else text
