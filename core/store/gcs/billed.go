package gcs

import "sync/atomic"

// Billed counts the requests that a store and its views sent to the service, by how they are billed. It includes
// retries, requests of failed operations, and abandoned requests, which the service carries out all the same. Source:
// cloud.google.com/storage/pricing, read November 2026: class A is put, copy and list, class B is get and stat; a
// deletion is free, and so is a request that is answered with an error.
type Billed struct {
	ClassA, ClassB, Delete int64
	Free                   int64 // answered with an error
}

// Requests returns the number of all requests.
func (b Billed) Requests() int64 { return b.ClassA + b.ClassB + b.Delete + b.Free }

type counts struct{ classA, classB, deletes, free atomic.Int64 }

// count notes a request. refused: the service answered with an error.
func (c *counts) count(k kind, refused bool) {
	switch {
	case refused:
		c.free.Add(1)
	case k == kindRead:
		c.classB.Add(1)
	case k == kindDelete:
		c.deletes.Add(1)
	default:
		c.classA.Add(1)
	}
}

// Billed returns the counts so far.
func (s *Store) Billed() Billed {
	c := &s.clients.counts
	return Billed{ClassA: c.classA.Load(), ClassB: c.classB.Load(), Delete: c.deletes.Load(), Free: c.free.Load()}
}
