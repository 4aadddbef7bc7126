"""`import stack.socket` gives the module stack.api.socket itself, under a short name."""

import sys

from stack.api import socket
from stack.api.socket import *  # noqa: F403 - for type checkers, which do not follow the next line

sys.modules[__name__] = socket
