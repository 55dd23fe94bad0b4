package pglite

import "sync/atomic"

// resting reports whether a beat waits until it is aimed.
func resting(b beater) bool {
	if b, ok := b.(*beat); ok {
		return atomic.LoadUint32(&b.control.active) == beatSleeps
	}
	return tickerRests(b.(*tickBeat))
}
