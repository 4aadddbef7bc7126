"""Netlink: how programs such as `ip` and `ss` query and configure a host (net/netlink)."""
