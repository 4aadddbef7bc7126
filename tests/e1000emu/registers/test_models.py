"""Models as rows, and the EEPROM image that a board leaves the factory with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from e1000emu.errors import E1000Error
from e1000emu.registers.models import MODELS, eeprom_image, model

MAC = bytes.fromhex("525400123456")


@pytest.mark.parametrize("words", [64, 256])
def test_image_sums_to_baba_and_holds_the_mac(words: int) -> None:
    image = eeprom_image(replace(MODELS["82540EM"], eeprom_words=words), MAC)
    assert len(image) == words
    assert sum(image[:64]) & 0xFFFF == 0xBABA
    assert b"".join(w.to_bytes(2, "little") for w in image[:3]) == MAC
    assert image[0x0D] == 0x100E
    assert image[0x0E] == 0x8086


def test_unknown_model_names_those_there_are() -> None:
    with pytest.raises(E1000Error, match="82540EM"):
        model("82599")
    assert model(MODELS["82540EM"]) is MODELS["82540EM"]


@pytest.mark.parametrize(("mac", "word"), [(b"\x01" + bytes(5), "group"), (b"\0" * 5, "six")])
def test_bad_mac_is_refused_with_the_remedy(mac: bytes, word: str) -> None:
    with pytest.raises(E1000Error, match=word):
        eeprom_image(MODELS["82540EM"], mac)
