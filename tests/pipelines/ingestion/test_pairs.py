"""Photographs with masks, from the files to the stack, by the ingestion pipeline."""

import io
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from kedro.validation import ParameterValidationError
from PIL import Image

import faulty_pairs
from crack_pipeline.imaging.decoding import HARD_MAX_PIXELS, Undecodable
from crack_pipeline.imaging.photograph_stack import BACKGROUND, CRACK, IGNORED
from crack_pipeline.pipelines.ingestion import create_pipeline
from crack_pipeline.pipelines.ingestion.developing import develop_all, open_photograph
from crack_pipeline.pipelines.ingestion.parameters import Image as Form
from crack_pipeline.pipelines.ingestion.parameters import Preset, Reading
from hostile import encoded

OWN_SIZE = {"size": None, "mode": "rgb", "masks": True}


def write(root, files):
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data if isinstance(data, bytes) else encoded(data, "PNG"))
    return root


def picture(seed, height=64, width=64):
    return Image.fromarray(np.random.default_rng(seed).integers(60, 200, (height, width, 3), np.uint8))


def marks(*rows, height=64, width=64, value=255):
    pixels = np.zeros((height, width), np.uint8)
    pixels[list(rows)] = value
    return Image.fromarray(pixels)


def test_every_fault_of_a_pair_is_one_clear_line_and_healthy_pairs_survive(workspace, tmp_path):
    faulty_pairs.make(tmp_path / "root")
    presets = {"mine": {
        "label_from": "mask", "parts": [{"images": "images", "masks": "masks"}], "mask_values": {"ignored": 7},
    }}  # fmt: skip
    reading = {"max_bad_share": 0.75}
    done = workspace.ingest(tmp_path / "root", "mine", {"image": OWN_SIZE, "presets": presets, "reading": reading})
    quarantine = done.quarantine.set_index("path")
    expected = {path: kind for path, kind, _ in faulty_pairs.FAULTS.values()}
    assert quarantine["kind"].to_dict() == expected
    for path, _, reason in faulty_pairs.FAULTS.values():
        assert reason in quarantine.loc[path, "reason"]
        assert "\n" not in quarantine.loc[path, "reason"]
    manifest = done.manifest.set_index("path")
    assert set(manifest.index) == {f"images/{name}" for name in faulty_pairs.HEALTHY}
    assert (manifest["label"] == "crack").all()
    stack = done.photographs
    for name in ("one bit.png", "ones.png", "white.jpg", "with suffix.png"):
        assert np.array_equal(stack.mask(manifest.loc[f"images/{name}", "row"]), faulty_pairs.mask(CRACK))
    partly = stack.mask(manifest.loc["images/partly ignored.png", "row"])
    assert (partly[:5] == IGNORED).all()
    assert np.array_equal(partly[5:], faulty_pairs.mask(CRACK)[5:])
    with pytest.raises(ValueError, match=r"15 of 21 files are bad, .*1 empty mask.*1 orphan mask"):
        workspace.ingest(tmp_path / "root", "mine", {"image": OWN_SIZE, "presets": presets})


def test_folders_and_masks_that_contradict_each_other_are_reported(workspace, tmp_path):
    files = {
        "Positive/good.png": picture(0), "masks/Positive/good.png": marks(3),
        "Positive/empty.png": picture(1), "masks/Positive/empty.png": marks(),
        "Positive/none.png": picture(2),
        "Negative/good.png": picture(3),
        "Negative/drawn.png": picture(4), "masks/Negative/drawn.png": marks(),
        "Negative/crack.png": picture(5), "masks/Negative/crack.png": marks(7, 8),
    }  # fmt: skip
    root = write(tmp_path / "root", files)
    done = workspace.ingest(root, parameters={"image": OWN_SIZE})
    assert done.quarantine.set_index("path")[["kind", "reason"]].to_dict("index") == {
        "Negative/crack.png": {
            "kind": "contradiction",
            "reason": "its folder says normal, its mask holds 128 crack pixels",
        },
        "Positive/empty.png": {
            "kind": "contradiction",
            "reason": "its folder says crack, its mask holds no crack pixel",
        },
        "Positive/none.png": {"kind": "crack without mask", "reason": "its folder says crack, and no mask says where"},
    }
    manifest = done.manifest.set_index("path")
    assert manifest["crack_pixels"].to_dict() == {
        "Negative/drawn.png": 0,
        "Negative/good.png": 0,
        "Positive/good.png": 64,
    }
    assert (done.photographs.mask(manifest.loc["Negative/good.png", "row"]) == BACKGROUND).all()
    detection = workspace.ingest(root)
    assert len(detection.manifest) == 6
    assert detection.quarantine.empty


def test_a_mask_whose_values_mean_nothing_matters_only_where_something_depends_on_it(workspace, tmp_path):
    grey = Image.fromarray(np.full((64, 64), 90, np.uint8))
    root = write(tmp_path / "root", {"Positive/1.png": picture(0), "masks/1.png": grey, "Negative/1.png": picture(1)})
    manifest = workspace.ingest(root).manifest.set_index("path")
    assert manifest.loc["Positive/1.png", "label"] == "crack"
    assert manifest["crack_pixels"].isna().all()
    assert workspace.ingest(root, parameters={"image": OWN_SIZE}).quarantine["kind"].tolist() == ["mask values"]


def test_photographs_of_all_sizes_are_stored_as_they_are(workspace, tmp_path):
    sizes = {"a": (20, 90), "b": (64, 64), "c": (130, 17)}
    files = {}
    for seed, (name, size) in enumerate(sizes.items()):
        files |= {
            f"images/{name}.png": picture(seed, *size),
            f"masks/{name}.png": marks(seed, height=size[0], width=size[1]),
        }
    root = write(tmp_path / "root", files)
    for mode in ("rgb", "grey"):
        done = workspace.ingest(root, "pairs", {"image": {**OWN_SIZE, "mode": mode}, "reading": {"chunk": 2}})
        stack, manifest = done.photographs, done.manifest
        assert manifest["row"].tolist() == [0, 1, 2]
        assert stack.sizes.tolist() == [list(size) for size in sizes.values()]
        for seed, size in enumerate(sizes.values()):
            expected = np.asarray(picture(seed, *size).convert("RGB" if mode == "rgb" else "L"))
            assert np.abs(stack.photograph(seed).astype(int) - expected).max() <= (mode == "grey")
            assert np.array_equal(stack.mask(seed) == CRACK, np.asarray(marks(seed, height=size[0], width=size[1])) > 0)
    without = workspace.ingest(root, "pairs", {"image": {"size": None}})
    assert not without.photographs.has_masks
    assert without.photographs.channels == 1


def test_labels_stay_and_masks_that_say_nothing_are_ignored_where_masks_are_kept_as_given(workspace, tmp_path, caplog):
    files = {
        "Positive/drawn.png": picture(0), "masks/Positive/drawn.png": marks(3),
        "Positive/none.png": picture(1),
        "Positive/empty.png": picture(3), "masks/Positive/empty.png": marks(),
        "Negative/none.png": picture(2),
        "Negative/marked.png": picture(4), "masks/Negative/marked.png": marks(5),
    }  # fmt: skip
    root = write(tmp_path / "root", files)
    done = workspace.ingest(root, parameters={"image": {**OWN_SIZE, "masks": "where_given"}})
    assert "2 masks cannot be read, or contradict the folders" in caplog.text
    manifest = done.manifest.set_index("path")
    unknown = {"Positive/none.png", "Positive/empty.png", "Negative/marked.png"}
    assert set(manifest.index[manifest["crack_pixels"].isna()]) == unknown
    assert manifest["label"].to_dict() == {path: "crack" if "Positive" in path else "normal" for path in manifest.index}
    masks = {path: done.photographs.mask(row) for path, row in manifest["row"].items()}
    assert all((masks[path] == IGNORED).all() for path in unknown)
    assert (masks["Negative/none.png"] == BACKGROUND).all()
    assert (masks["Positive/drawn.png"] == CRACK).sum() == manifest.loc["Positive/drawn.png", "crack_pixels"] == 64
    assert done.quarantine.empty


def test_photographs_stay_whole_where_no_tiles_are_wanted(workspace, tmp_path):
    presets = {"mine": {
        "label_from": "mask", "parts": [{"images": "images", "masks": "masks"}], "tiling": {"size": 32},
    }}  # fmt: skip
    root = write(tmp_path / "root", {"images/a.png": picture(0), "masks/a.png": marks(*range(8))})
    done = workspace.ingest(root, "mine", {"image": {**OWN_SIZE, "tiles": False}, "presets": presets})
    assert done.manifest[["width", "height", "label", "crack_pixels"]].to_numpy().tolist() == [[64, 64, "crack", 512]]


def test_whole_photographs_of_a_tiled_data_set_are_shared_out_by_their_own_labels(workspace, tmp_path):
    """All of them are cracked: the shares of sound images alone would say nothing of them."""
    presets = {"mine": {
        "label_from": "mask", "parts": [{"images": "images", "masks": "masks"}], "tiling": {"size": 32},
    }}  # fmt: skip
    files = {}
    for number in range(20):
        files |= {f"images/{number}.png": picture(number), f"masks/{number}.png": marks(*range(8))}
    root = write(tmp_path / "root", files)
    parameters = {
        "image": {**OWN_SIZE, "tiles": False},
        "presets": presets,
        "partition": {"normal": {"train": 0.5, "test": 0.5}, "crack": {"train": 0.8, "test": 0.2}},
    }
    done = workspace.ingest(root, "mine", parameters, partitioned=True)
    assert done.partition["role"].value_counts().to_dict() == {"train": 16, "test": 4}


def test_tiles_become_photographs_with_masks(workspace, tmp_path):
    pixels = np.zeros((256, 300), np.uint8)
    pixels[10:40, 10:40] = 255
    root = write(
        tmp_path / "root",
        {"train_img/1.png": picture(0, 256, 300), "train_lab/1.png": Image.fromarray(pixels)},
    )
    done = workspace.ingest(root, "deepcrack_tiles", {"image": OWN_SIZE})
    manifest, stack = done.manifest, done.photographs
    assert manifest["label"].tolist() == ["crack", "normal", "normal", "normal"]
    assert stack.sizes.tolist() == [[128, 128]] * 4
    assert np.array_equal(stack.mask(0) == CRACK, pixels[:128, :128] > 0)
    assert not stack.mask(3).any()
    assert np.array_equal(stack.photograph(3), np.asarray(picture(0, 256, 300))[128:256, 128:256])


def test_empty_masks_are_sound_where_the_preset_says_so(workspace, tmp_path):
    files = {}
    for seed in range(4):
        part = "train" if seed else "test"
        files |= {f"{part}/images/{seed}.png": picture(seed), f"{part}/masks/{seed}.png": marks(*range(seed))}
    root = write(tmp_path / "root", files)
    manifest = workspace.ingest(root, "crack_segmentation", {"image": OWN_SIZE}).manifest
    assert manifest["label"].tolist() == ["normal", "crack", "crack", "crack"]
    done = workspace.ingest(root, "pairs", {"image": OWN_SIZE})
    assert done.quarantine[["path", "kind"]].to_numpy().tolist() == [["test/images/0.png", "empty mask"]]
    assert done.manifest["source"].tolist() == ["train"] * 3


@pytest.mark.parametrize("ignored", [[], 204])
def test_seams_are_background_or_ignored(workspace, tmp_path, ignored):
    pixels = np.array(marks(3))
    pixels[10] = 204
    root = write(tmp_path / "root", {"train_img/1.png": picture(0), "train_lab/1.png": Image.fromarray(pixels)})
    values = {"crack": [255], "background": [0, 204], "ignored": ignored}
    presets = {"mine": {
        "label_from": "mask", "parts": [{"images": "train_img", "masks": "train_lab"}], "mask_values": values,
    }}  # fmt: skip
    done = workspace.ingest(root, "mine", {"image": OWN_SIZE, "presets": presets})
    assert set(done.photographs.mask(0)[10]) == {IGNORED if ignored else BACKGROUND}
    if not ignored:
        known = workspace.ingest(root, "uav75", {"image": OWN_SIZE})
        assert np.array_equal(known.photographs.mask(0), done.photographs.mask(0))


def test_given_splits_are_roles_and_the_rest_is_drawn(workspace, tmp_path):
    shares = {"train": 0.5, "validation": 0.25, "test": 0.25}
    partition = {
        "normal": shares, "crack": shares, "respect_source": {"test": "test"}, "where_given": True, "each_label": False
    }  # fmt: skip
    parameters = {"image": OWN_SIZE, "partition": partition}
    files = {}
    for seed in range(20):
        part = "test" if seed >= 14 else "train"
        files |= {f"{part}_img/{seed}.png": picture(seed), f"{part}_lab/{seed}.png": marks(seed)}
    root = write(tmp_path / "root", files)

    def roles(dataset, **changed):
        done = workspace.ingest(root, dataset, {**parameters, **changed}, partitioned=True)
        table = done.manifest.merge(done.partition[["image_id", "role"]], on="image_id")
        return table.groupby("role")["path"].apply(set).to_dict()

    official = roles("deepcrack")
    assert official["test"] == {f"test_img/{seed}.png" for seed in range(14, 20)}
    assert [len(official[role]) for role in ("train", "validation")] == [9, 5]
    (root / "mine.txt").write_text("0\n1\n19\n")
    listed = {"parts": [{"images": f"{part}_img", "masks": f"{part}_lab"} for part in ("train", "test")]}
    listed |= {"label_from": "mask", "split_files": {"test": "mine.txt"}}
    mine = roles("listed", presets={"listed": listed})
    assert mine["test"] == {"train_img/0.png", "train_img/1.png", "test_img/19.png"}
    assert workspace.quarantine.empty


def test_of_copies_the_held_out_one_stays_and_different_masks_contradict_each_other(workspace, tmp_path):
    files = {}
    for folder, seeds in (("train", (0, 1, 2)), ("val", (0, 1, 3)), ("test", (1, 4))):
        for seed in seeds:
            files |= {f"{folder}/images/{seed}.png": picture(seed), f"{folder}/masks/{seed}.png": marks(seed)}
    files |= {"train/images/5.png": picture(5), "train/masks/5.png": marks(5)}
    files |= {"train/images/6.png": picture(5), "train/masks/6.png": marks(6)}
    done = workspace.ingest(write(tmp_path / "root", files), "pairs", {"image": OWN_SIZE})
    manifest, quarantine = done.manifest.set_index("path"), done.quarantine.set_index("path")
    assert set(manifest.index) == {
        "train/images/2.png", "val/images/0.png", "val/images/3.png", "test/images/1.png", "test/images/4.png"
    }  # fmt: skip
    assert quarantine.loc["train/images/0.png", "reason"] == "same bytes as val/images/0.png"
    for name in ("5", "6"):
        found = quarantine.loc[f"train/images/{name}.png"]
        assert found["kind"] == "conflict"
        assert found["reason"] == "the same bytes with different masks: train/masks/5.png, train/masks/6.png"


@pytest.mark.parametrize(("orientation", "drawn_upright"), [(1, False), (3, False), (3, True)])
def test_masks_of_turned_photographs_are_questioned(workspace, tmp_path, caplog, orientation, drawn_upright):
    exif = Image.Exif()
    exif[274] = orientation
    turned = io.BytesIO()
    picture(0).save(turned, "PNG", exif=exif)
    mask = io.BytesIO()
    marks(3).save(mask, "PNG", **({"exif": exif} if drawn_upright else {}))
    files = {"images/0.png": turned.getvalue(), "masks/0.png": mask.getvalue()}
    workspace.ingest(write(tmp_path / "root", files), "pairs", {"image": OWN_SIZE})
    assert ("1 photographs are turned by their EXIF" in caplog.text) == (orientation == 3 and not drawn_upright)


@pytest.mark.parametrize("inverted", [False, True])
def test_masks_that_are_mostly_crack_are_questioned(workspace, tmp_path, caplog, inverted):
    files = {}
    for seed in range(4):
        mask = np.asarray(marks(seed, seed + 1))
        files |= {f"images/{seed}.png": picture(seed)}
        files |= {f"masks/{seed}.png": Image.fromarray(255 - mask if inverted else mask)}
    workspace.ingest(write(tmp_path / "root", files), "pairs", {"image": OWN_SIZE})
    assert ("is it the background that is white?" in caplog.text) == inverted


def test_masks_need_photographs_of_their_own_size(workspace, tmp_path):
    with pytest.raises(ParameterValidationError, match="masks: true needs size: null, not 64"):
        workspace.ingest(tmp_path, parameters={"image": {"size": 64, "masks": True}})


def test_the_segmentation_has_its_own_ingestion():
    pipeline = create_pipeline("segmentation")
    assert {"params:segmentation.image", "params:segmentation.partition"} <= pipeline.inputs()
    assert {"segmentation.images", "segmentation.manifest", "segmentation.partition"} <= pipeline.all_outputs()


class Source:
    """A root of made up photographs, named by their seed and size."""

    name = "made up"

    def list(self):
        return []

    def read(self, path):
        if path == "locked":
            raise PermissionError("locked away")
        if path == "text":
            return b"text"
        seed, height, width = map(int, path.split("-"))
        return encoded(picture(seed, height, width), "BMP")


def test_one_photograph_is_opened_by_itself():
    reading = Reading(max_pixels=5000)
    photo_id, pixels = open_photograph(Source(), "0-40-60", mode="rgb", reading=reading)
    assert np.array_equal(pixels, np.asarray(picture(0, 40, 60)))
    assert len(photo_id) == 32
    assert open_photograph(Source(), "0-40-60", mode="grey", reading=reading)[1].shape == (40, 60)
    for path, kind in (
        ("locked", "unreadable"),
        ("text", "not an image"),
        ("0-5-60", "too small"),
        ("0-99-99", "too many pixels"),
    ):
        with pytest.raises(Undecodable) as refused:
            open_photograph(Source(), path, mode="rgb", reading=reading)
        assert refused.value.kind == kind
        assert refused.value.__context__ is None  # which would keep the pixels alive


def test_a_hundred_megapixels_are_allowed_by_default():
    assert 102_000_000 < Reading().max_pixels < HARD_MAX_PIXELS
    assert Reading().max_bytes > 3 * Reading().max_pixels


def test_large_photographs_wait_for_each_other():
    side = 600
    paths = [f"{seed}-{side}-{side}" for seed in range(24)]
    rows = pd.DataFrame({"path": paths, "label": None, "mask_path": None, "source": "", "size": 3 * side**2})
    options = {"preset": Preset(label_from="none"), "image": Form(size=None, mode="rgb")}

    def peak(**limits):
        tracemalloc.start()
        for _ in develop_all(Source(), rows, reading=Reading(chunk=1, threads=8, **limits), **options):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found / (3 * side**2)

    assert peak(waiting_bytes=1) < 10  # one, its file and copies of it, and the chunk before it
    assert peak(waiting_bytes=2**30) > 20
