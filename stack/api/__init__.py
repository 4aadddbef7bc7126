"""The interface for applications: sockets, names, descriptors, coroutines, and the commands of `ip`,
`bridge` and `ethtool`. `stack.socket` and `stack.aio` are shorter names for two of its modules."""
