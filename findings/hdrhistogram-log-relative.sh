#!/usr/bin/env bash
# hdrhistogram-go: a range of a log relative to its start finds nothing.
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

const start = 1_700_000_000 // seconds

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

func log() *bytes.Buffer {
	var log bytes.Buffer
	w := hdr.NewHistogramLogWriter(&log)
	check(w.OutputStartTime(start * 1000))
	for i := int64(1); i <= 3; i++ {
		h := hdr.New(1, 1000, 3)
		check(h.RecordValue(i))
		h.SetStartTimeMs((start + 10*(i-1)) * 1000)
		h.SetEndTimeMs((start + 10*i) * 1000)
		check(w.OutputIntervalHistogram(h))
	}
	return &log
}

func values(from, to float64, absolute bool) (found []int64) {
	r := hdr.NewHistogramLogReader(log())
	for {
		h, err := r.NextIntervalHistogramWithRange(from, to, absolute)
		check(err)
		if h == nil {
			return found
		}
		found = append(found, h.Max())
	}
}

func main() {
	seen := fmt.Sprintf("absolute, from 5 to 15 s behind the start: %v; relative, from 5 to 15: %v; from 0 to a year: %v",
		values(start+5, start+15, true), values(5, 15, false), values(0, 365*24*3600, false))
	fmt.Println("seen:     " + seen)
	if seen != "absolute, from 5 to 15 s behind the start: [2]; relative, from 5 to 15: []; from 0 to a year: []" {
		fmt.Println("CHANGED: not [2] for the absolute range alone")
		os.Exit(1)
	}
}
EOT
version=v1.4.0
{ go mod init finding && go get "github.com/HdrHistogram/hdrhistogram-go@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/HdrHistogram/hdrhistogram-go $version, $(go env GOVERSION)"
echo "expected: the interval that begins 10 s after the start, as in the Java library, whose format and reader this follows: there it subtracts the start"
GOFLAGS=-mod=mod go run .
echo "as stated: the start is added, not subtracted, so that a relative time lies decades ahead, and the reader ends as if the log were empty"
