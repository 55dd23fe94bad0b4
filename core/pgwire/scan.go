package pgwire

import (
	"bytes"
	"regexp"
	"strings"
)

// hints say what a statement may do to the session beyond its transaction. Command tags tell what was done at the top
// level; words in the text tell what a tag does not. A hint too many costs a look at the session, no more. Where functions
// may hide it, every transaction is looked at (session.risky).
type hints uint8

const (
	usesSettings  hints = 1 << iota // SET, set_config
	usesReset                       // RESET, SET ... TO DEFAULT
	usesPrepared                    // PREPARE, DEALLOCATE
	usesListen                      // LISTEN, UNLISTEN
	usesPins                        // temporary tables, advisory locks, WITH HOLD
	usesWipe                        // DISCARD ALL, DEALLOCATE ALL
	usesForget                      // the client's own are gone with them
	usesFunctions                   // makes functions, in which anything may be hidden
	usesAnything  = usesSettings | usesPrepared | usesListen | usesPins
)

// wordHints are the words that matter.
func wordHints(word string) hints {
	switch word {
	case "set_config":
		return usesSettings
	case "listen":
		return usesListen
	case "temp", "temporary", "hold", "pg_temp":
		return usesPins
	case "function", "procedure", "extension":
		return usesFunctions
	}
	if strings.Contains(word, "advisory") {
		return usesPins
	}
	return 0
}

// longestWord is as long as a word that matters may be.
const longestWord = 40

// hintsOf looks for words that matter in a statement.
func hintsOf(text []byte) hints {
	var h hints
	var word [longestWord]byte
	for i := 0; i < len(text); {
		if !isWord(text[i]) {
			i++
			continue
		}
		n := 0
		for ; i < len(text) && isWord(text[i]); i++ {
			if n < longestWord {
				word[n] = lower(text[i])
			}
			n++
		}
		if n >= 2 && n <= longestWord {
			h |= wordHints(string(word[:n]))
		}
	}
	return h
}

// customName is the name of a custom setting: it has a dot.
var customName = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)+`)

// startsWithSet says whether a text begins with SET.
func startsWithSet(text []byte) bool {
	text = bytes.TrimSpace(text)
	return len(text) > 4 && strings.EqualFold(string(text[:3]), "set") && !isWord(text[3])
}

func isWord(ch byte) bool {
	return ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z' || ch == '_' || ch >= '0' && ch <= '9' || ch >= 0x80
}

func lower(ch byte) byte {
	if ch >= 'A' && ch <= 'Z' {
		return ch + 'a' - 'A'
	}
	return ch
}

// begins says whether a text is nothing but BEGIN or START TRANSACTION, with the modes that they take.
func begins(text []byte) bool {
	const longest = 200
	text = bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(text), []byte{';'}))
	if len(text) > longest {
		return false
	}
	for _, ch := range text {
		if ch != ' ' && ch != ',' && (lower(ch) < 'a' || lower(ch) > 'z') {
			return false
		}
	}
	first, rest, _ := bytes.Cut(text, []byte{' '})
	if bytes.EqualFold(first, []byte("start")) {
		first, _, _ = bytes.Cut(bytes.TrimLeft(rest, " "), []byte{' '})
		return bytes.EqualFold(first, []byte("transaction"))
	}
	return bytes.EqualFold(first, []byte("begin"))
}

// hintsOfTag says what a command that has been done means.
func hintsOfTag(tag string) hints {
	switch tag {
	case "SET", "RESET":
		return usesSettings | usesReset
	case "PREPARE", "DEALLOCATE":
		return usesPrepared
	case "LISTEN", "UNLISTEN":
		return usesListen
	case "DECLARE CURSOR":
		return usesPins
	case "DEALLOCATE ALL":
		return usesWipe | usesForget | usesPrepared
	case "DISCARD ALL":
		return usesWipe | usesForget | usesAnything | usesReset
	case "DO", "CALL":
		return usesWipe | usesAnything | usesReset
	}
	return 0
}

// words are the words of a short statement: bare ones in lower case, quoted ones as they are. Nil: there is something
// else in it.
func words(text []byte) []string {
	var all []string
	s := strings.TrimSpace(strings.TrimRight(strings.TrimSpace(string(text)), ";"))
	for s != "" {
		if s[0] == '"' {
			word, rest, ok := unquote(s)
			if !ok {
				return nil
			}
			all, s = append(all, word), strings.TrimSpace(rest)
			continue
		}
		n := 0
		for n < len(s) && isWord(s[n]) {
			n++
		}
		if n == 0 {
			return nil
		}
		all, s = append(all, strings.ToLower(s[:n])), strings.TrimSpace(s[n:])
	}
	return all
}

// unquote reads an identifier in quotes from the start of s.
func unquote(s string) (word, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '"' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			b.WriteByte('"')
			i++
			continue
		}
		return b.String(), s[i+1:], true
	}
	return "", "", false
}

// listens are the channels that a text listens to at its top level, in order: what pg_listening_channels() cannot tell,
// because somebody else listens to them too.
func listens(text []byte) []string {
	var channels []string
	for _, statement := range strings.Split(string(text), ";") {
		if w := words([]byte(statement)); len(w) == 2 && w[0] == "listen" {
			channels = append(channels, w[1])
		}
	}
	return channels
}

func quoteIdent(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// quoteLiteral writes a text as SQL, whatever standard_conforming_strings says.
func quoteLiteral(text string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(text) + "'"
}
