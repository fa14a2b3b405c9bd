import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import pad

from crack_pipeline.models.unet import UNet

NORMALISATIONS = ["none", "batch", "group", "instance"]


def convolutions(network):
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer is not network.head]


@settings(max_examples=40)
@given(
    options=st.fixed_dictionaries(
        {
            "in_channels": st.sampled_from([1, 3]),
            "levels": st.integers(1, 5),
            "base_channels": st.integers(1, 5),
            "max_channels": st.integers(1, 12),
            "convolutions": st.integers(1, 3),
            "kernel": st.sampled_from([1, 3, 5]),
            "activation": st.sampled_from(["relu", "leaky_relu", "elu", "gelu", "silu"]),
            "slope": st.sampled_from([0.0, 0.375]),
            "normalisation": st.sampled_from(NORMALISATIONS),
            "initialisation": st.sampled_from(
                ["default", "he_normal", "he_uniform", "glorot_normal", "glorot_uniform", "orthogonal"]
            ),
            "upsampling": st.sampled_from(["transposed", "bilinear", "nearest"]),
            "dropout": st.sampled_from([0.0, 0.5]),
            "patch": st.sampled_from([1, 2, 4]),
        }
    ),
    number=st.integers(1, 2),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_every_pixel_of_an_image_of_any_size_gets_a_logit_and_every_weight_a_gradient(options, number, height, width):
    network = UNet(**options)
    images = torch.rand(number, options["in_channels"], height, width)
    if options["normalisation"] == "batch":
        network.eval()
    logits = network(images)
    assert logits.shape == (number, 1, height, width)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    logits.square().sum().backward()
    for weights in network.parameters():
        assert weights.grad is not None
        assert weights.grad.isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (33, 1), (15, 17), (31, 32)])
def test_what_is_padded_repeats_the_last_row_and_column(size):
    network = UNet(levels=5, base_channels=4).eval()
    image = torch.rand(1, 3, *size)
    height, width = (math.ceil(side / 16) * 16 for side in size)
    padded = pad(image, (0, width - size[1], 0, height - size[0]), mode="replicate")
    torch.testing.assert_close(network(image), network(padded)[..., : size[0], : size[1]])


def test_nothing_is_padded_where_the_size_fits(monkeypatch):
    network = UNet(levels=3, base_channels=4).eval()
    assert network.stride == 4
    monkeypatch.setattr("crack_pipeline.models.any_size.pad", None)
    assert network(torch.rand(1, 3, 8, 12)).shape == (1, 1, 8, 12)
    with pytest.raises(TypeError):
        network(torch.rand(1, 3, 8, 13))


def test_patches_give_each_of_their_pixels_a_logit_of_its_own():
    network = UNet(levels=1, normalisation="none", patch=4, kernel=1, convolutions=1, activation="elu")
    assert network.stride == 4
    images = torch.rand(1, 3, 8, 12, requires_grad=True)
    logits = network(images)
    # With kernels of 1 px nothing is mixed but the 16 px of a patch, and all of these reach every logit.
    (seen,) = torch.autograd.grad(logits[0, 0, 5, 6], images)
    assert seen[0, :, 4:8, 4:8].abs().min() > 0
    assert seen[0].count_nonzero() == 3 * 16
    assert logits[0, 0, 4:8, 4:8].unique().numel() == 16


@pytest.mark.parametrize("upsampling", ["nearest", "transposed", "bilinear"])
@pytest.mark.parametrize(
    ("levels", "convolutions", "kernel", "patch"),
    [(1, 2, 3, 1), (3, 2, 3, 1), (3, 1, 5, 2), (4, 2, 3, 2), (2, 3, 7, 4)],
)
def test_a_pixel_depends_on_nothing_beyond_the_reach(levels, convolutions, kernel, patch, upsampling):
    network = UNet(
        levels=levels,
        convolutions=convolutions,
        kernel=kernel,
        patch=patch,
        upsampling=upsampling,
        base_channels=2,
        normalisation="none",
        activation="elu",
    ).double()
    stride = network.stride
    middle = math.ceil((network.reach + 1) / stride) * stride
    images = torch.rand(1, 3, stride, 2 * middle + stride, dtype=torch.float64, requires_grad=True)
    logits = network(images)[0, 0]
    # From the first pixel of a cell of the pooling grid to the left, from the last one to the right
    (left,) = torch.autograd.grad(logits[:, middle].sum(), images, retain_graph=True)
    (right,) = torch.autograd.grad(logits[:, middle + stride - 1].sum(), images)
    for seen, distance in ((left, middle), (right.flip(-1), middle)):
        first = int(seen.abs().sum((0, 1, 2)).nonzero()[0])
        assert distance - network.reach <= first <= distance - network.reach + 2 * stride


def test_images_are_standardised_inside():
    network = UNet(levels=1, base_channels=4, normalisation="none").eval()
    seen = []
    network.down[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    network(torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3).expand(1, 3, 1, 3))
    torch.testing.assert_close(seen[0], torch.tensor([-2.0, 0.0, 2.0]).view(1, 1, 1, 3).expand(1, 3, 1, 3))


@pytest.mark.parametrize("prior", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("initialisation", ["default", "he_normal"])
def test_an_untrained_network_expects_the_prior(prior, initialisation):
    network = UNet(levels=2, base_channels=4, prior=prior, initialisation=initialisation)
    nn.init.zeros_(network.head.weight)
    probabilities = network(torch.rand(1, 3, 4, 4)).sigmoid()
    torch.testing.assert_close(probabilities, torch.full_like(probabilities, prior))


def test_the_published_classic_network_is_expressed_by_parameters():
    network = UNet(levels=5, base_channels=64, max_channels=1024, normalisation="none")
    shapes = [tuple(layer.weight.shape[:2]) for layer in convolutions(network)]
    down = [(64, 3), (64, 64), (128, 64), (128, 128), (256, 128), (256, 256), (512, 256), (512, 512)]
    up = [(64, 128), (64, 64), (128, 256), (128, 128), (256, 512), (256, 256), (512, 1024), (512, 512)]
    assert shapes == [*down, (1024, 512), (1024, 1024), *up]
    assert all(layer.bias is not None for layer in convolutions(network))
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    # As counted by hand: 9 weights a pair of channels and a bias, 4 in the transposed convolutions, 1 in the last.
    halves = [(1024, 512), (512, 256), (256, 128), (128, 64)]
    expected = sum(9 * a * b + a for a, b in shapes) + sum(4 * a * b + b for a, b in halves) + 65
    assert sum(weights.numel() for weights in network.parameters()) == expected == 31_031_745


def test_the_published_tuned_network_is_expressed_by_parameters():
    network = UNet(
        levels=6,
        base_channels=8,
        activation="leaky_relu",
        slope=0.375,
        normalisation="none",
        initialisation="he_normal",
    )
    assert network.stride == 32
    activations = [layer for layer in network.modules() if isinstance(layer, nn.LeakyReLU)]
    assert len(activations) == 22
    assert all(layer.negative_slope == 0.375 for layer in activations)


@pytest.mark.parametrize(
    ("initialisation", "spread"),
    [
        ("he_normal", lambda before, after: 2 / before),
        ("he_uniform", lambda before, after: 2 / before),
        ("glorot_normal", lambda before, after: 2 / (before + after)),
        ("glorot_uniform", lambda before, after: 2 / (before + after)),
        ("orthogonal", lambda before, after: 1 / max(before, after / 9)),
    ],
)
def test_kernels_begin_with_the_variance_of_their_initialisation(initialisation, spread):
    torch.manual_seed(0)
    network = UNet(levels=3, base_channels=32, normalisation="none", initialisation=initialisation)
    for layer in convolutions(network)[1:]:
        after, before = layer.weight.shape[:2]
        expected = spread(9 * before, 9 * after)
        assert layer.weight.var().item() == pytest.approx(expected, rel=0.1)
        assert layer.weight.mean().abs() < 0.1 * expected**0.5
        assert not layer.bias.any()


def test_channels_double_up_to_the_most_and_are_normalised_without_a_second_bias():
    network = UNet(levels=4, base_channels=6, max_channels=16, convolutions=1, normalisation="group")
    assert [layer.weight.shape[0] for layer in convolutions(network)] == [6, 12, 16, 16, 6, 12, 16]
    assert all(layer.bias is None for layer in convolutions(network))
    groups = [layer.num_groups for layer in network.modules() if isinstance(layer, nn.GroupNorm)]
    assert groups == [2, 4, 8, 8, 2, 4, 8]


def test_instance_normalisation_is_that_of_torch():
    network = UNet(levels=1, base_channels=4, normalisation="instance").eval()
    values = torch.rand(2, 4, 9, 9)
    layer = next(layer for layer in network.modules() if isinstance(layer, nn.GroupNorm))
    torch.testing.assert_close(layer(values), nn.InstanceNorm2d(4)(values))


def test_channels_are_dropped_in_training_only():
    network, images = UNet(levels=2, base_channels=4, normalisation="none", dropout=0.5), torch.rand(1, 3, 8, 8)
    assert any(not torch.equal(network(images), network(images)) for _ in range(20))
    network.eval()
    assert torch.equal(network(images), network(images))


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("upsampling", ["transposed", "bilinear", "nearest"])
@pytest.mark.parametrize("patch", [1, 2])
def test_the_order_of_channels_in_memory_is_kept_all_the_way_in_bf16(normalisation, upsampling, patch):
    network = UNet(levels=3, base_channels=8, normalisation=normalisation, upsampling=upsampling, patch=patch)
    network = network.to(memory_format=torch.channels_last).eval()
    orders, kinds = [], set()

    def note(_, __, output):
        orders.append(output.is_contiguous(memory_format=torch.channels_last))
        kinds.add(output.dtype)

    for layer in network.modules():
        if not list(layer.children()):
            layer.register_forward_hook(note)
    images = torch.rand(2, 3, 16, 24).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(images)
    assert all(orders)
    assert kinds == {torch.bfloat16}
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, network(images), atol=0.1, rtol=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_logits():
    network, images = UNet(levels=4, base_channels=16).eval(), torch.rand(2, 3, 65, 40)
    expected = network(images)
    network.to("cuda", memory_format=torch.channels_last)
    torch.testing.assert_close(network(images.cuda()).cpu(), expected, atol=1e-2, rtol=1e-2)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        torch.testing.assert_close(network(images.cuda()).cpu(), expected, atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 0}, "levels is 0; it must be at least 1"),
        ({"in_channels": 0}, "in_channels is 0"),
        ({"patch": 0}, "patch is 0"),
        ({"kernel": 4}, "kernel is 4; it must be odd"),
        ({"prior": 1.0}, r"prior is 1\.0; it must lie between 0 and 1"),
        ({"activation": "tanh"}, "activation is 'tanh'; it takes relu, leaky_relu, elu, gelu, silu"),
        ({"normalisation": "layer"}, "normalisation is 'layer'; it takes none, batch, group, instance"),
        ({"initialisation": "zeros"}, "initialisation is 'zeros'; it takes default, he_normal"),
        ({"upsampling": "bicubic"}, "upsampling is 'bicubic'; it takes transposed, bilinear, nearest"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        UNet(**options)
