"""`import stack.aio` gives the module stack.api.aio itself, under a short name."""

import sys

from stack.api import aio
from stack.api.aio import *  # noqa: F403 - for type checkers, which do not follow the next line

sys.modules[__name__] = aio
