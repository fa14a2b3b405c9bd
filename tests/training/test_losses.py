import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from torch.nn.functional import binary_cross_entropy_with_logits

from crack_pipeline.imaging.photograph_stack import BACKGROUND, CRACK, IGNORED
from crack_pipeline.training.losses import ClDice, CrossEntropy, Dice, Focal, Terms, loss, soft_skeleton

ALL = (CrossEntropy(background=0.9, crack=1.1), Dice(), Focal(gamma=1.5, alpha=0.3), ClDice(iterations=3))
EACH = pytest.mark.parametrize("term", ALL, ids=lambda term: term.kind)


def batch(seed, number=2, height=7, width=9, ignored=0.2):
    noise = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(number, 1, height, width, generator=noise)
    shares = torch.tensor([1 - ignored - 0.3, 0.3, ignored])
    targets = torch.multinomial(shares, number * height * width, replacement=True, generator=noise)
    return logits, targets.to(torch.uint8).view(number, height, width)


def value(term, logits, targets):
    return loss(logits, targets, [term])[0].item()


def of_probabilities(rows):
    """Logits (1, 1, H, W) of probabilities that are nearly 0 or 1."""
    return torch.tensor(rows, dtype=torch.float32).mul(2).sub(1).mul(20)[None, None]


def test_cross_entropy_weighs_the_classes():
    logits = torch.tensor([0.0, 2.0, -1.0, 5.0]).view(1, 1, 2, 2)
    targets = torch.tensor([BACKGROUND, CRACK, CRACK, IGNORED], dtype=torch.uint8).view(1, 2, 2)
    expected = (0.9 * math.log(2) + 1.1 * math.log1p(math.exp(-2)) + 1.1 * math.log1p(math.exp(1))) / 3
    assert value(CrossEntropy(background=0.9, crack=1.1), logits, targets) == pytest.approx(expected)


def test_dice_is_that_of_all_pixels_together():
    logits = torch.cat([of_probabilities([[1, 1], [0, 0]]), of_probabilities([[0, 0], [1, 0]])])
    targets = torch.tensor([[[1, 0], [1, 0]], [[0, 0], [1, 2]]], dtype=torch.uint8)
    # Three pixels are found, two of the three are crack, one of the cracked is missed.
    assert value(Dice(smoothing=1e-6), logits, targets) == pytest.approx(1 - 2 * 2 / (3 + 3), abs=1e-6)
    assert value(Dice(smoothing=2), logits, targets) == pytest.approx(1 - (2 * 2 + 2) / (3 + 3 + 2), abs=1e-6)


def test_focal_without_a_power_is_cross_entropy():
    logits, targets = batch(0)
    assert value(Focal(gamma=0), logits, targets) == pytest.approx(value(CrossEntropy(), logits, targets))
    assert value(Focal(gamma=0, alpha=0.25), logits, targets) == pytest.approx(
        value(CrossEntropy(background=0.75, crack=0.25), logits, targets)
    )


def test_focal_leaves_what_is_hard():
    targets = torch.ones(1, 1, 1, dtype=torch.uint8)
    for probability in (0.01, 0.3, 0.9):
        logits = torch.tensor(probability).logit().view(1, 1, 1, 1)
        expected = -((1 - probability) ** 2) * math.log(probability)
        assert value(Focal(gamma=2), logits, targets) == pytest.approx(expected, rel=1e-4)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), ignored=st.sampled_from([0.0, 0.3]))
def test_the_values_are_those_of_other_implementations(seed, ignored):
    import segmentation_models_pytorch as smp  # here, since it takes seconds that every process would wait for

    logits, targets = batch(seed, ignored=ignored)
    kept = targets != IGNORED
    seen, crack = logits[:, 0][kept], (targets[kept] == CRACK).float()
    expected = binary_cross_entropy_with_logits(seen, crack)
    assert value(CrossEntropy(), logits, targets) == pytest.approx(expected.item(), rel=1e-4)
    if crack.any():
        # Their smoothing is added to half of the fraction's two sides.
        expected = smp.losses.DiceLoss("binary", smooth=1.0)(seen.view(1, 1, -1), crack.view(1, 1, -1))
        assert value(Dice(smoothing=2), logits, targets) == pytest.approx(expected.item(), rel=1e-4)
    expected = smp.losses.FocalLoss("binary", alpha=0.3, gamma=1.5)(seen, crack)
    assert value(Focal(gamma=1.5, alpha=0.3), logits, targets) == pytest.approx(expected.item(), rel=1e-4)


@EACH
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), change=st.floats(-100, 100))
def test_ignored_pixels_have_no_influence(term, seed, change):
    logits, targets = batch(seed)
    logits.requires_grad_()
    first, _ = loss(logits, targets, [term])
    first.backward()
    ignored = (targets == IGNORED).unsqueeze(1)
    assert not logits.grad[ignored].any()
    again, _ = loss(torch.where(ignored, torch.full_like(logits, change), logits), targets, [term])
    assert again.item() == first.item()


@EACH
@settings(max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    only=st.sampled_from([None, BACKGROUND, CRACK, IGNORED]),
    scale=st.sampled_from([1.0, 100.0, 1e4]),
    size=st.sampled_from([(1, 1), (1, 9), (8, 8)]),
)
def test_values_and_gradients_are_finite(term, seed, only, scale, size):
    logits, targets = batch(seed, 2, *size)
    if only is not None:
        targets.fill_(only)
    logits = (logits * scale).requires_grad_()
    total, values = loss(logits, targets, [term])
    total.backward()
    assert total.isfinite()
    assert total >= -1e-6
    assert logits.grad.isfinite().all()
    assert not values[term.kind].requires_grad
    if only == IGNORED:
        assert total == 0
        assert not logits.grad.any()


@EACH
def test_a_perfect_prediction_costs_nothing_and_its_opposite_most(term):
    targets = torch.zeros(1, 12, 12, dtype=torch.uint8)
    targets[:, 5:8, 1:11] = CRACK
    perfect = of_probabilities(targets[0].tolist())
    assert value(term, perfect, targets) == pytest.approx(0, abs=1e-3)
    assert value(term, -perfect, targets) > 0.8


@EACH
def test_a_step_along_the_gradient_lowers_the_loss(term):
    targets = torch.zeros(2, 16, 16, dtype=torch.uint8)
    targets[:, 6:9, :] = CRACK
    logits = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    before, _ = loss(logits, targets, [term])
    before.backward()
    after, _ = loss(logits - 0.1 * logits.grad / logits.grad.norm(), targets, [term])
    assert after < before
    assert logits.grad[targets.unsqueeze(1) == CRACK].mean() < 0


@EACH
def test_a_photograph_without_cracks_teaches_that_there_are_none(term):
    logits = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    before, _ = loss(logits, torch.zeros(1, 16, 16, dtype=torch.uint8), [term])
    before.backward()
    assert logits.grad.sum() > 0


def test_a_broken_crack_costs_more_than_one_of_another_width():
    targets = torch.zeros(1, 21, 40, dtype=torch.uint8)
    targets[:, 9:12] = CRACK
    truth = (targets[0] == CRACK).float()
    broken, narrower = truth.clone(), truth.clone()
    broken[:, 15:20] = 0
    narrower[9, 5:20] = 0
    assert (broken != truth).sum() == (narrower != truth).sum() == 15
    costs = {
        name: {term.kind: value(term, of_probabilities(rows.tolist()), targets) for term in (Dice(), ClDice())}
        for name, rows in (("broken", broken), ("narrower", narrower))
    }
    assert costs["broken"]["dice"] == pytest.approx(costs["narrower"]["dice"], abs=1e-6)
    assert costs["broken"]["cldice"] > 2 * costs["narrower"]["cldice"]


def test_the_skeleton_of_a_bar_is_its_centreline():
    bar = torch.zeros(1, 15, 30)
    bar[:, 5:10, 3:27] = 1
    skeleton = soft_skeleton(bar, 5)
    assert torch.equal(skeleton[:, 7, 6:24], torch.ones(1, 18))
    assert not skeleton[:, :5].any()
    assert not skeleton[:, 8:, 8:22].any()
    assert not skeleton[:, 5:7, 8:22].any()


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), iterations=st.integers(1, 4), height=st.integers(1, 9), width=st.integers(1, 9))
def test_the_skeleton_is_that_of_the_papers_algorithm(seed, iterations, height, width):
    maps = torch.rand(2, height, width, generator=torch.Generator().manual_seed(seed))

    def around(image, y, x, reach):
        return [image[j, i] for j, i in reach(y, x) if 0 <= j < height and 0 <= i < width]

    def filtered(image, choose, reach):
        result = torch.empty_like(image)
        for y in range(height):
            for x in range(width):
                result[y, x] = choose(around(image, y, x, reach))
        return result

    def cross(y, x):
        return [(y, x), (y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]

    def square(y, x):
        return [(y + j, x + i) for j in (-1, 0, 1) for i in (-1, 0, 1)]

    for image, found in zip(maps, soft_skeleton(maps, iterations), strict=True):
        skeleton = torch.zeros_like(image)
        for _ in range(iterations + 1):
            eroded = filtered(image, min, cross)
            lines = (image - filtered(eroded, max, square)).clamp(min=0)
            skeleton = skeleton + (1 - skeleton) * lines
            image = eroded
        torch.testing.assert_close(found, skeleton)


def test_terms_are_weighted_and_told_apart():
    logits, targets = batch(3)
    terms = TypeAdapter(Terms).validate_python(
        [{"kind": "cross_entropy", "weight": 0.5}, {"kind": "dice", "weight": 2}, {"kind": "cldice", "iterations": 2}]
    )
    total, values = loss(logits, targets, terms)
    assert list(values) == ["cross_entropy", "dice", "cldice"]
    for term in terms:
        assert values[term.kind].item() == pytest.approx(value(term.model_copy(update={"weight": 1}), logits, targets))
    expected = 0.5 * values["cross_entropy"] + 2 * values["dice"] + values["cldice"]
    assert total.item() == pytest.approx(expected.item())


@EACH
def test_half_precision_is_computed_in_full(term):
    logits, targets = batch(4)
    logits = logits.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = loss(logits, targets, [term])
    assert total.dtype == torch.float32
    assert total.item() == value(term, logits.float(), targets)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([], "at least 1 item"),
        ([{"kind": "dice"}, {"kind": "dice"}], "every kind may be named once, there are dice, dice"),
        ([{"kind": "hinge"}], "does not match any of the expected tags"),
        ([{"kind": "focal", "alpha": 1}], "less than 1"),
        ([{"kind": "dice", "smoothing": 0}], "greater than 0"),
        ([{"kind": "cldice", "iterations": 0}], "greater than or equal to 1"),
        ([{"kind": "cross_entropy", "weight": 0}], "greater than 0"),
    ],
)
def test_terms_that_do_not_fit_are_refused(terms, message):
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Terms).validate_python(terms)


@pytest.mark.parametrize("shape", [(2, 7, 9), (2, 2, 7, 9), (1, 1, 7, 9), (2, 1, 9, 7)])
def test_shapes_that_do_not_belong_together_are_refused(shape):
    _, targets = batch(0)
    with pytest.raises(ValueError, match=r"targets of the shape \(2, 7, 9\) belong to \(2, 1, 7, 9\)"):
        loss(torch.zeros(shape), targets, [Dice()])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@EACH
def test_a_gpu_gives_the_same(term):
    logits, targets = batch(5, 2, 40, 50)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        total, _ = loss(logits.cuda(), targets.cuda(), [term])
    assert total.item() == pytest.approx(value(term, logits, targets), rel=1e-4)
