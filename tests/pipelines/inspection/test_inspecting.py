import cv2
import numpy as np
import pytest
from kedro.io import DatasetError

from crack_pipeline.datasets import EmbeddingsDataset
from crack_pipeline.imaging.camera import encode_png
from crack_pipeline.imaging.foreground import Foreground
from crack_pipeline.imaging.inpainting import Inpainting
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.inspection import inspecting, isolating, preparing
from crack_pipeline.pipelines.inspection.parameters import Cracks, Model, Repair, Scales
from inspecting import Files, photograph
from small_sam import small_sam


def decoded(content, flag=cv2.IMREAD_COLOR):
    return cv2.imdecode(np.frombuffer(content, np.uint8), flag)


def test_a_crack_is_found_measured_shown_and_repaired(inspect):
    found, *_ = inspect(Files(**{"pier/a.png": photograph(0)}))
    facts = found.facts("pier/a.png")
    (crack,) = facts["cracks"]
    assert crack["length"] == pytest.approx(120, rel=0.03)
    assert crack["mean_width"] == pytest.approx(4, abs=0.5)
    assert crack["orientation"] == pytest.approx(0, abs=2) or crack["orientation"] == pytest.approx(180, abs=2)
    assert crack["box"] == [20, 40, 120, 4]
    assert facts["crack_share"] == pytest.approx(480 / (96 * 160))
    mask = decoded(found.read("pier/a.png", "mask.png"), cv2.IMREAD_GRAYSCALE)
    assert (mask == 255).sum() == crack["area"] == 480
    repaired = decoded(found.read("pier/a.png", "repaired.jpg"))
    assert repaired.min() > 100
    for view in inspecting.VIEWS:
        assert decoded(found.read("pier/a.png", f"view_{view}.jpg")).shape[:2] == (48, 80)
    assert set(facts["seconds"]) == {"read", "foreground", "segment", "measure", "repair", "draw"}


def test_a_photograph_that_fails_is_reported_and_the_rest_goes_on(inspect, monkeypatch):
    real = isolating.find_foreground

    def odd(pixels, how):
        if pixels.shape[0] == 50:
            raise RuntimeError("something odd")
        return real(pixels, how)

    monkeypatch.setattr(isolating, "find_foreground", odd)
    files = {
        "a.png": photograph(0),
        "b.png": photograph(1)[:300],
        "c.png": photograph(0),
        "d.png": photograph(2, size=(50, 160)),
        "e.png": photograph(3),
    }
    found, *_ = inspect(Files(**files))
    assert found.paths == ["a.png", "e.png"]
    why = found.failed.set_index("path")
    assert why.loc["c.png", "reason"] == "same bytes as a.png"
    assert why.loc["d.png", "reason"] == "RuntimeError: something odd"
    assert set(why.index) == {"b.png", "c.png", "d.png"}


def test_only_new_and_changed_photographs_are_worked_on(inspect):
    files = {f"{name}.png": photograph(number) for number, name in enumerate("abc")}
    *_, worked, kept = inspect(Files(**files))
    assert (worked, kept) == (["a.png", "b.png", "c.png"], [])
    *_, worked, kept = inspect(Files(**files))
    assert (worked, kept) == ([], ["a.png", "b.png", "c.png"])
    files |= {"b.png": photograph(9), "d.png": photograph(10)}
    del files["c.png"]
    found, _, _, worked, kept = inspect(Files(**files))
    assert (worked, kept) == (["b.png", "d.png"], ["a.png"])
    assert sorted(found.paths) == ["a.png", "b.png", "d.png"]


def test_a_run_that_was_stopped_goes_on_where_it_was(inspect):
    files = Files(**{f"{name}.png": photograph(number) for number, name in enumerate("abc")})
    inspect(files, stop_after=2)
    *_, worked, kept = inspect(files)
    assert (worked, kept) == (["c.png"], ["a.png", "b.png"])


def test_another_parameter_or_segmenter_looks_anew_and_a_scale_does_not(inspect):
    files = Files(**{"a.png": photograph(0)})
    inspect(files)
    assert inspect(files, scale=Scales(millimetres_per_pixel=0.5))[3] == []
    assert inspect(files, cracks=Cracks(threshold=0.6))[3] == ["a.png"]
    inspect.segmenter.tensors["weight"] += 1
    assert inspect(files, cracks=Cracks(threshold=0.6))[3] == ["a.png"]


def test_what_is_small_is_no_crack(inspect):
    found, *_ = inspect(Files(**{"a.png": photograph(0, width=0)}), cracks=Cracks(least_pixels=1))
    assert found.facts("a.png")["cracks"] == []
    found, *_ = inspect(Files(**{"a.png": photograph(0)}), cracks=Cracks(least_length=500))
    assert found.facts("a.png")["cracks"] == []
    assert found.facts("a.png")["crack_share"] == 0


def test_a_blot_is_no_crack(inspect):
    blot = photograph(0, top=20, width=50)
    found, *_ = inspect(Files(**{"a.png": blot}))
    assert found.facts("a.png")["cracks"] == []
    found, *_ = inspect(Files(**{"a.png": blot}), cracks=Cracks(least_elongation=1))
    assert len(found.facts("a.png")["cracks"]) == 1
    found, *_ = inspect(Files(**{"a.png": blot}), cracks=Cracks(least_elongation=1, most_width=40))
    assert found.facts("a.png")["cracks"] == []
    assert found.facts("a.png")["note"] == "1 wider than 40 px on average, is left out"


def test_a_photograph_without_concrete_is_told_so(inspect, monkeypatch):
    monkeypatch.setattr(isolating, "find_foreground", lambda pixels, how: np.zeros(pixels.shape[:2], bool))
    found, *_ = inspect(Files(**{"a.png": photograph(0)}))
    facts = found.facts("a.png")
    assert facts["note"] == "no concrete was found in it"
    assert facts["cracks"] == []


def test_where_nothing_is_sound_nothing_is_repaired(inspect):
    dark = photograph(0, top=0, width=96, size=(96, 120))
    repair = Repair(how=Inpainting(margin=50))
    found, *_ = inspect(Files(**{"a.png": dark}), repair=repair, cracks=Cracks(least_elongation=0, most_width=None))
    assert "there is nothing to fill" in found.facts("a.png")["note"]
    assert len(found.facts("a.png")["cracks"]) == 1


def test_without_repair_there_is_no_such_view(inspect):
    found, *_ = inspect(Files(**{"a.png": photograph(0)}), repair=Repair(enabled=False))
    assert not any("repaired" in name for name in found.files("a.png"))


def test_an_empty_root_is_an_error(inspect):
    with pytest.raises(ValueError, match="there is no photograph in memory"):
        inspect(Files(**{"scale.csv": b"path,millimetres_per_pixel\n*,1\n"}))


@pytest.mark.parametrize(("level", "word"), [(5, "black"), (250, "white")])
def test_a_photograph_in_which_nothing_is_seen_is_told_so(inspect, level, word):
    found, *_ = inspect(Files(**{"a.png": encode_png(np.full((60, 80, 3), level, np.uint8))}))
    assert f"it is {word} nearly all over" in found.facts("a.png")["note"]


@pytest.mark.parametrize("name", ["a.png", "scale.png"])
def test_the_table_of_scales_is_no_photograph(inspect, name):
    files = Files(**{name: photograph(0), "scale.csv": b"path,millimetres_per_pixel\n*.png,0.25\n"})
    found, photographs, *_ = inspect(files)
    assert found.paths == [name]
    assert found.failed.empty
    assert photographs["millimetres_per_pixel"].tolist() == [0.25]


@pytest.mark.parametrize(
    ("files", "scale", "message"),
    [
        ({"scale.csv": b"path,millimetres_per_pixel\nb.png,0.25\n"}, Scales(), "scale.csv, row 2: no photograph"),
        ({}, Scales(file="sizes.csv"), "there is no sizes.csv in memory"),
        ({"Scale.csv": b"path,millimetres_per_pixel\na.png,0.25\n"}, Scales(), "memory holds Scale.csv: call it"),
    ],
)
def test_a_wrong_scale_ends_the_run_before_anything_is_looked_at(inspect, files, scale, message):
    with pytest.raises(ValueError, match=message):
        inspect(Files(**{"a.png": photograph(0), **files}), scale=scale)


def test_the_segmenter_that_is_asked_for_is_the_only_one_that_is_read():
    wanted = Weights({}, {})

    def missing():
        raise AssertionError("not asked for")

    assert preparing.choose_segmenter(Model("label_free"), missing, missing, lambda: wanted, None) == (
        wanted,
        "label_free",
    )


def test_the_first_segmenter_that_is_trained_is_taken_where_none_is_named():
    wanted = Weights({}, {})

    def missing():
        raise DatasetError("not trained")

    found = preparing.choose_segmenter(Model("auto"), missing, lambda: wanted, missing, None)
    assert found == (wanted, "weak_segmentation")
    with pytest.raises(ValueError, match="no segmenter is trained: run one of the pipelines segmentation"):
        preparing.choose_segmenter(Model("auto"), missing, missing, missing, None)


class Store:
    """Weights of a small network; counts how often they are asked for."""

    def __init__(self):
        self.tensors = small_sam().state_dict()
        self.asked = []

    def fetch(self, model, weights):
        self.asked.append((model, weights))
        return self.tensors


def test_segment_anything_encodes_a_photograph_once_and_works_on_it_again_when_prompts_change(
    inspect, tmp_path, monkeypatch
):
    encoded = []
    real = isolating.encode
    monkeypatch.setattr(isolating, "encode", lambda *given: encoded.append(1) or real(*given))
    files = {"a.png": photograph(0), "prompts.csv": b"path,kind,x,y\na.png,point,80,20\n"}
    options = {
        "store": Store(),
        "cache": EmbeddingsDataset(filepath=str(tmp_path / "embeddings")).load(),
        "foreground": Foreground(method="segment_anything", prompts="prompts.csv"),
    }
    found, photographs, _, worked, _ = inspect(Files(**files), **options)
    assert photographs["path"].tolist() == worked == found.paths == ["a.png"]
    assert options["store"].asked == [("vit_b", "official")]
    *_, worked, kept = inspect(Files(**files), **options)
    assert (worked, kept) == ([], ["a.png"])
    files["prompts.csv"] = b"path,kind,x,y,x2,y2\na.png,box,0,0,100,90\n"
    assert inspect(Files(**files), **options)[3] == ["a.png"]
    assert len(encoded) == 1


def test_prompts_that_are_missing_are_said_before_anything_is_fetched(inspect):
    store = Store()
    foreground = Foreground(method="segment_anything", prompts="clicks.csv")
    with pytest.raises(ValueError, match=r"the prompts clicks\.csv cannot be read in memory"):
        inspect(Files(**{"a.png": photograph(0)}), foreground=foreground, store=store)
    assert store.asked == []
