#!/usr/bin/env bash
# klauspost/compress: the limit of a decoder counts what stands in the buffer that DecodeAll appends to.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'EOT'
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/klauspost/compress/zstd"
)

func main() {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	frame := encoder.EncodeAll(make([]byte, 4096), nil)
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(4096))
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	first, empty := decoder.DecodeAll(frame, nil)
	_, behind := decoder.DecodeAll(frame, first)
	fmt.Printf("seen:     into an empty buffer: %d bytes, error %v; behind them: error %v\n", len(first), empty, behind)
	if empty != nil || len(first) != 4096 || !errors.Is(behind, zstd.ErrDecoderSizeExceeded) {
		fmt.Println("CHANGED: not 4096 bytes and then ErrDecoderSizeExceeded")
		os.Exit(1)
	}
}
EOT
version=v1.20.4
{ go mod init finding && go get "github.com/klauspost/compress/zstd@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/klauspost/compress $version, $(go env GOVERSION)"
echo "expected: the same frame decodes both times: WithDecoderMaxMemory is documented as the largest size of what is decoded"
GOFLAGS=-mod=mod go run .
echo "as stated: a loop that appends frame after frame to one buffer fails as soon as their sum passes the limit of one"
