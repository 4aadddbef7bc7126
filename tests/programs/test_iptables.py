"""Debian's iptables, ip6tables, iptables-save and -restore on our hosts and in a namespace of the
kernel: they print the same, and packets meet the same.

Each script runs twice, as in test_iproute.py. `t WORDS` calls iptables and prints its status. What
packets meet is sent over `lo`: both ends are in the namespace.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.linux.peer import Peer
from tests.programs.test_iproute import Row, both

pytestmark = pytest.mark.netns

TOOLS = ("iptables", "ip6tables", "iptables-save", "iptables-restore", "nft")
T = """
t() { iptables "$@" 2>&1; echo "$* : $?"; }
t6() { ip6tables "$@" 2>&1; echo "6 $* : $?"; }
"""
SENDS = """
cat > $DIR/send.py <<'END'
import errno, socket, sys

def udp(to, family=socket.AF_INET, size=20):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.connect(to)
        s.send(b"x" * size)

def echoed(at, to, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind(at)
        server.settimeout(3)
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.settimeout(3)
            client.connect(to)
            client.send(b"hello")
            try:
                data, peer = server.recvfrom(100)
            except TimeoutError:
                print("nothing came")
                return
            server.sendto(data.upper(), peer)
            print("server heard", data, "from", peer[0], "client", client.recv(100))

def refused(kind, to, family=socket.AF_INET):
    with socket.socket(family, kind) as s:
        s.settimeout(0.5)  # an answer comes at once, a second SYN after 1 s
        try:
            s.connect(to)
            s.send(b"x")
            s.recv(10)
            print("answered")
        except OSError as exc:
            print(errno.errorcode.get(exc.errno, exc))

def tcp(at, to, family=socket.AF_INET):
    with socket.create_server(at, family=family) as server:
        with socket.create_connection(to, timeout=5) as client:
            conn, peer = server.accept()
            with conn:
                client.sendall(b"hello")
                print("server heard", conn.recv(100), "from", peer[0])
                conn.sendall(b"HELLO")
                print("client", client.recv(100), "of", client.getpeername())

exec(sys.stdin.read())
END
sends() { python3 $DIR/send.py; }
"""
CHAINS = (
    T
    + """
t -S; t -L; t -N one; t -N one; t -N two; t -A one -s 10.0.0.0/8 -j ACCEPT; t -A INPUT -j one
t -A INPUT -i lo -j ACCEPT; t -I INPUT -p tcp --dport 22 -j DROP; t -I INPUT 2 -j two; t -S
t -A one -j two; t -A two -d 10.1.2.3 -j RETURN; t -A one -g two; t -L -n; t -L -v -n
t -L -n --line-numbers; t -S one; t -L one -n; t -S three; t -L three; t -R INPUT 1 -p udp -j DROP
t -R INPUT 9 -j DROP; t -D INPUT 2; t -D INPUT 9; t -D INPUT -i lo -j ACCEPT; t -D INPUT -i lo
t -C INPUT -j one; t -C INPUT -j two; t -P INPUT DROP; t -P FORWARD DROP; t -P one DROP
t -P INPUT QUEUE; t -X one; t -X two; t -E one three; t -S; t -E three two; t -F three; t -X three
t -X INPUT; t -F INPUT; t -X two; t -S two; t -F two; t -X two; t -X; t -Z; t -F; t -S
t -A INPUT -j nothere; t -A nothere -j ACCEPT; t -A INPUT -m nothere; t -t nothere -S
t -A INPUT --dport 5; t -A INPUT -s 10.0.0.300; t -A INPUT -p nothere; t -D INPUT 0; t -N INPUT
t -N 'a b'; t -N nnnnnnnnnnnnnnnnnnnnnnnnnnnnn
t -A INPUT ! -s 10.0.0.0/8 ! -i eth+ ! -p tcp -j DROP; t -S
t -A OUTPUT -o v+ -s 10.0.0.0/255.0.255.0 -d 1.2.3.4,5.6.7.0/24 -j ACCEPT
t -A FORWARD -f -j DROP; t -A FORWARD ! -f -j DROP; t -A FORWARD -p 99 -j LOG; t -S; t -L -v -n
t -A FORWARD; t -A FORWARD -i a -o b; t -A INPUT -o b; t -A OUTPUT -i b; t -L FORWARD -v -n
iptables-save; t -t mangle -S; t -t nat -S; t -t raw -S; t -t security -S; iptables-save -t nat
nft list tables; t -F; t -X; t -t nat -A PREROUTING -j ACCEPT; t -t nat -P PREROUTING DROP
t -t mangle -A POSTROUTING -j ACCEPT; t -t raw -A PREROUTING -j ACCEPT; iptables-save
nft list ruleset
"""
)
MATCHES = (
    *("-p tcp --dport 80:90 ! --sport 5", "-p tcp --syn", "-p tcp --tcp-flags ALL SYN,ACK"),
    *("-p tcp --tcp-option 5", "-p tcp ! --tcp-option 5 --dport 7", "-p udp --sport :53"),
    *("-p icmp --icmp-type 8", "-p icmp ! --icmp-type 3/1", "-p icmp --icmp-type any"),
    "-p tcp -m multiport --dports 1,2,5:9",
    *("-p udp -m multiport ! --ports 1,2", "-p udp -m multiport --sports 1:2", "-m multiport"),
    *("-m conntrack --ctstate NEW", "-m state --state NEW,ESTABLISHED", "-m comment --comment hi"),
    *("-m conntrack ! --ctstate INVALID,UNTRACKED,SNAT", "-m conntrack --ctproto 6"),
    *("-m conntrack --ctorigsrc 10.0.0.0/8 --ctrepldst 1.1.1.1", "-m conntrack --ctdir REPLY"),
    "-p tcp -m conntrack --ctproto tcp --ctorigdstport 80:90 --ctstatus ASSURED --ctexpire 5:50",
    *("-m comment --comment 'two words'", "-m mark --mark 1/0xff", "-m mark ! --mark 0x7"),
    *("-m limit --limit 5/s", "-m limit --limit 3/hour --limit-burst 7", "-m cpu --cpu 0"),
    *("-m addrtype --dst-type LOCAL", "-m addrtype ! --src-type UNICAST,BROADCAST"),
    *("-m addrtype --dst-type LOCAL --limit-iface-in", "-m ttl --ttl-lt 5", "-m ttl ! --ttl-eq 5"),
    *("-m iprange --src-range 1.1.1.1-1.1.1.9", "-m iprange ! --dst-range 1.1.1.1-1.1.1.9"),
    *("-m length --length 10:20", "-m length ! --length 84", "-m pkttype --pkt-type broadcast"),
    *("-m statistic --mode random --probability 0.5", "-m connmark --mark 1", "-m tos --tos 0x10"),
    *("-m statistic --mode nth --every 3 --packet 1", "-m dscp --dscp 5", "-m dscp --dscp 77"),
    *("-m dscp --dscp-class EF", "-m tos ! --tos 0x10/0x3f", "-m mac --mac-source 0:0:0:0:0:1"),
    *("-m connlimit --connlimit-above 5", "-m connlimit --connlimit-upto 5 --connlimit-mask 24"),
    "-m connbytes --connbytes 5: --connbytes-dir both --connbytes-mode packets",
    *("-m quota --quota 100", "-m quota ! --quota 100", "-p tcp -m tcpmss --mss 100:200"),
    *("-m tcpmss --mss 100", "-m string --string x --algo bm", "-p tcp -m udp --dport 5"),
    *("-m recent --set --name x", "-m recent --rcheck --seconds 60 --hitcount 4 --name x --rdest"),
    *(
        "-m recent --update --hitcount 5 --mask 255.0.0.0",
        "-m recent --remove",
        "-m recent --name a/b",
    ),
    "-m hashlimit --hashlimit-name h --hashlimit-upto 5/s --hashlimit-mode srcip,dstport",
    "-m hashlimit --hashlimit-name g --hashlimit-above 512kb/s --hashlimit-srcmask 24",
    "-m hashlimit --hashlimit-name f --hashlimit-above 7/hour --hashlimit-htable-max 9",
    *("-m owner --uid-owner 0", "-m rpfilter --loose"),
    "-m time --timestart 10:00 --timestop 9:00 --weekdays Mon,Tue --monthdays 1,5",
    "-m time --datestart 2020-01-01 --datestop 2021-02-03T04:05:06",
    "-m time --timestart 5:00 --timestop 1:0 --contiguous",
    *("-m string --string x --algo kmp --from 5 --to 90 --icase", "-p tcp -m icmp --icmp-type 8"),
)
LIST = """
t -S; t -L -v -n; t -t mangle -S; t -t mangle -L -v -n; t -t nat -S; t -t raw -S; iptables-save
nft list ruleset
"""
TARGETS = (
    *("-A OUTPUT -j LOG --log-prefix 'x '", "-A INPUT -j LOG --log-level debug --log-tcp-options"),
    *("-A OUTPUT -j LOG --log-uid --log-ip-options", "-A OUTPUT -j NFLOG --nflog-group 3"),
    *("-A INPUT -j NFLOG --nflog-prefix p --nflog-size 5", "-A OUTPUT -j MARK --set-mark 1"),
    *("-t mangle -A OUTPUT -j MARK --set-xmark 1/0xff", "-t mangle -A OUTPUT -j MARK --or-mark 8"),
    *("-A INPUT -j REJECT", "-A OUTPUT -j REJECT --reject-with icmp-host-prohibited"),
    *("-p tcp -A INPUT -j REJECT --reject-with tcp-reset", "-A INPUT -j REJECT --reject-with no"),
    *("-A INPUT -j REJECT --reject-with tcp-reset", "-t mangle -A INPUT -j REJECT"),
    *(
        "-t mangle -A OUTPUT -j CONNMARK --save-mark",
        "-t mangle -A OUTPUT -j CONNMARK --set-mark 7",
    ),
    "-t mangle -A OUTPUT -j CONNMARK --restore-mark --mask 0xff",
    *("-t nat -A POSTROUTING -j MASQUERADE", "-t nat -A OUTPUT -j MASQUERADE"),
    *("-A INPUT -j MASQUERADE", "-t nat -A POSTROUTING -p tcp -j MASQUERADE --to-ports 1-9"),
    "-t nat -A POSTROUTING -o v0 -j MASQUERADE --random",
    *(
        "-t nat -A POSTROUTING -j SNAT --to 1.1.1.1-1.1.1.9",
        "-t nat -A PREROUTING -j SNAT --to 1.1.1.1",
    ),
    "-t nat -p udp -A POSTROUTING -j SNAT --to-source 1.1.1.1:5-9 --persistent --random-fully",
    "-t nat -p tcp -A PREROUTING -j DNAT --to-destination 1.1.1.1:80",
    *("-t nat -A PREROUTING -j DNAT --to 1.1.1.1", "-t nat -A POSTROUTING -j DNAT --to 1.1.1.1"),
    *("-t nat -p tcp -A PREROUTING -j REDIRECT --to-ports 80", "-t nat -A OUTPUT -j REDIRECT"),
    "-t nat -A PREROUTING -d 2.2.2.0/24 -j NETMAP --to 1.1.1.0/24",
    "-t mangle -A FORWARD -p tcp --syn -j TCPMSS --set-mss 1000",
    "-t mangle -A FORWARD -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu",
    "-t mangle -A INPUT -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu",
    *("-t mangle -A OUTPUT -j TTL --ttl-set 5", "-t mangle -A OUTPUT -j TTL --ttl-dec 1"),
    *("-A OUTPUT -j TTL --ttl-inc 1", "-t mangle -A OUTPUT -j TOS --set-tos 0x10"),
    *(
        "-t mangle -A OUTPUT -j DSCP --set-dscp 5",
        "-t mangle -A OUTPUT -j DSCP --set-dscp-class EF",
    ),
    *("-t mangle -A OUTPUT -j CLASSIFY --set-class 1:1", "-t raw -A OUTPUT -j NOTRACK"),
    *("-t raw -A PREROUTING -j CT --notrack", "-t raw -A OUTPUT -j CT --helper nosuch"),
    *("-A INPUT -j NFQUEUE --queue-num 1", "-A INPUT -j NFQUEUE --queue-balance 1:4"),
    "-A INPUT -j NFQUEUE --queue-num 1 --queue-bypass",
    "-t mangle -A OUTPUT -p udp -j CHECKSUM --checksum-fill",
    "-t mangle -A OUTPUT -p tcp -j TCPOPTSTRIP --strip-options 5,8,sack-permitted",
    *("-A OUTPUT -m owner --uid-owner 0-9", "-A OUTPUT -m owner ! --socket-exists"),
    *("-t raw -A PREROUTING -m rpfilter --invert -j DROP", "-A INPUT -m rpfilter"),
    "-A INPUT -j NOTHERE",
)
SIX = (
    *("-A INPUT -p icmpv6 --icmpv6-type echo-request -j ACCEPT", "-A INPUT -m hl --hl-lt 5"),
    *("-A INPUT -p icmpv6 ! --icmpv6-type 1/4 -j DROP", "-A INPUT -s fe80::/10 -j ACCEPT"),
    *("-A INPUT -j REJECT", "-A OUTPUT -j REJECT --reject-with icmp6-addr-unreachable"),
    *("-A INPUT -p tcp -j REJECT --reject-with tcp-reset", "-A INPUT -m length --length 10:20"),
    *("-A INPUT -m conntrack --ctstate NEW --ctorigsrc fd00::/8 -j ACCEPT", "-N x", "-A x -j x"),
    "-A INPUT -m iprange --src-range fd00::1-fd00::9 -j DROP",
    *("-A INPUT -m addrtype --dst-type LOCAL", "-A INPUT -m addrtype --dst-type BROADCAST"),
    *("-A INPUT -p tcp -m multiport --dports 1,2 -j LOG", "-A INPUT -m tos --tos 4"),
    *("-t mangle -A OUTPUT -j HL --hl-set 9", "-t nat -A POSTROUTING -o v0 -j MASQUERADE"),
    "-t nat -A PREROUTING -p tcp -j DNAT --to-destination [fd00::1]:80",
    "-t nat -A POSTROUTING -j SNAT --to-source fd00::1-fd00::9",
    *("-t nat -A PREROUTING -p udp -j REDIRECT --to-ports 5", "-A INPUT -p icmp -j DROP"),
    *(
        "-A INPUT -m rt --rt-type 0 -j DROP",
        "-A INPUT -m rt ! --rt-segsleft 3:9",
        "-A INPUT -m frag",
    ),
    *("-A INPUT -m frag --fragid 5 --fragfirst", "-A INPUT -m ipv6header --header frag --soft"),
    *("-A INPUT -m ipv6header ! --header hop,dst", "-t raw -A PREROUTING -m rpfilter --validmark"),
    *("-A INPUT -m recent --set --name six", "-P INPUT DROP"),
    *("-P FORWARD DROP", "-A INPUT -m ttl --ttl-lt 5", "-D INPUT -s fe80::/10 -j ACCEPT"),
)
RESTORES = (
    T
    + """
cat > $DIR/rules <<'END'
# A host's
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -i lo -j CT --notrack
COMMIT
*nat
:PREROUTING ACCEPT [1:2]
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -s 10.0.0.0/8 -o v0 -j MASQUERADE
COMMIT
*filter
:INPUT DROP [7:700]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [3:300]
:logged - [0:0]
[5:500] -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
[1:60] -A INPUT -p tcp -m tcp --dport 22 -m comment --comment "ssh \\"x\\"" -j ACCEPT
-A INPUT -p udp -m multiport --dports 67,68 -j logged
-A logged -m limit --limit 3/min -j LOG --log-prefix "[DROP] "
-A logged -j DROP
COMMIT
END
iptables-restore < $DIR/rules; echo $?; iptables-save; iptables-save -c; t -L -v -n
iptables-restore --test < $DIR/rules; echo $?; iptables-restore -c < $DIR/rules; echo $?
iptables-save -c; iptables-save -c > $DIR/saved; iptables-restore -c < $DIR/saved; iptables-save -c
printf '*filter\\n-A INPUT -s 1.2.3.4 -j ACCEPT\\n-D INPUT 2\\nCOMMIT\\n' > $DIR/more
iptables-restore -n < $DIR/more; echo $?; t -S; iptables-restore < $DIR/more; echo $?; t -S
printf '*filter\\n-A INPUT -s 1.2.3.4 -j ACCEPT\\n-A nothere -j DROP\\nCOMMIT\\n' > $DIR/bad
iptables-restore -n < $DIR/bad 2>&1; echo $?; t -S
printf '*filter\\n-A INPUT -m nothere\\nCOMMIT\\n' | iptables-restore 2>&1; echo $?
printf '*filter\\n-A INPUT -j ACCEPT\\n' | iptables-restore 2>&1; echo $?; t -S
python3 - > $DIR/many <<'END'
print("*filter")
for i in range(300):
    print(f"-A INPUT -s 10.{i // 250}.{i % 250}.0/24 -p tcp -m tcp --dport {i + 1} -j ACCEPT")
print("COMMIT")
END
iptables-restore < $DIR/many; echo $?; iptables-save | grep -v "^#" | md5sum
t -D INPUT 150; t -S INPUT 150
t -Z INPUT; t -F; iptables-restore < /dev/null; echo $?; t -S
"""
)
NO_TIME = ((r"# (Generated|Completed).*", ""),)
COUNTS = (
    T
    + SENDS
    + """
t -A INPUT -p icmp --icmp-type echo-request; t -A INPUT -p icmp --icmp-type 0 -s 127.0.0.1
t -A OUTPUT -d 127.0.0.0/8 -p icmp; t -A INPUT -p udp --dport 9; t -A OUTPUT -p tcp --dport 7
t -A INPUT -p udp -m length --length 48; t -A INPUT -p udp -m length ! --length 48
t -A INPUT -p tcp --syn; t -A INPUT -m ttl --ttl-eq 64; t -A INPUT -m ttl --ttl-gt 64
t -A INPUT -m addrtype --src-type LOCAL --dst-type LOCAL; t -A OUTPUT -m addrtype --dst-type UNICAST
t -A INPUT -i lo; t -A OUTPUT -o lo; t -A OUTPUT ! -o lo; t -A INPUT -m pkttype --pkt-type unicast
t -A INPUT -p udp -m multiport --dports 1:5,9,11; t -A INPUT -p udp -m multiport ! --dports 1:5
t -A INPUT -p icmp -m statistic --mode nth --every 3 --packet 0
t -A INPUT -p icmp -m statistic --mode nth --every 2 --packet 1
t -A INPUT -m iprange --src-range 127.0.0.1-127.0.0.5; t -A INPUT -p icmp -m quota --quota 250
t -A INPUT -p udp -m string --string xxxx --algo bm
t -A INPUT -p udp -m string --string yyyy --algo kmp
t -A INPUT -p tcp -m tcpmss --mss 1:65535; t -A INPUT -p tcp --tcp-option 2; t -A INPUT -f
t -A INPUT -p icmp -m limit --limit 1/hour --limit-burst 3; t -A INPUT -p tcp ! --tcp-option 8
t -A INPUT -m dscp --dscp 4; t -A INPUT -m tos --tos 0x10; t -A INPUT -m comment --comment all
ping -n -q -c 3 -i 0.2 127.0.0.1 > /dev/null; ping -n -q -Q 0x10 -c 2 -i 0.2 127.0.0.1 > /dev/null
sends <<'END'
udp(("127.0.0.1", 9)); udp(("127.0.0.1", 9)); udp(("127.0.0.1", 11), size=100)
refused(socket.SOCK_STREAM, ("127.0.0.1", 7))
END
t -L -v -n -x; t -Z INPUT 1; t -L INPUT 1 -v -n; t -L -Z -v -n; t -L -v -n; iptables-save -c
"""
)
STATES = (
    T
    + SENDS
    + """
t -A INPUT -m conntrack --ctstate NEW; t -A INPUT -m conntrack --ctstate ESTABLISHED
t -A INPUT -m conntrack --ctstate RELATED; t -A INPUT -m conntrack --ctstate INVALID
t -A OUTPUT -m state --state NEW -p udp; t -A OUTPUT -m conntrack --ctstate NEW --ctproto udp
t -A INPUT -m conntrack --ctdir REPLY; t -A INPUT -m conntrack --ctdir ORIGINAL
t -A INPUT -m conntrack --ctproto udp --ctorigdstport 9
t -A INPUT -m conntrack --ctstatus SEEN_REPLY
t -A INPUT -m conntrack --ctorigsrc 127.0.0.1; t -A INPUT -m conntrack ! --ctorigsrc 127.0.0.1
t -t mangle -A OUTPUT -p icmp -j MARK --set-mark 5; t -t mangle -A OUTPUT -j CONNMARK --save-mark
t -t mangle -A INPUT -j CONNMARK --restore-mark; t -A INPUT -m mark --mark 5
t -A INPUT -m connmark --mark 5; t -A INPUT -m connmark ! --mark 5
t -t raw -A OUTPUT -p udp --dport 11 -j NOTRACK; t -A INPUT -m conntrack --ctstate UNTRACKED
t -A INPUT -m connbytes --connbytes 2: --connbytes-dir original --connbytes-mode packets
t -A INPUT -p udp -m connlimit --connlimit-above 1
ping -n -q -c 3 -i 0.2 127.0.0.1 > /dev/null
sends <<'END'
udp(("127.0.0.1", 9)); udp(("127.0.0.1", 11))
refused(socket.SOCK_STREAM, ("127.0.0.1", 7))
echoed(("127.0.0.1", 2000), ("127.0.0.1", 2000))
END
t -L -v -n -x; t -t mangle -L -v -n -x; t -t raw -L -v -n -x
"""
)
LIMITS = (
    T
    + SENDS
    + """
ip -6 addr add fd00::1/128 dev lo nodad
t -A INPUT -p icmp --icmp-type 8 -m recent --rcheck --name pings
t -A INPUT -p icmp --icmp-type 8 -m recent --update --seconds 3600 --hitcount 3 --name pings
t -A INPUT -p icmp --icmp-type 8 -m recent --set --name pings
t -A INPUT -p icmp --icmp-type 8 -m recent ! --rcheck --name never
t -A INPUT -p udp -m recent --remove --name pings; t -A INPUT -p udp -m recent --remove --name pings
H="-p icmp --icmp-type 8 -m hashlimit --hashlimit-name"
t -A INPUT $H a --hashlimit-upto 1/hour --hashlimit-burst 2 --hashlimit-mode srcip
t -A INPUT $H b --hashlimit-above 1/hour --hashlimit-burst 2 --hashlimit-mode dstip
t -A INPUT $H c --hashlimit-upto 1/hour --hashlimit-burst 1 --hashlimit-mode dstip,srcip
t -A INPUT $H d --hashlimit-upto 1/hour --hashlimit-burst 1 --hashlimit-mode dstip \\
    --hashlimit-dstmask 24
t -A INPUT -p udp -m hashlimit --hashlimit-name e --hashlimit-upto 1/hour --hashlimit-burst 1 \\
    --hashlimit-mode dstport
t -A INPUT -m time --datestart 2020-01-01; t -A INPUT -m time --datestop 2020-01-01
t -A INPUT -m time --timestart 0:0 --timestop 23:59:59; t -A INPUT ! -i lo -m time
t -A INPUT -m time --weekdays Mon,Tue,Wed,Thu,Fri,Sat,Sun; t -A INPUT -m time ! --monthdays 1,2
t -A OUTPUT -m owner --uid-owner 0; t -A OUTPUT -m owner ! --uid-owner 0
t -A OUTPUT -m owner --socket-exists; t -A OUTPUT -m owner --uid-owner 5-9
t -A OUTPUT -m owner --gid-owner 0; t -A OUTPUT -m owner ! --gid-owner 0 --uid-owner 0
t -t raw -A PREROUTING -m rpfilter; t -t raw -A PREROUTING -m rpfilter --invert
t6 -A INPUT -m ipv6header --header proto; t6 -A INPUT -m ipv6header --header frag --soft
t6 -A INPUT -m ipv6header ! --header proto; t6 -A INPUT -m rt --rt-type 0; t6 -A INPUT -m frag
t6 -A INPUT -m ipv6header --header dst --soft; t6 -t raw -A PREROUTING -m rpfilter
for to in 1 1 1 2 2; do ping -n -q -c 1 127.0.0.$to > /dev/null; done
ping -n -q -c 1 fd00::1 > /dev/null
sends <<'END'
udp(("127.0.0.1", 9)); udp(("127.0.0.1", 9)); udp(("127.0.0.1", 10)); udp(("127.0.0.1", 10))
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, bytes((0, 0, 1, 4, 0, 0, 0, 0)))
    s.sendto(b"x", ("fd00::1", 9))
END
t -L -v -n -x; t -t raw -L -v -n -x; t6 -L -v -n -x; t6 -t raw -L -v -n -x
"""
)
REJECTS = (
    T
    + SENDS
    + """
ip -6 addr add fd00::1/128 dev lo nodad
for with in icmp-net-unreachable icmp-host-unreachable icmp-port-unreachable \\
    icmp-proto-unreachable icmp-net-prohibited icmp-host-prohibited icmp-admin-prohibited; do
    t -A INPUT -i lo -p udp --dport 9 -j REJECT --reject-with $with
    t -A OUTPUT -p tcp --dport 7 -j REJECT --reject-with $with
    sends <<'END'
refused(socket.SOCK_DGRAM, ("127.0.0.1", 9)); refused(socket.SOCK_STREAM, ("127.0.0.1", 7))
END
    t -L -v -n -x; t -F
done
for with in icmp6-no-route icmp6-adm-prohibited icmp6-addr-unreachable icmp6-port-unreachable \\
    icmp6-policy-fail icmp6-reject-route; do
    t6 -A INPUT -i lo -p udp --dport 9 -j REJECT --reject-with $with
    sends <<'END'
refused(socket.SOCK_DGRAM, ("fd00::1", 9), socket.AF_INET6)
END
    t6 -L INPUT -v -n -x; t6 -F
done
t -A INPUT -p tcp --dport 7 -j REJECT --reject-with tcp-reset
t6 -A OUTPUT -p tcp --dport 7 -j REJECT --reject-with tcp-reset
t -A OUTPUT -p icmp -j REJECT; t -A OUTPUT -p udp --dport 12 -j DROP
sends <<'END'
refused(socket.SOCK_STREAM, ("127.0.0.1", 7)); refused(socket.SOCK_DGRAM, ("127.0.0.1", 12))
refused(socket.SOCK_STREAM, ("fd00::1", 7), socket.AF_INET6)
END
ping -n -q -c 1 127.0.0.1 | grep -v ^rtt; t -L -v -n -x; t6 -L -v -n -x
t -F; t -P OUTPUT DROP; ping -n -c 1 -W 1 127.0.0.1 2>&1 | grep -v ^rtt; t -L -v -n -x
"""
)
NATS = (
    T
    + SENDS
    + """
ip addr add 10.9.0.1/32 dev lo; ip addr add 10.9.0.2/32 dev lo
ip -6 addr add fd00::1/128 dev lo nodad
ip route add 10.8.0.0/16 dev lo; ip -6 route add fd01::/64 dev lo
t -t nat -A OUTPUT -p udp --dport 53 -j REDIRECT --to-ports 2000
t -t nat -A OUTPUT -p tcp -d 10.8.0.0/16 --dport 80 -j DNAT --to-destination 127.0.0.1:2001
t -t nat -A OUTPUT -p udp -d 10.8.0.5 -j DNAT --to-destination 10.9.0.2:2002
t -t nat -A POSTROUTING -p udp -d 10.9.0.2 -j SNAT --to-source 10.9.0.1
t -t nat -A INPUT -p tcp --dport 2003 -j SNAT --to-source 10.9.0.2
t -t nat -A PREROUTING -p udp --dport 7777 -j DNAT --to-destination 127.0.0.1:1
t6 -t nat -A OUTPUT -p udp --dport 53 -j REDIRECT --to-ports 2000
t6 -t nat -A OUTPUT -p tcp -d fd01::/64 -j DNAT --to-destination [fd00::1]:2001
sends <<'END'
echoed(("127.0.0.1", 2000), ("127.0.0.9", 53))
tcp(("127.0.0.1", 2001), ("10.8.7.6", 80))
echoed(("10.9.0.2", 2002), ("10.8.0.5", 9))
tcp(("127.0.0.1", 2003), ("127.0.0.1", 2003))
echoed(("::1", 2000), ("fd00::1", 53), socket.AF_INET6)
tcp(("fd00::1", 2001), ("fd01::7", 80), socket.AF_INET6)
END
t -t nat -L -v -n -x; t6 -t nat -L -v -n -x
conntrack -L 2>/dev/null |
    sed -E 's/^(\\S+ +[0-9]+) [0-9]+/\\1/; s/sport=[0-9]{5}|dport=[0-9]{5}//g' | sort
"""
)
MANGLES = (
    T
    + SENDS
    + """
t -t mangle -A OUTPUT -p icmp -j TTL --ttl-set 5; t -A INPUT -p icmp -m ttl --ttl-eq 5
t -t mangle -A OUTPUT -p icmp -j TOS --set-tos 0x10; t -A INPUT -m tos --tos 0x10
t -t mangle -A OUTPUT -p udp -j DSCP --set-dscp 10; t -A INPUT -m dscp --dscp 10
t -t mangle -A OUTPUT -p tcp --syn -j TCPMSS --set-mss 500; t -A INPUT -p tcp -m tcpmss --mss 500
t -t mangle -A OUTPUT -p udp -j CHECKSUM --checksum-fill
t -t mangle -A OUTPUT -p icmp -j CLASSIFY --set-class 1:1
ping -n -q -c 2 -i 0.2 127.0.0.1 | grep -v ^rtt | sed 's/, time.*//'
sends <<'END'
echoed(("127.0.0.1", 2000), ("127.0.0.1", 2000)); tcp(("127.0.0.1", 2001), ("127.0.0.1", 2001))
END
t -L INPUT -v -n -x; t -t mangle -L OUTPUT -v -n
"""
)
FIREWALLS = (
    T
    + SENDS
    + """
cat > $DIR/ufw <<'END'
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-before-input - [0:0]
:ufw-after-input - [0:0]
:ufw-logging-deny - [0:0]
:ufw-not-local - [0:0]
:ufw-user-input - [0:0]
:ufw-user-limit - [0:0]
:ufw-user-limit-accept - [0:0]
-A INPUT -j ufw-before-input
-A INPUT -j ufw-after-input
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j ufw-logging-deny
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -p icmp --icmp-type destination-unreachable -j ACCEPT
-A ufw-before-input -p icmp --icmp-type echo-request -j ACCEPT
-A ufw-before-input -p udp --sport 67 --dport 68 -j ACCEPT
-A ufw-before-input -j ufw-not-local
-A ufw-before-input -p udp -d 224.0.0.251 --dport 5353 -j ACCEPT
-A ufw-before-input -j ufw-user-input
-A ufw-after-input -p udp --dport 137 -j DROP
-A ufw-logging-deny -m conntrack --ctstate INVALID -m limit --limit 3/min --limit-burst 10 -j RETURN
-A ufw-logging-deny -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix "[UFW BLOCK] "
-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
-A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN
-A ufw-not-local -m addrtype --dst-type BROADCAST -j RETURN
-A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j ufw-logging-deny
-A ufw-not-local -j DROP
-A ufw-user-input -p tcp -m multiport --dports 80,443 -m comment --comment "'dapp_web'" -j ACCEPT
-A ufw-user-input -p udp --dport 2000 -m conntrack --ctstate NEW -m recent --set
-A ufw-user-input -p udp --dport 2000 -m conntrack --ctstate NEW -m recent --update \\
 --seconds 30 --hitcount 6 -j ufw-user-limit
-A ufw-user-input -p udp --dport 2000 -j ufw-user-limit-accept
-A ufw-user-limit -m limit --limit 3/min -j LOG --log-prefix "[UFW LIMIT BLOCK] "
-A ufw-user-limit -j REJECT
-A ufw-user-limit-accept -j ACCEPT
COMMIT
END
sed -i -z 's/ \\\\\\n / /g' $DIR/ufw; iptables-restore < $DIR/ufw; echo $?
sends <<'END'
for _ in range(7):
    refused(socket.SOCK_DGRAM, ("127.0.0.1", 2000))
refused(socket.SOCK_STREAM, ("127.0.0.1", 80)); udp(("127.0.0.1", 137))
END
ping -n -q -c 1 127.0.0.1 > /dev/null; t -L -v -n -x; iptables-save
cat > $DIR/docker <<'END'
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p udp -m udp --dport 8080 -j DNAT --to-destination 127.0.0.1:2001
COMMIT
*filter
:INPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
END
iptables-restore < $DIR/docker; echo $?; ip addr add 10.9.0.1/32 dev lo
sends <<'END'
echoed(("127.0.0.1", 2001), ("10.9.0.1", 8080))
END
t -t nat -L -v -n -x; iptables-save; nft list ruleset; t -t nat -D OUTPUT 1; t -t nat -X DOCKER
"""
)
ROUTER = (
    T
    + """
cat > $DIR/route.py <<'END'
import fcntl, os, select, struct, subprocess, sys

def tun(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1001))  # TUNSETIFF
    return fd

ends = {"in": tun("in"), "out": tun("out")}
subprocess.run(["sh", sys.argv[1]], check=True)

def csum(data):
    data += b"\\0" * (len(data) & 1)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF

def ip4(text):
    return bytes(int(part) for part in text.split("."))

def ip(src, dst, proto, data, ttl=9, tos=0):
    head = struct.pack(">BBHHHBBH4s4s", 0x45, tos, 20 + len(data), 1, 0, ttl, proto, 0,
        ip4(src), ip4(dst))
    return head[:10] + struct.pack(">H", csum(head)) + head[12:] + data

def l4(src, dst, proto, data, at):
    pseudo = ip4(src) + ip4(dst) + struct.pack(">HH", proto, len(data))
    if proto == 1:
        pseudo = b""
    return data[:at] + struct.pack(">H", csum(pseudo + data)) + data[at + 2:]

def udp(src, sport, dst, dport, data=b"hello", **rest):
    whole = struct.pack(">HHHH", sport, dport, 8 + len(data), 0) + data
    return ip(src, dst, 17, l4(src, dst, 17, whole, 6), **rest)

def tcp(src, sport, dst, dport, flags=2, options=b"\\2\\4\\x05\\xb4", seq=7, ack=0, **rest):
    doff = 5 + len(options) // 4
    whole = struct.pack(">HHIIBBHHH", sport, dport, seq, ack, doff << 4, flags, 500, 0, 0) + options
    return ip(src, dst, 6, l4(src, dst, 6, whole, 16), **rest)

def echo(src, dst, kind=8, number=5, **rest):
    return ip(src, dst, 1, l4(src, dst, 1, struct.pack(">BBHHH", kind, 0, 0, number, 1), 2), **rest)

def told(p):
    proto, src, dst = p[9], ".".join(map(str, p[12:16])), ".".join(map(str, p[16:20]))
    data = p[20:]
    fine = not csum(p[:20]) and not csum(
        (b"" if proto == 1 else p[12:20] + struct.pack(">HH", proto, len(data))) + data)
    what = {1: f"icmp {data[:2].hex()}", 17: "udp", 6: f"tcp {data[12:14].hex()} {data[20:].hex()}"}
    ports = struct.unpack(">HH", data[4:8] if proto == 1 else data[:4])
    inner = f" about {told(data[8:])}" if proto == 1 and data[0] == 3 else ""
    said = f"{src}>{dst} {what[proto]} {ports}"
    return f"{said} ttl {p[8]} tos {p[1]} {'' if fine else 'WRONG SUM'}{inner}"

def sent(end, packet):
    print(end, "->", told(packet))
    os.write(ends[end], packet)
    os.write(ends["in"], echo("10.1.0.99", "10.1.0.1", number=99))  # its answer comes behind all
    while not any([heard("in"), heard("out")]):
        select.select(list(ends.values()), [], [], 30)

def heard(name):
    last = False
    while True:
        try:
            got = os.read(ends[name], 2000)
        except BlockingIOError:
            return last
        if got[0] >> 4 == 4 and got[16:20] == ip4("10.1.0.99"):
            last = True
        elif got[0] >> 4 == 4:
            print("   ", name, "<-", told(got))

exec(sys.stdin.read())
END
cat > $DIR/rules <<'END'
for one in in out; do ip link set $one up; ip -6 addr flush dev $one; done
ip addr add 10.1.0.1/24 dev in; ip addr add 192.0.2.1/24 dev out; ip route add default dev out
"""
)
ROUTES = (
    ROUTER
    + """
iptables -P FORWARD DROP; iptables -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
iptables -A FORWARD -i in -o out -p udp --dport 99 -j REJECT
iptables -A FORWARD -i in -o out -p tcp --dport 99 -j REJECT --reject-with tcp-reset
iptables -A FORWARD -i in -o out -m mac --mac-source 02:00:00:00:00:01 -j DROP
iptables -A FORWARD -i in -o out -j ACCEPT
iptables -A FORWARD -i out -o in -p tcp --dport 80 -m conntrack --ctstate DNAT -j ACCEPT
iptables -A FORWARD -i out -o in -d 10.1.0.0/24 -m conntrack --ctstate DNAT -p udp -j ACCEPT
iptables -t nat -A POSTROUTING -o out -p tcp --sport 4000 -j MASQUERADE --to-ports 5000-5000
iptables -t nat -A POSTROUTING -o out -s 10.1.0.77 -j SNAT --to-source 192.0.2.77
iptables -t nat -A POSTROUTING -o out -s 10.1.0.0/24 -j MASQUERADE
iptables -t nat -A PREROUTING -i out -p tcp --dport 8080 -j DNAT --to-destination 10.1.0.5:80
iptables -t nat -A PREROUTING -i out -d 198.51.100.0/24 -j NETMAP --to 10.1.0.0/24
iptables -t nat -A PREROUTING -i in -p udp --dport 53 -j REDIRECT --to-ports 54
iptables -t mangle -A FORWARD -p tcp --syn -j TCPMSS --set-mss 1000
iptables -t mangle -A PREROUTING -i in -p icmp -j TTL --ttl-inc 3
iptables -t mangle -A POSTROUTING -p udp --dport 7 -j DSCP --set-dscp 12
iptables -t mangle -A POSTROUTING -p tcp --dport 25 -j TCPOPTSTRIP --strip-options 4
iptables -t raw -A PREROUTING -i out -m rpfilter --invert -j DROP
iptables -A INPUT -p udp --dport 54 -j ACCEPT
END
python3 $DIR/route.py $DIR/rules <<'END'
A, B = "10.1.0.5", "203.0.113.9"
sent("in", udp(A, 1000, B, 7)); sent("out", udp(B, 7, "192.0.2.1", 1000))
sent("out", udp(B, 8, "192.0.2.1", 1000)); sent("in", echo(A, B))
sent("out", echo(B, "192.0.2.1", 0))
sent("in", tcp(A, 1001, B, 25, options=b"\\2\\4\\x05\\xb4\\4\\2\\1\\1"))
sent("out", tcp(B, 25, "192.0.2.1", 1001, 0x12, ack=8))
sent("in", tcp(A, 1001, B, 25, 0x10, b"", 8, 8))
sent("in", udp(A, 1000, B, 99)); sent("in", tcp(A, 1002, B, 99)); sent("in", tcp(A, 4000, B, 26))
sent("in", udp("10.1.0.77", 1000, B, 9)); sent("in", udp(A, 1000, B, 9, ttl=1))
sent("out", tcp(B, 6000, "192.0.2.1", 8080)); sent("in", tcp(A, 80, B, 6000, 0x12, ack=8))
sent("out", udp(B, 1, "198.51.100.5", 9)); sent("in", udp(A, 9, B, 1))
sent("out", udp("10.1.0.9", 1, "192.0.2.1", 9)); sent("out", tcp(B, 6001, "192.0.2.1", 81))
sent("in", udp(A, 1003, B, 53))
inner = udp("192.0.2.1", 1000, B, 7)
error = struct.pack(">BBHI", 3, 1, 0, 0) + inner
sent("out", ip(B, "192.0.2.1", 1, l4(B, B, 1, error, 2)))
os.system("iptables -L -v -n -x; iptables -t nat -L -v -n -x; iptables -t mangle -L -v -n -x")
os.system("iptables -t raw -L -v -n -x")
END
"""
)
WAYS_BACK = (
    ROUTER
    + """
ip link set in mtu 1280; nft add table ip n
nft add chain ip n pre '{ type filter hook prerouting priority -400; }'
nft add chain ip n forward '{ type filter hook forward priority -400; }'
nft add rule ip n forward tcp flags syn rt mtu 1240 counter
nft add rule ip n pre fib saddr . iif oif missing counter
iptables -t mangle -A FORWARD -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu
iptables -t mangle -A PREROUTING -p udp --dport 7 -m recent --name r --set
iptables -t mangle -A FORWARD -p udp -m recent --name r --rcheck --rttl
iptables -t raw -A PREROUTING -m rpfilter --invert
ip6tables -t raw -A PREROUTING -m rpfilter --invert
for to in 32 33 34; do
    iptables -A FORWARD -m string --algo bm --string hello --from 28 --to $to
done
END
python3 $DIR/route.py $DIR/rules <<'END'
A, B = "10.1.0.5", "203.0.113.9"
sent("in", tcp(A, 1001, B, 25)); sent("out", tcp(B, 1001, A, 25)); sent("in", udp(A, 1000, B, 7))
sent("in", tcp(A, 1001, B, 25, 0x10)); sent("in", udp(B, 1000, B, 9))
for group in "255.255.255.255", "224.0.0.9", "239.1.1.1":
    sent("in", udp("0.0.0.0", 68, group, 67)); sent("in", udp("0.0.0.7", 68, group, 67))
whose = bytes.fromhex("6000000000183aff" + "00" * 16 + "ff0200000000000000000001ff000001")
os.write(ends["in"], whose + bytes.fromhex("87007daa00000000fe80" + "00" * 13 + "01"))
sent("in", udp(A, 1000, B, 7))
os.system("iptables -L FORWARD -v -n -x; iptables -t mangle -L -v -n -x; nft list table ip n")
os.system("iptables -t raw -L -v -n -x; ip6tables -t raw -L -v -n -x")
END
"""
)
RESETS = (
    ROUTER
    + """
iptables -A FORWARD -m conntrack --ctstate INVALID; of=net.netfilter.nf_conntrack_tcp_timeout
sysctl -qw ${of}_established=432005 ${of}_unacknowledged=305 ${of}_close=15
END
python3 $DIR/route.py $DIR/rules <<'END'
A, B = "10.1.0.5", "203.0.113.9"
SYN, ACK, FIN_ACK, SYN_ACK, RST = 2, 0x10, 0x11, 0x12, 4

def to(flags, seq, ack):
    sent("in", tcp(A, 1000, B, 25, flags, b"", seq, ack))

def back(flags, seq, ack):
    sent("out", tcp(B, 25, A, 1000, flags, b"", seq, ack))

def connected(begins=100):
    os.system("conntrack -F 2>/dev/null")
    to(SYN, begins, 0); back(SYN_ACK, 500, begins + 1); to(ACK, begins + 1, 501)
    back(ACK, 501, begins + 1)

def tracked():
    os.system("conntrack -L -p tcp 2>/dev/null | sed -E 's/^(tcp +6 [0-9]*)[0-9] /\\\\1N /'")
    os.system("iptables -L FORWARD -v -n -x | tail -1")

far = 10 ** 6
connected(); to(FIN_ACK, 101 + far, 501); tracked(); back(FIN_ACK, 501 + far, 101); tracked()
connected(); to(RST, 101 + far, 0); tracked(); to(FIN_ACK, 101 + far, 501); tracked()
back(ACK, 501 + far, 101); tracked(); back(RST | ACK, 501 + far, 101); tracked()
connected(); to(FIN_ACK, 101, 501); to(RST, 50, 0); tracked()
connected(); back(FIN_ACK, 501, 101); to(ACK, 101, 502); back(RST, 7, 0); tracked()
connected(); to(SYN, 7000, 0); tracked(); back(RST | ACK, 0, 7001); tracked()
connected(); to(SYN, 7000, 0); back(RST, 400, 0); tracked()
connected(); to(RST, 50, 0); tracked(); to(RST, 150, 0); tracked(); to(RST, 101, 0); tracked()
END
"""
)
ERRORS = (
    ROUTER
    + """
ip -6 addr add fd00::1/64 dev in nodad
for state in NEW INVALID UNTRACKED ESTABLISHED RELATED; do
    for program in iptables ip6tables; do
        $program -t mangle -A PREROUTING -m conntrack --ctstate $state
    done
done
END
python3 $DIR/route.py $DIR/rules <<'END'
A, B = "10.1.0.5", "203.0.113.9"
LINK, OTHER, OURS = (bytes.fromhex(one) for one in (
    "fe800000000000000000000000000005", "fd000000000000000000000000000005",
    "fd000000000000000000000000000001"))

def ip6(src, dst, proto, data, at, hops=255, wrong=0):
    pseudo = src + dst + struct.pack(">II", len(data), proto)
    data = data[:at] + struct.pack(">H", csum(pseudo + data) ^ wrong) + data[at + 2:]
    return struct.pack(">IHBB", 6 << 28, len(data), proto, hops) + src + dst + data

def six(kind, code=0, src=LINK, rest=bytes(24), **more):
    print("six", kind, code, len(rest), more)
    os.write(ends["in"], ip6(src, OURS, 58, struct.pack(">BBH", kind, code, 0) + rest, 2, **more))
    stats()

def udp6(src, sport, dst, dport):
    return ip6(src, dst, 17, struct.pack(">HHHHI", sport, dport, 12, 0, 0), 6)

def four(*data):
    print("four", *data)
    body = struct.pack(">BBHI", *data[:2], 0, 7) + b"".join(data[2:])
    os.write(ends["out"], ip(B, "192.0.2.1", 1, l4(B, B, 1, body, 2)))
    stats()

def stats():
    sent("in", udp(A, 1000, B, 7))
    for program in "iptables", "ip6tables":
        os.system(f"{program} -t mangle -L PREROUTING -v -n -x | sed -n 's/0  .*ctstate//p'")
    os.system("conntrack -S | grep -oE '(invalid|error|drop)=[0-9]*' |"
        " awk -F= '{ sum[$1] += $2 } END { for (one in sum) print one, sum[one] }' | sort")

for kind in *range(127, 138), 139, 143, 144, *range(150, 155), 200:
    six(kind)
six(128, wrong=1); six(151, wrong=1)
quoted = udp6(OURS, 9, OTHER, 1000)
os.write(ends["in"], udp6(OTHER, 1000, OURS, 9))
six(1, rest=bytes(4) + quoted)
for option in b"", b"\4", b"\4\0", b"\1\1" + bytes(6), b"\4\7" + bytes(6):
    six(137, rest=bytes(36) + option + quoted * (len(option) > 2))
whole = bytes(36) + b"\4\7" + bytes(6) + quoted
six(137, 1, rest=whole); six(137, src=OTHER, rest=whole); six(137, rest=whole, hops=9)
six(137, rest=whole[:-40]); six(137, rest=bytes(30))
inner = udp("192.0.2.1", 1000, B, 7)
for about in inner, inner[:10], udp(A, 1000, B, 7), tcp(A, 5, B, 6)[:24]:
    four(3, 1, about)
for kind in 0, 8, 13, 14, 15, 17, 18, 19, 42:
    four(kind, 0)
for proto in 1, 6, 17:
    print("short", proto); os.write(ends["out"], ip(B, "192.0.2.1", proto, b"\3\1\0")); stats()
END
"""
)
WHO_TRACKS = """
ip link set lo up
asked() { ping -c 1 -q 127.0.0.1 > /dev/null; conntrack -C; }
nft add table ip t; nft 'add chain ip t c { type nat hook output priority -100; }'
nft add rule ip t c counter; asked; nft list table ip t
iptables -t nat -A OUTPUT -p icmp; asked; iptables -t nat -L OUTPUT -v -n -x
nft add rule ip t c udp dport 9 dnat to 127.0.0.2:7
asked; nft list table ip t; iptables -t nat -L OUTPUT -v -n -x
nft flush chain ip t c; asked; iptables -t nat -L OUTPUT -v -n -x; nft delete table ip t
iptables -t nat -A POSTROUTING -p tcp -j MASQUERADE; asked; iptables -t nat -L OUTPUT -v -n -x
iptables -t nat -F; asked
"""
"""Chains of NAT alone do not start connection tracking; its connections outlast its end."""
ROWS = {
    "who tracks": Row(WHO_TRACKS, NO_TIME, (*TOOLS, "nft", "ping", "conntrack")),
    "chains": Row(CHAINS, NO_TIME, TOOLS),
    "matches": Row(
        f"{T}" + "\n".join(f"t -A INPUT {one} -j ACCEPT" for one in MATCHES) + LIST, NO_TIME, TOOLS
    ),
    "targets": Row(f"{T}" + "\n".join(f"t {one}" for one in TARGETS) + LIST, NO_TIME, TOOLS),
    "ip6tables": Row(
        f"{T}" + "\n".join(f"t6 {one}" for one in SIX) + LIST.replace("t -", "t6 -"), NO_TIME, TOOLS
    ),
    "save and restore": Row(RESTORES, NO_TIME, TOOLS),
    "counters": Row(COUNTS, NO_TIME, (*TOOLS, "ping")),
    "states": Row(STATES, NO_TIME, (*TOOLS, "ping")),
    "limits": Row(LIMITS, (), (*TOOLS, "ping")),
    "REJECT": Row(REJECTS, ((r", time \d+ms", ""),), (*TOOLS, "ping")),
    "NAT": Row(NATS, (), (*TOOLS, "conntrack")),
    "ufw and docker": Row(FIREWALLS, NO_TIME, (*TOOLS, "ping")),
    "router": Row(ROUTES, (), TOOLS, forwards=True),
    "errors": Row(ERRORS, (), (*TOOLS, "conntrack"), forwards=True),
    "resets": Row(RESETS, (), (*TOOLS, "conntrack"), forwards=True),
    "ways back": Row(WAYS_BACK, (), TOOLS, forwards=True),
    "what is changed": Row(MANGLES, (), (*TOOLS, "ping")),
}


@pytest.mark.parametrize("name", ROWS)
def test_iptables_does_what_it_does_on_linux(peer: Peer, tmp_path: Path, name: str) -> None:
    row = ROWS[name]
    sysctl = {"net.netfilter.nf_conntrack_acct": 0, "net.ipv4.ip_forward": int(row.forwards)}
    both(peer, tmp_path, row, sysctl)


def at_random(seed: int, six: bool = False) -> str:
    """A script of iptables: chains and rules that come, go and change, right and wrong ones."""
    random = Random(seed)
    tables = {
        "filter": ("INPUT", "FORWARD", "OUTPUT", "a", "b", "c"),
        "mangle": ("PREROUTING", "OUTPUT", "POSTROUTING", "a"),
        "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING", "a"),
        "raw": ("PREROUTING", "OUTPUT", "b"),
    }
    ends = [one.partition(" -j ")[2] for one in TARGETS]
    ends += ["ACCEPT", "DROP", "RETURN", "a", "b", "c"] * 15
    addrs = ("-s fd00::/8", "! -d fd00::1") if six else ("-s 10.0.0.0/8", "! -d 10.1.1.1", "-f")
    packets = (*addrs, "-i v0", "! -o w+", "-p udp", "! -p tcp", "")
    program = "ip6tables" if six else "iptables"
    script = (
        T.replace("iptables", program, 1)
        + "for t in filter mangle nat raw; do t -t $t -N a; t -t $t -N b; done\n"
    )
    for _ in range(100):
        table = random.choice(("filter", *tables))
        chains = tables[table]
        chain = random.choice(chains)
        rule = " ".join((random.choice(packets), random.choice(("", random.choice(MATCHES)))))
        target = random.choice(("-j",) * 9 + ("-g",)) + " " + random.choice(ends)
        number = random.choice((1, 1, 1, 2, 3))
        what = random.choice(
            (
                *(f"-A {chain} {rule} {target}",) * 6,
                *(f"-I {chain} {number} {rule} {target}",) * 2,
                *(f"-N {chain}", f"-X {chain}", f"-E {chain} {random.choice(chains)}"),
                *(f"-D {chain} {number}", f"-R {chain} {number} {rule} {target}", f"-F {chain}"),
                *(f"-P {chain} DROP", f"-C {chain} {rule} {target}", f"-D {chain} {rule} {target}"),
                *(f"-S {chain}", f"-L {chain} -n -v", f"-Z {chain}"),
            )
        )
        script += f"t -t {table} {what}\n"
    script += "iptables-save; nft list ruleset; iptables-save | iptables-restore; echo $?\n"
    return script.replace("iptables-", f"{program}-")


@pytest.mark.parametrize("six", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_commands_at_random_do_what_they_do_on_linux(
    peer: Peer, tmp_path: Path, seed: int, six: bool
) -> None:
    both(peer, tmp_path, Row(at_random(seed, six), NO_TIME, TOOLS), {"net.ipv4.ip_forward": 0})
