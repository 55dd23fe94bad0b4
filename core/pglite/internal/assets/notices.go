package assets

import _ "embed"

//go:embed notices.txt
var notices string

// Notices returns the license notices of everything in the PGlite files. A program or image that ships these files must
// show or include them.
func Notices() string { return notices }
