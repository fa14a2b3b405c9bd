import cv2
import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry

from crack_pipeline.models.segment_anything import automatic_masks, build, embed, prompted_mask
from small_sam import small_sam

EVERYTHING = {"points_per_side": 4, "points_per_batch": 8, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}


@pytest.fixture(scope="module")
def official():
    return small_sam()


@pytest.fixture(scope="module")
def network(official, tmp_path_factory):
    """Saved in the official format, and read again."""
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save(official.state_dict(), path)
    return build(torch.load(path, weights_only=True), "vit_b")


@pytest.fixture(scope="module")
def photograph():
    """As large as the network sees it, so that nothing is shrunk."""
    rng = np.random.default_rng(0)
    return cv2.GaussianBlur(rng.integers(0, 255, (96, 128, 3)).astype(np.uint8), (0, 0), 4)


@pytest.mark.parametrize("options", [{}, {"side": 64, "channels": 48, "depth": 3, "out": 64}])
def test_the_sizes_are_those_of_the_weights(options):
    official = small_sam(seed=1, **options)
    network = build(official.state_dict(), "vit_l")
    image = torch.rand(1, 3, network.image_encoder.img_size, network.image_encoder.img_size)
    with torch.no_grad():
        assert torch.equal(network.image_encoder(image), official.image_encoder(image))
    assert torch.equal(network.pixel_mean, official.pixel_mean)
    assert torch.equal(network.pixel_std, official.pixel_std)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("model", ["vit_b", "vit_l", "vit_h"])
def test_the_published_networks_are_recognised(model):
    with torch.device("meta"):
        official = sam_model_registry[model]()
    network = build(official.state_dict(), model)
    theirs, ours = official.image_encoder, network.image_encoder
    assert [block.window_size for block in ours.blocks] == [block.window_size for block in theirs.blocks]
    assert [block.attn.num_heads for block in ours.blocks] == [block.attn.num_heads for block in theirs.blocks]
    assert (ours.img_size, network.mask_decoder.num_mask_tokens) == (theirs.img_size, 4)
    other = "vit_l" if model == "vit_b" else "vit_b"
    with pytest.raises(
        ValueError, match=rf"the weights are those of {model}, and the model is {other}; set it to {model}"
    ):
        build(official.state_dict(), other)


def changed(tensors, name, tensor):
    return {**tensors, name: tensor}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {"conv1.weight": torch.ones(3)}, r"image_encoder\.patch_embed\.proj\.weight is missing"),
        (lambda t: {n: v for n, v in t.items() if "norm_final" not in n}, r"norm_final_attn\.weight is missing"),
        (lambda t: {n: v for n, v in t.items() if not n.startswith("mask_decoder")}, r"mask_decoder.* is missing"),
        (lambda t: {**t, "classifier.weight": torch.ones(2)}, r"it has no classifier\.weight"),
        (
            lambda t: changed(t, "image_encoder.neck.2.weight", torch.ones(32, 32, 1, 1)),
            r"neck\.2\.weight is \(32, 32, 1",
        ),
        (lambda t: changed(t, "image_encoder.pos_embed", torch.ones(3)), r"not those of Segment Anything"),
        (
            lambda t: changed(t, "image_encoder.patch_embed.proj.weight", torch.ones(3)),
            r"not those of Segment Anything",
        ),
    ],
)
def test_other_weights_are_named(official, change, message):
    with pytest.raises(ValueError, match=message):
        build(change(official.state_dict()), "vit_b")


def test_the_encoding_is_the_official_one(official, network, photograph):
    predictor = SamPredictor(official)
    predictor.set_image(photograph)
    embedding = embed(network, photograph)
    assert embedding.input_size == embedding.photograph_size == (96, 128)
    assert embedding.features.dtype == torch.float32
    assert torch.allclose(embedding.features, predictor.features, atol=1e-5)


def test_automatic_masks_are_the_official_ones(official, network, photograph):
    expected = SamAutomaticMaskGenerator(official, **EVERYTHING).generate(photograph)
    found = automatic_masks(network, embed(network, photograph), **EVERYTHING)
    assert len(found) == len(expected) > 0
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["segmentation"].dtype == np.bool_
        assert (ours["segmentation"] == theirs["segmentation"]).mean() > 0.999
        assert ours["predicted_iou"] == pytest.approx(theirs["predicted_iou"], abs=1e-4)


def test_no_mask_may_be_good_enough(network, photograph):
    assert automatic_masks(network, embed(network, photograph), **EVERYTHING | {"pred_iou_thresh": 1e6}) == []


def test_prompts_ask_as_the_official_predictor_does(official, network, photograph):
    predictor = SamPredictor(official)
    predictor.set_image(photograph)
    embedding = embed(network, photograph)
    box = (20.0, 10.0, 90.0, 70.0)
    masks, _, _ = predictor.predict(box=np.array(box), multimask_output=False)
    assert (prompted_mask(network, embedding, [], [box]) == masks[0]).mean() > 0.999
    masks, trust, _ = predictor.predict(np.array([[30.0, 40.0]]), np.array([1]), multimask_output=True)
    assert (prompted_mask(network, embedding, [(30.0, 40.0, True)], []) == masks[trust.argmax()]).mean() > 0.999
    inside, outside = (30.0, 40.0, True), (120.0, 90.0, False)
    masks, _, _ = predictor.predict(
        np.array([inside[:2], outside[:2]]), np.array([1, 0]), np.array(box), multimask_output=False
    )
    assert (prompted_mask(network, embedding, [inside, outside], [box]) == masks[0]).mean() > 0.999


def test_several_boxes_are_joined(network, photograph):
    embedding = embed(network, photograph)
    boxes = [(5.0, 5.0, 40.0, 40.0), (60.0, 30.0, 120.0, 90.0)]
    alone = [prompted_mask(network, embedding, [], [box]) for box in boxes]
    point = [(50.0, 50.0, True)]
    assert (prompted_mask(network, embedding, [], boxes) == alone[0] | alone[1]).all()
    three = alone[0] | alone[1] | prompted_mask(network, embedding, point, [])
    assert (prompted_mask(network, embedding, point, boxes) == three).all()


@pytest.mark.parametrize("factor", [2, 5])
def test_prompts_of_a_large_photograph_are_in_its_own_pixels(network, photograph, factor):
    large = np.kron(photograph, np.ones((factor, factor, 1), np.uint8))
    embedding = embed(network, large)
    assert embedding.input_size == (96, 128)
    assert embedding.photograph_size == (96 * factor, 128 * factor)
    assert torch.allclose(embedding.features, embed(network, photograph).features, atol=1e-5)
    box, point = (20.0, 10.0, 90.0, 70.0), (30.0, 40.0, True)
    found = prompted_mask(
        network, embedding, [(30.0 * factor, 40.0 * factor, True)], [tuple(factor * place for place in box)]
    )
    assert (found == prompted_mask(network, embed(network, photograph), [point], [box])).all()


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (3, 2)])
def test_photographs_of_any_shape_are_encoded(network, size):
    embedding = embed(network, np.full((*size, 3), 90, np.uint8))
    assert max(embedding.input_size) == 128
    assert all(mask["segmentation"].dtype == np.bool_ for mask in automatic_masks(network, embedding, **EVERYTHING))
    assert torch.isfinite(embedding.features).all()


def test_a_photograph_is_encoded_once_for_all_masks(network, photograph, monkeypatch):
    embedding = embed(network, photograph)
    encoded = []
    monkeypatch.setattr(network.image_encoder, "forward", encoded.append)
    assert automatic_masks(network, embedding, **EVERYTHING)
    assert prompted_mask(network, embedding, [(30.0, 40.0, True)], []).dtype == np.bool_
    assert encoded == []
