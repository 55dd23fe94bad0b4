// Package codecache lets wazero load the compiled code of one module for another module of the same shape. It sits
// between wazero's compiler and its files of compiled code.
//
//	cache, err := wazero.NewCompilationCacheWithDir(dir)
//	files, err := codecache.Stand(cache)                        // before a runtime is made with the cache
//	key, err := files.Lend(loans, func() (err error) {           // in it wazero gets a loan's entry, or an error
//		compiled, err = runtime.CompileModule(ctx, outline)
//		return err
//	})
//
// wazero 1.12 decodes and validates a module before it looks for its code; for pglite.wasm that takes five times as long
// as reading the code. For a module whose code it has, it needs everything except the function bodies. An outline
// ([wasmbin.Outline]) has the same sections and empty bodies. So wazero is given the outline instead of the module, and
// when it looks for the outline's code, it gets the module's. The outline is never compiled: while an entry is lent, a
// request for any other entry, an entry that wazero calls stale, and an attempt to write one are errors.
//
// wazero's interface for that is not public, so it is reached by reflection. If it is not as in wazero 1.12, Stand
// returns an error, and the caller does without.
package codecache

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/tetratelabs/wazero"
)

// Key is wazero's name for an entry: a hash of the module's bytes, wazero's own format and the processor's features.
type Key = [32]byte

// ErrRefused is wrapped when a lent entry is not what wazero wants, which would make wazero compile. Load the module
// itself.
var ErrRefused = errors.New("the compiled code is not this module's")

// store is wazero's filecache.Cache.
type store interface {
	Get(key Key) (content io.ReadCloser, ok bool, err error)
	Add(key Key, content io.Reader) error
	Delete(key Key) error
}

// Files is wazero's folder of entries, accessed through this package.
type Files struct {
	// Arrange has compiled code arranged by package postlink before it is written, where possible: processes that read it
	// later run faster, the process that compiles does not. Set it before the cache is used.
	Arrange bool

	behind store
	lent   atomic.Pointer[taken]
	last   atomic.Pointer[Key]
	unkept atomic.Int32 // number of running Unkept calls
}

// Version returns wazero's own version as it sees it in this process: it reads no entry written by another version, and
// names its folder after it. A test binary lists no modules, so its version differs from that of a program built from the
// same source.
func Version() string {
	const unknown = "dev"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknown
	}
	version := info.Main.Version
	for _, m := range info.Deps {
		if strings.Contains(m.Path, "github.com/tetratelabs/wazero") {
			version = m.Version
		}
	}
	if version == "" || version == "(devel)" {
		return unknown
	}
	return version
}

// Stand puts Files between a cache and its folder. The cache must not be in use yet. It fails if this wazero is not as
// version 1.12.
func Stand(c wazero.CompilationCache) (_ *Files, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("this wazero's format of compiled code differs from version 1.12: %v", r)
		}
	}()
	field := reflect.ValueOf(c).Elem().FieldByName("fileCache")
	field = reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem()
	f := &Files{behind: field.Interface().(store)}
	field.Set(reflect.ValueOf(f))
	return f, nil
}

// Entry identifies an entry of wazero's cache without reading its code twice: wazero itself compares the code with the
// checksum in the entry, and Head and Tail cover everything else, that checksum included.
type Entry struct {
	Size      int64
	Functions uint32
	Head      uint32 // CRC-32C of the bytes before the code: wazero's version, where functions begin, the code's length
	Tail      uint32 // CRC-32C of the bytes after the code, its checksum first
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	magic        = "WAZEVO"
	maxFunctions = 1 << 20
	maxTail      = 64 << 20
	bufferBytes  = 64 << 10
)

// head reads what precedes the code, and returns the number of functions and the size of the code in bytes.
func head(r io.Reader) (b []byte, functions uint32, code int64, err error) {
	var buf bytes.Buffer
	more := func(n int64) []byte {
		at := buf.Len()
		if err == nil {
			_, err = io.CopyN(&buf, r, n)
		}
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: it is truncated", ErrRefused)
		}
		if err != nil {
			return make([]byte, n)
		}
		return buf.Bytes()[at:]
	}
	start := more(int64(len(magic)) + 1)
	if err == nil && string(start[:len(magic)]) != magic {
		err = fmt.Errorf("%w: it does not begin like a wazero compilation", ErrRefused)
	}
	more(int64(start[len(magic)])) // the version
	if functions = binary.LittleEndian.Uint32(more(4)); functions > maxFunctions {
		err = fmt.Errorf("%w: it has %d functions", ErrRefused, functions)
		functions = 0
	}
	more(8 * int64(functions))
	code = int64(binary.LittleEndian.Uint64(more(8)))
	return buf.Bytes(), functions, code, err
}

// Describe reads an entry, except its code.
func Describe(path string) (e Entry, err error) {
	file, err := os.Open(path)
	if err != nil {
		return e, err
	}
	defer file.Close()
	e, _, err = describe(file)
	return e, err
}

// describe also returns the bytes before the code.
func describe(file *os.File) (e Entry, before []byte, err error) {
	info, err := file.Stat()
	if err != nil {
		return e, nil, err
	}
	e.Size = info.Size()
	before, functions, code, err := head(bufio.NewReaderSize(file, bufferBytes))
	if err != nil {
		return e, nil, err
	}
	at := int64(len(before)) + code
	if code < 0 || at < 0 || at > e.Size || e.Size-at > maxTail {
		return e, nil, fmt.Errorf("%w: its code of %d bytes does not match the entry's %d bytes", ErrRefused, code, e.Size)
	}
	after := make([]byte, e.Size-at)
	if _, err = file.ReadAt(after, at); err != nil {
		return e, nil, err
	}
	e.Functions, e.Head, e.Tail = functions, crc32.Checksum(before, castagnoli), crc32.Checksum(after, castagnoli)
	return e, before, nil
}

// Loan is an entry that is used for a module other than the one it was made from.
type Loan struct {
	Path string
	Entry
	Key Key // the key by which wazero asks for the module; zero: not known yet
}

// Last returns the key that wazero last asked for outside Lend.
func (f *Files) Last() Key {
	if k := f.last.Load(); k != nil {
		return *k
	}
	return Key{}
}

// Lend calls do, which must give wazero one module, and gives wazero the entry of the loan whose key it asks for; there
// is one loan for each kind of processor. It returns that key. If there is no such loan, the entry differs from the
// loan's description, or wazero refuses it, then do fails: nothing is compiled, nothing written. No other module may be
// compiled during the call.
func (f *Files) Lend(loans []Loan, do func() error) (Key, error) {
	t := &taken{loans: loans}
	if !f.lent.CompareAndSwap(nil, t) {
		return Key{}, fmt.Errorf("%w: another entry is being lent", ErrRefused)
	}
	defer f.lent.Store(nil)
	err := do()
	if err == nil && !t.given {
		err = fmt.Errorf("%w: wazero did not request it", ErrRefused)
	}
	return t.asked, err
}

// Unkept calls do; what wazero compiles in it is not written to the folder, which is gone or cannot be written.
func (f *Files) Unkept(do func() error) error {
	f.unkept.Add(1)
	defer f.unkept.Add(-1)
	return do()
}

// taken is a loan in use, and its outcome.
type taken struct {
	loans []Loan
	asked Key
	given bool
}

// Get implements wazero's cache.
func (f *Files) Get(key Key) (io.ReadCloser, bool, error) {
	t := f.lent.Load()
	if t == nil {
		f.last.Store(&key)
		whole, ok, err := f.behind.Get(key)
		if err != nil || !ok {
			return nil, false, err
		}
		return &content{file: whole}, true, nil
	}
	t.asked = key
	at := slices.IndexFunc(t.loans, func(l Loan) bool { return l.Key == key || l.Key == Key{} })
	if at < 0 {
		return nil, false, fmt.Errorf("%w: it was compiled for another processor", ErrRefused)
	}
	content, err := t.loans[at].open()
	t.given = err == nil
	return content, t.given, err
}

// Add implements wazero's cache.
func (f *Files) Add(key Key, content io.Reader) error {
	if f.lent.Load() != nil {
		return fmt.Errorf("%w: wazero compiled instead", ErrRefused)
	}
	if f.unkept.Load() > 0 {
		return nil
	}
	if !f.Arrange {
		return f.behind.Add(key, content)
	}
	var whole bytes.Buffer
	if _, err := io.Copy(&whole, content); err != nil { // in one piece: it is a bytes.Reader
		return err
	}
	entry := whole.Bytes()
	if better, err := arranged(entry); err == nil {
		entry = better
	}
	return f.behind.Add(key, bytes.NewReader(entry))
}

// Delete implements wazero's cache. An entry of another version of wazero is deleted there, and then compiled.
func (f *Files) Delete(key Key) error {
	if f.lent.Load() != nil {
		return fmt.Errorf("%w: another version of wazero wrote it", ErrRefused)
	}
	return f.behind.Delete(key)
}

// open compares the entry with its description.
func (l *Loan) open() (io.ReadCloser, error) {
	file, err := os.Open(l.Path)
	if err != nil {
		return nil, err
	}
	got, before, err := describe(file)
	if err == nil && got != l.Entry {
		err = fmt.Errorf("%w: %s is not the one that was recorded", ErrRefused, l.Path)
	}
	if err == nil {
		_, err = file.Seek(int64(len(before)), io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &content{before: before, file: file}, nil
}

// content is an entry for wazero, which reads it in two ways: the functions' offsets eight bytes at a time, each of which
// would be a system call, and then all of the code in one read, into memory that it has just mapped.
type content struct {
	before []byte // not read yet
	file   io.ReadCloser
}

func (c *content) Read(p []byte) (int, error) {
	if len(c.before) > 0 {
		n := copy(p, c.before)
		c.before = c.before[n:]
		return n, nil
	}
	preferHugePages(p)
	return c.file.Read(p)
}

func (c *content) Close() error { return c.file.Close() }

// DescribeFunctions makes wazero's descriptions of a module's functions, which wazero would otherwise make when the first
// panic passes through the module's code. The exports are hidden during this, because wazero searches all of them for
// each function, to note names that are never used.
func DescribeFunctions(c wazero.CompiledModule) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("this wazero's modules differ from version 1.12: %v", r)
		}
	}()
	field := reflect.ValueOf(c).Elem().FieldByName("module").Elem().FieldByName("ExportSection")
	field = reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem()
	exports := reflect.ValueOf(field.Interface())
	field.SetZero()
	defer field.Set(exports)
	c.ImportedFunctions()
	return nil
}
