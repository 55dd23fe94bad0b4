package isolation

import (
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// table prints rows like libpq's PQprint, aligned and with a header. Widths are in bytes; a column of numbers is right-aligned.
func table(out io.Writer, names []string, rows [][]string) {
	if len(names) == 0 {
		return
	}
	widths, left := make([]int, len(names)), make([]bool, len(names))
	for i, name := range names {
		widths[i] = len(name)
		for _, row := range rows {
			widths[i] = max(widths[i], len(row[i]))
			left[i] = left[i] || row[i] != "" && !isNumber(row[i])
		}
	}
	line := func(cells []string) {
		var padded []string
		for i, cell := range cells {
			gap := strings.Repeat(" ", widths[i]-len(cell))
			if left[i] {
				padded = append(padded, cell+gap)
			} else {
				padded = append(padded, gap+cell)
			}
		}
		fmt.Fprintln(out, strings.Join(padded, "|"))
	}
	line(names)
	var rules []string
	for _, w := range widths {
		rules = append(rules, strings.Repeat("-", w))
	}
	fmt.Fprintln(out, strings.Join(rules, "+"))
	for _, row := range rows {
		line(row)
	}
	plural := "s"
	if len(rows) == 1 {
		plural = ""
	}
	fmt.Fprintf(out, "(%d row%s)\n\n", len(rows), plural)
}

// isNumber is libpq's idea of one.
func isNumber(value string) bool {
	return strings.Trim(value, "0123456789.Ee -") == "" && value[0] != 'E' && value[0] != 'e' && isDigit(value[len(value)-1])
}

// message is the text that libpq makes from an error or a notice, without a position.
func message(m *pgproto3.ErrorResponse, isError bool) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s:  %s\n", m.Severity, m.Message)
	for _, part := range []struct{ name, text string }{
		{"DETAIL", m.Detail}, {"HINT", m.Hint}, {"QUERY", m.InternalQuery}, {"CONTEXT", m.Where},
	} {
		if part.text != "" && (isError || part.name != "CONTEXT") {
			fmt.Fprintf(&out, "%s:  %s\n", part.name, part.text)
		}
	}
	return out.String()
}
