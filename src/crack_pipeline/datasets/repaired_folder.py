"""Repaired photographs, pictures of them before and after, and a table, written as they come."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from kedro.io.core import DatasetError

from crack_pipeline.datasets.segmentation_folder import Contents, SegmentationFolderDataset
from crack_pipeline.imaging.camera import check_quality, encode_jpeg, encode_png
from crack_pipeline.imaging.repaired import RepairedPhotograph

REPAIRED, BEFORE_AFTER = "repaired", "before_after"


class RepairedFolderDataset(SegmentationFolderDataset):
    """A folder of photographs whose cracks are filled.

    ``repaired/<path>.jpg`` or ``.png``
        The photograph, in its size, upright as its EXIF orientation says.
    ``before_after/<path>.jpg``
        RGB, of bounded size, where the chunks bring them.
    ``photographs.jsonl``, ``rejected.jsonl``
        A JSON object per line and photograph; the first names the files above.

    Otherwise it is as `SegmentationFolderDataset`: it is of one run, whole or as it was, and what a run did before it
    was killed lies in ``<folder>.unfinished``.

    Parameters
    ----------
    filepath
        The folder: a path, or a URL; see `SegmentationFolderDataset`.
    form
        ``jpeg``, or ``png``, which loses nothing and takes ten times the space.
    quality
        Of repaired photographs as JPEG, 1 to 100.
    metadata
        For other tools; ignored here.
    """

    _what: ClassVar[str] = "repair"
    _files: ClassVar[tuple[str, ...]] = ("repaired", "before_after")
    _folders: ClassVar[tuple[str, ...]] = (REPAIRED, BEFORE_AFTER)

    def __init__(
        self,
        *,
        filepath: str,
        form: Literal["jpeg", "png"] = "jpeg",
        quality: int = 95,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        if form not in ("jpeg", "png"):
            raise DatasetError(f"repaired photographs are written as jpeg or png, not as {form!r}")
        try:
            check_quality(quality)
        except ValueError as error:
            raise DatasetError(str(error)) from error
        self._form, self._quality = form, quality

    def _contents(self, photograph: Any, name: str) -> Contents:
        repaired: RepairedPhotograph = photograph
        if self._form == "png":
            contents: Contents = {"repaired": (f"{REPAIRED}/{name}.png", encode_png(repaired.picture))}
        else:
            contents = {"repaired": (f"{REPAIRED}/{name}.jpg", encode_jpeg(repaired.picture, self._quality))}
        if repaired.before_after is not None:
            picture = encode_jpeg(repaired.before_after, self._jpeg_quality)
            contents["before_after"] = (f"{BEFORE_AFTER}/{name}.jpg", picture)
        return contents

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._shared.url, "form": self._form, "quality": self._quality}
