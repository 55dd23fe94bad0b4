package pglite

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgproto3"
)

// wireMessages are whole messages of all kinds that a client sends.
func wireMessages(t testing.TB) []byte {
	return encode(t, &pgproto3.Query{String: "SELECT 1"}, &pgproto3.Parse{Query: "SELECT 2"}, bind("", "", "x"), &pgproto3.Describe{ObjectType: 'P'},
		&pgproto3.Execute{}, &pgproto3.Close{ObjectType: 'P'}, &pgproto3.Flush{}, &pgproto3.Sync{}, &pgproto3.CopyData{Data: []byte("row\n")},
		&pgproto3.CopyDone{}, &pgproto3.CopyFail{Message: "no"}, &pgproto3.FunctionCall{}, &pgproto3.Terminate{})
}

func TestComplete(t *testing.T) {
	sync, query := "S\x00\x00\x00\x04", "Q\x00\x00\x00\x06a\x00"
	for _, c := range []struct {
		name, bytes string
		n           int
		bad         bool
	}{
		{"nothing", "", 0, false},
		{"a part of a header", "S\x00\x00\x00", 0, false},
		{"one", sync, 5, false},
		{"two", sync + query, 12, false},
		{"one and a part", query + "S\x00", 7, false},
		{"a part of a body", "Q\x00\x00\x00\x06a", 0, false},
		{"length 3", "S\x00\x00\x00\x03", 0, true},
		{"length 0 behind one", sync + "S\x00\x00\x00\x00", 5, true},
		{"the longest small message", "E\x00\x00\x27\x10", 0, false},
		{"a small message that is long", "E\x00\x00\x27\x11", 0, true},
		{"the longest message", "d\x40\x00\x00\x00", 0, false},
		{"too long", "d\x40\x00\x00\x01", 0, true},
		{"negative", "d\xff\xff\xff\xff", 0, true},
		{"no type", "\x00\x00\x00\x00\x04", 0, true},
		{"a start-up packet", "\x00\x00\x00\x08\x04\xd2\x16\x2f", 0, true},
		{"a password", "p\x00\x00\x00\x05\x00", 0, true},
	} {
		n, err := complete([]byte(c.bytes))
		if n != c.n || errors.Is(err, ErrMessage) != c.bad || (err != nil) != c.bad {
			t.Errorf("%s: %d, %v; want %d", c.name, n, err, c.n)
		}
	}
	all := wireMessages(t)
	if n, err := complete(all); n != len(all) || err != nil {
		t.Fatal(n, err)
	}
}

// kinds are the types of the first n bytes' messages.
func kinds(b []byte) string {
	var s []byte
	for len(b) > 0 {
		s = append(s, b[0])
		b = b[1+int(b[1])<<24+int(b[2])<<16+int(b[3])<<8+int(b[4]):]
	}
	return string(s)
}

func TestBatches(t *testing.T) {
	message := func(types string) (b []byte) {
		for _, c := range types {
			b = append(b, byte(c), 0, 0, 0, 5, 0)
		}
		return b
	}
	for _, c := range []struct{ in, plain, copying string }{
		{"Q", "Q", ""},
		{"QQ", "Q", ""},
		{"PBDES", "PBDE", ""},
		{"S", "S", "S"},
		{"HS", "HS", "HS"},
		{"FQ", "F", ""},
		{"PB", "PB", ""},
		{"X", "", ""},
		{"PX", "P", ""},
		{"QX", "Q", ""},
		{"dddcQ", "dddcQ", "dddc"},
		{"dfQ", "dfQ", "df"},
		{"ddQ", "ddQ", "dd"},
		{"ddX", "dd", "dd"},
		{"dHSd", "dHS", "dHSd"},
		{"CQ", "CQ", ""},
	} {
		b := message(c.in)
		n, err := batch(b)
		if got := kinds(b[:n]); got != c.plain || err != nil {
			t.Errorf("batch of %s is %s, %v; want %s", c.in, got, err, c.plain)
		}
		n, err = copyBatch(b)
		bad := c.copying == "" && c.in != "X"
		if got := kinds(b[:n]); got != c.copying || errors.Is(err, ErrMessage) != bad {
			t.Errorf("batch of %s in COPY is %s, %v; want %s", c.in, got, err, c.copying)
		}
	}
}

// gather reads all that a messageReader gives.
func gather(r io.Reader) ([]byte, error) {
	m := &messageReader{conn: r}
	var all []byte
	for {
		b, err := m.next()
		if err != nil {
			return all, err
		}
		all = append(all, b...)
	}
}

func TestMessageReader(t *testing.T) {
	all := wireMessages(t)
	large := encode(t, &pgproto3.CopyData{Data: bytes.Repeat([]byte("x"), 5*readSize)}, &pgproto3.Sync{})
	for name, c := range map[string]struct {
		r    io.Reader
		want []byte
		err  error
	}{
		"at once":                {bytes.NewReader(all), all, io.EOF},
		"byte by byte":           {iotest.OneByteReader(bytes.NewReader(all)), all, io.EOF},
		"the end with the data":  {iotest.DataErrReader(bytes.NewReader(all)), all, io.EOF},
		"halves":                 {iotest.HalfReader(bytes.NewReader(slices.Concat(large, all, large))), slices.Concat(large, all, large), io.EOF},
		"nothing":                {bytes.NewReader(nil), nil, io.EOF},
		"cut within a message":   {bytes.NewReader(large[:len(large)-6]), nil, ErrMessage},
		"cut within the second":  {bytes.NewReader(append(all, large[:100]...)), all, ErrMessage},
		"garbage behind the end": {bytes.NewReader(append(all, "?????"...)), all, ErrMessage},
		"a failing connection":   {io.MultiReader(bytes.NewReader(all), iotest.ErrReader(io.ErrClosedPipe)), all, io.ErrClosedPipe},
	} {
		got, err := gather(c.r)
		if !errors.Is(err, c.err) || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %d bytes, %v; want %d, %v", name, len(got), err, len(c.want), c.err)
		}
	}
}

// Whatever a client sends: what comes out are whole messages of known types, in order, and the rest is a fault or the
// end. How the bytes are cut on their way does not matter.
func FuzzMessageReader(f *testing.F) {
	all := wireMessages(f)
	f.Add(all, uint64(1))
	f.Add(all[:len(all)-7], uint64(2))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint64(3))
	f.Add(append(slices.Clone(all), 'S', 0, 0, 0, 3), uint64(4))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		whole, wholeErr := gather(bytes.NewReader(data))
		if !bytes.HasPrefix(data, whole) {
			t.Fatal("the bytes changed")
		}
		if n, err := complete(whole); n != len(whole) || err != nil {
			t.Fatalf("%d of %d bytes are messages: %v", n, len(whole), err)
		}
		if errors.Is(wholeErr, io.EOF) != (len(whole) == len(data)) {
			t.Fatalf("%d of %d bytes, %v", len(whole), len(data), wholeErr)
		}
		cut, cutErr := gather(&randomReader{data, rand.New(rand.NewPCG(seed, 0))})
		if !bytes.Equal(cut, whole) || errors.Is(cutErr, ErrMessage) != errors.Is(wholeErr, ErrMessage) {
			t.Fatalf("in pieces: %d bytes, %v; at once: %d, %v", len(cut), cutErr, len(whole), wholeErr)
		}
		for rest := whole; len(rest) > 0; {
			n, err := batch(rest)
			if err != nil || n > len(rest) || n == 0 && rest[0] != 'X' {
				t.Fatalf("a batch of %d, %v", n, err)
			}
			if n == 0 {
				break
			}
			if m, err := complete(rest[:n]); m != n || err != nil {
				t.Fatalf("a batch of %d is no whole messages: %d, %v", n, m, err)
			}
			rest = rest[n:]
		}
	})
}

// randomReader gives pieces of random sizes.
type randomReader struct {
	data []byte
	rng  *rand.Rand
}

func (r *randomReader) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.data[:1+r.rng.IntN(len(r.data))])
	r.data = r.data[n:]
	return n, nil
}
