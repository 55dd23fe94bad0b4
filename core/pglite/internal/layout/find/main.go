// Command find finds the layout of a pglite.wasm, and prints it as the Go file that package layout has for each:
//
//	go run ./core/pglite/internal/layout/find pglite.wasm >core/pglite/internal/layout/pglite0517.go
//
// If a rule does not fit a new binary, -function shows what the code looks like now, in the rules' syntax, and -text
// which functions refer to a string.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"blobpglite/core/pglite/internal/layout"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "find:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("find", flag.ContinueOnError)
	function := flags.String("function", "", "show the code of this function: its index, or a name that is exported")
	text := flags.String("text", "", "list the functions that name this text")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("one file is expected, %d are given: find [-function f | -text t] pglite.wasm", flags.NArg())
	}
	bin, err := os.ReadFile(flags.Arg(0))
	if err != nil {
		return err
	}
	switch {
	case *function != "":
		code, err := layout.Show(bin, *function)
		if err != nil {
			return err
		}
		_, err = io.WriteString(out, code)
		return err
	case *text != "":
		names, err := layout.Naming(bin, *text)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(out, strings.Join(names, "\n"))
		return err
	}
	l, err := layout.Find(bin)
	if err != nil {
		return err
	}
	return l.WriteGo(out)
}
