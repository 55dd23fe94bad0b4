package cloudrun

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func options() Options {
	return Options{
		Project: "p", Region: "r", Image: "i", Service: "svc", Account: "a@p.iam.gserviceaccount.com", Bucket: "gs://b/x", Token: "a secret of some length",
	}
}

// TestCommandLines: what gcloud is told, to the letter.
func TestCommandLines(t *testing.T) {
	var log bytes.Buffer
	o := options()
	o.Dry, o.Log = true, &log
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	since := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	_, urlErr := s.TagURL(ctx, "canary")
	_, logErr := s.Logs(ctx, since)
	if err := errors.Join(
		s.Deploy(ctx, Revision{Name: "one", Env: map[string]string{"PGSERVE_IDLE_FLUSH": "1s", "PGSERVE_DURABILITY": "sleep"}}),
		s.Deploy(ctx, Revision{Name: "two", Tag: "canary"}), urlErr, logErr, s.Delete(ctx),
	); err != nil {
		t.Fatal(err)
	}
	common := "--project=p --region=r --quiet --image=i --service-account=a@p.iam.gserviceaccount.com"
	rest := "--min=0 --max=1 --max-instances=1 --concurrency=80 --cpu=1 --memory=1Gi --timeout=300 --cpu-throttling --cpu-boost --execution-environment=gen2 --allow-unauthenticated"
	want := "+ gcloud run services describe svc --project=p --region=r --quiet --format=value(status.url)\n" +
		`+ gcloud logging read resource.type="cloud_run_revision" AND resource.labels.service_name="svc" AND resource.labels.location="r" AND timestamp>="2026-11-25T12:00:00Z" --project=p --order=asc --limit=10000 --format=json` + "\n" +
		"+ gcloud run deploy svc " + common + " --revision-suffix=one " + rest + " --set-env-vars=^;^PGSERVE_BUCKET=gs://b/x;PGSERVE_TOKEN=(token);PGSERVE_DURABILITY=sleep;PGSERVE_IDLE_FLUSH=1s\n" +
		"+ gcloud run deploy svc " + common + " --revision-suffix=two " + rest + " --set-env-vars=^;^PGSERVE_BUCKET=gs://b/x;PGSERVE_TOKEN=(token) --no-traffic --tag=canary\n" +
		"+ gcloud run services delete svc --project=p --region=r --quiet\n"
	if got := log.String(); got != want {
		t.Errorf("said\n%s\nwant\n%s", got, want)
	}
}

func TestAnswers(t *testing.T) {
	s, err := New(options())
	if err != nil {
		t.Fatal(err)
	}
	answer := "https://svc-abc.a.run.app\n"
	s.run = func(context.Context, []string) ([]byte, error) { return []byte(answer), nil }
	if url, err := s.URL(t.Context()); err != nil || url != "https://svc-abc.a.run.app" {
		t.Error(url, err)
	}
	if url, err := s.TagURL(t.Context(), "x"); err != nil || url != "https://x---svc-abc.a.run.app" {
		t.Error(url, err)
	}
	answer = "nothing"
	if _, err := s.URL(t.Context()); err == nil {
		t.Error("an answer that is no address was taken")
	}
	answer = `[{"timestamp":"2026-11-25T12:00:00Z","severity":"ERROR","jsonPayload":{"message":"x"},"resource":{"labels":{"revision_name":"svc-one"}}}]`
	all, err := s.Logs(t.Context(), time.Time{})
	if err != nil || len(all) != 1 || all[0].JSON["message"] != "x" || all[0].Resource.Labels.Revision != "svc-one" {
		t.Errorf("%+v, %v", all, err)
	}
	answer = "{"
	if _, err := s.Logs(t.Context(), time.Time{}); err == nil {
		t.Error("logs that are cut off were taken")
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
	o := options()
	o.Bucket = "b"
	if _, err := New(o); err == nil {
		t.Error("a bucket without gs:// was taken")
	}
	s, err := New(options())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	if err := s.Delete(t.Context()); !errors.Is(err, ErrMissing) {
		t.Error("without gcloud:", err)
	}
}
