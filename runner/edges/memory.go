package edges

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

func memoryCases() []Case {
	return []Case{
		{"large-transaction", "a large transaction takes no more memory than the database and 300 MB", largeTransaction},
		{"large-answer", "a large answer over HTTP is streamed", largeAnswer},
	}
}

const overMost = 300 << 20

// idlePeak is the memory of a server that has opened a new database and no more.
func (t *Trial) idlePeak(ctx context.Context) (int64, error) {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return 0, err
	}
	defer s.Kill()
	if err := s.exec(ctx, "SELECT 1"); err != nil {
		return 0, err
	}
	return peak(s.PID())
}

func largeTransaction(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	if err := s.exec(ctx, "CREATE TABLE kept (id int, t text)"); err != nil {
		return err
	}
	megabytes := t.size(300)
	rows := megabytes * 1000
	big := fmt.Sprintf("INSERT INTO kept SELECT i, (SELECT string_agg(md5(i::text || j::text), '') FROM generate_series(1, 31) j) FROM generate_series(1, %d) i", rows)
	c, err := s.connect(ctx, "postgres")
	if err != nil {
		return err
	}
	if _, err := c.Exec(ctx, big); err != nil {
		t.expect(false, "one transaction of %d MB: %v", megabytes, err)
		return nil
	}
	_ = c.Close(ctx)
	size, err := s.number(ctx, "SELECT sum(pg_database_size(datname))::bigint FROM pg_database")
	if err != nil {
		return err
	}
	most, err := peak(s.PID())
	if err != nil {
		return err
	}
	over := most - int64(size)
	t.o.Metrics.Value("peak_bytes", float64(most))
	t.o.Metrics.Value("over_bytes", float64(max(0, over)))
	t.expect(over <= overMost, "one transaction of %d MB: at its peak %d MB for a database of %d MB", megabytes, most>>20, size>>20)
	if s, err = s.crash(ctx); err != nil {
		return err
	}
	n, err := s.number(ctx, "SELECT count(*) FROM kept")
	if err != nil {
		return err
	}
	t.rows("of one large transaction", rows, n)
	if most, err = peak(s.PID()); err != nil {
		return err
	}
	t.expect(most-int64(size) <= overMost, "opening it again: at its peak %d MB for a database of %d MB", most>>20, size>>20)
	return nil
}

func largeAnswer(ctx context.Context, t *Trial) error {
	idle, err := t.idlePeak(ctx)
	if err != nil {
		return err
	}
	megabytes := t.size(130)
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	if err := s.exec(ctx, "SELECT 1"); err != nil {
		return err
	}
	body := fmt.Sprintf(`{"sql": "SELECT i, repeat('x', 1000) FROM generate_series(1, %d) i"}`, megabytes*1000)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.HTTP()+"/sql", strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, got.Body)
	_ = got.Body.Close()
	most, peakErr := peak(s.PID())
	if peakErr != nil {
		return peakErr
	}
	t.o.Metrics.Value("peak_bytes", float64(most))
	t.o.Metrics.Value("over_bytes", float64(max(0, most-idle)))
	if got.StatusCode != http.StatusOK { // it may be refused, in words
		t.expect(got.StatusCode == http.StatusRequestEntityTooLarge, "an answer of %d MB: status %d", megabytes, got.StatusCode)
	} else {
		t.expect(err == nil && n > int64(megabytes)*1_000_000, "an answer of %d MB: %d bytes came: %v", megabytes, n, err)
	}
	t.expect(most-idle <= overMost, "an answer of %d MB: at its peak %d MB, idle %d MB", megabytes, most>>20, idle>>20)
	return nil
}
