package engine

import "sync"

// signal wakes all waiting goroutines when something has changed, so that they look again. The zero value is ready. To miss no change, call
// next before looking:
//
//	for next := s.next(); !condition(); next = s.next() {
//		select {
//		case <-next:
//		case <-ctx.Done():
//			return ctx.Err()
//		}
//	}
type signal struct {
	mu      sync.Mutex
	changed chan struct{} // nil: nothing waits
}

// next returns a channel that the next tell closes.
func (s *signal) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// tell wakes all waiters.
func (s *signal) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}
