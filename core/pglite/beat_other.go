//go:build !(linux && amd64)

package pglite

import "time"

// beat is a goroutine here, which Go's garbage collector holds up like any other (see tickBeat).
type beat = tickBeat

func newBeat(every time.Duration) (*beat, error) { return newTickBeat(every), nil }
