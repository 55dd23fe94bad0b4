#!/usr/bin/env bash
# hdrhistogram-go: an interval without a tag gets the tag of one that was passed over before it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'EOT'
package main

import (
	"bytes"
	"fmt"
	"os"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

func main() {
	var log bytes.Buffer
	w := hdr.NewHistogramLogWriter(&log)
	for i, tag := range []string{"writes", "", ""} {
		h := hdr.New(1, 1000, 3)
		check(h.RecordValue(int64(i)))
		h.SetTag(tag)
		h.SetStartTimeMs(int64(1000 + i*1000))
		h.SetEndTimeMs(int64(2000 + i*1000))
		check(w.OutputIntervalHistogram(h))
	}
	tags := func(from float64) (tags []string) {
		r := hdr.NewHistogramLogReader(bytes.NewReader(log.Bytes()))
		for {
			h, err := r.NextIntervalHistogramWithRange(from, 100, true)
			check(err)
			if h == nil {
				return tags
			}
			tags = append(tags, h.Tag())
		}
	}
	seen := fmt.Sprintf("tags of all intervals: %q; of those from the second on: %q", tags(0), tags(2))
	fmt.Println("seen:     " + seen)
	if seen != `tags of all intervals: ["writes" "" ""]; of those from the second on: ["writes" ""]` {
		fmt.Println("CHANGED: not the tag of the first at the second")
		os.Exit(1)
	}
}
EOT
version=v1.4.0
{ go mod init finding && go get "github.com/HdrHistogram/hdrhistogram-go@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/HdrHistogram/hdrhistogram-go $version, $(go env GOVERSION)"
echo "expected: no tag: the tag of a line belongs to that line alone, and the same log read as a whole gives none for the second interval"
GOFLAGS=-mod=mod go run .
echo "as stated: who reads a range, and splits it by tag, counts values under a name that they never had"
