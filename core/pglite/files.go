package pglite

import (
	"errors"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"

	"blobpglite/core/memfs"
)

// The guest's file tree: PostgreSQL's installation at /, the data directory at dataRoot, a few devices below /dev.
const (
	pgRoot   = "/pglite"
	dataRoot = pgRoot + "/data"
)

// maxDescriptors bounds an instance's open files. PostgreSQL itself stays below its max_files_per_process.
const maxDescriptors = 4096

// Flags of open(2) as the guest's C library passes them.
const (
	oAccMode   = 3
	oCreat     = 0o100
	oExcl      = 0o200
	oTrunc     = 0o1000
	oAppend    = 0o2000
	oNonblock  = 0o4000
	oDirectory = 0o200000
	oNofollow  = 0o400000
	oCloexec   = 0o2000000
)

// openFile is what a descriptor refers to; duplicated descriptors share it and its position.
type openFile struct {
	dev     device      // if not nil: a device or a pipe end
	fs      *memfs.FS   // the tree that file or dir belongs to
	file    *memfs.File // a regular file
	dir     string      // a directory: its absolute path
	isDir   bool
	entries []dirEntry // of a directory being read
	pos     int64
	flags   int // as given to open
	refs    int

	log      bool // a file of the write-ahead log
	shm      bool // shared memory
	system   bool // one of PostgreSQL's own files, see isSystemFile
	relation bool // a table or an index, see isRelation

	nextRead, window, aheadTo int64 // see runAhead
}

type dirEntry struct {
	name string
	ino  uint64
	kind byte
}

// files is the guest's view of files: mounts, current directory, descriptors.
type files struct {
	system, data *memfs.FS
	cwd          string
	umask        uint32
	fds          []*openFile
	lowest       int // no free descriptor below it
	random       io.Reader
	replaced     *memfs.FS // holds configuration files that are read instead of the data directory's; nil: none
	dataLimit    int64     // data files that would grow beyond it get ENOSPC; 0: no limit
	log          func(string)
}

func newFiles(system, data *memfs.FS, random io.Reader) *files {
	return &files{system: system, data: data, cwd: "/", umask: 0o022, random: random}
}

// sibling returns the files of another process on the same trees.
func (f *files) sibling(random io.Reader) *files {
	s := newFiles(f.system, f.data, random)
	s.cwd, s.umask, s.dataLimit = f.cwd, f.umask, f.dataLimit
	return s
}

// resolve returns the tree, and the path within it. The data directory is the guest's current directory most of the time, so its relative
// names come first.
func (f *files) resolve(name string) (*memfs.FS, string) {
	if name != "" && name[0] != '/' {
		if f.cwd == dataRoot && !strings.Contains(name, "..") {
			return f.data, name
		}
		name = f.cwd + "/" + name
	}
	if strings.Contains(name, "..") || strings.Contains(name, "//") || strings.Contains(name, "/./") {
		name = path.Clean(name)
	}
	if rest, ok := strings.CutPrefix(name, dataRoot); ok && (rest == "" || rest[0] == '/') {
		if rest == "" {
			rest = "/"
		}
		return f.data, rest
	}
	return f.system, name
}

// absolute returns the absolute path of name, seen from the current directory.
func (f *files) absolute(name string) string {
	if strings.HasPrefix(name, "/") {
		return path.Clean(name)
	}
	return path.Join(f.cwd, name)
}

func (f *files) open(name string, flags int, perm uint32) (int, errno) {
	if strings.HasPrefix(name, "/dev/") {
		if d := openDevice(name, f.random); d != nil {
			return f.add(&openFile{dev: d, flags: flags})
		}
	}
	fs, rel := f.resolve(name)
	if flags&oDirectory != 0 || flags&(oAccMode|oCreat) == 0 {
		info, err := fs.Stat(rel)
		if err == nil && info.Mode&modeType == modeDir {
			return f.add(&openFile{fs: fs, dir: f.absolute(name), isDir: true, flags: flags})
		}
		if err == nil && flags&oDirectory != 0 {
			return 0, eNOTDIR
		}
	}
	if o := f.openConf(fs, rel, flags); o != nil {
		return f.add(o)
	}
	file, err := fs.Open(rel, goFlags(flags), perm&^f.umask)
	if errors.Is(err, syscall.EIO) && f.log != nil {
		f.log("LOG:  " + err.Error()) // PostgreSQL gets only a number
	}
	if err != nil {
		return 0, toErrno(err)
	}
	return f.add(&openFile{
		fs: fs, file: file, flags: flags, log: strings.HasPrefix(strings.TrimPrefix(rel, "/"), "pg_wal/"),
		system: fs == f.data && isSystemFile(rel), shm: fs == f.system && isSharedMemory(rel),
		relation: fs == f.data && isRelation(rel),
	})
}

// full reports whether a data file must not grow to size. The log may: if it cannot be written, PostgreSQL gives up altogether, so a
// statement must fail for lack of space before it is logged.
func (f *files) full(o *openFile, size int64) bool {
	if f.dataLimit == 0 || o.fs != f.data || o.log {
		return false
	}
	limit := f.dataLimit
	if o.system {
		limit += systemRoom
	}
	grow := size - o.file.Stat().Size
	return grow > 0 && f.data.UsedBytes()+grow > limit
}

// systemRoom is what PostgreSQL's own files may take beyond the limit: DROP, TRUNCATE, DELETE and VACUUM, which free space, change
// catalogs, the status of transactions and free space maps.
const systemRoom = 16 << 20

// isSystemFile reports whether a file of the data directory is one of PostgreSQL's own: neither of a user's table (those have numbers from
// 16384 on) nor temporary.
func isSystemFile(rel string) bool {
	rel = strings.TrimPrefix(rel, "/")
	if strings.Contains(rel, "pgsql_tmp") || strings.HasPrefix(rel, "pg_tblspc/") {
		return false
	}
	rest, ok := strings.CutPrefix(rel, "base/")
	if !ok {
		return true
	}
	_, name, _ := strings.Cut(rest, "/")
	number, fork, _ := strings.Cut(name, "_")
	number, _, _ = strings.Cut(number, ".")
	n, err := strconv.Atoi(number)
	if err != nil {
		return !strings.HasPrefix(name, "t") // temporary tables are t<backend>_<number>
	}
	return fork != "" || n < firstNormalObject
}

// firstNormalObject is FirstNormalObjectId.
const firstNormalObject = 16384

// KeepResident reports whether a file of a data directory, by its path in the tree, should be neither evicted nor away when PostgreSQL is
// started: true for all but the tables and indexes of databases. These files are small. PostgreSQL reads some of them (the status of
// transactions) in critical sections, where an error of the source would end all its processes, and the host itself reads some.
func KeepResident(path string) bool {
	return !isRelation(path) || strings.HasPrefix(strings.TrimPrefix(path, "/"), "global/")
}

// IsCatalog reports whether a file of a data directory, by its path in the tree, is a table or an index of PostgreSQL's own in a database
// to which clients connect. A process reads a dozen of them before its first row, page by page.
func IsCatalog(path string) bool {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(path, "/"), "base/")
	database, name, _ := strings.Cut(rest, "/")
	n, err := strconv.Atoi(name)
	return ok && err == nil && n < firstNormalObject && database != template1 && database != template0
}

// The template databases.
const template1, template0 = "1", "4"

// isRelation reports whether PostgreSQL reads a file of the data directory through its buffers: a table, an index, or a map of one.
func isRelation(rel string) bool {
	rel = strings.TrimPrefix(rel, "/")
	dir, name, _ := strings.Cut(rel, "/")
	if dir != "base" && dir != "global" && dir != "pg_tblspc" || strings.Contains(rel, "pgsql_tmp") {
		return false
	}
	name = strings.TrimPrefix(name[strings.LastIndexByte(name, '/')+1:], "t")
	return name != "" && name[0] >= '0' && name[0] <= '9'
}

// goFlags translates the guest's open flags to package os's.
func goFlags(flags int) int {
	out := os.O_RDONLY
	switch flags & oAccMode {
	case 1:
		out = os.O_WRONLY
	case 2:
		out = os.O_RDWR
	}
	for _, p := range [...]struct{ guest, host int }{
		{oCreat, os.O_CREATE}, {oExcl, os.O_EXCL}, {oTrunc, os.O_TRUNC}, {oAppend, os.O_APPEND},
	} {
		if flags&p.guest != 0 {
			out |= p.host
		}
	}
	return out
}

// add gives o the lowest free descriptor.
func (f *files) add(o *openFile) (int, errno) { return f.addFrom(o, f.lowest) }

func (f *files) addFrom(o *openFile, from int) (int, errno) {
	for fd := from; ; fd++ {
		if fd >= maxDescriptors {
			if o.refs == 0 {
				o.drop()
			}
			return 0, eMFILE
		}
		for fd >= len(f.fds) {
			f.fds = append(f.fds, nil)
		}
		if f.fds[fd] == nil {
			f.fds[fd] = o
			o.refs++
			if from == f.lowest {
				f.lowest = fd + 1
			}
			return fd, eOK
		}
	}
}

func (f *files) get(fd uint32) (*openFile, errno) {
	if uint64(fd) >= uint64(len(f.fds)) || f.fds[fd] == nil {
		return nil, eBADF
	}
	return f.fds[fd], eOK
}

func (f *files) close(fd uint32) errno {
	o, e := f.get(fd)
	if e != eOK {
		return e
	}
	f.fds[fd] = nil
	f.lowest = min(f.lowest, int(fd))
	o.refs--
	if o.refs == 0 {
		o.drop()
	}
	return eOK
}

// set makes fd refer to o, and closes what it referred to.
func (f *files) set(fd int, o *openFile) errno {
	if fd >= maxDescriptors {
		return eBADF
	}
	o.refs++
	if fd < len(f.fds) && f.fds[fd] != nil {
		f.close(uint32(fd))
	}
	for fd >= len(f.fds) {
		f.fds = append(f.fds, nil)
	}
	f.fds[fd] = o
	return eOK
}

func (o *openFile) drop() {
	if o.file != nil {
		_ = o.file.Close()
	}
	if o.dev != nil {
		o.dev.close()
	}
}

// partial reports whether some of its bytes are away.
func (o *openFile) partial() bool { return o.file != nil && o.file.Partial() }

// writesAt returns where a write at the position goes.
func (o *openFile) writesAt() int64 {
	if o.flags&oAppend != 0 && o.file != nil {
		o.pos = o.file.Stat().Size
	}
	return o.pos
}

// read reads at the position (off < 0) or at off.
func (o *openFile) read(p []byte, off int64) (int, errno) {
	if o.isDir {
		return 0, eISDIR
	}
	if o.dev != nil {
		return o.dev.read(p)
	}
	at := off
	if off < 0 {
		at = o.pos
	}
	n, err := o.file.ReadAt(p, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, toErrno(err)
	}
	if off < 0 {
		o.pos += int64(n)
	}
	return n, eOK
}

// write writes at the position (off < 0) or at off.
func (o *openFile) write(p []byte, off int64) (int, errno) {
	if o.isDir {
		return 0, eISDIR
	}
	if o.dev != nil {
		return o.dev.write(p)
	}
	at := off
	if off < 0 {
		at = o.writesAt()
	}
	n, err := o.file.WriteAt(p, at)
	if err != nil {
		return 0, toErrno(err)
	}
	if off < 0 {
		o.pos += int64(n)
	}
	return n, eOK
}

func (o *openFile) seek(off int64, whence uint32) (int64, errno) {
	if o.dev != nil {
		return 0, eSPIPE
	}
	base := int64(0)
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		base = o.pos
	case io.SeekEnd:
		if o.file != nil {
			base = o.file.Stat().Size
		}
	default:
		return 0, eINVAL
	}
	if base+off < 0 {
		return 0, eINVAL
	}
	o.pos = base + off
	if o.isDir && o.pos == 0 {
		o.entries = nil
	}
	return o.pos, eOK
}
