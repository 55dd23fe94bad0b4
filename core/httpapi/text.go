package httpapi

import (
	"bytes"
	"net/http"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// exactText rejects a body whose texts could not be stored exactly: encoding/json would substitute U+FFFD for bytes that are not UTF-8 and
// for half a surrogate pair, and PostgreSQL's text cannot hold NUL. Offsets count bytes from 0.
func exactText(body []byte) error {
	if at := invalidUTF8(body); at >= 0 {
		return refuseAs(refusedText, http.StatusBadRequest, "the byte 0x%02x at offset %d of the body is not UTF-8", body[at], at)
	}
	if at := bytes.IndexByte(body, 0); at >= 0 {
		return refuseAs(refusedText, http.StatusBadRequest, "there is a NUL at offset %d of the body", at)
	}
	for at := 0; at < len(body); {
		next := bytes.IndexByte(body[at:], '\\')
		if next < 0 {
			return nil
		}
		at += next
		unit, ok := escape(body[at:])
		if !ok {
			at += 2 // \n, \\, or what the decoder rejects
			continue
		}
		size := escapeSize
		switch {
		case unit == 0:
			return refuseAs(refusedText, http.StatusBadRequest, `\u0000 at offset %d of the body: PostgreSQL's text cannot hold it (bytea can: '\x00')`, at)
		case utf16.IsSurrogate(rune(unit)):
			second, ok := escape(body[min(at+escapeSize, len(body)):])
			if !ok || utf16.DecodeRune(rune(unit), rune(second)) == utf8.RuneError {
				return refuseAs(refusedText, http.StatusBadRequest, "%s at offset %d of the body is half of a surrogate pair, not a character", body[at:at+escapeSize], at)
			}
			size = 2 * escapeSize
		}
		at += size
	}
	return nil
}

// escapeSize is the length of \uXXXX.
const escapeSize = 6

// escape reads a \uXXXX at the start of b.
func escape(b []byte) (unit uint16, ok bool) {
	if len(b) < escapeSize || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:escapeSize]), 16, 16)
	return uint16(n), err == nil
}

// invalidUTF8 is the index of the first byte that is not UTF-8; -1: none.
func invalidUTF8(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	for at := 0; ; {
		r, size := utf8.DecodeRune(b[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
}
