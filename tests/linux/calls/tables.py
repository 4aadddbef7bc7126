"""The tables by name. A row of the comparison is called TABLE/KIND/STATE/... and the call."""

from __future__ import annotations

from collections.abc import Callable

from tests.linux.calls.control import control
from tests.linux.calls.creation import creation
from tests.linux.calls.data import data
from tests.linux.calls.extensions import extensions
from tests.linux.calls.naming import naming
from tests.linux.calls.options import options, options_in_states
from tests.linux.calls.stamps import stamps
from tests.linux.calls.txtime import txtime
from tests.linux.calls.waiting import waiting
from tests.linux.calls.world import World

TABLES: dict[str, Callable[[World], None]] = {
    "creation": creation,
    "naming": naming,
    "data": data,
    "waiting": waiting,
    "control": control,
    "stamps": stamps,
    "txtime": txtime,
    "extensions": extensions,
    "options": options,
    "options_in_states": options_in_states,
}
