"""Audio from URLs: real sockets, and the addresses that must not be reached."""

import http.server
import threading

import anyio
import pytest

from coat.serving import remote
from coat.serving.errors import RefusedError


@pytest.fixture(scope="module")
def website():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/sound")
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x" * 5000 + self.headers["Host"].encode())

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


def get(url, allowed, **options):
    return anyio.run(lambda: remote.fetch(url, allowed, **{"max_bytes": 10_000, **options}))


@pytest.fixture
def trusted(monkeypatch):
    """Every host is this machine, and that is taken for a public one."""
    monkeypatch.setattr(remote, "public_address", lambda host, port: "127.0.0.1")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "10.0.0.8", "192.168.1.1", "169.254.169.254", "0.0.0.0", "::1", "224.0.0.1",
             "100.64.0.1", "::ffff:127.0.0.1"],
)  # fmt: skip
def test_private_addresses_are_refused(host):
    with pytest.raises(RefusedError, match="private network"):
        remote.public_address(host, 80)


def test_public_addresses_pass():
    assert remote.public_address("93.184.216.34", 80) == "93.184.216.34"


def test_allowed_hosts_are_still_checked():
    with pytest.raises(RefusedError, match="private network"):
        get("http://localhost/sound", ["localhost"])


def test_unknown_hosts_are_named():
    with pytest.raises(RefusedError, match="There is no host"):
        get("http://nowhere.invalid/sound", [".invalid"])


@pytest.mark.usefixtures("trusted")
def test_files_of_allowed_hosts_come(website):
    data = get(f"http://sounds.example.org:{website}/sound", [".example.org"])
    assert data == b"x" * 5000 + f"sounds.example.org:{website}".encode()


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("path", "options", "status", "message"),
    [
        ("/sound", {"max_bytes": 4000}, 413, "larger than 4000"),
        ("/moved", {}, 400, "answered 302"),
    ],
)
def test_what_is_not_taken_of_them(website, path, options, status, message):
    with pytest.raises(RefusedError, match=message) as caught:
        get(f"http://a.org:{website}{path}", ["a.org"], **options)
    assert caught.value.status == status


@pytest.mark.usefixtures("trusted")
def test_hosts_that_do_not_answer():
    with pytest.raises(RefusedError, match="could not be fetched"):
        get("http://a.org:1/sound", ["a.org"])


@pytest.mark.parametrize("host", ["b.org", "example.org.evil.net", "aexample.org", ""])
def test_other_hosts_are_refused(host):
    with pytest.raises(RefusedError, match="does not fetch"):
        get(f"http://{host}/sound", ["example.org", ".example.org"])
