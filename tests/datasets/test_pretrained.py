import hashlib
import pickle
import re
from pathlib import Path

import pytest
import torch
from kedro.io import DataCatalog
from kedro.io.core import DatasetError
from safetensors.torch import save, save_file

from crack_pipeline.datasets import PretrainedEncodersDataset

TENSORS = {"conv1.weight": torch.arange(6.0).reshape(2, 3), "bn1.bias": torch.ones(4, dtype=torch.float16)}


@pytest.fixture(scope="module")
def resnet18():
    """Where on the hub the weights of this encoder lie."""
    from segmentation_models_pytorch.encoders import encoders

    where = encoders["resnet18"]["pretrained_settings"]["imagenet"]
    return f"/{where['repo_id']}/resolve/{where['revision']}/model.safetensors"


@pytest.fixture
def encoders(server, tmp_path):
    """What the catalog gives for a hub on this machine."""
    entry = {
        "type": "crack_pipeline.datasets.PretrainedEncodersDataset",
        "filepath": str(tmp_path / "cache"),
        "hub": f"{server.address}/",
        "attempts": 2,
        "pause": 0.001,
    }
    return DataCatalog.from_config({"encoders": entry}).load("encoders")


@pytest.fixture
def publish(server, serve):
    """Put a file of weights on the hub as the real one does: a redirection that names its checksum."""

    def publish(path, content, sha256=None):
        checksum = sha256 or hashlib.sha256(content).hexdigest()
        server.files[path] = serve(b"", {"X-Linked-ETag": f'"{checksum}"'}, location="/elsewhere")
        server.files["/elsewhere"] = serve(content, {"ETag": '"another"'})
        return server.files["/elsewhere"]

    return publish


def assert_same(tensors, expected=TENSORS):
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, expected[name])


def test_none_needs_nothing(encoders, server, tmp_path):
    assert encoders.fetch("resnet18", "none") is None
    assert not server.asked
    assert not (tmp_path / "cache").exists()


def test_published_weights_are_fetched_from_their_pinned_revision_once(encoders, server, publish, resnet18):
    publish(resnet18, save(TENSORS))
    assert_same(encoders.fetch("resnet18", "imagenet"))
    assert_same(encoders.fetch("resnet18", "imagenet"))
    assert [path for path, _ in server.asked] == [resnet18, "/elsewhere"]


def test_a_broken_connection_is_taken_up_again(encoders, server, publish, resnet18):
    served = publish(resnet18, save(TENSORS))
    served.breaks = [50]
    assert_same(encoders.fetch("resnet18", "imagenet"))
    assert [first for path, first in server.asked if path == "/elsewhere"] == [None, "bytes=50-"]


def test_damaged_weights_are_not_kept(encoders, publish, tmp_path, resnet18):
    publish(resnet18, save(TENSORS), sha256="0" * 64)
    with pytest.raises(DatasetError, match=r"is damaged: its SHA-256 .* deleted, run it again, or set the weights to"):
        encoders.fetch("resnet18", "imagenet")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_what_is_kept_and_no_file_of_weights_is_named(encoders, publish, resnet18):
    publish(resnet18, b"<html>Log in to this network</html>")
    with pytest.raises(DatasetError, match=r"model\.safetensors is damaged .*; delete it, and it is fetched again"):
        encoders.fetch("resnet18", "imagenet")


def test_without_a_hub_the_message_tells_the_ways_out(encoders, tmp_path, resnet18):
    place = re.escape(str(tmp_path / "cache" / "smp-hub--resnet18.imagenet"))
    message = (
        rf"{resnet18} cannot be fetched: .*404.*put it at {place}.*, or set the weights to the path of a local file"
    )
    with pytest.raises(DatasetError, match=message):
        encoders.fetch("resnet18", "imagenet")


def test_a_file_put_in_place_by_hand_is_used(encoders, server):
    with pytest.raises(DatasetError) as raised:
        encoders.fetch("resnet18", "imagenet")
    path = Path(re.search(r"put it at (.*?), or", str(raised.value))[1])
    save_file(TENSORS, path)
    del server.asked[:]
    assert_same(encoders.fetch("resnet18", "imagenet"))
    assert not server.asked


def test_encoders_of_timm_are_fetched_from_its_own_place(encoders, publish):
    publish("/timm/resnet18.fb_swsl_ig1b_ft_in1k/resolve/main/model.safetensors", save(TENSORS))
    assert_same(encoders.fetch("tu-resnet18.fb_swsl_ig1b_ft_in1k", "imagenet"))


@pytest.mark.parametrize(
    ("encoder", "weights", "takes"),
    [
        ("resnext101_32x48d", "imagenet", "none, instagram"),
        ("resnet18", "imagnet", "none, imagenet.*"),
        ("tu-test_vit", "nothing.pth", "none, imagenet"),
        ("unheard-of", "imagenet", "none"),
    ],
)
def test_weights_that_there_are_not_are_refused(encoders, server, encoder, weights, takes):
    message = rf"weights '{weights}' are no file and none .* of the encoder {encoder}; it takes {takes} or the path"
    with pytest.raises(DatasetError, match=message):
        encoders.fetch(encoder, weights)
    assert not server.asked


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt"])
@pytest.mark.parametrize("nested", [None, "state_dict", "model"])
def test_local_files_are_read(encoders, server, tmp_path, name, nested):
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(TENSORS, path)
    else:
        torch.save({nested: TENSORS, "epoch": 3} if nested else TENSORS | {"epoch": 3}, path)
    assert_same(encoders.fetch("resnet18", str(path)))
    assert not server.asked


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_but_tensors_is_unpickled(encoders, tmp_path):
    path, proof = tmp_path / "w.pth", tmp_path / "proof"
    torch.save({"conv1.weight": Malicious(proof)}, path)
    with pytest.raises(DatasetError, match=r"w\.pth is damaged, or holds more than tensors.*torch\.save\(model"):
        encoders.fetch("resnet18", str(path))
    assert not proof.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pth", b"", "is damaged or not a file of torch.save"),
        ("w.pth", b"no weights at all", "is damaged"),
        ("w.pth", pickle.dumps({}), "is damaged"),
        ("w.safetensors", b"no weights at all", "is damaged or not a safetensors file"),
    ],
)
def test_a_damaged_local_file_is_named(encoders, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=rf"{name} {message}"):
        encoders.fetch("resnet18", str(tmp_path / name))


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.ones(1)], torch.ones(1)])
def test_a_file_without_named_tensors_is_named(encoders, tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(DatasetError, match=r"w\.pth holds no tensors by name"):
        encoders.fetch("resnet18", str(tmp_path / "w.pth"))


def test_a_file_cut_short_is_named(encoders, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DatasetError, match="is damaged"):
        encoders.fetch("resnet18", str(path))


def test_nothing_is_saved_to_the_store(tmp_path):
    with pytest.raises(DatasetError, match="keeps what was downloaded"):
        PretrainedEncodersDataset(filepath=str(tmp_path)).save(TENSORS)
