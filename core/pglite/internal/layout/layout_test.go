package layout

import (
	"errors"
	"strings"
	"testing"
)

func TestForKnowsItsTable(t *testing.T) {
	for _, want := range layouts() {
		got, err := For(strings.ToUpper(want.SHA256))
		if err != nil || got.PGlite != want.PGlite || got.Functions["InitProcess"] == 0 {
			t.Errorf("%s: %+v, %v", want.SHA256, got, err)
		}
	}
}

func TestForSaysWhatItDoesNotKnow(t *testing.T) {
	for _, sum := range []string{"", "5256d9", strings.Repeat("0", 64)} {
		l, err := For(sum)
		if l != nil || !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "0.5.16") || !strings.Contains(err.Error(), sum) {
			t.Errorf("%q: %v, %v", sum, l, err)
		}
	}
}
