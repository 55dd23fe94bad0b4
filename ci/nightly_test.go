package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNightlyArguments(t *testing.T) {
	n := nightly{bucket: "gs://b/night/", profile: "full"}
	if got := strings.Join(n.args("e0"), " "); got != "-scenario e0 -profile full -store gcs -bucket gs://b/night/e0" {
		t.Error(got)
	}
	if got := strings.Join(n.args("e5"), " "); got != "-scenario e5 -profile full" {
		t.Error(got)
	}
	n = nightly{profile: "ci", results: "/r"}
	if got := strings.Join(n.args("e1"), " "); got != "-scenario e1 -profile ci -results /r" {
		t.Error(got)
	}
}

func TestNightlyOnCloudRun(t *testing.T) {
	n := nightly{bucket: "gs://b/night/", profile: "full", results: "/r", cloud: cloud{"p", "r", "i", "s", "a"}}
	want := "-scenario e4 -profile ci -target cloudrun -project p -region r -image i -service s -account a -bucket gs://b/night/e4-cloudrun -results /r"
	if got := strings.Join(n.cloudArgs("e4"), " "); got != want {
		t.Error(got)
	}
	root, err := moduleRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	steps, err := n.steps(t.Context(), &checker{root: root, temp: t.TempDir(), stdout: &out, stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	there := 0
	for _, s := range steps {
		if strings.HasSuffix(s.name, " on Cloud Run") {
			there++
		}
	}
	if there != len(onCloudRun()) {
		t.Errorf("%d scenarios run on Cloud Run", there)
	}
}

func TestNightlySteps(t *testing.T) {
	root, err := moduleRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := &checker{root: root, temp: t.TempDir(), stdout: &out, stderr: &out}
	steps, err := nightly{profile: "ci"}.steps(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range steps {
		names = append(names, s.name)
	}
	text := strings.Join(names, " ")
	if !strings.HasPrefix(text, "build ") || !strings.HasSuffix(text, " render") || !strings.Contains(text, " e2 ") {
		t.Error(text)
	}
	if _, err := (nightly{profile: "ci", only: []string{"e99"}}).steps(t.Context(), c); err == nil || !strings.Contains(err.Error(), "e99") {
		t.Error(err)
	}
	if _, err := (nightly{profile: "ci", bucket: "b"}).steps(t.Context(), c); err == nil || !strings.Contains(err.Error(), "gs://") {
		t.Error(err)
	}
}

// TestNightlyOrder: what has not been run for longest goes first, what never was before that; behind the limit nothing is begun.
func TestNightlyOrder(t *testing.T) {
	dir := t.TempDir()
	for id, lines := range map[string]string{
		"b": `{"started":"2026-11-29T10:00:00Z"}` + "\n", "c": `{"started":"2026-11-28T10:00:00.5Z"}` + "\n" + `{"started":"2026-11-27T10:00:00Z"}` + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, id+".jsonl"), []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ids := []string{"b", "c", "d"}
	nightly{results: dir}.order(&checker{}, ids)
	if got := strings.Join(ids, " "); got != "d c b" {
		t.Error(got)
	}
	root, err := moduleRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := &checker{root: root, temp: t.TempDir(), stdout: &out, stderr: &out}
	steps, err := nightly{profile: "ci", limit: 1, only: []string{"e0"}}.steps(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var skip skipError
	if err := steps[1].run(t.Context(), c); steps[1].name != "e0" || !errors.As(err, &skip) {
		t.Errorf("%s: %v", steps[1].name, err)
	}
}

func TestNightlyUsage(t *testing.T) {
	for _, args := range []string{"-bucket gs://a/b", "-nightly -short", "-nightly -profile huge", "-limit 1h", "-nightly -limit -1h", "-results x", "-project p", "-nightly -bucket gs://a/b -project p", "-nightly -project p -region r -image i -service s -account a"} {
		var out bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &out, &out); code != 2 {
			t.Errorf("%s: exit %d: %s", args, code, out.String())
		}
	}
}
