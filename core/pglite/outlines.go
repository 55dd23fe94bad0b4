package pglite

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tetratelabs/wazero"

	"blobpglite/core/pglite/internal/codecache"
	"blobpglite/core/pglite/internal/wasmbin"
)

// A cold start needs PostgreSQL's module without its code, which is already compiled: reading, hashing, decoding and validating the
// function bodies would be most of the work of loading. So once PostgreSQL is compiled, two more files are made:
//
//	pglite-v<n>.outline.wasm   the module without code, for wazero and the host (package codecache), and the module's hash: code with
//	                           bounds checks and code without have the same shape, and must not be confused
//	pglite-v<n>.data.wasm      what it writes into its memory, and a sum
//
// and a loan is noted next to the compilation:
//
//	<dir>/loans/<the outline's hash>   a line for each kind of processor: key, entry, its size, functions, two sums; a sum
//
// If one of them is damaged, that is reported, the whole module is loaded instead, and they are made again.

// loansDir is the folder of the loans, inside that of the compilations.
const loansDir = "loans"

// loanText is a line of a file of loans.
const loanText = "%x %s %d %d %08x %08x\n"

// errNoLoan: none has been noted, which is normal the first time.
var errNoLoan = errors.New("it has no loan yet")

// loadMain loads PostgreSQL itself, by its outline if possible.
func (rt *Runtime) loadMain(ctx context.Context) (*program, error) {
	p, err := rt.outlined(ctx)
	if err == nil || ctx.Err() != nil {
		return p, err
	}
	if !errors.Is(err, errNoLoan) {
		rt.progress(fmt.Sprintf("loading %s in full: %v", mainProgram, err), 0, 0)
	}
	p, bin, err := rt.compileWhole(ctx, mainProgram, rt.assets.PGliteWasm())
	if err != nil {
		return nil, err
	}
	if rt.compilations.files == nil {
		return p, nil
	}
	if err := rt.drawOutline(ctx, bin); err != nil {
		rt.progress(fmt.Sprintf("the next start loads %s in full too: %v", mainProgram, err), 0, 0)
	}
	return p, ctx.Err()
}

func (rt *Runtime) outlineName() string {
	return fmt.Sprintf("%s-v%d%s.outline.wasm", mainProgram, formatVersion, rt.suffix())
}

func dataName() string { return fmt.Sprintf("%s-v%d.data.wasm", mainProgram, formatVersion) }

// outlined loads PostgreSQL by its outline. The outline needs no sum of its own: if a bit differs, it has no loan.
func (rt *Runtime) outlined(ctx context.Context) (*program, error) {
	if rt.compilations.files == nil {
		return nil, errNoLoan
	}
	outline, err := rt.assets.ReadDerived(rt.outlineName())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoLoan
	}
	if err != nil {
		return nil, err
	}
	data, err := rt.assets.ReadDerived(dataName())
	if err != nil {
		return nil, err
	}
	if data, err = unsealed(data); err != nil {
		return nil, fmt.Errorf("%s: %w", dataName(), err)
	}
	p, err := newProgram(outline, data)
	if err != nil {
		return nil, err
	}
	rt.compilations.report("loading ", mainProgram)
	p.compiled, err = rt.compilations.borrow(ctx, outline)
	return p, err
}

// drawOutline makes the outline of a module that was just compiled or loaded, and notes the loan.
func (rt *Runtime) drawOutline(ctx context.Context, bin []byte) error {
	draw := func(_ context.Context, w io.Writer) error {
		outline, err := wasmbin.Outline(bin)
		if err == nil {
			_, err = w.Write(outline)
		}
		return err
	}
	var outline []byte
	for range 2 {
		file, err := rt.assets.DerivedWhole(ctx, rt.outlineName(), draw)
		if err == nil {
			outline, err = os.ReadFile(file)
		}
		if err != nil {
			return err
		}
		if wasmbin.IsOutline(outline, bin) {
			break
		}
		if err := rt.assets.Forget(rt.outlineName()); err != nil { // it belongs to another module that had this name
			return err
		}
	}
	_, err := rt.assets.DerivedWhole(ctx, dataName(), func(_ context.Context, w io.Writer) error {
		original, err := rt.assets.Original(rt.assets.PGliteWasm())
		if err != nil {
			return err
		}
		data, err := wasmbin.DataOnly(original)
		if err == nil {
			_, err = w.Write(sealed(data))
		}
		return err
	})
	if err != nil {
		return err
	}
	return rt.compilations.lend(ctx, bin, outline)
}

// sealed returns b followed by its sum.
func sealed(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(bytes.Clone(b), crc32.Checksum(b, castagnoli))
}

// unsealed is the inverse of sealed.
func unsealed(b []byte) ([]byte, error) {
	at := len(b) - crc32.Size
	if at < 0 || binary.LittleEndian.Uint32(b[at:]) != crc32.Checksum(b[:at], castagnoli) {
		return nil, fmt.Errorf("%w: it has other bytes than were written", errDamaged)
	}
	return b[:at:at], nil
}

// borrow returns the compilation of an outline, with the code of the module itself.
func (c *compilations) borrow(ctx context.Context, outline []byte) (compiled wazero.CompiledModule, err error) {
	text, err := os.ReadFile(c.loanPath(outline))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoLoan
	}
	if err != nil {
		return nil, err
	}
	loans, err := c.readLoans(text)
	if err != nil {
		return nil, err
	}
	compiled, _, err = c.loadOutline(ctx, outline, loans)
	return compiled, err
}

// loadOutline lets wazero load an outline by one of these loans.
func (c *compilations) loadOutline(ctx context.Context, outline []byte, loans []codecache.Loan) (compiled wazero.CompiledModule, key codecache.Key, err error) {
	key, err = c.files.Lend(loans, func() (err error) {
		compiled, err = c.give(ctx, outline)
		return err
	})
	if err != nil {
		if compiled != nil {
			err = errors.Join(err, compiled.Close(ctx))
		}
		return nil, key, fmt.Errorf("load the compilation by its outline: %w", err)
	}
	return compiled, key, nil
}

// lend notes for the next process that an outline may be loaded with the code of a module, the last one wazero was given. The code is read
// once more as a whole, and then loaded by the outline.
func (c *compilations) lend(ctx context.Context, bin, outline []byte) error {
	if !wasmbin.IsOutline(outline, bin) {
		return errors.New("the outline is another module's")
	}
	made, err := c.madeOf(bin)
	if err != nil {
		return err
	}
	l := codecache.Loan{Path: filepath.Join(c.dir, made.name)}
	if l.Entry, err = codecache.Describe(l.Path); err != nil {
		return err
	}
	meta, err := wasmbin.Parse(outline)
	if err != nil {
		return err
	}
	if int(l.Functions) != meta.Bodies() || l.Size != made.size {
		return fmt.Errorf("the compilation has %d functions in %d bytes, %d in %d are expected", l.Functions, l.Size, meta.Bodies(), made.size)
	}
	compiled, key, err := c.loadOutline(ctx, outline, []codecache.Loan{l})
	if err != nil {
		return err
	}
	if err := compiled.Close(ctx); err != nil {
		return err
	}
	path := c.loanPath(outline)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	text := fmt.Appendf(nil, loanText, key, made.name, l.Size, l.Functions, l.Head, l.Tail)
	if old, err := os.ReadFile(path); err == nil {
		text = append(text, c.otherLoans(old, key)...)
	}
	return c.write(path, withSum(text))
}

// madeOf returns the intact entry, for this processor, of the module that wazero was given last.
func (c *compilations) madeOf(bin []byte) (entrySum, error) {
	sums, err := c.sums(hashOf(bin))
	if err != nil {
		return entrySum{}, err
	}
	last := c.files.Last()
	for _, want := range sums {
		if filepath.Base(want.name) != hex.EncodeToString(last[:]) {
			continue
		}
		got, err := c.sumOf(want.name)
		if err == nil && got != want {
			err = fmt.Errorf("%w: %s", errDamaged, want.name)
		}
		return want, err
	}
	return entrySum{}, errors.New("the compilation has no sum")
}

func (c *compilations) loanPath(outline []byte) string {
	return filepath.Join(c.dir, loansDir, fmt.Sprintf("%x", hashOf(outline)))
}

// withSum appends the text's sum as its last line.
func withSum(text []byte) []byte {
	return fmt.Appendf(text, "%08x\n", crc32.Checksum(text, castagnoli))
}

// readLoans reads a file of loans.
func (c *compilations) readLoans(text []byte) (loans []codecache.Loan, err error) {
	body, ok := bytes.CutSuffix(text, []byte("\n"))
	body = body[:bytes.LastIndexByte(body, '\n')+1]
	if !ok || len(text) > maxSums || !bytes.Equal(text, withSum(bytes.Clone(body))) {
		return nil, fmt.Errorf("%w: the loans of the compilation", errDamaged)
	}
	for line := range bytes.Lines(body) {
		var l codecache.Loan
		var key []byte
		var name string
		n, err := fmt.Sscanf(string(line), loanText, &key, &name, &l.Size, &l.Functions, &l.Head, &l.Tail)
		if n != 6 || err != nil || len(key) != len(l.Key) || !filepath.IsLocal(name) {
			return nil, fmt.Errorf("%w: the loans of the compilation", errDamaged)
		}
		l.Key, l.Path = codecache.Key(key), filepath.Join(c.dir, name)
		loans = append(loans, l)
	}
	return loans, nil
}

// otherLoans returns the lines for processors other than key's.
func (c *compilations) otherLoans(text []byte, key codecache.Key) (lines []byte) {
	loans, err := c.readLoans(text)
	if err != nil {
		return nil
	}
	all := bytes.SplitAfter(text, []byte("\n"))
	for i, l := range loans {
		if _, err := os.Stat(l.Path); err == nil && l.Key != key {
			lines = append(lines, all[i]...)
		}
	}
	return lines
}
