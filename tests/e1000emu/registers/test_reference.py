"""One name for everything that is looked up."""

from __future__ import annotations

import pytest

from e1000emu.registers.reference import look_up, titles


@pytest.mark.parametrize("name", titles())
def test_every_name_is_found_in_any_spelling(name: str) -> None:
    found = look_up(name)
    assert found
    assert look_up(name.lower()) == found


@pytest.mark.parametrize(
    ("key", "name", "offset"),
    [
        ("phy.17", "PSSR", 17),
        ("phy.0x11", "PSSR", 17),
        ("PHY.pssr", "PSSR", 17),
        ("eeprom.0x0a", "ICW1", 10),
        ("eeprom.1", "IA[1]", 1),
        ("eeprom.icw1", "ICW1", 10),
        ("0x100", "RCTL", 0x100),
        ("RAL[3]", "RAL[3]", 0x5418),
        ("txdesc.data", "txdesc.data", 0),
    ],
)
def test_numbers_and_names(key: str, name: str, offset: int) -> None:
    row = look_up(key)
    assert isinstance(row, dict)
    assert (row["name"], row["offset"]) == (name, offset)


def test_whole_spaces() -> None:
    for key, first, last in (("phy", "BMCR", "PAGE_DATA"), ("eeprom", "IA", "CHECKSUM")):
        rows = look_up(key)
        assert (rows[0]["name"], rows[-1]["name"]) == (first, last)  # type: ignore[index]
    kinds = [row["name"] for row in look_up("txdesc")]  # type: ignore[index]
    assert kinds == ["txdesc.legacy", "txdesc.context", "txdesc.data"]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("phy.31", "no PHY register '31'"),
        ("phy.", "no PHY register ''"),
        ("eeprom.64", "no mapped EEPROM word '64'"),
        ("eeprom.-1", "no mapped EEPROM word"),
        ("rxdesc.data", "there are rxdesc, txdesc.legacy"),
        ("txd", "no register is called 'txd'"),
    ],
)
def test_unknown_names_say_what_there_is(key: str, text: str) -> None:
    with pytest.raises(KeyError, match=text):
        look_up(key)
