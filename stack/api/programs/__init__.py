"""Unmodified programs on a host: their calls about the network are answered by its stack.

    with spawn(host, ["curl", "http://10.0.0.2/"], stdout=PIPE) as program:
        print(program.communicate()[0])

A program runs as ever, but for the calls that a filter of seccomp stops (`filter.py`). The host's
`Supervisor` answers those about sockets of the network as Linux would, and lets the kernel do the
rest. So libc's own calls, threads, child processes, static binaries and programs in Go are served
alike, and the program has nothing in it that was not its own.
"""

from stack.api.programs.program import Program, spawn, start

__all__ = ["Program", "spawn", "start"]
