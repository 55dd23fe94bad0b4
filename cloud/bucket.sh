#!/bin/sh
# Creates a bucket for databases: one region, uniform access, no soft delete (it would bill every deleted record for seven
# days), no public access, and a rule that removes uploads that were never completed.
#   PROJECT=my-project cloud/bucket.sh gs://name region
# With DRY_RUN=1, it only says what it would do.
set -eu

if [ $# -ne 2 ]; then
	echo "usage: PROJECT=project $0 gs://name region" >&2
	exit 2
fi
bucket=$1
region=$2
case $bucket in
gs://*/*) echo "$0: $bucket names more than a bucket" >&2; exit 2 ;;
gs://?*) ;;
*) echo "$0: write the bucket as gs://name, not $bucket" >&2; exit 2 ;;
esac
: "${PROJECT:?the project that pays; set PROJECT}"

run() {
	echo "+ $*"
	if [ -z "${DRY_RUN:-}" ]; then
		"$@"
	fi
}

lifecycle=$(mktemp)
trap 'rm -f "$lifecycle"' EXIT INT TERM
echo '{"rule": [{"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 1}}]}' >"$lifecycle"
run gcloud storage buckets create "$bucket" --project="$PROJECT" --location="$region" --default-storage-class=STANDARD \
	--uniform-bucket-level-access --public-access-prevention --soft-delete-duration=0
run gcloud storage buckets update "$bucket" --lifecycle-file="$lifecycle"
