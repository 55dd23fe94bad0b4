#!/bin/sh
# Deletes a database: every object below one prefix. It shows what it would delete, and asks. It refuses a bucket's root.
#   cloud/nuke-prefix.sh gs://name/prefix
set -eu

if [ $# -ne 1 ]; then
	echo "usage: $0 gs://name/prefix" >&2
	exit 2
fi
prefix=${1%/}
case $prefix in
*[*?[]*) echo "$0: $1 has a wildcard; name one prefix" >&2; exit 2 ;;
gs://?*/?*) ;;
*) echo "$0: $1 is not a prefix of a bucket; write gs://name/prefix" >&2; exit 2 ;;
esac

gcloud storage ls --recursive --long "$prefix/**"
printf 'Delete all of this? Write the prefix again: '
read -r answer
if [ "$answer" != "$prefix" ]; then
	echo "Nothing was deleted." >&2
	exit 1
fi
gcloud storage rm --recursive "$prefix/"
