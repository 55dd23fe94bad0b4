package store

import (
	"crypto/rand"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"
)

// NewWriteID returns a fresh ID for one logical write: a unique ULID of 26 characters, which sorts by its creation
// time in milliseconds. Repetitions of the same write use the same ID.
func NewWriteID() string { return ulid.MustNew(ulid.Now(), rand.Reader).String() }

// CheckKey returns an error that wraps ErrInvalid unless key is a relative slash-separated path of 1 to MaxKeyBytes
// bytes of valid UTF-8, without control characters and without empty, "." or ".." segments.
func CheckKey(key string) error {
	if key == "" {
		return fmt.Errorf("%w: the key is empty", ErrInvalid)
	}
	if err := checkText("key", key); err != nil {
		return err
	}
	for segment := range strings.SplitSeq(key, "/") {
		switch segment {
		case "":
			return fmt.Errorf("%w: key %q has an empty segment (a leading, trailing or double slash)", ErrInvalid, key)
		case ".", "..":
			return fmt.Errorf("%w: key %q has a segment %q", ErrInvalid, key, segment)
		}
	}
	return nil
}

// CheckPut validates the arguments of a Put; implementations call it first. Errors wrap ErrInvalid.
func CheckPut(key string, body []byte, writeID string, cond Cond) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if len(body) > MaxBodyBytes {
		return fmt.Errorf("%w: the body has %d bytes, the limit is %d: cut it into parts", ErrInvalid, len(body), MaxBodyBytes)
	}
	if err := checkCond(cond); err != nil {
		return err
	}
	if _, conditional := cond.Precondition(); conditional && writeID == "" {
		return fmt.Errorf("%w: a conditional put needs a write id", ErrInvalid)
	}
	return checkWriteID(writeID)
}

// CheckList validates the arguments of a List, which need not be whole keys. Errors wrap ErrInvalid.
func CheckList(prefix, after string) error {
	if err := checkText("prefix", prefix); err != nil {
		return err
	}
	return checkText("after", after)
}

// CheckRange validates the arguments of a GetRange. Errors wrap ErrInvalid.
func CheckRange(key string, offset, length int64) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if offset < 0 || length <= 0 || length > MaxBodyBytes {
		return fmt.Errorf("%w: range offset %d, length %d (the offset must not be negative, the length 1 to %d)",
			ErrInvalid, offset, length, MaxBodyBytes)
	}
	return nil
}

func checkCond(c Cond) error {
	switch c.kind {
	case condAlways, condIfAbsent:
		return nil
	case condIfGen:
		if c.gen > 0 {
			return nil
		}
		return fmt.Errorf("%w: IfGen(%d): a generation is positive; for \"absent\" use IfAbsent", ErrInvalid, c.gen)
	default:
		return fmt.Errorf("%w: the zero Cond: use Always, IfAbsent or IfGen", ErrInvalid)
	}
}

func checkText(what, s string) error {
	if len(s) > MaxKeyBytes {
		return fmt.Errorf("%w: the %s has %d bytes, the limit is %d", ErrInvalid, what, len(s), MaxKeyBytes)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w: %s %q is not valid UTF-8", ErrInvalid, what, s)
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%w: %s %q has a control character", ErrInvalid, what, s)
	}
	return nil
}

// checkWriteID admits visible ASCII only: some stores send a write id in an HTTP header.
func checkWriteID(id string) error {
	if len(id) > MaxWriteIDBytes {
		return fmt.Errorf("%w: the write id has %d bytes, the limit is %d", ErrInvalid, len(id), MaxWriteIDBytes)
	}
	if strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%w: write id %q must be visible ASCII", ErrInvalid, id)
	}
	return nil
}
