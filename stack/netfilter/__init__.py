"""Netfilter's connection tracking, NAT and packet filter (net/netfilter).

The hook points themselves are in stack/core/netfilter.py. Rules are made with `nat` and `firewall`;
nothing here costs a packet anything until somebody asks for it.
"""
