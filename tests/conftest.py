"""Settings of every test: hypothesis profiles, and which tests share an xdist worker."""

from __future__ import annotations

import functools
import gc
import os
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import HealthCheck, settings

from stack import COMPILED
from tests import environment, sanitized
from tests.support import examples, in_ci

sanitized.preload_into_python_alone()

# A wall clock decides no test here, so hypothesis gets no deadline. CI repeats the same examples: a
# red run can be run again.
settings.register_profile(
    "local",
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.register_profile("ci", settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if in_ci() else "local")

ROOT = Path(__file__).parent


@pytest.fixture(scope="session")
def environments(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[frozenset[str]], Path]:
    """Return the programs of an environment with e1000emu and these packages alone."""
    return functools.cache(
        lambda wanted: environment.make(tmp_path_factory.mktemp("environment"), wanted)
    )


# Files that throw random or hostile input at a parser, a register or a state machine. `make
# test-asan` runs them under the sanitizers, with all of fastpath/ and with tests that are marked
# one by one.
FUZZ = frozenset(
    [
        "e1000emu/test_fuzz.py",
        "e1000emu/record/test_snapshot.py",
        "e1000emu/device/test_eeprom.py",
        "e1000emu/embed/test_hostile.py",
        "e1000emu/embed/test_vfio_user.py",
        "e1000emu/embed/test_vfio_user_protocol.py",
        "e1000emu/embed/test_vfio_user_threads.py",
        "stack/core/test_call_tables.py",
        "stack/core/test_dev_fuzz.py",
        "stack/core/test_socket_fuzz.py",
        "stack/core/test_family_fuzz.py",
        "stack/core/test_iov.py",
        "stack/drivers/e1000/test_stateful.py",
        "stack/ipv4/test_mutated.py",
        "stack/ipv4/test_ip_input.py",
        "stack/ipv4/test_ip_options.py",
        "stack/ipv4/test_ip_fragment.py",
        "stack/ipv4/test_icmp.py",
        "stack/ipv4/test_igmp.py",
        "stack/inet/test_tcp_input.py",
        "stack/inet/test_udp_batches.py",
        "stack/ipv6/test_hostile.py",
        "stack/ipv6/test_nd_hostile.py",
        "stack/packet/test_fanout.py",
        "stack/xtp/test_packet.py",
    ]
)


# Groups of tests that take minutes, however few they are: begun first.
LONG = ("netns", "guest ", "guest/test_bench.py", "guest/test_bond.py", "guest/", "docs ")
LONG += ("cpython/", "scripts/test_stackc.py", "qemu/", "e1000emu/parallel", "e1000emu/campaign/")
LONG += ("benchmarks/",)


def pytest_configure(config: pytest.Config) -> None:
    """Keep our order of groups: xdist would begin those of few tests last, however long."""
    config.option.loadscopereorder = False
    if in_ci() and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Failures(config))


class Failures:
    """Print what failed at once: a run of CI that is ended by its limit prints no summary."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.write_line(f"\n{report.when} of {report.nodeid}:\n{report.longreprtext}")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Meanwhile nothing is garbage; to look for it takes a fifth of that time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def _spread(items: list[pytest.Item], count: int) -> set[pytest.Item]:
    """Return `count` cases of each test, spread evenly; all where it has less.

    Of one case each, files take different ones: guests boot for each model, but once.
    """
    kept = {item for item in items if item.get_closest_marker("every_case")}
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for name, cases in tests.items():
        if count == 1:
            kept.add(cases[crc32(name.partition("::")[0].encode()) % len(cases)])
        else:
            kept.update(cases[place * (len(cases) - 1) // (count - 1)] for place in range(count))
    return kept


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, Any, Any]:
    """Keep a file on one worker, and all tests that touch the machine's network on two.

    Whatever else orders tests does so within a group. `E1000EMU_CASES=4` runs at most four cases
    of each test, for a run that repeats what another does with all of them.
    """
    if count := int(os.environ.get("E1000EMU_CASES") or 0):
        kept = _spread(items, count)
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = [item for item in items if item in kept]
    skip = pytest.mark.skip(reason="needs E1000EMU_UNCOMPILED=1; the other half of `make test`")
    for item in items:
        if COMPILED and item.get_closest_marker("uncompiled"):
            item.add_marker(skip)
        where = _where(item.path)
        if where.startswith("fastpath/"):
            item.add_marker("fastpath")
        if where in FUZZ:
            item.add_marker("fuzz")
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(_group(item, where)))
    result = yield
    tests = Counter(_name(item) for item in items)
    items.sort(key=lambda item: _turn(_name(item), tests))
    return result


@functools.cache
def _where(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""


def _group(item: pytest.Item, where: str) -> str:
    """Return the group of a test. Guests have names of their own for all that they make of a
    machine's network; tests that share one are kept together. Programs run in namespaces, whose
    names have the worker's number, so their tests can run beside the others of the network."""
    if where.startswith("guest/"):
        shared = isinstance(item, pytest.Function) and "on_tap" in item.fixturenames
        return f"guest {item.callspec.params['model']}" if shared else where
    if not item.get_closest_marker("netns"):
        return where
    return "netns programs" if where.startswith("programs/") else "netns"


def _name(item: pytest.Item) -> str:
    """Return the group that the test has been given."""
    marker = item.get_closest_marker("xdist_group")
    assert marker is not None  # from the mark above
    return str(marker.args[0])


def _turn(group: str, tests: Counter[str]) -> tuple[int, int, str]:
    """Return the place of a group: a long one at the end would have one worker."""
    long = (place for place, start in enumerate(LONG) if group.startswith(start))
    return next(long, len(LONG)), -tests[group], group


def pytest_collection_finish(session: pytest.Session) -> None:
    """Take what was collected out of the collector's sight. Ten thousand tests and what they import
    stay to the end, and a test that collects garbage would look through all of it.

    Refuse to run where xdist cannot name its groups, as 3.8 cannot with pytest 9.2: then tests
    that share the machine's network, or a guest, would meet.
    """
    grouped = getattr(session.config.option, "loadgroup", False)
    if grouped and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError("pytest-xdist groups no tests under this pytest; take pytest 9.1")
    gc.collect()
    gc.freeze()
