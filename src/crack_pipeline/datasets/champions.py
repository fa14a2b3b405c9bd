"""Which version of a registered model is in use, and how that changes: one at a time, whole or not at all.

The alias ``champion`` says which version is in use; to move it is one transaction of the registry. Before it is moved,
what is about to happen is written down in a tag of the registered model, and afterwards that it has happened. A process
that is killed in between leaves an entry of which the alias itself tells whether it came true, and the next one reads
it so. The alias ``previous`` and the way back follow from these entries.

Nobody moves the alias without having read the entries again after writing its own: of two that write at the same time
at least one sees the other, and steps back (L. Lamport's and E. W. Dijkstra's mutual exclusion by flags, without the
waiting). A lock file keeps the processes of one machine from meeting at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from filelock import FileLock, Timeout
from kedro.io import DatasetError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crack_pipeline.models.registered import Standing

logger = logging.getLogger(__name__)

CHAMPION, PREVIOUS = "champion", "previous"
_PREFIX = "succession."
_STALE = timedelta(minutes=10)
_PATIENCE = 120.0


class OutdatedError(DatasetError):
    """Another version has become champion since, or is about to."""


class Succession(BaseModel):
    """One change of the champion.

    Attributes
    ----------
    number
        1 for the first, and so on.
    version
        That takes its place.
    instead_of
        The champion until then; None if there was none.
    kind
        Whether it is a step forward or back.
    run
        MLflow run that decided.
    at
        When it was written down.
    done
        Whether the alias is known to have moved.
    claim
        Tells apart what two processes write at the same time.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    number: int = Field(ge=1)
    version: int
    instead_of: int | None
    kind: Literal["promotion", "rollback"]
    run: str = ""
    at: datetime
    done: bool = False
    claim: str

    @property
    def tag(self) -> str:
        """Name of the tag that holds it."""
        return f"{_PREFIX}{self.number:06d}.{self.claim}"


class Champions:
    """The champions of one registered model, one after the other.

    Parameters
    ----------
    client
        Of MLflow.
    model
        Name of the registered model.
    lock
        File that processes of this machine lock while they move the alias.
    alone
        Whether everybody who may move it locks this file, as beside a SQLite database: what others have begun and not
        ended is then known to be dead. Otherwise it is taken for dead after ten minutes.
    """

    def __init__(self, client: Any, model: str, lock: Path, *, alone: bool) -> None:
        self._client = client
        self._model = model
        self._lock = lock
        self._alone = alone

    def history(self) -> tuple[Succession, ...]:
        """Give all changes that came true, the first one first."""
        return _effective(*self._read())

    def standing(self) -> Standing:
        """Say which version is in use, and which ones were, whether they still are there or not."""
        entries, champion = self._read()
        return stand(_effective(entries, champion), champion)

    def exists(self, version: int) -> bool:
        """Say whether a version is there: anyone may delete one by hand."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.get_model_version(self._model, str(version))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return True

    def move(
        self,
        version: int,
        *,
        instead_of: int | None,
        kind: Literal["promotion", "rollback"],
        run: str = "",
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Let a version take the place of the champion.

        Parameters
        ----------
        version
            That is to be in use.
        instead_of
            The champion that was decided against; None if there was none.
        kind
            Whether it is a step forward or back.
        run
            MLflow run that decided.
        check
            Called before anything is changed; what it raises leaves everything as it is.

        Raises
        ------
        OutdatedError
            If the champion is another one by now, or somebody else is moving the alias; nothing has changed.
        DatasetError
            If the lock is not to be had, or cannot be made.
        """
        with self._locked():
            entries = self._settle()
            self._compare(instead_of)
            check()
            own = Succession(
                number=1 + max((entry.number for entry in entries), default=0),
                version=version,
                instead_of=instead_of,
                kind=kind,
                run=run,
                at=datetime.now(UTC),
                claim=uuid4().hex[:12],
            )
            self._write(own)
            try:
                self._unopposed(own)
                self._compare(instead_of)
            except OutdatedError:
                self._forget(own)
                raise
            self._client.set_registered_model_alias(self._model, CHAMPION, str(version))
            self._write(own.model_copy(update={"done": True}))
            self._mark_previous()
            self._compare(version)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = FileLock(self._lock, timeout=_PATIENCE)
        try:
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise DatasetError(
                f"another process has been changing the champion of {self._model} for {_PATIENCE:.0f} seconds; it "
                f"holds {self._lock}"
            ) from None
        except OSError as error:
            raise DatasetError(
                f"the champion of {self._model} stays: the lock file {self._lock} cannot be made "
                f"({error.strerror or error}): its folder must be writable"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _read(self) -> tuple[list[Succession], int | None]:
        """Read all entries, in their order, and the champion."""
        model = self._client.get_registered_model(self._model)
        champion = model.aliases.get(CHAMPION)
        return _entries(model.tags), None if champion is None else int(champion)

    def _settle(self) -> list[Succession]:
        """Find out what became of what dead processes had begun; raises OutdatedError if one may be alive."""
        entries, champion = self._read()
        kept = []
        for entry in entries:
            if entry.done:
                kept.append(entry)
            elif not self._alone and datetime.now(UTC) - entry.at < _STALE:
                raise OutdatedError(
                    f"another process is about to make version {entry.version} the champion of {self._model}, since "
                    f"{entry.at:%H:%M:%S} UTC: try again later"
                )
            elif entry.version == champion and entry == entries[-1]:
                logger.warning("%s: version %d became champion in a run that broke off", self._model, entry.version)
                kept.append(entry.model_copy(update={"done": True}))
                self._write(kept[-1])
                self._mark_previous()
            else:
                logger.warning("%s: version %d did not become champion: a run broke off", self._model, entry.version)
                self._forget(entry)
        return kept

    def _compare(self, expected: int | None) -> None:
        _, champion = self._read()
        if champion != expected:
            what = "there was no champion" if expected is None else f"version {expected} was the champion"
            now = "there is none now" if champion is None else f"version {champion} has become it since"
            raise OutdatedError(
                f"when versions of {self._model} were compared {what}, and {now}: run it again, to compare with that"
            )

    def _unopposed(self, own: Succession) -> None:
        for entry in self._read()[0]:
            if entry.claim != own.claim and (not entry.done or entry.number >= own.number):
                raise OutdatedError(
                    f"another process wants to make version {entry.version} the champion of {self._model} at the same "
                    "time; the champion stays: run it again"
                )

    def _write(self, entry: Succession) -> None:
        self._client.set_registered_model_tag(self._model, entry.tag, entry.model_dump_json())

    def _forget(self, entry: Succession) -> None:
        self._client.delete_registered_model_tag(self._model, entry.tag)

    def _mark_previous(self) -> None:
        previous = next(filter(self.exists, self.standing().earlier), None)
        if previous is not None:
            self._client.set_registered_model_alias(self._model, PREVIOUS, str(previous))
        else:
            self._client.delete_registered_model_alias(self._model, PREVIOUS)


def stand(history: Sequence[Succession], champion: int | None) -> Standing:
    """Follow the changes to where they lead.

    Parameters
    ----------
    history
        Changes that came true, the first one first.
    champion
        The version that the alias names, which somebody may have moved by hand.

    Returns
    -------
    Standing
        A step back takes away what was gone back from; what was moved by hand counts as a step forward.
    """
    current: int | None = None
    earlier: list[int] = []
    rolled_back: set[int] = set()

    def forward(version: int | None) -> None:
        nonlocal current
        if version is not None and version != current:
            if current is not None:
                earlier.append(current)
            current = version

    for entry in history:
        forward(entry.instead_of)
        if entry.kind == "rollback" and entry.version in earlier:
            while earlier.pop() != entry.version:
                pass
            rolled_back |= {entry.instead_of} if entry.instead_of is not None else set()
            current = entry.version
        else:
            forward(entry.version)
        rolled_back.discard(entry.version)
    forward(champion)
    return Standing(champion, tuple(reversed(earlier)), frozenset(rolled_back))


def _entries(tags: Mapping[str, str]) -> list[Succession]:
    found = []
    for name, text in tags.items():
        if name.startswith(_PREFIX):
            try:
                found.append(Succession.model_validate_json(text))
            except ValidationError as error:
                raise DatasetError(f"the tag {name} of the registered model holds no change of champion") from error
    return sorted(found, key=lambda entry: (entry.number, entry.at))


def _effective(entries: Sequence[Succession], champion: int | None) -> tuple[Succession, ...]:
    """Leave out what did not come true: of what was begun last the alias tells."""
    return tuple(entry for entry in entries if entry.done or (entry == entries[-1] and entry.version == champion))
