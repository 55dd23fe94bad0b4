package bench

import "blobpglite/runner/cloudrun"

// Cloud is Cloud Run as the target of a run: verbs of the Cloud Run emulator use its service instead.
type Cloud struct {
	Service   *cloudrun.Service
	revisions int // so far; their names are unique in the service
}

// NextRevision returns a number that no revision has had yet.
func (c *Cloud) NextRevision() int {
	c.revisions++
	return c.revisions
}
