import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from crack_pipeline.imaging import simulation as simulation_module
from crack_pipeline.imaging.crack_free import Places
from crack_pipeline.imaging.photograph_stack import CRACK, IGNORED
from crack_pipeline.imaging.simulated_squares import SimulatedSquares
from crack_pipeline.imaging.simulation import Simulation, Traces, simulate

SHARP = Traces(blur=0.0, noise=0.0, jpeg_quality=None)
ALWAYS = {"cracked": 1.0, "nuisances": 0.0, "faint": 0.0}


def noisy(size=128, channels=3, seed=0, noise=6.0):
    shape = (size, size, 3) if channels == 3 else (size, size)
    return np.random.default_rng(seed).normal(150, noise, shape).clip(0, 255).astype(np.uint8)


@settings(max_examples=25)
@given(
    st.integers(0, 2**31),
    st.sampled_from([32, 64, 128]),
    st.sampled_from([1, 3]),
    st.sampled_from([SHARP, Traces(0.8, 0.02, None), Traces(1.5, 0.01, 40)]),
)
def test_the_same_seed_gives_the_same_picture_and_the_square_stays(seed, size, channels, traces):
    square = noisy(size, channels)
    before = square.copy()
    one, other = (simulate(square, np.random.default_rng(seed), Simulation(), traces) for _ in range(2))
    assert (square == before).all()
    assert one[0].shape == square.shape
    assert one[0].dtype == one[1].dtype == np.uint8
    assert set(np.unique(one[1])) <= {0, 1}
    assert all((a == b).all() for a, b in zip(one, other, strict=True))


def test_without_crack_nuisances_and_compression_nothing_changes():
    square = noisy()
    nothing = Simulation(cracked=0.0, nuisances=0.0)
    image, mask = simulate(square, np.random.default_rng(0), nothing, Traces(1.0, 0.02, None))
    assert (image == square).all()
    assert not mask.any()


@pytest.mark.parametrize("channels", [1, 3])
def test_cracks_are_darker_than_the_concrete_around_them(channels):
    for seed in range(12):
        square = noisy(channels=channels)
        image, mask = simulate(square, np.random.default_rng(seed), Simulation(**ALWAYS), SHARP)
        inside = mask == CRACK
        assert inside.any()
        assert image[inside].mean() < 0.9 * square[inside].mean()


@pytest.mark.parametrize("width", [2.0, 5.0, 12.0])
def test_cracks_have_the_width_asked_for_in_px_and_in_mm(width):
    px = Simulation(width=(width, width), density=1.0, branches=0.0, **ALWAYS)
    mm = Simulation(width=(width / 4, width / 4), millimetres_per_pixel=0.25, density=1.0, branches=0.0, **ALWAYS)
    for simulation in (px, mm):
        found = []
        for seed in range(20):
            _, mask = simulate(noisy(256), np.random.default_rng(seed), simulation, SHARP)
            distance = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
            ridge = (distance >= cv2.dilate(distance, np.ones((3, 3)))) & (distance > 0)
            found.append(2 * distance[ridge].mean())
        assert np.median(found) == pytest.approx(width, rel=0.35, abs=0.8)


@pytest.mark.parametrize("direction", [0, 45, 90])
def test_cracks_run_in_the_direction_asked_for(direction):
    simulation = Simulation(orientation=(direction, direction), width=(3, 4), branches=0.0, density=1.0, **ALWAYS)
    differences = []
    for seed in range(15):
        _, mask = simulate(noisy(), np.random.default_rng(seed), simulation, SHARP)
        y, x = np.nonzero(mask)
        axis = np.linalg.svd(np.stack([x - x.mean(), y - y.mean()]), full_matrices=False)[0][:, 0]
        angle = math.degrees(math.atan2(axis[1], axis[0]))
        differences.append(abs((angle - direction + 90) % 180 - 90))
    assert np.median(differences) < 12


@pytest.mark.parametrize("rough", [0.0, 1.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_noise_is_the_same_inside_and_outside_a_crack(channels, rough, monkeypatch):
    monkeypatch.setattr(simulation_module, "_ROUGH", rough)
    noise = 0.03
    simulation = Simulation(width=(30, 30), density=1.0, branches=0.0, difficulty=(0.9, 0.9), **ALWAYS)
    inside, outside = [], []
    for seed in range(10):
        square = noisy(channels=1, seed=seed, noise=255 * noise)
        if channels == 3:
            square = np.repeat(square[..., None], 3, axis=2)
        image, mask = simulate(square, np.random.default_rng(seed), simulation, Traces(1.0, noise, None))
        if channels == 3:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        rough = image - cv2.GaussianBlur(image, (0, 0), 1.0).astype(np.float32)
        deep = cv2.erode(mask, np.ones((9, 9))) > 0
        far = cv2.dilate(mask, np.ones((25, 25))) == 0
        # What is as dark as black has no noise left.
        deep &= cv2.blur(image, (9, 9)) > 30
        inside.append(rough[deep])
        outside.append(rough[far])
    inside, outside = np.concatenate(inside), np.concatenate(outside)
    assert len(inside) > 500
    assert inside.std() == pytest.approx(outside.std(), rel=0.1)


def test_faint_cracks_can_just_be_told_from_their_concrete():
    def contrast(noise, faint):
        lost = []
        for seed in range(20):
            square = noisy(noise=noise, seed=seed)
            wanted = Simulation(**ALWAYS | {"faint": faint, "width": (2.0, 5.0)})
            image, mask = simulate(square, np.random.default_rng(seed), wanted, SHARP)
            inside = mask == CRACK
            lost.append(1 - image[inside].mean() / square[inside].mean())
        return np.array(lost)

    smooth, rough, dark = contrast(2, 1.0), contrast(25, 1.0), contrast(2, 0.0)
    assert 0.03 < smooth.min() < smooth.max() < 0.25
    assert smooth.mean() < rough.mean() - 0.05
    assert rough.mean() < dark.mean() - 0.05


def test_wide_cracks_are_of_many_depths():
    simulation = Simulation(width=(20, 24), density=1.0, branches=0.0, **ALWAYS)
    left = []
    for seed in range(40):
        square = np.full((128, 128), 180, np.uint8)
        image, mask = simulate(square, np.random.default_rng(seed), simulation, SHARP)
        left.append(image[cv2.erode(mask, np.ones((5, 5))) > 0].mean() / 180)
    dark, light = np.quantile(left, [0.2, 0.8])
    assert dark < 0.25
    assert light > 0.35


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"width": (5, 2)}, "the smaller one comes first"),
        ({"width": (1, 400)}, "1 to 400 px wide"),
        ({"width": (1, 4), "millimetres_per_pixel": 0.01}, "100 to 400 px wide"),
        ({"difficulty": (0, 2)}, "between 0 and 1"),
        ({"cracked": 1.5}, "less than or equal to 1"),
    ],
)
def test_wrong_parameters_are_named(wrong, says):
    with pytest.raises(ValidationError, match=says):
        Simulation(**wrong)


class Even:
    """Photographs of one grey, a part of which nobody looked at."""

    def crops(self, rows, corners, size):
        images = np.repeat(100 + rows.astype(np.uint8)[:, None, None], size, axis=1).repeat(size, axis=2)
        masks = np.zeros((len(rows), size, size), np.uint8)
        masks[:, :4] = IGNORED
        return images.copy(), masks


def squares(**options):
    places = Places(np.arange(5), np.zeros((5, 2), np.int64))
    return SimulatedSquares(Even(), places, options.pop("traces", {0: SHARP}), Simulation(**options))


def test_a_square_depends_on_its_seed_alone():
    generator = squares()
    images, masks = generator.squares(np.arange(8), 64)
    for number in (7, 2):
        image, mask = generator.squares(np.array([number]), 64)
        assert (image[0] == images[number]).all()
        assert (mask[0] == masks[number]).all()


def test_what_is_ignored_stays_ignored_but_for_the_drawn_crack():
    _, masks = squares(**ALWAYS).squares(np.arange(8), 64)
    top = masks[:, :4]
    assert set(np.unique(top)) <= {CRACK, IGNORED}
    assert (top == IGNORED).any()
    assert (masks[:, 4:] != IGNORED).all()


def test_nowhere_to_simulate_is_an_error():
    with pytest.raises(ValueError, match="no place"):
        SimulatedSquares(Even(), Places(np.zeros(0, int), np.zeros((0, 2), int)), {0: SHARP}, Simulation())
