"""What is compiled again: C that differs in more than where declarations elsewhere are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from stackc.fingerprint import fingerprint, without_places  # noqa: E402

C = """static const char* const __pyx_f[] = {
  "stack/inet/udp.py",
  "build/stackc/stack/_state.pxd",
};
/* "stack/_state.pxd":54
 *     cdef long long before
 *
 * cdef class dst_entry:             # <<<<<<<<<<<<<<
*/
struct dst_entry {
  long long flags;
};
/* "stack/inet/udp.py":9
 *     return 1             # <<<<<<<<<<<<<<
*/
if (unlikely(!type)) __PYX_ERR(1, 54, __pyx_L1_error)
if (unlikely(!call)) __PYX_ERR(0, 9, __pyx_L1_error)
"""


def test_places_in_declarations_do_not_count() -> None:
    text = without_places(C.encode()).decode()
    assert "before" not in text
    assert "__PYX_ERR(1, 0," in text
    assert "return 1" in text
    assert "__PYX_ERR(0, 9," in text
    assert "long long flags" in text


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ('_state.pxd":54', '_state.pxd":55', True),
        ("long long before", "long long other", True),
        ("__PYX_ERR(1, 54,", "__PYX_ERR(1, 55,", True),
        ("__PYX_ERR(0, 9,", "__PYX_ERR(0, 10,", False),
        ("long long flags;", "long long flags; long long more;", False),
        ("return 1 ", "return 2 ", False),
    ],
)
def test_a_module_is_compiled_again_when_more_changed(
    tmp_path: Path, old: str, new: str, same: bool
) -> None:
    path = tmp_path / "module.c"
    path.write_text(C)
    was = fingerprint([path], ["-O2"])
    assert fingerprint([path], ["-O1"]) != was
    assert old in C
    path.write_text(C.replace(old, new))
    assert (fingerprint([path], ["-O2"]) == was) == same
