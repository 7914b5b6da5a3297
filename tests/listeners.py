"""One mosquitto with every kind of listener that the agent can be pointed at, well kept and badly kept."""

import subprocess
import time
from pathlib import Path
from typing import Any, Self

from authorities import DAY, Authority
from brokers import Mosquitto, free_port

USER, PASSWORD = "vedette", "correct horse"

WRITES = "topic write vedette/gw-1/#\ntopic read plant/#\n"
"""What docs/broker.md says an agent needs."""


class Listeners:
    """In a `with` block.

    Args:
        folder: For its files.

    Attributes:
        authority: Issued what the TLS listeners show.
        client: A certificate and key of its, for a client; `stranger`'s is another authority's.
        url: Of each listener, by name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority, other = Authority(folder / "ours", "Plant CA"), Authority(folder / "theirs", "Other CA")
        self.client = self.authority.issue("gateway")
        self.stranger = other.issue("stranger")
        self.password_file = folder / "password"
        self.password_file.write_text(PASSWORD)
        self.password_file.chmod(0o600)
        passwords = folder / "passwords"
        subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), USER, PASSWORD], check=True)
        good = self.authority.issue("good")
        self._lines: list[str] = ["allow_anonymous true"]
        self.socket = folder / "mosquitto.sock"
        self.url: dict[str, str] = {}
        ports = {name: free_port() for name in ("tls", "expired", "early", "elsewhere", "mutual", "mutual 1.2", "ws", "wss", "password")}
        self.broker = Mosquitto(folder, first="per_listener_settings true", settings="")

        def listen(name: str, scheme: str, *settings: str, cert: tuple[Path, Path] | None = None) -> None:
            self._lines += [f"listener {ports[name]} 127.0.0.1", *settings]
            if cert:
                self._lines += [f"certfile {cert[0]}", f"keyfile {cert[1]}"]
            self.url[name] = f"{scheme}://localhost:{ports[name]}"

        anyone = "allow_anonymous true"
        listen("tls", "mqtts", anyone, cert=good)
        listen("expired", "mqtts", anyone, cert=self.authority.issue("expired", begins=-5 * DAY, ends=-3 * DAY))
        listen("early", "mqtts", anyone, cert=self.authority.issue("early", begins=3 * DAY, ends=5 * DAY))
        listen("elsewhere", "mqtts", anyone, cert=self.authority.issue("elsewhere", hosts=("broker.plant", "10.1.2.3")))
        wants = (anyone, f"cafile {self.authority.file}", "require_certificate true")
        listen("mutual", "mqtts", *wants, cert=good)
        listen("mutual 1.2", "mqtts", *wants, "tls_version tlsv1.2", cert=good)
        listen("ws", "ws", "protocol websockets", anyone)
        listen("wss", "wss", "protocol websockets", anyone, cert=good)
        (folder / "acl").write_text(f"user {USER}\n{WRITES}")
        listen("password", "mqtt", "allow_anonymous false", f"password_file {passwords}", f"acl_file {folder / 'acl'}")
        self._lines += [f"listener 0 {self.socket}", anyone]
        self.url["unix"] = f"unix://{self.socket}"
        self.url["plain"] = f"mqtt://localhost:{self.broker.port}"
        self.broker = Mosquitto(folder, self.broker.port, "\n".join([*self._lines, ""]), first="per_listener_settings true\nuser root")

    def settings(self, name: str, **more: Any) -> dict[str, Any]:
        """What `broker` is in the configuration of an agent that uses a listener rightly."""
        trust = {"ca_file": str(self.authority.file)} if self.url[name].startswith(("mqtts", "wss")) else {}
        own = dict(zip(("cert_file", "key_file"), map(str, self.client), strict=True)) if name.startswith("mutual") else {}
        login = {"username": USER, "password_file": str(self.password_file)} if name == "password" else {}
        return {"url": self.url[name], **trust, **own, **login, **more}

    def __enter__(self) -> Self:
        self.broker.start()
        deadline = time.monotonic() + 10
        while not self.socket.exists():  # the last of them
            assert time.monotonic() < deadline, "mosquitto makes no unix socket"
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self.broker.stop()
