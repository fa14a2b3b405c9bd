#!/bin/sh
# Tell somebody that something has failed; what is known of it comes from standard input:
#
#   tail log | notify.sh "retraining segmentation failed"
#
# NOTIFY in /etc/crack-pipeline/common.env is a command that gets the message on its standard input and its first line in
# $TITLE, such as: mail -s "$TITLE" somebody@example.org. Without it, the message goes to the system's log.
set -eu

TITLE=${1:?"say in a few words what failed"}
settings=${CRACK_PIPELINE_SETTINGS:-/etc/crack-pipeline}
case $settings in /*) ;; *) settings=$PWD/$settings ;; esac
# What NOTIFY uses may stand there, too. It may be what is wrong, and somebody is to be told of that as well.
set +eu
# shellcheck source=/dev/null
if [ -r "$settings/common.env" ] && (. "$settings/common.env") >/dev/null 2>&1 </dev/null; then
  set -a
  . "$settings/common.env"
  set +a
fi
set -eu
export TITLE

{
  echo "$TITLE ($(uname -n), $(date '+%F %T'))"
  cat
} | sh -c "${NOTIFY:-logger --tag crack-pipeline --priority user.err}"
