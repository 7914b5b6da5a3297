"""The way to the repository: web servers that are well, and such as are not."""

import datetime as dt
import functools
import http.server
import ipaddress
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from brokers import free_port
from bundles import make_bundle
from publishers import Gateway, Publisher
from vedette import fetchers
from vedette.contract.errors import UpdateError

V1 = make_bundle(version="1.0.0")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    made = Publisher(tmp_path)
    made.publish(V1)
    return made


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path, handler: type[Handler] = Handler, certificate: Path | None = None) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, name="web server", kwargs={"poll_interval": 0.01}).start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def refusal(gateway: Gateway) -> str:
    with pytest.raises(UpdateError) as caught:
        gateway.update()
    message = str(caught.value)
    assert "\n" not in message and not list(gateway.state.glob("updates/*.fetched"))
    return message


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = generate_private_key(SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's own authority")])
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._sign(self._name, self._key, dt.timedelta(days=-2), ca=True))

    def certificate(self, begins: dt.timedelta = dt.timedelta(days=-1)) -> Path:
        key = generate_private_key(SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        path = self._folder / "server.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(private + self._sign(name, key, begins, ca=False))
        return path

    def _sign(self, name: x509.Name, key: EllipticCurvePrivateKey, begins: dt.timedelta, *, ca: bool) -> bytes:
        start = dt.datetime.now(dt.UTC) + begins
        builder = (
            x509.CertificateBuilder(self._name, name, key.public_key(), x509.random_serial_number(), start, start + dt.timedelta(days=9))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
            .add_extension(x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False), critical=True)
        )
        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM)


def test_over_http_the_signatures_are_protection_enough(tmp_path: Path, publisher: Publisher) -> None:
    with served(publisher.repo.parent) as url:
        gateway = Gateway(tmp_path / "gateway", publisher, f"{url}/repo/")
        assert gateway.version() == "1.0.0"
        publisher.publish(make_bundle(version="1.1.0"))
        assert gateway.version() == "1.1.0"


def test_over_https_with_an_authority_of_ones_own(tmp_path: Path, publisher: Publisher) -> None:
    authority = Authority(tmp_path)
    with served(publisher.repo, certificate=authority.certificate()) as url:
        assert Gateway(tmp_path / "gateway", publisher, url, ca=str(authority.file)).version() == "1.0.0"
        message = refusal(Gateway(tmp_path / "stranger", publisher, url))
        assert "cannot be reached" in message and "certificate verify failed" in message and "this machine's clock shows" in message
        assert "no such file" in refusal(Gateway(tmp_path / "typo", publisher, url, ca=str(tmp_path / "none.pem"))).lower()


def test_a_certificate_that_is_not_valid_yet_shows_the_clock(tmp_path: Path, publisher: Publisher) -> None:
    authority = Authority(tmp_path)
    with served(publisher.repo, certificate=authority.certificate(begins=dt.timedelta(days=1))) as url:
        message = refusal(Gateway(tmp_path / "gateway", publisher, url, ca=str(authority.file)))
    assert "certificate is not yet valid" in message and "this machine's clock shows" in message


def test_through_a_proxy_where_the_environment_names_one(tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Proxy(Handler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.path = urlsplit(self.path).path
            super().do_GET()

    with served(publisher.repo, Proxy) as url:
        monkeypatch.setenv("http_proxy", url)
        assert Gateway(tmp_path / "gateway", publisher, "http://models.invalid").version() == "1.0.0"
        assert "http://models.invalid/metadata/timestamp.json" in asked
        monkeypatch.setenv("no_proxy", "models.invalid")
        assert "cannot be reached" in refusal(Gateway(tmp_path / "other", publisher, "http://models.invalid"))


def test_a_download_that_breaks_off_is_refused_and_the_next_one_works(tmp_path: Path, publisher: Publisher) -> None:
    class Breaks(Handler):
        def copyfile(self, source: Any, outputfile: Any) -> None:
            data = source.read()
            outputfile.write(data[: len(data) // 2] if "targets/" in self.path else data)

    gateway = Gateway(tmp_path / "gateway", publisher)
    with served(publisher.repo, Breaks) as url:
        broken = Gateway(tmp_path / "gateway", publisher, url)
        assert "fridge 1.0.0 cannot be reached: " in refusal(broken)
    assert gateway.version() == "1.0.0"


def test_a_server_that_stalls_or_drips_does_not_hold_a_gateway(
    tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetchers, "STALL_S", 0.2)
    monkeypatch.setattr(fetchers, "LONGEST_FETCH_S", 0.5)
    over = threading.Event()

    class Stalls(Handler):
        pause_s = 60.0

        def copyfile(self, source: Any, outputfile: Any) -> None:
            for byte in source.read():
                outputfile.write(bytes([byte]))
                if over.wait(self.pause_s):
                    return

    class Drips(Stalls):
        pause_s = 0.05

    for handler, words in ((Stalls, "timed out"), (Drips, "not done within 0 s")):
        with served(publisher.repo, handler) as url:
            began = time.monotonic()
            assert words in refusal(Gateway(tmp_path / handler.__name__, publisher, url)).lower()
            assert time.monotonic() - began < 10
            over.set()
        over.clear()


def test_a_server_that_sends_for_ever_is_cut_off(tmp_path: Path, publisher: Publisher) -> None:
    class Endless(Handler):
        def do_GET(self) -> None:
            if not self.path.endswith("timestamp.json"):
                super().do_GET()
                return
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b" " * 65536)
            except OSError:
                return

    with served(publisher.repo, Endless) as url:
        assert "exceeding the maximum allowed length" in refusal(Gateway(tmp_path / "gateway", publisher, url))


@pytest.mark.parametrize(("status", "words"), [(404, "timestamp.json is not there (404)"), (500, "the server answers 500 to 2.root.json")])
def test_a_server_that_has_nothing_says_so(tmp_path: Path, publisher: Publisher, status: int, words: str) -> None:
    class Empty(Handler):
        def do_GET(self) -> None:
            self.send_error(status)

    with served(publisher.repo, Empty) as url:
        assert words in refusal(Gateway(tmp_path / "gateway", publisher, url))


def test_what_a_server_says_cannot_break_out_of_the_line(tmp_path: Path, publisher: Publisher) -> None:
    class Leads(Handler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"http://{'x' * 5000}\x1b(B\x07/")
            self.end_headers()

    with served(publisher.repo, Leads) as url:
        message = refusal(Gateway(tmp_path / "gateway", publisher, url))
    assert "xxx" in message and message.isprintable() and len(message) < 1100


def test_a_server_that_is_down_says_so(tmp_path: Path, publisher: Publisher) -> None:
    gateway = Gateway(tmp_path / "gateway", publisher)
    assert gateway.version() == "1.0.0"
    message = refusal(Gateway(tmp_path / "gateway", publisher, f"http://127.0.0.1:{free_port()}"))
    assert "cannot be reached" in message and "refused" in message
