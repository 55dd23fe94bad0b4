package assets

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// builder returns a build function that writes text and counts its calls.
func builder(text string, calls *atomic.Int32) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		calls.Add(1)
		_, err := io.WriteString(w, text)
		return err
	}
}

func mustDerive(t *testing.T, s *Set, name, want string, calls *atomic.Int32) string {
	t.Helper()
	path, err := s.DerivedWhole(t.Context(), name, builder(want, calls))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Fatalf("%s holds %q (%v), want %q", path, got, err, want)
	}
	return path
}

func TestDerivedIsBuiltOnce(t *testing.T) {
	s := newFakePackage(t).set(t, createFile)
	var calls atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := s.Derived(t.Context(), "thing-v1", builder("made", &calls)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	path := mustDerive(t, s, "thing-v1", "made", &calls)
	if calls.Load() != 1 {
		t.Errorf("built %d times, want once", calls.Load())
	}
	if got, want := names(t, filepath.Dir(path)), []string{"thing-v1", "thing-v1.lock", "thing-v1.sum"}; !slices.Equal(got, want) {
		t.Errorf("folder holds %q, want %q", got, want)
	}
	mustDerive(t, s, "thing-v2", "made otherwise", &calls)
	mustDerive(t, s, "empty", "", &calls)
}

func TestDerivedIsMadeAgainWhenDamaged(t *testing.T) {
	for how, damage := range damages() {
		for _, suffix := range []string{"", ".sum"} {
			t.Run(how+suffix, func(t *testing.T) {
				s := newFakePackage(t).set(t, createFile)
				var calls atomic.Int32
				path := mustDerive(t, s, "thing", "made with care", &calls)
				damage(t, path+suffix)
				mustDerive(t, s, "thing", "made with care", &calls)
				harmless := how == "longer" && suffix == ".sum" // a byte after the line
				if want := int32(2); !harmless && calls.Load() != want {
					t.Errorf("built %d times, want %d", calls.Load(), want)
				}
			})
		}
	}
}

// TestDerivedSize: if only sizes are checked, a file of another size is made again, and one with other bytes is not.
func TestDerivedSize(t *testing.T) {
	for how, damage := range damages() {
		t.Run(how, func(t *testing.T) {
			s := newFakePackage(t).set(t, createFile)
			var calls atomic.Int32
			path := mustDerive(t, s, "thing", "made with care", &calls)
			damage(t, path)
			damaged, readErr := os.ReadFile(path)
			sameSize := readErr == nil && len(damaged) == len("made with care")
			b, err := s.ReadDerived("thing")
			if sameSize && (err != nil || string(b) != string(damaged)) || !sameSize && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("read: %q, %v", b, err)
			}
			if _, err := s.Derived(t.Context(), "thing", builder("made with care", &calls)); err != nil || sameSize != (calls.Load() == 1) {
				t.Errorf("built %d times, %v", calls.Load(), err)
			}
			mustDerive(t, s, "thing", "made with care", &calls)
			if calls.Load() != 2 {
				t.Errorf("built %d times, want 2", calls.Load())
			}
		})
	}
}

// TestOriginal: a file of the package is hashed when it is read.
func TestOriginal(t *testing.T) {
	s := newFakePackage(t).set(t, createFile)
	path := s.InitdbWasm()
	whole, err := s.Original(path)
	if err != nil || len(whole) == 0 {
		t.Fatal(err)
	}
	for how, damage := range damages() {
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		damage(t, path)
		if b, err := s.Original(path); err == nil {
			t.Errorf("%s: %q", how, b)
		} else {
			mustMention(t, err, path)
		}
	}
	if _, err := s.Original(filepath.Join(t.TempDir(), initdbWasm)); err == nil {
		t.Error("a file of another folder was taken")
	}
}

func TestDerivedBelongsToItsPin(t *testing.T) {
	fp := newFakePackage(t)
	s := fp.set(t, createFile)
	var calls atomic.Int32
	first := mustDerive(t, s, "thing", "old", &calls)
	other := *s
	other.pin.Files = slices.Clone(s.pin.Files)
	other.pin.Files[0].SHA256 = strings.Repeat("0", 64)
	if second := mustDerive(t, &other, "thing", "new", &calls); second == first {
		t.Error("two pins share a derived file")
	}
}

func TestDerivedErrors(t *testing.T) {
	s := newFakePackage(t).set(t, createFile)
	boom := errors.New("boom")
	fail := func(_ context.Context, w io.Writer) error {
		if _, err := io.WriteString(w, "half"); err != nil {
			return err
		}
		return boom
	}
	if _, err := s.Derived(t.Context(), "thing", fail); !errors.Is(err, boom) {
		t.Fatalf("got %v, want the error of build", err)
	}
	var calls atomic.Int32
	path := mustDerive(t, s, "thing", "whole", &calls)
	if got, want := names(t, filepath.Dir(path)), []string{"thing", "thing.lock", "thing.sum"}; !slices.Equal(got, want) {
		t.Errorf("folder holds %q, want %q", got, want)
	}
	for _, name := range []string{"", ".", "..", "a/b", "../a", ".hidden", "a b", strings.Repeat("a", 101)} {
		if _, err := s.Derived(t.Context(), name, builder("", &calls)); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
}

func TestDerivedDiskFails(t *testing.T) {
	const text = "some bytes that need room"
	var calls atomic.Int32
	for _, failure := range []error{syscall.ENOSPC, syscall.EROFS} {
		for _, room := range []int{0, 4, len(text) + 4} { // creating, writing, writing the sum
			s := newFakePackage(t).set(t, failing(room, failure))
			_, err := s.Derived(t.Context(), "thing", builder(text, &calls))
			if !errors.Is(err, failure) {
				t.Fatalf("after %d bytes: got %v, want %v", room, err, failure)
			}
			mustMention(t, err, s.CacheDir(), cacheVariable)
			s.cache.create = createFile
			mustDerive(t, s, "thing", "made later", &calls)
		}
	}
}

// A build that ignores its writer's errors must not leave half a file that passes for complete.
func TestDerivedCarelessBuild(t *testing.T) {
	files := 0
	first := func(path string) (writeFile, error) { // only the first file meets a full disk
		files++
		if files == 1 {
			return failing(4, syscall.ENOSPC)(path)
		}
		return createFile(path)
	}
	s := newFakePackage(t).set(t, first)
	_, err := s.Derived(t.Context(), "thing", func(_ context.Context, w io.Writer) error {
		_, _ = io.WriteString(w, "more than four bytes")
		return nil
	})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v, want ENOSPC", err)
	}
}

func TestDerivedMayDerive(t *testing.T) {
	s := newFakePackage(t).set(t, createFile)
	var calls atomic.Int32
	_, err := s.Derived(t.Context(), "outer", func(ctx context.Context, w io.Writer) error {
		inner, err := s.Derived(ctx, "inner", builder("inside", &calls))
		if err != nil {
			return err
		}
		_, err = io.WriteString(w, filepath.Base(inner))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
