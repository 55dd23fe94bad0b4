package isolation

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// printRows prints a result as libpq's PQprint does, with a header and aligned: widths are bytes, and a column in which everything looks
// like a number stands at the right.
func printRows(out *strings.Builder, r *pgconn.Result) {
	n := len(r.FieldDescriptions)
	if n == 0 {
		return
	}
	width, text := make([]int, n), make([]bool, n)
	for j, f := range r.FieldDescriptions {
		width[j] = len(f.Name)
	}
	for _, row := range r.Rows {
		for j, v := range row {
			if len(v) == 0 {
				continue
			}
			width[j] = max(width[j], len(v))
			text[j] = text[j] || !looksLikeNumber(string(v))
		}
	}
	line := func(cell func(j int) string) {
		for j := range n {
			if text[j] {
				fmt.Fprintf(out, "%s%s", cell(j), strings.Repeat(" ", width[j]-len(cell(j))))
			} else {
				fmt.Fprintf(out, "%s%s", strings.Repeat(" ", width[j]-len(cell(j))), cell(j))
			}
			if j+1 < n {
				out.WriteByte('|')
			}
		}
		out.WriteByte('\n')
	}
	line(func(j int) string { return r.FieldDescriptions[j].Name })
	for j := range n {
		out.WriteString(strings.Repeat("-", width[j]))
		if j+1 < n {
			out.WriteByte('+')
		}
	}
	out.WriteByte('\n')
	for _, row := range r.Rows {
		line(func(j int) string { return string(row[j]) })
	}
	plural := "s"
	if len(r.Rows) == 1 {
		plural = ""
	}
	fmt.Fprintf(out, "(%d row%s)\n\n", len(r.Rows), plural)
}

// looksLikeNumber is PQprint's idea of a number.
func looksLikeNumber(v string) bool {
	if v[0] == 'E' || v[0] == 'e' {
		return false
	}
	last := rune('0')
	for _, c := range v {
		last = c
		if (c < '0' || c > '9') && !strings.ContainsRune(".Ee -", c) {
			return false
		}
	}
	return last >= '0' && last <= '9'
}

// notice is a message as libpq shows it.
func notice(n *pgconn.Notice) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:  %s\n", n.Severity, n.Message)
	for _, part := range []struct{ name, text string }{{"DETAIL", n.Detail}, {"HINT", n.Hint}, {"QUERY", n.InternalQuery}} {
		if part.text != "" {
			fmt.Fprintf(&b, "%s:  %s\n", part.name, part.text)
		}
	}
	return b.String()
}
