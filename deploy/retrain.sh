#!/bin/sh
# Retrain one model. This is what cron, systemd, Airflow and the container call, so that they all do the same:
#
#   retrain.sh segmentation [options of kedro run, such as --env server]
#
# Settings are lines NAME=value in /etc/crack-pipeline/common.env and /etc/crack-pipeline/<model>.env (see
# settings.env). Ends as `kedro run` ends, or with 75 while the same model is being retrained already.
set -eu

model=${1:?"name a model, such as: retrain.sh segmentation"}
shift
project=$(cd "$(dirname "$0")/.." && pwd -P)
settings=${CRACK_PIPELINE_SETTINGS:-/etc/crack-pipeline}

set -a
for file in "$settings/common.env" "$settings/$model.env"; do
  # shellcheck source=/dev/null
  if [ -r "$file" ]; then . "$file"; fi
done
set +a

# What calls may run in another Python, and must not be found before this one's packages.
unset PYTHONPATH PYTHONHOME
PATH="${CRACK_PIPELINE_VENV:-$project/.venv}/bin:$PATH"
export PATH
# Git tells the commit of a folder that belongs to somebody else only where it is called safe.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0="$project"
cd "$project"

mkdir -p data/06_models/locks
exec 9>"data/06_models/locks/retraining-$model.lock"
if ! flock --nonblock 9; then
  echo "$(date '+%F %T') $model is being retrained already; nothing is done this time" >&2
  exit 75
fi

# The retraining of the detector has the short name.
if [ "$model" = anomaly ]; then pipeline=retraining; else pipeline=retraining_$model; fi
pipeline=${RETRAINING_PIPELINE:-$pipeline}
if [ -n "${RETRAINING_PARAMS:-}" ]; then set -- --params "$RETRAINING_PARAMS" "$@"; fi

echo "$(date '+%F %T') retraining $model: kedro run --pipeline $pipeline $*"
# Without a process in between, a signal reaches Kedro, and the lock ends with it.
exec kedro run --pipeline "$pipeline" "$@"
