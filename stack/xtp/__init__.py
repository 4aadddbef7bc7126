"""XTP, the Xpress Transport Protocol 4.0, over IPv4 as protocol 36, beside TCP and UDP.

`packet.py` builds and parses packets. `context.py`, `output.py`, `input.py` and `timeout.py` are an
association without sockets and IP: bytes, packets and times in and out. `stream.py` and
`datagram.py` implement the socket calls, `xmit.py` and `demux.py` connect them to IP, and
`af_xtp.py` registers them in the tables of IPv4.
"""
