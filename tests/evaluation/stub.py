"""A server that speaks OpenAI's API, over real HTTP: it answers as it is told, and badly where it should."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Stub:
    """What the server says, and what it was asked.

    ``say(number, body)`` gives a text, an HTTP status, ``garbage``, or ``(seconds, text)`` to be slow.
    """

    def __init__(self, say):
        self.say, self.asked, self.lock = say, [], threading.Lock()

    def take(self, body):
        with self.lock:
            self.asked.append(body)
            return len(self.asked) - 1


@contextmanager
def served(say):
    stub = Stub(say)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_GET(self):
            self.reply(
                200, {"object": "list", "data": [{"id": "stub", "object": "model", "created": 0, "owned_by": "x"}]}
            )

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = stub.say(stub.take(body), body)
            if isinstance(said, tuple):
                time.sleep(said[0])
                said = said[1]
            if isinstance(said, int):
                self.reply(said, {"error": {"message": "no", "type": "x"}}, {"retry-after-ms": "10"})
            elif said == "garbage":
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "9")
                self.end_headers()
                self.wfile.write(b"{garbage!")
            else:
                message = {"role": "assistant", "content": said}
                self.reply(200, {"id": "1", "object": "chat.completion", "created": 0, "model": "stub",
                                 "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                                 "usage": {"prompt_tokens": 7, "completion_tokens": 3,
                                           "total_tokens": 10}})  # fmt: skip

        def reply(self, status, body, headers=None):
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
