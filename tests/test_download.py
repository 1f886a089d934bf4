"""Downloads from a server on this machine: the right file is kept, a wrong, short or forbidden one never is."""

import hashlib
import http.server
import os
import threading
import time
from dataclasses import replace

import pytest

from recgym import datasets
from recgym.datasets import sources
from recgym.errors import DataError, HashMismatchError, MissingDataError, StoreError
from recgym.storage import download
from recgym.storage.download import Remote

CONTENT = b"published content " * 10_000


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        if self.path.startswith("/elsewhere"):
            self.send_response(302)
            self.send_header("Location", self.path.replace("elsewhere", "right"))
            self.end_headers()
            return
        self.send_response(200)
        if self.path.startswith("/endless"):
            self.end_headers()
            for _ in range(2000):
                self.wfile.write(b"x" * 1000 if "fast" in self.path else b"x")
                time.sleep(0 if "fast" in self.path else 0.02)
            return
        if self.path.startswith("/header"):
            self.send_header("Content-Length", "many")
            self.end_headers()
            self.wfile.write(CONTENT)
            return
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000] if self.path.startswith("/short") else CONTENT)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        running.asked = []
        running.url = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RECGYM_DATA", raising=False)
    monkeypatch.delenv("RECGYM_OFFLINE", raising=False)


def remote(server, path="right/set.zip", content=CONTENT):
    return Remote(
        f"{server.url}/{path}", len(CONTENT), f"md5:{hashlib.md5(content).hexdigest()}", "free for research", "", True
    )


def test_download_states_size_and_licence_and_keeps_the_right_file(server, tmp_path, capsys):
    path = download.fetch(remote(server), tmp_path / "here")
    assert path == tmp_path / "here" / "set.zip"
    assert path.read_bytes() == CONTENT
    said = capsys.readouterr().err
    assert f"downloading set.zip, {len(CONTENT) / 1e6:.1f} MB, from {server.url}/right/set.zip" in said
    assert "licence: free for research" in said


def test_second_fetch_asks_nothing_of_the_network(server, tmp_path):
    for _ in range(2):
        download.fetch(remote(server), tmp_path)
    assert server.asked == ["/right/set.zip"]


def test_wrong_hash_is_refused_and_not_kept(server, tmp_path):
    with pytest.raises(HashMismatchError, match=r"set\.zip must have MD5 \w+, got \w+ .*partial file was removed"):
        download.fetch(remote(server, content=b"other"), tmp_path)
    assert os.listdir(tmp_path) == []


def test_sha256_is_understood(server, tmp_path):
    one = remote(server)
    right = replace(one, hash=f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")
    assert download.fetch(right, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("path", ["short/set.zip", "missing/set.zip"])
def test_broken_download_is_refused_and_not_kept(server, tmp_path, path):
    with pytest.raises(MissingDataError, match=r"set\.zip must be reachable, got \w+: .*put the file at"):
        download.fetch(remote(server, path), tmp_path)
    assert os.listdir(tmp_path) == []


def test_no_server_is_a_clear_error(tmp_path):
    nowhere = Remote("http://127.0.0.1:9/set.zip", 1, "md5:0", "free", plain_http=True)
    with pytest.raises(MissingDataError, match=r"127\.0\.0\.1:9/set\.zip must be reachable, got ConnectionError"):
        download.fetch(nowhere, tmp_path)


def test_damaged_file_already_there_is_named_not_replaced(server, tmp_path):
    (tmp_path / "set.zip").write_bytes(b"damaged")
    with pytest.raises(HashMismatchError, match=r"7 bytes at .*delete it and fetch set\.zip again"):
        download.fetch(remote(server), tmp_path)
    assert (tmp_path / "set.zip").read_bytes() == b"damaged"
    assert server.asked == []


@pytest.mark.parametrize(("value", "forbidden"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_offline_forbids(server, tmp_path, monkeypatch, value, forbidden):
    monkeypatch.setenv("RECGYM_OFFLINE", value)
    if forbidden:
        with pytest.raises(MissingDataError, match=f"RECGYM_OFFLINE must be unset to download set.zip, got '{value}'"):
            download.fetch(remote(server), tmp_path)
        assert server.asked == []
    else:
        assert download.fetch(remote(server), tmp_path).is_file()


def test_unwritable_folder_is_a_clear_error(server, tmp_path):
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(StoreError, match=r"folder must be a folder one can write to.*RECGYM_CACHE"):
        download.fetch(remote(server), tmp_path / "folder")


def test_nothing_is_downloaded_without_the_users_word(server, monkeypatch):
    fake = sources._published("ml-20m", "csv", 0.5, 1, "0", "free", "none")
    monkeypatch.setitem(datasets.PUBLISHED, "ml-20m", fake)
    monkeypatch.setattr(sources, "fetch", lambda *arguments: pytest.fail("a download nobody asked for"))
    with pytest.raises(MissingDataError, match="recgym fetch ml-20m"):
        datasets.load("ml-20m")


def test_published_hashes_and_addresses():
    known = {  # as published beside the zips
        "ml-100k": "0e33842e24a9c977be4e0107933c0723",
        "ml-1m": "c4d9eecfca2ab87c1945afe126590906",
        "ml-20m": "cd245b17a1ae2cc31bb14903e1204af3",
        "ml-25m": "6b51fb2759a8657d3bfcbfc42b592ada",
        "ml-latest-small": "31a303aabbc519bd33d025e44d6c2570",
    }
    assert {name: one.remote.hash for name, one in sources.PUBLISHED.items()} == {
        name: f"md5:{digest}" for name, digest in known.items()
    }
    assert sources.PUBLISHED["ml-20m"].remote.size == 198_702_078
    assert all(
        one.remote.url == f"https://files.grouplens.org/datasets/movielens/{name}.zip"
        for name, one in sources.PUBLISHED.items()
    )


def test_https_is_demanded_of_every_address(server, tmp_path):
    plain = replace(remote(server), plain_http=False)
    with pytest.raises(
        DataError, match=r"set\.zip must come over https, got http://127.*; give an https address, or say"
    ):
        download.fetch(plain, tmp_path)
    assert server.asked == []
    assert download.fetch(remote(server, "elsewhere/set.zip"), tmp_path).read_bytes() == CONTENT


def test_a_second_hash_is_compared_too(server, tmp_path):
    one = remote(server)
    with pytest.raises(HashMismatchError, match=r"set\.zip must have SHA256 0000, got"):
        download.fetch(replace(one, sha256="0000"), tmp_path)
    assert download.fetch(replace(one, sha256=hashlib.sha256(CONTENT).hexdigest()), tmp_path).read_bytes() == CONTENT


def test_what_has_no_end_ends(server, tmp_path, monkeypatch):
    with pytest.raises(HashMismatchError, match=r"set\.zip must have 180,000 bytes, got more; the partial file was"):
        download.fetch(remote(server, "endless/fast/set.zip"), tmp_path)
    monkeypatch.setattr(download, "_PATIENCE", 0.2)
    monkeypatch.setattr(download, "_BLOCK", 4)
    with pytest.raises(
        MissingDataError, match=r"must send 1,000 bytes a second, got \d+ for 0 seconds; try again later"
    ):
        download.fetch(remote(server, "endless/slow/set.zip"), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_header_that_is_none_is_told_in_our_words(server, tmp_path):
    try:
        assert download.fetch(remote(server, "header/set.zip"), tmp_path).read_bytes() == CONTENT
    except MissingDataError as error:
        assert "must be reachable, got" in str(error)
