// Package cloudrun drives a service on Cloud Run by gcloud, for experiments that run there: deploy, switch revisions, tagged
// revisions, logs, clean-up.
//
//	s := cloudrun.New(cloudrun.Options{Project: "p", Region: "r", Image: "i", Service: "blob-e4", Bucket: "gs://b/prefix"})
//	err := s.Deploy(ctx, cloudrun.Revision{Name: "one"})      // and all traffic to it
//	url, err := s.URL(ctx)
//	lines, err := s.Logs(ctx, since)
//	err = s.Delete(ctx)
//
// With Options.Dry nothing is run: each command line is written to Options.Log, and answers are made up in their form. What
// it cannot do is what Cloud Run cannot be asked for: stop an instance at a moment, or freeze one. A service without
// requests is frozen by itself, and stopped when the platform likes; a new revision stops the instances of the old one.
package cloudrun

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// ErrMissing: gcloud is not installed, or an option is not set. The error names it.
var ErrMissing = errors.New("missing")

// Options of New. All but CPU, Memory, VCPU, Dry and Log are required.
type Options struct {
	Project, Region string
	Image           string // of pgserve; see cloud/Dockerfile
	Service         string // its name; it is made, and deleted again
	Account         string // the service account's e-mail address
	Bucket          string // gs://name/prefix
	Token           string // bearer token of the service
	Always          bool   // CPU between requests: instance-based billing
	Memory          string // such as 1Gi; empty: 1Gi
	VCPU            string // empty: 1
	Dry             bool
	Log             io.Writer // each command line; nil: dropped
}

// Service is a service on Cloud Run.
type Service struct {
	o Options
	// run runs a command and returns its output.
	run func(ctx context.Context, args []string) ([]byte, error)
}

// New checks the options.
func New(o Options) (*Service, error) {
	for name, value := range map[string]string{
		"project": o.Project, "region": o.Region, "image": o.Image, "service": o.Service, "account": o.Account, "bucket": o.Bucket, "token": o.Token,
	} {
		if value == "" {
			return nil, fmt.Errorf("drive Cloud Run: %s is %w", name, ErrMissing)
		}
	}
	if !strings.HasPrefix(o.Bucket, "gs://") {
		return nil, fmt.Errorf("drive Cloud Run: bucket %q: write gs://name/prefix", o.Bucket)
	}
	if o.Memory == "" {
		o.Memory = "1Gi"
	}
	if o.VCPU == "" {
		o.VCPU = "1"
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	s := &Service{o: o}
	s.run = s.gcloud
	return s, nil
}

// gcloud runs the tool.
func (s *Service) gcloud(ctx context.Context, args []string) ([]byte, error) {
	fmt.Fprintln(s.o.Log, "+ gcloud", strings.ReplaceAll(strings.Join(args, " "), s.o.Token, "(token)"))
	if s.o.Dry {
		return nil, nil
	}
	path, err := exec.LookPath("gcloud")
	if err != nil {
		return nil, fmt.Errorf("drive Cloud Run: gcloud is %w: install the Google Cloud CLI", ErrMissing)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("gcloud %s: %w: %s", strings.Join(args[:min(3, len(args))], " "), err, strings.TrimSpace(errs.String()))
	}
	return out, nil
}

// scope is where the service is.
func (s *Service) scope() []string {
	return []string{"--project=" + s.o.Project, "--region=" + s.o.Region, "--quiet"}
}

// Revision is what is deployed.
type Revision struct {
	Name string            // lower case, unique in the service
	Env  map[string]string // besides the bucket and the token; PGSERVE_DURABILITY and the like
	Tag  string            // not empty: without traffic, at an address of its own
}

// Deploy makes a revision, with all traffic unless it is tagged, and returns when it serves.
func (s *Service) Deploy(ctx context.Context, r Revision) error {
	env := []string{"PGSERVE_BUCKET=" + s.o.Bucket, "PGSERVE_TOKEN=" + s.o.Token}
	for _, name := range slices.Sorted(maps.Keys(r.Env)) {
		env = append(env, name+"="+r.Env[name])
	}
	throttling := "--cpu-throttling"
	if s.o.Always {
		throttling = "--no-cpu-throttling"
	}
	args := append([]string{"run", "deploy", s.o.Service}, s.scope()...)
	args = append(args,
		"--image="+s.o.Image, "--service-account="+s.o.Account, "--revision-suffix="+r.Name, "--min=0", "--max=1", "--max-instances=1",
		"--concurrency=80", "--cpu="+s.o.VCPU, "--memory="+s.o.Memory, "--timeout=300", throttling, "--cpu-boost",
		"--execution-environment=gen2", "--allow-unauthenticated", // the bearer token is asked for
		"--set-env-vars=^;^"+strings.Join(env, ";"),
	)
	if r.Tag != "" {
		args = append(args, "--no-traffic", "--tag="+r.Tag)
	}
	_, err := s.run(ctx, args)
	return err
}

// URL is the service's address.
func (s *Service) URL(ctx context.Context) (string, error) {
	args := append([]string{"run", "services", "describe", s.o.Service}, s.scope()...)
	out, err := s.run(ctx, append(args, "--format=value(status.url)"))
	if err != nil {
		return "", err
	}
	url := strings.TrimSpace(string(out))
	switch {
	case s.o.Dry:
		return "https://" + s.o.Service + ".invalid", nil
	case !strings.HasPrefix(url, "https://"):
		return "", fmt.Errorf("ask for the address of %s: gcloud said %q", s.o.Service, url)
	}
	return url, nil
}

// TagURL is the address of a tagged revision.
func (s *Service) TagURL(ctx context.Context, tag string) (string, error) {
	url, err := s.URL(ctx)
	return strings.Replace(url, "https://", "https://"+tag+"---", 1), err
}

// Entry is a line of the instances' logs.
type Entry struct {
	Time     time.Time      `json:"timestamp"`
	Severity string         `json:"severity"`
	Text     string         `json:"textPayload"`
	JSON     map[string]any `json:"jsonPayload"`
	Resource struct {
		Labels struct {
			Revision string `json:"revision_name"`
		} `json:"labels"`
	} `json:"resource"`
}

// Logs are the service's log entries since a time, oldest first.
func (s *Service) Logs(ctx context.Context, since time.Time) ([]Entry, error) {
	filter := fmt.Sprintf(`resource.type="cloud_run_revision" AND resource.labels.service_name="%s" AND resource.labels.location="%s" AND timestamp>="%s"`,
		s.o.Service, s.o.Region, since.UTC().Format(time.RFC3339Nano))
	out, err := s.run(ctx, []string{"logging", "read", filter, "--project=" + s.o.Project, "--order=asc", "--limit=10000", "--format=json"})
	if err != nil || s.o.Dry {
		return nil, err
	}
	var all []Entry
	if err := json.Unmarshal(out, &all); err != nil {
		return nil, fmt.Errorf("read the logs of %s: %w", s.o.Service, err)
	}
	return all, nil
}

// Delete removes the service. Its bucket stays.
func (s *Service) Delete(ctx context.Context) error {
	_, err := s.run(ctx, append([]string{"run", "services", "delete", s.o.Service}, s.scope()...))
	return err
}
