"""The gain of an override of Cython: some modules translated and compiled with it and without."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from .build import options
from .overrides import SWITCH
from .state import MODULE as STATE_MODULE
from .translate import translate
from .tree import compiled_modules, generate

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ("stack.core.sock", "stack.drivers.e1000.hw", "stack.ipv4.ip_output")
"""One marked `hot`, one `cold`, one neither."""


def seconds() -> float:
    """Processor time of the processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(without: str, modules: tuple[str, ...]) -> dict[str, float]:
    """Build `modules` without an override ("nothing": with all of them), apart from the tree's."""
    text = ROOT / f"build/stackc-without-{without}"
    made = ROOT / f"build/measured-{without}"
    for old in (text, made):
        shutil.rmtree(old, ignore_errors=True)
    os.environ[SWITCH] = without
    written = generate(ROOT, text, list(compiled_modules()))
    common = {STATE_MODULE: written[STATE_MODULE]}
    taken = [seconds()]
    for sources in (common, common | {name: written[name] for name in modules}):
        words = (sources, [STATE_MODULE], 1)
        if not os.fork():  # each row is installed in a process of its own
            translate(*words, **options(text))
            os._exit(0)
        os.wait()
        taken.append(seconds())
    env = os.environ | {"E1000EMU_ONLY": ",".join(modules), "CCACHE_DISABLE": "1"}
    words = ["setup.py", "-q", "build_ext", f"--build-lib={made}", f"--build-temp={made}/temp"]
    subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL
    )
    taken.append(seconds())
    names = [module.replace(".", "/") for module in modules]
    texts = [text / f"{name}.c" for name in names]
    return {
        "s to translate": taken[2] - taken[1],
        "s to compile": taken[3] - taken[2],
        "C lines": sum(path.read_bytes().count(b"\n") for path in texts),
        "C bytes": sum(path.stat().st_size for path in texts),
        ".so bytes": sum(p.stat().st_size for n in names for p in made.glob(f"{n}.*.so")),
    }


def measure(names: tuple[str, ...], modules: tuple[str, ...] = SAMPLE) -> None:
    """Print the cost of building `modules`, and the extra cost without each row."""
    base = measured("nothing", modules)
    print("with all:", *(f"{value:,.5g} {what};" for what, value in base.items()), flush=True)
    for name in names:
        found = measured(name, modules)
        more = [f"{value / base[what] - 1:+.1%} {what};" for what, value in found.items()]
        print(f"without {name}:", *more, flush=True)
