"""The cache: listed, trimmed by last use, and cleared."""

import os
import time

import pytest

from tgdfer.training import cache
from tgdfer.training.cache import (
    cache_folder,
    cache_limit,
    cached_files,
    clear_cache,
    kind_folder,
    mark_used,
    print_cache,
    trim_cache,
)
from tgdfer.training.errors import UserError


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Three files of 100 bytes, used three, two and one day ago, beside one that is not ours."""
    monkeypatch.setenv("TGDFER_CACHE", str(tmp_path))
    monkeypatch.delenv("TGDFER_CACHE_LIMIT", raising=False)
    monkeypatch.setattr(cache, "try_to_load_from_cache", lambda *_: None)
    kinds = {"a": "features", "b": "activations", "c": "indexes"}
    paths = [kind_folder(kind) / f"{name}.safetensors" for name, kind in kinds.items()]
    for days, path in zip((3, 2, 1), paths, strict=True):
        path.write_bytes(bytes(100))
        os.utime(path, (time.time() - 86400 * days - 60,) * 2)
    (kind_folder("features") / "notes.txt").write_text("mine")
    return paths


def test_files_are_listed_by_their_last_use(files):
    assert [file.path for file in cached_files()] == files[::-1]
    mark_used(files[0])
    assert cached_files()[0].path == files[0]
    assert {file.kind for file in cached_files()} == set(cache._KINDS.values())


def test_what_was_not_used_for_longest_goes_first(files):
    assert trim_cache(300) == []
    assert [file.path for file in trim_cache(250)] == [files[0]]
    assert [file.path for file in trim_cache(1)] == [files[1]], "the last one stays: it is in use"
    assert files[2].is_file()


def test_clearing_leaves_what_is_newer_and_what_is_not_ours(files):
    assert [file.path for file in clear_cache(2)] == [files[1], files[0]]
    assert [file.path for file in clear_cache()] == [files[2]]
    assert (kind_folder("features") / "notes.txt").is_file()


@pytest.mark.parametrize("text, size", [("2GB", 2 * 10**9), ("1.5 mb", 1_500_000), ("100", 100), ("", 10**10)])
def test_limit(text, size, monkeypatch):
    monkeypatch.setenv("TGDFER_CACHE_LIMIT", text)
    assert cache_limit() == size


def test_limit_that_is_no_size(monkeypatch):
    for text in ("lots", "GB", "2 PB", "infGB"):
        monkeypatch.setenv("TGDFER_CACHE_LIMIT", text)
        with pytest.raises(
            UserError, match=r"TGDFER_CACHE_LIMIT is .*, which is not a size: set it to, for example, 2GB\."
        ):
            cache_limit()


def test_listing_names_the_folder_the_limit_and_the_detector(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cache, "try_to_load_from_cache", lambda *_: "/hub/yunet.onnx")
    print_cache()
    out = capsys.readouterr().out
    assert "a.safetensors" in out and "100 bytes" in out
    assert (
        f"{tmp_path / 'tgdfer'}: 300 bytes of at most 10.0 GB (TGDFER_CACHE_LIMIT)." in out
        and "/hub/yunet.onnx" in out
    )


def test_place_is_in_the_assets_cache_of_the_hub(monkeypatch, tmp_path):
    monkeypatch.delenv("TGDFER_CACHE")
    monkeypatch.setattr(cache, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    assert kind_folder("features").is_relative_to(cache_folder())
    assert cache_folder() == tmp_path / "assets" / "tgdfer"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TGDFER_CACHE", "~/mine")
    assert kind_folder("features").is_relative_to(tmp_path / "mine")
