package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"blobpglite/core/store/mem"
)

// TestLargeAnswers: a large answer is complete and the same JSON as ever; if its statement fails after the first part was sent, the answer
// says so and is cut off, where a small one has the status of its error.
func TestLargeAnswers(t *testing.T) {
	t.Parallel()
	s := service(t, onStore(mem.New(mem.Options{})))
	ask := func(rows, fails int) (status int, body string, err error) {
		q, err := json.Marshal(map[string]any{
			"sql":    "SELECT g, repeat('x', 10000) AS b, 1 / (g - $1::int) AS c FROM generate_series(1, $2::int) g",
			"params": []int{fails, rows},
		})
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/sql", strings.NewReader(string(q)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		a, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		b, err := io.ReadAll(a.Body)
		return a.StatusCode, string(b), err
	}
	const many = 2000
	status, body, err := ask(many, -1)
	var res result
	if status != http.StatusOK || err != nil || json.Unmarshal([]byte(body), &res) != nil || len(res.Rows) != many || res.Tag != "SELECT 2000" {
		t.Errorf("%d, %d rows, %q, %v", status, len(res.Rows), res.Tag, err)
	}
	for i, row := range res.Rows {
		if len(row) != 3 || len(row[1]) != 10002 {
			t.Fatalf("row %d: %.100s", i, row)
		}
	}
	if status, body, err = ask(10, 10); status != http.StatusBadRequest || err != nil || !strings.HasPrefix(body, `{"error":`) {
		t.Errorf("a small one that fails: %d %.200s %v", status, body, err)
	}
	status, body, err = ask(many, many)
	if status != http.StatusOK || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a large one that fails: %d, %v", status, err)
	}
	if tail := body[max(0, len(body)-300):]; !strings.Contains(tail, `"sqlstate":"22012"`) || !strings.Contains(tail, `"outcome":"failed"`) {
		t.Errorf("it ends with %s", tail)
	}
	if status, _, err := ask(1, -1); status != http.StatusOK || err != nil {
		t.Errorf("after it: %d %v", status, err)
	}
}
