// Package cloudrun drives a service on Cloud Run with gcloud, for experiments that run there: deploy, switch revisions, tagged revisions,
// scale to zero, logs, clean-up.
//
//	s, err := cloudrun.New(cloudrun.Options{Project: "p", Region: "r", Image: "i", Service: "blob-e4", Account: "a", Token: "t"})
//	err = s.Deploy(ctx, cloudrun.Revision{Suffix: "r1", Bucket: "gs://b/prefix"})  // and all traffic to it
//	at, err := s.Addresses(ctx)                                                   // of the service, and of its tags
//	life, err := s.Sleep(ctx, "r1")                                               // no instance: the next request is cold
//	err = s.Delete(ctx)
//
// Each command line is written to Options.Log, with the token masked, before it is run. Options.Run takes gcloud's place: package rehearsal
// answers on this machine.
//
// Experiments learn about instances from pgserve's log (stderr), one JSON line per entry, as Cloud Logging keeps it. "ending" is SIGTERM,
// "ended: everything is durable" the end; a warning or error of the platform itself, such as an exceeded limit, is also an end. Logs arrive
// seconds late, so they are polled, and the times in them count.
//
// Cloud Run cannot do the following on request: freeze an instance at a given moment, crash it, or stop one of several. A service without
// requests is frozen by itself. With manual scaling to zero its instances are told to end, and so are, at some time, those of a revision
// that a new one has replaced.
package cloudrun

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"time"

	"al.essio.dev/pkg/shellescape"

	"blobpglite/core/clock"
)

// ErrMissing: gcloud is not installed, or an option is not set. The error names it.
var ErrMissing = errors.New("missing")

// Defaults of Options.
const (
	DefaultPause    = 5 * time.Second
	DefaultPatience = 20 * time.Minute // an idle instance is kept up to about 15: cloud/README.md
	DefaultVCPU     = "1"
	DefaultMemory   = "1Gi"
)

// Options of New. The first six are required.
type Options struct {
	Project, Region string
	Image           string // of pgserve; see cloud/Dockerfile
	Service         string // its name; it is created, and deleted again
	Account         string // the service account's e-mail address
	Token           string // bearer token of the service

	VCPU     string        // empty: DefaultVCPU
	Log      io.Writer     // each command line; nil: dropped
	Clock    clock.Clock   // nil: the system's
	Pause    time.Duration // between two looks at the logs; 0: DefaultPause
	Patience time.Duration // how long instances may take to end; 0: DefaultPatience

	// Run runs gcloud with these arguments and returns its output; nil: the installed one.
	Run func(ctx context.Context, args []string) ([]byte, error)
}

// Service is a service on Cloud Run. It is not safe for concurrent use.
type Service struct {
	o       Options
	began   time.Time
	said    string // the last command line
	made    bool   // there may be something to delete
	pinned  bool   // the traffic does not follow the latest revision
	retired map[string]bool
}

// New checks the options and returns the service, which it does not create. Error: ErrMissing.
func New(o Options) (*Service, error) {
	for _, required := range [][2]string{
		{"project", o.Project}, {"region", o.Region}, {"image", o.Image}, {"service", o.Service}, {"account", o.Account}, {"token", o.Token},
	} {
		if required[1] == "" {
			return nil, fmt.Errorf("drive Cloud Run: %s is %w", required[0], ErrMissing)
		}
	}
	if o.VCPU == "" {
		o.VCPU = DefaultVCPU
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Pause == 0 {
		o.Pause = DefaultPause
	}
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	s := &Service{o: o, began: o.Clock.Now(), retired: map[string]bool{}}
	if s.o.Run == nil {
		s.o.Run = installed
	}
	return s, nil
}

// installed runs the installed gcloud.
func installed(ctx context.Context, args []string) ([]byte, error) {
	path, err := exec.LookPath("gcloud")
	if err != nil {
		return nil, fmt.Errorf("drive Cloud Run: gcloud is %w: install the Google Cloud CLI", ErrMissing)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(errs.String()))
	}
	return out, nil
}

// gcloud logs a command, and runs it. A command that is run repeatedly is logged once.
func (s *Service) gcloud(ctx context.Context, args ...string) ([]byte, error) {
	words := []string{"+", "gcloud"}
	for _, a := range args {
		words = append(words, shellescape.Quote(s.masked(a)))
	}
	if line := strings.Join(words, " "); line != s.said {
		s.said = line
		fmt.Fprintln(s.o.Log, line)
	}
	out, err := s.o.Run(ctx, args)
	if err != nil {
		return nil, &commandError{strings.Join(args[:min(3, len(args))], " "), s.masked(err.Error()), err}
	}
	return out, nil
}

// commandError is a command line that failed; its text does not hold the token.
type commandError struct {
	command, text string
	err           error
}

func (e *commandError) Error() string { return "gcloud " + e.command + ": " + e.text }
func (e *commandError) Unwrap() error { return e.err }

func (s *Service) masked(text string) string { return strings.ReplaceAll(text, s.o.Token, "(token)") }

// at is a command about the service.
func (s *Service) at(command ...string) []string {
	return append(command, s.o.Service, "--project="+s.o.Project, "--region="+s.o.Region, "--quiet")
}

// Token is the bearer token that requests carry.
func (s *Service) Token() string { return s.o.Token }

// Exists says whether there is a service with this name. An experiment must create its own, and deletes it afterwards.
func (s *Service) Exists(ctx context.Context) (bool, error) {
	out, err := s.gcloud(ctx, "run", "services", "list", "--project="+s.o.Project, "--region="+s.o.Region, "--quiet",
		"--filter=metadata.name="+s.o.Service, "--format=json")
	if err != nil {
		return false, err
	}
	var all []json.RawMessage
	if err := json.Unmarshal(out, &all); err != nil {
		return false, fmt.Errorf("ask for %s: %w", s.o.Service, err)
	}
	return len(all) > 0, nil
}

// Revision is a revision to be deployed.
type Revision struct {
	Suffix string            // of its name, after the service's; lower case, unique in the service
	Bucket string            // gs://name/prefix; empty: none
	Env    map[string]string // in addition to the bucket and the token; PGSERVE_DURABILITY and the like
	Tag    string            // not empty: without traffic, at an address of its own
	Memory string            // such as 512Mi; empty: DefaultMemory
	Always bool              // CPU between requests: instance-based billing
}

// Deploy makes a revision, with all traffic unless it is tagged, and returns when it serves: an instance of it has started.
func (s *Service) Deploy(ctx context.Context, r Revision) error {
	var env []string
	if r.Bucket != "" {
		env = append(env, "PGSERVE_BUCKET="+r.Bucket)
	}
	env = append(env, "PGSERVE_TOKEN="+s.o.Token)
	for _, name := range slices.Sorted(maps.Keys(r.Env)) {
		env = append(env, name+"="+r.Env[name])
	}
	throttling, memory := "--cpu-throttling", r.Memory
	if r.Always {
		throttling = "--no-cpu-throttling"
	}
	if memory == "" {
		memory = DefaultMemory
	}
	args := append(s.at("run", "deploy"),
		"--image="+s.o.Image, "--service-account="+s.o.Account, "--revision-suffix="+r.Suffix, "--min=0", "--max=1", "--max-instances=1",
		"--concurrency=80", "--cpu="+s.o.VCPU, "--memory="+memory, "--timeout=300", throttling, "--cpu-boost",
		"--execution-environment=gen2", "--allow-unauthenticated", // the bearer token is required
		"--set-env-vars=^;^"+strings.Join(env, ";"),
	)
	if r.Tag != "" {
		args = append(args, "--no-traffic", "--tag="+r.Tag)
	}
	s.made = true
	if _, err := s.gcloud(ctx, args...); err != nil {
		return err
	}
	if r.Tag != "" {
		s.pinned = true // from now on the traffic stays where it is
		return nil
	}
	if s.pinned {
		if _, err := s.gcloud(ctx, append(s.at("run", "services", "update-traffic"), "--to-latest")...); err != nil {
			return err
		}
		s.pinned = false
	}
	return nil
}

// Addresses are where a service answers.
type Addresses struct {
	URL  string
	Tags map[string]string
}

// Addresses returns where the service answers.
func (s *Service) Addresses(ctx context.Context) (Addresses, error) {
	out, err := s.gcloud(ctx, append(s.at("run", "services", "describe"), "--format=json")...)
	if err != nil {
		return Addresses{}, err
	}
	var told struct {
		Status struct {
			URL     string `json:"url"`
			Traffic []struct {
				Tag string `json:"tag"`
				URL string `json:"url"`
			} `json:"traffic"`
		} `json:"status"`
	}
	if err := json.Unmarshal(out, &told); err != nil {
		return Addresses{}, fmt.Errorf("ask for the address of %s: %w", s.o.Service, err)
	}
	a := Addresses{URL: told.Status.URL, Tags: map[string]string{}}
	for _, t := range told.Status.Traffic {
		if t.Tag != "" {
			a.Tags[t.Tag] = t.URL
		}
	}
	for _, address := range append(slices.Collect(maps.Values(a.Tags)), a.URL) {
		if !carriesTokens(address) {
			return Addresses{}, fmt.Errorf("ask for the address of %s: gcloud said %q, where no token can be sent", s.o.Service, address)
		}
	}
	return a, nil
}

// carriesTokens says whether a token may be sent there: to https, or within this machine.
func carriesTokens(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "https" || u.Scheme == "http" && ip != nil && ip.IsLoopback()
}

// Untag removes a tag: its address is gone, and its instance ends at some time.
func (s *Service) Untag(ctx context.Context, tag string) error {
	_, err := s.gcloud(ctx, append(s.at("run", "services", "update-traffic"), "--remove-tags="+tag)...)
	return err
}

// scale sets how many instances there are: a number, or auto.
func (s *Service) scale(ctx context.Context, to string) error {
	_, err := s.gcloud(ctx, append(s.at("run", "services", "update"), "--scaling="+to)...)
	return err
}

// Sleep ends all instances of the serving revision, and returns how the last one ended. The next request starts one. Source:
// cloud.google.com/run/docs/configuring/services/manual-scaling, read November 2026.
func (s *Service) Sleep(ctx context.Context, suffix string) (Life, error) {
	if err := s.scale(ctx, "0"); err != nil {
		return Life{}, err
	}
	life, err := s.Retired(ctx, suffix)
	return life, errors.Join(err, s.scale(ctx, "auto"))
}

// Delete removes the service, if there may be one. Its bucket stays.
func (s *Service) Delete(ctx context.Context) error {
	if !s.made {
		return nil
	}
	if _, err := s.gcloud(ctx, s.at("run", "services", "delete")...); err != nil {
		return fmt.Errorf("%w; delete the service %s yourself, it may cost money", err, s.o.Service)
	}
	s.made = false
	return nil
}
