"""Download of videos from URLs, with allowed schemes and hosts and limits for time and size."""

import ipaddress
import queue
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO
from urllib.request import getproxies, proxy_bypass

try:
    from huggingface_hub.utils import httpx
except ImportError:  # huggingface_hub 1.x
    import httpx  # type: ignore[no-redef]

WEB_SCHEMES = ("http", "https")
# Allowed remote file systems of fsspec. Others read local files (`local`, `zip`), store copies of unlimited size
# (`simplecache`), or connect to any host (`ftp`, `ssh`, `webdav`).
REMOTE_SCHEMES = ("hf", "s3", "gs", "gcs", "az", "abfs")
# Default limits of a download in seconds and bytes.
URL_TIMEOUT, URL_MAX_BYTES = 60.0, 2**30
MAX_REDIRECTS = 10

_CHUNK = 2**20
# Size in bytes above which a spooled temporary file is moved from memory to disk.
_IN_MEMORY = 2**26
# IPv6 addresses that contain an IPv4 address in their last 32 bits (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class DownloadError(OSError):
    """Raised if a URL is not allowed, or its content cannot be stored. The message names the cause and the remedy."""


def fetch(
    url: str, timeout: float = URL_TIMEOUT, max_bytes: int = URL_MAX_BYTES, allow_private: bool = False
) -> BinaryIO:
    """Downloads a URL to a temporary file.

    Each host is checked before a connection is opened, also after a redirect. The connection uses the checked address,
    so a change of the DNS record has no effect. With a proxy, the proxy resolves names, and only hosts that are given
    as an IP address can be checked.

    Args:
        url (`str`): URL with a scheme in `WEB_SCHEMES` or `REMOTE_SCHEMES`.
        timeout (`float`, *optional*, defaults to 60.0): Maximum time in seconds for the whole download.
        max_bytes (`int`, *optional*, defaults to 1 GiB): Maximum size in bytes.
        allow_private (`bool`, *optional*, defaults to `False`): Whether hosts on this machine and in private networks
            are allowed.

    Returns:
        `BinaryIO`: A temporary file that is deleted when it is closed.

    Raises:
        TimeoutError: If the download takes longer than `timeout`.
        DownloadError: If the URL is not allowed, or the file is too large or cannot be stored.
        Exception: If the connection or the file system raises one.
    """
    deadline = time.monotonic() + timeout
    file: Any = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
    try:
        for chunk in _until(deadline, chunks_of(url, timeout, max_bytes, allow_private)):
            if file.tell() + len(chunk) > max_bytes:
                raise _too_large(max_bytes)
            _write(file, chunk)
    except BaseException:
        file.close()
        raise
    return file


def _write(file: Any, chunk: bytes) -> None:
    try:
        file.write(chunk)
    except OSError as error:
        folder = tempfile.gettempdir()
        reason = f"it cannot be stored in {folder} ({error.strerror})"
        raise DownloadError(f"{reason}; free some space or set TMPDIR") from error


def _too_large(max_bytes: int) -> DownloadError:
    return DownloadError(f"it is larger than {max_bytes / 2**20:.0f} MiB; raise `url_max_bytes`")


def _until(deadline: float, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yields chunks until the deadline. A separate thread reads them, because file systems may block forever.

    Raises:
        TimeoutError: If the deadline has passed.
    """
    # The limited size makes a fast sender wait, which limits the memory.
    received: queue.Queue[Any] = queue.Queue(maxsize=4)
    stopped = threading.Event()

    def put(value: Any) -> bool:
        while not stopped.is_set():
            with suppress(queue.Full):
                received.put(value, timeout=0.1)
                return True
        return False

    def read() -> None:
        try:
            for chunk in chunks:
                if not put(chunk):
                    return
            put(None)
        except Exception as error:
            put(error)

    threading.Thread(target=read, daemon=True, name="fetching a video").start()
    try:
        while True:
            try:
                chunk = received.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError from None
            if chunk is None:
                return
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk
    finally:
        stopped.set()


def chunks_of(url: str, timeout: float, max_bytes: int, allow_private: bool) -> Iterator[bytes]:
    """Yields the content of a URL in chunks.

    Raises:
        DownloadError: If the URL is not allowed, or the server declares a size above `max_bytes`.
    """
    scheme = url.partition("://")[0].lower()
    if scheme in WEB_SCHEMES:
        yield from _from_web(url, timeout, max_bytes, allow_private)
        return
    # fsspec would open each part of a chained URL such as `s3://a::http://b` with another file system.
    if scheme not in REMOTE_SCHEMES or "::" in url:
        known = ", ".join(f"{name}://" for name in (*WEB_SCHEMES, *REMOTE_SCHEMES))
        raise DownloadError(
            f"only URLs of single files that start with {known} are allowed; download the file yourself"
        )
    import fsspec

    with fsspec.open(url, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _from_web(url: str, timeout: float, max_bytes: int, allow_private: bool) -> Iterator[bytes]:
    client = httpx.Client(
        transport=_CheckedTransport(allow_private),
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        timeout=timeout,
        # A compressed response could expand to any size, and videos are already compressed.
        headers={"Accept-Encoding": "identity"},
    )
    with client, client.stream("GET", url) as response:
        response.raise_for_status()
        if int(response.headers.get("Content-Length") or 0) > max_bytes:
            raise _too_large(max_bytes)
        yield from response.iter_raw(_CHUNK)


class _CheckedTransport(httpx.BaseTransport):
    """Transport that sends requests only to IP addresses that were checked. It is also used for redirects."""

    def __init__(self, allow_private: bool):
        self.allow_private = allow_private
        self.direct = httpx.HTTPTransport()
        self.proxied: dict[str, httpx.HTTPTransport] = {}

    def handle_request(self, request: Any) -> Any:
        host, scheme = request.url.host, request.url.scheme
        if proxy := _proxy_of(scheme, host):
            literal = _literal_address(host)
            self._check(host, [] if literal is None else [literal])
            return self.proxied.setdefault(proxy, httpx.HTTPTransport(proxy=proxy)).handle_request(request)
        addresses = _addresses_of(host)
        self._check(host, addresses)
        request.headers.setdefault("Host", request.url.netloc.decode("ascii"))
        # The certificate is issued for the name and not for the address.
        extensions = {**request.extensions, "sni_hostname": host}
        last_error: Exception | None = None
        for address in addresses:
            checked = httpx.Request(
                request.method,
                request.url.copy_with(host=str(address)),
                headers=request.headers,
                stream=request.stream,
                extensions=extensions,
            )
            try:
                return self.direct.handle_request(checked)
            except httpx.ConnectError as error:
                last_error = error
        raise last_error or httpx.ConnectError(f"{host} has no address", request=request)

    def _check(self, host: str, addresses: list[_Address]) -> None:
        for address in addresses:
            if not self.allow_private and not is_public(address):
                shown = host if host == str(address) else f"{host} ({address})"
                raise DownloadError(
                    f"{shown} is on this machine or in a private network; set `url_allow_private` to allow this"
                )

    def close(self) -> None:
        for transport in (self.direct, *self.proxied.values()):
            transport.close()


def is_public(address: _Address) -> bool:
    """Whether an IP address, and any IPv4 address that it contains, belongs to the public internet."""
    if isinstance(address, ipaddress.IPv6Address):
        embedded = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            embedded.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if any(inner is not None and not is_public(inner) for inner in embedded):
            return False
        if address.ipv4_mapped is not None:
            return True
    return address.is_global and not address.is_multicast


def _addresses_of(host: str) -> list[_Address]:
    results = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    # A link-local IPv6 address may end with the name of a network interface.
    texts = dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in results)
    return [ipaddress.ip_address(text) for text in texts]


def _literal_address(host: str) -> _Address | None:
    """Parses a host as an IP address, also in old notations such as `127.1`. Returns None for a name."""
    with suppress(ValueError):
        return ipaddress.ip_address(host)
    with suppress(OSError):
        return ipaddress.IPv4Address(socket.inet_aton(host))
    return ipaddress.IPv4Address("127.0.0.1") if host.rstrip(".").endswith("localhost") else None


def _proxy_of(scheme: str, host: str) -> str | None:
    """Returns the proxy for a host from the environment."""
    if proxy_bypass(host):
        return None
    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy
