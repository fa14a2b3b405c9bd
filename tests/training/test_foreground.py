import numpy as np
import pytest
import torch

from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.imaging.foreground import Foreground
from crack_pipeline.imaging.prompts import Box, Point, Prompts
from crack_pipeline.training.foreground import encode, find_structure, load_network
from small_sam import small_sam

HOW = Foreground.model_validate(
    {
        "method": "segment_anything",
        "automatic": {"points_per_side": 4, "points_at_once": 4, "predicted_iou": 0, "stability": 0},
    }
)
PLAN = resolve(Compute(accelerator="cpu", precision="32-true"))


@pytest.fixture(scope="module")
def network():
    return load_network(small_sam().state_dict(), HOW, PLAN)


def photograph(shape=(300, 400)):
    """A wall, green above."""
    rng = np.random.default_rng(0)
    picture = rng.normal(140, 9, (*shape, 1)).repeat(3, axis=2)
    picture[: shape[0] // 2] *= (0.5, 0.9, 0.3)
    return np.clip(picture, 0, 255).astype(np.uint8)


def test_from_weights_to_structure(network):
    picture = photograph()
    found = find_structure(network, encode(network, picture, PLAN), picture, HOW)
    assert (found.dtype, found.shape) == (np.bool_, (300, 400))
    assert 0 < found.mean() < 1


def test_a_bare_wall_is_all_structure_whatever_an_untrained_network_says(network):
    wall = photograph((400, 400))[200:]
    assert find_structure(network, encode(network, wall, PLAN), wall, HOW).all()


def test_prompts_take_the_place_of_the_rule(network):
    picture = photograph()
    embedding = encode(network, picture, PLAN)
    prompts = Prompts((Point(100, 250, True),), (Box(10, 160, 390, 290),))
    found = find_structure(network, embedding, picture, HOW, prompts)
    assert found.shape == (300, 400)
    strict = HOW.model_copy(update={"rule": HOW.rule.model_copy(update={"least_evidence": 2.0})})
    assert (find_structure(network, embedding, picture, strict, prompts) == found).all()
    with pytest.raises(ValueError, match=r"reaches to x 401"):
        find_structure(network, embedding, picture, HOW, Prompts((Point(401, 1, True),)))


def test_the_embedding_of_another_photograph_is_refused(network):
    with pytest.raises(ValueError, match=r"the embedding is of \(300, 400\) px, the photograph has \(200, 400\)"):
        find_structure(network, encode(network, photograph(), PLAN), photograph((200, 400)), HOW)


def test_half_precision_gives_about_the_same(network):
    picture = photograph()
    plan = PLAN.model_copy(update={"precision": "bf16-mixed"})
    half, single = encode(network, picture, plan).features, encode(network, picture, PLAN).features
    assert half.dtype == torch.float32
    assert (half - single).abs().mean() < 0.1 * single.abs().mean()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_is_the_same():
    plan = resolve(Compute(accelerator="cuda", precision="32-true"))
    picture, network = photograph(), load_network(small_sam().state_dict(), HOW, plan)
    found = find_structure(network, encode(network, picture, plan), picture, HOW)
    on_cpu = load_network(small_sam().state_dict(), HOW, PLAN)
    assert (found == find_structure(on_cpu, encode(on_cpu, picture, PLAN), picture, HOW)).mean() > 0.98
