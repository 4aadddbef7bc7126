"""enum sock_flags (include/net/sock.h): bit masks in sk.sk_flags."""

from __future__ import annotations

SOCK_DEAD = 1 << 0
SOCK_DONE = 1 << 1
SOCK_URGINLINE = 1 << 2
SOCK_KEEPOPEN = 1 << 3
SOCK_LINGER = 1 << 4
SOCK_PASSSEC = 1 << 5
"""sk_scm_security: pass the sender's label to readers; without a module there are none."""
SOCK_BROADCAST = 1 << 6
SOCK_TIMESTAMP = 1 << 7
SOCK_ZAPPED = 1 << 8
SOCK_USE_WRITE_QUEUE = 1 << 9
SOCK_DBG = 1 << 10
SOCK_RCVTSTAMP = 1 << 11
SOCK_RCVTSTAMPNS = 1 << 12
SOCK_LOCALROUTE = 1 << 13
SOCK_TIMESTAMPING_RX_SOFTWARE = 1 << 14
SOCK_RXQ_OVFL = 1 << 15
SOCK_SELECT_ERR_QUEUE = 1 << 16
SOCK_TIMESTAMPING_ANY = 1 << 17
"""SO_TIMESTAMPING reports stamps: SOF_TIMESTAMPING_SOFTWARE or _RAW_HARDWARE."""
SOCK_TXTIME = 1 << 18
"""SCM_TXTIME is an allowed message (SO_TXTIME)."""
SOCK_RCVBUF_LOCK = 1 << 19
SOCK_SNDBUF_LOCK = 1 << 20
SOCK_BINDADDR_LOCK = 1 << 21
SOCK_BINDPORT_LOCK = 1 << 22
SOCK_NOSPACE = 1 << 23
SOCK_ZEROCOPY = 1 << 24
SOCK_FILTER_LOCKED = 1 << 25
SOCK_PASSCRED = 1 << 26
"""sk_scm_credentials: pass the sender's credentials to readers."""
SOCK_FASYNC = 1 << 27
"""A signal is requested (O_ASYNC)."""
SOCKWQ_ASYNC_NOSPACE = 1 << 28
SOCKWQ_ASYNC_WAITDATA = 1 << 29
"""A signal about room is due; a reader sleeps and needs none about data. In the kernel these two
are flags of struct socket_wq."""

SOCK_TSTAMP_NEW = 1 << 30
SOCK_PASSRIGHTS = 1 << 31
"""sk_scm_rights: others may send it descriptors."""

SK_FLAGS_TIMESTAMP = SOCK_TIMESTAMP | SOCK_TIMESTAMPING_RX_SOFTWARE
"""Each has the socket's packets stamped as they come."""

FLAGS_STAMPS = SOCK_RCVTSTAMP | SOCK_TIMESTAMPING_ANY
"""Each has recvmsg tell times."""
FLAGS_RECV_CMSGS = FLAGS_STAMPS | SOCK_TIMESTAMP | SOCK_RXQ_OVFL
"""Each gives sock_recv_cmsgs something to do."""
