"""Where cases run: on any `concurrent.futures.Executor`."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from e1000emu.campaign.worker import name as worker_name
from e1000emu.errors import ArgumentError, E1000Error
from fastpath.errors import whole_number

WORKERS_S = 60
"""How long to wait for a worker of Dask, s."""
FORMS = "processes, processes:N, dask://HOST:PORT, mpi, or an Executor"


def _pool(workers: int) -> ProcessPoolExecutor:
    # Workers are started as new processes, not forked: the caller may have threads.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)
    # A Ctrl-C is the caller's; workers are started with it blocked, and ignore it then.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    # Nor do they run the caller's script once more, as `spawn` does: they need nothing of it.
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        for _ in range(workers):
            pool.submit(os.getpid)
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pool


def _begin() -> None:
    """Begin a worker of the pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the caller is killed: a pool's workers wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def open_executor(given: Executor | str | None) -> Iterator[tuple[Executor, int]]:
    """Yield an executor and how many cases it runs at once; close it if it was made here.

    Raises: ArgumentError, E1000Error: a package is missing, or there is no answer.
    """
    if isinstance(given, Executor):
        yield given, _workers(given)
        return
    if given is not None and not isinstance(given, str):
        raise ArgumentError(f"run: executor={given!r}; give {FORMS}")
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
                    process.kill()  # its fork servers kill the cases; there is no wait for them
                raise
    elif name == "dask" and rest.strip("/"):
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
        try:
            client.wait_for_workers(1, timeout=WORKERS_S)
        except TimeoutError:
            raise E1000Error(
                f"run: executor dask://{address}: no worker connected within {WORKERS_S} s; "
                f"start one: dask worker {where}"
            ) from None
        yield _DaskExecutor(client), max(1, sum(client.nthreads().values()))


class _DaskExecutor(Executor):
    """Dask's executor; a task that avoids a worker is given to the others only.

    Otherwise Dask may prefer that worker each time, because it is idle.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._executors: dict[str, Any] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule `fn`, which is `worker.work` with its task."""
        avoid = args[0].avoid
        if avoid not in self._executors:
            # Dask would merge equal tasks (`pure`), but a case runs again for comparison.
            options: dict[str, Any] = {"pure": False}
            named = self._client.run(worker_name) if avoid else {}
            others = [address for address, name in named.items() if name != avoid]
            if others:
                options["workers"] = others
            self._executors[avoid] = self._client.get_executor(**options)
        future: Future[Any] = self._executors[avoid].submit(fn, *args, **kwargs)
        return future


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
    """Return how many tasks an executor runs at once, if it is known."""
    for name in ("_max_workers", "num_workers"):
        number = getattr(executor, name, None)
        if isinstance(number, int) and number > 0:
            return number
    return len(os.sched_getaffinity(0))
