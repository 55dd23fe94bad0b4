package pglite

import "strings"

// What follows in the guest's record of a setting that is a text (struct config_string).
const (
	optionExtra      = 60
	stringReset      = 112
	stringResetExtra = 116
)

// KeepIdentity makes the session's user the one that RESET SESSION AUTHORIZATION and DISCARD ALL go back to, as a login makes
// it: single-user mode knows of no login, and goes back to nobody, so that whoever was last set stays. Somebody must have
// been set by SET SESSION AUTHORIZATION. It is for the owner, between transactions.
func (in *Instance) KeepIdentity() error {
	if err := in.acquire(); err != nil {
		return err
	}
	defer in.relinquish()
	return in.outcome(in.guard(func() {
		record := in.option("session_authorization")
		value, extra := in.mem.u32(in.mem.u32(record+optionVariable)), in.mem.u32(record+optionExtra)
		if value == 0 || extra == 0 || strings.TrimSpace(in.mem.cstr(value)) == "" {
			in.trapf("the session has no user to keep")
		}
		for _, place := range []struct{ at, now uint32 }{{record + stringReset, value}, {record + stringResetExtra, extra}} {
			if old := in.mem.u32(place.at); old != 0 && old != place.now { // PostgreSQL shares it with nothing else between transactions
				in.call(in.fn.free, uint64(old))
			}
			in.mem.putU32(place.at, place.now)
		}
	}))
}
