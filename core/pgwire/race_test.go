package pgwire

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestStateIsSavedBesideItsClient: while a client's state is saved by another one that comes, it sends its next statement,
// which names settings of its own. ci runs this under the race detector; without it, Go finds the map that two write to often
// enough.
func TestStateIsSavedBesideItsClient(t *testing.T) {
	d := openDoor(t)
	const rounds = 60
	var wg sync.WaitGroup
	for n := range 4 {
		c := d.connect()
		wg.Go(func() {
			for i := range rounds {
				sql := []string{"SELECT 1"}
				switch n {
				case 0:
					sql = []string{fmt.Sprintf("SET my.x%d = 'v%d'", i%9, i)}
				case 1:
					sql = []string{fmt.Sprintf("SELECT set_config('your.x%d', '%d', false)", i%9, i), "SET work_mem = '5MB'", "RESET work_mem"}
				case 2:
					sql = []string{fmt.Sprintf("PREPARE p%d AS SELECT %d", i, i), fmt.Sprintf("LISTEN c%d", i%5), fmt.Sprintf("NOTIFY c%d", i%5), fmt.Sprintf("DEALLOCATE p%d", i)}
				}
				for _, q := range sql {
					if _, err := c.Exec(t.Context(), q, pgx.QueryExecModeSimpleProtocol); err != nil {
						t.Errorf("%s: %v", q, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	c := d.connect()
	exec(t, c, "SET my.own = 'kept'")
	exec(t, d.connect(), "SELECT 1")
	if got := one(t, c, "SELECT current_setting('my.own')"); !strings.EqualFold(got, "kept") {
		t.Errorf("the client's own setting: %q", got)
	}
}
