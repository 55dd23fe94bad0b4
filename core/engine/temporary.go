package engine

import (
	"errors"
	"path"
	"strings"

	"blobpglite/core/memfs"
)

// databases are the directories of the data directory that hold the files of databases; pg_tblspc holds those in tablespaces.
var databases = [...]string{"/base", "/pg_tblspc"}

// inDatabase says whether a path of the data directory lies in one of them.
func inDatabase(name string) bool {
	for _, dir := range databases {
		if rest, ok := strings.CutPrefix(name, dir); ok && strings.HasPrefix(rest, "/") {
			return true
		}
	}
	return false
}

// isTemporary says whether a file or directory of a data directory belongs to a temporary table or a running query. A postmaster deletes
// such files when it starts.
func isTemporary(name string) bool {
	if !inDatabase(name) {
		return false
	}
	file := path.Base(name)
	if strings.HasPrefix(file, "pgsql_tmp") {
		return true
	}
	// Like PostgreSQL's looks_like_temp_rel_name: t<backend>_<number>, fork, segment.
	backend, rest, ok := strings.Cut(strings.TrimPrefix(file, "t"), "_")
	number, _, _ := strings.Cut(rest, ".")
	number, _, _ = strings.Cut(number, "_")
	return ok && file[0] == 't' && digits(backend) && digits(number)
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// dropTemporary does what a postmaster does when it starts: it deletes the files left by temporary tables and queries of an earlier life.
// The tables' catalog entries go when their schema is used again, or by autovacuum.
func dropTemporary(files *memfs.FS) error {
	var left []string
	err := files.Walk("/", func(name string, info memfs.Info) error {
		if isTemporary(name) && !info.IsDir() {
			left = append(left, name)
		}
		return nil
	})
	for _, name := range left {
		err = errors.Join(err, files.Unlink(name))
	}
	return err
}
