package cluster

import (
	"fmt"
	"html"
	"strings"

	"blobpglite/runner/history"
)

// Sizes of a timeline, in pixels.
const (
	laneHeight = 64
	laneLeft   = 90
	lineWidth  = 1500
)

// timeline draws what happened: one lane for each process, one for the bucket, one for the runner's actions. Operations are bars (green:
// acknowledged, grey: unknown, red: failed), faults are red marks, changes of the bucket ticks; each shows more when the pointer rests on
// it.
func timeline(marks []mark, ops []history.Op) string {
	var lanes []string
	rows := map[string]int{}
	lane := func(name string) int {
		n, ok := rows[name]
		if !ok {
			n = len(lanes)
			rows[name] = n
			lanes = append(lanes, name)
		}
		return n
	}
	lane("runner")
	end := int64(1)
	for _, m := range marks {
		end = max(end, m.At)
		if m.Lane != "bucket" {
			lane(m.Lane)
		}
	}
	for _, op := range ops {
		end = max(end, op.Call, op.Return)
		lane(op.Node)
	}
	lane("bucket")
	x := func(at int64) float64 { return laneLeft + float64(at)/float64(end)*lineWidth }
	var b strings.Builder
	height := len(lanes)*laneHeight + 40
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n", laneLeft+lineWidth+20, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	for i, name := range lanes {
		y := i*laneHeight + laneHeight - 12
		fmt.Fprintf(&b, `<text x="6" y="%d" font-size="13">%s</text><line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#bbb"/>`+"\n", y-10, html.EscapeString(name), laneLeft, y, laneLeft+lineWidth, y)
	}
	for _, op := range ops {
		drawOp(&b, op, x, rows[op.Node]*laneHeight+laneHeight-12, end)
	}
	level := map[string]int{}
	for _, m := range marks {
		drawMark(&b, m, x(m.At), rows[m.Lane]*laneHeight+laneHeight-12, level[m.Lane])
		level[m.Lane]++
	}
	for i := range 11 {
		at := end / 10 * int64(i)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" fill="#666">%.0f ms</text>`+"\n", x(at), height-8, float64(at)/1e6)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func drawOp(b *strings.Builder, op history.Op, x func(int64) float64, y int, end int64) {
	color := map[history.Outcome]string{history.OK: "#2a9d4a", history.Failed: "#d9480f", history.Unknown: "#999"}[op.Outcome]
	until := min(op.End(), end)
	lift := 4 + int(op.Client%6)*4
	fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="%.1f" height="3" fill="%s"><title>%s</title></rect>`+"\n",
		x(op.Call), y-lift, max(x(until)-x(op.Call), 1), color,
		html.EscapeString(fmt.Sprintf("%d %s %v → %v %v %s (client %d) %s", op.ID, op.Kind, op.In, op.Out, op.Values, op.Outcome, op.Client, op.Error)))
}

func drawMark(b *strings.Builder, m mark, x float64, y, level int) {
	title := "<title>" + html.EscapeString(m.Text) + "</title>"
	switch m.Kind {
	case "fault":
		fmt.Fprintf(b, `<path d="M%.1f %d l-5 9 h10 z" fill="#c00">%s</path><text x="%.1f" y="%d" fill="#c00">%s</text>`+"\n", x, y, title, x+6, y-28-level%2*11, html.EscapeString(m.Text))
	case "life":
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%d" r="3" fill="#036">%s</circle><text x="%.1f" y="%d" fill="#036">%s</text>`+"\n", x, y, title, x+5, y-38-level%2*11, html.EscapeString(shorten(m.Text)))
	case "refused":
		fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#c00" stroke-width="2">%s</line>`+"\n", x, y-10, x, y, title)
	default:
		fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#036">%s</line>`+"\n", x, y-18, x, y, title)
	}
}

// shorten keeps a label from running over its neighbours.
func shorten(s string) string {
	const most = 40
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
