package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// scripts runs a script of cloud/ with a gcloud that only prints its arguments.
func script(t *testing.T, name, input string, env []string, args ...string) (int, string) {
	t.Helper()
	bin := t.TempDir()
	fake := "#!/bin/sh\necho \"gcloud $*\"\n"
	if err := os.WriteFile(filepath.Join(bin, "gcloud"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", append([]string{filepath.Join("..", "cloud", name)}, args...)...)
	cmd.Env = append([]string{"PATH=" + bin + string(os.PathListSeparator) + os.Getenv("PATH"), "TMPDIR=" + t.TempDir()}, env...)
	cmd.Stdin = strings.NewReader(input)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// TestCloudScripts: what the scripts pass to gcloud, and what they refuse.
func TestCloudScripts(t *testing.T) {
	deploy := []string{"PROJECT=p", "REGION=r", "IMAGE=i", "BUCKET=gs://b/db", "TOKEN_SECRET=s"}
	for _, c := range []struct {
		name, script, input string
		env, args           []string
		code                int
		want, not           string
	}{
		{name: "bucket", script: "bucket.sh", env: []string{"PROJECT=p"}, args: []string{"gs://b", "r"}, want: "buckets create gs://b --project=p --location=r --default-storage-class=STANDARD --uniform-bucket-level-access --public-access-prevention --soft-delete-duration=0"},
		{name: "bucket, dry", script: "bucket.sh", env: []string{"PROJECT=p", "DRY_RUN=1"}, args: []string{"gs://b", "r"}, want: "+ gcloud storage", not: "\ngcloud"},
		{name: "bucket, a prefix", script: "bucket.sh", env: []string{"PROJECT=p"}, args: []string{"gs://b/x", "r"}, code: 2, want: "more than a bucket"},
		{name: "bucket, no project", script: "bucket.sh", args: []string{"gs://b", "r"}, code: 2, want: "PROJECT"},
		{name: "deploy", script: "deploy.sh", env: deploy, args: []string{"svc"}, want: "gcloud run deploy svc --project=p --region=r --image=i --service-account=svc@p.iam.gserviceaccount.com --min=0 --max=1 --max-instances=1 --concurrency=80 --cpu=1 --memory=1Gi --timeout=300 --cpu-throttling"},
		{name: "deploy, least privilege", script: "deploy.sh", env: deploy, args: []string{"svc"}, want: "add-iam-policy-binding gs://b --member=serviceAccount:svc@p.iam.gserviceaccount.com --role=roles/storage.objectUser"},
		{name: "replicas", script: "deploy.sh", env: append([]string{"REPLICA=1", "MAX=4"}, deploy...), args: []string{"read"}, want: "--min=0 --max=4 --max-instances=4"},
		{name: "replicas, flags", script: "deploy.sh", env: append([]string{"REPLICA=1", "MAX_LAG=500ms"}, deploy...), args: []string{"read"}, want: "PGSERVE_REPLICA=true,PGSERVE_POLL=1s,PGSERVE_MAX_LAG=500ms"},
		{name: "replicas, least privilege", script: "deploy.sh", env: append([]string{"REPLICA=1"}, deploy...), args: []string{"read"}, want: "--role=roles/storage.objectViewer --condition=title=below-the-prefix,expression=resource.name.startsWith('projects/_/buckets/b/objects/db/')", not: "objectUser"},
		{name: "deploy, always on", script: "deploy.sh", env: append([]string{"CPU=always"}, deploy...), args: []string{"svc"}, want: "--no-cpu-throttling"},
		{name: "deploy, tagged", script: "deploy.sh", env: append([]string{"TAG=canary"}, deploy...), args: []string{"svc"}, want: "--no-traffic --tag=canary"},
		{name: "deploy, dry", script: "deploy.sh", env: append([]string{"DRY_RUN=1"}, deploy...), args: []string{"svc"}, want: "+ gcloud run deploy", not: "\ngcloud"},
		{name: "deploy, a bucket's root", script: "deploy.sh", env: append([]string{}, "PROJECT=p", "REGION=r", "IMAGE=i", "BUCKET=gs://b", "TOKEN_SECRET=s"), args: []string{"svc"}, code: 2, want: "gs://name/prefix"},
		{name: "deploy, no image", script: "deploy.sh", env: []string{"PROJECT=p", "REGION=r"}, args: []string{"svc"}, code: 2, want: "IMAGE"},
		{name: "deploy, strange CPU", script: "deploy.sh", env: append([]string{"CPU=often"}, deploy...), args: []string{"svc"}, code: 2, want: "often"},
		{name: "nuke", script: "nuke-prefix.sh", input: "gs://b/db\n", args: []string{"gs://b/db/"}, want: "gcloud storage rm --recursive gs://b/db/"},
		{name: "nuke, another answer", script: "nuke-prefix.sh", input: "yes\n", args: []string{"gs://b/db"}, code: 1, want: "Nothing was deleted", not: "gcloud storage rm"},
		{name: "nuke, no answer", script: "nuke-prefix.sh", args: []string{"gs://b/db"}, code: 1, not: "gcloud storage rm"},
		{name: "nuke, the root", script: "nuke-prefix.sh", input: "gs://b\n", args: []string{"gs://b/"}, code: 2, want: "not a prefix", not: "gcloud"},
		{name: "nuke, a wildcard", script: "nuke-prefix.sh", input: "gs://b/*\n", args: []string{"gs://b/*"}, code: 2, want: "wildcard", not: "gcloud"},
	} {
		code, out := script(t, c.script, c.input, c.env, c.args...)
		if (code != 0) != (c.code != 0) || !strings.Contains(out, c.want) || c.not != "" && strings.Contains(out, c.not) {
			t.Errorf("%s: exit code %d, want %d, with %q and without %q:\n%s", c.name, code, c.code, c.want, c.not, out)
		}
	}
}

func TestDockerfileIsRead(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "cloud", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	stages, err := parseDockerfile(string(b))
	if err != nil || len(stages) != 3 || len(stages[0].run) != 1 || len(stages[1].run) != 2 || len(stages[2].run) != 0 {
		t.Fatalf("%+v, %v", stages, err)
	}
	for _, broken := range []string{"RUN x", "FROM a\nFETCH x", "FROM a\nENV x"} {
		if _, err := parseDockerfile(broken); err == nil {
			t.Errorf("%q was taken", broken)
		}
	}
}
