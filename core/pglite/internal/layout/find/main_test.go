package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"blobpglite/core/pglite/internal/assets"
)

func TestRun(t *testing.T) {
	set, err := assets.Ensure(t.Context(), assets.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "Address"},
		{[]string{"-function", "kill"}, "if(i32.eq(l0, 42))"},
		{[]string{"-function", "GetXLogReplayRecPtr"}, `{s_lock}(`},
		{[]string{"-text", "SendProcSignal"}, " SendProcSignal\n"},
	} {
		var out bytes.Buffer
		if err := run(append(tt.args, set.PGliteWasm()), &out); err != nil || !strings.Contains(out.String(), tt.want) {
			t.Errorf("%q: %v, %d bytes without %q", tt.args, err, out.Len(), tt.want)
		}
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "one file is expected"},
		{[]string{filepath.Join(t.TempDir(), "none")}, "no such file"},
		{[]string{"main.go"}, "does not start with the magic number"},
		{[]string{"-function", "nobody", set.PGliteWasm()}, "nobody"},
		{[]string{"-function", "99999", set.PGliteWasm()}, "99999"},
		{[]string{"-function", "3", set.PGliteWasm()}, "function 3"}, // imported
	} {
		var out bytes.Buffer
		if err := run(tt.args, &out); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v", tt.args, err)
		}
	}
}
