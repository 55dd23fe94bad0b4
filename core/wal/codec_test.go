package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"blobpglite/core/store"
)

func sample() Record {
	return Record{
		Kind: Data, Seq: 7, Epoch: 3, Time: epoch, Prev: [32]byte{1, 2, 3}, DatabaseID: database, Writer: "host-3",
		WriteID: "01KB0000000000000000000001", Ops: []Op{write(segment, 8192, "some bytes of a page")},
	}
}

// decoded is the expected result of decoding a record: what was encoded, and what decoding adds.
func decoded(r Record, e encoded) Record {
	r.Hash, r.Bytes = e.hash, len(e.body)
	return r
}

func TestRoundTrip(t *testing.T) {
	z := newEncoder(t)
	for name, change := range map[string]func(*Record){
		"one write":     func(*Record) {},
		"fence":         func(r *Record) { r.Kind, r.Ops = Fence, nil },
		"no operations": func(r *Record) { r.Ops = nil },
		"no writer":     func(r *Record) { r.Writer = "" },
		"long names": func(r *Record) {
			r.DatabaseID, r.Writer, r.WriteID = strings.Repeat("d", 255), strings.Repeat("w", 255), strings.Repeat("i", 255)
		},
		"largest":      func(r *Record) { r.Seq, r.Epoch, r.Ops[0].Offset = math.MaxUint64, math.MaxUint64, maxOffset },
		"longest path": func(r *Record) { r.Ops[0].Path = "/" + strings.Repeat("p", maxPath-1) },
		"compressible": func(r *Record) { r.Ops[0].Data = make([]byte, 1<<20) },
		"larger than a piece": func(r *Record) {
			r.Ops[0].Data = bytes.Repeat([]byte("some bytes of a page "), pieceBytes/5)
			r.Ops = append(r.Ops, write(segment, 0, strings.Repeat("x", pieceBytes-1)), write(segment, 8192, "y"))
		},
		"does not compress": func(r *Record) { r.Ops[0].Data = randomBytes(newRandom(t), 2*pieceBytes+1) },
		"all operations": func(r *Record) {
			r.Ops = []Op{write("/a", 0, "x"), {Kind: OpReplace, Path: "/b", Data: []byte("y")}, {Kind: OpRemove, Path: "/c", Data: []byte{}}}
		},
	} {
		r := sample()
		change(&r)
		e, err := encode(r, z)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := Decode(e.body)
		if err != nil || !reflect.DeepEqual(got, decoded(r, e)) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
		if fence, err := IsFence(e.body); err != nil || fence != (r.Kind == Fence) {
			t.Errorf("%s: IsFence says %v, %v", name, fence, err)
		}
	}
}

// TestALargeRecordIsCompressedInPieces: apart from the operations, only their stored form and one piece are in memory.
func TestALargeRecordIsCompressedInPieces(t *testing.T) {
	r, z := sample(), newEncoder(t)
	page := append(randomBytes(newRandom(t), 2048), make([]byte, 6144)...)
	for range 12 * pieceBytes / len(page) {
		r.Ops = append(r.Ops, Op{Kind: OpWrite, Path: segment, Data: page})
	}
	if _, err := encode(r, z); err != nil { // the encoder has its own memory from then on
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	e, err := encode(r, z)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; err != nil || len(e.body) > 6*pieceBytes || took > 11*pieceBytes {
		t.Errorf("%d bytes were allocated for a record of %d: %v", took, len(e.body), err)
	}
}

func TestRoundTripOfRandomRecords(t *testing.T) {
	random, z := newRandom(t), newEncoder(t)
	for round := range 500 {
		r := sample()
		r.Seq, r.Epoch, r.Prev = 1+random.Uint64N(math.MaxUint64), 1+random.Uint64N(math.MaxUint64), [32]byte(randomBytes(random, 32))
		r.Ops = nil
		for range random.IntN(20) {
			data := randomBytes(random, random.IntN(500))
			if random.IntN(2) == 0 {
				data = bytes.Repeat([]byte{byte(round)}, random.IntN(20_000))
			}
			r.Ops = append(r.Ops, Op{
				Kind: OpKind(1 + random.IntN(3)), Path: string(append([]byte{'/'}, randomBytes(random, random.IntN(100))...)),
				Offset: random.Int64N(maxOffset) >> random.IntN(62), Data: data,
			})
		}
		e, err := encode(r, z)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Decode(e.body); err != nil || !reflect.DeepEqual(got, decoded(r, e)) {
			t.Fatalf("round %d: %+v became %+v, %v", round, r, got, err)
		}
	}
}

// Whatever is refused when it is read must be refused when it is written: nothing may be appended that cannot be read.
func TestEncodeRefuses(t *testing.T) {
	for name, change := range map[string]func(*Record){
		"kind":             func(r *Record) { r.Kind = 3 },
		"seq":              func(r *Record) { r.Seq = 0 },
		"epoch":            func(r *Record) { r.Epoch = 0 },
		"no database":      func(r *Record) { r.DatabaseID = "" },
		"no write id":      func(r *Record) { r.WriteID = "" },
		"long database":    func(r *Record) { r.DatabaseID = strings.Repeat("x", 256) },
		"long writer":      func(r *Record) { r.Writer = strings.Repeat("x", 256) },
		"long write id":    func(r *Record) { r.WriteID = strings.Repeat("x", 256) },
		"operation":        func(r *Record) { r.Ops[0].Kind = 4 },
		"no operation":     func(r *Record) { r.Ops[0].Kind = 0 },
		"no path":          func(r *Record) { r.Ops[0].Path = "" },
		"long path":        func(r *Record) { r.Ops[0].Path = strings.Repeat("x", maxPath+1) },
		"negative offset":  func(r *Record) { r.Ops[0].Offset = -1 },
		"offset too large": func(r *Record) { r.Ops[0].Offset = maxOffset + 1 },
		"largest offset":   func(r *Record) { r.Ops[0].Offset = math.MaxInt64 },
	} {
		r := sample()
		change(&r)
		if _, err := encode(r, newEncoder(t)); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}

// The size of a one-row insert: 258 bytes of WAL that do not compress.
func TestSizeOfASmallCommit(t *testing.T) {
	r := sample()
	r.Ops = []Op{{Kind: OpWrite, Path: segment, Offset: 5 << 20, Data: randomBytes(newRandom(t), 258)}}
	e, err := encode(r, newEncoder(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a commit of 258 bytes of WAL makes a record of %d", len(e.body))
	if len(e.body) >= 600 {
		t.Errorf("a commit of 258 bytes of WAL makes a record of %d bytes, want fewer than 600", len(e.body))
	}
	r.Kind, r.Ops = Fence, nil
	if e, err = encode(r, newEncoder(t)); err != nil || len(e.body) > 250 {
		t.Errorf("a fence has %d bytes (%v), want about 200", len(e.body), err)
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	r := sample()
	r.Ops[0].Data = bytes.Repeat([]byte("compressible "), 20)
	e, err := encode(r, newEncoder(t))
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(e.body) * 8 {
		b := bytes.Clone(e.body)
		b[bit/8] ^= 1 << (bit % 8)
		if _, err := Decode(b); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) {
			t.Errorf("bit %d of byte %d flipped: %v", bit%8, bit/8, err)
		}
	}
	for n := range len(e.body) {
		if _, err := Decode(e.body[:n]); !errors.Is(err, ErrCorrupt) || !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := Decode(append(bytes.Clone(e.body), 0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a byte too many: %v", err)
	}
}

// seal gives a record's bytes a matching checksum.
func seal(b []byte) []byte {
	end := len(b) - trailerBytes
	return binary.LittleEndian.AppendUint32(bytes.Clone(b[:end]), castagnoli(b[:end]))
}

// Damage that the checksum does not show, because it was made on purpose.
func TestDecodeIsStrict(t *testing.T) {
	good, err := encode(sample(), newEncoder(t))
	if err != nil {
		t.Fatal(err)
	}
	body := headerBytes + 3 + len(database) + len("host-3") + 26
	for name, c := range map[string]struct {
		change func(b []byte)
		want   error
	}{
		"newer":            {func(b []byte) { b[4] = Format + 1 }, ErrNewer},
		"format zero":      {func(b []byte) { b[4] = 0 }, ErrCorrupt},
		"kind":             {func(b []byte) { b[5] = 3 }, ErrCorrupt},
		"flags":            {func(b []byte) { b[6] = 4 }, ErrCorrupt},
		"reserved":         {func(b []byte) { b[7] = 1 }, ErrCorrupt},
		"seq zero":         {func(b []byte) { clear(b[8:16]) }, ErrCorrupt},
		"epoch zero":       {func(b []byte) { clear(b[16:24]) }, ErrCorrupt},
		"long name":        {func(b []byte) { b[64] = 255 }, ErrCorrupt},
		"uncompressed":     {func(b []byte) { b[body]++ }, ErrCorrupt},
		"too large":        {func(b []byte) { b[body+3] = 255 }, ErrCorrupt},
		"stored":           {func(b []byte) { b[body+4]++ }, ErrCorrupt},
		"not compressed":   {func(b []byte) { b[6] = flagZstd }, ErrCorrupt},
		"no parts":         {func(b []byte) { b[6] = flagParts }, ErrCorrupt},
		"operation's kind": {func(b []byte) { b[body+8] = 9 }, ErrCorrupt},
		"path too long":    {func(b []byte) { b[body+9] = 127 }, ErrCorrupt},
		"fence that works": {func(b []byte) { b[5] = byte(Fence) }, ErrCorrupt},
	} {
		b := bytes.Clone(good.body)
		c.change(b)
		_, err := Decode(seal(b))
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
			continue
		}
		if name != "seq zero" && !strings.Contains(err.Error(), "record 7") {
			t.Errorf("%s: the message does not name the record: %v", name, err)
		}
	}
}

func TestKeys(t *testing.T) {
	for _, seq := range []uint64{0, 1, 120, math.MaxUint64} {
		if got, err := ParseKey(Key(seq)); err != nil || got != seq {
			t.Errorf("%s is record %d, %v", Key(seq), got, err)
		}
	}
	if Key(9) > Key(10) || len(Key(1)) != len(Key(math.MaxUint64)) {
		t.Error("keys do not sort as their numbers do")
	}
	for _, key := range []string{"", "wal/", "wal/1", "wal/0000000000000000000x", "base/00000000000000000001", "wal/99999999999999999999", "wal/+0000000000000000001"} {
		if _, err := ParseKey(key); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%q: %v, want ErrInvalid", key, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	z := newEncoder(f)
	for _, change := range []func(*Record){func(*Record) {}, func(r *Record) { r.Kind, r.Ops = Fence, nil }, func(r *Record) { r.Ops[0].Data = make([]byte, 5000) }} {
		r := sample()
		change(&r)
		e, err := encode(r, z)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(e.body)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > trailerBytes {
			b = seal(b) // or nothing would get past the checksum
		}
		r, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		e, err := encode(r, z)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		if again, err := Decode(e.body); err != nil || !reflect.DeepEqual(again, decoded(r, e)) {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	z, r := newEncoder(b), sample()
	r.Ops = []Op{{Kind: OpWrite, Path: segment, Offset: 5 << 20, Data: randomBytes(newRandom(b), 258)}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := encode(r, z); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	const records = 10_000
	st, _ := fill(b, records)
	for _, parallel := range []int{1, DefaultParallel} {
		b.Run(fmt.Sprint("parallel=", parallel), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				got, _, err := readAll(b, st, ReadOptions{Parallel: parallel})
				if err != nil || len(got) != records {
					b.Fatal(len(got), err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
		})
	}
}
