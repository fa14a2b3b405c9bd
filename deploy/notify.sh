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
# shellcheck source=/dev/null
if [ -r "$settings/common.env" ]; then . "$settings/common.env"; fi
export TITLE

{
  echo "$TITLE ($(uname -n), $(date '+%F %T'))"
  cat
} | sh -c "${NOTIFY:-logger --tag crack-pipeline --priority user.err}"
