package scenario

import (
	"strings"
	"testing"
	"time"
)

func TestInfer(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]any{
		"10s": 10 * time.Second, "1m30s": 90 * time.Second, "250ms": 250 * time.Millisecond,
		"1MB": Size(1e6), "1.5KB": Size(1500), "8KiB": Size(8192), "0B": Size(0), "2TiB": Size(2 << 40),
		"20/s": Rate(20), "90/m": Rate(1.5), "1.8/h": Rate(0.0005),
		"snapshot": "snapshot", "MB": "MB", "1.5B": "1.5B", "-1MB": "-1MB", "-1s": "-1s", "/s": "/s", "5/d": "5/d",
		"a/b": "a/b", "99999999TB": "99999999TB", "0": int64(0), "7": int64(7), "1e3": 1000.0, "true": true, "": "", "NaN": "NaN",
	} {
		if got := inferScalar(text); got != want {
			t.Errorf("%q is %v (%T), want %v (%T)", text, got, got, want, want)
		}
	}
}

func TestUnitsReadBack(t *testing.T) {
	t.Parallel()
	for _, s := range []Size{0, 1, 999, 1000, 1024, 1e6, 1 << 20, 1500, 500e6, 3e12} {
		if back, err := ParseSize(s.String()); err != nil || back != s {
			t.Errorf("%d bytes are written %s and read %d, %v", int64(s), s, int64(back), err)
		}
	}
	for _, r := range []Rate{0, 20, 1.5, 0.1} {
		if back, err := ParseRate(r.String()); err != nil || back != r {
			t.Errorf("%g is written %s and read %g, %v", float64(r), r, float64(back), err)
		}
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	text := testRegistry().Describe()
	for _, want := range []string{"roundtrip\n    commits and reopens\n", "(required)", "(default snapshot)", "(snapshot)", "restore_ms", "checks:\n    checksum", "fault seams:\n    http"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	t.Parallel()
	known := []string{"rounds", "lease_ttl", "size"}
	for name, want := range map[string]string{
		"ruonds": `, did you mean "rounds"?`, "lease-ttl": `, did you mean "lease_ttl"?`, "Size": `, did you mean "size"?`, "colour": "",
	} {
		if got := didYouMean(name, known); got != want {
			t.Errorf("%s%s, want %s", name, got, want)
		}
	}
}
