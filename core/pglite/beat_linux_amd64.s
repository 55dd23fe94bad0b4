#include "textflag.h"

// Offsets of struct beatControl.
#define beatActive 0
#define beatBusy 4
#define beatTarget 8
#define beatTime 16
#define beatThread 32

// What beatActive says.
#define beatSleeps 0
#define beatRuns 1
#define beatEnds 2

#define SYS_rt_sigprocmask 14
#define SYS_clone 56
#define SYS_exit 60
#define SYS_futex 202

#define FUTEX_WAIT_PRIVATE 128
#define idleBeats 16

// CLONE_VM, _FS, _FILES, _SIGHAND, _THREAD, _SYSVSEM, _PARENT_SETTID, _CHILD_CLEARTID
#define threadFlags 0x350f00

// func startBeat(control *beatControl, stack uintptr) (errno uintptr)
//
// The thread inherits a mask that blocks every signal, so that Go's handlers never run in it: it is none of Go's threads.
TEXT ·startBeat(SB), NOSPLIT, $24-24
	MOVQ	$-1, all-8(SP)
	MOVQ	$2, DI // SIG_SETMASK
	LEAQ	all-8(SP), SI
	LEAQ	old-16(SP), DX
	MOVQ	$8, R10
	MOVQ	$SYS_rt_sigprocmask, AX
	SYSCALL

	MOVQ	control+0(FP), R12
	MOVQ	$threadFlags, DI
	MOVQ	stack+8(FP), SI
	LEAQ	beatThread(R12), DX
	LEAQ	beatThread(R12), R10
	XORQ	R8, R8
	MOVQ	$SYS_clone, AX
	SYSCALL
	TESTQ	AX, AX
	JZ	thread

	MOVQ	AX, R13
	MOVQ	$2, DI
	LEAQ	old-16(SP), SI
	XORQ	DX, DX
	MOVQ	$8, R10
	MOVQ	$SYS_rt_sigprocmask, AX
	SYSCALL
	XORQ	AX, AX
	TESTQ	R13, R13
	JGE	started
	NEGQ	R13
	MOVQ	R13, AX
started:
	MOVQ	AX, errno+16(FP)
	RET

thread:
	XORQ	R14, R14 // beats in a row that found nobody
loop:
	MOVL	beatActive(R12), AX
	CMPL	AX, $beatEnds
	JEQ	exit
	LEAQ	beatTime(R12), R10 // how long it waits
	CMPL	AX, $beatRuns
	JEQ	wait
	XORQ	R10, R10 // until it is woken
	XORQ	R14, R14
wait:
	MOVL	AX, DX
	MOVQ	R12, DI
	MOVQ	$FUTEX_WAIT_PRIVATE, SI
	XORQ	R8, R8
	XORQ	R9, R9
	MOVQ	R10, R15
	MOVQ	$SYS_futex, AX
	SYSCALL
	TESTQ	R15, R15
	JZ	loop

	MOVL	$1, AX
	XCHGL	AX, beatBusy(R12) // before the target is read: see settle
	MOVQ	beatTarget(R12), BX
	TESTQ	BX, BX
	JZ	nobody
	MOVL	$1, (BX)
	MOVL	$0, beatBusy(R12)
	XORQ	R14, R14
	JMP	loop
nobody:
	MOVL	$0, beatBusy(R12)
	INCQ	R14
	CMPQ	R14, $idleBeats
	JLT	loop
	MOVL	$beatRuns, AX
	MOVL	$beatSleeps, CX
	LOCK
	CMPXCHGL	CX, beatActive(R12)
	MOVQ	beatTarget(R12), BX
	TESTQ	BX, BX // somebody came in between, and may have seen that it runs
	JZ	loop
	MOVL	$beatSleeps, AX
	MOVL	$beatRuns, CX
	LOCK
	CMPXCHGL	CX, beatActive(R12)
	JMP	loop

exit:
	XORQ	DI, DI
	MOVQ	$SYS_exit, AX
	SYSCALL
	INT	$3
