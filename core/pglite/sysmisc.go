package pglite

import (
	"fmt"
	"io"
	"math"
	"net/netip"
	"strconv"
	"time"

	"github.com/tetratelabs/wazero/api"

	"blobpglite/core/pglite/internal/wasmbin"
)

// environment returns the guest's environ: fixed, so that PostgreSQL starts alike on any machine.
func environment() []string {
	return []string{
		"HOME=/home/postgres", "USER=postgres", "LOGNAME=postgres", "PATH=/", "PWD=/",
		"PGDATA=" + dataRoot, "PGUSER=postgres", "PGDATABASE=postgres", "PGCLIENTENCODING=UTF8",
		"LANG=en_US.UTF-8", "LC_COLLATE=en_US.UTF-8", "LC_CTYPE=en_US.UTF-8",
		"TZ=UTC", "PGTZ=UTC", "ICU_DATA=" + pgRoot + "/icu", "_=" + pgRoot + "/bin/postgres",
	}
}

// processCalls returns the imports that deal with the process itself, time, randomness, names and sockets.
func processCalls() map[string]hostFunc {
	zero := func(_ *Instance, s []uint64) { s[0] = 0 }
	noSocket := func(_ *Instance, s []uint64) { s[0] = eNOSYS.neg() }
	return map[string]hostFunc{
		"exit":      func(in *Instance, s []uint64) { in.exit(uint32(s[0])) },
		"proc_exit": func(in *Instance, s []uint64) { in.exit(uint32(s[0])) },
		"_abort_js": func(in *Instance, _ []uint64) { in.trapf("the guest called abort()") },
		"__assert_fail": func(in *Instance, s []uint64) {
			in.trapf("assertion %q failed at %s:%d", in.mem.cstr(uint32(s[0])), in.mem.cstr(uint32(s[1])), uint32(s[2]))
		},
		"__call_sighandler":                   func(in *Instance, s []uint64) { in.callTable(uint32(s[0]), sigOf("vi"), s[1]) },
		"_emscripten_runtime_keepalive_clear": func(*Instance, []uint64) {},
		"_setitimer_js":                       setTimer,
		"emscripten_resize_heap":              resizeHeap,
		"emscripten_get_heap_max":             func(in *Instance, s []uint64) { s[0] = in.linear.limit - wasmbin.GuardBytes },
		"environ_sizes_get":                   environSizes,
		"environ_get":                         environGet,
		"clock_time_get":                      clockTimeGet,
		"random_get":                          randomGet,
		"emscripten_date_now":                 dateNow,
		"emscripten_get_now":                  emscriptenNow,
		"_tzset_js":                           tzset,
		"_localtime_js":                       breakDownTime,
		"_gmtime_js":                          breakDownTime,
		"_mktime_js":                          makeTime,
		"__syscall_getuid32":                  zero,
		"__syscall_geteuid32":                 zero,
		"__syscall_getgid32":                  zero,
		"__syscall_getegid32":                 zero,
		"__syscall_socket":                    noSocket,
		"__syscall_bind":                      noSocket,
		"__syscall_connect":                   noSocket,
		"__syscall_listen":                    noSocket,
		"__syscall_accept4":                   noSocket,
		"__syscall_sendto":                    noSocket,
		"__syscall_recvfrom":                  noSocket,
		"getnameinfo":                         getnameinfo,
		"getaddrinfo":                         getaddrinfo,
		"__syscall_poll":                      sysPoll,
		"_dlopen_js":                          dlopen,
		"_dlsym_js":                           dlsym,
	}
}

// resizeHeap grows the memory to at least the requested size, and by a fifth where the limit allows: in the reservation, unused memory is
// free. The guest does not know of the guard page after the size it requests.
func resizeHeap(in *Instance, s []uint64) {
	want, have := uint64(uint32(s[0]))+wasmbin.GuardBytes, uint64(len(in.mem.b))
	s[0] = 0
	for _, size := range []uint64{max(want, have+have/5), want} {
		size = min(size, in.linear.limit)
		if size < want {
			return
		}
		pages := (size - have + wasmPage - 1) / wasmPage
		if _, ok := in.module.Memory().Grow(uint32(pages)); ok {
			s[0] = 1
			return
		}
	}
}

func environSizes(in *Instance, s []uint64) {
	size := 0
	for _, e := range environment() {
		size += len(e) + 1
	}
	in.mem.putU32(uint32(s[0]), uint32(len(environment())))
	in.mem.putU32(uint32(s[1]), uint32(size))
	s[0] = 0
}

func environGet(in *Instance, s []uint64) {
	list, buf := uint32(s[0]), uint32(s[1])
	for _, e := range environment() {
		in.mem.putU32(list, buf)
		in.mem.putCstr(buf, e)
		list += 4
		buf += uint32(len(e) + 1)
	}
	s[0] = 0
}

func clockTimeGet(in *Instance, s []uint64) {
	switch id, at := uint32(s[0]), uint32(s[2]); {
	case id == 0:
		if in.proc != nil {
			in.proc.deliver() // a loop that only looks at the clock must get its alarm
		}
		in.mem.putU64(at, uint64(in.clock.Now().UnixNano()))
		s[0] = 0
	case id <= 3:
		in.mem.putU64(at, uint64(in.clock.Monotonic()))
		s[0] = 0
	default:
		s[0] = uint64(eINVAL)
	}
}

func dateNow(in *Instance, s []uint64) {
	s[0] = math.Float64bits(float64(in.clock.Now().UnixMicro()) / 1000)
}

func emscriptenNow(in *Instance, s []uint64) {
	s[0] = math.Float64bits(float64(in.clock.Monotonic()) / float64(time.Millisecond))
}

func randomGet(in *Instance, s []uint64) {
	_, err := io.ReadFull(in.random, in.mem.bytes(uint32(s[0]), uint32(s[1])))
	s[0] = uint64(toErrno(err))
}

// The guest's clock is UTC; PostgreSQL has its own time zones.

func tzset(in *Instance, s []uint64) {
	in.mem.putU32(uint32(s[0]), 0)
	in.mem.putU32(uint32(s[1]), 0)
	in.mem.putCstr(uint32(s[2]), "UTC")
	in.mem.putCstr(uint32(s[3]), "UTC")
}

func breakDownTime(in *Instance, s []uint64) {
	in.putTm(uint32(s[1]), time.Unix(int64(s[0]), 0).UTC())
	s[0] = 0
}

func (in *Instance) putTm(p uint32, t time.Time) {
	for i, v := range []int{t.Second(), t.Minute(), t.Hour(), t.Day(), int(t.Month()) - 1, t.Year() - 1900,
		int(t.Weekday()), t.YearDay() - 1, 0, 0} {
		in.mem.putU32(p+uint32(i)*4, uint32(int32(v)))
	}
}

func makeTime(in *Instance, s []uint64) {
	p := uint32(s[0])
	var f [6]int
	for i := range f {
		f[i] = int(int32(in.mem.u32(p + uint32(i)*4)))
	}
	t := time.Date(f[5]+1900, time.Month(f[4]+1), f[3], f[2], f[1], f[0], 0, time.UTC)
	in.putTm(p, t)
	s[0] = uint64(t.Unix())
}

// Address families and sizes of the guest's socket addresses.
const (
	afInet, afInet6           = 2, 10
	sockaddrSize, sockaddr6Sz = 16, 28
	addrinfoSize              = 32
)

// eai is an error of getaddrinfo.
func eai(code int32) uint64 { return uint64(uint32(code)) }

// getaddrinfo parses numeric addresses, which loading pg_hba.conf needs. There is no name service.
func getaddrinfo(in *Instance, s []uint64) {
	const noName, badFamily, badService = -2, -6, -8
	node, service, hint, out := uint32(s[0]), uint32(s[1]), uint32(s[2]), uint32(s[3])
	var family, socktype, proto uint32
	if hint != 0 {
		family, socktype, proto = in.mem.u32(hint+4), in.mem.u32(hint+8), in.mem.u32(hint+12)
	}
	port := uint64(0)
	if service != 0 {
		var err error
		if port, err = strconv.ParseUint(in.mem.cstr(service), 10, 16); err != nil {
			s[0] = eai(badService)
			return
		}
	}
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if node != 0 {
		var err error
		if addr, err = netip.ParseAddr(in.mem.cstr(node)); err != nil {
			s[0] = eai(noName)
			return
		}
	}
	kind, size := uint32(afInet), uint32(sockaddrSize)
	if addr.Is6() {
		kind, size = afInet6, sockaddr6Sz
	}
	if family != 0 && family != kind {
		s[0] = eai(badFamily)
		return
	}
	sa, ai := uint32(in.call(in.fn.malloc, uint64(size))), uint32(in.call(in.fn.malloc, addrinfoSize))
	clear(in.mem.bytes(sa, size))
	clear(in.mem.bytes(ai, addrinfoSize))
	in.mem.putU16(sa, uint16(kind))
	in.mem.putU8(sa+2, byte(port>>8))
	in.mem.putU8(sa+3, byte(port))
	if addr.Is6() {
		b := addr.As16()
		in.mem.putBytes(sa+8, b[:])
	} else {
		b := addr.As4()
		in.mem.putBytes(sa+4, b[:])
	}
	for i, v := range []uint32{0, kind, max(socktype, 1), proto, size, sa, 0, 0} {
		in.mem.putU32(ai+uint32(i)*4, v)
	}
	in.mem.putU32(out, ai)
	s[0] = 0
}

// getnameinfo writes an address as numbers: there is no name service.
func getnameinfo(in *Instance, s []uint64) {
	const noName, badFamily, tooLong = -2, -6, -12
	sa, node, nodeSize, service, serviceSize := uint32(s[0]), uint32(s[2]), uint32(s[3]), uint32(s[4]), uint32(s[5])
	const numericHost, nameRequired = 1, 8
	flags := uint32(s[6])
	var addr netip.Addr
	switch in.mem.u16(sa) {
	case afInet:
		addr, _ = netip.AddrFromSlice(in.mem.bytes(sa+4, 4))
	case afInet6:
		addr, _ = netip.AddrFromSlice(in.mem.bytes(sa+8, 16))
	default:
		s[0] = eai(badFamily)
		return
	}
	port := uint64(in.mem.bytes(sa+2, 1)[0])<<8 | uint64(in.mem.bytes(sa+3, 1)[0])
	if flags&(nameRequired|numericHost) == nameRequired {
		s[0] = eai(noName)
		return
	}
	for _, out := range []struct {
		text     string
		at, size uint32
	}{{addr.String(), node, nodeSize}, {strconv.FormatUint(port, 10), service, serviceSize}} {
		if out.at == 0 || out.size == 0 {
			continue
		}
		if uint64(len(out.text)) >= uint64(out.size) {
			s[0] = eai(tooLong)
			return
		}
		in.mem.putCstr(out.at, out.text)
	}
	s[0] = 0
}

// Bits of struct pollfd.
const (
	pollIn, pollOut, pollNval = 1, 4, 32
)

// sysPoll waits until a descriptor is ready, the time is over, or the instance is canceled or killed.
func sysPoll(in *Instance, s []uint64) {
	fds, n, timeout := uint32(s[0]), uint32(s[1]), int32(s[2])
	if in.proc != nil {
		s[0] = uint64(uint32(in.proc.poll(fds, n, timeout)))
		return
	}
	count := in.pollOnce(fds, n)
	if count == 0 && timeout != 0 {
		in.sleep(time.Duration(timeout) * time.Millisecond)
		count = in.pollOnce(fds, n)
	}
	s[0] = uint64(count)
}

func (in *Instance) pollOnce(fds, n uint32) uint32 {
	count := uint32(0)
	for i := range n {
		p := fds + i*8
		events, got := in.mem.u16(p+4), uint16(0)
		o, e := in.files.get(in.mem.u32(p))
		switch {
		case e != eOK:
			got = pollNval
		case o.dev == nil:
			got = pollIn | pollOut
		default:
			if r, w := o.dev.ready(); true {
				if r {
					got |= pollIn
				}
				if w {
					got |= pollOut
				}
			}
		}
		got &= events | pollNval
		in.mem.putU16(p+6, got)
		if got != 0 {
			count++
		}
	}
	return count
}

// sleep waits for d (below zero: without end), until a cancel or the end of the instance.
func (in *Instance) sleep(d time.Duration) {
	var end <-chan time.Time
	if d >= 0 {
		t := in.clock.NewTimer(d)
		defer t.Stop()
		end = t.C()
	}
	select {
	case <-end:
	case <-in.killed:
		in.trapf("%w", errKilled)
	}
}

// exit leaves the guest's call stack, like exit(3).
func (in *Instance) exit(code uint32) {
	in.unwinding, in.exitCode = unwindExit, code
	panic(errUnwind)
}

// trapf leaves the guest's call stack for good: the instance must not be used again.
func (in *Instance) trapf(format string, args ...any) {
	in.unwinding, in.trap = unwindTrap, fmt.Errorf(format, args...)
	panic(errUnwind)
}

var _ api.GoFunction = api.GoFunc(nil)
