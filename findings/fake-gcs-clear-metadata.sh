#!/usr/bin/env bash
# fake-gcs-server: an update that takes metadata away succeeds, and all of it stays.
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
	w.Metadata = map[string]string{"mark": "x"}
	w.CacheControl = "no-store"
	_, err = w.Write([]byte("body"))
	check(err)
	check(w.Close())
	_, err = object.Update(ctx, storage.ObjectAttrsToUpdate{Metadata: map[string]string{}, CacheControl: ""})
	check(err)
	attrs, err := object.Attrs(ctx)
	check(err)
	seen := fmt.Sprintf("metadata %v, Cache-Control %q", attrs.Metadata, attrs.CacheControl)
	fmt.Println("seen:     " + seen)
	if seen != `metadata map[mark:x], Cache-Control "no-store"` {
		fmt.Println("CHANGED: not both as before")
		os.Exit(1)
	}
}
EOT
version=v1.56.1
client=v1.70.0
{ go mod init finding && go get "github.com/fsouza/fake-gcs-server/fakestorage@$version" "cloud.google.com/go/storage@$client"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/fsouza/fake-gcs-server $version, cloud.google.com/go/storage $client, $(go env GOVERSION)"
echo "expected: no metadata and no Cache-Control: the client documents map[string]string{} for the first, which it sends as null, and an empty text clears the second"
GOFLAGS=-mod=mod go run .
echo "as stated: whoever tests that a mark, or a permission kept in metadata, was taken away is told that it was"
