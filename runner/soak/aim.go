package soak

import "context"

// Restores in the middle of a collection are not left to chance. A wake arms a second reader. The first deletion that the bucket then
// carries out, in this wake or in the gap after it, where an instance that ends may collect, starts the reader; the next wake waits for it.

// arm has a second reader begin when the next object is deleted, which a collection does.
func (s *soak) arm(ctx context.Context) {
	select { // of before
	case <-s.deletes:
	default:
	}
	waits, cancel := context.WithCancel(ctx)
	ended, begun := make(chan error, 1), make(chan struct{})
	go func() {
		select {
		case <-s.deletes:
			close(begun)
			ended <- s.readAimed(ctx)
		case <-waits.Done():
			ended <- nil
		}
	}()
	s.aimed = func() error {
		select {
		case <-begun: // it should finish
		default:
			cancel()
		}
		err := <-ended
		cancel()
		return err
	}
}

// readAimed reads while a collection deletes. No time is skipped during that: for the reader, it would be hours without an answer.
func (s *soak) readAimed(ctx context.Context) error {
	s.still.RLock()
	defer s.still.RUnlock()
	l, before := moment(s.chains), s.deleted.Load()
	if err := s.secondReader(context.WithoutCancel(ctx), &l); err != nil {
		return err
	}
	if s.deleted.Load() > before {
		s.inCollection.Add(1)
	}
	return nil
}

// hit waits for the reader that was armed last, if it has begun, and disarms it otherwise.
func (s *soak) hit() error {
	if s.aimed == nil {
		return nil
	}
	wait := s.aimed
	s.aimed = nil
	return wait()
}

// often are flags of every other revision: it takes layers a few writes apart, and collects after each.
func often(revision int) []string {
	if revision%2 == 0 {
		return nil
	}
	return []string{"-restore-budget", "40ms"}
}
