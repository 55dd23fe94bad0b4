//go:build !(linux && amd64)

package pglite

// resting reports whether a beat waits until it is aimed.
func resting(b beater) bool { return tickerRests(b.(*tickBeat)) }
