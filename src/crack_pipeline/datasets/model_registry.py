"""The registered models of MLflow: what is compared, and which version is in use."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from crack_pipeline.datasets.champions import Champions, OutdatedError
from crack_pipeline.datasets.safetensors import SafetensorsDataset
from crack_pipeline.evaluation.promotion import Decision, Rollback, evidence_numbers
from crack_pipeline.models.registered import CHAMPION, Contenders, Newest, Registered, Standing, parse
from crack_pipeline.models.weights import Weights

logger = logging.getLogger(__name__)

WEIGHTS = "artifacts/weights.safetensors"
"""Where a version keeps its weights."""

PHOTOGRAPHS = "retraining.photographs"
"""Tag of a run: a hash of the photographs that there were when its training began."""

_LONGEST = 2000
_DECIDED = ("promoted", "kept", "rolled back")


class ModelRegistry:
    """Registered models by name, in the registry that MLflow is set to.

    Parameters
    ----------
    locks
        Folder for lock files, where the registry is not a SQLite database, beside which they lie otherwise.
    """

    def __init__(self, locks: Path) -> None:
        self._locks = locks

    def contenders(self, model: str, version: int | None = None) -> Contenders:
        """Load the version that wants to be used and the one that is.

        Parameters
        ----------
        model
            Name of the registered model.
        version
            Of the challenger; None for the newest one.

        Raises
        ------
        DatasetError
            If there is no such model or version, or its weights cannot be read.
        """
        client = _client()
        standing = self._champions(model).standing()
        if version is None:
            newest = client.search_model_versions(f"name='{model}'", 1, ["version_number DESC"])
            if not newest:
                raise DatasetError(f"no version of {model} is registered: {_train(model)}")
            challenger = int(newest[0].version)
        else:
            challenger = version
        champion = None if standing.champion is None else _champion(model, standing.champion)
        is_champion = champion is not None and champion.version == challenger
        return Contenders(
            model,
            champion if champion and is_champion else Registered(challenger, read(model, challenger)),
            champion,
            version is not None,
            challenger in standing.rolled_back,
        )

    def find(self, address: str) -> Registered:
        """Load what an address names, such as ``models:/segmentation@champion`` or ``models:/segmentation/3``.

        Raises
        ------
        ValueError
            If it is no such address.
        DatasetError
            If there is no such model, alias or version, its weights cannot be read, or the registry cannot be asked.
        """
        from mlflow.exceptions import MlflowException

        client = _client()
        model, version, alias = parse(address)
        aliases = _registered(client, model).aliases
        if alias is not None:
            if alias not in aliases:
                raise DatasetError(f"no version of {model} has the alias {alias}: {_name(model, alias)}")
            version = int(aliases[alias])
        assert version is not None
        try:
            client.get_model_version(model, str(version))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise _silent(error) from error
            newest = client.search_model_versions(f"name='{model}'", 1, ["version_number DESC"])
            there = f"the newest is {newest[0].version}" if newest else f"there is none; {_train(model)}"
            raise DatasetError(f"{model} has no version {version}: {there}") from None
        return Registered(version, read(model, version))

    def standing(self, model: str) -> Standing:
        """Say which version is in use, and which of those that were still are there.

        Raises
        ------
        DatasetError
            If there is no such model.
        """
        champions = self._champions(model)
        found = champions.standing()
        there = {version for version in set(found.earlier) if champions.exists(version)}
        return found._replace(earlier=tuple(version for version in found.earlier if version in there))

    def newest(self, model: str) -> Newest | None:
        """Describe the newest version; None if there is none, DatasetError if the registry cannot be asked."""
        from mlflow.exceptions import MlflowException

        client = _client()
        try:
            found = client.search_model_versions(f"name='{model}'", 1, ["version_number DESC"])
            if not found:
                return None
            version, photographs = found[0], _photographs(client, found[0].run_id)
        except MlflowException as error:
            raise _silent(error) from error
        number, standing = int(version.version), self._champions(model).standing()
        was_champion = number in {standing.champion, *standing.earlier, *standing.rolled_back}
        decided = version.tags.get("promotion.decision") in _DECIDED or was_champion
        return Newest(number, decided, photographs, standing.champion is None)

    def decide(self, decision: Decision) -> None:
        """Tag a version with what was decided, and let it become the champion if it is to be promoted.

        Where nothing was measured, the tags of when something was stay as they are.

        Raises
        ------
        DatasetError
            If the champion is another one by now, or the version is not what was measured; the champion stays.
        """
        if not decision.evidence.promoted and not decision.evidence.rows:
            return
        client, run = _client(), _run()
        tags = {
            "reason": decision.evidence.reason,
            "run": run,
            "champion": str(decision.champion or ""),
            "photographs": f"{decision.evidence.photographs} {decision.role} {decision.photographs}".strip(),
        }
        tags |= {name: f"{value:.6g}" for name, value in evidence_numbers(decision.evidence).items()}

        def tag(name: str, value: str) -> None:
            client.set_model_version_tag(
                decision.model, str(decision.challenger), f"promotion.{name}", value[:_LONGEST]
            )

        def conclude(what: str) -> None:
            tag("decision", what)
            if run:  # its files say what was decided; this says what came of it
                client.set_tag(run, "promotion.decision", what)

        def check() -> None:
            if read(decision.model, decision.challenger).whole_fingerprint() != decision.fingerprint:
                raise DatasetError(
                    f"version {decision.challenger} of {decision.model} holds other weights than those that were "
                    "measured, or another threshold or preprocessing: the champion stays"
                )

        tag("decision", "begun")
        for name, value in tags.items():
            tag(name, value)
        if not decision.evidence.promoted:
            conclude("kept")
            return
        champions = self._champions(decision.model)
        try:
            champions.move(decision.challenger, instead_of=decision.champion, kind="promotion", run=run, check=check)
        except OutdatedError as error:
            if run:
                client.set_tag(run, "promotion.decision", "outdated")
            if champions.standing().champion == decision.challenger:  # another run has promoted the same version
                tag("decision", "promoted")
                tag("run", next((e.run for e in reversed(champions.history()) if e.version == decision.challenger), ""))
            else:
                tag("decision", "outdated")
                tag("reason", str(error))
            raise
        conclude("promoted")

    def go_back(self, rollback: Rollback) -> None:
        """Let an earlier version become the champion again; DatasetError if it cannot be read, or nothing as it was."""
        run = _run()
        self._champions(rollback.model).move(
            rollback.version,
            instead_of=rollback.champion,
            kind="rollback",
            run=run,
            check=lambda: _require(rollback.model, rollback.version),
        )
        client = _client()
        client.set_model_version_tag(rollback.model, str(rollback.champion), "promotion.decision", "rolled back")
        client.set_model_version_tag(rollback.model, str(rollback.champion), "promotion.run", run)

    def _champions(self, model: str) -> Champions:
        client = _client()
        _registered(client, model)
        database = _sqlite()
        lock = database.with_name(f"{database.name}.{model}.lock") if database else self._locks / f"{model}.lock"
        return Champions(client, model, lock, alone=database is not None)


class ModelRegistryDataset(AbstractDataset[Decision | Rollback, ModelRegistry]):
    """Gives the registered models; what is saved is a decision about one, which is carried out.

    A promotion or a way back happens as a whole or not at all, and only if the champion still is the version that was
    decided against: see :mod:`crack_pipeline.datasets.champions`.

    Parameters
    ----------
    filepath
        Folder for lock files, used where the registry is a server: they hold apart the processes of this machine.
    metadata
        For other tools; not used.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._locks = Path(filepath)
        self.metadata = metadata

    def load(self) -> ModelRegistry:
        """Give them; the registry is not asked before they are."""
        return ModelRegistry(self._locks)

    def save(self, data: Decision | Rollback) -> None:
        """Carry out a decision; DatasetError if somebody else was quicker, which leaves the champion as it is."""
        _carry_out(self.load(), data)

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._locks)}


class CarriedOutDataset(AbstractDataset[Decision | Iterable[Decision], Decision | None]):
    """Carries decisions out, as :class:`ModelRegistryDataset` does, and gives what came of them.

    Of several decisions, each made when it is asked for, the first is carried out that no other process has outrun.
    That all were outrun is no error here: what is loaded says so.

    Parameters
    ----------
    filepath
        Folder for lock files, as for :class:`ModelRegistryDataset`.
    metadata
        For other tools; not used.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._locks = Path(filepath)
        self._last: Decision | None = None
        self.metadata = metadata

    def load(self) -> Decision | None:
        """Give the last decision of this run, with its outcome; None where there was none to be carried out."""
        return self._last

    def save(self, data: Decision | Iterable[Decision]) -> None:
        """Carry out a decision, or the first of several that is not outrun; DatasetError where the registry fails."""
        registry, self._last = ModelRegistry(self._locks), None
        try:
            for decision in [data] if isinstance(data, Decision) else data:
                self._last = _outcome(registry, decision)
                if self._last.outcome != "outdated":
                    return
        except ValueError as error:  # of what decides; it is made while it is saved
            raise DatasetError(str(error)) from error

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._locks)}


def _outcome(registry: ModelRegistry, decision: Decision) -> Decision:
    try:
        _carry_out(registry, decision)
    except OutdatedError as error:
        logger.warning("%s", error)
        return decision.outdated(str(error))
    return decision.carried_out()


def _carry_out(registry: ModelRegistry, data: Decision | Rollback) -> None:
    try:
        if isinstance(data, Decision):
            registry.decide(data)
        else:
            registry.go_back(data)
    except DatasetError:
        raise
    except Exception as error:  # a registry behind a network raises anything
        raise DatasetError(
            f"the model registry failed while it was told about {data.model}: {_first_line(error)}. The champion "
            "is whole, the one from before or the new one: run it again once that is mended"
        ) from error


def read(model: str, version: int) -> Weights:
    """Read the weights of one version of a registered model.

    Raises
    ------
    DatasetError
        If there is no such version, or what it holds is not what a training of this project writes.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # of a single file
    with TemporaryDirectory() as folder:
        try:
            path = mlflow.artifacts.download_artifacts(f"models:/{model}/{version}/{WEIGHTS}", dst_path=folder)
        except (MlflowException, OSError) as error:
            if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST" and "Model Version" in str(error):
                raise DatasetError(f"there is no version {version} of {model}: {_listed(model)}") from None
            text = " ".join(str(error).split())
            raise DatasetError(f"version {version} of {model} holds no {WEIGHTS} that can be read: {text}") from error
        return SafetensorsDataset(filepath=path).load()


def _champion(model: str, version: int) -> Registered:
    try:
        return Registered(version, read(model, version))
    except DatasetError as error:
        raise DatasetError(
            f"there is nothing to compare with, since the champion cannot be read: {error}. Go back to an earlier one, "
            f"with kedro run --pipeline rollback --params promotion.model={model}, or begin anew without one: delete "
            "the alias champion"
        ) from error


def _registered(client: Any, model: str) -> Any:
    """Ask for a registered model; DatasetError if there is none, or the registry does not answer."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise _silent(error) from error
        raise DatasetError(f"no model named {model} is registered: {_train(model)}") from None


def _photographs(client: Any, run: str | None) -> str | None:
    """Read what a run was tagged with; None where it does not say so, or somebody has deleted it for good."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run).data.tags.get(PHOTOGRAPHS) if run else None
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _silent(error: Any) -> DatasetError:
    return DatasetError(f"the model registry cannot be asked: {' '.join(str(error.message).split())}")


def _name(model: str, alias: str) -> str:
    if alias == CHAMPION:
        return f"promote one first, with kedro run --pipeline promotion --params promotion.model={model}"
    return f"name a version, with models:/{model}/<version>"


def _require(model: str, version: int) -> None:
    read(model, version)


def _listed(model: str) -> str:
    found = _client().search_model_versions(f"name='{model}'", 20, ["version_number DESC"])
    return "there is none" if not found else "there are " + ", ".join(str(one.version) for one in found)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _client() -> Any:
    import mlflow

    return mlflow.MlflowClient()


def _run() -> str:
    import mlflow

    run = mlflow.active_run()
    return run.info.run_id if run else ""


def _sqlite() -> Path | None:
    """Give the file of the registry where it is a SQLite database."""
    import mlflow
    from sqlalchemy.engine import make_url

    uri = mlflow.get_registry_uri()
    if not uri.startswith("sqlite:"):
        return None
    return Path(make_url(uri).database or "").absolute()


def _train(model: str) -> str:
    return f"train one first, with kedro run --pipeline {model}"
