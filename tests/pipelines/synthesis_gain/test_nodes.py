import logging
from functools import partial

import numpy as np
import pandas as pd
import pytest

from crack_pipeline.datasets import ImageStackDataset
from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.imaging import simulated_squares, simulation
from crack_pipeline.imaging.photograph_stack import CRACK, PhotographChunk
from crack_pipeline.imaging.simulation import Simulation
from crack_pipeline.pipelines.ingestion.parameters import Image
from crack_pipeline.pipelines.segmentation.parameters import EncoderWeights, Network, Training
from crack_pipeline.pipelines.synthesis_gain import nodes
from crack_pipeline.pipelines.synthesis_gain.parameters import Gain
from crack_pipeline.training.segmenting import Tiles

TRAINING = Training.model_validate(
    {"steps": 2, "steps_per_epoch": 2, "batch_size": 4, "crop": 32, "average": 0, "validation_crops": 4}
)
GAIN = Gain(pairs=(4, 5), shares=(0.0, 0.5), seeds=1, tile=32, min_crack_pixels=8, classifier_steps=2)


class Nothing:
    """No pretrained weights anywhere."""

    def fetch(self, encoder, weights):
        raise AssertionError("nothing is to be fetched")


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """Everything but the study and its folder."""
    number = 12
    ids = [f"{n:02d}" for n in range(number)]
    images, masks = [], []
    for seed in range(number):
        image = np.random.default_rng(seed).normal(150, 5, (64, 96, 3)).clip(0, 255).astype(np.uint8)
        mask = np.zeros((64, 96), np.uint8)
        mask[:, 20:24] = CRACK
        image[mask == CRACK] = 40
        images.append(image)
        masks.append(mask)
    about = {"label": "crack", "path": ids, "width": 96, "height": 64}
    index = pd.DataFrame({"image_id": ids, "photo_id": ids, "photo": range(number), **about, "crack_pixels": 256})
    dataset = ImageStackDataset(filepath=str(tmp_path_factory.mktemp("stack") / "images"))
    dataset.save(
        PhotographChunk(
            fingerprints=np.zeros((number, 1), np.uint8),
            index=index,
            photos=pd.DataFrame({"photo_id": ids, "mask_path": "", "source": "", **about}),
            rejected=pd.DataFrame({"path": [], "kind": [], "reason": []}, dtype=str),
            number=0,
            last=True,
            photographs=images,
            masks=masks,
            channels=3,
        )
    )
    manifest = index.assign(group=ids, row=range(number), source="", mask_path="")
    roles = ["train"] * 8 + ["validation"] * 2 + ["test"] * 2
    partition = pd.DataFrame({"image_id": ids, "group": ids, "role": roles})
    network = Network.model_validate({"name": "unet", "levels": 2, "base_channels": 2})
    image_form = Image(size=None, mode="rgb", masks=True)
    create = partial(nodes.create_networks, image_form, network, EncoderWeights("none"), TRAINING, Nothing(), Tiles())
    plan = resolve(Compute(accelerator="cpu", precision="32-true", batch_size=4, workers=0))

    def given(gain, folder):
        return (
            *(dataset.load(), manifest, partition, {"fingerprint": "this"}, create(gain), TRAINING),
            *(Simulation(width=(2, 5)), gain, Tiles(size=64, halo=4, blend=2), plan, folder),
        )

    return given


def test_an_interrupted_study_repeats_nothing(arguments, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    first = nodes.compare_trainings(*arguments(GAIN, tmp_path))
    assert first[["pairs", "synthetic"]].apply(tuple, axis=1).tolist() == [
        (number, synthetic) for number in (4, 5) for synthetic in ("none", "50%")
    ]
    assert first[["dice", "miou", "tile_roc_auc"]].notna().all(axis=None)
    caplog.clear()
    whole = nodes.compare_trainings(*arguments(GAIN.model_copy(update={"seeds": 2}), tmp_path))
    begun = [record.getMessage() for record in caplog.records if record.getMessage().startswith("training ")]
    assert [line.split(":")[0] for line in begun if " of 8" in line] == [f"training {n} of 8" for n in (5, 6, 7, 8)]
    pd.testing.assert_frame_equal(whole.head(4), first)


def test_another_simulator_is_another_study(arguments, tmp_path, monkeypatch):
    gain = GAIN.model_copy(update={"pairs": (4,)})
    nodes.compare_trainings(*arguments(gain, tmp_path))
    monkeypatch.setattr(simulation, "_SOFT", 1.0)
    nodes.compare_trainings(*arguments(gain, tmp_path))
    assert len(list(tmp_path.glob("*.json"))) == 4


def test_more_photographs_contain_the_fewer_and_none_is_learned_from_and_judged_by():
    ids = [f"{n:02d}" for n in range(40)]
    pool = pd.DataFrame({"image_id": ids, "group": ids, "role": ["train"] * 36 + ["test"] * 4})
    before = {"train": set(), "validation": set()}
    for number in (4, 10, 30):
        used = nodes._subset(pool, np.array(ids[:36]), number, 0)
        now = {role: set(table["image_id"]) for role, table in used.groupby("role")}
        assert len(now["train"]) + len(now["validation"]) == number
        assert len(now["validation"]) == (number + 1) // 5
        assert not now["train"] & now["validation"]
        assert now["test"] == set(ids[36:])
        assert all(before[role] <= now[role] for role in before)
        before = now


def test_near_duplicates_are_learned_from_or_choose_but_not_both():
    ids = [f"{n:02d}" for n in range(40)]
    pool = pd.DataFrame({"image_id": ids, "group": [n // 3 for n in range(40)], "role": "train"})
    for seed in range(5):
        used = nodes._subset(pool, np.array(ids), 20, seed)
        assert len(used) == 20
        assert used.groupby("group")["role"].nunique().max() == 1
        assert set(used["role"]) == {"train", "validation"}


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("number", [4, 10, 30])
def test_few_large_groups_leave_something_to_learn_from(size, number):
    ids = [f"{n:02d}" for n in range(60)]
    pool = pd.DataFrame({"image_id": ids, "group": [n // size for n in range(60)], "role": "train"})
    for seed in range(5):
        if size >= number:
            with pytest.raises(ValueError, match=f"the {number} photographs .* are of one place"):
                nodes._subset(pool, np.array(ids), number, seed)
            continue
        roles = nodes._subset(pool, np.array(ids), number, seed)["role"].value_counts()
        assert roles.sum() == number
        assert 1 <= roles["validation"] <= max((number + 1) // 5, size, number // 2)
        assert roles["train"] >= number / 3


def test_one_large_group_among_others_does_not_choose():
    ids = [f"{n:02d}" for n in range(60)]
    pool = pd.DataFrame({"image_id": ids, "group": [max(0, n - 19) for n in range(60)], "role": "train"})
    whole = 0
    for seed in range(40):
        try:
            used = nodes._subset(pool, np.array(ids), 10, seed)
        except ValueError:
            whole += 1  # of the large group alone
            continue
        assert (used["role"] == "validation").sum() in (1, 2)
    assert whole < 5


def test_cracks_are_simulated_on_the_pairs_alone_where_that_is_asked_for(arguments, tmp_path, monkeypatch):
    seen = {}
    real = nodes.train_segmenter

    def train(images, manifest, used, *others):
        learned = set(manifest.loc[manifest["image_id"].isin(used.loc[used["role"] == "train", "image_id"]), "row"])
        generator = others[-1].generator
        if generator is not None:
            seen[sound] = set(generator.places.rows.tolist()), learned
        return real(images, manifest, used, *others)

    monkeypatch.setattr(nodes, "train_segmenter", train)
    for sound in ("all", "pairs"):
        nodes.compare_trainings(*arguments(GAIN.model_copy(update={"pairs": (5,), "sound": sound}), tmp_path))
    rows, learned = seen["pairs"]
    assert rows == learned and len(learned) == 4
    assert seen["all"][0] > learned


@pytest.mark.parametrize("sound", ["all", "pairs"])
def test_no_crack_is_simulated_on_what_chooses_or_a_photograph_of_the_same_place(sound):
    ids = ["learns", "chooses", "sound", "sound, same place"]
    groups = [0, 1, 2, 1]
    manifest = pd.DataFrame({"image_id": ids, "row": range(4), "crack_pixels": [9, 9, 0, 0]})
    pool = pd.DataFrame({"image_id": ids, "group": groups, "role": "train"})
    used = pool.head(2).assign(role=["train", "validation"])
    places = simulated_squares.Places(np.arange(4), np.zeros((4, 2), np.int64))
    squares = simulated_squares.SimulatedSquares(None, places, {0: None}, Simulation())
    left = nodes._learnable(squares, manifest, pool, used, GAIN.model_copy(update={"sound": sound}))
    assert left.places.rows.tolist() == [0, 2]


def test_more_photographs_than_there_are_is_a_clear_message(arguments, tmp_path):
    with pytest.raises(ValueError, match=r"there are 10 photographs with a crack .* fewer than the 19"):
        nodes.compare_trainings(*arguments(GAIN.model_copy(update={"pairs": (19, 22)}), tmp_path))


def test_gains_are_paired_by_seed():
    trainings = pd.DataFrame(
        [
            {"pairs": 10, "synthetic": name, "seed": seed, **dict.fromkeys(nodes.MEASURES, 0.1 * seed + more)}
            for name, more in (("none", 0.0), ("auto", 0.5))
            for seed in range(4)
        ]
    )
    gains = nodes.summarise_gain(trainings)
    more = gains[gains["synthetic"] == "auto"]
    assert np.allclose(more[["gain", "gain_low", "gain_high"]], 0.5)
    assert (more["low"] < more["mean"]).all()
    assert "0.1500 -> 0.6500 (+0.5000" in nodes.summarise(gains)
    once = nodes.summarise_gain(trainings[trainings["seed"] == 0])
    assert "(+0.5000; a single training)" in nodes.summarise(once) and "nan" not in nodes.summarise(once)
    assert len(nodes.draw_gain(gains).axes) == len(nodes.MEASURES)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"pairs": (3,)}, "from 4 on"), ({"pairs": (5, 5)}, "different"), ({"shares": (0.5,)}, "0 among them")],
)
def test_wrong_parameters_are_named(wrong, says):
    with pytest.raises(ValueError, match=says):
        Gain(**wrong)
