package rehearsal

import (
	"os"
	"strings"
	"testing"

	"blobpglite/cloud/runemu/platform"
)

// The behavior of a whole service is tested by runner's rehearsals.

const scope = " svc --project=p --region=r --quiet"

// TestRefusals: what gcloud would refuse, and what the stand-in does not support.
func TestRefusals(t *testing.T) {
	deploy := "run deploy" + scope + " --image=i --service-account=a --revision-suffix=one --cpu=1"
	for line, says := range map[string]string{
		"compute instances list":                                                    "does not know",
		"run services describe" + scope:                                             "--format",
		"run services delete" + scope:                                               "cannot find service",
		"run services delete svc":                                                   "--project",
		"run services list --project=p":                                             "--region",
		"logging read x --project=p":                                                "--order",
		"run deploy svc --project=p":                                                "--region",
		deploy + " --memory=1Gi":                                                    "--set-env-vars",
		deploy + " --memory=1 --set-env-vars=^;^A=b":                                "--memory",
		deploy + " --memory=xMi --set-env-vars=^;^A=b":                              "--memory",
		deploy + " --memory=512Mi --set-env-vars=A=b,C=d":                           "delimiter",
		"logging read timestamp>=1 --project=p --order=asc --limit=1 --format=json": "no revision",
	} {
		g := New(Options{Program: os.Args[0], Endpoint: "http://127.0.0.1:1"})
		if out, err := g.Run(t.Context(), strings.Fields(line)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %s, %v; want %q", line, out, err, says)
		}
		if err := g.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestRevision: a command line becomes a process and its environment.
func TestRevision(t *testing.T) {
	g := New(Options{Program: "pgserve", Endpoint: "http://e"})
	r, err := g.revision(parse(strings.Fields("svc --revision-suffix=one --memory=2Gi --no-cpu-throttling --set-env-vars=^;^A=b,c;C=d")))
	if r.Name != "svc-one" || r.MemoryMiB != 2048 || r.CPU != platform.Always || strings.Join(r.Env, " ") != "A=b,c C=d" || strings.Join(r.Args, " ") != "-listen  -endpoint http://e" {
		t.Errorf("%+v, %v", r, err)
	}
}
