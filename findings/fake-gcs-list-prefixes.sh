#!/usr/bin/env bash
# fake-gcs-server: a listing with a delimiter that takes several pages gives the same prefixes on more than one of them.
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
	"strings"

	"cloud.google.com/go/storage"
	"github.com/fsouza/fake-gcs-server/fakestorage"
	"google.golang.org/api/iterator"
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
	pages := iterator.NewPager(bucket("a", "b", "c/1", "d", "e/1", "f").Objects(context.Background(), &storage.Query{Delimiter: "/"}), 2, "")
	var seen []string
	for {
		var page []*storage.ObjectAttrs
		next, err := pages.NextPage(&page)
		check(err)
		for _, attrs := range page {
			seen = append(seen, attrs.Prefix+attrs.Name)
		}
		if next == "" {
			break
		}
	}
	all := strings.Join(seen, " ")
	fmt.Printf("seen:     %s, of all pages\n", all)
	if strings.Count(all, "e/") != 2 {
		fmt.Println("CHANGED: e/ does not come twice")
		os.Exit(1)
	}
}
EOT
version=v1.56.1
{ go mod init finding && go get "github.com/fsouza/fake-gcs-server/fakestorage@$version" cloud.google.com/go/storage@v1.70.0; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/fsouza/fake-gcs-server $version, $(go env GOVERSION)"
echo "expected: a b c/ d e/ f in three pages: Cloud Storage counts a prefix like an object, and gives it once"
GOFLAGS=-mod=mod go run .
echo "as stated: whoever counts or deletes by the prefixes of all pages meets the same one again"
