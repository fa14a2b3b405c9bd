import numpy as np
import pandas as pd
import pytest
import torch
from kedro.io.core import DatasetError

from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.imaging.camera import encode_jpeg, encode_png
from crack_pipeline.imaging.inpainting import Inpainting
from crack_pipeline.imaging.segmented import Segmentation
from crack_pipeline.models.segmenters import UNetOptions, create_segmenter
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.parameters import Dataset, Preset, Presets, Reading
from crack_pipeline.pipelines.inpainting import judging, marking, pictures, repairing
from crack_pipeline.pipelines.inpainting.parameters import Cracks, Judging, Output
from crack_pipeline.training.segmenting import Tiles

READING = Reading()
TILES = Tiles(size=64, halo=8, blend=4)
FILL = Inpainting(method="median", margin=1)
PRESETS = Presets(
    {
        "pairs": Preset(label_from="mask", parts=[{"images": "images", "masks": "masks"}]),
        "sound": Preset(label_from="sound"),
        "unlabelled": Preset(label_from="none"),
    }
)
PAIRS, SOUND, UNLABELLED = (Dataset(name) for name in ("pairs", "sound", "unlabelled"))
NO_MODELS = marking.Models(None, None)
JUDGING = Judging(squares=3, size=64, photographs=2, methods=("median", "texture"))


class Files(dict):
    """Files in memory, as the ingestion reads them."""

    name = "memory"

    def list(self):
        return [(path, len(data), "", "") for path, data in sorted(self.items())]

    def read(self, path):
        return self[path]


def photograph(seed, cracked=True):
    rng = np.random.default_rng(seed)
    pixels = np.repeat(rng.normal(150, 6, (96, 160, 1)), 3, axis=2).clip(0, 255).astype(np.uint8)
    mask = np.zeros((96, 160), bool)
    mask[:, 20:24] = cracked
    pixels[mask] = 30
    return pixels, mask


def files(number=3, without=()):
    found = Files()
    for seed in range(number):
        pixels, mask = photograph(seed)
        found[f"images/{seed}.jpg"] = encode_jpeg(pixels, 98)
        if seed not in without:
            found[f"masks/{seed}.png"] = encode_png(mask)
    return found


@pytest.fixture(scope="module")
def plan():
    return resolve(Compute(accelerator="cpu", precision="32-true", batch_size=8, workers=0))


@pytest.fixture(scope="module")
def segmenter():
    """A network of one level whose answer is how dark a pixel is."""
    options = UNetOptions(levels=1, base_channels=4)
    network = create_segmenter(options)
    torch.manual_seed(0)
    facts = {
        "network": options.model_dump(mode="json"),
        "image": {"size": None, "mode": "rgb", "masks": True},
        "threshold": 0.5,
        "tiles": {"augmentations": 1, "half_size": False},
    }
    return Weights(network.state_dict(), facts)


def nothing():
    raise DatasetError("there are no trained weights")


def listed(raw, dataset=PAIRS, source="auto"):
    return marking.list_photographs(raw, dataset, PRESETS, READING, Cracks(source=source))


def repaired(raw, plan, models=NO_MODELS, dataset=PAIRS, fill=FILL):
    photographs, _ = listed(raw, dataset)
    return list(
        repairing.repair_photographs(raw, photographs, models, dataset, PRESETS, READING, fill, TILES, Output(), plan)
    )


def test_cracks_of_masks_are_filled_one_photograph_at_a_time(plan):
    chunks = repaired(files(), plan)
    assert [(chunk.number, chunk.last) for chunk in chunks] == [(0, False), (1, False), (2, True)]
    for seed, chunk in enumerate(chunks):
        (one,) = chunk.photographs
        original, mask = photograph(seed)
        assert one.picture.shape == original.shape
        assert one.picture[mask].min() > 120
        assert np.abs(one.picture[:, 30:].astype(int) - original[:, 30:]).max() < 12  # but for JPEG
        assert one.before_after.shape == (96, 2 * 160 + 8, 3)
        assert one.facts["crack_pixels"] == mask.sum()
        assert one.facts["filled_pixels"] <= 6 * 96
        assert (one.facts["cracks"], one.facts["method"]) == ("mask", "median")


def test_sound_photographs_stay_as_they_are_without_any_model(plan):
    raw = Files({"a.jpg": encode_jpeg(photograph(0)[0], 98)})
    (chunk,) = repaired(raw, plan, dataset=SOUND)
    (one,) = chunk.photographs
    assert (one.facts["cracks"], one.facts["filled_pixels"], one.before_after) == ("label", 0, None)


def test_what_cannot_be_repaired_is_named_and_the_rest_goes_on(plan):
    raw = files()
    raw["images/0.jpg"] = raw["images/0.jpg"][:300]
    raw["masks/1.png"] = encode_png(np.ones((96, 160), bool))
    chunks = repaired(raw, plan)
    assert [kind for chunk in chunks for _, kind, _ in chunk.rejected] == ["damaged", "nothing sound"]
    assert [one.path for chunk in chunks for one in chunk.photographs] == ["images/2.jpg"]


@pytest.mark.parametrize(
    ("source", "marked", "unmarked", "rejected"),
    [("auto", 2, 1, 0), ("masks", 2, 0, 1), ("segmenter", 0, 3, 0)],
)
def test_masks_or_a_segmenter_say_where_cracks_are(source, marked, unmarked, rejected):
    raw = files(without=[1])
    if source == "segmenter":
        raw = Files({path.removeprefix("images/"): data for path, data in raw.items() if path.startswith("images")})
    photographs, left_out = listed(raw, source=source)
    assert int(photographs["mask_path"].notna().sum()) == marked
    assert int(photographs["mask_path"].isna().sum()) == unmarked
    assert len(left_out) == rejected


def test_where_no_mask_is_the_newest_segmenter_is_asked(segmenter, plan):
    photographs, _ = listed(files(without=[1]))
    models = marking.find_models(photographs, nothing, nothing, lambda: segmenter, nothing, None, Cracks())
    assert (models.name, models.detector) == ("label_free", None)
    chunks = repaired(files(without=[1]), plan, models)
    assert [one.facts["cracks"] for chunk in chunks for one in chunk.photographs] == ["mask", "segmenter", "mask"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: listed(files(), UNLABELLED, "masks"), "dataset=unlabelled has no masks: set inpainting.cracks.source"),
        (lambda: listed(Files({"x/a.jpg": b"0"})), "can be repaired .1 unknown class.: name its layout with dataset="),
        (
            lambda: marking.find_models(listed(files(without=[1]))[0], *[nothing] * 4, None, Cracks()),
            "no segmenter is trained: run one of the pipelines segmentation, weak_segmentation, label_free first",
        ),
    ],
)
def test_where_nobody_knows_the_cracks_the_message_says_what_to_do(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_a_segmenter_that_is_asked_for_must_be_there():
    with pytest.raises(DatasetError, match="no trained weights"):
        marking.find_models(listed(files())[0], *[nothing] * 4, None, Cracks(segmenter="segmentation"))


@pytest.fixture(scope="module")
def squares(plan):
    raw = files(4)
    photographs, _ = listed(raw)
    return judging.find_sound_concrete(
        raw, photographs, marking.Models(None, None), PAIRS, PRESETS, READING, TILES, JUDGING, plan
    )


def test_squares_of_sound_concrete_lie_beside_cracks(squares):
    assert len(squares) == 3
    assert all(square.shape == (64, 64, 3) and square.min() > 100 for square in squares)


def compared(squares, plan, models=NO_MODELS):
    return judging.compare_fills(squares, models, FILL, TILES, JUDGING, plan)


def test_a_segmenter_looks_at_simulated_cracks_too(squares, segmenter, plan):
    fills = compared(squares, plan, marking.Models(segmenter, None))
    assert fills["crack"].between(0, fills["filled"]).all()
    metrics = judging.measure(fills, ALARMS, REPAIRED, JUDGING)
    of_median = fills[fills["method"] == "median"]
    assert metrics["methods"]["median"]["called_crack"] == of_median["crack"].sum() / of_median["filled"].sum()
    assert "of the same places without a crack" in pictures.summarise(
        metrics, REPAIRED, pd.DataFrame({"path": []}), FILL
    )


def test_methods_are_compared_on_simulated_cracks(squares, plan):
    fills = compared(squares, plan)
    assert fills.groupby("square")["method"].apply(list).tolist() == [["cracked", "as_it_was", "median", "texture"]] * 3
    assert fills["crack"].isna().all()
    means = fills.groupby("method")[["psnr", "grain"]].mean()
    assert means["psnr"]["median"] > means["psnr"]["texture"]
    assert means["grain"]["texture"] > 0.7 > means["grain"]["median"]
    pd.testing.assert_frame_equal(fills.drop(columns="seconds"), compared(squares, plan).drop(columns="seconds"))
    figure = pictures.draw_fills(squares, FILL, JUDGING)
    assert len(figure.axes) == 3 * (2 + len(JUDGING.methods))


def of_a_repair(photographs, **changed):
    """The table of a repair that found cracks everywhere."""
    facts = {"crack_pixels": 50, "width": 96, "height": 96} | changed
    return Segmentation(photographs[["path"]].assign(**facts), pd.DataFrame())


@pytest.mark.parametrize(
    ("changed", "looked_at"), [({}, JUDGING.photographs), ({"crack_pixels": 0}, 0), ({"width": 10**6}, 0)]
)
def test_cracked_photographs_are_looked_at_again_before_and_after(segmenter, plan, changed, looked_at):
    raw = files(4)
    photographs, _ = listed(raw)
    done = of_a_repair(photographs, **changed)
    alarms = judging.look_again(
        raw, photographs, marking.Models(segmenter, None), PAIRS, PRESETS, READING, done, FILL, TILES, JUDGING, plan
    )
    assert alarms["path"].nunique() == looked_at
    if looked_at:
        assert set(alarms["method"]) == {"none", "median", "texture"}
        assert (alarms["segmenter_there"] <= alarms["segmenter"]).all()
        assert alarms["detector"].isna().all()


def test_one_odd_photograph_does_not_cost_the_others(segmenter, plan, monkeypatch):
    real, calls = repairing.inpaint, []

    def odd(*given):
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError
        return real(*given)

    monkeypatch.setattr(repairing, "inpaint", odd)
    raw = files(3)
    photographs, _ = listed(raw)
    chunks = list(
        repairing.repair_photographs(
            raw, photographs, marking.Models(segmenter, None), PAIRS, PRESETS, READING, FILL, TILES, Output(), plan
        )
    )
    assert [len(chunk.photographs) for chunk in chunks] == [1, 0, 1]
    assert "does not fit in memory" in chunks[1].rejected[0][2]


ALARMS = pd.DataFrame(
    [
        ("a", "a", "none", 500, 400, 0.5),
        ("a", "a", "median", 90, 0, -0.5),
        ("a", "a", "texture", 0, 0, 0.1),
        ("b", "b", "none", 100, 100, -0.1),
        ("b", "b", "median", 30, 25, -0.2),
        ("b", "b", "texture", 3, 3, -0.2),
        ("c", "c", "none", 4, 4, None),
        ("c", "c", "median", 400, 400, None),
        ("c", "c", "texture", 400, 0, None),
    ],
    columns=judging.ALARMS,
)
REPAIRED = pd.DataFrame({"crack_pixels": [10, 0], "seconds": [0.5, 0.1], "cracks": ["mask", "segmenter"]})


def test_the_share_that_still_alarms_is_that_of_photographs_that_did(squares, plan):
    fills = compared(squares, plan)
    metrics = judging.measure(fills, ALARMS, REPAIRED, JUDGING)
    assert metrics["alarmed"] == {"segmenter": 2, "segmenter_there": 2, "detector": 1}
    median, texture = metrics["methods"]["median"], metrics["methods"]["texture"]
    assert (median["segmenter"], median["segmenter_there"], median["detector"]) == (1.0, 0.5, 0.0)
    assert (texture["segmenter"], texture["segmenter_there"], texture["detector"]) == (0.0, 0.0, 1.0)
    assert texture["segmenter_left"] == pytest.approx(3 / 504)
    assert metrics["repaired"] == {"photographs": 2, "cracked": 1, "crack_pixels": 10, "seconds": pytest.approx(0.6)}
    assert judging.track_metrics(metrics)["texture.detector"] == {"value": 1.0, "step": 0}
    text = pictures.summarise(metrics, REPAIRED, pd.DataFrame({"path": []}), FILL)
    assert "1 of 2 photographs repaired with the method median" in text
    assert "in 1 of them a segmenter has said where cracks are" in text


def test_without_squares_and_models_nothing_is_claimed():
    metrics = judging.measure(
        pd.DataFrame(columns=list(judging.FILLS)), pd.DataFrame(columns=list(judging.ALARMS)), REPAIRED, JUDGING
    )
    assert set(metrics["methods"]["median"].values()) == {None}
    assert set(judging.track_metrics(metrics)) == {f"repaired.{name}" for name in metrics["repaired"]}
    assert "median" in pictures.summarise(metrics, REPAIRED, pd.DataFrame({"path": []}), FILL)


def test_the_table_begins_with_the_most_cracked():
    rows = [{"path": "a", "crack_pixels": 1}, {"path": "b", "crack_pixels": 5}]
    segmentation = Segmentation(
        pd.DataFrame(rows), pd.DataFrame([("c", "copy", "why")], columns=["path", "kind", "reason"])
    )
    assert repairing.list_repaired(segmentation)["path"].tolist() == ["b", "a"]
    quarantine = repairing.join_quarantine(pd.DataFrame({"path": ["0"], "kind": ["x"], "reason": ["y"]}), segmentation)
    assert quarantine["path"].tolist() == ["0", "c"]
