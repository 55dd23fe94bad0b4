package httpapi

import (
	"strings"
	"testing"

	"blobpglite/core/store/mem"
)

// Requests run as the role that the database was made with, whatever its name is now, and whichever role now has its old name.
func TestTheFirstRoleIsRenamed(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	t.Run("rename", func(t *testing.T) {
		s := service(t, onStore(st))
		for _, sql := range []string{
			"CREATE ROLE chief SUPERUSER",
			"DO $$ BEGIN SET LOCAL SESSION AUTHORIZATION chief; ALTER ROLE postgres RENAME TO boss; CREATE ROLE postgres LOGIN; END $$",
		} {
			if status, body, _ := post(t, s, `{"sql":"`+sql+`"}`); status != 200 {
				t.Fatalf("%s: %d %s", sql, status, body)
			}
		}
	})
	s := service(t, onStore(st)) // before the renaming, no one has logged in
	for range 2 {
		for sql, want := range map[string]string{
			"SELECT concat_ws(' ', session_user, current_user, usesuper) AS who FROM pg_user WHERE usename = current_user": `"rows":[["boss boss t"]]`,
			"SET SESSION AUTHORIZATION postgres": `"tag":"SET"`,
			"RESET SESSION AUTHORIZATION":        `"tag":"RESET"`,
		} {
			if status, body, _ := post(t, s, `{"sql":"`+sql+`"}`); status != 200 || !strings.Contains(body, want) {
				t.Errorf("%s: %d %s", sql, status, body)
			}
		}
	}
}
