"""Debian's own programs on our hosts: what they print, and how they end, is what it is on Linux.

Each row runs a server on one host and a client on another, then both in a namespace of the kernel
that has both addresses. What cannot be the same (times, rates, ports) is taken out by a rule of the
row, and by nothing else.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e1000emu.clock import RealClock
from e1000emu.lab import two_hosts
from stack import proc
from stack.api.programs import Program, spawn
from stack.host import Host
from tests.linux.peer import Peer
from tests.support import in_ci, require

pytestmark = pytest.mark.netns
PIPE = subprocess.PIPE
IPV4, IPV6 = ("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")
START_S = 30.0


@dataclass(frozen=True)
class Row:
    """A server, and what is compared of its client.

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
    heavy: bool = False
    """It takes long to start, or is a large package: in CI only."""


NUMBERS = ((r"\d+(\.\d+)?", "N"), (r" +", " "), (r"[KMG]?(bits|Bytes)", "unit"))
HTTP = {"server": "python3 -m http.server 8000 --bind {server} -d {dir}", "port": 8000}
CADDY = {"server": "caddy file-server --listen {url}:8000 --root {dir}", "port": 8000}
GET_JAVA = """
import java.net.URI;
import java.net.http.*;

public class Get {
    public static void main(String[] args) throws Exception {
        var asked = HttpRequest.newBuilder(URI.create(args[0])).build();
        var body = HttpResponse.BodyHandlers.ofByteArray();
        var got = HttpClient.newHttpClient().send(asked, body);
        System.out.println(got.statusCode() + " " + got.body().length);
    }
}
"""
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
    "busybox ping": Row("busybox ping -c 1 {server}", rules=((r"[\d.]+(/[\d.]+)* ms", "N ms"),)),
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
    "tracepath": Row(
        "tracepath -n {server}",
        rules=((r"[\d.]+ms", "N"), (r"pmtu \d+|back \d+", "N"), (r" 1\?:.*\n", "")),
    ),
    "mtr": Row("mtr -n -r -c 2 -i 0.3 {server}", rules=((r"Start.*", ""), *NUMBERS)),
    "caddy, in Go, and curl": Row("curl -sS http://{url}:8000/page", heavy=True, **CADDY),
    "node": Row(
        "node -e \"fetch('http://{url}:8000/page').then(r => r.text())"
        '.then(text => console.log(text.length))"',
        heavy=True,
        **HTTP,
    ),
    "java": Row("java {dir}/Get.java http://{url}:8000/page", heavy=True, **HTTP),
    "openssl s_client": Row(
        "openssl s_client -quiet -connect {url}:4433",
        stdin="GET /cert.pem HTTP/1.0\r\n\r\n",
        rules=((r"(?m)^(depth|verify|DONE).*\n", ""),),
        **TLS,
    ),
}
NGINX_CONF = """
daemon off; master_process off; pid {dir}/nginx.pid; error_log stderr crit;
events {{ worker_connections 512; }}
http {{
    access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;
    fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
    sendfile on;
    server {{ listen 8080; listen [::]:8080; root {dir}; }}
}}
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("www")
    (path / "page").write_bytes(b"0123456789abcdef" * 65536)
    (path / "Get.java").write_text(GET_JAVA)
    (path / "nginx.conf").write_text(NGINX_CONF.format(dir=path))
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=b"]
    words += ["-keyout", str(path / "key.pem"), "-out", str(path / "cert.pem")]
    subprocess.run([require.tool("openssl"), *words], check=True, capture_output=True)
    for name in ("host", "id"):
        words = ["-q", "-N", "", "-t", "ed25519", "-f", str(path / name)]
        subprocess.run([require.tool("ssh-keygen", "openssh-client"), *words], check=True)
    os.makedirs("/run/sshd", exist_ok=True)
    os.chmod(path, 0o755)
    return path


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    """A namespace that has the addresses of both hosts."""
    require.netns()
    peer = Peer()
    try:
        peer.ip("link", "set", "lo", "up")
        for address in (*IPV4, *IPV6):
            peer.ip("addr", "add", address, "dev", "lo")
        yield peer
    finally:
        peer.close()


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    with contextlib.closing(RealClock().start()) as clock:
        a, b = two_hosts(clock)
        with a, b:
            for host, address in zip((a, b), IPV6, strict=True):
                host.sysctl["net.ipv6.conf.eth0.accept_dad"] = 0
                host.ifconfig("eth0", f"{address}/64")
            yield a, b


def words(text: str, files: Path, family: tuple[str, str]) -> list[str]:
    server = family[1]
    v6 = ":" in server
    filled = text.format(
        server=server, url=f"[{server}]" if v6 else server, dir=files, v=6 if v6 else 4
    )
    return ["sh", "-c", filled if "&&" in filled else f"exec {filled}"]


def listens_here(peer: Peer, row: Row) -> bool:
    """Whether something listens on the row's port in the namespace."""
    found = peer.run("cat", "/proc/net/tcp", "/proc/net/tcp6").stdout.decode()
    return bool(re.search(rf":{row.port:04X} \S+ 0A ", found))


def listens(host: Host, row: Row) -> bool:
    """Whether something listens on the row's port on a host."""
    with host.lock:
        found = proc.read(host, "tcp") + proc.read(host, "tcp6")
    return bool(re.search(rf":{row.port:04X} \S+ 0A ", found))


def run(
    row: Row,
    files: Path,
    family: tuple[str, str],
    start: Callable[[int, list[str]], subprocess.Popen[Any]],
    ready: Callable[[], bool],
) -> tuple[str, int, str]:
    """What the client prints, its status, what the server prints."""
    with contextlib.ExitStack() as stack:
        server = None
        if row.server:
            server = stack.enter_context(start(1, words(row.server, files, family)))
            stack.callback(server.kill)
            end = time.monotonic() + START_S
            while not ready():
                assert server.poll() is None, server.communicate()[0]
                assert time.monotonic() < end, "the server does not listen"
                time.sleep(0.02)
        client = stack.enter_context(start(0, words(row.client, files, family)))
        stack.callback(client.kill)
        out, _ = client.communicate(row.stdin.encode(), timeout=120)
        log = b""
        if server is not None:
            if not row.log:
                server.send_signal(signal.SIGTERM)
            log, _ = server.communicate(timeout=60)
    return out.decode(errors="replace"), client.returncode, log.decode() if row.log else ""


def told(text: str, row: Row) -> str:
    """The text without what the row's rules take out."""
    for pattern, instead in row.rules:
        text = re.sub(pattern, instead, text)
    return text


CASES = [
    pytest.param(name, family, id=f"{name}, IPv{6 if ':' in family[1] else 4}")
    for name, row in ROWS.items()
    for family in row.families
]


@pytest.mark.parametrize(("name", "family"), CASES)
def test_as_on_linux(
    peer: Peer, hosts: tuple[Host, Host], files: Path, name: str, family: tuple[str, str]
) -> None:
    row = ROWS[name]
    if row.heavy and not in_ci():
        pytest.skip("takes long: set CI to run it")
    for text in (row.client, row.server):
        if text:
            require.tool(text.split()[0])
    pipes: dict[str, Any] = {"stdin": PIPE, "stdout": PIPE, "stderr": subprocess.STDOUT}
    pipes["cwd"] = files
    said: list[str] = []

    def here(_: int, argv: list[str]) -> subprocess.Popen[Any]:
        return subprocess.Popen(["ip", "netns", "exec", peer.name, *argv], **pipes)

    def there(which: int, argv: list[str]) -> Program:
        return spawn(hosts[which], argv, log=said.append, **pipes)

    want = run(row, files, family, here, lambda: listens_here(peer, row))
    got = run(row, files, family, there, lambda: listens(hosts[1], row))
    assert want[1] == row.status
    assert got[1] == want[1], told(got[0], row)[-2000:]
    assert told(got[0], row) == told(want[0], row)
    assert got[2] == want[2]
    assert said == []
