// Command bill says what a service on Cloud Run and its bucket have used in a given time, and what that costs:
//
//	go run ./cloud/bill -project p -service first -bucket my-databases -from 2026-11-01T00:00:00Z -to 2026-11-04T00:00:00Z
//	go run ./cloud/bill -project p ... -table p.billing.gcp_billing_export_v1_0123AB_4567CD_89EF01
//
// The counts are Cloud Monitoring's, at list prices (cloud/README.md). With -table it also prints what Google has billed, from the billing
// export, which lags by a day. Cloud Monitoring does not know prefixes: a bucket's counts are those of all its databases.
//
// gcloud must be installed and logged in, with roles/monitoring.viewer, and for -table roles/bigquery.jobUser and dataViewer.
//
// It uses projects.timeSeries.list and jobs.query as documented (monitoring/api/ref_v3/rest, bigquery/docs/reference/rest/v2,
// billing/docs/how-to/export-data-bigquery-tables/standard-usage, read November 2026). It has never run against the real APIs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/runner/record"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, google{
		client: http.DefaultClient, monitoring: "https://monitoring.googleapis.com", bigquery: "https://bigquery.googleapis.com", token: token,
	}))
}

// token returns an access token for Google's APIs, from gcloud.
func token(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "gcloud", "auth", "print-access-token").Output()
	if err != nil {
		return "", fmt.Errorf("get a token from gcloud: %w; is gcloud installed and logged in?", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// span is the requested time, service and bucket.
type span struct {
	project, service, bucket, table string
	from, to                        time.Time
	vcpu, gib                       float64
}

// run returns the exit code: 0; 1: the request failed; 2: bad usage.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, g google) int {
	var s span
	var from, to string
	flags := flag.NewFlagSet("bill", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.project, "project", "", "the Google Cloud `project`")
	flags.StringVar(&s.service, "service", "", "the service's `name`")
	flags.StringVar(&s.bucket, "bucket", "", "the bucket's `name`")
	flags.StringVar(&s.table, "table", "", "the `table` of the billing export, project.dataset.table; empty: use only Cloud Monitoring")
	flags.StringVar(&from, "from", "", "start of the time span, `RFC 3339`")
	flags.StringVar(&to, "to", "", "end of the time span; empty: now")
	flags.Float64Var(&s.vcpu, "vcpu", 1, "`processors` of an instance")
	flags.Float64Var(&s.gib, "gib", 1, "`GiB` of memory of an instance")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if err := s.fill(flags.NArg(), from, to); err != nil {
		fmt.Fprintln(stderr, "bill:", err)
		return 2
	}
	if err := s.tell(ctx, stdout, g); err != nil {
		fmt.Fprintln(stderr, "bill:", err)
		return 1
	}
	return 0
}

func (s *span) fill(more int, from, to string) (err error) {
	switch {
	case more > 0:
		return errors.New("only flags are allowed, no arguments")
	case s.project == "" || s.service == "" || s.bucket == "" || from == "":
		return errors.New("-project, -service, -bucket and -from are needed")
	case strings.ContainsAny(s.service+s.bucket, "\"\\"):
		return errors.New("-service and -bucket must not contain quotes or backslashes")
	case s.vcpu <= 0 || s.gib <= 0:
		return errors.New("-vcpu and -gib must be above zero")
	}
	if s.from, err = time.Parse(time.RFC3339, from); err != nil {
		return fmt.Errorf("-from: %w", err)
	}
	s.to = time.Now()
	if to != "" {
		if s.to, err = time.Parse(time.RFC3339, to); err != nil {
			return fmt.Errorf("-to: %w", err)
		}
	}
	if s.to.Sub(s.from) < time.Minute {
		return errors.New("there must be at least a minute from -from to -to")
	}
	if s.table != "" && !tableName.MatchString(s.table) {
		return fmt.Errorf("-table %q is not project.dataset.table", s.table)
	}
	return nil
}

// tell prints what was used, and what it costs.
func (s *span) tell(ctx context.Context, out io.Writer, g google) error {
	u, err := g.used(ctx, *s)
	if err != nil {
		return err
	}
	b := platform.Bill{Requests: u.requests, Active: u.billed, VCPU: s.vcpu, MemoryGiB: s.gib}
	compute, operations := b.Cost(platform.Options{CPU: platform.InRequests}), u.ops.CostUSD()
	fmt.Fprintf(out, "From %s to %s, by Cloud Monitoring:\n", s.from.UTC().Format(time.RFC3339), s.to.UTC().Format(time.RFC3339))
	fmt.Fprintf(out, "  Cloud Run      %d requests, %.1f s of instances billed              $%.6f\n", u.requests, u.billed.Seconds(), compute)
	fmt.Fprintf(out, "  Cloud Storage  %d of class A, %d of class B, %d deletions, %d not billed  $%.6f\n", u.ops.ClassA, u.ops.ClassB, u.ops.Delete, u.refused, operations)
	month := (compute + operations) / s.to.Sub(s.from).Hours() * 24 * 30
	fmt.Fprintf(out, "  at list price, without storage: $%.6f, or $%.4f in a month of 30 days\n", compute+operations, month)
	if len(u.unknown) > 0 {
		fmt.Fprintf(out, "  not counted, because their class is unknown: %s\n", strings.Join(u.unknown, ", "))
	}
	if s.table == "" {
		return nil
	}
	lines, err := g.billed(ctx, *s)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "Billed, by the export:")
	cost, credits, currency := 0.0, 0.0, ""
	for _, l := range lines {
		fmt.Fprintf(out, "  %s: %s: %.6g %s, %.6f %s, credits %.6f\n", l.service, l.sku, l.amount, l.unit, l.cost, l.currency, l.credits)
		cost, credits, currency = cost+l.cost, credits+l.credits, l.currency
	}
	fmt.Fprintf(out, "  total: %.6f %s, and credits of %.6f\n", cost, currency, credits)
	return nil
}

// usage is what Cloud Monitoring has counted.
type usage struct {
	requests int64
	billed   time.Duration
	ops      record.Ops
	refused  int64    // answered with an error: not billed
	unknown  []string // methods whose class is not known
}
