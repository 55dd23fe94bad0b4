package isolation

import (
	"embed"
	"io/fs"
)

// own are specifications that are not PostgreSQL's, and isolationtester's output for them at PostgreSQL 18.
//
//go:embed specs expected
var own embed.FS

// Own returns this project's own specifications, as specs/<name>.spec and expected/<name>.out.
func Own() fs.FS { return own }
