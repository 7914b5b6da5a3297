"""The ways to a signed repository: a web server, or a folder. Neither is trusted; what they bring is checked by whoever asked.

Rules this module keeps: a server that stalls or drips does not hold a gateway for ever; on a stick, only files are opened.
"""

import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient import FetcherInterface

from vedette import __version__

CHUNK_BYTES = 64 * 1024
STALL_S = 30.0
"""Longest wait for a connection, and for the next bytes."""
LONGEST_FETCH_S = 600.0
"""Longest time for one file."""


class Fetcher(FetcherInterface):
    """Fetches, and remembers what came last: an error of the protocol does not always say which file it is about.

    Attributes:
        last_file: The file that was asked for last.
        last_metadata: The metadata that came last.
    """

    last_file = ""
    last_metadata = b""

    def fetch(self, url: str) -> Iterator[bytes]:
        """As `FetcherInterface` has it."""
        self.last_file = url.rpartition("/")[2]
        return super().fetch(url)

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """As `FetcherInterface` has it."""
        self.last_metadata = super().download_bytes(url, max_length)
        return self.last_metadata


class FolderFetcher(Fetcher):
    """A repository in a folder, such as a mounted USB stick. Its addresses are paths."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        if not self._folder.is_dir():
            raise DownloadError("there is no such folder; is it mounted?")
        if not Path(url).is_file():
            raise DownloadHTTPError("no such file", 404)
        return self._chunks(Path(url))

    @staticmethod
    def _chunks(path: Path) -> Iterator[bytes]:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


class WebFetcher(Fetcher):
    """A repository on a web server, through a proxy where the environment names one (`https_proxy`, `no_proxy`).

    Args:
        ca_file: Certificates to trust instead of the system's.
    """

    def __init__(self, ca_file: str | None) -> None:
        self._ca_file = ca_file

    def _fetch(self, url: str) -> Iterator[bytes]:
        parts = urlsplit(url)
        host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
        proxy = None if urllib.request.proxy_bypass(f"{host}{port}") else urllib.request.getproxies().get(parts.scheme)
        headers = {"User-Agent": f"vedette/{__version__}"}
        pool = (
            urllib3.ProxyManager(proxy, headers=headers, ca_certs=self._ca_file)
            if proxy
            else urllib3.PoolManager(headers=headers, ca_certs=self._ca_file)
        )
        retries = urllib3.Retry(2, backoff_factor=0.5)
        response = pool.request("GET", url, preload_content=False, timeout=STALL_S, retries=retries)
        if response.status >= 400:
            response.close()
            raise DownloadHTTPError(f"HTTP {response.status}", response.status)
        return self._chunks(response)

    @staticmethod
    def _chunks(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        deadline = time.monotonic() + LONGEST_FETCH_S
        with response:
            # What has come, rather than a whole chunk, so that the deadline is looked at.
            while chunk := response.read1(CHUNK_BYTES, decode_content=False):
                if time.monotonic() > deadline:
                    raise SlowRetrievalError(f"not done within {LONGEST_FETCH_S:.0f} s")
                yield chunk
