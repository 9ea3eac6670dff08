"""Fetching of videos from addresses: which schemes and hosts are allowed, and the limits of time and size."""

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
# Remote file systems of fsspec. The others read local files (`local`, `zip`), keep copies that no limit bounds
# (`simplecache`), or connect to any host (`ftp`, `ssh`, `webdav`).
REMOTE_SCHEMES = ("hf", "s3", "gs", "gcs", "az", "abfs")
# Seconds that fetching a URL may take, and bytes that it may give.
URL_TIMEOUT, URL_MAX_BYTES = 60.0, 2**30
MAX_REDIRECTS = 10

_CHUNK = 2**20
# Smaller files stay in memory.
_IN_MEMORY = 2**26
# IPv6 addresses that stand for an IPv4 address in their last 32 bits (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def fetch(
    url: str, timeout: float = URL_TIMEOUT, max_bytes: int = URL_MAX_BYTES, allow_private: bool = False
) -> BinaryIO:
    """Fetches what is behind a URL.

    Every host is checked before a connection to it is opened, also after a redirect. The connection goes to the
    address that was checked, so that a name cannot point elsewhere a moment later. Behind a proxy the proxy looks up
    names, and only hosts that are written as an address can be checked.

    Args:
        url: of a scheme in `WEB_SCHEMES` or `REMOTE_SCHEMES`.
        timeout: seconds that all of it may take.
        max_bytes: that it may have.
        allow_private: whether hosts on this machine and in private networks may be asked.

    Returns:
        A temporary file, which disappears when it is closed.

    Raises:
        TimeoutError: it takes longer.
        OSError: the URL is not allowed, or what is behind it is too large.
        Exception: whatever a file system raises.
    """
    deadline = time.monotonic() + timeout
    kept: Any = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
    try:
        for chunk in _until(deadline, chunks_of(url, timeout, max_bytes, allow_private)):
            if kept.tell() + len(chunk) > max_bytes:
                raise _too_large(max_bytes)
            _keep(kept, chunk)
    except BaseException:
        kept.close()
        raise
    return kept


def _keep(kept: Any, chunk: bytes) -> None:
    try:
        kept.write(chunk)
    except OSError as error:
        place = tempfile.gettempdir()
        raise OSError(f"it cannot be kept in {place}: {error.strerror}; make room or set TMPDIR") from error


def _too_large(max_bytes: int) -> OSError:
    return OSError(f"it has more than {max_bytes / 2**20:.0f} MiB, see `url_max_bytes`")


def _until(deadline: float, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """What comes before the deadline. It is waited for in a thread of its own: file systems may wait for ever.

    Raises:
        TimeoutError: the deadline has come.
    """
    # A fast sender waits for the reader, so that little is in memory.
    found: queue.Queue[Any] = queue.Queue(maxsize=4)
    left = threading.Event()

    def hand_over(value: Any) -> bool:
        while not left.is_set():
            with suppress(queue.Full):
                found.put(value, timeout=0.1)
                return True
        return False

    def wait() -> None:
        try:
            for chunk in chunks:
                if not hand_over(chunk):
                    return
            hand_over(None)
        except Exception as error:
            hand_over(error)

    threading.Thread(target=wait, daemon=True, name="fetching a video").start()
    try:
        while True:
            try:
                chunk = found.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError from None
            if chunk is None:
                return
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk
    finally:
        left.set()


def chunks_of(url: str, timeout: float, max_bytes: int, allow_private: bool) -> Iterator[bytes]:
    """The content of a URL, piece by piece.

    Raises:
        OSError: the URL is not allowed, or its server says that the content is larger than `max_bytes`.
    """
    scheme = url.partition("://")[0].lower()
    if scheme in WEB_SCHEMES:
        yield from _from_web(url, timeout, max_bytes, allow_private)
        return
    # `fsspec` would open each part of a chain such as `s3://a::http://b` with another file system.
    if scheme not in REMOTE_SCHEMES or "::" in url:
        known = ", ".join(f"{name}://" for name in (*WEB_SCHEMES, *REMOTE_SCHEMES))
        raise OSError(f"only addresses that begin with {known} and name one file are fetched")
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
        # A compressed answer may unfold to any size, and videos do not shrink.
        headers={"Accept-Encoding": "identity"},
    )
    with client, client.stream("GET", url) as response:
        response.raise_for_status()
        if int(response.headers.get("Content-Length") or 0) > max_bytes:
            raise _too_large(max_bytes)
        yield from response.iter_raw(_CHUNK)


class _CheckedTransport(httpx.BaseTransport):
    """Sends a request to an address that was checked. A client sends every redirect through it as well."""

    def __init__(self, allow_private: bool):
        self.allow_private = allow_private
        self.direct = httpx.HTTPTransport()
        self.proxied: dict[str, httpx.HTTPTransport] = {}

    def handle_request(self, request: Any) -> Any:
        host, scheme = request.url.host, request.url.scheme
        if proxy := _proxy_of(scheme, host):
            self._check(host, [written for written in [_written_address(host)] if written is not None])
            return self.proxied.setdefault(proxy, httpx.HTTPTransport(proxy=proxy)).handle_request(request)
        addresses = _addresses_of(host)
        self._check(host, addresses)
        request.headers.setdefault("Host", request.url.netloc.decode("ascii"))
        # The certificate is that of the name, not of the address.
        extensions = {**request.extensions, "sni_hostname": host}
        refused: Exception | None = None
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
                refused = error
        raise refused or httpx.ConnectError(f"{host} has no address", request=request)

    def _check(self, host: str, addresses: list[_Address]) -> None:
        for address in addresses:
            if not self.allow_private and not is_public(address):
                shown = host if host == str(address) else f"{host} ({address})"
                raise PermissionError(
                    f"{shown} is on this machine or in a private network, which needs `url_allow_private`"
                )

    def close(self) -> None:
        for transport in (self.direct, *self.proxied.values()):
            transport.close()


def is_public(address: _Address) -> bool:
    """Whether an address belongs to a host of the public internet, also where it stands for another address."""
    if isinstance(address, ipaddress.IPv6Address):
        meant = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            meant.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if any(one is not None and not is_public(one) for one in meant):
            return False
        if address.ipv4_mapped is not None:
            return True
    return address.is_global and not address.is_multicast


def _addresses_of(host: str) -> list[_Address]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    # A local IPv6 address may come with the name of its network card.
    texts = dict.fromkeys(str(place[0]).partition("%")[0] for *_, place in found)
    return [ipaddress.ip_address(text) for text in texts]


def _written_address(host: str) -> _Address | None:
    """The address that a host is written as, also in old ways such as `127.1`; None of a name."""
    with suppress(ValueError):
        return ipaddress.ip_address(host)
    with suppress(OSError):
        return ipaddress.IPv4Address(socket.inet_aton(host))
    return ipaddress.IPv4Address("127.0.0.1") if host.rstrip(".").endswith("localhost") else None


def _proxy_of(scheme: str, host: str) -> str | None:
    """The proxy that the environment names for a host."""
    if proxy_bypass(host):
        return None
    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy
