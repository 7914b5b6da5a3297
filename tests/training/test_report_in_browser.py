"""The report as a reader's browser shows it: `make report-check` leaves what it looks like under build/report/."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from websockets.sync.client import ClientConnection, connect

import evaluations
from vedette_training import report

CHROMIUM = shutil.which("chromium")
PICTURES = Path(__file__).parents[2] / "build" / "report"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: make report-check installs it (apt install chromium)")

WIDTHS = (1280, 360, 320)
THEMES = ("light", "dark")

# In the page: what is wider than it, and the smallest text that is shown in a picture, in CSS pixels.
LOOK = """(() => {
  const texts = [...document.querySelectorAll('svg text')].filter(t => t.getClientRects().length && t.textContent.trim());
  const size = t => parseFloat(getComputedStyle(t).fontSize) * t.ownerSVGElement.getScreenCTM().a;
  const inside = e => !!e && (['auto', 'scroll'].includes(getComputedStyle(e).overflowX) || inside(e.parentElement));
  return {
    width: innerWidth, content: document.documentElement.scrollWidth, height: document.documentElement.scrollHeight,
    beyond: [...document.querySelectorAll('body *')].filter(e => !inside(e.parentElement) && e.getClientRects().length)
      .filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + ' ' + e.textContent.slice(0, 40)),
    smallest: Math.min(...texts.map(size)), texts: texts.length,
    paper: getComputedStyle(document.body).backgroundColor, scripts: document.scripts.length, hacked: typeof window.hacked,
  };
})()"""


class Browser:
    """Chromium without a window, spoken to by the DevTools protocol."""

    def __init__(self, profile: Path) -> None:
        command = [
            str(CHROMIUM), "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={profile}", "--disable-gpu",
            "--hide-scrollbars",
            "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
            *(["--no-sandbox"] if os.geteuid() == 0 else []), "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._numbers = itertools.count(1)
        self.events: list[dict[str, Any]] = []
        port_file = profile / "DevToolsActivePort"
        until = time.monotonic() + 60
        while not (port_file.exists() and len(lines := port_file.read_text().split("\n")) >= 2):
            assert self._process.poll() is None, f"chromium ended with {self._process.returncode}"
            assert time.monotonic() < until, "chromium did not start"
            time.sleep(0.1)
        self._socket: ClientConnection = connect(f"ws://127.0.0.1:{lines[0]}{lines[1]}", max_size=None)
        self._session: str | None = None

    def open_tab(self) -> None:
        """A tab of its own, whose events are kept from now on."""
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.events.clear()
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask and wait for the answer."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": self._session} if self._session else {})
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return dict(answer["result"])
            self.events.append(answer)

    def wait(self, method: str) -> None:
        """Until an event of that name was there."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(json.loads(self._socket.recv(timeout=60)))

    def of(self, method: str) -> list[dict[str, Any]]:
        """The parameters of the events of that name."""
        return [event["params"] for event in self.events if event.get("method") == method]

    def close(self) -> None:
        """End it."""
        self._session = None
        self._socket.send(json.dumps({"id": 0, "method": "Browser.close"}))
        self._socket.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    running = Browser(tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def reports() -> dict[str, Path]:
    """One of each kind that looks different."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    whole = evaluations.make(findings=evaluations.FINDINGS, strength=2.0)
    hostile = ("<script>hacked = 1</script>", "</style><img src=x onerror=hacked=1>", "$\\frac{$ " + "W" * 100, "ein Gerät \u202e 冷蔵庫")
    odd = evaluations.make(device_names=hostile, days=3.0, feature="</style><script>hacked = 1</script>")
    kinds = {
        "one": [whole],
        "several": [
            whole,
            evaluations.renamed(evaluations.make(strength=4.0), "fridge-autoencoder", "hybrid"),
            evaluations.renamed(evaluations.make(shift=9.0, strength=0.8), "fridge-forest", "isolation_forest"),
        ],
        "hostile": [evaluations.with_scores(odd, np.sign(odd.judged.scores) * np.abs(odd.judged.scores) ** 5)],
        "bare": [evaluations.without_labels(whole)._replace(run=None, study=None, us_per_window={})],
    }
    paths = {}
    for kind, chosen in kinds.items():
        paths[kind] = PICTURES / f"{kind}.html"
        report.write(paths[kind], chosen)
    return paths


class Seen(NamedTuple):
    """What came of a page: what the browser complained of, what it asked for, and what LOOK found."""

    said: list[str]
    asked: list[str]
    looked: dict[str, Any]


def see(browser: Browser, page: Path, theme: str, width: int, picture: Path | None = None) -> Seen:
    browser.open_tab()
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    browser.call("Page.navigate", url=page.as_uri())
    browser.wait("Page.loadEventFired")
    looked = browser.call("Runtime.evaluate", expression=LOOK, returnByValue=True)["result"]["value"]
    if picture:
        clip = {"x": 0, "y": 0, "width": width, "height": looked["height"], "scale": 1}
        drawn = browser.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        picture.write_bytes(base64.b64decode(drawn["data"]))
    said = [entry["entry"]["text"] for entry in browser.of("Log.entryAdded") if entry["entry"]["level"] in {"error", "warning"}]
    said += [str(call["args"]) for call in browser.of("Runtime.consoleAPICalled")]
    said += [thrown["exceptionDetails"]["text"] for thrown in browser.of("Runtime.exceptionThrown")]
    # The empty icon is in the page itself.
    asked = [request["request"]["url"] for request in browser.of("Network.requestWillBeSent")]
    return Seen(said, [url for url in asked if not url.startswith("data:")], looked)


@pytest.mark.parametrize("kind", ["one", "several", "hostile", "bare"])
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_page_fits_its_screen_is_silent_and_asks_for_nothing(
    browser: Browser, reports: dict[str, Path], kind: str, theme: str, width: int
) -> None:
    seen = see(browser, reports[kind], theme, width, PICTURES / f"{kind}-{theme}-{width}.png")
    looked = seen.looked
    assert seen.said == []
    assert seen.asked == [reports[kind].as_uri()]
    assert looked["content"] <= looked["width"] == width, looked["beyond"]
    assert looked["beyond"] == []
    assert (looked["scripts"], looked["hacked"]) == (0, "undefined")
    assert looked["texts"] > 10
    assert looked["smallest"] >= 7.5, "text in a picture is too small to read"
    assert looked["paper"] == {"light": "rgb(255, 255, 255)", "dark": "rgb(17, 22, 27)"}[theme]


def test_what_is_looked_for_would_be_seen(browser: Browser, reports: dict[str, Path], tmp_path: Path) -> None:
    whole = reports["bare"].read_text()
    spoilt = tmp_path / "spoilt.html"
    spoilt.write_text(whole.replace("<main>", '<main><div style="width: 2000px">wide</div><script>hacked = 1</script>'))
    seen = see(browser, spoilt, "light", 1280)
    assert seen.looked["content"] > 1280
    assert "DIV wide" in seen.looked["beyond"]
    # The page's own policy keeps the script from running, and the browser says so.
    assert (seen.looked["scripts"], seen.looked["hacked"]) == (1, "undefined")
    assert "Content Security Policy" in seen.said[0]
    policy = whole[whole.index("<meta http-equiv") : whole.index('<meta name="viewport"')]
    spoilt.write_text(
        whole.replace(policy, "").replace("<main>", '<main><img src="http://127.0.0.1:9/x.png"><script>console.log(1)</script>')
    )
    seen = see(browser, spoilt, "light", 1280)
    assert "http://127.0.0.1:9/x.png" in seen.asked
    assert len(seen.said) >= 1
