package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store/gcs"
	"blobpglite/faults/gcsfront"
	"blobpglite/runner/bench"
	"blobpglite/runner/cloudrun"
	"blobpglite/runner/cloudrun/rehearsal"
	"blobpglite/runner/record"
	"blobpglite/runner/registry"
	"blobpglite/runner/scenario"
)

// cloudFlags holds the target, and the settings of Cloud Run.
type cloudFlags struct {
	target                                   string
	project, region, image, service, account string
	dry                                      bool
}

func (c *cloudFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&c.target, "target", "", "where the tested program runs: local, twin (the Cloud Run emulator) or cloudrun; empty: as the document says. Only documents with target twin can run on cloudrun instead, with the flags below")
	fs.StringVar(&c.project, "project", "", "for -target cloudrun: the Google Cloud `project`")
	fs.StringVar(&c.region, "region", "", "for -target cloudrun: the `region` of the service, which should be the bucket's")
	fs.StringVar(&c.image, "image", "", "for -target cloudrun: the `image` of pgserve, built from cloud/Dockerfile")
	fs.StringVar(&c.service, "service", "", "for -target cloudrun: a `name` that no service has; the run creates the service and deletes it at the end")
	fs.StringVar(&c.account, "account", "", "for -target cloudrun: the `address` of the service's account, which may use objects of the bucket (cloud/deploy.sh makes one)")
	fs.BoolVar(&c.dry, "dry", false, "for -target cloudrun: rehearse. Each gcloud command is printed, and answered by a stand-in on this machine; nothing is recorded")
}

// settings are the flags that Cloud Run needs, with their values.
func (c *cloudFlags) settings() [][2]string {
	return [][2]string{{"-project", c.project}, {"-region", c.region}, {"-image", c.image}, {"-service", c.service}, {"-account", c.account}}
}

// valid returns an error if flags contradict each other.
func (c *cloudFlags) valid(document, bucket string) error {
	var missing, given []string
	for _, s := range c.settings() {
		if s[1] == "" {
			missing = append(missing, s[0])
		} else {
			given = append(given, s[0])
		}
	}
	if bucket == "" {
		missing = append(missing, "-bucket")
	}
	if c.dry {
		given = append(given, "-dry")
	}
	targets := []string{scenario.TargetLocal, scenario.TargetEmulator, scenario.TargetCloudRun}
	switch {
	case c.target != "" && !slices.Contains(targets, c.target):
		return fmt.Errorf("-target %q: %s", c.target, strings.Join(targets, ", "))
	case c.target != "" && document == "":
		return errors.New("-target needs -scenario")
	case c.target != scenario.TargetCloudRun && len(given) > 0:
		return fmt.Errorf("%s: only for -target cloudrun", strings.Join(given, ", "))
	case c.target == scenario.TargetCloudRun && len(missing) > 0:
		return fmt.Errorf("-target cloudrun needs %s", strings.Join(missing, ", "))
	}
	return nil
}

// args returns the flags again, for the command that repeats a cell.
func (c *cloudFlags) args() []string {
	if c.target != scenario.TargetCloudRun {
		return nil
	}
	args := []string{"-target", c.target}
	for _, s := range c.settings() {
		args = append(args, s[0], s[1])
	}
	if c.dry {
		args = append(args, "-dry")
	}
	return args
}

// leftOut says why a cell cannot run on the target.
func (x *experiment) leftOut(c scenario.Cell) string {
	if x.plan.Target != scenario.TargetCloudRun {
		return ""
	}
	return registry.LeftOut(c)
}

// rehearsed removes from a verdict what was measured on a stand-in: an expectation that did not hold becomes a note. One that could not be
// judged stays, since it could not be judged on Cloud Run either.
func rehearsed(c scenario.Cell, verdict record.Verdict, checks []record.Check) (record.Verdict, []record.Check, []string) {
	var kept []record.Check
	var notes []string
	worst := record.Pass
	for _, k := range checks {
		isExpected := slices.ContainsFunc(c.Expect, func(e scenario.Expectation) bool { return e.Text == k.Name })
		if isExpected && k.Verdict == record.Fail {
			notes = append(notes, fmt.Sprintf("not judged in a rehearsal: %s: %s", k.Name, k.Detail))
			continue
		}
		kept = append(kept, k)
		worst = worst.Worse(k.Verdict)
	}
	if verdict == record.Fail {
		verdict = worst
	}
	return verdict, kept, notes
}

// Times for the clean-up; what is left afterwards is reported.
const (
	settle      = 15 * time.Second // instances have 10 s after they are told to go, and may write for that long
	cleaning    = 10 * time.Minute
	dryInterval = 20 * time.Millisecond
)

// openCloud prepares a run on Cloud Run, or its rehearsal. At the end, however the run has ended, it deletes the service, and then what
// that left in the bucket.
func (x *experiment) openCloud(ctx context.Context, out io.Writer) (func() error, error) {
	if !slices.ContainsFunc(x.plan.Cells, func(c scenario.Cell) bool { return registry.LeftOut(c) == "" }) {
		return func() error { return nil }, nil // nothing can be run there
	}
	x.store = &bench.Store{Kind: x.plan.Store, Prefix: "run-" + strings.ToLower(x.id)}
	c := x.f.cloud
	o := cloudrun.Options{
		Project: c.project, Region: c.region, Image: c.image, Service: c.service, Account: c.account, Token: rand.Text(), Log: x.show.Above(out),
	}
	endpoint, wait, standIn := "", settle, func() error { return nil }
	if c.dry {
		var err error
		if endpoint, standIn, err = x.rehearse(ctx, &o); err != nil {
			return nil, err
		}
		wait = 0
	}
	service, err := cloudrun.New(o)
	if err != nil {
		return nil, errors.Join(err, standIn())
	}
	taken, err := service.Exists(ctx)
	if err == nil && taken {
		err = usageError{fmt.Errorf("-service %s: this service already exists, and the run creates and deletes its own: choose another name", c.service)}
	}
	if err != nil {
		return nil, errors.Join(err, standIn())
	}
	emptyBucket, err := x.openBucket(ctx, endpoint)
	if err != nil {
		return nil, errors.Join(err, standIn())
	}
	x.cloud = &bench.Cloud{Service: service}
	return func() error {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleaning)
		defer cancel()
		x.show.Line("cleaning up: the service %s, and gs://%s/%s", c.service, x.store.Bucket, x.store.Prefix)
		err := errors.Join(service.Delete(clean), clock.System().Sleep(clean, wait), emptyBucket())
		if err == nil {
			fmt.Fprintf(out, "\nCleaned up: there is no service %s, and nothing below gs://%s/%s.\n", c.service, x.store.Bucket, x.store.Prefix)
		}
		return errors.Join(err, standIn())
	}, nil
}

// rehearse replaces gcloud by a stand-in and the bucket by an emulator.
func (x *experiment) rehearse(ctx context.Context, o *cloudrun.Options) (endpoint string, end func() error, err error) {
	bucket, _, err := gcs.ParseURL(x.f.bucket)
	if err != nil {
		return "", nil, usageError{err}
	}
	front, err := gcsfront.New(gcsfront.Options{Buckets: []string{bucket}, Seed: x.f.seed})
	if err != nil {
		return "", nil, err
	}
	endpoint, stop, err := front.Serve(context.WithoutCancel(ctx)) // needed for the clean-up
	if err != nil {
		return "", nil, err
	}
	folder, err := os.MkdirTemp("", "blobpglite-rehearsal-")
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("make a folder: %w", err)
	}
	x.show.Step("building pgserve", 0, 0)
	program, err := x.store.Program(ctx, folder, x.runtime.CacheDir())
	if err != nil {
		stop()
		return "", nil, errors.Join(err, os.RemoveAll(folder))
	}
	g := rehearsal.New(rehearsal.Options{Program: program, Endpoint: endpoint})
	o.Run, o.Pause = g.Run, dryInterval
	return endpoint, func() error {
		err := g.Close(context.WithoutCancel(ctx))
		stop()
		return errors.Join(err, os.RemoveAll(folder))
	}, nil
}
