package layers

import (
	"fmt"
	"testing"

	"blobpglite/runner/workload"
)

// TestPricingChanges: the clustered changes of a round are a hundredth of the rows, all existing, and different ones each time; so are the
// remainders of the scattered changes.
func TestPricingChanges(t *testing.T) {
	p := &pricing{data: workload.Dataset{Bytes: 10_000_000}, change: changeClustered}
	scattered := &pricing{data: p.data, change: changeScattered}
	seen := map[int]bool{}
	for round := range 8 {
		var from, to, of, rest int
		if _, err := fmt.Sscanf(p.sql(round), "UPDATE rows SET text_that_compresses = reverse(text_that_compresses) WHERE id > %d AND id <= %d", &from, &to); err != nil {
			t.Fatal(err)
		}
		if to-from != p.data.Rows()/priceShare || from < 0 || to > p.data.Rows() || seen[from] {
			t.Errorf("round %d changes rows %d to %d of %d", round, from+1, to, p.data.Rows())
		}
		seen[from] = true
		if _, err := fmt.Sscanf(scattered.sql(round), "UPDATE rows SET text_that_compresses = reverse(text_that_compresses) WHERE abs(hashint8(id)::bigint) %% %d = %d", &of, &rest); err != nil {
			t.Fatal(err)
		}
		if of != priceShare || rest != round {
			t.Errorf("round %d changes those of %d that leave %d", round, of, rest)
		}
	}
}

func TestChangedKey(t *testing.T) {
	a := map[string]string{"same": "1", "manifest": "1"}
	for name, b := range map[string]map[string]string{
		"changed": {"same": "1", "manifest": "2"}, "gone": {"same": "1"}, "new": {"same": "1", "manifest": "1", "more": "1"}, "": a,
	} {
		want := map[string]string{"changed": "manifest", "gone": "manifest", "new": "more"}[name]
		if got := changedKey(a, b); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
