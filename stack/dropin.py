"""`import stack.dropin` gives stack.api.dropin itself; `python -m stack.dropin` runs a program."""

import sys

from stack.api import dropin as _module
from stack.api.dropin import *  # noqa: F403 - for type checkers, which do not follow the next line

if __name__ == "__main__":
    _module.main()
else:
    sys.modules[__name__] = _module
