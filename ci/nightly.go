package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"blobpglite/scenarios"
)

// nightly runs every scenario, against a bucket if one is given, appends to results/,
// and renders. A scenario that fails does not stop the others.
//
//	go run ./ci -nightly -bucket gs://name/prefix
//	go run ./ci -nightly -scenarios e0,e1 -profile ci       some of them, smaller
//	go run ./ci -nightly -bucket ... -project p -region r -image i -service s -account a    and e3, e4 on Cloud Run
//
// In full it takes about five and a half hours on two processors, so .github/workflows/nightly.yml runs it in parts. Scenarios that have not
// run for the longest time go first, so that with -limit the next night begins with what this one leaves out.
//
// Each scenario has a prefix of its own below the given one; the runner removes what
// it wrote there. Those of the Cloud Run emulator (e3, e4, and e5 with the soak) always use a bucket of its own. A run that finds a fault leaves the
// folder that replays it in results/failures, which git ignores and the nightly workflow uploads; the next scenario still runs.
type nightly struct {
	bucket  string        // gs://name/prefix; empty: the emulator
	profile string        // full, default or ci
	only    []string      // scenarios; empty: all
	results string        // the folder; empty: results/
	limit   time.Duration // no scenario starts after it; 0: no limit
	cloud   cloud
}

// cloud holds the settings of Cloud Run: all of them, or none.
type cloud struct{ project, region, image, service, account string }

func (c cloud) args() []string {
	return []string{"-project", c.project, "-region", c.region, "-image", c.image, "-service", c.service, "-account", c.account}
}

// onCloudRun returns the scenarios that also run on Cloud Run, in few rounds, because a revision's last instance may be kept for a
// quarter of an hour.
func onCloudRun() []string { return []string{"e3", "e4"} }

// steps returns the night's steps: build, each scenario, render.
func (n nightly) steps(c *checker) ([]step, error) {
	if n.bucket != "" && !strings.HasPrefix(n.bucket, "gs://") {
		return nil, fmt.Errorf("bucket %q: write gs://name/prefix", n.bucket)
	}
	all, err := scenarios.IDs()
	if err != nil {
		return nil, err
	}
	for _, name := range n.only {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("there is no scenario %q; there are %s", name, strings.Join(all, ", "))
		}
	}
	began := time.Now()
	n.order(c, all)
	runner := c.runner()
	steps := []step{{name: "build", run: command("go", "build", "-o", runner, "./runner")}}
	for _, id := range all {
		if len(n.only) > 0 && !slices.Contains(n.only, id) {
			continue
		}
		steps = append(steps, step{name: id, needs: []string{"build"}, run: func(ctx context.Context, c *checker) error {
			if n.limit > 0 && time.Since(began) > n.limit {
				return skipError(fmt.Sprintf("the time limit of %v has passed: the next night begins with it", n.limit))
			}
			return c.exec(ctx, nil, runner, n.args(id)...)
		}})
		if n.cloud != (cloud{}) && slices.Contains(onCloudRun(), id) {
			steps = append(steps, step{name: id + " on Cloud Run", needs: []string{"build"}, run: func(ctx context.Context, c *checker) error {
				return c.exec(ctx, nil, runner, n.cloudArgs(id)...)
			}})
		}
	}
	return append(steps, step{name: "render", run: func(ctx context.Context, c *checker) error {
		if n.bucket == "" {
			fmt.Fprintln(c.stdout, "left out: experiments on a real bucket; to run them, give -bucket gs://name/prefix")
		}
		if n.cloud == (cloud{}) {
			fmt.Fprintln(c.stdout, "left out: experiments on Cloud Run; to run them, give -project, -region, -image, -service and -account")
		}
		n.tellFailures(c, began)
		if n.results != "" {
			return nil // not the repository's
		}
		return c.exec(ctx, nil, "go", "run", "./reports")
	}}), nil
}

// tellFailures prints the folders that this night's failures have left.
func (n nightly) tellFailures(c *checker, began time.Time) {
	dir := filepath.Join(cmp.Or(n.results, filepath.Join(c.root, "results")), "failures")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // there were none
	}
	for _, e := range entries {
		folder := filepath.Join(dir, e.Name())
		if info, err := os.Stat(filepath.Join(folder, "replay.txt")); err == nil && !info.ModTime().Before(began) {
			fmt.Fprintf(c.stdout, "failed: %s has what is needed to replay it\n", folder)
		}
	}
}

// order puts first the scenario that has not run for the longest time, by the last line of its results.
func (n nightly) order(c *checker, ids []string) {
	last := map[string]string{}
	for _, id := range ids {
		body, err := os.ReadFile(filepath.Join(cmp.Or(n.results, filepath.Join(c.root, "results")), id+".jsonl"))
		if err != nil {
			continue // never
		}
		for line := range bytes.Lines(body) {
			var r struct {
				Started string `json:"started"`
			}
			if json.Unmarshal(line, &r) == nil {
				last[id] = max(last[id], r.Started) // RFC 3339, in UTC
			}
		}
	}
	slices.SortStableFunc(ids, func(a, b string) int { return strings.Compare(last[a], last[b]) })
}

// onTheEmulator returns the scenarios whose service runs on the Cloud Run emulator, over an emulated bucket: they do not use a real one, and their
// results must not name one.
func onTheEmulator() []string { return []string{"e3", "e4", "e5"} }

// args returns the runner's arguments for one scenario.
func (n nightly) args(id string) []string {
	args := []string{"-scenario", id, "-profile", n.profile}
	if n.bucket != "" && !slices.Contains(onTheEmulator(), id) {
		args = append(args, "-store", "gcs", "-bucket", strings.TrimSuffix(n.bucket, "/")+"/"+id)
	}
	if n.results != "" {
		args = append(args, "-results", n.results)
	}
	return args
}

// cloudArgs returns the runner's arguments for one scenario on Cloud Run.
func (n nightly) cloudArgs(id string) []string {
	args := append([]string{"-scenario", id, "-profile", "ci", "-target", "cloudrun"}, n.cloud.args()...)
	args = append(args, "-bucket", strings.TrimSuffix(n.bucket, "/")+"/"+id+"-cloudrun")
	if n.results != "" {
		args = append(args, "-results", n.results)
	}
	return args
}

// check rejects flags that contradict each other.
func (n nightly) check(asked, short bool) error {
	switch {
	case !asked && (n.bucket != "" || len(n.only) > 0 || n.results != "" || n.cloud != (cloud{})):
		return errors.New("-bucket, -scenarios, -results and the flags for Cloud Run need -nightly")
	case n.cloud != (cloud{}) && (slices.Contains(n.cloud.args(), "") || n.bucket == ""):
		return errors.New("a run on Cloud Run needs all of -project, -region, -image, -service, -account and -bucket")
	case n.limit < 0:
		return fmt.Errorf("-limit %v is negative", n.limit)
	case !asked && n.limit > 0:
		return errors.New("-limit needs -nightly")
	case asked && short:
		return errors.New("-nightly and -short exclude each other: use -profile ci")
	case !slices.Contains([]string{"full", "default", "ci"}, n.profile):
		return fmt.Errorf("-profile %q does not exist: choose full, default or ci", n.profile)
	}
	return nil
}

// splitList reads comma-separated names.
func splitList(text string) []string {
	var all []string
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name != "" {
			all = append(all, name)
		}
	}
	return all
}

// absolute makes a folder's name valid from the repository's root.
func absolute(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the folder of the results: %w", err)
	}
	return filepath.Abs(dir)
}
