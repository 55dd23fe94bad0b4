//go:build unix && !linux

package pglite

func preferHugePages([]byte) {}
