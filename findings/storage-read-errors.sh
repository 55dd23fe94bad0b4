#!/usr/bin/env bash
# cloud.google.com/go/storage over HTTP: the error of a denied read of an object is not parsed, that of other calls is.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'EOF'
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"

	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
)

const denial = `{"error":{"code":403,"message":"no access","errors":[{"domain":"global","reason":"forbidden","message":"no access"}]}}`

func show(call string, err error) (parsed int) {
	var e *googleapi.Error
	if !errors.As(err, &e) || e.Code != http.StatusForbidden {
		fmt.Printf("CHANGED: %s: %v is no googleapi.Error of code 403\n", call, err)
		os.Exit(1)
	}
	fmt.Printf("seen:     %-17s Code %d, Message %q, Errors %v, Body of %d bytes\n", call, e.Code, e.Message, e.Errors, len(e.Body))
	return len(e.Errors)
}

func main() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, denial)
	}))
	defer server.Close()
	ctx := context.Background()
	client, err := storage.NewClient(ctx, storage.WithJSONReads(), option.WithoutAuthentication(), option.WithEndpoint(server.URL+"/storage/v1/"))
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	object := client.Bucket("bucket").Object("object")
	_, attrs := object.Attrs(ctx)
	_, read := object.NewRangeReader(ctx, 0, -1)
	if a, d, r := show("Attrs:", attrs), show("Delete:", object.Delete(ctx)), show("NewRangeReader:", read); a != 1 || d != 1 || r != 0 {
		fmt.Println("CHANGED: not one entry in Errors for Attrs and Delete, and none for NewRangeReader")
		os.Exit(1)
	}
}
EOF
version=v1.70.0
{ go mod init finding && go get "cloud.google.com/go/storage@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  cloud.google.com/go/storage $version (JSON reads), $(go env GOVERSION)"
echo "expected: each call that is answered 403 with the same JSON gives a googleapi.Error with Message and Errors filled"
GOFLAGS=-mod=mod go run .
echo "as stated: whoever looks for the reason of a denied read in Errors finds none; it is only in Body"
