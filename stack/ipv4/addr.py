"""Kinds of IPv4 addresses (include/linux/in.h). An address is a host-order int."""

from __future__ import annotations


def ipv4_is_multicast(addr: int) -> bool:
    """224.0.0.0/4"""
    return addr >> 28 == 0xE


def ipv4_is_loopback(addr: int) -> bool:
    """127.0.0.0/8"""
    return addr >> 24 == 127


def ipv4_is_zeronet(addr: int) -> bool:
    """0.0.0.0; the rest of 0.0.0.0/8 is like other addresses since Linux 5.3."""
    return not addr


def ipv4_is_lbcast(addr: int) -> bool:
    """255.255.255.255"""
    return addr == 0xFFFFFFFF


def ipv4_is_local_multicast(addr: int) -> bool:
    """224.0.0.0/24"""
    return addr >> 8 == 0xE00000
