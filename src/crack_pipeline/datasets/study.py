"""Searches for parameters that outlive the process that makes them."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import psutil
from kedro.io import AbstractDataset, DatasetError

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)

_OWNER = "process"


class Studies:
    """Opens the studies of Optuna in one SQLite file.

    Parameters
    ----------
    path
        Of the file, which the first study creates.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, name: str) -> optuna.Study:
        """Open a study, or begin it; its values are better the higher they are.

        Parameters
        ----------
        name
            The same for the same search.

        Returns
        -------
        optuna.Study
            All that its trials report and tell is on disk when the call returns.

        Raises
        ------
        DatasetError
            If the file is none of Optuna's or damaged, or another living process works on the study.
        """
        # It takes a second to import, and only a search needs it.
        import optuna
        from sqlalchemy.exc import DatabaseError

        logging.getLogger("optuna").setLevel(logging.WARNING)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            storage = optuna.storages.RDBStorage(f"sqlite:///{self.path}")
            others = [study for study in optuna.get_all_study_names(storage) if study != name]
            study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        except (DatabaseError, optuna.exceptions.StorageInternalError, RuntimeError) as error:
            raise DatasetError(
                f"{self.path} cannot be read as a file of studies ({_first_line(error)}); move it away, and a new one "
                "is begun"
            ) from error
        _claim(study, self.path)
        trials = len(study.get_trials(deepcopy=False))
        logger.info("%s in %s", f"going on with the study {name}" if trials else f"a new study, {name},", self.path)
        if others and not trials:
            logger.info("it is of other data or settings than the %d that are there; these are kept", len(others))
        return study


class StudiesDataset(AbstractDataset[NoReturn, Studies]):
    """Gives the studies of a local SQLite file.

    Parameters
    ----------
    filepath
        Of the file.
    metadata
        For other tools; not used.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Studies:
        """Give them; the file is not opened before one is."""
        return Studies(self._filepath)

    def save(self, data: NoReturn) -> NoReturn:
        """Refuse: a study writes its own trials."""
        raise DatasetError(f"{self._filepath} holds studies, which write their trials themselves")

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


def _claim(study: optuna.Study, path: Path) -> None:
    """Write down which process works on a study, so that its running trials can be told from abandoned ones."""
    own = {"host": socket.gethostname(), "pid": os.getpid(), "began": psutil.Process().create_time()}
    owner = study.user_attrs.get(_OWNER, own)
    if owner != own and owner["host"] == own["host"] and _lives(owner):
        raise DatasetError(
            f"process {owner['pid']} is at work on the study {study.study_name} in {path}: wait for it or stop it"
        )
    study.set_user_attr(_OWNER, own)


def _lives(owner: dict[str, Any]) -> bool:
    try:
        return bool(psutil.Process(owner["pid"]).create_time() == owner["began"])
    except psutil.NoSuchProcess:
        return False


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
