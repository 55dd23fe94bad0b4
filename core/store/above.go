package store

import "strings"

// Placed is a Store that is a view of one prefix, and can show the folders that it lies in. Find it by Above.
type Placed interface {
	// Above gives a view of each folder above, the nearest first, the root of the bucket last.
	Above() []Store
}

// Above gives views of the folders that a store's prefix lies in, the nearest first; none for a store that does not know.
func Above(s Store) []Store {
	if p, ok := s.(Placed); ok {
		return p.Above()
	}
	return nil
}

// Folders are the folders that a prefix lies in, the nearest first, each but the last, which is empty, ending with a slash.
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

// Above implements Placed: it is that of the store below, and not counted.
func (c *Counted) Above() []Store { return Above(c.s) }
