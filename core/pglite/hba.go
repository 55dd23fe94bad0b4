package pglite

import (
	"slices"
	"strings"

	"blobpglite/core/memfs"
)

// pg_hba.conf in the data directory decides who may log in, as in any PostgreSQL. A process reads it when its client connects, so a change
// applies to the next client.

// hbaFile is the path of pg_hba.conf, unless hba_file says otherwise.
const hbaFile = dataRoot + "/" + hbaName

const hbaName = "pg_hba.conf"

// initialRules are the lines that initdb writes (initdbArgs).
func initialRules() []string {
	return []string{
		"local all all trust", "host all all 127.0.0.1/32 trust", "host all all ::1/128 trust",
		"local replication all trust", "host replication all 127.0.0.1/32 trust", "host replication all ::1/128 trust",
	}
}

// isInitial reports whether the rules are still initdb's.
func isInitial(hba []byte) bool {
	var rules []string
	for line := range strings.Lines(string(hba)) {
		line, _, _ = strings.Cut(line, "#")
		if words := strings.Fields(line); len(words) > 0 {
			rules = append(rules, strings.Join(words, " "))
		}
	}
	return slices.Equal(rules, initialRules())
}

// rules returns the file to read instead of pg_hba.conf; nil: the file itself is read.
func (c *Cluster) rules() (*memfs.FS, error) {
	if c.o.Rules == "" {
		return nil, nil
	}
	if hba, err := c.files.data.ReadFile("/" + hbaName); err != nil || !isInitial(hba) {
		return nil, nil // PostgreSQL reports what is wrong with it
	}
	return hbaTree(c.o.Rules)
}

// hbaTree returns a tree with a pg_hba.conf.
func hbaTree(rules string) (*memfs.FS, error) {
	tree := memfs.New(memfs.Options{})
	return tree, tree.WriteFile("/"+hbaName, []byte(rules), 0o600)
}

// trustsAll lets every client in.
const trustsAll = "local all all trust\nhost all all all trust\n"

// instead runs read while configuration files in tree replace the data directory's; nil: none do.
func (f *files) instead(tree *memfs.FS, read func()) {
	was := f.replaced
	if tree != nil {
		f.replaced = tree
	}
	read()
	f.replaced = was
}
