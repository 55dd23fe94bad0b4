package interleave

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// words puts messages into words that are the same for the same behaviour.
type words struct {
	pids     map[uint32]string // name of each process's client
	repeated int               // parameters reported again unchanged
}

func newWords() *words { return &words{pids: map[uint32]string{}} }

// know learns whose a process is; its previous owner has gone.
func (w *words) know(pid uint32, name string) { w.pids[pid] = name }

func (w *words) process(pid uint32) string {
	if name, ok := w.pids[pid]; ok {
		return name
	}
	return "a stranger"
}

// unique is what no two runs have in common, in the texts of errors and notices.
var unique = []struct {
	pattern *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`after [0-9.]+ ms`), "after _ ms"},
	{regexp.MustCompile(`virtual transaction [0-9]+/[0-9]+`), "virtual transaction _"},
	{regexp.MustCompile(`\b(transaction|relation|database|OID) [0-9]+`), "$1 _"},
	{regexp.MustCompile(`advisory lock \[[0-9]+,`), "advisory lock [_,"},
	{regexp.MustCompile(`pg_temp_[0-9]+`), "pg_temp_N"},
}

// numbers are the processes that a text names.
var numbers = regexp.MustCompile(`(?i)(process(?:es)?(?: holding the lock)?:? |queue: |PID )([0-9]+(?:, [0-9]+)*)`)

// text returns a text of the server without what is unique.
func (w *words) text(s string) string {
	s = numbers.ReplaceAllStringFunc(s, func(found string) string {
		m := numbers.FindStringSubmatch(found)
		list := strings.Split(m[2], ", ")
		for i, number := range list {
			pid, _ := strconv.ParseUint(number, 10, 32) // digits: too many name a stranger
			list[i] = w.process(uint32(pid))
		}
		return m[1] + strings.Join(list, ", ")
	})
	for _, u := range unique {
		s = u.pattern.ReplaceAllString(s, u.instead)
	}
	return s
}

// of puts a message into words.
func (w *words) of(m pgproto3.BackendMessage) string {
	switch m := m.(type) {
	case *pgproto3.AuthenticationOk:
		return "authenticated"
	case *pgproto3.ParameterStatus:
		if m.Name == "server_version" {
			major, _, _ := strings.Cut(m.Value, ".")
			return parameter + "server_version=" + major
		}
		return parameter + m.Name + "=" + m.Value
	case *pgproto3.ReadyForQuery:
		return "ready " + string(m.TxStatus)
	case *pgproto3.RowDescription:
		return "columns " + columns(m.Fields)
	case *pgproto3.DataRow:
		return "row " + row(m.Values)
	case *pgproto3.CommandComplete:
		return "done " + string(m.CommandTag)
	case *pgproto3.ErrorResponse:
		return w.complaint((*pgproto3.NoticeResponse)(m))
	case *pgproto3.NoticeResponse:
		return w.complaint(m)
	case *pgproto3.NotificationResponse:
		return fmt.Sprintf("notified on %s by %s: %q", m.Channel, w.process(m.PID), m.Payload)
	case *pgproto3.ParameterDescription:
		return fmt.Sprint("parameters ", m.ParameterOIDs)
	case *pgproto3.CopyInResponse:
		return fmt.Sprint("copy in ", m.OverallFormat, m.ColumnFormatCodes)
	case *pgproto3.CopyOutResponse:
		return fmt.Sprint("copy out ", m.OverallFormat, m.ColumnFormatCodes)
	case *pgproto3.CopyData:
		return fmt.Sprintf("copied %q", m.Data)
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3.") // no fields: ParseComplete and the like
}

func columns(fields []pgproto3.FieldDescription) string {
	list := make([]string, len(fields))
	for i, f := range fields {
		list[i] = fmt.Sprintf("%s:%d", f.Name, f.DataTypeOID)
		if f.TableOID != 0 {
			list[i] += fmt.Sprintf(" of _.%d", f.TableAttributeNumber)
		}
		if f.TypeModifier != -1 || f.Format != 0 {
			list[i] += fmt.Sprintf(" modifier %d format %d", f.TypeModifier, f.Format)
		}
	}
	return strings.Join(list, ", ")
}

func row(values [][]byte) string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = "NULL"
		if v != nil {
			list[i] = strconv.Quote(string(v))
		}
	}
	return strings.Join(list, " ")
}

// complaint is an error or a notice, without its place in PostgreSQL's source.
func (w *words) complaint(m *pgproto3.NoticeResponse) string {
	text := fmt.Sprintf("%s %s %s", m.SeverityUnlocalized, m.Code, w.text(m.Message))
	for _, f := range []struct{ name, value string }{
		{"detail", m.Detail}, {"hint", m.Hint}, {"where", m.Where}, {"schema", m.SchemaName}, {"table", m.TableName}, {"column", m.ColumnName},
		{"type", m.DataTypeName}, {"constraint", m.ConstraintName}, {"query", m.InternalQuery}, {"routine", m.Routine},
	} {
		if f.value != "" {
			text += " [" + f.name + ": " + w.text(f.value) + "]"
		}
	}
	if m.Position != 0 {
		text += fmt.Sprintf(" [at %d]", m.Position)
	}
	return text
}

// parameter begins the word for a parameter's new value.
const parameter = "parameter "

// join makes one line of an answer. Successively reported parameters are ordered by name: the server reports them in the order of a hash.
func join(list []string) string {
	for i := 0; i < len(list); i++ {
		n := i
		for n < len(list) && strings.HasPrefix(list[n], parameter) {
			n++
		}
		slices.Sort(list[i:n])
		list[i] = strings.ReplaceAll(list[i], "\n", " / ")
	}
	return strings.Join(list, " | ")
}
