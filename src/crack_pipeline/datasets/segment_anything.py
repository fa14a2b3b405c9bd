"""Weights of Segment Anything: from their official address, once, or from a local file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

from kedro.io.core import DatasetError
from torch import Tensor

from crack_pipeline.datasets.download import DownloadError, download
from crack_pipeline.datasets.pretrained import read_tensors
from crack_pipeline.datasets.store import StoreDataset

logger = logging.getLogger(__name__)

ADDRESS = "https://dl.fbaipublicfiles.com/segment_anything"


class _Published(NamedTuple):
    """A file of the official address."""

    file: str
    sha256: str
    megabytes: int


# The names hold the first digits of the MD5 sums. The publisher names no SHA-256 sums: these are those by which other
# projects (micro-sam, 3D Slicer) check the same files.
PUBLISHED = {
    "vit_b": _Published(
        "sam_vit_b_01ec64.pth", "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912", 375
    ),
    "vit_l": _Published(
        "sam_vit_l_0b3195.pth", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622", 1250
    ),
    "vit_h": _Published(
        "sam_vit_h_4b8939.pth", "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e", 2565
    ),
}


class SegmentAnythingWeights:
    """Gives the weights of Segment Anything by the name of the model.

    Parameters
    ----------
    folder
        Where downloaded files are kept.
    address
        Where they are published, or a mirror.
    timeout
        Seconds without an answer after which a connection counts as broken.
    attempts
        Broken connections in a row after which a download is given up.
    pause
        Seconds before the second attempt.
    """

    def __init__(
        self, folder: Path, *, address: str = ADDRESS, timeout: float = 30.0, attempts: int = 5, pause: float = 1.0
    ) -> None:
        self.folder, self.address = folder, address.rstrip("/")
        self.timeout, self.attempts, self.pause = timeout, attempts, pause

    def fetch(self, model: str, weights: str) -> dict[str, Tensor]:
        """Give the weights, on the CPU. Whether they fit says `models.segment_anything.build`.

        Parameters
        ----------
        model
            ``vit_b``, ``vit_l`` or ``vit_h``.
        weights
            ``official``: downloaded, checked and kept; or the path of a local file: ``.safetensors``, or what
            ``torch.save`` wrote, of which nothing but tensors is read.

        Returns
        -------
        dict of str to Tensor
            By their names in the file.

        Raises
        ------
        DatasetError
            If there is no such model or file, it cannot be fetched, or it is damaged.
        """
        if weights != "official":
            path = Path(weights).expanduser()
            if not path.is_file():
                raise DatasetError(
                    f"the weights of Segment Anything {weights!r} are no file; it takes official or the path of a "
                    "local file"
                )
            return read_tensors(path)
        if model not in PUBLISHED:
            raise DatasetError(f"there is no Segment Anything {model!r}; it takes {', '.join(PUBLISHED)}")
        published = PUBLISHED[model]
        target = self.folder / published.file
        if not target.is_file():
            logger.info("Segment Anything %s is fetched once: %s MB", model, f"{published.megabytes:,}")
        try:
            download(
                f"{self.address}/{published.file}",
                target,
                sha256=published.sha256,
                timeout=self.timeout,
                attempts=self.attempts,
                pause=self.pause,
            )
        except DownloadError as error:
            raise DatasetError(
                f"{error}, or set the weights to the path of a local file instead of official, or the method to "
                "classical, which needs none"
            ) from error
        try:
            return read_tensors(target)
        except DatasetError as error:
            raise DatasetError(f"{error}; delete it, and it is fetched again") from error


class SegmentAnythingDataset(StoreDataset[SegmentAnythingWeights]):
    """Opens the store of the weights of Segment Anything; nothing is fetched before it is asked for.

    Parameters
    ----------
    filepath
        Folder of this machine for downloaded files.
    address, timeout, attempts, pause
        See `SegmentAnythingWeights`.
    metadata
        For other tools; not used.

    Examples
    --------
    .. code-block:: yaml

        segment_anything:
          type: crack_pipeline.datasets.SegmentAnythingDataset
          filepath: data/06_models/segment_anything
    """

    def __init__(
        self,
        *,
        filepath: str,
        address: str = ADDRESS,
        timeout: float = 30.0,
        attempts: int = 5,
        pause: float = 1.0,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        store = SegmentAnythingWeights(Path(filepath), address=address, timeout=timeout, attempts=attempts, pause=pause)
        super().__init__(store, metadata, filepath=filepath, address=store.address)
