package gcs

import (
	"context"

	"google.golang.org/api/option"
)

// Ruling is a row of the table.
type Ruling struct {
	Status int
	Reason string
	Kinds  []string
	Answer string
}

// Names of answers, for tests.
func (a answer) String() string {
	return map[answer]string{
		answerTransient: "transient", answerOK: "ok", answerMissing: "missing", answerNoBucket: "no bucket", answerPrecondition: "precondition",
		answerThrottled: "throttled", answerRefused: "refused", answerDenied: "denied", answerForbidden: "forbidden",
		answerCredentials: "credentials", answerCorrupt: "corrupt", answerRange: "range",
	}[a]
}

var kinds = map[string]kind{"get": kindRead, "list": kindList, "create": kindCreate, "swap": kindSwap, "put": kindPut, "delete": kindDelete}

// Rule returns what an answer means for a request of a kind.
func Rule(k string, status int, reason string) string {
	return rule(kinds[k], status, reason).answer.String()
}

// Documented returns the statuses and reasons of the table.
func Documented() (all []Ruling) {
	for _, r := range rulings() {
		all = append(all, Ruling{Status: r.status, Reason: r.reason})
	}
	return all
}

// ConnectWith makes each new client of the store with the options that the function returns, from the next renewal on.
func (s *Store) ConnectWith(ctx context.Context, options func() []option.ClientOption) error {
	c := s.clients
	c.mu.Lock()
	defer c.mu.Unlock()
	base, client, err := s.o.clientOptions()
	if err != nil {
		return err
	}
	c.connect = func(ctx context.Context) (*handle, error) {
		return connect(context.WithoutCancel(ctx), s.o.Bucket, client, append(append([]option.ClientOption{}, base...), options()...))
	}
	h, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.old = append(c.old, c.now)
	c.now = h
	return nil
}
