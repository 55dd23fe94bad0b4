package pglite

import (
	"errors"
	"syscall"
)

// errno is an error number in the guest C library's numbering, which is WASI's.
type errno uint32

const (
	eOK          errno = 0
	eACCES       errno = 2
	eAGAIN       errno = 6
	eBADF        errno = 8
	eEXIST       errno = 20
	eFAULT       errno = 21
	eFBIG        errno = 22
	eINVAL       errno = 28
	eIO          errno = 29
	eISDIR       errno = 31
	eLOOP        errno = 32
	eMFILE       errno = 33
	eMLINK       errno = 34
	eNAMETOOLONG errno = 37
	eNODEV       errno = 43
	eNOENT       errno = 44
	eNOMEM       errno = 48
	eNOSPC       errno = 51
	eNOSYS       errno = 52
	eNOTDIR      errno = 54
	eNOTEMPTY    errno = 55
	eNOTSUP      errno = 58
	eNOTTY       errno = 59
	ePERM        errno = 63
	ePIPE        errno = 64
	eRANGE       errno = 68
	eROFS        errno = 69
	eSPIPE       errno = 70
	eXDEV        errno = 75
)

// neg returns the errno in the form a system call returns it.
func (e errno) neg() uint64 { return uint64(uint32(-int32(e))) }

// toErrno translates an error of the file tree. Unknown errors become I/O errors.
func toErrno(err error) errno {
	if err == nil {
		return eOK
	}
	var n syscall.Errno
	if !errors.As(err, &n) {
		return eIO
	}
	switch n {
	case syscall.ENOENT:
		return eNOENT
	case syscall.EEXIST:
		return eEXIST
	case syscall.ENOTDIR:
		return eNOTDIR
	case syscall.EISDIR:
		return eISDIR
	case syscall.ENOTEMPTY:
		return eNOTEMPTY
	case syscall.ENOSPC:
		return eNOSPC
	case syscall.ELOOP:
		return eLOOP
	case syscall.EBADF:
		return eBADF
	case syscall.EINVAL:
		return eINVAL
	case syscall.EXDEV:
		return eXDEV
	case syscall.EACCES:
		return eACCES
	case syscall.EPERM:
		return ePERM
	case syscall.EROFS:
		return eROFS
	case syscall.EFBIG:
		return eFBIG
	case syscall.EMLINK:
		return eMLINK
	case syscall.ENAMETOOLONG:
		return eNAMETOOLONG
	default:
		return eIO
	}
}
