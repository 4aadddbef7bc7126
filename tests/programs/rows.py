"""Debian's programs on our hosts: what each test starts, and the table of docs/programs.md."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["IPV4", "IPV6", "ROWS", "Row"]

IPV4, IPV6 = ("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")


@dataclass(frozen=True)
class Row:
    """A server, and the compared output of its client.

    Words in braces are filled in: `{server}` the server's address, `{url}` the same in a URL,
    `{v}` 4 or 6, `{dir}` the directory in which both run. It has `page` (1 MB), `cert.pem` and
    `key.pem`.
    """

    client: str
    server: str = ""
    port: int = 0
    """On which the server listens; the client is started once it does."""
    stdin: str = ""
    rules: tuple[tuple[str, str], ...] = ()
    families: tuple[tuple[str, str], ...] = (IPV4, IPV6)
    status: int = 0
    log: bool = False
    """What the server prints is compared too."""
    waits: bool = False
    """It waits for seconds and needs no server: the kernel's and ours do so side by side."""

    def listens(self, sockets: str) -> bool:
        """Whether /proc/net/tcp or udp shows a socket at the row's port that has no peer."""
        return bool(re.search(rf":{self.port:04X} \S+ 0[A7] ", sockets))


NUMBERS = ((r"\d+(\.\d+)?", "N"), (r" +", " "), (r"[KMG]?(bits|Bytes)", "unit"))
MTR = ((r"Start: .*", ""), (r"HOST: \S+", ""), (r"\d+\.\d(?!%)", "N"), (r" +", " "))
HTTP = {"server": "python3 -m http.server 8000 --bind {server} -d {dir}", "port": 8000}
TLS = {
    "server": "openssl s_server -quiet -accept {url}:4433 -cert cert.pem -key key.pem -WWW",
    "port": 4433,
}
IPERF = {"server": "iperf3 -s -1", "port": 5201}
REDIS = {
    "server": "redis-server --bind {server} --port 6379 --save '' --protected-mode no --dir {dir}",
    "port": 6379,
}
NGINX = {"server": "nginx -p {dir} -c {dir}/nginx.conf -e stderr", "port": 8080}
SSHD = {
    "server": "/usr/sbin/sshd -D -e -p 22 -f /dev/null -h {dir}/host -o StrictModes=no "
    "-o UsePAM=no -o AuthorizedKeysFile={dir}/id.pub -o PermitRootLogin=yes "
    "-o 'Subsystem=sftp internal-sftp'",
    "port": 22,
}
SSH = "-q -i {dir}/id -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
FETCH = (
    "fetch(process.argv[1]).then(r => Promise.all([r.status, r.text()])).then("
    "([status, text]) => console.log(status, text.length))"
)
NODE = {
    "server": "node -e \"require('http').createServer((q, r) => q.on('data', d => r.end(q.url + d))"
    ").listen(8000, '{server}')\"",
    "port": 8000,
}
# In Go, whose programs make their system calls themselves.
CADDY = {
    "server": "env HOME={dir} caddy file-server --listen {url}:8090 --root {dir}",
    "port": 8090,
}
RSYNC = {
    "server": "rsync --daemon --no-detach --address={server} --config={dir}/rsyncd.conf",
    "port": 873,
}
GIT = {
    "server": "git daemon --reuseaddr --listen={server} --base-path={dir} --export-all {dir}",
    "port": 9418,
}
# A proxy of streams, whose server is another socket of its own.
HAPROXY = {"server": "haproxy -db -f {dir}/haproxy.cfg", "port": 8081}
MOSQUITTO = {"server": "mosquitto -c {dir}/mosquitto.conf", "port": 1883}
# Threads that pass connections on by eventfd, or each with a socket of its own (SO_REUSEPORT).
MEMCACHED = {"server": "memcached -u root -l {server} -p 11211 -U 0 -t 4", "port": 11211}
KNOT = {"server": "knotd -c {dir}/knot.conf", "port": 5303}
# Processes that accept from one socket; one for each connection, or for each file. The first of
# lighttpd ends its group of processes, so it has one of its own.
LIGHTTPD = {"server": "setsid lighttpd -D -f {dir}/lighttpd.conf", "port": 8082}
NCAT = {"server": "ncat -{v} -l -k {server} 9003 --exec '/usr/bin/tr a-z A-Z'", "port": 9003}
TFTPD = {"server": "in.tftpd -L -u root -a {url}:6969 -s {dir}", "port": 6969}
STUNNEL = {"server": "stunnel4 {dir}/stunnel.conf", "port": 4434}
NGHTTPD = {"server": "nghttpd -d {dir} -a {server} -n 2 --no-tls 8083", "port": 8083}
DNSPERF = "dnsperf -s {server} -d {dir}/queries -n 20 -q 20"
SENT = "/sys/class/net/lo/statistics/tx_packets"
DNSPERF_RULES = ((r"(?s)\A.*Statistics:|(Average|Run|Queries per|Latency).*", ""),)
ROWS = {
    "curl": Row("curl -sS http://{url}:8000/page", **HTTP),
    "curl, what it tells": Row(
        "curl -sS -o /dev/null http://{url}:8000/page "
        "-w '%{{http_code}} %{{size_download}} %{{remote_ip}} %{{num_connects}}'",
        **HTTP,
    ),
    "curl, 100 in parallel": Row(
        "curl -sS -Z --parallel-max 100 -o /dev/null -w '%{{http_code}}\\n' "
        "http://{url}:8080/page?[1-100] 2>/dev/null",
        **NGINX,
    ),
    "curl, HTTPS": Row("curl -sSk https://{url}:4433/page", **TLS),
    "curl, nobody listens": Row(
        "curl -sS http://{url}:81/", rules=((r"after \d+ ms", "after N ms"),), status=7
    ),
    "wget": Row("wget -qO- http://{url}:8000/page", **HTTP),
    "busybox wget": Row("busybox wget -qO- http://{url}:8000/page", **HTTP),
    "nc.openbsd": Row(
        "nc.openbsd -N {server} 99", "nc.openbsd -lN {server} 99", 99, "hello\n", log=True
    ),
    "nc.openbsd, refused": Row("nc.openbsd -v {server} 81", status=1),
    "socat": Row(
        "socat -t5 - TCP:{url}:99",
        "socat TCP-LISTEN:99,bind={url},pf=ip{v} EXEC:'tr a-z A-Z',pipes",
        99,
        "hello\n",
    ),
    "iperf3": Row("iperf3 -c {server} -n 20M", rules=NUMBERS, **IPERF),
    "iperf3, UDP": Row("iperf3 -c {server} -u -b 20M -t 1", rules=NUMBERS, **IPERF),
    "iperf3, backwards": Row("iperf3 -c {server} -R -n 20M", rules=NUMBERS, **IPERF),
    "iperf3, eight streams": Row("iperf3 -c {server} -P 8 -n 20M", rules=NUMBERS, **IPERF),
    "redis-cli": Row(
        "redis-cli -h {server}", stdin="SET a 1\nINCR a\nLPUSH l x y z\nLRANGE l 0 -1\n", **REDIS
    ),
    "redis-benchmark": Row(
        "redis-benchmark -h {server} -n 2000 -c 20 -P 4 -t set,get --csv", rules=NUMBERS, **REDIS
    ),
    "nginx and curl": Row("curl -sS http://{url}:8080/page", **NGINX),
    "nginx and ab": Row(
        "ab -q -n 200 -c 20 http://{url}:8080/page",
        rules=(*NUMBERS, (r"(?s)Time taken.*", "")),
        **NGINX,
    ),
    "nginx and wrk": Row(
        "wrk -t2 -c10 -d1s http://{url}:8080/page",
        rules=(*NUMBERS, (r"Nus|Nms|Ns|NMB|NGB|Nk", "N")),
        **NGINX,
    ),
    "ping": Row("ping -c 2 -i 0.2 {server}", rules=((r"[\d.]+(/[\d.]+)*( )?ms", "N ms"),)),
    "ping, record route": Row(
        "ping -R -c 1 -I 10.0.0.1 {server}",
        rules=((r"time[= ][\d.]+ ?ms", ""), (r"rtt .*", "")),
        families=(IPV4,),
    ),
    "mtr, UDP": Row("mtr -n -r -c 2 -i 0.2 --udp {server}", rules=MTR, waits=True),
    "busybox ping": Row("busybox ping -c 1 {server}", rules=((r"[\d.]+(/[\d.]+)* ms", "N ms"),)),
    "tcpdump": Row(
        "tcpdump -nt -i any -c 3 -Q in 'icmp[0] == 0 or ip6[40] == 129' & t=$!; "
        "ping -i 0.2 {server} >/dev/null & p=$!; wait $t && kill $p",
        rules=(
            (r"^\S+", "NAME"),
            (r"(?m)^(lo|eth0) +", "NAME "),
            (r"(id|seq|packets?|length) \d+", "N"),
            (r"\d+ packets?", "N"),
            (r"10\.0\.0\.2 > 10\.0\.0\.[12]|fd00::2 > fd00::[12]", "A > B"),
        ),
    ),
    "ssh": Row(
        f"ssh {SSH} root@{{server}} 'read line; echo got $line; exit 5'",
        stdin="it\n",
        status=5,
        **SSHD,
    ),
    "scp": Row(f"scp {SSH} root@{{url}}:{{dir}}/page {{dir}}/copied && cmp page copied", **SSHD),
    "traceroute": Row(
        "traceroute -n {server}", rules=((r"[\d.]+ ms", "N ms"), (r"\d+ byte packets", "N"))
    ),
    "tracepath": Row("tracepath -n {server}", rules=((r"[\d.]+ms", "N"), (r" +", " "))),
    "mtr": Row(
        "mtr -n -r -c 2 -i 0.2 {server}",
        rules=MTR,
        waits=True,
    ),
    "node, fetch": Row(f'node -e "{FETCH}" http://{{url}}:8080/page', **NGINX),
    "node, a server": Row("curl -sS -d hello http://{url}:8000/a", **NODE),
    "caddy and curl": Row("curl -sS http://{url}:8090/page", **CADDY),
    "caddy and curl, 100 in parallel": Row(
        "curl -sS -Z --parallel-max 100 -o /dev/null -w '%{{http_code}}\\n' "
        "http://{url}:8090/page?[1-100] 2>/dev/null",
        **CADDY,
    ),
    "rsync": Row(
        "rsync rsync://{url}/files/page pulled && cmp page pulled && "
        "rsync page rsync://{url}/files/pushed && cmp page pushed",
        **RSYNC,
    ),
    "git": Row(
        "rm -rf clone && git clone -q git://{url}/repository clone && cmp noise clone/noise", **GIT
    ),
    "haproxy and curl": Row("curl -sS http://{url}:8081/ http://{url}:8081/again", **HAPROXY),
    "haproxy and ab": Row(
        "ab -q -n 200 -c 20 http://{url}:8081/page",
        rules=(*NUMBERS, (r"(?s)Time taken.*", "")),
        **HAPROXY,
    ),
    "mosquitto": Row(
        "mosquitto_pub -h {server} -r -t name -m text && mosquitto_sub -h {server} -t name -C 1",
        **MOSQUITTO,
    ),
    "openssl s_client": Row(
        "openssl s_client -quiet -connect {url}:4433",
        stdin="GET /cert.pem HTTP/1.0\r\n\r\n",
        rules=((r"(?m)^(depth|verify|DONE).*\n", ""),),
        **TLS,
    ),
    "memcached": Row(
        "nc.openbsd -N {server} 11211",
        stdin="set k 0 0 5\r\nhello\r\nget k\r\nincr k 1\r\nquit\r\n",
        **MEMCACHED,
    ),
    "lighttpd and ab": Row(
        "ab -q -n 200 -c 20 http://{url}:8082/page",
        rules=(*NUMBERS, (r"(?s)Time taken.*", "")),
        **LIGHTTPD,
    ),
    "nghttpd and h2load": Row(
        "h2load -n 100 -c 10 -m 5 -t 2 http://{url}:8083/page",
        rules=((r"(?m)^(starting|progress|finished).*\n", ""), *NUMBERS, (r"(?s)time for.*", "")),
        **NGHTTPD,
    ),
    "knotd and dnsperf": Row(f"{DNSPERF} -p 5303", rules=DNSPERF_RULES, **KNOT),
    "knotd and dnsperf, TCP": Row(f"{DNSPERF} -p 5303 -m tcp", rules=DNSPERF_RULES, **KNOT),
    "ncat": Row("ncat {server} 9003", stdin="hello\n", **NCAT),
    "tftp": Row(
        "tftp -{v} {server} 6969 -m binary -c get page fetched && cmp page fetched", **TFTPD
    ),
    "stunnel": Row(
        "openssl s_client -quiet -connect {url}:4434",
        rules=((r"(?m)^(depth|verify|DONE).*\n", ""),),
        **STUNNEL,
    ),
    "fping": Row("fping -{v} -c 2 -p 100 -t 20000 {server}", rules=NUMBERS),
    # It writes frames into a ring of memory (PACKET_TX_RING).
    "trafgen": Row(
        f"trafgen -v >/dev/null; cat {SENT} >before && "
        "trafgen -o lo -i {dir}/trafgen.cfg -n 50 -P 1 -q >/dev/null 2>&1 && "
        f"echo $(($(cat {SENT}) - $(cat before)))",
        families=(IPV4,),
    ),
}
