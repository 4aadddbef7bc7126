"""Clients outside the packet path: DHCPv4, DHCPv6 and DNS as cores without I/O, and their runners.

A core is a class whose methods take an event (a message, its timer) and the time in ns, and return
a list of actions. Actions are packets to send, timers and configuration. It opens no
socket, reads no clock and uses only the random generator that it is given. So it runs unchanged in
virtual time, in real time, over any sockets and in a fuzzer.
"""
