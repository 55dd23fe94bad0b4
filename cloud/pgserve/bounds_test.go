package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"blobpglite/core/pglite"
)

// TestFlagsThatMakeNoSense: each is refused, by a message that names the flag, the value and the allowed values.
func TestFlagsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for _, c := range []string{
		"-lease-ttl=-1s", "-lease-ttl=0s", "-lease-ttl=1ms", "-lease-ttl=1000h", "-acquire-timeout=-1s", "-acquire-timeout=9999h",
		"-flush-interval=0s", "-flush-interval=-1ms", "-idle-flush=-1s",
		"-restore-budget=999h", "-retain=-1h", "-retain=2000000h", "-statement-timeout=-1s", "-grace=-1s", "-grace=999h",
		"-memory-limit=-1", "-memory-limit=1", "-memory-limit=999999999999", "-disk-limit=-1", "-disk-limit=1000",
		"-max-clients=-1", "-max-clients=0", "-max-clients=1000000000", "-max-requests=0", "-max-requests=-5",
		"-listen=5432", "-http=localhost", "-http-host=http://x/", "-endpoint=localhost:4443", "-endpoint=ftp://x",
	} {
		name, value, _ := strings.Cut(c, "=")
		if text := admin(t, 2, "-store", "mem", c); !strings.Contains(text, name+" ") || !strings.Contains(text, strings.TrimLeft(value, "0")) {
			t.Errorf("pgserve %s says %q", c, text)
		}
	}
	for name, text := range map[string]string{"-token": "two words", "-password": "a\x01b"} {
		if said := admin(t, 2, "-store", "mem", name, text); !strings.Contains(said, name) {
			t.Errorf("pgserve %s %q says %q", name, text, said)
		}
	}
	if text := admin(t, 2, "gc", "-bucket", "gs://a/b", "-lease-ttl=-1s"); !strings.Contains(text, "-lease-ttl -1s") {
		t.Errorf("gc says %q", text)
	}
}

// TestPinnedSettingsAreRefusedAtOnce: not at the first connection. Their own values are accepted, and so are settings that are not pinned.
func TestPinnedSettingsAreRefusedAtOnce(t *testing.T) {
	for _, p := range pglite.Pins() {
		for _, name := range []string{p.Name, strings.ToUpper(strings.ReplaceAll(p.Name, "_", "-"))} {
			if text := admin(t, 2, "-store", "mem", "-set", name+"=another"); !strings.Contains(text, "-set: ") || !strings.Contains(text, name+"=another") || !strings.Contains(text, p.Why) {
				t.Errorf("pgserve -set %s=another says %q", name, text)
			}
		}
		var out, errs bytes.Buffer
		if len(p.Values) > 0 {
			if _, _, err := parse(commands()[0], []string{"-store", "mem", "-set", p.Name + "=" + p.Values[0]}, &out, &errs); err != nil {
				t.Errorf("pgserve -set %s=%s says %q", p.Name, p.Values[0], errs.String())
			}
		}
	}
	t.Setenv("PGSERVE_SET", "fsync=off")
	if text := admin(t, 2, "-store", "mem"); !strings.Contains(text, "fsync=off") {
		t.Errorf("PGSERVE_SET=fsync=off says %q", text)
	}
	t.Setenv("PGSERVE_SET", "work_mem=1MB")
	var out, errs bytes.Buffer
	if _, _, err := parse(commands()[0], []string{"-store", "mem"}, &out, &errs); err != nil {
		t.Error(errs.String())
	}
}

// TestFlagsThatAreGone name their replacement, on the command line and in the environment; -help does not list them.
func TestFlagsThatAreGone(t *testing.T) {
	help := admin(t, 0, "-help")
	for name := range gone() {
		if text := admin(t, 2, "-store", "mem", "-"+name, "5s"); !strings.Contains(text, "-"+name) || !strings.Contains(text, "-set ") {
			t.Errorf("-%s says %q", name, text)
		}
		t.Run(name, func(t *testing.T) {
			t.Setenv(envPrefix+strings.ToUpper(strings.ReplaceAll(name, "-", "_")), "5s")
			if text := admin(t, 2, "-store", "mem"); !strings.Contains(text, "-set ") {
				t.Errorf("in the environment %s says %q", name, text)
			}
		})
		if strings.Contains(help, "-"+name) {
			t.Errorf("-help names -%s", name)
		}
	}
	if !strings.Contains(help, "-max-clients int") || !strings.Contains(help, "(default 100)") || !strings.Contains(help, "(default early)") && !strings.Contains(help, `(default "early")`) {
		t.Errorf("-help says %s", help)
	}
}

// TestEveryNumberHasABound: a new flag must be given one.
func TestEveryNumberHasABound(t *testing.T) {
	t.Parallel()
	for _, cmd := range commands() {
		probe := &config{settings: settings{}}
		f, _ := probe.flags(cmd, io.Discard)
		f.VisitAll(func(fl *flag.Flag) {
			getter, ok := fl.Value.(flag.Getter)
			if !ok {
				return
			}
			absurd := ""
			switch getter.Get().(type) {
			case time.Duration:
				absurd = "2500000h"
			case int, int64:
				absurd = "-7"
			default:
				return
			}
			var out, errs bytes.Buffer
			if _, _, err := parse(cmd, []string{"-" + fl.Name + "=" + absurd}, &out, &errs); !errors.Is(err, errUsage) || !strings.Contains(errs.String(), "-"+fl.Name+" ") {
				t.Errorf("pgserve %s -%s=%s is taken: %s", cmd.name, fl.Name, absurd, errs.String())
			}
		})
	}
}

func TestFlagsThatAreTaken(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	c, _, err := parse(commands()[0], []string{
		"-store", "mem", "-restore-budget=-1ns", "-answers=durable", "-acquire-timeout=1ms", "-memory-limit=0", "-memory-limit=268435456",
		"-disk-limit=0", "-grace=0s", "-token=abc\n", "-password=p w\r\n", "-listen=", "-http=[::1]:0", "-http-host=db.example,other.example:8080",
	}, &out, &errs)
	if err != nil {
		t.Fatal(errs.String())
	}
	if c.token != "abc" || c.password != "p w" || len(c.hosts) != 2 {
		t.Errorf("%q %q %v", c.token, c.password, c.hosts)
	}
}

// TestSocketLeftBehind: after SIGKILL the next server starts; it does not where another process listens, or where there is another file.
func TestSocketLeftBehind(t *testing.T) {
	t.Parallel()
	folder, err := os.MkdirTemp("", "s") // a socket's name is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	path := filepath.Join(folder, ".s.PGSQL.5432")
	first := start(t, "-store", "mem", "-socket", path)
	if text := admin(t, 1, "-store", "mem", "-listen", "", "-http", "", "-socket", path); !strings.Contains(text, "another process listens") {
		t.Error(text)
	}
	if err := first.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-first.done
	if _, err := os.Lstat(path); err != nil {
		t.Fatal("nothing is left behind: ", err)
	}
	start(t, "-store", "mem", "-socket", path)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal("nobody listens: ", err)
	}
	_ = conn.Close()

	file := filepath.Join(folder, "precious")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(folder, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, link, folder} {
		if text := admin(t, 1, "-store", "mem", "-listen", "", "-http", "", "-socket", name); !strings.Contains(text, "not a socket") {
			t.Errorf("%s: %s", name, text)
		}
	}
	if b, err := os.ReadFile(link); err != nil || string(b) != "kept" {
		t.Errorf("%q, %v", b, err)
	}
}
