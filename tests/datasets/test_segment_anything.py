import hashlib
import io
import re

import pytest
import torch
from kedro.io import DataCatalog
from kedro.io.core import DatasetError
from safetensors.torch import save_file

from crack_pipeline.datasets import SegmentAnythingDataset, segment_anything

TENSORS = {"image_encoder.pos_embed": torch.arange(6.0).reshape(2, 3)}
PATH = "/segment_anything/sam_vit_b_01ec64.pth"


def saved(tensors):
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


@pytest.fixture
def weights(server, tmp_path):
    entry = {
        "type": "crack_pipeline.datasets.SegmentAnythingDataset",
        "filepath": str(tmp_path / "cache"),
        "address": f"{server.address}/segment_anything/",
        "attempts": 2,
        "pause": 0.001,
    }
    return DataCatalog.from_config({"weights": entry}).load("weights")


@pytest.fixture
def publish(server, serve, monkeypatch):
    """Put a file at its official path, and its checksum where ours are."""

    def publish(content):
        published = segment_anything.PUBLISHED["vit_b"]._replace(sha256=hashlib.sha256(content).hexdigest())
        monkeypatch.setitem(segment_anything.PUBLISHED, "vit_b", published)
        server.files[PATH] = serve(content, {"ETag": '"1"'})
        return server.files[PATH]

    return publish


def assert_same(tensors):
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())


def test_official_weights_are_fetched_once(weights, server, publish):
    publish(saved(TENSORS))
    assert_same(weights.fetch("vit_b", "official"))
    assert_same(weights.fetch("vit_b", "official"))
    assert [path for path, _ in server.asked] == [PATH]


def test_a_broken_connection_is_taken_up_again(weights, server, publish):
    publish(saved(TENSORS)).breaks = [50]
    assert_same(weights.fetch("vit_b", "official"))
    assert [first for _, first in server.asked] == [None, "bytes=50-"]


def test_another_file_is_refused_and_not_kept(weights, server, serve, tmp_path):
    server.files[PATH] = serve(saved(TENSORS))
    message = r"is damaged: its SHA-256 is .* instead of ec2df627.*or the method to classical, which needs none"
    with pytest.raises(DatasetError, match=message):
        weights.fetch("vit_b", "official")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_without_a_connection_the_message_tells_the_ways_out(weights, server, tmp_path):
    place = re.escape(str(tmp_path / "cache" / "sam_vit_h_4b8939.pth"))
    with pytest.raises(DatasetError, match=rf"cannot be fetched: .*404.*put it at {place}.*local file"):
        weights.fetch("vit_h", "official")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_local_files_are_read(weights, server, tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".pth":
        torch.save(TENSORS, path)
    else:
        save_file(TENSORS, path)
    assert_same(weights.fetch("vit_l", str(path)))
    assert not server.asked


@pytest.mark.parametrize(
    ("model", "where", "message"),
    [
        ("vit_b", "nowhere.pth", r"'nowhere\.pth' are no file; it takes official or the path"),
        ("vit_t", "official", r"no Segment Anything 'vit_t'; it takes vit_b, vit_l, vit_h"),
    ],
)
def test_weights_that_there_are_not_are_refused(weights, server, model, where, message):
    with pytest.raises(DatasetError, match=message):
        weights.fetch(model, where)
    assert not server.asked


def test_a_damaged_local_file_is_named(weights, tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(saved(TENSORS)[:-100])
    with pytest.raises(DatasetError, match=r"w\.pth is damaged"):
        weights.fetch("vit_b", str(path))


def test_the_checksums_are_whole():
    for published in segment_anything.PUBLISHED.values():
        assert re.fullmatch(r"[0-9a-f]{64}", published.sha256)


def test_nothing_is_saved_to_the_store(tmp_path):
    with pytest.raises(DatasetError, match="keeps what was downloaded"):
        SegmentAnythingDataset(filepath=str(tmp_path)).save(TENSORS)
