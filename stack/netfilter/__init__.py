"""Netfilter's connection tracking, NAT and packet filter (net/netfilter).

The hook points themselves are in stack/core/netfilter.py. `nat` and `firewall` add rules;
without rules, packets do not pass through this code.
"""
