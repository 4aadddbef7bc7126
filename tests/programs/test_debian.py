"""Debian's own programs on our hosts: what they print, and how they end, is what it is on Linux.

Each row runs a server on one host and a client on another, then both in a namespace of the kernel
that has both addresses. What cannot be the same (times, rates, ports) is taken out by a rule of the
row, and by nothing else.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stack import proc
from stack.api.programs import Program, spawn
from stack.host import Host
from tests.hosts import real_hosts
from tests.linux.peer import Peer, Worker
from tests.programs.rows import IPV4, IPV6, ROWS, Row
from tests.support import require

pytestmark = pytest.mark.netns
PIPE = subprocess.PIPE
LISTS = "tcp", "tcp6", "udp", "udp6"
START_S = 30.0
END_S = 240.0
"""More than both programs are given to end."""


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

HAPROXY_CFG = """
defaults
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend asked
    mode tcp
    option splice-auto
    bind :8081
    bind :::8081 v6only
    default_backend asks
backend asks
    mode tcp
    option splice-auto
    server one 127.0.0.1:8082 check inter 100ms
frontend answers
    mode http
    bind 127.0.0.1:8082
    http-request return status 200 content-type text/plain file {dir}/cert.pem
"""
LIGHTTPD_CONF = """
server.document-root = "{dir}"
server.port = 8082
server.bind = "0.0.0.0"
server.max-worker = 3
$SERVER["socket"] == "[::]:8082" {{ }}
"""
KNOT_CONF = """
server:
    rundir: {dir}
    listen: [ 0.0.0.0@5303, ::@5303 ]
    udp-workers: 3
    tcp-workers: 2
    tcp-reuseport: on
database:
    storage: {dir}/knot
zone:
  - domain: b
    file: {dir}/b.zone
log:
  - target: stderr
    any: error
"""
ZONE = """$TTL 60
@ IN SOA ns.b. root.b. 1 60 60 60 60
@ IN NS ns.b.
ns IN A 10.1.2.2
www IN A 10.1.2.3
"""
STUNNEL_CONF = """
foreground = yes
pid =
cert = {dir}/cert.pem
key = {dir}/key.pem
[said]
accept = :::4434
exec = /bin/echo
execArgs = echo said to the socket
"""
CONFIGURATIONS = {
    "nginx.conf": NGINX_CONF,
    "haproxy.cfg": HAPROXY_CFG,
    "rsyncd.conf": "use chroot = no\nlog file = /dev/null\n"
    "[files]\npath = {dir}\nread only = no\nuid = root\ngid = root\n",
    "lighttpd.conf": LIGHTTPD_CONF,
    "trafgen.cfg": "{{ fill(0x11, 60) }}\n",
    "knot.conf": KNOT_CONF,
    "b.zone": ZONE,
    "queries": "www.b A\nnone.b A\nwww.b AAAA\n",
    "stunnel.conf": STUNNEL_CONF,
    "mosquitto.conf": "listener 1883\nallow_anonymous true\nlog_type none\n",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("www")
    (path / "page").write_bytes(b"0123456789abcdef" * 65536)
    (path / "noise").write_bytes(os.urandom(1 << 20))
    for name, text in CONFIGURATIONS.items():
        (path / name).write_text(text.format(dir=path))
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=b"]
    words += ["-keyout", str(path / "key.pem"), "-out", str(path / "cert.pem")]
    subprocess.run([require.tool("openssl"), *words], check=True, capture_output=True)
    for name in ("host", "id"):
        words = ["-q", "-N", "", "-t", "ed25519", "-f", str(path / name)]
        subprocess.run([require.tool("ssh-keygen", "openssh-client"), *words], check=True)
    git = [require.tool("git"), "-C", str(path / "repository")]
    git += ["-c", "user.name=n", "-c", "user.email=n@b"]
    (path / "repository").mkdir()
    shutil.copy(path / "noise", path / "repository")
    for call in (["init", "-q"], ["add", "noise"], ["commit", "-q", "-m", "noise"]):
        subprocess.run([*git, *call], check=True)
    os.makedirs("/run/sshd", exist_ok=True)
    os.chmod(path, 0o755)
    return path


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    """A namespace that has the addresses of both hosts."""
    require.netns()
    peer = Peer()
    try:
        peer.ip("link", "set", "lo", "mtu", "1500", "up")  # as eth0 has
        for address in (*IPV4, *IPV6):
            peer.ip("addr", "add", address, "dev", "lo")
        yield peer
    finally:
        peer.close()


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    with real_hosts() as hosts:
        for host, address in zip(hosts, IPV6, strict=True):
            host.sysctl["net.ipv6.conf.eth0.accept_dad"] = 0
            host.sysctl["net.ipv4.icmp_ratelimit"] = 0  # as Peer has it
            host.sysctl["net.ipv6.icmp.ratelimit"] = 0
            host.ifconfig("eth0", f"{address}/64")
        yield hosts


def words(text: str, files: Path, family: tuple[str, str]) -> list[str]:
    server = family[1]
    v6 = ":" in server
    filled = text.format(
        server=server, url=f"[{server}]" if v6 else server, dir=files, v=6 if v6 else 4
    )
    return ["sh", "-c", filled if "&&" in filled else f"exec {filled}"]


def listens_here(peer: Peer, row: Row) -> bool:
    """Whether something listens on the row's port in the namespace."""
    return row.listens(peer.run("cat", *(f"/proc/net/{name}" for name in LISTS)).stdout.decode())


def listens(host: Host, row: Row) -> bool:
    """Whether something listens on the row's port on a host."""
    with host.lock:
        return row.listens("".join(proc.read(host, name) for name in LISTS))


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

    kernel = Worker(run, (row, files, family, here, lambda: listens_here(peer, row)))
    if not row.waits:
        kernel.result(END_S)
    got = run(row, files, family, there, lambda: listens(hosts[1], row))
    want = kernel.result(END_S)
    assert want[1] == row.status
    assert got[1] == want[1], told(got[0], row)[-2000:]
    assert told(got[0], row) == told(want[0], row)
    assert got[2] == want[2]
    assert said == []
