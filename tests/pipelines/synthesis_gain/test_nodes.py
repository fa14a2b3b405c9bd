import logging

import numpy as np
import pandas as pd
import pytest

from crack_pipeline.datasets import ImageStackDataset
from crack_pipeline.imaging.photograph_stack import CRACK, PhotographChunk
from crack_pipeline.imaging.simulation import Simulation
from crack_pipeline.pipelines.ingestion.parameters import Image
from crack_pipeline.pipelines.segmentation import training as segmenting
from crack_pipeline.pipelines.segmentation.parameters import EncoderWeights, Network, Training
from crack_pipeline.pipelines.synthesis_gain import nodes
from crack_pipeline.pipelines.synthesis_gain.parameters import Gain
from crack_pipeline.training.compute import Compute, resolve
from crack_pipeline.training.segmenting import Tiles

TRAINING = Training.model_validate(
    {"steps": 2, "steps_per_epoch": 2, "batch_size": 4, "crop": 32, "average": 0, "validation_crops": 4}
)
GAIN = Gain(pairs=(1, 2), shares=(0.0, 0.5), seeds=1, tile=32, min_crack_pixels=8)


class Nothing:
    """No pretrained weights anywhere."""

    def fetch(self, encoder, weights):
        raise AssertionError("nothing is to be fetched")


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """Everything but the study and its folder."""
    number = 8
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
    roles = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    partition = pd.DataFrame({"image_id": ids, "group": ids, "role": roles})
    network = Network.model_validate({"name": "unet", "levels": 2, "base_channels": 2})
    image_form = Image(size=None, mode="rgb", masks=True)
    initial = segmenting.create_network(image_form, network, EncoderWeights("none"), TRAINING, Nothing())
    plan = resolve(Compute(accelerator="cpu", precision="32-true", batch_size=4, workers=0))

    def given(gain, folder):
        return (
            *(dataset.load(), manifest, partition, {"fingerprint": "this"}, initial, TRAINING),
            *(Simulation(width=(2, 5)), gain, Tiles(size=64, halo=4, blend=2), plan, folder),
        )

    return given


def test_an_interrupted_study_repeats_nothing(arguments, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    first = nodes.compare_trainings(*arguments(GAIN, tmp_path))
    assert first[["pairs", "share"]].apply(tuple, axis=1).tolist() == [(1, 0.0), (1, 0.5), (2, 0.0), (2, 0.5)]
    assert first[["dice", "miou", "tile_roc_auc"]].notna().all(axis=None)
    caplog.clear()
    whole = nodes.compare_trainings(*arguments(GAIN.model_copy(update={"seeds": 2}), tmp_path))
    begun = [record.getMessage() for record in caplog.records if record.getMessage().startswith("training ")]
    assert [line.split(":")[0] for line in begun if " of 8" in line] == [f"training {n} of 8" for n in (5, 6, 7, 8)]
    pd.testing.assert_frame_equal(whole.head(4), first)


def test_more_photographs_contain_the_fewer(arguments):
    _, manifest, partition, *_ = arguments(GAIN, None)
    cracked = manifest["image_id"].to_numpy()[:4]
    one, three = (nodes._subset(partition, cracked, number, 0) for number in (1, 3))
    kept = [set(table.loc[table["role"] == "train", "image_id"]) for table in (one, three)]
    assert len(kept[0]) == 1
    assert kept[0] < kept[1]
    assert (three["role"] == "test").sum() == 2


def test_more_photographs_than_there_are_is_a_clear_message(arguments, tmp_path):
    with pytest.raises(ValueError, match=r"there are 4 training photographs with a crack, fewer than the 9"):
        nodes.compare_trainings(*arguments(GAIN.model_copy(update={"pairs": (9, 12)}), tmp_path))


def test_gains_are_paired_by_seed():
    trainings = pd.DataFrame(
        [
            {"pairs": 10, "share": share, "seed": seed, **dict.fromkeys(nodes.MEASURES, 0.1 * seed + share)}
            for share in (0.0, 0.5)
            for seed in range(4)
        ]
    )
    gains = nodes.summarise_gain(trainings)
    more = gains[gains["share"] == 0.5]
    assert np.allclose(more[["gain", "gain_low", "gain_high"]], 0.5)
    assert (more["low"] < more["mean"]).all()
    assert "0.1500 -> 0.6500 (+0.5000" in nodes.summarise(gains)
    assert len(nodes.draw_gain(gains).axes) == len(nodes.MEASURES)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"pairs": (0,)}, "from 1 on"), ({"pairs": (3, 3)}, "different"), ({"shares": (0.5,)}, "0 among them")],
)
def test_wrong_parameters_are_named(wrong, says):
    with pytest.raises(ValueError, match=says):
        Gain(**wrong)
