package pgwire

import "strconv"

// Names of prepared statements. Each that a client uses gets a number, by which the session knows it, until a closed statement's
// number is needed for another name.

// namePrefix begins the session's names of clients' statements: c7.12 is the twelfth name that client 7 has used. The
// client's own name would do, were it not that PostgreSQL cuts names at 63 bytes.
const namePrefix = "c"

const (
	unnamedKey = "0" // of the unnamed statement
	unknownKey = "x" // of a name that was never parsed: there is no such statement in the session
)

// maxStatements is how many prepared statements a connection may have at a time. maxNames is how many names are remembered: a
// sixteenth more, so that what is closed is looked for once in many names.
const (
	maxStatements = 100_000
	maxNames      = maxStatements + maxStatements/16
)

// names are a client's names of statements.
type names struct {
	prefix  string         // of the client's keys
	numbers map[string]int // by name
	byNum   []string       // from 1; empty: free
	free    []int
	unknown string // the last name that has no number
}

// key is the session's name of a client's statement: no two clients have the same.
func (n *names) key(name string) string {
	if name == "" {
		return n.prefix + unnamedKey
	}
	if number, ok := n.numbers[name]; ok {
		return n.prefix + strconv.Itoa(number)
	}
	n.unknown = name
	return n.prefix + unknownKey
}

// add gives a name its key, for a Parse. again: another name had it before, and PostgreSQL may know a statement by it yet, such
// as one whose DEALLOCATE has failed. Names that are not live may lose their numbers.
func (n *names) add(name string, live func() map[string]bool) (key string, again bool) {
	if _, ok := n.numbers[name]; ok || name == "" {
		return n.key(name), false
	}
	if n.numbers == nil {
		n.numbers = map[string]int{}
	}
	if len(n.free) == 0 && len(n.byNum) >= maxNames {
		n.sweep(live())
	}
	if last := len(n.free) - 1; last >= 0 {
		number := n.free[last]
		n.free = n.free[:last]
		n.byNum[number-1], n.numbers[name] = name, number
		return n.key(name), true
	}
	n.byNum = append(n.byNum, name)
	n.numbers[name] = len(n.byNum)
	return n.key(name), false
}

// sweep frees the numbers of names that no statement has.
func (n *names) sweep(live map[string]bool) {
	for i, name := range n.byNum {
		if name != "" && !live[name] {
			delete(n.numbers, name)
			n.byNum[i] = ""
			n.free = append(n.free, i+1)
		}
	}
}

// of is the client's name for what follows the prefix in a key, and how long that is.
func (n *names) of(key []byte) (name string, length int) {
	if len(key) > 0 && key[0] == unknownKey[0] {
		return n.unknown, 1
	}
	number := 0
	for length < len(key) && key[length] >= '0' && key[length] <= '9' && length < 9 {
		number = 10*number + int(key[length]-'0')
		length++
	}
	if number > 0 && number <= len(n.byNum) {
		name = n.byNum[number-1]
	}
	return name, length
}
