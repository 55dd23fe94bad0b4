package pglite

import (
	"encoding/binary"
	"os"
	"path"
	"strings"
	"time"

	"blobpglite/core/memfs"
)

// Mode bits of struct stat.
const (
	modeType    = 0o170000
	modeDir     = 0o040000
	modeChar    = 0o020000
	modeFifo    = 0o010000
	modeSymlink = 0o120000
)

// Flags of the *at system calls.
const (
	atFdcwd           = -100
	atSymlinkNofollow = 0x100
	atRemovedir       = 0x200
	atEmptyPath       = 0x1000
)

// statSize and direntSize are the guest's sizes of struct stat and struct dirent.
const (
	statSize   = 96
	direntSize = 280
)

// at returns name as seen from the directory dirfd.
func (in *Instance) at(dirfd int32, name string) (string, errno) {
	if dirfd == atFdcwd || (name != "" && name[0] == '/') {
		return name, eOK
	}
	o, e := in.files.get(uint32(dirfd))
	switch {
	case e != eOK:
		return "", e
	case !o.isDir:
		return "", eNOTDIR
	case name == "":
		return o.dir, eOK
	}
	return o.dir + "/" + name, eOK
}

func sysOpenat(in *Instance, s []uint64) {
	name, e := in.at(int32(s[0]), in.mem.cstr(uint32(s[1])))
	if e != eOK {
		s[0] = e.neg()
		return
	}
	perm := uint32(0)
	if varargs := uint32(s[3]); varargs != 0 {
		perm = in.mem.u32(varargs)
	}
	fd, e := in.files.open(name, int(uint32(s[2])), perm)
	if e != eOK {
		s[0] = e.neg()
		return
	}
	s[0] = uint64(fd)
}

func (in *Instance) stat(name string, buf uint32, follow bool) errno {
	if dev := openDevice(name, in.random); dev != nil {
		in.putStat(buf, memfs.Info{Mode: modeChar | 0o666, Nlink: 1})
		return eOK
	}
	fs, rel := in.files.resolve(name)
	var info memfs.Info
	var err error
	if follow {
		info, err = fs.Stat(rel)
	} else {
		info, err = fs.Lstat(rel)
	}
	if err != nil {
		return toErrno(err)
	}
	in.putStat(buf, info)
	return eOK
}

func (in *Instance) fstat(fd, buf uint32) errno {
	o, e := in.files.get(fd)
	switch {
	case e != eOK:
		return e
	case o.isDir:
		return in.stat(o.dir, buf, true)
	case o.file == nil:
		in.putStat(buf, memfs.Info{Mode: modeFifo | 0o600, Nlink: 1})
	default:
		in.putStat(buf, o.file.Stat())
	}
	return eOK
}

func sysNewfstatat(in *Instance, s []uint64) {
	name, flags := in.mem.cstr(uint32(s[1])), uint32(s[3])
	if name == "" && flags&atEmptyPath != 0 && int32(s[0]) != atFdcwd {
		s[0] = in.fstat(uint32(s[0]), uint32(s[2])).neg()
		return
	}
	name, e := in.at(int32(s[0]), name)
	if e == eOK {
		e = in.stat(name, uint32(s[2]), flags&atSymlinkNofollow == 0)
	}
	s[0] = e.neg()
}

func (in *Instance) putStat(buf uint32, i memfs.Info) {
	p := in.mem.bytes(buf, statSize)
	clear(p)
	le := binary.LittleEndian
	le.PutUint32(p[0:], 1)
	le.PutUint32(p[4:], i.Mode)
	le.PutUint32(p[8:], i.Nlink)
	le.PutUint64(p[24:], uint64(i.Size))
	le.PutUint32(p[32:], 4096)
	le.PutUint32(p[36:], uint32(i.Blocks))
	for at, t := range map[int]time.Time{40: i.Atime, 56: i.Mtime, 72: i.Ctime} {
		le.PutUint64(p[at:], uint64(t.Unix()))
		le.PutUint32(p[at+8:], uint32(t.Nanosecond()))
	}
	le.PutUint64(p[88:], i.Ino)
}

func (in *Instance) access(dirfd int32, name string) errno {
	name, e := in.at(dirfd, name)
	if e != eOK || openDevice(name, in.random) != nil {
		return e
	}
	fs, rel := in.files.resolve(name)
	_, err := fs.Stat(rel)
	return toErrno(err)
}

func (in *Instance) chmodat(dirfd int32, name string, mode uint32) errno {
	name, e := in.at(dirfd, name)
	if e != eOK {
		return e
	}
	fs, rel := in.files.resolve(name)
	return toErrno(fs.Chmod(rel, mode))
}

func sysFchmod(in *Instance, s []uint64) {
	o, e := in.files.get(uint32(s[0]))
	switch {
	case e != eOK:
	case o.isDir:
		e = in.chmodat(atFdcwd, o.dir, uint32(s[1]))
	case o.file != nil:
		if name := o.file.Path(); name != "" {
			e = toErrno(o.fs.Chmod(name, uint32(s[1])))
		}
	}
	s[0] = e.neg()
}

// Special nanosecond values of utimensat.
const (
	utimeNow  = 0x3fffffff
	utimeOmit = 0x3ffffffe
)

func sysUtimensat(in *Instance, s []uint64) {
	name, e := in.at(int32(s[0]), in.mem.cstr(uint32(s[1])))
	if e != eOK {
		s[0] = e.neg()
		return
	}
	fs, rel := in.files.resolve(name)
	info, err := fs.Stat(rel)
	if err != nil {
		s[0] = toErrno(err).neg()
		return
	}
	times := [2]time.Time{info.Atime, info.Mtime}
	for i := range times {
		now := true
		if p := uint32(s[2]); p != 0 {
			sec, nsec := in.mem.u64(p+uint32(i)*16), in.mem.u32(p+uint32(i)*16+8)
			now = nsec == utimeNow
			if nsec != utimeOmit && !now {
				times[i] = time.Unix(int64(sec), int64(nsec))
			}
		}
		if now {
			times[i] = in.clock.Now()
		}
	}
	s[0] = toErrno(fs.Chtimes(rel, times[0], times[1])).neg()
}

func sysUmask(in *Instance, s []uint64) {
	old := in.files.umask
	in.files.umask = uint32(s[0]) & 0o777
	s[0] = uint64(old)
}

func sysMkdirat(in *Instance, s []uint64) {
	name, e := in.at(int32(s[0]), in.mem.cstr(uint32(s[1])))
	if e == eOK {
		fs, rel := in.files.resolve(name)
		e = toErrno(fs.Mkdir(rel, uint32(s[2])&^in.files.umask))
	}
	s[0] = e.neg()
}

func (in *Instance) rmdir(dirfd int32, name string) errno {
	name, e := in.at(dirfd, name)
	if e != eOK {
		return e
	}
	fs, rel := in.files.resolve(name)
	return toErrno(fs.Rmdir(rel))
}

func sysUnlinkat(in *Instance, s []uint64) {
	name := in.mem.cstr(uint32(s[1]))
	if uint32(s[2])&atRemovedir != 0 {
		s[0] = in.rmdir(int32(s[0]), name).neg()
		return
	}
	name, e := in.at(int32(s[0]), name)
	if e == eOK {
		fs, rel := in.files.resolve(name)
		e = in.unlink(fs, rel)
	}
	s[0] = e.neg()
}

// unlink removes a name, and notifies the cluster if it is shared memory.
func (in *Instance) unlink(fs *memfs.FS, rel string) errno {
	if in.cluster == nil || fs != in.files.system || !isSharedMemory(rel) {
		return toErrno(fs.Unlink(rel))
	}
	file, err := fs.Open(rel, os.O_RDONLY, 0)
	if err != nil {
		return toErrno(err)
	}
	defer file.Close()
	if err = fs.Unlink(rel); err == nil {
		in.cluster.shm.unlinked(file.Inode())
	}
	return toErrno(err)
}

// pair resolves the two names of a rename or link; they must be in one tree.
func (in *Instance) pair(fromFd, fromPtr, toFd, toPtr uint64) (fs *memfs.FS, from, to string, e errno) {
	from, e = in.at(int32(fromFd), in.mem.cstr(uint32(fromPtr)))
	if e != eOK {
		return nil, "", "", e
	}
	to, e = in.at(int32(toFd), in.mem.cstr(uint32(toPtr)))
	if e != eOK {
		return nil, "", "", e
	}
	fs, from = in.files.resolve(from)
	other, to := in.files.resolve(to)
	if fs != other {
		return nil, "", "", eXDEV
	}
	return fs, from, to, eOK
}

func sysRenameat(in *Instance, s []uint64) {
	fs, from, to, e := in.pair(s[0], s[1], s[2], s[3])
	if e == eOK {
		e = toErrno(fs.Rename(from, to))
	}
	s[0] = e.neg()
}

func sysLinkat(in *Instance, s []uint64) {
	fs, from, to, e := in.pair(s[0], s[1], s[2], s[3])
	if e == eOK {
		e = toErrno(fs.Link(from, to))
	}
	s[0] = e.neg()
}

func sysSymlinkat(in *Instance, s []uint64) {
	name, e := in.at(int32(s[1]), in.mem.cstr(uint32(s[2])))
	if e == eOK {
		fs, rel := in.files.resolve(name)
		if fs == in.files.data && in.proc != nil && in.proc.kind == KindClient && strings.HasPrefix(strings.TrimPrefix(rel, "/"), "pg_tblspc/") {
			in.opts.log("WARNING:  a tablespace must be inside the data directory: the bucket holds nothing else")
			s[0] = eNOTSUP.neg()
			return
		}
		e = toErrno(fs.Symlink(in.mem.cstr(uint32(s[0])), rel))
	}
	s[0] = e.neg()
}

func sysReadlinkat(in *Instance, s []uint64) {
	name, e := in.at(int32(s[0]), in.mem.cstr(uint32(s[1])))
	if e != eOK {
		s[0] = e.neg()
		return
	}
	fs, rel := in.files.resolve(name)
	target, err := fs.Readlink(rel)
	if err != nil {
		s[0] = toErrno(err).neg()
		return
	}
	s[0] = uint64(copy(in.mem.bytes(uint32(s[2]), uint32(s[3])), target))
}

func sysChdir(in *Instance, s []uint64) {
	name := in.files.absolute(in.mem.cstr(uint32(s[0])))
	fs, rel := in.files.resolve(name)
	info, err := fs.Stat(rel)
	switch {
	case err != nil:
		s[0] = toErrno(err).neg()
	case info.Mode&modeType != modeDir:
		s[0] = eNOTDIR.neg()
	default:
		in.files.cwd = path.Clean(name)
		s[0] = 0
	}
}

func sysGetcwd(in *Instance, s []uint64) {
	n := uint64(len(in.files.cwd) + 1)
	if s[1] < n {
		s[0] = eRANGE.neg()
		return
	}
	in.mem.putCstr(uint32(s[0]), in.files.cwd)
	s[0] = n
}

func sysGetdents(in *Instance, s []uint64) {
	o, e := in.files.get(uint32(s[0]))
	if e == eOK && !o.isDir {
		e = eNOTDIR
	}
	if e == eOK && o.entries == nil {
		e = in.readDir(o)
	}
	if e != eOK {
		s[0] = e.neg()
		return
	}
	buf, n := uint32(s[1]), uint32(0)
	for i := int(o.pos / direntSize); i < len(o.entries) && n+direntSize <= uint32(s[2]); i++ {
		d := o.entries[i]
		p := in.mem.bytes(buf+n, direntSize)
		clear(p)
		binary.LittleEndian.PutUint64(p[0:], d.ino)
		binary.LittleEndian.PutUint64(p[8:], uint64(i+1)*direntSize)
		binary.LittleEndian.PutUint16(p[16:], direntSize)
		p[18] = d.kind
		copy(p[19:direntSize-1], d.name)
		n += direntSize
		o.pos += direntSize
	}
	s[0] = uint64(n)
}

func (in *Instance) readDir(o *openFile) errno {
	fs, rel := in.files.resolve(o.dir)
	list, err := fs.ReadDir(rel)
	if err != nil {
		return toErrno(err)
	}
	o.entries = append(make([]dirEntry, 0, len(list)+2), dirEntry{".", 1, 4}, dirEntry{"..", 1, 4})
	for _, d := range list {
		kind := byte(8)
		switch d.Mode & modeType {
		case modeDir:
			kind = 4
		case modeSymlink:
			kind = 10
		}
		o.entries = append(o.entries, dirEntry{d.Name, d.Ino, kind})
	}
	return eOK
}
