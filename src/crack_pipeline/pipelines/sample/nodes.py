"""Renders photographs of concrete and shows some of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from crack_pipeline.evaluation.segmentation_figures import outline
from crack_pipeline.imaging.camera import encode_jpeg, encode_png
from crack_pipeline.imaging.scenes import Scene, render_scene
from crack_pipeline.pipelines.sample.parameters import Sample


@dataclass(frozen=True)
class RenderedFiles:
    """The files of a rendered data set, each made at the moment it is asked for.

    Iterating gives (name, content) pairs: ``Negative/00001.jpg`` …, ``Positive/00001.jpg`` … and, after each
    of the latter, its mask ``masks/Positive/00001.png`` (white on the crack). Iterating again gives the same
    bytes.

    Parameters
    ----------
    sample
        How many photographs, and of what kind.
    """

    sample: Sample

    def __len__(self) -> int:
        return self.sample.normal + 2 * self.sample.crack

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        for index in range(self.sample.normal):
            scene = render_photograph(self.sample, index, cracked=False)
            yield f"Negative/{index + 1:05d}.jpg", encode_jpeg(scene.image, self.sample.jpeg_quality)
        for index in range(self.sample.crack):
            scene = render_photograph(self.sample, index, cracked=True)
            yield f"Positive/{index + 1:05d}.jpg", encode_jpeg(scene.image, self.sample.jpeg_quality)
            yield f"masks/Positive/{index + 1:05d}.png", encode_png(scene.mask)


def render_photograph(sample: Sample, index: int, cracked: bool) -> Scene:
    """Render one photograph of the data set.

    Parameters
    ----------
    sample
        Size, difficulty and seed.
    index
        Number of the photograph in its class, from 0. Seed, class and number alone decide what is drawn: it
        does not matter how many photographs there are, nor in which order they are rendered.
    cracked
        Whether there is a crack.

    Returns
    -------
    Scene
        The photograph, before JPEG compression, and its mask.
    """
    rng = np.random.default_rng([sample.seed, int(cracked), index])
    return render_scene(sample.shape, rng, sample.hardness, cracked)


def render_photographs(sample: Sample) -> RenderedFiles:
    """Render a data set of concrete photographs with and without cracks.

    Parameters
    ----------
    sample
        How many, how large, how hard, and the seed.

    Returns
    -------
    RenderedFiles
        File by file, rendered while it is written: no more than one photograph is in memory.
    """
    return RenderedFiles(sample)


def draw_examples(sample: Sample) -> Figure:
    """Show the first photographs of each class, and the outlines of their masks.

    Parameters
    ----------
    sample
        The data set.

    Returns
    -------
    matplotlib.figure.Figure
        A row of sound concrete, a row with cracks, and the same row with the mask's outline drawn in.
    """
    shown = 8
    normal = [render_photograph(sample, i, cracked=False).image for i in range(min(shown, sample.normal))]
    cracked = [render_photograph(sample, i, cracked=True) for i in range(min(shown, sample.crack))]
    rows = {
        "no crack": normal,
        "crack": [scene.image for scene in cracked],
        "mask": [outline(scene.image, scene.mask) for scene in cracked],
    }
    height, width = sample.shape
    with mpl.rc_context({"axes.titlesize": 10}):
        figure = Figure(figsize=(shown * 1.5, 3 * 1.5 * height / width + 0.4), layout="constrained")
        for row, (name, pictures) in enumerate(rows.items()):
            for column in range(shown):
                axes = figure.add_subplot(3, shown, row * shown + column + 1)
                axes.axis("off")
                if column == 0:
                    axes.set_title(name, loc="left")
                if column < len(pictures):
                    axes.imshow(pictures[column])
    return figure
