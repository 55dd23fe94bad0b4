package main

import (
	"slices"
	"time"

	"blobpglite/runner/bench"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
)

// judged judges a run, and makes its record.
func (x *experiment) judged(run *bench.Run, runErr error, began moment) (record.Record, error) {
	c := run.Cell
	metrics, err := run.Metrics.List()
	if err != nil {
		return record.Record{}, err
	}
	verdict, checks := run.Judge(runErr, metrics)
	hash, err := c.Hash(x.plan.Store, x.plan.Target, x.env.MachineClass())
	if err != nil {
		return record.Record{}, err
	}
	notes := slices.Clone(run.Notes)
	if x.f.cloud.dry {
		var more []string
		verdict, checks, more = rehearsed(c, verdict, checks)
		notes = append(notes, more...)
	}
	ops := x.ops().Sub(began.ops).Add(run.Ops)
	return record.Record{
		Schema: record.Schema, Run: x.id, Scenario: x.s.ID, Probe: c.Probe, Claim: c.Claim, Verdict: verdict,
		Profile: x.plan.Profile, Cell: hash, Seed: x.f.seed, Rounds: max(c.Rounds, run.Rounds), Replay: x.plan.Replay(c, x.f.seed, x.replayFlags()...),
		Commit: x.source.Commit, Dirty: x.source.Dirty, ScenarioSHA256: x.s.SHA256(), Params: c.Written(), Env: x.env,
		Checks: checks, Faults: notNil(run.Faults), Points: map[string]int64{}, Ops: ops, CostUSD: ops.CostUSD(),
		Metrics: metrics, Started: began.at.UTC(), WallMS: time.Since(began.at).Milliseconds(), Artifacts: notNil(run.Artifacts), Notes: append(notes, x.caveats()...),
	}, nil
}

// notNil is a list that JSON shows as one, empty or not.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// replayFlags are the flags that say where a cell was run.
func (x *experiment) replayFlags() (replay []string) {
	if x.f.store != "" {
		replay = append(replay, "-store", x.f.store)
	}
	if x.f.bucket != "" {
		replay = append(replay, "-bucket", x.f.bucket)
	}
	return append(replay, x.f.cloud.args()...)
}

// caveats are notes for every record of this command.
func (x *experiment) caveats() (notes []string) {
	if x.plan.Target == scenario.TargetCloudRun && !x.f.cloud.dry {
		notes = append(notes, "requests came from the machine of this record, over the network, to Cloud Run in "+x.env.Region)
	}
	if x.plan.Store == "gcs" && !x.f.cloud.dry {
		notes = append(notes, "store operations are not counted on a real bucket")
	}
	if x.source.Dirty {
		notes = append(notes, "unclean tree: "+x.source.Why)
	}
	return notes
}
