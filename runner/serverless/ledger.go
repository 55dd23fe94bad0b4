package serverless

import (
	"context"
	"fmt"

	"blobpglite/runner/bench"
)

// ledger is numbered rows: every acknowledged one must be there, none that was refused, none that was never sent.
type ledger struct {
	*Service
	next  int
	fate  map[int]string // acked, failed, unknown
	begun bool
}

// Fates of a row.
const (
	fateAcked   = "acked"
	fateFailed  = "failed"
	fateUnknown = "unknown"
)

func (t *Service) ledger() *ledger { return &ledger{Service: t, fate: map[int]string{}} }

// make creates the table.
func (k *ledger) make(ctx context.Context) error {
	_, err := k.must(ctx, "CREATE TABLE tokens (n int PRIMARY KEY)")
	return err
}

// put writes the next row at an address.
func (k *ledger) put(ctx context.Context, url string) (Reply, error) {
	n := k.next
	k.next++
	return k.write(ctx, url, n)
}

// write writes a row.
func (k *ledger) write(ctx context.Context, url string, n int) (Reply, error) {
	a, err := k.sqlAt(ctx, url, fmt.Sprintf("INSERT INTO tokens VALUES (%d) ON CONFLICT DO NOTHING", n))
	fate := fateUnknown
	switch {
	case err != nil:
	case a.Status == 200:
		fate = fateAcked
	case a.Outcome == "failed":
		fate = fateFailed
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fate[n] != fateUnknown || fate == fateAcked { // what may have been done stays possible
		k.fate[n] = fate
	}
	return a, err
}

// compare compares what is there, at an address, with what clients were told.
func (k *ledger) compare(ctx context.Context, url string) error {
	a, err := k.sqlAt(ctx, url, "SELECT n FROM tokens")
	if err != nil {
		return err
	}
	if a.Status != 200 {
		return fmt.Errorf("read the rows: status %d: %s", a.Status, a.Text)
	}
	there := map[int]bool{}
	for _, row := range a.Rows {
		var n int
		if _, err := fmt.Sscan(string(row[0]), &n); err != nil {
			return fmt.Errorf("read the rows: %w", err)
		}
		there[n] = true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	wrong := ""
	for n := range there {
		if fate := k.fate[n]; fate == fateFailed || fate == "" {
			wrong = fmt.Sprintf("row %d is there, and its fate was %q", n, fate)
		}
	}
	acked := 0
	for n, fate := range k.fate {
		if fate == fateAcked {
			acked++
			if !there[n] {
				wrong = fmt.Sprintf("row %d was acknowledged and is gone", n)
			}
		}
	}
	if acked > 0 || wrong != "" {
		k.Run.Check(bench.CheckDurability, wrong)
	}
	return nil
}
