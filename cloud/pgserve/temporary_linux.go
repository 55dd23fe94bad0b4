package main

import "syscall"

// File systems in memory, as statfs(2) names them.
const tmpfsMagic, ramfsMagic = 0x01021994, 0x858458f6

// inMemory says whether a folder's file system is in memory. Below a file system that hides others, as a container's may, that is not
// visible.
func inMemory(folder string) bool {
	var s syscall.Statfs_t
	if err := syscall.Statfs(folder, &s); err != nil {
		return false
	}
	kind := uint32(s.Type)
	return kind == tmpfsMagic || kind == ramfsMagic
}
