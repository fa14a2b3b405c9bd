"""What an encoder made of photographs, kept so that it need not be made again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset
from kedro.io.core import DatasetError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from crack_pipeline.models.embedding import Embedding

logger = logging.getLogger(__name__)

_SUFFIX = ".safetensors"
_ABANDONED = 3600.0
"""Seconds after which nobody writes a part any more."""


class Embeddings:
    """A folder of embeddings, of bounded size: those that were not used for the longest time go first.

    Parameters
    ----------
    folder
        Where they lie. It may be deleted at any time.
    megabytes
        Most that is kept.
    """

    def __init__(self, folder: Path, *, megabytes: float = 2000.0) -> None:
        self.folder, self.megabytes = folder, megabytes

    def get(self, key: str) -> Embedding | None:
        """Give what was kept under a key; None if there is nothing, or it is damaged.

        Parameters
        ----------
        key
            What the embedding is of: the content of the photograph and the network, such as both hashes.
        """
        path = self._path(key)
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads(file.metadata()["facts"])
                if facts["key"] != key:
                    return None
                found = Embedding(file.get_tensor("features"), (*facts["input_size"],), (*facts["photograph_size"],))
            os.utime(path)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None
        return found

    def put(self, key: str, embedding: Embedding) -> None:
        """Keep an embedding, whole or not at all; where it cannot be written, that is logged and no more."""
        facts = {"key": key, "input_size": embedding.input_size, "photograph_size": embedding.photograph_size}
        path = self._path(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(dir=self.folder, suffix=".part")
            os.close(handle)
            try:
                features = embedding.features.detach().cpu().contiguous()
                save_file({"features": features}, part, metadata={"facts": json.dumps(facts)})
                Path(part).chmod(0o644)
                Path(part).replace(path)
            finally:
                Path(part).unlink(missing_ok=True)
            self._make_room()
        except (OSError, SafetensorError) as error:
            logger.warning("an embedding cannot be kept in %s: %s", self.folder, error)

    def _make_room(self) -> None:
        """Delete what was not used for the longest time, beyond the size that is allowed."""
        for part in self.folder.glob("*.part"):
            if time.time() - part.stat().st_mtime > _ABANDONED:
                part.unlink(missing_ok=True)
        left = self.megabytes * 1e6
        kept = [(path, path.stat()) for path in self.folder.glob(f"*{_SUFFIX}")]
        for path, facts in sorted(kept, key=lambda entry: entry[1].st_mtime_ns, reverse=True):
            left -= facts.st_size
            if left < 0:
                path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}{_SUFFIX}"


class EmbeddingsDataset(AbstractDataset[NoReturn, Embeddings]):
    """Opens a folder of embeddings.

    Parameters
    ----------
    filepath
        Of the folder.
    megabytes
        Most that is kept; of Segment Anything, each takes 4.
    metadata
        For other tools; not used.

    Examples
    --------
    .. code-block:: yaml

        embeddings:
          type: crack_pipeline.datasets.EmbeddingsDataset
          filepath: data/04_feature/inspection/embeddings
    """

    def __init__(self, *, filepath: str, megabytes: float = 2000.0, metadata: dict[str, Any] | None = None) -> None:
        if not megabytes > 0:
            raise DatasetError(f"megabytes is {megabytes}, and must be above 0")
        self._embeddings = Embeddings(Path(filepath), megabytes=megabytes)
        self.metadata = metadata

    def load(self) -> Embeddings:
        """Give what keeps embeddings."""
        return self._embeddings

    def save(self, data: NoReturn) -> NoReturn:
        """Refuse: embeddings get there one by one."""
        raise DatasetError(f"{self._embeddings.folder} is filled while photographs are encoded; nothing is saved there")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._embeddings.folder), "megabytes": self._embeddings.megabytes}
