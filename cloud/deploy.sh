#!/bin/sh
# Deploys pgserve to Cloud Run: one writer, with an account that can access one bucket and nothing else.
#   PROJECT=p REGION=europe-west1 IMAGE=... BUCKET=gs://name/prefix TOKEN_SECRET=pgserve-token cloud/deploy.sh service
# CPU=requests (default) bills only requests, and freezes the instance between them; CPU=always bills its whole life.
# REPLICA=1 deploys replicas that follow the database: up to MAX instances (10), with an account that can only read, below the prefix.
# With DRY_RUN=1, it only says what it would do. TAG=name deploys a revision without traffic, under a tag.
set -eu

if [ $# -ne 1 ]; then
	echo "usage: PROJECT=... REGION=... IMAGE=... BUCKET=gs://name/prefix TOKEN_SECRET=... $0 service" >&2
	exit 2
fi
service=$1
: "${PROJECT:?the project; set PROJECT}"
: "${REGION:?the region of the bucket; set REGION}"
: "${IMAGE:?the image of pgserve; set IMAGE}"
: "${BUCKET:?gs://name/prefix; set BUCKET}"
: "${TOKEN_SECRET:?the secret in Secret Manager that holds the bearer token; set TOKEN_SECRET}"
case $BUCKET in
gs://?*/?*) ;;
*) echo "$0: write the database's home as gs://name/prefix, not $BUCKET" >&2; exit 2 ;;
esac
case ${CPU:=requests} in
requests) throttling=--cpu-throttling ;;
always) throttling=--no-cpu-throttling ;;
*) echo "$0: CPU is requests or always, not $CPU" >&2; exit 2 ;;
esac

run() {
	echo "+ $*"
	if [ -z "${DRY_RUN:-}" ]; then
		"$@"
	fi
}

name=${BUCKET#gs://}
name=${name%%/*}
account="$service@$PROJECT.iam.gserviceaccount.com"
if [ -n "${DRY_RUN:-}" ] || ! gcloud iam service-accounts describe "$account" --project="$PROJECT" >/dev/null 2>&1; then
	run gcloud iam service-accounts create "$service" --project="$PROJECT" --display-name="pgserve $service"
fi
# Only objects of this bucket, and this secret. For a replica, only reads below the prefix.
if [ -n "${REPLICA:-}" ]; then
	prefix=${BUCKET#gs://"$name"/}
	prefix=${prefix%/}/
	run gcloud storage buckets add-iam-policy-binding "gs://$name" --member="serviceAccount:$account" --role=roles/storage.objectViewer \
		--condition="title=below-the-prefix,expression=resource.name.startsWith('projects/_/buckets/$name/objects/$prefix') || api.getAttribute('storage.googleapis.com/objectListPrefix', '').startsWith('$prefix')"
	instances=${MAX:-10} flags="PGSERVE_BUCKET=$BUCKET,PGSERVE_REPLICA=true,PGSERVE_POLL=${POLL:-1s},PGSERVE_MAX_LAG=${MAX_LAG:-0s}"
else
	run gcloud storage buckets add-iam-policy-binding "gs://$name" --member="serviceAccount:$account" --role=roles/storage.objectUser
	instances=1 flags="PGSERVE_BUCKET=$BUCKET,PGSERVE_DURABILITY=${DURABILITY:-strict}"
fi
run gcloud secrets add-iam-policy-binding "$TOKEN_SECRET" --project="$PROJECT" --member="serviceAccount:$account" \
	--role=roles/secretmanager.secretAccessor
set -- gcloud run deploy "$service" --project="$PROJECT" --region="$REGION" --image="$IMAGE" --service-account="$account" \
	--min=0 --max="$instances" --max-instances="$instances" --concurrency="${CONCURRENCY:-80}" --cpu="${VCPU:-1}" --memory="${MEMORY:-1Gi}" --timeout=300 \
	"$throttling" --cpu-boost --execution-environment="${EXECUTION:-gen2}" --no-allow-unauthenticated \
	--set-env-vars="$flags" --set-secrets="PGSERVE_TOKEN=$TOKEN_SECRET:latest" \
	--quiet
if [ -n "${TAG:-}" ]; then
	set -- "$@" --no-traffic --tag="$TAG"
fi
run "$@"
