#!/usr/bin/env bash
# fake-gcs-server: an update of metadata sets the metageneration to 0, and each later one leaves it there.
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

func bucket(names ...string) *storage.BucketHandle {
	server, err := fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true})
	check(err)
	server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: "bucket"})
	bucket := server.Client().Bucket("bucket")
	for _, name := range names {
		w := bucket.Object(name).NewWriter(context.Background())
		_, err := w.Write([]byte("x"))
		check(err)
		check(w.Close())
	}
	return bucket
}

func main() {
	ctx := context.Background()
	object := bucket("name").Object("name")
	attrs, err := object.Attrs(ctx)
	check(err)
	seen := []int64{attrs.Metageneration}
	for _, value := range []string{"first", "second"} {
		attrs, err = object.Update(ctx, storage.ObjectAttrsToUpdate{Metadata: map[string]string{"key": value}})
		check(err)
		seen = append(seen, attrs.Metageneration)
	}
	fmt.Printf("seen:     %v after creation and two updates\n", seen)
	if fmt.Sprint(seen) != "[1 0 0]" {
		fmt.Println("CHANGED: not [1 0 0]")
		os.Exit(1)
	}
}
EOT
version=v1.56.1
{ go mod init finding && go get "github.com/fsouza/fake-gcs-server/fakestorage@$version" cloud.google.com/go/storage@v1.70.0; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/fsouza/fake-gcs-server $version, $(go env GOVERSION)"
echo "expected: 1, 2, 3: the documentation of Cloud Storage says that it grows with each update of metadata"
GOFLAGS=-mod=mod go run .
echo "as stated: a compare-and-swap of metadata cannot be tried: every state looks alike"
