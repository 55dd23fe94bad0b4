package cloudrun

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"blobpglite/core/clock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options() Options {
	return Options{
		Project: "p", Region: "r", Image: "i", Service: "svc", Account: "a@p.iam.gserviceaccount.com", Token: "a secret of some length",
	}
}

// noon is when the tests begin.
func noon() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) }

// skipping is a clock on which waiting takes no time.
type skipping struct{ *clock.Virtual }

func (c skipping) Sleep(ctx context.Context, d time.Duration) error {
	c.Advance(d)
	return ctx.Err()
}

// answering is a service whose gcloud returns the answers in order, and a log of its commands.
func answering(t *testing.T, answers ...string) (*Service, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	o := options()
	o.Log, o.Clock = &log, skipping{clock.NewVirtual(noon())}
	o.Run = func(context.Context, []string) ([]byte, error) {
		if len(answers) == 0 {
			return nil, nil
		}
		a := answers[0]
		answers = answers[1:]
		return []byte(a), nil
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, &log
}

const (
	scope  = " --project=p --region=r --quiet"
	common = scope + " --image=i --service-account=a@p.iam.gserviceaccount.com"
	filter = `'resource.type="cloud_run_revision" AND resource.labels.service_name="svc" AND resource.labels.location="r" AND resource.labels.revision_name="svc-one"` +
		` AND (log_id("run.googleapis.com/stderr") OR log_id("run.googleapis.com/varlog/system")) AND timestamp>="2026-11-25T11:55:00Z"'`
	address = `{"status": {"url": "https://svc-abc.a.run.app", "traffic": [{"revisionName": "svc-one", "percent": 100}, {"tag": "canary", "url": "https://canary---svc-abc.a.run.app"}]}}`
)

func rest(memory, throttling string) string {
	return " --min=0 --max=1 --max-instances=1 --concurrency=80 --cpu=1 --memory=" + memory + " --timeout=300 " + throttling + " --cpu-boost --execution-environment=gen2 --allow-unauthenticated"
}

// ended is the log of an instance that has ended.
func ended(instance string) string {
	line := func(second, message string) string {
		return `{"timestamp": "2026-11-25T12:00:` + second + `Z", "severity": "INFO", "logName": "projects/p/logs/run.googleapis.com%2Fstderr", "jsonPayload": {"message": "` + message +
			`"}, "labels": {"instanceId": "` + instance + `"}, "resource": {"labels": {"revision_name": "svc-one"}}}`
	}
	return line("01", "PostgreSQL is loaded") + "," + line("07", "ending") + "," + line("07.5", "ended: everything is durable")
}

// TestCommandLines: gcloud's command lines, to the letter.
func TestCommandLines(t *testing.T) {
	s, log := answering(t,
		"[]",                        // no such service
		"",                          // the first deployment
		address,                     // and its address
		"",                          // a tagged one
		"", "["+ended("a1")+"]", "", // to sleep
		"", "", // the tag off, and a revision with all traffic
		"", "", // for which the traffic must be switched; to be deleted
	)
	ctx := t.Context()
	exists, existErr := s.Exists(ctx)
	first := s.Deploy(ctx, Revision{Suffix: "one", Bucket: "gs://b/x", Env: map[string]string{"PGSERVE_IDLE_FLUSH": "1s", "PGSERVE_DURABILITY": "sleep"}})
	at, atErr := s.Addresses(ctx)
	second := s.Deploy(ctx, Revision{Suffix: "two", Bucket: "gs://b/x", Tag: "canary"})
	life, sleepErr := s.Sleep(ctx, "one")
	if err := errors.Join(existErr, first, atErr, second, sleepErr, s.Untag(ctx, "canary"),
		s.Deploy(ctx, Revision{Suffix: "three", Memory: "512Mi", Always: true, Env: map[string]string{"PGSERVE_STORE": "mem"}}), s.Delete(ctx), s.Delete(ctx)); err != nil {
		t.Fatal(err)
	}
	if exists || at.URL != "https://svc-abc.a.run.app" || at.Tags["canary"] != "https://canary---svc-abc.a.run.app" || life.How != HowWell || life.Ended.Sub(life.Told) != 500*time.Millisecond {
		t.Errorf("%v, %+v, %+v", exists, at, life)
	}
	want := "+ gcloud run services list" + scope + " --filter=metadata.name=svc --format=json\n" +
		"+ gcloud run deploy svc" + common + " --revision-suffix=one" + rest("1Gi", "--cpu-throttling") + " '--set-env-vars=^;^PGSERVE_BUCKET=gs://b/x;PGSERVE_TOKEN=(token);PGSERVE_DURABILITY=sleep;PGSERVE_IDLE_FLUSH=1s'\n" +
		"+ gcloud run services describe svc" + scope + " --format=json\n" +
		"+ gcloud run deploy svc" + common + " --revision-suffix=two" + rest("1Gi", "--cpu-throttling") + " '--set-env-vars=^;^PGSERVE_BUCKET=gs://b/x;PGSERVE_TOKEN=(token)' --no-traffic --tag=canary\n" +
		"+ gcloud run services update svc" + scope + " --scaling=0\n" +
		"+ gcloud logging read " + filter + " --project=p --order=asc --limit=10000 --format=json\n" +
		"+ gcloud run services update svc" + scope + " --scaling=auto\n" +
		"+ gcloud run services update-traffic svc" + scope + " --remove-tags=canary\n" +
		"+ gcloud run deploy svc" + common + " --revision-suffix=three" + rest("512Mi", "--no-cpu-throttling") + " '--set-env-vars=^;^PGSERVE_TOKEN=(token);PGSERVE_STORE=mem'\n" +
		"+ gcloud run services update-traffic svc" + scope + " --to-latest\n" +
		"+ gcloud run services delete svc" + scope + "\n"
	if got := log.String(); got != want {
		t.Errorf("said\n%s\nwant\n%s", got, want)
	}
}

func TestAddresses(t *testing.T) {
	for answer, ok := range map[string]bool{
		address: true, `{"status": {"url": "http://127.0.0.1:1"}}`: true,
		"nothing": false, `{}`: false, `{"status": {"url": "http://elsewhere"}}`: false, `{"status": {"url": "https://a", "traffic": [{"tag": "x"}]}}`: false,
	} {
		s, _ := answering(t, answer)
		if a, err := s.Addresses(t.Context()); (err == nil) != ok {
			t.Errorf("%s: %+v, %v", answer, a, err)
		}
	}
}

// TestLives: what the logs say about instances.
func TestLives(t *testing.T) {
	const failed = `{"timestamp": "2026-11-25T12:00:09Z", "logName": "projects/p/logs/run.googleapis.com%2Fstderr", "textPayload": "pgserve: close the database: no", "labels": {"instanceId": "b"}}`
	const killed = `{"timestamp": "2026-11-25T12:00:10Z", "severity": "ERROR", "logName": "projects/p/logs/run.googleapis.com%2Fvarlog%2Fsystem", "textPayload": "Memory limit exceeded", "labels": {"instanceId": "c"}}`
	const probed = `{"timestamp": "2026-11-25T12:00:11Z", "severity": "INFO", "logName": "projects/p/logs/run.googleapis.com%2Fvarlog%2Fsystem", "textPayload": "probe succeeded", "labels": {"instanceId": "d"}}`
	const nobody = `{"timestamp": "2026-11-25T12:00:12Z", "severity": "ERROR", "logName": "projects/p/logs/run.googleapis.com%2Fvarlog%2Fsystem", "textPayload": "a revision's"}`
	var entries []Entry
	if err := json.Unmarshal([]byte("["+strings.Join([]string{ended("a"), failed, killed, probed, nobody}, ",")+"]"), &entries); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range lives(entries) {
		got = append(got, l.Instance+" "+l.How)
	}
	if text := strings.Join(got, "; "); text != "a exit 0; b pgserve: close the database: no; c Memory limit exceeded; d " {
		t.Error(text)
	}
}

// TestRetired waits for logs that come late, once for each instance.
func TestRetired(t *testing.T) {
	alive := strings.Split(ended("b"), ",{")[0] // its first line
	s, log := answering(t, "[]", "["+alive+"]", "["+ended("a")+","+alive+"]", "["+ended("a")+","+ended("b")+"]")
	life, err := s.Retired(t.Context(), "one")
	if err != nil || life.How != HowWell || s.o.Clock.Monotonic() != 3*DefaultPause {
		t.Errorf("%+v after %v, %v", life, s.o.Clock.Monotonic(), err)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("what was asked again was said %d times", n)
	}
	// None has ended since, whatever the logs still say: patience ends.
	s.o.Run = func(context.Context, []string) ([]byte, error) {
		return []byte("[" + ended("a") + "," + ended("b") + "]"), nil
	}
	if _, err := s.Retired(t.Context(), "one"); err == nil || !strings.Contains(err.Error(), "svc-one") || s.o.Clock.Monotonic() < DefaultPatience {
		t.Errorf("after %v: %v", s.o.Clock.Monotonic(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Retired(ctx, "one"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestLogsCutOff(t *testing.T) {
	s, _ := answering(t, "{")
	if _, err := s.Logs(t.Context(), "one", noon()); err == nil {
		t.Error("logs that are cut off were taken")
	}
}

// TestFailures: gcloud's error is passed on, without the token, and a service that may have been left behind is named.
func TestFailures(t *testing.T) {
	o := options()
	o.Run = func(context.Context, []string) ([]byte, error) {
		return nil, errors.New("denied for a secret of some length")
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context()); err != nil {
		t.Error("nothing was made, and yet:", err)
	}
	if err := s.Deploy(t.Context(), Revision{Suffix: "one"}); err == nil || err.Error() != "gcloud run deploy svc: denied for (token)" {
		t.Error(err)
	}
	if err := s.Delete(t.Context()); err == nil || !strings.Contains(err.Error(), "delete the service svc yourself") {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	for name, break_ := range map[string]func(*Options){
		"project": func(o *Options) { o.Project = "" }, "token": func(o *Options) { o.Token = "" }, "image": func(o *Options) { o.Image = "" },
	} {
		o := options()
		break_(&o)
		if _, err := New(o); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	s, err := New(options())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := s.Exists(t.Context()); !errors.Is(err, ErrMissing) {
		t.Error("without gcloud:", err)
	}
}
