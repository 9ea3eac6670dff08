"""Addresses of videos: what is fetched, from where, and what is refused before a connection is opened."""

import errno
import ipaddress
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest
import torch

from tgdfer.processing import addresses_tgdfer
from tgdfer.processing.addresses_tgdfer import fetch, is_public
from tgdfer.processing.video_file_tgdfer import VideoDecodeError
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor

PRIVATE = "is on this machine or in a private network; set `url_allow_private` to allow this"


class _Handler(BaseHTTPRequestHandler):
    """Answers by the path: `/clip.mp4` with a file, `/to/ADDRESS` with a redirect, `/endless` with a promise."""

    def do_GET(self):  # noqa: N802
        self.server.visits.append((self.path, self.headers["Host"]))
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        length = 2**40 if self.path == "/endless" else len(self.server.content)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *args):
        pass


@pytest.fixture
def reader():
    return TGDFERVideoProcessor(num_frames=4)


@pytest.fixture
def server(clip, monkeypatch):
    """A server on this machine, which says who has visited it."""
    monkeypatch.setenv("NO_PROXY", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as found:
        found.daemon_threads = True
        found.visits, found.content = [], clip.read_bytes()
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture
def names(monkeypatch):
    """Names of hosts and their addresses, one for each time that they are looked up."""
    known: dict[str, list[str]] = {}
    look_up = socket.getaddrinfo

    def found(host, port, *args, **kwargs):
        return look_up(known[host].pop(0) if host in known else host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", found)
    return known


def reason_for(url: str, **options) -> str:
    with pytest.raises(OSError) as refused:
        fetch(url, **options)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "simplecache::http://127.0.0.1/a.mp4",
        "filecache::s3://bucket/a.mp4",
        "zip://a.mp4::http://127.0.0.1/a.zip",
        "s3://bucket/a.mp4::file:///etc/passwd",
        "hf://datasets/a/b/c.mp4::local:///etc/passwd",
        "local:///etc/passwd",
        "reference://x",
        "ftp://127.0.0.1/a.mp4",
        "github://a:b@main/a.mp4",
    ],
)
def test_other_schemes_and_chains_open_nothing(url, reader, monkeypatch):
    monkeypatch.setattr(fsspec, "open", lambda *args, **kwargs: pytest.fail("a file system was asked"))
    with pytest.raises(VideoDecodeError, match=r"only URLs .* start with http://[^;]*; download the file yourself\.$"):
        reader.read_clip(url)


def test_file_systems_of_the_list_are_asked(monkeypatch, clip):
    monkeypatch.setattr(fsspec, "open", lambda url, mode: clip.open(mode))
    with fetch("hf://datasets/a/b/clip.mp4") as found:
        found.seek(0)
        assert found.read() == clip.read_bytes()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "localhost", "LOCALHOST", "[::1]"])
def test_this_machine_is_refused_however_it_is_written(host, server):
    assert PRIVATE in reason_for(f"HTTP://{host}:{server.server_port}/clip.mp4")
    assert server.visits == []


def test_the_caller_may_allow_private_addresses(server, reader, clip):
    url = f"http://127.0.0.1:{server.server_port}/clip.mp4"
    with pytest.raises(VideoDecodeError, match=r"127\.0\.0\.1 is on this machine"):
        reader.read_clip(url)
    reader.url_allow_private = True
    assert torch.equal(reader.read_clip(url)[0], reader.read_clip(clip)[0])
    reader.url_allow_private = False
    assert len(reader(url, url_allow_private=True)["pixel_values_videos"]) == 1


def test_a_name_is_looked_up_once(server, names, monkeypatch):
    """A name that points elsewhere a moment later is not followed there, and the server learns which name is meant."""
    monkeypatch.setattr(addresses_tgdfer, "is_public", lambda address: str(address) == "127.0.0.1")
    names["videos.example"] = ["127.0.0.1", "127.0.0.2"]
    url = f"http://videos.example:{server.server_port}/clip.mp4"
    assert fetch(url).tell() == len(server.content)
    assert server.visits == [("/clip.mp4", f"videos.example:{server.server_port}")]
    assert PRIVATE in reason_for(url), "now it points to 127.0.0.2"


def test_redirects_are_checked_before_they_are_followed(server, names, monkeypatch):
    monkeypatch.setattr(addresses_tgdfer, "is_public", lambda address: str(address) == "127.0.0.1")
    here = f"http://127.0.0.1:{server.server_port}"
    assert fetch(f"{here}/to/{here}/clip.mp4").tell() == len(server.content)
    with ThreadingHTTPServer(("127.0.0.2", 0), _Handler) as inside:
        inside.visits, inside.content = [], b"secret"
        threading.Thread(target=inside.serve_forever, daemon=True).start()
        names["inside.example"] = ["127.0.0.2"]
        for target in (f"http://127.0.0.2:{inside.server_port}/", f"http://inside.example:{inside.server_port}/"):
            assert PRIVATE in reason_for(f"{here}/to/{target}")
        inside.shutdown()
        assert inside.visits == []
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/a"):
        with pytest.raises(Exception, match="protocol"):
            fetch(f"{here}/to/{target}")
    with pytest.raises(Exception, match="[Rr]edirect"):
        server.visits.clear()
        fetch(f"{here}/to//to//to//to//to//to//to//to//to//to//to//to/{here}/clip.mp4")
    assert len(server.visits) <= addresses_tgdfer.MAX_REDIRECTS + 1


def test_proxies_are_asked_for_public_hosts_only(server, monkeypatch):
    """The proxy looks up names. What is written as an address of this machine is not even asked for."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    assert fetch("http://videos.example/clip.mp4").tell() == len(server.content)
    assert server.visits == [("http://videos.example/clip.mp4", "videos.example")]
    for host in ("169.254.169.254", "127.1", "localhost", "api.localhost"):
        assert PRIVATE in reason_for(f"http://{host}/clip.mp4")
    assert len(server.visits) == 1


def test_what_is_announced_as_too_large_is_not_read(server):
    url = f"http://127.0.0.1:{server.server_port}/endless"
    assert reason_for(url, allow_private=True) == "it is larger than 1024 MiB; raise `url_max_bytes`"


def test_a_full_disk_names_the_folder(server, monkeypatch, tmp_path):
    def full(kept, chunk):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.write", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    reason = reason_for(f"http://127.0.0.1:{server.server_port}/clip.mp4", allow_private=True)
    assert reason == f"it cannot be stored in {tmp_path} (No space left on device); free some space or set TMPDIR"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
    ],
)
def test_addresses_of_the_public_internet(address, public):
    assert is_public(ipaddress.ip_address(address)) is public
