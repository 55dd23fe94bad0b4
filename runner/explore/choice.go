package explore

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// kind is what a choice does.
type kind uint8

const (
	deliver kind = iota // the pending store call is carried out and answered
	early               // the same for a read of the lease, and no time has passed: it has not run out
	lose                // the pending write is carried out, its reply is lost
	delay               // the pending write is not carried out yet: it arrives later; its sender gets no reply
	crash               // the process dies; its pending call is never carried out
	begin               // an idle process opens the database
	commit              // an idle writer appends a record
	late                // the same, after its lease has run out
	compact             // an idle writer publishes a layer
	collect             // an idle writer collects garbage
	release             // an idle writer closes
	arrive              // a delayed write is carried out
	kinds
)

// words are the kinds as schedules have them; a bare name means deliver.
func (k kind) word() string {
	return [kinds]string{"", "early", "lose", "delay", "crash", "open", "append", "late", "compact", "collect", "close", "arrive"}[k]
}

// Bounds of what a choice can name.
const (
	maxWriters = 3
	maxDelayed = 8
)

// choice is one step of a schedule: something happens to a process, or a delayed write arrives.
type choice struct {
	kind kind
	who  uint8 // the process; of arrive: the number of the delayed write
}

// bit is the choice's place in a set of choices.
func (c choice) bit() set { return 1 << (uint(c.kind)*maxWriters + uint(c.who)) }

// set is a set of choices.
type set uint64

// lowest returns the first choice of a set that is not empty.
func (s set) lowest() choice {
	n := bits.TrailingZeros64(uint64(s))
	if n >= int(arrive)*maxWriters {
		return choice{arrive, uint8(n - int(arrive)*maxWriters)}
	}
	return choice{kind(n / maxWriters), uint8(n % maxWriters)}
}

// processName is A, B or C.
func processName(who uint8) string { return string(rune('A' + who)) }

// String reads `A`, `B:lose`, `arrive:1`.
func (c choice) String() string {
	switch c.kind {
	case deliver:
		return processName(c.who)
	case arrive:
		return "arrive:" + strconv.Itoa(int(c.who)+1)
	default:
		return processName(c.who) + ":" + c.kind.word()
	}
}

// formatSchedule writes choices as one line, which parseSchedule reads: `A:open A*7 B:open B*3 A:lose`.
func formatSchedule(list []choice) string {
	var words []string
	for i := 0; i < len(list); {
		n := 1
		for i+n < len(list) && list[i+n] == list[i] {
			n++
		}
		word := list[i].String()
		if n > 1 {
			word += "*" + strconv.Itoa(n)
		}
		words = append(words, word)
		i += n
	}
	return strings.Join(words, " ")
}

// parseSchedule is the inverse of formatSchedule.
func parseSchedule(text string) ([]choice, error) {
	var list []choice
	for word := range strings.FieldsSeq(text) {
		name, times, repeated := strings.Cut(word, "*")
		n := 1
		if repeated {
			var err error
			if n, err = strconv.Atoi(times); err != nil || n < 1 || n > maxSteps {
				return nil, fmt.Errorf("step %q of the schedule: %q is not how often", word, times)
			}
		}
		c, err := parseChoice(name)
		if err != nil {
			return nil, err
		}
		for range n {
			list = append(list, c)
		}
		if len(list) > maxSteps {
			return nil, fmt.Errorf("the schedule is longer than %d steps", maxSteps)
		}
	}
	return list, nil
}

func parseChoice(word string) (choice, error) {
	who, what, _ := strings.Cut(word, ":")
	if who == arrive.word() {
		n, err := strconv.Atoi(what)
		if err != nil || n < 1 || n > maxDelayed {
			return choice{}, fmt.Errorf("step %q of the schedule: want %s:1 to %s:%d", word, who, who, maxDelayed)
		}
		return choice{arrive, uint8(n - 1)}, nil
	}
	if len(who) != 1 || who[0] < 'A' || who[0] >= 'A'+maxWriters {
		return choice{}, fmt.Errorf("step %q of the schedule: there is no process %q", word, who)
	}
	for k := deliver; k < arrive; k++ {
		if k.word() == what {
			return choice{k, who[0] - 'A'}, nil
		}
	}
	return choice{}, fmt.Errorf("step %q of the schedule: a process cannot %q", word, what)
}

// access is what a choice does to the bucket.
type access uint8

const (
	untouched access = iota
	reads
	lists
	writes
)

// budget is a common pool that a choice takes from.
type budget uint8

const (
	faults budget = 1 << iota
	crashes
	compactions
	collections
)

// footprint is what a choice depends on, in the state in which it can be made.
type footprint struct {
	process int // -1: none
	access  access
	key     string // of a list: its prefix
	after   string // of a list
	takes   budget
}

// independent reports whether two choices that can both be made lead to the same state in either order, neither
// preventing the other.
func independent(a, b footprint) bool {
	if a.process >= 0 && a.process == b.process || a.takes&b.takes != 0 {
		return false
	}
	switch {
	case a.access == untouched || b.access == untouched:
		return true
	case a.access == writes && b.access == writes, a.access == writes && b.access == reads, a.access == reads && b.access == writes:
		return a.key != b.key
	case a.access == writes && b.access == lists:
		return !b.sees(a.key)
	case a.access == lists && b.access == writes:
		return !a.sees(b.key)
	default:
		return true
	}
}

// sees reports whether a list has the key in its range.
func (f footprint) sees(key string) bool { return strings.HasPrefix(key, f.key) && key > f.after }
