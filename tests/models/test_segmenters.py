import json
import os
from pathlib import Path

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import nn

from crack_pipeline.models.encoder_segmenter import EncoderSegmenter
from crack_pipeline.models.segmenters import (
    EncoderOptions,
    SegmenterOptions,
    UNetOptions,
    create_segmenter,
    load_encoder,
)
from crack_pipeline.models.unet import UNet

SMALL = {"name": "encoder", "encoder": "resnet18"}


@pytest.fixture(scope="module")
def resnet18():
    return torchvision.models.resnet18().state_dict()


@pytest.fixture
def offline(monkeypatch):
    """Whatever asks for a connection fails."""

    def refuse(*_):
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


def features_of_resnet(network, images):
    """The lowest features of torchvision's classifier."""
    parts = [network.conv1, network.bn1, network.relu, network.maxpool]
    return nn.Sequential(*parts, network.layer1, network.layer2, network.layer3, network.layer4)(images)


@pytest.mark.parametrize(
    ("options", "kind"), [({"name": "unet", "levels": 3, "base_channels": 4}, UNet), (SMALL, EncoderSegmenter)]
)
def test_options_that_went_through_json_give_the_same_network_again(options, kind):
    validated = TypeAdapter(SegmenterOptions).validate_python(options)
    network = create_segmenter(validated).eval()
    again = create_segmenter(json.loads(json.dumps(validated.model_dump(mode="json")))).eval()
    again.load_state_dict(network.state_dict())
    assert isinstance(network, kind)
    images = torch.rand(1, 3, 20, 33)
    assert torch.equal(network(images), again(images))


@pytest.mark.parametrize(
    ("decoder", "depth"),
    [
        *[(decoder, None) for decoder in ("unetplusplus", "manet", "linknet", "deeplabv3", "deeplabv3plus")],
        *[(decoder, None) for decoder in ("pan", "upernet", "segformer")],
        *[(decoder, depth) for decoder in ("unet", "fpn", "pspnet") for depth in (3, 4, 5)],
    ],
)
def test_every_decoder_takes_images_of_any_size(decoder, depth, offline):
    network = create_segmenter(SMALL | {"decoder": decoder, "depth": depth, "in_channels": 1, "prior": 0.1}).eval()
    for size in ((1, 1), (1, 40), (70, 33)):
        logits = network(torch.rand(1, 1, *size))
        assert logits.shape == (1, 1, *size)
        assert logits.dtype == torch.float32
    head = [layer for layer in network.network.segmentation_head.modules() if isinstance(layer, nn.Conv2d)][-1]
    assert head.bias.sigmoid().item() == pytest.approx(0.1)
    assert network.training is False
    assert create_segmenter(SMALL).training is True


@pytest.mark.parametrize("encoder", ["densenet121", "mobilenet_v2", "mit_b0", "efficientnet-b0", "tu-convnext_atto"])
def test_encoders_of_every_family_take_images_of_any_size(encoder, offline):
    network = create_segmenter(SMALL | {"encoder": encoder}).eval()
    assert network(torch.rand(1, 3, 33, 5)).shape == (1, 1, 33, 5)


def test_options_of_the_decoder_reach_it():
    options = SMALL | {"decoder_channels": [32, 16, 16, 16, 16], "decoder_options": {"decoder_attention_type": "scse"}}
    network = create_segmenter(options).network
    assert network.segmentation_head[0].in_channels == 16
    assert any("SCSE" in type(layer).__name__ for layer in network.decoder.modules())


@pytest.mark.parametrize(
    ("encoder", "channels", "mean", "deviation"),
    [
        ("resnet18", 3, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("resnet18", 1, [0.449], [0.226]),
        ("timm-tf_efficientnet_lite0", 3, [0.5] * 3, [0.5] * 3),
        ("tu-tf_efficientnet_lite0", 3, [0.5] * 3, [0.5] * 3),
        ("tu-resnet18", 3, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ],
)
def test_images_are_standardised_as_the_published_weights_expect(encoder, channels, mean, deviation):
    network = create_segmenter(SMALL | {"encoder": encoder, "in_channels": channels}).eval()
    seen = []
    network.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    images = torch.rand(1, channels, 32, 32)
    network(images)
    shape = (1, channels, 1, 1)
    torch.testing.assert_close(seen[0], (images - torch.tensor(mean).view(shape)) / torch.tensor(deviation).view(shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "unet", "levels": 20}, "levels is 20: Input should be less than or equal to 8"),
        ({"name": "unet", "kernel": 4}, "kernel is 4: Input should be 3, 5, 7, 9 or 11"),
        ({"name": "unet", "depth": 4}, "depth is 4: Extra inputs are not permitted"),
        ({"name": "vit"}, "Input tag 'vit' .* expected tags: 'unet', 'encoder'"),
        ({}, "Unable to extract tag using discriminator 'name'"),
        (
            SMALL | {"encoder": "resnet5"},
            r"encoder is 'resnet5': there is no encoder of that name; the nearest are resnet50.* \(there are \d+, and",
        ),
        (SMALL | {"encoder": "tu-resnet5O"}, "the nearest are tu-resnet50"),
        (SMALL | {"encoder": "§§§"}, "no name is near it"),
        (
            SMALL | {"decoder_channels": [8, 4]},
            "encoder resnet18 does not work with the decoder unet and these options",
        ),
        (
            SMALL | {"decoder": "linknet", "decoder_channels": [8]},
            "the decoder linknet has no option 'decoder_channels'; it takes decoder_use_norm",
        ),
        (SMALL | {"decoder_options": {"classes": 3}}, "the decoder unet has no option 'classes'"),
        ({"name": "encoder", "encoder": "mit_b0", "decoder": "linknet"}, "mit_b0 does not work with .* linknet"),
        (
            SMALL | {"encoder": "tu-swin_tiny_patch4_window7_224"},
            r"tu-swin_tiny_patch4_window7_224 does not work with the decoder unet: Input height \(32\)",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        create_segmenter(options)


def test_options_have_descriptions_and_bounds():
    for options in (UNetOptions, EncoderOptions):
        fields = options.model_fields
        assert [name for name, field in fields.items() if not field.description] in (["name"], ["name", "decoder"])


@settings(max_examples=8)
@given(
    prefix=st.sampled_from(["", "module.", "backbone.", "model.encoder.", "network.encoder.", "a.b.c."]),
    classifier=st.booleans(),
    counters=st.booleans(),
    half=st.booleans(),
    shuffled=st.randoms(use_true_random=False),
)
def test_weights_are_found_whatever_surrounds_them(resnet18, prefix, classifier, counters, half, shuffled):
    chosen = {
        prefix + name: tensor.half() if half else tensor
        for name, tensor in resnet18.items()
        if (classifier or not name.startswith("fc")) and (counters or not name.endswith("tracked"))
    }
    items = [*chosen.items(), ("decoder.weight", torch.ones(1)), ("epoch", torch.ones(()))]
    shuffled.shuffle(items)
    network = create_segmenter(SMALL)
    load_encoder(network, dict(items), "file")
    for name, tensor in network.encoder.state_dict().items():
        if not name.endswith("tracked"):
            torch.testing.assert_close(tensor, resnet18[name], atol=1e-3 if half else 0, rtol=1e-3 if half else 0)


def test_an_encoder_gives_the_features_of_the_network_its_weights_are_from(resnet18, tmp_path):
    classifier = torchvision.models.resnet18().eval()
    torch.save(classifier.state_dict(), tmp_path / "resnet18.pth")
    network = create_segmenter(SMALL).eval()
    load_encoder(network, torch.load(tmp_path / "resnet18.pth", weights_only=True), "resnet18.pth")
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(network.encoder(images)[-1], features_of_resnet(classifier, images))


@pytest.mark.parametrize("old_names", [False, True])
@pytest.mark.parametrize("prefix", ["features.", ""])
def test_a_densenet_gives_the_features_of_torchvision(tmp_path, old_names, prefix):
    classifier = torchvision.models.densenet121().eval()
    tensors = {}
    for name, tensor in classifier.state_dict().items():
        for kind in ("norm", "conv") if old_names and "denselayer" in name else ():
            name = name.replace(f".{kind}1.", f".{kind}.1.").replace(f".{kind}2.", f".{kind}.2.")
        tensors[name.replace("features.", prefix, 1)] = tensor
    torch.save(tensors, tmp_path / "densenet121.pth")
    network = create_segmenter(SMALL | {"encoder": "densenet121"}).eval()
    load_encoder(network, torch.load(tmp_path / "densenet121.pth", weights_only=True), "densenet121.pth")
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(network.encoder(images)[-1], classifier.features(images))


def test_the_real_densenet_gives_the_features_of_torchvision():
    data = os.environ.get("CRACK_PIPELINE_DATA")
    if not data:
        pytest.skip("CRACK_PIPELINE_DATA does not name the folder of real photographs, beside which the weights lie")
    path = Path(data).parent / "weights" / "densenet169_imagenet.pth"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    tensors = torch.load(path, weights_only=True)
    classifier = torchvision.models.densenet169().eval()
    assert classifier.load_state_dict(tensors, strict=False).missing_keys == ["classifier.weight", "classifier.bias"]
    network = create_segmenter(SMALL | {"encoder": "densenet169"}).eval()
    load_encoder(network, tensors, path.name)
    images = torch.rand(1, 3, 64, 96)
    torch.testing.assert_close(network.encoder(images)[-1], classifier.features(images))


def test_kernels_for_three_colours_are_summed_for_grey(resnet18):
    network = create_segmenter(SMALL | {"in_channels": 1})
    load_encoder(network, resnet18, "file")
    torch.testing.assert_close(network.encoder.conv1.weight, resnet18["conv1.weight"].sum(dim=1, keepdim=True))
    grey = torch.rand(1, 1, 32, 32)
    colour = create_segmenter(SMALL)
    load_encoder(colour, resnet18, "file")
    expected = colour.encoder.conv1(grey.expand(1, 3, 32, 32))
    torch.testing.assert_close(network.encoder.conv1(grey), expected)


@pytest.mark.parametrize("encoder", ["tu-convnext_atto", "tu-efficientnet_b0", "tu-resnet18"])
@pytest.mark.parametrize("depth", [4, 5])
def test_files_of_timm_fit_its_encoders(encoder, depth):
    import timm

    whole = timm.create_model(encoder.removeprefix("tu-"))
    network = create_segmenter(SMALL | {"encoder": encoder, "depth": depth}).eval()
    load_encoder(network, whole.state_dict(), "file")
    images = torch.rand(1, 3, 32, 32)
    expected = whole.eval().forward_intermediates(images, intermediates_only=True)[depth - 6]
    torch.testing.assert_close(network.encoder(images)[-1], expected)


def test_weights_of_a_trained_segmenter_fit_another(resnet18):
    trained = create_segmenter(SMALL | {"decoder": "fpn"})
    network = create_segmenter(SMALL)
    load_encoder(network, trained.state_dict(), "segmenter.safetensors")
    assert torch.equal(network.encoder.layer4[1].conv2.weight, trained.encoder.layer4[1].conv2.weight)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (
            "resnet34",
            r"^other\.pth does not hold the encoder resnet34: 100 of its 180 tensors were found; the first that is "
            r"missing is layer1\.2\.conv1\.weight$",
        ),
        (
            "resnet50",
            r"of its 265 tensors were found; the first that is missing is layer1\.0\.conv3\.weight; the first of "
            r"another shape is layer1\.0\.conv1\.weight, \(64, 64, 3, 3\) there and \(64, 64, 1, 1\) here",
        ),
        ("mobilenet_v2", r"0 of its 260 tensors were found; the first that is missing is features\.0\.0\.weight"),
    ],
)
def test_weights_of_another_network_are_refused_and_nothing_is_changed(resnet18, encoder, message):
    network = create_segmenter(SMALL | {"encoder": encoder})
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_encoder(network, resnet18, "other.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
def test_weights_of_a_larger_network_are_refused(encoder):
    larger = torchvision.models.resnet34().state_dict()
    message = rf"holds a larger network than the encoder {encoder}: it has 80 tensors more, such as layer1\.2\.conv1"
    with pytest.raises(ValueError, match=message):
        load_encoder(create_segmenter(SMALL | {"encoder": encoder}), larger, "other.pth")


def test_an_empty_file_is_refused():
    with pytest.raises(
        ValueError, match=r"0 of its 100 tensors were found; the first that is missing is conv1\.weight"
    ):
        load_encoder(create_segmenter(SMALL), {}, "empty.pth")


def test_a_network_without_an_encoder_takes_no_weights(resnet18):
    network = create_segmenter({"name": "unet", "levels": 2, "base_channels": 2})
    with pytest.raises(ValueError, match=r"file\.pth cannot be used: the network has no encoder"):
        load_encoder(network, resnet18, "file.pth")
