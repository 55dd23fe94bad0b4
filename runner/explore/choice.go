package explore

import (
	"fmt"
	"strconv"
	"strings"
)

// do is what happens to a call of the store.
type do uint8

const (
	doIt do = iota
	doLost
	doDelay
	doSlow
	doRefuse
	doCrash
	doDie
	doLand
	doDrop
)

func doNames() []string {
	return []string{"do", "lost", "delay", "slow", "refuse", "crash", "die", "land", "drop"}
}

func (d do) String() string { return doNames()[d] }

// who names a thread: process, life, and whether it is the one that compacts; or a write that is on its way.
type who uint8

const (
	maxLives    = 4
	firstFlight = who(128)
)

func threadID(slot, life int, side bool) who {
	id := who(slot*2*maxLives + life*2)
	if side {
		id++
	}
	return id
}

func (w who) slot() int  { return int(w) / (2 * maxLives) }
func (w who) life() int  { return int(w) / 2 % maxLives }
func (w who) side() bool { return w%2 == 1 }

// choice is one step of a schedule.
type choice struct {
	who who
	do  do
}

// text writes a choice as "A", "B2+ lost", "flight1 land": process, its life if it is not the first, + for the thread that compacts, and
// what happens, if it is not just done.
func (p *Plan) text(c choice) string {
	name := ""
	if c.who >= firstFlight {
		name = "flight" + strconv.Itoa(int(c.who-firstFlight)+1)
	} else {
		name = p.threadName(c.who)
	}
	if c.do == doIt {
		return name
	}
	return name + " " + c.do.String()
}

func (p *Plan) threadName(w who) string {
	name := p.Procs[w.slot()].Name
	if w.life() > 0 {
		name += strconv.Itoa(w.life() + 1)
	}
	if w.side() {
		name += "+"
	}
	return name
}

// parse is the inverse of text.
func (p *Plan) parse(text string) (choice, error) {
	name, what, _ := strings.Cut(text, " ")
	c := choice{who: firstFlight}
	found := what == ""
	for d, n := range doNames() {
		if n == what {
			c.do, found = do(d), true
		}
	}
	if n, ok := strings.CutPrefix(name, "flight"); ok {
		k, err := strconv.Atoi(n)
		if err == nil && found && k > 0 && k < 64 {
			c.who += who(k - 1)
			return c, nil
		}
	}
	for w := range firstFlight {
		if w.slot() < len(p.Procs) && p.threadName(w) == name && found {
			c.who = w
			return c, nil
		}
	}
	return c, fmt.Errorf("read a schedule of plan %s: %q is no step", p.Name, text)
}

// texts writes a schedule.
func (p *Plan) texts(schedule []choice) []string {
	out := make([]string, len(schedule))
	for i, c := range schedule {
		out[i] = p.text(c)
	}
	return out
}
