"""What applications call: sockets, names, descriptors, coroutines, and the commands of `ip`,
`bridge` and `ethtool`. `stack.socket` and `stack.aio` are modules of it under shorter names."""
