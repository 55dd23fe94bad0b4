#!/usr/bin/env bash
# hdrhistogram-go: a percentile is taken from a rank that is rounded, so that fewer values than it says may lie at or below it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'EOT'
package main

import (
	"fmt"
	"os"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

func main() {
	at := func(n int64, percentile float64) int64 {
		h := hdr.New(1, 1000, 3)
		for i := int64(1); i <= n; i++ {
			if err := h.RecordValue(i); err != nil {
				fmt.Println(err)
				os.Exit(2)
			}
		}
		return h.ValueAtPercentile(percentile)
	}
	fmt.Println(at(3, 40), at(3, 67), at(160, 99), at(1000, 99))
}
EOT
cat >main.mjs <<'EOT'
import { build } from 'hdr-histogram-js'

const at = (n, percentile) => {
  const h = build({ lowestDiscernibleValue: 1, highestTrackableValue: 1000, numberOfSignificantValueDigits: 3 })
  for (let i = 1; i <= n; i++) {
    h.recordValue(i)
  }
  return h.getValueAtPercentile(percentile)
}
console.log(at(3, 40), at(3, 67), at(160, 99), at(1000, 99))
EOT
version=v1.4.0
other=3.0.1
{ go mod init finding && go get "github.com/HdrHistogram/hdrhistogram-go@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
{ npm init --yes && npm install --no-audit --no-fund "hdr-histogram-js@$other"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/HdrHistogram/hdrhistogram-go $version, $(go env GOVERSION); hdr-histogram-js $other, Node $(node --version)"
echo "expected: 2, 3, 159 and 990 for the percentiles 40 and 67 of 1..3, 99 of 1..160 and of 1..1000: the largest value that 60, 33 and 1 % are"
echo "          larger than or equivalent to, as both documentations say it; of 1..160 just 98.75 % are at most 158"
go=$(GOFLAGS=-mod=mod go run .)
js=$(node main.mjs)
echo "seen:     $go; the library in JavaScript: $js"
if [ "$go" != "1 2 158 990" ] || [ "$js" != "2 3 159 990" ]; then
	echo "CHANGED: not 1 2 158 990 and 2 3 159 990"
	exit 1
fi
echo "as stated: with some hundred values a p99 or a p99.9 is that of one value less, and two tools disagree about one histogram"
