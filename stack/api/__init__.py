"""The interface for applications: sockets, names, descriptors, coroutines, commands of `ip`,
`bridge` and `ethtool`. `stack.socket` and `stack.aio` are shorter names for two of its modules."""
