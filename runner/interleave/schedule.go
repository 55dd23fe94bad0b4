package interleave

import (
	"fmt"
	"slices"
	"strings"
)

// clients are the letters of the clients.
const clients = "AB"

// step is one action by one client.
type step struct {
	client int // an index of clients
	action Action
}

func (s step) String() string { return clients[s.client:s.client+1] + ":" + s.action.Name }

// Schedule is an order of the actions of two clients.
type Schedule []step

// String returns what Parse reads.
func (s Schedule) String() string {
	words := make([]string, len(s))
	for i, st := range s {
		words[i] = st.String()
	}
	return strings.Join(words, " ")
}

// Parse reads a schedule: "A:begin B:show".
func Parse(text string) (Schedule, error) {
	var s Schedule
	for _, word := range strings.Fields(text) {
		client, name, ok := strings.Cut(word, ":")
		if !ok || len(client) != 1 || !strings.Contains(clients, client) {
			return nil, fmt.Errorf("read a schedule: %q is not a client and an action, as in A:begin", word)
		}
		a, err := action(name)
		if err != nil {
			return nil, fmt.Errorf("read a schedule: %q: %w", word, err)
		}
		s = append(s, step{strings.Index(clients, client), a})
	}
	if len(s) == 0 {
		return nil, fmt.Errorf("read a schedule: %q holds no actions", text)
	}
	return s, nil
}

// normal returns the representative of all equal schedules: the least in the order of its texts.
func (s Schedule) normal() Schedule {
	mirror := slices.Clone(s)
	for i := range mirror {
		mirror[i].client = 1 - mirror[i].client
	}
	a, b := s.ordered(), mirror.ordered()
	if b.String() < a.String() {
		return b
	}
	return a
}

// ordered puts neighbours that do not meet into the order of the clients' letters, as far as possible: always the first client's next
// action, unless one of the other's before it meets it.
func (s Schedule) ordered() Schedule {
	rest, out := slices.Clone(s), make(Schedule, 0, len(s))
	for len(rest) > 0 {
		next := 0
		for i, st := range rest {
			if st.client == 0 {
				if !slices.ContainsFunc(rest[:i], func(o step) bool { return meet(o.action, st.action) }) {
					next = i
				}
				break
			}
		}
		out = append(out, rest[next])
		rest = slices.Delete(rest, next, next+1)
	}
	return out
}

// within says whether all of s is in other, in this order and by the same clients, or the other way round.
func (s Schedule) within(other Schedule) bool {
	for _, swapped := range []int{0, 1} {
		i := 0
		for _, st := range other {
			if i < len(s) && s[i].action.Name == st.action.Name && s[i].client == st.client^swapped {
				i++
			}
		}
		if i == len(s) {
			return true
		}
	}
	return false
}
