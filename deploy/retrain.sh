#!/bin/sh
# Retrain one model. This is what cron, systemd, Airflow and the container call, so that they all do the same:
#
#   retrain.sh segmentation [options of kedro run, such as --env server]
#
# Settings are lines NAME=value in /etc/crack-pipeline/common.env and /etc/crack-pipeline/<model>.env (see
# settings.env). Ends as `kedro run` ends, or with 75 while the same model is being retrained already.
set -eu

usage="name a model, such as: retrain.sh segmentation"
case ${1:?"$usage"} in
  *[!a-z_]*)
    echo "'$1' is no model; $usage" >&2
    exit 2
    ;;
esac
model=$1
shift
# A link to this script may lie elsewhere, and CDPATH would let cd print where it goes.
project=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.." && pwd -P)
settings=${CRACK_PIPELINE_SETTINGS:-/etc/crack-pipeline}
case $settings in /*) ;; *) settings=$PWD/$settings ;; esac

set -a
for file in "$settings/common.env" "$settings/$model.env"; do
  if [ -e "$file" ] && [ ! -r "$file" ]; then
    echo "$file cannot be read by $(id -un): without it other photographs would be taken" >&2
    exit 1
  fi
  # shellcheck source=/dev/null
  if [ -e "$file" ]; then . "$file"; fi
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
held=0
flock --nonblock --conflict-exit-code 75 9 || held=$?
case $held in
  0) ;;
  75)
    echo "$(date '+%F %T') $model is being retrained already; nothing is done this time" >&2
    exit 75
    ;;
  *)
    echo "$(date '+%F %T') $project/data/06_models/locks cannot be locked (flock, of util-linux)" >&2
    exit 1
    ;;
esac

# The retraining of the detector has the short name.
if [ "$model" = anomaly ]; then pipeline=retraining; else pipeline=retraining_$model; fi
pipeline=${RETRAINING_PIPELINE:-$pipeline}
if [ -n "${RETRAINING_PARAMS:-}" ]; then set -- --params "$RETRAINING_PARAMS" "$@"; fi

echo "$(date '+%F %T') retraining $model: kedro run --pipeline $pipeline $*"
# Without a process in between, a signal reaches Kedro, and the lock ends with it.
exec kedro run --pipeline "$pipeline" "$@"
