package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

const completionCommand = "completion"

// completion prints a shell's completion script, made from the commands and flags.
//
// The scripts are written here because no library writes them for the standard library's flag package in a program that also has commands.
// github.com/posener/complete/v2 2.1.0 (2023), the one for that package, was tried: after a flag of a program that has commands it reports
// "unknown subcommand: -bucket"; for a word that nothing matches it offers all flags, so that bash erases what was typed; it panics for
// fish, whose script does not set COMP_POINT; and it answers anyone who starts the program with COMP_LINE in the environment, which a
// server should not. github.com/spf13/cobra needs flags with two dashes; github.com/carapace-sh/carapace needs cobra.
func completion(_ context.Context, _ *config, args []string, out io.Writer) error {
	scripts := map[string]func() string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}
	script, ok := scripts[args[0]]
	if !ok {
		return fmt.Errorf("there is no completion for shell %q: choose bash, zsh or fish", args[0])
	}
	_, err := io.WriteString(out, script())
	return err
}

// shownFlags returns a command's flags, except those of earlier versions.
func shownFlags(cmd command) []*flag.Flag {
	c := &config{settings: settings{}}
	f, _ := c.flags(cmd, io.Discard)
	var all []*flag.Flag
	f.VisitAll(func(fl *flag.Flag) {
		if _, gone := fl.Value.(goneFlag); !gone {
			all = append(all, fl)
		}
	})
	return all
}

// choices returns the values of flags that take one of a few words.
func choices() map[string][]string {
	return map[string][]string{
		"store": {"mem", "fake-gcs", "gcs", "file"}, "durability": {"strict", "interval", "sleep"}, "answers": {"early", "durable"},
		"read-mode": {"lease", "strict"}, "log": {"debug", "info", "warn", "error"},
	}
}

// flagNames returns a command's flags as typed, with a dash.
func flagNames(cmd command) string {
	var names []string
	for _, fl := range shownFlags(cmd) {
		names = append(names, "-"+fl.Name)
	}
	return strings.Join(names, " ")
}

func bashScript() string {
	var b strings.Builder
	b.WriteString("# bash completion of pgserve: source <(pgserve completion bash)\n_pgserve() {\n\tlocal word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} flags\n\tcase $before in\n")
	all := choices()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "\t-%s) mapfile -t COMPREPLY < <(compgen -W %q -- \"$word\"); return ;;\n", name, strings.Join(all[name], " "))
	}
	b.WriteString("\t-o|-tls-cert|-tls-key|-socket|restore-to) mapfile -t COMPREPLY < <(compgen -f -- \"$word\"); return ;;\n")
	fmt.Fprintf(&b, "\t%s) mapfile -t COMPREPLY < <(compgen -W \"bash zsh fish\" -- \"$word\"); return ;;\n\tesac\n\tcase ${COMP_WORDS[1]} in\n", completionCommand)
	var names []string
	for _, cmd := range commands()[1:] {
		names = append(names, cmd.name)
		fmt.Fprintf(&b, "\t%s) flags=%q ;;\n", cmd.name, flagNames(cmd))
	}
	fmt.Fprintf(&b, "\t*) flags=%q ;;\n\tesac\n", flagNames(commands()[0]))
	fmt.Fprintf(&b, "\tif ((COMP_CWORD == 1)); then flags=\"%s $flags\"; fi\n", strings.Join(names, " "))
	b.WriteString("\tmapfile -t COMPREPLY < <(compgen -W \"$flags\" -- \"$word\")\n}\ncomplete -F _pgserve pgserve\n")
	return b.String()
}

func zshScript() string {
	var b strings.Builder
	b.WriteString("# zsh completion of pgserve: source <(pgserve completion zsh), after compinit\n_pgserve() {\n\tcase ${words[CURRENT-1]} in\n")
	all := choices()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "\t-%s) compadd -- %s; return ;;\n", name, strings.Join(all[name], " "))
	}
	b.WriteString("\t-o|-tls-cert|-tls-key|-socket|restore-to) _files; return ;;\n")
	fmt.Fprintf(&b, "\t%s) compadd -- bash zsh fish; return ;;\n\tesac\n\tcase ${words[2]} in\n", completionCommand)
	var names []string
	for _, cmd := range commands()[1:] {
		names = append(names, cmd.name)
		fmt.Fprintf(&b, "\t%s) compadd -- %s ;;\n", cmd.name, flagNames(cmd))
	}
	fmt.Fprintf(&b, "\t*) compadd -- %s ;;\n\tesac\n", flagNames(commands()[0]))
	fmt.Fprintf(&b, "\tif ((CURRENT == 2)); then compadd -- %s; fi\n}\ncompdef _pgserve pgserve\n", strings.Join(names, " "))
	return b.String()
}

func fishScript() string {
	quote := func(s string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
	}
	var b strings.Builder
	b.WriteString("# fish completion of pgserve: pgserve completion fish | source\ncomplete -c pgserve -f\n")
	var names []string
	for _, cmd := range commands()[1:] {
		names = append(names, cmd.name)
		fmt.Fprintf(&b, "complete -c pgserve -n __fish_use_subcommand -a %s -d %s\n", cmd.name, quote(cmd.doc))
	}
	all := choices()
	for _, cmd := range commands() {
		when := "__fish_seen_subcommand_from " + cmd.name
		if cmd.name == "" {
			when = "not __fish_seen_subcommand_from " + strings.Join(names, " ")
		}
		for _, fl := range shownFlags(cmd) {
			usage, _, _ := strings.Cut(fl.Usage, ";")
			fmt.Fprintf(&b, "complete -c pgserve -n %s -o %s -d %s", quote(when), fl.Name, quote(usage))
			if words := all[fl.Name]; words != nil {
				fmt.Fprintf(&b, " -x -a %s", quote(strings.Join(words, " ")))
			}
			b.WriteByte('\n')
		}
	}
	fmt.Fprintf(&b, "complete -c pgserve -n '__fish_seen_subcommand_from %s' -a 'bash zsh fish'\n", completionCommand)
	return b.String()
}
