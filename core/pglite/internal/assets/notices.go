package assets

import _ "embed"

//go:embed notices.txt
var notices string

// Notices gives the licence notices of everything that the PGlite files hold. A
// program or image that ships these files must show or hold them.
func Notices() string { return notices }
