"""Where cases run: on any `concurrent.futures.Executor`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

from e1000emu.errors import ArgumentError, E1000Error
from fastpath.errors import whole_number

__all__ = ["open_executor"]

FORMS = "processes, processes:N, dask://HOST:PORT, mpi, or an Executor"


def _pool(workers: int) -> ProcessPoolExecutor:
    # Workers are started anew, not forked: the caller may have threads.
    return ProcessPoolExecutor(workers, get_context("spawn"), signal.signal,
                               (signal.SIGINT, signal.SIG_IGN))  # fmt: skip


@contextmanager
def open_executor(given: Executor | str | None) -> Iterator[tuple[Executor, int]]:
    """Yield an executor and how many cases it runs at a time; close it if it was made here.

    Raises: ArgumentError, E1000Error: a package is missing, or nobody answers.
    """
    if isinstance(given, Executor):
        yield given, _workers(given)
        return
    name, _, rest = (given or "processes").partition(":")
    if name == "processes":
        count = len(os.sched_getaffinity(0))
        if rest:
            number = int(rest) if rest.isdecimal() else rest
            count = whole_number("run", "executor", number, 1, unit="processes")
        with _pool(count) as pool:
            try:
                yield pool, count
            except BaseException:
                for process in list((pool._processes or {}).values()):
                    process.kill()  # its fork servers kill the cases; nobody waits for them
                raise
    elif name == "dask" and rest:
        yield from _dask(rest.removeprefix("//"))
    elif name == "mpi" and not rest:
        yield from _mpi()
    else:
        raise ArgumentError(f"run: executor={given!r}; give {FORMS}")


def _dask(address: str) -> Iterator[tuple[Executor, int]]:
    try:
        from distributed import Client
    except ImportError:
        raise _missing("dask://", "cluster") from None
    where = address if "://" in address else f"tcp://{address}"
    try:
        client = Client(where, set_as_default=False)
    except OSError as error:
        raise E1000Error(
            f"run: executor dask://{address}: {error}; start one: dask scheduler, dask worker"
        ) from None
    with client:
        # `pure`: Dask would take equal tasks for one, and a case runs again to be compared.
        executor = client.get_executor(pure=False)
        yield executor, max(1, sum(client.nthreads().values()))


def _mpi() -> Iterator[tuple[Executor, int]]:
    try:
        from mpi4py.futures import MPIPoolExecutor
    except ImportError:
        raise _missing("mpi", "mpi") from None
    with MPIPoolExecutor() as pool:
        if not pool.bootup():
            raise E1000Error("run: executor mpi: no workers; start mpiexec -n 3 python -m "
                             "mpi4py.futures -m e1000emu campaign run FILE")  # fmt: skip
        yield pool, max(1, pool.num_workers)


def _missing(what: str, extra: str) -> E1000Error:
    return E1000Error(
        f"run: executor {what} needs a package that is not installed; "
        f"run: pip install 'e1000emu[{extra}]'"
    )


def _workers(executor: Executor) -> int:
    """Return how many tasks an executor runs at once, as far as it says."""
    for name in ("_max_workers", "num_workers"):
        number = getattr(executor, name, None)
        if isinstance(number, int) and number > 0:
            return number
    return len(os.sched_getaffinity(0))
