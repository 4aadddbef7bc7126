"""Print the requirements of pyproject.toml, one to a line: ``requirements.py run test lint``.

``build`` names the build's requirements, ``run`` the dependencies, others an extra. The Makefile
installs each group when a target needs it, so that `make demo` does not wait for the linters.
"""

import sys
import tomllib
from pathlib import Path

data = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
groups = {
    "build": data["build-system"]["requires"],
    "run": data["project"]["dependencies"],
    **data["project"]["optional-dependencies"],
}
for group in sys.argv[1:]:
    print(*groups[group], sep="\n")
