#!/usr/bin/env bash
# fake-gcs-server: holds are accepted and dropped: what is held can be deleted.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'EOT'
package main

import (
	"context"
	"fmt"
	"os"

	"cloud.google.com/go/storage"
	"github.com/fsouza/fake-gcs-server/fakestorage"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

func main() {
	ctx := context.Background()
	server, err := fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true})
	check(err)
	defer server.Stop()
	server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: "bucket"})
	object := server.Client().Bucket("bucket").Object("object")
	w := object.NewWriter(ctx)
	w.TemporaryHold = true
	_, err = w.Write([]byte("body"))
	check(err)
	check(w.Close())
	written, err := object.Attrs(ctx)
	check(err)
	updated, err := object.Update(ctx, storage.ObjectAttrsToUpdate{EventBasedHold: true})
	check(err)
	seen := fmt.Sprintf("temporary hold after the upload: %v; event-based hold after the update: %v; delete: %v", written.TemporaryHold, updated.EventBasedHold, object.Delete(ctx))
	fmt.Println("seen:     " + seen)
	if seen != "temporary hold after the upload: false; event-based hold after the update: false; delete: <nil>" {
		fmt.Println("CHANGED: not dropped, and deleted")
		os.Exit(1)
	}
}
EOT
version=v1.56.1
client=v1.70.0
{ go mod init finding && go get "github.com/fsouza/fake-gcs-server/fakestorage@$version" "cloud.google.com/go/storage@$client"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/fsouza/fake-gcs-server $version, cloud.google.com/go/storage $client, $(go env GOVERSION)"
echo "expected: true, true and a refused delete (403), or an error for the upload: the server does not know holds"
GOFLAGS=-mod=mod go run .
echo "as stated: a clean-up that would stop at held objects in a bucket passes its test"
