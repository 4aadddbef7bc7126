"""The standard library over two of our hosts in real time. Its HTTP server runs on one. Clients run
on the other: http.client in a thread of its own, and asyncio."""

import asyncio
import http.client
import http.server
import threading

from e1000emu import RealClock
from e1000emu.lab import two_hosts
from stack.dropin import dropin

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


async def fetch(path: str) -> str:
    """GET by asyncio's own streams; the last line of the answer."""
    reader, writer = await asyncio.open_connection(*ADDRESS)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.decode().splitlines()[-1]


clock = RealClock().start()
a, b = two_hosts(clock)

with dropin(b):  # the server's socket is made here, and stays a socket of b
    server = http.server.ThreadingHTTPServer(ADDRESS, Hello)
thread = threading.Thread(target=server.serve_forever)
thread.start()

with dropin(a):
    client = http.client.HTTPConnection("10.0.0.2")
    for path in ("/one", "/two"):
        client.request("GET", path)
        print("http.client:", client.getresponse().read().decode().strip())
    client.close()
    print("asyncio:", asyncio.run(fetch("/three")))

server.shutdown()
server.server_close()
thread.join()
a.close()
b.close()
clock.close()
