"""Parameters of the ingestion: how data sets are laid out, read, scaled and compared."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import psutil
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel, field_validator, model_validator

from crack_pipeline.imaging.decoding import HARD_MAX_PIXELS


class Strict(BaseModel):
    """A parameter block that refuses names it does not know, so that a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Image(Strict):
    """The form in which pictures are stored."""

    size: int | None = Field(
        128, ge=8, le=4096, description="side of the stored square, in px; null keeps every picture at its own size"
    )
    mode: Literal["grey", "rgb"] = Field("grey", description="one channel (luma) or three")
    resize: bool = Field(
        True,
        description="scale every photograph or tile to the size (by area); false quarantines those that "
        "are not of that size already",
    )
    masks: bool | Literal["where_given"] = Field(
        False,
        description="store the mask of every picture, too, and quarantine what has none or a doubtful one; "
        "where_given: a photograph whose folder gives the label, and that has none that can be believed, is ignored in "
        "every pixel, unless it is sound",
    )
    tiles: bool = Field(
        True, description="cut photographs into tiles where the preset says so; false keeps every photograph whole"
    )

    @model_validator(mode="after")
    def _masks_are_not_scaled(self) -> Image:
        if self.masks and self.size is not None:
            raise ValueError(
                f"masks are stored only with pictures of their own size: masks: true needs size: null, not {self.size}"
            )
        return self


class Reading(Strict):
    """How photographs are read, and what is too much."""

    chunk: int = Field(256, ge=1, description="photographs that are handed on at a time")
    chunk_bytes: int = Field(
        2**26, ge=1, description="a chunk is handed on sooner when its images reach this many bytes"
    )
    threads: int | None = Field(
        None, ge=1, le=256, description="files read at the same time; null for twice the processor's cores"
    )
    max_pixels: int = Field(
        150_000_000, ge=1, le=HARD_MAX_PIXELS, description="a picture with more is quarantined undecoded"
    )
    max_bytes: int = Field(2**29, ge=1, description="a file with more is quarantined unread")
    waiting_bytes: int | None = Field(
        None,
        ge=1,
        description="memory for pictures that are being decoded or wait to be stored, judged by their headers; one "
        "picture is always let in; null for a quarter of the memory that is free",
    )
    min_side: int = Field(16, ge=1, description="a picture that is shorter on one side, in px, is quarantined")
    max_bad_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="largest share of bad files that a run accepts, byte copies and doubtful tiles aside",
    )

    @property
    def workers(self) -> int:
        """Number of threads."""
        return self.threads or 2 * (os.cpu_count() or 1)

    @property
    def room(self) -> int:
        """Bytes of pictures that are decoded or wait at a time."""
        return self.waiting_bytes or int(psutil.virtual_memory().available) // 4


class Part(Strict):
    """A folder of photographs beside a folder of their masks."""

    images: str = Field(
        min_length=1, description="folder of photographs, such as train/images; it may lie at any depth"
    )
    masks: str = Field(min_length=1, description="folder of masks, in the place of the folder of photographs")
    source: str = Field("", description="what the manifest calls this part, for a split that is given")


def _as_list(value: object) -> object:
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


Values = Annotated[list[Annotated[int, Field(ge=0, le=255)]], BeforeValidator(_as_list)]


class MaskValues(Strict):
    """What the values of a mask mean: a value, or a list of values, for each meaning.

    A lossless mask that holds a value without a meaning is quarantined.
    """

    crack: Values | None = Field(
        None,
        description="values that mean crack; null: 255, or 1 in a mask of 0 and 1, and in a mask of a lossy format "
        "(JPEG, WebP) every value from the threshold on",
    )
    background: Values = Field([0], description="values that mean no crack")
    ignored: Values = Field(
        [], description="values that say nothing, neither crack nor sound, whatever else they are said to mean"
    )
    threshold: int = Field(
        128, ge=1, le=255, description="least grey value that means crack in a lossy mask, where crack is null"
    )
    threshold_lossless: bool = Field(
        False, description="whether a lossless mask of other grey values is thresholded, too, instead of quarantined"
    )

    @model_validator(mode="after")
    def _one_meaning(self) -> MaskValues:
        both = sorted(set(self.crack or ()) & set(self.background))
        if both:
            raise ValueError(f"mask_values says of {both[0]} both crack and background")
        if self.crack is None and 0 not in self.background:
            raise ValueError("mask_values says that 0 is not background: name the values of crack, too")
        if self.crack is not None and self.threshold_lossless:
            raise ValueError("threshold_lossless needs crack: null, since the values that mean crack are named")
        return self


class Tiling(Strict):
    """Cutting photographs into tiles, whose label comes from the mask.

    A tile is normal if neither it nor its margin holds a crack pixel, crack if it holds enough of them; every
    tile in between is doubtful and left out.
    """

    size: int = Field(128, ge=8, description="side of a tile, in px of the photograph")
    stride: int | None = Field(None, ge=1, description="distance between tiles, in px; null: they touch")
    cover: bool = Field(False, description="cover the rest at the right and at the bottom by overlapping tiles")
    min_crack_pixels: int = Field(64, ge=1, description="crack pixels that make a tile a crack")
    margin: int = Field(4, ge=0, description="px around a normal tile that must be free of cracks, too")
    max_ignored_share: float = Field(0.25, ge=0, le=1, description="a tile with more ignored pixels is left out")


class Preset(Strict):
    """The layout of a data set."""

    about: str = Field("", description="one line for the reader")
    label_from: Literal["folder", "mask", "sound", "none"] = Field(
        "folder",
        description="where the label of a photograph comes from; sound: none shows a crack; none: it has no label",
    )
    classes: dict[Literal["normal", "crack"], list[str]] = Field(
        {},
        description="names of class folders with * and ?, in any case, '_' standing for space and '-' too; "
        "the innermost folder that is named decides, normal before crack",
    )
    parts: list[Part] = Field([], description="the only folders that hold photographs; none: all folders do")
    mask_folders: list[str] = Field(
        [],
        description="without parts: names of folders of masks, parallel to the class folders, which hold "
        "<class>/<name> or, for cracks, <name>",
    )
    mask_suffixes: list[str] = Field(["", "_mask"], description="what the name of a mask adds to the photograph's")
    mask_values: MaskValues = Field(default_factory=lambda: MaskValues.model_validate({}))
    empty_masks: Literal["quarantined", "sound"] = Field(
        "quarantined",
        description="where masks are stored and give the label: whether a photograph without a crack in its mask is "
        "sound, or its mask was perhaps never drawn",
    )
    split_files: dict[str, str] | str = Field(
        {},
        description="files under the root that say which photographs each given split holds, such as {test: "
        "splits/test.txt}: a path, a name or a name without its ending a line, or a CSV with a column path, file or "
        "image and perhaps a column split; a single CSV with a column split may stand alone, and its names are taken "
        "in lower case. They decide the source",
    )
    tiling: Tiling | None = Field(None, description="cut the photographs into tiles")

    @property
    def split_paths(self) -> list[str]:
        """Paths of the files that give the splits."""
        files = [self.split_files] if isinstance(self.split_files, str) else list(self.split_files.values())
        return list(dict.fromkeys(files))

    @field_validator("classes")
    @classmethod
    def _named(cls, classes: dict[str, list[str]]) -> dict[str, list[str]]:
        return {label: [plain(pattern) for pattern in patterns] for label, patterns in classes.items()}

    @model_validator(mode="after")
    def _consistent(self) -> Preset:
        if self.label_from == "folder" and not self.classes:
            raise ValueError("label_from is 'folder', but no classes are named")
        if self.label_from == "mask" and not (self.parts or self.mask_folders):
            raise ValueError("label_from is 'mask', but neither parts nor mask_folders say where masks are")
        if self.tiling and self.label_from != "mask":
            raise ValueError("tiles take their labels from masks: tiling needs label_from: mask")
        return self


class Presets(RootModel[dict[str, Preset]]):
    """The layouts that are known, by name."""

    def named(self, dataset: Dataset) -> Preset:
        """Find a preset.

        Raises
        ------
        ValueError
            If there is none of that name; the message lists those there are.
        """
        if dataset.root not in self.root:
            raise ValueError(f"dataset={dataset.root!r} is not a preset: choose one of {', '.join(sorted(self.root))}")
        return self.root[dataset.root]

    def __str__(self) -> str:
        return ", ".join(self.root)


class Dataset(RootModel[str]):
    """Name of the preset that describes the photographs."""

    def __str__(self) -> str:
        return self.root


class Duplicates(Strict):
    """How near-duplicates are found; `imaging.near_duplicates.find_groups` says more of each."""

    minimum_similarity: float = Field(
        0.55, gt=0, le=1, description="correlation that a pair must reach when laid over each other"
    )
    candidate_similarity: float = Field(
        0.72, gt=0, lt=1, description="coarse correlation below which a pair is not compared in detail"
    )
    shortlist: int = Field(64, ge=1, description="pairs per image that are compared at all shifts")
    candidates_per_image: int = Field(8, ge=1, description="pairs per image that are compared in detail")
    workers: int | None = Field(None, ge=1, description="threads; null for one per processor")


def split_name(name: str) -> str:
    """Write a split's name as splits are compared: lower case, train for training and test for testing."""
    lower = name.strip().lower()
    return {"training": "train", "testing": "test"}.get(lower, lower)


def plain(name: str) -> str:
    """Write a folder's name as class patterns are compared: lower case, ``_`` for space and ``-``."""
    return name.lower().replace(" ", "_").replace("-", "_")
