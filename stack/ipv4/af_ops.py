"""IPv4's table of family operations."""

from __future__ import annotations

from stack.core.uapi import AF_INET
from stack.inet.af_ops import inet_af_ops, inet_register_af_ops
from stack.inet.inet_sock import inet_sock
from stack.inet.inet_timewait_sock import inet_timewait_sock
from stack.ipv4.fib import ipv4_is_loopback


def ipv4_takes(sk: inet_sock | inet_timewait_sock, family: int) -> bool:
    """An IPv4 socket receives IPv4 only."""
    return False


ipv4_af_ops = inet_register_af_ops(
    inet_af_ops(family=AF_INET, header_len=20, takes=ipv4_takes, is_loopback=ipv4_is_loopback)
)
