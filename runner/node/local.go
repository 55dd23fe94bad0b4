package node

import (
	"context"
	"encoding/json"
	"fmt"
)

// local is a node in this process. It does one operation at a time.
type local struct{ s *session }

// Local makes a node in this process: for a store in this process's memory.
func Local(o Options) Node { return &local{newSession(o)} }

func (l *local) Do(ctx context.Context, op Op, args, result any) error {
	var got any
	var err error
	if a, ok := args.(OpenArgs); ok && op == Open { // its store cannot go through JSON
		got, err = l.s.open(ctx, a)
	} else {
		var raw []byte
		if raw, err = json.Marshal(args); err != nil {
			return fmt.Errorf("ask a node to %s: %w", op, err)
		}
		got, err = l.s.do(ctx, op, raw)
	}
	if err != nil {
		return asError(err)
	}
	if result == nil || got == nil {
		return nil
	}
	raw, err := json.Marshal(got)
	if err != nil {
		return fmt.Errorf("read a node's answer to %s: %w", op, err)
	}
	return json.Unmarshal(raw, result)
}

func (l *local) Kill() {
	if e := l.s.current(); e != nil {
		l.s.set(nil)
		e.Abandon()
	}
}

func (l *local) Fresh() bool { return false }
