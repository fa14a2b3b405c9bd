import hashlib
import re
import socket
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from crack_pipeline.datasets import download as module
from crack_pipeline.datasets.download import DownloadError, download

CONTENT = np.random.default_rng(0).bytes(700_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def file(server, serve):
    server.files["/file"] = serve(CONTENT, {"ETag": '"first"'})
    return server.files["/file"]


@pytest.fixture
def fetch(server, file, tmp_path):
    """Fetch the file without waiting between the attempts."""

    def fetch(path="/file", **options):
        return download(server.address + path, tmp_path / "cache" / "weights.bin", **{"pause": 0.001, **options})

    return fetch


def leftovers(path):
    return sorted(entry.name for entry in path.parent.iterdir())


def test_a_file_is_fetched_once(fetch, server):
    path = fetch(sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert leftovers(path) == ["weights.bin"]
    assert fetch() == path
    assert server.asked == [("/file", None)]


def test_a_connection_that_breaks_off_is_taken_up_where_it_broke(fetch, server, file):
    file.breaks = [100_000, 0, 0, 300_000]
    path = fetch(sha256=SHA256, attempts=4)
    assert path.read_bytes() == CONTENT
    at = [None, 100_000, 100_000, 100_000, 400_000]
    assert server.asked == [("/file", first and f"bytes={first}-") for first in at]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(fetch, server, file):
    file.breaks = [250_000, 0]
    with pytest.raises(DownloadError, match=r"the connection ended after 0\.2 MB of 0\.7 MB, 2 times in a row.*kept"):
        fetch(attempts=2)
    del server.asked[:]
    assert fetch(sha256=SHA256).read_bytes() == CONTENT
    assert server.asked == [("/file", "bytes=250000-")]


@pytest.mark.parametrize("breaks", [[200_000], [200_000, 100_000]])
def test_a_server_without_ranges_sends_it_all_again(fetch, file, breaks):
    file.ranges, file.breaks = False, breaks
    assert fetch(sha256=SHA256).read_bytes() == CONTENT


def test_a_file_that_changed_in_between_is_fetched_anew(fetch, server, file):
    file.breaks = [200_000]
    with pytest.raises(DownloadError):
        fetch(attempts=1)
    changed = CONTENT[::-1]
    file.content, file.headers = changed, {"ETag": '"second"'}
    assert fetch(sha256=hashlib.sha256(changed).hexdigest()).read_bytes() == changed


def test_the_first_part_of_another_address_is_not_used(fetch, server, serve, file):
    file.breaks = [200_000]
    with pytest.raises(DownloadError):
        fetch(attempts=1)
    server.files["/other"] = serve(CONTENT[::-1], {"ETag": '"first"'})
    assert fetch("/other").read_bytes() == CONTENT[::-1]


def test_a_damaged_file_is_deleted(fetch, server, file, tmp_path):
    file.content = CONTENT[:-1] + b"!"
    with pytest.raises(DownloadError, match=rf"its SHA-256 is [0-9a-f]{{64}} instead of {SHA256}; it was deleted"):
        fetch(sha256=SHA256)
    assert list((tmp_path / "cache").iterdir()) == []
    file.content = CONTENT
    assert fetch(sha256=SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize("right", [True, False])
def test_the_checksum_that_the_first_server_names_counts(fetch, server, serve, right):
    tag = SHA256 if right else SHA256[::-1]
    server.files["/hub"] = serve(b"", {"X-Linked-ETag": f'"{tag}"', "ETag": '"no checksum"'}, location="/file")
    if right:
        assert fetch("/hub").read_bytes() == CONTENT
    else:
        with pytest.raises(DownloadError, match=f"instead of {tag}"):
            fetch("/hub")


def test_a_first_part_that_is_whole_only_has_to_be_put_in_place(fetch, server, file):
    path = fetch()
    path.rename(path.with_name("weights.bin.part"))
    note = f'{{"url": "{server.address}/file", "version": "first"}}'
    path.with_name("weights.bin.part.json").write_text(note)
    assert fetch(sha256=SHA256).read_bytes() == CONTENT
    assert server.asked[1:] == [("/file", f"bytes={len(CONTENT)}-")]
    assert leftovers(path) == ["weights.bin"]


def test_a_first_part_that_is_too_long_is_thrown_away(fetch, server):
    path = fetch()
    path.unlink()
    path.with_name("weights.bin.part").write_bytes(CONTENT + b"more")
    path.with_name("weights.bin.part.json").write_text(f'{{"url": "{server.address}/file", "version": "first"}}')
    assert fetch(sha256=SHA256).read_bytes() == CONTENT


def test_a_file_whose_size_is_not_named_is_fetched(fetch, file):
    file.length = False
    assert fetch(sha256=SHA256).read_bytes() == CONTENT


def test_a_file_that_is_not_there_is_not_asked_for_twice(fetch, server, tmp_path):
    place = re.escape(str(tmp_path / "cache" / "weights.bin"))
    with pytest.raises(DownloadError, match=rf"/nothing cannot be fetched: the server answers 404.*put it at {place}"):
        fetch("/nothing")
    assert len(server.asked) == 1


def test_a_server_that_is_busy_is_asked_again(fetch, server, file):
    file.status = 503
    with pytest.raises(DownloadError, match=r"the server answers 503 .*, 3 times in a row"):
        fetch(attempts=3)
    assert len(server.asked) == 3


def test_a_server_that_is_not_there_is_named(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file"
    with pytest.raises(DownloadError, match=rf"{url} cannot be fetched: connection refused, 2 times in a row"):
        download(url, tmp_path / "file", attempts=2, pause=0.001)


def test_a_server_that_does_not_answer_is_given_up(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        with pytest.raises(DownloadError, match="there is no answer, 2 times in a row"):
            download(url, tmp_path / "file", attempts=2, pause=0.001, timeout=0.1)


@pytest.mark.parametrize("url", ["file:///etc/hosts", "weights.pth", "ftp://127.0.0.1/file"])
def test_only_addresses_of_the_web_are_fetched(tmp_path, url):
    with pytest.raises(DownloadError, match="is no address that begins with http"):
        download(url, tmp_path / "file")


def test_a_disk_without_room_is_told_before_anything_is_written(fetch, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=600_000))
    with pytest.raises(DownloadError, match=r"needs 0\.7 MB more in .*cache, where 0\.6 MB are free"):
        fetch()


def test_a_place_that_cannot_be_written_is_named(server, file, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadError, match=r"file/weights\.bin cannot be written: .*choose another folder"):
        download(f"{server.address}/file", tmp_path / "file" / "weights.bin")


def test_runs_that_want_the_same_file_at_a_time_wait_for_the_first(fetch, server, file):
    file.breaks = [100_000, 50_000, 200_000]
    done = []
    threads = [threading.Thread(target=lambda: done.append(fetch(sha256=SHA256))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [path.read_bytes() == CONTENT for path in done] == [True] * 3
    assert len(server.asked) == 4


def test_progress_is_told(fetch, file, caplog, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_MESSAGES", 0.0)
    file.breaks = [100_000]
    with caplog.at_level("INFO"):
        fetch()
    text = caplog.text
    assert "fetching weights.bin from http://127.0.0.1" in text
    assert re.search(r"weights\.bin: 0\.\d MB of 0\.7 MB, [\d.]+ MB/s", text)
    assert re.search(r"the connection ended after 0\.1 MB of 0\.7 MB; it is tried again", text)
    assert re.search(r"fetched weights\.bin: 0\.7 MB", text)
