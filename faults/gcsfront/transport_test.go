package gcsfront

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// through makes a client whose requests go through rules.
func through(t *testing.T, rules ...Rule) (*http.Client, *Transport, string, *Front) {
	t.Helper()
	front, base := serveFront(t, Options{})
	next := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(next.CloseIdleConnections)
	tr, err := NewTransport(next, TransportOptions{Rules: rules, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: tr}, tr, base, front
}

func upload(t *testing.T, c *http.Client, base, key, body string) (int, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+uploadPath(key, ""), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}

func TestTransportStrikesLikeTheFront(t *testing.T) {
	for name, c := range map[string]struct {
		rule   Rule
		status int
		err    error
		stored bool
	}{
		"no rule":      {Rule{Op: OpGet, Phase: Before, Do: Lose, Every: 1}, 200, nil, true},
		"lost after":   {Rule{Op: OpPut, Phase: After, Do: Lose, Every: 1}, 0, io.ErrUnexpectedEOF, true},
		"lost before":  {Rule{Op: OpPut, Phase: Before, Do: Lose, Every: 1}, 0, io.ErrUnexpectedEOF, false},
		"reset after":  {Rule{Op: OpPut, Phase: After, Do: Reset, Every: 1}, 0, syscall.ECONNRESET, true},
		"503 after":    {Rule{Op: OpPut, Phase: After, Do: Unavailable, Every: 1}, 503, nil, true},
		"429 before":   {Rule{Op: OpPut, KeyClass: "key", Phase: Before, Do: Throttle, Every: 1}, 429, nil, false},
		"other key":    {Rule{Op: OpPut, KeyClass: "wal", Phase: Before, Do: Throttle, Every: 1}, 200, nil, true},
		"cut after":    {Rule{Op: OpPut, Phase: After, Do: Cut, N: 3, Every: 1}, 200, io.ErrUnexpectedEOF, true},
		"second only":  {Rule{Op: OpPut, Phase: Before, Do: Deny, Nth: 2}, 200, nil, true},
		"takes longer": {Rule{Op: OpPut, Phase: Before, Do: Delay, Delay: time.Millisecond, Every: 1}, 200, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			client, tr, base, _ := through(t, c.rule)
			status, err := upload(t, client, base, "key", "the body")
			if status != c.status || !errors.Is(err, c.err) {
				t.Errorf("status %d, error %v; want %d, %v", status, err, c.status, c.err)
			}
			if body, ok := (wire{t, base}).body("key"); ok != c.stored || ok && body != "the body" {
				t.Errorf("stored: %v, %q; want %v", ok, body, c.stored)
			}
			fired := tr.Fired()[0]
			struck := name != "no rule" && name != "other key" && name != "second only"
			if (fired.Fired == 1) != struck {
				t.Errorf("counted %+v", fired)
			}
		})
	}
	if _, err := NewTransport(nil, TransportOptions{Rules: []Rule{{Op: OpPut, Phase: Before, Do: Cut, Every: 1}}}); err == nil {
		t.Error("a rule that can never strike was taken")
	}
}

// TestPowerCutDropsWhatIsOnItsWay: a request that waits at the bucket is never carried out; a later one is.
func TestPowerCutDropsWhatIsOnItsWay(t *testing.T) {
	front, base := serveFront(t, Options{Rules: []Rule{{Op: OpPut, KeyClass: "slow", Phase: Before, Do: Delay, Delay: 200 * time.Millisecond, Every: 1}}})
	done := make(chan error)
	go func() {
		_, err := upload(t, http.DefaultClient, base, "slow", "x")
		done <- err
	}()
	for front.Counters().Requests == 0 {
		if _, err := upload(t, http.DefaultClient, base, "other", "x"); err != nil {
			t.Fatal(err)
		}
	}
	for front.Fired()[0].Fired == 0 { // the slow one has arrived
		if _, err := upload(t, http.DefaultClient, base, "other", "x"); err != nil {
			t.Fatal(err)
		}
	}
	front.PowerCut()
	if err := <-done; err == nil {
		t.Error("a request that was lost was answered")
	}
	if _, ok := (wire{t, base}).body("slow"); ok {
		t.Error("a request that was on its way when the power went was carried out")
	}
	if status, err := upload(t, http.DefaultClient, base, "slow", "x"); status != 200 || err != nil {
		t.Errorf("afterwards: %d, %v", status, err)
	}
}

func TestMuteLosesRepliesOnly(t *testing.T) {
	front, base := serveFront(t, Options{})
	front.Mute(true)
	if _, err := upload(t, http.DefaultClient, base, "key", "x"); err == nil {
		t.Error("a muted bucket answered")
	}
	front.Mute(false)
	if _, ok := (wire{t, base}).body("key"); !ok || front.Muted() == 0 {
		t.Errorf("stored: %v, muted %d times", ok, front.Muted())
	}
}

func TestObserveHearsOfChanges(t *testing.T) {
	var mu sync.Mutex
	var seen []Change
	_, base := serveFront(t, Options{Observe: func(c Change) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, c)
	}})
	w := wire{t, base}
	w.put("key", "body")
	if status, err := upload(t, http.DefaultClient, base+"", "key", "again"); status != 200 || err != nil {
		t.Fatal(status, err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+uploadPath("key", "&ifGenerationMatch=0"), strings.NewReader("y"))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	w.body("key") // a read changes nothing
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 3 || !seen[0].Done() || !seen[1].Done() || seen[2].Done() || seen[2].Status != 412 || seen[1].Key != "key" || seen[1].Bytes != 5 {
		t.Errorf("observed %+v", seen)
	}
}
