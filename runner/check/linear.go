package check

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"blobpglite/runner/history"
)

// LinearOptions of Linearizable.
type LinearOptions struct {
	// Timeout bounds the search, of registers and of the bank each; zero: DefaultTimeout. Past it the result is wrong: nothing is known.
	Timeout time.Duration
	// Picture is where a picture goes if it fails, an HTML page; empty: nowhere.
	Picture string
}

// DefaultTimeout of a search.
const DefaultTimeout = 20 * time.Second

// Linearizable searches for an order of the register and bank operations that explains what every client saw, from one state to another,
// which a reader found when all were done. Failed operations are left out, because they did not take place. So are unknown ones without a
// visible effect at the end: they can always be placed after everything else.
func Linearizable(ops []history.Op, before, now history.State, o LinearOptions) Result {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	return all(
		search(registers(before), registerOps(ops, now), o, "registers"),
		search(bank(before), bankOps(ops, now), o, "bank"),
	)
}

func search(model porcupine.Model, list []porcupine.Operation, o LinearOptions, name string) Result {
	if len(list) == 0 {
		return Result{}
	}
	got, info := porcupine.CheckOperationsVerbose(model, list, o.Timeout)
	if got == porcupine.Ok {
		return Result{Looked: len(list)}
	}
	text := fmt.Sprintf("%s: no order of the %d operations explains what the clients saw", name, len(list))
	if got == porcupine.Unknown {
		text = fmt.Sprintf("%s: no order of the %d operations was found within %v: nothing is known", name, len(list), o.Timeout)
	}
	if o.Picture != "" {
		if err := picture(model, info, o.Picture, name); err != nil {
			text += " (and no picture: " + err.Error() + ")"
		} else {
			text += "; picture: " + pictureName(o.Picture, name)
		}
	}
	return Result{Wrong: text, Looked: len(list)}
}

func pictureName(path, name string) string {
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + "-" + name + ext
}

func picture(model porcupine.Model, info porcupine.LinearizationInfo, path, name string) error {
	path = pictureName(path, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return porcupine.VisualizePath(model, info, path)
}

// lanes gives clients small numbers, which the library requires.
type lanes map[int64]int

func (l lanes) of(client int64) int {
	n, ok := l[client]
	if !ok {
		n = len(l)
		l[client] = n
	}
	return n
}

// input is the request; output its result.
type input struct {
	kind         history.Kind
	key, a, b, n int64
}

type output struct {
	known    bool
	value    int64
	balances string
}

// registerOps are the operations on registers, and a last read of each.
func registerOps(ops []history.Op, now history.State) []porcupine.Operation {
	seen := map[[2]int64]bool{} // values seen in a register, or requested
	missed := map[int64]int64{} // key to the return of the last swap that found another value than it expected
	last := int64(0)
	for _, op := range ops {
		last = max(last, op.Call, op.Return)
		if op.Kind == history.CAS && op.Outcome == history.OK && op.Out["rows"] == 0 {
			missed[op.In["key"]] = max(missed[op.In["key"]], op.Return)
		}
		if op.Kind == history.Read && op.Outcome == history.OK {
			seen[[2]int64{op.In["key"], op.Out["value"]}] = true
		}
		if op.Kind == history.CAS && op.Outcome != history.Failed {
			seen[[2]int64{op.In["key"], op.In["old"]}] = true
		}
	}
	for key, value := range now.Registers {
		seen[[2]int64{key, value}] = true
	}
	l, list := lanes{}, []porcupine.Operation{}
	for _, op := range ops {
		in := input{kind: op.Kind, key: op.In["key"]}
		out := output{known: op.Outcome == history.OK}
		switch op.Kind {
		case history.Write:
			in.a = op.In["value"]
		case history.CAS:
			in.a, in.b = op.In["old"], op.In["new"]
			out.value = op.Out["rows"]
		case history.Read:
			out.value = op.Out["value"]
		default:
			continue
		}
		switch {
		case op.Outcome == history.Failed, op.Outcome == history.Unknown && op.Kind == history.Read:
			continue
		case op.Outcome == history.Unknown && missed[in.key] < op.Call &&
			(op.Kind == history.Write && !seen[[2]int64{in.key, in.a}] || op.Kind == history.CAS && !seen[[2]int64{in.key, in.b}]):
			continue
		}
		list = append(list, porcupine.Operation{ClientId: l.of(op.Client), Input: in, Output: out, Call: op.Call, Return: op.End()})
	}
	if len(list) == 0 {
		return nil
	}
	for key, value := range now.Registers {
		list = append(list, porcupine.Operation{
			ClientId: l.of(-1 - key), Input: input{kind: history.Read, key: key}, Output: output{known: true, value: value},
			Call: last + 1, Return: last + 2,
		})
	}
	return list
}

// registers is the model: each register holds a value, swapped if it is the expected one.
func registers(before history.State) porcupine.Model {
	return porcupine.Model{
		Partition: func(list []porcupine.Operation) [][]porcupine.Operation {
			byKey := map[int64][]porcupine.Operation{}
			for _, op := range list {
				key := op.Input.(input).key
				byKey[key] = append(byKey[key], op)
			}
			var parts [][]porcupine.Operation
			for _, part := range byKey {
				parts = append(parts, part)
			}
			return parts
		},
		Init: func() any { return registerState{fresh: true} },
		Step: func(state, in, out any) (bool, any) {
			s, i, o := state.(registerState), in.(input), out.(output)
			if s.fresh { // a partition begins with its own register's value
				s = registerState{value: before.Registers[i.key]}
			}
			switch i.kind {
			case history.Write:
				s.value = i.a
				return true, s
			case history.CAS:
				swapped := s.value == i.a
				if o.known && swapped != (o.value == 1) {
					return false, s
				}
				if swapped {
					s.value = i.b
				}
				return true, s
			default:
				return o.value == s.value, s
			}
		},
		DescribeOperation: func(in, out any) string {
			i, o := in.(input), out.(output)
			end := "?"
			if o.known {
				end = fmt.Sprint(o.value)
			}
			switch i.kind {
			case history.Write:
				return fmt.Sprintf("r%d := %d", i.key, i.a)
			case history.CAS:
				return fmt.Sprintf("r%d: %d → %d (%s)", i.key, i.a, i.b, end)
			default:
				return fmt.Sprintf("r%d = %s", i.key, end)
			}
		},
		DescribeState: func(state any) string { return fmt.Sprint(state.(registerState).value) },
	}
}

type registerState struct {
	value int64
	fresh bool
}

// bankOps are transfers and reads, and a last read.
func bankOps(ops []history.Op, now history.State) []porcupine.Operation {
	there := had(now.Transfers, func(t int64) (int64, bool) { return t, true })
	last := int64(0)
	l, list := lanes{}, []porcupine.Operation{}
	for _, op := range ops {
		last = max(last, op.Call, op.Return)
		if op.Kind != history.Transfer && op.Kind != history.BankRead || op.Outcome == history.Failed {
			continue
		}
		if op.Outcome == history.Unknown && (op.Kind == history.BankRead || !there[op.In["token"]]) {
			continue
		}
		list = append(list, porcupine.Operation{
			ClientId: l.of(op.Client), Call: op.Call, Return: op.End(),
			Input:  input{kind: op.Kind, a: op.In["from"], b: op.In["to"], n: op.In["amount"]},
			Output: output{known: op.Outcome == history.OK, balances: balances(op.Values)},
		})
	}
	if len(list) == 0 {
		return nil
	}
	return append(list, porcupine.Operation{
		ClientId: l.of(-1), Input: input{kind: history.BankRead}, Output: output{known: true, balances: balances(now.Balances)},
		Call: last + 1, Return: last + 2,
	})
}

func balances(values []int64) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = fmt.Sprint(v)
	}
	return strings.Join(words, " ")
}

func bank(before history.State) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return balances(before.Balances) },
		Step: func(state, in, out any) (bool, any) {
			s, i, o := state.(string), in.(input), out.(output)
			if i.kind == history.BankRead {
				return o.balances == s, s
			}
			var values []int64
			for word := range strings.FieldsSeq(s) {
				var v int64
				if _, err := fmt.Sscan(word, &v); err != nil {
					return false, s
				}
				values = append(values, v)
			}
			if max(i.a, i.b) >= int64(len(values)) {
				return false, s
			}
			values = slices.Clone(values)
			values[i.a] -= i.n
			values[i.b] += i.n
			return true, balances(values)
		},
		DescribeOperation: func(in, out any) string {
			i, o := in.(input), out.(output)
			if i.kind == history.BankRead {
				return "read " + o.balances
			}
			return fmt.Sprintf("%d: %d → %d", i.n, i.a, i.b)
		},
		DescribeState: func(state any) string { return state.(string) },
	}
}
