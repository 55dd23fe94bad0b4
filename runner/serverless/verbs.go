// Package serverless is pgserve as a service that scales to zero: on the Cloud Run emulator of this machine (cloud/runemu), or on Cloud Run.
//
//	err := serverless.WithService(ctx, run, serverless.Options{}, func(s *serverless.Service) error {
//		return s.On(ctx, platform.Options{}, func() error {
//			answer, err := s.SQL(ctx, "SELECT 1") // a cold start, if nothing runs
//			...
//		})
//	})
//
// Read service.go and host.go first; coldstart.go, switch.go and frozen.go are the experiments. A verb that can be done on only one of the
// two says so (bench.NotOnCloudRun).
package serverless

import (
	"blobpglite/runner/bench"
)

// Verbs returns the verbs of this package, which documents may use.
func Verbs() []bench.Verb {
	return []bench.Verb{
		twinBootVerb(), twinTierVerb(), twinLargeVerb(), twinGrowthVerb(), twinBranchVerb(), twinSleepVerb(), twinCommitsVerb(), twinFrozenVerb(),
		twinFlushVerb(), twinSwitchVerb(), twinRivalVerb(), twinIdleVerb(), twinCostVerb(),
	}
}
