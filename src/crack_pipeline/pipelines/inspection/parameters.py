"""Parameters of an inspection."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

from crack_pipeline.imaging.crack_objects import Crack
from crack_pipeline.imaging.inpainting import Inpainting
from crack_pipeline.imaging.scale import LEAST, MOST, Optics, Scale
from crack_pipeline.pipelines.trained import Wanted


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Model(RootModel[Wanted]):
    """What finds the cracks: the newest segmenter of a pipeline, of the first that has one, or a registered one."""


class Scales(_Strict):
    """How large what photographs show is. Without any, sizes are told in pixels alone."""

    file: str = Field(
        "scale.csv",
        min_length=1,
        description="a table relative to the root of the photographs, see imaging.scale.read_scales; it comes before "
        "what is said here of all photographs, and need not be there",
    )
    millimetres_per_pixel: float | None = Field(None, ge=LEAST, le=MOST, description="of all photographs")
    optics: Optics | None = Field(None, description="of all photographs")

    @model_validator(mode="after")
    def _one(self) -> Scales:
        if self.millimetres_per_pixel is not None and self.optics is not None:
            raise ValueError("it takes millimetres_per_pixel or optics, and not both")
        return self

    @property
    def common(self) -> Scale | None:
        """That of all photographs of which the table says nothing."""
        return self.millimetres_per_pixel if self.optics is None else self.optics


class Cracks(_Strict):
    """What counts as a crack."""

    threshold: float | None = Field(
        None, gt=0, lt=1, description="probability from which on a pixel is a crack; null: that of the segmenter"
    )
    least_pixels: int = Field(60, ge=1, description="smaller ones are left out")
    least_length: float = Field(20.0, ge=0, description="shorter ones are left out, px")
    least_elongation: float = Field(
        3.0,
        ge=0,
        description="what is not so many times as long as it is wide is left out: a blot. 3 costs 0.1 % of the length "
        "of the cracks in DeepCrack's training masks, and none of those of UAV75",
    )
    most_width: float | None = Field(
        70.0,
        gt=0,
        description="what is wider on average is left out: a shadow, a gap between parts, px. No crack in DeepCrack's "
        "training masks is; null: nothing is too wide",
    )

    def counts(self, crack: Crack) -> bool:
        """Say whether something that was found is a crack, as far as its form says; see also :meth:`too_wide`."""
        return crack.length >= max(self.least_length, self.least_elongation * crack.mean_width)

    def too_wide(self, crack: Crack) -> bool:
        """Say whether something is too wide for a crack."""
        return self.most_width is not None and crack.mean_width > self.most_width


class Repair(_Strict):
    """The surface as it would look without its cracks."""

    enabled: bool = True
    how: Inpainting = Field(default_factory=lambda: Inpainting.model_validate({}))


class Report(_Strict):
    """What the report shows."""

    title: str = Field("Inspection of concrete surfaces", min_length=1)
    pages: int = Field(
        200, ge=0, description="photographs that are shown, the most severely cracked first; the tables have all"
    )
    side: int = Field(1600, ge=64, le=8192, description="most px along the longer side of a picture in it")
    quality: int = Field(82, ge=1, le=100, description="of its JPEG pictures")
