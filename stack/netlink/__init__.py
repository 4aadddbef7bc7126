"""Netlink: how programs such as `ip` and `ss` ask a host and configure it (net/netlink)."""
