#!/usr/bin/env bash
# fake-gcs-server: preconditions hold for uploads, and are ignored by deletes, reads and composes.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'EOT'
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"cloud.google.com/go/storage"
	"github.com/fsouza/fake-gcs-server/fakestorage"
	"google.golang.org/api/googleapi"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

// say tells how a call ended, in a word.
func say(err error) string {
	var e *googleapi.Error
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &e) && e.Code == http.StatusPreconditionFailed:
		return "412"
	}
	return err.Error()
}

func main() {
	ctx := context.Background()
	server, err := fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true})
	check(err)
	defer server.Stop()
	server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: "bucket"})
	bucket := server.Client().Bucket("bucket")
	write := func(o *storage.ObjectHandle) error {
		w := o.NewWriter(ctx)
		_, err := io.WriteString(w, "body")
		return errors.Join(err, w.Close())
	}
	object := bucket.Object("object")
	check(write(object))
	attrs, err := object.Attrs(ctx)
	check(err)
	stale := object.If(storage.Conditions{GenerationMatch: attrs.Generation - 1})

	upload := say(write(stale))
	_, err = stale.NewReader(ctx)
	read := say(err)
	_, err = stale.ComposerFrom(object).Run(ctx)
	compose := say(err)
	attrs, err = object.Attrs(ctx)
	check(err)
	remove := say(object.If(storage.Conditions{GenerationMatch: attrs.Generation - 1}).Delete(ctx))
	_, err = object.Attrs(ctx)
	gone := errors.Is(err, storage.ErrObjectNotExist)
	fmt.Printf("seen:     upload: %s; read: %s; compose: %s; delete: %s, and the object is gone: %v\n", upload, read, compose, remove, gone)
	if upload != "412" || read != "done" || compose != "done" || remove != "done" || !gone {
		fmt.Println("CHANGED: not: 412 for the upload alone")
		os.Exit(1)
	}
}
EOT
version=v1.56.1
client=v1.70.0
{ go mod init finding && go get "github.com/fsouza/fake-gcs-server/fakestorage@$version" "cloud.google.com/go/storage@$client"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/fsouza/fake-gcs-server $version, cloud.google.com/go/storage $client, $(go env GOVERSION)"
echo "expected: an upload, a read, a compose and a delete with ifGenerationMatch of an older generation are all answered 412"
GOFLAGS=-mod=mod go run .
echo "as stated: a test of compare and swap passes, and one of compare and delete, or of a compose, proves nothing"
