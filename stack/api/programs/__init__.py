"""Unmodified programs on a host: its stack handles their network system calls.

    with spawn(host, ["curl", "http://10.0.0.2/"], stdout=PIPE) as program:
        print(program.communicate()[0])

A program runs normally, except for the calls that a seccomp filter stops (`filter.py`). The host's
`Supervisor` handles those on network sockets as Linux would, and passes the rest to the
kernel. So libc's own calls, threads, child processes, static binaries and Go programs work
alike, and nothing is injected into the program.
"""

from stack.api.programs.program import Program, spawn, start

__all__ = ["Program", "spawn", "start"]
