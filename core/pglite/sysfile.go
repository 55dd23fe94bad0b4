package pglite

import (
	"errors"

	"blobpglite/core/memfs"
)

// fileCalls returns the imports that deal with files. Arguments and result travel in s, as wazero passes them.
func fileCalls() map[string]hostFunc {
	return map[string]hostFunc{
		"fd_read":              fdRead,
		"fd_write":             fdWrite,
		"fd_pread":             fdPread,
		"fd_pwrite":            fdPwrite,
		"fd_seek":              fdSeek,
		"fd_close":             func(in *Instance, s []uint64) { s[0] = uint64(in.files.close(uint32(s[0]))) },
		"fd_sync":              func(in *Instance, s []uint64) { s[0] = uint64(in.sync(uint32(s[0]), false)) },
		"fd_fdstat_get":        fdStatGet,
		"__syscall_fdatasync":  func(in *Instance, s []uint64) { s[0] = in.sync(uint32(s[0]), true).neg() },
		"__syscall_openat":     sysOpenat,
		"__syscall_stat64":     func(in *Instance, s []uint64) { s[0] = in.stat(in.mem.cstr(uint32(s[0])), uint32(s[1]), true).neg() },
		"__syscall_lstat64":    func(in *Instance, s []uint64) { s[0] = in.stat(in.mem.cstr(uint32(s[0])), uint32(s[1]), false).neg() },
		"__syscall_fstat64":    func(in *Instance, s []uint64) { s[0] = in.fstat(uint32(s[0]), uint32(s[1])).neg() },
		"__syscall_newfstatat": sysNewfstatat,
		"__syscall_ftruncate64": func(in *Instance, s []uint64) {
			s[0] = in.truncate(uint32(s[0]), int64(s[1])).neg()
		},
		"__syscall_fallocate": sysFallocate,
		"__syscall_truncate64": func(in *Instance, s []uint64) {
			s[0] = in.truncatePath(in.mem.cstr(uint32(s[0])), int64(s[1])).neg()
		},
		"__syscall_fadvise64": sysFadvise,
		"__syscall_faccessat": func(in *Instance, s []uint64) { s[0] = in.access(int32(s[0]), in.mem.cstr(uint32(s[1]))).neg() },
		"__syscall_chmod": func(in *Instance, s []uint64) {
			s[0] = in.chmodat(atFdcwd, in.mem.cstr(uint32(s[0])), uint32(s[1])).neg()
		},
		"__syscall_fchmodat2": func(in *Instance, s []uint64) {
			s[0] = in.chmodat(int32(s[0]), in.mem.cstr(uint32(s[1])), uint32(s[2])).neg()
		},
		"__syscall_fchmod":     sysFchmod,
		"__syscall_fchownat":   func(_ *Instance, s []uint64) { s[0] = 0 }, // everything belongs to user 0
		"__syscall_fchown32":   func(_ *Instance, s []uint64) { s[0] = 0 },
		"__syscall_utimensat":  sysUtimensat,
		"__syscall_umask":      sysUmask,
		"__syscall_mkdirat":    sysMkdirat,
		"__syscall_rmdir":      func(in *Instance, s []uint64) { s[0] = in.rmdir(atFdcwd, in.mem.cstr(uint32(s[0]))).neg() },
		"__syscall_unlinkat":   sysUnlinkat,
		"__syscall_renameat":   sysRenameat,
		"__syscall_linkat":     sysLinkat,
		"__syscall_symlinkat":  sysSymlinkat,
		"__syscall_readlinkat": sysReadlinkat,
		"__syscall_chdir":      sysChdir,
		"__syscall_getcwd":     sysGetcwd,
		"__syscall_getdents64": sysGetdents,
		"__syscall_dup":        sysDup,
		"__syscall_dup3":       sysDup3,
		"__syscall_fcntl64":    sysFcntl,
		"__syscall_ioctl":      func(_ *Instance, s []uint64) { s[0] = eNOTTY.neg() },
		"__syscall_pipe2":      sysPipe2,
		"__syscall_statfs64":   sysStatfs,
		"_mmap_js":             sysMmap,
		"_munmap_js":           sysMunmap,
	}
}

// vector runs each part of an iovec through op until one is short, and returns the bytes done.
func (in *Instance) vector(iov, n uint32, op func(p []byte) (int, errno)) (uint32, errno) {
	total := uint32(0)
	for i := range n {
		p := in.mem.bytes(in.mem.u32(iov+8*i), in.mem.u32(iov+8*i+4))
		done, e := op(p)
		if e != eOK {
			if total > 0 && e == eAGAIN {
				break
			}
			return 0, e
		}
		total += uint32(done)
		if done < len(p) {
			break
		}
	}
	return total, eOK
}

// length returns the number of bytes in an iovec.
func (in *Instance) length(iov, n uint32) (total int64) {
	for i := range n {
		total += int64(in.mem.u32(iov + 8*i + 4))
	}
	return total
}

func fdRead(in *Instance, s []uint64) {
	o, e := in.files.get(uint32(s[0]))
	if e == eOK && o.partial() {
		e = in.bringRead(o, o.pos, in.length(uint32(s[1]), uint32(s[2])))
	}
	if e == eOK {
		var n uint32
		n, e = in.vector(uint32(s[1]), uint32(s[2]), func(p []byte) (int, errno) { return o.read(p, -1) })
		in.mem.putU32(uint32(s[3]), n)
	}
	s[0] = uint64(e)
}

func fdWrite(in *Instance, s []uint64) {
	o, e := in.files.get(uint32(s[0]))
	if e == eOK && o.partial() {
		e = in.bringWrite(o, o.writesAt(), in.length(uint32(s[1]), uint32(s[2])))
	}
	if e == eOK {
		var n uint32
		n, e = in.vector(uint32(s[1]), uint32(s[2]), func(p []byte) (int, errno) { return o.write(p, -1) })
		in.mem.putU32(uint32(s[3]), n)
	}
	s[0] = uint64(e)
}

func fdPread(in *Instance, s []uint64) {
	o, e := in.files.get(uint32(s[0]))
	off := int64(s[3])
	if e == eOK && o.partial() && off >= 0 {
		e = in.bringRead(o, off, in.length(uint32(s[1]), uint32(s[2])))
	}
	switch {
	case e != eOK:
	case off < 0:
		e = eINVAL
	case s[2] == 1: // one part: how PostgreSQL reads a page
		iov := uint32(s[1])
		var n int
		n, e = o.read(in.mem.bytes(in.mem.u32(iov), in.mem.u32(iov+4)), off)
		in.mem.putU32(uint32(s[4]), uint32(n))
	default:
		var n uint32
		n, e = in.vector(uint32(s[1]), uint32(s[2]), func(p []byte) (int, errno) {
			n, e := o.read(p, off)
			off += int64(n)
			return n, e
		})
		in.mem.putU32(uint32(s[4]), n)
	}
	s[0] = uint64(e)
}

func fdPwrite(in *Instance, s []uint64) {
	o, e := in.files.get(uint32(s[0]))
	off := int64(s[3])
	if e == eOK && o.partial() && off >= 0 {
		e = in.bringWrite(o, off, in.length(uint32(s[1]), uint32(s[2])))
	}
	switch {
	case e != eOK:
	case off < 0:
		e = eINVAL
	case o.file != nil && in.files.full(o, off+1):
		e = eNOSPC
	case s[2] == 1:
		iov := uint32(s[1])
		var n int
		n, e = o.write(in.mem.bytes(in.mem.u32(iov), in.mem.u32(iov+4)), off)
		in.mem.putU32(uint32(s[4]), uint32(n))
	default:
		var n uint32
		n, e = in.vector(uint32(s[1]), uint32(s[2]), func(p []byte) (int, errno) {
			n, e := o.write(p, off)
			off += int64(n)
			return n, e
		})
		in.mem.putU32(uint32(s[4]), n)
	}
	s[0] = uint64(e)
}

func fdSeek(in *Instance, s []uint64) {
	o, e := in.files.get(uint32(s[0]))
	if e == eOK {
		var pos int64
		pos, e = o.seek(int64(s[1]), uint32(s[2]))
		in.mem.putU64(uint32(s[3]), uint64(pos))
	}
	s[0] = uint64(e)
}

func fdStatGet(in *Instance, s []uint64) {
	o, e := in.files.get(uint32(s[0]))
	if e == eOK {
		p := in.mem.bytes(uint32(s[1]), 24)
		clear(p)
		switch {
		case o.dev != nil:
			p[0] = 2
		case o.isDir:
			p[0] = 3
		default:
			p[0] = 4
		}
	}
	s[0] = uint64(e)
}

func sysFallocate(in *Instance, s []uint64) {
	off, length := int64(s[2]), int64(s[3])
	o, e := in.files.get(uint32(s[0]))
	switch {
	case e != eOK:
	case s[1] != 0: // modes that punch or shift
		e = eNOTSUP
	case o.file == nil:
		e = eINVAL
	case in.files.full(o, off+length):
		e = eNOSPC
	default:
		e = toErrno(o.file.Allocate(off, length))
	}
	s[0] = e.neg()
}

func (in *Instance) sync(fd uint32, dataOnly bool) errno {
	o, e := in.files.get(fd)
	if e != eOK || o.file == nil {
		return e // a directory's entries need no sync: the tree is in memory
	}
	return toErrno(o.file.Sync(dataOnly))
}

// truncate is ftruncate.
func (in *Instance) truncate(fd uint32, size int64) errno {
	o, e := in.files.get(fd)
	switch {
	case e != eOK:
		return e
	case o.isDir:
		return eISDIR
	case o.file == nil:
		return eINVAL
	}
	if e := in.bringTruncate(o, size); e != eOK {
		return e
	}
	return toErrno(o.file.Truncate(size))
}

// truncatePath is truncate.
func (in *Instance) truncatePath(path string, size int64) errno {
	fs, name := in.files.resolve(path)
	err := fs.Truncate(name, size)
	if !errors.Is(err, memfs.ErrAway) {
		return toErrno(err)
	}
	fd, e := in.files.open(path, 2, 0)
	if e == eOK {
		e = in.truncate(uint32(fd), size)
		in.files.close(uint32(fd))
	}
	return e
}

func sysDup(in *Instance, s []uint64) {
	o, e := in.files.get(uint32(s[0]))
	if e != eOK {
		s[0] = e.neg()
		return
	}
	s[0] = in.result(in.files.add(o))
}

// result returns a descriptor or a negative error, as a system call does.
func (in *Instance) result(fd int, e errno) uint64 {
	if e != eOK {
		return e.neg()
	}
	return uint64(fd)
}

func sysDup3(in *Instance, s []uint64) {
	o, e := in.files.get(uint32(s[0]))
	if e == eOK && uint32(s[0]) == uint32(s[1]) {
		e = eINVAL
	}
	if e == eOK {
		e = in.files.set(int(uint32(s[1])), o)
	}
	s[0] = in.result(int(uint32(s[1])), e)
}

// Commands of fcntl.
const (
	fDupfd  = 0
	fGetfd  = 1
	fSetfd  = 2
	fGetfl  = 3
	fSetfl  = 4
	fGetlk  = 12
	fSetlk  = 13
	fSetlkw = 14
)

func sysFcntl(in *Instance, s []uint64) {
	o, e := in.files.get(uint32(s[0]))
	if e != eOK {
		s[0] = e.neg()
		return
	}
	switch uint32(s[1]) {
	case fDupfd:
		s[0] = in.result(in.files.addFrom(o, int(in.mem.u32(uint32(s[2])))))
	case fGetfd, fSetfd, fSetlk, fSetlkw:
		s[0] = 0
	case fGetfl:
		s[0] = uint64(o.flags)
	case fSetfl:
		const settable = oAppend | oNonblock
		o.flags = o.flags&^settable | int(in.mem.u32(uint32(s[2])))&settable
		s[0] = 0
	case fGetlk:
		in.mem.putU16(in.mem.u32(uint32(s[2])), 2) // F_UNLCK
		s[0] = 0
	default:
		s[0] = eINVAL.neg()
	}
}

func sysPipe2(in *Instance, s []uint64) {
	p := &pipe{readers: 1, writers: 1}
	flags := int(uint32(s[1]))
	r, e := in.files.add(&openFile{dev: pipeReader{p}, flags: flags})
	if e != eOK {
		s[0] = e.neg()
		return
	}
	w, e := in.files.add(&openFile{dev: pipeWriter{p}, flags: flags | 1})
	if e != eOK {
		in.files.close(uint32(r))
		s[0] = e.neg()
		return
	}
	in.mem.putU32(uint32(s[0]), uint32(r))
	in.mem.putU32(uint32(s[0])+4, uint32(w))
	s[0] = 0
}

// sysStatfs answers with round numbers: the limit that matters is the tree's own.
func sysStatfs(in *Instance, s []uint64) {
	buf := uint32(s[2])
	clear(in.mem.bytes(buf, 68))
	const blocks = 1 << 20
	in.mem.putU32(buf+4, 4096)
	in.mem.putU64(buf+8, blocks)
	in.mem.putU64(buf+16, blocks/2)
	in.mem.putU64(buf+24, blocks/2)
	in.mem.putU64(buf+32, blocks)
	in.mem.putU64(buf+40, blocks)
	in.mem.putU32(buf+56, 255)
	in.mem.putU32(buf+60, 4096)
	s[0] = 0
}

// sysMmap reads the file's range into fresh guest memory: a private mapping. sysMunmap writes a shared writable one back.
func sysMmap(in *Instance, s []uint64) {
	length, fd, off := uint32(s[0]), uint32(s[3]), int64(s[4])
	o, e := in.files.get(fd)
	switch {
	case e != eOK:
		s[0] = e.neg()
		return
	case o.file == nil:
		s[0] = eNODEV.neg()
		return
	}
	rounded := (length + wasmPage - 1) &^ uint32(wasmPage-1)
	ptr := uint32(in.call(in.fn.memalign, wasmPage, uint64(rounded)))
	if ptr == 0 {
		s[0] = eNOMEM.neg()
		return
	}
	allocated, addr := uint32(s[5]), uint32(s[6])
	clear(in.mem.bytes(ptr, rounded))
	const mapShared = 1
	if in.cluster != nil && s[2]&mapShared != 0 && o.shm {
		if err := in.cluster.shm.share(in, ptr, rounded, o.file.Inode()); err != nil {
			s[0] = eNOMEM.neg()
			return
		}
	} else {
		if e = in.bringRead(o, off, int64(length)); e == eOK {
			_, e = o.read(in.mem.bytes(ptr, length), off)
		}
	}
	in.mem.putU32(allocated, 1)
	in.mem.putU32(addr, ptr)
	s[0] = e.neg()
}

func sysMunmap(in *Instance, s []uint64) {
	const protWrite, mapPrivate = 2, 2
	addr, length, prot, flags, fd, off := uint32(s[0]), uint32(s[1]), uint32(s[2]), uint32(s[3]), uint32(s[4]), int64(s[5])
	s[0] = 0
	if in.cluster != nil && in.cluster.shm.unshare(in, addr) {
		return
	}
	if prot&protWrite == 0 || flags&mapPrivate != 0 {
		return
	}
	if o, e := in.files.get(fd); e == eOK && o.file != nil {
		if e = in.bringWrite(o, off, int64(length)); e == eOK {
			_, e = o.write(in.mem.bytes(addr, length), off)
		}
		s[0] = e.neg()
	}
}
