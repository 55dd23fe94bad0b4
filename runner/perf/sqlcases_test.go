package perf

import "testing"

func TestSQLCasesAreTheSameEachTime(t *testing.T) {
	a, b := sqlCases(1000), sqlCases(1000)
	for i := range a {
		for n := range min(a[i].calls, 20) {
			if string(a[i].call(n)) != string(b[i].call(n)) {
				t.Errorf("%s: call %d differs between the two sides", a[i].name, n)
			}
		}
	}
}
