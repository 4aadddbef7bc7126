"""XTP, the Xpress Transport Protocol 4.0, over IPv4: TCP's and UDP's sibling with protocol 36.

`packet.py` is the wire; `context.py`, `output.py`, `input.py` and `timeout.py` are an association
without sockets and without IP (bytes, packets and times in and out); `stream.py` and `datagram.py`
are the protocol behind the socket calls, `xmit.py` and `demux.py` what lies between it and IP,
`af_xtp.py` its rows in the tables of IPv4.
"""
