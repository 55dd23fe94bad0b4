//go:build unix && !linux

package pglite

const smallStart, smallHeap = 0, 0

func preferHugePages([]byte, int) {}
