"""net/ipv4/tcp_input.c: challenge ACKs, and rate limits of answers to out-of-window segments."""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC
from stack.inet.inet_connection_sock import request_sock
from stack.inet.inet_timewait_sock import inet_timewait_sock
from stack.inet.tcp_ctl import tcp_send_ack, tcp_send_ack_reflect_ect
from stack.inet.tcp_sock import TCPHDR_SYN, tcp_sock
from stack.net import Net


def __tcp_oow_rate_limited(sk: tcp_sock | inet_timewait_sock | request_sock, mib: str) -> bool:
    """Limit answers to out-of-window segments to one per tcp_invalid_ratelimit: no ACK loops."""
    last = sk.last_oow_ack_time
    now = sk.net.now()
    if last and 0 <= now - last < sk.net.sysctl.tcp_invalid_ratelimit * NSEC_PER_MSEC:
        linux = sk.net.mib.linux
        setattr(linux, mib, getattr(linux, mib) + 1)
        return True
    sk.last_oow_ack_time = now or 1
    return False


def tcp_oow_rate_limited(
    sk: tcp_sock | inet_timewait_sock | request_sock, skb: sk_buff, mib: str
) -> bool:
    """True when no ACK should answer skb now; segments with data (no SYN) are always answered."""
    if skb.end_seq != skb.seq and not skb.tcp_flags & TCPHDR_SYN:
        return False
    return __tcp_oow_rate_limited(sk, mib)


def tcp_challenge_ack_allowed(net: Net) -> bool:
    """Limit the host's challenge ACKs to about tcp_challenge_ack_limit a second (RFC 5961 7).

    The exact number is random: an attacker who knew it could infer other connections.
    """
    limit = net.sysctl.tcp_challenge_ack_limit
    if limit < 0x7FFFFFFF:
        now = net.now() // NSEC_PER_SEC
        stamp, count = net.tcp_challenge
        if now != stamp:
            count = (limit + 1) // 2 + net.random.randrange(max(limit, 1))
        net.tcp_challenge = (now, max(count - 1, 0))
        if count <= 0:
            return False
    net.mib.linux.TCPChallengeACK += 1
    return True


def tcp_send_challenge_ack(sk: tcp_sock, reflect: bool = False) -> None:
    """Send a challenge ACK, within the limits of the host and the socket (RFC 5961 7).

    `reflect`: it answers a SYN (tcp_send_ack_reflect_ect).
    """
    limited = __tcp_oow_rate_limited(sk, "TCPACKSkippedChallenge")
    if not limited and tcp_challenge_ack_allowed(sk.net):
        if reflect:
            tcp_send_ack_reflect_ect(sk)
        else:
            tcp_send_ack(sk)
