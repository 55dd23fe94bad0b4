//go:build !linux

package codecache

func preferHugePages([]byte) {}
