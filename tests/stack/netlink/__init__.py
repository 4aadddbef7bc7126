"""AF_NETLINK beside the kernel's, its tables, and hostile messages."""
