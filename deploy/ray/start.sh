#!/usr/bin/env bash
# Makes this machine part of a Ray cluster with token authentication; docs/ray.md says more.
#
#   deploy/ray/start.sh head                     on the first machine; makes the token, if there is none
#   deploy/ray/start.sh worker 10.0.0.1:6379     on every other one, with a copy of the token
#   deploy/ray/start.sh client 10.0.0.1:6379     where the command runs, if that machine is to do no work
#   ray stop                                     on each, at the end
#
# More options go to ray start: deploy/ray/start.sh worker 10.0.0.1:6379 --num-gpus=4
set -euo pipefail

usage() {
  sed -n 's/^#   //p' "$0" >&2
  exit 2
}

export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
token=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
kind=${1:-}
[ $# -gt 0 ] && shift

case $kind in
  head)
    if [ -z "${RAY_AUTH_TOKEN:-}" ] && [ ! -s "$token" ]; then
      mkdir -p "$(dirname "$token")"
      (umask 077 && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$token")
      echo "a new token is in $token: copy it to every machine, readable by its owner alone" >&2
    fi
    where=(--head --port=6379 --include-dashboard=false)
    ;;
  worker | client)
    [ $# -gt 0 ] || usage
    where=("--address=$1")
    shift
    if [ -z "${RAY_AUTH_TOKEN:-}" ] && [ ! -s "$token" ]; then
      echo "there is no token in $token: copy that of the head" >&2
      exit 1
    fi
    [ "$kind" = worker ] || where+=(--num-cpus=0 --num-gpus=0)
    ;;
  *) usage ;;
esac
exec ray start "${where[@]}" "$@"
