"""Clients beside the packet path: DHCPv4, DHCPv6 and DNS as cores without I/O, and their runners.

A core is a class that is told what happened (a message, its timer) and the time in ns, and answers
with a list of actions: what to send, when to be called again, what to configure. It opens no
socket, reads no clock and asks no random generator but the one it is given, so it runs unchanged in
virtual time, in real time, over anybody's sockets and in a fuzzer.
"""
