package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"blobpglite/core/point"
	"blobpglite/faults/gcsfront"
	"blobpglite/faults/pointfault"
)

// action is one line of an episode. A person can read it and change it:
//
//	http put after p 0.02 lose     a rule at the bucket, for the whole episode; these lines come first
//	open                           another process opens the database, or waits for the lease; it gets its own clients
//	work 8                         until 8 more operations were acknowledged, one second at most
//	hold 40ms                      clients keep working
//	kill                           SIGKILL to the process that opened last
//	kill at wal/before-put nth 3   it kills itself, there
//	stop, stop at wal/after-put    SIGSTOP, until wake
//	park at manifest/before-cas    one goroutine, until wake
//	delay at wal/before-put 30ms   every time
//	wake                           everything stopped or parked continues
//	sigterm                        it flushes, releases the lease and ends
//	compact                        a layer is taken, and what it makes superfluous is collected
//	power cut                      all processes together, and requests on their way
//	clock jump 1h, clock drift 2   of the one that opened last
type action struct {
	do   string
	at   point.Point
	nth  int
	n    float64 // of work and of drift
	d    time.Duration
	rule gcsfront.Rule
}

// String is the line.
func (a action) String() string {
	switch {
	case a.do == "http":
		s := fmt.Sprintf("http %s %s p %s %s", a.rule.Op, a.rule.Phase, strconv.FormatFloat(a.rule.Probability, 'g', -1, 64), a.rule.Do)
		if a.rule.Do == gcsfront.Delay {
			s += " " + a.rule.Delay.String()
		}
		return s
	case a.do == "delay":
		return fmt.Sprintf("delay at %s %v", a.at, a.d)
	case a.at != "":
		return fmt.Sprintf("%s at %s nth %d", a.do, a.at, a.nth)
	case a.do == "hold", a.do == "clock jump":
		return a.do + " " + a.d.String()
	case a.do == "work", a.do == "clock drift":
		return a.do + " " + strconv.FormatFloat(a.n, 'g', -1, 64)
	}
	return a.do
}

// parseAction parses a line.
func parseAction(line string) (a action, err error) {
	w := strings.Fields(line)
	bad := func(why string) (action, error) {
		return action{}, fmt.Errorf("the action %q: %s: see runner -verbs, episode", line, why)
	}
	if len(w) >= 2 && slices.Contains([]string{"power cut", "clock jump", "clock drift"}, w[0]+" "+w[1]) {
		w = append([]string{w[0] + " " + w[1]}, w[2:]...)
	}
	if len(w) == 0 {
		return bad("it is empty")
	}
	a.do = w[0]
	switch {
	case a.do == "http" && (len(w) == 6 || len(w) == 7) && w[3] == "p":
		return parseHTTP(a, w, bad)
	case slices.Contains([]string{"open", "kill", "stop", "wake", "sigterm", "compact", "power cut"}, a.do) && len(w) == 1:
		return a, nil
	case slices.Contains([]string{"hold", "clock jump"}, a.do) && len(w) == 2:
		if a.d, err = time.ParseDuration(w[1]); err != nil {
			return bad("want a time such as 40ms")
		}
		return a, nil
	case slices.Contains([]string{"work", "clock drift"}, a.do) && len(w) == 2:
		if a.n, err = strconv.ParseFloat(w[1], 64); err != nil || a.n <= 0 {
			return bad("want a positive number")
		}
		return a, nil
	case slices.Contains([]string{"kill", "stop", "park", "delay"}, a.do) && len(w) >= 3 && w[1] == "at":
		if a.at = point.Point(w[2]); a.do != "delay" {
			a.nth = 1
		}
		if !slices.Contains(point.All(), a.at) {
			return bad("there is no such point")
		}
		switch {
		case a.do == "delay" && len(w) == 4:
			if a.d, err = time.ParseDuration(w[3]); err != nil || a.d <= 0 {
				return bad("want a time such as 40ms")
			}
			return a, nil
		case a.do != "delay" && len(w) == 3:
			return a, nil
		case a.do != "delay" && len(w) == 5 && w[3] == "nth":
			if a.nth, err = strconv.Atoi(w[4]); err != nil || a.nth < 1 {
				return bad("want a positive number")
			}
			return a, nil
		}
	}
	return bad("there is none like it")
}

func parseHTTP(a action, w []string, bad func(string) (action, error)) (action, error) {
	p, err := strconv.ParseFloat(w[4], 64)
	if err != nil {
		return bad("want a probability")
	}
	a.rule = gcsfront.Rule{Op: gcsfront.Op(w[1]), Phase: gcsfront.Phase(w[2]), Probability: p, Do: gcsfront.Action(w[5])}
	if len(w) == 7 {
		if a.rule.Delay, err = time.ParseDuration(w[6]); err != nil {
			return bad("want a time such as 40ms")
		}
	}
	if _, err := gcsfront.NewTransport(nil, gcsfront.TransportOptions{Rules: []gcsfront.Rule{a.rule}}); err != nil {
		return bad(err.Error())
	}
	return a, nil
}

func parseActions(lines []string) ([]action, error) {
	list := make([]action, len(lines))
	for i, l := range lines {
		var err error
		if list[i], err = parseAction(l); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func linesOf(list []action) []string {
	lines := make([]string, len(list))
	for i, a := range list {
		lines[i] = a.String()
	}
	return lines
}

// plotLength is how many disasters an episode has.
const plotLength = 7

// plot makes an episode: the same seed makes the same one.
func plot(seed uint64) []action {
	random := rand.New(rand.NewPCG(seed, 0x706c6f74))
	pick := func(list []point.Point) point.Point { return list[random.IntN(len(list))] }
	var list []action
	for _, rule := range weather(random) {
		list = append(list, action{do: "http", rule: rule})
	}
	add := func(a ...action) { list = append(list, a...) }
	work := func() { add(action{do: "work", n: float64(2 + random.IntN(14))}) }
	add(action{do: "open"})
	work()
	loaded := []point.Point{point.WalBeforePut, point.WalAfterPut, point.CommitBeforeAck, point.LeaseBeforeRenew}
	layered := []point.Point{
		point.BaseBeforeSegment, point.BaseAfterSegment, point.BaseAfterLastSegment, point.BaseAfterIndex, point.ManifestBeforeCAS, point.ManifestAfterCAS,
		point.GCBeforeCollect, point.GCBeforeDelete, point.GCAfterDelete,
	}
	for range plotLength {
		switch nth := 1 + random.IntN(5); random.IntN(11) {
		case 0:
			add(action{do: "kill"}, action{do: "open"})
		case 1:
			add(action{do: "kill", at: pick(loaded), nth: nth}, action{do: "open"})
		case 2:
			add(action{do: "stop", at: pick(loaded), nth: nth}, action{do: "open"})
		case 3:
			add(action{do: "park", at: pick(loaded), nth: nth}, action{do: "open"})
		case 4:
			do := []string{"kill", "stop", "park"}[random.IntN(3)]
			add(action{do: do, at: pick(layered), nth: 1}, action{do: "compact"}, action{do: "hold", d: 60 * time.Millisecond}, action{do: "open"})
		case 5:
			add(action{do: "compact"}, action{do: "hold", d: time.Duration(random.IntN(80)) * time.Millisecond})
		case 6:
			add(action{do: "power cut"}, action{do: "open"})
		case 7:
			add(action{do: "stop"}, action{do: "open"})
		case 8:
			add(action{do: "sigterm"}, action{do: "open"})
		case 9: // two open at the same time; the first one may be stopped while it does
			add(action{do: "kill"}, action{do: "open"}, action{do: "open"})
		case 10:
			if random.IntN(2) == 0 {
				add(action{do: "clock jump", d: time.Hour}, action{do: "stop"}, action{do: "open"})
			} else {
				add(action{do: "clock drift", n: []float64{0.95, 1.5, 3}[random.IntN(3)]}, action{do: "delay", at: pick(loaded), d: 15 * time.Millisecond})
			}
		}
		work()
		if random.IntN(3) == 0 {
			add(action{do: "wake"})
			work()
		}
	}
	return list
}

// weather is what constantly goes wrong between the processes and the bucket.
func weather(random *rand.Rand) []gcsfront.Rule {
	all := []gcsfront.Rule{
		{Op: gcsfront.OpPut, Phase: gcsfront.After, Do: gcsfront.Lose, Probability: 0.03},
		{Op: gcsfront.OpPut, Phase: gcsfront.Before, Do: gcsfront.Reset, Probability: 0.02},
		{Op: gcsfront.OpPut, Phase: gcsfront.After, Do: gcsfront.Unavailable, Probability: 0.03},
		{Op: gcsfront.OpPut, Phase: gcsfront.Before, Do: gcsfront.Throttle, Probability: 0.02},
		{Op: gcsfront.OpGet, Phase: gcsfront.Before, Do: gcsfront.Unavailable, Probability: 0.03},
		{Op: gcsfront.OpGet, Phase: gcsfront.After, Do: gcsfront.Lose, Probability: 0.02},
		{Op: gcsfront.OpPut, Phase: gcsfront.Before, Do: gcsfront.Delay, Probability: 0.2, Delay: 20 * time.Millisecond},
		{Op: gcsfront.OpPut, Phase: gcsfront.After, Do: gcsfront.Delay, Probability: 0.1, Delay: 30 * time.Millisecond},
		{Op: gcsfront.OpDelete, Phase: gcsfront.After, Do: gcsfront.Lose, Probability: 0.1},
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:random.IntN(4)]
}

// pointRule is the rule of an action at a point.
func (a action) pointRule() pointfault.Rule {
	r := pointfault.Rule{Point: a.at, Do: pointfault.Action(a.do), Nth: a.nth}
	if a.do == "delay" {
		r.Nth, r.Every, r.For = 0, 1, a.d
	}
	return r
}
