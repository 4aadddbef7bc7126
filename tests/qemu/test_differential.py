"""The same programs on QEMU's e1000, of each model, and on ours: each disagreement has a ruling.

The rulings are in rulings.toml, by Intel's manual; the programs are those of programs.py, and what
hypothesis makes of the same kinds.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e1000emu.testing import GuestRings, Popts, Rctl, TxCmd
from tests.qemu.cards import DEVICES, Ours, Qemus
from tests.qemu.programs import (
    MAC,
    OTHER,
    PROGRAMS,
    Program,
    Seen,
    frame,
    receive_program,
    tcp,
    transmit_program,
    udp,
)
from tests.support import examples, require

RULINGS: list[dict[str, Any]] = tomllib.loads((Path(__file__).parent / "rulings.toml").read_text())[
    "ruling"
]


@dataclass(frozen=True)
class Cards:
    """A model as both have it."""

    model: str
    ours: Ours
    qemus: Qemus


@pytest.fixture(scope="module")
def models() -> Iterator[list[Cards]]:
    """The cards of every model, for all programs of this file."""
    require.tool("qemu-system-x86_64", "qemu-system-x86")
    with ExitStack() as stack:
        made = []
        for model in DEVICES:
            made.append(Cards(model, Ours(model), Qemus(model)))
            stack.callback(made[-1].ours.close)
            stack.callback(made[-1].qemus.close)
        yield made


def _zero_sums(ours: object, theirs: object) -> bool:
    """Tell whether frames differ only in words that are 0000 in ours and ffff in theirs."""
    if not isinstance(ours, tuple) or not isinstance(theirs, tuple) or len(ours) != len(theirs):
        return False
    for a, b in zip(ours, theirs, strict=True):
        places = [i for i in range(min(len(a), len(b))) if a[i] != b[i]]
        if len(a) != len(b) or any(a[i] or b[i] != 0xFF for i in places):
            return False
    return True


def _ruled(
    ruling: dict[str, Any], model: str, program: str, place: str, ours: object, theirs: object
) -> bool:
    names = {"model": model, "program": program, "place": place}
    if not all(re.fullmatch(ruling.get(key, ".*"), name) for key, name in names.items()):
        return False
    if ruling.get("bytes") == "zero":
        return _zero_sums(ours, theirs)
    if "bits" in ruling:
        if not isinstance(ours, int) or not isinstance(theirs, int):
            return False
        return not (ours ^ theirs) & ~ruling["bits"]
    return True


def _compare(model: str, name: str, ours: Seen, theirs: Seen, used: set[int]) -> list[str]:
    """Return the disagreements without a ruling; note in `used` which rulings there were."""
    open_ = []
    for place in ours | theirs:
        mine, other = ours.get(place), theirs.get(place)
        if mine == other:
            continue
        found = [i for i, r in enumerate(RULINGS) if _ruled(r, model, name, place, mine, other)]
        used.update(found)
        if not found:
            open_.append(f"{model}: {name}, {place}: ours {mine!r}, QEMU's {other!r}")
    return open_


@pytest.mark.parametrize("kind", sorted({name.split()[0] for name in PROGRAMS}))
def test_each_disagreement_has_a_ruling(models: list[Cards], kind: str) -> None:
    used: set[int] = set()
    wrong = []
    for cards in models:
        for name, program in PROGRAMS.items():
            if name.split()[0] == kind:
                wrong += both(cards, name, program, used)
    assert not wrong, "\n".join(wrong[:20])
    idle = [
        ruling["program"]
        for number, ruling in enumerate(RULINGS)
        if ruling["program"].startswith(kind) and number not in used
    ]
    assert not idle, f"rulings that nothing needs: {idle}"


def test_there_are_programs_enough_and_every_ruling_is_one() -> None:
    assert len(PROGRAMS) >= 200
    for ruling in RULINGS:
        assert ruling["right"] in ("ours", "qemu", "either")
        assert re.fullmatch(r"[\d., ]+", ruling["sdm"])
        assert not {"program", "place"} - set(ruling)
        assert "model" not in ruling or any(re.fullmatch(ruling["model"], m) for m in DEVICES)
        assert ruling["why"].endswith(".")


GENERATED = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=examples(40),
)
SIZES = st.integers(14, 1514)
ADDRESSES = st.sampled_from([MAC, OTHER, b"\xff" * 6, bytes.fromhex("01005e000001")])


def _frames() -> st.SearchStrategy[bytes]:
    plain = st.builds(frame, st.integers(60, 1514), ADDRESSES, st.just(b"\x88\xb6"), st.integers())
    packet = (st.integers(18, 1400), ADDRESSES, st.sampled_from(["", "ip", "l4"]))
    return st.one_of(plain, st.builds(udp, *packet), st.builds(tcp, *packet))


@GENERATED
@given(
    frames=st.lists(_frames(), min_size=1, max_size=6),
    extra=st.sets(st.sampled_from([Rctl.UPE, Rctl.MPE, Rctl.LPE, Rctl.BSIZE_1024, Rctl.BSIZE_256])),
    broadcast=st.booleans(),
)
def test_generated_frames_are_received_alike(
    models: list[Cards], frames: list[bytes], extra: set[Rctl], broadcast: bool
) -> None:
    rctl = int(Rctl.EN | Rctl.SECRC | (Rctl.BAM if broadcast else 0))
    for bit in sorted(extra):
        rctl = rctl & ~int(Rctl.BSIZE_256) | bit if bit & Rctl.BSIZE_256 else rctl | bit
    program = receive_program(tuple(frames), rctl=rctl)
    for cards in models:
        assert not both(cards, "receive generated", program, set())


@GENERATED
@given(
    posts=st.lists(
        st.tuples(
            st.sampled_from(["legacy", "pieces", "udp", "tcp"]),
            SIZES,
            st.sampled_from([0, Popts.IXSM, Popts.TXSM, Popts.IXSM | Popts.TXSM]),
            st.booleans(),
            st.sampled_from([0, TxCmd.RS, TxCmd.IDE | TxCmd.RS, TxCmd.RPS | TxCmd.RS]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_generated_descriptors_are_sent_alike(
    models: list[Cards], posts: list[tuple[str, int, int, bool, int]]
) -> None:
    def send(r: GuestRings) -> None:
        for how, size, popts, fcs, report in posts:
            flags = TxCmd.EOP | (TxCmd.IFCS if fcs else 0) | report
            if how == "legacy":
                # Nothing pads a frame that brings its FCS, and a runt is not counted as good.
                r.post_legacy(frame(size if fcs else max(size, 64)), cmd=flags)
            elif how == "pieces":
                whole = frame(size)
                r.post_pieces([whole[: size // 3 + 1], whole[size // 3 + 1 :]])
            else:
                packet = (udp if how == "udp" else tcp)(size % 1400 + 30, bad="l4")
                r.post_context(
                    ipcss=14, ipcso=24, ipcse=33, tucss=34, tucso=40 if how == "udp" else 50
                )
                r.post_data(packet, dcmd=flags | TxCmd.DEXT, popts=popts)
        r.kick()

    for cards in models:
        assert not both(cards, "transmit generated frames", transmit_program(send), set())


def both(cards: Cards, name: str, program: Program, used: set[int]) -> list[str]:
    return _compare(cards.model, name, program(cards.ours), program(cards.qemus), used)


def test_a_difference_would_be_seen() -> None:
    used: set[int] = set()
    same: Seen = {"RDTR := 0x1": 1, "level": True}
    assert not _compare("82540EM", "register RDTR", same, dict(same), used)
    assert len(_compare("82540EM", "register RDTR", same, {"RDTR := 0x1": 3}, used)) == 2
    assert not used
