package pgwire

import "testing"

// TestResetSessionAuthorization: a RESET, DEFAULT and DISCARD ALL go back to who has logged in, also after another client.
func TestResetSessionAuthorization(t *testing.T) {
	d := openDoor(t)
	const simple = "&default_query_exec_mode=simple_protocol" // no statements for DISCARD ALL to take away
	boss := d.connectTo(d.url("postgres", simple))
	exec(t, boss, "CREATE ROLE other; CREATE ROLE worker LOGIN; GRANT other TO worker")
	who := "SELECT current_user || ' ' || session_user"
	worker := d.connectTo(d.url("worker", simple))
	for _, back := range []string{"RESET SESSION AUTHORIZATION", "SET SESSION AUTHORIZATION DEFAULT", "DISCARD ALL"} {
		exec(t, boss, "SET SESSION AUTHORIZATION other")
		if got := one(t, boss, who); got != "other other" {
			t.Fatalf("behind SET the client is %q", got)
		}
		if got := one(t, worker, who); got != "worker worker" {
			t.Errorf("another client is %q meanwhile", got)
		}
		exec(t, boss, back)
		if got := one(t, boss, who); got != "postgres postgres" {
			t.Errorf("behind %s the superuser's client is %q", back, got)
		}
		exec(t, worker, "SET ROLE other")
		exec(t, worker, back)
		exec(t, worker, "RESET ROLE")
		if got := one(t, worker, who); got != "worker worker" {
			t.Errorf("behind %s the other client is %q", back, got)
		}
	}
	exec(t, boss, "BEGIN; SET LOCAL SESSION AUTHORIZATION other")
	exec(t, boss, "ROLLBACK")
	if got := one(t, boss, who); got != "postgres postgres" {
		t.Errorf("behind a ROLLBACK the client is %q", got)
	}
}
