"""A server of another make: it knows CSV lines alone. A process of its own.

    python csv_server.py LOG [--slow-until CONNECTIONS] [--delay SECONDS] [--busy REQUESTS]
        [--poison COLOUR] [--port PORT]

It prints its address. The price of a row is twice its size; a request with the colour ``poison`` is
refused. What it scores goes to LOG, a line a request: the client's port, then the sizes.
"""

import argparse
import csv
import io
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COLUMNS = "input,size,numeric\ninput,colour,text\noutput,price,numeric\noutput,label,text\n"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/model/columns":
            self._answer(200, COLUMNS)
        else:
            self._answer(404, "there is nothing here")

    def do_POST(self) -> None:
        server = self.server
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with server.lock:
            server.ports.add(self.client_address[1])
            is_slow = len(server.ports) < server.options.slow_until
            server.busy -= 1
            if server.busy >= 0:
                self._answer(503, "busy")
                return
        time.sleep(0.05 if is_slow else server.options.delay)
        rows = list(csv.DictReader(io.StringIO(text)))
        if self.headers["Content-Type"] != "text/csv":
            self._answer(415, "CSV, please")
        elif any(row["colour"] == server.options.poison for row in rows):
            self._answer(422, "a colour is poison")
        else:
            with server.lock, server.options.log.open("a") as log:
                log.write(
                    " ".join([str(self.client_address[1]), *(r["size"] for r in rows)]) + "\n"
                )
            lines = [
                f"{'' if row['size'] == '' else 2 * float(row['size'])},{row['colour']}!"
                for row in rows
            ]
            self._answer(200, "\n".join(["price,label", *lines, ""]))

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/csv")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("log", type=Path)
    parser.add_argument("--slow-until", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--poison", default="poison")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    server.options, server.lock, server.ports = options, threading.Lock(), set()
    server.busy = server.options.busy
    sys.stdout.write(f"http://127.0.0.1:{server.server_address[1]}/model\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
