package mutant

// httpMutants break the sessions of HTTP requests.
func httpMutants() []Mutant {
	const (
		session = "core/httpapi/session.go"
		pool    = "core/httpapi/pool.go"
		request = "core/httpapi/request.go"
	)
	return []Mutant{
		{
			Name: "page-without-policy", Invariant: promise, File: "core/httpapi/page.go", Plan: "./core/httpapi -run TestPageHeaders",
			Doc: "the page for people has no Content-Security-Policy",
			Old: "\t\th.Set(\"Content-Security-Policy\", policy)\n", New: "",
		},
		{
			Name: "status-without-token", Invariant: promise, File: "core/httpapi/page.go", Plan: "./core/httpapi -run TestPageHeaders",
			Doc: "what is going on is shown to a client without the token",
			Old: "a.guarded(a.status)", New: "a.status",
		},
		{
			Name: "session-not-cleaned", Invariant: promise, File: session, Plan: "./core/httpapi -run TestNothingIsLeft",
			Doc: "whatever a request has set, locked or prepared is there for the next one",
			Old: `{"DISCARD ALL", `, New: `{"DEALLOCATE ALL", `,
		},
		{
			Name: "seed-is-left", Invariant: promise, File: session, Plan: "./core/httpapi -run TestNothingIsLeft",
			Doc: "a request can predict the random numbers of the next one",
			Old: "2*rand.Float64()-1", New: "0*rand.Float64()",
		},
		{
			Name: "block-is-left", Invariant: promise, File: session, Plan: "./core/httpapi -run TestNothingIsLeft",
			Doc: "a transaction that a request has left open is committed",
			Old: `s.Exec(ctx, "ROLLBACK")`, New: `s.Exec(ctx, "COMMIT")`,
		},
		{
			Name: "http-answers-early", Invariant: durable, File: pool, Plan: "./core/httpapi -run TestUnknownOutcome",
			Doc: "a request is told something that is not durable",
			Old: "s.backend.HoldAnswers(true)", New: "s.backend.HoldAnswers(false)",
		},
		{
			Name: "old-name-is-superuser", Invariant: promise, File: session, Plan: "./core/httpapi -run TestTheFirstRoleIsRenamed",
			Doc: "requests run as the role that now has the superuser's old name",
			Old: "s != nil && name == user {", New: "s != nil && name != \"\" {",
		},
		{
			Name: "batch-in-two", Invariant: promise, File: request, Plan: "./core/httpapi -run TestEndsTransaction|TestRequestsLeaveNothing",
			Doc: "a statement after a comment ends a batch's transaction, and another one continues",
			Old: "\tword := words(sql, 3)\n", New: "\tif len(sql) > 0 && sql[0] == '/' {\n\t\treturn false\n\t}\n\tword := words(sql, 3)\n",
		},
		{
			Name: "name-with-parameters", Invariant: promise, File: request, Plan: "./core/httpapi -run TestDatabaseOfARequest",
			Doc: "the name of a database smuggles in start-up parameters",
			Old: " || strings.ContainsRune(given[0], 0):", New: ":",
		},
		{
			Name: "taken-over-at-rest", Invariant: promise, File: "core/keeper/keeper.go", Plan: "./core/keeper -run TestTakenOverAtRest",
			Doc: "another writer had the database while nobody asked: the next client gets the old engine, and fails",
			Old: "\terr = e.Confirm(ctx)\n", New: "",
		},
		{
			Name: "session-of-the-old-engine", Invariant: promise, File: "core/httpapi/httpapi.go", Plan: "./core/httpapi -run TestTakenOverAtRest",
			Doc: "another writer had the database while nobody asked: the next request gets an idle session of the old engine, and fails",
			Old: "\tif _, err := a.o.Keeper.Engine(ctx); err != nil {\n", New: "\tif err := ctx.Err(); err != nil {\n",
		},
	}
}
