"""Pretrained weights of encoders: from the internet, once, or from a local file."""

from __future__ import annotations

import logging
import pickle
import zipfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from kedro.io.core import DatasetError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from crack_pipeline.datasets.download import DownloadError, download
from crack_pipeline.datasets.store import StoreDataset

logger = logging.getLogger(__name__)

HUB = "https://huggingface.co"
_FILE = "model.safetensors"
_NESTED = ("state_dict", "model_state_dict", "model", "net", "network")


class PretrainedEncoders:
    """Gives the weights of encoders by name.

    Parameters
    ----------
    folder
        Where downloaded files are kept.
    hub
        Address of the Hugging Face hub, or of a mirror.
    timeout
        Seconds without an answer after which a connection counts as broken.
    attempts
        Broken connections in a row after which a download is given up.
    pause
        Seconds before the second attempt.
    """

    def __init__(
        self, folder: Path, *, hub: str = HUB, timeout: float = 30.0, attempts: int = 5, pause: float = 1.0
    ) -> None:
        self.folder, self.hub = folder, hub.rstrip("/")
        self.timeout, self.attempts, self.pause = timeout, attempts, pause

    def fetch(self, encoder: str, weights: str) -> dict[str, Tensor] | None:
        """Give pretrained weights, on the CPU.

        Parameters
        ----------
        encoder
            Name in segmentation_models_pytorch, or ``tu-<name>`` of timm.
        weights
            ``none``; ``imagenet`` (or another pretraining of this encoder that segmentation_models_pytorch names),
            which is downloaded, checked and kept; or the path of a local file: ``.safetensors``, or ``.pth`` or
            ``.pt``, of which nothing but tensors is read. With an encoder of timm, ``imagenet`` stands for the
            weights that its name stands for.

        Returns
        -------
        dict of str to Tensor, or None
            By their names in the file; None for ``none``.

        Raises
        ------
        DatasetError
            If there are no such weights, they cannot be fetched, or the file is missing or damaged.
        """
        if weights == "none":
            return None
        path = Path(weights).expanduser()
        if weights != "imagenet" and path.is_file():
            return read_tensors(path)
        published = _published(encoder)
        if weights not in published:
            names = ", ".join(["none", *published])
            raise DatasetError(
                f"the pretrained weights {weights!r} are no file and none that are published of the encoder {encoder}; "
                f"it takes {names} or the path of a local file"
            )
        where = published[weights]
        target = self.folder / where.repository.replace("/", "--") / where.revision / where.file
        url = f"{self.hub}/{where.repository}/resolve/{where.revision}/{where.file}"
        try:
            download(url, target, timeout=self.timeout, attempts=self.attempts, pause=self.pause)
        except DownloadError as error:
            raise DatasetError(
                f"{error}, or set the weights to the path of a local file instead of {weights}"
            ) from error
        logger.info("the encoder %s starts from %s", encoder, where.repository)
        try:
            return read_tensors(target)
        except DatasetError as error:
            raise DatasetError(f"{error}; delete it, and it is fetched again") from error


class PretrainedEncodersDataset(StoreDataset[PretrainedEncoders]):
    """Opens the store of pretrained weights; nothing is fetched before it is asked for.

    Parameters
    ----------
    filepath
        Folder of this machine for downloaded files.
    hub, timeout, attempts, pause
        See `PretrainedEncoders`.
    metadata
        For other tools; not used.

    Examples
    --------
    .. code-block:: yaml

        pretrained_encoders:
          type: crack_pipeline.datasets.PretrainedEncodersDataset
          filepath: data/06_models/pretrained
    """

    def __init__(
        self,
        *,
        filepath: str,
        hub: str = HUB,
        timeout: float = 30.0,
        attempts: int = 5,
        pause: float = 1.0,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        store = PretrainedEncoders(Path(filepath), hub=hub, timeout=timeout, attempts=attempts, pause=pause)
        super().__init__(store, metadata, filepath=filepath, hub=store.hub)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file, on the CPU, without unpickling anything else.

    Parameters
    ----------
    path
        ``.safetensors``, or what ``torch.save`` wrote: a state dictionary, or a dictionary that holds one.

    Returns
    -------
    dict of str to Tensor
        By their names.

    Raises
    ------
    DatasetError
        If the file is damaged, holds other objects than tensors, or none.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path, device="cpu")
        except (SafetensorError, OSError) as error:
            raise DatasetError(f"{path} is damaged or not a safetensors file: {error}") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DatasetError(
            f"{path} is damaged, or holds more than tensors, which is not unpickled; save its weights alone: "
            "torch.save(model.state_dict(), path)"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} is damaged or not a file of torch.save: {error}") from error
    for name in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise DatasetError(f"{path} holds no tensors by name: a state dictionary is needed")
    return tensors


class _Published(NamedTuple):
    """Where on the hub a file of weights lies."""

    repository: str
    revision: str
    file: str = _FILE


def _published(encoder: str) -> dict[str, _Published]:
    """Give the published weights of an encoder by the name of their pretraining."""
    # Imported here, since both take seconds and few ask for them.
    if encoder.startswith("tu-"):
        settings = import_module("timm").get_pretrained_cfg(encoder.removeprefix("tu-"))
        if settings is None or not settings.hf_hub_id:
            return {}
        repository, _, revision = settings.hf_hub_id.partition("@")
        return {"imagenet": _Published(repository, revision or "main", settings.hf_hub_filename or _FILE)}
    encoders = import_module("segmentation_models_pytorch").encoders.encoders
    settings = encoders[encoder]["pretrained_settings"] if encoder in encoders else {}
    return {name: _Published(where["repo_id"], where["revision"]) for name, where in settings.items()}
