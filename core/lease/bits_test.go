package lease

import (
	"errors"
	"slices"
	"testing"

	"blobpglite/core/store/mem"
)

// TestEachBit: with any bit flipped, a lease is no longer a lease, or one that says exactly what its bytes say. Nothing is ignored, so a
// reader and a holder that checks for its own see the same.
func TestEachBit(t *testing.T) {
	st, clk := mem.New(mem.Options{}), newClock()
	o := options(st, clk, "holder")
	o.Address = "10.0.0.1:5432"
	acquire(t, o, 0)
	good, err := st.Get(t.Context(), Key)
	if err != nil {
		t.Fatal(err)
	}
	right, err := Decode(good.Body)
	if err != nil {
		t.Fatal(err)
	}
	refused, other := 0, 0
	for at := range good.Body {
		for bit := range 8 {
			body := slices.Clone(good.Body)
			body[at] ^= 1 << bit
			s, err := Decode(body)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) {
					t.Errorf("bit %d of byte %d: %v", bit, at, err)
				}
				refused++
				continue
			}
			other++
			if again, err := Encode(s); err != nil || string(again) != string(body) || s == right {
				t.Errorf("bit %d of byte %d: %s is read as %+v (%v)", bit, at, body, s, err)
			}
		}
	}
	t.Logf("%d of %d bits make it no lease, %d another one", refused, 8*len(good.Body), other)
	for n := range good.Body {
		if _, err := Decode(good.Body[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}
