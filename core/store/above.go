package store

import "strings"

// Placed is a Store that is a view of a prefix, and returns views of the folders above it. Use it through Above.
type Placed interface {
	// Above returns a view of each folder above, the nearest first, the root of the bucket last.
	Above() []Store
}

// Above returns views of the folders that contain a store's prefix, the nearest first; nil for a store that is not
// Placed.
func Above(s Store) []Store {
	if p, ok := s.(Placed); ok {
		return p.Above()
	}
	return nil
}

// Folders returns the folders that contain a prefix, the nearest first. Each ends with a slash, except the last one,
// the root, which is empty: "a/b/c" gives "a/b/", "a/", "".
func Folders(prefix string) []string {
	var folders []string
	for prefix = strings.TrimSuffix(prefix, "/"); prefix != ""; {
		prefix = prefix[:max(strings.LastIndexByte(prefix, '/'), 0)]
		if prefix == "" {
			return append(folders, "")
		}
		folders = append(folders, prefix+"/")
	}
	return folders
}

// Above implements Placed.
func (v prefixed) Above() []Store {
	var views []Store
	for _, f := range Folders(v.prefix) {
		views = append(views, Prefixed(v.s, f))
	}
	return append(views, Above(v.s)...)
}

// Above implements Placed. The views are those of the store below; their operations are not counted.
func (c *Counted) Above() []Store { return Above(c.s) }
