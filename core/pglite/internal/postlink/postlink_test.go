package postlink

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// machine returns code from hexadecimal digits, without what follows a semicolon.
func machine(t testing.TB, text string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, ";")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What wazero emits, and what it becomes.
func TestForms(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ code, want string }{
		"a branch over a jump": {`
			83f901 ; cmp ecx, 1
			0f8505000000 ; jne +5
			e906000000 ; jmp +6
			b802000000 ; mov eax, 2
			c3
			b803000000 ; mov eax, 3
			c3`, `
			83f901
			7406 ; je +6
			b802000000 c3 b803000000 c3`},
		"jumps to jumps": {`
			83f901
			0f8406000000 ; je +6
			b802000000
			c3
			e900000000 ; jmp +0
			e900000000 ; jmp +0
			b803000000
			c3`, `
			83f901
			7406
			b802000000 c3 b803000000 c3`},
		"a branch whose two ways are one": {`
			83f901
			0f8405000000 ; je +5
			e900000000 ; jmp +0
			b803000000
			c3`, `
			83f901
			b803000000 c3`},
		"a trap in between": {`
			83f901
			0f8602000000 ; jbe +2
			0f0b ; ud2
			b803000000
			c3`, `
			83f901
			7706 ; ja +6
			b803000000 c3
			0f0b`},
		"what only leads to a trap": {`
			83f901
			0f8612000000 ; jbe +18
			b902000000 ; mov ecx, 2
			83f902
			0f8502000000 ; jne +2
			0f0b
			0f0b
			b803000000
			c3`, `
			83f901
			7706
			b803000000 c3
			b902000000 83f902 7502 0f0b 0f0b`},
		"an exit, and a return": {`
			83f901
			0f8610000000 ; jbe +16
			488d2df9ffffff ; lea rbp, [rip-7]
			48896830 ; mov [rax+0x30], rbp
			488b6018 ; mov rsp, [rax+0x18]
			c3
			5d ; pop rbp
			c3`, `
			83f901
			7702
			5d c3
			488d2df9ffffff 48896830 488b6018 c3`},
		"a loop": {`
			ffc9 ; dec ecx
			83f900 ; cmp ecx, 0
			0f8505000000 ; jne +5
			e905000000 ; jmp +5
			e9ebffffff ; jmp -21
			c3`, `
			ffc9
			85c9 ; test ecx, ecx
			75fa
			c3`},
		"a loop of nothing": {`e9fbffffff`, `ebfe`},
		"loops of jumps":    {`83f901 0f8405000000 e900000000 e900000000 e9f1ffffff`, `83f901 7400 ebfe`},
		"comparisons with zero": {`
			4983ff00 ; cmp r15, 0
			4183f900 ; cmp r9d, 0
			83ff00 ; cmp edi, 0
			833900 ; cmp dword [rcx], 0
			6683f900 ; cmp cx, 0
			c3`, `
			4d85ff 4585c9 85ff 833900 6683f900 c3`},
		"tests after what sets the flags": {`
			4183e601 4585f6 ; and r14d, 1; test r14d, r14d
			23c1 85c0 ; and eax, ecx; test eax, eax
			4c0bc9 4d85c9 ; or r9, rcx; test r9, r9
			c3`, `
			4183e601 23c1 4c0bc9 c3`},
		"tests after what does not": {`
			4183e601 4d85f6 ; and r14d, 1; test r14, r14
			23c1 85c9 ; and eax, ecx; test ecx, ecx
			03c1 85c0 ; add eax, ecx; test eax, eax
			83e001 4585c0 ; and eax, 1; test r8d, r8d
			23c1 4585c0 ; and eax, ecx; test r8d, r8d
			2101 85c9 ; and [rcx], eax; test ecx, ecx
			c3`, `
			4183e601 4d85f6 23c1 85c9 03c1 85c0 83e001 4585c0 23c1 4585c0 2101 85c9 c3`},
		"a test that is jumped to": {`
			83f901
			0f8402000000 ; je +2
			23c1 ; and eax, ecx
			85c0 ; test eax, eax
			0f8401000000
			90
			c3`, `
			83f901 7402 23c1 85c0 7401 90 c3`},
		"constants": {`
			f30f6f0501000000 ; movdqu xmm0, [rip+1]
			c3
			000102030405060708090a0b0c0d0e0f`, `
			f30f6f0501000000 c3
			000102030405060708090a0b0c0d0e0f`},
		"constants stay aligned": {`
			83f901
			0f8408000000 ; je +8
			f30f6f050c000000 ; movdqu xmm0, [rip+12]
			83f800
			0f8400000000
			c3
			1111
			000102030405060708090a0b0c0d0e0f`, `
			83f901 7408
			f30f6f0510000000 85c0 c3
			00000000 00000000 00000000 00
			000102030405060708090a0b0c0d0e0f`},
	} {
		code := machine(t, c.code)
		got, begins, err := Rearrange(code, []uint64{0})
		want := machine(t, c.want)
		if err != nil || len(begins) != 1 || begins[0] != 0 || len(got)%alignment != 0 || !bytes.HasPrefix(got, want) || len(got)-len(want) >= alignment ||
			strings.Trim(string(got[len(want):]), "\x00") != "" {
			t.Errorf("%s: %x, %v, want %x", name, got, err, want)
		}
	}
}

const prologue = `
	55
	4889e5
	4883ec60 ; sub rsp, 0x60
	483b6028
	0f871b000000 ; ja enough
	4883c460 ; add rsp, 0x60
	4157
	49c7c760000000 ; mov r15, 0x60
	4c897840
	415f
	ff5050 ; call [rax+0x50]
	e904000000
	4883c460 ; enough: add rsp, 0x60
	`

// TestFrames: a function checks its stack and releases it in fewer instructions; one that does not release what it took stays unchanged.
func TestFrames(t *testing.T) {
	t.Parallel()
	const begins = "55 488d6c24a0 483b6828 76"
	grow := "4889e5 4157 49c7c760000000 4c897840 415f ff5050"
	for name, c := range map[string]struct{ body, want string }{
		"nothing taken":         {"4889ec 5d c3", "4889e5 5d c3"},
		"a register":            {"52 5a 4889ec 5d c3", "4889e5 52 5a 5d c3"},
		"registers and room":    {"4157 52 4883ec20 90 4883c420 5a 415f 4889ec 5d c3", "4889e5 4157 52 4883ec20 90 4883c420 5a 415f 5d c3"},
		"much room":             {"4881ec00010000 90 4881c400010000 4889ec 5d c3", "4889e5 4881ec00010000 90 4881c400010000 5d c3"},
		"less room given back":  {"52 4883ec20 90 4883c410 5a 4889ec 5d c3", "4889e5 52 4883ec20 90 4883c410 5a 4889ec 5d c3"},
		"a register less":       {"52 53 4883ec20 90 4883c420 5b 4889ec 5d c3", "4889e5 52 53 4883ec20 90 4883c420 5b 4889ec 5d c3"},
		"room that stays taken": {"52 4883ec20 90 5a 4889ec 5d c3", "4889e5 52 4883ec20 90 5a 4889ec 5d c3"},
	} {
		body := machine(t, c.body)
		code := append(machine(t, prologue), body...)
		got, _, err := Rearrange(code, []uint64{0})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := machine(t, begins)
		middle := machine(t, c.want)
		want = append(want, byte(len(middle)))
		want = append(append(want, middle...), machine(t, grow)...)
		// and back, after mov rbp, rsp
		want = append(want, 0xeb, byte(-(len(middle)-3)-len(machine(t, grow))-2))
		if !bytes.HasPrefix(got, want) {
			t.Errorf("%s: %x, want %x", name, got, want)
		}
	}
	// A frame larger than eight bits, and prologues that differ slightly.
	large := strings.ReplaceAll(prologue, "4883ec60", "4881ec00010000")
	large = strings.ReplaceAll(large, "4883c460", "4881c400010000")
	large = strings.ReplaceAll(strings.ReplaceAll(large, "0f871b", "0f871e"), "e904", "e907")
	body := "4889ec 5d c3"
	if got, _, err := Rearrange(machine(t, large+body), []uint64{0}); err != nil || !bytes.HasPrefix(got, machine(t, "55 488dac2400ffffff 483b6828")) {
		t.Errorf("a large frame: %x, %v", got, err)
	}
	for name, other := range map[string]string{
		"sizes that differ":  strings.Replace(prologue, "4883c460 ; enough", "4883c450 ; enough", 1),
		"another limit":      strings.Replace(prologue, "483b6028", "483b6030", 1),
		"another condition":  strings.Replace(prologue, "0f87", "0f83", 1),
		"another way to it":  prologue + "83f901 0f84f3ffffff",
		"size differs, cold": strings.Replace(prologue, "4883c460", "4883c440", 1),
	} {
		got, _, err := Rearrange(machine(t, other+body), []uint64{0})
		if err != nil || !bytes.HasPrefix(got, machine(t, "55 4889e5 4883ec60")) || !bytes.Contains(got, machine(t, body)) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

// A jump table is rewritten, and its ways lead through jumps.
func TestTables(t *testing.T) {
	t.Parallel()
	code := machine(t, `
		b902000000 ; mov ecx, 2: three ways
		3bc1 ; cmp eax, ecx
		0f43c1 ; cmovae eax, ecx
		488d1d06000000 ; lea rbx, [rip+6]
		48031cc3 ; add rbx, [rbx+8*rax]
		ffe3 ; jmp rbx
		1800000000000000 ; ways: 24, 33, 24
		2100000000000000
		1800000000000000
		83f900 ; 24: cmp ecx, 0
		b801000000
		c3
		e900000000 ; 33
		0f0b`)
	got, _, err := Rearrange(code, []uint64{0})
	want := machine(t, `
		b902000000 3bc1 0f43c1 488d1d06000000 48031cc3 ffe3
		1800000000000000 2000000000000000 1800000000000000
		85c9 b801000000 c3 0f0b`)
	if err != nil || !bytes.HasPrefix(got, want) {
		t.Errorf("%x, %v", got, err)
	}
}

// TestCallsAndDistances: calls find their functions in the new places; jumps that do not reach with eight bits are long.
func TestCallsAndDistances(t *testing.T) {
	t.Parallel()
	var code []byte
	var begins []uint64
	function := func(text string) {
		for len(code)%alignment != 0 {
			code = append(code, 0)
		}
		begins = append(begins, uint64(len(code)))
		code = append(code, machine(t, text)...)
	}
	for _, n := range []int{126, 127, 128, 129, 200} {
		function(fmt.Sprintf("83f901 0f84%02x000000 %s c3", n, strings.Repeat("90", n)))
		function(fmt.Sprintf("83f901 %s 0f84%s c3", strings.Repeat("90", n), hex.EncodeToString([]byte{byte(-n - 6), 0xff - byte((n+6)>>8), 0xff, 0xff})))
	}
	function("90 e8 00000000 c3")
	call := begins[len(begins)-1] + 2
	for i, to := range begins {
		d := int(to) - int(call) - 4
		copy(code[call:], []byte{byte(d), byte(d >> 8), byte(d >> 16), byte(d >> 24)})
		old := &unit{code, begins}
		if t.Run(fmt.Sprint(i), func(t *testing.T) { compareUnits(t, old, old.rearranged(t), 1) }); t.Failed() {
			t.Fatalf("%x", code)
		}
	}
}

// TestRefusals: code that is not fully understood is refused.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code   string
		begins []uint64
	}{
		"an instruction that is not known": {"c5f877 c3", []uint64{0}},
		"one that is cut off":              {"b80000", []uint64{0}},
		"no end":                           {"90 90", []uint64{0}},
		"a jump into an instruction":       {"0f8401000000 b8c3c3c3c3 c3", []uint64{0}},
		"a jump in front of it":            {"e9f0ffffff", []uint64{0}},
		"a jump past it":                   {"e900010000 c3", []uint64{0}},
		"a branch into itself":             {"0f84fbffffff c3", []uint64{0}},
		"a call of no function":            {"e801000000 c3 90 c3", []uint64{0}},
		"an address of code":               {"488d0500000000 90 c3", []uint64{0}},
		"an address in front of it":        {"488d0500ffffff c3", []uint64{0}},
		"an address of its own code":       {"90 488d05f8ffffff c3", []uint64{0}},
		"an indirect jump without table":   {"ffe3", []uint64{0}},
		"a table that is cut off":          {"b902000000 488d1d02000000 ffe3 10000000 00000000 c3", []uint64{0}},
		"a table that leads elsewhere":     {"b900000000 488d1d02000000 ffe3 0000000001000000 c3", []uint64{0}},
		"a table that leads into itself":   {"b900000000 488d1d02000000 ffe3 0000000000000000 c3", []uint64{0}},
		"no function at the beginning":     {"90 c3", []uint64{1}},
		"functions in no order":            {"c3 c3 c3", []uint64{0, 2, 1}},
		"a function past the end":          {"c3", []uint64{0, 9}},
		"two at one place":                 {"c3", []uint64{0, 0}},
	} {
		if got, _, err := Rearrange(machine(t, c.code), c.begins); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	if out, begins, err := Rearrange(nil, nil); err != nil || len(out) != 0 || len(begins) != 0 {
		t.Error(out, begins, err)
	}
}

// disturb changes some bytes.
func disturb(code []byte, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 3))
	code = bytes.Clone(code)
	for range 1 + rng.IntN(3) {
		code[rng.IntN(len(code))] ^= byte(1 + rng.IntN(255))
	}
	return code
}

// FuzzRearrange: any bytes get an answer; and the same bytes get the same one.
func FuzzRearrange(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(machine(f, prologue+"4157 52 4883ec20 90 4883c420 5a 415f 4889ec 5d c3"), seed, uint8(0))
		f.Add(machine(f, "b902000000 3bc1 0f43c1 488d1d06000000 48031cc3 ffe3 1800000000000000 1e00000000000000 1800000000000000 b801000000 c3 e900000000 0f0b"), seed, uint8(40))
	}
	f.Fuzz(func(t *testing.T, code []byte, seed uint64, second uint8) {
		if len(code) == 0 {
			return
		}
		begins := []uint64{0}
		if int(second) < len(code) && second > 0 {
			begins = append(begins, uint64(second))
		}
		code = disturb(code, seed)
		a, at, err := Rearrange(code, begins)
		if err != nil && !errors.Is(err, ErrUnknown) {
			t.Fatal(err)
		}
		b, _, again := Rearrange(code, begins)
		if !bytes.Equal(a, b) || (err == nil) != (again == nil) || err == nil && len(at) != len(begins) {
			t.Fatalf("%x: %x, %v; %x, %v", code, a, err, b, again)
		}
	})
}
