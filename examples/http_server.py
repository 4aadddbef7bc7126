"""The standard library over two of our hosts in real time: its HTTP server on one, clients on the
other, one by http.client in a thread of its own, one by asyncio."""

import asyncio
import functools
import http.client
import http.server
import threading

from e1000emu import RealClock
from e1000emu.lab import two_hosts
from stack.host import Host
from stack.socket import create_connection, create_server

ADDRESS = ("10.0.0.2", 80)


class Hello(http.server.BaseHTTPRequestHandler):
    """Answers with the path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Send the answer."""
        body = f"hello from {self.path}\n".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


async def fetch(host: Host, path: str) -> str:
    """GET by asyncio's own streams, over a socket of `host`; the last line of the answer."""
    sock = await asyncio.to_thread(create_connection, host, ADDRESS)
    reader, writer = await asyncio.open_connection(sock=sock)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.decode().splitlines()[-1]


clock = RealClock().start()
a, b = two_hosts(clock)

server = http.server.ThreadingHTTPServer(ADDRESS, Hello, bind_and_activate=False)
server.socket.close()  # the kernel's
server.socket = create_server(b, ADDRESS)  # type: ignore[assignment]
thread = threading.Thread(target=server.serve_forever)
thread.start()

client = http.client.HTTPConnection("10.0.0.2")
client._create_connection = functools.partial(create_connection, a)  # type: ignore[attr-defined]
for path in ("/one", "/two"):
    client.request("GET", path)
    print("http.client:", client.getresponse().read().decode().strip())
client.close()
print("asyncio:", asyncio.run(fetch(a, "/three")))

server.shutdown()
server.server_close()
thread.join()
a.close()
b.close()
clock.close()
