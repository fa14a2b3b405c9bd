import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pydantic import ValidationError

from crack_pipeline.imaging.concrete import choose_concrete, render_concrete
from crack_pipeline.imaging.concrete_evidence import weigh
from crack_pipeline.imaging.concrete_rule import ConcreteRule, enlarge, structure_from_masks
from crack_pipeline.imaging.foreground import Foreground, find_foreground

CLASSICAL, RULE = Foreground(), ConcreteRule()


def wall(shape=(240, 320), seed=0, cast=(1.0, 1.0, 1.0)):
    """Grey with the grain of sand."""
    rng = np.random.default_rng(seed)
    grain = rng.normal(140, 9, (*shape, 1)) * np.array(cast)
    return np.clip(grain, 0, 255).astype(np.uint8)


def leaves(shape=(240, 320), seed=1):
    """Green blots of all sizes."""
    rng = np.random.default_rng(seed)
    blots = cv2.GaussianBlur(rng.normal(0, 1, shape), (0, 0), 5)
    light = 0.5 + 0.35 * np.tanh(2 * blots / blots.std())
    return (light[..., None] * np.array([110, 190, 50])).astype(np.uint8)


def half_and_half(angle=0.3, shape=(240, 320)):
    """A wall that ends along a line; leaves above it."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    concrete = y > shape[0] / 2 + angle * (x - shape[1] / 2)
    return np.where(concrete[..., None], wall(shape), leaves(shape)), concrete


def iou(found, true):
    return (found & true).sum() / (found | true).sum()


def mask(segmentation):
    return {"segmentation": segmentation, "area": int(segmentation.sum()), "predicted_iou": 0.9}


@pytest.mark.parametrize("angle", [-0.3, 0.0, 0.5])
@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_concrete_is_told_from_leaves(angle, rounds):
    photograph, concrete = half_and_half(angle)
    assert iou(find_foreground(photograph, Foreground(rounds=rounds)), concrete) > (0.9 if rounds else 0.85)


def test_concrete_is_found_above_leaves_too():
    photograph, concrete = half_and_half()
    assert iou(find_foreground(photograph[::-1].copy(), CLASSICAL), concrete[::-1]) > 0.85


@pytest.mark.parametrize("seed", range(4))
def test_a_bare_wall_is_all_structure(seed):
    rng = np.random.default_rng(seed)
    picture = render_concrete((256, 320), rng, choose_concrete(rng, 0.8, (256, 320)))
    assert find_foreground((255 * picture).astype(np.uint8), CLASSICAL).all()


@pytest.mark.parametrize("cast", [(1.1, 1.0, 0.75), (0.9, 1.0, 1.1), (1.15, 0.95, 0.85), (0.98, 1.0, 0.55)])
def test_a_wall_of_another_colour_is_all_structure(cast):
    assert find_foreground(wall(cast=cast), CLASSICAL).all()


@pytest.mark.parametrize("width", [3, 7, 12])
def test_a_crack_is_part_of_the_structure(width):
    photograph, concrete = half_and_half()
    crack = np.zeros(concrete.shape, np.uint8)
    cv2.line(crack, (20, 200), (300, 225), 1, width)
    crack = crack.astype(bool)
    photograph[crack] = 12
    assert find_foreground(photograph, CLASSICAL)[crack & concrete].mean() > 0.98
    whole = wall()
    whole[crack] = 12
    assert find_foreground(whole, CLASSICAL).all()


def test_leaves_alone_are_no_structure():
    assert not find_foreground(leaves(), CLASSICAL).any()


def test_none_keeps_everything():
    assert find_foreground(leaves(), Foreground(method="none")).all()


@pytest.mark.parametrize("side", [256, 1024])
def test_the_result_has_the_size_of_the_photograph(side):
    photograph, concrete = half_and_half(shape=(613, 807))
    found = find_foreground(photograph, Foreground(side=side))
    assert found.shape == (613, 807)
    assert iou(found, concrete) > 0.9


@settings(max_examples=30, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 300), st.just(3))))
def test_any_photograph_has_an_answer_and_always_the_same(photograph):
    found = find_foreground(photograph, CLASSICAL)
    assert (found.dtype, found.shape) == (np.bool_, photograph.shape[:2])
    assert (find_foreground(photograph, CLASSICAL) == found).all()


def test_the_photograph_stays_as_it_was():
    photograph, _ = half_and_half()
    before = photograph.copy()
    find_foreground(photograph, CLASSICAL)
    assert (photograph == before).all()


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (0, 8, 3)])
def test_what_is_no_photograph_is_refused(shape):
    with pytest.raises(ValueError, match=r"a photograph \(H, W, 3\) of uint8 is needed, got uint8"):
        find_foreground(np.zeros(shape, np.uint8), CLASSICAL)


def test_a_network_is_not_here():
    with pytest.raises(ValueError, match=r"segment_anything needs a network; without one there are classical and none"):
        find_foreground(wall(), Foreground(method="segment_anything"))


@pytest.mark.parametrize("wrong", [{"method": "sam"}, {"side": 10}, {"rule": {"other_share": 2}}, {"sides": 512}])
def test_a_wrong_parameter_is_refused(wrong):
    with pytest.raises(ValidationError):
        Foreground.model_validate(wrong)


class TestEvidence:
    def test_each_other_material_has_less_than_concrete(self):
        concrete = np.median(weigh(wall(), 1024).concrete)
        grain = np.random.default_rng(2).normal(0, 2, (240, 320, 1))
        for name, colour in {
            "sky": (90, 140, 220),
            "burnt out": (254, 254, 254),
            "night": (8, 8, 10),
            "rust": (150, 80, 40),
            "green paint": (120, 150, 130),
            "lawn": (80, 150, 50),
        }.items():
            other = np.clip(np.array(colour) + grain, 0, 255).astype(np.uint8)
            assert np.median(weigh(other, 1024).concrete) < concrete - 0.5, name

    def test_what_has_edges_and_no_grain_has_less(self):
        edges = cv2.GaussianBlur(np.kron(wall((12, 16))[..., 0], np.ones((20, 20), np.uint8)), (0, 0), 3)
        clutter = np.repeat(edges[..., None], 3, axis=2)
        assert np.median(weigh(clutter, 1024).concrete) < np.median(weigh(wall(), 1024).concrete) - 0.5

    def test_a_lonely_line_harms_the_lenient_one_less(self):
        photograph = cv2.GaussianBlur(wall((400, 600)), (0, 0), 0.7)
        cv2.line(photograph, (0, 200), (599, 220), (10, 10, 10), 14)
        evidence = weigh(photograph, 1024)
        beside = evidence.concrete[44:47], evidence.lenient[44:47]
        assert beside[1].mean() > beside[0].mean() + 0.1


class TestRule:
    def test_it_picks_the_concrete_masks(self):
        photograph, concrete = half_and_half()
        assert iou(structure_from_masks(photograph, [mask(concrete), mask(~concrete)], RULE), concrete) > 0.97

    def test_masks_may_be_smaller_than_the_photograph(self):
        photograph, concrete = half_and_half()
        small = cv2.resize(concrete.astype(np.uint8), (160, 120), interpolation=cv2.INTER_NEAREST).astype(bool)
        found = structure_from_masks(photograph, [mask(small), mask(~small)], RULE)
        assert iou(found, concrete) > 0.97

    def test_the_smallest_of_overlapping_masks_counts(self):
        photograph, concrete = half_and_half()
        everything = np.ones_like(concrete)
        for masks in ([everything, ~concrete], [~concrete, everything]):
            assert iou(structure_from_masks(photograph, [mask(m) for m in masks], RULE), concrete) > 0.97

    def test_a_crack_that_is_a_mask_of_its_own_stays(self):
        photograph, concrete = half_and_half()
        crack = np.zeros(concrete.shape, np.uint8)
        cv2.line(crack, (20, 200), (300, 225), 1, 9)
        crack = crack.astype(bool)
        photograph[crack] = 10
        found = structure_from_masks(photograph, [mask(concrete & ~crack), mask(~concrete), mask(crack)], RULE)
        assert found[crack].all()

    def test_what_no_mask_covers_is_judged_too(self):
        photograph, concrete = half_and_half()
        assert iou(structure_from_masks(photograph, [mask(concrete)], RULE), concrete) > 0.97
        assert iou(structure_from_masks(photograph, [mask(~concrete)], RULE), concrete) > 0.97

    def test_a_bare_wall_is_structure_whatever_the_masks(self):
        half = np.zeros((240, 320), bool)
        half[:100] = True
        for masks in ([], [mask(half)], [mask(half), mask(~half)]):
            assert structure_from_masks(wall(), masks, RULE).all()

    def test_leaves_alone_are_no_structure(self):
        assert not structure_from_masks(leaves(), [mask(np.ones((240, 320), bool))], RULE).any()

    @pytest.mark.parametrize("wrong", [np.ones((240, 320)), np.ones((1, 240, 320), bool)])
    def test_what_is_no_mask_is_refused(self, wrong):
        photograph, _ = half_and_half()
        with pytest.raises(ValueError, match=r"a mask is \(h, w\) of bool, got"):
            structure_from_masks(photograph, [{"segmentation": wrong}], RULE)


@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.integers(1, 4))
def test_enlarged_whole_times_areas_stay(structure, factor):
    size = tuple(factor * length for length in structure.shape)
    found = enlarge(structure, size)
    assert found.shape == size
    if factor % 2:  # the middle of a cell is a pixel
        assert (found[factor // 2 :: factor, factor // 2 :: factor] == structure).all()


@pytest.mark.skipif("CRACK_PIPELINE_DATA" not in os.environ, reason="CRACK_PIPELINE_DATA names no real photographs")
def test_it_beats_the_whole_photograph_on_bridges_and_keeps_cracks():
    root = Path(os.environ["CRACK_PIPELINE_DATA"])
    found, union, concrete, known = 0, 0, 0, 0
    for path in sorted((root / "bridge" / "images").iterdir())[1::12]:
        structure = find_foreground(np.asarray(Image.open(path).convert("RGB")), CLASSICAL)
        classes = np.asarray(Image.open(root / "bridge" / "masks" / f"{path.stem}.png"))
        counted, true = classes != 3, classes == 6
        found += (structure & true).sum()
        union += ((structure & counted) | true).sum()
        concrete, known = concrete + true.sum(), known + counted.sum()
    assert found / union > concrete / known + 0.15
    for path in sorted((root / "uav75" / "train_img").iterdir())[::10]:
        assert find_foreground(np.asarray(Image.open(path).convert("RGB")), CLASSICAL).all()
